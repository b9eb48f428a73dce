//! The verbs and what they print: tables for people, `--json` for programs.

use super::client::{Client, segment};
use super::strays::AdoptVm;
use super::table::table;
use crate::api::{GroupBody, SizeBody, VmBody};
use crate::openflow_server::Address;
use anyhow::Context;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;
use std::io::{BufReader, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use tandem_core::network::topology_state::Sync;
use tandem_core::record_replay;
use tandem_core::snapshot::{HostView, LinkView, ServerView, SwitchView, VmView};
use tandem_model::text::{escaped, escaped_to};
use tandem_model::{BitRate, Bytes, GroupRecord, Level, Notice, Rule, VmState, site};

/// Where the API is, and how to print.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The controller's API: unix:PATH or tcp:ADDRESS:PORT.
    #[arg(long, global = true, env = "TANDEM_API", default_value = super::DEFAULT_API)]
    pub api: Address,
    /// A token (`tandem token create`), for an API over TCP. Better given by TANDEM_TOKEN: other users can read command lines.
    #[arg(long, global = true, env = "TANDEM_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    /// A client of that API.
    pub fn client(&self) -> Client {
        Client::new(self.api.clone()).with_token(self.token.clone().filter(|t| !t.is_empty()))
    }
}

/// What can be done with VMs.
#[derive(Debug, Subcommand)]
pub enum VmVerb {
    /// Request a VM; waits until it runs and prints its address. What is left out is the site's default.
    Request(NewVm),
    /// List all VMs.
    List {
        /// Those that run without a record of them instead: of a store that was lost, or of another controller.
        #[arg(long)]
        strays: bool,
    },
    /// Take up a VM that runs without a record of it, as it is. What is not kept with it has to be said.
    Adopt(AdoptVm),
    /// Stop a VM that there is no record of, and remove it with its disk.
    StopStray {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
        /// The server where it is; only needed where there are several with its number.
        #[arg(long)]
        server: Option<String>,
    },
    /// Show one VM with its path.
    Show {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
    },
    /// Change what a running VM has, where it is.
    Resize {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
        /// What it should have; what is left out stays.
        #[command(flatten)]
        size: VmSize,
    },
    /// Stop a VM and forget it.
    Delete {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
    },
}

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupVerb {
    /// Let VMs talk to each other.
    Create {
        /// Their addresses.
        #[arg(required = true, num_args = 2..)]
        members: Vec<Ipv4Addr>,
    },
    /// List all groups.
    List,
    /// Isolate the VMs of a group again.
    Delete {
        /// Its number.
        group: u64,
    },
}

/// A VM's size.
#[derive(Debug, Clone, Default, Args)]
pub struct VmSize {
    /// CPU cores.
    #[arg(long)]
    cpu: Option<u32>,
    /// RAM, such as "1 GiB".
    #[arg(long)]
    ram: Option<Bytes>,
    /// Disk, such as "10 GB".
    #[arg(long)]
    disk: Option<Bytes>,
    /// Network, each direction, such as "1 Mbit/s".
    #[arg(long)]
    net: Option<BitRate>,
}

impl VmSize {
    pub(super) fn body(&self) -> SizeBody {
        SizeBody {
            cpu: self.cpu,
            ram: self.ram.map(|b| b.0),
            disk: self.disk.map(|b| b.0),
            net: self.net.map(|r| r.0),
        }
    }
}

/// A VM to be requested.
#[derive(Debug, Clone, Default, Args)]
pub struct NewVm {
    #[command(flatten)]
    size: VmSize,
    /// Service class, by its name in the site file.
    #[arg(long)]
    class: Option<String>,
    /// Seconds to live once it runs.
    #[arg(long, value_parser = seconds)]
    timeout: Option<f64>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// What it is made from, by the name that its hypervisor knows; its default if left out.
    #[arg(long)]
    image: Option<String>,
}

impl NewVm {
    fn body(self) -> VmBody {
        let SizeBody { cpu, ram, disk, net } = self.size.body();
        VmBody {
            cpu,
            ram,
            disk,
            net,
            class: self.class,
            timeout: self.timeout,
            name: self.name,
            image: self.image,
        }
    }
}

/// Seconds to live. JSON has no NaN: it would arrive as nothing at all, and the VM would live for ever.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    crate::limits::lifetime(seconds)?;
    Ok(seconds)
}

