//! From phase to phase, as the store, the switches and the hypervisors confirm.

use crate::compute::moves;
use crate::compute::moves::ActivePlaces;
use crate::compute::pending_writes::PendingWrite;
use crate::migration::{MigrationMut, MigrationRef};
use crate::network::{attachment, paths, place, topology_state};
use crate::rules::desired::RuleSet;
use crate::rules::dual_rules::belongs;
use crate::rules::owners;
use crate::rules::owners::transfer_owner;
use crate::rules::transactions::Purpose;
use crate::timers::Timer;
use std::time::Duration;
use tandem_model::{
    Effect, Level, MigrationId, NodeId, Owner, Phase, Prefix, Progress, Response, StoreOp, SwitchId, VmId,
    VmState,
};

/// What an owner of rules wants from now on, and which of its rules are late ones.
pub(crate) type RuleUpdate = (Owner, RuleSet, RuleSet);

impl MigrationMut<'_> {
    /// Writes a migration as it is now; or that it is over.
    pub(crate) fn write_move(&mut self, id: MigrationId) {
        let open = self.compute.migrations.open.get(&id).filter(|m| !m.settled);
        let Some(m) = open else {
            return self
                .compute_mut()
                .store(StoreOp::RemoveMigration { migration: id }, PendingWrite::MoveGone(id));
        };
        let (phase, migration) = (m.record.phase, Box::new(m.record.clone()));
        let vm = self.compute.vms.get(&m.record.vm).map(|v| Box::new(v.record.clone()));
        let record = match vm.filter(|_| phase == Phase::Confirm) {
            Some(vm) => StoreOp::PutMoved { vm, migration },
            None => StoreOp::PutMigration { migration },
        };
        self.cx.dirty.migrations = true;
        self.compute_mut().store(record, PendingWrite::Move(id, phase));
    }

    /// The store has a migration in a phase.
    pub(crate) fn move_stored(&mut self, id: MigrationId, phase: Phase) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        let (now, ordered, requester) = (m.record.phase, m.ordered, m.requester.take());
        if phase == Phase::Reserve {
            let text = format!("{id}: {}", self.migration().move_text(id));
            if let Some(requester) = requester {
                self.cx.answer(requester, Response::Migrating { migration: id });
            }
            self.cx.notice(Level::Info, "migration-begun", text);
        }
        match (phase, now) {
            (Phase::Reserve, Phase::Reserve) => self.prepare(id),
            (Phase::Transfer, Phase::Transfer) if !ordered => self.order_move(id),
            (Phase::Confirm, Phase::Confirm) => self.release_move(id),
            _ => {}
        }
    }

    /// Starts changes of rules that a phase waits for.
    pub(crate) fn want(&mut self, id: MigrationId, purpose: Purpose, wishes: Vec<RuleUpdate>) {
        if let Some(m) = self.compute.migrations.open.get_mut(&id) {
            m.waiting += wishes.len() as u32;
        }
        for (owner, rules, late) in wishes {
            let (_, differences) = self.rules.desired.replace(owner, rules);
            self.compute_mut()
                .start_ordered(purpose, differences, &|switch, key| belongs(&late, switch, key));
        }
        self.settle();
    }

    /// Rules of both places. Those that only the new place has come first, those where both meet
    /// after them: a packet is sent on twice only when both ways are there.
    pub(crate) fn prepare(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        (m.record.phase, m.reach) = (Phase::Prepare, ActivePlaces::Both);
        m.last_progress_at = self.cx.now;
        let vm = m.record.vm;
        self.cx.dirty.migrations = true;
        self.cx.timers.set(self.cx.now + self.cx.site.migration.timeout, Timer::MoveTimeout(id));
        self.expect_at(vm);
        let mut wishes = self.migration().both_wanted(vm);
        wishes.push((transfer_owner(id), self.migration().transfer_rules(id), RuleSet::new()));
        self.want(id, Purpose::MovePrepare(id), wishes);
    }

    /// A change of rules that a migration waits for has ended.
    /// `both` says how it went with those of both places.
    pub(crate) fn on_move_rules(&mut self, id: MigrationId, both: Option<Result<(), String>>) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        m.waiting = m.waiting.saturating_sub(1);
        let (phase, done) = (m.record.phase, m.waiting == 0);
        match (both, phase) {
            (Some(result), Phase::Prepare) => match result {
                Err(why) => self.undo_move(id, &why),
                Ok(()) if done => self.prepared(id),
                Ok(()) => {}
            },
            // What a switch would not take away it is asked for again when its rules are compared.
            (_, Phase::Undo | Phase::Release) if done => self.move_settled(id),
            _ => {}
        }
    }

    pub(crate) fn prepared(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get(&id) else { return };
        if let Some(switch) = self.migration().unattended(m.record.vm) {
            let name = self.cx.site.topology.name(NodeId::Switch(switch));
            let why = format!("switch {name} is away and cannot be given the rules of the new place");
            return self.undo_move(id, &why);
        }
        let now = self.cx.wall_now();
        if let Some(m) = self.compute.migrations.open.get_mut(&id) {
            (m.record.phase, m.record.transfer_at) = (Phase::Transfer, Some(now));
        }
        self.write_move(id);
    }

    /// The hypervisors are asked, or asked again.
    pub(crate) fn order_move(&mut self, id: MigrationId) {
        let now = self.cx.now;
        let timeout = self.cx.site.migration.timeout;
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        (m.ordered, m.last_progress_at, m.uplink) = (true, now, m.record.to.uplink);
        let record = m.record.clone();
        self.cx.timers.set(now + timeout, Timer::MoveTimeout(id));
        if self.compute.world.is_none() {
            return;
        }
        let Some(vm) = self.compute.vms.get(&record.vm) else { return };
        let Some(spec) = self.compute().vm_spec(&moves::at(&vm.record, &record.to)) else { return };
        let cfg = &self.cx.site.migration;
        self.cx.effects.push(Effect::MigrateVm {
            migration: id,
            vm: record.vm,
            from: record.from.server,
            to: record.to.server,
            manner: record.manner,
            spec: Box::new(spec),
            rate: record.rate,
            downtime: cfg.downtime,
            rounds: cfg.rounds,
        });
    }

    pub(crate) fn on_migration_progress(&mut self, id: MigrationId, progress: Progress) {
        let now = self.cx.now;
        let Some(m) = self.compute.migrations.open.get_mut(&id).filter(|m| m.ordered) else { return };
        if m.progress.is_none_or(|p| (p.round, p.sent) < (progress.round, progress.sent)) {
            m.last_progress_at = now;
        }
        m.progress = Some(progress);
        let transfers = m.record.phase == Phase::Transfer;
        self.cx.dirty.migrations = true;
        if transfers {
            self.adapt(id, progress);
        }
    }

    pub(crate) fn on_vm_suspended(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get_mut(&id).filter(|m| m.ordered) else { return };
        // A cancel that comes too late is overtaken.
        if matches!(m.record.phase, Phase::Transfer | Phase::Undo) {
            m.record.phase = Phase::SwitchOver;
            self.write_move(id);
            self.reach_new_again(id);
        }
    }

    pub(crate) fn on_vm_moved(&mut self, id: MigrationId, downtime: Option<Duration>) {
        let Some(m) = self.compute.migrations.open.get_mut(&id).filter(|m| m.ordered) else { return };
        (m.ordered, m.downtime, m.why) = (false, downtime, None);
        m.record.phase = Phase::Confirm;
        let (vm, to, asked_for) = (m.record.vm, m.record.to.clone(), m.uplink);
        self.let_go(id);
        self.take_place(vm, &to);
        self.hold(id);
        if to.uplink != asked_for
            && let Some(record) = self.compute.vms.get(&vm).map(|v| v.record.clone())
            && let Some(uplink_port) = self.network().server_side_port(&record)
        {
            self.cx.effects.push(Effect::AttachVm { vm, server: to.server, uplink_port });
        }
        self.expect_at(vm);
        self.compute_mut().announce(vm);
        self.reach_new_again(id);
        self.mend_way(vm);
        self.write_move(id);
    }

    /// The VM's own reservation goes with it to another place.
    pub(crate) fn take_place(&mut self, vm: VmId, place: &tandem_model::Place) {
        let Some((old, request)) =
            self.compute.vms.get(&vm).map(|v| (v.placement(), v.record.request.clone()))
        else {
            return;
        };
        self.compute_mut().release(&old, &request);
        if let Some(vm) = self.compute.vms.get_mut(&vm) {
            vm.record = moves::at(&vm.record, place);
        }
        self.compute_mut().reserve(&place::Placement::at(place), &request);
        self.cx.dirty.vms = true;
    }

    /// The store knows where the VM is now: what it had before is taken away.
    pub(crate) fn release_move(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        (m.record.phase, m.reach) = (Phase::Release, ActivePlaces::New);
        let vm = m.record.vm;
        self.cx.dirty.migrations = true;
        self.expect_at(vm);
        let [_, new] = self.compute().exact_rules(vm);
        let mut wishes = vec![(owners::owner(vm), self.compute().vm_rules(vm), new)];
        for group in self.compute().groups_of(vm) {
            let owner = Owner::Group(group.0 as u32);
            // New ways of the group first, then where it turns to them.
            let before = self.rules.desired.of(owner).cloned().unwrap_or_default();
            wishes.push((owner, self.compute().group_rules(group), before));
        }
        wishes.push((transfer_owner(id), RuleSet::new(), RuleSet::new()));
        self.want(id, Purpose::MoveSettle(id), wishes);
    }

    /// Where a VM may show itself: at all of its places.
    pub(crate) fn expect_at(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get(&id).map(|v| &v.record) else { return };
        let topology = &self.cx.site.topology;
        let port = |place| attachment::server_port(topology, &moves::at(vm, place));
        let at: Vec<_> = match self.compute().moving(id).map(|m| (m.reach, &m.record)) {
            None => attachment::server_port(topology, vm).into_iter().collect(),
            Some((ActivePlaces::Old, m)) => port(&m.from).into_iter().collect(),
            Some((ActivePlaces::New, m)) => port(&m.to).into_iter().collect(),
            Some((ActivePlaces::Both, m)) => [port(&m.from), port(&m.to)].into_iter().flatten().collect(),
        };
        let address = vm.address;
        self.net.hosts.move_to(address, at);
    }

    /// A VM that is gone from where it was cut off is back in service.
    pub(crate) fn mend_way(&mut self, id: VmId) {
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else { return };
        let has_way = self.network().has_way(&record);
        match record.state {
            VmState::Cut { .. } if has_way => {
                if let Some(vm) = self.compute.vms.get_mut(&id) {
                    vm.record.state = VmState::Running;
                }
                self.cx.dirty.vms = true;
            }
            VmState::Running if !has_way => self.compute_mut().cut(id, paths::NO_WAY),
            _ => {}
        }
    }
}

