//! `tandem-agent`: runs on every switch host.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tandem_agent::config::Config;
use tandem_agent::control::Status;
use tandem_agent::datapath::soft::SwitchDump;
use tandem_agent::datapath::{Adopt, RunMode};
use tandem_agent::desired::Fault;
use tandem_agent::worker::Worker;
use tandem_agent::{daemon, doctor, enrollment, local_socket};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The agent of a switch host: makes bridges, ports, queues and classes what the controller wants,
/// and reports what is there.
///
/// Without a verb it runs until SIGTERM; what it made stays. A first look at a host:
/// `tandem-agent doctor`. Without a controller: `tandem-agent apply desired.toml`.
#[derive(Debug, Parser)]
#[command(name = "tandem-agent", version)]
struct Cli {
    /// What the host has, and where its controller is.
    #[arg(long, global = true, env = "TANDEM_AGENT_CONFIG", default_value = "/etc/tandem/agent.toml")]
    config: PathBuf,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Get this host's certificate by a token that the controller made (`tandem agent token NAME`).
    Enroll {
        /// The token, or `-` to read it from standard input.
        #[arg(long)]
        token: String,
    },
    /// What the running agent does: its controller, what was applied, what could not be.
    Status,
    /// Ports and classes with their counters.
    Counters {
        /// Print again every second.
        #[arg(long)]
        watch: bool,
    },
    /// The flows of the switches that live in the running agent (datapath `soft`), and where each
    /// flow lives.
    Flows {
        /// Only this switch's.
        switch: Option<String>,
    },
    /// Make this host what a file says, without a controller. A bridge that somebody else has made
    /// is taken over with `--adopt` only, and without a lost packet when it has a controller;
    /// otherwise its forwarding stops for a moment, which is asked for before and measured.
    Apply {
        /// See the documentation of `desired.toml`.
        file: PathBuf,
        /// Take over bridges of the switches' names that somebody else has made;
        /// `tandem-agent release` gives them back.
        #[arg(long)]
        adopt: bool,
        /// Also those whose forwarding stops by that, without asking.
        #[arg(long)]
        adopt_with_gap: bool,
    },
    /// What is there, without a running agent.
    Report,
    /// Look at kernel, Open vSwitch, interfaces and the way to the controller, and say what to
    /// mend; changes nothing.
    Doctor,
    /// The kinds of datapaths that this program has (`datapath = "..."` in agent.toml and in site
    /// files); with `--json` also what a lab sets up for each.
    Datapaths,
    /// Give every bridge and queueing back as it was found. Stop the agent before
    /// (`systemctl stop tandem-agent`).
    Release,
}

