//! What each traffic tool of the lab costs, and how far it gets: CPU and memory for what arrives, and
//! how much of what was asked for does.
//!
//! One switch, a gateway and a server, no controller; each tool sends from the gateway to the server
//! at each rate, one after the other. What arrives is counted by the kernel, at the server's
//! interface, so that every tool is judged alike whatever it says of itself. The switch's own
//! processes are left out of what it costs.

mod report;

use crate::control::messages::{Counter, FlowReport, LabRequest, LabResponse};
use crate::experiment::manifest::Manifest;
use crate::experiment::run_folder::RunFolder;
use crate::experiment::usage::{self, Usage};
use crate::node::traffic::generators;
use crate::world::Start;
use crate::world::emulated::lab_control;
use crate::world::packets::PacketWorld;
use crate::world::run::Bare;
use anyhow::{Context, bail, ensure};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tandem_model::TrafficTool;

/// The links' rate: none of them is to hold a tool back.
const LINKS: &str = "10 Gbit/s";
/// A tool finds its rate, and other programs start, before it is measured.
const SETTLE: Duration = Duration::from_millis(1500);
/// How long the lab is watched without traffic: what it uses then is not the tools'.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at whether anything arrives.
const POLL: Duration = Duration::from_millis(50);
/// A tool of which nothing has arrived by then does not run.
const FIRST: Duration = Duration::from_secs(5);
/// The first flow's id.
const FLOW: u64 = 700;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which tools; all that the lab has if not given.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub tool: Vec<TrafficTool>,
    /// What each is asked for, Mbit/s on layer 2.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000", value_name = "MBIT",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rates: Vec<u32>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0, value_parser = crate::cli::numbers::positive)]
    pub seconds: f64,
}

/// What one tool gave at one rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    tool: String,
    /// Asked for, Mbit/s.
    rate: f64,
    /// Or why it was not measured.
    result: Result<Measured, String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// What arrived, Mbit/s on layer 2.
    reached: f64,
    /// Milliseconds of a core for each Mbit that arrived.
    cpu_ms: f64,
    /// Memory that it took, MB.
    memory: f64,
}

fn site() -> String {
    format!(
        "name = \"tools\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 1\n\
         [bandwidth]\ngateway = \"{LINKS}\"\naggregation = \"{LINKS}\"\nedge = \"{LINKS}\"\n\
         [traffic]\nenabled = false\n"
    )
}

/// Measures, and fills the run folder; the table for people.
///
/// # Errors
/// With the step that failed; the world is then gone. A tool that does not run is no error.
pub fn run(world: &dyn PacketWorld, options: &Options, folder: &mut RunFolder) -> anyhow::Result<String> {
    let all: Vec<TrafficTool> =
        generators().iter().map(|g| g.name().parse()).collect::<Result<_, _>>().context("a tool's name")?;
    for tool in &options.tool {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        ensure!(all.contains(tool), "this lab has no traffic tool {tool}; it has {}", names.join(", "));
    }
    let tools = if options.tool.is_empty() { &all } else { &options.tool };
    let text = site();
    let start = Start { name: "tools", experiment: "traffic-tools", text: &text, csv: None, record: None };
    let bench = Bench::start(Bare::start(world, start)?)?;
    let mut manifest = Manifest::new("traffic-tools", world.kind(), 0, &text);
    manifest.of_world(&bench.lab.status);
    let idle = bench.idle()?;
    let mut cells = Vec::new();
    for (n, tool) in tools.iter().enumerate() {
        for (m, rate) in options.rates.iter().enumerate() {
            let id = FLOW + (n * options.rates.len() + m) as u64;
            let cell = Cell {
                tool: tool.to_string(),
                rate: f64::from(*rate),
                result: bench.measure(id, *tool, *rate, options.seconds, idle)?,
            };
            eprintln!("{}", report::line(&cell));
            let refused = cell.result.is_err();
            cells.push(cell);
            if refused {
                // What does not run at one rate does not at another.
                break;
            }
        }
    }
    report::write(folder, &cells, &manifest.place())?;
    folder.finish(manifest)?;
    Ok(report::table(&cells))
}

struct Bench {
    lab: Bare,
    from: (String, Ipv4Addr),
    to: (String, Ipv4Addr),
    /// The lab's own process, as seen from here.
    process: u32,
}

