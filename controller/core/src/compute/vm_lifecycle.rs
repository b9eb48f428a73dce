//! A VM's life: placed, stored, started, running, resized, expired or deleted; and what is undone
//! when a step fails.
//!
//! ```text
//! RequestVm -> placed --Stored--> starting --rules + VmStarted + address--> (store) --> running -> answer, traffic
//!                 |                  |                                                    |
//!                 +-- StoreFailed,   +-- refused, failed, late -----> stopping <----------+ deleted, expired
//!                     rejected                                           |
//!                                          rules gone + VmStopped --> (store) --> forgotten -> answer
//! ```
//! Nothing is answered before the store has it, and what the store refuses is undone.

use crate::compute::pending_writes::PendingWrite;
use crate::compute::vm::Vm;
use crate::compute::vm_group::Stage;
use crate::compute::{ComputeMut, ComputeRef, ipam};
use crate::network::attachment;
use crate::network::paths::NO_WAY;
use crate::rules::desired::RuleSet;
use crate::rules::owners::owner;
use crate::rules::transactions::{Outcome, Purpose};
use crate::rules::{building_blocks, compile};
use crate::signal::Signal;
use crate::timers::Timer;
use std::net::Ipv4Addr;
use tandem_model::{
    Effect, GroupId, Level, NodeId, Owner, PersistedState, RequestId, Response, SiteEvent, StoreOp, SwitchId,
    VmId, VmOrigin, VmRecord, VmRequest, VmSpec, VmState,
};

/// Why a VM stops that somebody wanted gone.
pub(crate) const DELETED: &str = "it was deleted";

