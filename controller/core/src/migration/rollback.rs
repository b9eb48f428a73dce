//! Back: a migration that failed or was cancelled before the switch-over leaves everything as it
//! was. And its end, well or not.

use crate::compute::moves::{ActivePlaces, MigrationView, REMEMBERED};
use crate::compute::pending_writes::STORE_RETRY;
use crate::compute::vm;
use crate::migration::MigrationMut;
use crate::migration::policies::Place;
use crate::rules::desired::RuleSet;
use crate::rules::owners::transfer_owner;
use crate::rules::transactions::Purpose;
use crate::timers::Timer;
use std::collections::BTreeSet;
use tandem_model::{
    Effect, Level, LinkId, MigrationEnd, MigrationId, NodeId, Phase, Response, ServerId, SiteEvent, VmState,
};

impl MigrationMut<'_> {
    /// Gives a migration up, if that can still be: at once, or when the hypervisors say that they
    /// have.
    pub(crate) fn undo_move(&mut self, id: MigrationId, why: &str) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        if m.is_over() || m.record.phase == Phase::Undo {
            return;
        }
        m.record.phase = Phase::Undo;
        m.why = Some(why.to_owned());
        self.cx.dirty.migrations = true;
        if m.ordered {
            // A restart must not begin it again.
            self.write_move(id);
            return self.order_cancel(id);
        }
        self.settle_undo(id);
    }

    pub(crate) fn order_cancel(&mut self, id: MigrationId) {
        let now = self.cx.now;
        let timeout = self.cx.site.migration.timeout;
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        m.last_progress_at = now;
        let (vm, from, to) = (m.record.vm, m.record.from.server, m.record.to.server);
        self.cx.timers.set(now + timeout, Timer::MoveTimeout(id));
        if self.compute.world.is_some() {
            self.cx.effects.push(Effect::CancelMigration { migration: id, vm, from, to });
        }
    }

    /// The rules of the old place only, again.
    fn settle_undo(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        (m.record.phase, m.reach, m.ordered) = (Phase::Undo, ActivePlaces::Old, false);
        let vm = m.record.vm;
        self.cx.dirty.migrations = true;
        self.expect_at(vm);
        let mut wishes = self.migration().both_wanted(vm);
        wishes.push((transfer_owner(id), RuleSet::new(), RuleSet::new()));
        self.want(id, Purpose::MoveSettle(id), wishes);
    }

    pub(crate) fn on_migration_failed(&mut self, id: MigrationId, at: Option<ServerId>, why: &str) {
        let Some(m) = self.compute.migrations.open.get_mut(&id).filter(|m| m.ordered) else { return };
        if at == Some(m.record.to.server) {
            return self.on_vm_moved(id, None);
        }
        let (vm, lost) = (m.record.vm, at != Some(m.record.from.server));
        m.why.get_or_insert_with(|| why.to_owned());
        if lost {
            (m.lost, m.why) = (true, Some(why.to_owned()));
        }
        self.settle_undo(id);
        let stops = |s: &VmState| matches!(s, VmState::Stopping { .. });
        if lost && self.compute.vms.get(&vm).is_some_and(|v| !stops(&v.record.state)) {
            // As after a restart of its server: it should run, so it is started again where it was.
            // Not while a VM with its id runs somewhere: that may be the same one.
            if self.compute.strays.of(vm).next().is_none() {
                self.compute_mut().restart_vm(vm);
            } else {
                self.compute.strays.elsewhere.insert(vm);
                let text = format!(
                    "{vm} is not started again, because a VM with its id runs elsewhere; adopt or stop that one (`tandem vm list --strays`)"
                );
                self.cx.notice(Level::Error, "vm-elsewhere", text);
            }
        }
    }

    /// Nothing has been heard of a transfer, or of its end, for a long time.
    pub(crate) fn on_move_timeout(&mut self, id: MigrationId) {
        let (now, timeout, away) =
            (self.cx.now, self.cx.site.migration.timeout, self.compute.world.is_none());
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        if !m.ordered && m.record.phase != Phase::Prepare {
            return;
        }
        // While nobody can tell, silence means nothing.
        if away {
            m.last_progress_at = now;
        }
        let (last_progress_at, phase) = (m.last_progress_at, m.record.phase);
        if now.since(last_progress_at) < timeout {
            return self.cx.timers.set(last_progress_at + timeout, Timer::MoveTimeout(id));
        }
        match phase {
            Phase::Prepare => {
                self.undo_move(
                    id,
                    &format!("its switches have not confirmed the rules of both places for {timeout:?}"),
                );
            }
            Phase::Transfer => self.undo_move(id, &format!("it has made no progress for {timeout:?}")),
            Phase::Undo => self.order_cancel(id),
            _ => {
                m.last_progress_at = now;
                self.cx.timers.set(now + timeout, Timer::MoveTimeout(id));
                let text =
                    format!("{id} has been in its phase {phase} for {timeout:?}; look at both servers");
                self.cx.notice(Level::Warning, "migration-stuck", text);
            }
        }
    }

    /// Only one place has rules now: what was held for the other is free, and the store may forget
    /// the migration.
    pub(crate) fn move_settled(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get(&id).filter(|m| !m.settled) else { return };
        let (vm, grow, moved) = (m.record.vm, m.grow, m.record.phase == Phase::Release);
        self.let_go_of_all(id);
        if let Some(m) = self.compute.migrations.open.get_mut(&id) {
            m.settled = true;
        }
        self.write_move(id);
        // Its groups have it at its only place, and need no rules to it of its own any more.
        self.compute().groups_of(vm).into_iter().for_each(|group| self.compute_mut().refresh_group(group));
        self.compute_mut().settle_rates_of(vm);
        // It has gone where it has room: in the same moment that this is free again, it takes it.
        if let (true, Some((request, size))) = (moved, grow) {
            if let Some(m) = self.compute.migrations.open.get_mut(&id) {
                m.grow = None;
            }
            self.compute_mut().resize_where_it_is(vm, request, size);
        }
    }

    /// The store could not write a migration.
    pub(crate) fn move_not_stored(&mut self, id: MigrationId, phase: Phase, why: &str) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        let (now, ordered) = (m.record.phase, m.ordered);
        let text = format!("the decision could not be written to the store ({why}); nothing was changed");
        if phase == Phase::Reserve
            && let Some(requester) = m.requester.take()
        {
            self.cx.answer(requester, Response::Failed { why: text.clone() });
        }
        match (phase, now) {
            (Phase::Reserve, Phase::Reserve) => {
                if let Some(m) = self.compute.migrations.open.get_mut(&id) {
                    (m.record.phase, m.why) = (Phase::Undo, Some(text));
                }
                self.let_go_of_all(id);
                // The store has nothing of it that would have to be forgotten.
                self.end_move(id);
            }
            (Phase::Transfer, Phase::Transfer) if !ordered => self.undo_move(id, &text),
            // It has happened all the same.
            (Phase::Transfer | Phase::SwitchOver | Phase::Confirm | Phase::Undo, _) if phase == now => {
                self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryMove(id));
            }
            _ => {}
        }
    }

    /// The store could not forget a migration: its places are settled, and it is tried again.
    pub(crate) fn move_not_forgotten(&mut self, id: MigrationId, why: &str) {
        let told = self.compute.migrations.open.get_mut(&id).map(|m| std::mem::take(&mut m.cancellers));
        let why =
            format!("{id} is undone, but the store could not be written ({why}); tried again every second");
        for canceller in told.into_iter().flatten() {
            self.cx.answer(canceller, Response::Failed { why: why.clone() });
        }
        self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryMove(id));
    }

    /// The store has forgotten a migration, or never knew it: it has ended.
    pub(crate) fn end_move(&mut self, id: MigrationId) {
        let text = self.migration().move_text(id);
        let Some(m) = self.compute.migrations.remove(id) else { return };
        self.compute_mut().settle_rates_of(m.record.vm);
        let why = m.why.clone().unwrap_or_default();
        let end = match (m.record.phase, m.lost) {
            (Phase::Release, _) => MigrationEnd::Moved { downtime: m.downtime },
            (_, true) => MigrationEnd::Lost { why: why.clone() },
            _ => MigrationEnd::Undone { why: why.clone() },
        };
        let (vm, plan) = (m.record.vm, m.record.plan);
        let name = |server| self.cx.site.topology.name(NodeId::Server(server)).to_owned();
        let (from, to) = (name(m.record.from.server), name(m.record.to.server));
        let (level, kind, text) = match &end {
            MigrationEnd::Moved { downtime } => {
                self.compute.counters.migrated += 1;
                let silent = downtime.map(|d| format!(", and was silent for {d:?}")).unwrap_or_default();
                (Level::Info, "migration-ended", format!("{id}: {vm} has moved from {from} to {to}{silent}"))
            }
            MigrationEnd::Undone { .. } => {
                self.compute.counters.migrations_undone += 1;
                (Level::Warning, "migration-undone", format!("{id}: {text}: {why}; it is where it was"))
            }
            MigrationEnd::Lost { .. } => {
                self.compute.counters.migrations_undone += 1;
                let text =
                    format!("{id}: {text}: {why}; it was lost on the way, and is started again on {from}");
                (Level::Error, "migration-failed", text)
            }
        };
        self.cx.notice(level, kind, text);
        for canceller in &m.cancellers {
            let answer = match &end {
                MigrationEnd::Undone { .. } => Response::Done,
                MigrationEnd::Moved { .. } => {
                    Response::Conflict { why: format!("it was too late: {vm} is on {to}") }
                }
                MigrationEnd::Lost { why } => {
                    Response::Failed { why: format!("{vm} was lost on the way: {why}") }
                }
            };
            self.cx.answer(*canceller, answer);
        }
        if let Some((request, _)) = m.grow {
            let why = format!("{vm} has no room to grow where it is, and could not be moved: {why}");
            self.cx.answer(request, Response::Failed { why });
        }
        if matches!(end, MigrationEnd::Moved { .. }) {
            let (from, to) = (&m.record.from, &m.record.to);
            self.cx.tell(SiteEvent::VmMoved { vm, from: from.server, to: to.server });
            [from.server, to.server]
                .into_iter()
                .for_each(|s| self.migration.hotspots.stepped(Place::Server(s), self.cx.now));
            let ways = |p: &tandem_model::Place| -> BTreeSet<LinkId> {
                p.path_up.iter().chain(&p.path_down).map(|hop| hop.link).collect()
            };
            let changed: Vec<LinkId> = ways(from).symmetric_difference(&ways(to)).copied().collect();
            changed.into_iter().for_each(|l| self.migration.hotspots.stepped(Place::Link(l), self.cx.now));
        }
        self.remember(MigrationView {
            record: m.record,
            progress: m.progress,
            ended: Some((self.cx.wall_now(), end.clone())),
        });
        let stays = |v: &vm::Vm| !matches!(v.record.state, VmState::Stopping { .. });
        if matches!(end, MigrationEnd::Moved { .. }) && self.compute.vms.get(&vm).is_some_and(stays) {
            self.compute_mut().tag_vm(vm);
        }
        self.compute_mut().stop_after_move(vm);
        self.on_move_ended(id, plan, &end);
        self.compute_mut().return_to_pins();
    }

    pub(crate) fn remember(&mut self, view: MigrationView) {
        if self.compute.migrations.ended.len() == REMEMBERED {
            self.compute.migrations.ended.pop_front();
        }
        self.compute.migrations.ended.push_back(view);
        self.cx.dirty.migrations = true;
    }
}
