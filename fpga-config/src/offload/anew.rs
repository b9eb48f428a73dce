//! A card that was reset: what it counted is read before, everything is written anew after.

use super::{CounterDelta, Offload, OffloadError, Report, Seen, find};
use crate::codec::entry::Exact;
use crate::codec::{Field, Key};
use crate::offload::select::Choice;
use crate::registers::Registers;
use tandem_model::Time;

/// How many of the exact entries that packets have caused are written anew at once, the last used
/// ones. The others come with their next packet, as they did before. Each takes 20 register writes.
const AGAIN: usize = 512;

impl Offload {
    /// Reads all that was counted and not yet given to a sweep: two registers per row and one or
    /// two per exact entry. Call it before a reset.
    ///
    /// # Errors
    /// When the card cannot be asked; what was read before is given by the next sweep.
    pub fn sweep_all(
        &mut self,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Vec<CounterDelta>, OffloadError> {
        let flows = self.rules.iter().map(|r| r.id).collect();
        self.sweep_flows(&flows, now, card)
    }

    /// The card was reset: no row and no exact entry is what was written. The next `sync` reads its
    /// rows and writes everything again, with the exact entries that packets caused and used last.
    /// Which rules get rows is decided by what was used before.
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

    /// After everything else: the entries that are still right.
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

    /// Makes an exact entry for a key that a rule without a row decides.
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
