//! A data centre as arrays: switches, servers, gateways and the links between their ports.
//!
//! Inert data, made by `shapes` from a site file and never changed afterwards. What is alive of it
//! is the core's business (`tandem-core`), what is real of it a world's.

use crate::{BitRate, Bytes, DatapathKind, Dpid, GatewayId, LinkId, Mac, PortNo, Prefix, ServerId, SwitchId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A switch's level in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Next to the gateways.
    Core,
    /// Between core and edge.
    Aggregation,
    /// Next to the servers.
    Edge,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Core => "core",
            Role::Aggregation => "aggregation",
            Role::Edge => "edge",
        })
    }
}

/// Anything with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeId {
    /// A switch, OpenFlow or legacy.
    Switch(SwitchId),
    /// A server.
    Server(ServerId),
    /// A gateway.
    Gateway(GatewayId),
}

/// What a server has, or a VM needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Resources {
    /// CPU cores.
    pub cpu: u32,
    /// Main memory.
    pub ram: Bytes,
    /// Disk.
    pub disk: Bytes,
    /// Network, each direction, in layer-2 bit/s.
    pub net: BitRate,
}

impl Resources {
    /// `self + other`, saturating.
    pub fn plus(self, other: Resources) -> Resources {
        Resources {
            cpu: self.cpu.saturating_add(other.cpu),
            ram: Bytes(self.ram.0.saturating_add(other.ram.0)),
            disk: Bytes(self.disk.0.saturating_add(other.disk.0)),
            net: self.net.saturating_add(other.net),
        }
    }

    /// `self - other`, each not below zero.
    pub fn minus(self, other: Resources) -> Resources {
        Resources {
            cpu: self.cpu.saturating_sub(other.cpu),
            ram: Bytes(self.ram.0.saturating_sub(other.ram.0)),
            disk: Bytes(self.disk.0.saturating_sub(other.disk.0)),
            net: self.net.saturating_sub(other.net),
        }
    }

    /// The larger of both, of each.
    pub fn max(self, other: Resources) -> Resources {
        Resources {
            cpu: self.cpu.max(other.cpu),
            ram: self.ram.max(other.ram),
            disk: self.disk.max(other.disk),
            net: self.net.max(other.net),
        }
    }

    /// True when every resource of `need` is at most what `self` has.
    pub fn fits(self, need: Resources) -> bool {
        need.cpu <= self.cpu && need.ram <= self.ram && need.disk <= self.disk && need.net <= self.net
    }
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Unique name, at most 15 bytes (a Linux interface name), e.g. `edge1`.
    pub name: String,
    /// OpenFlow datapath id, unique.
    pub dpid: Dpid,
    /// Level.
    pub role: Role,
    /// True for a switch that does not speak OpenFlow: no rules, no statistics, and its silence is
    /// no fault.
    pub legacy: bool,
    /// The addresses behind an edge switch; `None` for other roles.
    pub prefix: Option<Prefix>,
    /// What it is made of, where the site says so.
    #[serde(default)]
    pub datapath: Option<DatapathKind>,
}

/// A machine that holds VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Unique name, at most 15 bytes, e.g. `srv1`.
    pub name: String,
    /// What it has for VMs.
    pub capacity: Resources,
    /// Its own Ethernet address.
    pub mac: Mac,
    /// Its own address, in its primary edge's prefix.
    pub address: Ipv4Addr,
    /// Its uplinks (a link each, server port 1 first); the first one is the primary.
    pub uplinks: Vec<LinkId>,
}

/// A machine outside: the outside host of the thesis (Teixeira 2013).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Unique name, at most 15 bytes, e.g. `gw1`.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address, outside every edge's prefix.
    pub address: Ipv4Addr,
    /// Its links to switches, gateway port 1 first.
    pub uplinks: Vec<LinkId>,
}

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whose port.
    pub node: NodeId,
    /// Which port (1-based on every node).
    pub port: PortNo,
}

