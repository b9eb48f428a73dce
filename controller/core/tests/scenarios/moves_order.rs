//! Everything that can be said of a migration, in every one of its phases: what counts, and what
//! comes too late or too early.

use crate::moves::{FIRST, held};
use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_model::{
    BitRate, Bytes, Effect, Event, Level, MigrationEnd, Phase, Progress, Request, Response, ServerId,
    StoreId, StoreOp, VmId, VmRecord, VmState,
};

/// A VM on server 0 that is on its way to server 2, in a phase.
struct Scene {
    world: World,
    vm: VmRecord,
}

impl Scene {
    /// The phase's next step is held back, so that the migration stays in it.
    fn at(phase: Phase) -> Scene {
        let mut world = held();
        let vm = world.vm();
        world.forget();
        match phase {
            Phase::Reserve => world.held.store = true,
            Phase::Prepare => world.held.switches = true,
            _ => {}
        }
        world.migrate(vm.id, Some(2));
        match phase {
            Phase::SwitchOver => world.tell(Event::VmSuspended { migration: FIRST }),
            Phase::Confirm => {
                world.held.store = true;
                world.moved();
            }
            Phase::Release => {
                world.held.switches = true;
                world.moved();
            }
            Phase::Undo => {
                world.ask(Request::CancelMigration { migration: FIRST });
            }
            _ => {}
        }
        assert_eq!(world.phase(), Some(phase));
        Scene { world, vm }
    }

    /// Nothing is held back any more; hypervisors still say nothing by themselves.
    fn let_go(&mut self) {
        self.world.confirm_all();
        self.world.held.switches = false;
        self.world.catch_up();
    }
}

const PHASES: [Phase; 7] = [
    Phase::Reserve,
    Phase::Prepare,
    Phase::Transfer,
    Phase::SwitchOver,
    Phase::Confirm,
    Phase::Release,
    Phase::Undo,
];

/// What a phase becomes; `None`: it has ended.
type Row = [Option<Phase>; 7];

/// The state machine as a table: rows are what is said, columns the phases in their order.
#[test]
fn every_event_in_every_phase() {
    use Phase::{Confirm, Prepare, Release, Reserve, SwitchOver, Transfer, Undo};
    let stays: Row = PHASES.map(Some);
    let failed = |at: Option<u32>| {
        let at = at.map(ServerId);
        Event::MigrationFailed { migration: FIRST, at, why: "cut".into() }
    };
    let progress =
        Progress { round: 1, sent: Bytes(1), remaining: Bytes(1), rate: BitRate(1), dirty: BitRate(0) };
    let table: Vec<(Event, Row)> = vec![
        (Event::MigrationProgress { migration: FIRST, progress }, stays),
        (
            Event::VmSuspended { migration: FIRST },
            [Reserve, Prepare, SwitchOver, SwitchOver, Confirm, Release, SwitchOver].map(Some),
        ),
        (
            Event::VmMoved { migration: FIRST, downtime: None },
            [Some(Reserve), Some(Prepare), None, None, Some(Confirm), Some(Release), None],
        ),
        // It counts as moved when that is where it runs.
        (failed(Some(2)), [Some(Reserve), Some(Prepare), None, None, Some(Confirm), Some(Release), None]),
        (failed(Some(0)), [Some(Reserve), Some(Prepare), None, None, Some(Confirm), Some(Release), None]),
        (failed(None), [Some(Reserve), Some(Prepare), None, None, Some(Confirm), Some(Release), None]),
        (
            Event::Request {
                id: tandem_model::RequestId(99),
                request: Request::CancelMigration { migration: FIRST },
            },
            [Some(Undo), Some(Undo), Some(Undo), Some(SwitchOver), Some(Confirm), Some(Release), Some(Undo)],
        ),
        (Event::WorldDown { why: "gone".into() }, stays),
        (Event::StoreFailed { id: StoreId(999), why: "?".into() }, stays),
        (Event::VmSuspended { migration: tandem_model::MigrationId(8) }, stays),
        (Event::VmMoved { migration: tandem_model::MigrationId(8), downtime: None }, stays),
        (Event::VmStopped { vm: VmId(1) }, stays),
        (Event::VmResized { vm: VmId(1) }, stays),
        (Event::VmStarted { vm: VmId(1), address: None }, stays),
    ];
    for (event, row) in &table {
        for (from, wanted) in PHASES.into_iter().zip(row) {
            let mut scene = Scene::at(from);
            if matches!(event, Event::VmMoved { migration: FIRST, .. })
                && matches!(from, Transfer | SwitchOver | Undo)
            {
                let order = scene.world.order();
                scene.world.move_over(&order);
            }
            scene.world.tell(event.clone());
            assert_eq!(scene.world.phase(), *wanted, "{event:?} in {from}");
            // Whatever it was, it comes to a good end.
            scene.let_go();
            if scene.world.phase().is_some() && matches!(event, Event::WorldDown { .. }) {
                let at = if scene.world.phase() == Some(SwitchOver) { 2 } else { 0 };
                scene.world.attach(vec![(scene.vm.id, ServerId(at))]);
            }
            match scene.world.phase() {
                Some(Transfer | SwitchOver) => scene.world.moved(),
                Some(Undo) => scene.world.failed(Some(0)),
                None => {}
                other => panic!("{event:?} in {from} is stuck in {other:?}"),
            }
            scene.world.assert_settled(scene.vm.id);
            assert_eq!(scene.world.ended().len(), 1);
        }
    }
}

