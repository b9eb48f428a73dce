//! Generated traffic: flows at a rate, from one namespace to another, measured where they arrive.
//!
//! What a flow consists of is a traffic tool's business ([`TrafficGenerator`], a file each). Where
//! both ends are on one machine, they have one clock; where only one end of a flow is on this
//! machine, the other end's figures are merged by whoever knows both, and the delay is corrected by
//! the difference of the clocks.

mod ditg;
mod external;
mod flow_sizes;
mod iperf3;
mod measured;
mod on_off;
mod options;
pub mod pcap;
mod poisson;
mod schedule;
mod spec;
mod tcp;
mod tcpreplay;
#[cfg(test)]
mod tests;
mod udp;

pub use measured::{ENDED, Ended, Measured, Shared};
pub use options::OptionFault;
pub use spec::FlowSpec;

use crate::control::messages::FlowReport;
use crate::node::vm_relocation::Gate;
use anyhow::Context;
use measured::with;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tandem_linux::netns::NetNs;
use tandem_model::site::Site;
use tandem_model::{ToolOptions, TrafficTool};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// First port of generated traffic; a flow's is this plus its id, wrapping.
const PORTS: u16 = 20_000;
/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

/// Every traffic tool of this lab.
const GENERATORS: &[&dyn TrafficGenerator] = &[
    &udp::Udp,
    &tcp::Tcp,
    &poisson::Poisson,
    &on_off::OnOff,
    &flow_sizes::WEB_SEARCH,
    &flow_sizes::WEB_SEARCH_HPCC,
    &flow_sizes::DATA_MINING,
    &flow_sizes::KEY_VALUE,
    &flow_sizes::HADOOP,
    &flow_sizes::STORAGE,
    &flow_sizes::FILE,
    &pcap::Pcap,
    &tcpreplay::TcpReplay,
    &iperf3::Iperf3,
    &ditg::POISSON,
    &ditg::VOIP,
    &ditg::TELNET,
    &ditg::DNS,
    &ditg::CSA,
    &ditg::QUAKE3,
];

/// What a tool of others is asked to finish in; then it is killed.
const FINISH: Duration = Duration::from_secs(3);

/// A traffic tool: how one end of a flow sends, and how the other receives and measures.
pub trait TrafficGenerator: Sync {
    /// What flows name it by, also in site files: lower-case letters, digits and '-'.
    fn name(&self) -> &'static str;

    /// What it does and which options it has, in one line for people.
    fn about(&self) -> &'static str {
        ""
    }

    /// True when what is sent arrives in the end, so that a loss cannot be counted.
    fn is_reliable(&self) -> bool;

    /// False when it cannot say how long packets took.
    fn says_delay(&self) -> bool {
        true
    }

    /// The program that it runs and Debian's package of it, where it is not ours.
    fn program(&self) -> Option<external::Program> {
        None
    }

    /// Checks what a site file tells it.
    ///
    /// # Errors
    /// With the first option that cannot be.
    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        options::Reader::new(options).finish(())
    }

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
    /// When it is to end: for tools that have something to finish first. A task that keeps none is
    /// aborted at once.
    pub stop: Stop,
    /// For files, of which none is left when the flow has ended. A flow's sender and receiver have
    /// folders of the same path, also on different machines.
    pub folder: &'a Path,
}

/// Turns true, or is closed, when a flow ends.
pub type Stop = watch::Receiver<bool>;

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
    /// As a [`Receiver`]'s.
    pub stop: Stop,
    /// As a [`Receiver`]'s.
    pub folder: &'a Path,
}

/// The tool of that name, if this lab has it.
pub fn generator(tool: TrafficTool) -> Option<&'static dyn TrafficGenerator> {
    GENERATORS.iter().copied().find(|g| g.name() == tool.as_str())
}

/// All tools of this lab.
pub fn generators() -> &'static [&'static dyn TrafficGenerator] {
    GENERATORS
}

fn generator_or_names(tool: TrafficTool) -> anyhow::Result<&'static dyn TrafficGenerator> {
    generator(tool).with_context(|| {
        let names: Vec<&str> = GENERATORS.iter().map(|g| g.name()).collect();
        format!("this lab has no traffic tool {tool}; it has {}", names.join(", "))
    })
}

