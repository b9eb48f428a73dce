//! Other resources for a running VM: where it is, or, where there is no room for that, on a server
//! that has room, to which it is moved first. Whoever asks is answered once, when it has them; when
//! that fails it has what it had.

use crate::compute::ComputeMut;
use crate::compute::pending_writes::PendingWrite;
use tandem_model::{Effect, RequestId, Resources, Response, StoreOp, VmId, VmState};

impl ComputeMut<'_> {
    /// A VM gets other resources, for which there is room where it is.
    pub(crate) fn grow_where_it_is(&mut self, id: VmId, request: RequestId, to: Resources) {
        let Some(vm) = self.compute.vms.get_mut(&id) else {
            return self.cx.answer(request, Response::NotFound { what: id.to_string() });
        };
        if vm.record.state != VmState::Running {
            let why = format!("{id} is {}; only a running VM can be resized", vm.record.state);
            return self.cx.answer(request, Response::Conflict { why });
        }
        vm.resizing = Some((request, vm.record.request.resources));
        self.set_resources(id, to);
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

    pub(crate) fn ask_resize(&mut self, id: VmId) {
        let Some(vm) = self.compute.vms.get(&id).filter(|v| v.resizing.is_some()) else { return };
        let (server, resources) = (vm.record.server, vm.record.request.resources);
        self.cx.effects.push(Effect::ResizeVm { vm: id, server, resources });
    }

    pub(crate) fn on_vm_resized(&mut self, id: VmId) {
        let Some((request, _)) = self.compute.vms.get_mut(&id).and_then(|v| v.resizing.take()) else {
            return;
        };
        self.stop_traffic(id);
        self.start_traffic(id);
        self.tag_vm(id);
        self.cx.answer(request, Response::Done);
    }
}
