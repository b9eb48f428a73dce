//! Log lines that a controller or a client causes: so many a minute, each one line and cut, however much it orders.

use std::time::Instant;
use tandem_model::Time;
use tandem_model::rate_limit::{RateLimiter, Verdict};
use tandem_model::text::escaped_to;

/// Characters of a line at most: an error with its causes.
const LINE: usize = 1000;

/// The lines of one peer.
#[derive(Debug)]
pub(crate) struct PeerLines {
    start: Instant,
    limiter: RateLimiter,
}

impl Default for PeerLines {
    fn default() -> PeerLines {
        PeerLines { start: Instant::now(), limiter: RateLimiter::for_log_lines(Time::ZERO) }
    }
}

impl PeerLines {
    /// Writes a warning, if the peer may cause one more line.
    pub(crate) fn warn(&mut self, what: impl FnOnce() -> String) {
        let now = Time::ZERO + self.start.elapsed();
        if let Some(line) = self.line(now, what) {
            tracing::warn!("{line}");
        }
    }

    /// The same for what is in order.
    pub(crate) fn info(&mut self, what: impl FnOnce() -> String) {
        let now = Time::ZERO + self.start.elapsed();
        if let Some(line) = self.line(now, what) {
            tracing::info!("{line}");
        }
    }

    /// The line that is written, with how many were not written before it.
    fn line(&mut self, now: Time, what: impl FnOnce() -> String) -> Option<String> {
        match self.limiter.ask(now) {
            Verdict::Allowed { held_back: 0 } => Some(escaped_to(&what(), LINE).to_string()),
            Verdict::Allowed { held_back } => {
                Some(format!("{} ({held_back} more lines were not written)", escaped_to(&what(), LINE)))
            }
            Verdict::HeldBack { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tandem_model::rate_limit::LOG_LINES_A_MINUTE;

    #[test]
    fn a_controller_whose_every_order_is_at_fault_makes_so_many_lines_a_minute_and_each_is_one() {
        let mut lines = PeerLines::default();
        let why = |n: u32| format!("edge{n}\nERROR \u{1b}[2J{}", "y".repeat(100_000));
        let written: Vec<String> =
            (0..10_000).filter_map(|n| lines.line(Time::from_secs(1), || why(n))).collect();
        assert_eq!(written.len(), LOG_LINES_A_MINUTE as usize);
        assert!(written.iter().all(|l| l.len() < 2 * LINE && !l.contains(['\n', '\u{1b}'])));
        let later = lines.line(Time::ZERO + Duration::from_secs(62), || why(1)).expect("a new minute");
        assert!(later.ends_with("(9980 more lines were not written)"), "{later}");
    }
}
