//! The interfaces of this agent's own connection to its controller: as ports of a bridge they would
//! lose that connection.

use crate::config::Address;
use crate::desired::{Fault, Switch};
use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use tandem_linux::link::{self, Interface};
use tandem_linux::netlink::Netlink;

/// Faults of switches that have one of them as a port, or have its name.
pub(super) fn refuse(controller: &Address, wanted: &[Switch]) -> Vec<Fault> {
    if matches!(controller, Address::Unix(_)) {
        return Vec::new();
    }
    let all = Netlink::open().and_then(|mut n| link::list_bare(&mut n)).unwrap_or_default();
    let control = interfaces(controller, &all);
    let mut faults = Vec::new();
    for switch in wanted {
        let names = switch.ports.iter().map(|p| (&p.interface, Some(p.number)));
        for (name, port) in names.chain([(&switch.name, None)]).filter(|(n, _)| control.contains(*n)) {
            let instead = port.map_or_else(
                || "Call the switch otherwise".to_owned(),
                |port| format!("Give port {port} another interface"),
            );
            let why = format!(
                "{name} carries this agent's own connection to {}; in a bridge it would be cut. {instead}",
                controller
            );
            // The whole switch is refused: without one port it would still look complete.
            faults.push(Fault::new(&switch.name, None, why));
        }
    }
    faults
}

/// Their names; empty if the controller is on this machine. For a VLAN or a bond, the interfaces
/// below it are included.
pub fn interfaces(controller: &Address, all: &[Interface]) -> BTreeSet<String> {
    let top = address(controller).and_then(with_address);
    let mut open: Vec<u32> = all.iter().filter(|i| Some(&i.name) == top.as_ref()).map(|i| i.index).collect();
    let mut carrying = BTreeSet::new();
    while let Some(index) = open.pop() {
        if !carrying.insert(index) {
            continue;
        }
        let below = all.iter().find(|i| i.index == index).and_then(|i| i.lower);
        open.extend(below.into_iter().chain(all.iter().filter(|i| i.master == Some(index)).map(|i| i.index)));
    }
    all.iter().filter(|i| carrying.contains(&i.index)).map(|i| i.name.clone()).collect()
}

/// This host's address towards its controller, if that is another host.
fn address(controller: &Address) -> Option<IpAddr> {
    let Address::Tcp(address) = controller else { return None };
    let peer = address.to_socket_addrs().ok()?.next().filter(|p| !p.ip().is_loopback())?;
    // Connecting a datagram socket sends nothing; the kernel only looks up the route.
    let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// The interface with this address.
fn with_address(ip: IpAddr) -> Option<String> {
    nix::ifaddrs::getifaddrs().ok()?.find_map(|i| {
        let address = i.address?;
        let own = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let own = own.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())));
        (own == Some(ip)).then_some(i.interface_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_carried_by_nothing() {
        assert!(interfaces(&Address::Unix("/run/x".into()), &[]).is_empty());
        assert!(interfaces(&Address::Tcp("127.0.0.1:6655".into()), &[]).is_empty());
    }
}
