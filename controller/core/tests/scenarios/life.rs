//! A VM's life, step by step: asked for, stored, started, running, resized, expired, deleted.

use crate::packets::Fate;
use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_model::{Effect, Event, NodeId, Request, Resources, Response, StoreId, StoreOp, VmId, VmState};

/// Steps: placed and stored; then rules and hypervisor; the store again; and only then the answer
/// and its traffic.
#[test]
fn nothing_is_said_or_sent_before_the_store_has_it() {
    let mut world = World::new(read(SMALL));
    world.held.store = true;
    let id = world.ask_vm();
    let early = |e: &Effect| {
        matches!(e, Effect::AllocateVm { .. } | Effect::ApplyRules { .. } | Effect::Response { .. })
    };
    assert!(!world.log.iter().any(early), "{:?}", world.log);
    world.tell(Event::Stored { id: StoreId(1) });
    assert!(world.log.iter().any(|e| matches!(e, Effect::AllocateVm { .. })));
    let started = |e: &Effect| matches!(e, Effect::TrafficStart { .. });
    assert!(
        world.answer(id).is_none() && !world.log.iter().any(started),
        "it runs, but is not stored as such"
    );
    world.tell(Event::Stored { id: StoreId(2) });
    let Some(Response::VmRunning { vm }) = world.answer(id) else { panic!("no VM") };
    assert!(world.log.iter().any(started));
    assert_eq!(vm.state, VmState::Running);
    world.assert_reachable(&vm);
}

/// The same confirmation twice, or one that nobody waits for, changes nothing.
#[test]
fn confirmations_out_of_place_are_ignored() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.forget();
    world.tell(Event::Stored { id: StoreId(1) });
    world.tell(Event::Stored { id: StoreId(99) });
    world.tell(Event::VmStarted { vm: vm.id, address: None });
    world.tell(Event::VmStopped { vm: vm.id });
    world.tell(Event::VmResized { vm: vm.id });
    world.tell(Event::VmStarted { vm: VmId(99), address: None });
    world.tell(Event::VmFailed { vm: VmId(99), why: "?".into() });
    assert_eq!(world.log, []);
}

#[test]
fn without_a_hypervisor_a_request_fails_and_says_what_to_do() {
    let mut world = World::new(read(SMALL));
    world.tell(Event::WorldDown { why: "gone".into() });
    let id = world.ask_vm();
    assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("tandem-lab up")));
}

#[test]
fn a_vm_expires_at_its_time_and_everything_of_it_goes() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    let mut request = world.request();
    request.timeout = Some(Duration::from_secs(90));
    let vm = world.vm_of(request);
    assert_eq!(vm.expires_at, Some(world.now + Duration::from_secs(90)));
    world.wait_seen(Duration::from_secs(89));
    assert!(world.core.vm(vm.id).is_some_and(|v| v.state == VmState::Running));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.core.vm(vm.id), None);
    assert_eq!((world.tables.clone(), world.reserved()), (tables, 0));
    assert_eq!(world.used(), [Resources::default(); 4]);
    assert_eq!(world.stored.vms, []);
    assert_eq!(world.core.counters().expired, 1);
}

/// Traffic stops first, and the answer comes when the store has forgotten the VM.
#[test]
fn deleting_stops_traffic_first_and_answers_last() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.forget();
    let id = world.ask(Request::DeleteVm { vm: vm.id });
    let at = |f: &dyn Fn(&Effect) -> bool| world.log.iter().position(f).expect("an effect");
    let traffic = at(&|e| matches!(e, Effect::TrafficStop { .. }));
    let stop = at(&|e| matches!(e, Effect::StopVm { .. }));
    let store = at(&|e| matches!(e, Effect::Store { op: StoreOp::RemoveVm { .. }, .. }));
    let answer = at(&|e| matches!(e, Effect::Response { .. }));
    assert!(traffic < stop && stop < store && store < answer, "{:?}", world.log);
    assert_eq!(world.answer(id), Some(Response::Done));
    let again = world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!(world.answer(again), Some(Response::NotFound { what: vm.id.to_string() }));
}

