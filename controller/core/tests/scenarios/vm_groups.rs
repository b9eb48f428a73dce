//! VMs and their connectivity as one request: all of it or nothing, whatever fails and whenever the
//! controller is killed.

use crate::packets::Fate;
use crate::world::{SMALL, START, World, read};
use tandem_model::{
    BitRate, Effect, Event, GroupId, NodeId, Request, RequestId, Resource, Response, ServerId, StoreOp,
    VmGroupRequest, VmId, VmRecord, VmState,
};

pub(crate) fn group_of(world: &World, count: usize) -> VmGroupRequest {
    VmGroupRequest { name: "web".into(), members: vec![world.request(); count], rate: None }
}

fn ask(world: &mut World, request: &VmGroupRequest) -> RequestId {
    world.ask(Request::RequestVmGroup { request: Box::new(request.clone()) })
}

fn running(answer: Option<Response>) -> (GroupId, Vec<VmRecord>) {
    match answer {
        Some(Response::VmGroupRunning { group, vms }) => (group, vms),
        other => panic!("no group: {other:?}"),
    }
}

fn assert_together(world: &World, vms: &[VmRecord]) {
    for a in vms {
        world.assert_reachable(a);
        for b in vms.iter().filter(|b| b.id != a.id) {
            assert_eq!(world.send(a, b.address), Fate::At(NodeId::Server(b.server)), "{} to {}", a.id, b.id);
        }
    }
}

/// Nothing of a request is left anywhere.
fn assert_nothing_left(world: &mut World, tables: &crate::world::Tables) {
    assert_eq!(world.core.vms().count(), 0, "VMs");
    assert_eq!(world.reserved(), 0, "on links");
    assert!(world.used().iter().all(|used| *used == Default::default()), "on servers");
    assert_eq!((world.stored.vms.len(), world.stored.groups.len()), (0, 0), "in the store");
    assert!(world.specs.is_empty(), "at hypervisors: {:?}", world.specs);
    assert!(world.core.snapshot().groups.is_empty());
    assert_eq!(&world.tables, tables, "in switches");
}

#[test]
fn all_members_run_and_reach_each_other_when_it_is_answered() {
    let mut world = World::new(read(SMALL));
    let outsider = world.vm();
    let request = group_of(&world, 4);
    let id = ask(&mut world, &request);
    let (group, vms) = running(world.answer(id));
    assert_eq!(vms.len(), 4);
    let names: Vec<_> = vms.iter().map(|vm| vm.request.name.as_deref().unwrap_or_default()).collect();
    assert_eq!(names, ["web-1", "web-2", "web-3", "web-4"]);
    assert_together(&world, &vms);
    assert!(vms.iter().all(|vm| matches!(world.send(vm, outsider.address), Fate::Dropped(_))));
    assert!(vms.iter().all(|vm| vm.state == VmState::Running && world.stored.vms.contains(vm)));
    assert_eq!(world.stored.groups[0].id, group);
    let counters = world.core.counters();
    assert_eq!((counters.requested, counters.accepted), (5, 5));
}

/// The answer of a controller that was killed right after it had written all is lost; whoever asks
/// again is told of the group that there is, and gets no second one.
#[test]
fn the_same_request_again_is_answered_with_the_group_that_there_is() {
    let mut world = World::new(read(SMALL));
    let request = group_of(&world, 3);
    world.held.hypervisor = true;
    let (first, second) = (ask(&mut world, &request), ask(&mut world, &request));
    assert_eq!((world.answer(first), world.answer(second)), (None, None));
    world.held.hypervisor = false;
    world.attach(Vec::new());
    let all = running(world.answer(first));
    assert_eq!(running(world.answer(second)), all);
    let mut after = World::dark(read(SMALL), world.stored.clone());
    after.connect_all();
    after.attach(all.1.iter().map(|vm| (vm.id, vm.server)).collect());
    let again = ask(&mut after, &request);
    assert_eq!(running(after.answer(again)), all);
    assert_eq!(after.core.vms().count(), 3);
    // Another request of that name is no repetition.
    let mut other = request.clone();
    other.members.pop();
    let refused = ask(&mut after, &other);
    assert!(matches!(after.answer(refused), Some(Response::Conflict { .. })));
    // Nor is one for a group that has lost a member since.
    after.ask(Request::DeleteVm { vm: all.1[0].id });
    let refused = ask(&mut after, &request);
    let Some(Response::Conflict { why }) = after.answer(refused) else { panic!("no conflict") };
    assert!(why.contains("lost members"), "{why}");
}

