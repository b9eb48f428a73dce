//! Writes a site file for existing hardware: from the machines' NICs, read over ssh, and the links
//! that the controller has discovered.
//!
//! 1. [`look`] reads a machine: NICs with address, speed and driver, cores, memory, disk.
//! 2. [`write()`] chooses the shape whose ports and links differ least from those of the inventory
//!    and the discovered ones, and writes it with differences, links that were not discovered and
//!    unknown values as comments.
//!
//! A site file has a shape and deviations from it; it cannot describe any cabling. The rest is
//! written as comments, for an operator who decides whether the cable or the file is wrong.

use crate::inventory::{Inventory, Machine};
use crate::ssh::{Ssh, SshError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use tandem_model::text::escaped_to;
use tandem_model::{Bytes, Link, NodeId, Site, site};

/// A NIC, from /sys/class/net (Documentation/ABI/testing/sysfs-class-net).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: String,
    /// Negotiated speed in Mbit/s; `None` without a carrier, or if the driver does not report it.
    pub speed: Option<u64>,
    /// Its driver.
    pub driver: String,
    /// True with a carrier.
    pub carrier: bool,
}

/// The most cores of a server in a site file; a higher value of a machine is implausible, and
/// ignored.
const MOST_CPU: u32 = 1_000_000;

/// The hardware of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Cards; no bridges and other virtual interfaces, except those in the inventory.
    pub nics: Vec<Nic>,
    /// Processor cores.
    pub cpu: u32,
    /// Memory.
    pub ram: Bytes,
    /// Size of the file system of `/`.
    pub disk: Bytes,
}

/// A discovered link: two ports, `core1.2` and `agg1.1`.
pub type Cable = (String, String);

const LOOK: &str = r#"cd /sys/class/net || exit 1
for n in *; do
  [ "$n" = lo ] && continue
  card=no; [ -e "$n/device" ] && card=yes
  d=$(readlink "$n/device/driver" 2>/dev/null); d=${d##*/}
  echo "nic $n $card $(cat "$n/address" 2>/dev/null || echo ?) $(cat "$n/speed" 2>/dev/null || echo -1) $(cat "$n/carrier" 2>/dev/null || echo 0) ${d:-?}"
done
echo "cpu $(nproc)"
awk '$1 == "MemTotal:" { print "ram", $2 }' /proc/meminfo
df -Pk / | awk 'NR == 2 { print "disk", $2 }'"#;

/// Reads a machine.
///
/// # Errors
/// When it is not reached.
pub fn look(ssh: &Ssh) -> Result<Facts, SshError> {
    Ok(read(ssh.machine(), &ssh.run("looking at the NICs", LOOK)?))
}

fn read(machine: &Machine, text: &str) -> Facts {
    let named = |nic: &str| {
        machine.control == nic || machine.nodes().any(|n| n.ports.iter().any(|p| p.interface == nic))
    };
    let mut facts = Facts::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["nic", name, card, mac, speed, carrier, driver] if card == "yes" || named(name) => {
                facts.nics.push(Nic {
                    name: name.to_owned(),
                    mac: mac.to_owned(),
                    // Without a carrier the kernel reports -1, or all ones.
                    speed: speed.parse::<u64>().ok().filter(|s| card == "yes" && *s > 0 && *s < 1 << 31),
                    driver: driver.to_owned(),
                    carrier: carrier == "1",
                });
            }
            ["cpu", n] => facts.cpu = n.parse().ok().filter(|n| *n <= MOST_CPU).unwrap_or(0),
            ["ram", kib] => facts.ram = kibibytes(kib),
            ["disk", kib] => facts.disk = kibibytes(kib),
            _ => {}
        }
    }
    facts
}

/// A number of KiB; 0 if it is malformed.
fn kibibytes(text: &str) -> Bytes {
    Bytes(text.parse::<u64>().unwrap_or(0).saturating_mul(1024))
}

/// The `[topology]` of a candidate, and its site.
struct Candidate {
    text: String,
    site: Site,
    /// Number of the site's links whose two ends are in the inventory.
    score: usize,
}

