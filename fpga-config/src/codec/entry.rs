//! Wildcard rows and exact entries in a card's registers: writing, deleting, reading, and their
//! counters.
//!
//! A row is written to staging registers and committed by writing its number; reading a row uses
//! the same registers, so there is one user at a time. An exact entry has no commit: its valid bit
//! is cleared first and set last.

use super::action::{self, Action};
use super::hash;
use super::key::{self, Field, Key, Mask, Pattern};
use crate::profile::{FaultKey, FlowMap};
use crate::registers::{AccessError, Registers};

/// A wildcard row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it matches.
    pub pattern: Pattern,
    /// Its action.
    pub action: Action,
}

impl Row {
    /// The row that matches nothing; written in place of a deleted row.
    pub fn deleted() -> Row {
        Row { pattern: Pattern::exactly(Key::impossible()), action: Action::default() }
    }

    /// The row that drops exactly the frames for which a fault of the bitfile makes this key.
    pub fn guard(fault: FaultKey) -> Row {
        Row { pattern: Pattern::exactly(Key::of_fault(fault)), action: Action::default() }
    }

    /// The contents of a row after a reset: a key of zeros, all of which are compared.
    pub fn after_reset() -> Row {
        Row { pattern: Pattern::exactly(Key::default()), action: Action::default() }
    }

    /// Whether no packet can match it, since no queue has its source number.
    pub fn is_deleted(&self) -> bool {
        let Pattern { key, mask } = &self.pattern;
        mask.get(Field::SOURCE) == 0 && key.get(Field::SOURCE) == u64::from(key::NO_SOURCE)
    }

    /// The register writes that commit it to a row, in order; the last one takes effect at once.
    pub fn writes(&self, a: &FlowMap, row: u32) -> impl Iterator<Item = (u32, u32)> {
        let a = *a;
        let action = (0..).zip(self.action.words()).map(move |(n, w)| (a.action + 4 * n, w));
        let mask = (0..).zip(self.pattern.mask.0).map(move |(n, w)| (a.mask + 4 * n, w));
        let key = (0..).zip(self.pattern.key.0).map(move |(n, w)| (a.key + 4 * n, w));
        action.chain(mask).chain(key).chain([(a.write_row, row)])
    }

    /// Commits it to a row.
    ///
    /// # Errors When the card cannot be written. The row is unchanged then, unless the last write
    /// failed.
    pub fn commit(&self, a: &FlowMap, row: u32, card: &mut dyn Registers) -> Result<(), AccessError> {
        self.writes(a, row).try_for_each(|(address, value)| card.write32(address, value))
    }

    /// Reads a row. The contents of the staging registers are lost.
    ///
    /// When the card does not answer.
    pub fn read(a: &FlowMap, row: u32, card: &mut dyn Registers) -> Result<Row, AccessError> {
        card.write32(a.read_row, row)?;
        let mut action = [0; action::WORDS];
        for (n, word) in (0..).zip(&mut action) {
            *word = card.read32(a.action + 4 * n)?;
        }
        let (mut key, mut mask) = (Key::default(), Mask::default());
        for (n, word) in (0..).zip(&mut mask.0) {
            *word = card.read32(a.mask + 4 * n)?;
        }
        for (n, word) in (0..).zip(&mut key.0) {
            *word = card.read32(a.key + 4 * n)?;
        }
        Ok(Row { pattern: Pattern { key, mask }, action: Action::of_words(&action) })
    }
}

/// An exact entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact {
    /// Its key, without the valid bit.
    pub key: Key,
    /// Its action.
    pub action: Action,
}

/// The valid bit in the last word of the key.
const VALID: u32 = 1 << 31;
/// Offset of the counters in a row.
const COUNTERS: u32 = 0x20;
/// Offset of the action in a row.
const ACTION: u32 = 0x28;

/// The first word of an exact row.
const fn at_row(a: &FlowMap, row: u16) -> u32 {
    a.exact + row as u32 * a.exact_stride
}

/// The first of the two counter words of an exact row: packets and last-seen, then bytes.
pub const fn exact_counters(a: &FlowMap, row: u16) -> u32 {
    at_row(a, row) + COUNTERS
}

impl Exact {
    /// The two rows that it may be in, in the order of the card's look-up.
    pub fn rows(&self) -> [u16; 2] {
        hash::rows(&self.key)
    }

    /// The register writes of an entry, in the safe order: invalid, the body with counters of zero,
    /// valid.
    pub fn writes(&self, a: &FlowMap, row: u16) -> impl Iterator<Item = (u32, u32)> {
        let at = at_row(a, row);
        let Key(key) = self.key;
        let body = (0..).zip(key).take(7).map(move |(n, w)| (at + 4 * n, w));
        let action = (0..).zip(self.action.words()).map(move |(n, w)| (at + ACTION + 4 * n, w));
        let (last, top) = (at + 28, key[7] & !VALID);
        [(last, top)]
            .into_iter()
            .chain(body)
            .chain([(at + COUNTERS, 0), (at + COUNTERS + 4, 0)])
            .chain(action)
            .chain([(last, top | VALID)])
    }

    /// Writes an entry to one of its rows.
    ///
    /// # Errors When the card cannot be written. The row is invalid then, unless the first write
    /// failed.
    pub fn write(&self, a: &FlowMap, row: u16, card: &mut dyn Registers) -> Result<(), AccessError> {
        self.writes(a, row).try_for_each(|(address, value)| card.write32(address, value))
    }

    /// Invalidates an entry's row; its counters stay.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn delete(&self, a: &FlowMap, row: u16, card: &mut dyn Registers) -> Result<(), AccessError> {
        card.write32(at_row(a, row) + 28, self.key.0[7] & !VALID)
    }

    /// Reads a row; `None` when it is invalid. Counters are not read.
    ///
    /// When the card does not answer.
    pub fn read(a: &FlowMap, row: u16, card: &mut dyn Registers) -> Result<Option<Exact>, AccessError> {
        let at = at_row(a, row);
        let top = card.read32(at + 28)?;
        if top & VALID == 0 || crate::registers::is_no_answer(top) {
            return Ok(None);
        }
        let mut key = Key::default();
        for (n, word) in (0..).zip(&mut key.0).take(7) {
            *word = card.read32(at + 4 * n)?;
        }
        key.0[7] = top & !VALID;
        let mut action = [0; action::WORDS];
        for (n, word) in (0..).zip(&mut action) {
            *word = card.read32(at + ACTION + 4 * n)?;
        }
        Ok(Some(Exact { key, action: Action::of_words(&action) }))
    }
}
