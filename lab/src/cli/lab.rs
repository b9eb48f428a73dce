//! Bringing labs up and down, and looking at them.

use crate::control::labs;
use crate::control::messages::{self, LabRequest, LabResponse, Status};
use crate::controller_process;
use crate::node::traffic::{generator, generators};
use crate::world::emulated::datapath::Choice;
use crate::world::emulated::engine::EngineKind;
use crate::world::emulated::lab_control;
use crate::world::testbed::up as testbed;
use anyhow::bail;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tandem_agent_protocol::lab_sockets::Lab;
use tandem_linux::link::neighbour_limit;

/// Which lab.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Name {
    /// The lab's name; not needed while only one is up.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Another user's lab, by that user's name or number: for root.
    #[arg(long)]
    pub(super) user: Option<String>,
}

impl Name {
    /// The lab that is meant.
    ///
    /// # Errors
    /// When there is none, or several and no name.
    pub(super) fn pick(self) -> anyhow::Result<String> {
        labs::pick(self.name, self.user.as_deref())
    }
}

/// What is brought up.
#[derive(Debug, clap::Args)]
pub(super) struct UpOptions {
    /// The testbed's machines (inventory.toml): servers and gateways are real ones then, and the
    /// switches are their agents' business.
    #[arg(long)]
    inventory: Option<PathBuf>,
    /// What runs on the testbed's machines, if not this program: a build for another kind of
    /// machine.
    #[arg(long, requires = "inventory")]
    node_program: Option<PathBuf>,
    /// The site file; where there is none, `tandem init` makes one (asked for here on a terminal).
    #[arg(long, default_value = "site.toml")]
    site: PathBuf,
    /// The lab's name; the site's by default. Several labs may run side by side.
    #[arg(long)]
    name: Option<String>,
    /// Where its switches find the controller: unix:PATH as `tandem serve --openflow` has it, or
    /// tcp:ADDRESS:PORT of any OpenFlow controller (POX, ONOS, os-ken, Faucet ...), which the lab tries
    /// to reach until it answers.
    #[arg(long, default_value = "unix:/run/tandem/openflow.sock")]
    controller: String,
    /// Where its agents find the controller: unix:PATH as `tandem serve --agents` has it.
    #[arg(long, default_value = "unix:/run/tandem/agents.sock")]
    agents: String,
    /// An agent for each switch, as on a testbed, instead of one for all.
    #[arg(long)]
    agent_per_switch: bool,
    /// OpenFlow versions that the switches offer.
    #[arg(long, default_value = "OpenFlow10,OpenFlow13", value_delimiter = ',')]
    protocols: Vec<String>,
    /// What the switches are made of.
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "inventory")]
    datapath: Choice,
    /// What makes hosts, switches and links; a site, VMs, traffic and all commands are the same.
    #[arg(long, value_enum, default_value = "native", conflicts_with = "inventory")]
    engine: EngineKind,
    /// A group whose members may use the lab too: ask it, move its VMs, take it down.
    #[arg(long)]
    group: Option<String>,
}

/// Brings a lab up, and prints where it is found.
///
/// # Errors
/// With the step that failed; nothing is then left.
pub(super) fn up(options: UpOptions) -> anyhow::Result<()> {
    offer_site(&options.site)?;
    let text = super::read(&options.site)?;
    let file = options.site.display().to_string();
    let UpOptions { name, group, .. } = options;
    if let Some(inventory) = options.inventory {
        let purpose = "tandem-lab up".to_owned();
        let program = options.node_program;
        let plan = testbed::Plan { name, text, file, inventory, program, purpose, group };
        let status = testbed::up(&plan)?;
        print_status(&status);
        println!("hypervisor service: unix:{}", Lab::named(&status.name)?.world());
        return Ok(());
    }
    let plan = lab_control::Plan {
        name,
        text,
        file,
        controller: options.controller,
        protocols: options.protocols,
        agents: options.agents,
        agent_per_switch: options.agent_per_switch,
        datapath: options.datapath,
        engine: options.engine,
        group,
    };
    let up = lab_control::up(&plan)?;
    let [switches, servers, gateways, links, _] = up.status.counts;
    println!(
        "lab {} is up: {switches} switches in {}, {servers} servers, {gateways} gateways, {links} links; first process {}",
        up.status.name, up.status.datapath, up.pid
    );
    println!("its switches look for a controller at {}", up.status.controller);
    println!("hypervisor service: unix:{}", Lab::named(&up.status.name)?.world());
    // Each server talks to its gateway at least, and each end of that keeps the other.
    if let Some(limit) = neighbour_limit().filter(|limit| 2 * (servers + gateways) > *limit) {
        println!(
            "note: this kernel keeps {limit} neighbours (ARP) for all namespaces together; VMs on all {servers} servers need more: \
             sysctl -w net.ipv4.neigh.default.gc_thresh3={}",
            (8 * (servers + gateways)).next_power_of_two()
        );
    }
    Ok(())
}

