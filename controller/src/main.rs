//! `tandem`: the controller (`serve`) and the operator's command line (everything else).

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tandem_controller::cli::agents::{self, AgentVerb, ClassVerb};
use tandem_controller::cli::hypervisors::{self, HypervisorsVerb};
use tandem_controller::cli::moves;
use tandem_controller::cli::operator::{self, PathVerb, PortVerb};
use tandem_controller::cli::site::{self, SiteVerb};
use tandem_controller::cli::stats;
use tandem_controller::cli::store::{self, StoreVerb};
use tandem_controller::cli::testbed::{self, TestbedVerb};
use tandem_controller::cli::tokens::{self, TokenVerb};
use tandem_controller::cli::verbs::{self, Common, GroupVerb, VmVerb};
use tandem_controller::{log, serve};

/// One controller for a data centre's virtual machines and its network.
///
/// Start with `tandem check site.toml`, then `tandem serve --site site.toml`; a data centre to try it on is `tandem-lab up`.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the controller until SIGTERM; switches keep forwarding afterwards.
    Serve(Box<serve::Options>),
    /// Request, list, show, resize and delete VMs.
    #[command(subcommand)]
    Vm(VmVerb),
    /// Groups of VMs that may talk to each other.
    #[command(subcommand)]
    Group(GroupVerb),
    /// Agents on the switches: tokens to enrol them, who is there, and who may come no longer.
    #[command(subcommand)]
    Agent(AgentVerb),
    /// Tokens for the API over TCP.
    #[command(subcommand)]
    Token(TokenVerb),
    /// The store: where it is, what is wrong with it, and records to be dropped, while no controller runs.
    #[command(subcommand)]
    Store(StoreVerb),
    /// Service classes and their shares.
    #[command(subcommand)]
    Class(ClassVerb),
    /// The machines of a testbed: agents to and from them, who holds them.
    #[command(subcommand)]
    Testbed(TestbedVerb),
    /// Hypervisors files: their faults, and what their hosts can do.
    #[command(subcommand)]
    Hypervisors(HypervisorsVerb),
    /// Site files.
    #[command(subcommand)]
    Site(SiteVerb),
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
    Port(PortVerb),
    /// Let a VM's path go by switches of your choice.
    #[command(subcommand)]
    Path(PathVerb),
    /// Move a running VM to another server; its network is ready there before it arrives.
    Migrate(moves::Migrate),
    /// Migrations under way, and the last that have ended.
    Migrations(moves::Migrations),
    /// Moves thought through as a whole: shown with cost, duration and reasons, and carried out with --apply. By default: every VM to
    /// where the allocation policy would place it today.
    Plan(moves::PlanArgs),
    /// Take a server out of service: it gets no more VMs, and those it has are moved away.
    Evacuate(moves::Evacuate),
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
    /// Check a site file; prints all its faults.
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

/// A reader that went away (`tandem ... | head`) ends the program without a word.
fn end_quietly_without_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|text| text.starts_with("failed printing to stdout")) {
            std::process::exit(0);
        }
        usual(info);
    }));
}

#[tokio::main]
async fn main() -> ExitCode {
    end_quietly_without_reader();
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .fmt_fields(log::fields())
        .init();
    let cli = Cli::parse();
    // Documented commands are held to this parser by tests/tests/documented_commands.rs.
    if cfg!(debug_assertions) && std::env::var_os("TANDEM_PARSE_ONLY").is_some() {
        return ExitCode::SUCCESS;
    }
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn exit(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(Cli { common, verb }: Cli) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Serve(options) => serve::run(*options, common.api).await?,
        Verb::Vm(verb) => verbs::vm(&common, verb).await?,
        Verb::Group(verb) => verbs::group(&common, verb).await?,
        Verb::Agent(verb) => agents::agent(&common, verb).await?,
        Verb::Token(verb) => tokens::token(&common, verb).await?,
        Verb::Store(verb) => return Ok(exit(store::store(&common, verb)?)),
        Verb::Class(verb) => agents::class(&common, verb).await?,
        Verb::Testbed(verb) => {
            if !testbed::testbed(&common, verb).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Site(verb) => {
            if !site::site(&common, verb).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Hypervisors(verb) => {
            if !hypervisors::hypervisors(&common, verb).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Topology => verbs::topology(&common).await?,
        Verb::Links { watch } => verbs::links(&common, watch).await?,
        Verb::Rules { switch } => verbs::rules(&common, switch).await?,
        Verb::Stats { now, hardware } => stats::stats(&common, now, hardware).await?,
        Verb::Port(verb) => operator::port(&common, verb).await?,
        Verb::Path(verb) => operator::path(&common, verb).await?,
        Verb::Migrate(args) => return Ok(exit(moves::migrate(&common, args).await?)),
        Verb::Migrations(args) => moves::migrations(&common, args).await?,
        Verb::Plan(args) => return Ok(exit(moves::plan(&common, args).await?)),
        Verb::Evacuate(args) => return Ok(exit(moves::evacuate(&common, args).await?)),
        Verb::Hotspots { watch } => moves::hotspots(&common, watch).await?,
        Verb::Overrides => operator::overrides(&common).await?,
        Verb::Notices => verbs::notices(&common).await?,
        Verb::Check { site } => {
            if !verbs::check(&common, &site)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Replay { file } => verbs::replay(&file)?,
    }
    Ok(ExitCode::SUCCESS)
}
