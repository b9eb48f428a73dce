//! Failures of creating and removing a VM: each is a clear error or is repaired, and leaves the
//! pool as it was.

use crate::double::{Double, Fault, SLAVE, Setup, model::GIB};
use crate::ready::{SRV1, SRV2, driver, pool, spec, until};
use serde_json::json;
use std::time::Duration;
use tandem_hypervisor::xapi::Xapi;
use tandem_hypervisor::xapi::kept::SPEC;
use tandem_hypervisor::{Hypervisor, VmmError};
use tandem_model::{Bytes, PortNo, VmId};

const VM: VmId = VmId(7);

async fn pair() -> (Double, Xapi) {
    let double = Double::start(Setup::default()).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    (double, driver)
}

/// Tries to create a VM with one failing call, which must leave nothing. Returns the error.
async fn made_with(method: &str, fault: Fault) -> VmmError {
    let (double, driver) = pair().await;
    let before = double.things();
    double.script(method, 0, fault);
    let why = driver.allocate(SRV1, VM, &spec("debian-12")).await.expect_err(method);
    assert_eq!(double.left(), Vec::<String>::new(), "{method} was not called");
    let after = double.things();
    assert!(after == before, "after {method} failed ({why}) something is left: {after:#?}");
    // The next attempt succeeds.
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("the next one is made");
    driver.destroy(SRV1, VM, None).await.expect("destroyed");
    assert!(double.things() == before);
    why
}

#[tokio::test]
async fn whichever_step_is_refused_nothing_is_left() {
    for method in [
        "Async.VM.clone",
        "VM.add_to_other_config",
        "VM.set_memory_limits",
        "VM.set_VCPUs_at_startup",
        "VIF.destroy",
        "VIF.create",
        "Async.VM.provision",
        "Async.VM.start_on",
        "VM_guest_metrics.get_networks",
    ] {
        let why = made_with(method, Fault::Refuse(&["SR_FULL", "8589934592", "1024"])).await;
        assert!(why.to_string().contains("the storage is full"), "{method}: {why}");
    }
}

#[tokio::test]
async fn whichever_answer_is_cut_nothing_is_left() {
    for method in
        ["Async.VM.clone", "VM.set_name_label", "VIF.create", "Async.VM.provision", "Async.VM.start_on"]
    {
        for fault in [Fault::CutAfter, Fault::CutBefore] {
            let why = made_with(method, fault).await;
            assert!(matches!(why, VmmError::HostUnreachable { .. }), "{method}: {why}");
            assert!(why.to_string().contains("cut"), "{method}: {why}");
        }
    }
}

#[tokio::test]
async fn a_task_that_fails_in_the_middle_leaves_nothing() {
    let full = Fault::FailLater(&["HOST_NOT_ENOUGH_FREE_MEMORY", "268435456", "1048576"]);
    let why = made_with("Async.VM.start_on", full).await;
    let wanted =
        VmmError::NoMemory { host: "srv1".into(), vm: VM, needed: Bytes::mib(256), free: Bytes::mib(1) };
    assert_eq!(why, wanted);
    let why = made_with("Async.VM.clone", Fault::FailLater(&["SR_BACKEND_FAILURE_44", "", "no space"])).await;
    assert!(why.to_string().contains("storage is full"), "{why}");
}

#[tokio::test]
async fn questions_are_asked_again_when_their_answers_are_cut() {
    let (double, driver) = pair().await;
    double.script("VM.get_all_records", 0, Fault::CutAfter);
    double.script("task.get_record", 0, Fault::CutBefore);
    double.script("event.from", 0, Fault::CutAfter);
    double.script("event.from", 1, Fault::Refuse(&["EVENTS_LOST"]));
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("made in spite of it");
    assert_eq!(double.place(7), "xcp1");
}

#[tokio::test]
async fn without_events_tasks_are_asked_for() {
    let (double, driver) = pair().await;
    for n in 0..3 {
        double.script("event.from", n, Fault::Refuse(&["MESSAGE_METHOD_UNKNOWN", "event.from"]));
    }
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("made in spite of it");
}

