//! The machines' clocks: how far each is from the coordinator's, and what that does to a delay.
//!
//! An offset is measured by asking for the time several times and taking the answer that was
//! fastest: the other clock was read somewhere within that round trip, so that the middle of it is
//! wrong by half of it at most (as RFC 5905 section 8 does it). Between two measurements a clock is
//! taken to run evenly.

use crate::control::messages::{Clock, FlowReport};
use std::fmt::Write as _;

/// From a question's sending, the other's clock, and the answer's receipt, each in nanoseconds: the
/// best of them.
pub fn best(machine: &str, readings: &[(i64, i64, i64)]) -> Option<Clock> {
    let (sent, there, received) = readings.iter().min_by_key(|(sent, _, received)| received - sent)?;
    let middle = sent + (received - sent) / 2;
    Some(Clock {
        machine: machine.to_owned(),
        at_ns: middle,
        offset_ns: there - middle,
        rtt_ns: received - sent,
    })
}

/// How far ahead a machine's clock was at a moment of the coordinator's, in nanoseconds; 0 for one
/// that was never measured.
pub fn offset_at(clocks: &[Clock], machine: &str, at_ns: i64) -> f64 {
    let mut own: Vec<&Clock> = clocks.iter().filter(|c| c.machine == machine).collect();
    own.sort_by_key(|c| c.at_ns);
    let before = own.iter().rev().find(|c| c.at_ns <= at_ns);
    let after = own.iter().find(|c| c.at_ns > at_ns);
    match (before, after) {
        (Some(a), Some(b)) => {
            let share = (at_ns - a.at_ns) as f64 / (b.at_ns - a.at_ns) as f64;
            a.offset_ns as f64 + share * (b.offset_ns - a.offset_ns) as f64
        }
        (Some(one), None) | (None, Some(one)) => one.offset_ns as f64,
        (None, None) => 0.0,
    }
}

/// What both ends of a flow saw of it: the sender's count, the receiver's figures, with the delay
/// by one clock. `offsets` are the sender's and the receiver's, in nanoseconds.
pub fn merge(sender: &FlowReport, receiver: &FlowReport, offsets: (f64, f64)) -> FlowReport {
    // What a tool of others has measured by wall clocks is not ours to correct.
    let by_us = receiver.received > 0 && !receiver.own_clock;
    let correction = if by_us { (offsets.1 - offsets.0) / 1e6 } else { 0.0 };
    FlowReport {
        sent: sender.sent.max(receiver.sent),
        delay_ms: receiver.delay_ms - correction,
        seconds: sender.seconds.min(receiver.seconds),
        ended: sender.ended || receiver.ended,
        note: sender.note.clone().or_else(|| receiver.note.clone()),
        ..receiver.clone()
    }
}

/// `clock-offsets.csv`.
pub fn csv(clocks: &[Clock]) -> String {
    let mut text = String::from("machine;at_s;offset_ms;uncertainty_ms\n");
    let first = clocks.iter().map(|c| c.at_ns).min().unwrap_or(0);
    for c in clocks {
        let _ = writeln!(
            text,
            "{};{:.3};{:.6};{:.6}",
            c.machine,
            (c.at_ns - first) as f64 / 1e9,
            c.offset_ns as f64 / 1e6,
            c.rtt_ns as f64 / 2e6
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(at_ns: i64, offset_ns: i64) -> Clock {
        Clock { machine: "a".into(), at_ns, offset_ns, rtt_ns: 10 }
    }

    #[test]
    fn the_fastest_answer_counts_and_its_error_is_half_of_its_round_trip() {
        // The other clock is 1000 ahead; the second answer came back at once, the first and third
        // were held up on one way.
        let c = best("a", &[(0, 1080, 100), (200, 1205, 210), (300, 1305, 400)]).expect("a clock");
        assert_eq!((c.offset_ns, c.rtt_ns, c.at_ns), (1000, 10, 205));
        assert_eq!(best("a", &[]), None);
    }

    #[test]
    fn a_clock_that_drifts_is_interpolated_and_not_extrapolated() {
        let clocks = [clock(1000, 50), clock(2000, 150)];
        for (at, expected) in [(0, 50.0), (1000, 50.0), (1500, 100.0), (2000, 150.0), (9000, 150.0)] {
            assert!((offset_at(&clocks, "a", at) - expected).abs() < 1e-9, "{at}");
        }
        assert!(offset_at(&clocks, "b", 0).abs() < 1e-9);
    }

    #[test]
    fn a_delay_is_right_although_the_clocks_are_not() {
        // 3 ms on the way; the receiver's clock is 5 s behind the sender's.
        let receiver = FlowReport { received: 10, delay_ms: 3.0 - 5000.0, ..FlowReport::default() };
        let sender = FlowReport { sent: 12, ..FlowReport::default() };
        let merged = merge(&sender, &receiver, (2e9, -3e9));
        assert!((merged.delay_ms - 3.0).abs() < 1e-6, "{}", merged.delay_ms);
        assert_eq!((merged.sent, merged.received), (12, 10));
    }
}
