//! Random numbers that are the same for ever: ChaCha, a stream for each subject, so that what is left out of one subject's schedule
//! changes as little as possible of what the others do.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::Duration;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of a subject under a seed.
    pub fn new(seed: u64, subject: u64) -> Draw {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(subject);
        Draw(random)
    }

    /// A number from 0 to below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        (u64::from(self.0.next_u32()) * u64::from(n) >> 32) as u32
    }

    /// A number from `low` to below `high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low))
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of a list that is not empty.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    /// A duration from `low` to below `high` microseconds.
    pub fn micros(&mut self, low: u32, high: u32) -> Duration {
        Duration::from_micros(self.between(low, high).into())
    }
}