/// What a link does to traffic; the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkConfig {
    /// Capacity of each direction, in layer-2 bit/s.
    pub rate: BitRate,
    /// One-way delay.
    pub delay: Duration,
    /// Packets lost per million, each direction.
    pub loss_ppm: u32,
    /// Longest queue, in packets, at each sending end.
    pub queue: u32,
}

/// A full-duplex link between two ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The upper end (towards the gateways).
    pub a: Endpoint,
    /// The lower end (towards the servers).
    pub b: Endpoint,
    /// Rate, delay, loss, queue.
    pub cfg: LinkConfig,
}

/// A direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Hop {
    /// The link.
    pub link: LinkId,
    /// True from `a` to `b` (downwards).
    pub down: bool,
}

/// A data centre. Ids are indices into these vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Topology {
    /// By `SwitchId`; core first, then aggregation, then edge, then legacy.
    pub switches: Vec<Switch>,
    /// By `ServerId`.
    pub servers: Vec<Server>,
    /// By `GatewayId`.
    pub gateways: Vec<Gateway>,
    /// By `LinkId`.
    pub links: Vec<Link>,
    /// Per switch, the links at its ports: `(port, link)`, in port order. Then per server, then per
    /// gateway.
    adjacency: Vec<Vec<(PortNo, LinkId)>>,
    /// Per server, where its first uplink leads: asked for in every decision, and found by several
    /// steps from node to node.
    #[serde(default)]
    first: Vec<Option<Access>>,
}

/// Where a server's uplink leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The edge switch at its end.
    pub edge: SwitchId,
    /// The server's own link, upwards.
    pub hop: Hop,
    /// True when that link ends at the edge switch, without a legacy switch between.
    pub direct: bool,
}

impl Topology {
    /// Assembles the arrays and the adjacency; ends that name nodes out of range are left out of
    /// the adjacency (a checked site has none).
    pub fn new(
        switches: Vec<Switch>,
        servers: Vec<Server>,
        gateways: Vec<Gateway>,
        links: Vec<Link>,
    ) -> Topology {
        let mut topology =
            Topology { switches, servers, gateways, links, adjacency: Vec::new(), first: Vec::new() };
        let nodes = topology.switches.len() + topology.servers.len() + topology.gateways.len();
        let mut adjacency = vec![Vec::new(); nodes];
        for (index, link) in topology.links.iter().enumerate() {
            for end in [link.a, link.b] {
                if let Some(ports) = adjacency.get_mut(topology.slot(end.node)) {
                    ports.push((end.port, LinkId(index as u32)));
                }
            }
        }
        for ports in &mut adjacency {
            ports.sort_unstable();
        }
        topology.adjacency = adjacency;
        let first =
            (0..topology.servers.len() as u32).map(|n| topology.follow_uplink(ServerId(n), 0)).collect();
        topology.first = first;
        topology
    }

    /// The dense index of a node: switches, then servers, then gateways.
    pub fn slot(&self, node: NodeId) -> usize {
        match node {
            NodeId::Switch(s) => s.0 as usize,
            NodeId::Server(s) => self.switches.len() + s.0 as usize,
            NodeId::Gateway(g) => self.switches.len() + self.servers.len() + g.0 as usize,
        }
    }

    /// The links at a node's ports, in port order.
    pub fn ports(&self, node: NodeId) -> &[(PortNo, LinkId)] {
        self.adjacency.get(self.slot(node)).map_or(&[], Vec::as_slice)
    }

    /// The link at a port.
    pub fn link_at(&self, node: NodeId, port: PortNo) -> Option<LinkId> {
        let ports = self.ports(node);
        ports.binary_search_by_key(&port, |(p, _)| *p).ok().map(|i| ports[i].1)
    }

    /// A link by its ends, as `NODE.PORT<->NODE.PORT`; one that does not exist by its number.
    pub fn link_name(&self, id: LinkId) -> String {
        let Some(link) = self.link(id) else { return id.to_string() };
        let end = |e: Endpoint| format!("{}.{}", self.name(e.node), e.port);
        format!("{}<->{}", end(link.a), end(link.b))
    }