/// Until the switch-over a cancel leaves everything as it was; after it, it is too late, and said
/// so.
#[test]
fn a_cancel_leaves_all_as_it_was_or_comes_too_late() {
    for phase in PHASES {
        let mut scene = Scene::at(phase);
        let id = scene.world.ask(Request::CancelMigration { migration: FIRST });
        let late = matches!(phase, Phase::SwitchOver | Phase::Confirm | Phase::Release);
        match scene.world.answer(id) {
            Some(Response::Conflict { why }) => assert!(late && why.contains("too late"), "{phase}: {why}"),
            other => assert!(!late && other.is_none(), "{phase}: {other:?}"),
        }
        scene.let_go();
        if late {
            if phase == Phase::SwitchOver {
                scene.world.moved();
            }
            assert_eq!(scene.world.now_at(scene.vm.id).server, ServerId(2));
            scene.world.assert_settled(scene.vm.id);
            continue;
        }
        if matches!(phase, Phase::Transfer | Phase::Undo) {
            assert!(scene.world.answer(id).is_none(), "the hypervisors have not said so");
            scene.world.failed(Some(0));
        }
        assert_eq!(scene.world.answer(id), Some(Response::Done), "{phase}");
        assert_eq!(scene.world.now_at(scene.vm.id), scene.vm);
        scene.world.assert_settled(scene.vm.id);
        let id = scene.world.ask(Request::CancelMigration { migration: FIRST });
        assert!(matches!(scene.world.answer(id), Some(Response::Conflict { .. })), "it has ended");
    }
}

/// The hypervisors were faster than the cancel: the VM is where it went, and whoever wanted it back
/// is told.
#[test]
fn a_cancel_that_the_vm_overtakes_is_answered_as_failed() {
    let mut scene = Scene::at(Phase::Transfer);
    let id = scene.world.ask(Request::CancelMigration { migration: FIRST });
    scene.world.tell(Event::VmSuspended { migration: FIRST });
    scene.world.moved();
    assert!(matches!(scene.world.answer(id), Some(Response::Conflict { why }) if why.contains("too late")));
    scene.world.assert_settled(scene.vm.id);
    assert_eq!(scene.world.now_at(scene.vm.id).server, ServerId(2));
}

/// The VM was lost: it is started again where it was, as after a restart of its server.
#[test]
fn a_vm_that_is_lost_on_the_way_is_started_again_where_it_was() {
    for phase in [Phase::Transfer, Phase::SwitchOver] {
        let mut scene = Scene::at(phase);
        scene.world.failed(None);
        let started = |e: &Effect| matches!(e, Effect::AllocateVm { server: ServerId(0), .. });
        assert!(scene.world.log.iter().any(started));
        assert_eq!(scene.world.noticed("migration-failed").len(), 1);
        let now = scene.world.now_at(scene.vm.id);
        assert_eq!((now.server, now.state), (ServerId(0), VmState::Running));
        assert!(matches!(&scene.world.ended()[..], [MigrationEnd::Lost { .. }]));
        scene.world.assert_settled(scene.vm.id);
    }
}

