//! `tandem-agent doctor`: looks, changes nothing, and names for each fault the cable or command that mends it.

use crate::config::{Address, Config, DatapathChoice, Kind};
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
use tandem_linux::ovsdb::Ovsdb;
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
    if ovs {
        database(config, &mut say);
    }
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
                    if port.queueing {
                        queues_found(&what, interface, &roots, netlink.as_mut(), &mut say);
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

/// Whose queueing a port has, and how many classes are free.
fn queues_found(
    what: &str,
    interface: &link::Interface,
    roots: &BTreeMap<u32, tc::Root>,
    netlink: Option<&mut Netlink>,
    say: &mut impl FnMut(Option<bool>, &str, String),
) {
    let name = &interface.name;
    let what = format!("{what} queues");
    let Some(root) = roots.get(&interface.index) else {
        return say(Some(true), &what, format!("the kernel's own; {CLASSES} classes are free"));
    };
    let tree = netlink.and_then(|n| tc::read(n, interface.index).ok().flatten());
    match tree.filter(|_| root.kind == "htb") {
        Some(tree) => {
            let used = tree.classes.iter().filter(|c| c.id != queues::INNER).count();
            let free = CLASSES.saturating_sub(used);
            say(Some(true), &what, format!("HTB; {used} classes in use, {free} free"));
        }
        None if root.is_classful() => say(
            Some(false),
            &what,
            format!(
                "{} of somebody else; the agent leaves such a port alone. `tc qdisc del dev {name} root`, or queueing = false in agent.toml",
                root.kind
            ),
        ),
        None => say(
            None,
            &what,
            format!(
                "{} of somebody else; it is replaced, and given back by `tandem-agent release`",
                root.kind
            ),
        ),
    }
}

fn database(config: &Config, say: &mut impl FnMut(Option<bool>, &str, String)) {
    let what = format!("OVS database ({})", config.ovs.database.display());
    match Ovsdb::connect(&config.ovs.database).map_err(|e| e.to_string()).and_then(|mut d| {
        Ok((d.about().map_err(|e| e.to_string())?, d.read_bridges().map_err(|e| e.to_string())?))
    }) {
        Ok((about, bridges)) => {
            let version = about.version.unwrap_or_else(|| "of unknown version".into());
            say(None, "Open vSwitch", format!("{version}; datapaths: {}", about.datapath_types.join(", ")));
            let names: Vec<String> = bridges.iter().map(|b| b.name.clone()).collect();
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
        let carrying = crate::datapath::control_interfaces(&config.controller, &interfaces);
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
