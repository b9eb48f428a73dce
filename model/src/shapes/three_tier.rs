//! A tree of core, aggregation and edge switches, or of core and edge switches only.

use super::{Builder, Parameters, Shape, Size};
use crate::paths::distances_to;
use crate::site::{Collector, Section};
use crate::{NodeId, Role, SwitchId, Topology};

/// Counts of a two- or three-tier tree: the topology generator of the thesis
/// (Teixeira 2013).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThreeTier {
    /// Gateways.
    gateways: u32,
    /// Core switches.
    core: u32,
    /// Aggregation switches; 0 makes it a two-tier tree.
    aggregation: u32,
    /// Edge switches.
    edge: u32,
    /// Servers per edge switch.
    servers_per_edge: u32,
    /// Gateways that each core switch is linked to.
    core_gateway_links: u32,
    /// Core switches that each aggregation switch is linked to.
    aggregation_core_links: u32,
    /// Aggregation switches (two tiers: core switches) that each edge switch is linked to.
    edge_aggregation_links: u32,
    /// Edge switches that each server is linked to.
    server_uplinks: u32,
}

impl Shape for ThreeTier {
    const NAME: &'static str = "three-tier";

    fn read(section: &mut Section<'_>, faults: &mut Collector<'_>) -> ThreeTier {
        let core = section.count(faults, "core", 1..=4096).unwrap_or(2);
        let aggregation = section.count(faults, "aggregation", 0..=16384).unwrap_or(4);
        let above_edge = if aggregation == 0 { core } else { aggregation };
        let shape = ThreeTier {
            gateways: section.count(faults, "gateways", 1..=4096).unwrap_or(1),
            core,
            aggregation,
            edge: section.count(faults, "edge", 1..=65536).unwrap_or(8),
            servers_per_edge: section.count(faults, "servers_per_edge", 0..=4096).unwrap_or(2),
            core_gateway_links: section.count(faults, "core_gateway_links", 1..=64).unwrap_or(1),
            aggregation_core_links: section
                .count(faults, "aggregation_core_links", 1..=64)
                .unwrap_or(core.min(2)),
            edge_aggregation_links: section
                .count(faults, "edge_aggregation_links", 1..=64)
                .unwrap_or(above_edge.min(2)),
            server_uplinks: section.count(faults, "server_uplinks", 1..=8).unwrap_or(1),
        };
        for (key, links, uppers) in [
            ("core_gateway_links", shape.core_gateway_links, shape.gateways),
            (
                "aggregation_core_links",
                shape.aggregation_core_links.min(if shape.aggregation == 0 { 1 } else { 64 }),
                shape.core,
            ),
            (
                "edge_aggregation_links",
                shape.edge_aggregation_links,
                if shape.aggregation == 0 { shape.core } else { shape.aggregation },
            ),
            ("server_uplinks", shape.server_uplinks, shape.edge),
        ] {
            if links > uppers {
                let problem =
                    format!("{links} links each, but there are only {uppers} nodes above to link to");
                section.fault(faults, key, problem, format!("write at most {uppers}"));
            }
        }
        shape
    }

    fn size(&self) -> Size {
        Size { edges: u64::from(self.edge), servers_per_edge: self.servers_per_edge, gateways: self.gateways }
    }

    /// Links are spread evenly over the upper switches; the same between core switches and
    /// gateways.
    ///
    /// Where that leaves the tree in pieces (4 core switches, 2 uplinks each: `{1,2} {3,4} {1,2}
    /// {3,4}`), every round over the upper switches starts one further than the last (`{1,2} {3,4}
    /// {2,3} {4,1}`).
    fn build(&self, parameters: &Parameters) -> Topology {
        let topology = tree(self, parameters, false);
        let in_pieces = (topology.switches.first())
            .map(|_| distances_to(&topology, NodeId::Switch(SwitchId(0)), |_| true))
            .is_some_and(|distance| distance.contains(&u32::MAX));
        if in_pieces { tree(self, parameters, true) } else { topology }
    }
}

fn tree(shape: &ThreeTier, parameters: &Parameters, shifted: bool) -> Topology {
    let mut b = Builder::new(parameters);
    let core = b.switches(Role::Core, shape.core);
    let aggregation = b.switches(Role::Aggregation, shape.aggregation);
    let edge = b.switches(Role::Edge, shape.edge);
    let gateways = b.gateways(shape.gateways);
    b.spread(&gateways, &core, shape.core_gateway_links, parameters.gateway_link, false);
    if aggregation.is_empty() {
        b.spread(&core, &edge, shape.edge_aggregation_links, parameters.core_link, shifted);
    } else {
        b.spread(&core, &aggregation, shape.aggregation_core_links, parameters.core_link, shifted);
        b.spread(&aggregation, &edge, shape.edge_aggregation_links, parameters.aggregation_link, shifted);
    }
    for at in 0..edge.len() {
        b.servers(&edge, at, shape.servers_per_edge, shape.server_uplinks);
    }
    b.finish()
}
