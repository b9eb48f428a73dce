//! Collects a shape's nodes and links, and gives them names, numbers, ports and addresses.
//!
//! Names are `core1`, `agg1`, `edge1`, `srv1`, `gw1`, or what the shape says. Datapath ids are
//! 0x1000001 on for core, 0x2000001 on for aggregation, 0x3000001 on for edge switches. Ports count
//! from 1 on every node, uplinks first, or in the order of the links where those are written by
//! hand. Addresses: the `e`th switch that owns a prefix owns the `e`th prefix of the network; its
//! servers take the first addresses of it.

use super::Parameters;
use crate::{
    DatapathKind, Dpid, Endpoint, Gateway, GatewayId, Link, LinkConfig, LinkId, Mac, NodeId, PortNo, Prefix,
    Resources, Role, Server, ServerId, Switch, SwitchId, Topology,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Datapath ids of a role's switches count from one above this.
pub(super) fn dpid_base(role: Role) -> u64 {
    match role {
        Role::Core => 0x100_0000,
        Role::Aggregation => 0x200_0000,
        Role::Edge => 0x300_0000,
    }
}

/// The next free port of each node.
#[derive(Default)]
struct FreePorts(BTreeMap<NodeId, u32>);

impl FreePorts {
    fn take(&mut self, node: NodeId) -> PortNo {
        let port = self.0.entry(node).or_insert(0);
        *port += 1;
        PortNo(*port)
    }
}

/// Collects nodes and links; ports are given out in the order of the links of each node, uplinks
/// first.
pub(super) struct Builder<'a> {
    parameters: &'a Parameters,
    switches: Vec<Switch>,
    /// Prefixes that have an owner.
    prefixes: u32,
    servers: Vec<Server>,
    gateways: Vec<Gateway>,
    /// Upper end, lower end, configuration; in order.
    links: Vec<(NodeId, NodeId, LinkConfig)>,
}

