//! A live move: `xl migrate`, with its stream over ssh or over a TCP connection of our relay.
//!
//! ```text
//!  source: xl migrate -s '' DOMAIN 'tandem-relay send ...' ==TCP==> target: tandem-relay listen ... xl migrate-receive
//!                                  'tandem-relay pipe ... ssh ...' ==ssh==> xl migrate-receive
//! The relay limits the rate and counts bytes; the suspension is read from xl's log. Both processes
//! outlive the connection and a killed controller ([`super::job`]). To cancel, the relay is ended:
//! then `xl` fails as when a cable is pulled, resumes the guest on the source and destroys the
//! incoming one; [`super::resolve`] finds what it does not clean up.

use super::host::HostState;
use super::job::{self, Look};
use super::load::bytes_of;
use super::parse::Log;
use super::section::Transport;
use super::{Xl, guest};
use crate::{
    MigrateError, MigrateOrder, MigrationControl, MigrationKey, MigrationReport, Moved, ResolveOutcome,
    VmLocation, VmmError,
};
use std::time::Duration;
use tandem_model::{BitRate, Bytes, MigrationId, Progress};
use tandem_testbed::ssh::quote;
use tokio::time::{Instant, sleep};

/// Interval of the checks of a transfer: each costs a dom0 a few milliseconds.
const LOOK: Duration = Duration::from_millis(500);
/// A source that does not answer for this long is left to `resolve`.
const SILENT: Duration = Duration::from_secs(60);

/// The receiving command at the other end of an ssh connection, whatever its PATH.
const RECEIVE: &str = "PATH=$PATH:/usr/sbin:/sbin; for d in /usr/lib/xen-*/bin; do [ -x \"$d/xl\" ] && PATH=$d:$PATH; done; exec xl migrate-receive";

/// A transfer's progress, from the number of bytes sent. The first round is over when they are as
/// many as the VM has memory; `xl` does not report number and size of the later rounds.
pub(crate) struct Watch {
    pub(crate) log: Log,
    memory: Bytes,
    started: Instant,
    last: (Instant, u64),
    progress: Progress,
}

impl Watch {
    pub(crate) fn new(now: Instant, memory: Bytes) -> Watch {
        Watch { log: Log::default(), memory, started: now, last: (now, 0), progress: Progress::default() }
    }

    /// Reads the new part; returns the present progress.
    pub(crate) fn see(&mut self, look: &Look, now: Instant) -> Progress {
        self.log.read(&look.log);
        let sent = look.sent.unwrap_or(0);
        let took = now.duration_since(self.last.0);
        if took >= Duration::from_secs(1) {
            let bits = sent.saturating_sub(self.last.1).saturating_mul(8) as f64;
            self.progress.rate = BitRate((bits / took.as_secs_f64()) as u64);
            self.last = (now, sent);
        }
        self.progress.round = u32::from(sent > 0) + u32::from(sent > self.memory.0);
        self.progress.sent = Bytes(sent);
        self.progress.remaining = Bytes(self.memory.0.saturating_sub(sent));
        self.progress
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.started)
    }
}

