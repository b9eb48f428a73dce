//! Native traffic: flows at a rate, from a socket in one namespace to a socket in another, measured
//! where they arrive.
//!
//! What a flow consists of is a traffic tool's business ([`TrafficGenerator`], a file each). Where
//! both ends are on one machine, they have one clock; where only one end of a flow is on this
//! machine, the other end's figures are merged by whoever knows both, and the delay is corrected by
//! the difference of the clocks.

mod measured;
mod tcp;
mod udp;

pub use measured::{ENDED, Ended, Measured, Shared};

use crate::control::messages::FlowReport;
use crate::node::vm_relocation::Gate;
use anyhow::Context;
use measured::with;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;
use tandem_linux::netns::NetNs;
use tandem_model::TrafficTool;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// First port of generated traffic; a flow's is this plus its id, wrapping.
const PORTS: u16 = 20_000;
/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

/// Every traffic tool of this lab.
const GENERATORS: &[&dyn TrafficGenerator] = &[&udp::Udp, &tcp::Tcp];

/// A traffic tool: how one end of a flow sends, and how the other receives and measures.
pub trait TrafficGenerator: Sync {
    /// What flows name it by, also in site files: lower-case letters, digits and '-'.
    fn name(&self) -> &'static str;

    /// True when what is sent arrives in the end, so that a loss cannot be counted.
    fn is_reliable(&self) -> bool;

    /// Starts the receiving end; its socket is bound when this returns. The task adds what arrives
    /// to the flow's figures and ends when it is aborted. Called within the runtime that carries
    /// traffic.
    ///
    /// # Errors
    /// When no socket can be had.
    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>>;

    /// Starts the sending end, at the flow's rate in layer-2 bits. The receiver may come up later,
    /// on another machine. The task ends when it is aborted. Called as `receive`.
    ///
    /// # Errors
    /// When no socket can be had.
    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>>;
}

/// Where a flow is received.
pub struct Receiver<'a> {
    /// The receiver's namespace.
    pub place: &'a NetNs,
    /// What to bind: any address, since a VM may not have configured its own yet; and the flow's
    /// port.
    pub address: SocketAddr,
    /// The flow's figures.
    pub measured: Shared,
}

/// Where a flow is sent from.
pub struct Sender<'a> {
    /// The sender's namespace.
    pub place: &'a NetNs,
    /// Closed while the sender is paused: nothing is sent then, and what would have been never is.
    pub gate: Gate,
    /// The receiver's address, and the flow's port.
    pub there: SocketAddr,
    /// The flow's figures.
    pub measured: Shared,
}

/// The tool of that name, if this lab has it.
pub fn generator(tool: TrafficTool) -> Option<&'static dyn TrafficGenerator> {
    GENERATORS.iter().copied().find(|g| g.name() == tool.as_str())
}

/// Every tool that this lab has.
pub fn generators() -> &'static [&'static dyn TrafficGenerator] {
    GENERATORS
}

/// The tool that a message means: messages of before said TCP or UDP by a flag.
pub fn tool_of(tool: Option<TrafficTool>, tcp: bool) -> TrafficTool {
    tool.unwrap_or(if tcp { TrafficTool::TCP } else { TrafficTool::UDP })
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
}

/// A flow to be generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        FlowSpec { id, addresses: (from.1, to.1), ends, rate, tool, packet: 1400 }
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
}

impl From<FlowSpecMessage> for FlowSpec {
    fn from(m: FlowSpecMessage) -> FlowSpec {
        let tool = tool_of(m.tool, m.tcp);
        FlowSpec { id: m.id, addresses: m.addresses, ends: m.ends, rate: m.rate, tool, packet: m.packet }
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
        }
    }
}

struct Flow {
    spec: FlowSpec,
    started: Instant,
    measured: Shared,
    tasks: Vec<JoinHandle<()>>,
}

impl Flow {
    /// Ends its tasks and waits until they have let go of their sockets: the port may be wanted
    /// again at once. Must be called within a runtime, on a thread that is not the runtime's.
    fn end(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = Handle::current().block_on(task);
        }
        with(&self.measured, |m| m.ended = m.ended.or_else(|| Some(Instant::now())));
    }
}

/// All flows of a lab: those that run, and what is left of the last [`ENDED`] that did.
#[derive(Default)]
pub struct Traffic {
    flows: BTreeMap<u64, Flow>,
    ended: Ended,
}

