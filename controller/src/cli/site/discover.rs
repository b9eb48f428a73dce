//! `tandem site discover`: a site file from what the machines, the agents and discovery frames say.

use super::super::args::GlobalArgs;
use super::super::testbed::Which;
use std::path::PathBuf;
use tandem_api::Client;
use tandem_api::endpoints::{HOSTS, LINKS, SURPRISES};
use tandem_testbed::discover::{self, Cable, Facts};
use tandem_testbed::inventory::Inventory;
use tandem_testbed::ssh::{Ssh, connect_all};

/// `tandem site discover`; false when a machine could not be asked.
///
/// # Errors
/// When the inventory has faults, or the file cannot be written.
pub(super) async fn discover(
    global: &GlobalArgs,
    which: Which,
    out: Option<PathBuf>,
) -> anyhow::Result<bool> {
    let inventory = which.load()?;
    let asked = inventory.clone();
    let facts = tokio::task::spawn_blocking(move || ask(&asked)).await?;
    let client = global.client();
    let cables = match cables(&client, &inventory, &facts).await {
        Ok(cables) => cables,
        Err(error) => {
            eprintln!("tandem: no cables are known, only machines: {error:#}");
            Vec::new()
        }
    };
    let text = discover::write(&inventory, &facts, &cables);
    super::write(&text, out.as_deref())?;
    let mut good = true;
    for why in facts.iter().filter_map(|f| f.as_ref().err()) {
        eprintln!("tandem: {why}");
        good = false;
    }
    Ok(good)
}

fn ask(inventory: &Inventory) -> Vec<Result<Facts, String>> {
    let connected = connect_all(&inventory.machines);
    // The answers take a moment each: side by side, as the connections.
    let look = |ssh: &Result<Ssh, _>| match ssh {
        Ok(ssh) => discover::look(ssh).map_err(|e| e.to_string()),
        Err(error) => Err(ToString::to_string(error)),
    };
    std::thread::scope(|scope| {
        let tasks: Vec<_> = connected.iter().map(|c| scope.spawn(move || look(c))).collect();
        tasks
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err("the thread that asks has ended".into())))
            .collect()
    })
}

/// What the controller has seen: declared links that discovery confirmed, cables that are not
/// declared, and machines by the address of their NIC.
async fn cables(
    client: &Client,
    inventory: &Inventory,
    facts: &[Result<Facts, String>],
) -> anyhow::Result<Vec<Cable>> {
    let links = client.send(LINKS.request()).await?.body;
    let confirmed = links.iter().filter(|l| l.state == "confirmed").filter_map(|l| l.name.split_once("<->"));
    let mut cables: Vec<Cable> = confirmed.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let surprises = client.send(SURPRISES.request()).await?.body;
    for surprise in &surprises {
        cables.extend(plugged(surprise));
    }
    let hosts = client.send(HOSTS.request()).await?.body;
    for host in &hosts {
        let Some(at) = &host.at else { continue };
        cables.extend(port_of(&host.mac.to_string(), inventory, facts).map(|port| (at.clone(), port)));
    }
    cables.sort();
    cables.dedup_by(|a, b| a == b || (a.0 == b.1 && a.1 == b.0));
    Ok(cables)
}

/// `core1.2 is plugged into agg1.1; not declared`, as the controller words it.
fn plugged(surprise: &str) -> Option<Cable> {
    let (from, rest) = surprise.split_once(" is plugged into ")?;
    let (to, _) = rest.split_once(';')?;
    Some((from.to_owned(), to.to_owned()))
}

/// The port of the server or gateway whose NIC has that address.
fn port_of(mac: &str, inventory: &Inventory, facts: &[Result<Facts, String>]) -> Option<String> {
    for (machine, facts) in inventory.machines.iter().zip(facts) {
        let Ok(facts) = facts else { continue };
        let Some(nic) = facts.nics.iter().find(|n| n.mac.eq_ignore_ascii_case(mac)) else { continue };
        let ends = machine.servers.iter().chain(&machine.gateways);
        for (node, port) in ends.flat_map(|n| n.ports.iter().map(move |p| (n, p))) {
            if port.interface == nic.name {
                return Some(format!("{}.{}", node.name, port.number));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tandem_testbed::discover::Nic;

    #[test]
    fn cables_are_known_by_what_the_controller_says_and_by_addresses() {
        let cable = Some(("core1.2".to_owned(), "agg1.1".to_owned()));
        assert_eq!(plugged("core1.2 is plugged into agg1.1; not declared"), cable);
        assert_eq!(plugged("core1.2 is plugged into agg1.1; declared: agg1.1<->core1.2"), cable);
        assert_eq!(plugged("something else"), None);
        let text = "name = \"l\"\n[controller]\naddress = \"c\"\n[[machine]]\nname = \"a\"\naddress = \"h\"\ncontrol = \"eth0\"\n\
                    [[machine.server]]\nname = \"srv1\"\n[[machine.server.port]]\nnumber = 1\ninterface = \"eth1\"\n";
        let inventory = Inventory::read(text, "i", Path::new("/"), None).unwrap_or_else(|f| panic!("{f}"));
        let nic = |name: &str, mac: &str| Nic { name: name.into(), mac: mac.into(), ..Nic::default() };
        let nics = vec![nic("eth0", "02:00:00:00:00:01"), nic("eth1", "02:00:00:00:00:0A")];
        let facts = vec![Ok(Facts { nics, ..Facts::default() })];
        assert_eq!(port_of("02:00:00:00:00:0a", &inventory, &facts).as_deref(), Some("srv1.1"));
        assert_eq!(port_of("02:00:00:00:00:01", &inventory, &facts), None, "the control network is no port");
    }
}