impl<'a> MigrationRef<'a> {
    /// `vm3 moves from srv1 to srv4 (live, asked for)`.
    pub(crate) fn move_text(self, id: MigrationId) -> String {
        let Some(m) = self.compute.migrations.open.get(&id).map(|m| &m.record) else { return id.to_string() };
        let name = |server| self.cx.site.topology.name(NodeId::Server(server));
        let (from, to) = (name(m.from.server), name(m.to.server));
        format!("{} moves from {from} to {to} ({}, {})", m.vm, m.manner, m.cause)
    }

    pub(crate) fn both_wanted(self, vm: VmId) -> Vec<RuleUpdate> {
        let [old, _] = self.compute().exact_rules(vm);
        let mut wishes = vec![(owners::owner(vm), self.compute().vm_rules(vm), old)];
        for group in self.compute().groups_of(vm) {
            let old = self.compute().group_rules_to_old(group, vm);
            wishes.push((Owner::Group(group.0 as u32), self.compute().group_rules(group), old));
        }
        wishes
    }

    /// A switch that should have rules of a VM and is not there to be given them.
    pub(crate) fn unattended(self, vm: VmId) -> Option<SwitchId> {
        let address = self.compute.vms.get(&vm)?.record.address;
        let own = self.compute().vm_rules(vm);
        let host = Some(Prefix::host(address));
        let about = |key: &tandem_model::RuleKey| [key.matching.ip_src, key.matching.ip_dst].contains(&host);
        let groups: Vec<RuleSet> =
            self.compute().groups_of(vm).into_iter().map(|g| self.compute().group_rules(g)).collect();
        let shared = groups.iter().flat_map(|rules| rules.keys()).filter(|(_, key)| about(key));
        let mut switches = own.keys().chain(shared).map(|(switch, _)| *switch);
        switches.find(|s| topology_state::connected(&self.net.live, &self.cx.site.topology, *s).is_none())
    }
}
