//! Plans carried out from end to end, by the doors that an operator has and by themselves.

use crate::hotspots::site;
use crate::loads::{Meters, placed, with_vms};
use crate::plans::planned;
use crate::world::{World, read};
use std::collections::BTreeSet;
use std::time::Duration;
use tandem_core::migration::policies::{DestinationSelector, View};
use tandem_core::migration::views::{MoveState, PlanView};
use tandem_core::policy::BestFit;
use tandem_core::{Core, Policy};
use tandem_model::{
    BitRate, Effect, Event, LinkId, MigrationId, MoveOptions, PersistedState, PlanGoal, PlanId, PortCounters,
    PortSample, Request, Resources, Response, ServerId, Site, VmId,
};

fn options() -> MoveOptions {
    MoveOptions::default()
}

/// Orders to move VMs since the last `forget`: migration, VM, from, to.
fn orders(world: &World) -> Vec<(MigrationId, VmId, ServerId, ServerId)> {
    let order = |e: &Effect| match e {
        Effect::MigrateVm { migration, vm, from, to, .. } => Some((*migration, *vm, *from, *to)),
        _ => None,
    };
    world.log.iter().filter_map(order).collect()
}

fn pairs(world: &World) -> Vec<(u64, u32)> {
    orders(world).iter().map(|(_, vm, _, to)| (vm.0, to.0)).collect()
}

/// The hypervisors have carried out the move of a VM.
fn arrive(world: &mut World, vm: u64) {
    let of = |e: &&Effect| matches!(e, Effect::MigrateVm { vm: v, .. } if v.0 == vm);
    let order = world.log.iter().rev().find(of).cloned().expect("an order");
    world.move_over(&order);
    let Effect::MigrateVm { migration, .. } = order else { panic!("no order") };
    world.tell(Event::VmMoved { migration, downtime: None });
}

fn view(world: &mut World, id: PlanId) -> PlanView {
    let snapshot = world.core.snapshot();
    snapshot.plans.iter().find(|p| p.plan.id == id).cloned().expect("it is kept")
}

fn on(world: &World, server: u32) -> Vec<u64> {
    world.core.vms().filter(|v| v.server == ServerId(server)).map(|v| v.id.0).collect()
}

/// Wide links, so that transfers are quick, and four servers of 8 cores.
fn wide(more: &str) -> Site {
    site(&format!(
        "[bandwidth]\nedge = \"1 Gbit/s\"\naggregation = \"10 Gbit/s\"\ncore = \"10 Gbit/s\"\ngateway = \"10 Gbit/s\"\n{more}"
    ))
}

fn cores(site: &Site, cpu: u32) -> Resources {
    Resources { cpu, net: BitRate(1_000_000), ..site.vm.default }
}

/// A server is evacuated from end to end: it gets nothing more, its VMs run elsewhere and are
/// reached there, and what was planned is what was done.
#[test]
fn a_server_is_evacuated_from_end_to_end() {
    let site = wide("");
    let size = cores(&site, 3);
    let mut world = with_vms(site, &[(0, size), (0, size), (1, size), (3, size)]);
    let used: Vec<_> = world.used();
    let plan = planned(&mut world, Request::EvacuateServer { server: ServerId(0), options: options() });
    assert_eq!(plan.moves.iter().map(|m| (m.vm.0, m.to.0)).collect::<Vec<_>>(), [(1, 1), (2, 3)], "best fit");
    assert_eq!(on(&world, 0).len(), 0);
    let view = view(&mut world, plan.id);
    assert!(view.steps.iter().all(|s| matches!(s, MoveState::Done { .. })), "{:?}", view.steps);
    assert!(view.begun.is_some() && view.ended.is_some());
    assert_eq!(world.noticed("plan-begun").len(), 1);
    assert_eq!(world.noticed("plan-ended"), ["plan1 (evacuate srv1) has ended: all 2 moves were done"]);
    let vms: Vec<_> = world.core.vms().cloned().collect();
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    let now = world.used();
    assert_eq!(now[0], Resources::default(), "nothing is reserved on it");
    assert_eq!((now[1].cpu, now[3].cpu, used[1].cpu), (6, 6, 3));
    assert_eq!(world.vm().server, ServerId(1), "a new VM goes elsewhere");
}

