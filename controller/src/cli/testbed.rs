//! `tandem testbed`: agents onto the machines of an inventory and off again, and who holds them.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use crate::server::serve::read_site;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use tandem_api::agents::{AgentSwitches, NewAgentToken};
use tandem_api::endpoints::{AGENT_SWITCHES, AGENT_TOKEN, AGENTS};
use tandem_api::{Client, ClientError};
use tandem_testbed::deploy::release::Binary;
use tandem_testbed::deploy::{self, Control, Enrolled, Options, Outcome, Report};
use tandem_testbed::inventory::Inventory;
use tandem_testbed::lease::{self, Kind, Lease};
use tandem_testbed::ssh::{Ssh, connect_all};

/// Which testbed.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The inventory: which machines there are and how they are reached.
    #[arg(long)]
    pub inventory: PathBuf,
    /// Hold the inventory's names and ports against this site file.
    #[arg(long)]
    pub site: Option<PathBuf>,
}

impl Which {
    /// Reads and checks the inventory.
    ///
    /// # Errors
    /// With all its faults.
    pub fn load(&self) -> anyhow::Result<Inventory> {
        let site = self.site.as_deref().map(read_site).transpose()?;
        Ok(Inventory::load(&self.inventory, site.as_ref())?)
    }
}

/// What can be done with a testbed.
#[derive(Debug, Subcommand)]
pub enum TestbedCommand {
    /// Check an inventory; prints all its faults.
    Check(#[command(flatten)] Which),
    /// Install, upgrade or remove the agents (scripts/deploy builds one and calls this).
    Deploy(Box<Deploy>),
    /// What each machine is, runs, and who holds it.
    Status(#[command(flatten)] Which),
    /// Give every bridge and queueing back as it was found and stop the agents; they stay
    /// installed.
    Release {
        /// Which testbed.
        #[command(flatten)]
        which: Which,
        /// Go on under the lock of this id.
        #[arg(long)]
        lock: Option<String>,
    },
    /// Keep others' experiments and deployments away until `unlock`; prints the lock's id.
    #[command(name = "lock")]
    Lease {
        /// Which testbed.
        #[command(flatten)]
        which: Which,
        /// What for, for whoever is refused.
        #[arg(long, default_value = "by hand")]
        purpose: String,
    },
    /// Let others have the testbed again.
    Unlock {
        /// Which testbed.
        #[command(flatten)]
        which: Which,
        /// The lock's id.
        #[arg(long, required_unless_present = "force")]
        id: Option<String>,
        /// Take the lock away from whoever holds it.
        #[arg(long = "break")]
        force: bool,
    },
}

/// How to deploy.
#[derive(Debug, Clone, Args)]
pub struct Deploy {
    /// Which testbed.
    #[command(flatten)]
    which: Which,
    /// The agent's program, built for the machines.
    #[arg(long, required_unless_present = "remove")]
    agent: Option<PathBuf>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Give everything back and delete what was installed.
    #[arg(long)]
    remove: bool,
    /// Enrol the agents anew, revoked ones too.
    #[arg(long)]
    enrol: bool,
    /// Seconds a new agent may take to be connected and to have applied what the controller wants.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// Go on under the lock of this id (`tandem testbed lock` prints it).
    #[arg(long)]
    lock: Option<String>,
}

/// `tandem testbed`; false when something could not be done.
///
/// # Errors
/// When the inventory has faults, or somebody else holds the testbed.
pub async fn testbed(global: &GlobalArgs, command: TestbedCommand) -> anyhow::Result<bool> {
    let client = global.client();
    let controller = Running { client, runtime: tokio::runtime::Handle::current() };
    let json = global.json;
    // ssh is waited for by threads of its own.
    tokio::task::spawn_blocking(move || blocking(json, command, &controller)).await?
}

fn blocking(json: bool, command: TestbedCommand, controller: &Running) -> anyhow::Result<bool> {
    match command {
        TestbedCommand::Check(which) => {
            let inventory = which.load()?;
            println!("{}: {} machines, no faults", which.inventory.display(), inventory.machines.len());
            if let Some(site) = &which.site {
                let site = read_site(site)?;
                for name in inventory.missing(&site) {
                    println!("no machine is {name}");
                }
            }
            Ok(true)
        }
        TestbedCommand::Deploy(options) => deploy(json, &options, controller),
        TestbedCommand::Status(which) => status(json, &which.load()?),
        TestbedCommand::Release { which, lock } => {
            let reports = deploy::release(&which.load()?, lock.as_deref(), &progress)?;
            print_reports(json, &reports)
        }
        TestbedCommand::Lease { which, purpose } => {
            let inventory = which.load()?;
            let machines = connect(&inventory)?;
            let lock = Lease::take(&machines, &purpose, Kind::ByHand)?;
            println!("{}", lock.id());
            Ok(true)
        }
        TestbedCommand::Unlock { which, id, force } => {
            let inventory = which.load()?;
            let mut good = true;
            for reached in connect_all(&inventory.machines) {
                let freed =
                    reached.map_err(anyhow::Error::from).and_then(|ssh| unlock(&ssh, id.as_deref(), force));
                if let Err(error) = freed {
                    eprintln!("tandem: {error:#}");
                    good = false;
                }
            }
            Ok(good)
        }
    }
}

fn unlock(ssh: &Ssh, id: Option<&str>, force: bool) -> anyhow::Result<()> {
    let name = &ssh.machine().name;
    match id {
        Some(id) if !force => {
            lease::restore(ssh, id)?;
            if let Some(holder) = lease::look(ssh)? {
                anyhow::bail!("{name} is held by {holder}");
            }
        }
        _ => {
            // One that cannot be read is broken too.
            if let Ok(Some(holder)) = lease::look(ssh) {
                println!("{name} was held by {holder}");
            }
            lease::break_open(ssh)?;
        }
    }
    Ok(())
}

fn connect(inventory: &Inventory) -> anyhow::Result<Vec<Arc<Ssh>>> {
    let reached: Result<Vec<Ssh>, _> = connect_all(&inventory.machines).into_iter().collect();
    Ok(reached?.into_iter().map(Arc::new).collect())
}

fn progress(machine: &str, what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{machine}: {what}");
    }
}

fn deploy(json: bool, options: &Deploy, controller: &Running) -> anyhow::Result<bool> {
    let inventory = options.which.load()?;
    let lock = options.lock.as_deref();
    if options.remove {
        return print_reports(json, &deploy::remove(&inventory, lock, options.dry_run, &progress)?);
    }
    let file = options.agent.as_deref().context("say which agent: --agent FILE")?;
    let binary = Binary::read(file)?;
    let how = Options {
        dry_run: options.dry_run,
        enrol: options.enrol,
        seconds: options.wait.clamp(1, 3600),
        lock: options.lock.clone(),
    };
    print_reports(json, &deploy::deploy(&inventory, &binary, controller, &how, &progress)?)
}

fn print_reports(json: bool, reports: &[Report]) -> anyhow::Result<bool> {
    let good = reports.iter().all(|r| r.outcome.is_good());
    if json {
        print_json(&reports)?;
        return Ok(good);
    }
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|r| {
            let (outcome, what) = words(&r.outcome);
            vec![r.machine.clone(), outcome.to_owned(), r.version.clone(), what]
        })
        .collect();
    print!("{}", table(&["machine", "outcome", "version", ""], &rows));
    for (report, note) in reports.iter().flat_map(|r| r.notes.iter().map(move |n| (r, n))) {
        println!("{}: {note}", report.machine);
    }
    Ok(good)
}