    /// A link by id.
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.0 as usize)
    }

    /// A switch by id.
    pub fn switch(&self, id: SwitchId) -> Option<&Switch> {
        self.switches.get(id.0 as usize)
    }

    /// A server by id.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(id.0 as usize)
    }

    /// A gateway by id.
    pub fn gateway(&self, id: GatewayId) -> Option<&Gateway> {
        self.gateways.get(id.0 as usize)
    }

    /// The switch with this datapath id (linear; keep an index where it is asked often).
    pub fn switch_by_dpid(&self, dpid: Dpid) -> Option<SwitchId> {
        self.switches.iter().position(|s| s.dpid == dpid).map(|i| SwitchId(i as u32))
    }

    /// A node's name.
    pub fn name(&self, node: NodeId) -> &str {
        match node {
            NodeId::Switch(id) => self.switch(id).map(|n| n.name.as_str()),
            NodeId::Server(id) => self.server(id).map(|n| n.name.as_str()),
            NodeId::Gateway(id) => self.gateway(id).map(|n| n.name.as_str()),
        }
        .unwrap_or("?")
    }

    /// The node of that name.
    pub fn by_name(&self, name: &str) -> Option<NodeId> {
        let at = |i: usize| i as u32;
        (self.switches.iter().position(|n| n.name == name).map(|i| NodeId::Switch(SwitchId(at(i)))))
            .or_else(|| {
                self.servers.iter().position(|n| n.name == name).map(|i| NodeId::Server(ServerId(at(i))))
            })
            .or_else(|| {
                self.gateways.iter().position(|n| n.name == name).map(|i| NodeId::Gateway(GatewayId(at(i))))
            })
    }

    /// The edge switch that a server's `uplink` (0 is the primary) leads to; through a legacy
    /// switch, the first OpenFlow switch behind it.
    pub fn edge_of(&self, server: ServerId, uplink: usize) -> Option<SwitchId> {
        self.access(server, uplink).map(|a| a.edge)
    }

    /// Where a server's `uplink` (0 is the primary) leads.
    pub fn access(&self, server: ServerId, uplink: usize) -> Option<Access> {
        let known = self.first.get(server.0 as usize).filter(|_| uplink == 0);
        known.copied().unwrap_or_else(|| self.follow_uplink(server, uplink))
    }

    fn follow_uplink(&self, server: ServerId, uplink: usize) -> Option<Access> {
        let own = *self.server(server)?.uplinks.get(uplink)?;
        let (mut link, mut from) = (own, NodeId::Server(server));
        let hop = self.link(own)?.hop_from(own, from);
        for _ in 0..=self.switches.len() {
            let other = self.link(link)?.other(from)?;
            let NodeId::Switch(edge) = other.node else { return None };
            if !self.switch(edge)?.legacy {
                return Some(Access { edge, hop, direct: link == own });
            }
            let ports = self.ports(other.node).iter();
            let (_, next) = ports.copied().find(|(_, l)| {
                *l != link
                    && self
                        .link(*l)
                        .and_then(|l| l.other(other.node))
                        .is_some_and(|e| matches!(e.node, NodeId::Switch(_)))
            })?;
            (from, link) = (other.node, next);
        }
        None
    }
}

impl Link {
    /// The end that is not at `node`; `None` when the link does not touch `node`.
    pub fn other(&self, node: NodeId) -> Option<Endpoint> {
        if self.a.node == node {
            Some(self.b)
        } else if self.b.node == node {
            Some(self.a)
        } else {
            None
        }
    }

    /// The end at `node`.
    pub fn end_at(&self, node: NodeId) -> Option<Endpoint> {
        [self.a, self.b].into_iter().find(|e| e.node == node)
    }

    /// The direction that leaves `node` on link `id`.
    pub fn hop_from(&self, id: LinkId, node: NodeId) -> Hop {
        Hop { link: id, down: self.a.node == node }
    }
}
