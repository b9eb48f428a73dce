//! Settings of a card that its reset loses: the MACs' and CPU queues' controls, queues that do not
//! drain, rate limiters.
//!
//! Rows, exact entries and the watchdog are not among them: their owner writes them last.

use crate::profile::Profile;
use crate::registers::{AccessError, Registers, is_no_answer};

/// The settings that were read, in the order of writing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<(u32, u32)>);

impl Settings {
    /// Reads the settings: a register per port and limiter, and a few more.
    ///
    /// When the card does not answer.
    pub fn read(profile: &Profile, card: &mut dyn Registers) -> Result<Settings, AccessError> {
        let mut addresses = Vec::new();
        let mut named = |name: String| addresses.extend(profile.register(&name).map(|r| r.address));
        for port in 0..profile.board.ports {
            named(format!("MAC_GRP_{port}_CONTROL"));
            named(format!("CPU_QUEUE_{port}_CONTROL"));
        }
        named("BRAM_OQ_DISABLE_QUEUES".to_owned());
        // A limiter is set before it is turned on.
        for base in profile.rate_limiter.iter().flat_map(|l| &l.at) {
            addresses.extend([base + 4, base + 8, *base].into_iter().filter(|a| profile.at(*a).is_some()));
        }
        let mut all = Vec::with_capacity(addresses.len());
        for address in addresses {
            let value = card.read32(address)?;
            if !is_no_answer(value) {
                all.push((address, value));
            }
        }
        Ok(Settings(all))
    }

    /// Writes the settings again.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn write(&self, card: &mut dyn Registers) -> Result<(), AccessError> {
        self.0.iter().try_for_each(|(address, value)| card.write32(*address, *value))
    }
}