/// A host without memory, as reported by the pool itself.
#[tokio::test]
async fn a_full_host_says_how_much_is_missing() {
    let double = Double::start(Setup { memory: GIB / 8, ..Setup::default() }).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    let before = double.things();
    let why = driver.allocate(SRV2, VM, &spec("debian-12")).await.expect_err("full");
    let wanted =
        VmmError::NoMemory { host: "srv2".into(), vm: VM, needed: Bytes::mib(256), free: Bytes::mib(128) };
    assert_eq!(why, wanted);
    assert!(double.things() == before, "nothing is left");
}

#[tokio::test]
async fn a_template_that_is_not_there_names_those_that_are() {
    let (double, driver) = pair().await;
    let why = driver.allocate(SRV1, VM, &spec("debian-13")).await.expect_err("no such template");
    assert_eq!(why.to_string(), "pool lab has no image \"debian-13\"; it knows debian-12");
    let mut nameless = spec("x");
    nameless.image = None;
    let why = driver.allocate(SRV1, VM, &nameless).await.expect_err("no template").to_string();
    assert!(why.contains("no default"), "{why}");
    double.with(|s| {
        let sr = s.all("SR").next().expect("storage").0.clone();
        let network = s.all("network").next().expect("a network").0.clone();
        s.add_template("debian-12", &sr, &network);
    });
    let why = driver.allocate(SRV1, VM, &spec("debian-12")).await.expect_err("ambiguous").to_string();
    assert!(why.contains("several templates"), "{why}");
    assert_eq!(double.count("Async.VM.clone"), 0);
}

#[tokio::test]
async fn a_network_that_is_not_there_is_found_out_before_anything_is_made() {
    let (double, driver) = pair().await;
    let mut wanted = spec("debian-12");
    wanted.uplink_port = PortNo(3);
    let why = driver.allocate(SRV1, VM, &wanted).await.expect_err("no network").to_string();
    assert!(why.contains("add it to `networks`"), "{why}");
    assert_eq!(double.count("Async.VM.clone"), 0);
}

#[tokio::test]
async fn a_wrong_password_says_what_to_check() {
    let double = Double::start(Setup::default()).await;
    for json in [true, false] {
        double.with(|s| s.json = json);
        let mut cfg = pool(&double, SRV1);
        cfg.access.password = "guess".to_owned();
        let why = driver(vec![cfg]).list(SRV1).await.expect_err("refused");
        assert!(why.is_away(), "it can be tried again");
        let VmmError::WrongCredentials { user, todo, .. } = &why else { panic!("{why}") };
        assert_eq!(user, "root");
        assert!(todo.contains("password file"), "{todo}");
    }
}

#[tokio::test]
async fn a_slave_sends_us_to_its_master() {
    for setup in
        [Setup::default(), Setup { tls: true, ..Setup::default() }, Setup { json: false, ..Setup::default() }]
    {
        let double = Double::start(setup).await;
        let mut cfg = pool(&double, SRV1);
        cfg.access.address = SLAVE.to_owned();
        let driver = driver(vec![cfg]);
        driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated by the master");
        assert_eq!(double.place(7), "xcp1");
    }
}

/// The master changes meanwhile; and an endless chain of redirects is not followed for ever.
#[tokio::test]
async fn redirections_are_followed_and_bounded() {
    let (double, driver) = pair().await;
    double.script("VM.get_all_records", 0, Fault::Refuse(&["HOST_IS_SLAVE", "127.0.0.1"]));
    driver.list(SRV1).await.expect("listed");
    assert_eq!(double.count("session.login_with_password"), 2);
    for _ in 0..20 {
        double.script("VM.get_all_records", 0, Fault::Refuse(&["HOST_IS_SLAVE", "127.0.0.1"]));
    }
    driver.list(SRV1).await.expect_err("in circles");
    let tried = 20 - double.left().len();
    assert!(tried <= 5, "{tried} redirections were followed");
}

