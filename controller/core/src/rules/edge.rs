//! The edge: where machines are plugged in, what they send is judged, and only there; further in,
//! switches trust each other.
//!
//! What is let through is said rule by rule, and everything else that comes in by a machine's port
//! is dropped by one (`source::DENY`): IPv6, which is not served yet, discovery frames, by which a
//! machine could forge links, frames of VLANs and with two tags (the Ethernet type behind the first
//! tag is that of the second one). VID 0 is no VLAN (IEEE 802.1Q section 9.6): frames with such a
//! tag are let through like those without. Only DHCP is matched by transport ports, and only to
//! where its clients send it, so that no fragment of another packet is taken for it: a later
//! fragment has no ports, and goes by its addresses like its packet.
//!
//! A frame comes out at a machine's port only if it is addressed to a machine there: rules that
//! deliver also match the destination's Ethernet address. So nothing of a broadcast or multicast
//! frame comes out anywhere, whatever its IP address is; those with such an IP address do not even
//! enter. A server's address reaches no VM: what comes from inside is delivered to servers and, by
//! rules of their own, to members of one's group.

use crate::network::topology_state::is_openflow;
use crate::rules::building_blocks::{Marking, ip, rule, source, target};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use tandem_model::site::AddressPlan;
use tandem_model::{
    Cookie, ETH_ARP, Gateway, LinkId, Mac, NodeId, Owner, Prefix, Rule, RuleAction, RuleMatch, Server, Site,
    SwitchId, Topology, VlanTag,
};

/// IP protocol number of UDP, and where DHCP clients and servers are (RFC 2131 section 4.1).
const UDP: u8 = 17;

const DHCP_CLIENT: u16 = 68;

const DHCP_SERVER: u16 = 67;

/// What is behind a port, legacy switches looked through.
#[derive(Debug, Default)]
struct Beyond<'a> {
    servers: Vec<&'a Server>,
    gateways: Vec<&'a Gateway>,
    /// OpenFlow switches too.
    switches: bool,
}

fn beyond<'a>(topology: &'a Topology, switch: SwitchId, link: LinkId) -> Beyond<'a> {
    let mut found = Beyond::default();
    let mut open = vec![(NodeId::Switch(switch), link)];
    let mut passed = Vec::new();
    while let Some((node, link)) = open.pop() {
        let Some(other) = topology.link(link).and_then(|l| l.other(node)) else { continue };
        match other.node {
            NodeId::Server(id) => found.servers.extend(topology.server(id)),
            NodeId::Gateway(id) => found.gateways.extend(topology.gateway(id)),
            legacy @ NodeId::Switch(_) if !is_openflow(topology, legacy) => {
                if !passed.contains(&legacy) {
                    passed.push(legacy);
                    let onward = topology.ports(legacy).iter().map(|(_, l)| *l).filter(|l| *l != link);
                    open.extend(onward.map(|l| (legacy, l)));
                }
            }
            NodeId::Switch(id) => found.switches |= id != switch,
        }
    }
    found.servers.sort_unstable_by_key(|s| s.mac);
    found.servers.dedup_by_key(|s| s.mac);
    found.gateways.sort_unstable_by_key(|g| g.mac);
    found.gateways.dedup_by_key(|g| g.mac);
    found
}

/// The Ethernet address that what goes to the outside by a port must be addressed to: that of the
/// gateway there, if there is one only.
pub(super) fn gateway_at(topology: &Topology, switch: SwitchId, link: LinkId) -> Option<Mac> {
    match beyond(topology, switch, link) {
        Beyond { gateways, switches: false, .. } => match gateways[..] {
            [only] => Some(only.mac),
            _ => None,
        },
        _ => None,
    }
}

/// The addresses of servers and VMs, and none of a gateway: the parts of the network that hold
/// edges' prefixes, as large as can be.
pub(super) fn inside(site: &Site) -> Vec<Prefix> {
    let AddressPlan { network, gateways, .. } = site.addresses;
    let edges: Vec<Prefix> = site.topology.switches.iter().filter_map(|s| s.prefix).collect();
    let (mut open, mut parts) = (vec![network], Vec::new());
    while let Some(part) = open.pop() {
        if !edges.iter().any(|e| e.overlaps(part)) {
            continue;
        }
        if !part.overlaps(gateways) {
            parts.push(part);
            continue;
        }
        // The gateways are outside of every edge's prefix, so this ends before single addresses.
        let length = part.len() + 1;
        let upper = part.address().to_bits() | 1u32.checked_shl(32 - u32::from(length)).unwrap_or(0);
        open.extend([part.address(), upper.into()].into_iter().filter_map(|a| Prefix::new(a, length)));
    }
    parts.sort_unstable();
    parts
}

