//! `tandem-lab experiment`: each in the world that is asked for.

use super::world::{Place, WorldKind};
use crate::experiment::run_folder::OutputOptions;
use crate::experiment::{
    datapaths, fill, hardware_qos, hotspot, joint_placement, keep_policy, live, qos, repeat,
    thesis_evaluation, traffic_tools,
};
use crate::temp_dir;
use crate::world::World;
use crate::world::emulated::engine::EngineKind;
use crate::world::packets::Emulated;
use crate::world::xen;
use anyhow::{Context, bail};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// The experiments.
#[derive(Debug, Subcommand)]
pub(super) enum Experiment {
    /// Fill a data centre, a VM request a second, under any allocation policies: the first server's
    /// link ratio and the VMs of each server, over time, one policy after the other.
    ///
    /// The published curves (figure 4.2 of the thesis, Teixeira 2013) are drawn over best fit and
    /// worst fit. `tandem-lab experiment fill --policy best-fit,weighted --out runs/fill` needs no
    /// root.
    Fill {
        /// In which world.
        #[arg(long, value_enum, default_value = "simulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        /// Allocation policies by their names, with commas between; without it the site's own.
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        policy: Vec<String>,
        /// Record each run into the run folder, for `tandem replay`.
        #[arg(long)]
        record: bool,
    },
    /// Figure 4.2 of the thesis (Teixeira 2013): the first server's link ratio under best fit and
    /// worst fit. The same as `fill --policy best-fit,worst-fit`.
    BestVsWorstFit {
        /// In which world.
        #[arg(long, value_enum, default_value = "simulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        /// Record both runs into the run folder, for `tandem replay`.
        #[arg(long)]
        record: bool,
    },
    /// The thesis' performance evaluation (Teixeira 2013, figures 4.3 to 4.7): host link ratio over
    /// traffic, size and hosts behind a gateway, memory over traffic and size, each beside what it
    /// published.
    ///
    /// Data centres of growing size are brought up and filled with traffic, so it takes minutes;
    /// --quick takes one.
    ThesisEvaluation {
        /// In which world; memory is measured where the data centre has processes of its own.
        #[arg(long, value_enum, default_value = "emulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        /// Measure on these engines of the emulated world too, into the same figures: `--also
        /// mininet`.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "ENGINE")]
        also: Vec<EngineKind>,
        #[command(flatten)]
        options: thesis_evaluation::Options,
    },
    /// What each traffic tool of the lab costs (CPU and memory for what arrives), and how much of
    /// the rate that it is asked for arrives. A tool that is not installed is named and left out.
    TrafficTools {
        /// In which world: processes of this machine are looked at, so an emulated one.
        #[arg(long, value_enum, default_value = "emulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: traffic_tools::Options,
    },
    /// Classes of service at a bottleneck: 70/30 guaranteed, what each class gets, what it borrows,
    /// and what an idle port loses.
    QosClasses {
        /// In which world.
        #[arg(long, value_enum, default_value = "emulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: qos::Options,
    },
    /// What a VM's peers notice when it moves: with its rules made first, made afterwards, and with
    /// the hypervisor's pause alone.
    LiveMigration {
        /// In which world.
        #[arg(long, value_enum, default_value = "emulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: live::Options,
        #[command(flatten)]
        xen: XenPlace,
    },
    /// Open vSwitch, the agent's own switch and a modelled NetFPGA card: latency, loss,
    /// installation of rules, class shares, refusals.
    Datapaths(datapaths::Options),
    /// Classes marked by rows of a NetFPGA card, the model or a real one, and sorted by the next
    /// Linux hop; what its bitfiles can and cannot do.
    HardwareQos(hardware_qos::Options),
    /// VMs back to where the allocation policy wants them: the published table, and a simulated day
    /// with and without.
    KeepPolicy(keep_policy::Options),
    /// A server and a link are made hot: time until they are cool again, moves, and that nothing
    /// swings back and forth.
    Hotspot(hotspot::Options),
    /// Server and path placed together (IM 2013): how full switches are by level, with the server
    /// chosen first and with the network chosen first, each by first, best and worst fit.
    JointPlacement {
        /// In which world.
        #[arg(long, value_enum, default_value = "simulated")]
        world: WorldKind,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: joint_placement::Options,
    },
}

/// What the Xen lab of an experiment is made from.
#[derive(Debug, clap::Args)]
pub(super) struct XenPlace {
    /// With --world xen: a static tandem-agent, as scripts/deploy builds it.
    #[arg(long, required_if_eq("world", "xen"))]
    pub(super) agent: Option<PathBuf>,
    /// With --world xen: the hosts' image, as tests/xen/image makes it.
    #[arg(long, default_value = "target/xen/image")]
    pub(super) image: PathBuf,
}