#[test]
fn a_member_without_room_rejects_all_and_is_named_with_what_is_short() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    let before = world.core.snapshot();
    let mut request = group_of(&world, 3);
    request.members[2].resources.cpu = 9;
    let id = ask(&mut world, &request);
    let Some(Response::Rejected { rejection }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    assert!(
        rejection.summary.starts_with("member 3 of 3 (web-3), with the 2 before it placed:"),
        "{rejection}"
    );
    assert_eq!(rejection.counts, [(Resource::Cpu, 4)]);
    assert_nothing_left(&mut world, &tables);
    let touched = |e: &Effect| {
        matches!(e, Effect::Store { .. } | Effect::AllocateVm { .. } | Effect::ApplyRules { .. })
    };
    assert!(!world.log.iter().any(touched));
    // Not even an address is taken: the next VM has the first one.
    let fresh = World::new(read(SMALL)).vm();
    assert_eq!(world.vm().address, fresh.address);
    assert_eq!(before.servers, World::new(read(SMALL)).core.snapshot().servers);
}

/// What the first members take counts for the next ones: 32 cores are there, and not one more.
#[test]
fn members_are_admitted_together() {
    for (count, admitted) in [(4, true), (5, false)] {
        let mut world = World::new(read(SMALL));
        let mut request = group_of(&world, count);
        request.members.iter_mut().for_each(|m| m.resources.cpu = 8);
        let id = ask(&mut world, &request);
        assert_eq!(matches!(world.answer(id), Some(Response::VmGroupRunning { .. })), admitted, "{count}");
    }
}

#[test]
fn a_member_that_fails_to_start_takes_all_back() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.hypervisor = true;
    let request = group_of(&world, 3);
    let id = ask(&mut world, &request);
    for vm in [1, 2] {
        world.tell(Event::VmStarted { vm: VmId(vm), address: None });
        let event = world.dhcp(VmId(vm), tandem_model::DhcpRequestKind::Discover, None);
        world.tell(event);
    }
    assert!(world.core.vms().all(|vm| vm.state == VmState::Starting), "none runs before all do");
    world.held.hypervisor = false;
    world.tell(Event::VmFailed { vm: VmId(3), why: "no such image".into() });
    let Some(Response::Failed { why }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    assert!(why.contains("web-3 (vm3) cannot run: no such image"), "{why}");
    assert_nothing_left(&mut world, &tables);
    assert_eq!(world.core.counters().failed, 3);
}

#[test]
fn a_member_that_is_not_ready_in_time_takes_all_back() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.dhcp = true;
    let request = group_of(&world, 2);
    let id = ask(&mut world, &request);
    world.wait_seen(std::time::Duration::from_secs(61));
    let Some(Response::Failed { why }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    assert!(why.contains("taken its address by DHCP"), "{why}");
    assert_nothing_left(&mut world, &tables);
}

#[test]
fn deleting_a_member_that_starts_takes_all_back() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.dhcp = true;
    let request = group_of(&world, 3);
    let id = ask(&mut world, &request);
    let deleted = world.ask(Request::DeleteVm { vm: VmId(2) });
    assert_eq!(world.answer(deleted), Some(Response::Done));
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
    assert_nothing_left(&mut world, &tables);
}

/// A switch has no room for the rules between the members: they run, and are stopped again.
#[test]
fn switches_that_refuse_the_rules_between_members_take_all_back() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.dhcp = true;
    let request = group_of(&world, 2);
    let id = ask(&mut world, &request);
    world.held = crate::world::Held { switches: true, ..Default::default() };
    for vm in [1, 2] {
        let event = world.dhcp(VmId(vm), tandem_model::DhcpRequestKind::Discover, None);
        world.tell(event);
    }
    assert!(world.is_waiting(), "the group's rules are on their way");
    world.refuse_first("table full");
    world.held.switches = false;
    world.confirm_all();
    let Some(Response::Failed { why }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    assert!(why.contains("table full"), "{why}");
    world.catch_up();
    assert_nothing_left(&mut world, &tables);
}

