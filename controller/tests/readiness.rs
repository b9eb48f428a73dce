//! The controller notifies its service manager (sd_notify(3)) when it is ready, and shows its
//! watchdog that it is alive.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SITE: &str = "name = \"ready\"\n[topology]\nshape = \"linear\"\nswitches = 2\n";
/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(60);

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a notification in time");
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_and_then_that_it_is_alive() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("site.toml"), SITE).expect("room");
    let socket = UnixDatagram::bind(at("notify.sock")).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command
        .args(["--api", &format!("unix:{}", at("api.sock")), "serve", "--site", &at("site.toml")])
        .args(["--openflow", &format!("unix:{}", at("of.sock"))])
        .args(["--agents", &format!("unix:{}", at("agents.sock"))])
        .args(["--store", &at("store.sqlite"), "--world", "@tandem-lab/nobody-is-here/world"])
        .env("NOTIFY_SOCKET", at("notify.sock"))
        .env("WATCHDOG_USEC", "200000")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _controller = Controller(command.spawn().expect("the program"));
    assert_eq!(next(&socket), "READY=1");
    // What is ready is reached, by switches, agents and the command line.
    for name in ["of.sock", "agents.sock", "api.sock"] {
        UnixStream::connect(at(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(next(&socket), "WATCHDOG=1");
    assert_eq!(next(&socket), "WATCHDOG=1");
}
