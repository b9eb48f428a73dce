//! Plans as somebody sees them who asks: what is proposed, with which reasons, and what becomes of
//! a plan that no longer holds.

use crate::loads::{placed, with_vms};
use crate::world::{SMALL, START, World, read};
use std::time::Duration;
use tandem_core::migration::precopy::predict;
use tandem_core::migration::rebalance::Considered;
use tandem_model::{
    BitRate, Bytes, Cause, MigrationId, MigrationMode, MigrationRecord, MoveOptions, Phase, Place, Plan,
    PlanGoal, PlanId, Request, Resources, Response, ServerId, Site, StoreOp, VmId,
};

/// Three servers of 6 cores behind one switch.
fn three(policy: &str, more: &str) -> Site {
    read(&format!(
        "[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 3\n[servers]\ncpu = 6\n[vm]\ncpu = 1\n\
         [policy]\nallocation = \"{policy}\"\n{more}"
    ))
}

/// So many VMs on each server.
fn spread(site: Site, counts: &[u32]) -> World {
    let size = site.vm.default;
    let vms: Vec<(u32, Resources)> =
        (0u32..).zip(counts).flat_map(|(s, n)| (0..*n).map(move |_| (s, size))).collect();
    with_vms(site, &vms)
}

pub(crate) fn planned(world: &mut World, ask: Request) -> Plan {
    let id = world.ask(ask);
    match world.answer(id) {
        Some(Response::Planned { plan }) => *plan,
        other => panic!("no plan: {other:?}"),
    }
}

fn plan_for(world: &mut World, aim: PlanGoal) -> Plan {
    planned(world, Request::Plan { aim, options: MoveOptions::default() })
}

/// The rows of the thesis' table: how many VMs each server has after each VM was looked at, until
/// nothing changes any more.
fn rows(world: &World, start: [u32; 3]) -> Vec<[u32; 3]> {
    let mut now = start;
    let mut rows = Vec::new();
    for Considered { from, to, .. } in world.core.consider_all() {
        now[from.0 as usize] -= 1;
        now[to.0 as usize] += 1;
        rows.push(now);
    }
    let last = rows.last().copied().unwrap_or(start);
    while rows.len() > 1 && rows[rows.len() - 2] == last {
        rows.pop();
    }
    rows
}

/// The thesis' table, exactly: 3 servers with room for 6 VMs, which have 0, 3 and 3. An iteration
/// is one turn of the algorithm's loop: one VM is taken away and the policy asked again. The list
/// of VMs is made once, by servers; the first of equal servers is taken.
#[test]
fn keep_policy_is_the_seeds_table() {
    let best = spread(three("best-fit", ""), &[0, 3, 3]);
    assert_eq!(rows(&best, [0, 3, 3]), [[0, 2, 4], [0, 1, 5], [0, 0, 6]]);
    let worst = spread(three("worst-fit", ""), &[0, 3, 3]);
    assert_eq!(rows(&worst, [0, 3, 3]), [[1, 2, 3], [2, 1, 3], [2, 1, 3], [2, 2, 2]]);
    for (policy, end) in [("best-fit", [0, 0, 6]), ("worst-fit", [2, 2, 2])] {
        let again = spread(three(policy, ""), &end);
        assert!(again.core.consider_all().iter().all(|c| c.from == c.to), "{policy}: then no change");
    }
}

/// A plan says everything before anything moves: which VMs, why, what it takes, and how many
/// servers are in use before and after.
#[test]
fn a_plan_says_what_it_would_do_and_changes_nothing() {
    let mut world = spread(three("best-fit", ""), &[0, 3, 3]);
    let before = (world.used(), world.reserved());
    let plan = plan_for(&mut world, PlanGoal::KeepPolicy);
    let moves: Vec<(u64, u32, u32)> = plan.moves.iter().map(|m| (m.vm.0, m.from.0, m.to.0)).collect();
    assert_eq!(moves, [(1, 1, 2), (2, 1, 2), (3, 1, 2)]);
    assert_eq!((plan.active_before, plan.active_after), (2, 1));
    assert_eq!(plan.moves[0].why, "best-fit would place it on srv3 today");
    assert_eq!((plan.moves[0].cause, plan.moves[0].manner), (Cause::KeepPolicy, MigrationMode::Live));
    let each = plan.moves[0].predicted;
    assert!(each.converges && each.bytes >= world.site.vm.default.ram, "{each:?}");
    assert_eq!(plan.bytes, plan.moves.iter().map(|m| m.predicted.bytes).sum());
    let one_by_one: Duration = plan.moves.iter().map(|m| m.predicted.duration).sum();
    assert_eq!(plan.duration, one_by_one, "one at a time between the same two servers");
    assert_eq!((world.used(), world.reserved()), before);
    let view = &world.core.snapshot().plans[0];
    assert_eq!((&view.plan, view.begun, view.ended), (&plan, None, None));
}

