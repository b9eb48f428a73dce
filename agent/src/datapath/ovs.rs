//! Open vSwitch: bridges and ports by OVSDB, queues and classes by the kernel's HTB.

use super::{
    ClassReport, Counters, Datapath, Outcome, PortReport, Presented, PresentedPort, Selection, SwitchReport,
};
use crate::config::{Address, DatapathChoice, OvsConfig, SwitchConfig};
use crate::desired::{Fault, Switch};
use crate::{nic, queues};
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Datapath as Path;
use tandem_linux::ovsdb::{self, Adopt, Ovsdb, WantedBridge, WantedPort};
use tandem_linux::{link, tc, vswitchd};

/// How long vswitchd may take to carry out what the database says.
const LIMIT: Duration = Duration::from_secs(60);
/// What vswitchd's packet socket may hold, for all ports together: the default (212,992 bytes, about 90 packets) is used up by one
/// port that is backlogged, and then packets to idle ports are lost, which nobody counts.
const SEND_BUFFER: usize = 32 << 20;

/// See the module.
pub struct Ovs {
    owner: String,
    config: OvsConfig,
    switches: Vec<SwitchConfig>,
    controller: Address,
    path: Path,
    database: Option<Ovsdb>,
    /// Interfaces whose queueing is ours.
    shaped: BTreeMap<String, tc::Tree>,
}

impl Ovs {
    /// For an agent of that name.
    pub fn new(owner: &str, config: OvsConfig, switches: Vec<SwitchConfig>, controller: Address) -> Ovs {
        let path = match config.datapath {
            DatapathChoice::Auto => Path::probe(),
            DatapathChoice::Kernel => Path::Kernel,
            DatapathChoice::Userspace => Path::Userspace,
        };
        Ovs {
            owner: owner.to_owned(),
            config,
            switches,
            controller,
            path,
            database: None,
            shaped: BTreeMap::new(),
        }
    }

    /// Calls `work` with the database, connecting again once if the connection has ended since.
    fn with_database<T>(
        &mut self,
        work: impl Fn(&mut Ovsdb) -> Result<T, ovsdb::Error>,
    ) -> Result<T, ovsdb::Error> {
        if let Some(database) = &mut self.database {
            match work(database) {
                Err(ovsdb::Error::Io { .. } | ovsdb::Error::Closed | ovsdb::Error::Garbled { .. }) => {}
                result => return result,
            }
        }
        self.database = None;
        let mut database = Ovsdb::connect(&self.config.database)?;
        let result = work(&mut database);
        self.database = Some(database);
        result
    }

    fn wanted(&self, switch: &Switch) -> WantedBridge {
        WantedBridge {
            name: switch.name.clone(),
            datapath_id: switch.datapath_id.0,
            datapath_type: self.path.kind().to_owned(),
            protocols: switch.protocols.clone(),
            controllers: switch.controllers.clone(),
            secure: true,
            ports: switch
                .ports
                .iter()
                .map(|p| WantedPort { name: p.interface.clone(), number: p.number })
                .collect(),
        }
    }

    /// The queueing of all ports that have a rate: what is there is read, the difference is sent.
    fn shape(&mut self, wanted: &[Switch], outcome: &mut Outcome) -> Result<(), tandem_linux::Error> {
        let mut netlink = Netlink::open()?;
        let indices: BTreeMap<String, u32> =
            link::list(&mut netlink)?.into_iter().map(|i| (i.name, i.index)).collect();
        let ports = || wanted.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p)));
        let trees: BTreeMap<String, tc::Tree> =
            ports().filter_map(|(_, p)| Some((p.interface.clone(), queues::tree(p)?))).collect();
        let known: Vec<u32> =
            trees.keys().chain(self.shaped.keys()).filter_map(|name| indices.get(name).copied()).collect();
        let actual = tc::read_all(&mut netlink, &known)?;
        for (switch, port) in ports() {
            let Some(tree) = trees.get(&port.interface) else { continue };
            let Some(index) = indices.get(&port.interface) else {
                let why = format!(
                    "there is no interface {}; is the card in, the cable named right?",
                    port.interface
                );
                outcome.faults.push(Fault::new(&switch.name, Some(port.number), why));
                continue;
            };
            let requests = tc::difference(*index, actual.get(index), Some(tree));
            outcome.changes += requests.len();
            if let Err(error) = netlink.batch(&requests) {
                outcome.faults.push(Fault::new(&switch.name, Some(port.number), error.to_string()));
            }
        }
        for (name, _) in self.shaped.iter().filter(|(name, _)| !trees.contains_key(*name)) {
            if let Some(index) = indices.get(name) {
                let requests = tc::difference(*index, actual.get(index), None);
                outcome.changes += requests.len();
                netlink.batch(&requests)?;
            }
        }
        self.shaped = trees;
        Ok(())
    }
}

fn is_not_permitted(error: &tandem_linux::Error) -> bool {
    matches!(error, tandem_linux::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The address by which this host speaks to its controller, if that is another host.
fn control_address(controller: &Address) -> Option<IpAddr> {
    let Address::Tcp(address) = controller else { return None };
    let peer = address.to_socket_addrs().ok()?.next().filter(|p| !p.ip().is_loopback())?;
    // Connecting a datagram socket sends nothing; the kernel looks up the route.
    let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// The interface that has an address.
fn interface_with(ip: IpAddr) -> Option<String> {
    nix::ifaddrs::getifaddrs().ok()?.find_map(|i| {
        let address = i.address?;
        let own = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let own = own.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())));
        (own == Some(ip)).then_some(i.interface_name)
    })
}