pub(super) fn vm_number(text: &str) -> Result<u64, String> {
    text.strip_prefix("vm")
        .unwrap_or(text)
        .parse()
        .map_err(|_| "write a VM's number, such as 7 or vm7".to_owned())
}

pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn state(state: &VmState) -> String {
    match state {
        VmState::Cut { why } | VmState::Stopping { why } => format!("{state} ({why})"),
        _ => state.to_string(),
    }
}

/// `tandem vm`.
///
/// # Errors
/// With what the controller says.
pub async fn vm(common: &Common, verb: VmVerb) -> anyhow::Result<()> {
    let client = common.client();
    match verb {
        VmVerb::Request(vm) => {
            let body = serde_json::to_value(vm.body())?;
            let reply = client.call(Method::POST, "/api/v1/vms", Some(body)).await?;
            if common.json {
                return print_json(&reply.body);
            }
            println!("{}", reply.body["address"].as_str().unwrap_or("?"));
            eprintln!("vm{} runs", reply.body["id"]);
        }
        VmVerb::List { strays: true } => return super::strays::list(common).await,
        VmVerb::Adopt(vm) => return super::strays::adopt(common, vm).await,
        VmVerb::StopStray { vm, server } => return super::strays::stop(common, vm, server).await,
        VmVerb::List { strays: false } => {
            let (vms, _): (Vec<VmView>, _) = client.get("/api/v1/vms").await?;
            if common.json {
                return print_json(&vms);
            }
            let rows: Vec<Vec<String>> = vms.iter().map(vm_row).collect();
            print!(
                "{}",
                table(&["vm", "name", "address", "server", "state", "cpu", "ram", "net", "rate"], &rows)
            );
        }
        VmVerb::Show { vm } => {
            let (view, _): (VmView, _) = client.get(&format!("/api/v1/vms/{vm}")).await?;
            if common.json {
                return print_json(&view);
            }
            let r = &view.record;
            let rows = [
                ("vm", r.id.to_string()),
                ("name", r.request.name.clone().unwrap_or_default()),
                ("state", state(&r.state)),
                ("address", r.address.to_string()),
                ("mac", r.mac.to_string()),
                ("server", view.server_name.clone()),
                ("gateway", view.gateway_name.clone()),
                ("path", view.path.join(" - ")),
                (
                    "resources",
                    format!(
                        "{} cores, {} RAM, {} disk, {}",
                        r.request.resources.cpu,
                        r.request.resources.ram,
                        r.request.resources.disk,
                        r.request.resources.net
                    ),
                ),
                ("rate", view.rate.to_string()),
            ];
            for (name, value) in rows {
                println!("{name:<10} {}", escaped_to(&value, 1000));
            }
        }
        VmVerb::Resize { vm, size } => {
            let body = serde_json::to_value(size.body())?;
            client.call(Method::PATCH, &format!("/api/v1/vms/{vm}"), Some(body)).await?;
            eprintln!("vm{vm} is resized");
        }
        VmVerb::Delete { vm } => {
            client.call(Method::DELETE, &format!("/api/v1/vms/{vm}"), None).await?;
            eprintln!("vm{vm} is gone");
        }
    }
    Ok(())
}

fn vm_row(v: &VmView) -> Vec<String> {
    let r = &v.record;
    vec![
        r.id.to_string(),
        r.request.name.clone().unwrap_or_default(),
        r.address.to_string(),
        v.server_name.clone(),
        state(&r.state),
        r.request.resources.cpu.to_string(),
        r.request.resources.ram.to_string(),
        r.request.resources.net.to_string(),
        v.rate.to_string(),
    ]
}

/// `tandem group`.
///
/// # Errors
/// With what the controller says.
pub async fn group(common: &Common, verb: GroupVerb) -> anyhow::Result<()> {
    let client = common.client();
    match verb {
        GroupVerb::Create { members } => {
            let body = serde_json::to_value(GroupBody { members })?;
            let reply = client.call(Method::POST, "/api/v1/groups", Some(body)).await?;
            println!("{}", reply.body["id"]);
        }
        GroupVerb::List => {
            let (groups, _): (Vec<GroupRecord>, _) = client.get("/api/v1/groups").await?;
            if common.json {
                return print_json(&groups);
            }
            let members =
                |g: &GroupRecord| g.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let rows: Vec<Vec<String>> = groups.iter().map(|g| vec![g.id.to_string(), members(g)]).collect();
            print!("{}", table(&["group", "members"], &rows));
        }
        GroupVerb::Delete { group } => {
            client.call(Method::DELETE, &format!("/api/v1/groups/{group}"), None).await?;
        }
    }
    Ok(())
}

