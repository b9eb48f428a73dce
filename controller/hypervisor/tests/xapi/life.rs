//! The life of a VM, in every form of XAPI's protocol.

use crate::double::{Double, PASSWORD, SLAVE, Setup};
use crate::ready::{LIMIT, SRV1, SRV2, driver, pool, spec, until};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_hypervisor::config::{HostKeys, SshTarget};
use tandem_hypervisor::xapi::config::{Protocol, Transport};
use tandem_hypervisor::xapi::rpc::tls::Fingerprint;
use tandem_hypervisor::{FoundState, Hypervisor, VmmError};
use tandem_model::{Bytes, FixedAddress, PortNo, Resources, VmId};
use tokio::sync::mpsc;

const VM: VmId = VmId(7);

async fn a_life(setup: Setup, protocol: Protocol) -> Double {
    let double = Double::start(setup).await;
    let before = double.things();
    let mut cfg = pool(&double, SRV1);
    cfg.access.protocol = protocol;
    let driver = driver(vec![cfg]);
    let mut wanted = spec("debian-12");
    wanted.fixed_address = Some(FixedAddress {
        address: [10, 9, 0, 101].into(),
        prefix_len: 16,
        router: [10, 9, 255, 254].into(),
    });
    let address = driver.allocate(SRV2, VM, &wanted).await.expect("allocated");
    assert_eq!(address, Some(Ipv4Addr::new(10, 9, 0, 101)));
    assert_eq!(double.place(7), "xcp2");
    let vm = double.vm(7).expect("there");
    double.with(|s| {
        assert_eq!(s.text("VM", &vm, "name_label"), "web");
        assert_eq!(s.int("VM", &vm, "memory_dynamic_max"), 256 << 20);
        assert_eq!(s.field("VM", &vm, "xenstore_data").expect("data")["vm-data/tandem/prefix-length"], "16");
        let vifs = s.list("VM", &vm, "VIFs");
        assert_eq!(vifs.len(), 1, "the template's interface is gone");
        assert_eq!(s.text("VIF", &vifs[0], "MAC"), "02:00:00:00:00:07");
        assert_eq!(s.text("network", &s.text("VIF", &vifs[0], "network"), "name_label"), "production");
    });
    let locked = |double: &Double| {
        let (mode, allowed) = double.with(|s| {
            let vif = &s.list("VM", &vm, "VIFs")[0];
            (s.text("VIF", vif, "locking_mode"), s.list("VIF", vif, "ipv4_allowed"))
        });
        assert_eq!(mode, "locked", "it may send as itself only");
        assert_eq!(allowed, [wanted.address.to_string()]);
        double.with(|s| assert!(s.list("VIF", &s.list("VM", &vm, "VIFs")[0], "ipv6_allowed").is_empty()));
    };
    locked(&double);
    // Somebody has unlocked it; the controller that finds it again locks it.
    double.with(|s| {
        let vif = s.list("VM", &vm, "VIFs")[0].clone();
        s.set("VIF", &vif, "locking_mode", serde_json::json!("unlocked"));
        s.set("VIF", &vif, "ipv4_allowed", serde_json::json!(["10.9.0.1"]));
    });
    // Requested again, it exists already.
    assert_eq!(driver.allocate(SRV2, VM, &wanted).await, Ok(address));
    locked(&double);
    assert_eq!(double.count("Async.VM.clone"), 1);
    let found = driver.list(SRV2).await.expect("listed");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].vm, found[0].state, found[0].name.as_str()), (VM, FoundState::Running, "web"));
    assert_eq!(driver.list(SRV1).await, Ok(Vec::new()));
    assert_eq!(driver.address(SRV2, VM).await, Ok(address));
    // It is resized up to its template's limits, and connected to another network.
    let more = Resources { cpu: 2, ram: Bytes::mib(512), ..wanted.resources };
    driver.resize(SRV2, VM, more).await.expect("resized");
    let too_much = Resources { ram: Bytes::mib(513), ..more };
    let refused = driver.resize(SRV2, VM, too_much).await.expect_err("refused").to_string();
    assert!(refused.contains("512 MiB of memory at most"), "{refused}");
    driver.attach(SRV2, VM, PortNo(2)).await.expect("connected");
    double.with(|s| {
        assert_eq!(s.int("VM", &vm, "memory_dynamic_max"), 512 << 20);
        assert_eq!(s.int("VM", &vm, "VCPUs_at_startup"), 2);
        let vif = &s.list("VM", &vm, "VIFs")[0];
        assert_eq!(s.text("network", &s.text("VIF", vif, "network"), "name_label"), "second");
    });
    driver.destroy(SRV2, VM, None).await.expect("destroyed");
    driver.destroy(SRV2, VM, None).await.expect("and again");
    assert!(double.things() == before, "all is as before");
    assert_eq!(double.tasks(), 0, "tasks are destroyed");
    driver.close().await;
    assert_eq!(double.sessions(), 0, "nobody stays logged in");
    double
}