fn main() -> ExitCode {
    // Filters by target and level, such as `tandem_agent=debug`; a filter with regular expressions
    // would make the program larger.
    let words = std::env::var("TANDEM_LOG").unwrap_or_else(|_| "info".into());
    let filter: Targets = words.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let output = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(output).with(filter).init();
    // One thread suffices for one connection, and keeps the agent small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let cli = Cli::parse();
    // tests/tests/documented_commands.rs checks documented commands with this parser.
    if cfg!(debug_assertions) && std::env::var_os("TANDEM_PARSE_ONLY").is_some() {
        return ExitCode::SUCCESS;
    }
    let result = runtime.map_err(anyhow::Error::from).and_then(|r| r.block_on(run(cli)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = || Config::read(&cli.config);
    match cli.command {
        None => daemon::run(config()?).await?,
        Some(Command::Enroll { token }) => {
            let config = config()?;
            let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token };
            enrollment::enroll(&config, &token).await?;
            println!("{} is enrolled; its certificate is in {}", config.name, config.state.display());
        }
        Some(Command::Status) => {
            let status: Status = serde_json::from_value(ask(&config()?, "status")?)?;
            if cli.json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print_status(&status);
            }
        }
        Some(Command::Counters { watch }) => {
            let config = config()?;
            loop {
                print_counters(&ask(&config, "report")?, cli.json)?;
                if !watch {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Some(Command::Flows { switch }) => flows(&config()?, switch.as_deref(), cli.json)?,
        Some(Command::Apply { file, adopt, adopt_with_gap }) => {
            let adopt = match (adopt, adopt_with_gap) {
                (_, true) => Adopt::EvenWithGap,
                (true, false) => Adopt::WithoutGap,
                (false, false) => Adopt::No,
            };
            return apply(&config()?, &file, adopt, cli.json).await;
        }
        Some(Command::Report) => {
            let worker = Worker::start(&config()?, RunMode::Command)?;
            print_counters(&serde_json::to_value(worker.report().await?.switches)?, cli.json)?;
        }
        Some(Command::Doctor) => return print_doctor(&cli.config, cli.json),
        Some(Command::Datapaths) => print_datapaths(cli.json)?,
        Some(Command::Release) => release(&config()?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the flows of the switches inside the running agent, or of one of them.
fn flows(config: &Config, switch: Option<&str>, json: bool) -> anyhow::Result<()> {
    let mut dumps: Vec<(String, SwitchDump)> = serde_json::from_value(ask(config, "flows")?)?;
    dumps.retain(|(name, _)| switch.is_none_or(|s| s == name));
    if let (Some(switch), true) = (switch, dumps.is_empty()) {
        bail!(
            "no switch {switch:?} lives in this agent; Open vSwitch's flows: ovs-ofctl dump-flows {switch}"
        );
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&dumps)?);
    } else {
        print_flows(&dumps);
    }
    Ok(())
}

/// Releases everything, and prints what others have changed and is therefore left.
async fn release(config: &Config) -> anyhow::Result<()> {
    refuse_beside_another(config, "what is given back, it would make again")?;
    let worker = Worker::start(config, RunMode::Command)?;
    let kept = worker.release().await?;
    let kept = kept.map_err(|why| anyhow::anyhow!("not all could be given back: {why}"))?;
    for why in &kept {
        println!("left as it is: {why}");
    }
    let but = if kept.is_empty() { "" } else { ", but for what others have changed since" };
    println!("everything is given back as it was found{but}");
    Ok(())
}

/// Refuses to run along with another agent: two that configure the same switches would undo each
/// other's changes.
fn refuse_beside_another(config: &Config, because: &str) -> anyhow::Result<()> {
    match local_socket::connect(config, &config.control) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!("{}: {error}; is an agent of another user running here?", config.control.display());
        }
        Err(_) => {}
        Ok(_) => bail!(
            "an agent is running here (it answers on {}): {because}. Stop it first: systemctl stop tandem-agent",
            config.control.display()
        ),
    }
    Ok(())
}

/// Asks at the terminal; without a terminal the answer is no.
fn is_allowed(gaps: &[Fault]) -> anyhow::Result<bool> {
    for gap in gaps {
        eprintln!("{gap}: its forwarding would stop for a moment");
    }
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("take over {}? [y/N] ", if gaps.len() == 1 { "it" } else { "them" });
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn apply(config: &Config, file: &Path, adopt: Adopt, json: bool) -> anyhow::Result<ExitCode> {
    refuse_beside_another(config, "it keeps what its controller wants")?;
    let desired = daemon::read_desired(file)?;
    let unknown: Vec<&str> = desired
        .switches
        .iter()
        .map(|s| s.name.as_str())
        .filter(|n| !config.switches.iter().any(|s| s.name == **n))
        .collect();
    if !unknown.is_empty() {
        bail!("agent.toml has no [[switch]] named {}; nothing was changed", unknown.join(", "));
    }
    let worker = Worker::start(config, RunMode::Command)?;
    let adopt = adopt.max(config.ovs.may_adopt());
    let is_told = adopt == Adopt::EvenWithGap;
    let gaps = if is_told { Vec::new() } else { worker.disruptive_changes(desired.clone()).await? };
    if !gaps.is_empty() && !is_allowed(&gaps)? {
        bail!("nothing was changed; --adopt-with-gap takes such bridges over without asking");
    }
    let adopt = if gaps.is_empty() { adopt } else { Adopt::EvenWithGap };
    let (outcome, took) = worker.apply(desired, adopt).await?;
    let notices = worker.take_events().await?;
    if json {
        let all = serde_json::json!({ "changes": outcome.changes, "faults": outcome.faults, "notices": notices, "took_ms": took.as_secs_f64() * 1e3 });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        println!("{} changes in {:.0} ms", outcome.changes, took.as_secs_f64() * 1e3);
        notices.iter().for_each(|n| println!("{n}"));
        outcome.faults.iter().for_each(|f| println!("not done: {f}"));
    }
    Ok(if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(config: &Config, what: &str) -> anyhow::Result<Value> {
    let stream = local_socket::connect(config, &config.control).with_context(|| {
        format!(
            "no agent answers on {}; `systemctl start tandem-agent`, or run `tandem-agent`",
            config.control.display()
        )
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // An agent that refuses this user sends its reason and closes, maybe before this is written.
    let said = writeln!(&stream, "{what}");
    let mut line = String::new();
    let heard = BufReader::new(&stream).read_line(&mut line);
    if line.is_empty() {
        said.and(heard.map(drop)).context("speaking to the agent")?;
    }
    let value: Value = serde_json::from_str(&line).context("the agent's answer cannot be read")?;
    match value["error"].as_str() {
        Some(why) => bail!("{why}"),
        None => Ok(value),
    }
}

fn print_status(s: &Status) {
    println!("agent       {} (version {})", s.name, s.version);
    let state = if s.connected { "connected".to_owned() } else { format!("not connected: {}", s.trouble) };
    println!("controller  {} ({state})", s.controller);
    if s.applied {
        println!(
            "applied     generation {}, {} changes in {:.0} ms, {} faults",
            s.generation,
            s.changes,
            s.took_ms,
            s.faults.len()
        );
    } else {
        println!("applied     nothing yet");
    }
    s.faults.iter().for_each(|f| println!("not done    {f}"));
    for (switch, lines) in &s.about {
        lines.iter().for_each(|line| println!("{switch:<11} {line}"));
    }
}

fn print_flows(views: &[(String, SwitchDump)]) {
    for (name, view) in views {
        println!("switch {name}: {} flows", view.flows.len());
        for (target, trouble) in &view.controllers {
            let state = if trouble.is_empty() { "connected" } else { trouble };
            println!("  controller {target}: {state}");
        }
        view.about.iter().for_each(|line| println!("  {line}"));
        for f in &view.flows {
            println!(
                "  table={} priority={},{} actions={} cookie={:#x} packets={} bytes={} in={}",
                f.table,
                f.priority,
                f.matches,
                f.does,
                f.cookie,
                f.packets,
                f.bytes,
                f.place.as_deref().unwrap_or("software")
            );
        }
    }
}

fn print_counters(report: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    println!(
        "{:<14} {:<15} {:<6} {:>11} {:>14} {:>12} {:>10} {:>8}",
        "port", "interface", "state", "speed", "bytes out", "packets out", "drops", "waiting"
    );
    for switch in report.as_array().into_iter().flatten() {
        for port in switch["ports"].as_array().into_iter().flatten() {
            let counters = &port["counters"];
            let speed =
                port["speed"].as_u64().map_or("?".to_owned(), |s| format!("{} Mbit/s", s / 1_000_000));
            println!(
                "{:<14} {:<15} {:<6} {:>11} {:>14} {:>12} {:>10} {:>8}",
                format!("{}.{}", switch["name"].as_str().unwrap_or_default(), port["number"]),
                port["interface"].as_str().unwrap_or_default(),
                if port["up"] == true { "up" } else { "down" },
                speed,
                counters["tx_bytes"],
                counters["tx_packets"],
                counters["tx_dropped"],
                ""
            );
            for (n, class) in port["classes"].as_array().into_iter().flatten().enumerate() {
                println!(
                    "{:<14} {:<15} {:<6} {:>11} {:>14} {:>12} {:>10} {:>8}",
                    format!("  queue {n}"),
                    "",
                    "",
                    "",
                    class["bytes"],
                    class["packets"],
                    class["drops"],
                    class["queued"]
                );
            }
        }
    }
    Ok(())
}

fn print_datapaths(json: bool) -> anyhow::Result<()> {
    let all = tandem_agent::datapath::registry::describe();
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        all.iter().for_each(|d| println!("{:<10} {}", d.name, d.about));
    }
    Ok(())
}

fn print_doctor(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let config = if path.exists() { Some(Config::read(path)?) } else { None };
    let findings = doctor::inspect(config.as_ref());
    let sick = findings.iter().any(|f| f.good == Some(false));
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for f in &findings {
            let mark = match f.good {
                Some(true) => "ok   ",
                Some(false) => "FAULT",
                None => "     ",
            };
            println!("{mark} {}: {}", f.what, f.found);
        }
        if config.is_none() {
            println!(
                "      {} is not there: interfaces and the controller were not looked at",
                path.display()
            );
        }
    }
    Ok(if sick { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
