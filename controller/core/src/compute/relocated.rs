//! A VM on record that runs on another server than the record says: its store is a copy of before
//! it moved. Adopted, it stays where it is, and its record follows.
//!
//! 1. It is the same VM: made for the same request, with the same addresses. What its tag says of
//!    its size is newer than the record.
//! 2. Nothing runs where the record has it, and its hypervisor there has said so.
//! 3. Both places are reserved until the store has the new one. Then its rules and groups follow; a
//!    pinned path is not kept.

use crate::compute::pending_writes::PendingWrite;
use crate::compute::strays::Stray;
use crate::compute::vm::Vm;
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::paths::NO_WAY;
use crate::rules::transactions::Purpose;
use crate::stored_item::Kept;
use tandem_model::{
    Adoption, Effect, Level, RequestId, Response, ServerId, SiteEvent, VmId, VmOrigin, VmRecord, VmState,
};

impl<'a> ComputeRef<'a> {
    /// The record of a stray that is a VM on record, and may follow it.
    pub(crate) fn record_elsewhere(self, stray: &Stray) -> Option<&'a VmRecord> {
        let id = stray.found.vm;
        let record = self.compute.vms.get(&id).map(|v| &v.record)?;
        let spec = stray.found.spec.as_deref()?;
        let is_same =
            (spec.origin.placed_at, spec.mac, spec.address) == (record.placed_at, record.mac, record.address);
        let alive = matches!(record.state, VmState::Running | VmState::Cut { .. });
        let found = is_same && alive && stray.found.runs && self.compute.strays.elsewhere.contains(&id);
        (found && record.server != stray.found.server).then_some(record)
    }

    fn followed_record(self, key: (VmId, ServerId), known: &Adoption) -> Result<VmRecord, String> {
        let (id, server) = key;
        let gone = || format!("{id} is gone");
        let stray = self.compute.strays.all.get(&key).ok_or_else(gone)?;
        let record = self.record_elsewhere(stray).cloned().ok_or_else(gone)?;
        let place = self.cx.server_name(server);
        if self.compute.world.is_none() {
            return Err(self.no_world());
        }
        if stray.adopting || !stray.stopping.is_empty() {
            let what = if stray.adopting { "adopted" } else { "stopped" };
            return Err(format!("{id} is being {what} already"));
        }
        if *known != Adoption::default() {
            return Err(format!("{id} has a record, which says all that is needed: leave the options out"));
        }
        let running = self.compute.strays.of(id).filter(|s| s.found.runs).count();
        if running > 1 {
            return Err(format!("there are {running} VMs with the id of {id}; stop all but one"));
        }
        if let Some(silent) = [server, record.server].iter().find(|s| self.compute.away.contains_key(s)) {
            return Err(format!(
                "the hypervisor of {} does not answer, so it is not known whether {id} runs there",
                self.cx.server_name(*silent)
            ));
        }
        if self.is_moving(id) {
            return Err(format!("{id} is being moved; try again when that has ended"));
        }
        let request = self.adopted_request(stray, known)?;
        let gateway = VmOrigin { gateway: Some(record.gateway), ..VmOrigin::default() };
        let origin = stray.found.spec.as_ref().map(|s| (s.uplink_port, gateway));
        let placement =
            self.place_found(server, origin, request.resources.net).ok_or_else(|| {
                format!("no path between {place} and a gateway is alive; {id} can be adopted when its switches are connected")
            })?;
        Ok(VmRecord {
            server: placement.server,
            uplink: placement.uplink,
            gateway: placement.gateway,
            path_up: placement.path_up,
            path_down: placement.path_down,
            pin: None,
            state: VmState::Running,
            // What is not kept with the VM is as it was asked for.
            request: tandem_model::VmRequest {
                timeout: record.request.timeout,
                constraints: record.request.constraints.clone(),
                requester: record.request.requester.clone(),
                ..request
            },
            ..record
        })
    }
}

impl ComputeMut<'_> {
    /// Asks the store to have a VM's record where the VM is.
    pub(crate) fn follow_vm(&mut self, request: RequestId, key: (VmId, ServerId), known: &Adoption) {
        let record = self.compute().followed_record(key, known);
        self.store_adopted(request, key, record, PendingWrite::Followed);
    }

    /// The store has it where it is.
    pub(crate) fn followed(&mut self, record: VmRecord, request: RequestId) {
        let (id, server) = (record.id, record.server);
        let alive = |v: &&mut Vm| matches!(v.record.state, VmState::Running | VmState::Cut { .. });
        let moving = self.compute().is_moving(id);
        let Some(vm) = self.compute.vms.get_mut(&id).filter(|v| !moving && alive(v)) else {
            // Somebody has deleted or moved it meanwhile: the store has that again.
            self.keep(Kept::Vm(id));
            return self.not_adopted(&record, request, format!("{id} was deleted or moved meanwhile"));
        };
        let (old, old_request) = (vm.placement(), vm.record.request.clone());
        vm.generation = vm.generation.wrapping_add(1);
        vm.record = record.clone();
        self.release(&old, &old_request);
        let uplink =
            self.compute.strays.all.remove(&(id, server)).and_then(|s| s.found.spec).map(|s| s.uplink_port);
        self.compute.strays.elsewhere.remove(&id);
        self.compute.pinned.remove(&id);
        self.cx.dirty.vms = true;
        self.declare_vm(id);
        self.install(id, Purpose::VmMove(id));
        self.review_left();
        if let Some(uplink_port) = self.network().server_side_port(&record).filter(|p| Some(*p) != uplink) {
            self.cx.effects.push(Effect::AttachVm { vm: id, server, uplink_port });
        }
        self.tag_vm(id);
        self.start_traffic(id);
        self.announce(id);
        self.refresh_groups();
        self.settle_all_rates();
        let text = format!(
            "{id} ({}) was adopted where it runs, on {}; its record said {}",
            record.address,
            self.cx.server_name(server),
            self.cx.server_name(old.server)
        );
        self.cx.notice(Level::Info, "vm-adopted", text);
        self.cx.tell(SiteEvent::VmMoved { vm: id, from: old.server, to: server });
        // What was written of it meanwhile had its old place.
        self.keep(Kept::Vm(id));
        if !self.network().has_way(&record) {
            self.cut(id, NO_WAY);
        }
        self.cx.answer(request, Response::VmRunning { vm: Box::new(record) });
    }
}
