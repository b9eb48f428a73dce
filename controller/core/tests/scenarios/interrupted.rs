//! What is refused, lost or cut short half-way: the rest of it goes on, and nothing is given away,
//! forgotten or brought back by it.

use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_core::snapshot::OverrideView;
use tandem_model::{
    BitRate, Dpid, Effect, Event, Phase, PortNo, PortOverride, Request, RequestId, Resources, Response,
    ServerId, StoreId, StoreOp, SwitchId, TxnId, VmId, VmRecord, VmState,
};

/// Transactions that switches have been sent since `forget`.
fn sent(world: &World) -> Vec<(Dpid, TxnId)> {
    let of = |e: &Effect| match e {
        Effect::ApplyRules { switch, txn, .. } => Some((*switch, *txn)),
        _ => None,
    };
    world.log.iter().filter_map(of).collect()
}

/// How often a switch was sent all its rules since `forget`.
fn syncs(world: &World, to: Dpid) -> usize {
    world.log.iter().filter(|e| matches!(e, Effect::SyncRules { switch, .. } if *switch == to)).count()
}

/// What the store was asked to write since `forget`.
fn writes(world: &World) -> Vec<(StoreId, StoreOp)> {
    let of = |e: &Effect| match e {
        Effect::Store { id, op } => Some((*id, op.clone())),
        _ => None,
    };
    world.log.iter().filter_map(of).collect()
}

fn refuse(world: &mut World, (switch, txn): (Dpid, TxnId)) {
    world.forget_pending(switch, txn);
    world.tell(Event::RulesRefused { switch, txn, why: "FLOW_MOD_FAILED/TABLE_FULL".into() });
}

fn resize(world: &mut World, vm: VmId, cpu: u32) -> RequestId {
    let resources = Resources { cpu, ..world.site.vm.default };
    world.ask(Request::ResizeVm { vm, resources })
}

/// A server of four processors; VMs have three each.
const ONE_SERVER: &str = "[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 1\n\
                          [servers]\ncpu = 4\n[vm]\ncpu = 3\n";

/// VMs have three processors each.
fn large() -> String {
    format!("{SMALL}[vm]\ncpu = 3\n")
}

fn is_cut(world: &World, vm: VmId) -> bool {
    world.core.vm(vm).is_some_and(|v| matches!(v.state, VmState::Cut { .. }))
}

// ---- rules that a switch refuses ----

/// Default routes change at several switches. One refuses its part: the others have theirs, the
/// removals that come last too, and the one that has refused is sent all its rules.
#[test]
fn a_refused_change_of_default_routes_goes_on_at_the_other_switches() {
    for refused in 0..3 {
        let mut world = World::new(read(SMALL));
        let vm = world.vm();
        world.held.switches = true;
        world.forget();
        world.set_link(world.link("edge1", "agg1"), false);
        let open = sent(&world);
        assert!(!open.is_empty(), "default routes change");
        let Some(first) = open.get(refused).copied() else { continue };
        refuse(&mut world, first);
        assert_eq!(syncs(&world, first.0), 1, "what it has refused is still wanted");
        while world.is_waiting() {
            world.confirm(|_| 0);
        }
        crate::chaos::assert_tables(&mut world, &[]);
        let vm = world.core.vm(vm.id).cloned().expect("the VM");
        assert_eq!(vm.state, VmState::Running);
        world.assert_reachable(&vm);
    }
}

