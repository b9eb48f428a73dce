//! Links: veth pairs across namespaces, bridges, addresses, routes. Requests are values;
//! [`crate::netlink::Netlink::batch`] executes them.
//!
//! The caller chooses interface numbers, so that later requests need no look-up and the requests of
//! a whole data centre fit one batch.

use crate::Error;
use crate::netlink::{CREATE, Netlink, REPLACE, Request};
use crate::netns::NetNs;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
pub use netlink_packet_route::link::Stats64;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, neighbour};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

/// One end of a veth pair.
#[derive(Debug, Clone)]
struct End {
    name: String,
    index: u32,
    ns: RawFd,
    mac: Option<[u8; 6]>,
    up: bool,
}

/// A veth pair to create: name, number and namespace of both ends.
#[derive(Debug, Clone)]
pub struct Veth {
    a: End,
    b: End,
}

impl Veth {
    /// Ends as (name, interface number, namespace). The first is up once created. The second cannot
    /// be, as the kernel sets it up before it knows its peer: use [`set_up`] afterwards.
    pub fn new(a: (&str, u32, &NetNs), b: (&str, u32, &NetNs)) -> Veth {
        let end = |(name, index, ns): (&str, u32, &NetNs)| End {
            name: name.to_owned(),
            index,
            ns: ns.raw(),
            mac: None,
            up: true,
        };
        Veth { a: end(a), b: End { up: false, ..end(b) } }
    }

    /// The first end's Ethernet address.
    #[must_use]
    pub fn mac_a(mut self, mac: [u8; 6]) -> Veth {
        self.a.mac = Some(mac);
        self
    }

    /// The second end's Ethernet address.
    #[must_use]
    pub fn mac_b(mut self, mac: [u8; 6]) -> Veth {
        self.b.mac = Some(mac);
        self
    }

    /// The request that creates it.
    pub fn request(&self) -> Request {
        let message = |end: &End| {
            let mut m = LinkMessage::default();
            m.header.index = end.index;
            if end.up {
                m.header.flags = LinkFlags::Up;
                m.header.change_mask = LinkFlags::Up;
            }
            m.attributes.push(LinkAttribute::IfName(end.name.clone()));
            m.attributes.push(LinkAttribute::NetNsFd(end.ns));
            if let Some(mac) = end.mac {
                m.attributes.push(LinkAttribute::Address(mac.to_vec()));
            }
            m
        };
        let mut first = message(&self.a);
        first.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(message(&self.b)))),
        ]));
        Request {
            what: format!("veth pair {} - {}", self.a.name, self.b.name),
            message: RouteNetlinkMessage::NewLink(first),
            flags: CREATE,
        }
    }
}

pub(crate) fn change(index: u32, what: String, attributes: Vec<LinkAttribute>) -> Request {
    let mut m = LinkMessage::default();
    m.header.index = index;
    m.attributes = attributes;
    Request { what, message: RouteNetlinkMessage::SetLink(m), flags: 0 }
}

/// Sets an interface up or down.
pub fn set_up(index: u32, up: bool) -> Request {
    let mut request =
        change(index, format!("setting interface {index} {}", if up { "up" } else { "down" }), Vec::new());
    if let RouteNetlinkMessage::SetLink(m) = &mut request.message {
        m.header.change_mask = LinkFlags::Up;
        m.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    request
}

/// Deletes an interface.
pub fn delete(index: u32) -> Request {
    let mut m = LinkMessage::default();
    m.header.index = index;
    Request {
        what: format!("deleting interface {index}"),
        message: RouteNetlinkMessage::DelLink(m),
        flags: 0,
    }
}

/// Deletes many interfaces at once: the kernel waits for an RCU grace period once, not once for
/// each.
pub fn delete_together(indices: &[u32]) -> Vec<Request> {
    const GROUP: u32 = 0x5464;
    let mut requests: Vec<Request> = indices
        .iter()
        .map(|index| change(*index, format!("grouping interface {index}"), vec![LinkAttribute::Group(GROUP)]))
        .collect();
    let mut m = LinkMessage::default();
    m.attributes.push(LinkAttribute::Group(GROUP));
    requests.push(Request {
        what: "deleting a group of interfaces".into(),
        message: RouteNetlinkMessage::DelLink(m),
        flags: 0,
    });
    requests
}

/// A bridge without spanning tree and with a long ageing time, up.
pub fn bridge(name: &str, index: u32, mac: Option<[u8; 6]>) -> Request {
    let mut m = LinkMessage::default();
    m.header.index = index;
    m.header.flags = LinkFlags::Up;
    m.header.change_mask = LinkFlags::Up;
    m.attributes.push(LinkAttribute::IfName(name.to_owned()));
    if let Some(mac) = mac {
        m.attributes.push(LinkAttribute::Address(mac.to_vec()));
    }
    m.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(vec![
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::ForwardDelay(0),
            // In hundredths of a second: a day.
            InfoBridge::AgeingTime(8_640_000),
            InfoBridge::MulticastSnooping(false),
        ])),
    ]));
    Request { what: format!("bridge {name}"), message: RouteNetlinkMessage::NewLink(m), flags: CREATE }
}

