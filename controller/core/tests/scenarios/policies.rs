//! Policies by name: which path a VM takes, and what an allocation policy may look at.

use crate::world::{World, read};
use std::collections::BTreeSet;
use tandem_core::policy::registry;
use tandem_core::policy::routing::{PathSearch, Route, RoutingPolicy};
use tandem_core::{Core, Policy};
use tandem_model::paths::Path;
use tandem_model::{BitRate, Event, NodeId, PersistedState, PortCounters, PortSample, paths};

/// Two core switches and two aggregation switches: four shortest paths from each edge to the
/// gateway's side.
const WIDE: &str = "[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 2\nedge = 2\nservers_per_edge = 2\n\
                    [bandwidth]\nedge = \"100 Mbit/s\"\naggregation = \"100 Mbit/s\"\ncore = \"100 Mbit/s\"\n\
                    [servers]\ncpu = 64\nram = \"64 GiB\"\ndisk = \"64 GiB\"\n";

fn site(policy: &str) -> tandem_model::Site {
    let text = format!("{WIDE}[policy]\n{policy}\n");
    tandem_core::site::read(&text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

/// The inner switches that a path passes, by name.
fn by_way_of(world: &World, path: &Path, from: NodeId) -> String {
    let topology = &world.site.topology;
    let nodes = paths::nodes(topology, from, path);
    let switches = nodes.iter().filter(|n| matches!(n, NodeId::Switch(_)));
    switches.map(|n| topology.name(*n)).collect::<Vec<_>>().join(" ")
}

/// The ways of VMs that are requested one after the other.
fn ways(world: &mut World, count: usize) -> Vec<String> {
    let mut ways = Vec::new();
    for _ in 0..count {
        let mut request = world.request();
        request.resources.net = BitRate::mbit(10);
        let vm = world.vm_of(request);
        ways.push(by_way_of(world, &vm.path_up, NodeId::Server(vm.server)));
    }
    ways
}

/// The default keeps to one path while it has room; the widest shortest path uses another one at
/// once.
#[test]
fn the_widest_shortest_path_spreads_what_the_default_keeps_together() {
    let distinct = |ways: &[String]| ways.iter().collect::<BTreeSet<_>>().len();
    let kept = ways(&mut World::new(site("allocation = \"first-fit\"")), 4);
    assert_eq!(distinct(&kept), 1, "all by the default path: {kept:?}");
    let policy = "allocation = \"first-fit\"\nrouting = \"widest-shortest\"";
    let spread = ways(&mut World::new(site(policy)), 4);
    assert!(distinct(&spread) > 1, "each where most is left: {spread:?}");
    let hops = |way: &String| way.split(' ').count();
    assert!(spread.iter().all(|w| hops(w) == hops(&kept[0])), "none is longer: {spread:?}");
}

/// A VM that loses its path is given one by the same policy, and its rules follow it.
#[test]
fn a_lost_path_is_replaced_by_the_policy_s_choice() {
    let mut world = World::new(site("routing = \"widest-shortest\""));
    let vm = world.vm();
    let lost = vm.path_up[1].link;
    world.set_link(lost, false);
    world.confirm_all();
    let now = world.core.vm(vm.id).expect("it is still there").clone();
    assert!(now.path_up.iter().all(|hop| hop.link != lost), "{:?}", now.path_up);
    assert!(now.state == tandem_model::VmState::Running, "{:?}", now.state);
}

/// The way of a VM of 10 Mbit/s that is requested while switches measure so many Mbit/s down each
/// of these links.
fn way_beside(policy: &str, mbit: u64, busy: &[(&str, &str)]) -> String {
    let mut world = World::new(site(&format!("allocation = \"first-fit\"\nrouting = \"{policy}\"")));
    let seconds = world.site.statistics.period.as_secs();
    for period in 0..8 {
        world.wait_seen(world.site.statistics.period);
        for (upper, lower) in busy {
            let link = world.link(upper, lower);
            let (switch, port) = world.ends(link)[0];
            let tx_bytes = Some(period * seconds * mbit * 125_000);
            let counters = PortCounters { rx_bytes: Some(0), tx_bytes, ..PortCounters::default() };
            let ports = vec![PortSample { port, counters }];
            world.tell(Event::Samples { switch, ports, flows: Vec::new(), rules: Vec::new() });
        }
    }
    let mut request = world.request();
    request.resources.net = BitRate::mbit(10);
    let vm = world.vm_of(request);
    world.assert_reachable(&vm);
    by_way_of(&world, &vm.path_up, NodeId::Server(vm.server))
}

/// The quietest path goes round what is measured, by more hops where all short paths are busy, and
/// by the fewest where none is quieter.
#[test]
fn the_quietest_path_goes_round_measured_traffic() {
    assert_eq!(way_beside("quietest", 40, &[]), "edge1 agg1 core1");
    assert_eq!(way_beside("quietest", 40, &[("agg1", "edge1")]), "edge1 agg2 core1");
    assert_eq!(way_beside("quietest", 40, &[("core1", "agg1")]), "edge1 agg1 core2");
    let short = [("agg1", "edge1"), ("core1", "agg2"), ("core2", "agg2")];
    assert_eq!(way_beside("quietest", 40, &short), "edge1 agg2 edge2 agg1 core1", "two hops more, all quiet");
    assert_eq!(way_beside("quietest", 95, &short), "edge1 agg2 edge2 agg1 core1", "no room down the others");
    assert_eq!(way_beside("widest-shortest", 40, &short).split(' ').count(), 3, "where others stay");
    let all = [("agg1", "edge1"), ("agg2", "edge1")];
    assert_eq!(way_beside("quietest", 40, &all), "edge1 agg1 core1", "no way round: the fewest hops");
}

/// What is reserved does not make a link less quiet.
#[test]
fn the_quietest_path_does_not_go_by_reservations() {
    let kept = ways(&mut World::new(site("allocation = \"first-fit\"\nrouting = \"quietest\"")), 4);
    assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), 1, "nothing is measured: {kept:?}");
}

