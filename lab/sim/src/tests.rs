//! Transfers as the simulated hypervisors carry them out, with the orders given by hand.

use crate::loads::Load;
use crate::transfers::Fault;
use crate::{Faults, Simulation};
use std::sync::Arc;
use std::time::Duration;
use tandem_core::migration::precopy;
use tandem_model::{
    BitRate, Bytes, Effect, Event, Hop, LinkId, MigrationId, MigrationMode, MoveOptions, MovePriority,
    NodeId, PortNo, Request, Resources, ServerId, Time, TrafficId, TrafficTool, VmId, VmRequest, VmSpec,
    site,
};

const ID: MigrationId = MigrationId(7);

/// Two servers behind a switch each, links of 100 Mbit/s, and a running VM of 100 MiB.
fn running() -> (Simulation, VmId, ServerId, ServerId) {
    let text = "[topology]\nshape = \"linear\"\nswitches = 2\n[bandwidth]\ngateway = \"100 Mbit/s\"\n\
                aggregation = \"100 Mbit/s\"\nedge = \"100 Mbit/s\"\n[traffic]\nenabled = false\n";
    let site = Arc::new(site::read(text, "x").expect("a good site"));
    let mut sim = Simulation::new(site.clone(), Time::ZERO, None).expect("known policies");
    let resources = Resources { ram: Bytes(100 << 20), ..site.vm.default };
    let request = VmRequest { resources, ..VmRequest::default() };
    sim.ask(Time::ZERO, Request::RequestVm { request });
    sim.run_until(Time::from_secs(10)).expect("a run");
    let (vm, from, _) = sim.vms().next().expect("a VM");
    (sim, vm, from, ServerId(1 - from.0))
}

fn spec(sim: &Simulation, vm: VmId) -> VmSpec {
    VmSpec { uplink_port: PortNo(1), ..sim.vms[&vm].1.clone() }
}

fn order(sim: &mut Simulation, vm: VmId, from: ServerId, to: ServerId, manner: MigrationMode) {
    let spec = Box::new(spec(sim, vm));
    let rate = BitRate::mbit(50);
    let downtime = Duration::from_millis(300);
    let migration = ID;
    let effect = Effect::MigrateVm { migration, vm, from, to, manner, spec, rate, downtime, rounds: 30 };
    sim.apply_effect(effect);
}

/// The migration's own way: from the server to its switch, over, and down.
fn way(sim: &Simulation, from: ServerId, to: ServerId) -> Vec<Hop> {
    let topology = &sim.site.topology;
    let link = |n: u32| topology.link(LinkId(n)).expect("a link");
    let ends = |n: u32| [link(n).a.node, link(n).b.node];
    let all = 0..topology.links.len() as u32;
    let of = |node: NodeId| {
        let n = all.clone().find(|n| ends(*n).contains(&node)).expect("an uplink");
        (LinkId(n), n)
    };
    let middle = all
        .clone()
        .find(|n| ends(*n).iter().all(|e| matches!(e, NodeId::Switch(_))))
        .expect("a link between the switches");
    let (first, a) = of(NodeId::Server(from));
    let (last, b) = of(NodeId::Server(to));
    let edge = ends(a).into_iter().find(|e| matches!(e, NodeId::Switch(_))).expect("a switch");
    let up = link(b).hop_from(last, NodeId::Server(to));
    vec![
        link(a).hop_from(first, NodeId::Server(from)),
        link(middle).hop_from(LinkId(middle), edge),
        Hop { down: !up.down, ..up },
    ]
}

/// When and how it ended.
fn outcome(sim: &mut Simulation, at_most: u64) -> (Time, Event) {
    for ms in (0..at_most * 1000).step_by(100) {
        if let Some(ended) = sim.transfers.ended.get(&ID) {
            return (sim.now(), ended.clone());
        }
        sim.run_until(Time::from_secs(10) + Duration::from_millis(ms)).expect("a run");
    }
    panic!("it has not ended after {at_most} s")
}

fn load(sim: &Simulation, vm: VmId, dirty: BitRate) -> Load {
    Load { dirty, ..sim.loads.of(vm).expect("it runs") }
}

fn downtime(event: &Event) -> Duration {
    match event {
        Event::VmMoved { downtime, .. } => downtime.expect("the simulation knows"),
        other => panic!("it did not move: {other:?}"),
    }
}

