//! A migration's own traffic: its path, its rules, and the rate that it may have.
//!
//! It goes from server to server on the one of the shortest paths that the policy takes (the least
//! loaded one), in the migrations' class, with exact rules both ways. The rate is a cap, reserved
//! on the path: at first the site's `[migration] rate` or what the path has free, whichever is
//! less. While it runs, the cap goes down when others load a link of the path, and up by steps of
//! 50 Mbit/s a round (Clark et al., NSDI 2005, section 5.3) when the VM dirties its memory nearly
//! as fast, as far as the path has room.

use crate::compute::moves::Rounds;
use crate::migration::{MigrationMut, MigrationRef, policies};
use crate::network::path_tree;
use crate::rules::desired::RuleSet;
use crate::rules::owners::transfer_owner;
use crate::rules::{building_blocks, pairwise, transactions};
use tandem_model::paths::Path;
use tandem_model::{
    BitRate, Bytes, ClassId, Cookie, Effect, Hop, MigrationId, MigrationMode, NodeId, Phase, Progress,
    ServerId, paths,
};

/// Clark's step.
pub(crate) const STEP: BitRate = BitRate::mbit(50);

/// No cap is lower: a transfer that stands still would only hold its place.
pub(crate) const LEAST: BitRate = BitRate::mbit(1);

/// So many shortest paths are looked at.
pub(crate) const PATHS: usize = 64;

/// After so many rounds in a row that did not get smaller, a transfer does not converge.
pub(crate) const STUCK: u32 = 3;

impl<'a> MigrationRef<'a> {
    /// The class of migrations: the site's, or the one with the smallest share.
    pub(crate) fn migration_class(self) -> Option<ClassId> {
        let smallest = || {
            let all = (0u16..).zip(&self.cx.site.classes);
            all.min_by(|(_, a), (_, b)| a.share.total_cmp(&b.share)).map(|(n, _)| ClassId(n))
        };
        self.cx.site.migration.class.or_else(smallest)
    }

    /// A path for the traffic of a migration, and what is free on it. Two migrations between the
    /// same two servers have the same rules, so they share one path.
    pub(crate) fn transfer_path(
        self,
        from: ServerId,
        to: ServerId,
        but: Option<MigrationId>,
    ) -> Option<(Path, BitRate)> {
        let topology = &self.cx.site.topology;
        let others = self.compute.migrations.open.values().filter(|m| Some(m.record.id) != but && !m.settled);
        let known = others.map(|m| &m.record).find_map(|r| match (r.from.server, r.to.server) {
            (a, b) if (a, b) == (from, to) => Some(r.path.clone()),
            (a, b) if (b, a) == (from, to) => Some(path_tree::reversed(&r.path)),
            _ => None,
        });
        // A broken one is mended by the first of them that looks.
        if let Some(path) = known.filter(|p| p.iter().all(|hop| self.net.links.is_usable(hop.link))) {
            let free = self.free_on(&path)?;
            return Some((path, free));
        }
        let primary = |server: ServerId| topology.server(server).and_then(|s| s.uplinks.first()).copied();
        let (a, b) = (NodeId::Server(from), NodeId::Server(to));
        let usable = |hop: Hop| {
            let own = |node: Option<NodeId>| match node {
                Some(NodeId::Server(s)) => primary(s) == Some(hop.link),
                _ => true,
            };
            own(paths::tail(topology, hop))
                && own(paths::head(topology, hop))
                && self.net.links.is_usable(hop.link)
                && self.net.live.path_is_attended(&self.net.links, &[hop])
        };
        let shortest = paths::all_shortest(topology, a, b, PATHS, usable);
        let view = policies::View { compute: self.compute(), inventory: &self.compute.inventory };
        self.best_way(&view, &self.net.links, shortest.into_iter())
    }

    pub(crate) fn free_on(self, path: &[Hop]) -> Option<BitRate> {
        path.iter()
            .map(|hop| self.net.links.residual(*hop))
            .try_fold(BitRate(u64::MAX), |least, left| Some(least.min(left?)))
    }

    /// The rules of a migration's own traffic.
    pub(crate) fn transfer_rules(self, id: MigrationId) -> RuleSet {
        let Some(m) = self.compute.migrations.open.get(&id).filter(|m| !m.settled) else {
            return RuleSet::new();
        };
        let marking = building_blocks::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        let cookie = Cookie::new(transfer_owner(id), 0);
        let ends = (m.record.from.server, m.record.to.server);
        pairwise::migration(marking, ends, &m.record.path, self.migration_class(), cookie)
    }
}