/// As many at once as the site allows, in all and per server; the next one begins when one has
/// ended.
#[test]
fn moves_begin_as_the_limits_allow() {
    let site = wide("[migration]\nat_once = 2\nper_server = 2\nrate = \"100 Mbit/s\"\n");
    let size = cores(&site, 1);
    let mut world = with_vms(site, &[(0, size); 4]);
    world.held.moves = true;
    let plan = planned(&mut world, Request::EvacuateServer { server: ServerId(0), options: options() });
    assert_eq!(pairs(&world).len(), 2, "two of four");
    arrive(&mut world, 1);
    assert_eq!(pairs(&world).len(), 3);
    let states = view(&mut world, plan.id).steps;
    let count = |f: fn(&MoveState) -> bool| states.iter().filter(|s| f(s)).count();
    assert_eq!(count(|s| matches!(s, MoveState::Done { .. })), 1);
    assert_eq!(count(|s| matches!(s, MoveState::UnderWay { .. })), 2);
    assert_eq!(count(|s| matches!(s, MoveState::Waiting)), 1);
    [2, 3, 4].into_iter().for_each(|vm| arrive(&mut world, vm));
    assert_eq!(on(&world, 0).len(), 0);
    assert_eq!(world.noticed("plan-ended").len(), 1);
}

/// A policy that wants two full servers to change places.
struct Swap;

impl DestinationSelector for Swap {
    fn name(&self) -> &str {
        "swap"
    }
    fn assign(&self, _view: &View<'_>) -> Option<Vec<(VmId, ServerId)>> {
        Some(vec![(VmId(1), ServerId(1)), (VmId(2), ServerId(0))])
    }
}

fn swapping() -> World {
    let site = wide("");
    let stored = placed(&site, &[(0, cores(&site, 8)), (1, cores(&site, 8))]);
    let mut world = World::dark(site, PersistedState::default());
    let policy = Policy { place: Box::new(Swap), ..Policy::new(Box::new(BestFit)) };
    world.core = Core::with_policy(world.site.clone(), stored, world.now, policy);
    world.connect_all();
    world.attach(vec![(VmId(1), ServerId(0)), (VmId(2), ServerId(1))]);
    world
}

/// Two full servers change their VMs by a third one, one step after the other.
#[test]
fn a_ring_is_carried_out_over_a_free_server() {
    let mut world = swapping();
    let plan = planned(&mut world, Request::Plan { aim: PlanGoal::KeepPolicy, options: options() });
    world.held.moves = true;
    planned(&mut world, Request::ApplyPlan { plan: plan.id });
    assert_eq!(pairs(&world), [(1, 2)]);
    arrive(&mut world, 1);
    assert_eq!(pairs(&world), [(1, 2), (2, 0)]);
    arrive(&mut world, 2);
    assert_eq!(pairs(&world), [(1, 2), (2, 0), (1, 1)]);
    arrive(&mut world, 1);
    assert_eq!((on(&world, 0), on(&world, 1)), (vec![2], vec![1]));
    let vms: Vec<_> = world.core.vms().cloned().collect();
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    let id = world.ask(Request::ApplyPlan { plan: plan.id });
    assert!(matches!(world.answer(id), Some(Response::Conflict { why }) if why == "plan1 has begun already"));
}

