//! Classes of service: two VMs of different classes share a bottleneck, and what each gets is
//! compared with what it is guaranteed.
//!
//! The set-up is that of the thesis (Teixeira 2013): both VMs behind one edge switch, the link from
//! edge to aggregation is the bottleneck, 70% and 30%. The thesis measured 50/50, because its
//! queues were set and no packet was ever put into them. Each cell has four parts: the first class
//! alone, both, the second class alone (it borrows what is idle), both again. Each sender offers
//! the whole link all the time. A third flow crosses a port of the same switch that is nearly idle:
//! congestion elsewhere must not cost it a packet.

mod report;

use crate::control::messages::{FlowReport, LabRequest};
use crate::experiment::manifest::Manifest;
use crate::experiment::records::Records;
use crate::experiment::run_folder::RunFolder;
use crate::node::traffic::tool_of;
use crate::world::Start;
use crate::world::packets::PacketWorld;
use crate::world::run::Run;
use anyhow::{Context, bail};
use report::{table, write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tandem_model::{NodeId, PortNo, ServerId, Site, TrafficTool};

/// Guaranteed, in percent.
const SHARES: [(&str, u32, u8); 2] = [("gold", 70, 46), ("silver", 30, 10)];
/// Between samples.
const SAMPLE: Duration = Duration::from_millis(500);
/// What the idle port carries, bit/s.
const IDLE_RATE: u64 = 500_000;
/// The third flow's id.
const IDLE: u64 = 900;
/// A flow that was just started, or ended, is not measured for so long: TCP finds its rate, queues
/// empty.
const SETTLE: f64 = 2.0;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The bottleneck's rates in Mbit/s.
    #[arg(long, value_delimiter = ',', default_value = "10,50")]
    pub link: Vec<u32>,
    /// `udp`, `tcp`.
    #[arg(long, value_delimiter = ',', default_value = "udp,tcp")]
    pub transport: Vec<String>,
    /// Seconds of each part of a cell.
    #[arg(long, default_value_t = 6.0, value_parser = crate::cli::numbers::seconds)]
    pub seconds: f64,
}

/// One moment of a cell.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: f64,
    /// Goodput per class, Mbit/s.
    rate: [f64; 2],
    /// Packets that wait in each class's queue at the bottleneck.
    queued: [u64; 2],
}

/// What a cell gave.
#[derive(Debug, Clone)]
pub struct Cell {
    /// `udp` or `tcp`.
    pub transport: String,
    /// Which class began.
    pub order: String,
    /// The bottleneck, Mbit/s.
    pub link: u32,
    /// Percent of what both got, while both sent, per class.
    pub share: [f64; 2],
    /// Percent of the link that both got together, while both sent. Where the senders cannot fill
    /// the link, shares say nothing.
    pub used: f64,
    /// Percent of the link that the class left alone had.
    pub borrowed: f64,
    /// Packets lost on the idle port, of how many.
    pub idle_lost: (u64, u64),
    samples: Vec<Sample>,
}

pub(super) fn site_text(link: u32) -> String {
    let mut text = format!(
        "name = \"qos\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n\
         [bandwidth]\ngateway = \"1 Gbit/s\"\ncore = \"1 Gbit/s\"\naggregation = \"{link} Mbit/s\"\nedge = \"1 Gbit/s\"\n\
         [traffic]\nenabled = false\n[policy]\nallocation = \"worst-fit\"\n[vm]\nnet = \"1 Mbit/s\"\n\
         [statistics]\nperiod = \"500 ms\"\nhistory_weight = 0.0\n"
    );
    for (name, share, dscp) in SHARES {
        let _ = write!(text, "[[class]]\nname = \"{name}\"\nshare = {share}\ndscp = {dscp}\n");
    }
    text
}

