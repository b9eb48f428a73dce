//! So many in a period, and no more: what one peer may cost in packets, events, notices and log
//! lines.
//!
//! One mechanism for all of them, with time passed in. What was held back is counted, so that the
//! next line that is let through can say how much was not said.

use crate::Time;
use crate::text::escaped_to;
use std::collections::BTreeMap;
use std::time::Duration;

/// Log lines a minute that one peer (a switch, an agent, a client, a hypervisor) may cause.
pub const LOG_LINES_A_MINUTE: u32 = 20;

/// So many in each period, counted in windows that begin with the first use.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    period: Duration,
    each: u32,
    since: Time,
    left: u32,
    held_back: u64,
}

/// What a limiter says of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is within what is allowed; so many were held back since the last one that was allowed.
    Allowed {
        /// How many.
        held_back: u64,
    },
    /// It is not; `first` for the first of a period.
    HeldBack {
        /// True for the first that a period holds back: whoever reports that something is held back
        /// reports it once.
        first: bool,
    },
}

impl Verdict {
    /// True when it is allowed.
    pub fn is_allowed(self) -> bool {
        matches!(self, Verdict::Allowed { .. })
    }
}

impl RateLimiter {
    /// `each` in every `period`.
    pub fn new(each: u32, period: Duration, now: Time) -> RateLimiter {
        RateLimiter { period, each, since: now, left: each, held_back: 0 }
    }

    /// The log lines of one peer.
    pub fn for_log_lines(now: Time) -> RateLimiter {
        RateLimiter::new(LOG_LINES_A_MINUTE, Duration::from_secs(60), now)
    }

    /// Asks for one more.
    pub fn ask(&mut self, now: Time) -> Verdict {
        let is_new = now.since(self.since) >= self.period;
        if is_new {
            self.since = now;
            self.left = self.each;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Verdict::Allowed { held_back: std::mem::take(&mut self.held_back) }
            }
            None => {
                let first = self.held_back == 0;
                self.held_back = self.held_back.saturating_add(1);
                Verdict::HeldBack { first }
            }
        }
    }

    /// True when one more is allowed; it is taken then.
    pub fn take(&mut self, now: Time) -> bool {
        self.ask(now).is_allowed()
    }

    /// True once the period of the last use is over, so that forgetting this limiter allows nothing
    /// that it would not.
    pub fn is_idle(&self, now: Time) -> bool {
        now.since(self.since) >= self.period
    }
}

/// Characters of a log line at most: an error with its causes.
const LINE: usize = 1000;

/// The log lines that one peer causes: so many a minute, each one line and cut, however many
/// reasons it gives for one.
#[derive(Debug, Clone)]
pub struct LogLines(RateLimiter);

impl LogLines {
    /// All of [`LOG_LINES_A_MINUTE`] are left.
    pub fn new(now: Time) -> LogLines {
        LogLines(RateLimiter::for_log_lines(now))
    }

    /// The line to write, with how many were not written before it; `None` when this is one too
    /// many.
    pub fn line(&mut self, now: Time, what: impl FnOnce() -> String) -> Option<String> {
        match self.0.ask(now) {
            Verdict::Allowed { held_back: 0 } => Some(escaped_to(&what(), LINE).to_string()),
            Verdict::Allowed { held_back } => {
                Some(format!("{} ({held_back} more lines were not written)", escaped_to(&what(), LINE)))
            }
            Verdict::HeldBack { .. } => None,
        }
    }
}

/// A limiter for each of at most so many peers; peers beyond that share one, so that inventing
/// peers buys nothing.
#[derive(Debug, Clone)]
pub struct KeyedRateLimiter<K: Ord> {
    each: u32,
    period: Duration,
    keys: usize,
    of: BTreeMap<K, RateLimiter>,
    others: RateLimiter,
}