/// Two operators delete the same VM: it goes once, both are answered.
#[test]
fn deleting_twice_is_answered_twice() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.held.hypervisor = true;
    let first = world.ask(Request::DeleteVm { vm: vm.id });
    let second = world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!((world.answer(first), world.answer(second)), (None, None));
    world.tell(Event::VmStopped { vm: vm.id });
    assert_eq!((world.answer(first), world.answer(second)), (Some(Response::Done), Some(Response::Done)));
    let stops = world.log.iter().filter(|e| matches!(e, Effect::StopVm { .. })).count();
    assert_eq!(stops, 1);
}

/// Deleted while its placement is on its way to the store: it is never started, both are answered.
#[test]
fn a_vm_deleted_before_it_is_stored_never_starts() {
    let mut world = World::new(read(SMALL));
    world.held.store = true;
    let asked = world.ask_vm();
    let deleted = world.ask(Request::DeleteVm { vm: VmId(1) });
    world.tell(Event::Stored { id: StoreId(1) });
    world.tell(Event::Stored { id: StoreId(2) });
    assert!(!world.log.iter().any(|e| matches!(e, Effect::AllocateVm { .. } | Effect::StopVm { .. })));
    assert!(matches!(world.answer(asked), Some(Response::Failed { .. })));
    assert_eq!(world.answer(deleted), Some(Response::Done));
    assert_eq!(world.reserved(), 0);
}

/// Deleted while it starts: the one who asked for it hears of it too.
#[test]
fn a_vm_deleted_while_it_starts_answers_both() {
    let mut world = World::new(read(SMALL));
    world.held.dhcp = true;
    let asked = world.ask_vm();
    let deleted = world.ask(Request::DeleteVm { vm: VmId(1) });
    assert!(matches!(world.answer(asked), Some(Response::Failed { why }) if why.contains("deleted")));
    assert_eq!(world.answer(deleted), Some(Response::Done));
    assert_eq!(world.reserved(), 0);
}

fn resize(world: &mut World, vm: VmId, cpu: u32, mbit: u64) -> Option<Response> {
    let mut resources = world.site.vm.default;
    (resources.cpu, resources.net) = (cpu, tandem_model::BitRate::mbit(mbit));
    let id = world.ask(Request::ResizeVm { vm, resources });
    world.answer(id)
}

#[test]
fn a_vm_grows_where_there_is_room_and_shrinks_always() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let one = world.reserved();
    assert_eq!(
        resize(&mut world, vm.id, 8, 10),
        Some(Response::Done),
        "all of the server, its own share counted"
    );
    assert_eq!((world.used()[0].cpu, world.reserved()), (8, 10 * one));
    assert_eq!(world.stored.vms[0].request.resources.cpu, 8);
    let rates: Vec<u64> = world
        .log
        .iter()
        .filter_map(|e| match e {
            Effect::TrafficStart { spec } => Some(spec.rate.0),
            _ => None,
        })
        .collect();
    assert_eq!(rates, [1_000_000, 10_000_000], "its traffic follows");
    let Some(Response::Rejected { rejection }) = resize(&mut world, vm.id, 9, 10) else { panic!("no room") };
    assert_eq!(rejection.nearest[0].place, "srv1");
    assert_eq!(world.used()[0].cpu, 8, "it stays as it is");
    assert_eq!(resize(&mut world, vm.id, 1, 1), Some(Response::Done));
    assert_eq!((world.used()[0].cpu, world.reserved()), (1, one));
    assert!(matches!(resize(&mut world, VmId(9), 1, 1), Some(Response::NotFound { .. })));
}

/// The links of its path have no room for more, though its server has.
#[test]
fn a_vm_does_not_grow_over_its_links() {
    let text = format!("{SMALL}[bandwidth]\naggregation = \"2 Mbit/s\"\n");
    let mut world = World::new(read(&text));
    let vm = world.vm();
    let Some(Response::Rejected { rejection }) = resize(&mut world, vm.id, 1, 3) else { panic!("no room") };
    assert_eq!(rejection.nearest[0].resource, tandem_model::Resource::Link);
    assert_eq!(resize(&mut world, vm.id, 1, 2), Some(Response::Done));
}