#[tokio::test]
async fn by_json_rpc() {
    let double = a_life(Setup::default(), Protocol::Auto).await;
    assert_eq!(double.count("session.login_with_password"), 1);
}

#[tokio::test]
async fn by_xml_rpc_with_a_host_that_speaks_nothing_else() {
    a_life(Setup { json: false, ..Setup::default() }, Protocol::Auto).await;
}

#[tokio::test]
async fn by_xml_rpc_because_it_is_configured() {
    a_life(Setup::default(), Protocol::XmlRpc).await;
}

#[tokio::test]
async fn by_tls_with_a_known_certificate() {
    a_life(Setup { tls: true, ..Setup::default() }, Protocol::Auto).await;
}

/// An XCP 1.6 with outdated TLS: through ssh to its plain port. The slave redirects to the master,
/// which is reached in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn by_ssh_to_the_plain_port() {
    if !tandem_tests::sshd::can_ssh() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let sshd = tandem_tests::sshd::Sshd::start(folder.path()).expect("an sshd");
    let double = Double::start(Setup { json: false, ..Setup::default() }).await;
    let user = std::process::Command::new("id").arg("-un").output().expect("id");
    let mut cfg = pool(&double, SRV1);
    cfg.access.address = SLAVE.to_owned();
    cfg.access.transport = Transport::Ssh(SshTarget {
        user: String::from_utf8_lossy(&user.stdout).trim().to_owned(),
        address: "127.0.0.1".to_owned(),
        port: sshd.port,
        key: Some(sshd.folder.join("id")),
        known_hosts: Some(sshd.folder.join("known_hosts")),
        host_keys: HostKeys::Strict,
        options: vec!["ConnectionAttempts=1".to_owned()],
    });
    let driver = driver(vec![cfg.clone()]);
    driver.allocate(SRV2, VM, &spec("debian-12")).await.expect("allocated");
    assert_eq!(double.place(7), "xcp2");
    assert!(sshd.connections() > 0, "it went through ssh");
    assert_eq!(driver.load(SRV2).await.expect("a load of the other host").vms.len(), 1);
    drop(driver);
    // A refused login is an error with advice.
    let Transport::Ssh(target) = &mut cfg.access.transport else { panic!("by ssh") };
    target.key = Some(sshd.folder.join("host"));
    target.options.push("IdentitiesOnly=yes".to_owned());
    let why = crate::ready::driver(vec![cfg]).list(SRV1).await.expect_err("another key");
    assert!(why.is_away() && why.to_string().contains("true` work?"), "{why}");
}

#[tokio::test]
async fn another_certificate_is_refused_before_the_password_is_sent() {
    let double = Double::start(Setup { tls: true, ..Setup::default() }).await;
    let mut cfg = pool(&double, SRV1);
    cfg.access.transport = Transport::Tls(vec![Fingerprint([7; 32])]);
    let why = driver(vec![cfg]).list(SRV1).await.expect_err("refused");
    let found = Fingerprint(double.fingerprint.expect("TLS")).to_string();
    assert!(matches!(&why, VmmError::WrongCredentials { why, .. } if why.contains(&found)), "{why}");
    assert_eq!(double.count("session.login_with_password"), 0);
}

#[tokio::test]
async fn a_session_is_closed_when_the_driver_is_dropped() {
    let double = Double::start(Setup::default()).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    driver.list(SRV1).await.expect("listed");
    assert_eq!(double.sessions(), 1);
    drop(driver);
    until("logged out", || double.sessions() == 0).await;
}

