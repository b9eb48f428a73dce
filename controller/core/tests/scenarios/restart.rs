//! A controller that was killed and comes back with what its store holds; and a recorded run that
//! is decided again.

use crate::world::{SMALL, START, World, read};
use std::time::Duration;
use tandem_core::record_replay::{Recording, ReplayError, replay};
use tandem_model::{Effect, Event, GroupId, PersistedState, Request, Resources, ServerId, VmId, VmState};

/// A second core on the store of the first: it wants the very same rules, so nothing that runs is
/// disturbed; and it gives nothing away that is taken.
#[test]
fn a_restart_wants_the_same_rules_and_knows_what_is_taken() {
    let text = format!("{SMALL}[bandwidth]\naggregation = \"2 Mbit/s\"\n");
    let mut before = World::new(read(&text));
    let vms: Vec<_> = (0..3).map(|_| before.vm()).collect();
    before.ask(Request::CreateGroup { members: vms.iter().map(|v| v.address).collect() });
    let mut after = World::dark_at(read(&text), before.stored.clone(), before.now + Duration::from_secs(5));
    after.connect_all();
    let there: Vec<(VmId, ServerId)> = vms.iter().map(|v| (v.id, v.server)).collect();
    after.attach(there);
    assert_eq!(after.tables, before.tables);
    assert_eq!((after.used(), after.reserved()), (before.used(), before.reserved()));
    let disturbed = |e: &Effect| {
        matches!(e, Effect::ApplyRules { .. } | Effect::AllocateVm { .. } | Effect::StopVm { .. })
    };
    assert!(!after.log.iter().any(disturbed), "{:?}", after.log);
    let traffic = after.log.iter().filter(|e| matches!(e, Effect::TrafficStart { .. })).count();
    assert_eq!(traffic, 3, "the world is told of its traffic again, and ignores what it has");
    after.forget();
    let new = after.vm();
    assert_eq!(new.id, VmId(4));
    assert!(vms.iter().all(|v| v.address != new.address && v.mac != new.mac));
    let id = after.ask(Request::DeleteGroup { group: GroupId(1) });
    assert!(after.answer(id).is_some());
}

/// Leases are absolute: a VM whose time ran out while the controller was away goes at once.
#[test]
fn a_lease_that_ended_meanwhile_ends_at_once() {
    let mut before = World::new(read(SMALL));
    let mut request = before.request();
    request.timeout = Some(Duration::from_secs(60));
    let (vm, kept) = (before.vm_of(request), before.vm());
    let mut after = World::dark_at(read(SMALL), before.stored.clone(), START + Duration::from_secs(61));
    after.connect_all();
    after.attach(vec![(vm.id, vm.server), (kept.id, kept.server)]);
    after.wait(Duration::ZERO);
    assert_eq!(after.core.vm(vm.id), None);
    assert_eq!(after.stored.vms.len(), 1);
    after.assert_reachable(&kept);
}

/// Killed in the middle of a start, at every step of it: whoever asked is gone, so what was begun
/// is cleared away.
#[test]
fn what_was_half_begun_is_cleared_away() {
    let holds: [fn(&mut World); 3] =
        [|w| w.held.rules = true, |w| w.held.hypervisor = true, |w| w.held.dhcp = true];
    for hold in holds {
        let mut before = World::new(read(SMALL));
        let empty = before.tables.clone();
        hold(&mut before);
        before.ask_vm();
        assert_eq!(before.stored.vms.len(), 1);
        let mut after = World::dark(read(SMALL), before.stored.clone());
        after.connect_all();
        after.attach(vec![(VmId(1), ServerId(0))]);
        assert!(after.log.iter().any(|e| matches!(e, Effect::StopVm { vm: VmId(1), .. })));
        assert_eq!((after.core.vms().count(), after.stored.vms.len()), (0, 0));
        assert_eq!((after.tables.clone(), after.reserved()), (empty, 0));
        assert_eq!(after.used(), [Resources::default(); 4]);
        assert_eq!(after.vm().id, VmId(2), "ids are never used again");
    }
}

/// The site lost a server that the store knows VMs of: they are named and left alone.
#[test]
fn vms_of_a_server_that_is_gone_are_named() {
    let mut before = World::new(read(SMALL));
    before.vm();
    let mut stored = before.stored.clone();
    stored.vms[0].server = ServerId(99);
    let mut after = World::dark(read(SMALL), stored);
    after.connect_all();
    let snapshot = after.core.snapshot();
    assert!(snapshot.notices.iter().any(|n| n.kind == "vm-orphan" && n.text.contains("vm1")));
    assert_eq!(snapshot.vms.len(), 0);
}

/// A VM that is cut off when the controller restarts comes back to service when its way does.
#[test]
fn a_vm_that_was_cut_off_is_restored_and_rerouted_later() {
    let mut before = World::new(read(SMALL));
    let vm = before.vm();
    for agg in ["agg1", "agg2"] {
        let link = before.link(agg, "edge1");
        before.set_link(link, false);
    }
    assert!(before.core.vm(vm.id).is_some_and(|v| matches!(v.state, VmState::Cut { .. })));
    let mut after = World::dark(read(SMALL), before.stored.clone());
    after.connect_all();
    after.attach(vec![(vm.id, vm.server)]);
    let now = after.core.vm(vm.id).cloned().expect("the VM");
    after.assert_reachable(&now);
    let link = after.link("agg1", "edge1");
    after.set_link(link, false);
    after.set_link(link, true);
    let now = after.core.vm(vm.id).cloned().expect("the VM");
    assert_eq!(now.state, VmState::Running);
    after.assert_reachable(&now);
}

