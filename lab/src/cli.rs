//! The verbs of `tandem-lab`.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tandem_agent_protocol::lab_sockets::Lab;
use tandem_lab::emulated::control::{self, Answer, Ask, Status};
use tandem_lab::emulated::datapath::Choice;
use tandem_lab::emulated::labs;
use tandem_lab::emulated::outside::{self, Plan};
use tandem_lab::experiment::world::{self, Emulated, Testbed};
use tandem_lab::experiment::{
    datapaths, fit, hardware_qos, hotspot, keep_policy, live, manifest::Manifest, packets, qos,
};
use tandem_lab::testbed::{guard, up as testbed};
use tandem_lab::{
    agent_bench, bench, calibrate, datapath_bench, draw, fuzz, requester, scratch, tandem, vm_verbs, xen,
};
use tandem_linux::link::neighbour_limit;
use tandem_model::{Allocation, Site, site};
use tandem_testbed::inventory::Inventory;

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
    /// Another user's lab, by that user's name or number: for root.
    #[arg(long)]
    user: Option<String>,
}

impl Name {
    fn pick(self) -> anyhow::Result<String> {
        labs::pick(self.name, self.user.as_deref())
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring up an emulated data centre, or take over a testbed's servers and gateways; it runs on until `down`.
    Up {
        /// The testbed's machines (inventory.toml): servers and gateways are real ones then, and the switches are their agents' business.
        #[arg(long)]
        inventory: Option<PathBuf>,
        /// What runs on the testbed's machines, if not this program: a build for another kind of machine.
        #[arg(long, requires = "inventory")]
        node_program: Option<PathBuf>,
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
        /// What the switches are made of.
        #[arg(long, value_enum, default_value = "auto", conflicts_with = "inventory")]
        datapath: Choice,
        /// A group whose members may use the lab too: ask it, move its VMs, take it down.
        #[arg(long)]
        group: Option<String>,
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
    /// What `up --inventory` runs on each machine, over ssh: lends interfaces to servers and gateways, and gives them back at the end.
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
    /// What a lab's VMs do and use; moving one without the controller knowing.
    #[command(subcommand)]
    Vm(vm_verbs::VmVerb),
    /// Request VMs from a controller, at random or at a fixed rate; prints each result as it comes.
    Request(requester::Options),
    /// Run an experiment; it writes a run folder and prints a table beside the seed's numbers.
    #[command(subcommand)]
    Experiment(Experiment),
    /// Draw a data centre, and who is plugged into what.
    Draw {
        /// The site file.
        #[arg(long)]
        site: PathBuf,
        /// Also draw machines, interfaces and port numbers at both ends of each cable, and print them as a table.
        #[arg(long, requires = "inventory")]
        cabling: bool,
        /// The testbed's machines (inventory.toml).
        #[arg(long)]
        inventory: Option<PathBuf>,
        /// The picture (SVG); standard output if not given, except with --cabling.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Measure rate, delay and loss of each link and put them beside what the site file declares; fails when a link differs.
    Calibrate {
        /// In which world.
        #[arg(long, value_enum, default_value = "emulated", conflicts_with = "name")]
        world: World,
        #[command(flatten)]
        place: Place,
        /// A lab that is up already, with its controller, instead of bringing one up.
        #[arg(long, requires = "site")]
        name: Option<String>,
        /// With --name: the controller's API.
        #[arg(long, env = "TANDEM_API", default_value = "unix:/run/tandem/api.sock")]
        api: String,
        #[command(flatten)]
        options: calibrate::Options,
    },
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    FuzzCore(fuzz::Options),
    /// Real Xen hosts under emulation, with Open vSwitch in their domain 0.
    #[command(subcommand)]
    Xen(xen::cli::Verb),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How long a data centre takes to come up and go, beside the floor: the same parts by `ip -batch` and `ovs-vsctl`.
    BringUp(bench::Options),
    /// What an agent costs: memory, time of a core, time to apply; with a small switch and with a whole data centre's.
    Agent(agent_bench::Options),
    /// How many packets a second the agent's own switch forwards, beside Open vSwitch in user space on the same wires.
    Datapath(datapath_bench::Options),
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// The seed's figure 4.2: the first server's link ratio under best fit and worst fit.
    BestVsWorstFit {
        /// In which world.
        #[arg(long, value_enum, default_value = "simulated")]
        world: World,
        #[command(flatten)]
        place: Place,
        /// Record both runs into the run folder, for `tandem replay`.
        #[arg(long)]
        record: bool,
    },
    /// Classes of service at a bottleneck: 70/30 guaranteed, what each class gets, what it borrows, and what an idle port loses.
    QosClasses {
        /// In which world.
        #[arg(long, value_enum, default_value = "emulated")]
        world: World,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: qos::Options,
    },
    /// What a VM's peers notice when it moves: with its rules made first, made afterwards, and with the hypervisor's pause alone.
    LiveMigration {
        /// In which world.
        #[arg(long, value_enum, default_value = "emulated")]
        world: World,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: live::Options,
        #[command(flatten)]
        xen: XenPlace,
    },
    /// Open vSwitch, the agent's own switch and a modelled NetFPGA card: latency, loss, installation of rules, class shares, refusals.
    Datapaths(datapaths::Options),
    /// Classes marked by rows of a NetFPGA card, the model or a real one, and sorted by the next Linux hop; what its bitfiles can and cannot do.
    HardwareQos(hardware_qos::Options),
    /// VMs back to where the allocation policy wants them: the seed's table, and a simulated day with and without.
    KeepPolicy(keep_policy::Options),
    /// A server and a link are made hot: time until they are cool again, moves, and that nothing swings back and forth.
    Hotspot(hotspot::Options),
}

/// What the Xen lab of an experiment is made from.
#[derive(Debug, clap::Args)]
struct XenPlace {
    /// With --world xen: a static tandem-agent, as scripts/deploy builds it.
    #[arg(long, required_if_eq("world", "xen"))]
    agent: Option<PathBuf>,
    /// With --world xen: the hosts' image, as tests/xen/image makes it.
    #[arg(long, default_value = "target/xen/image")]
    image: PathBuf,
}

/// On what an experiment runs, and where its results go.
#[derive(Debug, clap::Args)]
struct Place {
    /// The run folder; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Another site file than the experiment's own; a testbed needs its own.
    #[arg(long)]
    site: Option<PathBuf>,
    /// The testbed's machines (inventory.toml).
    #[arg(long, required_if_eq("world", "testbed"), requires = "site")]
    inventory: Option<PathBuf>,
    /// Folder of the certificate authority that the testbed's agents were enrolled with: `agents` beside the controller's store.
    #[arg(long, default_value = "/var/lib/tandem/agents", requires = "inventory")]
    authority: PathBuf,
    /// What runs on the testbed's machines, if not this program.
    #[arg(long, requires = "inventory")]
    node_program: Option<PathBuf>,
    /// What the switches of the emulated world are made of.
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "inventory")]
    datapath: Choice,
}

impl Place {
    fn prepare(&self) -> anyhow::Result<Option<String>> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        self.site.as_deref().map(read).transpose()
    }

