//! The `xl` driver over real sshds on loopback, two hosts whose `xl` is a stand-in with files for
//! domains: what is said to hosts, what is made of their answers, and what failed moves leave. That
//! real Xen hosts do the same is tested in the Xen lab.

mod strays;
mod take_over;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_hypervisor::config::Hypervisors;
use tandem_hypervisor::xl::Xl;
use tandem_hypervisor::xl::section::XlSection;
use tandem_hypervisor::{
    FoundState, Hypervisor, MigrateError, MigrateOrder, MigrationControl, MigrationKey, MigrationReport,
    Moved, ResolveOutcome, VmLocation, VmmError,
};
use tandem_model::{
    BitRate, Bytes, FixedAddress, Mac, MigrationId, MigrationMode, PortNo, Resources, ServerId, Site, VmId,
    VmSpec, site,
};
use tandem_tests::sshd::{Sshd, can_ssh};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);
const VM: VmId = VmId(7);
const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xl/stand-in");

/// By which the vif script knows what the VM may send as, beside its `mac`.
const HELD: &str = "ip=10.0.0.7";

struct Bed {
    folder: tempfile::TempDir,
    sshds: Vec<Sshd>,
    site: Site,
    text: String,
}

impl Drop for Bed {
    /// A move's processes outlive connections; those of a test that failed must not outlive it.
    /// Each is known by its working directory.
    fn drop(&mut self) {
        let end = r#"for f in "$1"/host*/run/mig*/pid; do
p=$(cat "$f" 2>/dev/null) && [ "$(readlink "/proc/$p/cwd")" = "${f%/pid}" ] && kill -s KILL -- "-$p"; done; :"#;
        let ended = std::process::Command::new("sh").args(["-c", end, "sh"]).arg(self.folder.path()).status();
        if !ended.is_ok_and(|s| s.success()) {
            eprintln!("moves below {} were not ended", self.folder.path().display());
        }
    }
}

impl Bed {
    /// Two hosts; `None` where there is no sshd.
    fn start(migration: &str) -> Option<Bed> {
        if !can_ssh() {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("tandem-xl-test-").tempdir().expect("a folder");
        let text = "name = \"small\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 2\n";
        let site = site::read(text, "site.toml").expect("a good site");
        let mut bed = Bed { folder, sshds: Vec::new(), site, text: String::new() };
        let images = bed.folder.path().join("images");
        std::fs::create_dir_all(&images).expect("made");
        std::fs::write(images.join("vmlinuz"), "a kernel").expect("written");
        let mut disk = vec![0u8; 3 << 20];
        disk[5000] = 1;
        std::fs::write(images.join("disk.img"), disk).expect("written");
        let at = |name: &str| images.join(name).display().to_string();
        bed.text = format!(
            "[times]\nshutdown = \"2 s\"\n[[image]]\nname = \"small\"\nkernel = \"{}\"\ncmdline = \"{{ip}}\"\n\
             [[image]]\nname = \"none\"\nkernel = \"{}\"\n",
            at("vmlinuz"),
            at("nothing")
        );
        // A host's disks are below its own folder only where they are not shared: two hosts here
        // are one machine.
        bed.text.push_str(&format!(
            "[[image]]\nname = \"disk\"\nkernel = \"{}\"\n[image.disk]\nclone = \"copy\"\nsource = \"{}\"\nfolder = \"{}\"\n",
            at("vmlinuz"),
            at("disk.img"),
            bed.folder.path().join("disks").display()
        ));
        for n in 0..2 {
            let root = bed.host(n);
            std::fs::create_dir_all(root.join("bin")).expect("made");
            std::fs::create_dir_all(root.join("state")).expect("made");
            std::os::unix::fs::symlink(STAND_IN, root.join("bin/xl")).expect("linked");
            let sshd = Sshd::start(&root).expect("sshd");
            let config = sshd.folder.join("config");
            let mut all = std::fs::read_to_string(&config).expect("there");
            let (bin, state) = (root.join("bin"), root.join("state"));
            all.push_str(&format!(
                "SetEnv PATH={}:/usr/bin:/bin:/usr/sbin:/sbin XL_STATE={}\n",
                bin.display(),
                state.display()
            ));
            std::fs::write(&config, all).expect("written");
            bed.sshds.push(sshd);
        }
        for n in 0..2 {
            let (sshd, root) = (&bed.sshds[n], bed.host(n));
            let file = |name: &str| sshd.folder.join(name).display().to_string();
            let section = format!(
                "[[host]]\nserver = \"srv{}\"\nssh = \"{}@127.0.0.1:{}\"\nkey = \"{}\"\nknown_hosts = \"{}\"\nbridges = [\"br0\"]\n\
                 vif_script = \"/etc/xen/scripts/vif-bridge\"\nrun = \"{}\"\nkeep = \"{}\"\nmigration = \"{migration}\"\n\
                 migration_port = {}\nmigration_options = [\"Port={}\", \"IdentityFile={}\", \"UserKnownHostsFile={}\"]\n",
                n + 1,
                user(),
                sshd.port,
                file("id"),
                file("known_hosts"),
                root.join("run").display(),
                root.join("keep").display(),
                20_000 + (std::process::id() % 400) * 100,
                sshd.port,
                file("id"),
                file("known_hosts"),
            );
            bed.text.push_str(&section);
        }
        Some(bed)
    }

    fn host(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("host{n}"))
    }