/// The ssh command line from one host to another.
pub(crate) fn ssh_words(target: &HostState) -> Vec<String> {
    let mut words = vec!["ssh".to_owned(), "-T".to_owned()];
    let ours = [
        "BatchMode=yes",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "ConnectTimeout=15",
        "LogLevel=ERROR",
    ];
    for option in target.host.migration_options.iter().map(String::as_str).chain(ours) {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    words.extend(["-l".to_owned(), target.host.ssh.user.clone(), "--".to_owned()]);
    words.push(target.host.migration_address.clone());
    words
}

fn text(words: &[String]) -> String {
    words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ")
}

/// A secret shared by the two hosts of a migration only.
fn token() -> String {
    use rand::Rng;
    let mut bytes = [0u8; 24];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Creates a migration's folders, and starts the receiver on the target if it uses a TCP
/// connection. Returns the command line of the source's transport, to be followed by a `copy`'s
/// files. `mode` is the relay's command, `receiver` the target's command.
pub(crate) async fn open(
    source: &HostState,
    target: &HostState,
    migration: MigrationId,
    rate: BitRate,
    receiver: &[&str],
) -> Result<Vec<String>, VmmError> {
    let dir = job::folder(source, migration);
    source.put(&format!("{dir}/rate"), &format!("{}\n", rate.0), "0600").await?;
    if target.host.transport == Transport::Ssh {
        let mut words = ssh_words(target);
        words.push(format!("sh -c {}", quote(receiver.last().copied().unwrap_or(RECEIVE))));
        return Ok(["pipe".to_owned()].into_iter().chain(words).collect());
    }
    let secret = format!("{}\n", token());
    for host in [source, target] {
        host.put(&format!("{}/token", job::folder(host, migration)), &secret, "0600").await?;
    }
    let (dir, relay) = (job::folder(target, migration), target.relay());
    let first = target.host.migration_port.to_string();
    let address = &target.host.migration_address;
    let mut command = vec!["python3", &relay, "listen", &dir, address, &first];
    command.extend(receiver);
    job::start(target, migration, &command).await?;
    let script = r#"n=0; until [ -e "$1/port" ] || [ -e "$1/rc" ] || [ $n -gt 100 ]; do n=$((n + 1)); sleep 0.1; done
[ -e "$1/port" ] || { cat "$1/log" >&2; exit 1; }; cat "$1/port""#;
    let port = target.ask("waiting for its receiver", script, &[&dir]).await?;
    Ok(vec!["send".to_owned(), address.clone(), port.trim().to_owned()])
}

impl Xl {
    /// Moves a running VM. An order whose process exists already is only followed.
    pub(crate) async fn migrate_live(
        &self,
        order: &MigrateOrder,
        control: &mut MigrationControl,
    ) -> Result<Moved, MigrateError> {
        let key = order.key;
        let here = |why| MigrateError { at: VmLocation::At(key.from), why };
        let source = self.host(key.from).map_err(here)?;
        let target = self.host(key.to).map_err(here)?;
        let known = job::look(source, key.migration, 0, None)
            .await
            .map_err(|why| MigrateError { at: VmLocation::Unknown, why })?;
        let rate = *control.rate.borrow_and_update();
        if !known.alive
            && known.rc.is_none()
            && let Err(why) = self.begin_live(source, target, order, rate).await
        {
            return Err(self
                .end(source, target, key, Some(why))
                .await
                .map_or_else(|e| e, |_| here(VmmError::Cancelled)));
        }
        let cancelled = self.follow(source, key, control).await;
        self.end(source, target, key, cancelled).await
    }

    async fn begin_live(
        &self,
        source: &HostState,
        target: &HostState,
        order: &MigrateOrder,
        rate: BitRate,
    ) -> Result<(), VmmError> {
        let key = order.key;
        let domain = source.running(key.vm).await?;
        let image = guest::image(&self.images, &target.host.name, order.spec.image.as_deref())?;
        let config = guest::config(target.tag, &target.host, image, key.vm, &order.spec)?;
        let dir = job::folder(source, key.migration);
        let path = format!("{dir}/config");
        source.put(&path, &config, "0600").await?;
        // The configuration for a later restart, on the host where the VM will be.
        target.put(&super::lifecycle::config_path(target, key.vm), &config, "0600").await?;
        target.keep(key.vm, &order.spec).await?;
        let receiver: &[&str] =
            if target.host.transport == Transport::Ssh { &[RECEIVE] } else { &["xl", "migrate-receive"] };
        let transport = open(source, target, key.migration, rate, receiver).await?;
        let relayed = source.tools().is_some_and(|t| t.relay);
        let carry = if relayed {
            let mut words = vec!["python3".to_owned(), source.relay(), transport[0].clone(), dir.clone()];
            words.extend(transport[1..].iter().cloned());
            text(&words)
        } else {
            format!("echo $$ > {}/relay.pid; exec {}", quote(&dir), text(&transport[1..]))
        };
        let id = domain.id.to_string();
        let command = ["xl", "-vvv", "migrate", "-C", &path, "-s", "", &id, &carry];
        job::start(source, key.migration, &command).await
    }

    /// Follows it until it has ended; returns why it was cancelled, if it was.
    pub(crate) async fn follow(
        &self,
        source: &HostState,
        key: MigrationKey,
        control: &mut MigrationControl,
    ) -> Option<VmmError> {
        let all = source.of(key.vm).await.unwrap_or_default();
        let memory = all.iter().map(|o| o.domain.memory_mib).max().unwrap_or(0);
        let mut watch = Watch::new(Instant::now(), Bytes(bytes_of(memory)));
        let (mut offset, mut heard, mut cut, mut said) = (0, Instant::now(), false, false);
        // The first check sets the rate too: a transfer that is continued has that of the former
        // controller.
        let mut rate = Some(*control.rate.borrow_and_update());
        loop {
            match job::look(source, key.migration, offset, rate).await {
                Ok(look) => {
                    heard = Instant::now();
                    offset = look.offset;
                    let progress = watch.see(&look, heard);
                    if progress.sent.0 > 0 {
                        let _ = control.reports.send(MigrationReport::Progress(progress)).await;
                    }
                    if watch.log.suspended && !said {
                        said = true;
                        let _ = control.reports.send(MigrationReport::Suspended).await;
                    }
                    if !look.alive {
                        tracing::debug!(
                            "{} ended after {:?}: {:?}",
                            key.migration,
                            watch.age(heard),
                            look.rc
                        );
                        return cut.then_some(VmmError::Cancelled);
                    }
                }
                Err(why) if heard.elapsed() > SILENT || !why.is_away() => return Some(why),
                Err(why) => tracing::warn!("{}: {why}; looking again", key.migration),
            }
            // After the suspension it is quicker to let it end; the transport detects a dead peer
            // by itself.
            if control.cancel.is_cancelled() && !cut && !watch.log.suspended {
                cut = job::cut(source, key.migration).await.is_ok();
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = control.cancel.cancelled(), if !cut && !watch.log.suspended && !control.cancel.is_cancelled() => {}
            }
            let changed = control.rate.has_changed().unwrap_or(false);
            rate = changed.then(|| *control.rate.borrow_and_update());
        }
    }

    /// Evaluates the end of a move.
    pub(crate) async fn end(
        &self,
        source: &HostState,
        target: &HostState,
        key: MigrationKey,
        given_up: Option<VmmError>,
    ) -> Result<Moved, MigrateError> {
        let mut to_router: Vec<String> = Vec::new();
        for host in [source, target] {
            let why = job::why(host, key.migration).await;
            if !why.is_empty() {
                to_router.push(format!("{}: {why}", host.host.name));
            }
        }
        match self.resolve_migration(key, true).await {
            ResolveOutcome::Ended(VmLocation::At(at), _) if at == key.to => Ok(Moved { downtime: None }),
            ResolveOutcome::Ended(at, why) => {
                let failed = || VmmError::Failed {
                    host: source.host.name.clone(),
                    what: format!("moving {} to {}", key.vm, target.host.name),
                    why: to_router.join("; "),
                };
                Err(MigrateError { at, why: given_up.or(why).unwrap_or_else(failed) })
            }
            ResolveOutcome::UnderWay => {
                Err(MigrateError { at: VmLocation::Unknown, why: VmmError::Cancelled })
            }
        }
    }
}
