//! `[topology]`: a shape and its counts, and whether what it makes is one data centre.

use super::faults::Collector;
use super::section::Section;
use crate::SwitchId;
use crate::shapes::{self, Common, FatTree, Linear, ThreeTier};
use crate::topology::{NodeId, Topology};
use std::collections::BTreeSet;

/// The most servers a site may have.
const MOST_SERVERS: u64 = 1_000_000;
/// The most ports a switch may have: OpenFlow 1.0 reserves numbers from 0xff00 on (OF 1.0 section 5.2.1).
const MOST_PORTS: usize = 0xfeff;

/// A shape with its counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    ThreeTier(ThreeTier),
    FatTree(FatTree),
    Linear(Linear),
}

impl Shape {
    pub(super) fn edges(&self) -> u64 {
        u64::from(match self {
            Shape::ThreeTier(s) => s.edge,
            Shape::FatTree(s) => s.k * s.k / 2,
            Shape::Linear(s) => s.switches,
        })
    }

    pub(super) fn servers_per_edge(&self) -> u32 {
        match self {
            Shape::ThreeTier(s) => s.servers_per_edge,
            Shape::FatTree(s) => s.servers_per_edge,
            Shape::Linear(s) => s.servers_per_switch,
        }
    }

    pub(super) fn gateways(&self) -> u32 {
        match self {
            Shape::ThreeTier(s) => s.gateways,
            Shape::FatTree(s) => s.gateways,
            Shape::Linear(s) => s.gateways,
        }
    }

    pub(super) fn build(self, common: &Common) -> Topology {
        match self {
            Shape::ThreeTier(s) => shapes::three_tier(s, common),
            Shape::FatTree(s) => shapes::fat_tree(s, common),
            Shape::Linear(s) => shapes::linear(s, common),
        }
    }
}

pub(super) fn read_shape(root: &mut Section<'_>, c: &mut Collector<'_>) -> Option<Shape> {
    let mut t = root.section(c, "topology");
    if !t.has("shape") {
        t.get(c, "shape", |_| Ok(()));
        let instead = "write [topology] with shape = \"three-tier\", \"fat-tree\" or \"linear\"";
        t.fault(c, "shape", "the site has no shape", instead);
        return None;
    }
    let words = [("three-tier", 0), ("fat-tree", 1), ("linear", 2)];
    let shape = match t.word(c, "shape", &words) {
        Some(0) => {
            let core = t.count(c, "core", 1..=4096).unwrap_or(2);
            let aggregation = t.count(c, "aggregation", 0..=16384).unwrap_or(4);
            let above_edge = if aggregation == 0 { core } else { aggregation };
            let s = ThreeTier {
                gateways: t.count(c, "gateways", 1..=4096).unwrap_or(1),
                core,
                aggregation,
                edge: t.count(c, "edge", 1..=65536).unwrap_or(8),
                servers_per_edge: t.count(c, "servers_per_edge", 0..=4096).unwrap_or(2),
                core_gateway_links: t.count(c, "core_gateway_links", 1..=64).unwrap_or(1),
                aggregation_core_links: t.count(c, "aggregation_core_links", 1..=64).unwrap_or(core.min(2)),
                edge_aggregation_links: t
                    .count(c, "edge_aggregation_links", 1..=64)
                    .unwrap_or(above_edge.min(2)),
                server_uplinks: t.count(c, "server_uplinks", 1..=8).unwrap_or(1),
            };
            for (key, links, uppers) in [
                ("core_gateway_links", s.core_gateway_links, s.gateways),
                (
                    "aggregation_core_links",
                    s.aggregation_core_links.min(if s.aggregation == 0 { 1 } else { 64 }),
                    s.core,
                ),
                (
                    "edge_aggregation_links",
                    s.edge_aggregation_links,
                    if s.aggregation == 0 { s.core } else { s.aggregation },
                ),
                ("server_uplinks", s.server_uplinks, s.edge),
            ] {
                if links > uppers {
                    let problem =
                        format!("{links} links each, but there are only {uppers} nodes above to link to");
                    t.fault(c, key, problem, format!("write at most {uppers}"));
                }
            }
            Some(Shape::ThreeTier(s))
        }
        Some(1) => {
            let k = t.count(c, "k", 2..=128).unwrap_or(4);
            if !t.has("k") {
                t.fault(
                    c,
                    "k",
                    "a fat tree needs its number of ports per switch",
                    "write k = 4, or another even number",
                );
            }
            if k % 2 == 1 {
                t.fault(
                    c,
                    "k",
                    format!("{k} is odd: a fat tree has as many ports up as down"),
                    "write an even number",
                );
            }
            Some(Shape::FatTree(FatTree {
                k: k & !1,
                servers_per_edge: t.count(c, "servers_per_edge", 0..=4096).unwrap_or(k / 2),
                gateways: t.count(c, "gateways", 1..=4096).unwrap_or(1),
            }))
        }
        Some(_) => Some(Shape::Linear(Linear {
            switches: t.count(c, "switches", 1..=4096).unwrap_or(2),
            servers_per_switch: t.count(c, "servers_per_switch", 0..=4096).unwrap_or(1),
            gateways: t.count(c, "gateways", 1..=4096).unwrap_or(1),
        })),
        None => None,
    };
    if let Some(shape) = &shape {
        let servers = shape.edges() * u64::from(shape.servers_per_edge());
        if servers > MOST_SERVERS {
            t.fault(
                c,
                "shape",
                format!("{servers} servers are more than {MOST_SERVERS}"),
                "lower the counts",
            );
        }
        t.finish(c);
    }
    shape
}

/// One name each, ports that OpenFlow can number, and in one piece.
pub(super) fn check_topology(root: &mut Section<'_>, c: &mut Collector<'_>, topology: &Topology) {
    let t = root.section(c, "topology");
    let mut names = BTreeSet::new();
    let all = topology.switches.iter().map(|s| &s.name).chain(topology.servers.iter().map(|s| &s.name));
    for name in all.chain(topology.gateways.iter().map(|g| &g.name)) {
        if !names.insert(name.as_str()) {
            t.fault(c, "shape", format!("two nodes are called {name:?}"), "rename one");
        }
    }
    for (n, switch) in (0u32..).zip(&topology.switches) {
        let ports = topology.ports(NodeId::Switch(SwitchId(n))).len();
        if ports > MOST_PORTS {
            let problem = format!("{} would have {ports} ports, more than {MOST_PORTS}", switch.name);
            t.fault(c, "shape", problem, "use more switches with fewer links each");
        }
    }
    let Some(first) = topology.switches.first().map(|_| NodeId::Switch(SwitchId(0))) else { return };
    let distance = crate::paths::distances_to(topology, first, |_| true);
    let lonely = distance.iter().position(|d| *d == u32::MAX);
    if let Some(slot) = lonely {
        let name = topology.switches.get(slot).map_or("a server or gateway", |s| s.name.as_str());
        let problem = format!("{name} is not connected to {}", topology.name(first));
        t.fault(
            c,
            "shape",
            problem,
            "raise the link counts between the levels until every switch is reached",
        );
    }
}