    fn state(&self, n: usize, file: &str) -> PathBuf {
        self.host(n).join("state").join(file)
    }

    /// A driver as a controller that just started has it.
    fn driver(&self) -> Xl {
        self.driver_of(&self.text)
    }

    fn driver_of(&self, text: &str) -> Xl {
        let all = Hypervisors::read(text, "hypervisors.toml", Path::new("/"), &self.site)
            .unwrap_or_else(|f| panic!("{f}"));
        let hosts = &all.section::<XlSection>().expect("the driver's").hosts;
        Xl::new(&self.site.name, hosts, &all.images).expect("a folder")
    }

    /// What is left on a host besides what every connection puts there.
    fn left(&self, n: usize) -> Vec<String> {
        let mut left = Vec::new();
        for folder in ["run", "keep/moves", "run/guests"] {
            let Ok(entries) = std::fs::read_dir(self.host(n).join(folder)) else { continue };
            let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
            left.extend(
                names.filter(|n| n != "tandem-relay" && n != "guests").map(|n| format!("{folder}/{n}")),
            );
        }
        left
    }
}

fn user() -> String {
    let output = std::process::Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn spec(image: Option<&str>) -> VmSpec {
    let address = Ipv4Addr::new(10, 0, 0, 7);
    VmSpec {
        resources: Resources { cpu: 1, ram: Bytes::mib(16), disk: Bytes::mib(4), net: BitRate(0) },
        name: Some("it's".into()),
        image: image.map(str::to_owned),
        mac: Mac([2, 0, 0, 0, 0, 7]),
        address,
        uplink_port: PortNo(1),
        fixed_address: Some(FixedAddress { address, prefix_len: 24, router: Ipv4Addr::new(10, 0, 0, 1) }),
        origin: Default::default(),
    }
}

fn order(manner: MigrationMode, image: Option<&str>) -> MigrateOrder {
    MigrateOrder {
        key: MigrationKey { migration: MigrationId(3), vm: VM, from: A, to: B },
        manner,
        spec: spec(image),
        downtime: Duration::from_millis(300),
        rounds: 5,
    }
}

/// A move and what is heard of it; `rate` can be changed, and it can be given up.
struct Going {
    task: tokio_util::task::AbortOnDropHandle<Result<Moved, MigrateError>>,
    reports: mpsc::Receiver<MigrationReport>,
    rate: watch::Sender<BitRate>,
    cancel: CancellationToken,
    suspended: bool,
}

fn go(driver: Xl, order: MigrateOrder, rate: BitRate) -> Going {
    let (reports, heard) = mpsc::channel(1024);
    let (sender, seen) = watch::channel(rate);
    let cancel = CancellationToken::new();
    let control = MigrationControl { reports, rate: seen, cancel: cancel.clone() };
    let task = tokio::spawn(async move { driver.migrate(&order, control).await });
    Going {
        task: tokio_util::task::AbortOnDropHandle::new(task),
        reports: heard,
        rate: sender,
        cancel,
        suspended: false,
    }
}

impl Going {
    /// Until so much was sent.
    async fn sent(&mut self, bytes: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            match tokio::time::timeout_at(until, self.reports.recv()).await {
                Ok(Some(MigrationReport::Progress(p))) if p.sent.0 >= bytes => return,
                Ok(Some(report)) => self.suspended |= report == MigrationReport::Suspended,
                other => panic!("{other:?}"),
            }
        }
        panic!("nothing was sent within 60 s");
    }

    async fn end(self) -> Result<Moved, MigrateError> {
        tokio::time::timeout(Duration::from_secs(120), self.task).await.expect("it ends").expect("no panic")
    }
}

