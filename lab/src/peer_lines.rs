//! Log lines that somebody else causes: so many a minute, each one line and cut, however many reasons he gives for one.

use crate::emulated::traffic::clock;
use crate::service::lock;
use std::sync::Mutex;
use tandem_model::Time;
use tandem_model::rate_limit::{RateLimiter, Verdict};
use tandem_model::text::escaped_to;

/// Characters of a line at most: an error with its causes.
const LINE: usize = 1000;

/// The lines of one peer, or of all that come by one socket.
#[derive(Debug)]
pub struct PeerLines(Mutex<RateLimiter>);

/// On the lab's own clock.
fn now() -> Time {
    Time(clock())
}

impl Default for PeerLines {
    fn default() -> PeerLines {
        PeerLines(Mutex::new(RateLimiter::for_log_lines(now())))
    }
}

impl PeerLines {
    /// Writes a warning, if the peer may cause one more line.
    pub fn warn(&self, what: impl FnOnce() -> String) {
        if let Some(line) = self.line(now(), what) {
            tracing::warn!("{line}");
        }
    }

    /// The line that is written, with how many were not written before it.
    fn line(&self, now: Time, what: impl FnOnce() -> String) -> Option<String> {
        match lock(&self.0).ask(now) {
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
    fn whoever_gives_ten_thousand_reasons_makes_so_many_lines_a_minute_and_each_is_one() {
        let (lines, start) = (PeerLines::default(), now());
        let why = |n: u32| format!("vm{n}\nERROR \u{1b}[2J{}", "y".repeat(100_000));
        let written: Vec<String> = (0..10_000).filter_map(|n| lines.line(start, || why(n))).collect();
        assert_eq!(written.len(), LOG_LINES_A_MINUTE as usize);
        assert!(written.iter().all(|l| l.len() < 2 * LINE && !l.contains(['\n', '\u{1b}'])));
        let later = lines.line(start + Duration::from_secs(61), || why(1)).expect("a new minute");
        assert!(later.ends_with("(9980 more lines were not written)"), "{later}");
    }
}