#[test]
fn a_store_that_cannot_write_leaves_nothing() {
    // When the placements are written, and when all of it is published.
    for at_the_end in [false, true] {
        let mut world = World::new(read(SMALL));
        let tables = world.tables.clone();
        world.held.dhcp = at_the_end;
        world.held.broken = !at_the_end;
        let request = group_of(&world, 3);
        let id = ask(&mut world, &request);
        if at_the_end {
            world.held = crate::world::Held { broken: true, ..Default::default() };
            for vm in 1..=3 {
                let event = world.dhcp(VmId(vm), tandem_model::DhcpRequestKind::Discover, None);
                world.tell(event);
            }
        }
        world.held.broken = false;
        world.wait(std::time::Duration::from_secs(3));
        let Some(Response::Failed { why }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
        assert!(why.contains("disk full"), "{why}");
        assert_nothing_left(&mut world, &tables);
    }
}

/// Killed after each event of a start, with what it was writing written or not: a restart finds all
/// of the group running, or clears all of it away.
#[test]
fn a_controller_that_is_killed_at_any_moment_leaves_all_or_nothing() {
    let mut world = World::new(read(SMALL));
    let empty = world.tables.clone();
    let first = world.lines.len();
    let mut request = group_of(&world, 3);
    request.rate = Some(BitRate::mbit(1));
    ask(&mut world, &request);
    let lines = world.lines[first..].to_vec();
    let (mut whole, mut undone) = (0, 0);
    for cut in 1..=lines.len() {
        for written in [false, true] {
            let mut before = World::new(read(SMALL));
            let mut there = Vec::new();
            for (n, line) in lines[..cut].iter().enumerate() {
                for effect in &line.effects {
                    match effect {
                        Effect::Store { op, .. } if written || n + 1 < cut => before.write(op),
                        Effect::AllocateVm { vm, server, spec } => {
                            there.push((*vm, *server));
                            before.specs.insert(*vm, (*server, spec.clone()));
                        }
                        _ => {}
                    }
                }
            }
            let mut after = World::dark_at(read(SMALL), before.stored.clone(), START);
            after.specs.clone_from(&before.specs);
            after.connect_all();
            after.attach(there);
            after.wait(std::time::Duration::from_secs(2));
            let vms: Vec<VmRecord> = after.core.vms().cloned().collect();
            if vms.is_empty() {
                assert_nothing_left(&mut after, &empty);
                undone += 1;
            } else {
                assert_eq!((vms.len(), after.stored.groups.len()), (3, 1), "after {cut} events, {written}");
                assert_together(&after, &vms);
                assert_eq!(after.reserved(), world.reserved());
                whole += 1;
            }
        }
    }
    assert!(whole > 0 && undone > 10, "{whole} {undone}");
}

/// A member dies while all of it is being written as running: it never counted as running, so all
/// is taken back, also in a store that has it already.
#[test]
fn a_member_that_dies_while_the_group_is_published_takes_all_back() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.dhcp = true;
    let request = group_of(&world, 2);
    let id = ask(&mut world, &request);
    world.held = crate::world::Held { store: true, ..Default::default() };
    for vm in 1..=2 {
        let event = world.dhcp(VmId(vm), tandem_model::DhcpRequestKind::Discover, None);
        world.tell(event);
    }
    assert_eq!(world.answer(id), None, "it is not answered before the store has it");
    world.tell(Event::VmDied { vm: VmId(1), why: "out of memory".into() });
    let mut published = world.stored.clone();
    for effect in world.log.clone() {
        let Effect::Store { id: write, op } = effect else { continue };
        if matches!(op, StoreOp::PutVmGroup { .. } | StoreOp::TakeBackVmGroup { .. }) {
            world.write(&op);
            if matches!(op, StoreOp::TakeBackVmGroup { .. }) {
                published = world.stored.clone();
            }
            world.tell(Event::Stored { id: write });
        }
    }
    // Killed now, the next controller stops both.
    let there: Vec<(VmId, ServerId)> = world.specs.iter().map(|(vm, (server, _))| (*vm, *server)).collect();
    let mut after = World::dark(read(SMALL), published);
    after.specs.clone_from(&world.specs);
    after.connect_all();
    after.attach(there);
    assert_nothing_left(&mut after, &tables);
}

