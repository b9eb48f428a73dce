//! The running switches, and the ports of their engines: interfaces appear, vanish and change their
//! links, and each port is locked against use by a second agent.

use super::datapath::Ports;
use super::io::IoPort;
use super::{Engine, EnginePort};
use crate::datapath::netfpga;
use crate::desired::{Fault, Port, Switch};
use crate::nic;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tandem_linux::ethtool::Ethtool;
use tandem_linux::link::{self, Interface};
use tandem_linux::netlink::Netlink;
use tandem_openflow::switch::Queue;

/// The running switches, shared with the thread that watches interfaces.
#[derive(Default)]
pub(super) struct Running(pub(super) BTreeMap<String, RunningSwitch>);

pub(super) struct RunningSwitch {
    pub(super) engine: Engine,
    /// Its settings when it was started.
    pub(super) switch: Switch,
    /// Its wanted ports.
    pub(super) ports: Vec<Port>,
    /// The ports that its engine has.
    pub(super) sent: Vec<EnginePort>,
    /// The faults of the others.
    pub(super) faults: Vec<Fault>,
    /// Locks by interface number.
    pub(super) locks: BTreeMap<u32, UnixDatagram>,
    pub(super) known: Option<Ports>,
    /// The generation of the tables whose flows were saved.
    pub(super) kept: u64,
}

pub(super) fn shared(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a switch has to be restarted for the wanted settings.
pub(super) fn is_other(one: &RunningSwitch, switch: &Switch) -> bool {
    (one.switch.datapath_id, &one.switch.protocols) != (switch.datapath_id, &switch.protocols)
}

impl Running {
    /// Sends each engine its present ports. Returns how many have changed.
    pub(super) fn refresh(&mut self, ethtool: &mut Option<Ethtool>) -> Result<usize, String> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let all =
            Netlink::open().and_then(|mut n| link::list_bare(&mut n)).map_err(|error| error.to_string())?;
        let there: BTreeMap<&str, &Interface> = all.iter().map(|i| (i.name.as_str(), i)).collect();
        let mut changes = 0;
        for (name, one) in &mut self.0 {
            changes += usize::from(one.refresh(name, &there, ethtool));
        }
        Ok(changes)
    }
}

impl RunningSwitch {
    fn refresh(
        &mut self,
        name: &str,
        there: &BTreeMap<&str, &Interface>,
        ethtool: &mut Option<Ethtool>,
    ) -> bool {
        let mut ports = Vec::new();
        self.faults.clear();
        let wanted = |index: u32| {
            self.ports.iter().any(|p| there.get(p.interface.as_str()).is_some_and(|i| i.index == index))
        };
        let locks = std::mem::take(&mut self.locks);
        self.locks = locks.into_iter().filter(|(index, _)| wanted(*index)).collect();
        for port in &self.ports {
            // A missing interface is reported by the shaping, and is added when it appears.
            let link =
                self.known.as_ref().and_then(|k| netfpga::shared(&k.talk).links.get(&port.number).copied());
            let Some(interface) = there.get(port.interface.as_str()) else {
                if self.known.as_ref().is_some_and(|k| k.bare.contains(&port.number)) {
                    ports.push(bare_port(port, link.unwrap_or(false)));
                }
                continue;
            };
            if let Entry::Vacant(place) = self.locks.entry(interface.index) {
                match lock(interface.index) {
                    Ok(lock) => drop(place.insert(lock)),
                    Err(error) => {
                        let why = locked(port, interface.index, &error);
                        self.faults.push(Fault::new(name, Some(port.number), why));
                        continue;
                    }
                }
            }
            let known =
                self.sent.iter().find(|p| p.io.index == interface.index && p.port.up == interface.running);
            let speed = match known {
                Some(known) => known.port.speed,
                None => ethtool.as_mut().and_then(|e| nic::inspect(e, &port.interface).speed),
            };
            let mut port = engine_port(port, interface, speed);
            port.port.up &= link.unwrap_or(true);
            ports.push(port);
        }
        // Ports that the engine could not open are tried again, even without a change.
        if ports == self.sent {
            return false;
        }
        match self.engine.set_ports(ports.clone()) {
            Ok(refused) => {
                let refused: BTreeMap<u32, String> = refused.into_iter().collect();
                ports.retain(|p| !refused.contains_key(&p.io.number));
                self.faults.extend(refused.into_iter().map(|(n, why)| Fault::new(name, Some(n), why)));
            }
            Err(error) => self.faults.push(Fault::new(name, None, error.to_string())),
        }
        self.sent = ports;
        true
    }
}

fn engine_port(port: &Port, interface: &Interface, speed: Option<u64>) -> EnginePort {
    let rate = port.rate.map_or(0, |r| r.0).max(1);
    // In tenths of a percent (OF 1.3.5 section 7.2.2).
    let share =
        |part: u64| u16::try_from(u128::from(part) * 1000 / u128::from(rate)).unwrap_or(1000).min(1000);
    let queues = (0u32..).zip(&port.classes).map(|(id, class)| Queue {
        id,
        min: Some(share(class.rate.0)),
        max: class.ceiling.map(|c| share(c.0)),
    });
    EnginePort {
        io: IoPort {
            number: port.number,
            interface: port.interface.clone(),
            index: interface.index,
            mtu: interface.mtu,
            queues: port.classes.len() as u32,
        },
        port: tandem_openflow::switch::Port {
            number: port.number,
            name: port.interface.clone(),
            mac: interface.mac,
            up: interface.running,
            speed,
            config: 0,
            queues: queues.collect(),
        },
    }
}

/// A port without an interface.
fn bare_port(port: &Port, up: bool) -> EnginePort {
    let interface = Interface {
        index: u32::MAX - port.number,
        name: port.interface.clone(),
        up,
        running: up,
        master: None,
        kind: None,
        lower: None,
        mtu: 1500,
        mac: [0; 6],
        stats: None,
    };
    let mut bare = engine_port(port, &interface, Some(1_000_000_000));
    bare.port.up = up;
    bare
}

/// The fault of a port whose lock another process holds.
fn locked(port: &Port, index: u32, error: &std::io::Error) -> String {
    format!(
        "{} is a port of another agent's switch on this machine, or somebody holds the lock of it ({error}; the abstract \
         socket @tandem-port/{index}, which any user can take: `ss -xlp` names its process); stop that agent or process, or \
         take the port out of one agent.toml",
        port.interface
    )
}

/// Takes the lock of an interface: abstract names are local to a network namespace, and vanish with
/// their process.
fn lock(index: u32) -> std::io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("tandem-port/{index}"))?)
}