/// Deleted, expired or died while it moves: the move is taken back first, and the VM is stopped
/// wherever it is then.
#[test]
fn a_vm_that_goes_while_it_moves_is_stopped_where_it_is() {
    for phase in PHASES {
        for how in 0..3 {
            let mut scene = Scene::at(phase);
            let world = &mut scene.world;
            let tables = {
                let mut empty = World::new(read(SMALL));
                let vm = empty.vm();
                empty.ask(Request::DeleteVm { vm: vm.id });
                empty.tables
            };
            let id = match how {
                0 => Some(world.ask(Request::DeleteVm { vm: scene.vm.id })),
                1 => {
                    world.tell(Event::VmFailed { vm: scene.vm.id, why: "killed".into() });
                    None
                }
                _ => {
                    world.tell(Event::WorldDown { why: "gone".into() });
                    Some(world.ask(Request::DeleteVm { vm: scene.vm.id }))
                }
            };
            scene.let_go();
            let world = &mut scene.world;
            if how == 2 {
                let at = if matches!(phase, Phase::Confirm | Phase::Release) { 2 } else { 0 };
                world.attach(vec![(scene.vm.id, ServerId(at))]);
            }
            match world.phase() {
                Some(Phase::SwitchOver) => world.moved(),
                Some(Phase::Undo) => world.failed(Some(0)),
                None => {}
                other => panic!("{phase}, {how}: stuck in {other:?}"),
            }
            let there = matches!(phase, Phase::SwitchOver | Phase::Confirm | Phase::Release);
            let stop = Effect::StopVm {
                vm: scene.vm.id,
                server: ServerId(if there { 2 } else { 0 }),
                placed_at: Some(scene.vm.placed_at),
            };
            assert!(world.log.contains(&stop), "{phase}, {how}: {:?}", world.log);
            assert_eq!(world.core.vm(scene.vm.id), None, "{phase}, {how}");
            if let Some(id) = id {
                assert_eq!(world.answer(id), Some(Response::Done), "{phase}");
            }
            assert_eq!((world.reserved(), &world.tables), (0, &tables), "{phase}, {how}");
            assert!(world.stored.vms.is_empty() && world.stored.migrations.is_empty());
        }
    }
}

#[test]
fn a_vm_whose_time_runs_out_while_it_moves_goes_too() {
    let mut world = held();
    let mut request = world.request();
    request.timeout = Some(Duration::from_secs(60));
    let vm = world.vm_of(request);
    world.migrate(vm.id, Some(2));
    world.wait_seen(Duration::from_secs(61));
    assert_eq!(world.phase(), Some(Phase::Undo));
    world.failed(Some(0));
    assert_eq!(world.core.vm(vm.id), None);
    assert_eq!(world.reserved(), 0);
}

/// Nothing is heard for the site's time: it is given up. While it gets on, it is not; while nobody
/// could tell, neither.
#[test]
fn a_transfer_that_makes_no_progress_is_given_up() {
    let text = format!("{SMALL}[migration]\ntimeout = \"10 s\"\n");
    let mut world = World::new(read(&text));
    world.held.moves = true;
    let vm = world.vm();
    world.migrate(vm.id, Some(2));
    for n in 1..5 {
        world.wait_seen(Duration::from_secs(9));
        world.progress(1, n * 1000, 100_000, BitRate(0));
    }
    assert_eq!(world.phase(), Some(Phase::Transfer));
    world.tell(Event::WorldDown { why: "gone".into() });
    world.wait_seen(Duration::from_secs(60));
    assert_eq!(world.phase(), Some(Phase::Transfer));
    world.attach(vec![(vm.id, ServerId(0))]);
    world.wait_seen(Duration::from_secs(9));
    // The same again is no progress.
    world.progress(1, 4000, 100_000, BitRate(0));
    world.wait_seen(Duration::from_secs(2));
    assert_eq!(world.phase(), Some(Phase::Undo));
    let cancels = |w: &World| w.log.iter().filter(|e| matches!(e, Effect::CancelMigration { .. })).count();
    assert_eq!(cancels(&world), 1);
    world.wait_seen(Duration::from_secs(11));
    assert_eq!(cancels(&world), 2, "asked again");
    world.failed(Some(0));
    assert!(matches!(&world.ended()[..], [MigrationEnd::Undone { why }] if why.contains("no progress")));
    world.assert_settled(vm.id);
}

/// A switch that takes the rules and never says so does not hold a place for ever.
#[test]
fn switches_that_never_confirm_are_not_waited_for_longer_than_the_site_says() {
    let mut world = World::new(read(&format!("{SMALL}[migration]\ntimeout = \"10 s\"\n")));
    let vm = world.vm();
    world.held.switches = true;
    world.migrate(vm.id, Some(2));
    world.wait_seen(Duration::from_secs(9));
    assert_eq!(world.phase(), Some(Phase::Prepare));
    world.wait_seen(Duration::from_secs(2));
    assert_eq!(world.phase(), Some(Phase::Undo));
    world.confirm_all();
    assert!(matches!(&world.ended()[..], [MigrationEnd::Undone { why }] if why.contains("not confirmed")));
    world.assert_settled(vm.id);
}