#[test]
fn a_rate_between_members_is_reserved_on_the_ways_between_them_and_given_back() {
    let text = format!("{SMALL}[bandwidth]\nedge = \"10 Mbit/s\"\n[policy]\nallocation = \"worst-fit\"\n");
    let mut world = World::new(read(&text));
    let mut request = group_of(&world, 2);
    let id = ask(&mut world, &request);
    running(world.answer(id));
    let without = world.reserved();
    let mut world = World::new(read(&text));
    request.rate = Some(BitRate::mbit(4));
    let id = ask(&mut world, &request);
    let (group, vms) = running(world.answer(id));
    assert_ne!(vms[0].server, vms[1].server);
    // At one edge: up from each server, and down to the other one.
    assert_eq!(world.reserved() - without, 4 * 4_000_000);
    // 1 + 4 of 10 Mbit/s are taken: another group of 6 does not fit to where the first one is.
    request.name = "more".into();
    request.rate = Some(BitRate::mbit(9));
    let id = ask(&mut world, &request);
    let (_, more) = running(world.answer(id));
    assert!(more.iter().all(|vm| vms.iter().all(|other| other.server != vm.server)), "{more:?}");
    request.name = "too much".into();
    let id = ask(&mut world, &request);
    let Some(Response::Rejected { rejection }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    assert_eq!(rejection.counts.first().map(|(resource, _)| *resource), Some(Resource::Link), "{rejection}");
    let reserved = world.reserved();
    let gone = world.ask(Request::DeleteGroup { group });
    assert_eq!(world.answer(gone), Some(Response::Done));
    assert_eq!(reserved - world.reserved(), 4 * 4_000_000);
}

/// A member may not move to where the links have no room for what it sends to the others.
#[test]
fn a_move_that_leaves_no_room_between_members_is_refused() {
    let text = format!(
        "{SMALL}[bandwidth]\nedge = \"10 Mbit/s\"\naggregation = \"3 Mbit/s\"\n[policy]\nallocation = \"worst-fit\"\n"
    );
    let mut world = World::new(read(&text));
    let mut request = group_of(&world, 2);
    request.rate = Some(BitRate::mbit(4));
    let id = ask(&mut world, &request);
    let (_, vms) = running(world.answer(id));
    let edge = |server| world.site.topology.edge_of(server, 0);
    assert_eq!(edge(vms[0].server), edge(vms[1].server), "only one edge has room for both");
    let other = (0..4).map(ServerId).find(|s| edge(*s) != edge(vms[0].server));
    let to = Request::MigrateVm { vm: vms[0].id, to: other, options: Default::default() };
    let moved = world.ask(to);
    let Some(Response::Rejected { rejection }) = world.answer(moved) else {
        panic!("{:?}", world.answer(moved))
    };
    assert!(rejection.summary.contains("no room for what it sends to the others"), "{rejection}");
}

/// A group's reservation follows a member that moves, and what is given back in the end is all.
#[test]
fn a_member_that_moves_takes_its_reservation_along() {
    let mut world = World::new(read(SMALL));
    let mut request = group_of(&world, 2);
    request.rate = Some(BitRate::mbit(1));
    let id = ask(&mut world, &request);
    let (_, vms) = running(world.answer(id));
    let to = Request::MigrateVm { vm: vms[0].id, to: Some(ServerId(3)), options: Default::default() };
    let moved = world.ask(to);
    assert!(matches!(world.answer(moved), Some(Response::Migrating { .. })), "{:?}", world.answer(moved));
    world.wait(std::time::Duration::from_secs(1));
    let vms: Vec<VmRecord> = world.core.vms().cloned().collect();
    assert_eq!(vms[0].server, ServerId(3));
    assert_together(&world, &vms);
    let mut fresh = World::dark(read(SMALL), world.stored.clone());
    fresh.connect_all();
    assert_eq!(world.reserved(), fresh.reserved(), "as a restart would reserve it");
    for vm in vms {
        world.ask(Request::DeleteVm { vm: vm.id });
    }
    assert_eq!(world.reserved(), 0);
}
