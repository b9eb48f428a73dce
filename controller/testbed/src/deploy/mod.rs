//! Deploys agents from a binary and an inventory, and removes them.
//!
//! For each machine (`host`): 1. look, 2. compare with the wanted state (a second run ends here),
//! 3. copy the new version next to the one in use, 4. run its doctor, 5. enrol it, 6. activate it
//! and wait until it is connected, 7. delete versions that are no longer needed. No step before 6
//! affects the running agent. Step 6 rolls back by itself when the new version does not come up.
//! Machines are worked on in parallel, a bounded number at once; one that fails does not stop the
//! others. ssh itself is never changed, and an interface that carries it is refused as a port.

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

/// Machines that are worked on at once: each takes one connection and, during the copy, as much
/// memory as the agent's file.
const AT_ONCE: usize = 8;

/// Whether the controller knows an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// It has a certificate.
    Yes,
    /// It has none.
    No,
    /// Its certificate was revoked.
    Revoked,
}

/// Requests to the controller.
pub trait Control: Sync {
    /// Whether the controller knows that agent.
    ///
    /// When it does not answer; as text for people.
    fn enrolled(&self, agent: &str) -> Result<Enrolled, String>;

    /// Sets the switches that an enrolled agent may speak for: those that the inventory gives to
    /// its machine.
    ///
    /// When it does not answer, or another agent has one of them; as text for people.
    fn allow(&self, agent: &str, switches: &[String]) -> Result<(), String>;

    /// Creates a token for that agent, which reaches the controller at `address` (HOST:PORT) and
    /// speaks for `switches`.
    ///
    /// When it does not answer, or another agent has one of the switches; as text for people.
    fn token(&self, agent: &str, address: &str, switches: &[String]) -> Result<String, String>;
}

/// How to deploy.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only report what would be done.
    pub dry_run: bool,
    /// Enrol agents again that have a certificate, or were revoked.
    pub enrol: bool,
    /// How long a new agent may take until it is connected and has applied the controller's desired
    /// state, in seconds.
    pub seconds: u64,
    /// Use the lock with that id.
    pub lock: Option<String>,
}

/// The result for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "what")]
pub enum Outcome {
    /// Nothing had to be changed.
    Unchanged,
    /// Changes that would be made.
    WouldDo(Vec<String>),
    /// There was no agent; now one runs.
    Installed,
    /// Another version or configuration runs now.
    Upgraded,
    /// The same version was repaired: a file, its service.
    Repaired,
    /// The new version did not come up; the previous one runs again.
    RolledBack(String),
    /// Everything was restored to its former state.
    Released,
    /// Everything was restored and deleted.
    Removed,
    /// There is nothing for it to do.
    Nothing(String),
    /// It failed.
    Failed(String),
}

impl Outcome {
    /// False when an operator has to look at it.
    pub fn is_good(&self) -> bool {
        !matches!(self, Outcome::RolledBack(_) | Outcome::Failed(_))
    }
}

/// The result for a machine, with remarks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The machine's name.
    pub machine: String,
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The version that is in use.
    pub version: String,
    /// Messages of the doctor, the agent or the controller.
    pub notes: Vec<String>,
}

impl Report {
    fn new(machine: &Machine, outcome: Outcome) -> Report {
        Report { machine: machine.name.clone(), outcome, version: String::new(), notes: Vec::new() }
    }
}

/// Called with a machine's name and the present step.
pub type Progress<'p> = &'p (dyn Fn(&str, &str) + Sync);

/// Deploys to all machines that have a switch.
///
/// When somebody else holds the testbed; nothing is changed then.
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

/// Restores every bridge and queueing to its former state, and stops the agents; installed files
/// stay.
///
/// When somebody else holds the testbed; nothing is changed then.
pub fn release(
    inventory: &Inventory,
    lock: Option<&str>,
    progress: Progress<'_>,
) -> Result<Vec<Report>, LeaseError> {
    on_all(inventory, Some(("giving everything back", lock)), progress, |ssh| host::release(ssh, progress))
}

/// Like [`release()`], and deletes all installed files. With `dry_run` it only reports what would
/// be done.
///
/// When somebody else holds the testbed; nothing is changed then.
pub fn remove(
    inventory: &Inventory,
    lock: Option<&str>,
    dry_run: bool,
    progress: Progress<'_>,
) -> Result<Vec<Report>, LeaseError> {
    let locked = (!dry_run).then_some(("removing agents", lock));
    on_all(inventory, locked, progress, |ssh| host::remove(ssh, inventory, dry_run, progress))
}

/// The state of a machine: its holder, and its agent.
pub type Found = Result<(Option<Holder>, Status), SshError>;

/// Reads the state of all machines without changing it.
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

/// Connects to all machines, takes the lock if requested, and works on each that was reached.
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

/// Works on all items, at most [`AT_ONCE`] at a time; returns the results in the items' order.
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
