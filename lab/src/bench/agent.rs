//! What an agent costs: the real program with the real controller and a private Open vSwitch, in
//! namespaces of their own. Once with a switch of four ports and four classes each, as on a
//! testbed's machine; once with all switches of a k=8 fat tree in one process.

use crate::controller_process::{self, Controller, Options as ControllerOptions};
use crate::temp_dir::TempDir;
use crate::world::emulated::network::port_name;
use anyhow::{Context, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_linux::{link, netlink::Request};
use tandem_model::{NodeId, Site, SwitchId, site};

/// How it is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// For how many seconds the agent's time of a core is measured.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// How often nothing new is applied.
    #[arg(long, default_value_t = 5)]
    pub repeat: u32,
    /// Used by the bench itself: which site, when it is in its own namespaces already.
    #[arg(long, hide = true)]
    pub inside: Option<usize>,
}

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What is measured, by name: its site.
fn sites() -> [(&'static str, String); 2] {
    let text = |topology: &str| {
        let mut text = format!(
            "name = \"bench\"\n[topology]\n{topology}[bandwidth]\nedge = \"100 Mbit/s\"\naggregation = \"1 Gbit/s\"\ncore = \"1 Gbit/s\"\ngateway = \"1 Gbit/s\"\n[statistics]\nperiod = \"1 s\"\n"
        );
        for (n, share) in [40, 30, 20, 10].into_iter().enumerate() {
            let _ = write!(text, "[[class]]\nname = \"class{n}\"\nshare = {share}\n");
        }
        text
    };
    [
        (
            "one switch",
            text(
                "shape = \"three-tier\"\ncore = 1\naggregation = 0\nedge = 1\nservers_per_edge = 3\nedge_aggregation_links = 1\n",
            ),
        ),
        ("80 switches", text("shape = \"fat-tree\"\nk = 8\n")),
    ]
}

/// Measures and prints.
///
/// # Errors
/// With the step that failed; nothing of it is then left.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some((name, text)) = options.inside.and_then(|n| sites().into_iter().nth(n)) {
        link::disable_ipv6();
        return measure(name, &text, &site::read(&text, "the bench's site")?, options);
    }
    println!(
        "{:<12} {:>6} {:>8} {:>12} {:>12} {:>10} {:>9} {:>12}",
        "", "ports", "classes", "nothing ms", "no change ms", "(writes)", "% a core", "memory MB"
    );
    for n in 0..sites().len() {
        let status = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(std::env::current_exe()?)
            .args(["bench", "agent", "--inside", &n.to_string(), "--seconds", &options.seconds.to_string()])
            .args(["--repeat", &options.repeat.to_string()])
            .status()
            .context("starting unshare (package util-linux)")?;
        if !status.success() {
            bail!("the bench did not come to its end");
        }
    }
    Ok(())
}

fn measure(name: &str, text: &str, site: &Site, options: &Options) -> anyhow::Result<()> {
    let scratch = TempDir::new("agent-bench")?;
    let folder = scratch.path();
    let file = folder.join("site.toml");
    std::fs::write(&file, text)?;
    // The small site's agent has its edge switch only: a machine has one switch.
    let all: Vec<SwitchId> = (0u32..).zip(&site.topology.switches).map(|(n, _)| SwitchId(n)).collect();
    let switches = if all.len() > 2 { all } else { all.into_iter().skip(1).collect() };
    let ports = wires(site, &switches)?;
    let ovs = Ovs::start(folder)?;
    std::fs::write(folder.join("vswitchd.pid"), ovs.switchd().context("vswitchd runs")?.to_string())?;
    std::fs::write(folder.join("agent.toml"), configuration(site, folder, &switches))?;
    let controller = Controller::start(&ControllerOptions {
        site: &file,
        folder,
        lab: "agent-bench",
        csv: None,
        record: None,
        more: &[],
    })?;
    let mut agent = Agent::start(folder)?;
    let first = agent.wait(|s| s["generation"].as_u64() > Some(0))?;
    let before = agent.busy()?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(options.seconds));
    let busy = (agent.busy()? - before) / start.elapsed().as_secs_f64() * 100.0;
    let memory = agent.memory()?;
    // Killed and started again, it reads all that is there, and finds it right.
    let mut times = Vec::new();
    let mut writes = 0;
    for _ in 0..options.repeat {
        drop(agent);
        agent = Agent::start(folder)?;
        let again = agent.wait(|s| s["applied"] == true)?;
        times.push(again["took_ms"].as_f64().unwrap_or(f64::NAN));
        writes += again["changes"].as_u64().unwrap_or(0);
    }
    drop(agent);
    controller.stop()?;
    times.sort_by(f64::total_cmp);
    println!(
        "{name:<12} {ports:>6} {:>8} {:>12.0} {:>12.1} {writes:>10} {busy:>9.2} {:>12.1}",
        site.classes.len(),
        first["took_ms"].as_f64().unwrap_or(f64::NAN),
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
        memory / 1000.0,
    );
    std::io::stdout().flush()?;
    Ok(())
}