#[tokio::test]
async fn a_session_that_ends_at_any_moment_is_renewed() {
    let (double, driver) = pair().await;
    for method in [
        "host.get_all_records",
        "VM.get_all_records",
        "Async.VM.clone",
        "event.from",
        "task.get_record",
        "VM.set_memory_limits",
        "Async.VM.start_on",
        "task.destroy",
    ] {
        double.script(method, 0, Fault::EndSessions);
    }
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("made in spite of it");
    assert_eq!(double.place(7), "xcp1");
    assert_eq!(double.left(), Vec::<String>::new());
    assert_eq!(double.count("Async.VM.clone"), 2, "the refused one and the one that counts");
    // A session that is always refused does not cause an endless loop.
    for _ in 0..9 {
        double.script("VM.get_all_records", 0, Fault::EndSessions);
    }
    let why = driver.list(SRV1).await.expect_err("never");
    assert!(matches!(why, VmmError::WrongCredentials { .. }), "{why}");
}

#[tokio::test]
async fn slow_answers_are_waited_for_and_then_not() {
    let double = Double::start(Setup::default()).await;
    let mut cfg = pool(&double, SRV1);
    double.script("VM.get_all_records", 0, Fault::Slow(Duration::from_millis(300)));
    driver(vec![cfg.clone()]).list(SRV1).await.expect("slow, but there");
    cfg.access.limit = Duration::from_secs(1);
    let hasty = driver(vec![cfg]);
    for _ in 0..3 {
        double.script("VM.get_all_records", 0, Fault::Slow(Duration::from_secs(600)));
    }
    let why = hasty.list(SRV1).await.expect_err("too slow");
    assert!(matches!(why, VmmError::TimeOut { .. }), "{why}");
}

#[tokio::test]
async fn nobody_there_says_who_was_tried() {
    let double = Double::start(Setup::default()).await;
    let cfg = pool(&double, SRV1);
    drop(double);
    let why = driver(vec![cfg]).list(SRV1).await.expect_err("nobody there");
    assert!(matches!(why, VmmError::HostUnreachable { .. }), "{why}");
    assert!(why.to_string().contains("127.0.0.1"), "{why}");
}

/// A task that hangs is cancelled at its time-out, and leaves nothing.
#[tokio::test]
async fn a_start_that_hangs_ends() {
    let double = Double::start(Setup::default()).await;
    let before = double.things();
    let mut cfg = pool(&double, SRV1);
    cfg.limits.make = Duration::from_secs(1);
    let driver = driver(vec![cfg]);
    double.script("Async.VM.start_on", 0, Fault::Hang);
    let why = driver.allocate(SRV1, VM, &spec("debian-12")).await.expect_err("hangs");
    assert!(matches!(why, VmmError::TimeOut { .. }), "{why}");
    assert!(double.things() == before, "nothing is left");
    double.script("Async.VM.clone", 0, Fault::Hang);
    let why = driver.allocate(SRV1, VM, &spec("debian-12")).await.expect_err("hangs");
    assert!(matches!(why, VmmError::TimeOut { .. }), "{why}");
    assert!(double.things() == before, "nothing is left");
    assert_eq!(double.tasks(), 0);
}

/// An allocation that is dropped stops, and cleans up.
#[tokio::test]
async fn an_allocation_that_is_dropped_is_undone() {
    let (double, driver) = pair().await;
    let before = double.things();
    double.script("Async.VM.start_on", 0, Fault::Hang);
    let wanted = spec("debian-12");
    tokio::select! {
        done = driver.allocate(SRV1, VM, &wanted) => panic!("{done:?}"),
        () = until("it starts", || double.count("Async.VM.start_on") == 1) => {}
    }
    until("undone", || double.things() == before).await;
}