/// A site of one's own, such as a testbed's, with the experiment's classes and the bottleneck's
/// rate.
///
/// # Errors
/// When it is no TOML. Other faults are found when it is read.
fn adapted(text: &str, link: u32) -> anyhow::Result<String> {
    let mut site: toml::Table = text.parse().context("the site file is no TOML")?;
    let wanted: toml::Table = site_text(link).parse().context("the experiment's own site")?;
    for section in ["traffic", "policy", "statistics"] {
        site.extend(wanted.get(section).map(|s| (section.to_owned(), s.clone())));
    }
    for (section, key) in [("bandwidth", "aggregation"), ("vm", "net")] {
        let value = wanted.get(section).and_then(|s| s.get(key)).cloned();
        let own = site.entry(section).or_insert_with(|| toml::Table::new().into());
        let own = own.as_table_mut().with_context(|| format!("[{section}] is no section"))?;
        own.extend(value.map(|v| (key.to_owned(), v)));
    }
    site.extend(wanted.get("class").map(|c| ("class".to_owned(), c.clone())));
    Ok(site.to_string())
}

/// Runs it and fills the run folder; the table for people. `site` is another site file's text than
/// the experiment's own.
///
/// # Errors
/// With the step that failed; worlds and controllers are then gone.
pub fn run(
    world: &dyn PacketWorld,
    options: &Options,
    site: Option<&str>,
    folder: &mut RunFolder,
) -> anyhow::Result<String> {
    let tcp: Vec<bool> = options
        .transport
        .iter()
        .map(|t| match t.as_str() {
            "udp" => Ok(false),
            "tcp" => Ok(true),
            other => bail!("{other:?} is no transport; write udp or tcp"),
        })
        .collect::<anyhow::Result<_>>()?;
    let text = |link: u32| site.map_or_else(|| Ok(site_text(link)), |own| adapted(own, link));
    let first = text(options.link.first().copied().unwrap_or(10))?;
    let mut manifest = Manifest::new("qos-classes", world.kind(), 0, &first);
    let mut cells = Vec::new();
    let mut records = Records::default();
    let mut selection = String::new();
    for link in &options.link {
        let bench = Bench::start(world, *link, &text(*link)?)?;
        manifest.of_world(&bench.run.status);
        selection = bench.selection()?;
        bench.run.note("before", &mut records)?;
        for tcp in &tcp {
            for (first, (class, ..)) in SHARES.iter().enumerate() {
                eprintln!(
                    "{} Mbit/s, {}, {} first (about {:.0} s)",
                    link,
                    if *tcp { "tcp" } else { "udp" },
                    class,
                    options.seconds * 4.0
                );
                cells.push(bench.cell(*tcp, first, options.seconds)?);
            }
        }
        bench.run.note("after", &mut records)?;
        bench.run.stop()?;
    }
    records.write(folder)?;
    write(folder, &cells, &manifest.place())?;
    let datapath = manifest.datapath.as_deref().unwrap_or("?");
    let text = table(&cells, &format!("{datapath}, classes chosen by {selection}"));
    folder.finish(manifest)?;
    Ok(text)
}

/// One cell of UDP, the first class first; or the controller's refusal of a VM of a class.
///
/// # Errors
/// With the step that failed; the world and its controller are then gone.
pub(super) fn one_cell(
    world: &dyn PacketWorld,
    link: u32,
    seconds: f64,
) -> anyhow::Result<Result<Cell, String>> {
    let name = format!("classes-{link}");
    let text = site_text(link);
    let run = Run::start(
        world,
        Start { name: &name, experiment: "datapaths", text: &text, csv: None, record: None },
    )?;
    let vms = match run.vm(SHARES[0].0).and_then(|first| Ok([first, run.vm(SHARES[1].0)?])) {
        Ok(vms) => vms,
        Err(refusal) => {
            run.stop()?;
            return Ok(Err(format!("{refusal:#}")));
        }
    };
    let bench = Bench::of(run, link, vms)?;
    let cell = bench.cell(false, 0, seconds)?;
    bench.run.stop()?;
    Ok(Ok(cell))
}

