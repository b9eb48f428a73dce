//! The data centre as an allocation policy sees it.

use crate::compute::ComputeRef;
use crate::compute::inventory::Inventory;
use crate::network::links::LinkTable;
use crate::network::topology_state;
use crate::policy::view::ServerView;
use crate::policy::view::{HopView, PlacementView};
use tandem_model::{
    BitRate, GroupRecord, Hop, LinkId, NodeId, ServerId, Site, SwitchId, Time, VmId, VmRecord,
};

/// As it is, or, while a plan is made, as it will be after the moves so far.
pub(crate) struct Seen<'a> {
    pub(crate) compute: ComputeRef<'a>,
    pub(crate) inventory: &'a Inventory,
    pub(crate) links: &'a LinkTable,
}

impl PlacementView for Seen<'_> {
    fn now(&self) -> Time {
        self.compute.cx.now
    }

    fn site(&self) -> &Site {
        &self.compute.cx.site
    }

    fn servers(&self) -> Vec<ServerView> {
        let open = |s: &&ServerView| {
            !self.inventory.is_drained(s.id) && !self.compute.compute.away.contains_key(&s.id)
        };
        self.inventory.servers().iter().filter(open).copied().collect()
    }

    fn server(&self, id: ServerId) -> Option<ServerView> {
        self.inventory.server(id).copied()
    }

    fn edge_of(&self, server: ServerId) -> Option<SwitchId> {
        self.compute.cx.site.topology.edge_of(server, 0)
    }

    fn hop(&self, hop: Hop) -> HopView {
        HopView {
            reserved: self.links.reserved(hop),
            measured: self.links.measured(hop),
            left: self.links.residual(hop),
        }
    }

    fn link_load(&self, link: LinkId) -> f64 {
        let fill = |down| self.links.fill(Hop { link, down });
        fill(false).max(fill(true))
    }

    fn edge_load(&self, edge: SwitchId) -> f64 {
        let topology = &self.compute.cx.site.topology;
        let here = NodeId::Switch(edge);
        let inner = topology.ports(here).iter().map(|(_, link)| *link).filter(|link| {
            let other = topology.link(*link).and_then(|l| l.other(here));
            other.is_some_and(|end| matches!(end.node, NodeId::Switch(_)))
        });
        let loads: Vec<f64> = inner.map(|link| self.link_load(link)).collect();
        if loads.is_empty() { 0.0 } else { loads.iter().sum::<f64>() / loads.len() as f64 }
    }

    fn path_load(&self, edge: SwitchId) -> f64 {
        let routes = &self.compute.net.routes;
        let gateway = routes.gateways_from(edge).first().map(|gateway| routes.gateway_index(*gateway));
        let path = gateway.and_then(|index| routes.follow(&self.compute.cx.site.topology, edge, index));
        path.map_or(1.0, |path| path.iter().map(|hop| self.link_load(hop.link)).fold(0.0, f64::max))
    }

    fn switch_load(&self, switch: SwitchId) -> f64 {
        self.links.by_switch().load(switch)
    }

    fn switch_left(&self, switch: SwitchId) -> Option<BitRate> {
        let topology = &self.compute.cx.site.topology;
        let is_attended = !topology_state::is_openflow(topology, NodeId::Switch(switch))
            || self.compute.net.live.switch(switch).is_some_and(|s| s.connected);
        is_attended.then(|| self.links.by_switch().left(switch).unwrap_or(BitRate(u64::MAX)))
    }

    fn cpu_load(&self, server: ServerId) -> Option<f64> {
        self.compute.server_load(server).map(|load| load.cpu)
    }

    fn vm(&self, id: VmId) -> Option<&VmRecord> {
        self.compute.vm(id)
    }

    fn vms(&self) -> Vec<&VmRecord> {
        self.compute.vms().collect()
    }

    fn groups(&self) -> Vec<&GroupRecord> {
        self.compute.compute.groups.values().collect()
    }
}
