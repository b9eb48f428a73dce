//! The registers that the model changes itself, and their values after a reset.

use super::Model;
use super::access::limiter_widths;
use super::path::Path;
use crate::device_id;
use crate::profile::Profile;

/// CONTROL of a PHY after its reset: autonegotiation, full duplex, 1000 Mbit/s.
pub(super) const PHY_CONTROL: u32 = 0x1140;

/// Indexes in [`Model::values`] of the first register of each block that counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) mac: [Option<usize>; 4],
    pub(super) cpu: [Option<usize>; 4],
    pub(super) phy: [Option<usize>; 4],
    /// Misses and hits of the wildcard rows, then of the exact table, then 8 drop counters.
    pub(super) lookup: Option<usize>,
    pub(super) seconds: Option<usize>,
    pub(super) arbiter: Option<usize>,
    pub(super) disable: Option<usize>,
    /// Bytes, packets, drops and words of each queue.
    pub(super) queues: Option<usize>,
    /// ENABLE_FLG, then COUNTER.
    pub(super) watchdog: Option<usize>,
    pub(super) bytes_hit: Option<usize>,
    pub(super) packets_hit: Option<usize>,
    pub(super) last_seen: Option<usize>,
    rows: usize,
    /// For each limiter its first register.
    limiters: Vec<usize>,
    device_id: Option<usize>,
}

/// Registers of a PHY in the profiles.
const PHY_REGISTERS: usize = 7;

impl Places {
    pub(super) fn of(profile: &Profile) -> Places {
        let at = |name: &str| profile.register(name).and_then(|r| place(profile, r.address));
        let port = |stem: &str| std::array::from_fn(|n| at(&format!("{stem}_{n}_CONTROL")));
        let map = profile.flow_table;
        Places {
            mac: port("MAC_GRP"),
            cpu: port("CPU_QUEUE"),
            phy: port("MDIO_PHY"),
            lookup: map.and_then(|m| place(profile, m.wildcard_misses)),
            seconds: map.and_then(|m| place(profile, m.seconds)),
            arbiter: at("IN_ARB_NUM_PKTS_SENT"),
            disable: at("BRAM_OQ_DISABLE_QUEUES"),
            queues: at("BRAM_OQ_QUEUE_0_NUM_PKT_BYTES_RECEIVED"),
            watchdog: profile.watchdog.and_then(|w| place(profile, w.enable)),
            bytes_hit: map.and_then(|m| place(profile, m.bytes_hit)),
            packets_hit: map.and_then(|m| place(profile, m.packets_hit)),
            last_seen: map.and_then(|m| place(profile, m.last_seen)),
            rows: map.map_or(0, |m| m.rows.into()),
            limiters: profile
                .rate_limiter
                .iter()
                .flat_map(|l| &l.at)
                .filter_map(|a| place(profile, *a))
                .collect(),
            device_id: place(profile, device_id::BASE),
        }
    }

    /// The PHY and the register at an index.
    pub(super) fn of_phy(&self, place: usize) -> Option<(usize, usize)> {
        let found = |first: &Option<usize>| first.is_some_and(|f| (f..f + PHY_REGISTERS).contains(&place));
        let port = self.phy.iter().position(found)?;
        Some((port, place - self.phy.get(port).copied().flatten()?))
    }

    /// Whether an access to the register restarts the watchdog: the input arbiter's and its own do.
    pub(super) fn kicks(&self, place: usize) -> bool {
        self.arbiter.is_some_and(|a| (a..a + 8).contains(&place))
            || self.watchdog.is_some_and(|w| (w..w + 2).contains(&place))
    }

    /// True for the packet and byte counters of rows.
    pub(super) fn is_row_counter(&self, place: usize) -> bool {
        [self.bytes_hit, self.packets_hit]
            .iter()
            .flatten()
            .any(|first| (*first..first + self.rows).contains(&place))
    }

    /// Whether the register is the number of words in an output queue.
    pub(super) fn counts_words(&self, place: usize) -> bool {
        self.queues.is_some_and(|q| (q..q + 32).contains(&place) && (place - q) % 4 == 3)
    }

    /// The width of a rate limiter's register.
    pub(super) fn limited(&self, place: usize, profile: &Profile) -> Option<u32> {
        let widths = limiter_widths(profile.rate_limiter.as_ref()?.kind);
        self.limiters.iter().find_map(|first| widths.get(place.checked_sub(*first)?)).copied()
    }
}

fn place(profile: &Profile, address: u32) -> Option<usize> {
    profile.registers.binary_search_by_key(&address, |r| r.address).ok()
}

impl Model {
    /// Resets the user FPGA: counters, rows, everything.
    pub(super) fn reset_user(&mut self) {
        self.values.fill(0);
        self.reset = self.now;
        self.kicked = self.now;
        self.held = Default::default();
        self.rest = false;
        self.path = self.path.take().map(Path::reset);
        self.arbiter_stands(false, true);
        self.busy = [false; 4];
        for first in self.places.phy.into_iter().flatten() {
            self.put(first, PHY_CONTROL);
            self.put(first + 2, 0x0020);
            self.put(first + 3, 0x60b1);
        }
        if let (Some(id), Some(first)) = (&self.device_id, self.places.device_id) {
            for (i, word) in id.words().into_iter().enumerate() {
                self.put(first + i, word);
            }
        }
        if let Some(tables) = &mut self.tables {
            tables.flush(self.now);
        }
        self.reset_generator();
    }

    /// The watchdog's effect: the tables are as after a reset, all else is unchanged. The rows
    /// count as hit now, as after a commit.
    pub(super) fn flush(&mut self) {
        let second = self.second();
        if let Some(first) = self.places.last_seen {
            for place in first..first + self.places.rows {
                self.put(place, second);
            }
        }
        if let Some(tables) = &mut self.tables {
            tables.flush(self.now);
        }
    }
}
