//! Moves of a VM: within a pool, with its disks, between pools, live and cold; and their failures.

use crate::double::{Double, Fault, Setup, model::GIB};
use crate::ready::{LIMIT, SRV1, SRV2, SRV3, control, driver, order, pool, spec, until};
use serde_json::json;
use std::time::Duration;
use tandem_hypervisor::xapi::Xapi;
use tandem_hypervisor::{
    Hypervisor, MigrateError, MigrationReport, Moved, ResolveOutcome, VmLocation, VmmError,
};
use tandem_model::{Bytes, MigrationMode, PortNo, VmId};

const VM: VmId = VmId(7);

async fn running(setup: Setup) -> (Double, Xapi) {
    let double = Double::start(setup).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
    (double, driver)
}

async fn moved(driver: &Xapi, manner: MigrationMode) -> Result<Moved, MigrateError> {
    let (control, _reports, _cancel) = control();
    driver.migrate(&order(SRV1, SRV2, manner), control).await
}

#[tokio::test]
async fn live_within_a_pool_with_progress() {
    let (double, driver) = running(Setup::default()).await;
    let before = double.things();
    let (control, mut reports, _cancel) = control();
    let order = order(SRV1, SRV2, MigrationMode::Live);
    driver.can_migrate(&order).await.expect("it can be moved");
    assert!(double.things() == before, "asking changes nothing");
    driver.migrate(&order, control).await.expect("moved");
    assert_eq!(double.place(7), "xcp2");
    assert_eq!(double.count("Async.VM.pool_migrate"), 1);
    let mut sent = Vec::new();
    while let Ok(report) = reports.try_recv() {
        let MigrationReport::Progress(p) = report else { panic!("XAPI does not tell of a pause") };
        assert_eq!(p.sent.0 + p.remaining.0, 256 << 20);
        sent.push(p.sent.0);
    }
    assert!(sent.is_sorted() && sent.last() == Some(&(256 << 20)), "{sent:?}");
    assert_eq!(driver.list(SRV2).await.expect("listed").len(), 1);
    // Repeated: it is on the target already.
    let (again, _reports, _cancel) = crate::ready::control();
    driver.migrate(&order, again).await.expect("moved already");
    assert_eq!(double.count("Async.VM.pool_migrate"), 1);
    assert_eq!(double.tasks(), 0);
}

#[tokio::test]
async fn cold_within_a_pool() {
    let (double, driver) = running(Setup::default()).await;
    driver.can_migrate(&order(SRV1, SRV2, MigrationMode::Cold)).await.expect("it can be moved");
    moved(&driver, MigrationMode::Cold).await.expect("moved");
    assert_eq!(double.place(7), "xcp2");
    assert_eq!(double.count("Async.VM.clean_shutdown"), 1);
}

#[tokio::test]
async fn disks_that_the_other_host_does_not_reach_go_along() {
    for manner in [MigrationMode::Live, MigrationMode::Cold] {
        let (double, driver) = running(Setup { shared_storage: false, ..Setup::default() }).await;
        driver.can_migrate(&order(SRV1, SRV2, manner)).await.expect("it can be moved");
        moved(&driver, manner).await.expect("moved");
        assert_eq!(double.place(7), "xcp2");
        assert_eq!(double.count("Async.VM.migrate_send"), 1);
        let vm = double.vm(7).expect("there");
        double.with(|s| {
            let vdi = s.text("VBD", &s.list("VM", &vm, "VBDs")[0], "VDI");
            assert_eq!(s.text("SR", &s.text("VDI", &vdi, "SR"), "name_label"), "local2");
        });
    }
}

#[tokio::test]
async fn from_pool_to_pool() {
    for manner in [MigrationMode::Live, MigrationMode::Cold] {
        let (one, two) = (Double::start(Setup::default()).await, Double::start(Setup::default()).await);
        let (before_one, before_two) = (one.things(), two.things());
        let driver = driver(vec![pool(&one, SRV1), pool(&two, SRV3)]);
        driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
        let order = order(SRV1, SRV3, manner);
        driver.can_migrate(&order).await.expect("it can be moved");
        let (control, _reports, _cancel) = control();
        driver.migrate(&order, control).await.expect("moved");
        assert_eq!((one.place(7).as_str(), two.place(7).as_str()), ("gone", "xcp1"));
        assert_eq!(driver.list(SRV3).await.expect("listed").len(), 1);
        let vm = two.vm(7).expect("there");
        let mode = two.with(|s| s.text("VIF", &s.list("VM", &vm, "VIFs")[0], "locking_mode"));
        assert_eq!(mode, "locked", "{manner:?}: the other pool's interface is made anew, and is locked too");
        let left = one.with(|s| (s.all("VM").count(), s.all("VDI").count(), s.all("VIF").count()));
        assert_eq!(left, (1, 1, 1), "only the template");
        assert!(one.things() == before_one, "nothing of it is left");
        driver.destroy(SRV3, VM, None).await.expect("destroyed");
        assert!(two.things() == before_two, "nor here");
    }
}

