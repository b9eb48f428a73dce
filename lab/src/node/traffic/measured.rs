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
    /// Why an end could not go on, or what it has to say of what it does.
    pub failed: Option<String>,
    /// When packets left that carry an identification, by it; empty where there are none.
    left_at: Vec<u64>,
    /// The delay is not by [`super::clock`]: a tool of others has measured it by the wall clocks of
    /// both ends.
    pub(super) own_clock: bool,
}

/// What a tool of others has measured since it was asked last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Session {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) bytes: u64,
    pub(super) reordered: u64,
    /// Seconds, on average.
    pub(super) delay: f64,
    pub(super) jitter: f64,
    /// How long it was.
    pub(super) seconds: f64,
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

    /// Adds what a tool of others has measured at the receiver, up to now.
    pub(super) fn add(&mut self, session: &Session) {
        self.sent += session.sent;
        self.received += session.received;
        self.bytes += session.bytes;
        self.reordered += session.reordered;
        self.delay_sum += session.delay * session.received as f64;
        self.jitter = session.jitter;
        let now = Instant::now();
        let began = now.checked_sub(std::time::Duration::from_secs_f64(session.seconds.clamp(0.0, 1e6)));
        self.first.get_or_insert(began.unwrap_or(now));
        self.last = Some(now);
    }

    /// Notes when a packet left that carries an identification instead of its time.
    pub(super) fn depart(&mut self, identification: u16, now: u64) {
        if self.left_at.is_empty() {
            self.left_at = vec![0; usize::from(u16::MAX) + 1];
        }
        self.left_at[usize::from(identification)] = now;
    }

    /// Takes such a packet in. Where the sender is on another machine, nothing is known of its
    /// delay.
    pub(super) fn arrive(&mut self, number: u64, identification: u16, now: u64, bytes: u64) {
        match self.left_at.get(usize::from(identification)).filter(|at| **at > 0) {
            Some(at) => {
                let transit = now.wrapping_sub(*at).cast_signed() as f64 / 1e9;
                self.take(number, transit, bytes);
            }
            None => {
                self.received += 1;
                self.reordered += u64::from(number < self.highest);
                self.highest = self.highest.max(number);
                self.count(bytes);
            }
        }
    }

    /// Takes a packet in that has neither number nor time.
    pub(super) fn arrive_unnumbered(&mut self, bytes: u64) {
        self.received += 1;
        self.count(bytes);
    }

    /// Takes note that a flow of several at once was complete `took` seconds after its start.
    pub(super) fn complete(&mut self, took: f64) {
        self.received += 1;
        self.delay_sum += took;
        self.last = Some(Instant::now());
    }

    /// Counts bytes of payload that have arrived.
    pub fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        let at = Instant::now();
        self.first.get_or_insert(at);
        self.last = Some(at);
    }
}

impl Session {
    /// What has come since `before`, which is the beginning of the same session.
    pub(super) fn since(&self, before: &Session) -> Session {
        let received = self.received.saturating_sub(before.received);
        let sum = |s: &Session| s.delay * s.received as f64;
        Session {
            sent: self.sent.saturating_sub(before.sent),
            received,
            bytes: self.bytes.saturating_sub(before.bytes),
            reordered: self.reordered.saturating_sub(before.reordered),
            delay: (sum(self) - sum(before)) / received.max(1) as f64,
            jitter: self.jitter,
            seconds: self.seconds - before.seconds,
        }
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