/// A VM whose new path is refused is cut off until its switch has the rules, however that comes:
/// without another change of the topology.
#[test]
fn a_vm_whose_new_path_was_refused_comes_back_when_its_switch_has_the_rules() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n")));
    world.vm();
    let vm = world.vm();
    world.held.switches = true;
    world.forget();
    // Its path, which is not the default one, has exact rules.
    let hop = vm.path_up[1].link;
    world.set_link(hop, false);
    let mut was_cut = false;
    for _ in 0..20 {
        let open = sent(&world);
        world.forget();
        open.into_iter().for_each(|txn| refuse(&mut world, txn));
        was_cut |= is_cut(&world, vm.id);
    }
    assert!(was_cut, "a path that is refused is none");
    world.held.switches = false;
    world.confirm_all();
    world.wait(Duration::from_secs(5));
    assert!(!is_cut(&world, vm.id), "{:?}", world.core.vm(vm.id).map(|v| &v.state));
    crate::chaos::assert_tables(&mut world, &[]);
    let vm = world.core.vm(vm.id).cloned().expect("the VM");
    world.assert_reachable(&vm);
}

/// A switch that refuses everything is sent all its rules at most once in a pause, though it takes
/// them then and its VMs are given a path again at once.
#[test]
fn a_switch_that_always_refuses_is_not_asked_in_a_loop() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n")));
    world.vm();
    let vm = world.vm();
    world.held.switches = true;
    world.forget();
    world.set_link(vm.path_up[1].link, false);
    let (mut refusals, mut sent_all) = (0, 0);
    for _ in 0..20 {
        sent_all += world.log.iter().filter(|e| matches!(e, Effect::SyncRules { .. })).count();
        let open = sent(&world);
        world.forget();
        refusals += open.len();
        open.into_iter().for_each(|txn| refuse(&mut world, txn));
    }
    assert!(refusals > 0);
    assert!(sent_all <= world.site.topology.switches.len(), "{sent_all} times in no time");
    world.held.switches = false;
    world.confirm_all();
    world.wait(Duration::from_secs(5));
    crate::chaos::assert_tables(&mut world, &[]);
    assert!(!is_cut(&world, vm.id));
}

// ---- resizes ----

/// A controller that was started anew is asked to resize a VM before it hears of the hypervisors,
/// who have it.
fn resized_while_hypervisors_are_away(cpu: u32) -> (World, VmRecord, RequestId) {
    let mut before = World::new(read(&large()));
    let vm = before.vm();
    let mut world = World::dark(read(&large()), before.stored.clone());
    world.continue_after(&before);
    world.specs = before.specs;
    world.connect_all();
    let id = resize(&mut world, vm.id, cpu);
    (world, vm, id)
}

/// The order to resize a VM goes nowhere while the hypervisors are away; it is given again when
/// they are back.
#[test]
fn a_resize_that_is_asked_for_before_the_hypervisors_are_back_is_answered() {
    for cpu in [1, 4] {
        let (mut world, vm, id) = resized_while_hypervisors_are_away(cpu);
        world.held.hypervisor = true;
        world.attach_found();
        assert_eq!(world.answer(id), None, "only its hypervisor knows");
        let asked = |e: &&Effect| matches!(e, Effect::ResizeVm { resources, .. } if resources.cpu == cpu);
        assert!(world.log.iter().any(|e| asked(&e)));
        world.tell(Event::VmResized { vm: vm.id });
        assert_eq!(world.answer(id), Some(Response::Done));
        assert_eq!(world.stored.vms[0].request.resources.cpu, cpu);
    }
}

/// Its server was started anew meanwhile: the VM is started again, and has what was asked for.
#[test]
fn a_resize_of_a_vm_that_is_started_again_is_answered() {
    for cpu in [1, 4] {
        let (mut world, vm, id) = resized_while_hypervisors_are_away(cpu);
        world.specs.clear();
        world.attach(Vec::new());
        assert_eq!(world.answer(id), Some(Response::Done));
        assert_eq!(world.core.vm(vm.id).map(|v| v.request.resources.cpu), Some(cpu));
        assert_eq!(world.stored.vms[0].request.resources.cpu, cpu);
    }
}

#[test]
fn a_resize_of_a_vm_that_is_deleted_is_answered() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.held.hypervisor = true;
    let id = resize(&mut world, vm.id, 4);
    world.held.hypervisor = false;
    world.ask(Request::DeleteVm { vm: vm.id });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })), "{:?}", world.answer(id));
}

