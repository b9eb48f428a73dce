//! Pacing: a token bucket that holds a transfer to a rate, which may change while it runs. Pure.

use std::time::Duration;

/// A token bucket. Times are given by the caller, from any start.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBucket {
    /// Bytes a second.
    rate: f64,
    /// Bytes that may be sent at once after a silence.
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket. What is saved up in a silence is at most 1 ms of the rate, and at least what
    /// is sent in one piece: what is sent at once has to fit into the short queues of the way.
    pub fn new(rate_bit_per_s: u64, piece: u64, now: Duration) -> TokenBucket {
        let mut bucket = TokenBucket { rate: 0.0, burst: 0.0, tokens: 0.0, at: now };
        bucket.set(rate_bit_per_s, piece, now);
        bucket.tokens = bucket.burst;
        bucket
    }

    /// Another rate from now on.
    pub fn set(&mut self, rate_bit_per_s: u64, piece: u64, now: Duration) {
        self.fill(now);
        // A rate of nothing would never end.
        self.rate = rate_bit_per_s.max(8_000) as f64 / 8.0;
        self.burst = (self.rate / 1000.0).max(piece as f64);
        self.tokens = self.tokens.min(self.burst);
    }

    fn fill(&mut self, now: Duration) {
        self.tokens = (self.tokens + now.saturating_sub(self.at).as_secs_f64() * self.rate).min(self.burst);
        self.at = now.max(self.at);
    }

    /// How long to wait before so many bytes may be sent.
    pub fn wait(&mut self, bytes: u64, now: Duration) -> Duration {
        self.fill(now);
        Duration::from_secs_f64(((bytes as f64 - self.tokens).max(0.0) / self.rate).min(3600.0))
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends pieces as soon as they may be, and says when the last one went.
    fn send(bucket: &mut TokenBucket, pieces: u64, mut now: Duration) -> Duration {
        for _ in 0..pieces {
            now += bucket.wait(10_000, now);
            bucket.sent(10_000);
        }
        now
    }

    #[test]
    fn a_rate_is_kept_and_a_new_one_holds_at_once() {
        let start = Duration::from_secs(5);
        let mut bucket = TokenBucket::new(80_000_000, 10_000, start);
        // 10 MB at 10 MB/s, but for the burst.
        let end = send(&mut bucket, 1000, start);
        assert!((end - start).as_secs_f64() > 0.99 && (end - start).as_secs_f64() < 1.001, "{end:?}");
        bucket.set(8_000_000, 10_000, end);
        let later = send(&mut bucket, 100, end);
        assert!(((later - end).as_secs_f64() - 1.0).abs() < 0.02, "{:?}", later - end);
    }

    #[test]
    fn a_silence_saves_up_no_more_than_a_burst() {
        let mut bucket = TokenBucket::new(80_000_000, 10_000, Duration::ZERO);
        send(&mut bucket, 100, Duration::ZERO);
        let after = Duration::from_secs(60);
        let end = send(&mut bucket, 100, after);
        assert!((end - after).as_secs_f64() > 0.095, "{:?}", end - after);
    }

    #[test]
    fn no_rate_is_a_slow_one_and_time_never_runs_back() {
        let mut bucket = TokenBucket::new(0, 10_000, Duration::from_secs(10));
        bucket.sent(20_000);
        let wait = bucket.wait(10_000, Duration::from_secs(9));
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3600), "{wait:?}");
    }
}
