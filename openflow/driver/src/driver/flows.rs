//! Reads a switch's flows and repairs differences from the wanted rules: for a sync, and as an
//! audit with every poll.

use super::changes::Change;
use super::unlike::PutOff;
use super::{ANSWER_TIMEOUT, Driver, Output};
use crate::codec::Reported;
use crate::flow_dump::{FlowDump, LONG_PAUSE, Purpose, TRIES};
use crate::reconcile::{self, Repair};
use tandem_model::{Event, FlowSample, Time, TxnId};

impl Driver {
    pub(super) fn read_flows(&mut self, purpose: Purpose, now: Time, out: &mut Output) {
        if self.flow_dump.is_some() {
            // A waiting sync is not replaced by an audit.
            if !matches!(self.queued, Some(Purpose::Sync(_))) || matches!(purpose, Purpose::Sync(_)) {
                self.queued = Some(purpose);
            }
            return;
        }
        self.flow_dump = Some(FlowDump::new(purpose, ANSWER_TIMEOUT, now));
        self.ask_flows(now, out);
    }

    /// Requests the flows, if it is time for that.
    pub(super) fn ask_flows(&mut self, now: Time, out: &mut Output) {
        if !self.flow_dump.as_ref().is_some_and(|r| r.wants_asking(now)) {
            return;
        }
        let xid = self.send(out, |s, xid, o| s.ask_flows(xid, o));
        if let Some(flow_dump) = &mut self.flow_dump {
            flow_dump.asked(xid, self.epoch, now);
        }
    }

    pub(super) fn on_flows(
        &mut self,
        xid: u32,
        flows: Vec<Reported>,
        more: bool,
        now: Time,
        out: &mut Output,
    ) {
        let Some(flow_dump) = &mut self.flow_dump else { return };
        let flows = match flow_dump.add(xid, flows, more, now) {
            Ok(Some(flows)) => flows,
            Ok(None) => return,
            // The parts of one reply list more flows than a table holds.
            Err(endless) => return self.unread(&endless.to_string(), now, out),
        };
        let (purpose, epoch) = (flow_dump.purpose, flow_dump.epoch);
        self.flow_dump = None;
        let Some(codec) = &self.codec else { return };
        let mut repair = reconcile::repair(&self.wanted, &flows, &self.leave, codec.as_ref());
        self.foreign = reconcile::foreign(&flows);
        let is_sync = matches!(purpose, Purpose::Sync(_));
        // Changes in flight make the comparison of an audit inconclusive.
        let proven = is_sync || self.synced && epoch == self.epoch && self.open.is_empty();
        if proven {
            self.tell_left(&mut repair, is_sync, out);
        } else {
            // Flows that are no longer left are still there: the dump is repeated after the
            // changes.
            self.lets_go |= repair.left != self.left;
        }
        match purpose {
            Purpose::Sync(txn) => {
                let erase = [repair.erase, repair.let_go].concat();
                self.change(Change::Sync(txn), repair.add, &[], erase, now, out);
            }
            Purpose::Audit => {
                let samples = reconcile::samples(&flows);
                self.audited(samples, repair, proven, now, out);
            }
        }
        if let Some(next) = self.queued.take() {
            self.read_flows(next, now, out);
        }
        self.let_go(now, out);
    }

    /// Reports an audit's samples, and repairs the differences if the audit has `proven` them.
    fn audited(
        &mut self,
        samples: Vec<FlowSample>,
        mut repair: Repair,
        proven: bool,
        now: Time,
        out: &mut Output,
    ) {
        out.events.push(Event::Samples {
            switch: self.dpid,
            ports: Vec::new(),
            flows: samples,
            rules: std::mem::take(&mut repair.counted),
        });
        if proven && repair.add.is_empty() && repair.erase.is_empty() {
            self.tell_complete(out);
        }
        if !proven {
            repair = Repair::default();
        } else if now < self.repair.0 {
            // Repairs are paused; deleting flows that are no longer left is not a repair.
            repair = Repair { let_go: repair.let_go, ..Repair::default() };
        } else if let Some(PutOff { rules, example }) = self.unlike.sift(&mut repair, now) {
            out.events.push(Event::RulesUnlike { switch: self.dpid, rules, example });
        }
        let missing = repair.add.len() as u32;
        let stale = repair.erase.len() as u32;
        if missing + stale > 0 || !repair.let_go.is_empty() {
            let change = Change::Repair { missing, stale };
            let erase = [repair.erase, repair.let_go].concat();
            self.change(change, repair.add, &[], erase, now, out);
        }
    }

    /// Confirms a refused sync once all wanted rules are in the switch: the refused ones were
    /// removed or added by a later change.
    fn tell_complete(&mut self, out: &mut Output) {
        let refused = std::mem::take(&mut self.is_sync_refused);
        if let Some(txn) = self.sync.filter(|_| refused) {
            let switch = self.dpid;
            out.events.push(Event::RulesApplied { switch, txn, added: 0, removed: 0 });
        }
    }

    /// Reports the flows that are left although no rule wants them: after a sync, and when they
    /// have changed.
    fn tell_left(&mut self, repair: &mut Repair, synced: bool, out: &mut Output) {
        let left = std::mem::take(&mut repair.left);
        if left != self.left || (synced && !self.leave.is_nothing()) {
            self.left.clone_from(&left);
            out.events.push(Event::RulesLeft { switch: self.dpid, left });
        }
    }

    /// Deletes flows that are no longer left, as soon as no change and no dump is under way.
    pub(super) fn let_go(&mut self, now: Time, out: &mut Output) {
        if self.lets_go && self.synced && self.open.is_empty() && self.flow_dump.is_none() {
            self.lets_go = false;
            self.read_flows(Purpose::Audit, now, out);
        }
    }

    /// A dump of the flows has failed: it is tried again. After enough tries, the waiting sync is
    /// answered with the failure.
    pub(super) fn unread(&mut self, why: &str, now: Time, out: &mut Output) {
        let Some(flow_dump) = &mut self.flow_dump else { return };
        if !flow_dump.failed(now) {
            return self.warn(format!("asked which flows it has, {why}; it is asked again"), now, out);
        }
        let why = format!(
            "it does not say which flows it has: asked {TRIES} times, the last time {why}; its rules cannot be kept right. Look into \
             the switch's own log, or update its software; it is asked again every {LONG_PAUSE:?}"
        );
        let waiting = [Some(flow_dump.purpose), self.queued].into_iter().flatten().filter_map(|p| match p {
            Purpose::Sync(txn) => Some(txn),
            Purpose::Audit => None,
        });
        let waiting: Vec<TxnId> = waiting.collect();
        let told = if waiting.is_empty() { self.sync.into_iter().collect() } else { waiting };
        let refused = |txn| Event::RulesRefused { switch: self.dpid, txn, why: why.clone() };
        out.events.extend(told.into_iter().map(refused));
    }
}
