//! VMs that another controller has made, hosts that serve another one, and a look that changes
//! nothing.

use super::*;
use std::collections::BTreeMap;
use tandem_hypervisor::owner::Owner;
use tandem_model::{StoreUid, Time, VmOrigin};

fn made_at(placed_at: u64) -> VmSpec {
    VmSpec { origin: VmOrigin { placed_at: Time(placed_at), ..VmOrigin::default() }, ..spec(None) }
}

/// Every file below a host's folder but the sshd's own, with what is in it.
fn files(bed: &Bed, n: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["run", "keep", "state"].iter().map(|name| bed.host(n).join(name)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("lock") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                all.insert(path, bytes);
            }
        }
    }
    all
}

/// What a VM was asked for with is kept with it and found by another controller, goes with it to
/// another host, and goes when it goes. A VM that was made for another request is neither taken for
/// ours nor stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_keeps_what_it_was_asked_for_with() {
    let Some(bed) = Bed::start("tcp") else { return };
    let wanted = made_at(5);
    bed.driver().allocate(A, VM, &wanted).await.expect("starts");
    let driver = bed.driver();
    let kept = |found: &[tandem_hypervisor::DiscoveredVm]| found[0].spec.as_deref().cloned();
    assert_eq!(kept(&driver.list(A).await.expect("listed")), Some(wanted.clone()));
    // Another controller's request with the same id, and what undoes it.
    let not_meant = VmmError::NotMeant { host: "srv1".into(), vm: VM };
    assert_eq!(driver.allocate(A, VM, &made_at(6)).await, Err(not_meant.clone()));
    assert_eq!(driver.destroy(A, VM, Some(Time(6))).await, Err(not_meant));
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Running)]);
    let changed = VmSpec { uplink_port: PortNo(9), ..wanted.clone() };
    driver.tag(A, VM, &changed).await.expect("written");
    assert_eq!(kept(&driver.list(A).await.expect("listed")), Some(changed));
    let mut order = order(MigrationMode::Live, None);
    order.spec = wanted.clone();
    go(bed.driver(), order, BitRate(0)).end().await.expect("moves");
    assert_eq!(kept(&driver.list(B).await.expect("listed")), Some(wanted));
    driver.destroy(B, VM, Some(Time(5))).await.expect("stops");
    assert_eq!(states(&driver, B).await, []);
    assert!(!files(&bed, 1).keys().any(|f| f.parent().is_some_and(|p| p.ends_with("vms"))));
}

/// One of an older version, whose request nobody knows, is found without it. A request with its id
/// is refused and not undone by stopping it; with its controller's tag, or on somebody's word, it
/// is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_of_an_older_version_is_found_without_its_request() {
    let Some(bed) = Bed::start("tcp") else { return };
    let driver = bed.driver();
    driver.allocate(A, VM, &made_at(5)).await.expect("starts");
    std::fs::remove_dir_all(bed.host(0).join("keep/vms")).expect("it was kept there");
    let found = driver.list(A).await.expect("listed");
    assert_eq!((found[0].vm, found[0].state, &found[0].spec), (VM, FoundState::Running, &None));
    let unknown = VmmError::MadeForUnknown { host: "srv1".into(), vm: VM };
    assert_eq!(driver.allocate(A, VM, &made_at(6)).await, Err(unknown.clone()));
    assert_eq!(driver.destroy(A, VM, Some(Time(6))).await, Err(unknown));
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Running)]);
    driver.tag(A, VM, &made_at(6)).await.expect("written");
    driver.destroy(A, VM, Some(Time(6))).await.expect("stops");
    assert_eq!(states(&driver, A).await, []);
    driver.allocate(A, VM, &made_at(5)).await.expect("starts");
    std::fs::remove_dir_all(bed.host(0).join("keep/vms")).expect("it was kept there");
    driver.destroy(A, VM, None).await.expect("stops");
    assert_eq!(states(&driver, A).await, []);
}