async fn states(driver: &Xl, server: ServerId) -> Vec<(VmId, FoundState)> {
    driver.list(server).await.expect("listed").into_iter().map(|f| (f.vm, f.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_made_found_counted_and_removed() {
    let Some(bed) = Bed::start("tcp") else { return };
    let driver = bed.driver();
    // Somebody else's domain is none of our business.
    let foreign = r#"[{"id": 40, "name": "tandem-vm9", "uuid": "c0ffee00-0000-4000-8000-000000000009", "memory": 32, "state": "-b----", "config": {}}]"#;
    std::fs::write(bed.state(0, "domains"), foreign).expect("written");
    let address = driver.allocate(A, VM, &spec(None)).await.expect("starts");
    assert_eq!(address, Some(Ipv4Addr::new(10, 0, 0, 7)));
    assert_eq!(driver.allocate(A, VM, &spec(None)).await.expect("is there"), address);
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Running)]);
    assert_eq!(states(&driver, B).await, []);
    let config = std::fs::read_to_string(bed.host(0).join("run/guests/tandem-vm7.cfg")).expect("there");
    assert!(
        config.contains("extra = \"ip=10.0.0.7::10.0.0.1:255.255.255.0:tandem-vm7:eth0:off\""),
        "{config}"
    );
    assert!(
        config.contains("mac=02:00:00:00:00:07,bridge=br0,script=/etc/xen/scripts/vif-bridge"),
        "{config}"
    );
    assert!(config.contains(HELD), "{config}");
    let load = driver.load(A).await.expect("counted");
    assert_eq!(load.vms.len(), 1);
    assert_eq!((load.vms[0].0, load.vms[0].1.ram, load.vms[0].1.cpu_ns), (VM, 16 << 20, 400_000_000));
    assert!(load.server.ram > 512 << 20, "{load:?}");
    // A controller that was started anew adopts it; one of another site does not.
    assert_eq!(states(&bed.driver(), A).await, [(VM, FoundState::Running)]);
    driver.destroy(A, VM, None).await.expect("stops");
    driver.destroy(A, VM, None).await.expect("is gone");
    assert_eq!(states(&driver, A).await, []);
    let domains = std::fs::read_to_string(bed.state(0, "domains")).expect("there");
    assert!(domains.contains("c0ffee00"), "{domains}");
    assert_eq!(bed.left(0), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let Some(bed) = Bed::start("tcp") else { return };
    let driver = bed.driver();
    let error = driver.allocate(A, VM, &spec(Some("none"))).await.expect_err("no kernel");
    assert!(matches!(&error, VmmError::NoSuchTemplate { why, .. } if why.contains("nothing")), "{error}");
    let error = driver.allocate(A, VM, &spec(Some("what"))).await.expect_err("no image").to_string();
    assert_eq!(error, "srv1 has no image \"what\"; it knows small, none, disk");
    let mut large = spec(None);
    large.resources.ram = Bytes::gib(1);
    let error = driver.allocate(A, VM, &large).await.expect_err("no memory");
    assert!(matches!(error, VmmError::NoMemory { .. }), "{error}");
    let mut elsewhere = spec(None);
    elsewhere.uplink_port = PortNo(2);
    let error = driver.allocate(A, VM, &elsewhere).await.expect_err("no bridge").to_string();
    assert!(error.contains("no bridge for its port 2"), "{error}");
    std::fs::write(bed.state(0, "fail-create"), "libxl: error: it's broken").expect("written");
    let error = driver.allocate(A, VM, &spec(Some("disk"))).await.expect_err("broken").to_string();
    assert_eq!(error, "srv1: starting vm7 failed: libxl: error: it's broken");
    assert_eq!(bed.left(0), [""; 0]);
    assert_eq!(std::fs::read_dir(bed.folder.path().join("disks")).expect("there").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_host_is_not_reached_is_told_apart() {
    let Some(bed) = Bed::start("tcp") else { return };
    let wrong_key = bed.text.replace("/sshd/id\"\nknown", "/sshd/host\"\nknown");
    let error = bed.driver_of(&wrong_key).list(A).await.expect_err("not let in");
    assert!(
        matches!(error, VmmError::WrongCredentials { .. }) && error.to_string().contains("authorized_keys"),
        "{error}"
    );
    let unknown = bed.text.replace("/known_hosts\"\nbridges", "/nothing\"\nbridges");
    let error = bed.driver_of(&unknown).list(A).await.expect_err("not known").to_string();
    assert!(error.contains("ssh-keyscan"), "{error}");
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let away =
        bed.text.replace(&format!("127.0.0.1:{}\"", bed.sshds[0].port), &format!("127.0.0.1:{nobody}\""));
    let error = bed.driver_of(&away).list(A).await.expect_err("away");
    assert!(matches!(error, VmmError::HostUnreachable { .. }), "{error}");
    // A connection that was cut is made again, and one call is told.
    let driver = bed.driver();
    driver.list(A).await.expect("there");
    bed.sshds[0].cut_after(0);
    let error = driver.list(A).await.expect_err("cut");
    assert!(error.is_away(), "{error}");
    bed.sshds[0].mend();
    driver.list(A).await.expect("there again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_moves_live_by_either_transport_and_leaves_nothing() {
    for migration in ["tcp", "ssh"] {
        let Some(bed) = Bed::start(migration) else { return };
        let driver = bed.driver();
        driver.allocate(A, VM, &spec(None)).await.expect("starts");
        let order = order(MigrationMode::Live, None);
        driver.can_migrate(&order).await.expect("can");
        assert_eq!(driver.resolve(order.key, false).await, ResolveOutcome::Ended(VmLocation::At(A), None));
        let mut going = go(bed.driver(), order.clone(), BitRate::mbit(400));
        going.sent(16 << 20).await;
        let mut suspended = going.suspended;
        let mut reports = std::mem::replace(&mut going.reports, mpsc::channel(1).1);
        let moved = going.end().await;
        assert_eq!(moved, Ok(Moved { downtime: None }), "{migration}");
        while let Some(report) = reports.recv().await {
            suspended |= report == MigrationReport::Suspended;
        }
        assert!(suspended, "{migration}");
        assert_eq!(states(&driver, A).await, []);
        assert_eq!(states(&driver, B).await, [(VM, FoundState::Running)]);
        assert_eq!(bed.left(0), [""; 0], "{migration}");
        assert_eq!(bed.left(1), ["run/guests/tandem-vm7.cfg"], "{migration}");
        let there = std::fs::read_to_string(bed.state(1, "domains")).expect("there");
        assert!(there.contains(HELD), "the target holds it to its address, too: {there}");
        assert_eq!(driver.resolve(order.key, false).await, ResolveOutcome::Ended(VmLocation::At(B), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_held_to_its_rate_given_up_and_nothing_is_left() {
    for migration in ["tcp", "ssh"] {
        let Some(bed) = Bed::start(migration) else { return };
        let driver = bed.driver();
        driver.allocate(A, VM, &spec(None)).await.expect("starts");
        // 16 MiB at 1 Mbit/s would take two minutes.
        let mut going = go(bed.driver(), order(MigrationMode::Live, None), BitRate::mbit(1));
        going.sent(100_000).await;
        going.cancel.cancel();
        let failed = going.end().await.expect_err("given up");
        assert_eq!((failed.at, failed.why), (VmLocation::At(A), VmmError::Cancelled), "{migration}");
        assert_eq!(states(&driver, A).await, [(VM, FoundState::Running)]);
        assert_eq!(states(&driver, B).await, []);
        assert_eq!(bed.left(1), [""; 0], "{migration}");
        assert_eq!(bed.left(0), ["run/guests/tandem-vm7.cfg"], "{migration}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_finds_its_transfer_under_way() {
    let Some(bed) = Bed::start("tcp") else { return };
    bed.driver().allocate(A, VM, &spec(None)).await.expect("starts");
    let order = order(MigrationMode::Live, None);
    let mut going = go(bed.driver(), order.clone(), BitRate::mbit(1));
    going.sent(100_000).await;
    drop(going);
    let driver = bed.driver();
    assert_eq!(driver.resolve(order.key, false).await, ResolveOutcome::UnderWay);
    let going = go(driver, order.clone(), BitRate::mbit(1));
    going.rate.send_replace(BitRate::mbit(800));
    assert!(going.end().await.is_ok());
    let driver = bed.driver();
    assert_eq!(
        (states(&driver, A).await, states(&driver, B).await),
        (vec![], vec![(VM, FoundState::Running)])
    );
    // One that nobody wants any more is ended by its id alone.
    let back = MigrationKey { migration: MigrationId(4), vm: VM, from: B, to: A };
    let mut going = go(bed.driver(), MigrateOrder { key: back, ..order }, BitRate::mbit(1));
    going.sent(100_000).await;
    drop(going);
    assert_eq!(driver.resolve(back, true).await, ResolveOutcome::Ended(VmLocation::At(B), None));
    assert_eq!(
        (states(&driver, A).await, states(&driver, B).await),
        (vec![], vec![(VM, FoundState::Running)])
    );
    assert_eq!((bed.left(0), bed.left(1)), (vec![], vec!["run/guests/tandem-vm7.cfg".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_hand_over_leaves_is_resolved() {
    let Some(bed) = Bed::start("tcp") else { return };
    let driver = bed.driver();
    driver.allocate(A, VM, &spec(None)).await.expect("starts");
    driver.allocate(B, VM, &spec(None)).await.expect("starts");
    let set = |n: usize, name: &str, state: &str| {
        let text = std::fs::read_to_string(bed.state(n, "domains")).expect("there");
        let text =
            text.replace("\"name\": \"tandem-vm7\", \"uuid\"", &format!("\"name\": \"{name}\", \"uuid\""));
        std::fs::write(bed.state(n, "domains"), text.replace("-b----", state)).expect("written");
    };
    set(0, "tandem-vm7--migratedaway", "---s--");
    set(1, "tandem-vm7--incoming", "--p---");
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Paused)]);
    let key = order(MigrationMode::Live, None).key;
    // While the target does not answer nobody can tell, and nothing is touched.
    bed.sshds[1].set_deaf(true);
    bed.sshds[1].cut_after(0);
    let ResolveOutcome::Ended(VmLocation::Unknown, Some(why)) = driver.resolve(key, true).await else {
        panic!("known?")
    };
    assert!(why.is_away(), "{why}");
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Paused)]);
    bed.sshds[1].set_deaf(false);
    bed.sshds[1].mend();
    assert_eq!(driver.resolve(key, true).await, ResolveOutcome::Ended(VmLocation::At(A), None));
    assert_eq!(states(&driver, A).await, [(VM, FoundState::Running)]);
    assert_eq!(states(&driver, B).await, []);
    assert_eq!(driver.list(A).await.expect("listed")[0].name, "tandem-vm7");
    // A target that was cut off is cleaned when it is reached again; looking at it alone changes
    // nothing.
    driver.allocate(B, VM, &spec(None)).await.expect("starts");
    set(1, "tandem-vm7--incoming", "--p---");
    // Receivers of the tests beside this one are on this machine too, and make the driver wait.
    let until = Instant::now() + Duration::from_secs(240);
    while !states(&driver, B).await.is_empty() {
        assert!(Instant::now() < until, "it is not cleaned");
        driver.prepare(B).await.expect("it is reached");
        sleep(Duration::from_millis(500)).await;
    }
    let domains = std::fs::read_to_string(bed.state(1, "domains")).expect("there");
    assert_eq!(domains, "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_move_takes_the_memory_along_or_takes_it_back() {
    for migration in ["tcp", "ssh"] {
        let Some(bed) = Bed::start(migration) else { return };
        let driver = bed.driver();
        driver.allocate(A, VM, &spec(None)).await.expect("starts");
        std::fs::write(bed.state(1, "fail-restore"), "xc: error: it cannot be").expect("written");
        let failed = go(bed.driver(), order(MigrationMode::Cold, None), BitRate::mbit(800))
            .end()
            .await
            .expect_err("broken");
        assert_eq!(failed.at, VmLocation::At(A), "{failed}");
        assert!(failed.why.to_string().contains("it cannot be"), "{failed}");
        assert_eq!(
            (states(&driver, A).await, states(&driver, B).await),
            (vec![(VM, FoundState::Running)], vec![])
        );
        std::fs::remove_file(bed.state(1, "fail-restore")).expect("removed");
        let mut going = go(bed.driver(), order(MigrationMode::Cold, None), BitRate::mbit(1));
        going.sent(100_000).await;
        going.cancel.cancel();
        let failed = going.end().await.expect_err("given up");
        assert_eq!((failed.at, failed.why), (VmLocation::At(A), VmmError::Cancelled));
        assert_eq!(
            (states(&driver, A).await, states(&driver, B).await),
            (vec![(VM, FoundState::Running)], vec![])
        );
        assert_eq!(bed.left(1), [""; 0]);
        let moved = go(bed.driver(), order(MigrationMode::Cold, None), BitRate::mbit(800))
            .end()
            .await
            .expect("moves");
        assert!(moved.downtime.is_some());
        assert_eq!(
            (states(&driver, A).await, states(&driver, B).await),
            (vec![], vec![(VM, FoundState::Running)])
        );
        assert_eq!((bed.left(0), bed.left(1)), (vec![], vec!["run/guests/tandem-vm7.cfg".to_owned()]));
        let there = std::fs::read_to_string(bed.state(1, "domains")).expect("there");
        assert!(there.contains(HELD), "the target holds it to its address, too: {there}");
        sleep(Duration::ZERO).await;
    }
}
