//! How fast switches forward: the agent's own (soft) and Open vSwitch in user space, made by the
//! same agent, each on wires of its own, in namespaces of their own.
//!
//! ```text
//! sender --(from)-- s1 -- s2 -- s3 --(to)-- receiver      the same once more for Open vSwitch: o1 to o3
//! ```
//!
//! The sender keeps a number of packets on their way and sends as many again as have arrived, so
//! that nothing is spent on packets that are thrown away; each datapath is given the number that it
//! forwards most with. What has arrived is what the kernel counted at the receiver.

use crate::bench::agent::Agent;
use crate::controller_process;
use crate::openflow_client::{self, OpenFlowClient};
use crate::temp_dir::TempDir;
use anyhow::{Context, bail, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tandem_linux::link::{self, Veth};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::{Datapath as Forwarding, Ovs};
use tandem_linux::packet::Transmitter;
use tandem_model::DatapathKind;
use tandem_openflow::of13::{Action, Field, Match};

/// How it is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How often each cell is measured; the median is printed.
    #[arg(long, default_value_t = 3)]
    pub repeat: u32,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 400)]
    pub milliseconds: u64,
    /// Used by the bench itself, when it is in its own namespaces already.
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// Packets on their way at once.
const WINDOWS: [u64; 5] = [32, 64, 128, 256, 512];
/// Bytes of a frame with its check sequence, which a packet socket does not see; and the switches
/// in a row.
const CELLS: [(usize, usize); 4] = [(1, 1400), (1, 64), (3, 1400), (3, 64)];
/// Flows that the packets belong to.
const FLOWS: u16 = 16;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Measures and prints.
///
/// # Errors
/// With the step that failed; nothing of it is then left.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.inside {
        link::disable_ipv6();
        return measure(options);
    }
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(["bench", "datapath", "--inside", "--repeat", &options.repeat.to_string()])
        .args(["--milliseconds", &options.milliseconds.to_string()])
        .status()
        .context("starting unshare (package util-linux)")?;
    if !status.success() {
        bail!("the bench did not come to its end");
    }
    Ok(())
}

/// A row of switches of one kind between a sender and a receiver.
struct Row {
    datapath: DatapathKind,
    length: usize,
    sender: Transmitter,
    receiver: Netlink,
    receiver_index: u32,
    // The wires are there as long as their ends.
    _ends: [NetNs; 2],
}

/// Names of a row's switches.
fn names(datapath: DatapathKind, length: usize) -> Vec<String> {
    let letter = if datapath == DatapathKind::SOFT { 's' } else { 'o' };
    (1..=length).map(|n| format!("{letter}{length}{n}")).collect()
}

fn wires(datapath: DatapathKind, length: usize, first: u32) -> anyhow::Result<Row> {
    let here = NetNs::current()?;
    let mut ends = NetNs::many(2, link::disable_ipv6)?;
    let receiver = ends.pop().context("two")?;
    let sender = ends.pop().context("two")?;
    let switches = names(datapath, length);
    let mut requests = Vec::new();
    let mut up = Vec::new();
    for n in 0..=length {
        let left = format!("{}p2", names(datapath, length)[n.max(1) - 1]);
        let right = format!("{}p1", switches[n.min(length - 1)]);
        let index = first + 2 * n as u32;
        let a = if n == 0 { ("from", index, &sender) } else { (left.as_str(), index, &here) };
        let b = if n == length { ("to", index + 1, &receiver) } else { (right.as_str(), index + 1, &here) };
        requests.push(Veth::new(a, b).request());
        up.push((n, index + 1));
    }
    let mut netlink = Netlink::open()?;
    netlink.batch(&requests)?;
    for (n, index) in up {
        let request = [link::set_up(index, true)];
        if n == length {
            receiver.run(|| Netlink::open()?.batch(&request))??
        } else {
            netlink.batch(&request)?
        }
    }
    Ok(Row {
        datapath,
        length,
        sender: sender.run(|| Transmitter::open(first, 0))??,
        receiver: receiver.run(Netlink::open)??,
        receiver_index: first + 2 * length as u32 + 1,
        _ends: [sender, receiver],
    })
}

fn configuration(folder: &Path, rows: &[Row]) -> (String, String) {
    let at = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    let mut config = format!(
        "name = \"bench\"\ncontroller = {:?}\nstate = {}\ncontrol = {}\ninitial = {}\n[ovs]\ndatabase = {}\npid_file = {}\ndatapath = \"userspace\"\n",
        controller_process::agents(folder),
        at("state"),
        at("control.sock"),
        at("initial.toml"),
        at("db.sock"),
        at("vswitchd.pid"),
    );
    let mut initial = String::new();
    let mut id = 0;
    for row in rows {
        for name in names(row.datapath, row.length) {
            id += 1;
            let _ = write!(config, "[[switch]]\nname = {name:?}\ndatapath = {:?}\n", row.datapath.name());
            let _ = write!(initial, "[[switch]]\nname = {name:?}\ndatapath_id = \"{id:016x}\"\n");
            for port in 1..=2 {
                let text = format!("[[switch.port]]\nnumber = {port}\ninterface = \"{name}p{port}\"\n");
                config.push_str(&text);
                initial.push_str(&text);
            }
        }
    }
    (config, initial)
}

/// Lets a switch forward from port 1 to port 2 and back, as a controller would.
fn program(socket: &Path) -> anyhow::Result<()> {
    let flows = [(1, 2), (2, 1)].map(|(from, to)| {
        let matching = Match { fields: vec![Field::InPort(from)] };
        openflow_client::add(0, 100, matching, openflow_client::apply(vec![Action::output(to)]))
    });
    OpenFlowClient::connect(socket)?.must(&flows).with_context(|| format!("programming {}", socket.display()))
}

