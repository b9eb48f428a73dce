//! VMs that run without a record of them: a store that is empty, another one, or a copy from
//! before. They are left alone, listed, adopted or stopped on somebody's word, and nothing of
//! theirs is given to others.

use crate::packets::Fate;
use crate::world::{SMALL, START, World, read};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;
use tandem_model::{
    Adoption, Effect, Event, FoundVm, NodeId, PersistedState, Request, Resources, Response, ServerId, Time,
    VmId, VmRecord, VmState,
};

/// Effects that do something to a VM at a hypervisor.
fn touches(effect: &Effect) -> Option<VmId> {
    match effect {
        Effect::AllocateVm { vm, .. }
        | Effect::StopVm { vm, .. }
        | Effect::ResizeVm { vm, .. }
        | Effect::AttachVm { vm, .. }
        | Effect::MigrateVm { vm, .. }
        | Effect::CancelMigration { vm, .. }
        | Effect::TagVm { vm, .. } => Some(*vm),
        _ => None,
    }
}

pub(crate) fn notices(world: &World, kind: &str) -> Vec<String> {
    let text = |e: &Effect| match e {
        Effect::Notice { notice } if notice.kind == kind => Some(notice.text.clone()),
        _ => None,
    };
    world.log.iter().filter_map(text).collect()
}

/// A data centre with VMs, and a controller with an empty store that comes to it later. The first
/// one is gone.
pub(crate) fn lost_store(count: usize) -> (Vec<VmRecord>, World) {
    let mut before = World::new(read(SMALL));
    let mut vms = Vec::new();
    for n in 0..count {
        let mut request = before.request();
        request.name = Some(format!("web{n}"));
        request.timeout = Some(Duration::from_secs(3600));
        vms.push(before.vm_of(request));
    }
    let mut after =
        World::dark_at(read(SMALL), PersistedState::default(), before.now + Duration::from_secs(5));
    after.specs.clone_from(&before.specs);
    after.tables.clone_from(&before.tables);
    after.connect_all();
    (vms, after)
}

/// An empty store beside VMs that run: none is touched, all are listed, one notice says what to do;
/// the next VM has an id, an Ethernet address and an IP address of its own.
#[test]
fn an_empty_store_stops_nobody_and_takes_nothing() {
    let (vms, mut world) = lost_store(3);
    world.attach_found();
    assert_eq!(world.log.iter().filter_map(touches).collect::<Vec<_>>(), []);
    let said = notices(&world, "vm-stray");
    assert_eq!(said.len(), 1, "{said:?}");
    for word in ["vm1 on srv1", "vm2", "vm3", "tandem vm adopt", "tandem vm stop-stray"] {
        assert!(said[0].contains(word), "{word}: {}", said[0]);
    }
    let listed = world.core.snapshot().strays.clone();
    let seen: Vec<_> = listed.iter().map(|s| (s.id, s.server, Some(s.mac), s.address)).collect();
    let is: Vec<_> = vms.iter().map(|v| (v.id, v.server, Some(v.mac), Some(v.address))).collect();
    assert_eq!(seen, is);
    assert!(listed.iter().all(|s| s.runs && s.lacks.is_empty() && s.resources.is_some() && !s.id_is_taken));
    // Told once, however often the service comes back.
    world.tell(Event::WorldDown { why: "restarted".into() });
    world.attach_found();
    assert_eq!(notices(&world, "vm-stray").len(), 1);
    let new = world.vm();
    assert_eq!(new.id, VmId(4));
    for vm in &vms {
        assert!(vm.mac != new.mac && vm.address != new.address && vm.id != new.id);
    }
    let others = |e: &Effect| touches(e).is_some_and(|vm| vm != new.id);
    assert!(!world.log.iter().any(others), "{:?}", world.log);
    // What is not known cannot be deleted by mistake either.
    let id = world.ask(Request::DeleteVm { vm: VmId(1) });
    assert_eq!(world.answer(id), Some(Response::NotFound { what: "vm1".into() }));
    assert_eq!(world.specs.len(), 4);
}

