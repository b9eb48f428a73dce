//! Damps PORT_STATUS messages to the core: of each port the first few are reported at once, then
//! only the last state after a pause. So a port that flaps, or a switch that says so, causes a
//! bounded number of events, and the last state always arrives.
//!
//! At most [`MORE_PORTS`] ports are accepted after the handshake.

use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::rate_limit::KeyedRateLimiter;
use tandem_model::{PortInfo, PortNo, Time};

/// Messages of a port, and of a whole switch, that are reported at once in each [`PAUSE`].
const AT_ONCE: u32 = 4;
const AT_ONCE_ALL: u32 = 256;
/// The longest delay of a damped message.
const PAUSE: Duration = Duration::from_secs(1);
/// Ports beyond those of the handshake: interfaces are added while a switch runs, but not by the
/// thousand.
pub(crate) const MORE_PORTS: usize = 128;

/// What is done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is reported now.
    Now,
    /// The port's last state is reported after the pause.
    Later,
    /// It is dropped: the switch reports an implausible number of ports.
    TooMany,
}

/// Port changes that are damped.
#[derive(Debug, Clone)]
pub(crate) struct PortChanges {
    most: usize,
    ports: KeyedRateLimiter<PortNo>,
    all: KeyedRateLimiter<()>,
    waiting: BTreeMap<PortNo, (PortInfo, bool)>,
    due: Option<Time>,
    /// Messages that were not reported one by one.
    pub(crate) damped: u64,
}

impl PortChanges {
    /// For a switch that had `ports` ports at its handshake.
    pub(crate) fn new(ports: usize, now: Time) -> PortChanges {
        let most = ports.saturating_add(MORE_PORTS);
        PortChanges {
            most,
            ports: KeyedRateLimiter::new(AT_ONCE, PAUSE, most, now),
            all: KeyedRateLimiter::new(AT_ONCE_ALL, PAUSE, 1, now),
            waiting: BTreeMap::new(),
            due: None,
            damped: 0,
        }
    }

    /// Handles a message of a switch that has `known` ports now.
    pub(crate) fn on_change(
        &mut self,
        port: &PortInfo,
        removed: bool,
        known: &BTreeMap<PortNo, PortInfo>,
        now: Time,
    ) -> Outcome {
        let number = port.port;
        let is_known = known.contains_key(&number) || self.waiting.contains_key(&number);
        if !is_known && (removed || known.len() + self.waiting.len() >= self.most) {
            return Outcome::TooMany;
        }
        let waits = self.waiting.contains_key(&number);
        if !waits && self.ports.take(number, now) && self.all.take((), now) {
            return Outcome::Now;
        }
        self.damped += 1;
        self.waiting.insert(number, (port.clone(), removed));
        self.due.get_or_insert(now + PAUSE);
        Outcome::Later
    }

    /// When the waiting states are due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// The waiting states, if they are due.
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<(PortInfo, bool)> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}