/// How far the first class's share is from its guarantee, in points.
pub(super) fn error(cell: &Cell) -> f64 {
    cell.share[0] - f64::from(SHARES[0].1)
}

type End = (String, Ipv4Addr);

struct Bench {
    run: Run,
    link: u32,
    vms: [End; 2],
    gateway: End,
    /// The bottleneck's sending port: `edge1` and its number.
    bottleneck: (String, PortNo),
}

impl Bench {
    fn start(world: &dyn PacketWorld, link: u32, text: &str) -> anyhow::Result<Bench> {
        let name = format!("qos-{link}");
        let start = Start { name: &name, experiment: "qos-classes", text, csv: None, record: None };
        let run = Run::start(world, start)?;
        let vms = [run.vm(SHARES[0].0)?, run.vm(SHARES[1].0)?];
        Bench::of(run, link, vms)
    }

    fn of(run: Run, link: u32, vms: [End; 2]) -> anyhow::Result<Bench> {
        let gateway = run.site.topology.gateways.first().context("the site has no gateway")?;
        let gateway = (gateway.name.clone(), gateway.address);
        let bottleneck =
            bottleneck(&run.site).context("the first server's edge switch has no port that leads up")?;
        Ok(Bench { run, link, vms, gateway, bottleneck })
    }

    fn flow(&self, class: usize, id: u64, tcp: bool) -> anyhow::Result<()> {
        // The whole link, twice for TCP: its own congestion control is to be what holds it back.
        let rate = u64::from(self.link) * 1_000_000 * if tcp { 2 } else { 1 };
        self.run.start_flow(id, &self.vms[class], &self.gateway, rate, tool_of(None, tcp))
    }

    fn stop_flow(&self, id: u64) -> anyhow::Result<()> {
        self.run.ask(&LabRequest::StopFlow { id }).map(drop)
    }

    /// How the bottleneck's port chooses a packet's class: `queue` or `dscp`.
    fn selection(&self) -> anyhow::Result<String> {
        let topology = self.run.controller.json(&["topology"])?;
        Ok(port(&topology, &self.bottleneck)["selection"].as_str().unwrap_or("nothing").to_owned())
    }

    fn queued(&self) -> anyhow::Result<[u64; 2]> {
        let topology = self.run.controller.json(&["topology"])?;
        let port = port(&topology, &self.bottleneck);
        let of = |n: usize| port["classes"][n]["queued"].as_u64().unwrap_or(0);
        Ok([of(0), of(1)])
    }

    /// Both orders use the classes' own flow ids, 1 and 2, anew each time a class begins.
    fn cell(&self, tcp: bool, first: usize, seconds: f64) -> anyhow::Result<Cell> {
        let second = 1 - first;
        let begin = Instant::now();
        let mut samples = Vec::new();
        self.run.start_flow(IDLE, &self.gateway, &self.vms[0], IDLE_RATE, TrafficTool::UDP)?;
        self.flow(first, first as u64 + 1, tcp)?;
        self.watch(begin, seconds, &mut samples)?;
        self.flow(second, second as u64 + 1, tcp)?;
        self.watch(begin, seconds, &mut samples)?;
        self.stop_flow(first as u64 + 1)?;
        self.watch(begin, seconds, &mut samples)?;
        self.flow(first, first as u64 + 1, tcp)?;
        self.watch(begin, seconds, &mut samples)?;
        for id in [1, 2, IDLE] {
            self.stop_flow(id)?;
        }
        let idle = self.run.flows()?.remove(&IDLE).context("the idle port's flow is not reported")?;
        // What was sent in the last moment may still be on its way.
        let lost = idle.sent.saturating_sub(idle.received).saturating_sub(2);
        let part = |n: usize| {
            let from = seconds * n as f64 + SETTLE.min(seconds / 2.0);
            let until = seconds * (n + 1) as f64 - 0.1;
            let inside: Vec<&Sample> = samples.iter().filter(|s| s.at > from && s.at <= until).collect();
            let mean =
                |class: usize| inside.iter().map(|s| s.rate[class]).sum::<f64>() / inside.len().max(1) as f64;
            [mean(0), mean(1)]
        };
        let both = part(1);
        let again = part(3);
        let alone = part(2);
        let total = [both[0] + again[0], both[1] + again[1]];
        let sum = (total[0] + total[1]).max(f64::MIN_POSITIVE);
        Ok(Cell {
            transport: if tcp { "tcp" } else { "udp" }.into(),
            order: format!("{}-first", SHARES[first].0),
            link: self.link,
            share: [100.0 * total[0] / sum, 100.0 * total[1] / sum],
            used: 100.0 * sum / 2.0 / f64::from(self.link),
            borrowed: 100.0 * alone[second] / f64::from(self.link),
            idle_lost: (lost, idle.sent),
            samples,
        })
    }

