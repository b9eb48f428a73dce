//! Transfers of different priorities share the links that they have in common, by weight.
//!
//! A transfer takes what its path has free when it begins, so the first one has all of a link and the
//! next nothing. One of higher priority does not wait: on every link of its path those of lower
//! priority yield so much that each has its weight's part (weighted max-min on that link, Bertsekas and
//! Gallager, Data Networks, 6.5.2). What they yielded they get back with the progress that they report,
//! once nobody of higher priority is on their path. Among equals nothing changes.

use crate::compute::moves::Migration;
use crate::migration::transfer::LEAST;
use crate::migration::{MigrationMut, MigrationRef};
use std::collections::BTreeMap;
use tandem_model::paths::Path;
use tandem_model::{BitRate, Effect, Hop, MigrationId, MovePriority, ServerId};

/// Transfers that yield, with what each keeps and what it had.
pub(crate) type Yields = Vec<(MigrationId, BitRate, BitRate)>;

fn part(of: u64, weight: u64, all: u64) -> u64 {
    (u128::from(of) * u128::from(weight) / u128::from(all.max(1))) as u64
}

impl<'a> MigrationRef<'a> {
    fn transfers_on(self, hop: Hop) -> impl Iterator<Item = &'a Migration> {
        let open = self.compute.migrations.open.values();
        open.filter(move |m| !m.settled && m.reserved.0 > 0 && m.record.path.contains(&hop))
    }

    /// True while a transfer of higher priority is on one of a migration's links.
    pub(crate) fn yields_to_another(self, id: MigrationId) -> bool {
        let Some(own) = self.compute.migrations.open.get(&id) else { return false };
        let priority = own.record.priority;
        own.record.path.iter().any(|hop| self.transfers_on(*hop).any(|m| m.record.priority > priority))
    }

    /// Who yields how much to a transfer of this priority that begins between these servers.
    pub(crate) fn yields_on_the_way(self, ends: (ServerId, ServerId), priority: MovePriority) -> Yields {
        if self.compute.migrations.open.values().all(|m| m.record.priority >= priority) {
            return Yields::new();
        }
        let way = self.transfer_path(ends.0, ends.1, None);
        way.map(|(path, _)| self.yields(&path, priority)).unwrap_or_default()
    }

    fn yields(self, path: &Path, priority: MovePriority) -> Yields {
        let lower = |hop: Hop| self.transfers_on(hop).filter(move |m| m.record.priority < priority);
        let weights = |hop: Hop| lower(hop).map(|m| m.record.priority.weight()).sum::<u64>();
        let free = |hop: Hop| self.net.links.residual(hop).unwrap_or_default().0;
        let pool = |hop: Hop| lower(hop).fold(free(hop), |sum, m| sum.saturating_add(m.reserved.0));
        let fair = |hop: Hop| {
            let all = weights(hop) + priority.weight();
            part(pool(hop), priority.weight(), all).max(free(hop))
        };
        let most = self.cx.site.migration.rate.0;
        let wanted = path.iter().map(|hop| fair(*hop)).fold(most, u64::min);
        let mut keeps: BTreeMap<MigrationId, (u64, u64)> = BTreeMap::new();
        for hop in path.iter().copied().filter(|hop| free(*hop) < wanted) {
            let (rest, all) = (pool(hop).saturating_sub(wanted), weights(hop));
            for m in lower(hop) {
                let has = m.reserved.0;
                let least = LEAST.0.min(has);
                let share = part(rest, m.record.priority.weight(), all).clamp(least, has);
                let keep = keeps.entry(m.record.id).or_insert((share, has));
                keep.0 = keep.0.min(share);
            }
        }
        let less = keeps.into_iter().filter(|(_, (keep, has))| keep < has);
        less.map(|(id, (keep, has))| (id, BitRate(keep), BitRate(has))).collect()
    }
}

impl MigrationMut<'_> {
    /// Takes what others yield, in the books only.
    pub(crate) fn take_yields(&mut self, yields: &Yields) {
        for (id, keep, _) in yields {
            self.reserve_again(*id, *keep);
        }
    }

    /// Gives it back: the transfer that it was for does not begin.
    pub(crate) fn return_yields(&mut self, yields: &Yields) {
        for (id, _, had) in yields {
            self.reserve_again(*id, *had);
        }
    }

    /// Those who yield are told, and remember what they had.
    pub(crate) fn tell_yields(&mut self, yields: &Yields) {
        for (id, keep, had) in yields {
            let Some(m) = self.compute.migrations.open.get_mut(id) else { continue };
            m.yielded = m.yielded.max(Some(*had));
            if m.ordered {
                self.cx.effects.push(Effect::SetMigrationRate { migration: *id, rate: *keep });
            }
        }
    }

    fn reserve_again(&mut self, id: MigrationId, rate: BitRate) {
        let path = self.compute.migrations.open.get(&id).map(|m| m.record.path.clone());
        if let Some(path) = path {
            self.reserve_transfer(id, path, rate);
        }
    }
}
