//! Whose rules are whose.

use tandem_model::{MigrationId, Owner, VmId};

/// The owner of a VM's rules.
pub(crate) fn owner(id: VmId) -> Owner {
    Owner::Vm(id.0 as u32)
}

/// The owner of the rules of a migration's own traffic.
pub(crate) fn transfer_owner(id: MigrationId) -> Owner {
    Owner::Migration(id.0 as u32)
}
