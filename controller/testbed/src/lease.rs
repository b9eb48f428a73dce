//! The lock of the testbed: a folder on every machine, created atomically, with the holder, its
//! purpose and its time.
//!
//! Experiments and deployments take it on all machines in the inventory's order; if one of them is
//! held, those already taken are released. A lock is never broken automatically: a holder that has
//! died is reported as such ([`Holder::alive`]), and [`break_open`] is for an operator who has read
//! that. A holder is identified by its *keeper*, a process on the machine that lives as long as the
//! holder's ssh connection; a lock that an operator takes by hand has none and lasts until it is
//! released. A machine that reboots is free (`/run` is empty then).

use crate::ssh::{Ssh, SshError, quote, quote_path};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Path of the lock, below a machine's root.
pub const PLACE: &str = "/run/tandem-testbed.lock";
/// Exit status "held" of the script that takes the lock.
const HELD: i32 = 75;

/// The holder of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// User and machine.
    pub who: String,
    /// The purpose.
    pub purpose: String,
    /// Start of the holding, in seconds since the epoch, by the holder's clock.
    pub since: u64,
    /// Unique id of the holding.
    pub id: String,
    /// The keeper's process id on the machine and its start time, in the kernel's ticks; absent for
    /// a lock by hand.
    #[serde(default)]
    pub keeper: Option<(u32, u64)>,
    /// False when the holder's connection is gone: it has died, and the lock may be broken.
    #[serde(skip)]
    pub alive: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = now().saturating_sub(self.since);
        let age = match seconds {
            0..120 => format!("{seconds} s"),
            120..7200 => format!("{} min", seconds / 60),
            _ => format!("{} h", seconds / 3600),
        };
        write!(f, "{} for {age}: {}", self.who, self.purpose)?;
        match (self.keeper, self.alive) {
            (None, _) => write!(f, " (by hand, id {})", self.id),
            (_, true) => Ok(()),
            (_, false) => f.write_str(" (has died)"),
        }
    }
}

/// Why the lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody holds it.
    #[error("{machine} is held by {holder}; {}", advice(holder))]
    Held {
        /// The machine's name.
        machine: String,
        /// The holder.
        holder: Box<Holder>,
    },
    /// The lock's folder is not readable as one.
    #[error("{machine}: {} is there, but does not say who holds it ({why}); look at it, then `tandem testbed unlock --break`", path.display())]
    Unreadable {
        /// The machine's name.
        machine: String,
        /// The lock's folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A machine did not answer.
    #[error(transparent)]
    Ssh(#[from] SshError),
}

fn advice(holder: &Holder) -> &'static str {
    match (holder.keeper, holder.alive) {
        (None, _) => "ask them, or go on under that lock with --lock ID, or `tandem testbed unlock --break`",
        (_, true) => "wait until it is done, or ask them",
        (_, false) => "it will not come back: `tandem testbed unlock --break`",
    }
}

/// The lifetime of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As long as this process and its connections.
    Process,
    /// Until `tandem testbed unlock` releases it.
    ByHand,
}

/// A lock of the testbed: released when dropped, unless it was taken by hand.
#[derive(Debug)]
pub struct Lease {
    machines: Vec<Arc<Ssh>>,
    id: String,
    kind: Kind,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// User and machine of this process, for people.
fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{} (process {})", host.trim(), std::process::id())
}

fn place(ssh: &Ssh) -> PathBuf {
    ssh.machine().path(PLACE)
}

/// The 22nd field of /proc/PID/stat: the start time of a process, which distinguishes it from a
/// later one with its number (proc(5)). The name before it may contain blanks and brackets.
const STARTED: &str = "started() { sed 's/.*) //' \"/proc/$1/stat\" 2>/dev/null | cut -d' ' -f20; }";

