//! A testbed of four machines: a small three-tier data centre, cabled, each machine with Open
//! vSwitch and sshd and nothing of Tandem yet. `scripts/deploy` and `--world testbed` find in the
//! run's folder what they ask for: `inventory.toml` and `site.toml`.
//!
//! ```text
//!   m4            m2                  m1             m3
//!   gw1 eth1 --- eth3 core1
//!                eth4 core1 ---+
//!                eth1 agg1  ---+
//!                eth2 agg1  ------ eth1 edge1
//!                                  eth2 edge1 ---- eth1 srv1
//!                                  eth3 edge1 ---- eth2 srv2
//! ```

use super::cabling::Cabling;
use super::machine::{HOST, Machine, Spec};
use super::run::Run;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// MiB of each machine.
const MEMORY: u32 = 512;

/// What a machine holds: the kind of node (as the inventory calls it), its name, and its ports as
/// (number, index of the data card).
type Node = (&'static str, &'static str, &'static [(u32, usize)]);

/// Port numbers are those that the site's shape gives.
const MACHINES: [(&str, &[Node]); 4] = [
    ("m1", &[("switch", "edge1", &[(1, 1), (2, 2), (3, 3)])]),
    ("m2", &[("switch", "agg1", &[(1, 1), (2, 2)]), ("switch", "core1", &[(1, 3), (2, 4)])]),
    ("m3", &[("server", "srv1", &[(1, 1)]), ("server", "srv2", &[(1, 2)])]),
    ("m4", &[("gateway", "gw1", &[(1, 1)])]),
];

/// By (index of the machine, index of the data card).
const CABLES: [[(usize, usize); 2]; 5] =
    [[(3, 1), (1, 3)], [(1, 4), (1, 1)], [(1, 2), (0, 1)], [(0, 2), (2, 1)], [(0, 3), (2, 2)]];

const SITE: &str = r#"# The virtual testbed; inventory.toml says which machine holds what.
name = "virtual"

[topology]
shape = "three-tier"
core = 1
aggregation = 1
edge = 1
servers_per_edge = 2

[bandwidth]
gateway = "1 Gbit/s"
core = "1 Gbit/s"
aggregation = "10 Mbit/s"       # the bottleneck
edge = "1 Gbit/s"

[traffic]
enabled = false

[policy]
allocation = "worst-fit"

[statistics]
period = "500 ms"
history_weight = 0.0

[[class]]
name = "gold"
share = 70
dscp = 46

[[class]]
name = "silver"
share = 30
dscp = 10
"#;

/// A testbed that runs; its machines end with it.
#[derive(Debug)]
pub struct Testbed {
    /// m1 to m4.
    pub machines: Vec<Machine>,
}

impl Testbed {
    /// Looks whether all machines run still.
    ///
    /// # Errors
    /// With the one that does not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.machines.iter_mut().try_for_each(Machine::check)
    }
}

/// Boots it and writes the inventory and the site file.
///
/// # Errors
/// When a machine does not come up; none is then left.
pub fn start(run: &Run) -> anyhow::Result<Testbed> {
    let begin = Instant::now();
    let cabling = Cabling::new(&CABLES)?;
    let mut machines = Vec::new();
    for (index, (name, _)) in MACHINES.iter().enumerate() {
        let cards = cabling.cards(index);
        let spec = Spec { name: (*name).into(), index, memory: MEMORY, cpus: 1, reaches_host: true, cards };
        machines.push(Machine::start(run, spec)?);
    }
    for machine in &mut machines {
        machine.wait_ready()?;
        eprintln!("{} is up after {:.0} s", machine.spec.name, begin.elapsed().as_secs_f64());
    }
    let ports: Vec<u16> = machines.iter().map(|m| m.port).collect();
    std::fs::write(run.folder.join("inventory.toml"), inventory(&run.folder, &ports))?;
    std::fs::write(run.folder.join("site.toml"), SITE)?;
    Ok(Testbed { machines })
}

fn inventory(folder: &Path, ssh_ports: &[u16]) -> String {
    let mut out = format!(
        "# Written by `tandem-vm testbed`, for as long as it runs.\nname = \"virtual\"\n\n[controller]\naddress = {HOST:?}\nlisten = \"127.0.0.1\"\n\n\
         [ssh]\nuser = \"root\"\nkey = {:?}\nknown_hosts = \"known_hosts\"\n",
        folder.join("key").display().to_string()
    );
    for ((name, nodes), port) in MACHINES.iter().zip(ssh_ports) {
        let _ = write!(
            out,
            "\n[[machine]]\nname = {name:?}\naddress = \"127.0.0.1\"\nservice = \"systemd\"\ncontrol = \"eth0\"\n\
             [machine.ssh]\nport = {port}\n"
        );
        for (kind, name, ports) in *nodes {
            let _ = write!(out, "[[machine.{kind}]]\nname = {name:?}\n");
            if *kind == "switch" {
                out.push_str("datapath = \"ovs\"\n");
            }
            for (number, card) in *ports {
                let _ =
                    write!(out, "[[machine.{kind}.port]]\nnumber = {number}\ninterface = \"eth{card}\"\n");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tandem_model::{NodeId, site};

    #[test]
    fn the_cables_are_the_links_of_the_site() {
        let site = site::read(SITE, "the testbed's site").expect("a sound site");
        let t = &site.topology;
        let mut at = BTreeMap::new();
        for (machine, (_, nodes)) in MACHINES.iter().enumerate() {
            for (_, node, ports) in *nodes {
                for (number, card) in *ports {
                    at.insert((machine, *card), format!("{node}.{number}"));
                }
            }
        }
        let pair = |mut ends: [String; 2]| {
            ends.sort();
            ends
        };
        let mut cables: Vec<[String; 2]> =
            CABLES.iter().map(|ends| pair(ends.map(|e| at[&e].clone()))).collect();
        let name = |node: NodeId, port| format!("{}.{port}", t.name(node));
        let link = |l: &tandem_model::Link| pair([name(l.a.node, l.a.port), name(l.b.node, l.b.port)]);
        let mut links: Vec<[String; 2]> = t.links.iter().map(link).collect();
        cables.sort();
        links.sort();
        assert_eq!(cables, links);
        assert_eq!(at.len(), 2 * CABLES.len(), "a card without a cable");
    }
}
