//! `tandem hypervisors take-over`, as whoever has lost a controller's store uses it: real
//! controllers, one after the other, on two hosts.

use super::*;
use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};
use tandem_hypervisor::owner::Owner;

/// Nothing that is waited for takes this long.
const LIMIT: Duration = Duration::from_secs(60);

fn tandem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command
        .stdin(Stdio::null())
        .env_remove("TANDEM_API")
        .env_remove("TANDEM_TOKEN")
        .env_remove("STATE_DIRECTORY");
    command
}

/// A controller with a store of its own; it ends with this.
struct Controller<'a> {
    child: Child,
    bed: &'a Bed,
    name: &'static str,
}

impl Drop for Controller<'_> {
    /// In order, so that it leaves no folder behind.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Controller<'_> {
    fn start<'a>(bed: &'a Bed, name: &'static str) -> Controller<'a> {
        let at = |file: &str| bed.folder.path().join(format!("{name}-{file}"));
        let socket = |file: &str| format!("unix:{}", at(file).display());
        let log = std::fs::File::create(at("log")).expect("room");
        let child = tandem()
            .args([
                "--api",
                &socket("api"),
                "serve",
                "--openflow",
                &socket("of"),
                "--agents",
                &socket("agents"),
            ])
            .arg("--site")
            .arg(bed.folder.path().join("site.toml"))
            .arg("--hypervisors")
            .arg(bed.folder.path().join("hypervisors.toml"))
            .arg("--store")
            .arg(at("store.sqlite"))
            .arg("--authority")
            .arg(at("authority"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program");
        Controller { child, bed, name }
    }

    /// Waits for a notice that has these words; its text.
    fn says(&self, kind: &str, words: &[&str]) -> String {
        let api = format!("unix:{}", self.bed.folder.path().join(format!("{}-api", self.name)).display());
        let start = std::time::Instant::now();
        loop {
            let output = tandem().args(["--api", &api, "--json", "notices"]).output().expect("the program");
            let notices: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let texts: Vec<String> = notices
                .as_array()
                .into_iter()
                .flatten()
                .filter(|n| n["kind"] == kind)
                .filter_map(|n| n["text"].as_str().map(str::to_owned))
                .collect();
            if let Some(text) = texts.iter().find(|t| words.iter().all(|w| t.contains(w))) {
                return text.clone();
            }
            assert!(start.elapsed() < LIMIT, "{} says no {kind} with {words:?}: {notices}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Takes hosts over for the controller of a store.
fn take_over(bed: &Bed, name: &str, more: &[&str]) -> Output {
    tandem()
        .args(["hypervisors", "take-over"])
        .arg(bed.folder.path().join("hypervisors.toml"))
        .arg("--site")
        .arg(bed.folder.path().join("site.toml"))
        .arg("--store")
        .arg(bed.folder.path().join(format!("{name}-store.sqlite")))
        .args(more)
        .output()
        .expect("the program")
}

/// Whom both hosts serve.
fn owners(bed: &Bed) -> [Owner; 2] {
    [0, 1].map(|n| {
        let line = std::fs::read_to_string(bed.host(n).join("keep/owner")).expect("it serves somebody");
        Owner::read(&line).unwrap_or_else(|| panic!("{line:?} is nobody"))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first controller's store is lost. Its successor is served by no host and says what to do; it
/// does that, for one host and then for all; then it is served, and the VMs run on as they were.
/// The first one, if it comes back, is not.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_taken_over_for_another_store() {
    let Some(bed) = Bed::start("tcp") else { return };
    let site = "name = \"small\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 2\n";
    std::fs::write(bed.folder.path().join("site.toml"), site).expect("room");
    std::fs::write(bed.folder.path().join("hypervisors.toml"), &bed.text).expect("room");
    let first = Controller::start(&bed, "first");
    first.says("world-up", &[]);
    bed.driver().allocate(A, VM, &spec(None)).await.expect("starts");
    let before = std::fs::read_to_string(bed.state(0, "domains")).expect("there");
    drop(first);
    let [served, other] = owners(&bed);
    assert_eq!(served, other);

    // Nothing to take over for: its store is none yet.
    let none = take_over(&bed, "second", &[]);
    assert!(!none.status.success(), "{}", text(&none.stdout));
    assert_eq!(owners(&bed), [served.clone(), served.clone()]);

    let second = Controller::start(&bed, "second");
    for server in ["srv1", "srv2"] {
        second.says("server-away", &[server, &served.store.to_string(), "tandem hypervisors take-over"]);
    }
    drop(second);
    assert_eq!(owners(&bed), [served.clone(), served.clone()], "to ask changes nothing");

    let wrong = take_over(&bed, "second", &["--server", "srv9"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("srv9 is no server"), "{wrong:?}");
    assert_eq!(owners(&bed), [served.clone(), served.clone()]);
    let one = take_over(&bed, "second", &["--server", "srv2"]);
    assert!(one.status.success(), "{}", text(&one.stderr));
    let said = text(&one.stdout);
    assert!(
        said.starts_with("srv2 serves the controller with the store ") && said.lines().count() == 1,
        "{said}"
    );
    let [still, now] = owners(&bed);
    assert_eq!(still, served);
    assert!(said.contains(&now.store.to_string()) && now.store != served.store, "{said}");
    let all = take_over(&bed, "second", &[]);
    assert!(all.status.success() && text(&all.stdout).lines().count() == 2, "{all:?}");
    assert_eq!(owners(&bed), [now.clone(), now.clone()]);

    let second = Controller::start(&bed, "second");
    second.says("vm-stray", &["vm7 on srv1"]);
    assert_eq!(std::fs::read_to_string(bed.state(0, "domains")).expect("there"), before, "it runs as it was");
    drop(second);
    let first = Controller::start(&bed, "first");
    first.says("server-away", &["srv1", &now.store.to_string()]);
    drop(first);
    // A host that does not answer is said, and the others are taken over all the same.
    let name = bed.host(0).join("keep");
    std::fs::remove_dir_all(&name).expect("there");
    std::fs::write(&name, "no folder").expect("room");
    let half = take_over(&bed, "first", &[]);
    assert!(!half.status.success(), "one is not taken over");
    assert!(text(&half.stderr).contains("srv1 is not taken over"), "{}", text(&half.stderr));
    assert!(text(&half.stdout).starts_with("srv2 serves"), "{}", text(&half.stdout));
}