impl Lease {
    /// Takes the lock on all machines, in their order.
    ///
    /// With the holder of the first machine that is not free; nothing is held then.
    pub fn take(machines: &[Arc<Ssh>], purpose: &str, kind: Kind) -> Result<Lease, LeaseError> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let id = format!("{:x}-{:x}", nanos & 0xffff_ffff_ffff, std::process::id());
        let mut lock = Lease { machines: Vec::new(), id, kind };
        for ssh in machines {
            if let Err(error) = lock.take_one(ssh, purpose) {
                lock.restore();
                return Err(error);
            }
            lock.machines.push(ssh.clone());
        }
        Ok(lock)
    }

    fn take_one(&self, ssh: &Arc<Ssh>, purpose: &str) -> Result<(), LeaseError> {
        let keeper = match self.kind {
            Kind::ByHand => None,
            Kind::Process => ssh.keeper().map(|pid| (pid, 0)),
        };
        let holder = Holder {
            who: who(),
            purpose: purpose.to_owned(),
            since: now(),
            id: self.id.clone(),
            keeper,
            alive: true,
        };
        let text = serde_json::to_string(&holder).unwrap_or_default();
        let (lock, keeper) = (place(ssh), keeper.map_or(0, |(pid, _)| pid));
        // The folder is created with the holder in it and moved to its place: rename(2) does not
        // replace a folder that is not empty.
        let script = format!(
            "{STARTED}; set -e; lock={lock}; new=\"$lock.$$\"; mkdir -p \"$(dirname \"$lock\")\"; \
             rm -rf \"$new\"; mkdir \"$new\"; s=$(started {keeper}); sed \"s/\\\"keeper\\\":\\[{keeper},0\\]/\\\"keeper\\\":[{keeper},${{s:-0}}]/\" > \"$new/holder\"; \
             if mv -T \"$new\" \"$lock\" 2>/dev/null; then exit 0; fi; rm -rf \"$new\"; [ -e \"$lock\" ] && exit {HELD}; echo \"$lock cannot be made\" >&2; exit 1",
            lock = quote_path(&lock),
        );
        let output = ssh.try_run("taking the lock", &script, text.as_bytes(), crate::ssh::COMMAND)?;
        let machine = || ssh.machine().name.clone();
        match output.status {
            0 => Ok(()),
            HELD => match look(ssh)? {
                Some(holder) => Err(LeaseError::Held { machine: machine(), holder: Box::new(holder) }),
                // Released in between: the first to try again gets it.
                None => self.take_one(ssh, purpose),
            },
            status => {
                let (what, why) = ("taking the lock".to_owned(), output.stderr);
                Err(SshError::Failed { machine: machine(), what, status, why }.into())
            }
        }
    }

    /// Uses a lock that was taken by hand; it stays when this is dropped.
    ///
    /// When a machine is not held under that id.
    pub fn under(machines: &[Arc<Ssh>], id: &str) -> Result<Lease, LeaseError> {
        for ssh in machines {
            match look(ssh)? {
                Some(holder) if holder.id == id => {}
                Some(holder) => {
                    return Err(LeaseError::Held {
                        machine: ssh.machine().name.clone(),
                        holder: Box::new(holder),
                    });
                }
                None => {
                    let (path, why) = (place(ssh), format!("it is not held under {id}"));
                    return Err(LeaseError::Unreadable { machine: ssh.machine().name.clone(), path, why });
                }
            }
        }
        Ok(Lease { machines: Vec::new(), id: id.to_owned(), kind: Kind::ByHand })
    }

    /// The id of the holding, for `--lock`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Releases all machines; returns the failures.
    pub fn restore(&mut self) -> Vec<LeaseError> {
        self.machines.drain(..).filter_map(|ssh| restore(&ssh, &self.id).err()).collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.kind == Kind::ByHand {
            return;
        }
        for error in self.restore() {
            tracing::warn!("the testbed's lock was not given back: {error}");
        }
    }
}

/// The holder of a machine; `None` when it is free.
///
/// When it does not answer, or the lock's folder is not readable as one.
pub fn look(ssh: &Ssh) -> Result<Option<Holder>, LeaseError> {
    let path = place(ssh);
    // The keeper lives if the process with its number has its start time.
    let script = format!(
        "{STARTED}; f={lock}/holder; [ -e {lock} ] || exit 0; cat \"$f\" || exit 1; echo; \
         pid=$(sed -n 's/.*\"keeper\":\\[\\([0-9]*\\),\\([0-9]*\\)\\].*/\\1/p' \"$f\"); [ -n \"$pid\" ] && started \"$pid\"; exit 0",
        lock = quote_path(&path)
    );
    let text = ssh.run("looking who holds the testbed", &script)?;
    let mut lines = text.lines();
    let Some(first) = lines.next() else { return Ok(None) };
    let mut holder: Holder = serde_json::from_str(first).map_err(|e| LeaseError::Unreadable {
        machine: ssh.machine().name.clone(),
        path,
        why: e.to_string(),
    })?;
    let started: Option<u64> = lines.find_map(|l| l.trim().parse().ok());
    holder.alive = holder.keeper.is_none_or(|(_, then)| started == Some(then));
    Ok(Some(holder))
}

/// Releases a machine that is held under `id`; another lock is left alone.
///
/// When it does not answer.
pub fn restore(ssh: &Ssh, id: &str) -> Result<(), LeaseError> {
    // Moved away first, so that the lock is always complete or absent.
    let script = format!(
        "lock={lock}; grep -qF {id} \"$lock/holder\" 2>/dev/null || exit 0; mv -T \"$lock\" \"$lock.gone.$$\" && rm -rf \"$lock.gone.$$\"",
        lock = quote_path(&place(ssh)),
        id = quote(&format!("\"id\":\"{id}\"")),
    );
    Ok(ssh.run("giving back the lock", &script).map(drop)?)
}

/// Breaks a lock of any holder.
///
/// When the machine does not answer.
pub fn break_open(ssh: &Ssh) -> Result<(), LeaseError> {
    let script = format!("rm -rf {}", quote_path(&place(ssh)));
    Ok(ssh.run("breaking the lock", &script).map(drop)?)
}
