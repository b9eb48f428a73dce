//! `tandem topology`: switches, servers, and what is not as it should be.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use serde_json::json;
use tandem_api::endpoints::{HOSTS, LINKS, SERVERS, SURPRISES, SWITCHES};
use tandem_api::views::{HostView, LinkView, ServerView, SwitchView, Sync};
use tandem_model::text::escaped;

/// `tandem topology`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs) -> anyhow::Result<()> {
    let client = global.client();
    let switches = client.send(SWITCHES.request()).await?.body;
    let links = client.send(LINKS.request()).await?.body;
    let servers = client.send(SERVERS.request()).await?.body;
    let hosts = client.send(HOSTS.request()).await?.body;
    let surprises = client.send(SURPRISES.request()).await?.body;
    if global.json {
        return print_json(&json!({
            "switches": switches, "links": links, "servers": servers, "hosts": hosts, "surprises": surprises,
        }));
    }
    let rows: Vec<Vec<String>> = switches.iter().map(switch_row).collect();
    println!("{}", table(&["switch", "role", "dpid", "state", "openflow", "ports up", "rules"], &rows));
    let rows: Vec<Vec<String>> = servers.iter().map(server_row).collect();
    println!("{}", table(&["server", "address", "edge", "vms", "cpu", "ram", "network"], &rows));
    print_faults(&links, &switches);
    surprises.iter().for_each(|s| println!("{}", escaped(s)));
    print_unknown(&hosts);
    Ok(())
}

fn switch_row(s: &SwitchView) -> Vec<String> {
    let role = match s.role {
        None => "unknown".to_owned(),
        Some(_) if s.legacy => "legacy".to_owned(),
        Some(role) => role.to_string(),
    };
    let state = match (s.connected, s.sync) {
        _ if s.legacy => "-",
        (false, _) => "away",
        (true, Sync::UnderWay) => "connected, getting its rules",
        (true, Sync::Refused) => "connected, has refused rules",
        (true, Sync::Never | Sync::Done) => "connected",
    };
    let up = s.ports.iter().filter(|p| p.up).count();
    vec![
        s.name.clone(),
        role,
        s.dpid.to_string(),
        state.to_owned(),
        s.version.clone().unwrap_or_default(),
        format!("{up}/{}", s.ports.len()),
        s.rules.to_string(),
    ]
}

fn server_row(s: &ServerView) -> Vec<String> {
    vec![
        s.name.clone(),
        s.address.to_string(),
        s.edge.clone(),
        s.vms.len().to_string(),
        format!("{}/{}", s.used.cpu, s.capacity.cpu),
        format!("{} of {}", s.used.ram, s.capacity.ram),
        format!("{} of {}", s.used.net, s.capacity.net),
    ]
}

/// Links that are not usable, and ports that are off though no link says so.
fn print_faults(links: &[LinkView], switches: &[SwitchView]) {
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
}

fn print_unknown(hosts: &[HostView]) {
    for host in hosts.iter().filter(|h| h.kind == "unknown") {
        println!(
            "an unknown host, {} ({}), is at {}",
            host.address,
            host.mac,
            host.at.as_deref().unwrap_or("?")
        );
    }
}
