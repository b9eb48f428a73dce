//! Lends a network card to another namespace, and records its configuration before: when an
//! interface moves, the kernel sets it down and removes its addresses and queueing.

use crate::Error;
use crate::link::{change, set_up};
use crate::netlink::{Netlink, REPLACE, Request};
use crate::netns::NetNs;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// An interface as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its number, in the namespace it was found in.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Set up.
    pub up: bool,
    /// Index of the bridge or bond that it belongs to.
    pub controller: Option<u32>,
    /// Addresses that were configured (not the link-local ones of the kernel), with their prefix
    /// lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// A default route goes out of it.
    pub default_route: bool,
}

/// All interfaces of the thread's namespace.
///
/// # Errors
/// When the kernel does not list them.
pub fn look(netlink: &mut Netlink) -> Result<Vec<Nic>, Error> {
    let mut nics: Vec<Nic> = netlink
        .dump("interfaces", RouteNetlinkMessage::GetLink(LinkMessage::default()))?
        .into_iter()
        .filter_map(|m| match m {
            RouteNetlinkMessage::NewLink(m) => Some(nic(&m)),
            _ => None,
        })
        .collect();
    for message in netlink.dump("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        let RouteNetlinkMessage::NewAddress(m) = message else { continue };
        if m.header.scope == AddressScope::Link || !m.header.flags.contains(AddressHeaderFlags::Permanent) {
            continue;
        }
        // On a point-to-point link, `Local` is this end's address (linux/if_addr.h).
        let local = m.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let address = local.or_else(|| {
            m.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            })
        });
        if let (Some(nic), Some(ip)) = (nics.iter_mut().find(|n| n.index == m.header.index), address) {
            nic.addresses.push((ip, m.header.prefix_len));
        }
    }
    for message in netlink.dump("routes", RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
        let RouteNetlinkMessage::NewRoute(m) = message else { continue };
        let out = m.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let default = m.header.destination_prefix_length == 0
            && m.header.table == netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
        if let Some(nic) = nics.iter_mut().find(|n| default && Some(n.index) == out) {
            nic.default_route = true;
        }
    }
    Ok(nics)
}

fn nic(m: &LinkMessage) -> Nic {
    let mut nic = Nic {
        index: m.header.index,
        name: String::new(),
        up: m.header.flags.contains(LinkFlags::Up),
        controller: None,
        addresses: Vec::new(),
        default_route: false,
    };
    for attribute in &m.attributes {
        match attribute {
            LinkAttribute::IfName(name) => nic.name.clone_from(name),
            LinkAttribute::Controller(index) => nic.controller = Some(*index),
            _ => {}
        }
    }
    nic
}

/// Moves an interface from the thread's namespace into another. Afterwards it is down, without
/// addresses and with the kernel's default queueing; its number may have changed.
pub fn lend(index: u32, to: &NetNs) -> Request {
    change(
        index,
        format!("moving interface {index} into a namespace"),
        vec![LinkAttribute::NetNsFd(to.raw())],
    )
}

/// Restores the addresses and the state that an interface was found with; `index` is its number
/// now.
pub fn restore(index: u32, found: &Nic) -> Vec<Request> {
    let mut requests = vec![set_up(index, found.up)];
    for (ip, len) in &found.addresses {
        let mut m = AddressMessage::default();
        m.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        m.header.prefix_len = *len;
        m.header.index = index;
        m.attributes = vec![AddressAttribute::Local(*ip), AddressAttribute::Address(*ip)];
        let what = format!("address {ip}/{len} of {}", found.name);
        requests.push(Request { what, message: RouteNetlinkMessage::NewAddress(m), flags: REPLACE });
    }
    requests
}