/// The ports' interfaces, each a veth pair of its own; how many there are.
fn wires(site: &Site, switches: &[SwitchId]) -> anyhow::Result<usize> {
    let here = NetNs::current()?;
    let mut requests: Vec<Request> = Vec::new();
    let mut index = 100;
    for id in switches {
        for (port, _) in site.topology.ports(NodeId::Switch(*id)) {
            let name = port_name(&site.topology, *id, *port);
            let far = format!("far{index}");
            requests.push(link::Veth::new((&name, index, &here), (&far, index + 1, &here)).request());
            requests.push(link::set_up(index + 1, true));
            index += 2;
        }
    }
    Netlink::open()?.batch(&requests)?;
    Ok(requests.len() / 2)
}

fn configuration(site: &Site, folder: &Path, switches: &[SwitchId]) -> String {
    let at = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    let mut out = format!(
        "name = \"bench\"\ncontroller = {:?}\nstate = {}\ncontrol = {}\n[ovs]\ndatabase = {}\npid_file = {}\n",
        controller_process::agents(folder),
        at("state"),
        at("control.sock"),
        at("db.sock"),
        at("vswitchd.pid"),
    );
    for id in switches {
        let _ = write!(out, "[[switch]]\nname = {:?}\n", site.topology.name(NodeId::Switch(*id)));
        for (port, _) in site.topology.ports(NodeId::Switch(*id)) {
            let name = port_name(&site.topology, *id, *port);
            let _ = write!(out, "[[switch.port]]\nnumber = {}\ninterface = {name:?}\n", port.0);
        }
    }
    out
}

/// The agent's process; it ends with this, at once.
pub(crate) struct Agent {
    child: Child,
    socket: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Agent {
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Agent> {
        let program = controller_process::beside("tandem-agent", "TANDEM_AGENT")?;
        let log = folder.join("agent.log");
        let child = Command::new(&program)
            .arg("--config")
            .arg(folder.join("agent.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Agent { child, socket: folder.join("control.sock"), log })
    }

    fn status(&self) -> anyhow::Result<Value> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        writeln!(&stream, "status")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits for a status without a fault for which `is_it` holds.
    pub(crate) fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.status().ok().filter(&is_it) {
                let faults = status["faults"].as_array().map_or(0, Vec::len);
                if faults == 0 {
                    return Ok(status);
                }
                bail!("the agent could not do all: {}", status["faults"]);
            }
            if self.child.try_wait()?.is_some() || start.elapsed() > LIMIT {
                bail!("the agent did not come so far: {}", std::fs::read_to_string(&self.log)?);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Seconds of a core that it has had (proc(5): utime and stime, in clock ticks of a hundredth).
    fn busy(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, behind) = text.rsplit_once(')').context("no name")?;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).context("no time");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// Resident memory, kB.
    fn memory(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).context("no VmRSS")?;
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).context("no number")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
