//! The agent's sockets and other users of the machine: who may ask, and whom an answer is taken
//! from.

use anyhow::{Context, Result, ensure};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tandem_tests::{program, wait};

/// Somebody else: Debian's `nobody`.
const OTHER: u32 = 65_534;

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Place(tempfile::TempDir);

impl Place {
    /// A folder that everybody may enter, with a program that everybody may run.
    fn new() -> Result<Place> {
        let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir()?;
        tandem_tests::copy_program(&program("tandem-agent")?, &folder.path().join("tandem-agent"))?;
        Ok(Place(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The folder and the configuration of an agent of a user.
    fn agent_of(&self, name: &str, user: u32) -> Result<PathBuf> {
        let folder = self.path(name);
        std::fs::create_dir(&folder)?;
        let at = |file: &str| folder.join(file).display().to_string();
        let config = folder.join("agent.toml");
        let text = format!(
            "name = \"mini1\"\ncontroller = \"unix:{}\"\nstate = {:?}\ncontrol = {:?}\n[ovs]\ndatabase = {:?}\n",
            at("nobody.sock"),
            at("state"),
            at("control.sock"),
            at("db.sock")
        );
        std::fs::write(&config, text)?;
        std::fs::create_dir(folder.join("state"))?;
        for path in [&folder, &config, &folder.join("state")] {
            chown(path, Some(user), Some(user))?;
        }
        Ok(config)
    }

    fn start(&self, config: &Path, user: u32) -> Result<Process> {
        let mut command = Command::new(self.path("tandem-agent"));
        command.arg("--config").arg(config).uid(user).gid(user);
        let agent = Process(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let socket = config.with_file_name("control.sock");
        wait("its socket", || Ok(socket.exists().then_some(())))?;
        Ok(agent)
    }

    /// `tandem-agent status` as a user: whether it was answered, and what was said.
    fn status(&self, config: &Path, user: u32) -> Result<(bool, String)> {
        let mut command = Command::new(self.path("tandem-agent"));
        let output = command.arg("--config").arg(config).arg("status").uid(user).gid(user).output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }
}

fn is_root() -> bool {
    let root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:\t0\t")));
    assert!(root || std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root");
    if !root {
        eprintln!("skipped: missing root");
    }
    root
}

#[test]
fn another_user_is_not_answered_even_when_the_socket_lets_him_in() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let place = Place::new()?;
    let config = place.agent_of("roots", 0)?;
    let _agent = place.start(&config, 0)?;
    let socket = config.with_file_name("control.sock");
    ensure!(std::fs::metadata(&socket)?.mode() & 0o777 == 0o600);
    let (ok, text) = place.status(&config, 0)?;
    ensure!(ok && text.contains("mini1"), "{text}");
    let (ok, text) = place.status(&config, OTHER)?;
    ensure!(!ok && text.contains("Permission denied"), "by the socket's permissions: {text}");
    // Whatever its permissions are: the kernel says who asks.
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666))?;
    chown(place.path("roots"), Some(0), Some(0))?;
    let mut client = Command::new("python3");
    client.arg("-c").arg(
        // It may have been turned away before it asks; why can be read all the same.
        "import contextlib, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
         with contextlib.suppress(BrokenPipeError): s.sendall(b'status\\n')\nprint(s.makefile().readline())",
    );
    let output = client.arg(&socket).uid(OTHER).gid(OTHER).output()?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        answer.contains("user 65534 may not use this service of user 0") && !answer.contains("mini1"),
        "{answer}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (ok, _) = place.status(&config, 0)?;
    ensure!(ok, "root is still answered");
    Ok(())
}

#[test]
fn an_answer_of_another_user_s_program_is_not_taken() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let place = Place::new()?;
    let theirs = place.agent_of("theirs", OTHER)?;
    let _agent = place.start(&theirs, OTHER)?;
    // Somebody else listens where root's agent is meant to.
    let ours = place.agent_of("ours", 0)?;
    let text = std::fs::read_to_string(&ours)?;
    let control = theirs.with_file_name("control.sock").display().to_string();
    let text = text.replace(&ours.with_file_name("control.sock").display().to_string(), &control);
    std::fs::write(&ours, text)?;
    for user in [0, 1] {
        let (ok, text) = place.status(&ours, user)?;
        let is_refused = text.contains("user 65534's, not yours or root's") || user == 1;
        ensure!(!ok && is_refused && !text.contains("mini1 (version"), "user {user}: {text}");
    }
    // The agent of the user whom root names by that user's configuration.
    let (ok, text) = place.status(&theirs, 0)?;
    ensure!(ok, "{text}");
    let (ok, text) = place.status(&theirs, OTHER)?;
    ensure!(ok, "{text}");
    Some(()).context("done")
}