/// The least-loaded edge comes first: VMs go to the edges in turn, and at each edge to the fullest
/// server.
#[test]
fn the_least_loaded_edge_gets_the_next_vm() {
    let mut world = World::new(site("allocation = \"least-loaded-edge\""));
    let mut edges = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..4 {
        let mut request = world.request();
        request.resources.net = BitRate::mbit(10);
        let vm = world.vm_of(request);
        let edge = world.site.topology.edge_of(vm.server, 0).expect("an edge");
        edges.push(world.site.topology.name(NodeId::Switch(edge)).to_owned());
        servers.push(vm.server.0);
    }
    assert_eq!(edges, ["edge1", "edge2", "edge1", "edge2"]);
    assert_eq!([servers[0], servers[1]], [servers[2], servers[3]], "at an edge the fullest server with room");
}

/// Every policy can be named in a site file and gives a VM a path on which it is reached, and all
/// names differ.
#[test]
fn every_policy_has_a_name_of_its_own() {
    let tables = [
        ("routing", registry::names(registry::ROUTING)),
        ("allocation", registry::names(registry::ALLOCATION)),
    ];
    for (key, names) in tables {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "all differ: {names:?}");
        for name in names {
            let mut world = World::new(site(&format!("{key} = \"{name}\"")));
            let mut request = world.request();
            request.resources.net = BitRate::mbit(10);
            let vm = world.vm_of(request);
            world.assert_reachable(&vm);
        }
    }
}

/// A name that nobody knows is a fault of the file, at its place, with the names that there are.
#[test]
fn an_unknown_policy_is_a_fault_that_names_the_known_ones() {
    for (key, word) in [("allocation", "best-fit"), ("routing", "widest-shortest")] {
        let text = format!("{WIDE}[policy]\n{key} = \"tightest\"\n");
        let faults = tandem_core::site::read(&text, "site.toml").expect_err("nobody knows it");
        let [fault] = &faults.faults[..] else { panic!("{faults}") };
        assert_eq!(fault.key, format!("policy.{key}"));
        assert!(faults.to_string().contains(word), "{faults}");
    }
}

/// A researcher's own routing policy: the last of the shortest paths.
struct LastOfShortest;

impl RoutingPolicy for LastOfShortest {
    fn name(&self) -> &str {
        "last-of-shortest"
    }
    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        search.shortest().pop()
    }
}

#[test]
fn a_routing_policy_of_ones_own_chooses_every_path() {
    let mut world = World::dark(read(WIDE), PersistedState::default());
    let policy = Policy::of_site(&world.site).expect("known policies");
    let policy = Policy { routing: Box::new(LastOfShortest), ..policy };
    world.core = Core::with_policy(world.site.clone(), PersistedState::default(), world.now, policy);
    world.connect_all();
    world.attach(Vec::new());
    let own = ways(&mut world, 2);
    let default = ways(&mut World::new(site("")), 1);
    assert_ne!(own[0], default[0], "the last one is not the default");
    assert_eq!(own[0], own[1]);
}

/// The three-tier example says of itself that it writes the defaults: of the policies these are the
/// first of each kind.
#[test]
fn the_example_names_the_default_of_each_kind_of_policy() {
    use tandem_core::migration::registry as migration;
    let (_, text) =
        tandem_model::site::EXAMPLES.iter().find(|(name, _)| *name == "three-tier").expect("the example");
    let site = tandem_core::site::read(text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"));
    let first = |names: Vec<String>| names.into_iter().next().expect("one at least");
    assert_eq!(site.policy.routing.0, first(registry::names(registry::ROUTING)));
    assert_eq!(site.migration.detector.0, first(registry::names(migration::DETECTORS)));
    assert_eq!(site.migration.selector.0, first(registry::names(migration::SELECTORS)));
    assert_eq!(site.migration.destination.0, first(registry::names(migration::DESTINATIONS)));
    assert_eq!(site.migration.transfer_path.0, first(registry::names(migration::TRANSFER_PATHS)));
}
