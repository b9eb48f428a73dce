//! Data centres that are no trees: rings, chords, parallel links, switches that are core and edge
//! at once, servers with several links. Packets are walked through the rules that the core wants.

use crate::packets::{Fate, udp};
use crate::world::{World, read};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write;
use tandem_model::paths::distances_to;
use tandem_model::site::EXAMPLES;
use tandem_model::{
    GatewayId, LinkId, NodeId, Prefix, Request, Response, RuleAction, ServerId, VmRecord, VmState,
};

/// A connected graph as a site file: a random tree of switches, links that close loops or double
/// others, gateways and servers anywhere, with up to three links each.
fn graph() -> impl Strategy<Value = String> {
    let index = any::<prop::sample::Index>;
    let homes = move || prop::collection::vec(index(), 1..4);
    (
        prop::collection::vec(index(), 0..7),
        prop::collection::vec((index(), index(), 1u32..3), 0..7),
        prop::collection::vec(homes(), 2..6),
        prop::collection::vec(homes(), 1..4),
    )
        .prop_map(|(tree, extra, servers, gateways)| {
            let switches = tree.len() + 1;
            let mut text = "[topology]\nshape = \"free-form\"\n".to_owned();
            let mut put = |line: String| writeln!(text, "{line}").expect("a text");
            (0..switches).for_each(|n| put(format!("[[switch]]\nname = \"s{n}\"")));
            let mut link = |a: String, b: usize, count: u32| {
                put(format!("[[link]]\nbetween = [\"{a}\", \"s{b}\"]\ncount = {count}"));
            };
            (1..).zip(&tree).for_each(|(n, to)| link(format!("s{n}"), to.index(n), 1));
            for (a, b, count) in &extra {
                let (a, b) = (a.index(switches), b.index(switches));
                if a != b {
                    link(format!("s{a}"), b, *count);
                }
            }
            for (stem, homes) in [("h", &servers), ("g", &gateways)] {
                for (n, homes) in homes.iter().enumerate() {
                    homes.iter().for_each(|s| link(format!("{stem}{n}"), s.index(switches), 1));
                }
            }
            (0..servers.len()).for_each(|n| put(format!("[[server]]\nname = \"h{n}\"")));
            (0..gateways.len()).for_each(|n| put(format!("[[gateway]]\nname = \"g{n}\"")));
            text
        })
}

/// A data centre whose switches are connected and whose links are all seen.
fn connected(text: &str, one_table: bool) -> World {
    let mut world = World::dark(read(text), Default::default());
    world.one_table = one_table;
    world.connect_all();
    world.discover_except(&[]);
    world
}

/// Every server reaches every other and every gateway, and is reached from there, wherever links
/// that are up lead there.
fn assert_machines_reach_each_other(world: &World, down: &BTreeSet<LinkId>) {
    let t = &world.site.topology;
    let is_up = |link: LinkId| !down.contains(&link);
    // A machine sends, and a server is reached, by its first link: the switch at its other end.
    let first = |node: NodeId| {
        let link = t.ports(node).first().map(|(_, l)| *l).filter(|l| is_up(*l))?;
        t.link(link)?.other(node).map(|e| e.node)
    };
    let servers: Vec<NodeId> = (0..t.servers.len() as u32).map(|n| NodeId::Server(ServerId(n))).collect();
    let gateways: Vec<NodeId> = (0..t.gateways.len() as u32).map(|n| NodeId::Gateway(GatewayId(n))).collect();
    let mac_and_address = |node: NodeId| match node {
        NodeId::Server(id) => t.server(id).map(|s| (s.mac, s.address)),
        NodeId::Gateway(id) => t.gateway(id).map(|g| (g.mac, g.address)),
        NodeId::Switch(_) => None,
    };
    for to in servers.iter().chain(&gateways) {
        let is_server = matches!(to, NodeId::Server(_));
        let Some(end) = (if is_server { first(*to) } else { Some(*to) }) else { continue };
        let distance = distances_to(t, end, |hop| is_up(hop.link));
        for from in servers.iter().chain(&gateways).filter(|from| *from != to) {
            let is_between_gateways = gateways.contains(from) && gateways.contains(to);
            let there = first(*from).is_some_and(|switch| distance[t.slot(switch)] != u32::MAX);
            if is_between_gateways || !there {
                continue;
            }
            let ((mac, address), (_, target)) =
                (mac_and_address(*from).expect("a machine"), mac_and_address(*to).expect("a machine"));
            let (fate, way) = world.walk(*from, udp(mac, address, target));
            assert_eq!(fate, Fate::At(*to), "{} to {} by {way:?}", t.name(*from), t.name(*to));
        }
    }
}