/// Ports of the inventory: `edge1.2`.
fn ports(inventory: &Inventory) -> BTreeSet<String> {
    let nodes = inventory.machines.iter().flat_map(Machine::nodes);
    nodes.flat_map(|n| n.ports.iter().map(|p| format!("{}.{}", n.name, p.number))).collect()
}

fn ends(site: &Site, link: &Link) -> Cable {
    let end = |node: NodeId, port| format!("{}.{port}", site.topology.name(node));
    (end(link.a.node, link.a.port), end(link.b.node, link.b.port))
}

fn same(a: &Cable, b: &Cable) -> bool {
    (&a.0, &a.1) == (&b.0, &b.1) || (&a.0, &a.1) == (&b.1, &b.0)
}

/// Number of the inventory's nodes whose name has that stem, as shapes name them.
fn count(inventory: &Inventory, stem: &str) -> u32 {
    let nodes = inventory.machines.iter().flat_map(Machine::nodes);
    nodes.filter(|n| n.name.strip_prefix(stem).is_some_and(|rest| rest.parse::<u32>().is_ok())).count() as u32
}

/// The shape that differs least: in ports from the inventory, in links from the discovered ones.
fn nearest(inventory: &Inventory, cables: &[Cable]) -> Option<Candidate> {
    let (core, aggregation, edge) =
        (count(inventory, "core"), count(inventory, "agg"), count(inventory, "edge"));
    let servers: usize = inventory.machines.iter().map(|m| m.servers.len()).sum();
    let gateways = inventory.machines.iter().map(|m| m.gateways.len()).sum::<usize>().max(1);
    let edges = edge.max(1) as usize;
    let per_edge = servers.div_ceil(edges);
    let mut texts = vec![format!(
        "shape = \"linear\"\nswitches = {edges}\nservers_per_switch = {per_edge}\ngateways = {gateways}\n"
    )];
    if core > 0 {
        // Beyond four links each, no testbed differs from one with four.
        for (up, middle, down, server) in (1..=4u32).flat_map(|a| {
            (1..=4).flat_map(move |b| (1..=4).flat_map(move |c| (1..=2).map(move |d| (a, b, c, d))))
        }) {
            let above = if aggregation == 0 { core } else { aggregation };
            let links = format!("core_gateway_links = {up}\naggregation_core_links = {middle}\n");
            if up as usize > gateways || middle > core || down > above || server as usize > edges {
                continue;
            }
            texts.push(format!(
                "shape = \"three-tier\"\ngateways = {gateways}\ncore = {core}\naggregation = {aggregation}\nedge = {edges}\n\
                 servers_per_edge = {per_edge}\n{links}edge_aggregation_links = {down}\nserver_uplinks = {server}\n"
            ));
        }
    }
    let wanted = ports(inventory);
    let mut best: Option<Candidate> = None;
    for text in texts {
        let whole = format!("name = \"{}\"\n[topology]\n{text}", short(&inventory.name));
        let Ok(site) = site::read(&whole, "candidate") else { continue };
        let links: Vec<Cable> = site.topology.links.iter().map(|l| ends(&site, l)).collect();
        let has: BTreeSet<String> = links.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let misfits = cables.iter().filter(|c| !links.iter().any(|l| same(l, c))).count();
        // A discovered link has more weight than a port in the inventory.
        let score = wanted.symmetric_difference(&has).count() + 4 * misfits;
        if best.as_ref().is_none_or(|b| score < b.score) {
            best = Some(Candidate { text, site, score });
        }
    }
    best
}

fn short(name: &str) -> &str {
    name.get(..32).unwrap_or(name)
}