/// Adds an interface to a bridge.
pub fn plug(index: u32, bridge: u32) -> Request {
    change(
        index,
        format!("plugging interface {index} into bridge {bridge}"),
        vec![LinkAttribute::Controller(bridge)],
    )
}

/// Removes an interface from its bridge.
pub fn unplug(index: u32) -> Request {
    change(index, format!("unplugging interface {index}"), vec![LinkAttribute::Controller(0)])
}

/// Moves an interface into another namespace: it goes down and leaves its bridge, and keeps its
/// name, number and Ethernet address. The ends of a veth pair stay a pair.
pub fn move_to(index: u32, place: &NetNs) -> Request {
    change(
        index,
        format!("moving interface {index} to another namespace"),
        vec![LinkAttribute::NetNsFd(place.raw())],
    )
}

/// Flags of a bridge port: `isolated` ports do not reach each other; without `flood`, packets to
/// unknown addresses are not sent to it.
pub fn port_flags(index: u32, isolated: bool, flood: bool) -> Request {
    port_data(index, vec![InfoBridgePort::Isolated(isolated), InfoBridgePort::UnicastFlood(flood)])
}

/// Turns address learning at a bridge port on or off.
pub fn port_learning(index: u32, learning: bool) -> Request {
    port_data(index, vec![InfoBridgePort::Learning(learning)])
}

/// Removes the addresses that a bridge has learnt at a port.
pub fn forget_port(index: u32) -> Request {
    port_data(index, vec![InfoBridgePort::Flush])
}

fn port_data(index: u32, data: Vec<InfoBridgePort>) -> Request {
    let info =
        vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(InfoPortData::BridgePort(data))];
    let mut request =
        change(index, format!("flags of bridge port {index}"), vec![LinkAttribute::LinkInfo(info)]);
    if let RouteNetlinkMessage::SetLink(m) = request.message {
        request.message = RouteNetlinkMessage::NewLink(m);
    }
    request
}

/// Gives an interface an address.
pub fn address(index: u32, address: Ipv4Addr, prefix_len: u8) -> Request {
    let mut m = AddressMessage::default();
    m.header.family = AddressFamily::Inet;
    m.header.prefix_len = prefix_len;
    m.header.index = index;
    m.attributes = vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    let what = format!("address {address}/{prefix_len} of interface {index}");
    Request { what, message: RouteNetlinkMessage::NewAddress(m), flags: REPLACE }
}

/// Takes an address away.
pub fn remove_address(index: u32, address: Ipv4Addr, prefix_len: u8) -> Request {
    let mut request = self::address(index, address, prefix_len);
    if let RouteNetlinkMessage::NewAddress(m) = request.message {
        request.message = RouteNetlinkMessage::DelAddress(m);
        request.flags = 0;
    }
    request
}

/// Adds the default route.
pub fn default_route(index: u32, gateway: Ipv4Addr) -> Request {
    let mut m = RouteMessage::default();
    m.header.address_family = AddressFamily::Inet;
    m.header.table = RouteHeader::RT_TABLE_MAIN;
    m.header.protocol = RouteProtocol::Static;
    m.header.scope = RouteScope::Universe;
    m.header.kind = RouteType::Unicast;
    m.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    let what = format!("default route by {gateway}");
    Request { what, message: RouteNetlinkMessage::NewRoute(m), flags: REPLACE }
}

