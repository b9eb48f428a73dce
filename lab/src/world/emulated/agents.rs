//! The lab's agents: the same program as on a testbed's switches, told in the same files.

use super::room;
use crate::world::emulated::datapath::SwitchDatapaths;
use crate::world::emulated::network::port_name;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tandem_linux::ovs::Ovs;
use tandem_model::{LinkConfig, NodeId, Site, SwitchId};

/// What the agents are told besides the site.
pub struct Setting<'a> {
    /// The lab's private folder.
    pub folder: &'a Path,
    /// The agent's program.
    pub program: &'a Path,
    /// Where the switches find their controller, in OVS's words.
    pub controller: &'a str,
    /// Where the agents find theirs, in their words.
    pub agents: &'a str,
    /// OpenFlow versions, in OVS's words.
    pub protocols: &'a [String],
    /// An agent per switch instead of one for all.
    pub per_switch: bool,
    /// What the switches are made of.
    pub datapath: &'a SwitchDatapaths,
    /// The switches are there already, made by somebody else.
    pub adopt: bool,
    /// The agents shape the ports, where nothing is imitated; if not, somebody else has.
    pub shapes_ports: bool,
}

impl Setting<'_> {
    /// True where a port's queueing is its agent's.
    fn shapes(&self, cfg: &LinkConfig) -> bool {
        self.shapes_ports && !is_imitated(cfg)
    }
}

/// Running agents; they end with this.
pub struct Agents(Vec<Child>);

/// A wire that delays or loses packets is the lab's to imitate: its ends' queueing is not the
/// agent's.
pub fn is_imitated(cfg: &LinkConfig) -> bool {
    !cfg.delay.is_zero() || cfg.loss_ppm > 0
}

/// The state folder of the agent that is called `portion`, in a lab's private folder.
pub fn state(folder: &Path, portion: &str) -> PathBuf {
    folder.join(format!("agent-{portion}"))
}

/// Starts the agents with what the site says, and waits until their switches are made.
///
/// # Errors
/// With what an agent could not do; then none is left running.
pub fn start(site: &Site, ovs: Option<&Ovs>, setting: &Setting<'_>) -> anyhow::Result<Agents> {
    let switches: Vec<SwitchId> =
        (0u32..).zip(&site.topology.switches).filter(|(_, s)| !s.legacy).map(|(n, _)| SwitchId(n)).collect();
    if let Some(ovs) = ovs {
        let pid = ovs.switchd().context("vswitchd does not run")?;
        std::fs::write(setting.folder.join("vswitchd.pid"), pid.to_string())?;
    }
    let portions: Vec<(String, Vec<SwitchId>)> = if setting.per_switch {
        switches.iter().map(|s| (site.topology.name(NodeId::Switch(*s)).to_owned(), vec![*s])).collect()
    } else {
        vec![(site.name.clone(), switches)]
    };
    let mut agents = Agents(Vec::new());
    let mut folders = Vec::new();
    for (name, switches) in &portions {
        let folder = state(setting.folder, name);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("agent.toml"), configuration(site, name, &folder, setting, switches))?;
        std::fs::write(folder.join("initial.toml"), initial(site, setting, switches))?;
        let log = std::fs::File::create(folder.join("agent.log"))?;
        let child = Command::new(setting.program)
            .arg("--config")
            .arg(folder.join("agent.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", setting.program.display()))?;
        agents.0.push(child);
        folders.push(folder);
    }
    let start = Instant::now();
    let limit = room::agents_limit(site);
    for (folder, child) in folders.iter().zip(&mut agents.0) {
        wait(folder, child, start, limit)?;
    }
    Ok(agents)
}

/// Waits until an agent has applied its first desired state without a fault.
fn wait(folder: &Path, child: &mut Child, start: Instant, limit: Duration) -> anyhow::Result<()> {
    loop {
        if let Some(status) = status(&folder.join("control.sock")).filter(|s| s["applied"] == true) {
            let faults: Vec<&str> =
                status["faults"].as_array().into_iter().flatten().filter_map(|f| f.as_str()).collect();
            if faults.is_empty() {
                return Ok(());
            }
            bail!("the agent could not do all: {}", faults.join("; "));
        }
        let ended = child.try_wait()?;
        if ended.is_some() || start.elapsed() > limit {
            let log = std::fs::read_to_string(folder.join("agent.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            bail!("the agent does not come up within {limit:?}: {}", last.join(" / "));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn status(socket: &Path) -> Option<serde_json::Value> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    writeln!(&stream, "status").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn ports(site: &Site, id: SwitchId) -> impl Iterator<Item = (u32, String, LinkConfig)> {
    site.topology.ports(NodeId::Switch(id)).iter().filter_map(move |(port, link)| {
        Some((port.0, port_name(&site.topology, id, *port), site.topology.link(*link)?.cfg))
    })
}

fn quoted(path: PathBuf) -> String {
    format!("{:?}", path.display().to_string())
}

fn configuration(
    site: &Site,
    name: &str,
    folder: &Path,
    setting: &Setting<'_>,
    switches: &[SwitchId],
) -> String {
    let mut out = format!(
        "name = {name:?}\ncontroller = {:?}\nstate = {}\ncontrol = {}\ninitial = {}\n[ovs]\ndatabase = {}\npid_file = {}\nadopt = {}\n",
        setting.agents,
        quoted(folder.to_owned()),
        quoted(folder.join("control.sock")),
        quoted(folder.join("initial.toml")),
        quoted(setting.folder.join("db.sock")),
        quoted(setting.folder.join("vswitchd.pid")),
        setting.adopt,
    );
    for id in switches {
        let Some(switch) = site.topology.switch(*id) else { continue };
        let datapath = setting.datapath.of(switch);
        let _ = write!(
            out,
            "[[switch]]\nname = {:?}\ndatapath = {:?}\ncontrollers = [{:?}]\nprotocols = {:?}\n",
            switch.name, datapath.name, setting.controller, setting.protocols
        );
        out.push_str(&datapath.lab.switch);
        let mut of_ports = datapath.lab.ports.iter();
        for (number, interface, cfg) in ports(site, *id) {
            let _ = write!(
                out,
                "[[switch.port]]\nnumber = {number}\ninterface = {interface:?}\nqueueing = {}\n",
                setting.shapes(&cfg)
            );
            if let Some(lines) = of_ports.next() {
                out.push_str(lines);
            }
        }
    }
    out
}

/// What the controller will want once it is there, without classes: a lab forwards nothing before,
/// but its links are there.
fn initial(site: &Site, setting: &Setting<'_>, switches: &[SwitchId]) -> String {
    let mut out = String::new();
    for id in switches {
        let Some(switch) = site.topology.switch(*id) else { continue };
        let _ = write!(
            out,
            "[[switch]]\nname = {:?}\ndatapath_id = \"{}\"\ncontrollers = [{:?}]\nprotocols = {:?}\n",
            switch.name, switch.dpid, setting.controller, setting.protocols
        );
        for (number, interface, cfg) in ports(site, *id) {
            let _ = write!(out, "[[switch.port]]\nnumber = {number}\ninterface = {interface:?}\n");
            if setting.shapes(&cfg) {
                let _ = write!(out, "rate = \"{} bit/s\"\nqueue = {}\n", cfg.rate.0, cfg.queue);
            }
        }
    }
    out
}

impl Drop for Agents {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
