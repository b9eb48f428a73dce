//! Which VMs are being moved, and where they may be.

use crate::compute::ComputeRef;
use crate::compute::moves::Migration;
use tandem_model::{MigrationRecord, VmId};

impl<'a> ComputeRef<'a> {
    /// The migration of a VM that may have two places.
    pub(crate) fn moving(self, vm: VmId) -> Option<&'a Migration> {
        self.compute.migrations.open.get(self.compute.migrations.by_vm.get(&vm)?).filter(|m| !m.settled)
    }

    /// The migration of a VM, until the store has forgotten it.
    pub(crate) fn migration_of(self, vm: VmId) -> Option<&'a Migration> {
        self.compute.migrations.open.get(self.compute.migrations.by_vm.get(&vm)?)
    }

    /// True until the store has forgotten a VM's migration.
    pub(crate) fn is_moving(self, vm: VmId) -> bool {
        self.compute.migrations.by_vm.contains_key(&vm)
    }

    /// Migrations that are under way, in order of id.
    pub(crate) fn migrations(self) -> impl Iterator<Item = &'a MigrationRecord> {
        self.compute.migrations.open.values().map(|m| &m.record)
    }
}

impl<'a> ComputeRef<'a> {
    /// True when a VM may be found on a server.
    pub(crate) fn may_run_on(self, vm: VmId, server: tandem_model::ServerId) -> bool {
        let ordered = self.moving(vm).filter(|m| m.ordered).map(|m| &m.record);
        self.compute.vms.get(&vm).is_some_and(|v| v.record.server == server)
            || ordered.is_some_and(|m| m.from.server == server || m.to.server == server)
    }
}
