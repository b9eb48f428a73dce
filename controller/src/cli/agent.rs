//! `tandem agent`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use anyhow::bail;
use clap::Subcommand;
use tandem_api::agents::{AgentEntry, AgentPortView, AgentSwitches, NewAgentToken};
use tandem_api::endpoints::{AGENT_SWITCHES, AGENT_TOKEN, AGENTS, REVOKE_AGENT};
use tandem_model::BitRate;
use tandem_model::text::escaped;

/// The columns of a list of agents.
const HEADER: [&str; 6] = ["agent", "state", "machine", "switches", "desired", "certificate until"];

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Print a token; on the switch: tandem-agent enroll --token TOKEN. It is good once: treat it
    /// as a password.
    Token {
        /// The agent's name, as its agent.toml has it.
        name: String,
        /// How long it is good, in minutes.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        /// Where the agent reaches this controller, HOST:PORT; by default the address of `tandem
        /// serve --agents`.
        #[arg(long)]
        address: Option<String>,
        /// A switch that the agent speaks for; again for each of them. Left out: those that it had
        /// before, or the one that is called as the agent is.
        #[arg(long = "switch", value_name = "SWITCH")]
        switches: Vec<String>,
    },
    /// Say which switches an enrolled agent speaks for: all of them, each with `--switch`.
    Allow {
        /// Its name.
        name: String,
        /// A switch; again for each of them.
        #[arg(long = "switch", value_name = "SWITCH", required = true)]
        switches: Vec<String>,
    },
    /// List all agents.
    List,
    /// Show one agent with its ports.
    Show {
        /// Its name.
        name: String,
    },
    /// Let an agent in no longer; what it made stays as it is.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// `tandem agent`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, command: AgentCommand) -> anyhow::Result<()> {
    let client = global.client();
    match command {
        AgentCommand::Allow { name, switches } => {
            let said = switches.join(", ");
            client.send(AGENT_SWITCHES.at_with(&[&name], &AgentSwitches { switches })).await?;
            println!("{name} speaks for {said}");
        }
        AgentCommand::Token { name, minutes, address, switches } => {
            let switches = (!switches.is_empty()).then_some(switches);
            let new = NewAgentToken { name, minutes: Some(minutes), address, switches };
            let made = client.send(AGENT_TOKEN.with(&new)).await?.body;
            if global.json {
                return print_json(&made);
            }
            println!("{}", made.token);
        }
        AgentCommand::List => {
            let agents = client.send(AGENTS.request()).await?.body;
            if global.json {
                return print_json(&agents);
            }
            println!("{}", table(&HEADER, &agents.iter().map(row).collect::<Vec<_>>()));
        }
        AgentCommand::Show { name } => {
            let agents = client.send(AGENTS.request()).await?.body;
            let Some(agent) = agents.iter().find(|a| a.agent.name == name) else {
                bail!("there is no agent {name:?}; `tandem agent list` shows them");
            };
            if global.json {
                return print_json(agent);
            }
            show(agent);
        }
        AgentCommand::Revoke { name } => {
            client.send(REVOKE_AGENT.at(&[&name])).await?;
            println!("{name} is let in no longer");
        }
    }
    Ok(())
}

fn row(entry: &AgentEntry) -> Vec<String> {
    let agent = &entry.agent;
    let certificate = entry.certificate.as_ref();
    let state = match (agent.connected, certificate.is_some_and(|c| c.revoked)) {
        (_, true) => "revoked",
        (true, _) => "connected",
        (false, _) => "away",
    };
    let desired = match (agent.generation, agent.faults.len()) {
        (0, _) => String::new(),
        (sent, _) if sent != agent.applied => "under way".to_owned(),
        (_, 0) => "applied".to_owned(),
        (_, faults) => format!("applied, {faults} faults"),
    };
    let until = certificate.and_then(|c| time::OffsetDateTime::from_unix_timestamp(c.expires).ok());
    vec![
        agent.name.clone(),
        state.to_owned(),
        agent.machine.clone(),
        agent.switches.len().to_string(),
        desired,
        until.map(|t| t.date().to_string()).unwrap_or_default(),
    ]
}

fn port_row(port: &AgentPortView) -> Vec<String> {
    let speed = if port.speed == 0 { "?".to_owned() } else { BitRate(port.speed).to_string() };
    let duplex = if port.half_duplex { " half duplex" } else { "" };
    vec![
        port.port.clone(),
        port.interface.clone(),
        port.datapath.clone(),
        if port.up { "up" } else { "down" }.to_owned(),
        format!("{speed}{duplex}"),
        port.hardware.len().to_string(),
    ]
}

fn show(entry: &AgentEntry) {
    let agent = &entry.agent;
    println!("{}", table(&HEADER, &[row(entry)]));
    let rows: Vec<Vec<String>> = agent.ports.iter().map(port_row).collect();
    println!("{}", table(&["port", "interface", "datapath", "state", "speed", "hardware counters"], &rows));
    for card in &agent.cards {
        println!(
            "card of {}: {}, {} outages, {:.3} s in all",
            escaped(&card.switch),
            card.path,
            card.outages,
            card.outage_ms / 1e3
        );
    }
    agent.faults.iter().for_each(|fault| println!("fault: {}", escaped(fault)));
}
