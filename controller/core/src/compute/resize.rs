//! Other resources for a running VM: where it is, or, where there is no room for that, on a server
//! that has room, to which it is moved first. Whoever asks is answered once, when it has them; when
//! that fails it has what it had.
//!
//! ```text
//! hold the larger of both -- (store) --> hypervisor --+-- confirmed, it has more --> answer
//!                                                     +-- confirmed, it has less -- (store) --> give the rest away, answer
//!                                                     +-- failed: what it had before -> (store), answer
//! ```

use crate::compute::ComputeMut;
use crate::compute::pending_writes::{PendingWrite, STORE_RETRY};
use crate::compute::vm::Resize;
use crate::stored_item::Kept;
use crate::timers::Timer;
use tandem_model::{Effect, RequestId, Resources, Response, StoreOp, VmId, VmState};

impl ComputeMut<'_> {
    /// A VM gets other resources, for which there is room where it is.
    pub(crate) fn resize_where_it_is(&mut self, id: VmId, request: RequestId, to: Resources) {
        let Some(vm) = self.compute.vms.get_mut(&id) else {
            return self.cx.answer(request, Response::NotFound { what: id.to_string() });
        };
        if vm.record.state != VmState::Running {
            let why = format!("{id} is {}; only a running VM can be resized", vm.record.state);
            return self.cx.answer(request, Response::Conflict { why });
        }
        let before = vm.record.request.resources;
        let held = before.max(to);
        let is_written = held == before;
        let request = Some(request);
        vm.resizing = Some(Resize { request, before, to, is_written, is_confirmed: false });
        if is_written {
            return self.ask_resize(id);
        }
        self.set_resources(id, held);
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else { return };
        self.store(StoreOp::PutVm { vm: Box::new(record) }, PendingWrite::Resized(id));
    }

    pub(crate) fn set_resources(&mut self, id: VmId, to: Resources) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        let (placement, before) = (vm.placement(), vm.record.request.clone());
        vm.record.request.resources = to;
        let after = vm.record.request.clone();
        self.release(&placement, &before);
        self.reserve(&placement, &after);
        self.cx.dirty.vms = true;
    }

    /// The store has what a VM holds while it is resized.
    pub(crate) fn resize_stored(&mut self, id: VmId) {
        if let Some(resize) = self.compute.vms.get_mut(&id).and_then(|v| v.resizing.as_mut()) {
            resize.is_written = true;
            self.ask_resize(id);
        }
    }

    /// Asks the hypervisor for what a VM is to have, if it has not confirmed that. While the
    /// hypervisors are away this waits: it is called again when they are back.
    pub(crate) fn ask_resize(&mut self, id: VmId) {
        if self.compute.world.is_none() {
            return;
        }
        let Some(vm) = self.compute.vms.get(&id) else { return };
        let is_open = |resize: &&Resize| resize.is_written && !resize.is_confirmed;
        let Some(resize) = vm.resizing.as_ref().filter(is_open) else { return };
        let (server, resources) = (vm.record.server, resize.to);
        self.cx.effects.push(Effect::ResizeVm { vm: id, server, resources });
    }

    pub(crate) fn on_vm_resized(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        let Some(resize) = vm.resizing.as_mut().filter(|r| r.is_written && !r.is_confirmed) else { return };
        resize.is_confirmed = true;
        let to = resize.to;
        if vm.record.request.resources == to {
            return self.end_resize(id, Response::Done);
        }
        if matches!(vm.record.state, VmState::Stopping { .. }) {
            let why = format!("{id} is on its way out");
            return self.end_resize(id, Response::Failed { why });
        }
        self.write_shrunk(id);
    }

    /// Writes that a VM has less. Its room is given away when that is written: after a restart it
    /// has what the store says.
    pub(crate) fn write_shrunk(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get(&id) else { return };
        let Some(to) = vm.resizing.filter(|r| r.is_confirmed).map(|r| r.to) else { return };
        let mut record = vm.record.clone();
        record.request.resources = to;
        self.store(StoreOp::PutVm { vm: Box::new(record) }, PendingWrite::Shrunk(id));
    }

    pub(crate) fn shrunk_stored(&mut self, id: VmId) {
        let resizing = self.compute.vms.get(&id).and_then(|v| v.resizing);
        let Some(to) = resizing.filter(|r| r.is_confirmed).map(|r| r.to) else { return };
        self.set_resources(id, to);
        self.end_resize(id, Response::Done);
        // What else has changed of it meanwhile was not written.
        self.keep(Kept::Vm(id));
    }

    /// That a VM has less could not be written: whoever asked is notified, and it is tried again.
    pub(crate) fn shrunk_not_stored(&mut self, id: VmId, why: &str) {
        let Some(resize) = self.compute.vms.get_mut(&id).and_then(|v| v.resizing.as_mut()) else { return };
        if let Some(request) = resize.request.take() {
            let why = format!(
                "{id} has what was asked for, but that could not be written to the store ({why}); it is tried again every second"
            );
            self.cx.answer(request, Response::Failed { why });
        }
        self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryShrunk(id));
    }

    /// A VM has other resources, and that is written.
    pub(crate) fn end_resize(&mut self, id: VmId, response: Response) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        let Some(resize) = vm.resizing.take() else { return };
        if matches!(vm.record.state, VmState::Running | VmState::Cut { .. }) {
            self.stop_traffic(id);
            self.start_traffic(id);
            self.tag_vm(id);
        }
        if let Some(request) = resize.request {
            self.cx.answer(request, response);
        }
    }

    /// A hypervisor says that something of a VM has failed. True if that was its resize: then it
    /// has what it had.
    pub(crate) fn resize_failed(&mut self, id: VmId, why: &str) -> bool {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return false };
        let runs = matches!(vm.record.state, VmState::Running | VmState::Cut { .. });
        if !runs || vm.resizing.is_none_or(|r| r.is_confirmed || !r.is_written) {
            return false;
        }
        let held = vm.record.request.resources;
        let Some(resize) = vm.resizing.take() else { return false };
        if held != resize.before {
            self.set_resources(id, resize.before);
            self.keep(Kept::Vm(id));
        }
        if let Some(request) = resize.request {
            self.cx.answer(request, Response::Failed { why: why.to_owned() });
        }
        true
    }
}