/// A controller was killed during a clone: the VM has only its name and no tag yet; or later, when
/// its tag names its request.
#[tokio::test]
async fn what_a_killed_controller_left_is_removed_by_the_next_attempt() {
    let (double, driver) = pair().await;
    let sr = double.with(|s| s.all("SR").next().expect("storage").0.clone());
    double.with(|s| {
        let half = s.add_vm("tandem: vm7 of mine is being made", GIB);
        s.set("VM", &half, "is_a_template", json!(true));
        s.add_disk(&half, &sr);
        let tagged = s.add_vm("web", GIB);
        let kept = serde_json::to_string(&spec("debian-12")).expect("JSON");
        s.set("VM", &tagged, "other_config", json!({ "tandem-vm": "mine/7", SPEC: kept }));
        s.add_disk(&tagged, &sr);
    });
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("made");
    let (vms, disks) = double.with(|s| (s.all("VM").count(), s.all("VDI").count()));
    assert_eq!((vms, disks), (2, 2), "the template and the VM, with a disk each");
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_is_stopped_hard() {
    for fault in [
        Fault::Refuse(&["VM_LACKS_FEATURE", "OpaqueRef:vm"]),
        Fault::FailLater(&["VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", "OpaqueRef:vm"]),
        Fault::Hang,
        Fault::CutAfter,
    ] {
        let double = Double::start(Setup::default()).await;
        let before = double.things();
        let mut cfg = pool(&double, SRV1);
        cfg.limits.shutdown = Duration::from_secs(1);
        let driver = driver(vec![cfg]);
        driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
        double.script("Async.VM.clean_shutdown", 0, fault);
        driver.destroy(SRV1, VM, None).await.expect("destroyed");
        assert!(double.things() == before, "nothing is left");
    }
}

/// Somebody else removes the VM at any step of the removal.
#[tokio::test]
async fn a_vm_that_somebody_else_destroys_meanwhile_is_as_good() {
    for method in ["Async.VM.clean_shutdown", "VDI.destroy", "VM.destroy"] {
        let (double, driver) = pair().await;
        driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
        double.script(method, 0, Fault::Refuse(&["HANDLE_INVALID", "VM", "OpaqueRef:gone"]));
        if method == "Async.VM.clean_shutdown" {
            double.script(
                "Async.VM.hard_shutdown",
                0,
                Fault::Refuse(&["HANDLE_INVALID", "VM", "OpaqueRef:gone"]),
            );
            double.script(
                "VM.get_power_state",
                1,
                Fault::Refuse(&["HANDLE_INVALID", "VM", "OpaqueRef:gone"]),
            );
        }
        driver.destroy(SRV1, VM, None).await.unwrap_or_else(|e| panic!("{method}: {e}"));
    }
}

/// After a lost reply of VM.destroy the VM is looked up; one that cannot be destroyed is reported
/// as still there.
#[tokio::test]
async fn a_removal_is_not_said_to_be_done_when_it_is_not() {
    let (double, driver) = pair().await;
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
    double.script("VM.destroy", 0, Fault::CutBefore);
    let why = driver.destroy(SRV1, VM, None).await.expect_err("cut before it was done");
    assert!(matches!(why, VmmError::HostUnreachable { .. }), "{why}");
    assert!(double.vm(7).is_some());
    double.script("VM.destroy", 0, Fault::CutAfter);
    driver.destroy(SRV1, VM, None).await.expect("cut after it was done");
    assert!(double.vm(7).is_none());
}

#[tokio::test]
async fn a_resize_that_fails_in_the_middle_is_taken_back() {
    let (double, driver) = pair().await;
    driver.allocate(SRV1, VM, &spec("debian-12")).await.expect("allocated");
    let before = double.things();
    double.script(
        "VM.set_VCPUs_number_live",
        0,
        Fault::Refuse(&["VM_BAD_POWER_STATE", "vm", "Running", "Halted"]),
    );
    let more = tandem_model::Resources { cpu: 2, ram: Bytes::mib(512), ..spec("debian-12").resources };
    let why = driver.resize(SRV1, VM, more).await.expect_err("refused").to_string();
    assert!(why.contains("is halted and would have to be running"), "{why}");
    assert!(double.things() == before, "memory is as before");
}
