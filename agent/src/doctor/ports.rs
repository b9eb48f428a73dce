//! Checks of the interfaces that agent.toml names as ports.

use super::Findings;
use crate::config::{Config, SwitchConfig};
use crate::datapath::registry::entry;
use crate::datapath::{Adopt, occupied, ovs};
use crate::desired::CLASSES;
use crate::{nic, queues};
use std::collections::BTreeMap;
use tandem_linux::ethtool::Ethtool;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovsdb::ActualBridge;
use tandem_linux::{link, tc};

/// Checks each port of agent.toml: whether its interface exists, is free and up, and who configures
/// its queueing.
pub(super) fn inspect(config: &Config, findings: &mut Findings) {
    let bridges = ovs::bridges(config);
    let ours = crate::datapath::queueing_in_record(&config.state);
    let mut netlink = Netlink::open().ok();
    let interfaces = netlink.as_mut().and_then(|n| link::list(n).ok()).unwrap_or_default();
    let roots = netlink.as_mut().and_then(|n| tc::roots(n).ok()).unwrap_or_default();
    for switch in &config.switches {
        let userspace = entry(switch.datapath).is_some_and(|e| (e.reads_in_user_space)(config));
        for port in &switch.ports {
            let what = format!("{} port {} ({})", switch.name, port.number, port.interface);
            let Some(interface) = interfaces.iter().find(|i| i.name == port.interface) else {
                let names = interfaces.iter().map(|i| i.name.as_str()).filter(|n| *n != "lo");
                let there = names.collect::<Vec<_>>().join(", ");
                let found = format!(
                    "there is no such interface; there are {there}. Correct agent.toml, or look whether the card is in"
                );
                findings.add(Some(false), &what, found);
                continue;
            };
            interface_found(&what, interface, userspace, findings);
            if let Some(found) = place_found(config, switch, &what, interface, &interfaces, &bridges) {
                findings.add(Some(false), &format!("{what} place"), found);
            }
            if port.queueing {
                let qos = bridges.iter().find_map(|b| Some((b, qos_of(b, &port.interface)?)));
                let ours = ours.as_ref().map(|o| o.contains(&port.interface));
                queues_found(&what, interface, &roots, qos, ours, netlink.as_mut(), findings);
            }
        }
    }
}

/// The queueing of an interface's port in Open vSwitch's database.
fn qos_of<'b>(bridge: &'b ActualBridge, interface: &str) -> Option<&'b str> {
    let port = bridge.ports.iter().find(|p| p.interfaces.iter().any(|i| i == interface))?;
    port.qos.as_deref()
}

/// Checks whether an interface is free.
fn place_found(
    config: &Config,
    switch: &SwitchConfig,
    what: &str,
    interface: &link::Interface,
    all: &[link::Interface],
    bridges: &[ActualBridge],
) -> Option<String> {
    let name = &interface.name;
    let is_bridge = entry(switch.datapath).is_some_and(|e| e.makes_bridges);
    for bridge in bridges {
        let Some(port) = bridge.ports.iter().find(|p| p.interfaces.iter().any(|i| i == name)) else {
            continue;
        };
        let by = match bridge.owner.as_deref() {
            Some(owner) if owner == config.name => "this agent has made or taken over",
            Some(owner) => &format!("agent {owner} has made or taken over"),
            None => "somebody else has made",
        };
        if port.interfaces.len() > 1 {
            let bond = &port.name;
            return Some(format!(
                "{name} is part of the bond {bond} in bridge {}, which {by}; name an interface that is free, or take it out of the bond \
                 (ovs-vsctl del-bond-iface {bond} {name})",
                bridge.name
            ));
        }
        let is_its = bridge.owner.as_deref() == Some(config.name.as_str());
        if bridge.name == switch.name && is_bridge {
            return (!is_its && bridge.owner.is_none() && config.ovs.may_adopt() == Adopt::No).then(|| {
                format!(
                    "{name} is a port of bridge {}, which {by}: {what} is refused as long as that may not be taken over (adopt = true under \
                     [ovs] in agent.toml)",
                    bridge.name
                )
            });
        }
        return (!is_its || !is_bridge).then(|| {
            format!(
                "{name} is a port of bridge {}, which {by}; take it out there first (ovs-vsctl del-port {} {name}), or name another \
                 interface",
                bridge.name, bridge.name
            )
        });
    }
    let is_datapath = |m: u32| all.iter().any(|i| i.index == m && i.kind.as_deref() == Some("openvswitch"));
    if interface.master.is_some_and(is_datapath) && is_bridge {
        return None;
    }
    occupied::place(interface, all)
}

