//! Tandem's own engine beside Mininet, on the same site, both shaped: how long a data centre takes to
//! come up and to go, and what it takes of memory.
//!
//! Mininet runs as its own users run it: its build and start, its own stop; importing it and starting
//! Open vSwitch are not counted. Tandem's engine is measured from the call to its return, Open vSwitch
//! and the agents included. Both are without a controller.

use super::bring_up::site_text;
use crate::temp_dir::TempDir;
use crate::world::emulated::datapath::Choice;
use crate::world::emulated::engine::EngineKind;
use crate::world::emulated::lab_control::{self, Plan};
use crate::world::mininet::topology::Network;
use crate::world::mininet::{Driver, build_limit, installed};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Ovs;
use tandem_linux::{limits, link, sandbox};
use tandem_model::{DatapathKind, Site, site};

/// What is brought up.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// `fat-tree:K`, or `tree:EDGES:SERVERS` (one core switch, EDGES edge switches with SERVERS
    /// servers each).
    #[arg(long, default_value = "fat-tree:8")]
    pub shape: String,
    /// How often.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Measure Mininet, in namespaces that somebody else has made: what the bench starts itself for.
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// What one engine took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Figures {
    /// Seconds until the network is there.
    up: f64,
    /// Seconds until it is gone.
    down: f64,
    /// KiB of its processes, shared pages by their share.
    kib: u64,
}

/// Measures and prints.
///
/// # Errors
/// With the step that failed; what was made is then gone.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let text = site_text(&options.shape)?;
    let site = site::read(&text, "the bench's site")?;
    if options.inside {
        println!("{}", serde_json::to_string(&mininet_inside(&site)?)?);
        return Ok(());
    }
    installed()?;
    let t = &site.topology;
    println!(
        "{}: {} servers, {} switches, {} links, all shaped",
        options.shape,
        t.servers.len(),
        t.switches.len(),
        t.links.len()
    );
    println!("{:>10} {:>10} {:>10} {:>10}", "engine", "up s", "down s", "MB");
    for _ in 0..options.repeat {
        let own = native(&text).context("the engine native")?;
        print_row(EngineKind::Native, own)?;
        let theirs = mininet(options).context("the engine mininet")?;
        print_row(EngineKind::Mininet, theirs)?;
        println!(
            "{:>10} {:>10.1} {:>10.1} {:>10.1}",
            "ratio",
            theirs.up / own.up,
            theirs.down / own.down,
            theirs.kib as f64 / own.kib.max(1) as f64
        );
    }
    Ok(())
}

fn print_row(engine: EngineKind, f: Figures) -> anyhow::Result<()> {
    println!("{:>10} {:>10.2} {:>10.2} {:>10.1}", engine.name(), f.up, f.down, f.kib as f64 / 1024.0);
    Ok(std::io::stdout().flush()?)
}

fn native(text: &str) -> anyhow::Result<Figures> {
    let scratch = TempDir::new("bench")?;
    let name = format!("bench-{}", std::process::id());
    // Nobody listens there.
    let nobody = |socket: &str| format!("unix:{}", scratch.path().join(socket).display());
    let plan = Plan {
        group: None,
        name: Some(name.clone()),
        text: text.to_owned(),
        file: "the bench's site".into(),
        controller: nobody("openflow.sock"),
        agents: nobody("agents.sock"),
        agent_per_switch: false,
        datapath: Choice::Kind(DatapathKind::OVS),
        engine: EngineKind::Native,
        protocols: vec!["OpenFlow10".into(), "OpenFlow13".into()],
    };
    let begin = Instant::now();
    let made = lab_control::up(&plan)?;
    let up = begin.elapsed().as_secs_f64();
    let kib = memory(made.pid);
    let begin = Instant::now();
    lab_control::down(&name)?;
    Ok(Figures { up, down: begin.elapsed().as_secs_f64(), kib: kib? })
}

fn mininet(options: &Options) -> anyhow::Result<Figures> {
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
        .arg(std::env::current_exe()?)
        .args(["bench", "engines", "--inside", "--shape", &options.shape])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting unshare (package util-linux)")?;
    if !output.status.success() {
        bail!("the measurement did not come to its end; what it said is above");
    }
    serde_json::from_slice(&output.stdout).context("what the measurement says of itself")
}

/// Called as the first process of namespaces of its own.
fn mininet_inside(site: &Site) -> anyhow::Result<Figures> {
    sandbox::settle()?;
    limits::raise_descriptors()?;
    link::disable_ipv6();
    Netlink::open()?.batch(&[link::set_up(1, true)])?;
    let folder = Path::new(sandbox::PRIVATE);
    let ovs = Ovs::start(folder)?;
    let protocols = ["OpenFlow10".to_owned(), "OpenFlow13".to_owned()];
    let network = Network::of(site, &protocols, ovs.datapath(), true, None);
    let limit = build_limit(&network);
    let mut driver = Driver::start(folder)?;
    let made = driver.build(&network, limit)?.seconds;
    let kib = memory(std::process::id())?;
    let gone = driver.stop(limit)?.seconds;
    Ok(Figures { up: made.build + made.start, down: gone.stop, kib })
}

/// KiB of all processes in the process namespace of `pid`, but this one: proportional set sizes
/// (proc(5), smaps_rollup).
fn memory(pid: u32) -> anyhow::Result<u64> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(&pid.to_string()).context("the first process is gone")?;
    let own = std::process::id().to_string();
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(name) = entry.file_name().to_str().map(ToOwned::to_owned) else { continue };
        if name == own || namespace(&name).as_ref() != Some(&wanted) {
            continue;
        }
        let rollup = std::fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
        let pss =
            rollup.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
        sum += pss.unwrap_or(0u64);
    }
    Ok(sum)
}