/// Adopted, a VM is as it was before its store was lost: its request, its addresses, its rules, its
/// traffic. Nothing of it is changed.
#[test]
fn an_adopted_vm_is_what_it_was() {
    let (vms, mut world) = lost_store(2);
    world.attach_found();
    world.assert_reachable(&vms[0]);
    world.forget();
    let id = world.ask(Request::AdoptVm { vm: VmId(1), server: None, known: Adoption::default() });
    let Some(Response::VmRunning { vm }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    let was = &vms[0];
    assert_eq!(
        (&vm.request, vm.server, vm.mac, vm.address),
        (&was.request, was.server, was.mac, was.address)
    );
    assert_eq!((vm.gateway, vm.uplink, &vm.state), (was.gateway, was.uplink, &VmState::Running));
    assert_eq!((vm.placed_at, vm.expires_at), (was.placed_at, Some(world.now + Duration::from_secs(3600))));
    assert_eq!(world.stored.vms, [(*vm).clone()]);
    assert_eq!(world.receive(&vm), Fate::At(NodeId::Server(vm.server)));
    world.assert_reachable(&vm);
    let done: Vec<&Effect> = world.log.iter().filter(|e| touches(e).is_some()).collect();
    assert!(matches!(done[..], [Effect::TagVm { vm: VmId(1), .. }]), "{done:?}");
    assert_eq!(world.core.snapshot().strays.iter().map(|s| s.id).collect::<Vec<_>>(), [VmId(2)]);
    // It is a VM like any other, for the next controller too.
    let mut next = World::dark(read(SMALL), world.stored.clone());
    next.specs.clone_from(&world.specs);
    next.connect_all();
    next.attach_found();
    assert_eq!(next.log.iter().filter_map(touches).collect::<Vec<_>>(), []);
    next.assert_reachable(&vm);
    let id = world.ask(Request::DeleteVm { vm: VmId(1) });
    assert_eq!(world.answer(id), Some(Response::Done));
    assert_eq!(world.specs.keys().copied().collect::<Vec<_>>(), [VmId(2)]);
    assert_eq!((world.reserved(), world.used()), (0, [Resources::default(); 4].to_vec()));
}

/// A store that cannot be written adopts nobody: the VM stays a stray, untouched, and can be
/// adopted later.
#[test]
fn an_adoption_that_is_not_written_changes_nothing() {
    let (_, mut world) = lost_store(1);
    world.attach_found();
    world.forget();
    world.held.broken = true;
    let id = world.ask(Request::AdoptVm { vm: VmId(1), server: None, known: Adoption::default() });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
    assert_eq!(world.log.iter().filter_map(touches).collect::<Vec<_>>(), []);
    assert_eq!((world.reserved(), world.used()), (0, [Resources::default(); 4].to_vec()));
    assert_eq!(world.core.snapshot().strays.len(), 1);
    world.held.broken = false;
    let id = world.ask(Request::AdoptVm { vm: VmId(1), server: None, known: Adoption::default() });
    assert!(matches!(world.answer(id), Some(Response::VmRunning { .. })));
}

/// What an older version kept with a VM says only whose it is: the rest is asked for, by name.
#[test]
fn what_an_older_tag_lacks_is_asked_for() {
    let (vms, mut world) = lost_store(2);
    let found = |vm: &VmRecord| FoundVm { vm: vm.id, server: vm.server, runs: true, spec: None };
    world.tell(Event::VmsFound { vms: vms.iter().map(found).collect() });
    world.attach(vms.iter().map(|v| (v.id, v.server)).collect());
    let listed = world.core.snapshot().strays.clone();
    assert_eq!(listed[0].lacks, ["cpu", "ram", "disk", "net", "address"]);
    let adopt = |world: &mut World, known: &Adoption| {
        let id = world.ask(Request::AdoptVm { vm: VmId(1), server: None, known: known.clone() });
        world.answer(id).expect("an answer")
    };
    let size = vms[0].request.resources;
    let mut known = Adoption { cpu: Some(size.cpu), ram: Some(size.ram), ..Adoption::default() };
    let Response::Conflict { why } = adopt(&mut world, &known) else { panic!("it lacks something") };
    assert!(why.ends_with("say --disk, --net, --address"), "{why}");
    (known.disk, known.net) = (Some(size.disk), Some(size.net));
    // Of a network whose address plan gives it to somebody else, or to nobody.
    for wrong in [world.site.topology.servers[0].address, world.site.topology.gateways[0].address] {
        known.address = Some(wrong);
        assert!(matches!(adopt(&mut world, &known), Response::Conflict { .. }), "{wrong}");
    }
    // It sends: then its address is known, and nobody else gets it.
    let (switch, port) = world.port_of(vms[0].server);
    world.tell(Event::HostSeen { switch, port, mac: vms[0].mac, ip: vms[0].address });
    assert_eq!(world.core.snapshot().strays[0].address, Some(vms[0].address));
    // Not what somebody at another server says of it.
    let (switch, port) = world.port_of(ServerId(3));
    world.tell(Event::HostSeen { switch, port, mac: vms[1].mac, ip: vms[1].address });
    assert_eq!(world.core.snapshot().strays[1].address, None);
    let new = world.vm();
    assert!(new.address != vms[0].address && new.id == VmId(3));
    known.address = None;
    let Response::VmRunning { vm } = adopt(&mut world, &known) else { panic!("it lacks nothing") };
    assert_eq!((vm.request.resources, vm.address, vm.mac), (size, vms[0].address, vms[0].mac));
    // From now on it is kept with it.
    assert_eq!(world.specs[&VmId(1)].1.origin.placed_at, vm.placed_at);
    world.assert_reachable(&vm);
}

/// The tag of a VM that is known and was made by an older version is written anew when its
/// hypervisor is next there; once.
#[test]
fn an_older_tag_is_completed() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.forget();
    world.tell(Event::VmsFound {
        vms: vec![FoundVm { vm: vm.id, server: vm.server, runs: true, spec: None }],
    });
    world.attach(vec![(vm.id, vm.server)]);
    assert_eq!(world.log.iter().filter_map(touches).collect::<Vec<_>>(), [vm.id]);
    assert!(world.log.iter().any(|e| matches!(e, Effect::TagVm { .. })));
    world.forget();
    world.attach_found();
    assert_eq!(world.log.iter().filter_map(touches).collect::<Vec<_>>(), []);
    // And whenever the request changes.
    let to = Resources { cpu: vm.request.resources.cpu + 1, ..vm.request.resources };
    world.ask(Request::ResizeVm { vm: vm.id, resources: to });
    assert_eq!(world.specs[&vm.id].1.resources, to);
    world.ask(Request::MigrateVm { vm: vm.id, to: Some(ServerId(1)), options: Default::default() });
    world.forget();
    world.attach_found();
    assert_eq!(world.log.iter().filter_map(touches).collect::<Vec<_>>(), []);
}

