//! Paths against two oracles on random small data centres: petgraph's Dijkstra for distances, and a
//! list of all simple paths, written down without any cleverness, for everything else.

use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::paths::{self, Path};
use tandem_model::{
    BitRate, Dpid, Endpoint, Gateway, GatewayId, Hop, Link, LinkConfig, LinkId, Mac, NodeId, PortNo,
    Resources, Role, Server, ServerId, Switch, SwitchId, Topology,
};

/// A data centre without any order in it: links between any two different nodes, parallel ones too,
/// some of them down in one direction, each direction with something left.
#[derive(Debug, Clone)]
struct World {
    topology: Topology,
    /// Per link: left downwards and upwards; `None` is down.
    left: Vec<[Option<u64>; 2]>,
}

impl World {
    fn left(&self, hop: Hop) -> Option<BitRate> {
        self.left.get(hop.link.0 as usize).and_then(|l| l[usize::from(!hop.down)]).map(BitRate)
    }

    fn usable(&self, hop: Hop) -> bool {
        self.left(hop).is_some()
    }

    fn nodes(&self) -> Vec<NodeId> {
        let t = &self.topology;
        let switches = (0..t.switches.len() as u32).map(|n| NodeId::Switch(SwitchId(n)));
        let servers = (0..t.servers.len() as u32).map(|n| NodeId::Server(ServerId(n)));
        let gateways = (0..t.gateways.len() as u32).map(|n| NodeId::Gateway(GatewayId(n)));
        switches.chain(servers).chain(gateways).collect()
    }

    fn hops(&self) -> impl Iterator<Item = Hop> {
        (0..self.topology.links.len() as u32)
            .flat_map(|n| [true, false].map(|down| Hop { link: LinkId(n), down }))
    }

    /// Every path from `from` to `to` that meets no node twice and passes through switches only.
    fn simple_paths(&self, from: NodeId, to: NodeId) -> Vec<Path> {
        let mut found = Vec::new();
        let mut open = vec![(from, Vec::<Hop>::new(), vec![from])];
        while let Some((at, path, met)) = open.pop() {
            if at == to {
                found.push(path);
                continue;
            }
            for hop in self.hops() {
                let (tail, head) = (paths::tail(&self.topology, hop), paths::head(&self.topology, hop));
                let (Some(tail), Some(head)) = (tail, head) else { continue };
                let passable = head == to || matches!(head, NodeId::Switch(_));
                if tail == at && passable && !met.contains(&head) && self.usable(hop) {
                    let path = path.iter().copied().chain([hop]).collect();
                    let met = met.iter().copied().chain([head]).collect();
                    open.push((head, path, met));
                }
            }
        }
        found.sort_by_key(|p| (p.len(), p.clone()));
        found
    }
}

fn world() -> impl Strategy<Value = World> {
    (1usize..6, 0usize..4, 0usize..3).prop_flat_map(|(switches, servers, gateways)| {
        let nodes = switches + servers + gateways;
        let left = || prop_oneof![1 => Just(None), 6 => (0u64..6).prop_map(Some)];
        let link = (0..nodes, 0..nodes, left(), left());
        prop::collection::vec(link, 0..11).prop_map(move |links| build(switches, servers, gateways, links))
    })
}

type Drawn = (usize, usize, Option<u64>, Option<u64>);

fn build(switches: usize, servers: usize, gateways: usize, drawn: Vec<Drawn>) -> World {
    let node = |n: usize| match n {
        n if n < switches => NodeId::Switch(SwitchId(n as u32)),
        n if n < switches + servers => NodeId::Server(ServerId((n - switches) as u32)),
        n => NodeId::Gateway(GatewayId((n - switches - servers) as u32)),
    };
    let cfg = LinkConfig { rate: BitRate::mbit(10), delay: Duration::ZERO, loss_ppm: 0, queue: 100 };
    let mut ports = vec![0u32; switches + servers + gateways];
    let mut links = Vec::new();
    let mut left = Vec::new();
    for (a, b, down, up) in drawn.into_iter().filter(|(a, b, ..)| a != b) {
        let [a, b] = [a, b].map(|n| {
            ports[n] += 1;
            Endpoint { node: node(n), port: PortNo(ports[n]) }
        });
        links.push(Link { a, b, cfg });
        left.push([down, up]);
    }
    let switch = |n: usize| Switch {
        name: format!("edge{n}"),
        dpid: Dpid(n as u64),
        role: Role::Edge,
        legacy: n % 3 == 2,
        prefix: None,
        datapath: None,
    };
    let (mac, address) = (Mac([2, 0, 0, 0, 0, 0]), Ipv4Addr::UNSPECIFIED);
    let server = |n: usize| Server {
        name: format!("srv{n}"),
        capacity: Resources::default(),
        mac,
        address,
        uplinks: Vec::new(),
    };
    let gateway = |n: usize| Gateway { name: format!("gw{n}"), mac, address, uplinks: Vec::new() };
    let topology = Topology::new(
        (0..switches).map(switch).collect(),
        (0..servers).map(server).collect(),
        (0..gateways).map(gateway).collect(),
        links,
    );
    World { topology, left }
}

