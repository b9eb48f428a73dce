//! Commands, files and streams on a machine, and the lock on it, over a real sshd on loopback.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tandem_testbed::inventory::Inventory;
use tandem_testbed::lease::{self, Kind, Lease, LeaseError};
use tandem_testbed::ssh::{COMMAND, Ssh, SshError};
use tandem_tests::sshd::{Sshd, can_ssh};
use tandem_tests::wait;

struct Lab {
    sshd: Sshd,
    folder: tempfile::TempDir,
}

fn lab() -> Lab {
    let folder = tempfile::Builder::new().prefix("tandem-ssh-test-").tempdir().expect("a folder");
    Lab { sshd: Sshd::start(folder.path()).expect("sshd"), folder }
}

impl Lab {
    /// Machines `m1`, `m2` ... with a root of their own each.
    fn inventory(&self, count: usize, ssh: &str) -> Inventory {
        let mut text = format!("name = \"loopback\"\n[controller]\naddress = \"127.0.0.1\"\n{ssh}");
        for n in 1..=count {
            let root = self.folder.path().join(format!("m{n}"));
            text.push_str(&format!(
                "[[machine]]\nname = \"m{n}\"\naddress = \"127.0.0.1\"\ncontrol = \"lo\"\nservice = \"process\"\nroot = \"{}\"\n",
                root.display()
            ));
        }
        Inventory::read(&text, "inventory.toml", Path::new("/"), None).unwrap_or_else(|f| panic!("{f}"))
    }

    fn connect(&self, count: usize) -> Vec<Arc<Ssh>> {
        let inventory = self.inventory(count, &self.sshd.section());
        inventory
            .machines
            .iter()
            .map(|m| Arc::new(Ssh::connect(m).unwrap_or_else(|e| panic!("{e}"))))
            .collect()
    }
}

#[test]
fn commands_give_what_they_print_complain_and_end_with() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let ssh = &lab.connect(1)[0];
    let output =
        ssh.try_run("a test", "cat; echo 'it''s' \"$0\" >&2; exit 7", b"in\0put", COMMAND).expect("runs");
    assert_eq!((output.status, output.stdout.as_slice()), (7, &b"in\0put"[..]));
    assert_eq!(output.stderr, "its sh");
    // Without input there is nothing to wait for.
    assert_eq!(ssh.run("reading nothing", "cat; echo done").expect("ends"), "done");
    let failed = ssh.run("looking", "echo why >&2; exit 3").expect_err("status 3").to_string();
    assert_eq!(failed, "m1: looking failed (status 3): why");
    let late =
        ssh.try_run("sleeping", "exec sleep 5", &[], Duration::from_millis(200)).expect_err("too long");
    assert!(matches!(late, SshError::TimeOut { .. }), "{late}");
    // More than a pipe holds, both ways at once, and by many at once over the one connection.
    let big = vec![b'x'; 3 << 20];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let back = ssh.try_run("echoing", "exec cat", &big, COMMAND).expect("runs");
                assert_eq!(back.stdout, big);
            });
        }
    });
    assert_eq!(lab.sshd.connections(), 1, "all of it went over one connection");
}

#[test]
fn a_long_running_program_is_spoken_with_and_its_machine_keeps_nothing() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let mut machines = lab.connect(1);
    let ssh = machines.remove(0);
    let keeper = ssh.keeper().expect("a keeper");
    assert!(Path::new(&format!("/proc/{keeper}")).exists());
    let mut remote =
        ssh.spawn("doubling", "echo $$; while read -r x; do echo $((x * 2)); done; exit 5").expect("starts");
    let mut lines = BufReader::new(remote.stdout.take().expect("output")).lines();
    let pid = lines.next().expect("a line").expect("text");
    for n in [1, 21] {
        writeln!(remote.stdin.as_mut().expect("input"), "{n}").expect("is read");
        assert_eq!(lines.next().expect("a line").expect("text"), (n * 2).to_string());
    }
    assert_eq!(remote.finish(COMMAND).expect("ends by itself").status, 5);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    drop(ssh);
    wait("the keeper's end", || Ok((!Path::new(&format!("/proc/{keeper}")).exists()).then_some(())))
        .expect("it ends");
    wait("the connection's end", || Ok((lab.sshd.connections() == 0).then_some(()))).expect("it ends");
}

