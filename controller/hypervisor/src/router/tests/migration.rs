//! Moves: reported, refused, cancelled, stalled, and interrupted during the hand-over.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_migration_is_reported_and_answered_again_as_it_ended() {
    let mut bed = Bed::up(Memory::default()).await;
    bed.send(migrate());
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { migration: MIG, .. }));
    assert_eq!(bed.event().await, Event::VmSuspended { migration: MIG });
    assert_eq!(bed.event().await, moved());
    bed.quiet().await;
    for effect in [migrate(), cancel()] {
        bed.send(effect);
        assert_eq!(bed.event().await, moved());
    }
    assert_eq!(bed.memory.calls("migrate"), 1);
    // Another controller knows nothing of the move: it finds the VM on the target.
    let mut other = Bed::start(bed.memory.clone()).await;
    other.event().await;
    other.event().await;
    other.send(migrate());
    assert_eq!(other.event().await, Event::VmMoved { migration: MIG, downtime: None });
    assert_eq!(other.memory.calls("migrate"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_move_that_is_refused_leaves_the_vm_where_it_is() {
    let memory = Memory::default();
    memory.will("can_migrate", &[Does::Fail(refused("its disk is local"))]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    let failed = Event::MigrationFailed { migration: MIG, at: Some(A), why: "it: its disk is local".into() };
    assert_eq!(bed.event().await, failed);
    assert_eq!(bed.memory.calls("migrate"), 0);
    // Like a move to a server that is unreachable, or without a hypervisor.
    bed.memory.with(|s| s.away.insert(B));
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    while !matches!(bed.event().await, Event::ServersUnreachable { .. }) {}
    let Effect::MigrateVm { vm, from, manner, spec, rate, downtime, rounds, .. } = migrate() else {
        panic!()
    };
    let to = |migration, to| Effect::MigrateVm {
        migration,
        vm,
        from,
        to,
        manner,
        spec: spec.clone(),
        rate,
        downtime,
        rounds,
    };
    for (n, target, reason) in [(4, B, "cannot be reached"), (5, ServerId(99), "different drivers")] {
        bed.send(to(MigrationId(n), target));
        let why = loop {
            match bed.event().await {
                Event::MigrationFailed { at: Some(A), why, .. } => break why,
                Event::ServerSamples { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(why.contains(reason), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_transfer_and_a_late_one_is_looked_up() {
    let memory = Memory::default();
    memory.will("migrate", &[Does::UntilCancelled]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    bed.send(cancel());
    let undone = Event::MigrationFailed { migration: MIG, at: Some(A), why: "cancelled".into() };
    assert_eq!(bed.event().await, undone);
    // A migration unknown to the router: it is cleaned up first.
    let unknown = Effect::CancelMigration { migration: MigrationId(9), vm: VM, from: A, to: B };
    bed.send(unknown);
    let undone = Event::MigrationFailed { migration: MigrationId(9), at: Some(A), why: "cancelled".into() };
    assert_eq!(bed.event().await, undone);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_stands_still_is_given_up_and_one_that_does_not_even_end_then_is_looked_up() {
    let memory = Memory::default();
    memory.will("migrate", &[Does::UntilCancelled, Does::Hang]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    let Event::MigrationFailed { at: Some(A), why, .. } = bed.event().await else { panic!("it stalls") };
    assert!(why.contains("made no progress, was given up after 300s"), "{why}");
    let Effect::MigrateVm { vm, from, to, manner, spec, rate, downtime, rounds, .. } = migrate() else {
        panic!()
    };
    bed.send(Effect::MigrateVm {
        migration: MigrationId(4),
        vm,
        from,
        to,
        manner,
        spec,
        rate,
        downtime,
        rounds,
    });
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    let ended = bed.event().await;
    assert!(matches!(ended, Event::MigrationFailed { at: Some(A), .. }), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_that_was_cut_is_asked_about_until_somebody_knows() {
    let memory = Memory::default();
    memory.will("migrate", &[Does::Cut]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    assert_eq!(bed.event().await, Event::VmMoved { migration: MIG, downtime: None });
    assert_eq!(bed.memory.calls("resolve"), 5);
    // The VM's server is the target: if it is missing there, that is reported.
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    bed.memory.with(|s| s.vms.clear());
    let failed = loop {
        match bed.event().await {
            Event::ServerSamples { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(failed, Event::VmDied { vm: VM, .. }), "{failed:?}");
}
