//! What holds for the topology of every site, whatever its shape.

use std::collections::BTreeSet;
use tandem_model::paths::distances_to;
use tandem_model::{GatewayId, NodeId, ServerId, Site, SwitchId};

/// 1. Names, datapath ids, Ethernet addresses and addresses are unique, and names fit an interface.
/// 2. Ports are 1, 2, 3 ... on every node, and both ends of a link agree.
/// 3. Every node is reached.
/// 4. A server's address lies in its primary edge's prefix, a gateway's in none; prefixes do not
///    overlap.
/// 5. A link has the gateway, or else the switch, as its upper end.
pub(crate) fn check(site: &Site) {
    let t = &site.topology;
    let switches = (0..t.switches.len() as u32).map(|n| NodeId::Switch(SwitchId(n)));
    let servers = (0..t.servers.len() as u32).map(|n| NodeId::Server(ServerId(n)));
    let gateways = (0..t.gateways.len() as u32).map(|n| NodeId::Gateway(GatewayId(n)));
    let nodes: Vec<NodeId> = switches.chain(servers).chain(gateways).collect();

    let names: BTreeSet<&str> = nodes.iter().map(|n| t.name(*n)).collect();
    assert_eq!(names.len(), nodes.len());
    assert!(names.iter().all(|n| n.len() <= 15));
    let dpids: BTreeSet<u64> = t.switches.iter().map(|s| s.dpid.0).collect();
    assert_eq!(dpids.len(), t.switches.len());
    let macs: BTreeSet<_> = t.servers.iter().map(|s| s.mac).chain(t.gateways.iter().map(|g| g.mac)).collect();
    assert_eq!(macs.len(), t.servers.len() + t.gateways.len());
    assert!(macs.iter().all(|m| !m.is_multicast() && m.0[0] == 2), "locally administered");
    let addresses: BTreeSet<_> =
        t.servers.iter().map(|s| s.address).chain(t.gateways.iter().map(|g| g.address)).collect();
    assert_eq!(addresses.len(), t.servers.len() + t.gateways.len());
    assert!(addresses.iter().all(|a| site.addresses.network.contains(*a) && *a != site.addresses.dhcp));

    for node in &nodes {
        for (n, (port, link)) in (1u32..).zip(t.ports(*node)) {
            assert_eq!(port.0, n, "{}", t.name(*node));
            assert_eq!(t.link(*link).and_then(|l| l.end_at(*node)).map(|e| e.port), Some(*port));
        }
    }
    let distances = distances_to(t, NodeId::Switch(SwitchId(0)), |_| true);
    assert!(distances.iter().all(|d| *d != u32::MAX));

    let mut prefixes: Vec<_> = t.switches.iter().filter_map(|s| s.prefix).collect();
    prefixes.sort_unstable();
    assert!(prefixes.windows(2).all(|p| p[0].last() < p[1].address()));
    for (n, server) in (0u32..).zip(&t.servers) {
        let edge = t.edge_of(ServerId(n), 0).and_then(|e| t.switch(e)).and_then(|s| s.prefix);
        assert!(edge.is_some_and(|p| p.contains(server.address) && p.address() != server.address));
    }
    for gateway in &t.gateways {
        let after = prefixes.partition_point(|p| p.address() <= gateway.address);
        assert!(after == 0 || !prefixes[after - 1].contains(gateway.address));
        assert!(site.addresses.gateways.contains(gateway.address));
    }
    for link in &t.links {
        assert!(!matches!(link.a.node, NodeId::Server(_)) && !matches!(link.b.node, NodeId::Gateway(_)));
    }
}
