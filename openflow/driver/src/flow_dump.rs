//! The request for a switch's flows, on which all audits and syncs depend. It is repeated after an
//! error or silence, with a pause that doubles. After [`TRIES`] the switch counts as unable to
//! answer, and is asked once a minute: its rules cannot be audited, but its session and everything
//! else goes on.

use crate::codec::Reported;
use std::time::Duration;
use tandem_model::{Time, TxnId};
use tandem_openflow::session::multipart::{Assembly, Overflow};

/// How often the request is sent before the failure is reported.
pub(crate) const TRIES: u32 = 4;
/// The pause after the first failure; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after the last of [`TRIES`]; then there are as many tries again.
pub(crate) const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The most flows in one reply; a switch that reports more is faulty. At a few hundred bytes each,
/// they take less than 100 MB until the reply is given up.
const MOST_FLOWS: usize = 1 << 18;
/// A whole reply may take the time-out for silence plus a second for this many flows, up to a
/// maximum. Otherwise a part now and then would keep a reply alive for ever.
const FLOWS_A_SECOND: usize = 1000;
const LONGEST: Duration = Duration::from_secs(300);

/// Why flows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `SyncRules`, which has to be answered.
    Sync(TxnId),
    /// Counters, and a comparison with the wanted rules.
    Audit,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The request is sent at this time.
    Paused(Time),
    /// The request was sent `since`; the last part of the reply came at `message`.
    Asked { since: Time, message: Time },
}

/// The request for all flows of a switch, until it is answered or given up.
#[derive(Debug)]
pub(crate) struct FlowDump {
    pub(crate) purpose: Purpose,
    /// Number of changes made when the request was sent; an audit against an older state is
    /// inconclusive.
    pub(crate) epoch: u64,
    tries: u32,
    state: State,
    parts: Assembly<Reported>,
    timeout: Duration,
}

impl FlowDump {
    /// A request to be sent at once; `timeout` of silence is a failure.
    pub(crate) fn new(purpose: Purpose, timeout: Duration, now: Time) -> FlowDump {
        let parts = Assembly::new(MOST_FLOWS);
        FlowDump { purpose, epoch: 0, tries: 0, state: State::Paused(now), parts, timeout }
    }

    /// The request was sent.
    pub(crate) fn asked(&mut self, xid: u32, epoch: u64, now: Time) {
        self.tries += 1;
        self.epoch = epoch;
        self.state = State::Asked { since: now, message: now };
        self.parts.expect(xid);
    }

    pub(crate) fn xid(&self) -> Option<u32> {
        self.parts.xid()
    }

    /// Whether the request is to be sent now.
    pub(crate) fn wants_asking(&self, now: Time) -> bool {
        matches!(self.state, State::Paused(until) if now >= until)
    }

    /// When the caller has to act next.
    pub(crate) fn deadline(&self) -> Time {
        match self.state {
            State::Paused(until) => until,
            State::Asked { since, message } => {
                let more = Duration::from_secs((self.parts.len() / FLOWS_A_SECOND) as u64);
                (message + self.timeout).min(since + (self.timeout + more).min(LONGEST))
            }
        }
    }

    /// Adds a part of the reply; returns all flows once the last part has come.
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

    /// Records a failed try; true if it was the last of [`TRIES`].
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

    /// Why a reply is overdue, as text.
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

    /// Whether the reply is overdue.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        matches!(self.state, State::Asked { .. }) && now >= self.deadline()
    }
}
