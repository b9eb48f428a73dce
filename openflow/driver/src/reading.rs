//! The one question whose answer everything depends on: which flows the switch has. Asked again after an error or silence, after a pause
//! that doubles, and given up after [`TRIES`]: a switch that cannot say it cannot be kept right.

use crate::error::DriverError;
use crate::speaker::Reported;
use std::time::Duration;
use tandem_model::{Time, TxnId};
use tandem_openflow::session::multipart::{Assembly, Overflow};

/// How often the question is asked before the connection ends.
pub(crate) const TRIES: u32 = 4;
/// The pause after the first failure; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// The most flows that a switch may report in one answer; more is a broken switch. At a few hundred bytes each, they take less
/// than 100 MB until the answer is given up.
const MOST_FLOWS: usize = 1 << 18;
/// How long a whole answer may take: as long as silence may, and a second more for each so many flows, up to the longest. A part
/// now and then keeps no answer alive for ever.
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
    Asked { since: Time, heard: Time },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) purpose: Purpose,
    /// Number of changes made when it was asked; an audit of an older state proves nothing.
    pub(crate) epoch: u64,
    tries: u32,
    state: State,
    parts: Assembly<Reported>,
    timeout: Duration,
}

impl Reading {
    /// A question to be asked at once; silence of `timeout` is a failure.
    pub(crate) fn new(purpose: Purpose, timeout: Duration, now: Time) -> Reading {
        let parts = Assembly::new(MOST_FLOWS);
        Reading { purpose, epoch: 0, tries: 0, state: State::Paused(now), parts, timeout }
    }

    /// The question is on its way.
    pub(crate) fn asked(&mut self, xid: u32, epoch: u64, now: Time) {
        self.tries += 1;
        self.epoch = epoch;
        self.state = State::Asked { since: now, heard: now };
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
            State::Asked { since, heard } => {
                let more = Duration::from_secs((self.parts.len() / FLOWS_A_SECOND) as u64);
                (heard + self.timeout).min(since + (self.timeout + more).min(LONGEST))
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
        if let State::Asked { heard, .. } = &mut self.state
            && self.parts.xid() == Some(xid)
        {
            *heard = now;
        }
        self.parts.add(xid, flows, more)
    }

    /// It came to nothing this time.
    ///
    /// # Errors
    /// When it was the last time.
    pub(crate) fn failed(&mut self, why: String, now: Time) -> Result<(), DriverError> {
        self.parts.forget();
        if self.tries >= TRIES {
            return Err(DriverError::Unread { times: self.tries, why });
        }
        self.state = State::Paused(now + PAUSE * (1 << (self.tries - 1)));
        Ok(())
    }

    /// Why an overdue answer is one, for people.
    pub(crate) fn why_overdue(&self, now: Time) -> String {
        match self.state {
            State::Asked { since, heard } if heard > since => {
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