#[test]
fn a_transfer_takes_what_the_model_predicts_and_is_a_flow_on_its_links() {
    for dirty in [0, 5, 25, 49] {
        let (mut sim, vm, from, to) = running();
        sim.set_load(vm, load(&sim, vm, BitRate::mbit(dirty)));
        let path = way(&sim, from, to);
        sim.transfers.path(ID, path.clone());
        order(&mut sim, vm, from, to, MigrationMode::Live);
        sim.run_until(Time::from_secs(11)).expect("a run");
        let sent = path.iter().map(|hop| sim.flows().bytes(*hop)).collect::<Vec<_>>();
        assert_eq!(sent, [6_250_000; 3], "a second of 50 Mbit/s");
        let memory = Bytes(100 << 20);
        let pause = Duration::from_millis(300);
        let predicted = precopy::predict(memory, BitRate::mbit(50), BitRate::mbit(dirty), pause, 30);
        let (_, ended) = outcome(&mut sim, 3000);
        assert_eq!(downtime(&ended), predicted.downtime, "{dirty} Mbit/s dirty");
        assert_eq!(sim.moved().bytes, predicted.bytes.0);
        let off = sim.flows().bytes(path[0]).abs_diff(predicted.bytes.0);
        assert!(off <= u64::from(predicted.rounds) + 1, "{off} bytes differ");
        assert_eq!(sim.vms().map(|(_, server, _)| server).collect::<Vec<_>>(), [to]);
        assert_eq!(sim.loads().occupation()[to.0 as usize], 1);
        assert!(sim.flows().ids().is_empty(), "its flow is gone");
    }
}

#[test]
fn a_cold_move_is_silent_all_the_time_and_sends_the_disk_too() {
    let (mut sim, vm, from, to) = running();
    order(&mut sim, vm, from, to, MigrationMode::Cold);
    let memory = Bytes(100 << 20);
    let disk = sim.vms[&vm].1.resources.disk;
    let predicted = precopy::cold(memory, disk, BitRate::mbit(50));
    let (_, ended) = outcome(&mut sim, 4000);
    assert_eq!(downtime(&ended), predicted.duration);
}

#[test]
fn other_traffic_slows_a_transfer_down_and_a_lower_rate_too() {
    let (mut sim, vm, from, to) = running();
    sim.set_load(vm, load(&sim, vm, BitRate(0)));
    let path = way(&sim, from, to);
    sim.transfers.path(ID, path.clone());
    order(&mut sim, vm, from, to, MigrationMode::Live);
    // 838,860,800 bits: 4 s of 50 Mbit/s, 4 s of 25 because of others, 4 s of 10 by order;
    // 498,860,800 are left for 50 again.
    sim.run_until(Time::from_secs(14)).expect("a run");
    let now = sim.now();
    for n in 0..3 {
        sim.flows.start(TrafficId(1000 + n), BitRate::mbit(100), TrafficTool::UDP, path[1..2].to_vec(), now);
    }
    sim.follow_rates();
    sim.run_until(Time::from_secs(18)).expect("a run");
    for n in 0..3 {
        sim.flows.stop(TrafficId(1000 + n), sim.now);
    }
    sim.follow_rates();
    let slower = |rate| Effect::SetMigrationRate { migration: ID, rate };
    sim.apply_effect(slower(BitRate::mbit(10)));
    sim.run_until(Time::from_secs(22)).expect("a run");
    sim.apply_effect(slower(BitRate::mbit(50)));
    let (at, ended) = outcome(&mut sim, 60);
    assert_eq!(downtime(&ended), Duration::ZERO);
    let needed = 12.0 + 498.8608 / 50.0;
    let took = at.as_secs_f64() - 10.0;
    assert!((took - needed).abs() < 0.11, "{took} s instead of {needed} s");
}

#[test]
fn what_goes_wrong_leaves_the_vm_where_it_was_and_is_told_again_when_asked_again() {
    let gone_wrong = |faults: Faults| {
        let (mut sim, vm, from, to) = running();
        sim.set_faults(faults, 3);
        order(&mut sim, vm, from, to, MigrationMode::Live);
        (sim, vm, from, to)
    };
    let (mut sim, vm, from, to) = gone_wrong(Faults { fail: 1.0, ..Faults::default() });
    let (_, ended) = outcome(&mut sim, 60);
    assert!(matches!(ended, Event::MigrationFailed { at: Some(at), .. } if at == from), "{ended:?}");
    assert_eq!(sim.vms().map(|(_, server, _)| server).collect::<Vec<_>>(), [from]);
    order(&mut sim, vm, from, to, MigrationMode::Live);
    assert!(sim.under_way().is_empty(), "it is not begun again");
    assert_eq!(sim.moved().failed, 1);

    let (mut sim, vm, from, to) = gone_wrong(Faults { hang: 1.0, ..Faults::default() });
    sim.run_until(Time::from_secs(1000)).expect("a run");
    assert_eq!(sim.under_way(), [(vm, from, to)], "only a cancel ends it");
    sim.apply_effect(Effect::CancelMigration { migration: ID, vm, from, to });
    assert!(sim.under_way().is_empty() && sim.flows().ids().is_empty());

    let (mut sim, _, _, _) = gone_wrong(Faults { lose: 1.0, ..Faults::default() });
    let (_, ended) = outcome(&mut sim, 60);
    assert!(matches!(ended, Event::MigrationFailed { at: None, .. }), "{ended:?}");
    assert_eq!(sim.vms().count(), 0);
}