/// A VM dies while its hypervisor resizes it: it is gone, and its resize with it; that is no resize
/// that failed.
#[test]
fn a_vm_that_dies_while_it_is_resized_is_gone() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.held.hypervisor = true;
    let id = resize(&mut world, vm.id, 4);
    world.held.hypervisor = false;
    world.tell(Event::VmDied { vm: vm.id, why: "kernel panic".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })), "{:?}", world.answer(id));
    assert_eq!(world.core.vm(vm.id), None);
    assert_eq!(world.used().iter().map(|u| u.cpu).sum::<u32>(), 0);
}

/// A VM that is to have less may still use what it has until its hypervisor has confirmed it.
#[test]
fn what_a_vm_gives_up_is_given_away_only_when_that_is_confirmed() {
    for confirmed in [true, false] {
        let mut world = World::new(read(ONE_SERVER));
        let vm = world.vm();
        world.held.hypervisor = true;
        let id = resize(&mut world, vm.id, 1);
        let other = world.ask_vm();
        assert!(matches!(world.answer(other), Some(Response::Rejected { .. })), "it still has 3 of 4");
        world.held.hypervisor = false;
        if confirmed {
            world.tell(Event::VmResized { vm: vm.id });
            assert_eq!(world.answer(id), Some(Response::Done));
            let other = world.ask_vm();
            assert!(matches!(world.answer(other), Some(Response::VmRunning { .. })));
        } else {
            world.tell(Event::VmFailed { vm: vm.id, why: "no".into() });
            assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
            assert_eq!(world.used()[0].cpu, 3);
        }
    }
}

/// A restart would give it what the store says: until that has the smaller size, its room is its
/// own.
#[test]
fn what_a_vm_gives_up_is_given_away_only_when_that_is_written() {
    let mut world = World::new(read(ONE_SERVER));
    let vm = world.vm();
    world.held.hypervisor = true;
    let id = resize(&mut world, vm.id, 1);
    world.held.store = true;
    world.tell(Event::VmResized { vm: vm.id });
    assert_eq!((world.answer(id), world.used()[0].cpu), (None, 3), "the store has the old size");
    let other = world.ask_vm();
    assert!(matches!(world.answer(other), Some(Response::Rejected { .. })));
    world.catch_up();
    assert_eq!((world.answer(id), world.used()[0].cpu), (Some(Response::Done), 1));
}

/// It has less, and the store cannot be written: whoever asked is notified, and it is written later.
#[test]
fn less_that_cannot_be_written_is_written_later() {
    let mut world = World::new(read(&large()));
    let vm = world.vm();
    world.held.hypervisor = true;
    let id = resize(&mut world, vm.id, 1);
    world.held.broken = true;
    world.tell(Event::VmResized { vm: vm.id });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })), "{:?}", world.answer(id));
    world.held.broken = false;
    world.wait(Duration::from_secs(2));
    assert_eq!(world.stored.vms[0].request.resources.cpu, 1);
    assert_eq!(world.used().iter().map(|u| u.cpu).sum::<u32>(), 1);
}

