//! Shapes of data centres: from a few numbers to a [`Topology`], in time linear in its size.
//!
//! Names are `core1`, `agg1`, `edge1`, `srv1`, `gw1`. Datapath ids are 0x1000001 on for core, 0x2000001 on for aggregation, 0x3000001
//! on for edge switches. Ports count from 1 on every node, uplinks first. Addresses: edge `e` owns the `e`th prefix of the
//! network; its servers take the first addresses of it.

use crate::paths::distances_to;
use crate::{
    Dpid, Endpoint, Gateway, GatewayId, Link, LinkConfig, LinkId, Mac, NodeId, PortNo, Prefix, Resources,
    Role, Server, ServerId, Switch, SwitchId, Topology,
};
use std::net::Ipv4Addr;

/// What every shape needs besides its counts. Rates are per level; delay, loss and queue are the same everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    /// Links between gateways and core switches.
    pub gateway_link: LinkConfig,
    /// Links between core and aggregation switches (two tiers: core and edge).
    pub core_link: LinkConfig,
    /// Links between aggregation and edge switches, and between the switches of a line.
    pub aggregation_link: LinkConfig,
    /// Links between edge switches and servers.
    pub edge_link: LinkConfig,
    /// What a server has.
    pub server: Resources,
    /// Holds every edge's prefix.
    pub network: Prefix,
    /// Length of an edge's prefix.
    pub prefix_len: u8,
    /// Where gateways' addresses come from.
    pub gateways: Prefix,
}

/// Counts of a two- or three-tier tree: the seed's topology generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreeTier {
    /// Gateways.
    pub gateways: u32,
    /// Core switches.
    pub core: u32,
    /// Aggregation switches; 0 makes it a two-tier tree.
    pub aggregation: u32,
    /// Edge switches.
    pub edge: u32,
    /// Servers per edge switch.
    pub servers_per_edge: u32,
    /// Gateways that each core switch is linked to.
    pub core_gateway_links: u32,
    /// Core switches that each aggregation switch is linked to.
    pub aggregation_core_links: u32,
    /// Aggregation switches (two tiers: core switches) that each edge switch is linked to.
    pub edge_aggregation_links: u32,
    /// Edge switches that each server is linked to.
    pub server_uplinks: u32,
}

/// Counts of a k-ary fat tree (Al-Fares et al., SIGCOMM 2008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FatTree {
    /// Ports per switch: even, at least 2.
    pub k: u32,
    /// Servers per edge switch; k/2 in the paper.
    pub servers_per_edge: u32,
    /// Gateways, each linked to every core switch in turn.
    pub gateways: u32,
}

/// A line of edge switches, the gateways at the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Switches.
    pub switches: u32,
    /// Servers per switch.
    pub servers_per_switch: u32,
    /// Gateways, at the first switch.
    pub gateways: u32,
}

/// Collects nodes and links; ports are given out in the order of the links of each node, uplinks first.
struct Builder<'a> {
    common: &'a Common,
    switches: Vec<Switch>,
    servers: Vec<Server>,
    gateways: Vec<Gateway>,
    /// (upper, lower, cfg), in order.
    links: Vec<(NodeId, NodeId, LinkConfig)>,
}