fn words(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Unchanged => ("unchanged", "nothing to do".to_owned()),
        Outcome::WouldDo(what) => ("would change", what.join(", ")),
        Outcome::Installed => ("installed", String::new()),
        Outcome::Upgraded => ("upgraded", String::new()),
        Outcome::Repaired => ("repaired", String::new()),
        Outcome::RolledBack(why) => ("ROLLED BACK", why.clone()),
        Outcome::Released => ("released", "given back as found; the agent is stopped".to_owned()),
        Outcome::Removed => ("removed", "given back as found, deleted".to_owned()),
        Outcome::Nothing(why) => ("nothing", why.clone()),
        Outcome::Failed(why) => ("FAILED", why.clone()),
    }
}

fn status(json: bool, inventory: &Inventory) -> anyhow::Result<bool> {
    let found = deploy::status(inventory);
    let good = found.iter().all(|(_, f)| f.is_ok());
    if json {
        let list: Vec<Value> = found
            .iter()
            .map(|(machine, found)| match found {
                Ok((holder, status)) => json!({ "machine": machine.name, "holder": holder, "agent": status }),
                Err(error) => json!({ "machine": machine.name, "error": error.to_string() }),
            })
            .collect();
        print_json(&list)?;
        return Ok(good);
    }
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for (machine, found) in &found {
        let name = machine.name.clone();
        let nodes: Vec<&str> = machine.nodes().map(|n| n.name.as_str()).collect();
        let (agent, holder) = match found {
            Err(error) => {
                notes.push(error.to_string());
                ("NOT REACHED".to_owned(), String::new())
            }
            Ok((holder, status)) => {
                notes.extend(status.faults.iter().map(|f| format!("{name}: not done: {f}")));
                let agent = match (status.installed.is_empty(), status.alive, status.connected) {
                    (true, _, _) if machine.switches.is_empty() => "none needed".to_owned(),
                    (true, _, _) => "none".to_owned(),
                    (_, false, _) => format!("{} stopped", status.installed),
                    (_, true, true) if status.applied => format!("{} connected, applied", status.installed),
                    (_, true, true) => format!("{} connected", status.installed),
                    (_, true, false) => {
                        notes.push(format!("{name}: not connected: {}", status.trouble));
                        format!("{} not connected", status.installed)
                    }
                };
                (agent, holder.as_ref().map(ToString::to_string).unwrap_or_default())
            }
        };
        rows.push(vec![name, nodes.join(" "), agent, holder]);
    }
    print!("{}", table(&["machine", "is", "agent", "held by"], &rows));
    notes.iter().for_each(|n| println!("{n}"));
    Ok(good)
}

