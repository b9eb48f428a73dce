//! The controller is killed while a VM moves, after every single event: what comes back with the
//! store's contents finishes the move or takes it back, and nothing is wrong: not the rules, not
//! the reservations, not the store, and the VM runs at one place.

use crate::moves::FIRST;
use crate::world::{SMALL, World, read};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{
    Effect, Event, MigrationId, Phase, Request, ServerId, StoreId, StoreOp, VmId, VmRecord, VmState,
};

/// What the hypervisors know, which outlives the controller: where each VM runs, and which orders
/// have ended.
#[derive(Debug, Clone, Default)]
struct Hypervisors {
    at: BTreeMap<VmId, ServerId>,
    ended: BTreeMap<MigrationId, Option<ServerId>>,
}

impl Hypervisors {
    fn there(&self) -> Vec<(VmId, ServerId)> {
        self.at.iter().map(|(vm, server)| (*vm, *server)).collect()
    }

    /// An order as the contract has it: one that has ended is answered as it ended.
    fn answer(&mut self, world: &mut World, order: &Effect, moves: bool) {
        match order {
            Effect::MigrateVm { migration, vm, from, to, .. } => {
                let known = self.ended.get(migration).copied();
                let at = match known {
                    Some(at) => at,
                    None if self.at.get(vm) == Some(to) => Some(*to),
                    None if self.at.get(vm) == Some(from) => Some(if moves { *to } else { *from }),
                    None => None,
                };
                self.ended.insert(*migration, at);
                at.map(|at| self.at.insert(*vm, at));
                if at == Some(*to) {
                    world.move_over(order);
                    world.tell(Event::VmMoved { migration: *migration, downtime: None });
                } else {
                    world.tell(Event::MigrationFailed { migration: *migration, at, why: "no memory".into() });
                }
            }
            Effect::CancelMigration { migration, vm, to, .. } => {
                let at = self.ended.get(migration).copied().unwrap_or(self.at.get(vm).copied());
                self.ended.insert(*migration, at);
                if at == Some(*to) {
                    world.tell(Event::VmMoved { migration: *migration, downtime: None });
                } else {
                    world.tell(Event::MigrationFailed { migration: *migration, at, why: "cancelled".into() });
                }
            }
            _ => {}
        }
    }
}

/// Restarts the controller on what its store holds; switches keep the rules that they have.
fn restarted(before: World) -> World {
    let mut after = World::dark_at(read(SMALL), before.stored.clone(), before.now + Duration::from_secs(5));
    after.held.moves = true;
    after.specs.clone_from(&before.specs);
    after.tables.clone_from(&before.tables);
    after
}

fn finish(world: &mut World, hypervisors: &mut Hypervisors, moves: bool) {
    let mut answered = 0;
    for _ in 0..10 {
        let orders: Vec<Effect> = world
            .log
            .iter()
            .filter(|e| matches!(e, Effect::MigrateVm { .. } | Effect::CancelMigration { .. }))
            .skip(answered)
            .cloned()
            .collect();
        answered += orders.len();
        for order in &orders {
            hypervisors.answer(world, order, moves);
        }
    }
}

/// The script of a whole move, as single steps of switches, store and hypervisors; killed after
/// `stop` of them.
fn run(stop: usize, moves: bool, cancel_at: Option<usize>) -> (World, Hypervisors, VmRecord, VmRecord, bool) {
    let mut world = World::new(read(SMALL));
    let (vm, mate) = (world.vm(), world.vm());
    world.ask(Request::CreateGroup { members: vec![vm.address, mate.address] });
    let mut hypervisors = Hypervisors::default();
    hypervisors.at.extend([(vm.id, vm.server), (mate.id, mate.server)]);
    world.forget();
    (world.held.moves, world.held.store, world.held.switches) = (true, true, true);
    world.migrate(vm.id, Some(2));
    let (mut written, mut ordered, mut suspended) = (0, 0, false);
    for n in 0..stop {
        if cancel_at == Some(n) {
            world.ask(Request::CancelMigration { migration: FIRST });
            continue;
        }
        let writes: Vec<(StoreId, StoreOp)> = world
            .log
            .iter()
            .filter_map(|e| match e {
                Effect::Store { id, op: record } => Some((*id, record.clone())),
                _ => None,
            })
            .collect();
        if world.is_waiting() {
            world.confirm(|_| 0);
        } else if let Some((id, record)) = writes.get(written / 2) {
            // On disk first; that it is, is told in the next step: it may be killed between.
            if written % 2 == 0 {
                world.write(record);
            } else {
                world.tell(Event::Stored { id: *id });
            }
            written += 1;
        } else {
            let orders: Vec<Effect> = world
                .log
                .iter()
                .filter(|e| matches!(e, Effect::MigrateVm { .. } | Effect::CancelMigration { .. }))
                .cloned()
                .collect();
            match orders.get(ordered) {
                Some(Effect::MigrateVm { .. }) if !suspended && moves => {
                    suspended = true;
                    world.tell(Event::VmSuspended { migration: FIRST });
                }
                Some(order) => {
                    ordered += 1;
                    hypervisors.answer(&mut world, &order.clone(), moves);
                }
                None => return (world, hypervisors, vm, mate, true),
            }
        }
    }
    (world, hypervisors, vm, mate, false)
}

