//! Shapes: counts, degrees, ports, addresses and connectivity, for small sizes drawn at random and
//! for 100,000 servers.

mod soundness;

use proptest::prelude::*;
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

/// What holds for every shape that is built from counts: it is sound, every edge switch owns a
/// prefix and no other switch does, and uplinks come first: the port to an upper switch is lower
/// than every port to a server.
fn check(site: &Site) {
    soundness::check(site);
    let t = &site.topology;
    let owners = t.switches.iter().filter(|s| s.prefix.is_some());
    assert!(owners.clone().all(|s| s.role == Role::Edge));
    assert_eq!(owners.count(), of_role(t, Role::Edge).len());
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every leaf has its links to every spine, and every gateway and server as many as were asked
    /// for, or the counts are refused because there are fewer switches to link to.
    #[test]
    fn a_leaf_spine_fabric_is_a_full_mesh_of_its_two_levels(
        (spines, leaves, servers) in (1u32..5, 1u32..7, 0u32..4),
        (links, homes, gateways, gateway_links) in (1u32..4, 1u32..3, 1u32..5, 1u32..4),
        place in 0usize..3,
        border in 1u32..4,
    ) {
        let (at, near) = [("spines", spines), ("leaves", leaves), ("border", border)][place];
        let mut text = format!(
            "[topology]\nshape = \"leaf-spine\"\nspines = {spines}\nleaves = {leaves}\nservers_per_leaf = {servers}\n\
             server_uplinks = {homes}\nlinks = {links}\ngateways = {gateways}\ngateway_links = {gateway_links}\n\
             gateways_at = \"{at}\"\n",
        );
        if at == "border" {
            text.push_str(&format!("border_leaves = {border}\n"));
        }
        let possible = homes <= leaves && gateway_links <= near;
        let site = match read(&text, "site.toml") {
            Ok(site) => site,
            Err(faults) => {
                prop_assert!(!possible && faults.faults.iter().all(|f| f.problem.contains("to link to")), "{faults}");
                return Ok(());
            }
        };
        prop_assert!(possible);
        check(&site);
        let t = &site.topology;
        let name = |n: &NodeId| t.name(*n).to_owned();
        let leaf_nodes = of_role(t, Role::Edge);
        let (spine_nodes, border_nodes): (Vec<_>, Vec<_>) =
            of_role(t, Role::Core).into_iter().partition(|n| name(n).starts_with("spine"));
        let borders = if at == "border" { border } else { 0 };
        prop_assert_eq!((spine_nodes.len() as u32, leaf_nodes.len() as u32), (spines, leaves));
        prop_assert_eq!(border_nodes.len() as u32, borders);
        for lower in leaf_nodes.iter().chain(&border_nodes) {
            for spine in &spine_nodes {
                let between = t.ports(*lower).iter().filter(|(_, l)| {
                    t.link(*l).and_then(|l| l.other(*lower)).is_some_and(|e| e.node == *spine)
                });
                prop_assert_eq!(between.count() as u32, links, "{} to {}", name(lower), name(spine));
            }
        }
        for gateway in &t.gateways {
            prop_assert_eq!(gateway.uplinks.len() as u32, gateway_links);
            let nears = gateway.uplinks.iter().filter_map(|l| Some(t.name(t.link(*l)?.b.node)));
            let stem = at.trim_end_matches('s').replace("leave", "leaf");
            prop_assert!(nears.into_iter().all(|n| n.starts_with(&stem)));
        }
        prop_assert!(t.servers.iter().all(|s| s.uplinks.len() as u32 == homes));
        prop_assert_eq!(t.servers.len() as u32, leaves * servers);
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
    let leaves = "shape = \"leaf-spine\"\nspines = 8\nleaves = 2500\nservers_per_leaf = 40\n[addresses]\n\
                  prefix_len = 20\n";
    for (text, servers) in [(tree, 100_000), (fat, 74 * 74 * 74 / 4), (line, 100_000), (leaves, 100_000)] {
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
