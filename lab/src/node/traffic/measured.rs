//! What a flow has measured where it arrives, and what is kept of flows that ended.

use crate::control::messages::FlowReport;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Flows that ended whose figures are kept: an experiment reads its own within seconds, and each is
/// some 300 bytes.
pub const ENDED: usize = 1000;

/// A flow's figures, to which its sender and its receiver add.
pub type Shared = Arc<Mutex<Measured>>;

/// Works on a flow's figures.
pub(super) fn with<T>(shared: &Shared, f: impl FnOnce(&mut Measured) -> T) -> T {
    f(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A flow's figures since its start.
#[derive(Debug, Default)]
pub struct Measured {
    /// Packets or messages that the sender has sent.
    pub sent: u64,
    pub(super) received: u64,
    pub(super) bytes: u64,
    pub(super) reordered: u64,
    highest: u64,
    pub(super) delay_sum: f64,
    /// Seconds (RFC 3550 section 6.4.1).
    pub(super) jitter: f64,
    last_transit: Option<f64>,
    pub(super) first: Option<Instant>,
    pub(super) last: Option<Instant>,
    /// When the flow was ended.
    pub(super) ended: Option<Instant>,
    /// Why the sender could not go on.
    pub failed: Option<String>,
}

impl Measured {
    /// Takes a packet or message in that was `transit` seconds on its way.
    pub fn take(&mut self, number: u64, transit: f64, bytes: u64) {
        self.received += 1;
        self.reordered += u64::from(number < self.highest);
        self.highest = self.highest.max(number);
        self.delay_sum += transit;
        // RFC 3550 section 6.4.1.
        if let Some(last) = self.last_transit.replace(transit) {
            self.jitter += ((transit - last).abs() - self.jitter) / 16.0;
        }
        self.count(bytes);
    }

    /// Counts bytes of payload that have arrived.
    pub fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        let at = Instant::now();
        self.first.get_or_insert(at);
        self.last = Some(at);
    }
}

/// What flows have measured that ended: figures only, the latest [`ENDED`] of them.
#[derive(Debug, Default)]
pub struct Ended {
    reports: BTreeMap<u64, FlowReport>,
    /// Their ids, the first that ended first.
    order: VecDeque<u64>,
    forgotten: u64,
}

impl Ended {
    /// Notes what an ended flow has measured; the oldest is forgotten for it where there are too
    /// many.
    pub fn note(&mut self, report: FlowReport) {
        self.take(report.id);
        self.order.push_back(report.id);
        self.reports.insert(report.id, report);
        while self.order.len() > ENDED {
            let Some(oldest) = self.order.pop_front() else { return };
            self.reports.remove(&oldest);
            self.forgotten += 1;
        }
    }

    /// Gives a flow's figures back, and forgets them.
    pub fn take(&mut self, id: u64) -> Option<FlowReport> {
        let report = self.reports.remove(&id)?;
        self.order.retain(|n| *n != id);
        Some(report)
    }

    /// In order of ids.
    pub fn reports(&self) -> impl Iterator<Item = &FlowReport> {
        self.reports.values()
    }

    /// How many have been forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_flows_that_ended_the_latest_are_kept() {
        let mut ended = Ended::default();
        let report = |id| FlowReport { id, ended: true, ..FlowReport::default() };
        for id in 0..5000 {
            ended.note(report(id));
            // One that runs again and ends again is the latest, and is there once.
            ended.note(report(0));
        }
        assert_eq!(ended.reports().count(), ENDED);
        assert_eq!(ended.forgotten(), 5000 - ENDED as u64);
        let first = ended.reports().next();
        let second = ended.reports().nth(1);
        assert_eq!((first.map(|f| f.id), second.map(|f| f.id)), (Some(0), Some(5001 - ENDED as u64)));
        assert!(ended.take(0).is_some() && ended.take(0).is_none());
        assert_eq!((ended.order.len(), ended.reports.len()), (ENDED - 1, ENDED - 1));
    }

    #[test]
    fn jitter_follows_rfc_3550_and_a_packet_that_comes_late_is_counted() {
        let mut m = Measured::default();
        for (number, transit) in [(1, 0.010), (3, 0.026), (2, 0.010)] {
            m.take(number, transit, 100);
        }
        assert_eq!((m.received, m.reordered, m.bytes), (3, 1, 300));
        // 0, then 16 ms / 16 = 1 ms, then 1 + (16 - 1) / 16 ms.
        assert!((m.jitter - 0.001_937_5).abs() < 1e-9, "{}", m.jitter);
    }
}
