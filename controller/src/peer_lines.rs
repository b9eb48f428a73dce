//! Log lines that peers cause (agents, hypervisors, clients): so many a minute for each, by
//! [`tandem_model::rate_limit`]. That each is one line, and is cut, is the matter of
//! [`crate::log`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tandem_model::Time;
use tandem_model::rate_limit::{KeyedRateLimiter, LOG_LINES_A_MINUTE, Verdict};

/// Peers that are told apart; more share one allowance.
const PEERS: usize = 1024;

/// The allowances of all peers of one kind. `K` is what tells them apart, which is not to be their
/// own word: an address, a site's server.
#[derive(Debug)]
pub struct PeerLines<K: Ord> {
    start: Instant,
    limiter: Mutex<KeyedRateLimiter<K>>,
}

impl<K: Ord> Default for PeerLines<K> {
    fn default() -> PeerLines<K> {
        let limiter = KeyedRateLimiter::new(LOG_LINES_A_MINUTE, Duration::from_secs(60), PEERS, Time::ZERO);
        PeerLines { start: Instant::now(), limiter: Mutex::new(limiter) }
    }
}

impl<K: Ord> PeerLines<K> {
    /// Whether a peer may cause one more line: what is to stand at its end, which is empty, or says
    /// how many were not written.
    pub fn take(&self, peer: K) -> Option<String> {
        self.take_at(peer, Time::ZERO + self.start.elapsed())
    }

    fn take_at(&self, peer: K, now: Time) -> Option<String> {
        match self.limiter.lock().unwrap_or_else(PoisonError::into_inner).ask(peer, now) {
            Verdict::Allowed { held_back: 0 } => Some(String::new()),
            Verdict::Allowed { held_back } => {
                Some(format!(" ({held_back} more lines of this peer were not written)"))
            }
            Verdict::HeldBack { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_makes_so_many_lines_a_minute_and_hides_none_of_anothers() {
        let lines = PeerLines::default();
        let at = Time::from_secs(1);
        let written = (0..10_000).filter_map(|_| lines.take_at("loud", at)).count();
        assert_eq!(written, LOG_LINES_A_MINUTE as usize);
        assert_eq!(lines.take_at("quiet", at), Some(String::new()));
        let later = lines.take_at("loud", Time::from_secs(62)).expect("a new minute");
        assert!(later.contains("9980 more lines"), "{later}");
    }

    #[test]
    fn whoever_invents_peers_makes_no_more_lines_than_all_peers_may() {
        let lines = PeerLines::default();
        let written = (0..100_000u32).filter_map(|n| lines.take_at(n, Time::from_secs(1))).count();
        assert_eq!(written, PEERS + LOG_LINES_A_MINUTE as usize, "one each, and those that share one");
    }
}
