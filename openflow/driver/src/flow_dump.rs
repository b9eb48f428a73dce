//! The one question whose answer everything depends on: which flows the switch has. Asked again
//! after an error or silence, after a pause that doubles. After [`TRIES`] the switch counts as one
//! that does not say it, and is asked once a minute: its rules cannot be kept right, but its
//! session goes on, and everything else with it.

use crate::codec::Reported;
use std::time::Duration;
use tandem_model::{Time, TxnId};
use tandem_openflow::session::multipart::{Assembly, Overflow};

/// How often the question is asked before it is said that there is no answer.
pub(crate) const TRIES: u32 = 4;
/// The pause after the first failure; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after the last of [`TRIES`]; then all of them are made again.
pub(crate) const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The most flows that a switch may report in one answer; more is a broken switch. At a few hundred
/// bytes each, they take less than 100 MB until the answer is given up.
const MOST_FLOWS: usize = 1 << 18;
/// How long a whole answer may take: as long as silence may, and a second more for each so many
/// flows, up to the longest. A part now and then keeps no answer alive for ever.
const FLOWS_A_SECOND: usize = 1000;
const LONGEST: Duration = Duration::from_secs(300);

/// What flows are being read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `SyncRules`, to be answered.
    Sync(TxnId),
    /// Counters, and a look whether all is as it should be.
    Audit,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Not asked before this time.
    Paused(Time),
    /// Asked at this time; the last part came at that time.
    Asked { since: Time, message: Time },
}

/// The question for all flows of a switch, until it is answered or given up.
#[derive(Debug)]
pub(crate) struct FlowDump {
    pub(crate) purpose: Purpose,
    /// Number of changes made when it was asked; an audit of an older state proves nothing.
    pub(crate) epoch: u64,
    tries: u32,
    state: State,
    parts: Assembly<Reported>,
    timeout: Duration,
}

impl FlowDump {
    /// A question to be asked at once; silence of `timeout` is a failure.
    pub(crate) fn new(purpose: Purpose, timeout: Duration, now: Time) -> FlowDump {
        let parts = Assembly::new(MOST_FLOWS);
        FlowDump { purpose, epoch: 0, tries: 0, state: State::Paused(now), parts, timeout }
    }

    /// The question is on its way.
    pub(crate) fn asked(&mut self, xid: u32, epoch: u64, now: Time) {
        self.tries += 1;
        self.epoch = epoch;
        self.state = State::Asked { since: now, message: now };
        self.parts.expect(xid);
    }

    pub(crate) fn xid(&self) -> Option<u32> {
        self.parts.xid()
    }

    /// True when it is to be asked now.
    pub(crate) fn wants_asking(&self, now: Time) -> bool {
        matches!(self.state, State::Paused(until) if now >= until)
    }

    /// When something has to be done about it.
    pub(crate) fn deadline(&self) -> Time {
        match self.state {
            State::Paused(until) => until,
            State::Asked { since, message } => {
                let more = Duration::from_secs((self.parts.len() / FLOWS_A_SECOND) as u64);
                (message + self.timeout).min(since + (self.timeout + more).min(LONGEST))
            }
        }
    }

    /// A part came; all flows, when it was the last.
    pub(crate) fn add(
        &mut self,
        xid: u32,
        flows: Vec<Reported>,
        more: bool,
        now: Time,
    ) -> Result<Option<Vec<Reported>>, Overflow> {
        if let State::Asked { message, .. } = &mut self.state
            && self.parts.xid() == Some(xid)
        {
            *message = now;
        }
        self.parts.add(xid, flows, more)
    }

    /// It came to nothing this time; true when that was the last of [`TRIES`].
    pub(crate) fn failed(&mut self, now: Time) -> bool {
        self.parts.forget();
        let is_last = self.tries >= TRIES;
        let pause = if is_last { LONG_PAUSE } else { PAUSE * (1 << self.tries.saturating_sub(1)) };
        if is_last {
            self.tries = 0;
        }
        self.state = State::Paused(now + pause);
        is_last
    }

    /// Why an overdue answer is one, for people.
    pub(crate) fn why_overdue(&self, now: Time) -> String {
        match self.state {
            State::Asked { since, message } if message > since => {
                let took = Duration::from_secs(now.since(since).as_secs());
                let flows = self.parts.len();
                format!("its answer has not come to an end for {took:?} ({flows} flows so far)")
            }
            _ => format!("it answered nothing for {:?}", self.timeout),
        }
    }

    /// True when it was asked and the answer is overdue.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        matches!(self.state, State::Asked { .. }) && now >= self.deadline()
    }
}