/// Two VMs on their way between the same two servers have the same rules for their transfers: one
/// path, which is mended for both.
#[test]
fn two_transfers_between_the_same_servers_share_one_path() {
    let mut world = World::new(read(&format!("{SMALL}[migration]\nper_server = 2\nrate = \"2 Mbit/s\"\n")));
    world.held.moves = true;
    let (a, b) = (world.vm(), world.vm());
    world.migrate(a.id, Some(2));
    world.migrate(b.id, Some(2));
    let paths = |w: &World| -> Vec<Vec<_>> { w.core.migrations().map(|m| m.path.clone()).collect() };
    let before = paths(&world);
    assert_eq!((before.len(), &before[0]), (2, &before[1]));
    let link = before[0][1].link;
    world.set_link(link, false);
    let after = paths(&world);
    assert_eq!(&after[0], &after[1]);
    assert!(after[0].iter().all(|hop| hop.link != link), "{after:?}");
    let servers = &world.site.topology.servers;
    let packet = crate::packets::udp(servers[0].mac, servers[0].address, servers[2].address);
    let there = [crate::packets::Fate::At(tandem_model::NodeId::Server(ServerId(2)))];
    let from = tandem_model::NodeId::Server(ServerId(0));
    assert_eq!(world.spread(from, servers[0].uplinks[0], packet), there);
    // One of them ends: the other keeps the rules.
    world.failed(Some(0));
    let servers = &world.site.topology.servers;
    assert_eq!(world.spread(from, servers[0].uplinks[0], packet), there);
    let left = world.tables.values().flat_map(|t| t.values()).filter_map(|r| r.cookie.owner());
    let left: std::collections::BTreeSet<_> =
        left.filter(|o| matches!(o, tandem_model::Owner::Migration(_))).collect();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [tandem_model::Owner::Migration(2)]);
}

/// Rounds that do not get smaller, on a path that has no more to give: it is given up, unless it
/// was forced.
#[test]
fn a_transfer_that_does_not_converge_is_given_up_unless_forced() {
    for force in [false, true] {
        let mut world =
            World::new(read(&format!("{SMALL}[migration]\ndowntime = \"1 ms\"\nrate = \"10 Mbit/s\"\n")));
        world.held.moves = true;
        let vm = world.vm();
        let options = tandem_model::MoveOptions { force, ..tandem_model::MoveOptions::default() };
        world.ask(Request::MigrateVm { vm: vm.id, to: Some(ServerId(2)), options });
        let rate = world.core.migrations().next().map(|m| m.rate).expect("under way");
        for round in 1..6 {
            world.progress(round, u64::from(round) * 1_000_000, 900_000, rate);
        }
        assert_eq!(world.phase(), Some(if force { Phase::Transfer } else { Phase::Undo }), "force: {force}");
        if force {
            world.moved();
        } else {
            world.failed(Some(0));
            assert!(matches!(&world.ended()[..], [MigrationEnd::Undone { why }] if why.contains("converge")));
        }
        world.assert_settled(vm.id);
    }
}

/// The store fails at each of a migration's writes: what has not happened is taken back, what has
/// is written until it can be.
#[test]
fn the_store_fails_in_every_phase() {
    for n in 0..5 {
        let mut world = held();
        let vm = world.vm();
        world.forget();
        world.held.store = true;
        let id = world.migrate(vm.id, Some(2));
        let mut fails = 0;
        // Writes one after the other; the nth fails, twice.
        let mut seen = 0;
        for _ in 0..40 {
            let writes: Vec<(StoreId, StoreOp)> = world
                .log
                .iter()
                .filter_map(|e| match e {
                    Effect::Store { id, op: record } => Some((*id, record.clone())),
                    _ => None,
                })
                .collect();
            let Some((store, record)) = writes.get(seen).cloned() else {
                match world.phase() {
                    Some(Phase::Transfer) if seen == 2 => world.tell(Event::VmSuspended { migration: FIRST }),
                    Some(Phase::SwitchOver) => world.moved(),
                    _ => world.wait_seen(Duration::from_secs(1)),
                }
                continue;
            };
            seen += 1;
            if seen > n && fails < 2 {
                fails += 1;
                world.tell(Event::StoreFailed { id: store, why: "disk full".into() });
            } else {
                world.write(&record);
                world.tell(Event::Stored { id: store });
            }
        }
        assert_eq!(fails, if n == 0 { 1 } else { 2 }, "write {n}");
        world.assert_settled(vm.id);
        let moved = world.now_at(vm.id).server == ServerId(2);
        assert_eq!(moved, n > 1, "write {n}: before the order it is taken back");
        match world.answer(id) {
            Some(Response::Failed { why }) => assert!(n == 0 && why.contains("disk full")),
            other => assert!(n > 0 && matches!(other, Some(Response::Migrating { .. })), "{other:?}"),
        }
        assert_eq!(world.noticed("store-failed").len(), 1, "said once");
    }
}

