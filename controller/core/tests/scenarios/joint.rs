//! Server and path placed together: which switches and servers are taken by which fit, that the path
//! that was chosen is the one that is used, and that a switch has a margin of its own.

use crate::world::{World, read};
use tandem_model::{
    BitRate, MoveOptions, NodeId, PlanGoal, Rejection, Request, Resource, Response, ServerId, SwitchId,
    VmRecord, VmRequest, VmState, paths,
};

/// Two core, two aggregation and two edge switches, each linked to all of the next level; two
/// servers at each edge. Links between switches are the narrow ones.
const SITE: &str = "[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 2\nedge = 2\nservers_per_edge = 2\n\
                    [bandwidth]\nedge = \"100 Mbit/s\"\naggregation = \"40 Mbit/s\"\ncore = \"40 Mbit/s\"\n\
                    gateway = \"60 Mbit/s\"\n[servers]\ncpu = 4\nram = \"64 GiB\"\ndisk = \"64 GiB\"\nnet = \"100 Mbit/s\"\n";

fn world(allocation: &str, fit: &str, policy: &str) -> World {
    World::new(read(&format!(
        "{SITE}[policy]\nallocation = \"{allocation}\"\n{policy}\n[policy.joint]\ncore = \"{fit}\"\n\
         aggregation = \"{fit}\"\nedge = \"{fit}\"\nserver = \"{fit}\"\n"
    )))
}

fn request(world: &World, mbit: u64) -> VmRequest {
    let mut request = world.request();
    request.resources.net = BitRate::mbit(mbit);
    request
}

/// Server and switches of a VM, from the server up: `srv1 edge1 agg1 core1`.
fn up(world: &World, vm: &VmRecord) -> String {
    let topology = &world.site.topology;
    let nodes = paths::nodes(topology, NodeId::Server(vm.server), &vm.path_up);
    let inside = nodes.iter().filter(|n| !matches!(n, NodeId::Gateway(_)));
    inside.map(|n| topology.name(*n)).collect::<Vec<_>>().join(" ")
}

/// The same of a VM whose path leads back by the same switches.
fn place(world: &World, vm: &VmRecord) -> String {
    let topology = &world.site.topology;
    let nodes = paths::nodes(topology, NodeId::Server(vm.server), &vm.path_up);
    let back = paths::nodes(topology, NodeId::Gateway(vm.gateway), &vm.path_down);
    assert!(back.iter().rev().eq(nodes.iter()), "down by the same switches: {nodes:?}, {back:?}");
    up(world, vm)
}

/// Where VMs of 10 Mbit/s go, one after the other; each is reached there.
fn places(world: &mut World, count: usize) -> Vec<String> {
    let mut places = Vec::new();
    for _ in 0..count {
        let vm = world.vm_of(request(world, 10));
        world.assert_reachable(&vm);
        places.push(place(world, &vm));
    }
    places
}

