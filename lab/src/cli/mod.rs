//! The command line of `tandem-lab`.

mod bundle;
mod calibrate;
mod check;
mod draw;
mod experiment;
mod lab;
pub mod numbers;
pub mod vm;
mod world;

use crate::bench::{agent, bring_up, datapath, engines};
use crate::world::emulated::lab_control;
use crate::world::testbed::lease_guard;
use crate::world::xen;
use crate::{fuzz, temp_dir, workload};
use anyhow::Context;
use calibrate::CalibrateOptions;
use check::CheckOptions;
use clap::{Parser, Subcommand};
use draw::DrawOptions;
use experiment::Experiment;
use lab::{Name, UpOptions};
use std::path::Path;
use std::process::ExitCode;

/// Data centres without hardware: simulated in virtual time, or emulated with real packets; and the
/// experiments on them.
///
/// `tandem-lab up --site site.toml` brings one up; `tandem serve --site site.toml` controls it.
#[derive(Debug, Parser)]
#[command(name = "tandem-lab", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up an emulated data centre, or take over a testbed's servers and gateways; it runs on
    /// until `down`.
    Up(UpOptions),
    /// Say what this machine cannot do for a site, before anything is made: what is not installed or
    /// not allowed, and what there is no room for. `tandem check` prints it too.
    Check(CheckOptions),
    /// Take an emulated data centre down; nothing of it is left.
    Down(Name),
    /// Show an emulated data centre.
    Status {
        #[command(flatten)]
        name: Name,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a node: srv1, gw1, edge1 (all switches share one namespace), vm1 or a VM's name.
    Exec {
        #[command(flatten)]
        name: Name,
        /// The node.
        node: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// What `up --inventory` runs on each machine, over ssh: lends interfaces to servers and
    /// gateways, and gives them back at the end.
    #[command(hide = true)]
    Node {
        /// Remove the program's own file first: it was copied for this one time.
        #[arg(long)]
        once: bool,
    },
    /// What `exec` runs on a testbed's machine: a command inside a node.
    #[command(hide = true)]
    Enter {
        /// The node's process.
        pid: u32,
        /// The descriptor of the namespace.
        netns: i32,
        /// What it is called.
        node: String,
        /// The command and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Let every server ping every other and every gateway; fails when one does not answer.
    PingAll {
        #[command(flatten)]
        name: Name,
        /// Only so many servers ping.
        #[arg(long)]
        senders: Option<usize>,
    },
    /// Show what was measured of the generated traffic: goodput, delay, jitter, loss, reordering.
    Flows {
        #[command(flatten)]
        name: Name,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// List the traffic tools, what each does and its options in a site file; says which Debian
    /// package is missing for one.
    TrafficTools,
    /// What a lab's VMs do and use; moving one without the controller knowing.
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Request VMs from a controller, at random or at a fixed rate; prints each result as it comes.
    #[command(visible_alias = "workload", aliases = ["requester", "requests"])]
    Request(Box<workload::Options>),
    /// Run an experiment; it writes a run folder and prints a table beside the published numbers.
    #[command(subcommand)]
    Experiment(Experiment),
    /// Pack a run folder into one file that says how to run it again: site, options, seed, versions,
    /// recordings, data and figures, each with its checksum.
    Bundle(bundle::BundleOptions),
    /// Run an experiment again from its bundle, and compare: to the byte in the simulated world, by
    /// the largest difference of each series elsewhere. Fails when it came out otherwise.
    Rerun(bundle::RerunOptions),
    /// Draw a data centre, and who is plugged into what.
    Draw(DrawOptions),
    /// Measure rate, delay and loss of each link and put them beside what the site file declares;
    /// fails when a link differs.
    Calibrate(CalibrateOptions),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    FuzzCore(fuzz::Options),
    /// Real Xen hosts under emulation, with Open vSwitch in their domain 0.
    #[command(subcommand)]
    Xen(xen::cli::XenCommand),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How long a data centre takes to come up and go, beside the floor: the same parts by
    /// `ip -batch` and `ovs-vsctl`.
    BringUp(bring_up::Options),
    /// Tandem's own engine beside Mininet on the same site, both shaped: time up, time down, memory.
    Engines(engines::Options),
    /// What an agent costs: memory, time of a core, time to apply; with a small switch and with a
    /// whole data centre's.
    Agent(agent::Options),
    /// How many packets a second the agent's own switch forwards, beside Open vSwitch in user space
    /// on the same wires.
    Datapath(datapath::Options),
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Does what the command line says.
///
/// # Errors
/// With what failed.
pub fn run() -> anyhow::Result<ExitCode> {
    let command = Cli::parse().command;
    // Documented commands are held to this parser by tests/tests/documented_commands.rs.
    if cfg!(debug_assertions) && std::env::var_os("TANDEM_PARSE_ONLY").is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    // What enters namespaces comes before anything that starts a thread.
    match command {
        Command::Exec { name, node, command } => return lab_control::exec(&name.pick()?, &node, &command),
        Command::Enter { pid, netns, node, command } => {
            return lab_control::enter(pid, netns, &node, &command);
        }
        Command::Node { once } => return lease_guard::run(once).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match command {
        Command::Up(options) => lab::up(options)?,
        Command::Check(options) => check::run(&options)?,
        Command::Down(name) => lab::down(name)?,
        Command::Status { name, json } => lab::status(name, json)?,
        Command::Exec { .. } | Command::Enter { .. } | Command::Node { .. } => {}
        Command::Vm(command) => vm::run(command)?,
        Command::PingAll { name, senders } => return lab::ping_all(name, senders),
        Command::Flows { name, json } => lab::flows(name, json)?,
        Command::TrafficTools => lab::traffic_tools(),
        Command::Request(options) => workload::run(&options)?,
        Command::Experiment(experiment) => experiment::run(experiment)?,
        Command::Bundle(options) => bundle::pack(&options)?,
        Command::Rerun(options) => return bundle::rerun(&options),
        Command::Draw(options) => draw::run(options)?,
        Command::Calibrate(options) => return calibrate::run(options),
        Command::FuzzCore(options) => return fuzz::run(&options),
        Command::Xen(command) => return xen::cli::run(command),
        Command::Bench(bench) => run_bench(bench)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_bench(bench: Bench) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    match bench {
        Bench::BringUp(options) => bring_up::run(&options),
        Bench::Engines(options) => engines::run(&options),
        Bench::Agent(options) => agent::run(&options),
        Bench::Datapath(options) => datapath::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_is_put_together_as_the_parser_wants_it() {
        Cli::command().debug_assert();
    }
}
