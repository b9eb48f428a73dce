//! Meters: token buckets that drop or remark the packets above a rate (OF 1.3.5 section 5.7).

use crate::of13::meter::{Band, BandKind};
use std::time::Duration;
use tandem_model::Time;

/// OFPMF bits.
pub mod flag {
    /// Rates in kbit/s.
    pub const KBPS: u16 = 1;
    /// Rates in packets per second.
    pub const PKTPS: u16 = 1 << 1;
    /// Bands have a burst size.
    pub const BURST: u16 = 1 << 2;
    /// Statistics are collected; this implementation always does.
    pub const STATS: u16 = 1 << 3;
}

/// What a meter does to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it unchanged.
    Pass,
    /// Raise its drop precedence by this much.
    Remark(u8),
    /// Drop it.
    Drop,
}

/// The token bucket of a band. A token is a millionth of a bit, or a billionth of a packet, so that
/// each nanosecond adds `rate` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    tokens: u128,
    packets: u64,
    bytes: u64,
}

/// One meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Its number.
    pub id: u32,
    /// OFPMF bits.
    pub flags: u16,
    /// Its bands, as the controller sent them.
    pub bands: Vec<Band>,
    /// Packets that entered it.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// When it was added.
    pub added: Time,
    buckets: Vec<Bucket>,
    filled: Time,
}

impl Meter {
    /// A meter with full buckets.
    pub fn new(id: u32, flags: u16, bands: Vec<Band>, now: Time) -> Meter {
        let mut meter =
            Meter { id, flags, bands, packets: 0, bytes: 0, added: now, buckets: Vec::new(), filled: now };
        meter.buckets =
            meter.bands.iter().map(|b| Bucket { tokens: meter.room(b), packets: 0, bytes: 0 }).collect();
        meter
    }

    /// Tokens that a packet costs, or a thousand bits of one.
    fn unit(&self) -> u128 {
        1_000_000_000
    }

    /// Capacity of a band's bucket in tokens: its burst size, or without one the tokens of a
    /// second. A packet larger than the capacity always exceeds the rate.
    fn room(&self, band: &Band) -> u128 {
        let burst = if self.flags & flag::BURST != 0 { band.burst_size } else { band.rate };
        u128::from(burst) * self.unit()
    }

    /// True when it may change a packet's DSCP.
    pub fn remarks(&self) -> bool {
        self.bands.iter().any(|b| matches!(b.kind, BandKind::DscpRemark(..)))
    }

    /// Packets and bytes that each band acted on.
    pub fn acted(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().map(|b| (b.packets, b.bytes))
    }

    /// Meters a packet of `bytes` bytes. Of the bands whose rate is exceeded the one with the
    /// highest rate acts (section 5.7.1).
    pub fn pass(&mut self, bytes: usize, now: Time) -> Verdict {
        let length = bytes as u64;
        self.packets += 1;
        self.bytes += length;
        let gained = now.since(self.filled).as_nanos();
        self.filled = self.filled.max(now);
        let cost =
            if self.flags & flag::PKTPS != 0 { self.unit() } else { u128::from(length) * 8 * 1_000_000 };
        let mut worst: Option<usize> = None;
        for at in 0..self.bands.len().min(self.buckets.len()) {
            let (rate, room) = (self.bands[at].rate, self.room(&self.bands[at]));
            let bucket = &mut self.buckets[at];
            bucket.tokens = room.min(bucket.tokens + gained * u128::from(rate));
            if bucket.tokens >= cost {
                bucket.tokens -= cost;
            } else if worst.is_none_or(|w| self.bands[w].rate < rate) {
                worst = Some(at);
            }
        }
        let Some(at) = worst else { return Verdict::Pass };
        self.buckets[at].packets += 1;
        self.buckets[at].bytes += length;
        match self.bands[at].kind {
            BandKind::DscpRemark(level, _) => Verdict::Remark(level),
            _ => Verdict::Drop,
        }
    }

    /// Time since it was added.
    pub fn age(&self, now: Time) -> Duration {
        now.since(self.added)
    }
}

/// All meters, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meters {
    list: Vec<Meter>,
    generation: u64,
}

impl Meters {
    /// The meters in ascending order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Meter> {
        self.list.iter()
    }

    /// Number of meters.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True without meters.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A meter by its number.
    pub fn get(&self, id: u32) -> Option<&Meter> {
        self.place(id).and_then(|at| self.list.get(at))
    }

    /// Index of a meter by its number.
    pub(super) fn place(&self, id: u32) -> Option<usize> {
        self.list.binary_search_by_key(&id, |m| m.id).ok()
    }

    /// The meter at this index.
    pub(super) fn at(&mut self, at: usize) -> Option<&mut Meter> {
        self.list.get_mut(at)
    }

    /// Adds a meter; it replaces one with the same number.
    pub(super) fn put(&mut self, meter: Meter) {
        match self.list.binary_search_by_key(&meter.id, |m| m.id) {
            Ok(at) => self.list[at] = meter,
            Err(at) => self.list.insert(at, meter),
        }
        self.generation += 1;
    }

    /// Removes a meter, or all without a number.
    pub(super) fn remove(&mut self, id: Option<u32>) {
        self.list.retain(|m| id.is_some_and(|id| id != m.id));
        self.generation += 1;
    }

    /// A number that changes whenever the meters do.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
