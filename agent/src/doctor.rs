//! `tandem-agent doctor`: looks, changes nothing, and names for each fault the cable or command that mends it.

use crate::config::{Address, Config, DatapathChoice, Kind, SwitchConfig};
use crate::datapath::{Adopt, elsewhere};
use crate::desired::CLASSES;
use crate::{nic, queues};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;
use tandem_linux::ethtool::Ethtool;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Datapath as OvsPath;
use tandem_linux::ovsdb::{ActualBridge, Ovsdb};
use tandem_linux::{link, probe, tc};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it is as it should be; `None` for what is only told.
    pub good: Option<bool>,
    /// What.
    pub what: String,
    /// What was found, and how a fault is mended.
    pub found: String,
}

/// Looks at everything; without a configuration, at what any host has.
pub fn look(config: Option<&Config>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |good: Option<bool>, what: &str, found: String| {
        findings.push(Finding { good, what: what.to_owned(), found });
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    say(None, "kernel", kernel.trim().to_owned());
    // Without a configuration, or without switches in it, it may become either.
    let has = |kind: Kind| config.is_some_and(|c| c.switches.iter().any(|s| s.datapath == kind));
    let ovs = !has(Kind::Soft) || has(Kind::Ovs);
    match OvsPath::probe() {
        _ if !ovs => say(None, "datapath", "the agent's own (soft); rules choose queues".into()),
        OvsPath::Kernel => say(Some(true), "datapath", "the kernel's (openvswitch.ko is loaded); rules choose queues".into()),
        OvsPath::Userspace => say(
            None,
            "datapath",
            "vswitchd's own: openvswitch.ko is not loaded (`modprobe openvswitch`; package linux-image). Classes are chosen by DSCP filters".into(),
        ),
    }
    say_right("CAP_NET_ADMIN", CAP_NET_ADMIN, &mut say);
    if has(Kind::Soft) {
        say_right("CAP_NET_RAW", CAP_NET_RAW, &mut say);
    }
    queueing(&mut say);
    boards(Path::new("/sys/bus/pci/devices"), &mut say);
    let Some(config) = config else { return findings };
    let mut bridges = Vec::new();
    if ovs {
        bridges = database(config, &mut say);
    } else if let Ok(found) = Ovsdb::connect(&config.ovs.database).and_then(|mut d| d.read_bridges()) {
        bridges = found;
    }
    let ours = crate::datapath::queueing_in_record(&config.state);
    let userspace = match config.ovs.datapath {
        DatapathChoice::Auto => OvsPath::probe() == OvsPath::Userspace,
        DatapathChoice::Kernel => false,
        DatapathChoice::Userspace => true,
    };
    let mut netlink = Netlink::open().ok();
    let interfaces = netlink.as_mut().and_then(|n| link::list(n).ok()).unwrap_or_default();
    let roots = netlink.as_mut().and_then(|n| tc::roots(n).ok()).unwrap_or_default();
    for switch in &config.switches {
        for port in &switch.ports {
            let what = format!("{} port {} ({})", switch.name, port.number, port.interface);
            match interfaces.iter().find(|i| i.name == port.interface) {
                None => {
                    let there: Vec<&str> =
                        interfaces.iter().map(|i| i.name.as_str()).filter(|n| *n != "lo").collect();
                    say(
                        Some(false),
                        &what,
                        format!(
                            "there is no such interface; there are {}. Correct agent.toml, or look whether the card is in",
                            there.join(", ")
                        ),
                    );
                }
                Some(interface) => {
                    let userspace = userspace || switch.datapath == Kind::Soft;
                    interface_found(&what, interface, userspace, &mut say);
                    let at = place_found(config, switch, &what, interface, &interfaces, &bridges);
                    at.into_iter().for_each(|found| say(Some(false), &format!("{what} place"), found));
                    if port.queueing {
                        let qos = bridges.iter().find_map(|b| Some((b, qos_of(b, &port.interface)?)));
                        let ours = ours.as_ref().map(|o| o.contains(&port.interface));
                        queues_found(&what, interface, &roots, qos, ours, netlink.as_mut(), &mut say);
                    }
                }
            }
        }
    }
    control(config, &mut say);
    findings
}

// linux/capability.h.
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_NET_RAW: u64 = 1 << 13;

fn say_right(what: &str, right: u64, say: &mut impl FnMut(Option<bool>, &str, String)) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
    let has = effective.and_then(|e| u64::from_str_radix(e, 16).ok()).is_some_and(|e| e & right != 0);
    let found =
        if has { "there".to_owned() } else { "missing: run it as root, or by the systemd unit".to_owned() };
    say(Some(has), what, found);
}

