//! Which server gets a VM, and what is said when none does.

use crate::world::{SMALL, World, read, thesis_site};
use tandem_core::Core;
use tandem_core::policy::view::PlacementView;
use tandem_core::policy::{AllocationPolicy, Rank, ServerView};
use tandem_model::{PersistedState, Rejection, Request, Resource, Response, ServerId, VmRequest};

/// Where the next VMs go, one after the other, by number of the server from 1.
fn servers(world: &mut World, count: usize) -> Vec<u32> {
    (0..count).map(|_| world.vm().server.0 + 1).collect()
}

fn rejected(world: &mut World, request: VmRequest) -> Rejection {
    let id = world.ask(Request::RequestVm { request });
    match world.answer(id) {
        Some(Response::Rejected { rejection }) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

/// The thesis' set-up: best fit fills a server before it opens the next; the first of equally full
/// ones.
#[test]
fn best_fit_fills_one_server_after_the_other() {
    let mut world = World::new(thesis_site("best-fit"));
    assert_eq!(servers(&mut world, 7), [1, 1, 1, 2, 2, 2, 3]);
}

/// The thesis' set-up: worst fit gives every server its first VM before any gets its second.
#[test]
fn worst_fit_deals_round() {
    let mut world = World::new(thesis_site("worst-fit"));
    let wanted: Vec<u32> = (1..=16).chain(1..=16).chain(1..=16).collect();
    assert_eq!(servers(&mut world, 48), wanted);
}

#[test]
fn first_fit_takes_the_first_with_room_also_after_one_has_gone() {
    let mut world = World::new(thesis_site("first-fit"));
    let first = world.vm();
    assert_eq!(servers(&mut world, 3), [1, 1, 2]);
    world.ask(Request::DeleteVm { vm: first.id });
    assert_eq!(servers(&mut world, 2), [1, 2]);
}

/// `ties = "last"` is the original's code: the last one of equal servers.
#[test]
fn ties_go_to_the_last_where_the_site_says_so() {
    for (policy, wanted) in [("best-fit", [16, 16, 16, 15]), ("worst-fit", [16, 15, 14, 13])] {
        let mut site = thesis_site(policy);
        site.policy.ties = tandem_model::Ties::Last;
        assert_eq!(servers(&mut World::new(site), 4), wanted, "{policy}");
    }
}

/// The thesis' table of its keep-policy algorithm starts from 0-3-3: the fullest of two equal ones
/// is the first of them.
#[test]
fn a_best_fit_tie_between_part_full_servers_goes_to_the_first() {
    let mut world = World::new(thesis_site("worst-fit"));
    servers(&mut world, 17);
    let stored = world.stored.clone();
    let mut world = World::dark(thesis_site("best-fit"), stored);
    world.connect_all();
    world.attach(Vec::new());
    assert_eq!(servers(&mut world, 3), [1, 2, 2], "server 1 has 2, all others 1");
}

/// The fit scalar is the most-used resource's share; a VM that is large in memory makes a server
/// full.
#[test]
fn the_most_used_resource_counts() {
    let mut world = World::new(read(&format!("{SMALL}[policy]\nallocation = \"worst-fit\"\n")));
    let mut large = world.request();
    large.resources.ram = world.site.topology.servers[0].capacity.ram;
    assert_eq!(world.vm_of(large).server, ServerId(0));
    assert_eq!(servers(&mut world, 4), [2, 3, 4, 2]);
}

struct LastOfAll;
impl AllocationPolicy for LastOfAll {
    fn name(&self) -> &str {
        "last-of-all"
    }
    fn rank(&self, _: &ServerView) -> Rank {
        Rank(0)
    }
    fn accepts(&self, server: &ServerView, _: &VmRequest) -> bool {
        server.id != ServerId(3)
    }
    fn choose(&self, view: &dyn PlacementView, _: &VmRequest) -> Option<Vec<ServerId>> {
        let mut ids: Vec<ServerId> = view.servers().iter().map(|s| s.id).collect();
        ids.reverse();
        Some(ids)
    }
}

/// A researcher's own policy: an order over all servers at once, and one that it never takes.
#[test]
fn a_policy_may_choose_over_all_servers_and_refuse_some() {
    let mut world = World::dark(read(SMALL), PersistedState::default());
    world.core =
        Core::with_policy(world.site.clone(), PersistedState::default(), world.now, Box::new(LastOfAll));
    world.connect_all();
    world.attach(Vec::new());
    assert_eq!(servers(&mut world, 1), [3]);
    let mut all = world.request();
    all.resources.cpu = 8;
    assert_eq!(world.vm_of(all.clone()).server, ServerId(1));
    assert_eq!(world.vm_of(all.clone()).server, ServerId(0));
    let rejection = rejected(&mut world, all);
    assert_eq!(rejection.counts, [(Resource::Cpu, 3)], "server 4 has room, but the policy does not take it");
}

/// One resource is short everywhere: the count says on how many, the near misses where and by how
/// much.
#[test]
fn a_rejection_says_what_was_short_and_where() {
    let mut world = World::new(thesis_site("best-fit"));
    servers(&mut world, 2);
    let mut request = world.request();
    request.resources.cpu = 4;
    let rejection = rejected(&mut world, request);
    assert_eq!(rejection.counts, [(Resource::Cpu, 16)]);
    let nearest: Vec<(&str, u64, u64)> =
        rejection.nearest.iter().map(|m| (m.place.as_str(), m.needed, m.available)).collect();
    assert_eq!(nearest, [("srv2", 4, 3), ("srv3", 4, 3), ("srv4", 4, 3)], "srv1 has one left: further off");
    assert!(rejection.to_string().contains("srv2: CPU short, 4 cores needed, 3 cores free"), "{rejection}");
}

/// A full data centre: every server is short of several things at once, and still places are named.
#[test]
fn a_rejection_names_places_also_when_servers_are_short_of_several_things() {
    let mut world = World::new(thesis_site("best-fit"));
    servers(&mut world, 48);
    let before = world.reserved();
    let request = world.request();
    let rejection = rejected(&mut world, request);
    assert_eq!(rejection.counts, [(Resource::Cpu, 16), (Resource::Net, 16)]);
    assert_eq!(rejection.nearest.len(), 3, "{rejection}");
    assert_eq!(world.reserved(), before, "a rejection reserves nothing");
    assert_eq!(world.core.counters().rejected, 1);
}

/// Links above the edge are the bottleneck: two ways of 1 Mbit/s up from each of two edges take
/// four VMs of 1 Mbit/s, each on its own way; the fifth is told which link was short.
#[test]
fn links_limit_what_is_placed_and_other_ways_are_used_before_that() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n")));
    let vms: Vec<_> = (0..4).map(|_| world.vm()).collect();
    let edges: Vec<u32> = vms.iter().map(|v| v.server.0 / 2).collect();
    assert_eq!(edges, [0, 0, 1, 1]);
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    for link in world.core.snapshot().links.iter().filter(|l| l.name.contains("agg")) {
        assert!(link.reserved_up <= link.capacity && link.reserved_down <= link.capacity, "{link:?}");
    }
    let request = world.request();
    let rejection = rejected(&mut world, request);
    assert_eq!(rejection.counts, [(Resource::Link, 4)]);
    assert!(rejection.nearest.iter().all(|m| m.place.contains("agg") && m.available == 0), "{rejection}");
}

/// The safety margin lets links be promised more than they have.
#[test]
fn the_link_margin_allows_over_provisioning() {
    let text = format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n[policy]\nlink_margin = 2.0\n");
    let mut world = World::new(read(&text));
    assert_eq!(servers(&mut world, 8).len(), 8);
    let request = world.request();
    assert_eq!(rejected(&mut world, request).counts, [(Resource::Link, 4)]);
}

#[test]
fn addresses_run_out_and_come_back() {
    let text = "[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 1\n\
                [addresses]\nprefix_len = 30\n";
    let mut world = World::new(read(text));
    let vm = world.vm();
    let request = world.request();
    let rejection = rejected(&mut world, request);
    assert_eq!(rejection.counts, [(Resource::Address, 1)]);
    assert_eq!(rejection.nearest[0].place, world.site.topology.switches[0].name);
    world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!(world.vm().address, vm.address);
}

/// While an edge switch is away, nothing is placed behind it.
#[test]
fn nothing_is_placed_where_rules_cannot_be_installed() {
    let mut world = World::new(read(SMALL));
    world.switch_down("edge1");
    assert_eq!(servers(&mut world, 2), [3, 3]);
    world.switch_down("edge2");
    let request = world.request();
    assert_eq!(rejected(&mut world, request).counts, [(Resource::Path, 4)]);
}

#[test]
fn a_site_without_servers_says_so() {
    let text = "[topology]\nshape = \"linear\"\nservers_per_switch = 0\n";
    let mut world = World::new(read(text));
    let request = world.request();
    assert_eq!(rejected(&mut world, request).summary, "the site has no servers");
}