pub(crate) fn recorded(world: &World) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut recording = Recording::new(&mut bytes, &world.header).expect("memory");
    for line in &world.lines {
        recording.line(line.now, &line.event, &line.effects).expect("memory");
    }
    recording.flush().expect("memory");
    bytes
}

/// A run with VMs, a group, a cut link, a move, a lost switch and expiry, written down and decided
/// again to the same effects; a line that was cut off by a kill is left out, one that was changed
/// is found.
#[test]
fn a_recorded_run_is_decided_the_same_again() {
    let mut world = World::dark(read(SMALL), PersistedState::default());
    world.connect_all();
    world.attach(Vec::new());
    let mut request = world.request();
    request.timeout = Some(Duration::from_secs(40));
    world.vm_of(request);
    let (a, b) = (world.vm(), world.vm());
    world.ask(Request::CreateGroup { members: vec![a.address, b.address] });
    let link = world.link("agg1", "edge1");
    world.set_link(link, false);
    world.switch_down("agg2");
    world.wait(Duration::from_secs(60));
    world.set_link(link, true);
    world.connect(world.switch("agg2"));
    world.migrate(b.id, Some(3));
    world.ask(Request::DeleteVm { vm: a.id });
    let bytes = recorded(&world);
    assert_eq!(replay(&bytes[..]).map_err(|e| e.to_string()), Ok(world.lines.len()));
    let cut = &bytes[..bytes.len() - 5];
    assert_eq!(replay(cut).map_err(|e| e.to_string()), Ok(world.lines.len() - 1));
    let text = String::from_utf8(bytes).expect("JSON");
    let changed = text.replacen("\"server\":0", "\"server\":1", 1);
    assert_ne!(changed, text);
    assert!(matches!(replay(changed.as_bytes()), Err(ReplayError::Diverged(_))));
    let garbled = text.replacen("{\"now\"", "{now", 1);
    assert!(matches!(replay(garbled.as_bytes()), Err(ReplayError::Line { line: 2, .. })));
}

/// What runs on a server that does not answer is not known: it is neither started a second time nor
/// given up, and adopted when it answers.
#[test]
fn what_is_on_a_server_that_is_away_is_left_alone() {
    let mut before = World::new(read(SMALL));
    let (lost, kept) = (before.vm(), before.vm());
    let mut after = World::dark_at(read(SMALL), before.stored.clone(), before.now + Duration::from_secs(5));
    after.connect_all();
    after.tell(Event::ServersUnreachable { servers: vec![(lost.server, "no route to host".into())] });
    let listed: Vec<(VmId, ServerId)> =
        [&lost, &kept].iter().filter(|v| v.server != lost.server).map(|v| (v.id, v.server)).collect();
    after.attach(listed);
    let touched =
        |e: &Effect| matches!(e, Effect::AllocateVm { vm, .. } | Effect::StopVm { vm, .. } if *vm == lost.id);
    assert!(!after.log.iter().any(touched), "{:?}", after.log);
    let told = |after: &World, kind: &str| {
        after.log.iter().filter(|e| matches!(e, Effect::Notice { notice } if notice.kind == kind)).count()
    };
    // Told once, however often it is found to be so.
    after.tell(Event::ServersUnreachable { servers: vec![(lost.server, "no route to host".into())] });
    assert_eq!((told(&after, "server-away"), told(&after, "server-there")), (1, 0));
    // Nobody else is placed there meanwhile, and whoever asks hears why.
    let all: Vec<_> = (0..after.site.topology.servers.len() as u32).map(ServerId).collect();
    after.tell(Event::ServersUnreachable {
        servers: all.iter().map(|s| (*s, "no route to host".into())).collect(),
    });
    let refused = after.core.place(&after.request()).expect_err("nobody answers");
    assert!(refused.summary.contains("whose hypervisor does not answer"), "{}", refused.summary);
    let others = all.iter().filter(|s| **s != lost.server).map(|s| (*s, "no route to host".into()));
    after.tell(Event::ServersUnreachable { servers: others.collect() });
    assert_eq!(after.core.place(&after.request()).expect("one answers").server, lost.server);
    after.tell(Event::ServersUnreachable { servers: Vec::new() });
    after.attach(vec![(lost.id, lost.server), (kept.id, kept.server)]);
    assert!(told(&after, "server-there") > 0);
    assert!(!after.log.iter().any(touched), "{:?}", after.log);
    assert_eq!(after.core.vm(lost.id).map(|v| &v.state), Some(&VmState::Running));
    // A server that answers and does not have it was started anew: the VM is started again.
    after.attach(vec![(kept.id, kept.server)]);
    assert!(after.log.iter().any(touched));
}

/// Recordings that people have made stay readable, also where events have other names today.
#[test]
fn a_recording_of_an_earlier_version_replays() {
    let before_requests: &[u8] =
        include_bytes!("../../../../tests/data/recordings/before-requests-were-called-requests.jsonl");
    let before_agents: &[u8] =
        include_bytes!("../../../../tests/data/recordings/before-agents-were-told-by-the-core.jsonl");
    for (text, count) in [(before_requests, 299), (before_agents, 38)] {
        let events = replay(text).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(events, count, "every line but the header is an event");
    }
}