/// `tandem topology`: switches, servers, and what is not as it should be.
///
/// # Errors
/// With what the controller says.
pub async fn topology(common: &Common) -> anyhow::Result<()> {
    let client = common.client();
    let (switches, _): (Vec<SwitchView>, _) = client.get("/api/v1/switches").await?;
    let (links, _): (Vec<LinkView>, _) = client.get("/api/v1/links").await?;
    let (servers, _): (Vec<ServerView>, _) = client.get("/api/v1/servers").await?;
    let (hosts, _): (Vec<HostView>, _) = client.get("/api/v1/hosts").await?;
    let (surprises, _): (Vec<String>, _) = client.get("/api/v1/surprises").await?;
    if common.json {
        return print_json(
            &json!({ "switches": switches, "links": links, "servers": servers, "hosts": hosts, "surprises": surprises }),
        );
    }
    let rows: Vec<Vec<String>> = switches
        .iter()
        .map(|s| {
            let role = s
                .role
                .map_or("unknown".to_owned(), |r| if s.legacy { "legacy".into() } else { r.to_string() });
            let state = if s.legacy {
                "-"
            } else {
                match (s.connected, s.sync) {
                    (false, _) => "away",
                    (true, Sync::UnderWay) => "connected, getting its rules",
                    (true, Sync::Refused) => "connected, has refused rules",
                    (true, Sync::Never | Sync::Done) => "connected",
                }
            };
            let up = s.ports.iter().filter(|p| p.up).count();
            vec![
                s.name.clone(),
                role,
                s.dpid.to_string(),
                state.into(),
                s.version.clone().unwrap_or_default(),
                format!("{up}/{}", s.ports.len()),
                s.rules.to_string(),
            ]
        })
        .collect();
    println!("{}", table(&["switch", "role", "dpid", "state", "openflow", "ports up", "rules"], &rows));
    let rows: Vec<Vec<String>> = servers
        .iter()
        .map(|s| {
            vec![
                s.name.clone(),
                s.address.to_string(),
                s.edge.clone(),
                s.vms.len().to_string(),
                format!("{}/{}", s.used.cpu, s.capacity.cpu),
                format!("{} of {}", s.used.ram, s.capacity.ram),
                format!("{} of {}", s.used.net, s.capacity.net),
            ]
        })
        .collect();
    println!("{}", table(&["server", "address", "edge", "vms", "cpu", "ram", "network"], &rows));
    for link in links.iter().filter(|l| l.state == "down" || l.state == "missing") {
        match link.switched_off.join(" and ") {
            off if off.is_empty() => println!("link {} is {}", link.name, link.state),
            off => println!("link {} is {}: the operator has switched off {off}", link.name, link.state),
        }
    }
    for (switch, port) in switches.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
        // A port without a declared link is in none of the lines above.
        if port.switched_off && port.peer.is_empty() {
            println!("port {}.{} is switched off by the operator", switch.name, port.port);
        }
    }
    surprises.iter().for_each(|s| println!("{}", escaped(s)));
    for host in hosts.iter().filter(|h| h.kind == "stranger") {
        println!("a stranger, {} ({}), is at {}", host.address, host.mac, host.at.as_deref().unwrap_or("?"));
    }
    Ok(())
}

fn links_table(links: &[LinkView]) -> String {
    let rows: Vec<Vec<String>> = links
        .iter()
        .map(|l| {
            let measured =
                |rate: tandem_model::BitRate| super::stats::or_dash((!l.uncounted).then_some(rate));
            vec![
                l.name.clone(),
                l.state.clone(),
                l.capacity.to_string(),
                measured(l.up),
                measured(l.down),
                l.reserved_up.to_string(),
                l.reserved_down.to_string(),
                super::stats::or_dash((!l.uncounted).then(|| format!("{:.1}%", l.ratio * 100.0))),
            ]
        })
        .collect();
    table(&["link", "state", "capacity", "up", "down", "reserved up", "reserved down", "ratio"], &rows)
}