/// On somebody's word, and only then, a stray is stopped; while its server is away, he is notified.
#[test]
fn a_stray_is_stopped_on_request() {
    let (vms, mut world) = lost_store(2);
    world.attach_found();
    let wrong = world.ask(Request::StopStray { vm: VmId(1), server: Some(ServerId(3)) });
    assert!(matches!(world.answer(wrong), Some(Response::NotFound { .. })));
    let away = |servers: &[ServerId]| Event::ServersUnreachable {
        servers: servers.iter().map(|s| (*s, "no route to host".to_owned())).collect(),
    };
    world.tell(away(&[vms[0].server]));
    let id = world.ask(Request::StopStray { vm: VmId(1), server: None });
    assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("does not answer")));
    world.tell(away(&[]));
    let id = world.ask(Request::StopStray { vm: VmId(1), server: None });
    assert_eq!(world.answer(id), Some(Response::Done));
    let stops: Vec<&Effect> = world.log.iter().filter(|e| touches(e).is_some()).collect();
    let stop = Effect::StopVm { vm: VmId(1), server: vms[0].server, placed_at: Some(vms[0].placed_at) };
    assert_eq!(stops, [&stop]);
    assert_eq!(world.specs.keys().copied().collect::<Vec<_>>(), [VmId(2)]);
    assert_eq!(world.core.snapshot().strays.iter().map(|s| s.id).collect::<Vec<_>>(), [VmId(2)]);
}