impl<'a> Builder<'a> {
    fn new(common: &'a Common) -> Builder<'a> {
        Builder { common, switches: Vec::new(), servers: Vec::new(), gateways: Vec::new(), links: Vec::new() }
    }

    fn switches(&mut self, role: Role, count: u32) -> Vec<NodeId> {
        let (stem, base) = match role {
            Role::Core => ("core", 0x100_0000),
            Role::Aggregation => ("agg", 0x200_0000),
            Role::Edge => ("edge", 0x300_0000),
        };
        let mut ids = Vec::with_capacity(count as usize);
        for n in 1..=count {
            ids.push(NodeId::Switch(SwitchId(self.switches.len() as u32)));
            let prefix = (role == Role::Edge).then(|| self.edge_prefix(n - 1)).flatten();
            let dpid = Dpid(base + u64::from(n));
            self.switches.push(Switch {
                name: format!("{stem}{n}"),
                dpid,
                role,
                legacy: false,
                prefix,
                datapath: None,
            });
        }
        ids
    }

    /// The `n`th prefix of the network. A checked site has room for all of them beside the gateways.
    fn edge_prefix(&self, n: u32) -> Option<Prefix> {
        let Common { network, prefix_len, .. } = self.common;
        let step = 1u64 << (32 - u32::from((*prefix_len).min(32)));
        network.nth(u64::from(n) * step).and_then(|a| Prefix::new(a, *prefix_len))
    }

    fn gateways(&mut self, count: u32) -> Vec<NodeId> {
        (0..count)
            .map(|n| {
                let address = self.common.gateways.nth(u64::from(n) + 1).unwrap_or(Ipv4Addr::UNSPECIFIED);
                let [_, b, c, d] = (n + 1).to_be_bytes();
                let mac = Mac([0x02, 0x01, 0, b, c, d]);
                self.gateways.push(Gateway {
                    name: format!("gw{}", n + 1),
                    mac,
                    address,
                    uplinks: Vec::new(),
                });
                NodeId::Gateway(GatewayId(n))
            })
            .collect()
    }

    fn link(&mut self, upper: NodeId, lower: NodeId, cfg: LinkConfig) {
        self.links.push((upper, lower, cfg));
    }

    /// Adds `count` servers under `edges[at]`, each with `uplinks` links to that edge and its followers.
    fn servers(&mut self, edges: &[NodeId], at: usize, count: u32, uplinks: u32) {
        let prefix = match edges.get(at) {
            Some(NodeId::Switch(id)) => self.switches[id.0 as usize].prefix,
            _ => None,
        };
        for n in 0..count {
            let id = ServerId(self.servers.len() as u32);
            let [a, b, c, d] = (id.0 + 1).to_be_bytes();
            let address = prefix.and_then(|p| p.nth(u64::from(n) + 1)).unwrap_or(Ipv4Addr::UNSPECIFIED);
            self.servers.push(Server {
                name: format!("srv{}", id.0 + 1),
                capacity: self.common.server,
                mac: Mac([0x02, 0x00, a, b, c, d]),
                address,
                uplinks: Vec::new(),
            });
            for step in 0..uplinks as usize {
                self.link(edges[(at + step) % edges.len()], NodeId::Server(id), self.common.edge_link);
            }
        }
    }

    fn finish(self) -> Topology {
        let Builder { switches, mut servers, mut gateways, links, .. } = self;
        let mut next_port = std::collections::BTreeMap::<NodeId, u32>::new();
        let mut ports = vec![(PortNo(0), PortNo(0)); links.len()];
        let mut take = |node: NodeId| {
            let port = next_port.entry(node).or_insert(0);
            *port += 1;
            PortNo(*port)
        };
        // Uplinks first: the lower end of every link, then the upper end.
        for (n, (_, lower, _)) in links.iter().enumerate() {
            ports[n].1 = take(*lower);
        }
        for (n, (upper, _, _)) in links.iter().enumerate() {
            ports[n].0 = take(*upper);
        }
        let links: Vec<Link> = links
            .into_iter()
            .zip(ports)
            .map(|((upper, lower, cfg), (up, low))| Link {
                a: Endpoint { node: upper, port: up },
                b: Endpoint { node: lower, port: low },
                cfg,
            })
            .collect();
        for (n, link) in links.iter().enumerate() {
            for end in [link.a, link.b] {
                match end.node {
                    NodeId::Server(id) => servers[id.0 as usize].uplinks.push(LinkId(n as u32)),
                    NodeId::Gateway(id) => gateways[id.0 as usize].uplinks.push(LinkId(n as u32)),
                    NodeId::Switch(_) => {}
                }
            }
        }
        Topology::new(switches, servers, gateways, links)
    }
}

/// The seed's tree. Lower switch `i`'s `j`th uplink goes to upper switch `(i * links + j) mod uppers`, so that links are
/// spread evenly; the same between core switches and gateways.
///
/// Where that leaves the tree in pieces (4 core switches, 2 uplinks each: `{1,2} {3,4} {1,2} {3,4}`), every round over the upper
/// switches starts one further than the last (`{1,2} {3,4} {2,3} {4,1}`).
pub fn three_tier(shape: ThreeTier, common: &Common) -> Topology {
    let topology = tree(shape, common, false);
    let in_pieces = (topology.switches.first())
        .map(|_| distances_to(&topology, NodeId::Switch(SwitchId(0)), |_| true))
        .is_some_and(|distance| distance.contains(&u32::MAX));
    if in_pieces { tree(shape, common, true) } else { topology }
}

fn tree(shape: ThreeTier, common: &Common, shifted: bool) -> Topology {
    let mut b = Builder::new(common);
    let core = b.switches(Role::Core, shape.core);
    let aggregation = b.switches(Role::Aggregation, shape.aggregation);
    let edge = b.switches(Role::Edge, shape.edge);
    let gateways = b.gateways(shape.gateways);
    spread(&mut b, &gateways, &core, shape.core_gateway_links, common.gateway_link, false);
    if aggregation.is_empty() {
        spread(&mut b, &core, &edge, shape.edge_aggregation_links, common.core_link, shifted);
    } else {
        spread(&mut b, &core, &aggregation, shape.aggregation_core_links, common.core_link, shifted);
        spread(&mut b, &aggregation, &edge, shape.edge_aggregation_links, common.aggregation_link, shifted);
    }
    for at in 0..edge.len() {
        b.servers(&edge, at, shape.servers_per_edge, shape.server_uplinks);
    }
    b.finish()
}

fn spread(
    b: &mut Builder<'_>,
    uppers: &[NodeId],
    lowers: &[NodeId],
    links: u32,
    cfg: LinkConfig,
    shifted: bool,
) {
    let links = links as usize;
    if uppers.is_empty() || links == 0 {
        return;
    }
    let shifted = shifted && uppers.len().is_multiple_of(links);
    for (i, lower) in lowers.iter().enumerate() {
        let round = if shifted { i * links / uppers.len() } else { 0 };
        for j in 0..links {
            b.link(uppers[(i * links + round + j) % uppers.len()], *lower, cfg);
        }
    }
}

/// k pods of k/2 aggregation and k/2 edge switches, (k/2)^2 core switches; aggregation switch `i` of a pod is linked to core
/// switches `i*k/2` to `i*k/2 + k/2 - 1`.
pub fn fat_tree(shape: FatTree, common: &Common) -> Topology {
    let half = (shape.k / 2) as usize;
    let mut b = Builder::new(common);
    let core = b.switches(Role::Core, (half * half) as u32);
    let aggregation = b.switches(Role::Aggregation, shape.k * half as u32);
    let edge = b.switches(Role::Edge, shape.k * half as u32);
    let gateways = b.gateways(shape.gateways);
    spread(&mut b, &gateways, &core, 1, common.gateway_link, false);
    for pod in 0..shape.k as usize {
        for i in 0..half {
            for j in 0..half {
                b.link(core[i * half + j], aggregation[pod * half + i], common.core_link);
            }
        }
        for e in 0..half {
            for a in 0..half {
                b.link(aggregation[pod * half + a], edge[pod * half + e], common.aggregation_link);
            }
        }
    }
    for at in 0..edge.len() {
        b.servers(&edge, at, shape.servers_per_edge, 1);
    }
    b.finish()
}

/// Switches in a row.
pub fn linear(shape: Linear, common: &Common) -> Topology {
    let mut b = Builder::new(common);
    let line = b.switches(Role::Edge, shape.switches);
    let gateways = b.gateways(shape.gateways);
    for gateway in gateways {
        b.link(gateway, line[0], common.gateway_link);
    }
    for pair in line.windows(2) {
        b.link(pair[0], pair[1], common.aggregation_link);
    }
    for at in 0..line.len() {
        b.servers(&line, at, shape.servers_per_switch, 1);
    }
    b.finish()
}
