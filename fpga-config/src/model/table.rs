//! The model's look-up: wildcard rows behind staging registers, and the exact table in SRAM, stored
//! sparsely.

use crate::codec::{Action, Key, Mask, Pattern, hash};
use crate::profile::FlowMap;
use std::collections::BTreeMap;
use tandem_model::Time;

/// Words of a row or entry's action.
const ACTION: usize = 10;

/// Rows hold 24 bits of word 7 of keys and masks; the staging registers 32.
const TOP: u32 = 0x00ff_ffff;

/// The valid bit of an exact entry, in word 7.
const VALID: u32 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    pattern: Pattern,
    action: [u32; ACTION],
}

/// A row after a reset: an all-zero key that must match exactly.
const ZERO: Row = Row { pattern: Pattern { key: Key([0; 8]), mask: Mask([0; 8]) }, action: [0; ACTION] };

impl Row {
    /// The bits of the staging registers that a row stores.
    fn held(mut self) -> Row {
        self.pattern.key.0[7] &= TOP;
        self.pattern.mask.0[7] &= TOP;
        self
    }
}

/// The effect of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// The address does not belong to the tables.
    Elsewhere,
    /// The register was written.
    Done,
    /// This row was committed.
    Row(usize),
}

/// The result of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// An exact entry decided.
    pub(super) exact: bool,
    /// The row that matches; it decided unless an exact entry did.
    pub(super) row: Option<usize>,
    /// The action; `None` when nothing matched.
    pub(super) action: Option<Action>,
}

#[derive(Debug, Clone)]
pub(super) struct Tables {
    map: FlowMap,
    rows: Vec<Row>,
    staging: Row,
    /// The last value of READ_ADDR. WRITE_ADDR stores nothing.
    read_row: u32,
    /// Rows of 32 words that are not all zero. A row of SRAM takes memory once written.
    exact: BTreeMap<u16, Box<[u32; 32]>>,
    /// When the clearing of the exact table began.
    pub(super) cleared: Time,
}

impl Tables {
    pub(super) fn new(map: &FlowMap) -> Tables {
        Tables {
            map: *map,
            rows: vec![ZERO; usize::from(map.rows)],
            staging: ZERO,
            read_row: 0,
            exact: BTreeMap::new(),
            cleared: Time::ZERO,
        }
    }

    /// Resets everything, and starts clearing the exact table at `now`.
    pub(super) fn flush(&mut self, now: Time) {
        *self = Tables { cleared: now, ..Tables::new(&self.map) };
    }

    pub(super) fn exact_rows_in_memory(&self) -> usize {
        self.exact.len()
    }

    /// The row and word of the exact table at an address.
    fn exact_place(&self, address: u32) -> Option<(u16, usize)> {
        let offset = address.checked_sub(self.map.exact)?;
        let row = offset / self.map.exact_stride;
        let word = (offset % self.map.exact_stride / 4) as usize;
        let row = u16::try_from(row).ok().filter(|r| u32::from(*r) < self.map.exact_rows)?;
        (word < 32).then_some((row, word))
    }

    /// True for addresses of the exact table.
    pub(super) fn has(&self, address: u32) -> bool {
        self.exact_place(address).is_some()
    }

    /// The row for a number written to READ_ADDR or WRITE_ADDR: only as many bits are used as there
    /// are rows.
    fn row(&self, value: u32) -> usize {
        value as usize % self.rows.len().max(1)
    }

    fn staged(&mut self, address: u32) -> Option<&mut u32> {
        let word = |first: u32| address.checked_sub(first).map(|o| (o / 4) as usize);
        let Row { pattern: Pattern { key, mask }, action } = &mut self.staging;
        if let Some(to) = word(self.map.action).and_then(|w| action.get_mut(w)) {
            return Some(to);
        }
        if let Some(to) = word(self.map.mask).and_then(|w| mask.0.get_mut(w)) {
            return Some(to);
        }
        word(self.map.key).and_then(|w| key.0.get_mut(w))
    }

    /// A register of the tables, if the address is one.
    pub(super) fn read(&mut self, address: u32) -> Option<u32> {
        if let Some((row, word)) = self.exact_place(address) {
            let Some(words) = self.exact.get_mut(&row) else {
                return Some(0);
            };
            let to = words.get_mut(word)?;
            let value = *to;
            // The address of the counters is compared without its highest bit, and the byte with
            // the time is kept.
            match word {
                8 | 24 => *to &= 0xff00_0000,
                9 | 25 => *to = 0,
                _ => {}
            }
            return Some(value);
        }
        if address == self.map.read_row {
            return Some(self.read_row);
        }
        if address == self.map.write_row {
            return Some(0);
        }
        self.staged(address).map(|v| *v)
    }

    /// Writes a register of the tables, if the address is one.
    pub(super) fn write(&mut self, address: u32, value: u32) -> Wrote {
        if let Some((row, word)) = self.exact_place(address) {
            if value != 0 || self.exact.contains_key(&row) {
                let words = self.exact.entry(row).or_insert_with(|| Box::new([0; 32]));
                if let Some(to) = words.get_mut(word) {
                    *to = value;
                }
            }
            return Wrote::Done;
        }
        let row = self.row(value);
        if address == self.map.read_row {
            self.read_row = value;
            if let Some(row) = self.rows.get(row) {
                self.staging = *row;
            }
            return Wrote::Done;
        }
        if address == self.map.write_row {
            if let Some(to) = self.rows.get_mut(row) {
                *to = self.staging.held();
            }
            return Wrote::Row(row);
        }
        match self.staged(address) {
            Some(to) => {
                *to = value;
                Wrote::Done
            }
            None => Wrote::Elsewhere,
        }
    }

    /// Looks up a frame of this length by its key, and counts in the exact entry. While the exact
    /// table is being cleared it has no entries.
    pub(super) fn look_up(&mut self, key: &Key, bytes: u32, second: u32, clearing: bool) -> Verdict {
        let row = self.rows.iter().position(|r| r.pattern.matches(key));
        if !clearing && !self.exact.is_empty() {
            for at in hash::rows(key) {
                let Some(words) = self.exact.get_mut(&at) else { continue };
                let same =
                    words.iter().zip(key.0).take(7).all(|(a, b)| *a == b) && words[7] == key.0[7] | VALID;
                if !same {
                    continue;
                }
                let packets = (words[8] & 0x01ff_ffff).wrapping_add(1) & 0x01ff_ffff;
                words[8] = second << 25 | packets;
                words[9] = words[9].wrapping_add(bytes);
                let mut action = [0; ACTION];
                action.copy_from_slice(&words[10..20]);
                return Verdict { exact: true, row, action: Some(Action::of_words(&action)) };
            }
        }
        let action = row.and_then(|r| self.rows.get(r)).map(|r| Action::of_words(&r.action));
        Verdict { exact: false, row, action }
    }
}
