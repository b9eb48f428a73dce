//! How something is handed to the store.

use crate::compute::ComputeMut;
use crate::compute::pending_writes::PendingWrite;
use crate::compute::vm::Vm;
use crate::compute::vm_group::Stage;
use crate::stored_item::Kept;
use tandem_model::{Effect, StoreId, StoreOp, VmState};

impl ComputeMut<'_> {
    /// Writes something as it is now, or that it is gone; as often as it takes. What somebody wants
    /// otherwise already is left to the write that is on its way: whoever waits for that writes it
    /// again if that fails.
    pub(crate) fn keep(&mut self, kept: Kept) {
        let published = |vm| {
            let group = self.compute().forming_of(vm).and_then(|group| self.compute.forming.get(&group));
            group.is_some_and(|f| f.stage == Stage::Publishing)
        };
        // A member is written again when its group has been.
        if matches!(kept, Kept::Vm(vm) if published(vm)) {
            return;
        }
        if self.compute.stores.values().any(|write| write.decides(kept)) {
            return;
        }
        let record = match kept {
            // A VM on its way out is removed by whoever waits for that.
            Kept::Vm(id) => {
                // One that is being written as smaller than it is here is written when that is done.
                let stays = |v: &&Vm| {
                    !matches!(v.record.state, VmState::Stopping { .. })
                        && !v.resizing.is_some_and(|resize| resize.is_confirmed)
                };
                self.compute
                    .vms
                    .get(&id)
                    .filter(stays)
                    .map(|v| StoreOp::PutVm { vm: Box::new(v.record.clone()) })
            }
            Kept::Group(id) => Some(match self.compute.groups.get(&id) {
                Some(group) => StoreOp::PutGroup { group: group.clone() },
                None => StoreOp::RemoveGroup { group: id },
            }),
            Kept::Port(switch, port) => Some(match self.net.ports.get(switch, port) {
                Some(port) => StoreOp::PutPort { port },
                None => StoreOp::RemovePort { switch, port },
            }),
        };
        if let Some(record) = record {
            self.store(record, PendingWrite::Updated(kept));
        }
    }
}

impl ComputeMut<'_> {
    /// Asks the store to write something; what follows is decided when it has.
    pub(crate) fn store(&mut self, op: StoreOp, wait: PendingWrite) {
        self.compute.last_store += 1;
        let id = StoreId(self.compute.last_store);
        self.compute.stores.insert(id, wait);
        self.cx.effects.push(Effect::Store { id, op });
    }
}