/// Writes the site file. `facts` are in the inventory's order.
pub fn write(inventory: &Inventory, facts: &[Result<Facts, String>], cables: &[Cable]) -> String {
    let mut out = format!(
        "# What was found of the testbed {}. Lines with FILL IN are what could not be known.\n",
        inventory.name
    );
    machines(&mut out, inventory, facts);
    let _ = writeln!(out, "\nname = \"{}\"\n\n[topology]", short(&inventory.name));
    let Some(best) = nearest(inventory, cables) else {
        out.push_str("# FILL IN: no shape can be made of the inventory's names (core1, agg1, edge1, srv1, gw1 ...).\nshape = \"linear\"\n");
        return out;
    };
    out.push_str(&best.text);
    let links: Vec<Cable> = best.site.topology.links.iter().map(|l| ends(&best.site, l)).collect();
    deviations(&mut out, inventory, &best.site, &links, cables);
    let speeds = speeds(inventory, facts);
    rates(&mut out, &best.site, &links, &speeds);
    servers(&mut out, inventory, facts);
    out
}

fn machines(out: &mut String, inventory: &Inventory, facts: &[Result<Facts, String>]) {
    for (machine, found) in inventory.machines.iter().zip(facts) {
        let _ = writeln!(out, "#\n# {} ({})", machine.name, machine.address);
        let facts = match found {
            Ok(facts) => facts,
            Err(why) => {
                let why = why.replace('\n', " ");
                let _ = writeln!(out, "#   FILL IN: not asked: {}", escaped_to(&why, 1000));
                continue;
            }
        };
        let used: BTreeMap<&str, String> = (machine.nodes())
            .flat_map(|n| n.ports.iter().map(|p| (p.interface.as_str(), format!("{}.{}", n.name, p.number))))
            .collect();
        for nic in &facts.nics {
            let role = match used.get(nic.name.as_str()) {
                Some(port) => port.clone(),
                None if nic.name == machine.control => "control".to_owned(),
                None => "free".to_owned(),
            };
            let speed = match (nic.speed, nic.carrier) {
                (Some(speed), _) => format!("{speed} Mbit/s"),
                (None, true) => "speed not told".to_owned(),
                (None, false) => "no carrier".to_owned(),
            };
            let [name, mac, driver] =
                [&nic.name, &nic.mac, &nic.driver].map(|text| escaped_to(text, 64).to_string());
            let _ = writeln!(out, "#   {name:<15} {mac} {speed:<14} {driver:<10} {role}");
        }
        for (nic, port) in used.iter().filter(|(nic, _)| !facts.nics.iter().any(|n| n.name == **nic)) {
            let _ = writeln!(out, "#   {nic:<15} FILL IN: {port} has no such NIC; correct the inventory");
        }
    }
}

fn deviations(out: &mut String, inventory: &Inventory, site: &Site, links: &[Cable], cables: &[Cable]) {
    let wanted = ports(inventory);
    let has: BTreeSet<&String> = links.iter().flat_map(|(a, b)| [a, b]).collect();
    let mut line = |text: String| {
        let _ = writeln!(out, "# {text}");
    };
    line(format!(
        "cables as this shape has them ({} of {} were seen):",
        links.iter().filter(|l| cables.iter().any(|c| same(c, l))).count(),
        links.len()
    ));
    for link in links {
        let seen = cables.iter().any(|c| same(c, link));
        let missing: Vec<&str> =
            [&link.0, &link.1].into_iter().filter(|e| !wanted.contains(*e)).map(String::as_str).collect();
        let state = match (seen, missing.is_empty()) {
            (true, _) => "seen".to_owned(),
            (false, true) => "not seen".to_owned(),
            (false, false) => {
                format!("not seen; FILL IN: the inventory has no NIC for {}", missing.join(", "))
            }
        };
        line(format!("  {} - {}: {state}", link.0, link.1));
    }
    for cable in cables.iter().filter(|c| !links.iter().any(|l| same(l, c))) {
        line(format!(
            "DIFFERS: {} is plugged into {}; no shape near this one has that cable",
            escaped_to(&cable.0, 64),
            escaped_to(&cable.1, 64)
        ));
    }
    for port in wanted.iter().filter(|p| !has.contains(p)) {
        line(format!("DIFFERS: the inventory has {port}, this shape has not"));
    }
    for name in inventory.missing(site) {
        line(format!("FILL IN: no machine of the inventory is {name}"));
    }
}

