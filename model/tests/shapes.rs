//! Shapes: counts, degrees, ports, addresses and connectivity, for small sizes drawn at random and
//! for 100,000 servers.

use proptest::prelude::*;
use std::collections::BTreeSet;
use tandem_model::paths::distances_to;
use tandem_model::site::read;
use tandem_model::{NodeId, Role, ServerId, Site, SwitchId, Topology};

fn site(topology: &str) -> Site {
    read(&format!("[topology]\n{topology}"), "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn of_role(t: &Topology, role: Role) -> Vec<NodeId> {
    let ids = (0u32..).zip(&t.switches).filter(|(_, s)| s.role == role);
    ids.map(|(n, _)| NodeId::Switch(SwitchId(n))).collect()
}

/// How many links of a node lead to switches of a role.
fn links_to(t: &Topology, node: NodeId, role: Role) -> usize {
    let others = t.ports(node).iter().filter_map(|(_, l)| t.link(*l)?.other(node));
    others
        .filter(|e| matches!(e.node, NodeId::Switch(id) if t.switch(id).is_some_and(|s| s.role == role)))
        .count()
}

/// What holds for every shape:
/// 1. names, datapath ids, Ethernet addresses and addresses are unique, and names fit an interface;
/// 2. ports are 1, 2, 3 ... on every node, and both ends of a link agree;
/// 3. every node is reached;
/// 4. a server's address lies in its primary edge's prefix, a gateway's in none; prefixes do not
///    overlap;
/// 5. uplinks come first: the port to an upper switch is lower than every port to a server.
fn check(site: &Site) {
    let t = &site.topology;
    let switches = (0..t.switches.len() as u32).map(|n| NodeId::Switch(SwitchId(n)));
    let servers = (0..t.servers.len() as u32).map(|n| NodeId::Server(ServerId(n)));
    let gateways = (0..t.gateways.len() as u32).map(|n| NodeId::Gateway(tandem_model::GatewayId(n)));
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
    assert_eq!(prefixes.len(), of_role(t, Role::Edge).len());
    for (n, server) in (0u32..).zip(&t.servers) {
        let edge = t.edge_of(ServerId(n), 0).and_then(|e| t.switch(e)).and_then(|s| s.prefix);
        assert!(edge.is_some_and(|p| p.contains(server.address) && p.address() != server.address));
    }
    for gateway in &t.gateways {
        let after = prefixes.partition_point(|p| p.address() <= gateway.address);
        assert!(after == 0 || !prefixes[after - 1].contains(gateway.address));
        assert!(site.addresses.gateways.contains(gateway.address));
    }
    for edge in of_role(t, Role::Edge) {
        let down =
            |l| t.link(l).and_then(|l| l.other(edge)).is_some_and(|e| matches!(e.node, NodeId::Server(_)));
        let kinds: Vec<bool> = t.ports(edge).iter().map(|(_, l)| down(*l)).collect();
        assert!(kinds.is_sorted(), "{}", t.name(edge));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any counts either make a sound tree or are refused because they leave it in pieces.
    #[test]
    fn a_tree_has_the_degrees_that_were_asked_for(
        (core, aggregation, edge) in (1u32..6, 0u32..9, 1u32..12),
        (servers, gateways) in (0u32..5, 1u32..4),
        (up, middle, low, homes) in (1u32..3, 1u32..4, 1u32..4, 1u32..3),
    ) {
        let text = format!(
            "[topology]\nshape = \"three-tier\"\ncore = {core}\naggregation = {aggregation}\nedge = {edge}\n\
             servers_per_edge = {servers}\ngateways = {gateways}\ncore_gateway_links = {up}\n\
             aggregation_core_links = {middle}\nedge_aggregation_links = {low}\nserver_uplinks = {homes}\n",
        );
        let site = match read(&text, "site.toml") {
            Ok(site) => site,
            Err(faults) => {
                let told = |f: &tandem_model::site::Fault| {
                    f.problem.contains("nodes above to link to") || f.problem.contains("is not connected to")
                };
                prop_assert!(faults.faults.iter().all(told), "{faults}");
                return Ok(());
            }
        };
        check(&site);
        let t = &site.topology;
        prop_assert_eq!(t.servers.len() as u32, edge * servers);
        let (above, by) = if aggregation == 0 { (Role::Core, low) } else { (Role::Aggregation, low) };
        for node in of_role(t, Role::Edge) {
            prop_assert_eq!(links_to(t, node, above) as u32, by);
        }
        for node in of_role(t, Role::Aggregation) {
            prop_assert_eq!(links_to(t, node, Role::Core) as u32, middle);
        }
        // Links are spread evenly: no upper switch has two more of them than another.
        let spread = |uppers: Vec<NodeId>, lower: Role| {
            let counts: Vec<usize> = uppers.iter().map(|n| links_to(t, *n, lower)).collect();
            counts.iter().max().copied().unwrap_or(0) - counts.iter().min().copied().unwrap_or(0)
        };
        prop_assert!(spread(of_role(t, above), Role::Edge) <= 1);
        prop_assert!(aggregation == 0 || spread(of_role(t, Role::Core), Role::Aggregation) <= 1);
        for server in &t.servers {
            prop_assert_eq!(server.uplinks.len() as u32, homes);
        }
    }

    #[test]
    fn a_line_is_a_line(switches in 1u32..40, servers in 0u32..4, gateways in 1u32..4) {
        let site = site(&format!(
            "shape = \"linear\"\nswitches = {switches}\nservers_per_switch = {servers}\ngateways = {gateways}\n"
        ));
        check(&site);
        let t = &site.topology;
        prop_assert_eq!(t.links.len() as u32, gateways + switches - 1 + switches * servers);
    }
}

/// Al-Fares et al. (SIGCOMM 2008), section 3.1: (k/2)^2 core switches, k pods of k/2 + k/2 switches
/// with k ports each, k^3/4 hosts, and (k/2)^2 shortest paths between hosts of different pods.
#[test]
fn a_fat_tree_is_the_one_of_the_paper() {
    for k in [2u32, 4, 6, 8] {
        let site = site(
            &format!("shape = \"fat-tree\"\nk = {k}\ngateways = 2\n")
                .replace("gateways = 2", if k == 2 { "gateways = 1" } else { "gateways = 2" }),
        );
        check(&site);
        let t = &site.topology;
        let half = k as usize / 2;
        assert_eq!(of_role(t, Role::Core).len(), half * half);
        assert_eq!((t.switches.len(), t.servers.len()), (5 * half * half, 2 * half.pow(3)));
        assert_eq!(t.links.len(), half * half + 3 * 2 * half.pow(3));
        for node in of_role(t, Role::Aggregation) {
            assert_eq!((links_to(t, node, Role::Core), links_to(t, node, Role::Edge)), (half, half));
        }
        for node in of_role(t, Role::Core) {
            assert_eq!(links_to(t, node, Role::Aggregation), k as usize);
        }
        let first = NodeId::Server(ServerId(0));
        let last = NodeId::Server(ServerId(t.servers.len() as u32 - 1));
        let paths = tandem_model::paths::all_shortest(t, first, last, usize::MAX, |_| true);
        assert_eq!(paths.len(), half * half);
        assert!(paths.iter().all(|p| p.len() == 6), "server, edge, aggregation, core and down again");
    }
}

/// A hundred thousand servers in every shape: sound, and built from a text of a few lines. (Reading
/// one takes some tens of milliseconds when optimised.)
#[test]
fn a_hundred_thousand_servers() {
    let tree = "shape = \"three-tier\"\ncore = 16\naggregation = 100\nedge = 2500\nservers_per_edge = 40\n\
                gateways = 16\naggregation_core_links = 4\n[addresses]\nprefix_len = 20\n";
    let fat = "shape = \"fat-tree\"\nk = 74\n";
    let line =
        "shape = \"linear\"\nswitches = 1000\nservers_per_switch = 100\n[addresses]\nprefix_len = 20\n";
    for (text, servers) in [(tree, 100_000), (fat, 74 * 74 * 74 / 4), (line, 100_000)] {
        let site = site(text);
        assert_eq!(site.topology.servers.len(), servers);
        check(&site);
    }
}

/// As many exceptions as there are servers must not take time that grows with their square.
#[test]
fn twenty_thousand_exceptions() {
    let mut text = "shape = \"three-tier\"\nedge = 500\nservers_per_edge = 40\n".to_owned();
    for n in 1..=20_000 {
        text.push_str(&format!("[[server]]\nname = \"srv{n}\"\ncpu = {}\n", n % 64));
    }
    let built = site(&text);
    assert!((1u32..).zip(&built.topology.servers).all(|(n, s)| s.capacity.cpu == n % 64));
    // All of them wrong.
    let wrong = format!("[topology]\n{}", text.replace("cpu = ", "cpu = -"));
    let faults = read(&wrong, "site.toml").expect_err("faults").faults;
    assert_eq!(faults.len(), 20_000 - 20_000 / 64, "-0 is 0");
}

/// With half the core switches at each edge switch the rounds must overlap, or the site falls into
/// two halves.
#[test]
fn two_tiers_hold_together() {
    let site = site(
        "shape = \"three-tier\"\ncore = 4\naggregation = 0\nedge = 4\nedge_aggregation_links = 2\ngateways = 4\n",
    );
    check(&site);
    let t = &site.topology;
    let cores = |n: u32| -> Vec<u32> {
        let edge = of_role(t, Role::Edge)[n as usize];
        let heads = t.ports(edge).iter().filter_map(|(_, l)| t.link(*l)?.other(edge));
        heads
            .filter_map(|e| match e.node {
                NodeId::Switch(id) => Some(id.0 + 1),
                _ => None,
            })
            .collect()
    };
    assert_eq!([cores(0), cores(1), cores(2), cores(3)], [vec![1, 2], vec![3, 4], vec![2, 3], vec![4, 1]]);
}