impl<'a> Builder<'a> {
    /// Nothing yet.
    pub(super) fn new(parameters: &'a Parameters) -> Builder<'a> {
        Builder {
            parameters,
            switches: Vec::new(),
            prefixes: 0,
            servers: Vec::new(),
            gateways: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Adds `count` switches of a role, named and numbered from 1; an edge switch owns the next
    /// prefix.
    pub(super) fn switches(&mut self, role: Role, count: u32) -> Vec<NodeId> {
        let stem = match role {
            Role::Core => "core",
            Role::Aggregation => "agg",
            Role::Edge => "edge",
        };
        self.switches_called(stem, role, count)
    }

    /// The same with names of the shape's own: `leaf1`, `leaf2` ...
    pub(super) fn switches_called(&mut self, stem: &str, role: Role, count: u32) -> Vec<NodeId> {
        (1..=count)
            .map(|n| {
                let dpid = self.next_dpid(role);
                self.switch(format!("{stem}{n}"), dpid, role, role == Role::Edge, None)
            })
            .collect()
    }

    /// Adds a switch, which owns the next prefix if `has_prefix`.
    pub(super) fn switch(
        &mut self,
        name: String,
        dpid: Dpid,
        role: Role,
        has_prefix: bool,
        datapath: Option<DatapathKind>,
    ) -> NodeId {
        let id = NodeId::Switch(SwitchId(self.switches.len() as u32));
        let prefix = has_prefix.then(|| self.edge_prefix(self.prefixes)).flatten();
        self.prefixes += u32::from(has_prefix);
        self.switches.push(Switch { name, dpid, role, legacy: false, prefix, datapath });
        id
    }

    /// The datapath id of the next switch of a role.
    fn next_dpid(&self, role: Role) -> Dpid {
        let others = self.switches.iter().filter(|s| s.role == role).count() as u64;
        Dpid(dpid_base(role) + others + 1)
    }

    /// The `n`th prefix of the network. A checked site has room for all of them beside the
    /// gateways.
    fn edge_prefix(&self, n: u32) -> Option<Prefix> {
        let Parameters { network, prefix_len, .. } = self.parameters;
        let step = 1u64 << (32 - u32::from((*prefix_len).min(32)));
        network.nth(u64::from(n) * step).and_then(|a| Prefix::new(a, *prefix_len))
    }

    /// Adds `count` gateways, named and numbered from 1.
    pub(super) fn gateways(&mut self, count: u32) -> Vec<NodeId> {
        (1..=count).map(|n| self.gateway(format!("gw{n}"))).collect()
    }

    /// Adds a gateway.
    pub(super) fn gateway(&mut self, name: String) -> NodeId {
        let n = self.gateways.len() as u32;
        let address = self.parameters.gateways.nth(u64::from(n) + 1).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let [_, b, c, d] = (n + 1).to_be_bytes();
        let mac = Mac([0x02, 0x01, 0, b, c, d]);
        self.gateways.push(Gateway { name, mac, address, uplinks: Vec::new() });
        NodeId::Gateway(GatewayId(n))
    }

    /// Adds a link. Each node's ports are numbered in the order of its links, uplinks first.
    pub(super) fn link(&mut self, upper: NodeId, lower: NodeId, config: LinkConfig) {
        self.links.push((upper, lower, config));
    }

    /// Adds `count` servers under `edges[at]`, each with `uplinks` links to that edge and its
    /// followers.
    pub(super) fn servers(&mut self, edges: &[NodeId], at: usize, count: u32, uplinks: u32) {
        let Some(edge) = edges.get(at) else { return };
        for n in 0..count {
            let name = format!("srv{}", self.servers.len() + 1);
            let server = self.server(name, self.parameters.server, *edge, n);
            for step in 0..uplinks as usize {
                self.link(edges[(at + step) % edges.len()], server, self.parameters.edge_link);
            }
        }
    }

    /// Adds a server, the `n`th of those whose first uplink leads to `edge`.
    pub(super) fn server(&mut self, name: String, capacity: Resources, edge: NodeId, n: u32) -> NodeId {
        let prefix = match edge {
            NodeId::Switch(id) => self.switches.get(id.0 as usize).and_then(|s| s.prefix),
            NodeId::Server(_) | NodeId::Gateway(_) => None,
        };
        let id = ServerId(self.servers.len() as u32);
        let [a, b, c, d] = (id.0 + 1).to_be_bytes();
        let mac = Mac([0x02, 0x00, a, b, c, d]);
        let address = prefix.and_then(|p| p.nth(u64::from(n) + 1)).unwrap_or(Ipv4Addr::UNSPECIFIED);
        self.servers.push(Server { name, capacity, mac, address, uplinks: Vec::new() });
        NodeId::Server(id)
    }

    /// The topology of what was added; ports are numbered uplinks first.
    pub(super) fn finish(self) -> Topology {
        let mut ports = vec![(PortNo(0), PortNo(0)); self.links.len()];
        let mut free = FreePorts::default();
        for (n, (_, lower, _)) in self.links.iter().enumerate() {
            ports[n].1 = free.take(*lower);
        }
        for (n, (upper, _, _)) in self.links.iter().enumerate() {
            ports[n].0 = free.take(*upper);
        }
        self.assemble(ports)
    }

    /// The topology of what was added; ports are numbered in the order of the links.
    pub(super) fn finish_in_order(self) -> Topology {
        let mut free = FreePorts::default();
        let ports = self.links.iter().map(|(upper, lower, _)| (free.take(*upper), free.take(*lower)));
        let ports = ports.collect();
        self.assemble(ports)
    }

    fn assemble(self, ports: Vec<(PortNo, PortNo)>) -> Topology {
        let Builder { switches, mut servers, mut gateways, links, .. } = self;
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

    /// Links each lower node to `links` upper ones: the `i`th one's `j`th uplink goes to upper node
    /// `(i * links + j) mod uppers`, so that links are spread evenly. With `shifted`, every round
    /// over the upper nodes starts one further than the last.
    pub(super) fn spread(
        &mut self,
        uppers: &[NodeId],
        lowers: &[NodeId],
        links: u32,
        config: LinkConfig,
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
                self.link(uppers[(i * links + round + j) % uppers.len()], *lower, config);
            }
        }
    }
}