impl<K: Ord> KeyedRateLimiter<K> {
    /// `each` in every `period` for each of at most `keys` peers.
    pub fn new(each: u32, period: Duration, keys: usize, now: Time) -> KeyedRateLimiter<K> {
        let others = RateLimiter::new(each, period, now);
        KeyedRateLimiter { each, period, keys, of: BTreeMap::new(), others }
    }

    /// Asks for one more by `key`.
    pub fn ask(&mut self, key: K, now: Time) -> Verdict {
        if !self.of.contains_key(&key) && self.of.len() >= self.keys {
            self.of.retain(|_, limiter| !limiter.is_idle(now));
            if self.of.len() >= self.keys {
                return self.others.ask(now);
            }
        }
        let fresh = || RateLimiter::new(self.each, self.period, now);
        self.of.entry(key).or_insert_with(fresh).ask(now)
    }

    /// True when one more by `key` is allowed; it is taken then.
    pub fn take(&mut self, key: K, now: Time) -> bool {
        self.ask(key, now).is_allowed()
    }

    /// How many peers have a limiter of their own.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// True when nobody has one.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_period_lets_so_many_through_and_the_next_says_how_many_it_held_back() {
        let at = Time::from_secs;
        let mut limiter = RateLimiter::new(2, Duration::from_secs(60), at(0));
        assert_eq!(limiter.ask(at(1)), Verdict::Allowed { held_back: 0 });
        assert_eq!(limiter.ask(at(2)), Verdict::Allowed { held_back: 0 });
        assert_eq!(limiter.ask(at(3)), Verdict::HeldBack { first: true });
        assert_eq!(limiter.ask(at(59)), Verdict::HeldBack { first: false });
        assert_eq!(limiter.ask(at(60)), Verdict::Allowed { held_back: 2 });
    }

    #[test]
    fn peers_have_their_own_and_invented_ones_share_one() {
        let at = Time::from_secs;
        let mut limiter = KeyedRateLimiter::new(1, Duration::from_secs(60), 2, at(0));
        assert!(limiter.take("a", at(1)) && limiter.take("b", at(1)));
        assert!(limiter.take("c", at(1)), "the one of all others");
        assert!(!limiter.take("d", at(1)) && !limiter.take("a", at(2)));
        assert!(limiter.take("d", at(61)), "those that have been silent make room");
        assert_eq!(limiter.len(), 1);
    }

    proptest! {
        #[test]
        fn no_window_lets_more_through_and_no_invention_makes_it_grow(
            asks in proptest::collection::vec((0u64..100, 0u8..20), 0..300),
        ) {
            let mut asks = asks;
            asks.sort_unstable();
            let mut limiter = KeyedRateLimiter::new(3, Duration::from_secs(10), 4, Time::ZERO);
            let mut through = BTreeMap::<u64, u32>::new();
            for (second, peer) in asks {
                if limiter.take(peer, Time::from_secs(second)) {
                    *through.entry(second).or_default() += 1;
                }
                prop_assert!(limiter.len() <= 4);
            }
            prop_assert!(through.values().all(|n| *n <= 3 * 5));
        }
    }

    #[test]
    fn whoever_gives_ten_thousand_reasons_makes_so_many_lines_a_minute_and_each_is_one() {
        let (start, mut lines) = (Time::from_secs(1), LogLines::new(Time::ZERO));
        let why = |n: u32| format!("vm{n}\nERROR \u{1b}[2J{}", "y".repeat(100_000));
        let written: Vec<String> = (0..10_000).filter_map(|n| lines.line(start, || why(n))).collect();
        assert_eq!(written.len(), LOG_LINES_A_MINUTE as usize);
        assert!(written.iter().all(|l| l.len() < 2 * LINE && !l.contains(['\n', '\u{1b}'])));
        let later = lines.line(start + Duration::from_secs(61), || why(1)).expect("a new minute");
        assert!(later.ends_with("(9980 more lines were not written)"), "{later}");
    }
}
