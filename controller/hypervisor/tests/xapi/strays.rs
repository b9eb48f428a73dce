//! VMs that another controller has created, and hosts that serve another one.

use crate::double::{Double, Setup};
use crate::ready::{SRV1, SRV2, driver, pool, spec};
use serde_json::json;
use tandem_hypervisor::owner::Owner;
use tandem_hypervisor::xapi::kept::{OWNER, RIVAL, SPEC};
use tandem_hypervisor::{DiscoveredVm, FoundState, Hypervisor, VmmError};
use tandem_model::{StoreUid, Time, VmId, VmOrigin, VmSpec};

const VM: VmId = VmId(7);

fn made_at(placed_at: u64) -> VmSpec {
    VmSpec { origin: VmOrigin { placed_at: Time(placed_at), ..VmOrigin::default() }, ..spec("debian-12") }
}

fn kept(found: &[DiscoveredVm]) -> Option<VmSpec> {
    found[0].spec.as_deref().cloned()
}

/// A VM's specification is stored with it; one that was created for another request is neither
/// adopted nor removed, whether it runs or not.
#[tokio::test]
async fn a_vm_keeps_what_it_was_asked_for_with() {
    let double = Double::start(Setup::default()).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    let wanted = made_at(5);
    driver.allocate(SRV1, VM, &wanted).await.expect("allocated");
    assert_eq!(kept(&driver.list(SRV1).await.expect("listed")), Some(wanted.clone()));
    let changed = VmSpec { name: Some("db".into()), ..wanted.clone() };
    driver.tag(SRV1, VM, &changed).await.expect("written");
    assert_eq!(kept(&driver.list(SRV1).await.expect("listed")), Some(changed));
    let vm = double.vm(7).expect("there");
    let not_meant = VmmError::NotMeant { host: "srv1".into(), vm: VM };
    for state in ["Running", "Halted"] {
        double.with(|s| s.set("VM", &vm, "power_state", json!(state)));
        assert_eq!(driver.allocate(SRV1, VM, &made_at(6)).await, Err(not_meant.clone()), "{state}");
        assert_eq!(driver.destroy(SRV1, VM, Some(Time(6))).await, Err(not_meant.clone()), "{state}");
        assert!(double.vm(7).is_some(), "{state}");
    }
    assert_eq!(driver.list(SRV1).await.expect("listed")[0].state, FoundState::Halted);
    // A VM of an older version has no record of its request.
    double.with(|s| {
        let mut config = s.field("VM", &vm, "other_config").expect("there");
        config.as_object_mut().expect("a map").remove(SPEC);
        s.set("VM", &vm, "other_config", config);
    });
    assert_eq!(kept(&driver.list(SRV1).await.expect("listed")), None);
}

/// A VM with an older tag and the same id was not created by our request: a request with its id is
/// refused with advice, and its rollback does not touch it. On an explicit order it is removed;
/// with its controller's tag it belongs to its controller.
#[tokio::test]
async fn a_vm_of_an_earlier_release_is_not_removed_for_a_new_one() {
    let double = Double::start(Setup::default()).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    driver.allocate(SRV1, VM, &made_at(5)).await.expect("allocated");
    let vm = double.vm(7).expect("there");
    double.with(|s| {
        let mut config = s.field("VM", &vm, "other_config").expect("there");
        config.as_object_mut().expect("a map").remove(SPEC);
        s.set("VM", &vm, "other_config", config);
    });
    for state in ["Halted", "Suspended", "Running"] {
        double.with(|s| s.set("VM", &vm, "power_state", json!(state)));
        let refused = driver.allocate(SRV1, VM, &made_at(6)).await.expect_err("it is somebody else's");
        assert_eq!(refused, VmmError::MadeForUnknown { host: "srv1".into(), vm: VM }, "{state}");
        assert_eq!(double.vm(7), Some(vm.clone()), "{state}: it is gone");
        for word in ["nothing says for which request", "tandem vm adopt vm7", "tandem vm stop-stray vm7"] {
            assert!(refused.to_string().contains(word), "{refused}");
        }
    }
    // The core rolls back a failed request.
    for state in ["Running", "Halted"] {
        double.with(|s| s.set("VM", &vm, "power_state", json!(state)));
        let undone = driver.destroy(SRV1, VM, Some(Time(6))).await;
        assert_eq!(undone, Err(VmmError::MadeForUnknown { host: "srv1".into(), vm: VM }), "{state}");
        assert_eq!(double.vm(7), Some(vm.clone()), "{state}");
    }
    driver.destroy(SRV1, VM, None).await.expect("removed");
    assert!(double.vm(7).is_none());
    driver.allocate(SRV1, VM, &made_at(5)).await.expect("allocated");
    driver.tag(SRV1, VM, &made_at(6)).await.expect("written");
    driver.destroy(SRV1, VM, Some(Time(6))).await.expect("removed");
    assert!(double.vm(7).is_none());
}

/// A host serves the first controller that claims it; another one is refused, and the owner is
/// notified of the try, once; with the explicit option it is taken over.
#[tokio::test]
async fn a_host_serves_one_controller() {
    let double = Double::start(Setup::default()).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    let one = Owner { store: StoreUid(1), site: "mine".into() };
    let two = Owner { store: StoreUid(2), site: "mine".into() };
    assert_eq!(driver.claim(SRV1, &one, false).await, Ok(None));
    assert_eq!(driver.claim(SRV1, &one, false).await, Ok(None), "and again");
    let refused = driver.claim(SRV1, &two, false).await.expect_err("it serves another one");
    assert_eq!(refused, VmmError::Owned { host: "srv1".into(), by: one.clone() });
    assert_eq!(driver.claim(SRV1, &one, false).await, Ok(Some(two.clone())), "it hears of the other");
    assert_eq!(driver.claim(SRV1, &one, false).await, Ok(None), "once");
    assert_eq!(driver.claim(SRV2, &two, false).await, Ok(None), "each host has its own");
    assert_eq!(driver.claim(SRV1, &two, true).await, Ok(None));
    let refused = driver.claim(SRV1, &one, false).await;
    assert_eq!(refused, Err(VmmError::Owned { host: "srv1".into(), by: two.clone() }));
    let host =
        double.with(|s| s.all("host").find(|(_, r)| r["name_label"] == "xcp1").map(|(r, _)| r.clone()));
    let host = host.expect("there");
    let entries = double.with(|s| s.field("host", &host, "other_config").expect("there"));
    assert_eq!(entries, json!({ OWNER: two.line(), RIVAL: one.line() }), "and nothing else is written");
    double.with(|s| s.set("host", &host, "other_config", json!({ OWNER: "?" })));
    let damaged = driver.claim(SRV1, &one, false).await.expect_err("nobody knows whom it serves").to_string();
    assert!(damaged.contains("take the host over"), "{damaged}");
}
