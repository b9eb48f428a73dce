//! What switches count of the flows of VMs.

use crate::compute::ComputeMut;
use crate::network::attachment;
use tandem_model::{FlowSample, Owner, SwitchId, VmId};

impl ComputeMut<'_> {
    /// Takes in the counters of a switch's flows: those of a VM are counted at its own edge, and
    /// show that it lives.
    pub(crate) fn take_flow_samples(&mut self, switch: SwitchId, flows: &[FlowSample]) {
        for flow in flows {
            let Some(Owner::Vm(low)) = flow.cookie.owner() else { continue };
            let vm = VmId(u64::from(low));
            let Some(record) = self.compute.vms.get(&vm).map(|v| &v.record) else { continue };
            let home = attachment::server_port(&self.cx.site.topology, record).map(|(s, _)| s);
            if home == Some(switch) && self.net.statistics.vm(vm, flow, self.cx.now) {
                let address = record.address;
                self.net.hosts.alive(address, self.cx.now);
            }
        }
    }
}
