//! Hosts: servers, gateways and VMs as the network shows them. Where one was seen, that it was seen
//! where it should not be, and that it is not seen any more.
//!
//! What a host may be is declared (a site's servers and gateways) or decided (VMs); an address that
//! nobody declared is an unknown host, told apart from a gateway by the address plan.
//!
//! Frames are not to be trusted, so this is what they can do here: say that a declared host is at a
//! port where it may be, and make unknown hosts, of which each port has [`UNKNOWN_PER_PORT`] at most,
//! none of them with an address of the plan. Every index is derived from the one table of hosts and
//! changes with it only (`Hosts::put`, `Hosts::take`).

use crate::network::access_ports::PortKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::site::AddressPlan;
use tandem_model::{GatewayId, Mac, PortNo, ServerId, SwitchId, Time, VmId};

/// Unknown hosts that are kept per port. They are for the operator to look at, and nobody looks at
/// more.
pub const UNKNOWN_PER_PORT: usize = 32;

/// How old the last sign of life may be that is published of a host of which nothing else changes.
const PUBLISHED_AGE: Duration = Duration::from_secs(10);

/// The first two bytes of VMs' Ethernet addresses: locally administered.
pub const VM_MAC_PREFIX: [u8; 2] = [0x02, 0x10];

/// A port of a switch.
pub type Place = (SwitchId, PortNo);

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKind {
    /// A server's own address.
    Server(ServerId),
    /// A gateway.
    Gateway(GatewayId),
    /// A VM.
    Vm(VmId),
    /// Nobody declared it.
    Unknown,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What it is.
    pub kind: HostKind,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Switch ports where it may be; an unknown host has none.
    pub expected: Vec<Place>,
    /// Where it was seen last; `None` while it is not there.
    pub at: Option<Place>,
    /// When it was seen last.
    pub seen: Time,
    /// ARP probes sent since.
    pub probes: u32,
    /// The port that an unknown host is counted at.
    counted: Option<PortKey>,
    /// The `seen` that was published last.
    published: Time,
}

impl Host {
    fn declared(kind: HostKind, mac: Mac, expected: Vec<Place>) -> Host {
        let zero = Time::ZERO;
        Host { kind, mac, expected, at: None, seen: zero, probes: 0, counted: None, published: zero }
    }

    fn is_unknown(&self) -> bool {
        self.kind == HostKind::Unknown
    }
}

/// What seeing a host means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// It is there, which was not known.
    Joined,
    /// It is where it was.
    Refreshed,
    /// It is at another of the ports where it may be.
    Moved {
        /// Where it was.
        from: Place,
    },
    /// Somebody sends with an address that is not theirs, or from a port where the host cannot be.
    Spoofed {
        /// Whose Ethernet address it is; `None` for nobody's.
        mac_of: Option<HostKind>,
        /// Whose IP address it is; `None` for nobody's.
        ip_of: Option<HostKind>,
    },
    /// The port has as many unknown hosts as it may have.
    Full,
}

/// The table of hosts, with its indices.
#[derive(Debug, Clone)]
pub struct Hosts {
    plan: AddressPlan,
    by_ip: BTreeMap<Ipv4Addr, Host>,
    /// Derived: whose Ethernet address is whose IP address.
    by_mac: BTreeMap<Mac, BTreeSet<Ipv4Addr>>,
    /// Derived: the unknown hosts of each port.
    unknown: BTreeMap<PortKey, BTreeSet<Ipv4Addr>>,
    /// What has changed since [`Hosts::take_changed`].
    changed: BTreeSet<Ipv4Addr>,
}

impl Hosts {
    /// None yet, under an address plan.
    pub fn new(plan: &AddressPlan) -> Hosts {
        Hosts {
            plan: plan.clone(),
            by_ip: BTreeMap::new(),
            by_mac: BTreeMap::new(),
            unknown: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// The only way into the table.
    fn put(&mut self, ip: Ipv4Addr, host: Host) {
        self.take(ip);
        self.by_mac.entry(host.mac).or_default().insert(ip);
        if let Some(port) = host.counted {
            self.unknown.entry(port).or_default().insert(ip);
        }
        self.by_ip.insert(ip, host);
        self.changed.insert(ip);
    }

    /// The only way out of it.
    fn take(&mut self, ip: Ipv4Addr) -> Option<Host> {
        let host = self.by_ip.remove(&ip)?;
        remove(&mut self.by_mac, &host.mac, ip);
        if let Some(port) = host.counted {
            remove(&mut self.unknown, &port, ip);
        }
        self.changed.insert(ip);
        Some(host)
    }

    /// Makes a host known, not yet seen. An unknown host that was taken for it is forgotten.
    pub fn declare(&mut self, ip: Ipv4Addr, kind: HostKind, mac: Mac, expected: Vec<Place>) {
        for ip in self.by_mac.get(&mac).cloned().unwrap_or_default() {
            if self.by_ip.get(&ip).is_some_and(Host::is_unknown) {
                self.take(ip);
            }
        }
        self.put(ip, Host::declared(kind, mac, expected));
    }

    /// Changes where a known host may be; it counts as there already if it was there.
    pub fn move_to(&mut self, ip: Ipv4Addr, expected: Vec<Place>) {
        if let Some(host) = self.by_ip.get_mut(&ip).filter(|h| !h.is_unknown()) {
            host.expected = expected;
            self.changed.insert(ip);
        }
    }

    /// Forgets a host.
    pub fn forget(&mut self, ip: Ipv4Addr) {
        self.take(ip);
    }

    /// The host with that address.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Host> {
        self.by_ip.get(&ip)
    }

    /// The address of the host with that Ethernet address: of a declared one, if there is one.
    pub fn by_mac(&self, mac: Mac) -> Option<(Ipv4Addr, &Host)> {
        let all = self.by_mac.get(&mac)?.iter().filter_map(|ip| Some((*ip, self.by_ip.get(ip)?)));
        all.min_by_key(|(ip, host)| (host.is_unknown(), *ip))
    }

    /// All hosts, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Host)> {
        self.by_ip.iter().map(|(ip, h)| (*ip, h))
    }