/// It grows in one resource and shrinks in another, on another server: until it has shrunk, the
/// server it has come to needs room for both.
#[test]
fn a_vm_that_moves_to_grow_comes_with_what_it_has() {
    let site = format!(
        "{SMALL}[servers]\ncpu = 4\n[vm]\ncpu = 1\nnet = \"1 Mbit/s\"\n[policy]\nserver_margin = 1.0\n"
    );
    let mut world = World::new(read(&site));
    let capacity = world.site.topology.servers[0].capacity;
    let half = BitRate(capacity.net.0 * 6 / 10);
    let ask = |world: &mut World, cpu, net| {
        let mut request = world.request();
        (request.resources.cpu, request.resources.net) = (cpu, net);
        world.vm_of(request)
    };
    // Its server has no processor left, and no other one has both the processors that it wants and
    // the rate that it has.
    let vm = ask(&mut world, 2, half);
    let mut rest = vec![ask(&mut world, 2, BitRate::mbit(1))];
    for _ in 0..3 {
        rest.push(ask(&mut world, 1, half));
    }
    assert!(rest[1..].iter().all(|other| other.server != vm.server), "a server each");
    let resources = Resources { cpu: 3, net: BitRate::mbit(1), ..vm.request.resources };
    let id = world.ask(Request::ResizeVm { vm: vm.id, resources });
    let fits = |world: &mut World| {
        let used = world.used();
        used.iter().all(|used| capacity.fits(*used))
    };
    assert!(fits(&mut world), "{:?}", world.used());
    assert!(matches!(world.answer(id), Some(Response::Rejected { .. })), "{:?}", world.answer(id));
}

// ---- groups ----

/// The store is slow: what a member that goes leaves of a group is not written after the group's
/// removal; if that fails, it is written then.
#[test]
fn a_group_that_is_deleted_while_a_member_goes_does_not_come_back() {
    for fails in [false, true] {
        let mut world = World::new(read(SMALL));
        let vms: Vec<_> = (0..4).map(|_| world.vm()).collect();
        let made = world.ask(Request::CreateGroup { members: vms.iter().map(|v| v.address).collect() });
        let Some(Response::GroupCreated { group }) = world.answer(made) else { panic!("a group") };
        world.held.hypervisor = true;
        world.ask(Request::DeleteVm { vm: vms[1].id });
        world.held.store = true;
        world.forget();
        world.tell(Event::VmStopped { vm: vms[1].id });
        let id = world.ask(Request::DeleteGroup { group });
        let [(gone, _), (removed, _)] = writes(&world)[..] else { panic!("{:?}", writes(&world)) };
        world.tell(Event::Stored { id: gone });
        match fails {
            false => world.tell(Event::Stored { id: removed }),
            true => world.tell(Event::StoreFailed { id: removed, why: "disk full".into() }),
        }
        world.wait(Duration::from_secs(2));
        // The store carries out what it was asked to, in order.
        let carried_out: Vec<StoreOp> =
            writes(&world).into_iter().filter(|(id, _)| !fails || *id != removed).map(|(_, op)| op).collect();
        carried_out.iter().for_each(|op| world.write(op));
        let groups = world.core.snapshot().groups.to_vec();
        assert_eq!(world.stored.groups, groups, "the removal fails: {fails}");
        assert_eq!(
            groups.iter().map(|g| g.members.len()).collect::<Vec<_>>(),
            if fails { vec![3] } else { vec![] }
        );
        let failed = matches!(world.answer(id), Some(Response::Failed { .. }));
        assert_eq!(failed, fails, "{:?}", world.answer(id));
    }
}

// ---- ports ----

/// A controller is killed when the store has that a port is on again, and its switch does not know
/// yet: the next one tells it.
#[test]
fn a_port_that_is_on_again_is_told_by_the_next_controller() {
    let mut world = World::new(read(SMALL));
    let (dpid, number) = world.ends(world.link("edge1", "agg1"))[0];
    let switch = world.site.topology.switch_by_dpid(dpid).expect("declared");
    let set = |world: &mut World, up| {
        let id = world.ask(Request::SetPort { switch, port: number, up });
        world.answer(id)
    };
    assert_eq!(set(&mut world, false), Some(Response::Done));
    world.held.ports = true;
    world.forget();
    assert_eq!(set(&mut world, true), Some(Response::Done));
    let lifted = |world: &mut World| {
        let overrides = world.core.snapshot().overrides.to_vec();
        matches!(overrides[..], [OverrideView::PortOff { lifted: true, .. }])
    };
    assert!(lifted(&mut world), "its switch has not taken it yet");

    let told = Effect::SetPort { switch: dpid, port: number, up: true };
    let mut next = World::dark(read(SMALL), world.stored.clone());
    next.held.ports = true;
    next.connect_all();
    assert!(next.log.contains(&told));
    assert!(lifted(&mut next));
    next.tell(Event::PortSet { switch: dpid, port: number, up: true });
    assert_eq!(next.stored.ports, Vec::<PortOverride>::new());
    assert!(next.core.snapshot().overrides.is_empty());
}