#[test]
fn a_cancel_in_the_pause_is_too_late_and_a_stop_ends_the_transfer() {
    let (mut sim, vm, from, to) = running();
    sim.set_load(vm, load(&sim, vm, BitRate::mbit(5)));
    order(&mut sim, vm, from, to, MigrationMode::Live);
    while sim.transfers.by_id.get(&ID).is_some_and(|t| !t.is_paused()) {
        let next = sim.now() + Duration::from_millis(50);
        sim.run_until(next).expect("a run");
    }
    sim.apply_effect(Effect::CancelMigration { migration: ID, vm, from, to });
    sim.break_transfer(ID, Fault::Hang);
    let (_, ended) = outcome(&mut sim, 60);
    assert!(matches!(ended, Event::VmMoved { .. }), "{ended:?}");

    let (mut sim, vm, from, to) = running();
    order(&mut sim, vm, from, to, MigrationMode::Live);
    sim.apply_effect(Effect::StopVm { vm, server: from, placed_at: None });
    assert!(sim.under_way().is_empty() && sim.flows().ids().is_empty());
    assert_eq!(sim.vms().count(), 0);
}

/// Two transfers over the same links by the real core: one of higher priority that begins later takes
/// two thirds of them and ends first, and the other one has all again from then on.
#[test]
fn a_transfer_of_higher_priority_overtakes_one_that_began_before() {
    let text = "[topology]\nshape = \"linear\"\nswitches = 2\n[bandwidth]\ngateway = \"100 Mbit/s\"\n\
                aggregation = \"100 Mbit/s\"\nedge = \"100 Mbit/s\"\n[traffic]\nenabled = false\n\
                [migration]\nper_server = 4\ndirty_rate = \"8 kbit/s\"\n";
    let site = Arc::new(site::read(text, "x").expect("a good site"));
    let mut sim = Simulation::new(site.clone(), Time::ZERO, None).expect("known policies");
    let resources = Resources { ram: Bytes(100 << 20), ..site.vm.default };
    for _ in 0..2 {
        let request = VmRequest { resources, ..VmRequest::default() };
        sim.ask(Time::ZERO, Request::RequestVm { request });
    }
    sim.run_until(Time::from_secs(10)).expect("a run");
    let vms: Vec<(VmId, ServerId)> = sim.vms().map(|(vm, server, _)| (vm, server)).collect();
    let [(first, from), (second, same)] = vms[..] else { panic!("{vms:?}") };
    assert_eq!(from, same, "best fit");
    let to = Some(ServerId(1 - from.0));
    let move_at = |sim: &mut Simulation, second_of: u64, vm: VmId, priority: MovePriority| {
        let options = MoveOptions { priority, ..MoveOptions::default() };
        sim.ask(Time::from_secs(second_of), Request::MigrateVm { vm, to, options });
    };
    move_at(&mut sim, 10, first, MovePriority::Normal);
    move_at(&mut sim, 12, second, MovePriority::High);
    let mut ended = Vec::new();
    for tenth in 100..600u64 {
        sim.run_until(Time::ZERO + Duration::from_millis(tenth * 100)).expect("a run");
        let there = sim.vms().filter(|(_, server, _)| Some(*server) == to).map(|(vm, ..)| vm);
        let new: Vec<VmId> = there.filter(|vm| ended.iter().all(|(other, _)| other != vm)).collect();
        ended.extend(new.into_iter().map(|vm| (vm, tenth as f64 / 10.0)));
    }
    let [(early, at), (late, then)] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((early, late), (second, first), "{ended:?}");
    // 100 MiB are 8.4 s at 100 Mbit/s: 12.6 s at two thirds, from second 12 on.
    assert!((at - 24.6).abs() < 1.5, "{ended:?}");
    // Both together are 16.8 s, and the links were never idle.
    assert!((then - 26.8).abs() < 2.0, "{ended:?}");
}