/// To list a host, as `tandem hypervisors check --connect` does, changes nothing on it: not a file
/// is written, and what waits for a migration that nobody carries stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_changes_nothing() {
    let Some(bed) = Bed::start("tcp") else { return };
    bed.driver().allocate(A, VM, &made_at(5)).await.expect("starts");
    let state = bed.state(0, "domains");
    let domains = std::fs::read_to_string(&state).expect("there");
    let waiting = domains.replace("\"tandem-vm7\"", "\"tandem-vm7--incoming\"");
    assert_ne!(waiting, domains);
    std::fs::write(&state, waiting).expect("written");
    std::fs::remove_dir_all(bed.host(0).join("run")).expect("removed");
    let before = files(&bed, 0);
    let driver = bed.driver();
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Incoming)]);
    assert_eq!(files(&bed, 0), before, "nothing is written by a look");
    assert!(!bed.host(0).join("run").exists());
    // A controller puts it in order. All beds see one table of processes, so this waits for the
    // migrations of other tests: while one is under way, nothing that waits for one is destroyed.
    let in_order = async {
        loop {
            driver.prepare(A).await.expect("it answers");
            if states(&driver, A).await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), in_order).await.expect("it is destroyed");
}

/// A host serves the first controller that asks. Another one is refused and its try is told to the
/// first, once; when the host is taken over, it is the other way round. Nothing but the record is
/// written for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_serves_one_controller() {
    let Some(bed) = Bed::start("tcp") else { return };
    let driver = bed.driver();
    let one = Owner { store: StoreUid(1), site: "small".into() };
    let two = Owner { store: StoreUid(2), site: "it's small".into() };
    assert_eq!(driver.claim(A, &one, false).await, Ok(None));
    assert_eq!(driver.claim(A, &one, false).await, Ok(None), "and again");
    let refused = driver.claim(A, &two, false).await.expect_err("it serves another one");
    assert_eq!(refused, VmmError::Owned { host: "srv1".into(), by: one.clone() });
    assert!(refused.is_away() && refused.to_string().contains("tandem hypervisors take-over"), "{refused}");
    assert_eq!(driver.claim(A, &one, false).await, Ok(Some(two.clone())), "it hears of the other");
    assert_eq!(driver.claim(A, &one, false).await, Ok(None), "once");
    assert_eq!(driver.claim(B, &two, false).await, Ok(None), "each host has its own");
    let names: Vec<PathBuf> = files(&bed, 0)
        .into_keys()
        .filter_map(|f| Some(f.strip_prefix(bed.host(0)).ok()?.to_owned()))
        // What the host's `xl` keeps.
        .filter(|f| !f.starts_with("state"))
        .collect();
    assert_eq!(names, [PathBuf::from("keep/owner")]);
    assert_eq!(driver.claim(A, &two, true).await, Ok(None));
    assert_eq!(
        driver.claim(A, &one, false).await,
        Err(VmmError::Owned { host: "srv1".into(), by: two.clone() })
    );
    // Of two that ask at the same time, one is served.
    std::fs::remove_file(bed.host(0).join("keep/owner")).expect("there");
    let (a, b) = tokio::join!(driver.claim(A, &one, false), driver.claim(A, &two, false));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    std::fs::write(bed.host(0).join("keep/owner"), "\u{1b}[2J").expect("written");
    let damaged = driver.claim(A, &one, false).await.expect_err("nobody knows whom it serves").to_string();
    assert!(damaged.contains("remove it, or take the host over"), "{damaged}");
}

/// A VM with the id of ours that was made for another request is where ours is to go: the move is
/// refused, and the other one runs on, as does one that nothing is known of.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_leaves_a_stray_at_its_end_alone() {
    let Some(bed) = Bed::start("tcp") else { return };
    let driver = bed.driver();
    driver.allocate(A, VM, &made_at(5)).await.expect("starts");
    driver.allocate(B, VM, &made_at(6)).await.expect("starts");
    let mut order = order(MigrationMode::Live, None);
    order.spec = made_at(5);
    for tagged in [true, false] {
        if !tagged {
            std::fs::remove_dir_all(bed.host(1).join("keep/vms")).expect("it was kept there");
        }
        for stop in [false, true] {
            let resolved = driver.resolve(order.key, stop).await;
            assert_eq!(resolved, ResolveOutcome::Ended(VmLocation::At(A), None), "{tagged} {stop}");
        }
        let refused = driver.can_migrate(&order).await.expect_err("there is one").to_string();
        assert!(refused.contains("there already"), "{refused}");
        assert_eq!(states(&driver, A).await, [(VM, FoundState::Running)]);
        assert_eq!(states(&driver, B).await, [(VM, FoundState::Running)]);
    }
}