/// The world as a directed graph in which every way leads to `target`: servers and gateways have no
/// way in, except the target.
fn graph_towards(world: &World, target: NodeId) -> DiGraph<(), u32> {
    let t = &world.topology;
    let mut graph = DiGraph::new();
    let places: Vec<NodeIndex> = world.nodes().iter().map(|_| graph.add_node(())).collect();
    for hop in world.hops().filter(|h| world.usable(*h)) {
        let (Some(tail), Some(head)) = (paths::tail(t, hop), paths::head(t, hop)) else { continue };
        if head == target || matches!(head, NodeId::Switch(_)) {
            graph.add_edge(places[t.slot(tail)], places[t.slot(head)], 1);
        }
    }
    graph
}

proptest! {
    #[test]
    fn distances_are_those_of_dijkstra(world in world()) {
        for target in world.nodes() {
            let mut graph = graph_towards(&world, target);
            graph.reverse();
            let start = NodeIndex::new(world.topology.slot(target));
            let oracle = dijkstra(&graph, start, None, |e| *e.weight());
            let found = paths::distances_to(&world.topology, target, |h| world.usable(h));
            for node in world.nodes() {
                let slot = world.topology.slot(node);
                // A server's edges lead out of it; in the reversed graph nothing goes on from it,
                // as it should be.
                let expected = oracle.get(&NodeIndex::new(slot)).copied().unwrap_or(u32::MAX);
                prop_assert_eq!(found[slot], expected, "from {:?} to {:?}", node, target);
            }
            prop_assert!(graph.edge_references().all(|e| e.source() != e.target()));
        }
    }

    #[test]
    fn the_shortest_and_the_k_shortest_are_the_first_of_all_simple_paths(world in world(), k in 0usize..7) {
        let t = &world.topology;
        for from in world.nodes() {
            for to in world.nodes() {
                let all = world.simple_paths(from, to);
                let fewest = all.first().map_or(0, Vec::len);
                let shortest: Vec<Path> = all.iter().filter(|p| p.len() == fewest).cloned().collect();
                let usable = |h| world.usable(h);
                prop_assert_eq!(paths::all_shortest(t, from, to, usize::MAX, usable), shortest.clone());
                let limited: Vec<Path> = shortest.into_iter().take(k).collect();
                prop_assert_eq!(paths::all_shortest(t, from, to, k, usable), limited);
                let first: Vec<Path> = all.into_iter().take(k).collect();
                prop_assert_eq!(paths::k_shortest(t, from, to, k, usable), first, "{:?} to {:?}", from, to);
            }
        }
    }

    #[test]
    fn by_residual_is_short_first_and_then_as_wide_as_can_be(world in world(), need in 0u64..5) {
        let t = &world.topology;
        let width = |p: &Path| p.iter().filter_map(|h| world.left(*h)).min().map_or(u64::MAX, |r| r.0);
        for from in world.nodes() {
            for to in world.nodes() {
                let all = world.simple_paths(from, to);
                let best = all
                    .iter()
                    .filter(|p| width(p) >= need)
                    .map(|p| (p.len(), std::cmp::Reverse(width(p))))
                    .min();
                let found = paths::by_residual(t, from, to, BitRate(need), |h| world.left(h));
                prop_assert_eq!(found.as_ref().map(|p| (p.len(), std::cmp::Reverse(width(p)))), best);
                if let Some(path) = found {
                    prop_assert!(all.contains(&path), "{:?} is no simple path", path);
                    let nodes = paths::nodes(t, from, &path);
                    prop_assert_eq!(nodes.first().copied(), Some(from));
                    prop_assert_eq!(nodes.last().copied(), Some(to));
                    let met: BTreeSet<NodeId> = nodes.iter().copied().collect();
                    prop_assert_eq!(met.len(), nodes.len());
                }
            }
        }
    }
}

/// Two switches, three links between them: the narrow one has the lowest id. Of the two widest the
/// one with the lower id wins, and a link that must not be used does not count however wide it is.
#[test]
fn of_equal_paths_the_lowest_link_wins() {
    let world = build(
        2,
        0,
        0,
        vec![(0, 1, Some(1), None), (0, 1, Some(5), None), (0, 1, Some(5), None), (1, 0, Some(9), None)],
    );
    let [a, b] = [0, 1].map(|n| NodeId::Switch(SwitchId(n)));
    let left = |h| world.left(h);
    let path = paths::by_residual(&world.topology, a, b, BitRate(1), left);
    assert_eq!(path, Some(vec![Hop { link: LinkId(1), down: true }]));
    assert_eq!(paths::by_residual(&world.topology, a, b, BitRate(6), left), None, "nothing has 6 left");
    let shortest = paths::all_shortest(&world.topology, a, b, 9, |h| world.usable(h));
    let links: Vec<u32> = shortest.iter().map(|p| p[0].link.0).collect();
    assert_eq!(links, vec![0, 1, 2]);
}

/// A line of 4,096 switches, the longest that a site may have: a walk along it must not depend on
/// the stack's depth.
#[test]
fn the_longest_line_is_walked() {
    let links = (0..4095).map(|n| (n, n + 1, Some(1), Some(1))).collect();
    let world = build(4096, 0, 0, links);
    let [a, b] = [0, 4095].map(|n| NodeId::Switch(SwitchId(n)));
    let found = paths::all_shortest(&world.topology, a, b, 2, |h| world.usable(h));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), vec![4095]);
    let wide = paths::by_residual(&world.topology, b, a, BitRate(1), |h| world.left(h));
    assert_eq!(wide.map(|p| p.len()), Some(4095));
}
