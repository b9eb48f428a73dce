//! The group of agent.toml, with users in it and outside of it, by setpriv.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// User ids without an entry on the machine.
const MEMBER: &str = "10001";
const OUTSIDER: &str = "10002";

struct Agent {
    child: Child,
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A group of this machine other than root's, with its number; `None` if this process may not
/// change its user.
fn group() -> Option<(String, u32)> {
    let is_root = nix::unistd::geteuid().is_root();
    let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok();
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let number: u32 = fields.get(2)?.parse().ok()?;
        (number > 0 && number < 10_000).then(|| (fields[0].to_owned(), number))
    });
    let can = is_root && has_setpriv && found.is_some();
    assert!(
        can || std::env::var_os("CI").is_none(),
        "in CI nothing is skipped; missing: root, setpriv, a group"
    );
    if !can {
        eprintln!("skipped: missing root, setpriv (package util-linux) or a group beside root's");
    }
    found.filter(|_| can)
}

impl Agent {
    fn start(group: &str) -> Agent {
        let everybody = PermissionsExt::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(everybody).tempdir().expect("a folder");
        // A program that any user may run: that of the build may be in root's home. It is copied by
        // another process, so that no child inherits a descriptor open for writing, which would
        // make it busy.
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_tandem-agent")).arg(folder.path().join("tandem-agent"));
        assert!(copy.status().expect("cp").success());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "name = \"mini1\"\ncontroller = \"unix:{}\"\nstate = {:?}\ncontrol = {:?}\ngroup = {group:?}\n[ovs]\ndatabase = {:?}\n",
            at("nobody.sock"),
            at("state"),
            at("control.sock"),
            at("db.sock")
        );
        let config = folder.path().join("agent.toml");
        std::fs::write(&config, text).expect("room");
        let mut command = Command::new(folder.path().join("tandem-agent"));
        command.arg("--config").arg(&config).stdin(Stdio::null()).stderr(Stdio::null());
        let agent = Agent { child: command.spawn().expect("the agent"), folder, config };
        let (socket, start) = (agent.socket(), Instant::now());
        while !socket.exists() {
            assert!(start.elapsed() < LIMIT, "no socket within {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Runs `tandem-agent status` as a user with a primary group and others; returns whether it
    /// succeeded, and its output.
    fn status(&self, user: &str, group: &str, others: &str) -> (bool, String) {
        let groups =
            if others.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={others}") };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", group, &groups, "--"]);
        command.arg(self.folder.path().join("tandem-agent")).arg("--config").arg(&self.config).arg("status");
        let output = command.current_dir("/").stdin(Stdio::null()).output().expect("setpriv");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

fn mode(path: &Path) -> (u32, u32) {
    let found = std::fs::metadata(path).expect("the socket");
    (found.mode() & 0o777, found.gid())
}

#[test]
fn members_of_the_group_are_answered_and_others_are_not() {
    let Some((name, number)) = group() else { return };
    let agent = Agent::start(&name);
    let number = number.to_string();
    assert_eq!(mode(&agent.socket()), (0o660, number.parse().expect("a number")));
    let (ok, text) = agent.status(MEMBER, &number, "");
    assert!(ok && text.contains("mini1"), "a member: {text}");
    let (ok, text) = agent.status(OUTSIDER, OUTSIDER, "");
    assert!(!ok && text.contains("Permission denied"), "an outsider: {text}");
    // With permissions that admit everybody, the kernel's credentials decide.
    std::fs::set_permissions(agent.socket(), PermissionsExt::from_mode(0o666)).expect("the socket");
    let (ok, text) = agent.status(OUTSIDER, OUTSIDER, "");
    assert!(!ok && text.contains("user 10002 may not use this service of user 0"), "an outsider: {text}");
    assert!(text.contains(&format!("join the group {name}")), "and what to do: {text}");
    assert!(!text.contains("mini1 (version"), "{text}");
    let (ok, text) = agent.status(MEMBER, &number, "");
    assert!(ok && text.contains("mini1"), "a member: {text}");
    // A supplementary group of the process only, of which the user is not a member, does not count:
    // the kernel reports the primary group alone.
    let (ok, text) = agent.status(OUTSIDER, OUTSIDER, &number);
    assert!(!ok, "{text}");
}