/// UDP packets of some flows, each a frame of this many bytes with its check sequence.
pub(crate) fn frames(length: usize) -> (Vec<u8>, Vec<(u32, u32)>) {
    let length = length - 4;
    let mut data = Vec::new();
    let mut places = Vec::new();
    for flow in 0..FLOWS {
        let start = data.len();
        data.extend([2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 8, 0]);
        let total = (length - 14) as u16;
        let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        let mut sum: u32 = ip.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        data.extend(ip);
        data.extend((10_000 + flow).to_be_bytes());
        data.extend([0x13, 0x88]);
        data.extend((total - 20).to_be_bytes());
        data.extend([0, 0]);
        data.resize(start + length, 0);
        places.push((start as u32, data.len() as u32));
    }
    (data, places)
}

impl Row {
    fn arrived(&mut self) -> anyhow::Result<u64> {
        let stats = link::one(&mut self.receiver, self.receiver_index)?.stats;
        Ok(stats.context("no counters")?.rx_packets)
    }

    /// Packets a second with so many on their way, and the share of them that was lost.
    fn rate(&mut self, size: usize, window: u64, time: Duration) -> anyhow::Result<(f64, f64)> {
        let (data, one) = frames(size);
        let places: Vec<(u32, u32)> = one.iter().cycle().take(64).copied().collect();
        let begin = self.arrived()?;
        let mut sent = 0u64;
        let mut lost = 0u64;
        let mut last = (begin, Instant::now());
        let mut counted = 0;
        let mut from = None;
        let start = Instant::now();
        while start.elapsed() < time {
            let now = self.arrived()?;
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > Duration::from_millis(20) {
                // What has not come by now does not come.
                lost = sent - (now - begin);
                last.1 = Instant::now();
            }
            // The first part is for caches to fill.
            if from.is_none() && start.elapsed() > time / 5 {
                from = Some(Instant::now());
                counted = now;
            }
            let away = sent.saturating_sub(lost + (now - begin));
            let free = window.saturating_sub(away).min(64) as usize;
            if free > 0 {
                self.sender.send(&data, &places[..free])?;
                sent += free as u64;
            }
        }
        let now = self.arrived()?;
        let took = from.context("too short a measurement")?.elapsed();
        Ok(((now - counted) as f64 / took.as_secs_f64(), lost as f64 / sent.max(1) as f64))
    }

    /// Waits until packets come through.
    fn wait(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.rate(64, 1, Duration::from_millis(20))?.0 == 0.0 {
            ensure!(
                start.elapsed() < LIMIT,
                "no packet comes through {} of {}",
                self.length,
                self.datapath.name()
            );
        }
        Ok(())
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let scratch = TempDir::new("datapath-bench")?;
    let folder = scratch.path();
    let mut rows = Vec::new();
    for (n, length) in [1, 3].into_iter().enumerate() {
        for (m, datapath) in [DatapathKind::SOFT, DatapathKind::OVS].into_iter().enumerate() {
            rows.push(wires(datapath, length, 100 * (1 + 2 * n + m) as u32)?);
        }
    }
    let ovs = Ovs::start(folder)?;
    std::fs::write(folder.join("vswitchd.pid"), ovs.switchd().context("vswitchd runs")?.to_string())?;
    let (config, initial) = configuration(folder, &rows);
    std::fs::write(folder.join("agent.toml"), config)?;
    std::fs::write(folder.join("initial.toml"), initial)?;
    let mut agent = Agent::start(folder)?;
    agent.wait(|s| s["applied"] == true)?;
    for row in &mut rows {
        for name in names(row.datapath, row.length) {
            let folder = if row.datapath == DatapathKind::SOFT {
                folder.join("state/soft")
            } else {
                folder.to_owned()
            };
            program(&folder.join(format!("{name}.mgmt")))?;
        }
        row.wait()?;
    }
    let kind = if ovs.datapath() == Forwarding::Userspace {
        ""
    } else {
        " (this kernel could forward by itself; it is not used here)"
    };
    println!(
        "packets a second, the median of {}; soft: the agent's own switch, ovs: Open vSwitch in user space{kind}\n",
        options.repeat
    );
    println!(
        "{:<10} {:>6} {:>12} {:>12} {:>10} {:>10} {:>7}",
        "switches", "bytes", "soft", "ovs", "soft Mb/s", "ovs Mb/s", "ratio"
    );
    let time = Duration::from_millis(options.milliseconds);
    let mut worst = f64::INFINITY;
    for (length, size) in CELLS {
        let mut medians = Vec::new();
        let mut found: [Vec<f64>; 2] = Default::default();
        for _ in 0..options.repeat.max(1) {
            for (n, datapath) in [DatapathKind::SOFT, DatapathKind::OVS].into_iter().enumerate() {
                let row = rows
                    .iter_mut()
                    .find(|r| (r.datapath, r.length) == (datapath, length))
                    .context("a row")?;
                let mut best: f64 = 0.0;
                for window in WINDOWS {
                    best = best.max(row.rate(size, window, time)?.0);
                }
                found[n].push(best);
            }
        }
        for mut list in found {
            list.sort_by(f64::total_cmp);
            medians.push(list[list.len() / 2]);
        }
        let ratio = medians[0] / medians[1];
        worst = worst.min(ratio);
        let mbit = |rate: f64| rate * size as f64 * 8.0 / 1e6;
        println!(
            "{length:<10} {size:>6} {:>12.0} {:>12.0} {:>10.0} {:>10.0} {ratio:>7.2}",
            medians[0],
            medians[1],
            mbit(medians[0]),
            mbit(medians[1])
        );
    }
    println!("\nworst ratio {worst:.2}");
    drop(agent);
    drop((rows, ovs));
    Ok(())
}