/// A copy of the store from before: it has a VM that has moved since, and one whose id a later VM
/// of another store has. Neither is stopped where it runs, none is started beside it, and deleting
/// the record does not touch the other.
#[test]
fn a_vm_that_is_elsewhere_or_another_is_left_alone() {
    for elsewhere in [true, false] {
        let mut before = World::new(read(SMALL));
        let vm = before.vm();
        let mut after =
            World::dark_at(read(SMALL), before.stored.clone(), before.now + Duration::from_secs(5));
        let mut spec = before.specs[&vm.id].clone();
        if elsewhere {
            spec.0 = ServerId(3);
        } else {
            spec.1.origin.placed_at = Time(vm.placed_at.0 + 1);
        }
        after.specs.insert(vm.id, spec);
        after.connect_all();
        after.attach_found();
        assert_eq!(after.log.iter().filter_map(touches).collect::<Vec<_>>(), [], "{elsewhere}");
        assert_eq!(notices(&after, "vm-elsewhere").len(), 1);
        let listed = after.core.snapshot().strays.clone();
        assert!(listed.len() == 1 && listed[0].id_is_taken, "{listed:?}");
        assert_eq!(listed[0].recorded_on, elsewhere.then(|| "srv1".to_owned()));
        if elsewhere {
            continue;
        }
        let id = after.ask(Request::AdoptVm { vm: vm.id, server: None, known: Adoption::default() });
        assert!(matches!(after.answer(id), Some(Response::Conflict { why }) if why.contains("a record")));
        if !elsewhere {
            let id = after.ask(Request::DeleteVm { vm: vm.id });
            assert_eq!(after.answer(id), Some(Response::Done));
            assert_eq!(after.specs.len(), 1, "the other one still runs");
            let id = after.ask(Request::AdoptVm { vm: vm.id, server: None, known: Adoption::default() });
            assert!(matches!(after.answer(id), Some(Response::VmRunning { .. })), "{:?}", after.answer(id));
        }
    }
}

