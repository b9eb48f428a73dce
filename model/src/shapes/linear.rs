//! A row of switches.

use super::{Builder, Parameters, Shape, Size};
use crate::site::{Collector, Section};
use crate::{Role, Topology};

/// A line of edge switches, the gateways at the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Linear {
    /// Switches.
    switches: u32,
    /// Servers per switch.
    servers_per_switch: u32,
    /// Gateways, at the first switch.
    gateways: u32,
}

impl Shape for Linear {
    const NAME: &'static str = "linear";

    fn read(section: &mut Section<'_>, faults: &mut Collector<'_>) -> Linear {
        Linear {
            switches: section.count(faults, "switches", 1..=4096).unwrap_or(2),
            servers_per_switch: section.count(faults, "servers_per_switch", 0..=4096).unwrap_or(1),
            gateways: section.count(faults, "gateways", 1..=4096).unwrap_or(1),
        }
    }

    fn size(&self) -> Size {
        Size {
            edges: u64::from(self.switches),
            servers_per_edge: self.servers_per_switch,
            gateways: self.gateways,
        }
    }

    fn build(&self, parameters: &Parameters) -> Topology {
        let mut b = Builder::new(parameters);
        let line = b.switches(Role::Edge, self.switches);
        let gateways = b.gateways(self.gateways);
        for gateway in gateways {
            b.link(gateway, line[0], parameters.gateway_link);
        }
        for pair in line.windows(2) {
            b.link(pair[0], pair[1], parameters.aggregation_link);
        }
        for at in 0..line.len() {
            b.servers(&line, at, self.servers_per_switch, 1);
        }
        b.finish()
    }
}
