//! Which host holds which node of the site, what is cabled between hosts, and how a host's domain 0
//! is wired: data, made real by others.
//!
//! The n-th edge switch and its servers are the n-th host's; all else is the first host's. A link
//! between nodes of one host is a veth pair, one between hosts a pair of data cards joined by QEMU.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use tandem_model::{Endpoint, GatewayId, Mac, NodeId, ServerId, Site, SwitchId};

/// A port of a node: its number, and its interface in domain 0.
pub type Port = (u32, String);

/// A host's part of the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// `xen1`.
    pub host: String,
    /// Switches, with their ports.
    pub switches: Vec<(String, Vec<Port>)>,
    /// Servers, each with its bridge. Guests take its name along when they move, so the n-th one is
    /// called alike on every host.
    pub servers: Vec<(String, String)>,
    /// Gateways: each a namespace of that name.
    pub gateways: Vec<String>,
    /// Data cards, in their order: interface, and the cable.
    pub cards: Vec<(String, Cable)>,
    /// What domain 0 is told to make of it, for `sh`.
    pub script: String,
}

/// An end of a cable between hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// Its number, from 1.
    pub number: usize,
    /// Which of its ends.
    pub far: bool,
}

impl Cable {
    /// The names of the sockets at this end and at the other.
    pub fn sockets(&self) -> [String; 2] {
        let socket = |far: bool| format!("cable{}{}.sock", self.number, if far { "b" } else { "a" });
        [socket(self.far), socket(!self.far)]
    }
}

/// The Ethernet address of a host's card; card 0 is the control network's.
pub fn mac(host: usize, card: usize) -> String {
    format!("52:54:00:78:{:02x}:{card:02x}", host + 1)
}

/// Every host's part, in order.
pub fn parts(site: &Site) -> Vec<Part> {
    let t = &site.topology;
    let mut at: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut edges = 0;
    for (n, switch) in (0u32..).zip(&t.switches) {
        let edge = switch.prefix.is_some() && !switch.legacy;
        at.insert(NodeId::Switch(SwitchId(n)), if edge { edges } else { 0 });
        edges += usize::from(edge);
    }
    for (n, _) in (0u32..).zip(&t.servers) {
        let edge = t.edge_of(ServerId(n), 0).and_then(|e| at.get(&NodeId::Switch(e)).copied());
        at.insert(NodeId::Server(ServerId(n)), edge.unwrap_or(0));
    }
    for (n, _) in (0u32..).zip(&t.gateways) {
        at.insert(NodeId::Gateway(GatewayId(n)), 0);
    }
    let mut parts: Vec<Part> =
        (0..edges.max(1)).map(|n| Part { host: format!("xen{}", n + 1), ..Part::default() }).collect();
    let interface = |end: Endpoint| format!("{}-{}", t.name(end.node), end.port);
    // 1. Links: both ends' interfaces are there before anything is plugged together.
    let mut cables = 0;
    for link in &t.links {
        let ends = [link.a, link.b];
        let [a, b] = ends.map(|e| at.get(&e.node).copied().unwrap_or(0));
        if a == b {
            let [x, y] = ends.map(interface);
            let _ = writeln!(parts[a].script, "ip link add {x} type veth peer name {y}");
            continue;
        }
        cables += 1;
        for (host, end, far) in [(a, link.a, false), (b, link.b, true)] {
            let part = &mut parts[host];
            part.cards.push((interface(end), Cable { number: cables, far }));
            let _ = writeln!(part.script, "card {} {}", mac(host, part.cards.len()), interface(end));
        }
    }
    // 2. Nodes.
    let prefix = site.addresses.network.len();
    for (node, host) in at {
        let part = &mut parts[host];
        let name = t.name(node).to_owned();
        let ports: Vec<Port> =
            t.ports(node).iter().map(|(port, _)| (port.0, format!("{name}-{port}"))).collect();
        match node {
            NodeId::Switch(_) => part.switches.push((name, ports)),
            NodeId::Server(s) => {
                let bridge = format!("xenbr{}", part.servers.len());
                if let Some(server) = t.server(s) {
                    part.script.push_str(&server_script(&bridge, server.mac, server.address, prefix, &ports));
                }
                part.servers.push((name, bridge));
            }
            NodeId::Gateway(g) => {
                if let Some(gateway) = t.gateway(g) {
                    let script = gateway_script(&name, gateway.mac, gateway.address, prefix, &ports);
                    part.script.push_str(&script);
                }
                part.gateways.push(name);
            }
        }
    }
    parts
}

/// A bridge with the server's addresses, into which its uplinks are plugged, and later the guests.
fn server_script(name: &str, mac: Mac, address: std::net::Ipv4Addr, prefix: u8, ports: &[Port]) -> String {
    let mut text = format!("ip link add {name} address {mac} type bridge stp_state 0 forward_delay 0\n");
    for (_, interface) in ports {
        let _ = writeln!(text, "ip link set {interface} master {name} up");
    }
    let _ = writeln!(text, "ip address add {address}/{prefix} dev {name}\nip link set {name} up");
    text
}

/// A namespace with the gateway's addresses on its first uplink.
fn gateway_script(name: &str, mac: Mac, address: std::net::Ipv4Addr, prefix: u8, ports: &[Port]) -> String {
    let mut text = format!("ip netns add {name}\nip -n {name} link set lo up\n");
    for (_, interface) in ports {
        let _ = writeln!(text, "ip link set {interface} netns {name}");
        let _ = writeln!(text, "ip -n {name} link set {interface} up");
    }
    if let Some((_, first)) = ports.first() {
        let _ = writeln!(text, "ip -n {name} link set {first} address {mac}");
        let _ = writeln!(text, "ip -n {name} address add {address}/{prefix} dev {first}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::xen::files;
    use tandem_model::site;

    #[test]
    fn each_host_has_an_edge_and_its_server_and_the_first_one_all_else() {
        let site = site::read(&files::site("t", 3), "the lab's site").expect("a sound site");
        let parts = parts(&site);
        assert_eq!(parts.iter().map(|p| p.host.as_str()).collect::<Vec<_>>(), ["xen1", "xen2", "xen3"]);
        assert_eq!(parts[0].gateways, ["gw1"]);
        let switches = |n: usize| parts[n].switches.iter().map(|s| s.0.as_str()).collect::<Vec<_>>();
        assert_eq!((switches(0), switches(1)), (vec!["core1", "edge1"], vec!["edge2"]));
        assert_eq!(parts[2].servers, [("srv3".to_owned(), "xenbr0".to_owned())]);
        // Two cables, both from the core switch in the first host.
        let cards = |n: usize| parts[n].cards.iter().map(|c| c.0.as_str()).collect::<Vec<_>>();
        assert_eq!((cards(0), cards(1)), (vec!["core1-3", "core1-4"], vec!["edge2-1"]));
        let [here, there] = parts[0].cards[1].1.sockets();
        assert_eq!(parts[2].cards[0].1.sockets(), [there, here]);
    }

    #[test]
    fn every_port_of_a_host_is_made_by_its_script() {
        let site = site::read(&files::site("t", 2), "the lab's site").expect("a sound site");
        for (n, part) in parts(&site).iter().enumerate() {
            for (_, interface) in part.switches.iter().flat_map(|s| &s.1) {
                assert!(part.script.contains(interface.as_str()), "{interface} in {}", part.script);
                assert!(interface.len() <= 15, "{interface}");
            }
            let server = &site.topology.servers[n];
            assert!(part.script.contains(&format!("ip address add {}/8 dev xenbr0", server.address)));
        }
    }
}