/// A copy of the store from before a VM moved. Adopted where it runs, it is the VM that it was,
/// with its size of now: the record, the rules, its group and what is reserved follow, and its
/// hypervisor is asked for nothing but to keep its tag. Until then neither is touched.
#[test]
fn a_vm_that_is_elsewhere_is_adopted_where_it_is() {
    let mut before = World::new(read(SMALL));
    let (vm, other) = (before.vm(), before.vm());
    before.ask(Request::CreateGroup { members: vec![vm.address, other.address] });
    let copy = before.stored.clone();
    let to = Resources { cpu: 2, ..vm.request.resources };
    before.ask(Request::ResizeVm { vm: vm.id, resources: to });
    before.ask(Request::MigrateVm { vm: vm.id, to: Some(ServerId(3)), options: Default::default() });
    let moved = before.core.vm(vm.id).cloned().expect("it runs");
    assert_eq!(moved.server, ServerId(3));

    let restored = || {
        let mut after = World::dark_at(read(SMALL), copy.clone(), before.now + Duration::from_secs(5));
        after.specs.clone_from(&before.specs);
        after.tables.clone_from(&before.tables);
        after.connect_all();
        after.attach_found();
        after.forget();
        after
    };
    let adopt = |world: &mut World, known: Adoption| {
        let id = world.ask(Request::AdoptVm { vm: vm.id, server: None, known });
        world.answer(id).expect("an answer")
    };
    let mut world = restored();
    let said = Adoption { cpu: Some(4), ..Adoption::default() };
    assert!(
        matches!(adopt(&mut world, said), Response::Conflict { why } if why.contains("leave the options out"))
    );
    let used = world.used();
    // What the store does not take has not happened.
    world.held.broken = true;
    assert!(matches!(adopt(&mut world, Adoption::default()), Response::Failed { .. }));
    assert_eq!((world.used(), world.core.vm(vm.id).map(|v| v.server)), (used, Some(vm.server)));
    world.held.broken = false;
    // Its server is silent: then it is not known that it does not run there.
    let away = vec![(vm.server, "no route to host".to_owned())];
    world.tell(Event::ServersUnreachable { servers: away });
    assert!(
        matches!(adopt(&mut world, Adoption::default()), Response::Conflict { why } if why.contains("not known"))
    );
    world.tell(Event::ServersUnreachable { servers: Vec::new() });
    assert_eq!(world.log.iter().filter_map(touches).collect::<Vec<_>>(), []);

    let Response::VmRunning { vm: now } = adopt(&mut world, Adoption::default()) else {
        panic!("it runs there")
    };
    assert_eq!((now.server, now.request.resources, now.address), (moved.server, to, vm.address));
    assert_eq!((now.placed_at, now.expires_at), (moved.placed_at, moved.expires_at));
    world.assert_reachable(&now);
    assert_eq!(world.send(&other, now.address), Fate::At(NodeId::Server(now.server)), "its group follows");
    assert_eq!(world.stored.vms.iter().find(|v| v.id == vm.id), Some(&*now));
    let done: Vec<&Effect> = world.log.iter().filter(|e| touches(e).is_some()).collect();
    assert!(matches!(done[..], [Effect::TagVm { .. }]), "{done:?}");
    assert_eq!(notices(&world, "vm-adopted").len(), 1);
    assert!(world.core.snapshot().strays.is_empty());
    let both = [&*now, &other].map(|v| (v.server, v.request.resources));
    for n in 0..4 {
        let there = both.iter().filter(|(at, _)| *at == ServerId(n));
        let sum = there.fold(Resources::default(), |sum, (_, r)| sum.plus(*r));
        assert_eq!(world.used()[n as usize], sum, "srv{}", n + 1);
    }
    let id = world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!(world.answer(id), Some(Response::Done));
    assert!(!world.specs.contains_key(&vm.id), "it is stopped where it is");
    world.ask(Request::DeleteVm { vm: other.id });
    assert_eq!((world.reserved(), world.used()), (0, [Resources::default(); 4].to_vec()));

    // Deleted while the store writes: it is deleted, and nothing stays reserved.
    let mut world = restored();
    world.held.store = true;
    let id = world.ask(Request::AdoptVm { vm: vm.id, server: None, known: Adoption::default() });
    let gone = world.ask(Request::DeleteVm { vm: vm.id });
    world.catch_up();
    assert!(matches!(world.answer(id), Some(Response::VmRunning { .. })));
    assert_eq!(world.answer(gone), Some(Response::Done));
    assert!(!world.specs.contains_key(&vm.id));
    world.ask(Request::DeleteVm { vm: other.id });
    assert_eq!((world.reserved(), world.used()), (0, [Resources::default(); 4].to_vec()));
}