/// Runs an experiment, and prints its table.
///
/// # Errors
/// With the step that failed.
pub(super) fn run(experiment: Experiment) -> anyhow::Result<()> {
    match experiment {
        Experiment::QosClasses { world, place, options } => qos_classes(world, place, &options),
        Experiment::LiveMigration { world: WorldKind::Xen, place, options, xen } => {
            on_xen(xen, &place.output, &options)
        }
        Experiment::LiveMigration { world, place, options, .. } => live_migration(world, place, &options),
        Experiment::Fill { world, place, policy, record } => fill_up("fill", world, place, &policy, record),
        Experiment::BestVsWorstFit { world, place, record } => {
            let both = ["best-fit", "worst-fit"].map(str::to_owned);
            fill_up("best-vs-worst-fit", world, place, &both, record)
        }
        Experiment::ThesisEvaluation { world, place, also, options } => {
            evaluation(world, place, &also, &options)
        }
        Experiment::TrafficTools { world, place, options } => tools(world, place, &options),
        Experiment::Datapaths(options) => datapaths::run(&options),
        Experiment::HardwareQos(options) => hardware_qos::run(&options),
        Experiment::KeepPolicy(options) => keep_policy::run(&options),
        Experiment::Hotspot(options) => hotspot::run(&options),
        Experiment::JointPlacement { world, place, options } => joint(world, place, &options),
    }
}

fn joint(world: WorldKind, place: Place, options: &joint_placement::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    let given = place.site()?;
    let text = given.as_deref().unwrap_or(joint_placement::SITE);
    let output = place.output.clone();
    let job = |seed| {
        let options = joint_placement::Options { seed, ..options.clone() };
        joint_placement::Job { text, is_given: given.is_some(), options }
    };
    if world == WorldKind::Simulated {
        let once = |folder: &mut _, seed| joint_placement::run_simulated(&job(seed), folder);
        return repeat::run(&output, Some(options.seed), once);
    }
    let world = place.packet_world(world, &["OpenFlow13"])?;
    repeat::run(&output, Some(options.seed), |folder, seed| {
        joint_placement::run_packets(&*world, &job(seed), folder)
    })
}

fn qos_classes(world: WorldKind, place: Place, options: &qos::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    let site = place.site()?;
    let output = place.output.clone();
    let world = place.packet_world(world, &["OpenFlow13"])?;
    repeat::run(&output, None, |folder, _| qos::run(&*world, options, site.as_deref(), folder))
}

fn live_migration(world: WorldKind, place: Place, options: &live::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    if place.site.is_some() || world == WorldKind::Testbed {
        bail!("this experiment has a site of its own; leave --site out, and the world as it is");
    }
    let output = place.output.clone();
    let world = place.packet_world(world, &["OpenFlow13"])?;
    repeat::run(&output, None, |folder, _| live::run(&*world, options, folder))
}

fn evaluation(
    world: WorldKind,
    place: Place,
    also: &[EngineKind],
    options: &thesis_evaluation::Options,
) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    if place.site.is_some() || world == WorldKind::Testbed {
        bail!("this experiment has sites of its own; leave --site out, and the world as it is");
    }
    let output = place.output.clone();
    let mut engines: Vec<(String, Box<dyn World>)> = Vec::new();
    if world == WorldKind::Simulated {
        if !also.is_empty() {
            bail!("engines are the emulated world's; leave --also out, or the world as it is");
        }
        engines.push(("simulated".into(), place.world(world, &[])?));
    } else {
        let mut kinds = vec![place.engine];
        kinds.extend(also.iter().copied().filter(|kind| *kind != place.engine));
        for engine in kinds {
            let protocols = vec!["OpenFlow13".to_owned()];
            engines.push((
                engine.name().into(),
                Box::new(Emulated { protocols, datapath: place.datapath, engine }),
            ));
        }
    }
    repeat::run(&output, None, |folder, _| thesis_evaluation::run(&engines, options, folder))
}

fn tools(world: WorldKind, place: Place, options: &traffic_tools::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    if place.site.is_some() || world == WorldKind::Testbed {
        bail!("this experiment has a site of its own; leave --site out, and the world as it is");
    }
    let output = place.output.clone();
    let world = place.packet_world(world, &["OpenFlow13"])?;
    repeat::run(&output, None, |folder, _| traffic_tools::run(&*world, options, folder))
}

fn fill_up(
    experiment: &str,
    world: WorldKind,
    place: Place,
    policies: &[String],
    record: bool,
) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    let chosen = fill::choose(place.site()?, policies)?;
    let output = place.output.clone();
    let world = place.world(world, &["OpenFlow10", "OpenFlow13"])?;
    repeat::run(&output, None, |folder, _| fill::run(&*world, experiment, &chosen, folder, record))
}

/// The experiment live-migration on the Xen lab. Its hosts have room for small VMs only, and a move
/// takes a minute.
fn on_xen(place: XenPlace, output: &OutputOptions, options: &live::Options) -> anyhow::Result<()> {
    let agent = place.agent.context("--agent FILE: a static tandem-agent, as scripts/deploy builds it")?;
    let usual = options.memory == live::MEMORY;
    let rules = options.rules.iter().map(|w| live::Rules::read(w)).collect::<anyhow::Result<_>>()?;
    let chosen = xen::experiment::Options {
        memory: if usual { vec![96] } else { options.memory.clone() },
        dirty: if options.quick { vec!["idle".into()] } else { options.dirty.clone() },
        rules,
    };
    let absolute = |path: &Path| std::path::absolute(path);
    let plan = xen::supervisor::Plan {
        name: format!("live-{}", std::process::id()),
        hosts: 2,
        memory: 1024,
        image: absolute(&place.image)?,
        folder: absolute(&output.out.join("lab"))?,
    };
    let agent = absolute(&agent)?;
    repeat::run(output, None, |folder, _| xen::experiment::run(&plan, &agent, &chosen, folder))
}
