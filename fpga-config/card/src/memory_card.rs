//! The card in memory in real time: the model's clock is that of this process.

use crate::{Card, InjectError};
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tandem_fpga_config::model::{Model, Sent};
use tandem_fpga_config::profile::Profile;
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::Time;

/// A modelled card.
#[derive(Debug)]
pub struct MemoryCard {
    /// The model.
    pub model: Model,
}

/// The present time for the model: the wall clock at the first call, plus the time passed since by
/// a monotonic clock.
pub fn now() -> Time {
    static START: LazyLock<(Time, Instant)> = LazyLock::new(|| {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Time::ZERO + epoch, Instant::now())
    });
    START.0 + START.1.elapsed()
}

impl MemoryCard {
    /// A card with this bitfile that was reset a second ago, so that the clearing of its exact
    /// table is over.
    pub fn new(profile: Profile) -> MemoryCard {
        let reset = Time(now().0.saturating_sub(1_000_000_000));
        let mut model = Model::new(profile, reset);
        model.set_time(now());
        MemoryCard { model }
    }

    /// The same card with the known faults of its bitfile.
    #[must_use]
    pub fn with_faults(mut self) -> MemoryCard {
        self.model = self.model.with_faults();
        self
    }
}

impl Registers for MemoryCard {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        self.model.set_time(now());
        self.model.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.model.set_time(now());
        self.model.write32(address, value)
    }
}

impl Card for MemoryCard {
    fn inject(&mut self, queue: u8, frame: &[u8]) -> Result<Vec<Sent>, InjectError> {
        Ok(self.model.packet(queue, frame, now()))
    }

    fn burst(&mut self, frames: &[(u8, &[u8])]) -> Result<Vec<Sent>, InjectError> {
        Ok(self.model.burst(frames, now()))
    }
}