#[tokio::test]
async fn to_another_uplink_its_network_changes_too() {
    let (double, driver) = running(Setup::default()).await;
    let mut order = order(SRV1, SRV2, MigrationMode::Live);
    order.spec.uplink_port = PortNo(2);
    let (control, _reports, _cancel) = control();
    driver.migrate(&order, control).await.expect("moved");
    let vm = double.vm(7).expect("there");
    double.with(|s| {
        let vif = &s.list("VM", &vm, "VIFs")[0];
        assert_eq!(s.text("network", &s.text("VIF", vif, "network"), "name_label"), "second");
    });
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_with_the_reason() {
    let (double, driver) = running(Setup { memory: GIB, ..Setup::default() }).await;
    let (live, vm) = (order(SRV1, SRV2, MigrationMode::Live), double.vm(7).expect("there"));
    let other =
        double.with(|s| s.all("host").find(|(_, r)| r["name_label"] == "xcp2").expect("a host").0.clone());
    // A full target.
    let guest = double.with(|s| {
        let guest = s.add_vm("somebody's", GIB - (100 << 20));
        s.set("VM", &guest, "resident_on", json!(other));
        guest
    });
    let full =
        VmmError::NoMemory { host: "srv2".into(), vm: VM, needed: Bytes::mib(256), free: Bytes::mib(100) };
    assert_eq!(driver.can_migrate(&live).await, Err(full.clone()));
    // Without the check before, the pool refuses, and the VM stays.
    let failed = moved(&driver, MigrationMode::Live).await.expect_err("full");
    assert_eq!(failed, MigrateError { at: VmLocation::At(SRV1), why: full });
    double.with(|s| s.remove_vm(&guest));
    // A target in maintenance.
    double.with(|s| s.set("host", &other, "enabled", json!(false)));
    let why = driver.can_migrate(&live).await.expect_err("maintenance").to_string();
    assert!(why.contains("takes no VMs now"), "{why}");
    double.with(|s| s.set("host", &other, "enabled", json!(true)));
    // No licence, no CPU for it, no tools in the guest: the pool's own reason, and what to do.
    double.script(
        "VM.assert_can_boot_here",
        0,
        Fault::Refuse(&["VM_INCOMPATIBLE_WITH_THIS_HOST", "vm", "host", "cpu"]),
    );
    let why = driver.can_migrate(&live).await.expect_err("another CPU").to_string();
    assert!(why.contains("move it cold"), "{why}");
    double.script("host.get_record", 0, Fault::Refuse(&["HOST_OFFLINE", "host"]));
    let why = driver.can_migrate(&live).await.expect_err("off").to_string();
    assert!(why.contains("the host is off"), "{why}");
    // A VM that is halted, and one that is gone.
    double.with(|s| s.set("VM", &vm, "power_state", json!("Halted")));
    let why = driver.can_migrate(&live).await.expect_err("halted").to_string();
    assert!(why.contains("it is halted"), "{why}");
    double.with(|s| s.remove_vm(&vm));
    let why = driver.can_migrate(&live).await.expect_err("gone");
    assert!(matches!(why, VmmError::GoneBehindOurBack { vm: VM, .. }), "{why}");
}

/// Refused, failed in the middle, interrupted before the start: the VM runs on the source, once.
#[tokio::test]
async fn a_move_that_fails_leaves_the_vm_where_it_was() {
    for (manner, method, fault) in [
        (
            MigrationMode::Live,
            "Async.VM.pool_migrate",
            Fault::Refuse(&["VM_BAD_POWER_STATE", "vm", "Running", "Paused"]),
        ),
        (
            MigrationMode::Live,
            "Async.VM.pool_migrate",
            Fault::FailLater(&["VM_MIGRATE_FAILED", "vm", "a", "b", "xenguest died"]),
        ),
        (MigrationMode::Live, "Async.VM.pool_migrate", Fault::CutBefore),
        (MigrationMode::Live, "Async.VM.pool_migrate", Fault::Refuse(&["NO_HOSTS_AVAILABLE", "vm"])),
        (MigrationMode::Cold, "Async.VM.start_on", Fault::FailLater(&["HOST_OFFLINE", "host"])),
        (MigrationMode::Cold, "Async.VM.start_on", Fault::CutBefore),
    ] {
        let (double, driver) = running(Setup::default()).await;
        double.script(method, 0, fault);
        let failed = moved(&driver, manner).await.expect_err(method);
        assert_eq!(failed.at, VmLocation::At(SRV1), "{failed}");
        assert_eq!(double.place(7), "xcp1", "{failed}");
        assert_eq!(double.with(|s| s.all("VM").count()), 2, "the template and the VM");
        // It can be moved afterwards.
        moved(&driver, manner).await.expect("moved");
        assert_eq!(double.place(7), "xcp2");
    }
}

/// The reply was lost, or the task's result was malformed, but the VM has moved: that is a success.
#[tokio::test]
async fn a_move_that_was_made_is_not_said_to_have_failed() {
    let (double, driver) = running(Setup::default()).await;
    double.script("task.destroy", 0, Fault::CutBefore);
    moved(&driver, MigrationMode::Live).await.expect("moved");
    assert_eq!(double.place(7), "xcp2");
    // The reply with the task is lost while the task goes on: it is found by its VM.
    let (double, driver) = running(Setup::default()).await;
    double.script("Async.VM.pool_migrate", 0, Fault::CutAfter);
    let first = moved(&driver, MigrationMode::Live).await;
    match first {
        Ok(_) => {}
        Err(MigrateError { at, .. }) => {
            assert_eq!(at, VmLocation::Unknown, "it is under way");
            moved(&driver, MigrationMode::Live).await.expect("taken up");
        }
    }
    assert_eq!(double.place(7), "xcp2");
    assert_eq!(double.count("Async.VM.pool_migrate"), 1, "not started twice");
}

#[tokio::test]
async fn a_cancelled_move_leaves_the_vm_where_it_was() {
    let (double, driver) = running(Setup::default()).await;
    double.script("Async.VM.pool_migrate", 0, Fault::Hang);
    let (control, _reports, cancel) = control();
    let order = order(SRV1, SRV2, MigrationMode::Live);
    let (failed, ()) = tokio::join!(driver.migrate(&order, control), async {
        until("it moves", || double.count("Async.VM.pool_migrate") == 1).await;
        cancel.cancel();
    });
    let failed = failed.expect_err("cancelled");
    assert_eq!(failed, MigrateError { at: VmLocation::At(SRV1), why: VmmError::Cancelled });
    assert_eq!((double.place(7).as_str(), double.tasks()), ("xcp1", 0));
}

/// A move that hangs is cancelled at its time-out. One that does not end even then is reported as
/// under way.
#[tokio::test]
async fn a_move_that_hangs() {
    let double = Double::start(Setup::default()).await;
    let mut cfg = pool(&double, SRV1);
    cfg.limits.migrate = Duration::from_secs(1);
    let driver = driver(vec![cfg]);
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
    double.script("Async.VM.pool_migrate", 0, Fault::Hang);
    let failed = moved(&driver, MigrationMode::Live).await.expect_err("hangs");
    assert_eq!(failed.at, VmLocation::At(SRV1));
    assert!(matches!(failed.why, VmmError::TimeOut { .. }), "{failed}");
    assert_eq!(double.place(7), "xcp1");
    let mut cfg = pool(&double, SRV1);
    (cfg.limits.migrate, cfg.limits.cancel) = (Duration::from_secs(1), Duration::from_secs(1));
    let driver = crate::ready::driver(vec![cfg]);
    double.script("Async.VM.pool_migrate", 0, Fault::HangDeaf);
    let failed = moved(&driver, MigrationMode::Live).await.expect_err("hangs");
    assert_eq!(failed.at, VmLocation::Unknown, "nobody knows yet");
    let key = order(SRV1, SRV2, MigrationMode::Live).key;
    assert_eq!(driver.resolve(key, false).await, ResolveOutcome::UnderWay);
    double.release();
    until("it ends by itself", || double.place(7) == "xcp2").await;
    assert_eq!(driver.resolve(key, false).await, ResolveOutcome::Ended(VmLocation::At(SRV2), None));
}

/// The controller was restarted during a move: the move is found, and followed or cancelled.
#[tokio::test]
async fn a_move_of_a_former_life_is_taken_up_or_given_up() {
    for stop in [false, true] {
        let (double, former) = running(Setup::default()).await;
        double.script("Async.VM.pool_migrate", 0, Fault::HangDeaf);
        let (control, _reports, _cancel) = control();
        let order = order(SRV1, SRV2, MigrationMode::Live);
        // The former controller ends abruptly: its future is leaked and never polled again.
        let former = std::sync::Arc::new(former);
        let dying = tokio::spawn({
            let order = order.clone();
            async move { former.migrate(&order, control).await }
        });
        until("it moves", || double.count("Async.VM.pool_migrate") == 1).await;
        let driver = driver(vec![pool(&double, SRV1)]);
        until("it is under way", || double.tasks() == 1).await;
        let mut state = driver.resolve(order.key, false).await;
        let start = tokio::time::Instant::now();
        while state != ResolveOutcome::UnderWay && start.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(10)).await;
            state = driver.resolve(order.key, false).await;
        }
        assert_eq!(state, ResolveOutcome::UnderWay);
        if stop {
            let (resolved, ()) = tokio::join!(driver.resolve(order.key, true), async {
                until("cancelled", || double.count("task.cancel") > 0).await;
                double.release();
            });
            // It could no longer be cancelled, which is reported.
            assert_eq!(resolved, ResolveOutcome::Ended(VmLocation::At(SRV2), None));
        } else {
            let (again, _reports, _cancel) = crate::ready::control();
            let (taken_up, ()) = tokio::join!(driver.migrate(&order, again), async {
                until("it is followed", || double.count("task.get_record") > 0).await;
                double.release();
            });
            taken_up.expect("moved");
        }
        assert_eq!((double.place(7).as_str(), double.count("Async.VM.pool_migrate")), ("xcp2", 1));
        dying.abort();
    }
}

