//! Servers that get no more VMs.

use crate::compute::{ComputeMut, ComputeRef};
use tandem_model::ServerId;

impl<'a> ComputeRef<'a> {
    /// True for a server that gets no more VMs.
    pub(crate) fn is_drained(self, server: ServerId) -> bool {
        self.compute.inventory.is_drained(server)
    }
}

impl ComputeMut<'_> {
    /// Takes over what the store holds of servers out of service.
    pub(crate) fn restore_drained(&mut self, drained: &[ServerId]) {
        for server in drained {
            self.compute.inventory.set_drained(*server, true);
        }
    }
}