/// Checks that this lab has the tools that a site names, and that each knows what it is told. A
/// program that is missing is found when a flow of it starts: it may be needed elsewhere only.
///
/// # Errors
/// With the section and key.
pub fn check(site: &Site) -> anyhow::Result<()> {
    let traffic = &site.traffic;
    for (name, options) in &traffic.tools {
        let section = format!("[traffic.{name}]");
        let tool = spec::generator_of(*name, options);
        let tool = generator_or_names(tool).with_context(|| section.clone())?;
        tool.check(options).with_context(|| section)?;
    }
    let named = |tool: TrafficTool| traffic.tools.contains_key(&tool);
    for (place, tool) in std::iter::once(("[traffic] transport".to_owned(), traffic.transport)).chain(
        site.classes.iter().filter_map(|c| Some((format!("traffic of [[class]] {}", c.name), c.traffic?))),
    ) {
        if !named(tool) {
            generator_or_names(tool)
                .and_then(|g| Ok(g.check(&ToolOptions::new())?))
                .with_context(|| place)?;
        }
    }
    Ok(())
}

/// Reads a file that a site file names, on the machine that needs it.
///
/// # Errors
/// When it cannot be read, or has more than `longest` bytes.
fn read_file(path: &str, longest: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(std::io::Error::other(format!("it has more than {} MiB", longest >> 20)));
    }
    Ok(bytes)
}

/// The tool that a message means: messages of before said TCP or UDP by a flag.
pub fn tool_of(tool: Option<TrafficTool>, tcp: bool) -> TrafficTool {
    tool.unwrap_or(if tcp { TrafficTool::TCP } else { TrafficTool::UDP })
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
}

struct Flow {
    spec: FlowSpec,
    started: Instant,
    measured: Shared,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Flow {
    /// Ends its tasks and waits until they have let go of their sockets: the port may be wanted
    /// again at once. Must be called within a runtime, on a thread that is not the runtime's.
    fn end(&mut self) {
        let _ = self.stop.send(true);
        // Those that have something to finish hold on to it until they have.
        let finished = tokio::time::timeout(FINISH, self.stop.closed());
        let _ = Handle::current().block_on(finished);
        // The sender first: it is not to see its receiver go.
        for task in self.tasks.drain(..).rev() {
            task.abort();
            let _ = Handle::current().block_on(task);
        }
        with(&self.measured, |m| m.ended = m.ended.or_else(|| Some(Instant::now())));
    }
}

/// All flows of a lab: those that run, and what is left of the last [`ENDED`] that did.
pub struct Traffic {
    flows: BTreeMap<u64, Flow>,
    ended: Ended,
    folder: PathBuf,
}

impl Traffic {
    /// None yet; tools that need files put them into `folder`.
    pub fn new(folder: &Path) -> Traffic {
        Traffic { flows: BTreeMap::new(), ended: Ended::default(), folder: folder.to_owned() }
    }

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
        let generator = generator_or_names(spec.generator())?;
        generator.check(&spec.options).with_context(|| format!("[traffic.{}]", spec.tool))?;
        if let Some(program) = generator.program() {
            program.find()?;
        }
        let port = PORTS + (spec.id % 40_000) as u16;
        let measured: Shared = Arc::default();
        let mut tasks = Vec::new();
        let (stop, stopped) = watch::channel(false);
        if let Some(place) = to {
            let (measured, stop) = (measured.clone(), stopped.clone());
            let end = Receiver { place, address: any(port), measured, stop, folder: &self.folder };
            tasks.push(generator.receive(&spec, end)?);
        }
        if let Some((place, gate)) = from {
            let there = SocketAddr::V4(SocketAddrV4::new(spec.addresses.1, port));
            let measured = measured.clone();
            let end = Sender { place, gate, there, measured, stop: stopped, folder: &self.folder };
            match generator.send(&spec, end) {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    tasks.iter().for_each(JoinHandle::abort);
                    return Err(error);
                }
            }
        }
        self.flows.insert(spec.id, Flow { spec, started: Instant::now(), measured, tasks, stop });
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
                note: m.failed.clone(),
                own_clock: m.own_clock,
                tool: Some(self.spec.generator()).filter(|tool| *tool != self.spec.tool),
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