    /// The world with real packets.
    fn world(self, world: World, protocols: &[&str]) -> anyhow::Result<Box<dyn world::World>> {
        Ok(match (world, self.inventory) {
            (World::Testbed, Some(inventory)) => {
                Box::new(Testbed::new(inventory, self.authority, self.node_program)?)
            }
            (World::Testbed, None) => bail!("a testbed has an inventory: --inventory FILE"),
            (World::Simulated, _) => bail!("this experiment has no packets in the simulated world"),
            (World::Xen, _) => bail!("of the experiments only live-migration runs on the Xen lab"),
            (World::Emulated, _) => Box::new(Emulated {
                protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
                datapath: self.datapath,
            }),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    /// Virtual time, no privileges, milliseconds.
    Simulated,
    /// Real packets through Open vSwitch, real time; needs root.
    Emulated,
    /// The machines of an inventory, by ssh.
    Testbed,
    /// Xen hosts under emulation, by the real hypervisor; of the experiments only `live-migration`.
    Xen,
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let verb = Cli::parse().verb;
    // What enters namespaces comes before anything that starts a thread.
    match verb {
        Verb::Exec { name, node, command } => return outside::exec(&name.pick()?, &node, &command),
        Verb::Enter { pid, netns, node, command } => return outside::enter(pid, netns, &node, &command),
        Verb::Node { once } => return guard::run(once).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match verb {
        Verb::Up { inventory: Some(inventory), node_program, site, name, group, .. } => {
            let (text, file) = (read(&site)?, site.display().to_string());
            let purpose = "tandem-lab up".to_owned();
            let program = node_program;
            let plan = testbed::Plan { name, text, file, inventory, program, purpose, group };
            let status = testbed::up(&plan)?;
            print_status(&status);
            println!("hypervisor service: unix:{}", Lab::named(&status.name)?.world());
        }
        Verb::Up { site, name, controller, agents, agent_per_switch, protocols, datapath, group, .. } => {
            let plan = Plan {
                name,
                text: read(&site)?,
                file: site.display().to_string(),
                controller,
                protocols,
                agents,
                agent_per_switch,
                datapath,
                group,
            };
            let up = outside::up(&plan)?;
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
                print_status(&status);
            }
        }
        Verb::Exec { .. } | Verb::Enter { .. } | Verb::Node { .. } => {}
        Verb::Vm(verb) => vm_verbs::run(verb)?,
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
                    let lost = if f.transport == "tcp" {
                        "-".to_owned()
                    } else {
                        f.sent.saturating_sub(f.received).to_string()
                    };
                    println!(
                        "{:<16} {:>5} {:>12.3} {:>12.3} {:>8} {:>8} {:>9.2} {:>9.2}",
                        f.ends,
                        f.transport,
                        f.rate as f64 / 1e6,
                        f.goodput / 1e6,
                        lost,
                        f.reordered,
                        f.delay_ms,
                        f.jitter_ms
                    );
                }
            }
        }
        Verb::Request(options) => requester::run(&options)?,
        Verb::Experiment(Experiment::QosClasses { world, place, options }) => {
            scratch::clean_when_interrupted()?;
            let (site, out) = (place.prepare()?, place.out.clone());
            let world = place.world(world, &["OpenFlow13"])?;
            print!("{}", qos::run(&*world, &options, site.as_deref(), &out)?);
            println!("everything is in {}", out.display());
        }
        Verb::Experiment(Experiment::LiveMigration { world: World::Xen, place, options, xen }) => {
            print!("{}", on_xen(xen, &place.out, &options)?);
            println!("everything is in {}", place.out.display());
        }
        Verb::Experiment(Experiment::LiveMigration { world, place, options, .. }) => {
            scratch::clean_when_interrupted()?;
            if place.site.is_some() || world == World::Testbed {
                bail!("this experiment has a site of its own; leave --site out, and the world as it is");
            }
            let out = place.out.clone();
            print!("{}", live::run(&*place.world(world, &["OpenFlow13"])?, &options, &out)?);
            println!("everything is in {}", out.display());
        }
        Verb::Experiment(Experiment::BestVsWorstFit { world, place, record }) => {
            scratch::clean_when_interrupted()?;
            let text = place.prepare()?.unwrap_or_else(|| fit::SITE.to_owned());
            let out = place.out.clone();
            match world {
                World::Simulated => simulated(&text, &out, record)?,
                world => {
                    packets::run(&*place.world(world, &["OpenFlow10", "OpenFlow13"])?, &text, &out, record)?;
                }
            }
        }
        Verb::Experiment(Experiment::Datapaths(options)) => datapaths::run(&options)?,
        Verb::Experiment(Experiment::HardwareQos(options)) => hardware_qos::run(&options)?,
        Verb::Experiment(Experiment::KeepPolicy(options)) => keep_policy::run(&options)?,
        Verb::Experiment(Experiment::Hotspot(options)) => hotspot::run(&options)?,
        Verb::Draw { site, cabling, inventory, out } => {
            let checked = site::read(&read(&site)?, &site.display().to_string())?;
            let inventory = inventory.map(|file| Inventory::load(&file, Some(&checked))).transpose()?;
            let shown = inventory.as_ref().filter(|_| cabling);
            let svg = draw::svg(&checked, shown);
            match (&out, shown) {
                (Some(file), _) => {
                    std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
                }
                (None, None) => print!("{svg}"),
                (None, Some(_)) => {}
            }
            if let Some(inventory) = shown {
                print!("{}", draw::table(&checked, inventory));
            }
        }
        Verb::Calibrate { world, place, name, api, options } => {
            return calibrate(world, place, name, &api, options);
        }
        Verb::Xen(verb) => return xen::cli::run(verb),
        Verb::FuzzCore(options) => return fuzz::run(&options),
        Verb::Bench(Bench::BringUp(options)) => {
            scratch::clean_when_interrupted()?;
            bench::run(&options)?;
        }
        Verb::Bench(Bench::Agent(options)) => {
            scratch::clean_when_interrupted()?;
            agent_bench::run(&options)?;
        }
        Verb::Bench(Bench::Datapath(options)) => {
            scratch::clean_when_interrupted()?;
            datapath_bench::run(&options)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The experiment live-migration on the Xen lab. Its hosts have room for small VMs only, and a move takes a minute.
fn on_xen(place: XenPlace, out: &Path, options: &live::Options) -> anyhow::Result<String> {
    let agent = place.agent.context("--agent FILE: a static tandem-agent, as scripts/deploy builds it")?;
    let usual = options.memory == live::MEMORY;
    let rules = options.rules.iter().map(|w| live::Rules::read(w)).collect::<anyhow::Result<_>>()?;
    let chosen = xen::experiment::Options {
        memory: if usual { vec![96] } else { options.memory.clone() },
        dirty: if options.quick { vec!["idle".into()] } else { options.dirty.clone() },
        rules,
        repeat: options.repeat,
    };
    let absolute = |path: &Path| std::path::absolute(path);
    let plan = xen::holder::Plan {
        name: format!("live-{}", std::process::id()),
        hosts: 2,
        memory: 1024,
        image: absolute(&place.image)?,
        folder: absolute(&out.join("lab"))?,
    };
    xen::experiment::run(&plan, &absolute(&agent)?, &chosen, out)
}

fn calibrate(
    world: World,
    place: Place,
    name: Option<String>,
    api: &str,
    options: calibrate::Options,
) -> anyhow::Result<ExitCode> {
    let out = place.out.clone();
    let text = place.prepare()?.context("--site FILE says what is declared")?;
    let measure = |site: &Site, ask: &dyn Fn(&Ask) -> _, statistics: &dyn Fn() -> _| {
        calibrate::run(&calibrate::Lab { site, ask, statistics }, &options, |line| eprintln!("{line}"))
    };
    let findings = if let Some(name) = name {
        let site = site::read(&text, "the site file")?;
        measure(&site, &|ask| control::ask(&name, ask), &|| tandem::json(api, &["stats", "--now"]))?
    } else {
        let world = place.world(world, &["OpenFlow13"])?;
        let start =
            world::Start { name: "calibrate", experiment: "calibrate", text: &text, csv: None, record: None };
        let run = world::Run::start(&*world, start)?;
        let findings = measure(&run.site, &|ask| run.ask(ask), &|| run.controller.json(&["stats", "--now"]))?;
        run.stop()?;
        findings
    };
    let file = out.join("calibration.csv");
    std::fs::write(&file, calibrate::csv(&findings, options.tolerance))
        .with_context(|| format!("cannot write {}", file.display()))?;
    print!("{}", calibrate::table(&findings, options.tolerance));
    println!("everything is in {}", out.display());
    let good = findings.iter().all(|f| !f.verdict(options.tolerance).starts_with("DIFFERS"));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_status(status: &Status) {
    let [switches, servers, gateways, links, vms] = status.counts;
    println!(
        "lab {} of site {}: {switches} switches in {}, {servers} servers, {gateways} gateways, {links} links, {vms} VMs",
        status.name, status.site, status.datapath
    );
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