fn queueing(say: &mut impl FnMut(Option<bool>, &str, String)) {
    let found = match probe::queueing() {
        Ok(found) => found,
        Err(error) => return say(None, "traffic control", format!("not looked at: {error}")),
    };
    let parts = [
        (found.htb, "HTB", "sch_htb", "without it no rate and no class can be kept", true),
        (found.u32, "u32 filters", "cls_u32", "cls_bpf does it, too", !found.bpf),
        (found.bpf, "cls_bpf filters", "cls_bpf", "u32 does it, too", false),
        (found.netem, "netem", "sch_netem", "only for imitated delay and loss", false),
    ];
    for (there, what, module, without, needed) in parts {
        let text = if there {
            "there".to_owned()
        } else {
            format!("missing (`modprobe {module}`, or a kernel that has it); {without}")
        };
        say(if there { Some(true) } else { needed.then_some(false) }, what, text);
    }
}

/// A NetFPGA by its PCI id; what its bitfile can do is for `tandem-fpga` to say.
fn boards(folder: &Path, say: &mut impl FnMut(Option<bool>, &str, String)) {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let devices = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for device in devices {
        let id = (read(device.path().join("vendor")), read(device.path().join("device")));
        if id == ("0xfeed".to_owned(), "0x0001".to_owned()) {
            let at = device.file_name().to_string_lossy().into_owned();
            let driver = std::fs::read_link(device.path().join("driver")).ok();
            let driver =
                driver.as_ref().and_then(|d| d.file_name()).map(|d| d.to_string_lossy().into_owned());
            let driver = driver.map_or("no driver".to_owned(), |d| format!("driver {d}"));
            say(None, "NetFPGA", format!("a card is at {at} ({driver})"));
        }
    }
}

/// The queueing that Open vSwitch's database says for an interface's port.
fn qos_of<'b>(bridge: &'b ActualBridge, interface: &str) -> Option<&'b str> {
    let port = bridge.ports.iter().find(|p| p.interfaces.iter().any(|i| i == interface))?;
    port.qos.as_deref()
}

/// Where an interface is that is not free.
fn place_found(
    config: &Config,
    switch: &SwitchConfig,
    what: &str,
    interface: &link::Interface,
    all: &[link::Interface],
    bridges: &[ActualBridge],
) -> Option<String> {
    let name = &interface.name;
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
        if bridge.name == switch.name && switch.datapath == Kind::Ovs {
            return (!is_its && bridge.owner.is_none() && config.ovs.may_adopt() == Adopt::No).then(|| {
                format!(
                    "{name} is a port of bridge {}, which {by}: {what} is refused as long as that may not be taken over (adopt = true under \
                     [ovs] in agent.toml)",
                    bridge.name
                )
            });
        }
        return (!is_its || switch.datapath != Kind::Ovs).then(|| {
            format!(
                "{name} is a port of bridge {}, which {by}; take it out there first (ovs-vsctl del-port {} {name}), or name another \
                 interface",
                bridge.name, bridge.name
            )
        });
    }
    let is_datapath = |m: u32| all.iter().any(|i| i.index == m && i.kind.as_deref() == Some("openvswitch"));
    if interface.master.is_some_and(is_datapath) && switch.datapath == Kind::Ovs {
        return None;
    }
    elsewhere::place(interface, all)
}