/// Nothing to do is said plainly, not refused.
#[test]
fn a_plan_with_nothing_to_move_is_a_plan_with_no_moves() {
    let mut world = spread(three("best-fit", ""), &[0, 0, 6]);
    let plan = plan_for(&mut world, PlanGoal::KeepPolicy);
    assert_eq!((plan.moves.len(), plan.left.len()), (0, 0));
    planned(&mut world, Request::ApplyPlan { plan: plan.id });
    assert_eq!(world.noticed("plan-ended"), ["plan1 (keep policy) has nothing to move"]);
    assert!(world.noticed("plan-begun").is_empty());
}

/// The bound and the gate of keep-policy: so many moves a run, and none that is not worth its
/// bytes.
#[test]
fn keep_policy_is_bounded_and_weighs_cost_against_benefit() {
    let mut world = spread(three("best-fit", "[keep_policy]\nmoves = 2\n"), &[0, 3, 3]);
    let plan = plan_for(&mut world, PlanGoal::KeepPolicy);
    assert_eq!(plan.moves.len(), 2);
    assert_eq!(plan.left.len(), 1);
    assert!(plan.left[0].1.contains("2 moves at most ([keep_policy] moves)"), "{}", plan.left[0].1);
    // Worst fit: the first VM evens out a third of a server, the second one nothing (the servers
    // are equal without it), the fourth one a sixth. They have 2 GiB each.
    let text = "[keep_policy]\ngain = 0.01\n";
    let site = three("worst-fit", &format!("{text}[migration]\ndirty_rate = \"0 bit/s\"\n"));
    let size = Resources { ram: Bytes(2 << 30), ..site.vm.default };
    let vms: Vec<(u32, Resources)> = [1, 1, 1, 2, 2, 2].map(|s| (s, size)).to_vec();
    let mut world = with_vms(site, &vms);
    let plan = plan_for(&mut world, PlanGoal::KeepPolicy);
    let moved: Vec<u64> = plan.moves.iter().map(|m| m.vm.0).collect();
    assert_eq!(moved, [1, 4], "{:?}", plan.left);
    assert_eq!(plan.left[0].0, VmId(2));
    assert!(plan.left[0].1.contains("is worth 0.000 of a server for 2.00 GiB"), "{}", plan.left[0].1);
}

/// One VM elsewhere: where the policy wants it, or where somebody wants it, or the reason why not.
#[test]
fn one_vm_goes_where_it_is_asked_to_or_is_told_why_not() {
    let mut world = spread(three("best-fit", ""), &[1, 6, 2]);
    let to = |server: u32| PlanGoal::Move { vm: VmId(1), to: Some(ServerId(server)) };
    let plan = plan_for(&mut world, PlanGoal::Move { vm: VmId(1), to: None });
    assert_eq!(plan.moves.iter().map(|m| m.to).collect::<Vec<_>>(), [ServerId(2)]);
    let table = [(to(1), "srv2 is short of CPU: 1 needed, 0 free"), (to(0), "it is there already")];
    for (aim, why) in table {
        let plan = plan_for(&mut world, aim);
        assert_eq!((plan.moves.len(), &plan.left[..]), (0, &[(VmId(1), why.to_owned())][..]));
    }
    for aim in
        [PlanGoal::Move { vm: VmId(99), to: None }, to(99), PlanGoal::Evacuate { server: ServerId(99) }]
    {
        let id = world.ask(Request::Plan { aim, options: MoveOptions::default() });
        assert!(matches!(world.answer(id), Some(Response::NotFound { .. })));
    }
}