/// A request whose id turns out to be taken (its hypervisor was away when it was given) fails, and
/// undoing it does not touch the other.
#[test]
fn what_undoes_a_request_touches_only_what_it_made() {
    let mut world = World::new(read(SMALL));
    let mut other = World::new(read(SMALL));
    let theirs = other.vm();
    world.now = world.now + Duration::from_secs(1);
    // Not told of: as if its server had been away.
    world.specs.clone_from(&other.specs);
    let id = world.ask_vm();
    assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("another request")));
    assert!(world.log.iter().any(|e| matches!(e, Effect::StopVm { placed_at: Some(_), .. })));
    assert_eq!(world.specs[&theirs.id].1.origin.placed_at, theirs.placed_at, "it still runs");
    assert_eq!((world.core.vms().count(), world.reserved()), (0, 0));
    // The same for a start that takes too long, and for what a killed controller had begun.
    world.held.hypervisor = true;
    let id = world.ask_vm();
    world.wait(Duration::from_secs(600));
    let stops: Vec<_> = world.log.iter().filter(|e| matches!(e, Effect::StopVm { .. })).collect();
    assert!(stops.iter().all(|e| matches!(e, Effect::StopVm { placed_at: Some(at), .. } if *at > START)));
    assert!(world.answer(id).is_none(), "nobody has said that it is gone");
}

/// Ids that no controller gives out are stepped over, whatever else is there.
#[test]
fn ids_of_strays_are_stepped_over() {
    let mut world = World::new(read(SMALL));
    let far = (1u64 << 32) + 2;
    world.attach(vec![(VmId(far), ServerId(0)), (VmId(u64::MAX), ServerId(1))]);
    let ids: Vec<u64> = (0..3).map(|_| world.vm().id.0).collect();
    assert_eq!(ids, [1, 3, 4], "2 would have the same cookies and the same Ethernet address as {far}");
}

/// A second controller and one that is refused are both told, with what to do; who asks for a VM
/// hears it too.
#[test]
fn both_controllers_are_told() {
    let mut first = World::new(read(SMALL));
    first.tell(Event::RivalSeen { world: "the lab dc".into(), who: "store 00ab of site dc".into() });
    let said = notices(&first, "second-controller");
    assert!(said.len() == 1 && said[0].contains("store 00ab") && said[0].contains("stop it"), "{said:?}");
    let mut second = World::dark(read(SMALL), PersistedState::default());
    second.connect_all();
    let why = "it serves another controller; stop that one";
    second.tell(Event::WorldRefused { world: "the lab dc".into(), why: why.into() });
    assert!(notices(&second, "world-refused")[0].contains(why));
    let id = second.ask_vm();
    assert!(matches!(second.answer(id), Some(Response::Failed { why: said }) if said.contains(why)));
    // When the first one has gone, it is served.
    second.attach(Vec::new());
    second.vm();
}