/// Whose queueing a port has, and how many classes are free. `ours`: whether the agent's record has it; absent when that is damaged.
fn queues_found(
    what: &str,
    interface: &link::Interface,
    roots: &BTreeMap<u32, tc::Root>,
    qos: Option<(&ActualBridge, &str)>,
    ours: Option<bool>,
    netlink: Option<&mut Netlink>,
    say: &mut impl FnMut(Option<bool>, &str, String),
) {
    let name = &interface.name;
    let what = format!("{what} queues");
    let Some(ours) = ours else {
        return say(
            Some(false),
            &what,
            "the agent's record of what it has to give back is damaged; `tandem-agent release` says more"
                .into(),
        );
    };
    if let Some((bridge, kind)) = qos.filter(|(_, kind)| !kind.is_empty() && *kind != "linux-noop") {
        return say(
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
        return say(Some(true), &what, format!("the kernel's own; {CLASSES} classes are free"));
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
            say(Some(true), &what, format!("HTB of this agent; {used} classes in use, {free} free"));
        }
        None if !is_bare => say(
            Some(false),
            &what,
            format!(
                "{} {:x}: of somebody else, which this agent has not made; it leaves such a port alone. `tc qdisc del dev {name} root`, or \
                 queueing = false in agent.toml",
                root.kind, root.major
            ),
        ),
        None => say(
            None,
            &what,
            format!(
                "{} {:x}: of somebody else; it is replaced, and given back by `tandem-agent release`",
                root.kind, root.major
            ),
        ),
    }
}

fn database(config: &Config, say: &mut impl FnMut(Option<bool>, &str, String)) -> Vec<ActualBridge> {
    let mut all = Vec::new();
    let what = format!("OVS database ({})", config.ovs.database.display());
    match Ovsdb::connect(&config.ovs.database).map_err(|e| e.to_string()).and_then(|mut d| {
        Ok((d.about().map_err(|e| e.to_string())?, d.read_bridges().map_err(|e| e.to_string())?))
    }) {
        Ok((about, bridges)) => {
            let version = about.version.unwrap_or_else(|| "of unknown version".into());
            say(None, "Open vSwitch", format!("{version}; datapaths: {}", about.datapath_types.join(", ")));
            let names: Vec<String> = bridges
                .iter()
                .map(|b| match b.owner.as_deref() {
                    Some(owner) if owner == config.name => b.name.clone(),
                    Some(owner) => format!("{} (agent {owner}'s)", b.name),
                    None => format!("{} (somebody else's)", b.name),
                })
                .collect();
            all = bridges;
            let found = if names.is_empty() {
                "answers; no bridges yet".to_owned()
            } else {
                format!("answers; bridges: {}", names.join(", "))
            };
            say(Some(true), &what, found);
        }
        Err(why) => say(
            Some(false),
            &what,
            format!("{why}. `apt-get install openvswitch-switch`, `systemctl start openvswitch-switch`"),
        ),
    }
    let pid = std::fs::read_to_string(&config.ovs.pid_file).ok().and_then(|t| t.trim().parse::<u32>().ok());
    let runs = pid.is_some_and(|p| Path::new(&format!("/proc/{p}")).exists());
    let found = match pid {
        Some(pid) if runs => format!("runs as process {pid}"),
        _ => format!(
            "does not run ({} names no process): `systemctl start openvswitch-switch`",
            config.ovs.pid_file.display()
        ),
    };
    say(Some(runs), "ovs-vswitchd", found);
    all
}