impl Traffic {
    /// Starts a flow between two namespaces, or the one end of it that is on this machine; one that
    /// runs already with the same figures is left as it is. Must be called within the runtime that
    /// is to carry it, on a thread that is not the runtime's. While the sender's gate is closed,
    /// nothing is sent: what would have been sent meanwhile never is.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub fn start(
        &mut self,
        spec: FlowSpec,
        from: Option<(&NetNs, Gate)>,
        to: Option<&NetNs>,
    ) -> anyhow::Result<()> {
        if self
            .flows
            .get(&spec.id)
            .is_some_and(|f| f.spec == spec && with(&f.measured, |m| m.ended.is_none()))
        {
            return Ok(());
        }
        if let Some(mut before) = self.flows.remove(&spec.id) {
            before.end();
        }
        self.ended.take(spec.id);
        let generator = generator(spec.tool).with_context(|| {
            let names: Vec<&str> = GENERATORS.iter().map(|g| g.name()).collect();
            format!("this lab has no traffic tool {}; it has {}", spec.tool, names.join(", "))
        })?;
        let port = PORTS + (spec.id % 40_000) as u16;
        let measured: Shared = Arc::default();
        let mut tasks = Vec::new();
        if let Some(place) = to {
            let end = Receiver { place, address: any(port), measured: measured.clone() };
            tasks.push(generator.receive(&spec, end)?);
        }
        if let Some((place, gate)) = from {
            let there = SocketAddr::V4(SocketAddrV4::new(spec.addresses.1, port));
            let end = Sender { place, gate, there, measured: measured.clone() };
            tasks.push(generator.send(&spec, end)?);
        }
        self.flows.insert(spec.id, Flow { spec, started: Instant::now(), measured, tasks });
        Ok(())
    }

    /// Ends a flow; its figures stay. Must be called as `start`.
    pub fn stop(&mut self, id: u64) {
        if let Some(mut flow) = self.flows.remove(&id) {
            flow.end();
            self.ended.note(flow.report());
        }
    }

    /// Everything that was measured and is not forgotten, in order of ids.
    pub fn report(&self) -> Vec<FlowReport> {
        let mut all: Vec<FlowReport> = self.flows.values().map(Flow::report).collect();
        all.extend(self.ended.reports().cloned());
        all.sort_by_key(|f| f.id);
        all
    }

    /// How many flows that ended have been forgotten.
    pub fn forgotten(&self) -> u64 {
        self.ended.forgotten()
    }
}

impl Flow {
    fn report(&self) -> FlowReport {
        with(&self.measured, |m| {
            let span = m.first.zip(m.last).map_or(0.0, |(a, b)| b.duration_since(a).as_secs_f64());
            let end = m.ended.unwrap_or_else(Instant::now);
            FlowReport {
                id: self.spec.id,
                ends: self.spec.ends.clone(),
                transport: self.spec.tool.to_string(),
                rate: self.spec.rate,
                goodput: if span > 0.0 { m.bytes as f64 * 8.0 / span } else { 0.0 },
                bytes: m.bytes,
                sent: m.sent,
                received: m.received,
                reordered: m.reordered,
                delay_ms: if m.received > 0 { m.delay_sum / m.received as f64 * 1e3 } else { 0.0 },
                jitter_ms: m.jitter * 1e3,
                seconds: end.duration_since(self.started).as_secs_f64(),
                ended: m.ended.is_some(),
            }
        })
    }
}

/// Nanoseconds on this machine's clock that never jumps (CLOCK_MONOTONIC).
pub fn clock() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned())
}

/// Waits until the sender runs, and moves its schedule by as long as it was paused.
async fn runs<'a>(gate: &'a Gate, start: &mut tokio::time::Instant) -> tokio::sync::RwLockReadGuard<'a, ()> {
    if let Ok(open) = gate.try_read() {
        return open;
    }
    let closed = Instant::now();
    let open = gate.read().await;
    *start += closed.elapsed();
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_understood_by_whoever_knows_tools_and_by_whoever_knows_the_flag_only() {
        let ends = [("a".to_owned(), Ipv4Addr::LOCALHOST), ("b".to_owned(), Ipv4Addr::LOCALHOST)];
        let flow = |tool| FlowSpec::of(7, &ends[0], &ends[1], 1000, tool);
        for (tool, tcp) in [(TrafficTool::UDP, false), (TrafficTool::TCP, true)] {
            let mut message = serde_json::to_value(flow(tool)).expect("JSON");
            assert_eq!(message["tcp"], tcp, "for a node of before");
            let heard: FlowSpec = serde_json::from_value(message.clone()).expect("a flow");
            assert_eq!(heard, flow(tool));
            // From a coordinator of before.
            message.as_object_mut().expect("an object").remove("tool");
            let heard: FlowSpec = serde_json::from_value(message).expect("a flow");
            assert_eq!(heard, flow(tool));
        }
    }

    #[tokio::test]
    async fn a_tool_that_is_not_there_is_refused_with_those_that_are() {
        let ends = [("a".to_owned(), Ipv4Addr::LOCALHOST), ("b".to_owned(), Ipv4Addr::LOCALHOST)];
        let tool = "pigeon".parse().expect("a name");
        let refused = Traffic::default().start(FlowSpec::of(7, &ends[0], &ends[1], 1000, tool), None, None);
        let why = refused.expect_err("no such tool").to_string();
        assert_eq!(why, "this lab has no traffic tool pigeon; it has udp, tcp");
    }

    #[test]
    fn names_of_tools_are_names_and_unique() {
        for (n, g) in GENERATORS.iter().enumerate() {
            assert!(g.name().parse::<TrafficTool>().is_ok(), "{}", g.name());
            assert!(!GENERATORS[..n].iter().any(|other| other.name() == g.name()), "{}", g.name());
        }
    }
}
