//! Collects a shape's nodes and links, and gives them names, numbers, ports and addresses.
//!
//! Names are `core1`, `agg1`, `edge1`, `srv1`, `gw1`. Datapath ids are 0x1000001 on for core,
//! 0x2000001 on for aggregation, 0x3000001 on for edge switches. Ports count from 1 on every node,
//! uplinks first. Addresses: edge `e` owns the `e`th prefix of the network; its servers take the
//! first addresses of it.

use super::Parameters;
use crate::{
    Dpid, Endpoint, Gateway, GatewayId, Link, LinkConfig, LinkId, Mac, NodeId, PortNo, Prefix, Role, Server,
    ServerId, Switch, SwitchId, Topology,
};
use std::net::Ipv4Addr;

/// Collects nodes and links; ports are given out in the order of the links of each node, uplinks
/// first.
pub(super) struct Builder<'a> {
    parameters: &'a Parameters,
    switches: Vec<Switch>,
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
            servers: Vec::new(),
            gateways: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Adds `count` switches of a role, named and numbered from 1; an edge switch owns the prefix
    /// of its number.
    pub(super) fn switches(&mut self, role: Role, count: u32) -> Vec<NodeId> {
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

    /// The `n`th prefix of the network. A checked site has room for all of them beside the
    /// gateways.
    fn edge_prefix(&self, n: u32) -> Option<Prefix> {
        let Parameters { network, prefix_len, .. } = self.parameters;
        let step = 1u64 << (32 - u32::from((*prefix_len).min(32)));
        network.nth(u64::from(n) * step).and_then(|a| Prefix::new(a, *prefix_len))
    }

    /// Adds `count` gateways.
    pub(super) fn gateways(&mut self, count: u32) -> Vec<NodeId> {
        (0..count)
            .map(|n| {
                let address = self.parameters.gateways.nth(u64::from(n) + 1).unwrap_or(Ipv4Addr::UNSPECIFIED);
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

    /// Adds a link. Each node's ports are numbered in the order of its links, uplinks first.
    pub(super) fn link(&mut self, upper: NodeId, lower: NodeId, config: LinkConfig) {
        self.links.push((upper, lower, config));
    }

    /// Adds `count` servers under `edges[at]`, each with `uplinks` links to that edge and its
    /// followers.
    pub(super) fn servers(&mut self, edges: &[NodeId], at: usize, count: u32, uplinks: u32) {
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
                capacity: self.parameters.server,
                mac: Mac([0x02, 0x00, a, b, c, d]),
                address,
                uplinks: Vec::new(),
            });
            for step in 0..uplinks as usize {
                self.link(edges[(at + step) % edges.len()], NodeId::Server(id), self.parameters.edge_link);
            }
        }
    }

    /// The topology of what was added.
    pub(super) fn finish(self) -> Topology {
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
