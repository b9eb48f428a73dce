//! What hypervisors report of the load of servers and VMs.

use crate::compute::host_load::LoadView;
use crate::compute::{ComputeMut, ComputeRef};
use std::time::Duration;
use tandem_model::{BitRate, Effect, ServerId, VmId};

/// After so many periods without a sample a server's load is unknown.
pub(crate) const SILENCE: u32 = 3;

impl<'a> ComputeRef<'a> {
    /// What a server uses, as its hypervisor measures it.
    pub(crate) fn server_load(self, server: ServerId) -> Option<LoadView> {
        self.compute.loads.of_server(server)
    }

    /// What a VM uses, as its hypervisor measures it.
    pub(crate) fn vm_load(self, vm: VmId) -> Option<LoadView> {
        self.compute.loads.of_vm(vm)
    }

    /// At which rate a VM is taken to write its memory anew: as measured, else what the site says.
    pub(crate) fn dirty_rate(self, vm: VmId) -> BitRate {
        self.compute.loads.dirty(vm).unwrap_or(self.cx.site.migration.dirty_rate)
    }

    pub(crate) fn silence(self) -> Duration {
        self.cx.site.statistics.period * SILENCE
    }
}

impl ComputeMut<'_> {
    pub(crate) fn ask_loads(&mut self) {
        self.cx.effects.push(Effect::ReportLoads { period: self.cx.site.statistics.period });
    }
}