/// The running controller, asked by its API.
struct Running {
    client: Client,
    runtime: tokio::runtime::Handle,
}

impl Control for Running {
    fn enrolled(&self, agent: &str) -> Result<Enrolled, String> {
        let agents = self.runtime.block_on(self.client.send(AGENTS.request())).map_err(whole)?.body;
        let certificate = agents.into_iter().find(|a| a.agent.name == agent).and_then(|a| a.certificate);
        Ok(match certificate {
            Some(c) if c.revoked => Enrolled::Revoked,
            Some(_) => Enrolled::Yes,
            None => Enrolled::No,
        })
    }

    fn allow(&self, agent: &str, switches: &[String]) -> Result<(), String> {
        let body = AgentSwitches { switches: switches.to_vec() };
        let request = AGENT_SWITCHES.at_with(&[&agent], &body);
        self.runtime.block_on(self.client.send(request)).map(drop).map_err(whole)
    }

    fn token(&self, agent: &str, address: &str, switches: &[String]) -> Result<String, String> {
        let body = NewAgentToken {
            name: agent.to_owned(),
            minutes: Some(10),
            address: Some(address.to_owned()),
            switches: Some(switches.to_vec()),
        };
        let made = self.runtime.block_on(self.client.send(AGENT_TOKEN.with(&body))).map_err(whole)?;
        Ok(made.body.token)
    }
}

/// An error with its causes.
fn whole(error: ClientError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
