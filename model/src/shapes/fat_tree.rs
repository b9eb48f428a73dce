//! A k-ary fat tree (Al-Fares et al., SIGCOMM 2008).

use super::{Builder, Parameters, Shape, Size};
use crate::site::{Collector, Section};
use crate::{Role, Topology};

/// Counts of a k-ary fat tree (Al-Fares et al., SIGCOMM 2008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FatTree {
    /// Ports per switch: even, at least 2.
    k: u32,
    /// Servers per edge switch; k/2 in the paper.
    servers_per_edge: u32,
    /// Gateways, each linked to every core switch in turn.
    gateways: u32,
}

impl Shape for FatTree {
    const NAME: &'static str = "fat-tree";

    fn read(section: &mut Section<'_>, faults: &mut Collector<'_>) -> FatTree {
        let k = section.count(faults, "k", 2..=128).unwrap_or(4);
        if !section.has("k") {
            section.fault(
                faults,
                "k",
                "a fat tree needs its number of ports per switch",
                "write k = 4, or another even number",
            );
        }
        if k % 2 == 1 {
            let problem = format!("{k} is odd: a fat tree has as many ports up as down");
            section.fault(faults, "k", problem, "write an even number");
        }
        FatTree {
            k: k & !1,
            servers_per_edge: section.count(faults, "servers_per_edge", 0..=4096).unwrap_or(k / 2),
            gateways: section.count(faults, "gateways", 1..=4096).unwrap_or(1),
        }
    }

    fn size(&self) -> Size {
        Size {
            edges: u64::from(self.k * self.k / 2),
            servers_per_edge: self.servers_per_edge,
            gateways: self.gateways,
        }
    }

    /// k pods of k/2 aggregation and k/2 edge switches, (k/2)^2 core switches; aggregation switch
    /// `i` of a pod is linked to core switches `i*k/2` to `i*k/2 + k/2 - 1`.
    fn build(&self, parameters: &Parameters) -> Topology {
        let half = (self.k / 2) as usize;
        let mut b = Builder::new(parameters);
        let core = b.switches(Role::Core, (half * half) as u32);
        let aggregation = b.switches(Role::Aggregation, self.k * half as u32);
        let edge = b.switches(Role::Edge, self.k * half as u32);
        let gateways = b.gateways(self.gateways);
        b.spread(&gateways, &core, 1, parameters.gateway_link, false);
        for pod in 0..self.k as usize {
            for i in 0..half {
                for j in 0..half {
                    b.link(core[i * half + j], aggregation[pod * half + i], parameters.core_link);
                }
            }
            for e in 0..half {
                for a in 0..half {
                    b.link(aggregation[pod * half + a], edge[pod * half + e], parameters.aggregation_link);
                }
            }
        }
        for at in 0..edge.len() {
            b.servers(&edge, at, self.servers_per_edge, 1);
        }
        b.finish()
    }
}
