//! Default routes: from every switch, the next hop towards every edge switch's prefix and every
//! gateway.
//!
//! Shortest by hops over usable links, recomputed whenever a link's usability changes. Of equal
//! next hops, the one that was used before stays (so that a failure elsewhere moves nothing); else
//! destinations are spread over them in blocks of neighbouring prefixes, so that they still
//! aggregate.

use crate::network::links::LinkTable;
use tandem_model::paths::Path;
use tandem_model::{GatewayId, Hop, LinkId, NodeId, Prefix, SwitchId, Topology, paths};

/// Where a default route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// An edge switch and the addresses behind it.
    Edge(SwitchId, Prefix),
    /// A gateway.
    Gateway(GatewayId),
}

impl Destination {
    fn node(self) -> NodeId {
        match self {
            Destination::Edge(id, _) => NodeId::Switch(id),
            Destination::Gateway(id) => NodeId::Gateway(id),
        }
    }
}

/// No link: a switch that cannot reach a destination.
const NOWHERE: LinkId = LinkId(u32::MAX);

/// The default routes to every edge switch and gateway.
#[derive(Debug, Clone)]
pub struct Routes {
    destinations: Vec<Destination>,
    /// Per switch, its index among the destinations.
    edge_index: Vec<Option<u32>>,
    first_gateway: usize,
    /// Per switch, per destination: all the ways of a switch lie side by side, so that those of the
    /// few inner switches, which every path passes, stay in the processor's cache.
    next: Vec<Vec<LinkId>>,
    /// Per gateway (in order of id), per switch: hops to it.
    gateway_distance: Vec<Vec<u32>>,
}

impl Routes {
    /// Routes over the links that are usable now.
    pub fn new(topology: &Topology, links: &LinkTable) -> Routes {
        let mut edge_index = vec![None; topology.switches.len()];
        let mut destinations = Vec::new();
        for (n, switch) in topology.switches.iter().enumerate() {
            if let Some(prefix) = switch.prefix {
                edge_index[n] = Some(destinations.len() as u32);
                destinations.push(Destination::Edge(SwitchId(n as u32), prefix));
            }
        }
        let first_gateway = destinations.len();
        destinations.extend((0..topology.gateways.len() as u32).map(|g| Destination::Gateway(GatewayId(g))));
        let next = vec![vec![NOWHERE; destinations.len()]; topology.switches.len()];
        let gateway_distance = vec![Vec::new(); topology.gateways.len()];
        let mut routes = Routes { destinations, edge_index, first_gateway, next, gateway_distance };
        routes.recompute(topology, links);
        routes
    }

    /// Brings all routes up to date.
    pub fn recompute(&mut self, topology: &Topology, links: &LinkTable) {
        let total = self.destinations.len().max(1);
        for (index, destination) in self.destinations.iter().enumerate() {
            let usable = |hop: Hop| links.is_usable(hop.link);
            let distance = paths::distances_to(topology, destination.node(), usable);
            for n in 0..topology.switches.len() {
                let here = distance[n];
                if here == 0 || here == u32::MAX {
                    self.next[n][index] = NOWHERE;
                    continue;
                }
                // A machine with several uplinks may be near as well, but forwards nothing.
                let forwards = |node| matches!(node, NodeId::Switch(_)) || node == destination.node();
                let closer = |(hop, node): (Hop, NodeId)| {
                    let ok = links.is_usable(hop.link)
                        && distance[topology.slot(node)] == here - 1
                        && forwards(node);
                    ok.then_some(hop.link)
                };
                let node = NodeId::Switch(SwitchId(n as u32));
                let candidates: Vec<LinkId> = paths::hops_from(topology, node).filter_map(closer).collect();
                let known = Some(self.next[n][index]).filter(|l| candidates.contains(l));
                let block = index * candidates.len() / total;
                let dealt = || candidates.get((block + n) % candidates.len().max(1)).copied();
                self.next[n][index] = known.or_else(dealt).unwrap_or(NOWHERE);
            }
            if let Destination::Gateway(g) = destination {
                self.gateway_distance[g.0 as usize] = distance;
            }
        }
    }

    /// All destinations, edges first.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The link that leads from a switch towards a destination (by its index).
    pub fn next(&self, destination: usize, switch: SwitchId) -> Option<LinkId> {
        self.next.get(switch.0 as usize)?.get(destination).copied().filter(|link| *link != NOWHERE)
    }

    /// A gateway's index among the destinations.
    pub fn gateway_index(&self, gateway: GatewayId) -> usize {
        self.first_gateway + gateway.0 as usize
    }

    /// An edge switch's index among the destinations.
    pub fn edge_index(&self, edge: SwitchId) -> Option<usize> {
        self.edge_index.get(edge.0 as usize).copied().flatten().map(|i| i as usize)
    }

    /// The gateways that a switch can reach, nearest first; equally near ones are dealt round by
    /// the switch's number.
    pub fn gateways_from(&self, switch: SwitchId) -> Vec<GatewayId> {
        let count = self.gateway_distance.len() as u32;
        let mut reachable: Vec<(u32, u32, GatewayId)> = (0..count)
            .filter_map(|g| {
                let distance = *self.gateway_distance.get(g as usize)?.get(switch.0 as usize)?;
                let turn = (g + count - switch.0 % count) % count;
                (distance != u32::MAX).then_some((distance, turn, GatewayId(g)))
            })
            .collect();
        reachable.sort_unstable();
        reachable.into_iter().map(|(_, _, g)| g).collect()
    }

    /// The default path from a switch to a destination.
    pub fn follow(&self, topology: &Topology, from: SwitchId, destination: usize) -> Option<Path> {
        let target = self.destinations.get(destination)?.node();
        let mut path = Vec::new();
        let mut at = NodeId::Switch(from);
        while at != target {
            let NodeId::Switch(id) = at else { return None };
            let link = self.next(destination, id)?;
            let hop = topology.link(link)?.hop_from(link, at);
            at = paths::head(topology, hop)?;
            path.push(hop);
            if path.len() > topology.switches.len() + 1 {
                return None;
            }
        }
        Some(path)
    }
}