impl Datapath for Ovs {
    fn present(&mut self) -> Vec<Presented> {
        let (selection, kind) = match self.path {
            Path::Kernel => (Selection::Queue, "ovs (kernel)"),
            Path::Userspace => (Selection::Dscp, "ovs (userspace)"),
        };
        let ports = |s: &SwitchConfig| {
            s.ports
                .iter()
                .map(|p| PresentedPort {
                    number: p.number,
                    interface: p.interface.clone(),
                    selection: if p.queueing { selection } else { Selection::None },
                    speed: nic::look(&p.interface).speed,
                })
                .collect()
        };
        self.switches
            .iter()
            .map(|s| Presented { name: s.name.clone(), datapath: kind.into(), ports: ports(s) })
            .collect()
    }

    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let Some(control) = control_address(&self.controller).and_then(interface_with) else {
            return Vec::new();
        };
        let mut faults = Vec::new();
        for switch in wanted {
            for port in switch.ports.iter().filter(|p| p.interface == control) {
                let why = format!(
                    "{control} carries this agent's own connection to {}; in a bridge it would be cut. Give port {} another interface",
                    self.controller, port.number
                );
                // The whole switch is refused: half of it would look like all of it.
                faults.push(Fault::new(&switch.name, None, why));
            }
        }
        faults
    }

    fn apply(&mut self, wanted: &[Switch]) -> Outcome {
        let mut outcome = Outcome::default();
        let bridges: Vec<WantedBridge> = wanted.iter().map(|s| self.wanted(s)).collect();
        let adopt = if self.config.adopt_with_gap { Adopt::EvenWithGap } else { Adopt::WithoutGap };
        let owner = self.owner.clone();
        match self.with_database(|d| d.sync_bridges(&owner, &bridges, adopt, LIMIT)) {
            Ok(synced) => {
                outcome.changes += usize::from(synced.changed);
                for (bridge, port, result) in synced.ports {
                    let Err(why) = result else { continue };
                    let number = wanted
                        .iter()
                        .find(|s| s.name == bridge)
                        .and_then(|s| s.ports.iter().find(|p| p.interface == port))
                        .map(|p| p.number);
                    outcome.faults.push(Fault::new(&bridge, number, format!("{port}: {why}")));
                }
            }
            Err(error) => {
                let everyone = wanted.iter().map(|s| Fault::new(&s.name, None, error.to_string()));
                outcome.faults.extend(everyone);
                return outcome;
            }
        }
        if let Err(error) = self.shape(wanted, &mut outcome) {
            outcome.faults.push(Fault::new("", None, error.to_string()));
        }
        if self.path == Path::Userspace
            && let Err(error) = vswitchd::raise_send_buffer(&self.config.pid_file, SEND_BUFFER)
        {
            let why = format!("congestion of one port may lose packets of others: {error}");
            if is_not_permitted(&error) {
                // In a user namespace nobody may; the short leaf queues bound what a port can take of the buffer.
                tracing::warn!("{why}");
            } else {
                outcome.faults.push(Fault::new("", None, why));
            }
        }
        outcome
    }

    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        let Ok(mut netlink) = Netlink::open() else { return Vec::new() };
        let interfaces: BTreeMap<String, link::Interface> =
            link::list(&mut netlink).unwrap_or_default().into_iter().map(|i| (i.name.clone(), i)).collect();
        if self.path == Path::Userspace {
            // vswitchd opens its socket when it first sends, and again after a restart.
            let _ = vswitchd::raise_send_buffer(&self.config.pid_file, SEND_BUFFER);
        }
        wanted
            .iter()
            .map(|switch| SwitchReport {
                name: switch.name.clone(),
                ports: switch
                    .ports
                    .iter()
                    .map(|p| port_report(&mut netlink, p, interfaces.get(&p.interface)))
                    .collect(),
            })
            .collect()
    }

    fn release(&mut self) -> Result<(), String> {
        let owner = self.owner.clone();
        let mut left = Vec::new();
        if let Err(error) = self.shape(&[], &mut Outcome::default()) {
            left.push(error.to_string());
        }
        if let Err(error) = self.with_database(|d| d.release(&owner, LIMIT)) {
            left.push(error.to_string());
        }
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    }
}

fn port_report(
    netlink: &mut Netlink,
    port: &crate::desired::Port,
    interface: Option<&link::Interface>,
) -> PortReport {
    let mut report =
        PortReport { number: port.number, interface: port.interface.clone(), ..PortReport::default() };
    let Some(interface) = interface else { return report };
    report.up = interface.running;
    if let Some(s) = &interface.stats {
        report.counters = Counters {
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_dropped: s.rx_dropped,
            tx_dropped: s.tx_dropped,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
        };
    }
    let nic = nic::look(&port.interface);
    (report.speed, report.half_duplex) = (nic.speed, nic.half_duplex);
    if !port.classes.is_empty() {
        let found = tc::classes(netlink, interface.index).unwrap_or_default();
        report.classes = (0..port.classes.len())
            .map(|n| {
                let class = found.iter().find(|c| c.id == queues::class_of(n));
                class.map_or(ClassReport::default(), |c| ClassReport {
                    bytes: c.bytes,
                    packets: c.packets,
                    drops: c.drops.into(),
                    queued: c.queued,
                })
            })
            .collect();
    }
    report
}