/// It is off again before the switch has said that it is on: it stays off.
#[test]
fn an_older_word_of_a_port_does_not_lift_what_was_said_later() {
    let mut world = World::new(read(SMALL));
    world.held.ports = true;
    let (dpid, number) = world.ends(world.link("edge1", "agg1"))[0];
    let switch: SwitchId = world.site.topology.switch_by_dpid(dpid).expect("declared");
    for up in [false, true, false] {
        world.ask(Request::SetPort { switch, port: number, up });
    }
    world.tell(Event::PortSet { switch: dpid, port: number, up: true });
    assert_eq!(world.stored.ports.iter().map(|p| (p.port, p.up)).collect::<Vec<_>>(), [(number, false)]);
    // A port of nobody and a switch of nobody: nothing.
    world.tell(Event::PortSet { switch: Dpid(99), port: PortNo(1), up: true });
    world.tell(Event::PortSet { switch: dpid, port: PortNo(77), up: true });
    assert_eq!(world.stored.ports.len(), 1);
}

// ---- transfers ----

/// A transfer over a link that is down gets no more than it has, however fast its VM writes. Its VM
/// has another uplink; the transfer goes by the first one only, and waits for it.
#[test]
fn a_transfer_over_a_link_that_is_down_is_given_no_more() {
    let bandwidth = "server_uplinks = 2\n[bandwidth]\nedge = \"500 Mbit/s\"\naggregation = \"1 Gbit/s\"\n\
                     core = \"1 Gbit/s\"\n[migration]\nrate = \"800 Mbit/s\"\n";
    let mut world = World::new(read(&format!("{SMALL}{bandwidth}")));
    world.held.moves = true;
    let vm = world.vm();
    // A neighbour makes the link that fails the narrowest one.
    let mut request = world.request();
    request.resources.net = BitRate::mbit(150);
    assert_eq!(world.vm_of(request).server, vm.server);
    world.migrate(vm.id, Some(2));
    let rate = |w: &World| w.core.migrations().next().map(|m| m.rate);
    let before = rate(&world).expect("a migration");
    assert!(before < BitRate::mbit(400), "{before}");
    let path = world.core.migrations().next().expect("one").path.clone();
    world.set_link(path[0].link, false);
    let phase = world.core.migrations().next().map(|m| (m.phase, m.rate, m.path.clone()));
    assert_eq!(phase, Some((Phase::Transfer, before, path)), "it waits for its link");
    world.progress(1, 1_000_000, 100_000_000, BitRate::mbit(900));
    assert_eq!(rate(&world), Some(before));
}

// ---- VMs that run elsewhere ----

/// A VM is found on another server than its record says: it is not moved from where it is not, and
/// not started beside the other when a move that was under way has lost it.
#[test]
fn a_vm_that_runs_elsewhere_is_not_moved() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let elsewhere = ServerId((vm.server.0 + 1) % world.site.topology.servers.len() as u32);
    world.specs.get_mut(&vm.id).expect("it runs").0 = elsewhere;
    world.attach_found();
    world.forget();
    let request = world.migrate(vm.id, None);
    let Some(Response::Rejected { rejection }) = world.answer(request) else {
        panic!("{:?}", world.answer(request))
    };
    assert!(rejection.summary.contains("elsewhere"), "{}", rejection.summary);
    assert!(!world.log.iter().any(|e| matches!(e, Effect::AllocateVm { .. } | Effect::MigrateVm { .. })));
}
