//! Transfers of different priorities on the same links: who yields how much, and gets it back.

use crate::moves::FIRST;
use crate::world::{SMALL, World, read};
use tandem_model::{
    BitRate, Effect, MigrationId, MoveOptions, MovePriority, Request, RequestId, Response, ServerId, VmId,
};

fn world() -> World {
    let text = format!("{SMALL}[migration]\nat_once = 9\nper_server = 9\ndirty_rate = \"8 kbit/s\"\n");
    let mut world = World::new(read(&text));
    world.held.moves = true;
    world
}

fn migrate(world: &mut World, vm: VmId, priority: MovePriority) -> RequestId {
    let options = MoveOptions { priority, ..MoveOptions::default() };
    world.ask(Request::MigrateVm { vm, to: Some(ServerId(2)), options })
}

/// What each transfer under way may send, in kbit/s.
fn rates(world: &World) -> Vec<u64> {
    world.core.migrations().map(|m| m.rate.0 / 1000).collect()
}

fn is_refused(world: &World, id: RequestId) -> bool {
    matches!(world.answer(id), Some(Response::Rejected { .. }))
}

/// Among equals the first has all that the path has, as ever; one of higher priority has two thirds of
/// it, and what yields is told.
#[test]
fn a_transfer_of_higher_priority_has_its_part_of_a_shared_link() {
    let mut world = world();
    let vms: Vec<VmId> = (0..3).map(|_| world.vm().id).collect();
    migrate(&mut world, vms[0], MovePriority::Normal);
    let alone = rates(&world)[0];
    assert!(alone > 3000, "{alone} kbit/s");
    for equal in [MovePriority::Normal, MovePriority::Low] {
        let id = migrate(&mut world, vms[1], equal);
        assert!(is_refused(&world, id), "{equal:?}: {:?}", world.answer(id));
        assert_eq!(rates(&world), [alone]);
    }
    world.forget();
    let id = migrate(&mut world, vms[1], MovePriority::High);
    assert!(matches!(world.answer(id), Some(Response::Migrating { .. })), "{:?}", world.answer(id));
    let both = rates(&world);
    // The new place of the second VM takes its own rate of the path to the gateway, not of the transfer's
    // last link alone: what is shared is what was there.
    let all: u64 = both.iter().sum();
    assert!(all <= alone && all + 1100 >= alone, "{both:?} of {alone}");
    assert!(both[1].abs_diff(both[0] * 2) <= 3, "two thirds and one third: {both:?}");
    let told: Vec<(MigrationId, u64)> = world
        .log
        .iter()
        .filter_map(|effect| match effect {
            Effect::SetMigrationRate { migration, rate } => Some((*migration, rate.0 / 1000)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(FIRST, both[0])]);
    for link in world.core.snapshot().links.iter() {
        assert!(link.reserved_up <= link.capacity && link.reserved_down <= link.capacity, "{link:?}");
    }
}

/// What was yielded comes back with the progress that is reported, once nobody of higher priority is
/// on the path; not before.
#[test]
fn what_was_yielded_comes_back_afterwards() {
    let mut world = world();
    let vms: Vec<VmId> = (0..2).map(|_| world.vm().id).collect();
    migrate(&mut world, vms[0], MovePriority::Low);
    let alone = rates(&world)[0];
    migrate(&mut world, vms[1], MovePriority::High);
    let both = rates(&world);
    assert!(both[1] > both[0] * 3, "four fifths and one fifth: {both:?}");
    world.progress(1, 1, 1 << 20, BitRate(0));
    assert_eq!(rates(&world), both);
    let second = world.core.migrations().nth(1).map(|m| m.id).expect("two are under way");
    world.ask(Request::CancelMigration { migration: second });
    world.tell(tandem_model::Event::MigrationFailed {
        migration: second,
        at: Some(ServerId(0)),
        why: "cancelled".into(),
    });
    world.confirm_all();
    assert_eq!(rates(&world).len(), 1, "the second has ended");
    world.progress(1, 2, 1 << 20, BitRate(0));
    assert_eq!(rates(&world), [alone]);
}

/// One that is refused for another reason takes nothing.
#[test]
fn a_move_that_does_not_begin_leaves_others_as_they_are() {
    let mut world = world();
    let vms: Vec<VmId> = (0..2).map(|_| world.vm().id).collect();
    migrate(&mut world, vms[0], MovePriority::Normal);
    let (before, reserved) = (rates(&world), world.reserved());
    world.forget();
    let mut big = world.core.vm(vms[1]).expect("it runs").request.resources;
    big.cpu = 1000;
    let options = MoveOptions { priority: MovePriority::High, ..MoveOptions::default() };
    let id = world.ask(Request::MigrateVm { vm: VmId(99), to: Some(ServerId(2)), options });
    assert!(world.answer(id).is_some());
    let id = world.ask(Request::ResizeVm { vm: vms[1], resources: big });
    assert!(is_refused(&world, id));
    assert_eq!((rates(&world), world.reserved()), (before, reserved));
    assert!(!world.log.iter().any(|e| matches!(e, Effect::SetMigrationRate { .. })));
}