    fn watch(&self, begin: Instant, seconds: f64, samples: &mut Vec<Sample>) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut before = (Instant::now(), self.run.flows()?);
        let mut next = start + SAMPLE;
        while start.elapsed().as_secs_f64() + SAMPLE.as_secs_f64() / 2.0 < seconds {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += SAMPLE;
            let now = (Instant::now(), self.run.flows()?);
            let took = now.0.duration_since(before.0).as_secs_f64();
            let rate = |id: u64| {
                let bytes = |f: &BTreeMap<u64, FlowReport>| f.get(&id).map_or(0, |f| f.bytes);
                // A flow that began anew counts from zero.
                bytes(&now.1).saturating_sub(bytes(&before.1)) as f64 * 8.0 / took / 1e6
            };
            let rate = [rate(1), rate(2)];
            samples.push(Sample { at: begin.elapsed().as_secs_f64(), rate, queued: self.queued()? });
            before = now;
        }
        Ok(())
    }
}

/// The first server's edge switch, and its port that leads up.
fn bottleneck(site: &Site) -> Option<(String, PortNo)> {
    let t = &site.topology;
    let edge = NodeId::Switch(t.edge_of(ServerId(0), 0)?);
    let up = t.ports(edge).iter().find(|(_, link)| {
        let other = t.link(*link).and_then(|l| l.other(edge));
        other.is_some_and(|end| matches!(end.node, NodeId::Switch(_) | NodeId::Gateway(_)))
    })?;
    Some((t.name(edge).to_owned(), up.0))
}

/// What the controller says of a switch's port; null if it knows none.
fn port<'a>(topology: &'a Value, (switch, number): &(String, PortNo)) -> &'a Value {
    let switches = topology["switches"].as_array().into_iter().flatten();
    let ports = switches.filter(|s| s["name"] == switch.as_str()).filter_map(|s| s["ports"].as_array());
    ports.flatten().find(|p| p["port"] == number.0).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site;

    #[test]
    fn a_site_of_ones_own_keeps_its_shape_and_gets_the_experiments_classes_and_bottleneck() {
        let own = "name = \"mine\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 2\n\
                   [bandwidth]\naggregation = \"1 Gbit/s\"\nedge = \"1 Gbit/s\"\n[traffic]\nenabled = true\n";
        let site = site::read(&adapted(own, 20).expect("TOML"), "adapted").expect("a site");
        assert_eq!((site.name.as_str(), site.topology.switches.len(), site.classes.len()), ("mine", 5, 2));
        let (switch, port) = bottleneck(&site).expect("a bottleneck");
        let node = site.topology.by_name(&switch).expect("the switch");
        let link = site.topology.link_at(node, port).and_then(|l| site.topology.link(l)).expect("its link");
        assert_eq!(link.cfg.rate.0, 20_000_000);
        assert!(!site.traffic.enabled);
    }

    #[test]
    fn the_site_is_sound() {
        let site = site::read(&site_text(10), "qos").expect("a site");
        assert_eq!((site.classes.len(), site.classes[0].share as u32), (2, 70));
        assert_eq!(bottleneck(&site), Some(("edge1".into(), PortNo(1))));
    }
}