/// A step that fails takes with it those that wait for it, and nothing else happens.
#[test]
fn a_failed_step_fails_those_that_wait_for_it() {
    let mut world = swapping();
    let plan = planned(&mut world, Request::Plan { aim: PlanGoal::KeepPolicy, options: options() });
    world.held.moves = true;
    planned(&mut world, Request::ApplyPlan { plan: plan.id });
    let (migration, ..) = orders(&world)[0];
    world.tell(Event::MigrationFailed { migration, at: Some(ServerId(0)), why: "no memory".into() });
    let view = view(&mut world, plan.id);
    let whys: Vec<&str> = view
        .steps
        .iter()
        .map(|s| match s {
            MoveState::Failed { why } => why.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(whys[0].contains("no memory"), "{whys:?}");
    assert_eq!(whys[1..], ["step 1 that it waits for was not done", "step 1 that it waits for was not done"]);
    assert!(view.ended.is_some());
    assert_eq!(pairs(&world).len(), 1);
    assert!(
        world.noticed("plan-ended")[0].contains("0 of 3 moves were done; vm1: "),
        "{:?}",
        world.noticed("plan-ended")
    );
}

/// A plan that is stopped begins nothing more; what is under way goes on.
#[test]
fn a_stopped_plan_begins_no_more() {
    let mut world = swapping();
    let plan = planned(&mut world, Request::Plan { aim: PlanGoal::KeepPolicy, options: options() });
    world.held.moves = true;
    planned(&mut world, Request::ApplyPlan { plan: plan.id });
    let id = world.ask(Request::StopPlan { plan: plan.id });
    assert_eq!(world.answer(id), Some(Response::Done));
    assert!(world.noticed("plan-ended").is_empty(), "one is under way");
    arrive(&mut world, 1);
    assert_eq!(pairs(&world).len(), 1);
    assert!(world.noticed("plan-ended")[0].contains("1 of 3 moves were done; vm2: the plan was stopped"));
    assert_eq!(on(&world, 2), [1]);
}

/// A VM that goes away by itself gives its room back just as one that was moved: who waits for that
/// goes on.
#[test]
fn a_vm_that_is_deleted_makes_room_too() {
    let mut world = swapping();
    let plan = planned(&mut world, Request::Plan { aim: PlanGoal::KeepPolicy, options: options() });
    world.held.moves = true;
    planned(&mut world, Request::ApplyPlan { plan: plan.id });
    world.ask(Request::DeleteVm { vm: VmId(2) });
    arrive(&mut world, 1);
    assert_eq!(pairs(&world), [(1, 2), (1, 1)], "srv2 has room, whoever made it");
    arrive(&mut world, 1);
    assert_eq!(on(&world, 1), [1]);
}

/// What fits nowhere stays on the server; when room comes free somewhere it is moved without
/// anybody asking again.
#[test]
fn an_evacuation_goes_on_when_room_comes_free() {
    let site = wide("");
    let size = cores(&site, 5);
    let mut world = with_vms(site, &[(0, size), (1, size), (2, size), (3, size)]);
    let plan = planned(&mut world, Request::EvacuateServer { server: ServerId(0), options: options() });
    assert_eq!((plan.moves.len(), plan.left.len()), (0, 1));
    assert!(world.noticed("plan-ended")[0].ends_with("has nothing to move; 1 VMs could not be planned"));
    world.wait_seen(Duration::from_secs(65));
    assert_eq!(on(&world, 0), [1]);
    assert_eq!(world.core.snapshot().plans.len(), 1, "tries that move nothing are not plans to look at");
    world.ask(Request::DeleteVm { vm: VmId(3) });
    world.wait_seen(Duration::from_secs(31));
    assert_eq!((on(&world, 0), on(&world, 2)), (vec![], vec![1]));
}

/// The controller is killed in the middle of an evacuation. The next one knows that the server is
/// out of service, ends the move that was under way, and plans for the rest.
#[test]
fn an_evacuation_outlives_the_controller() {
    let site = wide("");
    let size = cores(&site, 1);
    let mut before = with_vms(site, &[(0, size), (0, size)]);
    before.stored = placed(&before.site, &[(0, size), (0, size)]);
    before.held.moves = true;
    planned(&mut before, Request::EvacuateServer { server: ServerId(0), options: options() });
    assert_eq!((pairs(&before).len(), before.stored.migrations.len()), (1, 1));
    let mut after = World::dark_at(before.site.as_ref().clone(), before.stored.clone(), before.now);
    after.specs = before.specs.clone();
    after.connect_all();
    after.attach(vec![(VmId(1), ServerId(0)), (VmId(2), ServerId(0))]);
    after.wait_seen(Duration::from_secs(35));
    assert_eq!(on(&after, 0).len(), 0);
    let vms: Vec<_> = after.core.vms().cloned().collect();
    assert_eq!(vms.len(), 2);
    vms.iter().for_each(|vm| after.assert_reachable(vm));
}

/// Keep-policy by the clock: what was scattered is brought together, and then nothing moves any
/// more.
#[test]
fn keep_policy_runs_by_the_clock_and_comes_to_rest() {
    let site = wide("[keep_policy]\nperiod = \"60 s\"\n");
    let size = cores(&site, 2);
    let mut world = with_vms(site, &[(0, size), (1, size), (2, size), (3, size)]);
    world.wait_seen(Duration::from_secs(59));
    assert!(pairs(&world).is_empty());
    world.wait_seen(Duration::from_secs(600));
    let servers: BTreeSet<ServerId> = world.core.vms().map(|v| v.server).collect();
    assert_eq!(servers.len(), 1, "four VMs of 2 cores fill one server of 8");
    let moves = pairs(&world).len();
    world.wait_seen(Duration::from_secs(600));
    assert_eq!(pairs(&world).len(), moves);
}

/// A hot server is relieved by itself: the move begins in the very period that made it hot, and the
/// server is cool when it has ended.
#[test]
fn a_hot_server_is_relieved_within_a_period() {
    let site = wide("[hotspot]\nrelieve = true\n");
    let size = cores(&site, 1);
    let mut world = with_vms(site, &[(0, size), (0, size), (0, size), (1, size)]);
    let mut meters = Meters::new(&[(1, 2.6), (2, 2.6), (3, 2.6), (4, 1.0)]);
    let mut periods = 0;
    while world.noticed("hotspot").is_empty() {
        meters.period(&mut world);
        periods += 1;
        assert!(periods < 10, "it never gets hot");
    }
    assert_eq!(periods, 4, "three samples over the threshold, and one before them to count from");
    assert_eq!(pairs(&world).len(), 1, "the move has begun with the third");
    let cause = world.core.snapshot().migrations[0].record.cause;
    assert_eq!(cause, tandem_model::Cause::HotServer);
    (0..3).for_each(|_| meters.period(&mut world));
    assert_eq!(world.noticed("hotspot-cool"), ["srv1 is cool again: 65% of its CPU"]);
    let vms: Vec<_> = world.core.vms().cloned().collect();
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    assert_eq!(pairs(&world).len(), 1);
}

/// A hot link is relieved: one of the VMs whose traffic fills it goes to where its way does not
/// lead over it, and nothing else gets hot.
#[test]
fn a_hot_link_is_relieved() {
    let site =
        site("[hotspot]\nrelieve = true\n[bandwidth]\naggregation = \"10 Mbit/s\"\nedge = \"100 Mbit/s\"\n");
    let size = Resources { net: BitRate(500_000), ..site.vm.default };
    let mut world = with_vms(site, &[(0, size), (0, size)]);
    let down = world.core.vm(VmId(1)).expect("it runs").path_down.clone();
    let links = world.core.snapshot().links.clone();
    let above =
        |l: &LinkId| links[l.0 as usize].name.contains("agg") && links[l.0 as usize].name.contains("edge");
    let hot = down.iter().map(|hop| hop.link).find(above).expect("a link above the edge");
    assert_eq!(world.core.vm(VmId(2)).expect("it runs").path_down, down, "both use it");
    let mut meters = Meters::new(&[]);
    meters.use_of.extend([(VmId(1), (0.1, 5_000_000)), (VmId(2), (0.1, 4_500_000))]);
    let mut bytes = 0;
    for _ in 0..12 {
        meters.period(&mut world);
        for (vm, (_, rate)) in &meters.use_of {
            let over = world.core.vm(*vm).expect("it runs").path_down.iter().any(|hop| hop.link == hot);
            bytes += if over { rate / 8 * 5 } else { 0 };
        }
        let (switch, port) = world.ends(hot)[0];
        let none = PortSample {
            port,
            counters: PortCounters {
                rx_packets: Some(0),
                tx_packets: Some(0),
                rx_bytes: Some(0),
                tx_bytes: Some(bytes),
                rx_dropped: Some(0),
                tx_dropped: Some(0),
                rx_errors: Some(0),
                tx_errors: Some(0),
                ..PortCounters::default()
            },
        };
        world.tell(Event::Samples { switch, ports: vec![none], flows: Vec::new(), rules: Vec::new() });
    }
    assert_eq!(world.noticed("hotspot").len(), 1, "{:?}", world.noticed("hotspot"));
    assert_eq!(world.noticed("hotspot-cool").len(), 1);
    assert_eq!(pairs(&world).len(), 1);
    let cause = world.core.snapshot().migrations[0].record.cause;
    assert_eq!(cause, tandem_model::Cause::HotLink);
    let vms: Vec<_> = world.core.vms().cloned().collect();
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    let over = vms.iter().filter(|vm| vm.path_down.iter().any(|hop| hop.link == hot)).count();
    assert_eq!(over, 1);
}

/// Everything at once for 200 periods: loads that rise and fall around the threshold, relief, and a
/// keep-policy that wants VMs back together on the servers that get hot by it. VMs move, but none
/// goes to and fro.
#[test]
fn nothing_swings_back_and_forth_over_200_periods() {
    let site = wide("[hotspot]\nrelieve = true\n[keep_policy]\nperiod = \"30 s\"\n");
    let size = cores(&site, 1);
    let vms: Vec<(u32, Resources)> = (0..8).map(|n| (n % 4, size)).collect();
    let mut world = with_vms(site, &vms);
    world.wait_seen(Duration::from_secs(1));
    let mut meters = Meters::new(&[1, 2, 3, 4, 5, 6, 7, 8].map(|vm| (vm, 0.0)));
    let mut moves = Vec::new();
    for period in 0..200u64 {
        // A slow swell, and VMs that are a little different.
        for (vm, used) in &mut meters.use_of {
            let swell = ((period + vm.0 * 3) as f64 / 8.0).sin();
            used.0 = 2.0 + 0.7 * swell + 0.05 * vm.0 as f64;
        }
        world.forget();
        meters.period(&mut world);
        moves.extend(orders(&world).into_iter().map(|(_, vm, from, to)| (period, vm, from, to)));
    }
    assert!(!moves.is_empty(), "keep-policy brings VMs together at least");
    let rest = 20 * 5;
    for (n, (at, vm, from, _)) in moves.iter().enumerate() {
        let back = moves[n + 1..].iter().find(|(later, v, _, to)| v == vm && to == from && later - at < rest);
        assert_eq!(back, None, "{vm} left {from} in period {at} and is sent back");
    }
    assert!(moves.len() <= 40, "{} moves of 8 VMs in 200 periods: {moves:?}", moves.len());
    let late = moves.iter().filter(|(period, ..)| *period >= 100).count();
    assert!(late <= moves.len() / 2, "it does not get worse with time: {moves:?}");
}

/// The thesis' keep-policy through the doors: plan, apply, and the data centre is as the last row
/// of its table.
#[test]
fn the_seeds_table_is_carried_out() {
    for (policy, end) in [("best-fit", [0, 0, 6]), ("worst-fit", [2, 2, 2])] {
        let site = read(&format!(
            "[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 3\n[servers]\ncpu = 6\n\
             [policy]\nallocation = \"{policy}\"\n"
        ));
        let size = Resources { net: BitRate(1000), ..site.vm.default };
        let mut world = with_vms(site, &[1, 1, 1, 2, 2, 2].map(|s| (s, size)));
        let plan = planned(&mut world, Request::Plan { aim: PlanGoal::KeepPolicy, options: options() });
        planned(&mut world, Request::ApplyPlan { plan: plan.id });
        let counts: Vec<usize> = (0..3).map(|s| on(&world, s).len()).collect();
        assert_eq!(counts, end, "{policy}");
    }
}