/// Negotiated speeds by port, Mbit/s.
fn speeds(inventory: &Inventory, facts: &[Result<Facts, String>]) -> BTreeMap<String, u64> {
    let mut speeds = BTreeMap::new();
    for (machine, facts) in inventory.machines.iter().zip(facts) {
        let Ok(facts) = facts else { continue };
        for (node, port) in machine.nodes().flat_map(|n| n.ports.iter().map(move |p| (n, p))) {
            if let Some(speed) = facts.nics.iter().find(|n| n.name == port.interface).and_then(|n| n.speed) {
                speeds.insert(format!("{}.{}", node.name, port.number), speed);
            }
        }
    }
    speeds
}

/// The level of a link in `[bandwidth]`.
fn level(site: &Site, link: &Link) -> &'static str {
    let role = |node| match node {
        NodeId::Switch(id) => site.topology.switch(id).map(|s| s.role),
        _ => None,
    };
    use tandem_model::Role;
    match (link.a.node, link.b.node) {
        (NodeId::Gateway(_), _) => "gateway",
        (_, NodeId::Server(_)) => "edge",
        (upper, _) if role(upper) == Some(Role::Core) => "core",
        _ => "aggregation",
    }
}

/// `[bandwidth]` has the slowest link of each level, `[[link]]` the faster ones; links with
/// different ends are comments.
fn rates(out: &mut String, site: &Site, links: &[Cable], speeds: &BTreeMap<String, u64>) {
    let mut slowest: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    let mut each = Vec::new();
    let mut remarks = String::new();
    for (link, cable) in site.topology.links.iter().zip(links) {
        let (a, b) = (speeds.get(&cable.0).copied(), speeds.get(&cable.1).copied());
        let rate = match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            let _ = writeln!(
                remarks,
                "# DIFFERS: {} has negotiated {a} Mbit/s, {} {b}: they are not the two ends of one cable, or one lies",
                cable.0, cable.1
            );
        }
        let level = level(site, link);
        let entry = slowest.entry(level).or_insert(None);
        *entry = match (*entry, rate) {
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        };
        each.push((link, level, rate));
    }
    out.push_str("\n[bandwidth]\n");
    for level in ["gateway", "core", "aggregation", "edge"] {
        match slowest.get(level) {
            Some(Some(rate)) => {
                let _ = writeln!(out, "{level} = \"{rate} Mbit/s\"");
            }
            Some(None) => {
                let _ = writeln!(
                    out,
                    "{level} = \"1000 Mbit/s\"         # FILL IN: no NIC of this level told its speed"
                );
            }
            None => {}
        }
    }
    out.push_str(&remarks);
    let mut told = BTreeSet::new();
    for (link, level, rate) in each {
        let (a, b) = (site.topology.name(link.a.node), site.topology.name(link.b.node));
        if let (Some(rate), Some(Some(slow))) = (rate, slowest.get(level))
            && rate != *slow
            && told.insert((a, b))
        {
            let _ = writeln!(out, "\n[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrate = \"{rate} Mbit/s\"");
        }
    }
}

fn servers(out: &mut String, inventory: &Inventory, facts: &[Result<Facts, String>]) {
    for (machine, facts) in inventory.machines.iter().zip(facts) {
        // Several servers on one machine share its hardware.
        let share = machine.servers.len().max(1) as u64;
        for server in &machine.servers {
            let _ = writeln!(out, "\n[[server]]\nname = \"{}\"", server.name);
            match facts {
                Ok(f) => {
                    let _ = writeln!(
                        out,
                        "cpu = {}\nram = \"{} MiB\"         # all of it: leave some to the hypervisor\ndisk = \"{} GiB\"",
                        u64::from(f.cpu) / share,
                        (f.ram.0 >> 20) / share,
                        (f.disk.0 >> 30) / share
                    );
                }
                Err(_) => out.push_str("# FILL IN: cpu, ram, disk\n"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
