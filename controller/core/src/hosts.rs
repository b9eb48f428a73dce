//! Hosts: servers, gateways and VMs as the network shows them. Where one was seen, that it was seen where it should not be, and
//! that it is not seen any more.
//!
//! What a host may be is declared (a site's servers and gateways) or decided (VMs); an address that nobody declared is a stranger,
//! told apart from a gateway by the address plan.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_model::{GatewayId, Mac, PortNo, ServerId, SwitchId, Time, VmId};

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
    Stranger,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What it is.
    pub kind: HostKind,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Switch ports where it may be; empty for a stranger (anywhere).
    pub expected: Vec<(SwitchId, PortNo)>,
    /// Where it was seen last; `None` while it is not there.
    pub at: Option<(SwitchId, PortNo)>,
    /// When it was seen last.
    pub seen: Time,
    /// ARP probes sent since.
    pub probes: u32,
}

/// What seeing a host means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// It is there, which was not known.
    Joined,
    /// It is where it was.
    Refreshed,
    /// It is at another of the ports where it may be.
    Moved {
        /// Where it was.
        from: (SwitchId, PortNo),
    },
    /// Somebody sends with an address that is not theirs, or from a port where the host cannot be.
    Spoofed {
        /// Whose address it is.
        owner: HostKind,
    },
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    by_ip: BTreeMap<Ipv4Addr, Host>,
    by_mac: BTreeMap<Mac, Ipv4Addr>,
}

impl Hosts {
    /// Makes a host known, not yet seen.
    pub fn declare(&mut self, ip: Ipv4Addr, kind: HostKind, mac: Mac, expected: Vec<(SwitchId, PortNo)>) {
        let host = Host { kind, mac, expected, at: None, seen: Time::ZERO, probes: 0 };
        if let Some(old) = self.by_ip.insert(ip, host) {
            self.by_mac.remove(&old.mac);
        }
        self.by_mac.insert(mac, ip);
    }

    /// Changes where a known host may be; it counts as there already if it was there.
    pub fn move_to(&mut self, ip: Ipv4Addr, expected: Vec<(SwitchId, PortNo)>) {
        if let Some(host) = self.by_ip.get_mut(&ip) {
            host.expected = expected;
        }
    }

    /// Forgets a host.
    pub fn forget(&mut self, ip: Ipv4Addr) {
        if let Some(host) = self.by_ip.remove(&ip) {
            self.by_mac.remove(&host.mac);
        }
    }

    /// The host with that address.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Host> {
        self.by_ip.get(&ip)
    }

    /// The address of the host with that Ethernet address.
    pub fn by_mac(&self, mac: Mac) -> Option<(Ipv4Addr, &Host)> {
        let ip = *self.by_mac.get(&mac)?;
        Some((ip, self.by_ip.get(&ip)?))
    }

    /// All hosts, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Host)> {
        self.by_ip.iter().map(|(ip, h)| (*ip, h))
    }

    /// A packet from `mac` and `ip` came in at a switch port.
    pub fn sighted(&mut self, ip: Ipv4Addr, mac: Mac, at: (SwitchId, PortNo), now: Time) -> Sighting {
        if let Some((owner_ip, owner)) = self.by_mac(mac)
            && owner_ip != ip
            && owner.kind != HostKind::Stranger
        {
            return Sighting::Spoofed { owner: owner.kind };
        }
        let host = match self.by_ip.get_mut(&ip) {
            Some(host) => host,
            None => {
                self.declare(ip, HostKind::Stranger, mac, Vec::new());
                match self.by_ip.get_mut(&ip) {
                    Some(host) => host,
                    None => return Sighting::Refreshed,
                }
            }
        };
        if host.kind == HostKind::Stranger && host.mac != mac {
            self.by_mac.remove(&host.mac);
            self.by_mac.insert(mac, ip);
            host.mac = mac;
        }
        if host.mac != mac || !(host.expected.is_empty() || host.expected.contains(&at)) {
            return Sighting::Spoofed { owner: host.kind };
        }
        let before = host.at.replace(at);
        (host.seen, host.probes) = (now, 0);
        match before {
            None => Sighting::Joined,
            Some(from) if from == at => Sighting::Refreshed,
            // A host with several uplinks shows itself at all of them.
            Some(from) if host.expected.contains(&from) => Sighting::Refreshed,
            Some(from) => Sighting::Moved { from },
        }
    }

    /// A sign of life that needs no check: the host's own flows count packets.
    pub fn alive(&mut self, ip: Ipv4Addr, now: Time) {
        if let Some(host) = self.by_ip.get_mut(&ip).filter(|h| h.at.is_some()) {
            (host.seen, host.probes) = (now, 0);
        }
    }

    /// A probe was sent.
    pub fn probed(&mut self, ip: Ipv4Addr) {
        if let Some(host) = self.by_ip.get_mut(&ip) {
            host.probes += 1;
        }
    }

    /// The host answers no more. A stranger is forgotten.
    pub fn lost(&mut self, ip: Ipv4Addr) {
        match self.by_ip.get_mut(&ip) {
            Some(host) if host.kind == HostKind::Stranger => self.forget(ip),
            Some(host) => (host.at, host.probes) = (None, 0),
            None => {}
        }
    }
}