/// Paused, suspended or halted by an interrupted move: it runs again on the source.
#[tokio::test]
async fn a_vm_that_does_not_run_after_a_move_runs_again() {
    for state in ["Paused", "Suspended", "Halted"] {
        let (double, driver) = running(Setup::default()).await;
        let vm = double.vm(7).expect("there");
        double.with(|s| {
            s.set("VM", &vm, "power_state", json!(state));
            if state != "Paused" {
                s.set("VM", &vm, "resident_on", json!("OpaqueRef:NULL"));
            }
        });
        let resolved = driver.resolve(order(SRV1, SRV2, MigrationMode::Live).key, false).await;
        assert_eq!(resolved, ResolveOutcome::Ended(VmLocation::At(SRV1), None), "{state}");
        assert_eq!(double.place(7), "xcp1", "{state}");
    }
}

/// Somebody destroys the VM while it moves: it is reported as lost.
#[tokio::test]
async fn a_vm_that_is_destroyed_while_it_moves_is_lost() {
    let (double, driver) = running(Setup::default()).await;
    let destroy = |s: &mut crate::double::model::State| {
        let all: Vec<String> =
            s.all("VM").filter(|(_, r)| r["is_a_template"] == false).map(|(r, _)| r.clone()).collect();
        for vm in all {
            s.remove_vm(&vm);
        }
    };
    double.script("Async.VM.pool_migrate", 0, Fault::Meanwhile(destroy));
    let failed = moved(&driver, MigrationMode::Live).await.expect_err("destroyed");
    assert_eq!(failed.at, VmLocation::Lost);
    assert!(matches!(failed.why, VmmError::GoneBehindOurBack { vm: VM, .. }), "{failed}");
}

