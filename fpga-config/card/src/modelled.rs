//! The card in memory, in real time: what the model is given as its clock is this process's.

use crate::{Card, InjectError};
use std::time::{SystemTime, UNIX_EPOCH};
use tandem_fpga_config::model::{Model, Sent};
use tandem_fpga_config::profile::Profile;
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::Time;

/// A modelled card.
#[derive(Debug)]
pub struct ModelCard {
    /// The card.
    pub model: Model,
}

/// Now, as the model takes it.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl ModelCard {
    /// A card with this bitfile, reset just now.
    pub fn new(profile: Profile) -> ModelCard {
        ModelCard { model: Model::new(profile, now()) }
    }
}

impl Registers for ModelCard {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        self.model.set_time(now());
        self.model.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.model.set_time(now());
        self.model.write32(address, value)
    }
}

impl Card for ModelCard {
    fn inject(&mut self, queue: u8, frame: &[u8]) -> Result<Vec<Sent>, InjectError> {
        Ok(self.model.packet(queue, frame, now()))
    }
}