/// Adds a permanent neighbour entry.
pub fn neighbour(index: u32, ip: Ipv4Addr, mac: [u8; 6]) -> Request {
    let mut m = neighbour::NeighbourMessage::default();
    m.header.family = AddressFamily::Inet;
    m.header.ifindex = index;
    m.header.state = neighbour::NeighbourState::Permanent;
    m.attributes = vec![
        neighbour::NeighbourAttribute::Destination(neighbour::NeighbourAddress::Inet(ip)),
        neighbour::NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    Request { what: format!("neighbour {ip}"), message: RouteNetlinkMessage::NewNeighbour(m), flags: REPLACE }
}

/// Removes the learnt neighbours in the thread's namespace; hosts that keep sending find them again
/// by ARP. The kernel has one table for all namespaces, with a limit ([`neighbour_limit`]).
///
/// # Errors
/// When the kernel does not list them.
pub fn forget_neighbours(netlink: &mut Netlink) -> Result<(), Error> {
    let mut all = neighbour::NeighbourMessage::default();
    all.header.family = AddressFamily::Inet;
    let found = netlink.dump("neighbours", RouteNetlinkMessage::GetNeighbour(all))?;
    for message in found {
        let RouteNetlinkMessage::NewNeighbour(m) = message else { continue };
        if matches!(m.header.state, neighbour::NeighbourState::Permanent | neighbour::NeighbourState::Noarp) {
            continue;
        }
        let message = RouteNetlinkMessage::DelNeighbour(m);
        // An entry that has gone meanwhile is no error.
        let _ = netlink.batch(&[Request { what: "neighbour".into(), message, flags: 0 }]);
    }
    Ok(())
}

/// The most neighbours of all namespaces together (arp(7), `gc_thresh3`); `None` if the kernel does
/// not show the limit, as inside a namespace.
pub fn neighbour_limit() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").ok()?.trim().parse().ok()
}

/// An interface, as the kernel reports it.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Set up.
    pub up: bool,
    /// Set up, with a carrier.
    pub running: bool,
    /// The bridge, bond or datapath that it belongs to.
    pub master: Option<u32>,
    /// Its kind (`bridge`, `bond`, `team`, `veth`); absent for a card.
    pub kind: Option<String>,
    /// The interface below it, e.g. the card of a VLAN. For a veth end, the other end does not
    /// count.
    pub lower: Option<u32>,
    /// The longest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Its Ethernet address; zeros where it has none.
    pub mac: [u8; 6],
    /// Counters.
    pub stats: Option<Stats64>,
}

/// All interfaces of the thread's namespace.
///
/// # Errors
/// When the kernel does not list them.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Interface>, Error> {
    ask(netlink, LinkMessage::default())
}

/// Like [`list`], without counters, in half the time.
///
/// # Errors
/// When the kernel does not list them.
pub fn list_bare(netlink: &mut Netlink) -> Result<Vec<Interface>, Error> {
    let mut all = LinkMessage::default();
    all.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    ask(netlink, all)
}

/// One interface of the thread's namespace, by its number.
///
/// # Errors
/// When there is no such interface.
pub fn one(netlink: &mut Netlink, index: u32) -> Result<Interface, Error> {
    let mut which = LinkMessage::default();
    which.header.index = index;
    let what = format!("interface {index}");
    let found = netlink.get(&what, RouteNetlinkMessage::GetLink(which))?;
    let why = || Error::Garbled { what, why: "it is about no interface".into() };
    interfaces(found).pop().ok_or_else(why)
}

fn ask(netlink: &mut Netlink, which: LinkMessage) -> Result<Vec<Interface>, Error> {
    Ok(interfaces(netlink.dump("interfaces", RouteNetlinkMessage::GetLink(which))?))
}

/// The interfaces in a list of messages.
pub fn interfaces(found: Vec<RouteNetlinkMessage>) -> Vec<Interface> {
    found
        .into_iter()
        .filter_map(|m| match m {
            RouteNetlinkMessage::NewLink(m) => Some(m),
            _ => None,
        })
        .map(|m| {
            let mut interface = Interface {
                index: m.header.index,
                name: String::new(),
                up: m.header.flags.contains(LinkFlags::Up),
                running: m.header.flags.contains(LinkFlags::Running),
                master: None,
                kind: None,
                lower: None,
                mtu: 0,
                mac: [0; 6],
                stats: None,
            };
            let (mut below, mut is_stacked) = (None, false);
            for attribute in m.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => interface.name = name,
                    LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                    LinkAttribute::Address(mac) => interface.mac = mac.try_into().unwrap_or_default(),
                    LinkAttribute::Stats64(stats) => interface.stats = Some(stats),
                    LinkAttribute::Controller(index) => interface.master = Some(index),
                    LinkAttribute::Link(index) => below = Some(index),
                    LinkAttribute::LinkInfo(infos) => {
                        interface.kind = infos.iter().find_map(|i| match i {
                            LinkInfo::Kind(kind) => Some(kind.to_string()),
                            _ => None,
                        });
                        is_stacked = infos.iter().any(|i| {
                            matches!(
                                i,
                                LinkInfo::Kind(
                                    InfoKind::Vlan | InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan
                                )
                            )
                        });
                    }
                    _ => {}
                }
            }
            interface.lower = below.filter(|_| is_stacked);
            interface
        })
        .collect()
}

/// Turns IPv6 off on interfaces that are created from now on in the thread's namespace, so that the
/// kernel sends no packets of its own.
pub fn disable_ipv6() {
    for which in ["all", "default"] {
        // A kernel without IPv6 has no such file, and needs no change.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
}
