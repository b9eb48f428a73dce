//! Widens counters of 32 and of 25 bits to 64 bits.
//!
//! A card's byte counters wrap after 34 s at line rate, so they have to be read more often
//! ([`WRAP_AT_LINE_RATE`]). Each reading has to be passed to its counter once, in order; two wraps
//! between two readings cannot be detected.

use crate::profile::{Meaning, Profile};
use crate::registers::{AccessError, Registers, is_no_answer};
use std::time::Duration;

/// The time of 2^32 bytes at 1 Gbit/s: the longest time between two readings.
pub const WRAP_AT_LINE_RATE: Duration = Duration::from_millis(34_359);

/// A 32-bit counter that wraps and is not cleared by reading, widened to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wrapping {
    total: u64,
    last: Option<u32>,
}

impl Wrapping {
    /// A counter with an unknown past: the first reading is its start, and counts as nothing.
    pub const fn unknown() -> Wrapping {
        Wrapping { total: 0, last: None }
    }

    /// A counter that was at `value` when its owner began to count.
    pub const fn since(value: u32) -> Wrapping {
        Wrapping { total: 0, last: Some(value) }
    }

    /// Takes a reading; returns the count since the last one.
    pub fn read(&mut self, value: u32) -> u64 {
        let delta = self.last.map_or(0, |last| u64::from(value.wrapping_sub(last)));
        self.last = Some(value);
        self.total = self.total.saturating_add(delta);
        delta
    }

    /// The register was written, or restarts there after a reset: the count so far is kept.
    pub const fn restart(&mut self, value: u32) {
        self.last = Some(value);
    }

    /// The count so far.
    pub const fn total(&self) -> u64 {
        self.total
    }
}

/// The two counter words of an exact entry, which reading clears.
///
/// Word 0 has packets in bits 24:0 and the low 7 bits of last-seen in 31:25; reading it clears only
/// bits 23:0, so bit 24 stays set once it was set. Word 1 has bytes, cleared as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExactCounter {
    /// Bit 24 after the last reading.
    carried: bool,
    packets: u64,
    bytes: u64,
}

/// The counts of an exact entry since the last reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// The low 7 bits of the second of its last hit.
    pub last_seen: u8,
}

impl ExactCounter {
    /// For an entry whose counter words are 0, as after its body was written.
    pub const fn new() -> ExactCounter {
        ExactCounter { carried: false, packets: 0, bytes: 0 }
    }

    /// Takes a reading of both words, each read once.
    ///
    /// Right for fewer than 2^25 packets (22 s of the smallest frames at 1 Gbit/s) between two
    /// readings: a carry out of bit 23 flips bit 24, whether it was set or not.
    pub const fn read(&mut self, word0: u32, word1: u32) -> Counted {
        let before = if self.carried { 0x0100_0000 } else { 0 };
        let packets = (word0 & 0x01ff_ffff).wrapping_sub(before) & 0x01ff_ffff;
        self.carried = word0 & 0x0100_0000 != 0;
        let counted =
            Counted { packets: packets as u64, bytes: word1 as u64, last_seen: (word0 >> 25) as u8 };
        self.packets = self.packets.saturating_add(counted.packets);
        self.bytes = self.bytes.saturating_add(counted.bytes);
        counted
    }

    /// Packets so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The time of an exact entry's last hit, in whole seconds of the card's clock: the latest second
/// not after `clock` with these low 7 bits. Right when read within 128 s of the hit.
pub const fn last_seen(clock: u32, low: u8) -> u32 {
    let back = (clock as u8).wrapping_sub(low) & 0x7f;
    clock.saturating_sub(back as u32)
}

/// A counter register of a card with its 64-bit value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reading {
    /// The register's name.
    pub name: String,
    /// Its unit.
    pub is: Meaning,
    /// For a cumulative counter, the count since this began; otherwise the register's value.
    pub value: u64,
    /// For a cumulative counter, the count since the last sweep.
    pub delta: Option<u64>,
    /// The register's value; `None` when it did not answer.
    pub raw: Option<u32>,
}

/// All counters of a bitfile, read in one pass, each register once.
#[derive(Debug, Clone)]
pub struct Sweep {
    counters: Vec<Counter>,
}

#[derive(Debug, Clone)]
struct Counter {
    name: String,
    is: Meaning,
    address: u32,
    wide: Wrapping,
    /// Reading it resets it to 0, so that each reading is the count since the last.
    clears: bool,
}

impl Sweep {
    /// All counters of a profile whose name contains `part` (all for the empty string). Left out
    /// are the counters of wildcard rows, which the owner of the rows reads, and those that reading
    /// clears: a second reader would take counts from another. Counters start at what the card has
    /// counted since its reset.
    pub fn new(profile: &Profile, part: &str) -> Sweep {
        Sweep::of(profile, part, false)
    }

    /// The same with the counters that reading clears, for their only reader: the readings are
    /// summed.
    pub fn with_clearing(profile: &Profile, part: &str) -> Sweep {
        Sweep::of(profile, part, true)
    }

    fn of(profile: &Profile, part: &str, clearing: bool) -> Sweep {
        let part = part.to_ascii_uppercase();
        let rows = profile.flow_table.map(|f| f.bytes_hit..f.last_seen + 4 * u32::from(f.rows));
        let counters = profile
            .registers
            .iter()
            .filter(|r| (clearing || !profile.clears(r)) && r.name.contains(&part))
            .filter(|r| rows.as_ref().is_none_or(|rows| !rows.contains(&r.address)))
            .filter_map(|r| {
                Some(Counter {
                    name: r.name.clone(),
                    is: r.is?,
                    address: r.address,
                    wide: Wrapping::since(0),
                    clears: profile.clears(r),
                })
            })
            .collect();
        Sweep { counters }
    }

    /// The card was reset: its counters restart at 0, and the counts so far are kept. To be read
    /// before the reset.
    pub fn restart(&mut self) {
        self.counters.iter_mut().for_each(|c| c.wide.restart(0));
    }

    /// Number of registers in a pass.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Number of them that reading clears.
    pub fn clearing(&self) -> usize {
        self.counters.iter().filter(|c| c.clears).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// One pass. A register that does not answer keeps its count.
    ///
    /// # Errors When the card does not answer; counts that were read before are kept.
    pub fn read(&mut self, regs: &mut dyn Registers) -> Result<Vec<Reading>, AccessError> {
        let mut readings = Vec::with_capacity(self.counters.len());
        for counter in &mut self.counters {
            let raw = Some(regs.read32(counter.address)?).filter(|v| !is_no_answer(*v));
            let (value, delta) = match (counter.is.grows(), raw) {
                (true, Some(raw)) => {
                    if counter.clears {
                        counter.wide.restart(0);
                    }
                    let delta = counter.wide.read(raw);
                    (counter.wide.total(), Some(delta))
                }
                (true, None) => (counter.wide.total(), Some(0)),
                (false, raw) => (raw.unwrap_or_default().into(), None),
            };
            readings.push(Reading { name: counter.name.clone(), is: counter.is, value, delta, raw });
        }
        Ok(readings)
    }
}