/// Checks who configures a port's queueing, and how many classes are free. `ours`: whether it is in
/// the agent's record; absent when that is damaged.
fn queues_found(
    what: &str,
    interface: &link::Interface,
    roots: &BTreeMap<u32, tc::Root>,
    qos: Option<(&ActualBridge, &str)>,
    ours: Option<bool>,
    netlink: Option<&mut Netlink>,
    findings: &mut Findings,
) {
    let name = &interface.name;
    let what = format!("{what} queues");
    let Some(ours) = ours else {
        return findings.add(
            Some(false),
            &what,
            "the agent's record of the settings to restore is damaged; `tandem-agent release` shows why"
                .into(),
        );
    };
    if let Some((bridge, kind)) = qos.filter(|(_, kind)| !kind.is_empty() && *kind != "linux-noop") {
        return findings.add(
            None,
            &what,
            format!(
                "{kind} of Open vSwitch (Port.qos of {name} in bridge {}), which somebody else has set; where the agent may take the bridge \
                 over it is replaced, and given back by `tandem-agent release`",
                bridge.name
            ),
        );
    }
    let Some(root) = roots.get(&interface.index) else {
        return findings.add(Some(true), &what, format!("the kernel's own; {CLASSES} classes are free"));
    };
    let (tree, is_bare) = match netlink {
        Some(netlink) => {
            let tree = tc::read(netlink, interface.index).ok().flatten();
            (tree, tc::is_bare(netlink, interface.index, root).unwrap_or(false))
        }
        None => (None, false),
    };
    match tree.filter(|_| root.kind == "htb" && ours) {
        Some(tree) => {
            let used = tree.classes.iter().filter(|c| c.id != queues::INNER).count();
            let free = CLASSES.saturating_sub(used);
            findings.add(Some(true), &what, format!("HTB of this agent; {used} classes in use, {free} free"));
        }
        None if !is_bare => findings.add(
            Some(false),
            &what,
            format!(
                "{} {:x}: of somebody else, which this agent has not made; it leaves such a port alone. `tc qdisc del dev {name} root`, or \
                 queueing = false in agent.toml",
                root.kind, root.major
            ),
        ),
        None => findings.add(
            None,
            &what,
            format!(
                "{} {:x}: of somebody else; it is replaced, and given back by `tandem-agent release`",
                root.kind, root.major
            ),
        ),
    }
}

fn interface_found(what: &str, interface: &link::Interface, userspace: bool, findings: &mut Findings) {
    let name = &interface.name;
    let mut ethtool = match Ethtool::open() {
        Ok(ethtool) => ethtool,
        Err(error) => return findings.add(None, what, format!("not looked at: {error}")),
    };
    if userspace {
        offloads_found(what, name, &mut ethtool, findings);
    }
    if !interface.running {
        return findings.add(
            Some(false),
            what,
            format!(
                "no carrier: is its cable plugged in at both ends, is the other end up? (`ip link set {name} up`)"
            ),
        );
    }
    let mut found = "up".to_owned();
    let mut good = true;
    let nic = nic::inspect(&mut ethtool, name);
    if let Some(speed) = nic.speed {
        found.push_str(&format!(", {} Mbit/s", speed / 1_000_000));
    }
    if nic.half_duplex {
        good = false;
        found.push_str(&format!(
            ", HALF duplex: it cannot send and receive at once; `ethtool -s {name} autoneg on`, at both ends"
        ));
    }
    if nic.by_hand {
        found.push_str(", set by hand: the other end must be set alike, or it takes half duplex");
    }
    if let Some(driver) = nic.driver {
        found.push_str(&format!(", driver {driver}"));
    }
    if let Some(bus) = nic.bus {
        found.push_str(&format!(" at {bus}"));
    }
    findings.add(Some(good), what, found);
}

/// Checks the card's offloads: merged received packets are longer than the buffers of a userspace
/// switch, and are dropped.
fn offloads_found(what: &str, name: &str, ethtool: &mut Ethtool, findings: &mut Findings) {
    const MERGING: [(&str, &str); 3] = [("rx-gro", "gro"), ("rx-lro", "lro"), ("rx-gro-hw", "rx-gro-hw")];
    let what = format!("{what} offloads");
    let features = match ethtool.features(name) {
        Ok(features) => features,
        Err(error) => return findings.add(None, &what, error.to_string()),
    };
    let is_on = |feature: &str| features.iter().any(|f| f.name == feature && f.active);
    let on: Vec<&str> = MERGING.iter().filter(|(f, _)| is_on(f)).map(|(_, short)| *short).collect();
    if on.is_empty() {
        return findings.add(Some(true), &what, "received packets come one by one".into());
    }
    let off: Vec<String> = on.iter().map(|short| format!("{short} off")).collect();
    findings.add(
        Some(false),
        &what,
        format!(
            "received packets are put together, and what is longer than the MTU is lost in a switch in user space: `ethtool -K {name} {}`",
            off.join(" ")
        ),
    );
}
