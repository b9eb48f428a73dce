//! Names of servers, ports, links and hosts, for people, and spans of time that follow from the
//! site.

use crate::context::Context;
use crate::network::NetworkRef;
use crate::network::host_tracker::HostKind;
use std::time::Duration;
use tandem_model::{Dpid, NodeId, PortNo, ServerId, SwitchId, VmRecord};

impl Context {
    pub(crate) fn server_name(&self, id: ServerId) -> String {
        match self.site.topology.server(id) {
            Some(_) => self.site.topology.name(NodeId::Server(id)).to_owned(),
            None => id.to_string(),
        }
    }

    /// `edge1.3`.
    pub(crate) fn port_name(&self, switch: SwitchId, port: PortNo) -> String {
        format!("{}.{port}", self.site.topology.name(NodeId::Switch(switch)))
    }

    pub(crate) fn pin_names(&self, record: &VmRecord) -> String {
        let name = |s: &SwitchId| self.site.topology.name(NodeId::Switch(*s)).to_owned();
        record.pin.iter().flatten().map(name).collect::<Vec<_>>().join(" - ")
    }

    /// How often links are looked at: often enough that a timeout is noticed at most a third late.
    pub(crate) fn sweep_period(&self) -> Duration {
        (self.site.discovery.lldp_timeout / 3).max(Duration::from_millis(100))
    }

    pub(crate) fn lldp_timeout(&self) -> Option<Duration> {
        self.site.modules.discovery.then_some(self.site.discovery.lldp_timeout)
    }

    pub(crate) fn host_name(&self, kind: HostKind) -> String {
        match kind {
            HostKind::Server(id) => self.site.topology.name(NodeId::Server(id)).to_owned(),
            HostKind::Gateway(id) => self.site.topology.name(NodeId::Gateway(id)).to_owned(),
            HostKind::Vm(id) => id.to_string(),
            HostKind::Unknown => "an unknown host".to_owned(),
        }
    }
}

impl NetworkRef<'_> {
    /// A switch's name in the site, or its datapath id where the site does not know it.
    pub(crate) fn switch_name(self, dpid: Dpid) -> String {
        match self.net.live.id(dpid).and_then(|id| self.cx.site.topology.switch(id)) {
            Some(switch) => switch.name.clone(),
            None => format!("switch {dpid}"),
        }
    }
}
