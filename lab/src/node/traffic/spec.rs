//! A flow to be generated, and how it is said to a testbed's nodes.

use super::options::TOOL;
use super::tool_of;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tandem_model::site::TrafficConfig;
use tandem_model::{ToolOption, ToolOptions, TrafficId, TrafficTool};

/// A flow to be generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "FlowSpecMessage", into = "FlowSpecMessage")]
pub struct FlowSpec {
    /// Its id.
    pub id: u64,
    /// Sender's and receiver's addresses.
    pub addresses: (Ipv4Addr, Ipv4Addr),
    /// Sender's and receiver's names, for reports.
    pub ends: String,
    /// Bits a second, layer 2.
    pub rate: u64,
    /// What generates it.
    pub tool: TrafficTool,
    /// Bytes of an IP packet.
    pub packet: u16,
    /// Where the tool's random numbers begin, with the id.
    pub seed: u64,
    /// For a tool that has both: UDP or TCP, where the site mixes them.
    pub udp: Option<bool>,
    /// What the site file tells the tool.
    pub options: ToolOptions,
}

impl FlowSpec {
    /// A flow that a person or an experiment asks for: from and to as names and addresses.
    pub fn of(
        id: u64,
        from: &(String, Ipv4Addr),
        to: &(String, Ipv4Addr),
        rate: u64,
        tool: TrafficTool,
    ) -> FlowSpec {
        let ends = format!("{} -> {}", from.0, to.0);
        let (seed, udp, options) = (1, None, ToolOptions::new());
        FlowSpec { id, addresses: (from.1, to.1), ends, rate, tool, packet: 1400, seed, udp, options }
    }

    /// With what the site says of its tool.
    pub fn told_by(mut self, site: &TrafficConfig) -> FlowSpec {
        self.seed = site.seed;
        self.udp = site.is_udp(TrafficId(self.id));
        self.options = site.tools.get(&self.tool).cloned().unwrap_or_default();
        self
    }

    /// The tool itself: a section of the site file may give it another name.
    pub fn generator(&self) -> TrafficTool {
        generator_of(self.tool, &self.options)
    }
}

/// The tool that a name means: itself, or what its section says.
pub(super) fn generator_of(name: TrafficTool, options: &ToolOptions) -> TrafficTool {
    match options.get(TOOL) {
        Some(ToolOption::Text(tool)) => tool.parse().unwrap_or(name),
        _ => name,
    }
}

/// A [`FlowSpec`] as a testbed's coordinator and its nodes say it, also those of before, which know
/// the flag only.
#[derive(Serialize, Deserialize)]
struct FlowSpecMessage {
    id: u64,
    addresses: (Ipv4Addr, Ipv4Addr),
    ends: String,
    rate: u64,
    tcp: bool,
    packet: u16,
    #[serde(default)]
    tool: Option<TrafficTool>,
    #[serde(default = "one")]
    seed: u64,
    #[serde(default)]
    udp: Option<bool>,
    #[serde(default)]
    options: ToolOptions,
}

fn one() -> u64 {
    1
}

impl From<FlowSpecMessage> for FlowSpec {
    fn from(m: FlowSpecMessage) -> FlowSpec {
        let tool = tool_of(m.tool, m.tcp);
        FlowSpec {
            id: m.id,
            addresses: m.addresses,
            ends: m.ends,
            rate: m.rate,
            tool,
            packet: m.packet,
            seed: m.seed,
            udp: m.udp,
            options: m.options,
        }
    }
}

impl From<FlowSpec> for FlowSpecMessage {
    fn from(flow: FlowSpec) -> FlowSpecMessage {
        FlowSpecMessage {
            id: flow.id,
            addresses: flow.addresses,
            ends: flow.ends,
            rate: flow.rate,
            tcp: flow.tool == TrafficTool::TCP,
            packet: flow.packet,
            tool: Some(flow.tool),
            seed: flow.seed,
            udp: flow.udp,
            options: flow.options,
        }
    }
}