/// Where there is no site file, has `tandem init` ask for one, if there is a terminal.
fn offer_site(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let shown = path.display();
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        bail!(
            "there is no site file {shown}; make one by `tandem init {shown}`, or say where it is: --site FILE"
        );
    }
    eprintln!("There is no site file {shown}. These questions make one; Ctrl-C leaves without.");
    let status = std::process::Command::new(controller_process::program()?).arg("init").arg(path).status()?;
    if !status.success() {
        bail!("no site file was made");
    }
    Ok(())
}

/// Takes a lab down.
///
/// # Errors
/// When there is none of that name, or it does not end.
pub(super) fn down(name: Name) -> anyhow::Result<()> {
    let name = name.pick()?;
    lab_control::down(&name)?;
    println!("lab {name} is gone");
    Ok(())
}

/// Prints a lab's state.
///
/// # Errors
/// When the lab cannot be asked.
pub(super) fn status(name: Name, json: bool) -> anyhow::Result<()> {
    let LabResponse::Status(status) = messages::ask(&name.pick()?, &LabRequest::Status)? else {
        bail!("the lab answered something else")
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print_status(&status);
    }
    Ok(())
}

/// Lets servers ping each other; fails when one does not answer.
///
/// # Errors
/// When the lab cannot be asked.
pub(super) fn ping_all(name: Name, senders: Option<usize>) -> anyhow::Result<ExitCode> {
    let LabResponse::Pings(pings) = messages::ask(&name.pick()?, &LabRequest::PingAll { senders })? else {
        bail!("the lab answered something else")
    };
    let lost = pings.tried - pings.answered;
    println!(
        "{} of {} pairs answer; {:.1}% loss",
        pings.answered,
        pings.tried,
        100.0 * lost as f64 / pings.tried.max(1) as f64
    );
    pings.failed.iter().for_each(|f| println!("  no answer: {f}"));
    if lost > 0 {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what was measured of the generated flows.
///
/// # Errors
/// When the lab cannot be asked.
pub(super) fn flows(name: Name, json: bool) -> anyhow::Result<()> {
    let LabResponse::Flows { flows } = messages::ask(&name.pick()?, &LabRequest::Flows)? else {
        bail!("the lab answered something else")
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&flows)?);
    } else {
        println!(
            "{:<16} {:>16} {:>12} {:>12} {:>8} {:>8} {:>9} {:>9}",
            "flow", "tool", "asked Mbit/s", "got Mbit/s", "lost", "reorder", "delay ms", "jitter ms"
        );
        for f in flows {
            let name = f.tool.map_or(f.transport.clone(), |tool| tool.to_string());
            let tool = name.parse().ok().and_then(generator);
            // What arrives in the end has no losses; what nobody counts is not none.
            let counts = !tool.is_some_and(|t| t.is_reliable()) && f.sent > 0;
            let lost = if counts { f.sent.saturating_sub(f.received).to_string() } else { "-".to_owned() };
            let says = tool.is_none_or(|t| t.says_delay());
            let delay = if says { format!("{:.2}", f.delay_ms) } else { "-".to_owned() };
            println!(
                "{:<16} {:>16} {:>12.3} {:>12.3} {:>8} {:>8} {:>9} {:>9.2}",
                f.ends,
                f.transport,
                f.rate as f64 / 1e6,
                f.goodput / 1e6,
                lost,
                f.reordered,
                delay,
                f.jitter_ms
            );
            if let Some(note) = f.note {
                println!("    {note}");
            }
        }
    }
    Ok(())
}

/// Prints what can generate traffic here.
pub(super) fn traffic_tools() {
    for tool in generators() {
        let missing = tool.program().and_then(|program| program.find().err());
        let missing = missing.map_or(String::new(), |m| format!(" [missing: package {}]", m.0.package));
        println!("{:<16} {}{missing}", tool.name(), tool.about());
    }
}

fn print_status(status: &Status) {
    let [switches, servers, gateways, links, vms] = status.counts;
    println!(
        "lab {} of site {}: {switches} switches in {}, {servers} servers, {gateways} gateways, {links} links, {vms} VMs",
        status.name, status.site, status.datapath
    );
    if let Some(engine) = &status.engine {
        println!("engine: {engine}");
    }
    println!("controller: {}", status.controller);
    println!("VMs' ports are filtered by: {}", status.port_filter);
    for (step, took) in &status.steps {
        println!("{took:>9.1} ms  {step}");
    }
    for m in &status.machines {
        let ovs = m.ovs.as_deref().unwrap_or("no Open vSwitch");
        println!("machine {} ({}): {}; kernel {}, {ovs}", m.name, m.address, m.nodes.join(", "), m.kernel);
    }
    status.trouble.iter().for_each(|t| println!("TROUBLE: {t}"));
}
