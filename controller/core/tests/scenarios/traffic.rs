//! Which traffic the world is asked for: by request, class and site, with gateways and in groups.

use crate::world::{SMALL, World, read};
use std::collections::BTreeMap;
use tandem_model::{
    Effect, QueueSelection, Request, Response, TrafficEnd, TrafficId, TrafficSpec, VmId, VmRecord,
};

fn site(more: &str) -> String {
    format!("{SMALL}{more}")
}

/// What the world generates now, by all that it was told.
fn running(world: &World) -> BTreeMap<TrafficId, TrafficSpec> {
    let mut flows = BTreeMap::new();
    for effect in &world.log {
        match effect {
            Effect::TrafficStart { spec } => drop(flows.insert(spec.id, spec.clone())),
            Effect::TrafficStop { id } => drop(flows.remove(id)),
            _ => {}
        }
    }
    flows
}

fn pairs(world: &World) -> Vec<(u64, u64)> {
    let vm = |end: TrafficEnd| end.vm().map_or(0, |vm| vm.0);
    let mut pairs: Vec<(u64, u64)> =
        running(world).values().map(|spec| (vm(spec.from), vm(spec.to))).collect();
    pairs.sort_unstable();
    pairs
}

fn group(world: &mut World, members: &[&VmRecord]) {
    let members = members.iter().map(|vm| vm.address).collect();
    let id = world.ask(Request::CreateGroup { members });
    assert!(matches!(world.answer(id), Some(Response::GroupCreated { .. })), "{:?}", world.answer(id));
}

#[test]
fn a_request_names_its_tool_or_its_class_does_or_the_site() {
    let text = site(
        "[traffic]\ntransport = \"poisson\"\n[[class]]\nname = \"gold\"\nshare = 50\ntraffic = \"on-off\"\n\
         [[class]]\nname = \"silver\"\nshare = 50\n",
    );
    let mut world = World::new(read(&text));
    // Who keeps queues keeps classes.
    crate::classes::manage(&mut world, QueueSelection::Queue);
    let plain = world.request();
    let of_class = tandem_model::VmRequest { class: Some(tandem_model::ClassId(0)), ..plain.clone() };
    let own = tandem_model::VmRequest { traffic: "pcap".parse().ok(), ..of_class.clone() };
    for (request, tool) in [(plain, "poisson"), (of_class, "on-off"), (own, "pcap")] {
        let vm = world.vm_of(request);
        let flow = TrafficId::with_gateway(vm.id, false);
        assert_eq!(running(&world)[&flow].transport.as_str(), tool);
    }
}

#[test]
fn incast_is_from_all_members_to_the_first_for_as_long_as_they_are_members() {
    let mut world = World::new(read(&site("[traffic]\npattern = \"incast\"\n")));
    let vms: Vec<VmRecord> = (0..4).map(|_| world.vm()).collect();
    assert_eq!(pairs(&world), [], "who is in no group has no traffic");
    group(&mut world, &[&vms[0], &vms[1], &vms[2]]);
    assert_eq!(pairs(&world), [(2, 1), (3, 1)]);
    let rate = world.site.traffic_rate(vms[1].request.resources.net);
    assert!(running(&world).values().all(|flow| flow.rate == rate), "each at its own rate: it is a burst");
    // A second group with a member in common adds what is new.
    group(&mut world, &[&vms[0], &vms[3]]);
    assert_eq!(pairs(&world), [(2, 1), (3, 1), (4, 1)]);
    world.ask(Request::DeleteVm { vm: VmId(3) });
    assert_eq!(pairs(&world), [(2, 1), (4, 1)]);
    // The first one goes: its group has another first, alone in it.
    world.ask(Request::DeleteVm { vm: VmId(1) });
    assert_eq!(pairs(&world), []);
}

#[test]
fn all_to_all_shares_each_members_rate_among_its_peers() {
    let mut world = World::new(read(&site("[traffic]\npattern = \"all-to-all\"\n")));
    let vms: Vec<VmRecord> = (0..3).map(|_| world.vm()).collect();
    group(&mut world, &[&vms[0], &vms[1], &vms[2]]);
    assert_eq!(pairs(&world), [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]);
    let rate = world.site.traffic_rate(vms[0].request.resources.net).0 / 2;
    assert!(running(&world).values().all(|flow| flow.rate.0 == rate));
    // A hypervisor service that was away is asked again.
    world.forget();
    let there = vms.iter().map(|vm| (vm.id, vm.server)).collect();
    world.attach(there);
    assert_eq!(pairs(&world).len(), 6);
}