impl ComputeMut<'_> {
    /// Takes over what the store holds: VMs are as they were, their rules wanted again.
    pub(crate) fn restore(&mut self, stored: PersistedState) {
        let site = self.cx.site.clone();
        self.rules.classes.restore(&stored.shares);
        self.net.ports.restore(stored.ports);
        for record in stored.vms {
            let (id, edge) = (record.id, site.topology.edge_of(record.server, record.uplink as usize));
            if edge.is_none() || site.topology.gateway(record.gateway).is_none() {
                let text =
                    format!("{id} of the store is on a server that the site no longer has; it is left alone");
                self.cx.notice(Level::Error, "vm-orphan", text);
                continue;
            }
            let mut vm = Vm::new(record, None);
            self.compute.last_vm = self.compute.last_vm.max(id.0);
            self.compute.pinned.extend(vm.record.pin.is_some().then_some(id));
            self.compute.addresses.take_known(vm.record.address);
            self.reserve(&vm.placement(), &vm.record.request);
            match vm.record.state {
                VmState::Running | VmState::Cut { .. } => {
                    (vm.rules_ready, vm.started, vm.addressed, vm.allocated) = (true, true, true, true);
                }
                // Whoever asked for it is gone with the process that took the request.
                VmState::Placed | VmState::Starting | VmState::Stopping { .. } => {
                    if !matches!(vm.record.state, VmState::Stopping { .. }) {
                        let why = "the controller was restarted before it ran".into();
                        vm.record.state = VmState::Stopping { why };
                    }
                    (vm.allocated, vm.rules_gone) = (true, true);
                }
            }
            let wanted = !matches!(vm.record.state, VmState::Stopping { .. });
            let marking = building_blocks::Marking { site: &site, queues: self.rules.classes.queues() };
            let rules = compile::vm(marking, &self.net.routes, &vm.record, vm.generation);
            self.compute.vms.insert(id, vm);
            self.declare_vm(id);
            if wanted {
                self.rules.desired.replace(owner(id), rules);
            }
        }
        self.restore_leases(stored.alive_at);
        for group in stored.groups {
            self.compute.last_group = self.compute.last_group.max(group.id.0);
            self.compute.groups.insert(group.id, group);
        }
        self.restore_group_rules();
        self.settle_all_rates();
    }

    /// Wants the rules of all groups again.
    pub(crate) fn restore_group_rules(&mut self) {
        let ids: Vec<GroupId> = self.compute.groups.keys().copied().collect();
        for id in ids {
            let rules = self.compute().group_rules(id);
            self.rules.desired.replace(Owner::Group(id.0 as u32), rules);
        }
    }

    pub(crate) fn request_vm(&mut self, request_id: RequestId, mut request: VmRequest) {
        self.compute.counters.requested += 1;
        self.cx.dirty.vms = true;
        if self.refuse_taken_name(request_id, request.name.as_deref()) {
            self.compute.counters.rejected += 1;
            return;
        }
        if self.compute.world.is_none() {
            self.compute.counters.failed += 1;
            let why = self.compute().no_world();
            return self.cx.answer(request_id, Response::Failed { why });
        }
        request.timeout = request.timeout.or(self.cx.site.vm.lifetime);
        let placed = self.rules().class_exists(&request).and_then(|()| self.compute().place(&request));
        let placement = match placed.and_then(|p| self.rules().class_is_kept(&request, &p).map(|()| p)) {
            Ok(placement) => placement,
            Err(rejection) => {
                self.compute.counters.rejected += 1;
                self.cx.notice(Level::Warning, "vm-rejected", rejection.summary.clone());
                return self.cx.answer(request_id, Response::Rejected { rejection });
            }
        };
        let edge = self.cx.site.topology.edge_of(placement.server, 0);
        let Some(address) = edge.and_then(|e| self.compute.addresses.take(e)) else {
            self.compute.counters.failed += 1;
            let why = "the edge switch has no free address; enlarge [addresses] prefix_len".into();
            return self.cx.answer(request_id, Response::Failed { why });
        };
        self.reserve(&placement, &request);
        let id = self.next_vm_id();
        let record = VmRecord {
            id,
            request,
            server: placement.server,
            uplink: placement.uplink,
            gateway: placement.gateway,
            mac: ipam::vm_mac(id),
            address,
            path_up: placement.path_up,
            path_down: placement.path_down,
            pin: None,
            state: VmState::Placed,
            placed_at: self.cx.wall_now(),
            running_at: None,
            expires_at: None,
        };
        self.compute.vms.insert(id, Vm::new(record.clone(), Some(request_id)));
        self.store(StoreOp::PutVm { vm: Box::new(record) }, PendingWrite::Placed(id));
    }

    pub(crate) fn start_vm(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        if !vm.deleters.is_empty() {
            return self.stop_vm(id, "it was deleted before it started");
        }
        vm.record.state = VmState::Starting;
        vm.allocated = true;
        self.cx.dirty.vms = true;
        self.declare_vm(id);
        if self.compute.strays.left.is_any() {
            self.review_left();
        }
        let timeout = self.cx.now + self.cx.site.vm.start_timeout;
        self.cx.timers.set(timeout, Timer::StartTimeout(id));
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else { return };
        let Some(spec) = self.compute().vm_spec(&record) else { return };
        self.cx.effects.push(Effect::AllocateVm { vm: id, server: record.server, spec });
        self.install(id, Purpose::VmStart(id));
    }

    /// A VM that should run and does not: it is started again where it was.
    pub(crate) fn restart_vm(&mut self, id: VmId) {
        if let Some(vm) = self.compute.vms.get_mut(&id) {
            (vm.started, vm.addressed) = (false, false);
        }
        self.start_vm(id);
    }

    /// Wants a VM's rules, for its path as it is now.
    pub(crate) fn install(&mut self, id: VmId, purpose: Purpose) {
        let Some(vm) = self.compute.vms.get(&id) else { return };
        let rules = self.compute().vm_rules(id);
        let entry: Vec<SwitchId> =
            attachment::server_port(&self.cx.site.topology, &vm.record).map(|(s, _)| s).into_iter().collect();
        let (_, differences) = self.rules.desired.replace(owner(id), rules);
        self.start_change(purpose, differences, &entry);
    }

    pub(crate) fn on_outcome(&mut self, outcome: Outcome) {
        match (outcome.purpose, outcome.result) {
            (Purpose::VmStart(vm), Ok(())) => {
                if let Some(vm) = self.compute.vms.get_mut(&vm) {
                    vm.rules_ready = true;
                }
                self.check_running(vm);
            }
            (Purpose::VmStart(vm), Err(why)) => self.fail_vm(vm, &why),
            (Purpose::VmStop(vm), _) => {
                if let Some(vm) = self.compute.vms.get_mut(&vm) {
                    vm.rules_gone = true;
                }
                self.check_gone(vm);
            }
            (Purpose::VmMove(vm), Ok(())) => self.path_confirmed(vm),
            (Purpose::VmMove(vm), Err(why)) => self.path_refused(vm, &why),
            (Purpose::GroupStart(group, request), Ok(())) => {
                self.cx.answer(request, Response::GroupCreated { group })
            }
            (Purpose::GroupStart(group, request), Err(why)) => {
                self.drop_group(group);
                self.cx.answer(request, Response::Failed { why });
            }
            (Purpose::GroupForm(group), result) => self.group_connected(group, result),
            (Purpose::MovePrepare(migration), result) => {
                self.cx.signal(Signal::BothPlacesReady(migration, result));
            }
            (Purpose::MoveSettle(migration), _) => self.cx.signal(Signal::OnePlaceLeft(migration)),
            (Purpose::StrayServed(vm), _) => self.stray_settled(vm),
            (Purpose::GroupChange | Purpose::Upkeep, _) => {}
        }
    }

    pub(crate) fn on_vm_started(&mut self, id: VmId, address: Option<Ipv4Addr>) {
        let dhcp = self.cx.site.modules.dhcp;
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        vm.started = true;
        if address == Some(vm.record.address) || !dhcp {
            vm.addressed = true;
        }
        // One that was started again has what its record says, which may be more than it is to have.
        self.ask_resize(id);
        self.check_running(id);
    }

    /// The VM has taken its address.
    pub(crate) fn on_vm_addressed(&mut self, id: VmId) {
        if let Some(vm) = self.compute.vms.get_mut(&id) {
            vm.addressed = true;
        }
        self.check_running(id);
    }

    pub(crate) fn check_running(&mut self, id: VmId) {
        let now = self.cx.wall_now();
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        let ready = vm.rules_ready && vm.started && vm.addressed;
        if !ready || vm.record.state != VmState::Starting {
            return;
        }
        // One of several that were requested together runs when all do.
        if let Some(group) = self.compute().forming_of(id) {
            return self.advance_group(group);
        }
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        vm.record.state = VmState::Running;
        if vm.record.running_at.is_none() {
            vm.record.running_at = Some(now);
            vm.record.expires_at = vm.record.request.timeout.map(|t| now + t);
        }
        let (record, expires) = (vm.record.clone(), vm.record.expires_at);
        if let Some(at) = expires {
            self.begin_lease(id, at);
        }
        self.cx.dirty.vms = true;
        self.store(StoreOp::PutVm { vm: Box::new(record) }, PendingWrite::Running(id));
    }

    pub(crate) fn announce_running(&mut self, id: VmId) {
        self.announce_run(id);
        self.refresh_groups();
        self.cut_without_way(id);
    }

    /// A VM runs: whoever waits is notified, and its traffic begins.
    pub(crate) fn announce_run(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        if !matches!(vm.record.state, VmState::Running | VmState::Cut { .. }) {
            return;
        }
        let (record, requester) = (vm.record.clone(), vm.requester.take());
        let text = format!(
            "{id} runs on {} as {}",
            self.cx.site.topology.name(NodeId::Server(record.server)),
            record.address
        );
        if let Some(requester) = requester {
            self.compute.counters.accepted += 1;
            self.cx.answer(requester, Response::VmRunning { vm: Box::new(record.clone()) });
        }
        self.cx.notice(Level::Info, "vm-running", text);
        self.cx.tell(SiteEvent::VmStarted { vm: id, server: record.server });
        self.start_traffic(id);
    }

    /// A VM's way may have been lost while it was starting.
    pub(crate) fn cut_without_way(&mut self, id: VmId) {
        let record = self.compute.vms.get(&id).map(|vm| &vm.record);
        if record.is_some_and(|record| !self.network().has_way(record)) {
            self.cut(id, NO_WAY);
        }
    }

    pub(crate) fn on_start_timeout(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get(&id).filter(|v| v.record.state == VmState::Starting) else {
            return;
        };
        let stage = self.compute().forming_of(id).and_then(|g| self.compute.forming.get(&g)).map(|f| f.stage);
        let missing = match (vm.rules_ready, vm.started, vm.addressed) {
            (false, ..) => "its switches have not confirmed its rules",
            (_, false, _) => "its hypervisor has not started it",
            (.., false) => "it has not taken its address by DHCP",
            // The store has it in its own time, as with a single VM.
            _ if stage == Some(Stage::Publishing) => return,
            _ => "others of its group are not ready, or the switches have not confirmed the group's rules",
        };
        let text = format!("after {:?} {missing}", self.cx.site.vm.start_timeout);
        self.fail_vm(id, &text);
    }

    pub(crate) fn on_vm_failed(&mut self, id: VmId, why: &str) {
        if !self.resize_failed(id, why) {
            self.on_vm_died(id, why);
        }
    }

    /// A VM is gone, whatever was asked of it meanwhile.
    pub(crate) fn on_vm_died(&mut self, id: VmId, why: &str) {
        match self.compute.vms.contains_key(&id) {
            true => self.fail_vm(id, why),
            false => self.stray_failed(id),
        }
    }

    /// A start that failed, or a VM that died: everything of it is undone, then its requester is
    /// told.
    pub(crate) fn fail_vm(&mut self, id: VmId, why: &str) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        if matches!(vm.record.state, VmState::Stopping { .. }) {
            return;
        }
        vm.failure = Some(why.to_owned());
        if vm.requester.is_some() {
            self.compute.counters.failed += 1;
        }
        self.cx.notice(Level::Error, "vm-failed", format!("{id} failed: {why}"));
        self.stop_vm(id, why);
    }

    pub(crate) fn on_expiry(&mut self, id: VmId) {
        let now = self.cx.wall_now();
        let due = self.compute.vms.get(&id).and_then(|v| v.record.expires_at).is_some_and(|at| at <= now);
        let alive = |v: &Vm| matches!(v.record.state, VmState::Running | VmState::Cut { .. });
        if due && self.compute.vms.get(&id).is_some_and(alive) {
            self.compute.counters.expired += 1;
            self.cx.notice(Level::Info, "vm-expired", format!("{id} has reached the end of its time"));
            self.stop_vm(id, "its time ran out");
        }
    }

    pub(crate) fn delete_vm(&mut self, request: RequestId, id: VmId) {
        let Some(vm) = self.compute.vms.get_mut(&id) else {
            return self.cx.answer(request, Response::NotFound { what: id.to_string() });
        };
        // A running VM is written down as stopping first: what was answered must hold after a
        // restart, and a store that cannot be written must leave it running.
        if matches!(vm.record.state, VmState::Running | VmState::Cut { .. }) {
            let state = VmState::Stopping { why: DELETED.into() };
            let record = VmRecord { state, ..vm.record.clone() };
            return self.store(StoreOp::PutVm { vm: Box::new(record) }, PendingWrite::Deleting(id, request));
        }
        vm.deleters.push(request);
        // A placement that is still on its way to the store is stopped when it arrives there.
        if vm.record.state == VmState::Starting {
            self.stop_vm(id, DELETED);
        }
    }

    pub(crate) fn on_deletion_stored(&mut self, id: VmId, request: RequestId) {
        // Gone meanwhile: as it was wanted.
        let Some(vm) = self.compute.vms.get_mut(&id) else { return self.cx.answer(request, Response::Done) };
        vm.deleters.push(request);
        if !matches!(vm.record.state, VmState::Stopping { .. }) {
            self.stop_vm(id, DELETED);
        }
    }

    /// Traffic, rules, hypervisor: in this order, so that nothing is sent to a VM that is not
    /// there.
    pub(crate) fn stop_vm(&mut self, id: VmId, why: &str) {
        if self.takes_group_back(id, why) {
            return;
        }
        self.stop_traffic(id);
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        vm.record.state = VmState::Stopping { why: why.to_owned() };
        (vm.rules_gone, vm.stopped) = (false, !vm.allocated);
        self.cx.dirty.vms = true;
        // One that moves is stopped where it is when that is sure.
        if let Some(m) = self.compute().migration_of(id).map(|m| m.record.id) {
            return self.cx.signal(Signal::GiveUpMove(m, why.to_owned()));
        }
        self.stop_now(id);
    }

    /// A migration of a VM has ended: if it is to be stopped, it is stopped where it is now.
    pub(crate) fn stop_after_move(&mut self, id: VmId) {
        if self.compute.vms.get(&id).is_some_and(|v| matches!(v.record.state, VmState::Stopping { .. })) {
            self.stop_now(id);
        }
    }

    pub(crate) fn stop_now(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get(&id) else { return };
        let (allocated, server, placed_at) = (vm.allocated, vm.record.server, Some(vm.record.placed_at));
        if allocated && self.compute.world.is_some() {
            self.cx.effects.push(Effect::StopVm { vm: id, server, placed_at });
        }
        let (_, differences) = self.rules.desired.replace(owner(id), RuleSet::new());
        self.start_change(Purpose::VmStop(id), differences, &[]);
    }

    pub(crate) fn on_vm_stopped(&mut self, id: VmId) {
        if self.stray_stopped(id) {
            return;
        }
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        if matches!(vm.record.state, VmState::Stopping { .. }) {
            vm.stopped = true;
            self.check_gone(id);
        }
    }

    pub(crate) fn check_gone(&mut self, id: VmId) {
        if self.compute.vms.get(&id).is_some_and(|v| v.rules_gone && v.stopped) {
            self.remove_from_store(id);
        }
    }

    pub(crate) fn remove_from_store(&mut self, id: VmId) {
        if self.compute.vms.contains_key(&id) {
            self.store(StoreOp::RemoveVm { vm: id }, PendingWrite::Removed(id));
        }
    }

    pub(crate) fn give_back(&mut self, vm: &Vm) {
        self.release(&vm.placement(), &vm.record.request);
        self.compute.addresses.give_back(vm.record.address);
        self.cx.dirty.vms = true;
    }

    pub(crate) fn forget_vm(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.remove(&id) else { return };
        self.give_back(&vm);
        if let Some(group) = self.compute().forming_of(id) {
            self.group_member_gone(group, Some(id));
        }
        self.net.hosts.forget(vm.record.address);
        self.cx.timers.cancel(Timer::HostCheck(vm.record.address));
        self.net.statistics.forget_vm(id);
        self.compute.loads.forget_vm(id);
        self.leave_groups(id);
        self.compute.pinned.remove(&id);
        self.return_to_pins();
        if !self.compute.strays.all.is_empty() {
            self.serve_after(id, vm.record.mac, Some(vm.record.address));
        }
        self.cx.notice(Level::Info, "vm-gone", format!("{id} ({}) is gone", vm.record.address));
        if vm.record.running_at.is_some() {
            self.cx.tell(SiteEvent::VmEnded { vm: id, server: vm.record.server });
        }
        if let Some(requester) = vm.requester {
            let why = vm.failure.clone().unwrap_or_else(|| "it was deleted before it ran".into());
            self.cx.answer(requester, Response::Failed { why });
        }
        if let Some(request) = vm.resizing.and_then(|resize| resize.request) {
            let why = format!("{id} is gone: {}", vm.failure.as_deref().unwrap_or(DELETED));
            self.cx.answer(request, Response::Failed { why });
        }
        vm.deleters.into_iter().for_each(|r| self.cx.answer(r, Response::Done));
    }
}

impl<'a> ComputeRef<'a> {
    /// What a hypervisor is told of a VM at a place.
    pub(crate) fn vm_spec(self, record: &VmRecord) -> Option<VmSpec> {
        Some(VmSpec {
            resources: record.request.resources,
            name: record.request.name.clone(),
            image: record.request.image.clone(),
            mac: record.mac,
            address: record.address,
            uplink_port: self.network().server_side_port(record)?,
            fixed_address: self.fixed_address(record.id),
            origin: VmOrigin {
                placed_at: record.placed_at,
                class: record.request.class,
                timeout: record.request.timeout,
                gateway: Some(record.gateway),
            },
        })
    }
}
