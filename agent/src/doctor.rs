//! `tandem-agent doctor`: looks, changes nothing, and names for each fault the cable or command that mends it.

use crate::config::{Address, Config};
use crate::nic;
use serde::Serialize;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Datapath as OvsPath;
use tandem_linux::ovsdb::Ovsdb;

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
    match OvsPath::probe() {
        OvsPath::Kernel => say(Some(true), "datapath", "the kernel's (openvswitch.ko is loaded); rules choose queues".into()),
        OvsPath::Userspace => say(
            None,
            "datapath",
            "vswitchd's own: openvswitch.ko is not loaded (`modprobe openvswitch`; package linux-image). Classes are chosen by DSCP filters".into(),
        ),
    }
    say_right("CAP_NET_ADMIN", &mut say);
    let Some(config) = config else { return findings };
    database(config, &mut say);
    let interfaces = Netlink::open().and_then(|mut n| link::list(&mut n)).unwrap_or_default();
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
                Some(interface) => interface_found(&what, interface, &mut say),
            }
        }
    }
    control(config, &mut say);
    findings
}

fn say_right(what: &str, say: &mut impl FnMut(Option<bool>, &str, String)) {
    /// linux/capability.h.
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
    let has = effective.and_then(|e| u64::from_str_radix(e, 16).ok()).is_some_and(|e| e & CAP_NET_ADMIN != 0);
    let found =
        if has { "there".to_owned() } else { "missing: run it as root, or by the systemd unit".to_owned() };
    say(Some(has), what, found);
}

fn database(config: &Config, say: &mut impl FnMut(Option<bool>, &str, String)) {
    let what = format!("OVS database ({})", config.ovs.database.display());
    match Ovsdb::connect(&config.ovs.database)
        .map_err(|e| e.to_string())
        .and_then(|mut d| d.read_bridges().map_err(|e| e.to_string()))
    {
        Ok(bridges) => {
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
    say: &mut impl FnMut(Option<bool>, &str, String),
) {
    let name = &interface.name;
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
    let nic = nic::look(name);
    if let Some(speed) = nic.speed {
        found.push_str(&format!(", {} Mbit/s", speed / 1_000_000));
    }
    if nic.half_duplex {
        good = false;
        found.push_str(&format!(
            ", HALF duplex: it cannot send and receive at once; `ethtool -s {name} autoneg on`, at both ends"
        ));
    }
    if let Some(driver) = nic.driver {
        found.push_str(&format!(", driver {driver}"));
    }
    say(Some(good), what, found);
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
    if matches!(config.controller, Address::Tcp(_)) {
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