/// The password contains characters that XML and JSON have to escape; a control character cannot be
/// sent by XML-RPC, which is an error.
#[tokio::test]
async fn what_cannot_be_sent_is_an_error_of_ours() {
    assert!(PASSWORD.contains(['&', '<']));
    let double = Double::start(Setup::default()).await;
    let mut cfg = pool(&double, SRV1);
    cfg.access.protocol = Protocol::XmlRpc;
    let driver = driver(vec![cfg]);
    let before = double.things();
    let mut wanted = spec("debian-12");
    wanted.name = Some("bell \u{7}".to_owned());
    let why = driver.allocate(SRV1, VM, &wanted).await.expect_err("refused").to_string();
    assert!(why.contains("control characters"), "{why}");
    assert!(double.things() == before, "nothing is left");
}

#[tokio::test]
async fn loads_are_counted_up() {
    let double = Double::start(Setup::default()).await;
    let driver = driver(vec![pool(&double, SRV1)]);
    driver.allocate(SRV2, VM, &spec("debian-12")).await.expect("allocated");
    // The first request goes some rows back; later ones continue at its end.
    let first = driver.load(SRV2).await.expect("a load");
    assert_eq!(first.vms.len(), 1);
    let (vm, load) = first.vms[0];
    assert_eq!(vm, VM);
    assert_eq!((load.ram, load.tx_bytes), (256 << 20, u64::MAX), "what is not measured is not counted");
    assert_eq!(first.server.ram, 256 << 20);
    let rows = load.rx_bytes / 5000;
    assert!(rows >= 1, "{load:?}");
    // A quarter of a CPU, three quarters on the host, for five seconds a row.
    assert_eq!((load.cpu_ns, first.server.cpu_ns), (rows * 1_250_000_000, rows * 3_750_000_000));
    assert_eq!(first.server.rx_bytes, rows * 10_000, "an interface is counted once");
    let start = tokio::time::Instant::now();
    loop {
        let second = driver.load(SRV2).await.expect("a load").vms[0].1;
        assert_eq!(second.rx_bytes % 5000, 0, "each row once");
        if second.rx_bytes > load.rx_bytes {
            break;
        }
        assert!(start.elapsed() < LIMIT, "no new row");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Somebody destroys one VM by hand and shuts another down: both are reported at once; our own
/// operations are not.
#[tokio::test]
async fn what_happens_behind_our_back_is_noticed() {
    let double = Double::start(Setup::default()).await;
    let driver = std::sync::Arc::new(driver(vec![pool(&double, SRV1)]));
    let (vm_down, mut heard) = mpsc::channel(16);
    for n in [7, 8, 9] {
        driver.allocate(SRV1, VmId(n), &spec("debian-12")).await.expect("allocated");
    }
    let watching = tokio::spawn({
        let driver = driver.clone();
        async move { driver.watch(vm_down).await }
    });
    until("it listens", || double.count("event.from") >= 2 && double.count("VM.get_all_records") > 0).await;
    let asked = double.count("event.from");
    until("it waits for changes", || double.count("event.from") >= asked.max(2)).await;
    driver.destroy(SRV1, VmId(9), None).await.expect("destroyed by us");
    let (gone, halted) = (double.vm(7).expect("there"), double.vm(8).expect("there"));
    double.with(|s| s.remove_vm(&gone));
    let first = tokio::time::timeout(LIMIT, heard.recv()).await.expect("in time").expect("a notice");
    assert_eq!((first.vm, first.server), (VmId(7), SRV1), "{first:?}");
    double.with(|s| {
        s.change("VM", &halted, |r| {
            r.insert("power_state".into(), json!("Halted"));
            r.insert("resident_on".into(), json!("OpaqueRef:NULL"));
        });
    });
    let second = tokio::time::timeout(LIMIT, heard.recv()).await.expect("in time").expect("a notice");
    assert_eq!((second.vm, second.server), (VmId(8), SRV1), "{second:?}");
    let why = driver.address(SRV1, VmId(7)).await.expect_err("gone");
    assert!(matches!(why, VmmError::GoneBehindOurBack { vm: VmId(7), .. }), "{why}");
    drop(heard);
    tokio::time::timeout(LIMIT, watching).await.expect("it stops").expect("it stops well");
}