fn interface_found(
    what: &str,
    interface: &link::Interface,
    userspace: bool,
    say: &mut impl FnMut(Option<bool>, &str, String),
) {
    let name = &interface.name;
    let mut ethtool = match Ethtool::open() {
        Ok(ethtool) => ethtool,
        Err(error) => return say(None, what, format!("not looked at: {error}")),
    };
    if userspace {
        offloads_found(what, name, &mut ethtool, say);
    }
    if !interface.running {
        return say(
            Some(false),
            what,
            format!(
                "no carrier: is its cable plugged in at both ends, is the other end up? (`ip link set {name} up`)"
            ),
        );
    }
    let mut found = "up".to_owned();
    let mut good = true;
    let nic = nic::look(&mut ethtool, name);
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
    say(Some(good), what, found);
}

/// What a card does by itself to packets that a userspace switch then gets: several received ones put together are longer than its
/// buffers, and are lost.
fn offloads_found(
    what: &str,
    name: &str,
    ethtool: &mut Ethtool,
    say: &mut impl FnMut(Option<bool>, &str, String),
) {
    const MERGING: [(&str, &str); 3] = [("rx-gro", "gro"), ("rx-lro", "lro"), ("rx-gro-hw", "rx-gro-hw")];
    let what = format!("{what} offloads");
    let features = match ethtool.features(name) {
        Ok(features) => features,
        Err(error) => return say(None, &what, error.to_string()),
    };
    let is_on = |feature: &str| features.iter().any(|f| f.name == feature && f.active);
    let on: Vec<&str> = MERGING.iter().filter(|(f, _)| is_on(f)).map(|(_, short)| *short).collect();
    if on.is_empty() {
        return say(Some(true), &what, "received packets come one by one".into());
    }
    let off: Vec<String> = on.iter().map(|short| format!("{short} off")).collect();
    say(
        Some(false),
        &what,
        format!(
            "received packets are put together, and what is longer than the MTU is lost in a switch in user space: `ethtool -K {name} {}`",
            off.join(" ")
        ),
    );
}

fn control(config: &Config, say: &mut impl FnMut(Option<bool>, &str, String)) {
    let what = format!("controller ({})", config.controller);
    let reached = match &config.controller {
        Address::Unix(path) => std::os::unix::net::UnixStream::connect(path).map(drop),
        Address::Tcp(address) => address.to_socket_addrs().and_then(|mut all| {
            let first = all.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
            std::net::TcpStream::connect_timeout(&first, Duration::from_secs(3)).map(drop)
        }),
    };
    match reached {
        Ok(()) => say(Some(true), &what, "accepts connections".into()),
        Err(error) => say(
            Some(false),
            &what,
            format!("{error}; does `tandem serve` run there with --agents, does a firewall stand between?"),
        ),
    }
    if let Address::Tcp(_) = config.controller {
        let interfaces = Netlink::open().and_then(|mut n| link::list(&mut n)).unwrap_or_default();
        let carrying = crate::datapath::mgmt_interfaces(&config.controller, &interfaces);
        let ports = config.switches.iter().flat_map(|s| &s.ports);
        let cut: Vec<&str> = ports.map(|p| p.interface.as_str()).filter(|i| carrying.contains(*i)).collect();
        match (cut.is_empty(), carrying.is_empty()) {
            (false, _) => say(
                Some(false),
                "control path",
                format!(
                    "{} carries the connection to the controller and is in agent.toml as a port: take it out, or give the controller another way",
                    cut.join(", ")
                ),
            ),
            (true, false) => {
                let names: Vec<&str> = carrying.iter().map(String::as_str).collect();
                say(Some(true), "control path", format!("by {}", names.join(", ")));
            }
            (true, true) => say(None, "control path", "on this machine".into()),
        }
        let enrolled = config.state.join("agent.crt").exists();
        let found = if enrolled {
            "there".to_owned()
        } else {
            format!(
                "not enrolled: `tandem agent token {}` on the controller, then here `tandem-agent enroll --token TOKEN`",
                config.name
            )
        };
        say(Some(enrolled), "certificate", found);
    }
}
