//! The entries of the exact table: their rows and their counts.
//!
//! An entry beats every row, so it is kept only while its action is that of the whole flow table
//! for its key. There are two kinds: entries for OpenFlow 1.0 matches without wildcards, which stay
//! as long as their flow; and entries for packets that software has forwarded by a rule without a
//! row, which are removed when they are idle.

use crate::codec::entry::{Exact, exact_counters};
use crate::codec::{Action, Key};
use crate::counters::{ExactCounter, last_seen};
use crate::profile::FlowMap;
use crate::registers::{AccessError, Registers};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::Time;

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// Its row.
    pub row: u16,
    /// Its action.
    pub action: Action,
    /// The flow that its packets count for; `None` for one that was found on the card, or that
    /// sends to software.
    pub flow: Option<u64>,
    /// It stays as long as its flow.
    pub permanent: bool,
    /// Time of its last use, or of its making.
    pub used: Time,
    counter: ExactCounter,
}

/// The counts of an entry since the last reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delta {
    pub packets: u64,
    pub bytes: u64,
    /// In whole seconds of the card's clock.
    pub last_seen: u32,
}

/// All entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    by_key: BTreeMap<Key, Live>,
    by_row: BTreeMap<u16, Key>,
    /// The row after which the next sweep continues.
    cursor: Option<u16>,
}

impl Entries {
    pub(super) fn get(&self, key: &Key) -> Option<&Live> {
        self.by_key.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Live> {
        self.by_key.get_mut(key)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Live)> {
        self.by_key.iter()
    }

    pub(super) fn clear(&mut self) {
        *self = Entries::default();
    }

    /// A free row for an entry with this key, the first of both if possible.
    pub(super) fn free(&self, entry: &Exact, map: &FlowMap) -> Option<u16> {
        let there = |row: &u16| u32::from(*row) < map.exact_rows;
        entry.rows().into_iter().filter(there).find(|row| !self.by_row.contains_key(row))
    }

    /// An entry that may be replaced by one with this key: the least recently used one that belongs
    /// to a packet.
    pub(super) fn dispensable(&self, entry: &Exact) -> Option<Key> {
        let held = entry.rows().into_iter().filter_map(|row| self.by_row.get(&row));
        let loose =
            held.filter_map(|key| self.by_key.get(key).filter(|l| !l.permanent).map(|l| (l.used, *key)));
        loose.min().map(|(_, key)| key)
    }

    /// Writes an entry into a row.
    pub(super) fn write(
        &mut self,
        entry: &Exact,
        row: u16,
        (flow, permanent): (Option<u64>, bool),
        now: Time,
        map: &FlowMap,
        card: &mut dyn Registers,
    ) -> Result<(), AccessError> {
        entry.write(map, row, card)?;
        let live =
            Live { row, action: entry.action, flow, permanent, used: now, counter: ExactCounter::new() };
        self.by_row.insert(row, entry.key);
        if let Some(old) = self.by_key.insert(entry.key, live) {
            self.by_row.remove(&old.row);
        }
        Ok(())
    }

    /// Records an entry found on the card. Its counters are read, which clears them.
    pub(super) fn found(
        &mut self,
        entry: &Exact,
        row: u16,
        now: Time,
        map: &FlowMap,
        card: &mut dyn Registers,
    ) -> Result<(), AccessError> {
        if self.by_key.contains_key(&entry.key) {
            // Both rows have the key: an entry was being replaced. One is enough.
            return entry.delete(map, row, card);
        }
        let mut live = Live {
            row,
            action: entry.action,
            flow: None,
            permanent: false,
            used: now,
            counter: ExactCounter::new(),
        };
        live.read(map, card)?;
        card.read32(exact_counters(map, row) + 4)?;
        self.by_row.insert(row, entry.key);
        self.by_key.insert(entry.key, live);
        Ok(())
    }

    /// Invalidates an entry, and returns its counts.
    pub(super) fn delete(
        &mut self,
        key: &Key,
        map: &FlowMap,
        card: &mut dyn Registers,
    ) -> Result<Option<(Live, Option<Delta>)>, AccessError> {
        let Some(live) = self.by_key.get(key) else { return Ok(None) };
        Exact { key: *key, action: live.action }.delete(map, live.row, card)?;
        let Some(mut live) = self.by_key.remove(key) else { return Ok(None) };
        if self.by_row.get(&live.row) == Some(key) {
            self.by_row.remove(&live.row);
        }
        let delta = live.read(map, card)?;
        Ok(Some((live, delta)))
    }

    /// Invalidates an entry's copy in its other row, after [`Entries::write`] has replaced it.
    pub(super) fn delete_row(
        old: &mut Live,
        key: &Key,
        map: &FlowMap,
        card: &mut dyn Registers,
    ) -> Result<Option<Delta>, AccessError> {
        Exact { key: *key, action: old.action }.delete(map, old.row, card)?;
        old.read(map, card)
    }

    /// The keys of the next `most` entries in the order of rows, cyclically.
    pub(super) fn next(&mut self, most: usize) -> Vec<Key> {
        let after = self.cursor.map_or(0, |row| row.saturating_add(1));
        let round = self.by_row.range(after..).chain(self.by_row.range(..after));
        let taken: Vec<(u16, Key)> = round.take(most).map(|(row, key)| (*row, *key)).collect();
        if let Some((row, _)) = taken.last() {
            self.cursor = Some(*row);
        }
        taken.into_iter().map(|(_, key)| key).collect()
    }
}

impl Live {
    /// Reads the counters, which clears them: one register if nothing was counted, two otherwise.
    pub(super) fn read(
        &mut self,
        map: &FlowMap,
        card: &mut dyn Registers,
    ) -> Result<Option<Delta>, AccessError> {
        let at = exact_counters(map, self.row);
        let word = card.read32(at)?;
        let counted = self.counter.read(word, 0);
        if counted.packets == 0 {
            return Ok(None);
        }
        let bytes = card.read32(at + 4)?.into();
        Ok(Some(Delta { packets: counted.packets, bytes, last_seen: counted.last_seen.into() }))
    }
}

/// The time of an entry's last packet: never too early, at most two seconds too late.
pub(super) fn when(now: Time, clock: u32, seen: u32) -> Time {
    // Both are whole seconds, so that the true age is more than their difference minus one.
    let age = u64::from(clock.saturating_sub(seen).saturating_sub(1));
    Time(now.0.saturating_sub(u64::try_from(Duration::from_secs(age).as_nanos()).unwrap_or(u64::MAX)))
}

/// The second of an entry's last use, from its 7 bits.
pub(super) fn second(clock: u32, low: u32) -> u32 {
    last_seen(clock, low as u8 & 0x7f)
}
