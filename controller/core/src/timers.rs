//! Everything that the core waits for, in order of time. A timer that is no longer wanted fires
//! into nothing: whoever handles it checks whether it still matters.

use crate::stored_item::Kept;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use tandem_model::{MigrationId, PortNo, RequestId, ServerId, SwitchId, Time, VmId};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A VM should run by now.
    StartTimeout(VmId),
    /// A VM's life ends.
    Expiry(VmId),
    /// Look whether discovery still sees all links.
    LinkSweep,
    /// Send a switch all its rules, some of which it has refused.
    Resync(SwitchId),
    /// A switch has been away for the grace time.
    SwitchGrace(SwitchId),
    /// Look whether a host still shows signs of life.
    HostCheck(Ipv4Addr),
    /// A port that changed its state too often has kept still.
    PortSettled(SwitchId, PortNo),
    /// Write down that a controller runs.
    Alive,
    /// Bring VMs back to where the policy wants them.
    KeepPolicy,
    /// A server out of service still has VMs.
    EvacuateAgain(ServerId),
    /// Look whether a server still tells its load.
    LoadSilence(ServerId),
    /// Try to forget a VM in the store again.
    RetryRemove(VmId),
    /// Try to write again that a VM has less.
    RetryShrunk(VmId),
    /// Try to write something again.
    RetryStore(Kept),
    /// A transfer should have got on by now.
    MoveTimeout(MigrationId),
    /// Try to write a migration again.
    RetryMove(MigrationId),
    /// A poll on demand has waited long enough.
    PollTimeout(RequestId),
    /// A request has waited long enough for readings.
    ReadingsTimeout(RequestId),
}

/// The timers that are set, by the moment at which they expire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Time, Timer)>,
    /// Those of which there is one at a time, and when they are due.
    only: BTreeMap<Timer, Time>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        self.due.insert((at, timer));
    }

    /// The same for what untrusted input can ask for again and again: it takes the place of an
    /// earlier one.
    pub(crate) fn replace(&mut self, at: Time, timer: Timer) {
        self.cancel(timer);
        self.only.insert(timer, at);
        self.due.insert((at, timer));
    }

    /// What was set with [`Timers::replace`] is waited for no more.
    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(before) = self.only.remove(&timer) {
            self.due.remove(&(before, timer));
        }
    }

    /// The next timer that is due at `now`.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        if self.only.get(&timer) == Some(&at) {
            self.only.remove(&timer);
        }
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }
}