/// A resize that the hypervisor or the store refuses leaves the VM as it was, running.
#[test]
fn a_failed_resize_is_undone() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (used, reserved) = (world.used(), world.reserved());
    world.held.hypervisor = true;
    assert_eq!(resize(&mut world, vm.id, 4, 2), None);
    assert!(matches!(resize(&mut world, vm.id, 5, 2), Some(Response::Conflict { .. })), "one at a time");
    world.tell(Event::VmFailed { vm: vm.id, why: "no memory to balloon".into() });
    assert_eq!((world.used(), world.reserved()), (used.clone(), reserved));
    assert_eq!(world.stored.vms[0].request.resources, world.site.vm.default);
    world.held.store = true;
    assert_eq!(resize(&mut world, vm.id, 4, 2), None);
    let Some(Effect::Store { id, .. }) = world.log.last().cloned() else { panic!("{:?}", world.log.last()) };
    world.tell(Event::StoreFailed { id, why: "disk full".into() });
    assert_eq!((world.used(), world.reserved()), (used, reserved));
    assert!(world.core.vm(vm.id).is_some_and(|v| v.state == VmState::Running));
}

/// A VM that dies by itself is cleared away like a deleted one.
#[test]
fn a_vm_that_dies_is_cleared_away() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    let vm = world.vm();
    world.tell(Event::VmFailed { vm: vm.id, why: "kernel panic".into() });
    assert_eq!(world.core.vm(vm.id), None);
    assert_eq!((world.tables.clone(), world.reserved()), (tables, 0));
    assert_eq!(world.send(&vm, vm.address), Fate::Dropped(world.switch("edge1")));
    assert!(world.noticed("vm-failed")[0].contains("kernel panic"));
}

/// Where DHCP is off, the hypervisor is told the address, and the VM runs without asking for one.
#[test]
fn without_dhcp_the_address_is_configured_by_hand() {
    let mut world = World::new(read(&format!("{SMALL}[modules]\ndhcp = false\n")));
    let vm = world.vm();
    let fixed = world.specs[&vm.id].1.fixed_address.expect("an address");
    assert_eq!((fixed.address, fixed.router), (vm.address, world.site.topology.gateways[0].address));
    assert!(!world.log.iter().any(|e| matches!(e, Effect::SendDhcp { .. })));
    world.assert_reachable(&vm);
}

/// Every combination of modules starts, places a VM and carries its packets.
#[test]
fn every_combination_of_modules_works() {
    for bits in 0..16u8 {
        let mut site = read(SMALL);
        site.modules = tandem_model::Modules {
            dhcp: bits & 1 != 0,
            arp: bits & 2 != 0,
            discovery: bits & 4 != 0,
            exporter: bits & 8 != 0,
            metrics: true,
        };
        let mut world = World::new(site);
        let vm = world.vm();
        world.assert_reachable(&vm);
        // With discovery off, nothing is ever missed; with it on, the frames go on.
        for _ in 0..10 {
            world.wait(Duration::from_secs(5));
            if bits & 4 != 0 {
                world.discover_except(&[]);
            }
        }
        assert_eq!(world.noticed("link-missing"), Vec::<&str>::new(), "modules {bits:04b}");
        let link = world.link("edge1", "srv1");
        assert!(world.core.is_usable(link));
        world.assert_reachable(&vm);
    }
}

/// The hypervisor service comes back without a VM that should run, and with one that should not.
#[test]
fn a_returning_hypervisor_is_brought_in_line() {
    let mut world = World::new(read(SMALL));
    let (kept, lost) = (world.vm(), world.vm());
    world.tell(Event::WorldDown { why: "restarted".into() });
    world.forget();
    world.attach(vec![(kept.id, kept.server), (VmId(77), kept.server)]);
    let started: Vec<VmId> = world
        .log
        .iter()
        .filter_map(|e| match e {
            Effect::AllocateVm { vm, .. } => Some(*vm),
            _ => None,
        })
        .collect();
    assert_eq!(started, [lost.id]);
    let stopped = |e: &Effect| matches!(e, Effect::StopVm { .. });
    assert!(!world.log.iter().any(stopped), "who is not known is left alone");
    for vm in [kept, lost] {
        assert!(world.core.vm(vm.id).is_some_and(|v| v.state == VmState::Running));
        assert_eq!(world.receive(&vm), Fate::At(NodeId::Server(vm.server)));
    }
}