/// `tandem links`; with `watch`, again whenever something changed, until interrupted.
///
/// # Errors
/// With what the controller says.
pub async fn links(common: &Common, watch: bool) -> anyhow::Result<()> {
    let client = common.client();
    let mut path = "/api/v1/links".to_owned();
    loop {
        let (links, version): (Vec<LinkView>, _) = client.get(&path).await?;
        if common.json {
            print_json(&links)?;
        } else {
            if watch && std::io::stdout().is_terminal() {
                print!("\x1b[H\x1b[2J");
            }
            print!("{}", links_table(&links));
            std::io::stdout().flush()?;
        }
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        path = format!("/api/v1/links?after={}", version.unwrap_or(0));
    }
}

/// `tandem rules`.
///
/// # Errors
/// With what the controller says.
pub async fn rules(common: &Common, switch: Option<String>) -> anyhow::Result<()> {
    let client = common.client();
    let names = match switch {
        Some(name) => vec![name],
        None => {
            let (switches, _): (Vec<SwitchView>, _) = client.get("/api/v1/switches").await?;
            switches.into_iter().filter(|s| s.role.is_some() && !s.legacy).map(|s| s.name).collect()
        }
    };
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for name in names {
        let (mut rules, _): (Vec<Rule>, _) = client.get(&format!("/api/v1/rules/{}", segment(&name))).await?;
        rules.sort_by_key(|r| (r.key.table, std::cmp::Reverse(r.key.priority)));
        for r in &rules {
            let actions = r.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let owner = match r.cookie.owner() {
                Some(tandem_model::Owner::Base) => "base".to_owned(),
                Some(tandem_model::Owner::Fabric) => "plan".to_owned(),
                Some(tandem_model::Owner::Vm(n)) => format!("vm{n}"),
                Some(tandem_model::Owner::Group(n)) => format!("grp{n}"),
                Some(tandem_model::Owner::Admin(n)) => format!("admin{n}"),
                Some(tandem_model::Owner::Migration(n)) => format!("mig{n}"),
                None => "?".to_owned(),
            };
            let actions = if actions.is_empty() { "drop".to_owned() } else { actions };
            rows.push(vec![
                name.clone(),
                r.key.table.to_string(),
                r.key.priority.to_string(),
                owner,
                r.key.matching.to_string(),
                actions,
            ]);
        }
        all.insert(name, serde_json::to_value(rules)?);
    }
    if common.json {
        return print_json(&all);
    }
    print!("{}", table(&["switch", "table", "priority", "owner", "match", "actions"], &rows));
    Ok(())
}

/// `tandem notices`.
///
/// # Errors
/// With what the controller says.
pub async fn notices(common: &Common) -> anyhow::Result<()> {
    let client = common.client();
    let (notices, _): (Vec<Notice>, _) = client.get("/api/v1/notices").await?;
    if common.json {
        return print_json(&notices);
    }
    for n in notices {
        let level = match n.level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        println!("{:.3} {level} {}: {}", n.at.as_secs_f64(), escaped(&n.kind), escaped_to(&n.text, 1000));
    }
    Ok(())
}

/// `tandem check`.
///
/// # Errors
/// With all faults of the site file.
pub fn check(common: &Common, path: &std::path::Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the site file {}", path.display()))?;
    match site::read(&text, &path.display().to_string()) {
        Ok(site) if common.json => print_json(
            &json!({ "ok": true, "switches": site.topology.switches.len(), "servers": site.topology.servers.len(), "links": site.topology.links.len() }),
        )?,
        Ok(site) => {
            let t = &site.topology;
            println!(
                "{}: {} gateways, {} switches, {} servers, {} links; no faults",
                site.name,
                t.gateways.len(),
                t.switches.len(),
                t.servers.len(),
                t.links.len()
            );
        }
        Err(faults) => {
            if common.json {
                print_json(&json!({ "ok": false, "faults": faults.faults }))?;
            } else {
                eprintln!("{faults}");
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// `tandem replay`.
///
/// # Errors
/// Where the recording first goes another way, or cannot be read.
pub fn replay(path: &PathBuf) -> anyhow::Result<()> {
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open the recording {}", path.display()))?;
    let events = record_replay::replay(BufReader::new(file))?;
    println!("{events} events, all decided the same");
    Ok(())
}