/// A VM and the outside reach each other; or it is cut off, and there is no way.
fn assert_served(world: &World, vm: &VmRecord, down: &BTreeSet<LinkId>) {
    match &vm.state {
        VmState::Running => world.assert_reachable(vm),
        VmState::Cut { .. } => {
            let t = &world.site.topology;
            let distance = distances_to(t, NodeId::Gateway(vm.gateway), |hop| !down.contains(&hop.link));
            let left = distance[t.slot(NodeId::Server(vm.server))];
            assert_eq!(left, u32::MAX, "{} is cut off, and there is a way", vm.id);
        }
        other => panic!("{} is {other}", vm.id),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// On any connected graph all machines reach each other by the default routes alone, with two
    /// tables and with one; VMs reach the outside and the members of their group, and nobody else;
    /// and all of that is so again after links have broken, wherever there is a way left.
    #[test]
    fn on_any_graph_everybody_reaches_whom_they_may(
        text in graph(),
        one_table in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let mut world = connected(&text, one_table);
        assert_machines_reach_each_other(&world, &BTreeSet::new());
        world.attach(Vec::new());
        let vms: Vec<VmRecord> = (0..4).map(|_| world.vm()).collect();
        vms.iter().for_each(|vm| world.assert_reachable(vm));
        let members = vms[..3].iter().map(|v| v.address).collect();
        let group = world.ask(Request::CreateGroup { members });
        let is_made = matches!(world.answer(group), Some(Response::GroupCreated { .. }));
        prop_assert!(is_made);
        let links = world.site.topology.links.len();
        let mut down = BTreeSet::new();
        for round in 0..2 {
            let now: Vec<VmRecord> = vms.iter().filter_map(|v| world.core.vm(v.id).cloned()).collect();
            for (n, a) in now.iter().enumerate() {
                assert_served(&world, a, &down);
                for (m, b) in now.iter().enumerate().filter(|(m, _)| *m != n) {
                    let there = Fate::At(NodeId::Server(b.server));
                    let fate = world.send(a, b.address);
                    let both_run = a.state == VmState::Running && b.state == VmState::Running;
                    if n < 3 && m < 3 && both_run {
                        prop_assert_eq!(fate, there, "{} to {}", a.id, b.id);
                    } else if n == 3 || m == 3 {
                        let is_heard = matches!(fate, Fate::At(_) | Fate::Loop);
                        prop_assert!(!is_heard, "{} to {}: {:?}", a.id, b.id, fate);
                    }
                }
            }
            if round == 0 {
                for cut in &cuts {
                    let link = LinkId(cut.index(links) as u32);
                    if down.insert(link) {
                        world.set_link(link, false);
                    }
                }
                assert_machines_reach_each_other(&world, &down);
            }
        }
    }
}

/// The example of the book, with every link broken once and mended again.
#[test]
fn the_free_form_example_survives_each_of_its_links() {
    let (_, text) = EXAMPLES.iter().find(|(name, _)| *name == "free-form").expect("the example");
    let text = format!("{text}[policy]\nallocation = \"worst-fit\"\n");
    let mut world = connected(&text, false);
    world.attach(Vec::new());
    let vms: Vec<VmRecord> = (0..6).map(|_| world.vm()).collect();
    for link in (0..world.site.topology.links.len() as u32).map(LinkId) {
        world.set_link(link, false);
        let down = BTreeSet::from([link]);
        assert_machines_reach_each_other(&world, &down);
        let now: Vec<VmRecord> = vms.iter().filter_map(|v| world.core.vm(v.id).cloned()).collect();
        now.iter().for_each(|vm| assert_served(&world, vm, &down));
        world.set_link(link, true);
        world.discover_except(&[]);
        world.wait_seen(std::time::Duration::from_secs(30));
    }
    assert_machines_reach_each_other(&world, &BTreeSet::new());
    let now: Vec<VmRecord> = vms.iter().filter_map(|v| world.core.vm(v.id).cloned()).collect();
    now.iter().for_each(|vm| world.assert_reachable(vm));
}

/// Two links in parallel: the default route takes one of them, and when that breaks the other.
#[test]
fn of_two_parallel_links_one_takes_over_from_the_other() {
    let text = "[topology]\nshape = \"free-form\"\n[[switch]]\nname = \"a\"\n[[switch]]\nname = \"b\"\n\
                [[server]]\nname = \"h\"\n[[gateway]]\nname = \"g\"\n[[link]]\nbetween = [\"g\", \"a\"]\n\
                [[link]]\nbetween = [\"a\", \"b\"]\ncount = 2\n[[link]]\nbetween = [\"b\", \"h\"]\n";
    let mut world = connected(text, false);
    world.attach(Vec::new());
    let vm = world.vm();
    let used = |vm: &VmRecord| vm.path_up[1].link;
    let first = used(&vm);
    assert!([LinkId(1), LinkId(2)].contains(&first));
    world.set_link(first, false);
    let moved = world.core.vm(vm.id).cloned().expect("the VM");
    assert_eq!(used(&moved), LinkId(3 - first.0));
    world.assert_reachable(&moved);
    world.set_link(LinkId(3 - first.0), false);
    assert!(matches!(world.core.vm(vm.id).map(|v| &v.state), Some(VmState::Cut { .. })));
}

/// Parallel links have room for one VM each: admission counts each of them for itself.
#[test]
fn parallel_links_have_room_for_themselves() {
    let text = "[topology]\nshape = \"free-form\"\n[[switch]]\nname = \"a\"\n[[switch]]\nname = \"b\"\n\
                [[server]]\nname = \"h\"\n[[gateway]]\nname = \"g\"\n[[link]]\nbetween = [\"g\", \"a\"]\n\
                [[link]]\nbetween = [\"a\", \"b\"]\ncount = 2\nrate = \"10mbit\"\n[[link]]\nbetween = [\"b\", \"h\"]\n\
                rate = \"100M\"\n[vm]\nnet = \"8 Mbit/s\"\n";
    let mut world = connected(text, false);
    world.attach(Vec::new());
    let (one, other) = (world.vm(), world.vm());
    assert_ne!(one.path_up[1].link, other.path_up[1].link);
    assert_ne!(one.path_down[1].link, other.path_down[1].link);
    [&one, &other].iter().for_each(|vm| world.assert_reachable(vm));
    let third = world.ask_vm();
    assert!(matches!(world.answer(third), Some(Response::Rejected { .. })), "both are full");
}

/// A server with two links to one switch has its address at the first of them.
#[test]
fn a_server_with_two_links_to_a_switch_is_reached_by_the_first() {
    let text = "[topology]\nshape = \"free-form\"\n[[switch]]\nname = \"a\"\n[[server]]\nname = \"h\"\n\
                [[gateway]]\nname = \"g\"\n[[link]]\nbetween = [\"g\", \"a\"]\n[[link]]\nbetween = [\"a\", \"h\"]\ncount = 2\n";
    let world = connected(text, false);
    let host = Prefix::host(world.site.topology.servers[0].address);
    let table = &world.tables[&world.site.topology.switches[0].dpid];
    let to_it: Vec<&RuleAction> = table
        .values()
        .filter(|r| r.key.matching.ip_dst == Some(host))
        .flat_map(|r| &r.actions)
        .filter(|a| matches!(a, RuleAction::Output(_)))
        .collect();
    assert_eq!(to_it, [&RuleAction::Output(tandem_model::PortNo(2))]);
}
