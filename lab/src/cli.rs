//! The verbs of `tandem-lab`.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tandem_lab::emulated::control::{self, Answer, Ask};
use tandem_lab::emulated::outside::{self, Plan};
use tandem_lab::experiment::{emulated, fit, manifest::Manifest, qos};
use tandem_lab::{agent_bench, bench, requester};
use tandem_linux::link::neighbour_limit;
use tandem_model::Allocation;

/// Data centres without hardware: simulated in virtual time, or emulated with real packets; and the experiments on them.
///
/// `tandem-lab up --site site.toml` brings one up; `tandem serve --site site.toml` controls it.
#[derive(Debug, Parser)]
#[command(name = "tandem-lab", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Which lab.
#[derive(Debug, Clone, clap::Args)]
struct Name {
    /// The lab's name; not needed while only one is up.
    #[arg(long)]
    name: Option<String>,
}

impl Name {
    fn pick(self) -> anyhow::Result<String> {
        control::pick(self.name)
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring up an emulated data centre; it runs on until `down`.
    Up {
        /// The site file.
        #[arg(long)]
        site: PathBuf,
        /// The lab's name; the site's by default. Several labs may run side by side.
        #[arg(long)]
        name: Option<String>,
        /// Where its switches find the controller: unix:PATH as `tandem serve --openflow` has it.
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
    },
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
    /// Run a command in a node: srv1, gw1, edge1 (all switches share one namespace) or vm1.
    Exec {
        #[command(flatten)]
        name: Name,
        /// The node.
        node: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
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
    /// Request VMs from a controller, at random or at a fixed rate; prints each result as it comes.
    Request(requester::Options),
    /// Run an experiment; it writes a run folder and prints a table beside the seed's numbers.
    #[command(subcommand)]
    Experiment(Experiment),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How long a data centre takes to come up and go, beside the floor: the same parts by `ip -batch` and `ovs-vsctl`.
    BringUp(bench::Options),
    /// What an agent costs: memory, time of a core, time to apply; with a small switch and with a whole data centre's.
    Agent(agent_bench::Options),
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// The seed's figure 4.2: the first server's link ratio under best fit and worst fit.
    BestVsWorstFit {
        /// In which world.
        #[arg(long, value_enum, default_value = "simulated")]
        world: World,
        /// The run folder; made if it is not there.
        #[arg(long)]
        out: PathBuf,
        /// Another site file than the experiment's own.
        #[arg(long)]
        site: Option<PathBuf>,
        /// Record both runs into the run folder, for `tandem replay`.
        #[arg(long)]
        record: bool,
    },
    /// Classes of service at a bottleneck: 70/30 guaranteed, what each class gets, what it borrows, and what an idle port loses.
    QosClasses {
        /// The run folder; made if it is not there.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        options: qos::Options,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    /// Virtual time, no privileges, milliseconds.
    Simulated,
    /// Real packets through Open vSwitch, real time; needs root.
    Emulated,
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let verb = Cli::parse().verb;
    if let Verb::Exec { name, node, command } = verb {
        return outside::exec(&name.pick()?, &node, &command);
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match verb {
        Verb::Up { site, name, controller, agents, agent_per_switch, protocols } => {
            let plan = Plan {
                name,
                text: read(&site)?,
                file: site.display().to_string(),
                controller,
                protocols,
                agents,
                agent_per_switch,
            };
            let up = outside::up(&plan)?;
            let [switches, servers, gateways, links, _] = up.status.counts;
            println!(
                "lab {} is up: {switches} switches in {}, {servers} servers, {gateways} gateways, {links} links; first process {}",
                up.status.name, up.status.datapath, up.pid
            );
            println!("its switches look for a controller at {}", up.status.controller);
            println!("hypervisor service: unix:@tandem-lab/{}/world", up.status.name);
            // Each server talks to its gateway at least, and each end of that keeps the other.
            if let Some(limit) = neighbour_limit().filter(|limit| 2 * (servers + gateways) > *limit) {
                println!(
                    "note: this kernel keeps {limit} neighbours (ARP) for all namespaces together; VMs on all {servers} servers need more: \
                     sysctl -w net.ipv4.neigh.default.gc_thresh3={}",
                    (8 * (servers + gateways)).next_power_of_two()
                );
            }
        }
        Verb::Down(name) => {
            let name = name.pick()?;
            outside::down(&name)?;
            println!("lab {name} is gone");
        }
        Verb::Status { name, json } => {
            let Answer::Status(status) = control::ask(&name.pick()?, &Ask::Status)? else {
                bail!("the lab answered something else")
            };
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                let [switches, servers, gateways, links, vms] = status.counts;
                println!(
                    "lab {} of site {}: {switches} switches in {}, {servers} servers, {gateways} gateways, {links} links, {vms} VMs",
                    status.name, status.site, status.datapath
                );
                println!("controller: {}", status.controller);
                for (step, took) in status.steps {
                    println!("{took:>9.1} ms  {step}");
                }
            }
        }
        Verb::Exec { .. } => {}
        Verb::PingAll { name, senders } => {
            let Answer::Pings(pings) = control::ask(&name.pick()?, &Ask::PingAll { senders })? else {
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
        }
        Verb::Flows { name, json } => {
            let Answer::Flows { flows } = control::ask(&name.pick()?, &Ask::Flows)? else {
                bail!("the lab answered something else")
            };
            if json {
                println!("{}", serde_json::to_string_pretty(&flows)?);
            } else {
                println!(
                    "{:<16} {:>5} {:>12} {:>12} {:>8} {:>8} {:>9} {:>9}",
                    "flow", "kind", "asked Mbit/s", "got Mbit/s", "lost", "reorder", "delay ms", "jitter ms"
                );
                for f in flows {
                    println!(
                        "{:<16} {:>5} {:>12.3} {:>12.3} {:>8} {:>8} {:>9.2} {:>9.2}",
                        f.ends,
                        f.transport,
                        f.rate as f64 / 1e6,
                        f.goodput / 1e6,
                        f.sent.saturating_sub(f.received),
                        f.reordered,
                        f.delay_ms,
                        f.jitter_ms
                    );
                }
            }
        }
        Verb::Request(options) => requester::run(&options)?,
        Verb::Experiment(Experiment::QosClasses { out, options }) => {
            print!("{}", qos::run(&options, &out)?);
            println!("everything is in {}", out.display());
        }
        Verb::Experiment(Experiment::BestVsWorstFit { world, out, site, record }) => {
            let text = site.as_deref().map(read).transpose()?.unwrap_or_else(|| fit::SITE.to_owned());
            std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
            match world {
                World::Simulated => simulated(&text, &out, record)?,
                World::Emulated => emulated::run(&text, &out, record)?,
            }
        }
        Verb::Bench(Bench::BringUp(options)) => bench::run(&options)?,
        Verb::Bench(Bench::Agent(options)) => agent_bench::run(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn simulated(text: &str, out: &Path, record: bool) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let run = |policy, name: &str| {
        let path = out.join(format!("{name}.jsonl"));
        fit::simulate(fit::site(text, policy)?, record.then_some(path.as_path()))
    };
    let (best, worst) = (run(Allocation::BestFit, "best-fit")?, run(Allocation::WorstFit, "worst-fit")?);
    let took = started.elapsed();
    fit::write(out, &best, &worst, &Manifest::new("best-vs-worst-fit", "simulated", 0, text))?;
    println!("{}", fit::table(&best, &worst));
    println!(
        "{} simulated seconds took {:.1} ms; everything is in {}",
        2 * fit::SECONDS,
        took.as_secs_f64() * 1e3,
        out.display()
    );
    Ok(())
}