#[test]
fn a_file_arrives_whole_or_not_at_all() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let ssh = lab.connect(1).remove(0);
    let path = ssh.machine().path("/etc/it's a file");
    assert_eq!(ssh.get(&path).expect("asked"), None);
    ssh.put(b"old", &path, 0o640).expect("written");
    assert_eq!(ssh.get(&path).expect("read").as_deref(), Some(&b"old"[..]));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
    assert_eq!(mode & 0o7777, 0o640);
    // The cable is pulled near the end of a longer one, when much of it has been written.
    lab.sshd.cut_after(6 << 20);
    let cut = ssh.put(&vec![1; 8 << 20], &path, 0o640).expect_err("cut");
    assert!(matches!(cut, SshError::Cut { .. }), "{cut}");
    assert!(lab.sshd.was_cut());
    lab.sshd.mend();
    // What comes next makes another connection: a machine that was cut off can be given back.
    assert_eq!(ssh.get(&path).expect("connected anew").as_deref(), Some(&b"old"[..]));
    let missing = ssh.run("looking", "no-such-program").expect_err("there is none");
    assert!(matches!(missing, SshError::Failed { status: 127, .. }), "{missing}");
    let folder = path.parent().expect("a folder").to_owned();
    wait("the half file's end", || Ok((std::fs::read_dir(&folder)?.count() == 1).then_some(())))
        .expect("is removed");
    assert_eq!(std::fs::read(&path).expect("there"), b"old");
}

#[test]
fn why_a_machine_is_not_reached_is_told_apart() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let try_with = |ssh: &str| Ssh::connect(&lab.inventory(1, ssh).machines[0]).expect_err("not reached");
    let good = lab.sshd.section();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let error = try_with(&good.replace(&format!("port = {}", lab.sshd.port), &format!("port = {nobody}")));
    assert!(matches!(&error, SshError::Unreachable { why, .. } if why.contains("refused")), "{error}");
    let error = try_with(&good.replace("/id\"", "/host\""));
    assert!(matches!(error, SshError::Refused { .. }), "{error}");
    let unknown = good.replace("/known_hosts\"", "/nothing\"");
    let error = try_with(&unknown);
    assert!(matches!(error, SshError::HostKey { .. }), "{error}");
    let once = format!("{unknown}host_keys = \"accept-new\"\n");
    Ssh::connect(&lab.inventory(1, &once).machines[0]).expect("the unknown key is accepted");
    Ssh::connect(&lab.inventory(1, &unknown).machines[0]).expect("and known from then on");
}

#[test]
fn one_holds_the_testbed_and_others_are_told_who() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let machines = lab.connect(2);
    let other = lab.connect(2);
    assert_eq!(lease::look(&machines[0]).expect("asked"), None);
    let held = Lease::take(&machines, "an experiment", Kind::Process).expect("free");
    let refused = Lease::take(&other, "another", Kind::Process).expect_err("held");
    let LeaseError::Held { holder, .. } = &refused else { panic!("{refused}") };
    assert!(holder.alive && holder.purpose == "an experiment", "{holder:?}");
    assert!(refused.to_string().contains("an experiment"), "{refused}");
    drop(held);
    // The second machine is held by hand: the first is given back when the second refuses.
    let by_hand = Lease::take(&other[1..], "cabling", Kind::ByHand).expect("free");
    let id = by_hand.id().to_owned();
    drop(by_hand);
    let refused = Lease::take(&machines, "an experiment", Kind::Process).expect_err("held");
    assert!(refused.to_string().contains(&format!("id {id}")), "{refused}");
    assert_eq!(lease::look(&machines[0]).expect("asked"), None);
    Lease::under(&machines[1..], &id).expect("goes on under it");
    lease::restore(&machines[1], "another id").expect("asked");
    assert!(lease::look(&machines[1]).expect("asked").is_some());
    lease::restore(&machines[1], &id).expect("given back");
    assert_eq!(lease::look(&machines[1]).expect("asked"), None);
}

#[test]
fn a_holder_that_died_is_told_and_its_lock_is_broken_on_request_only() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let holder = lab.connect(1);
    let held = Lease::take(&holder, "an experiment", Kind::Process).expect("free");
    let keeper = holder[0].keeper().expect("a keeper");
    // As if the holder's machine had lost power: the connection ends, nobody gives the lock back.
    lab.sshd.cut_after(0);
    let _ = holder[0].run("sending something", "true");
    wait("the keeper's end", || Ok((!Path::new(&format!("/proc/{keeper}")).exists()).then_some(())))
        .expect("it ends");
    drop(held);
    drop(holder);
    lab.sshd.mend();
    let machines = lab.connect(1);
    let refused = Lease::take(&machines, "another", Kind::Process).expect_err("held");
    assert!(refused.to_string().contains("has died"), "{refused}");
    assert!(refused.to_string().contains("unlock --break"), "{refused}");
    lease::break_open(&machines[0]).expect("broken");
    Lease::take(&machines, "another", Kind::Process).expect("free");
}

#[test]
fn of_many_who_try_at_once_one_gets_it() {
    if !can_ssh() {
        return;
    }
    let lab = lab();
    let machines = lab.connect(1);
    let locks: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let m = &machines;
                scope.spawn(move || Lease::take(m, &format!("try {n}"), Kind::Process))
            })
            .collect();
        tasks.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    assert_eq!(locks.iter().filter(|l| l.is_ok()).count(), 1);
    drop(locks);
    assert_eq!(lease::look(&machines[0]).expect("asked"), None);
    let left: Vec<_> = std::fs::read_dir(machines[0].machine().path("/run")).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
}
