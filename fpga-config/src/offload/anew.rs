//! Resets: the card's counts are read before, and everything is written again after.

use super::{CounterDelta, Offload, OffloadError, Report, Seen, find};
use crate::codec::entry::Exact;
use crate::codec::{Field, Key};
use crate::offload::select::Choice;
use crate::registers::Registers;
use tandem_model::Time;

/// The most exact entries of packets that are written again at once: those used last. The others
/// follow with their next packet. Each takes 20 register writes.
const AGAIN: usize = 512;

impl Offload {
    /// Reads all counts that no sweep has read: two registers per row and one or two per exact
    /// entry. To be called before a reset.
    ///
    /// When the card does not answer; counts that were read before are in the next sweep.
    pub fn sweep_all(
        &mut self,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Vec<CounterDelta>, OffloadError> {
        let flows = self.rules.iter().map(|r| r.id).collect();
        self.sweep_flows(&flows, now, card)
    }

    /// The card was reset and has lost its rows and exact entries. The next `sync` reads its rows
    /// and writes everything again, with the exact entries of packets that were used last. Earlier
    /// use decides which rules get rows.
    pub fn was_reset(&mut self) {
        let mut loose: Vec<(Time, Key)> =
            self.entries.iter().filter(|(_, live)| !live.permanent).map(|(key, l)| (l.used, *key)).collect();
        loose.sort_unstable();
        self.again = loose.into_iter().rev().take(AGAIN).map(|(_, key)| key).collect();
        self.entries.clear();
        self.emptied = true;
        self.lost = true;
        self.generation = None;
    }

    /// After all other writes: the entries that are still right.
    pub(super) fn write_again(
        &mut self,
        now: Time,
        card: &mut dyn Registers,
        report: &mut Report,
    ) -> Result<(), OffloadError> {
        for key in std::mem::take(&mut self.again) {
            let ingress = (key.get(Field::SOURCE) / 2) as u8;
            if self.entries.get(&key).is_none() && self.make(key, ingress, now, card)? == Seen::Made {
                report.exact_written += 1;
            }
        }
        Ok(())
    }

    /// Makes an exact entry for a key that matches a rule without a row.
    pub(super) fn make(
        &mut self,
        key: Key,
        ingress: u8,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Seen, OffloadError> {
        let Some((action, flow)) = self.entry_for(&key, ingress) else { return Ok(Seen::Nothing) };
        let chosen = find(&self.index, flow).and_then(|at| self.choices.get(at));
        if !matches!(chosen, Some(Choice::None(_) | Choice::Punt(_))) {
            return Ok(Seen::Nothing);
        }
        let entry = Exact { key, action };
        let Some(row) = self.room_for(&entry, now, card)? else { return Ok(Seen::Full) };
        self.entries.write(&entry, row, (Some(flow), false), now, &self.map, card)?;
        Ok(Seen::Made)
    }
}