/// The service goes away and comes back in every phase: what it was asked is asked again, and a VM
/// at either place is no stray.
#[test]
fn the_hypervisor_service_goes_and_comes_back_in_every_phase() {
    for phase in PHASES {
        let mut scene = Scene::at(phase);
        scene.world.tell(Event::WorldDown { why: "restarted".into() });
        scene.let_go();
        scene.world.forget();
        let there = matches!(phase, Phase::SwitchOver | Phase::Confirm | Phase::Release);
        let vms = match phase {
            // A paused one is found on both sides.
            Phase::SwitchOver => vec![(scene.vm.id, ServerId(0)), (scene.vm.id, ServerId(2))],
            _ => vec![(scene.vm.id, ServerId(if there { 2 } else { 0 }))],
        };
        scene.world.attach(vms);
        let stop = |e: &Effect| matches!(e, Effect::StopVm { .. } | Effect::AllocateVm { .. });
        assert!(!scene.world.log.iter().any(stop), "{phase}: {:?}", scene.world.log);
        let again = scene.world.log.iter().filter(|e| matches!(e, Effect::MigrateVm { .. })).count();
        let asked = matches!(phase, Phase::Reserve | Phase::Prepare | Phase::Transfer | Phase::SwitchOver);
        assert_eq!(again == 1, asked, "{phase}");
        match scene.world.phase() {
            Some(Phase::Transfer | Phase::SwitchOver) => scene.world.moved(),
            Some(Phase::Undo) => scene.world.failed(Some(0)),
            None => {}
            other => panic!("{phase} is stuck in {other:?}"),
        }
        scene.world.assert_settled(scene.vm.id);
    }
}

/// Links fail in every phase: the VM has a way wherever it is, the move goes on or is taken back,
/// and the books agree.
#[test]
fn links_fail_in_every_phase() {
    for phase in PHASES {
        for (a, b) in [("agg1", "edge1"), ("agg2", "edge1"), ("agg1", "edge2"), ("agg2", "edge2")] {
            let mut scene = Scene::at(phase);
            let link = scene.world.link(a, b);
            scene.world.set_link(link, false);
            scene.let_go();
            match scene.world.phase() {
                Some(Phase::Transfer | Phase::SwitchOver) => scene.world.moved(),
                Some(Phase::Undo) => scene.world.failed(Some(0)),
                None => {}
                other => panic!("{phase} is stuck in {other:?}"),
            }
            let now = scene.world.now_at(scene.vm.id);
            assert_eq!(now.state, VmState::Running, "{phase}, {a} - {b}");
            assert!(now.path_up.iter().chain(&now.path_down).all(|hop| hop.link != link));
            scene.world.assert_settled(scene.vm.id);
        }
    }
}

/// Its old edge is cut off altogether: it keeps moving, which saves it. Its new one is: it stays.
#[test]
fn a_vm_that_is_cut_off_at_one_place_has_the_other() {
    for (edge, server) in [("edge1", 2), ("edge2", 0)] {
        let mut scene = Scene::at(Phase::Transfer);
        for agg in ["agg1", "agg2"] {
            let link = scene.world.link(agg, edge);
            scene.world.set_link(link, false);
        }
        let now = scene.world.now_at(scene.vm.id);
        assert_eq!(matches!(now.state, VmState::Cut { .. }), server == 2);
        match scene.world.phase() {
            Some(Phase::Transfer) => scene.world.moved(),
            Some(Phase::Undo) => scene.world.failed(Some(0)),
            other => panic!("{other:?}"),
        }
        let now = scene.world.now_at(scene.vm.id);
        assert_eq!((now.server, now.state), (ServerId(server), VmState::Running));
        scene.world.assert_reachable(&scene.world.now_at(scene.vm.id));
        scene.world.assert_books_of_vms();
        let errors = scene.world.notices().iter().filter(|n| n.level == Level::Error).count();
        assert_eq!(errors, usize::from(server == 2), "cut off, and back");
    }
}
