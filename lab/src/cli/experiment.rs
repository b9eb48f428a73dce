//! `tandem-lab experiment`: each in the world that is asked for.

use super::world::{Place, WorldKind};
use crate::experiment::{datapaths, fit, hardware_qos, hotspot, joint_placement, keep_policy, live, qos};
use crate::temp_dir;
use crate::world::xen;
use anyhow::{Context, bail};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// The experiments.
#[derive(Debug, Subcommand)]
pub(super) enum Experiment {
    /// Figure 4.2 of the thesis (Teixeira 2013): the first server's link ratio under best fit and
    /// worst fit.
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
            print!("{}", on_xen(xen, &place.out, &options)?);
            println!("everything is in {}", place.out.display());
            Ok(())
        }
        Experiment::LiveMigration { world, place, options, .. } => live_migration(world, place, &options),
        Experiment::BestVsWorstFit { world, place, record } => best_vs_worst_fit(world, place, record),
        Experiment::Datapaths(options) => datapaths::run(&options),
        Experiment::HardwareQos(options) => hardware_qos::run(&options),
        Experiment::KeepPolicy(options) => keep_policy::run(&options),
        Experiment::Hotspot(options) => hotspot::run(&options),
        Experiment::JointPlacement { world, place, options } => joint(world, place, &options),
    }
}

fn joint(world: WorldKind, place: Place, options: &joint_placement::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    let given = place.prepare()?;
    let text = given.as_deref().unwrap_or(joint_placement::SITE);
    let job = joint_placement::Job { text, is_given: given.is_some(), out: place.out.clone(), options };
    if world == WorldKind::Simulated {
        return joint_placement::run_simulated(&job);
    }
    let world = place.packet_world(world, &["OpenFlow13"])?;
    joint_placement::run_packets(&*world, &job)
}

fn qos_classes(world: WorldKind, place: Place, options: &qos::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    let site = place.prepare()?;
    let out = place.out.clone();
    let world = place.packet_world(world, &["OpenFlow13"])?;
    print!("{}", qos::run(&*world, options, site.as_deref(), &out)?);
    println!("everything is in {}", out.display());
    Ok(())
}

fn live_migration(world: WorldKind, place: Place, options: &live::Options) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    if place.site.is_some() || world == WorldKind::Testbed {
        bail!("this experiment has a site of its own; leave --site out, and the world as it is");
    }
    let out = place.out.clone();
    print!("{}", live::run(&*place.packet_world(world, &["OpenFlow13"])?, options, &out)?);
    println!("everything is in {}", out.display());
    Ok(())
}

fn best_vs_worst_fit(world: WorldKind, place: Place, record: bool) -> anyhow::Result<()> {
    temp_dir::clean_when_interrupted()?;
    let text = place.prepare()?.unwrap_or_else(|| fit::SITE.to_owned());
    let out = place.out.clone();
    let world = place.world(world, &["OpenFlow10", "OpenFlow13"])?;
    fit::run(&*world, &text, &out, record)
}

/// The experiment live-migration on the Xen lab. Its hosts have room for small VMs only, and a move
/// takes a minute.
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
    let plan = xen::supervisor::Plan {
        name: format!("live-{}", std::process::id()),
        hosts: 2,
        memory: 1024,
        image: absolute(&place.image)?,
        folder: absolute(&out.join("lab"))?,
    };
    xen::experiment::run(&plan, &absolute(&agent)?, &chosen, out)
}
