//! The interfaces that carry this agent's own connection to its controller: put into a bridge, they would cut it.

use crate::config::Address;
use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use tandem_linux::link::Interface;

/// Their names; none when the controller is on this machine. A VLAN's or a bond's connection is carried by what is below it, too.
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

/// The address by which this host speaks to its controller, if that is another host.
fn address(controller: &Address) -> Option<IpAddr> {
    let Address::Tcp(address) = controller else { return None };
    let peer = address.to_socket_addrs().ok()?.next().filter(|p| !p.ip().is_loopback())?;
    // Connecting a datagram socket sends nothing; the kernel looks up the route.
    let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// The interface that has an address.
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