#[derive(Debug, Clone)]
enum Step {
    Request,
    Delete(u64),
    Resize(u64),
    Move(u64, u32),
    Evacuate(u32),
    Attach { told: bool },
    Detach,
    Away(Vec<u32>),
    Failed(u64),
    Started(u64),
    Wait(u64),
    Hold(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let vm = || 1u64..8;
    let server = || 0u32..4;
    prop_oneof![
        4 => Just(Step::Request),
        3 => vm().prop_map(Step::Delete),
        1 => vm().prop_map(Step::Resize),
        2 => (vm(), server()).prop_map(|(vm, to)| Step::Move(vm, to)),
        1 => server().prop_map(Step::Evacuate),
        3 => any::<bool>().prop_map(|told| Step::Attach { told }),
        1 => Just(Step::Detach),
        1 => vec(server(), 0..3).prop_map(Step::Away),
        1 => vm().prop_map(Step::Failed),
        1 => vm().prop_map(Step::Started),
        2 => (0u64..700).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    /// Whatever is asked for and whatever fails, with a store that has never heard of the VMs that
    /// run: none of them is touched or cut off, and at the end all of them run.
    #[test]
    fn no_schedule_touches_a_stray(count in 1usize..5, halted in 0u64..3, steps in vec(step(), 1..40)) {
        let (vms, mut world) = lost_store(count);
        world.attach_found();
        let strays: Vec<VmId> = vms.iter().map(|v| v.id).collect();
        // Those that were said to be dead, until it is told that they are not.
        let mut said_dead: Vec<VmId> = Vec::new();
        for step in steps {
            match &step {
                Step::Failed(vm) => said_dead.push(VmId(*vm)),
                Step::Attach { told: true } | Step::Restart => said_dead.clear(),
                _ => {}
            }
            match step {
                Step::Request => drop(world.ask_vm()),
                Step::Delete(vm) => drop(world.ask(Request::DeleteVm { vm: VmId(vm) })),
                Step::Resize(vm) => {
                    let resources = Resources { cpu: 2, ..world.site.vm.default };
                    world.ask(Request::ResizeVm { vm: VmId(vm), resources });
                }
                Step::Move(vm, to) => {
                    let to = Some(ServerId(to));
                    world.ask(Request::MigrateVm { vm: VmId(vm), to, options: Default::default() });
                }
                Step::Evacuate(server) => {
                    world.ask(Request::EvacuateServer { server: ServerId(server), options: Default::default() });
                }
                Step::Attach { told: true } => {
                    let mut vms = world.found();
                    let there = vms.iter().map(|f| (f.vm, f.server)).collect();
                    let no = |n| FoundVm { vm: VmId(100 + n), server: ServerId(0), runs: false, spec: None };
                    vms.extend((0..halted).map(no));
                    world.tell(Event::VmsFound { vms });
                    world.attach(there);
                }
                Step::Attach { told: false } => {
                    let there = world.specs.iter().map(|(vm, (server, _))| (*vm, *server)).collect();
                    world.attach(there);
                }
                Step::Detach => world.tell(Event::WorldDown { why: "gone".into() }),
                Step::Away(servers) => {
                    let servers = servers.into_iter().map(|s| (ServerId(s), "silent".to_owned())).collect();
                    world.tell(Event::ServersUnreachable { servers });
                }
                Step::Failed(vm) => world.tell(Event::VmFailed { vm: VmId(vm), why: "died".into() }),
                Step::Started(vm) => world.tell(Event::VmStarted { vm: VmId(vm), address: None }),
                Step::Wait(seconds) => world.wait_seen(Duration::from_secs(seconds)),
                Step::Hold(held) => world.held.hypervisor = held,
                Step::Restart => {
                    let mut next = World::dark_at(read(SMALL), world.stored.clone(), world.now);
                    next.continue_after(&world);
                    next.specs.clone_from(&world.specs);
                    next.tables.clone_from(&world.tables);
                    next.connect_all();
                    next.attach_found();
                    prop_assert_eq!(touched(&world, &strays), None);
                    world = next;
                }
            }
            for vm in vms.iter().filter(|vm| !said_dead.contains(&vm.id)) {
                prop_assert_eq!(world.receive(vm), Fate::At(NodeId::Server(vm.server)), "{} is cut off", vm.id);
                let gateway = world.site.topology.gateways[0].address;
                prop_assert_eq!(world.send(vm, gateway), Fate::At(NodeId::Gateway(vm.gateway)));
            }
        }
        prop_assert_eq!(touched(&world, &strays), None);
        for vm in &vms {
            let runs = world.specs.get(&vm.id).is_some_and(|(_, s)| s.origin.placed_at == vm.placed_at);
            prop_assert!(runs, "{} is gone", vm.id);
        }
        // Nobody else has got anything of theirs.
        for record in world.core.vms() {
            let same = vms.iter().find(|v| v.id == record.id || v.mac == record.mac || v.address == record.address);
            prop_assert!(same.is_none(), "{:?} beside {:?}", record, same);
        }
    }
}

fn touched(world: &World, strays: &[VmId]) -> Option<Effect> {
    let theirs = |e: &&Effect| touches(e).is_some_and(|vm| strays.contains(&vm));
    world.log.iter().find(theirs).cloned()
}
