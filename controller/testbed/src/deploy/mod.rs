//! From a binary and an inventory to running agents, and back.
//!
//! Per machine (`host`): 1. look, 2. compare with what should be there (a second run ends here), 3.
//! copy the new version beside the one in use, 4. let its doctor look, 5. enrol it, 6. change over
//! and wait until it is connected, 7. delete versions that are not needed any more. Nothing before
//! step 6 touches what runs. Step 6 goes back by itself when the new version does not come up.
//! Machines are worked on side by side, a bounded number at once; one that fails does not keep the
//! others from going on. ssh itself is never touched, and an interface that carries it is refused
//! as a port.

mod host;
pub mod release;
mod script;

use crate::inventory::{Inventory, Machine};
use crate::lease::{self, Holder, Kind, Lease, LeaseError};
use crate::ssh::{Ssh, SshError};
use release::Binary;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use host::Status;

/// Machines that are worked on at once: each takes one connection and, while it copies, the agent's
/// size of memory.
const AT_ONCE: usize = 8;

/// Whether the controller knows an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// It has a certificate.
    Yes,
    /// It has none.
    No,
    /// It had one that was revoked.
    Revoked,
}

/// What is asked of the controller.
pub trait Control: Sync {
    /// Whether it knows that agent.
    ///
    /// # Errors
    /// When it does not answer; in words for people.
    fn enrolled(&self, agent: &str) -> Result<Enrolled, String>;

    /// Says which switches that agent, which is enrolled, speaks for: those that the inventory
    /// gives its machine.
    ///
    /// # Errors
    /// When it does not answer, or another agent has one of them; in words for people.
    fn allow(&self, agent: &str, switches: &[String]) -> Result<(), String>;

    /// A token that enrols that agent, which reaches the controller at `address` (HOST:PORT) and
    /// speaks for `switches`.
    ///
    /// # Errors
    /// When it does not answer, or another agent has one of the switches; in words for people.
    fn token(&self, agent: &str, address: &str, switches: &[String]) -> Result<String, String>;
}

/// How to deploy.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only look and say what would be done.
    pub dry_run: bool,
    /// Enrol agents anew that have a certificate, or were revoked.
    pub enrol: bool,
    /// How long a new agent may take until it is connected and has applied what the controller
    /// wants, in seconds.
    pub seconds: u64,
    /// Go on under the lock of that id.
    pub lock: Option<String>,
}

/// What became of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "what")]
pub enum Outcome {
    /// All was so already.
    Unchanged,
    /// What would be done.
    WouldDo(Vec<String>),
    /// There was no agent; now one runs.
    Installed,
    /// Another version or configuration runs now.
    Upgraded,
    /// The same version was mended: a file, its service.
    Repaired,
    /// The new version did not come up; the one before runs again.
    RolledBack(String),
    /// Everything was given back as it was found.
    Released,
    /// Everything was given back and deleted.
    Removed,
    /// There is nothing for it to do.
    Nothing(String),
    /// It could not be done.
    Failed(String),
}

impl Outcome {
    /// False when somebody must look at it.
    pub fn is_good(&self) -> bool {
        !matches!(self, Outcome::RolledBack(_) | Outcome::Failed(_))
    }
}

/// What became of a machine, with what else should be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The machine's name.
    pub machine: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The version that is in use now.
    pub version: String,
    /// What the doctor, the agent or the controller said.
    pub notes: Vec<String>,
}

impl Report {
    fn new(machine: &Machine, outcome: Outcome) -> Report {
        Report { machine: machine.name.clone(), outcome, version: String::new(), notes: Vec::new() }
    }
}

/// Called with a machine's name and what is being done there.
pub type Progress<'p> = &'p (dyn Fn(&str, &str) + Sync);

/// Deploys to all machines that have a switch.
///
/// # Errors
/// When somebody else holds the testbed; nothing was changed then.
pub fn deploy(
    inventory: &Inventory,
    binary: &Binary,
    control: &dyn Control,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<Report>, LeaseError> {
    let locked = (!options.dry_run).then_some(("deploying agents", options.lock.as_deref()));
    on_all(inventory, locked, progress, |ssh| {
        host::deploy(ssh, inventory, binary, control, options, progress)
    })
}

/// Gives every bridge and queueing back as it was found, and stops the agents; what is installed
/// stays.
///
/// # Errors
/// When somebody else holds the testbed; nothing was changed then.
pub fn release(
    inventory: &Inventory,
    lock: Option<&str>,
    progress: Progress<'_>,
) -> Result<Vec<Report>, LeaseError> {
    on_all(inventory, Some(("giving everything back", lock)), progress, |ssh| host::release(ssh, progress))
}

/// As [`release()`], and deletes everything that was installed. With `dry_run` it only says what
/// would be done.
///
/// # Errors
/// When somebody else holds the testbed; nothing was changed then.
pub fn remove(
    inventory: &Inventory,
    lock: Option<&str>,
    dry_run: bool,
    progress: Progress<'_>,
) -> Result<Vec<Report>, LeaseError> {
    let locked = (!dry_run).then_some(("removing agents", lock));
    on_all(inventory, locked, progress, |ssh| host::remove(ssh, inventory, dry_run, progress))
}

/// What a machine is found to be: who holds it, and its agent.
pub type Found = Result<(Option<Holder>, Status), SshError>;

/// Looks at all machines; changes nothing.
pub fn status(inventory: &Inventory) -> Vec<(&Machine, Found)> {
    side_by_side(&inventory.machines, |machine| {
        let found = Ssh::connect(machine).and_then(|ssh| {
            let status = host::status(&ssh, inventory)?;
            let holder = match lease::look(&ssh) {
                Ok(holder) => holder,
                Err(LeaseError::Ssh(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!("{error}");
                    None
                }
            };
            Ok((holder, status))
        });
        (machine, found)
    })
}

/// Connects to all machines, takes the lock if that is asked for, and works on each that is
/// reached.
fn on_all(
    inventory: &Inventory,
    locked: Option<(&str, Option<&str>)>,
    progress: Progress<'_>,
    work: impl Fn(&Ssh) -> Report + Sync,
) -> Result<Vec<Report>, LeaseError> {
    let reached = side_by_side(&inventory.machines, |machine| {
        if machine.switches.is_empty() {
            return Err(Report::new(machine, Outcome::Nothing("no switch of the site is on it".into())));
        }
        progress(&machine.name, "connecting");
        Ssh::connect(machine).map(Arc::new).map_err(|e| Report::new(machine, Outcome::Failed(e.to_string())))
    });
    let machines: Vec<Arc<Ssh>> = reached.iter().filter_map(|r| r.as_ref().ok()).cloned().collect();
    let _lock = match locked {
        Some((_, Some(id))) => Some(Lease::under(&machines, id)?),
        Some((purpose, None)) => Some(Lease::take(&machines, purpose, Kind::Process)?),
        None => None,
    };
    Ok(side_by_side(&reached, |reached| match reached {
        Ok(ssh) => work(ssh),
        Err(report) => report.clone(),
    }))
}

/// Works on all items, at most [`AT_ONCE`] at a time; results in the items' order.
fn side_by_side<'i, T: Sync, R: Send>(items: &'i [T], work: impl Fn(&'i T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..items.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some((n, item)) = items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((n, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, r)| r).collect()
}