/// Of no VLAN, and IP.
pub(super) fn plain_ip() -> RuleMatch {
    RuleMatch { vlan: Some(VlanTag::NoVlan), ..ip() }
}

/// The rules of all machines' ports of a switch; `inside` is [`inside`].
pub(super) fn edge(marking: Marking<'_>, inside: &[Prefix], switch: SwitchId) -> Vec<Rule> {
    let site = marking.site;
    let topology = &site.topology;
    let (base, plan) = (Cookie::new(Owner::Base, 0), Cookie::new(Owner::Fabric, 0));
    let mut rules = Vec::new();
    if site.modules.arp {
        let arp = RuleMatch { eth_type: Some(ETH_ARP), vlan: Some(VlanTag::NoVlan), ..RuleMatch::default() };
        rules.push(rule(0, source::PUNT, arp, vec![RuleAction::Controller], base));
    }
    let (mut has_servers, mut has_machines) = (false, false);
    let prefix = topology.switch(switch).and_then(|s| s.prefix);
    // A server with several links to this switch has its address at the first of them.
    let mut delivered = BTreeSet::new();
    for (port, link) in topology.ports(NodeId::Switch(switch)) {
        let Beyond { servers, gateways, switches } = beyond(topology, switch, *link);
        let entering = RuleMatch { in_port: Some(*port), ..RuleMatch::default() };
        let is_gateways = servers.is_empty() && !gateways.is_empty() && !switches;
        has_servers |= !servers.is_empty();
        has_machines |= !servers.is_empty() || is_gateways;
        if !servers.is_empty() || is_gateways {
            rules.push(rule(0, source::DENY, entering, Vec::new(), base));
        }
        for server in servers {
            let from = RuleMatch {
                in_port: Some(*port),
                eth_src: Some(server.mac),
                ip_src: Some(Prefix::host(server.address)),
                ..plain_ip()
            };
            rules.push(rule(0, source::SERVER, from, marking.go_on(switch, None), plan));
            if prefix.is_some_and(|p| p.contains(server.address)) && delivered.insert(server.mac) {
                let to = to_machine(server.mac, server.address);
                rules.push(rule(1, target::SERVER, to, vec![RuleAction::Output(*port)], plan));
            }
        }
        if is_gateways {
            // The mark of the default class, whatever the outside had written there.
            let from = RuleMatch { in_port: Some(*port), ..plain_ip() };
            rules.push(rule(0, source::ENTRY, from, marking.go_on(switch, None), base));
            for part in inside {
                let spoofed = RuleMatch { in_port: Some(*port), ip_src: Some(*part), ..ip() };
                rules.push(rule(0, source::SPOOFED, spoofed, Vec::new(), base));
            }
        }
    }
    if site.modules.dhcp && has_servers {
        for to in [Ipv4Addr::BROADCAST, site.addresses.dhcp] {
            let client = RuleMatch {
                ip_dst: Some(Prefix::host(to)),
                ip_proto: Some(UDP),
                l4_src: Some(DHCP_CLIENT),
                l4_dst: Some(DHCP_SERVER),
                ..plain_ip()
            };
            rules.push(rule(0, source::PUNT, client, vec![RuleAction::Controller], base));
        }
    }
    // RFC 5771: 224.0.0.0/4; RFC 1112 section 4 and RFC 919: 240.0.0.0/4 with the broadcast
    // address.
    if let Some(group) = Prefix::new(Ipv4Addr::new(224, 0, 0, 0), 3).filter(|_| has_machines) {
        let many = RuleMatch { ip_dst: Some(group), ..ip() };
        rules.push(rule(0, source::MULTICAST, many, Vec::new(), base));
    }
    if let Some(prefix) = prefix {
        rules.extend(isolated(inside, prefix, plan));
    }
    rules
}

/// What comes from inside and is neither to a server nor between members of a group reaches nobody.
pub(super) fn isolated(inside: &[Prefix], to: Prefix, cookie: Cookie) -> impl Iterator<Item = Rule> {
    inside.iter().map(move |part| {
        let between = RuleMatch { ip_src: Some(*part), ip_dst: Some(to), ..ip() };
        rule(1, target::ISOLATE, between, Vec::new(), cookie)
    })
}

/// To a machine's IP address, by its Ethernet address.
pub(super) fn to_machine(mac: Mac, address: Ipv4Addr) -> RuleMatch {
    RuleMatch { eth_dst: Some(mac), ip_dst: Some(Prefix::host(address)), ..ip() }
}

/// What leaves a switch by a link: where a gateway is there, it is addressed to that.
pub(super) fn leaving(matching: RuleMatch, topology: &Topology, switch: SwitchId, link: LinkId) -> RuleMatch {
    match gateway_at(topology, switch, link) {
        Some(mac) => RuleMatch { eth_dst: Some(mac), ..matching },
        None => matching,
    }
}