impl MigrationMut<'_> {
    /// Rules that choose queues, or no longer do, for all migrations' own traffic.
    pub(crate) fn mark_transfers_anew(&mut self) {
        let ids: Vec<MigrationId> = self.compute.migrations.open.keys().copied().collect();
        for id in ids {
            // Only what is there already: what is not, comes with its phase.
            if self.rules.desired.of(transfer_owner(id)).is_some() {
                let rules = self.migration().transfer_rules(id);
                let (_, differences) = self.rules.desired.replace(transfer_owner(id), rules);
                self.compute_mut().start_change(transactions::Purpose::Upkeep, differences, &[]);
            }
        }
    }

    /// Another path for the traffic of a migration whose path is broken. Where there is none it
    /// waits: without progress it is given up.
    pub(crate) fn mend_transfer(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get(&id) else { return };
        let wanted = matches!(m.record.phase, Phase::Prepare | Phase::Transfer | Phase::SwitchOver);
        if !wanted || m.record.path.iter().all(|hop| self.net.links.is_usable(hop.link)) {
            return;
        }
        let (from, to) = (m.record.from.server, m.record.to.server);
        let Some((path, free)) = self.migration().transfer_path(from, to, Some(id)) else { return };
        let rate = free.min(self.cx.site.migration.rate);
        self.set_transfer_rate(id, path, rate.max(BitRate(1)));
        let rules = self.migration().transfer_rules(id);
        let (_, differences) = self.rules.desired.replace(transfer_owner(id), rules);
        self.compute_mut().start_change(transactions::Purpose::Upkeep, differences, &[]);
    }

    pub(crate) fn set_transfer_rate(&mut self, id: MigrationId, path: Path, rate: BitRate) {
        let Some(m) = self.compute.migrations.open.get(&id) else { return };
        let (changed, ordered) = (m.record.rate != rate, m.ordered);
        self.reserve_transfer(id, path, rate);
        if changed && ordered {
            self.cx.effects.push(Effect::SetMigrationRate { migration: id, rate });
        }
    }

    /// Takes in how far a transfer is: its cap follows, and one that does not converge is given up.
    pub(crate) fn adapt(&mut self, id: MigrationId, progress: Progress) {
        let site = self.cx.site.clone();
        let yields = self.migration().yields_to_another(id);
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        let begins = progress.round > m.rounds.round;
        let before = m.rounds;
        if begins {
            let smaller = progress.remaining.0 < before.to_send.0 / 10 * 9;
            let short = Bytes(
                u64::try_from(u128::from(m.record.rate.0) * site.migration.downtime.as_millis() / 8000)
                    .unwrap_or(u64::MAX),
            );
            let stuck = if before.round == 0 || smaller || progress.remaining <= short {
                0
            } else {
                before.stuck + 1
            };
            m.rounds = Rounds { round: progress.round, to_send: progress.remaining, stuck };
        }
        let yielded = m.yielded;
        let (rate, path, stuck, force) =
            (m.record.rate, m.record.path.clone(), m.rounds.stuck, m.record.force);
        let live = m.record.manner == MigrationMode::Live;
        // What is measured lags behind what is sent: the higher of the two is its own.
        let own = rate.max(progress.rate);
        let reserved = m.reserved;
        // A path with a link that is down has no more than it has: it is mended, or given up.
        let free = path
            .iter()
            .map(|hop| self.net.links.residual_without(*hop, reserved, own))
            .try_fold(site.migration.rate, |least, left| Some(least.min(left?)))
            .unwrap_or(rate);
        let wanted = if begins && live && progress.dirty.saturating_add(STEP) > rate {
            rate.saturating_add(STEP)
        } else {
            rate
        };
        let wanted = if yields { wanted.min(rate) } else { wanted.max(yielded.unwrap_or_default()) };
        let cap = wanted.min(free).max(LEAST.min(rate));
        // Small steps down are the noise of measuring.
        if cap > rate || cap.0 < rate.0 / 20 * 19 {
            self.set_transfer_rate(id, path, cap);
        }
        if let Some(m) = self.compute.migrations.open.get_mut(&id)
            && m.yielded.is_some_and(|had| !yields && cap >= had)
        {
            m.yielded = None;
        }
        if live && stuck >= STUCK && cap <= rate && !force {
            let why = format!(
                "it does not converge: {} are dirtied while {} are sent, and its path has no more free; move it with force, or cold",
                progress.dirty, cap
            );
            self.undo_move(id, &why);
        }
    }
}