#[test]
fn killed_at_any_moment_it_finishes_or_is_undone_and_nothing_is_wrong() {
    // The last cancel comes too late.
    let runs =
        [(true, None), (false, None), (true, Some(3)), (true, Some(8)), (true, Some(12)), (true, Some(20))];
    for (n, (moves, cancel_at)) in runs.into_iter().enumerate() {
        let mut phases = std::collections::BTreeSet::new();
        for stop in 0..200 {
            let (before, mut hypervisors, vm, mate, done) = run(stop, moves, cancel_at);
            phases.extend(before.core.migrations().map(|m| m.phase));
            let what =
                format!("stopped after {stop} steps in {:?}, moves: {moves}, {cancel_at:?}", before.phase());
            let mut after = restarted(before);
            after.connect_all();
            after.attach(hypervisors.there());
            finish(&mut after, &mut hypervisors, moves);
            let stops = |e: &Effect| matches!(e, Effect::StopVm { .. } | Effect::AllocateVm { .. });
            assert!(!after.log.iter().any(stops), "{what}: {:?}", after.log);
            let now = after.now_at(vm.id);
            assert_eq!(Some(&now.server), hypervisors.at.get(&vm.id), "{what}");
            assert_eq!(now.state, VmState::Running, "{what}");
            after.assert_settled(vm.id);
            after.assert_reachable(&after.now_at(mate.id));
            // As if it had always been there: a core that starts now wants the same.
            let mut fresh = restarted(World::dark_at(read(SMALL), after.stored.clone(), after.now));
            fresh.connect_all();
            fresh.attach(hypervisors.there());
            assert_eq!(fresh.tables, after.tables, "{what}");
            // And it can be moved again, under another number.
            after.held.moves = false;
            after.migrate(vm.id, Some(if now.server == ServerId(1) { 3 } else { 1 }));
            after.assert_settled(vm.id);
            let ids: Vec<MigrationId> =
                after.core.snapshot().migrations.iter().map(|m| m.record.id).collect();
            assert!(ids[0] > FIRST || stop < 1, "{what}: {ids:?}");
            if done {
                break;
            }
            assert!(stop < 199, "it never ends");
        }
        let reached = |phase: Phase| phases.contains(&phase);
        assert!(reached(Phase::Reserve), "{phases:?}");
        if n == 0 {
            assert_eq!(phases.len(), 6, "all but undo: {phases:?}");
        }
        assert_eq!(reached(Phase::Undo), (1..5).contains(&n), "{cancel_at:?}: {phases:?}");
    }
}

/// While nothing is known of where it is, a core that comes back reaches it at both places.
#[test]
fn until_the_hypervisors_are_back_both_places_are_reached_and_reserved() {
    let mut before = crate::moves::held();
    let vm = before.vm();
    before.migrate(vm.id, Some(2));
    before.tell(Event::VmSuspended { migration: FIRST });
    let tables = before.tables.clone();
    let (used, reserved) = (before.used(), before.reserved());
    let mut after = restarted(before);
    after.connect_all();
    assert_eq!(after.tables, tables, "the very same rules");
    assert_eq!((after.used(), after.reserved()), (used, reserved));
    let now = after.core.migrations().next().map(|m| m.phase);
    assert_eq!(now, Some(Phase::SwitchOver));
}

/// The site lost the server that a VM was on its way to: the VM stays, and the migration is
/// forgotten.
#[test]
fn a_migration_to_a_server_that_is_gone_is_forgotten() {
    let mut before = crate::moves::held();
    let vm = before.vm();
    before.migrate(vm.id, Some(2));
    before.stored.migrations[0].to.server = ServerId(99);
    let mut after = restarted(before);
    after.connect_all();
    after.attach(vec![(vm.id, vm.server)]);
    after.assert_settled(vm.id);
    assert_eq!(after.now_at(vm.id).server, vm.server);
}

/// It was deleted while it moved, and the controller killed before it was gone: it is not moved any
/// more, but stopped.
#[test]
fn a_vm_that_was_to_go_is_not_moved_after_a_restart() {
    let mut before = crate::moves::held();
    let vm = before.vm();
    before.migrate(vm.id, Some(2));
    before.ask(Request::DeleteVm { vm: vm.id });
    let mut after = restarted(before);
    after.connect_all();
    after.attach(vec![(vm.id, vm.server)]);
    assert!(!after.log.iter().any(|e| matches!(e, Effect::MigrateVm { .. })));
    let cancel = after.log.iter().any(|e| matches!(e, Effect::CancelMigration { .. }));
    assert!(cancel && !after.log.iter().any(|e| matches!(e, Effect::StopVm { .. })), "{:?}", after.log);
    after.failed(Some(0));
    assert_eq!(after.core.vm(vm.id), None);
    assert_eq!(after.reserved(), 0);
    assert!(after.stored.vms.is_empty() && after.stored.migrations.is_empty());
}