fn rejected(world: &mut World, request: VmRequest) -> Rejection {
    let id = world.ask(Request::RequestVm { request });
    match world.answer(id) {
        Some(Response::Rejected { rejection }) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Server-driven: the server by its fit in the whole data centre, then up by the fits of switches.
#[test]
fn the_server_comes_first_and_then_its_path_upwards() {
    let mut best = world("server-driven", "best-fit", "");
    let four = "srv1 edge1 agg1 core1";
    assert_eq!(places(&mut best, 4), [four; 4], "one server, one way");
    // The link from edge1 to agg1 is full now; the fullest way with room has agg2, up to the fuller core.
    assert_eq!(places(&mut best, 2), ["srv2 edge1 agg2 core1"; 2]);
    // core1's link to the gateway is full.
    assert_eq!(places(&mut best, 1), ["srv2 edge1 agg2 core2"]);

    let mut worst = world("server-driven", "worst-fit", "");
    let spread =
        ["srv1 edge1 agg1 core1", "srv2 edge1 agg2 core2", "srv3 edge2 agg1 core1", "srv4 edge2 agg2 core2"];
    assert_eq!(places(&mut worst, 4), spread, "the emptiest server, and round the switches");

    let mut first = world("server-driven", "first-fit", "");
    assert_eq!(places(&mut first, 5)[3..], [four, "srv2 edge1 agg2 core1"]);
}

/// Network-driven: core, aggregation, edge, each by its fit and with room, and then a server there.
#[test]
fn the_network_comes_first_from_the_core_down() {
    let mut best = world("network-driven", "best-fit", "");
    assert_eq!(places(&mut best, 4), ["srv1 edge1 agg1 core1"; 4], "all one way, until core1-agg1 is full");
    assert_eq!(places(&mut best, 2), ["srv2 edge1 agg2 core1"; 2], "then the same core's other way");
    // core1 has no room to the gateway: core2, its fuller aggregation switch, whose link to edge1 is
    // full, so the other edge.
    assert_eq!(places(&mut best, 1), ["srv3 edge2 agg1 core2"]);

    let mut worst = world("network-driven", "worst-fit", "");
    let spread =
        ["srv1 edge1 agg1 core1", "srv3 edge2 agg2 core2", "srv2 edge1 agg1 core1", "srv4 edge2 agg2 core2"];
    assert_eq!(places(&mut worst, 4), spread, "always the emptiest of each level");
}

/// Each level has its own fit.
#[test]
fn levels_have_fits_of_their_own() {
    let text = format!(
        "{SITE}[policy]\nallocation = \"network-driven\"\n[policy.joint]\ncore = \"worst-fit\"\n\
         aggregation = \"first-fit\"\nedge = \"first-fit\"\nserver = \"worst-fit\"\n"
    );
    let mut world = World::new(read(&text));
    let wanted = ["srv1 edge1 agg1 core1", "srv2 edge1 agg1 core2", "srv1 edge1 agg1 core1"];
    assert_eq!(places(&mut world, 3), wanted);
}

/// Of equal switches the last is taken where the site says so.
#[test]
fn ties_of_switches_go_to_the_last_where_the_site_says_so() {
    for allocation in ["server-driven", "network-driven"] {
        let mut world = world(allocation, "first-fit", "ties = \"last\"");
        assert_eq!(places(&mut world, 1), ["srv4 edge2 agg2 core2"], "{allocation}");
    }
}

/// A level without room leads back to the level above, and a VM is refused only when no way down
/// leads to a server with room.
#[test]
fn a_full_way_down_is_left_for_the_next_one() {
    let mut world = world("network-driven", "best-fit", "");
    let mut big = request(&world, 1);
    big.resources.cpu = 4;
    // edge1's servers have no core left, whatever the links have.
    let taken: Vec<ServerId> = (0..2).map(|_| world.vm_of(big.clone()).server).collect();
    assert_eq!(taken, [ServerId(0), ServerId(1)]);
    assert_eq!(places(&mut world, 1), ["srv3 edge2 agg1 core1"]);
    world.vm_of(big.clone());
    let rejection = rejected(&mut world, big);
    assert_eq!(rejection.counts, [(Resource::Cpu, 4)], "{rejection}");
}

/// A core switch that is away is no way down, and a link that is lost is not either: a VM that was
/// there gets another path by the same fits.
#[test]
fn what_is_away_is_left_out_and_lost_paths_are_replaced_by_level() {
    let mut world = world("network-driven", "first-fit", "");
    let vm = world.vm_of(request(&world, 10));
    assert_eq!(place(&world, &vm), "srv1 edge1 agg1 core1");
    let lost = world.link("core1", "agg1");
    world.set_link(lost, false);
    world.confirm_all();
    let now = world.core.vm(vm.id).expect("it is there").clone();
    assert_eq!(
        (now.state.clone(), place(&world, &now)),
        (VmState::Running, "srv1 edge1 agg1 core2".to_owned())
    );
    world.assert_reachable(&now);
    world.switch_down("core1");
    world.switch_down("agg1");
    let next = world.vm_of(request(&world, 10));
    assert_eq!(place(&world, &next), "srv1 edge1 agg2 core2");
}

/// A routing policy that the site names is what chooses paths; the network-driven placement keeps
/// its own.
#[test]
fn a_named_routing_policy_is_not_overridden() {
    let mut served = world("server-driven", "worst-fit", "routing = \"default-first\"");
    let mut kept = world("server-driven", "worst-fit", "");
    let ups = |world: &mut World| -> Vec<String> {
        let vms = (0..4).map(|_| world.vm_of(request(world, 10))).collect::<Vec<_>>();
        vms.iter().map(|vm| up(world, vm)).collect()
    };
    assert_ne!(ups(&mut served), ups(&mut kept));
    let mut network = world("network-driven", "worst-fit", "routing = \"default-first\"");
    assert_eq!(places(&mut network, 2), ["srv1 edge1 agg1 core1", "srv3 edge2 agg2 core2"]);
}

/// Where all switches are on one level there is no way down but at the switch of the gateway; the
/// servers behind the others come by the fit of their switch.
#[test]
fn a_line_of_switches_is_filled_too() {
    let text = "[topology]\nshape = \"linear\"\nswitches = 3\nservers_per_switch = 1\n[servers]\ncpu = 1\n\
                [policy]\nallocation = \"network-driven\"\n[policy.joint]\nedge = \"first-fit\"\n";
    let mut world = World::new(read(text));
    let servers: Vec<u32> = (0..3).map(|_| world.vm().server.0).collect();
    assert_eq!(servers, [0, 1, 2]);
    let vms: Vec<VmRecord> = world.core.vms().cloned().collect();
    vms.iter().for_each(|vm| world.assert_reachable(vm));
}

/// Two edge switches above one another need no aggregation: two tiers.
#[test]
fn two_tiers_have_no_aggregation() {
    let text = "[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 0\nedge = 2\nservers_per_edge = 1\n\
                [policy]\nallocation = \"network-driven\"\n[policy.joint]\ncore = \"worst-fit\"\nedge = \"worst-fit\"\n";
    let mut world = World::new(read(text));
    let wanted = ["srv1 edge1 core1", "srv2 edge2 core2"];
    assert_eq!(
        [0, 1].map(|_| {
            let vm = world.vm();
            place(&world, &vm)
        }),
        wanted
    );
}

/// A plan goes by the same policy: what keep-policy brings together keeps to ways down with room.
#[test]
fn plans_are_made_by_the_joint_policy_too() {
    let mut world = world("network-driven", "best-fit", "");
    let vms: Vec<VmRecord> = (0..5).map(|_| world.vm_of(request(&world, 1))).collect();
    world.ask(Request::DeleteVm { vm: vms[0].id });
    assert!(world.core.vm(vms[0].id).is_none());
    let plan = world.core.plan(&PlanGoal::KeepPolicy, MoveOptions::default());
    let moved: Vec<(ServerId, ServerId)> = plan.moves.iter().map(|m| (m.from, m.to)).collect();
    assert_eq!(moved, [(ServerId(1), ServerId(0))], "{plan:?}");
}

/// A switch with a margin takes no more than that, both ways of each VM counted, although its links
/// have room; the rejection names it. Without a margin nothing of it is asked.
#[test]
fn a_switch_takes_no_more_than_its_margin() {
    for (allocation, routing) in
        [("best-fit", "\nrouting = \"by-level\""), ("server-driven", ""), ("network-driven", "")]
    {
        // A core switch has 60 and 2 x 40 Mbit/s: 14 Mbit/s are 7 for VMs that pass it twice.
        let mut narrow = world(allocation, "best-fit", &format!("switch_margin = 0.1{routing}"));
        let vms: Vec<VmRecord> = (0..2).map(|_| narrow.vm_of(request(&narrow, 7))).collect();
        let cores: Vec<String> = vms.iter().map(|vm| place(&narrow, vm)).collect();
        assert!(cores[0].ends_with("core1") && cores[1].ends_with("core2"), "{allocation}: {cores:?}");
        let small = request(&narrow, 1);
        let rejection = rejected(&mut narrow, small);
        assert_eq!(rejection.counts, [(Resource::Switch, 4)], "{allocation}: {rejection}");
        let miss = &rejection.nearest[0];
        assert!(["edge1", "core1", "core2"].contains(&miss.place.as_str()), "{rejection}");
        assert_eq!((miss.needed, miss.available), (2_000_000, 0), "{rejection}");
        assert!(rejection.to_string().contains("switch capacity"), "{rejection}");
        // What one gives back, another may have.
        narrow.ask(Request::DeleteVm { vm: vms[0].id });
        narrow.vm_of(request(&narrow, 7));

        let mut wide = world(allocation, "best-fit", "");
        (0..4).for_each(|_| drop(wide.vm_of(request(&wide, 7))));
    }
}

/// A VM does not grow beyond what its switches have, and wherever it moves none of them is promised
/// too much.
#[test]
fn growing_and_moving_ask_the_switches_too() {
    let mut world = world("server-driven", "best-fit", "switch_margin = 0.1");
    let vm = world.vm_of(request(&world, 5));
    world.vm_of(request(&world, 7));
    let mut more = vm.request.resources;
    more.net = BitRate::mbit(8);
    let id = world.ask(Request::ResizeVm { vm: vm.id, resources: more });
    match world.answer(id) {
        Some(Response::Rejected { rejection }) => {
            assert!(rejection.nearest.iter().any(|m| m.resource == Resource::Switch), "{rejection}");
        }
        other => panic!("{other:?}"),
    }
    for server in 1..4 {
        let to = Some(ServerId(server));
        world.ask(Request::MigrateVm { vm: vm.id, to, options: MoveOptions::default() });
        for n in 0..world.site.topology.switches.len() as u32 {
            let (reserved, most) = world.core.switch_reserved(SwitchId(n));
            assert!(most.is_some_and(|most| reserved <= most), "switch {n}: {reserved} of {most:?}");
        }
    }
}