impl Bench {
    fn start(lab: Bare) -> anyhow::Result<Bench> {
        lab.ask(&LabRequest::Hubs)?;
        let topology = &lab.site.topology;
        let gateway = topology.gateways.first().context("the site has no gateway")?;
        let server = topology.servers.first().context("the site has no server")?;
        let (from, to) = ((gateway.name.clone(), gateway.address), (server.name.clone(), server.address));
        let process = lab_control::process_of(lab.name())?;
        Ok(Bench { lab, from, to, process })
    }

    /// What the lab has used so far, its switches apart.
    fn usage(&self) -> anyhow::Result<Usage> {
        let is_switch = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| ["ovs-vswitchd", "ovsdb-server", "tandem-agent"].contains(&name.trim()))
        };
        let mut all = usage::namespace_of(self.process)?;
        all.retain(|pid| !is_switch(pid));
        Ok(usage::of(&all))
    }

    /// Seconds of a core that the lab uses in a second without traffic.
    fn idle(&self) -> anyhow::Result<f64> {
        let before = self.usage()?;
        let began = Instant::now();
        std::thread::sleep(IDLE);
        Ok((self.usage()?.cpu - before.cpu).max(0.0) / began.elapsed().as_secs_f64())
    }

    /// Bytes that have arrived at the server, Ethernet headers included.
    fn arrived(&self) -> anyhow::Result<u64> {
        let LabResponse::Counters { counters } = self.lab.ask(&LabRequest::Counters)? else {
            bail!("the lab answered something else");
        };
        let of_server = |c: &&Counter| c.node == self.to.0;
        Ok(counters.iter().filter(of_server).map(|c| c.rx_bytes).sum())
    }

    /// What the tool says of itself, for when nothing arrives.
    fn report(&self, id: u64) -> anyhow::Result<Option<FlowReport>> {
        let LabResponse::Flows { flows } = self.lab.ask(&LabRequest::Flows)? else {
            bail!("the lab answered something else");
        };
        Ok(flows.into_iter().find(|f| f.id == id))
    }

    fn measure(
        &self,
        id: u64,
        tool: TrafficTool,
        rate: u32,
        seconds: f64,
        idle: f64,
    ) -> anyhow::Result<Result<Measured, String>> {
        let before = self.usage()?;
        let bytes = self.arrived()?;
        let started = self.lab.ask(&LabRequest::StartFlow {
            id,
            from: self.from.clone(),
            to: self.to.clone(),
            rate: u64::from(rate) * 1_000_000,
            tcp: tool == TrafficTool::TCP,
            tool: Some(tool),
        });
        if let Err(why) = started {
            return Ok(Err(format!("{why:#}")));
        }
        let measured = self.running(bytes, before, seconds, idle);
        let said = self.report(id)?;
        self.lab.ask(&LabRequest::StopFlow { id })?;
        Ok(measured?.ok_or_else(|| {
            let sent = said.map_or(0, |f| f.sent);
            format!("nothing arrived within {} s; it says that it sent {sent}", FIRST.as_secs())
        }))
    }

    /// Measures a flow that was started; `None` when nothing of it arrives.
    fn running(
        &self,
        bytes: u64,
        before: Usage,
        seconds: f64,
        idle: f64,
    ) -> anyhow::Result<Option<Measured>> {
        let began = Instant::now();
        // More than what hosts say of themselves: ARP and the like.
        while self.arrived()?.saturating_sub(bytes) < 5_000 {
            if began.elapsed() > FIRST {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
        std::thread::sleep(SETTLE);
        let (used, received, start) = (self.usage()?, self.arrived()?, Instant::now());
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let (used_then, received_then, took) =
            (self.usage()?, self.arrived()?, start.elapsed().as_secs_f64());
        let mbit = received_then.saturating_sub(received) as f64 * 8.0 / 1e6;
        if mbit <= 0.0 {
            return Ok(None);
        }
        let cpu = (used_then.cpu - used.cpu - idle * took).max(0.0);
        let memory = used_then.memory.saturating_sub(before.memory) as f64 / 1e6;
        Ok(Some(Measured { reached: mbit / took, cpu_ms: cpu * 1e3 / mbit, memory }))
    }
}
