//! Rate limiters: bit/s to register values and back. Only some bitfiles have them; the OpenFlow
//! switch has none.
//!
//! A requested rate is a ceiling: the chosen setting never lets more through, and the reply has its
//! real rate.

use crate::profile::{LimiterKind, RateLimiter};
use crate::registers::{AccessError, Registers};
use tandem_model::BitRate;

/// The setting of a limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// No limit.
    Off,
    /// Of a `shift` limiter: about 8 Gbit/s / (1 + 2^shift).
    Shift(u8),
    /// Of a `tokens` limiter: `increment` bytes every `interval` clocks of 8 ns.
    Tokens {
        /// Clocks of 8 ns, 20 bits.
        interval: u32,
        /// Bytes, 8 bits.
        increment: u8,
    },
}

/// Why a rate is not possible.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LimitError {
    /// The limiter does not exist.
    #[error("limiter {index}: this bitfile has {count} (from 0)")]
    NoSuch {
        /// Its index.
        index: u8,
        /// Number of limiters.
        count: usize,
    },
    /// The rate is below the lowest possible.
    #[error("{asked} is below what this limiter can be set to; its lowest is {lowest}")]
    TooLow {
        /// The requested rate.
        asked: BitRate,
        /// The lowest possible rate.
        lowest: BitRate,
    },
    /// The setting reads back differently.
    #[error("limiter {index} was set to {wrote:?} and then read as {read:?}; is the right bitfile loaded?")]
    NotKept {
        /// Index of the limiter.
        index: u8,
        /// The setting written.
        wrote: Setting,
        /// The setting read.
        read: Setting,
    },
    /// The card did not answer.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// 8 bits per 8 ns clock: the rate without any pause.
const FULL: u64 = 8_000_000_000;

/// Width of TOKEN_INTERVAL.
const INTERVAL_MAX: u32 = (1 << 20) - 1;

impl Setting {
    /// The highest rate not above `rate` of this kind of limiter. A rate above the highest gives
    /// the highest.
    ///
    /// # Errors
    /// [`LimitError::TooLow`] when there is none.
    pub fn at_most(kind: LimiterKind, rate: BitRate) -> Result<Setting, LimitError> {
        let too_low =
            |lowest: Setting| LimitError::TooLow { asked: rate, lowest: lowest.rate().unwrap_or(BitRate(0)) };
        match kind {
            LimiterKind::Shift => (0..=15)
                .map(Setting::Shift)
                .find(|s| s.rate().is_some_and(|r| r <= rate))
                .ok_or_else(|| too_low(Setting::Shift(15))),
            LimiterKind::Tokens => {
                // Rates are increment / interval Gbit/s. For each increment, the shortest interval
                // whose rate is not above; of these the nearest rate, then the shortest interval
                // (the smoothest). A rate above 1 Gbit/s does not limit a port of that speed.
                let wanted = rate.0.min(1_000_000_000);
                let mut best: Option<(u64, u32, u8)> = None;
                for increment in 1..=u8::MAX {
                    let Some(interval) =
                        (u64::from(increment) * 1_000_000_000).div_ceil(wanted.max(1)).try_into().ok()
                    else {
                        continue;
                    };
                    if interval > INTERVAL_MAX {
                        continue;
                    }
                    let has = u64::from(increment) * 1_000_000_000 / u64::from(interval);
                    if best.is_none_or(|(rate, _, _)| has > rate) {
                        best = Some((has, interval, increment));
                    }
                }
                best.map(|(_, interval, increment)| Setting::Tokens { interval, increment })
                    .ok_or_else(|| too_low(Setting::Tokens { interval: INTERVAL_MAX, increment: 1 }))
            }
        }
    }

    /// Its rate in layer-2 bits, rounded down to whole bit/s. `None` if it is off, or lets nothing
    /// through.
    pub fn rate(self) -> Option<BitRate> {
        match self {
            Setting::Off | Setting::Tokens { interval: 0, .. } => None,
            Setting::Shift(shift) => Some(BitRate(FULL / (1 + (1u64 << shift.min(15))))),
            Setting::Tokens { interval, increment } => {
                Some(BitRate(u64::from(increment) * 1_000_000_000 / u64::from(interval)))
            }
        }
    }
}

impl RateLimiter {
    /// The limiter of a port.
    pub const fn of_port(&self, port: u8) -> u8 {
        port.saturating_mul(self.step)
    }

    fn base(&self, index: u8) -> Result<u32, LimitError> {
        self.at.get(usize::from(index)).copied().ok_or(LimitError::NoSuch { index, count: self.at.len() })
    }

    /// Sets a limiter and reads it back. It is off while it is changed, so that no half-written
    /// setting is in force.
    ///
    /// When the limiter does not exist, the card does not answer, or the setting reads back
    /// differently.
    pub fn set(&self, regs: &mut dyn Registers, index: u8, setting: Setting) -> Result<(), LimitError> {
        let base = self.base(index)?;
        regs.write32(base, 0)?;
        match (self.kind, setting) {
            (LimiterKind::Shift, Setting::Shift(shift)) => {
                regs.write32(base + 4, (shift & 15).into())?;
                regs.write32(base, 1)?;
            }
            (LimiterKind::Tokens, Setting::Tokens { interval, increment }) => {
                regs.write32(base + 4, interval & INTERVAL_MAX)?;
                regs.write32(base + 8, increment.into())?;
                regs.write32(base, 1)?;
            }
            _ => {}
        }
        let read = self.get(regs, index)?;
        if read == setting { Ok(()) } else { Err(LimitError::NotKept { index, wrote: setting, read }) }
    }

    /// The setting of a limiter.
    ///
    /// When the limiter does not exist, or the card does not answer.
    pub fn get(&self, regs: &mut dyn Registers, index: u8) -> Result<Setting, LimitError> {
        let base = self.base(index)?;
        if regs.read32(base)? & 1 == 0 {
            return Ok(Setting::Off);
        }
        let first = regs.read32(base + 4)?;
        Ok(match self.kind {
            LimiterKind::Shift => Setting::Shift((first & 15) as u8),
            LimiterKind::Tokens => Setting::Tokens {
                interval: first & INTERVAL_MAX,
                increment: (regs.read32(base + 8)? & 0xff) as u8,
            },
        })
    }
}
