//! Where servers, VMs and gateways are attached to the network, and their default paths.

use crate::network::routes::Routes;
use crate::network::topology_state::is_openflow;
use tandem_model::{Hop, LinkId, NodeId, PortNo, SwitchId, Topology, VmRecord, paths};

/// The port by which `node` sends on `link`.
pub fn port_on(topology: &Topology, node: NodeId, link: LinkId) -> Option<PortNo> {
    topology.link(link)?.end_at(node).map(|e| e.port)
}

/// The switch port that a server's uplink is plugged into, with its OpenFlow switch, and the hop's
/// link at that switch.
pub fn server_port(topology: &Topology, vm: &VmRecord) -> Option<(SwitchId, PortNo)> {
    uplink_port(topology, vm.server, vm.uplink as usize)
}

/// See [`server_port`]; through a legacy switch, the port of the first OpenFlow switch behind it.
pub fn uplink_port(
    topology: &Topology,
    server: tandem_model::ServerId,
    uplink: usize,
) -> Option<(SwitchId, PortNo)> {
    let edge = topology.edge_of(server, uplink)?;
    let first = *topology.server(server)?.uplinks.get(uplink)?;
    if let Some(port) = port_on(topology, NodeId::Switch(edge), first) {
        return Some((edge, port));
    }
    let path = paths::all_shortest(topology, NodeId::Server(server), NodeId::Switch(edge), 1, |hop| {
        paths::tail(topology, hop) != Some(NodeId::Server(server)) || hop.link == first
    });
    let last = path.first()?.last()?;
    port_on(topology, NodeId::Switch(edge), last.link).map(|p| (edge, p))
}

/// The default paths of a VM: up to its gateway and down from it. `None` where there is none.
pub fn default_paths(topology: &Topology, routes: &Routes, vm: &VmRecord) -> Option<(Vec<Hop>, Vec<Hop>)> {
    let edge = topology.edge_of(vm.server, vm.uplink as usize)?;
    if !topology.switch(edge)?.prefix?.contains(vm.address) {
        return None;
    }
    paths_via(topology, routes, vm.server, vm.uplink as usize, vm.gateway)
}

/// The default paths between a server (by one of its uplinks) and a gateway, up and down.
pub fn paths_via(
    topology: &Topology,
    routes: &Routes,
    server: tandem_model::ServerId,
    uplink: usize,
    gateway: tandem_model::GatewayId,
) -> Option<(Vec<Hop>, Vec<Hop>)> {
    let edge = topology.edge_of(server, uplink)?;
    let access = access_path(topology, server, uplink)?;
    let mut up = access.clone();
    up.extend(routes.follow(topology, edge, routes.gateway_index(gateway))?);
    let first = *topology.gateway(gateway)?.uplinks.first()?;
    // Down: from the gateway's switch that its own way up ends at, which is where its replies
    // start.
    let last = up.last().copied().filter(|h| paths::head(topology, *h) == Some(NodeId::Gateway(gateway)));
    let start = last.map_or(first, |h| h.link);
    let hop = topology.link(start)?.hop_from(start, NodeId::Gateway(gateway));
    let NodeId::Switch(entry) = paths::head(topology, hop)? else { return None };
    let mut down = vec![hop];
    down.extend(routes.follow(topology, entry, routes.edge_index(edge)?)?);
    down.extend(access.iter().rev().map(|h| Hop { link: h.link, down: !h.down }));
    Some((up, down))
}

/// From a server to its edge switch by one of its uplinks (over legacy switches if there are any).
pub fn access_path(topology: &Topology, server: tandem_model::ServerId, uplink: usize) -> Option<Vec<Hop>> {
    let tandem_model::Access { edge, hop, direct } = topology.access(server, uplink)?;
    if direct {
        return Some(vec![hop]);
    }
    let first = hop.link;
    let start = paths::head(topology, hop)?;
    let rest = paths::all_shortest(topology, start, NodeId::Switch(edge), 1, |h| h.link != first)
        .into_iter()
        .next()?;
    Some(std::iter::once(hop).chain(rest).collect())
}

/// The switch that a hop from a gateway leads to, with its port.
pub(crate) fn entry(topology: &Topology, hop: Hop) -> Option<(SwitchId, PortNo)> {
    let node @ NodeId::Switch(switch) = paths::head(topology, hop)? else { return None };
    is_openflow(topology, node).then_some(())?;
    port_on(topology, node, hop.link).map(|port| (switch, port))
}