    /// True for what no unknown host may use: our VMs' Ethernet addresses, those that exist and those
    /// to come, the controller's own, and every address of the network but those beside the
    /// gateways'.
    fn is_reserved(&self, ip: Ipv4Addr, mac: Mac) -> bool {
        let plan = &self.plan;
        let beside_gateways = plan.gateways.contains(ip) && ip != plan.dhcp;
        mac.0.starts_with(&VM_MAC_PREFIX)
            || mac == plan.dhcp_mac
            || mac.is_multicast()
            || (plan.network.contains(ip) && !beside_gateways)
            || ip.is_multicast()
            || ip.is_broadcast()
            || ip.is_unspecified()
            || ip.is_loopback()
    }

    /// A packet from `mac` and `ip` came in at a switch port. Unknown hosts are counted at `outside`;
    /// where that is `None`, there are none.
    pub fn sighted(
        &mut self,
        ip: Ipv4Addr,
        mac: Mac,
        at: Place,
        outside: Option<PortKey>,
        now: Time,
    ) -> HostEvent {
        let mac_of = self.by_mac(mac).map(|(_, h)| h.kind).filter(|k| *k != HostKind::Unknown);
        let host = self.by_ip.get(&ip);
        let ip_of = host.map(|h| h.kind).filter(|k| *k != HostKind::Unknown);
        let spoofed = HostEvent::Spoofed { mac_of, ip_of };
        let Some(host) = host else {
            return match outside {
                Some(port) if mac_of.is_none() && !self.is_reserved(ip, mac) => {
                    self.meet(ip, mac, at, port, now)
                }
                _ => spoofed,
            };
        };
        if host.is_unknown() {
            return match outside {
                Some(port) if mac_of.is_none() && !self.is_reserved(ip, mac) => {
                    let from = host.at;
                    if (host.counted, host.mac) != (Some(port), mac) {
                        let before = self.take(ip);
                        // There is room where it was.
                        if let (HostEvent::Full, Some(before)) = (self.meet(ip, mac, at, port, now), before) {
                            self.put(ip, before);
                            return HostEvent::Full;
                        }
                    } else {
                        self.refresh(ip, at, now);
                    }
                    match from {
                        Some(from) if from != at => HostEvent::Moved { from },
                        _ => HostEvent::Refreshed,
                    }
                }
                _ => spoofed,
            };
        }
        if host.mac != mac || !host.expected.contains(&at) {
            return spoofed;
        }
        let before = host.at;
        let stays = |from: &Place| *from == at || host.expected.contains(from);
        let sighting = match before {
            None => HostEvent::Joined,
            // A host with several uplinks shows itself at all of them.
            Some(from) if stays(&from) => HostEvent::Refreshed,
            Some(from) => HostEvent::Moved { from },
        };
        self.refresh(ip, at, now);
        sighting
    }

    /// One more unknown host, if the port may have it.
    fn meet(&mut self, ip: Ipv4Addr, mac: Mac, at: Place, port: PortKey, now: Time) -> HostEvent {
        if self.unknown.get(&port).map_or(0, BTreeSet::len) >= UNKNOWN_PER_PORT {
            return HostEvent::Full;
        }
        let host = Host {
            at: Some(at),
            seen: now,
            counted: Some(port),
            ..Host::declared(HostKind::Unknown, mac, Vec::new())
        };
        self.put(ip, host);
        HostEvent::Joined
    }

    fn refresh(&mut self, ip: Ipv4Addr, at: Place, now: Time) {
        let Some(host) = self.by_ip.get_mut(&ip) else { return };
        let moved = host.at.replace(at) != Some(at);
        host.seen = now;
        host.probes = 0;
        if moved || now.since(host.published) >= PUBLISHED_AGE {
            self.changed.insert(ip);
        }
    }

    /// A sign of life that needs no check: the host's own flows count packets.
    pub fn alive(&mut self, ip: Ipv4Addr, now: Time) {
        if let Some(at) = self.by_ip.get(&ip).and_then(|h| h.at) {
            self.refresh(ip, at, now);
        }
    }

    /// A probe was sent.
    pub fn probed(&mut self, ip: Ipv4Addr) {
        if let Some(host) = self.by_ip.get_mut(&ip) {
            host.probes = host.probes.saturating_add(1);
        }
    }

    /// The host answers no more. An unknown host is forgotten.
    pub fn lost(&mut self, ip: Ipv4Addr) {
        match self.by_ip.get_mut(&ip) {
            Some(host) if host.is_unknown() => self.forget(ip),
            Some(host) => {
                host.at = None;
                host.probes = 0;
                self.changed.insert(ip);
            }
            None => {}
        }
    }

    /// All are published again, because what is shown of their moments has changed.
    pub(crate) fn publish_all(&mut self) {
        self.changed.extend(self.by_ip.keys().copied());
    }

    /// True when there is something to publish.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whose state is not as it was published last; they count as published from now on.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Ipv4Addr> {
        let changed = std::mem::take(&mut self.changed);
        for ip in &changed {
            if let Some(host) = self.by_ip.get_mut(ip) {
                host.published = host.seen;
            }
        }
        changed
    }
}

fn remove<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Ipv4Addr>>, key: &K, ip: Ipv4Addr) {
    if let Some(all) = index.get_mut(key) {
        all.remove(&ip);
        if all.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
#[path = "host_tracker_tests.rs"]
mod tests;