/// A VM that dirties its memory faster than it can be sent is left where it is with the figures;
/// cold or forced it goes.
#[test]
fn a_vm_that_dirties_faster_than_the_way_is_left() {
    let site = three("best-fit", "[migration]\nrate = \"100 Mbit/s\"\ndirty_rate = \"200 Mbit/s\"\n");
    let mut world = spread(site, &[1, 0, 0]);
    let aim = PlanGoal::Move { vm: VmId(1), to: Some(ServerId(1)) };
    let plan = plan_for(&mut world, aim.clone());
    assert_eq!(plan.moves.len(), 0);
    let why = &plan.left[0].1;
    assert!(
        why.contains("it dirties 200 Mbit/s and can be sent to srv2 at") && why.contains("move it cold"),
        "{why}"
    );
    let cold = MoveOptions { manner: Some(MigrationMode::Cold), ..MoveOptions::default() };
    let plan = planned(&mut world, Request::Plan { aim: aim.clone(), options: cold });
    let size = world.site.vm.default;
    assert_eq!(plan.bytes, Bytes(size.ram.0 + size.disk.0), "memory and local disks");
    assert_eq!(plan.moves[0].predicted.downtime, plan.moves[0].predicted.duration);
    let forced = MoveOptions { force: true, ..MoveOptions::default() };
    let plan = planned(&mut world, Request::Plan { aim, options: forced });
    assert!(!plan.moves[0].predicted.converges);
}

/// A plan holds only while what it was made for is still so; then it says what is different.
#[test]
fn a_stale_plan_is_refused_and_says_what_changed() {
    let mut world = spread(three("best-fit", ""), &[0, 3, 3]);
    let plan = plan_for(&mut world, PlanGoal::KeepPolicy);
    world.ask(Request::DeleteVm { vm: VmId(2) });
    let id = world.ask(Request::ApplyPlan { plan: plan.id });
    let Some(Response::Conflict { why }) = world.answer(id) else { panic!("it is carried out") };
    assert_eq!(why, "the data centre has changed since plan1 was made: vm2 is gone; make a new plan");
    // Two to srv3, which then gets another VM and has room for one only.
    let mut world = spread(three("best-fit", ""), &[0, 2, 4]);
    let plan = plan_for(&mut world, PlanGoal::KeepPolicy);
    assert_eq!(plan.moves.len(), 2);
    assert_eq!(world.vm().server, ServerId(2));
    let id = world.ask(Request::ApplyPlan { plan: plan.id });
    let Some(Response::Conflict { why }) = world.answer(id) else { panic!("it is carried out") };
    assert!(why.contains("vm2 has no place any more: srv3 is short of CPU"), "{why}");
    let id = world.ask(Request::ApplyPlan { plan: PlanId(77) });
    assert!(matches!(world.answer(id), Some(Response::NotFound { .. })));
    let id = world.ask(Request::StopPlan { plan: plan.id });
    assert!(matches!(world.answer(id), Some(Response::Conflict { why }) if why == "plan1 was never begun"));
}

/// The last sixteen plans are there, the latest first.
#[test]
fn sixteen_plans_are_kept() {
    let mut world = spread(three("best-fit", ""), &[1, 0, 0]);
    for _ in 0..20 {
        plan_for(&mut world, PlanGoal::KeepPolicy);
    }
    let ids: Vec<u64> = world.core.snapshot().plans.iter().map(|p| p.plan.id.0).collect();
    assert_eq!(ids, (5..=20).rev().collect::<Vec<u64>>());
}

