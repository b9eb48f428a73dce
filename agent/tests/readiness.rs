//! The agent notifies its service manager (sd_notify(3)) when it is ready, and shows its watchdog
//! that it is alive.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(60);

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path, watchdog: &str) -> Agent {
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "name = \"mini1\"\ncontroller = \"unix:{}\"\nstate = {:?}\ncontrol = {:?}\n[ovs]\ndatabase = {:?}\n",
        at("nobody.sock"),
        at("state"),
        at("control.sock"),
        at("db.sock")
    );
    std::fs::write(folder.join("agent.toml"), text).expect("room");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-agent"));
    command.arg("--config").arg(folder.join("agent.toml"));
    command.env("NOTIFY_SOCKET", folder.join("notify.sock")).env("WATCHDOG_USEC", watchdog);
    command.env_remove("WATCHDOG_PID").stdin(Stdio::null()).stderr(Stdio::null());
    Agent(command.spawn().expect("the agent"))
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a notification in time");
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_and_then_that_it_is_alive() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = UnixDatagram::bind(folder.path().join("notify.sock")).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let _agent = start(folder.path(), "200000");
    assert_eq!(next(&socket), "READY=1");
    // A ready agent answers on its control socket.
    std::os::unix::net::UnixStream::connect(folder.path().join("control.sock")).expect("it listens");
    assert_eq!(next(&socket), "WATCHDOG=1");
    assert_eq!(next(&socket), "WATCHDOG=1");
}
