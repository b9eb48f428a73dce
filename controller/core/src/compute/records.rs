//! The records of VMs, to look at.

use crate::compute::ComputeRef;
use tandem_model::{VmId, VmRecord};

impl<'a> ComputeRef<'a> {
    /// A VM as it is.
    pub(crate) fn vm(self, id: VmId) -> Option<&'a VmRecord> {
        self.compute.vms.get(&id).map(|v| &v.record)
    }

    /// All VMs, in order of id.
    pub(crate) fn vms(self) -> impl Iterator<Item = &'a VmRecord> {
        self.compute.vms.values().map(|v| &v.record)
    }
}
