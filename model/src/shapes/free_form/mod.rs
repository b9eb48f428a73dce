//! Any graph, declared node by node and link by link: `[[switch]]`, `[[server]]`, `[[gateway]]`,
//! `[[link]]`.
//!
//! 1. [`declarations`] reads the tables, each with its faults.
//! 2. [`graph`] finds the nodes that links name and holds what a data centre must be: in one
//!    piece, nothing alone, no link from a node to itself.
//! 3. [`FreeForm::build`] makes the arrays. Nodes keep the order of the file, and ports are
//!    numbered in the order of the links, so that records of before fit a file to whose end
//!    something was added.
//!
//! Roles are written or derived: a switch with servers is an edge switch (also where gateways are
//! at it too), one with gateways a core switch, any other an aggregation switch. A role is for
//! people, statistics and the default rates of links; what routing goes by is who owns a prefix:
//! every edge switch, and every other one with servers.

mod declarations;
mod graph;

use super::{Builder, Parameters, Shape, Size};
use crate::site::{Collector, Lists, Section};
use crate::{DatapathKind, Dpid, LinkConfig, NodeId, Resources, Role, Topology};
use declarations::{DeclaredLink, DeclaredServer};

/// A switch, as declared and derived.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Switch {
    name: String,
    dpid: Dpid,
    role: Role,
    has_prefix: bool,
    datapath: Option<DatapathKind>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    declared: DeclaredServer,
    /// The switch that its first link leads to, by its place among the switches.
    edge: usize,
    /// Its place among the servers of that switch.
    place: u32,
    /// Its first link, by its place among all.
    uplink: usize,
}

/// A link between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    upper: Node,
    lower: Node,
    declared: DeclaredLink,
}

/// A node by its place among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Switch(usize),
    Server(usize),
    Gateway(usize),
}

/// A data centre that is declared by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FreeForm {
    switches: Vec<Switch>,
    servers: Vec<Server>,
    gateways: Vec<String>,
    links: Vec<Link>,
}

impl Shape for FreeForm {
    const NAME: &'static str = "free-form";

    /// `[topology]` has nothing besides the shape.
    fn read(_section: &mut Section<'_>, _faults: &mut Collector<'_>) -> FreeForm {
        FreeForm::default()
    }

    fn declare(&mut self, lists: &mut Lists<'_>, faults: &mut Collector<'_>) {
        let declared = declarations::read(lists, faults);
        *self = graph::resolve(declared, faults);
    }

    fn size(&self) -> Size {
        let most = self.servers.iter().map(|s| s.place + 1).max();
        Size {
            edges: self.switches.iter().filter(|s| s.has_prefix).count() as u64,
            servers_per_edge: most.unwrap_or(0),
            gateways: self.gateways.len() as u32,
        }
    }

    fn servers(&self) -> u64 {
        self.servers.len() as u64
    }

    fn build(&self, parameters: &Parameters) -> Topology {
        let mut b = Builder::new(parameters);
        let mut switches = Vec::with_capacity(self.switches.len());
        for s in &self.switches {
            switches.push(b.switch(s.name.clone(), s.dpid, s.role, s.has_prefix, s.datapath));
        }
        let configs: Vec<LinkConfig> = self.links.iter().map(|l| self.config(l, parameters)).collect();
        let mut servers = Vec::with_capacity(self.servers.len());
        for s in &self.servers {
            let edge = switches.get(s.edge).copied();
            let uplink = configs.get(s.uplink).copied();
            let (Some(edge), Some(uplink)) = (edge, uplink) else { continue };
            let net = if parameters.net_given { parameters.server.net } else { uplink.rate };
            let default = Resources { net, ..parameters.server };
            servers.push(b.server(s.declared.name.clone(), s.declared.capacity(default), edge, s.place));
        }
        let gateways: Vec<NodeId> = self.gateways.iter().map(|name| b.gateway(name.clone())).collect();
        let id = |node: Node| match node {
            Node::Switch(n) => switches.get(n).copied(),
            Node::Server(n) => servers.get(n).copied(),
            Node::Gateway(n) => gateways.get(n).copied(),
        };
        for (link, config) in self.links.iter().zip(configs) {
            let (Some(upper), Some(lower)) = (id(link.upper), id(link.lower)) else { continue };
            for _ in 0..link.declared.count {
                b.link(upper, lower, config);
            }
        }
        b.finish_in_order()
    }
}

impl FreeForm {
    /// What a link does: what is written of it, else what `[bandwidth]` and `[links]` say of its
    /// level.
    fn config(&self, link: &Link, parameters: &Parameters) -> LinkConfig {
        let is_core = |node: Node| match node {
            Node::Switch(n) => self.switches.get(n).is_some_and(|s| s.role == Role::Core),
            Node::Server(_) | Node::Gateway(_) => false,
        };
        let level = match (link.upper, link.lower) {
            (Node::Gateway(_), _) => parameters.gateway_link,
            (_, Node::Server(_)) => parameters.edge_link,
            (a, b) if is_core(a) || is_core(b) => parameters.core_link,
            _ => parameters.aggregation_link,
        };
        link.declared.config(level)
    }
}
