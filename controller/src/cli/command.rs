//! The whole command line: what can be said, and who carries it out.

use super::agent::{self, AgentCommand};
use super::args::GlobalArgs;
use super::class::{self, ClassCommand};
use super::events::{self, EventsArgs};
use super::group::{self, GroupCommand};
use super::hypervisors::{self, HypervisorsCommand};
use super::migrate::{self, MigrateArgs, MigrationsArgs};
use super::overrides::{self, PathCommand, PortCommand};
use super::plan::{self, EvacuateArgs, PlanArgs};
use super::site::{self, SiteCommand};
use super::store::{self, StoreCommand};
use super::testbed::{self, TestbedCommand};
use super::token::{self, TokenCommand};
use super::vm::{self, VmCommand};
use super::{check, hotspots, links, notices, rules, stats, topology};
use crate::server::serve;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// One controller for a data centre's virtual machines and its network.
///
/// Start with `tandem init`, which asks for a data centre, or `tandem site import` of one that you have; then `tandem serve --site site.toml`; a data centre to try
/// it on is `tandem-lab up`.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, arg_required_else_help = true)]
pub struct Cli {
    /// What every command may be given.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller until SIGTERM; switches keep forwarding afterwards.
    Serve(Box<serve::Options>),
    /// Request, list, show, resize and delete VMs.
    #[command(subcommand)]
    Vm(VmCommand),
    /// Groups of VMs that may talk to each other.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Agents on the switches: tokens to enrol them, who is there, and who may come no longer.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Tokens for the API over TCP.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The store: where it is, what is wrong with it, and records to be dropped, while no
    /// controller runs.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Service classes and their shares.
    #[command(subcommand)]
    Class(ClassCommand),
    /// The machines of a testbed: agents to and from them, who holds them.
    #[command(subcommand)]
    Testbed(TestbedCommand),
    /// Hypervisors files: their faults, and what their hosts can do.
    #[command(subcommand)]
    Hypervisors(HypervisorsCommand),
    /// Site files.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Switches, servers, and what is not as it should be.
    Topology,
    /// Links with their load.
    Links {
        /// Print again whenever something changed.
        #[arg(long)]
        watch: bool,
    },
    /// Our rules in the switches.
    Rules {
        /// Only this switch (name or datapath id).
        switch: Option<String>,
        /// What the switches have counted of each rule, as of their last reading.
        #[arg(long)]
        counters: bool,
    },
    /// Counters and rates of ports and of the classes at each port.
    Stats {
        /// Read the counters now instead of showing the last reading.
        #[arg(long)]
        now: bool,
        /// The cards' own counters instead, as agents report them; those that are not zero.
        #[arg(long)]
        hardware: bool,
    },
    /// Switch a port off, or on again.
    #[command(subcommand)]
    Port(PortCommand),
    /// Let a VM's path go by switches of your choice.
    #[command(subcommand)]
    Path(PathCommand),
    /// Move a running VM to another server; its network is ready there before it arrives.
    Migrate(MigrateArgs),
    /// Migrations under way, and the last that have ended.
    Migrations(MigrationsArgs),
    /// Moves thought through as a whole: shown with cost, duration and reasons, and carried out
    /// with --apply. By default: every VM to where the allocation policy would place it today.
    Plan(PlanArgs),
    /// Take a server out of service: it gets no more VMs, and those it has are moved away.
    Evacuate(EvacuateArgs),
    /// Servers and links that are used too much.
    Hotspots {
        /// Print again whenever something changed.
        #[arg(long)]
        watch: bool,
    },
    /// What was decided by hand: ports that are off, paths that are pinned.
    Overrides,
    /// The latest notices: what came, went, was moved or refused.
    Notices,
    /// What has changed in the data centre, as programs follow it: hosts, links, switches, hotspots,
    /// VMs and plans.
    Events(EventsArgs),
    /// Make a new site file by questions, each with its default; `tandem check` takes what is written.
    Init {
        /// The file.
        #[arg(default_value = "site.toml")]
        site: PathBuf,
        /// Ask nothing, take every default.
        #[arg(long)]
        yes: bool,
    },
    /// Check a site file; prints all its faults. Of one without faults, prints the policies that it
    /// can name, and as notes what this machine cannot do for it: what is missing for an emulated data
    /// centre (netem, Open vSwitch, rights) and what there is no room for.
    Check {
        /// The site file.
        site: PathBuf,
    },
    /// Replay a recorded run: same decisions, or where they first differ.
    Replay {
        /// The recording.
        file: PathBuf,
    },
}

/// Carries a command out; false when it has said itself that not all went well.
///
/// # Errors
/// With what failed, and what to do about it.
pub async fn run(Cli { global, command }: Cli) -> anyhow::Result<bool> {
    match command {
        Command::Store(command) => return store::store(&global, command),
        Command::Testbed(command) => return testbed::testbed(&global, command).await,
        Command::Site(command) => return site::site(&global, command).await,
        Command::Hypervisors(command) => return hypervisors::hypervisors(&global, command).await,
        Command::Migrate(args) => return migrate::migrate(&global, args).await,
        Command::Plan(args) => return plan::plan(&global, args).await,
        Command::Evacuate(args) => return plan::evacuate(&global, args).await,
        Command::Check { site } => return check::check(&global, &site),
        Command::Init { site, yes } => crate::new_site::make(&site, yes)?,
        Command::Serve(options) => serve::run(*options, global.api).await?,
        Command::Vm(command) => vm::run(&global, command).await?,
        Command::Group(command) => group::run(&global, command).await?,
        Command::Agent(command) => agent::run(&global, command).await?,
        Command::Token(command) => token::run(&global, command).await?,
        Command::Class(command) => class::run(&global, command).await?,
        Command::Topology => topology::run(&global).await?,
        Command::Links { watch } => links::run(&global, watch).await?,
        Command::Rules { switch, counters } => rules::run(&global, switch, counters).await?,
        Command::Stats { now, hardware } => stats::run(&global, now, hardware).await?,
        Command::Port(command) => overrides::port(&global, command).await?,
        Command::Path(command) => overrides::path(&global, command).await?,
        Command::Migrations(args) => migrate::migrations(&global, args).await?,
        Command::Hotspots { watch } => hotspots::run(&global, watch).await?,
        Command::Overrides => overrides::overrides(&global).await?,
        Command::Notices => notices::run(&global).await?,
        Command::Events(args) => events::run(&global, args).await?,
        Command::Replay { file } => check::replay(&file)?,
    }
    Ok(true)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
