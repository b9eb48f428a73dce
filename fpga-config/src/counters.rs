//! Counters of 32 and of 25 bits as counters of 64.
//!
//! A card's byte counters wrap after 34 s at line rate, so they are read more often than that
//! ([`WRAP_AT_LINE_RATE`]). Each reading is given to its counter once, in the order of the
//! readings; two wraps between two readings cannot be seen by anyone.

use crate::profile::{Meaning, Profile};
use crate::registers::{AccessError, Registers, is_no_answer};
use std::time::Duration;

/// How long 2^32 bytes take at 1 Gbit/s: the longest time between two readings.
pub const WRAP_AT_LINE_RATE: Duration = Duration::from_millis(34_359);

/// A 32-bit counter that wraps and is not cleared by reading, widened to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wrapping {
    total: u64,
    last: Option<u32>,
}

impl Wrapping {
    /// One whose past is not known: the first reading is where it starts, and counts as nothing.
    pub const fn unknown() -> Wrapping {
        Wrapping { total: 0, last: None }
    }

    /// One that stood at `value` when it began to count for its owner.
    pub const fn since(value: u32) -> Wrapping {
        Wrapping { total: 0, last: Some(value) }
    }

    /// Takes a reading; gives what was counted since the last.
    pub fn read(&mut self, value: u32) -> u64 {
        let delta = self.last.map_or(0, |last| u64::from(value.wrapping_sub(last)));
        self.last = Some(value);
        self.total = self.total.saturating_add(delta);
        delta
    }

    /// The register was written, or starts from there after a reset: what it counted before is
    /// kept.
    pub const fn restart(&mut self, value: u32) {
        self.last = Some(value);
    }

    /// All that was counted.
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
    /// Bit 24 as the last reading left it.
    carried: bool,
    packets: u64,
    bytes: u64,
}

/// What an exact entry counted since it was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// The low 7 bits of the second in which it was hit last.
    pub last_seen: u8,
}

impl ExactCounter {
    /// One of an entry whose counter words are 0, as after its body was written.
    pub const fn new() -> ExactCounter {
        ExactCounter { carried: false, packets: 0, bytes: 0 }
    }

    /// Takes a reading of both words, each read once.
    ///
    /// Right for fewer than 2^25 packets (22 s of the smallest frames at 1 Gbit/s) between two
    /// readings: a carry out of bit 23 turns bit 24 over, whether it was set or not.
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

/// When an exact entry was hit last, in whole seconds of the card's clock: the latest second not
/// after `clock` with these low 7 bits. Right when it was read within 128 s of the hit.
pub const fn last_seen(clock: u32, low: u8) -> u32 {
    let back = (clock as u8).wrapping_sub(low) & 0x7f;
    clock.saturating_sub(back as u32)
}

/// A counter register of a card with its 64-bit value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reading {
    /// The register's name.
    pub name: String,
    /// What it is a number of.
    pub is: Meaning,
    /// What grows: counted since this began. What does not: the value.
    pub value: u64,
    /// Since the last sweep, for what grows.
    pub delta: Option<u64>,
    /// The register as it was read; `None` when nothing answered.
    pub raw: Option<u32>,
}

/// All counters of a bitfile, read in one pass, no register twice.
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
    /// Reading it sets it to 0, so each reading is what came since the last.
    clears: bool,
}

impl Sweep {
    /// Of all counters of a profile whose name has `part` in it (all for the empty string). The
    /// counters of the wildcard rows are not among them: whoever keeps the rows reads those. Nor
    /// are those that reading clears: a second reader would take what another one counts. Counters
    /// start at what the card has counted since its reset.
    pub fn new(profile: &Profile, part: &str) -> Sweep {
        Sweep::of(profile, part, false)
    }

    /// The same with the counters that reading clears, for whoever alone reads them: their readings
    /// are summed.
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

    /// The card was reset: its counters start from 0 again, and what they counted before is kept.
    /// Read them before the reset.
    pub fn restart(&mut self) {
        self.counters.iter_mut().for_each(|c| c.wide.restart(0));
    }

    /// How many registers a pass reads.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// How many of them reading clears.
    pub fn clearing(&self) -> usize {
        self.counters.iter().filter(|c| c.clears).count()
    }

    /// True when there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// One pass. What does not answer keeps its count.
    ///
    /// # Errors
    /// When the card cannot be asked; the counters that were read before are kept.
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