/// The other pool fails meanwhile: the VM is on the source, if the source pool has it.
#[tokio::test]
async fn the_other_pool_dies() {
    let (one, two) = (Double::start(Setup::default()).await, Double::start(Setup::default()).await);
    let mut cfg = pool(&two, SRV3);
    cfg.access.limit = Duration::from_secs(2);
    let driver = driver(vec![pool(&one, SRV1), cfg]);
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
    driver.list(SRV3).await.expect("listed");
    one.script(
        "Async.VM.migrate_send",
        0,
        Fault::FailLater(&["VM_MIGRATE_FAILED", "vm", "a", "b", "connection refused"]),
    );
    let (control, _reports, _cancel) = control();
    let order = order(SRV1, SRV3, MigrationMode::Live);
    let failed = {
        let moving = driver.migrate(&order, control);
        let dying = async {
            until("it moves", || one.count("Async.VM.migrate_send") == 1).await;
            drop(two);
        };
        tokio::join!(moving, dying).0.expect_err("died")
    };
    assert_eq!(failed.at, VmLocation::At(SRV1), "{failed}");
    assert!(failed.to_string().contains("connection refused"), "{failed}");
    let why = driver.can_migrate(&order).await.expect_err("dead");
    assert!(why.is_away(), "{why}");
}
