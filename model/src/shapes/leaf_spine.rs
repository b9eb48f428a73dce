//! Leaf and spine: every leaf switch is linked to every spine switch (a folded Clos network of two
//! stages), the gateways at the spines, at leaves, or at border leaves of their own.

use super::{Builder, Parameters, Shape, Size};
use crate::site::{Collector, Section};
use crate::{NodeId, Role, Topology};

/// Where the gateways are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GatewaysAt {
    /// At the spine switches.
    Spines,
    /// At leaf switches, beside servers.
    Leaves,
    /// At leaf switches that have no servers.
    Border,
}

/// Counts of a leaf-spine fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeafSpine {
    spines: u32,
    leaves: u32,
    servers_per_leaf: u32,
    /// Leaf switches that each server is linked to.
    server_uplinks: u32,
    /// Parallel links between each leaf and each spine.
    links: u32,
    gateways: u32,
    gateways_at: GatewaysAt,
    /// Leaf switches without servers, for the gateways.
    border_leaves: u32,
    /// Switches that each gateway is linked to.
    gateway_links: u32,
}

impl Shape for LeafSpine {
    const NAME: &'static str = "leaf-spine";

    fn read(section: &mut Section<'_>, faults: &mut Collector<'_>) -> LeafSpine {
        let places =
            [("spines", GatewaysAt::Spines), ("leaves", GatewaysAt::Leaves), ("border", GatewaysAt::Border)];
        let spines = section.count(faults, "spines", 1..=1024).unwrap_or(2);
        let leaves = section.count(faults, "leaves", 1..=16384).unwrap_or(4);
        let gateways_at = section.word(faults, "gateways_at", &places).unwrap_or(GatewaysAt::Spines);
        let border_leaves = section.count(faults, "border_leaves", 1..=1024);
        if border_leaves.is_some() && gateways_at != GatewaysAt::Border {
            let problem = "there are border leaves only where the gateways are at them";
            section.fault(
                faults,
                "border_leaves",
                problem,
                "write gateways_at = \"border\" too, or leave it out",
            );
        }
        let border_leaves = if gateways_at == GatewaysAt::Border { border_leaves.unwrap_or(1) } else { 0 };
        // At a leaf a gateway is one machine among others; spines and border leaves share them all.
        let (near, default) = match gateways_at {
            GatewaysAt::Spines => (spines, spines),
            GatewaysAt::Leaves => (leaves, 1),
            GatewaysAt::Border => (border_leaves, border_leaves),
        };
        let shape = LeafSpine {
            spines,
            leaves,
            servers_per_leaf: section.count(faults, "servers_per_leaf", 0..=4096).unwrap_or(2),
            server_uplinks: section.count(faults, "server_uplinks", 1..=8).unwrap_or(1),
            links: section.count(faults, "links", 1..=64).unwrap_or(1),
            gateways: section.count(faults, "gateways", 1..=4096).unwrap_or(1),
            gateways_at,
            border_leaves,
            gateway_links: section.count(faults, "gateway_links", 1..=1024).unwrap_or(default),
        };
        for (key, links, switches) in
            [("gateway_links", shape.gateway_links, near), ("server_uplinks", shape.server_uplinks, leaves)]
        {
            if links > switches {
                let problem =
                    format!("{links} links each, but there are only {switches} switches to link to");
                section.fault(faults, key, problem, format!("write at most {switches}"));
            }
        }
        shape
    }

    fn size(&self) -> Size {
        Size {
            edges: u64::from(self.leaves),
            servers_per_edge: self.servers_per_leaf,
            gateways: self.gateways,
        }
    }

    /// Gateway `i`'s `j`th link goes to switch `(i * gateway_links + j)`, counted round.
    fn build(&self, parameters: &Parameters) -> Topology {
        let mut b = Builder::new(parameters);
        let spines = b.switches_called("spine", Role::Core, self.spines);
        let border = b.switches_called("border", Role::Core, self.border_leaves);
        let leaves = b.switches_called("leaf", Role::Edge, self.leaves);
        let near: &[NodeId] = match self.gateways_at {
            GatewaysAt::Spines => &spines,
            GatewaysAt::Leaves => &leaves,
            GatewaysAt::Border => &border,
        };
        let links = self.gateway_links as usize;
        for (i, gateway) in b.gateways(self.gateways).into_iter().enumerate() {
            for j in 0..links {
                b.link(gateway, near[(i * links + j) % near.len()], parameters.gateway_link);
            }
        }
        for lower in border.iter().chain(&leaves) {
            for spine in &spines {
                for _ in 0..self.links {
                    b.link(*spine, *lower, parameters.core_link);
                }
            }
        }
        for at in 0..leaves.len() {
            b.servers(&leaves, at, self.servers_per_leaf, self.server_uplinks);
        }
        b.finish()
    }
}
