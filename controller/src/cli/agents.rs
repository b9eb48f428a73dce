//! `tandem agent` and `tandem class`.

use super::client::segment;
use super::table::table;
use super::verbs::{Common, print_json};
use crate::agents::api::{SwitchesBody, TokenBody};
use crate::api::ClassBody;
use clap::Subcommand;
use hyper::Method;
use serde_json::Value;
use tandem_core::rules::qos::ClassView;
use tandem_core::snapshot::SwitchView;
use tandem_model::BitRate;
use tandem_model::text::escaped;

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// Print a token; on the switch: tandem-agent enroll --token TOKEN. It is good once: treat it as a password.
    Token {
        /// The agent's name, as its agent.toml has it.
        name: String,
        /// How long it is good, in minutes.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        /// Where the agent reaches this controller, HOST:PORT; by default the address of `tandem serve --agents`.
        #[arg(long)]
        address: Option<String>,
        /// A switch that the agent speaks for; again for each of them. Left out: those that it had before, or the one that is called as
        /// the agent is.
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

/// What can be done with classes.
#[derive(Debug, Subcommand)]
pub enum ClassVerb {
    /// List the classes with what each has sent.
    List,
    /// Give classes other shares, such as `gold=60 silver=40` (percent). Switches follow without dropping a packet.
    Set {
        /// NAME=SHARE, or NAME=SHARE:CEILING.
        #[arg(required = true, value_parser = share)]
        shares: Vec<ClassBody>,
    },
}

fn share(text: &str) -> Result<ClassBody, String> {
    let wrong = || format!("{text:?} is no share; write gold=60, or gold=60:80 with a ceiling (percent)");
    let (name, numbers) = text.split_once('=').ok_or_else(wrong)?;
    let (share, ceiling) = match numbers.split_once(':') {
        Some((share, ceiling)) => (share, Some(ceiling.parse().map_err(|_| wrong())?)),
        None => (numbers, None),
    };
    let body = ClassBody { name: name.to_owned(), share: share.parse().map_err(|_| wrong())?, ceiling };
    // JSON has no NaN: it would arrive as nothing at all.
    crate::limits::percent("a share", body.share)?;
    body.ceiling.map_or(Ok(()), |c| crate::limits::percent("a ceiling", c))?;
    Ok(body)
}

/// `tandem agent`.
///
/// # Errors
/// With what the controller says.
pub async fn agent(common: &Common, verb: AgentVerb) -> anyhow::Result<()> {
    let client = common.client();
    match verb {
        AgentVerb::Allow { name, switches } => {
            let said = switches.join(", ");
            let body = serde_json::to_value(SwitchesBody { switches })?;
            client.call(Method::PUT, &format!("/api/v1/agents/{name}/switches"), Some(body)).await?;
            println!("{name} speaks for {said}");
        }
        AgentVerb::Token { name, minutes, address, switches } => {
            let switches = (!switches.is_empty()).then_some(switches);
            let body = serde_json::to_value(TokenBody { name, minutes: Some(minutes), address, switches })?;
            let reply = client.call(Method::POST, "/api/v1/agents/tokens", Some(body)).await?;
            if common.json {
                return print_json(&reply.body);
            }
            println!("{}", reply.body["token"].as_str().unwrap_or_default());
        }
        AgentVerb::List => {
            let (agents, _): (Vec<Value>, _) = client.get("/api/v1/agents").await?;
            if common.json {
                return print_json(&agents);
            }
            let rows: Vec<Vec<String>> = agents.iter().map(row).collect();
            println!(
                "{}",
                table(&["agent", "state", "machine", "switches", "desired", "certificate until"], &rows)
            );
        }
        AgentVerb::Show { name } => {
            let (agents, _): (Vec<Value>, _) = client.get("/api/v1/agents").await?;
            let Some(agent) = agents.iter().find(|a| a["agent"]["name"] == name.as_str()) else {
                anyhow::bail!("there is no agent {name:?}; `tandem agent list` shows them");
            };
            if common.json {
                return print_json(agent);
            }
            show(agent);
        }
        AgentVerb::Revoke { name } => {
            client.call(Method::DELETE, &format!("/api/v1/agents/{}", segment(&name)), None).await?;
            println!("{name} is let in no longer");
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn row(entry: &Value) -> Vec<String> {
    let (agent, certificate) = (&entry["agent"], &entry["certificate"]);
    let state = match (agent["connected"] == true, certificate["revoked"] == true) {
        (_, true) => "revoked",
        (true, _) => "connected",
        (false, _) => "away",
    };
    let desired = match (agent["generation"].as_u64(), agent["applied"].as_u64()) {
        (Some(0), _) | (None, _) => String::new(),
        (Some(sent), Some(applied)) if sent == applied => {
            match agent["faults"].as_array().map_or(0, Vec::len) {
                0 => "applied".into(),
                n => format!("applied, {n} faults"),
            }
        }
        _ => "under way".into(),
    };
    let until =
        certificate["expires"].as_i64().and_then(|t| time::OffsetDateTime::from_unix_timestamp(t).ok());
    vec![
        text(&agent["name"]),
        state.into(),
        text(&agent["machine"]),
        agent["switches"].as_array().map_or(0, Vec::len).to_string(),
        desired,
        until.map(|t| t.date().to_string()).unwrap_or_default(),
    ]
}

fn show(entry: &Value) {
    let agent = &entry["agent"];
    println!(
        "{}",
        table(&["agent", "state", "machine", "switches", "desired", "certificate until"], &[row(entry)])
    );
    let ports = agent["ports"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = ports
        .iter()
        .map(|p| {
            let speed = p["speed"].as_u64().filter(|s| *s > 0).map(|s| BitRate(s).to_string());
            let duplex = if p["half_duplex"] == true { " half duplex" } else { "" };
            let hardware = p["hardware"].as_object().map_or(0, serde_json::Map::len);
            vec![
                text(&p["port"]),
                text(&p["interface"]),
                text(&p["datapath"]),
                if p["up"] == true { "up" } else { "down" }.into(),
                format!("{}{duplex}", speed.unwrap_or_else(|| "?".into())),
                hardware.to_string(),
            ]
        })
        .collect();
    println!("{}", table(&["port", "interface", "datapath", "state", "speed", "hardware counters"], &rows));
    for card in agent["cards"].as_array().into_iter().flatten() {
        println!(
            "card of {}: {}, {} outages, {:.3} s in all",
            escaped(&text(&card["switch"])),
            text(&card["path"]),
            card["outages"].as_u64().unwrap_or(0),
            card["outage_ms"].as_f64().unwrap_or(0.0) / 1e3
        );
    }
    for fault in agent["faults"].as_array().into_iter().flatten() {
        println!("fault: {}", escaped(&text(fault)));
    }
}

/// `tandem class`.
///
/// # Errors
/// With what the controller says.
pub async fn class(common: &Common, verb: ClassVerb) -> anyhow::Result<()> {
    let client = common.client();
    match verb {
        ClassVerb::Set { shares } => {
            client.call(Method::PUT, "/api/v1/classes", Some(serde_json::to_value(shares)?)).await?;
        }
        ClassVerb::List => {
            let (classes, _): (Vec<ClassView>, _) = client.get("/api/v1/classes").await?;
            if common.json {
                return print_json(&classes);
            }
            let (switches, _): (Vec<SwitchView>, _) = client.get("/api/v1/switches").await?;
            let rows: Vec<Vec<String>> =
                classes.iter().enumerate().map(|(n, c)| class_row(n, c, &switches)).collect();
            let header = [
                "class",
                "share",
                "ceiling",
                "dscp",
                "default",
                "rate, all ports",
                "bytes",
                "drops",
                "waiting",
            ];
            println!("{}", table(&header, &rows));
        }
    }
    Ok(())
}

fn class_row(n: usize, class: &ClassView, switches: &[SwitchView]) -> Vec<String> {
    let ports = switches.iter().flat_map(|s| &s.ports).filter_map(|p| p.classes.get(n));
    let (mut rate, mut bytes, mut drops, mut queued) = (0, 0, 0, 0);
    for counters in ports {
        rate += counters.rate.0;
        bytes += counters.sample.bytes;
        drops += counters.sample.drops;
        queued += counters.sample.queued;
    }
    vec![
        class.name.clone(),
        format!("{}%", class.share.share),
        format!("{}%", class.share.ceiling),
        class.dscp.to_string(),
        if class.default { "yes" } else { "" }.into(),
        BitRate(rate).to_string(),
        bytes.to_string(),
        drops.to_string(),
        queued.to_string(),
    ]
}