/// A server out of service gets no VM any more, not even when it is all that has room; the
/// rejection says so. That outlives a restart, and ends when the server is returned.
#[test]
fn a_server_out_of_service_gets_no_vms_until_it_is_returned() {
    let mut world = spread(three("best-fit", ""), &[0, 0, 0]);
    for server in [0, 1] {
        let ask = Request::EvacuateServer { server: ServerId(server), options: MoveOptions::default() };
        assert_eq!(planned(&mut world, ask).moves.len(), 0, "it is empty already");
    }
    assert_eq!(world.stored.drained, [ServerId(0), ServerId(1)]);
    assert!(
        world.noticed("server-drained")[0].starts_with("srv1 is out of service"),
        "{:?}",
        world.notices()
    );
    assert!(world.core.snapshot().servers[0].drained && !world.core.snapshot().servers[2].drained);
    (0..6).for_each(|_| assert_eq!(world.vm().server, ServerId(2)));
    let id = world.ask_vm();
    let Some(Response::Rejected { rejection }) = world.answer(id) else {
        panic!("a VM on a server out of service")
    };
    assert!(rejection.summary.ends_with("1 short of CPU, 2 out of service"), "{rejection}");
    let aim = PlanGoal::Move { vm: VmId(1), to: Some(ServerId(0)) };
    assert_eq!(plan_for(&mut world, aim).left[0].1, "srv1 is out of service");
    let mut after = World::dark(world.site.as_ref().clone(), world.stored.clone());
    after.connect_all();
    after.attach(world.core.vms().map(|v| (v.id, v.server)).collect());
    assert!(after.core.is_drained(ServerId(0)));
    let id = after.ask(Request::ReturnServer { server: ServerId(0) });
    assert_eq!(after.answer(id), Some(Response::Done));
    assert_eq!(
        (after.stored.drained.clone(), after.noticed("server-back")),
        (vec![ServerId(1)], vec!["srv1 is back in service"])
    );
    assert_eq!(after.vm().server, ServerId(0));
}

/// A store that cannot be written leaves the server in service.
#[test]
fn a_server_whose_evacuation_cannot_be_stored_stays_in_service() {
    let mut world = spread(three("best-fit", ""), &[0, 0, 0]);
    world.held.store = true;
    world.forget();
    let server = ServerId(0);
    let id = world.ask(Request::EvacuateServer { server, options: MoveOptions::default() });
    assert!(world.core.is_drained(server), "nothing is placed there meanwhile");
    let store = world.log.iter().find_map(|e| match e {
        tandem_model::Effect::Store { id, op: StoreOp::PutDrained { .. } } => Some(*id),
        _ => None,
    });
    world
        .tell(tandem_model::Event::StoreFailed { id: store.expect("it is stored"), why: "disk full".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("disk full")));
    assert!(!world.core.is_drained(server));
}

/// Evacuation on paper: the VMs of the server go where the policy wants them; what fits nowhere is
/// named with what is short.
#[test]
fn an_evacuation_names_what_fits_nowhere() {
    let site = three("best-fit", "");
    let big = Resources { cpu: 4, ..site.vm.default };
    let mut world = with_vms(site, &[(0, big), (0, big), (1, big), (2, Resources { cpu: 2, ..big })]);
    let plan = plan_for(&mut world, PlanGoal::Evacuate { server: ServerId(0) });
    assert_eq!(plan.moves.iter().map(|m| (m.vm.0, m.to.0)).collect::<Vec<_>>(), [(1, 2)]);
    assert_eq!(plan.left.len(), 1);
    let why = &plan.left[0].1;
    assert_eq!(why, "no other server has room; the nearest: srv2 is short of CPU: 4 needed, 2 free");
    assert!(!world.core.is_drained(ServerId(0)), "it was only asked");
}

/// Plans of a controller that was started again do not get the names of those before.
#[test]
fn plan_ids_go_on_after_those_of_open_migrations() {
    let site = read(SMALL);
    let size = site.vm.default;
    let mut stored = placed(&site, &[(0, size), (1, size)]);
    let (from, to) = (Place::of(&stored.vms[0]), Place::of(&stored.vms[1]));
    let predicted = predict(size.ram, BitRate::mbit(1), BitRate(0), Duration::from_millis(300), 30);
    stored.last_migration = 3;
    stored.migrations.push(MigrationRecord {
        id: MigrationId(3),
        vm: VmId(1),
        from,
        to,
        manner: MigrationMode::Live,
        cause: Cause::KeepPolicy,
        plan: Some(PlanId(7)),
        path: Vec::new(),
        rate: BitRate::mbit(1),
        force: false,
        priority: tandem_model::MovePriority::default(),
        predicted,
        phase: Phase::Transfer,
        asked_at: START,
        transfer_at: Some(START),
    });
    let mut world = World::dark(site, stored);
    world.connect_all();
    world.wait(Duration::from_secs(1));
    assert_eq!(plan_for(&mut world, PlanGoal::KeepPolicy).id, PlanId(8));
}
