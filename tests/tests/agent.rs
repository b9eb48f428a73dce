//! The agent as a process on a switch host of its own: a namespace with a private Open vSwitch,
//! and, where the test is about both, the real controller beside it. What an agent is told, what it
//! makes of it, what it says, and what it does when others interfere or fail.

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SerialNumber,
};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_linux::{ethtool, link};
use tandem_tests::{can_emulate, program, wait};

/// Where the controller listens for agents, inside the host's namespace.
const AGENTS: &str = "127.0.0.1:6655";

const SITE: &str = r#"
name = "one"
[topology]
shape = "three-tier"
core = 1
aggregation = 0
edge = 1
servers_per_edge = 2
edge_aggregation_links = 1
[bandwidth]
gateway = "1 Gbit/s"
core = "20 Mbit/s"
aggregation = "20 Mbit/s"
edge = "10 Mbit/s"
[traffic]
enabled = false
[statistics]
period = "200 ms"
[[class]]
name = "gold"
share = 70
dscp = 46
[[class]]
name = "silver"
share = 30
dscp = 10
"#;

/// A process that ends with this.
struct Process(Child);

impl Process {
    fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id().cast_signed()), signal)?)
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A switch host: `left` - p1, p2 - `right`, and p3. Processes go before the folder.
struct Host {
    agent: Option<Process>,
    controller: Option<Process>,
    ovs: Ovs,
    ns: NetNs,
    left: NetNs,
    right: NetNs,
    folder: tempfile::TempDir,
}

fn batch(ns: &NetNs, requests: &[tandem_linux::netlink::Request]) -> Result<()> {
    Ok(ns.run(|| Netlink::open().and_then(|mut n| n.batch(requests)))??)
}

impl Host {
    fn new() -> Result<Host> {
        let mut all = NetNs::many(3, link::disable_ipv6)?;
        let (right, left, ns) = match (all.pop(), all.pop(), all.pop()) {
            (Some(a), Some(b), Some(c)) => (a, b, c),
            _ => bail!("three namespaces"),
        };
        let veths = [
            link::Veth::new(("p1", 10, &ns), ("left", 10, &left)),
            link::Veth::new(("p2", 11, &ns), ("right", 10, &right)),
            link::Veth::new(("p3", 12, &ns), ("3p", 13, &ns)),
        ];
        Netlink::open()?.batch(&veths.map(|v| v.request()))?;
        batch(&ns, &[link::set_up(1, true), link::set_up(13, true)])?;
        for (end, name, last) in [(&left, "left", 1), (&right, "right", 2)] {
            batch(end, &[link::set_up(10, true), link::address(10, Ipv4Addr::new(10, 1, 0, last), 24)])?;
            end.run(|| ethtool::tx_checksum_off([name]))??;
        }
        let folder = tempfile::tempdir()?;
        let ovs = ns.run(|| Ovs::start(folder.path()))??;
        let host = Host { agent: None, controller: None, ovs, ns, left, right, folder };
        host.write_pid()?;
        host.configure(&format!("tcp:{AGENTS}"), "")?;
        Ok(host)
    }

    fn write_pid(&self) -> Result<()> {
        let pid = self.ovs.switchd().context("vswitchd runs")?;
        Ok(std::fs::write(self.path("vswitchd.pid"), pid.to_string())?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// agent.toml, with more lines in front of its tables.
    fn configure(&self, controller: &str, more: &str) -> Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "name = \"mini1\"\ncontroller = {controller:?}\nstate = {:?}\ncontrol = {:?}\n{more}\n\
             [ovs]\ndatabase = {:?}\npid_file = {:?}\n[[switch]]\nname = \"edge1\"\n\
             controllers = [\"tcp:127.0.0.1:9\"]\n[[switch.port]]\nnumber = 1\ninterface = \"p1\"\n\
             [[switch.port]]\nnumber = 2\ninterface = \"p2\"\n[[switch.port]]\nnumber = 3\ninterface = \"p3\"\n",
            at("state"),
            at("control.sock"),
            at("db.sock"),
            at("vswitchd.pid")
        );
        Ok(std::fs::write(self.path("agent.toml"), text)?)
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Ok(self.ns.run(|| command.output())??)
    }

    fn spawn(&self, program: &Path, arguments: &[&str], log: &str) -> Result<Process> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path(log))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Process(self.ns.run(|| command.spawn())??))
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a log has a line with these words.
    fn said(&self, log: &str, words: &str) -> Result<()> {
        wait(&format!("{log} says {words:?}"), || Ok(self.log(log).contains(words).then_some(())))
            .with_context(|| self.log(log))
    }

    fn start_agent(&mut self) -> Result<()> {
        let config = self.path("agent.toml").display().to_string();
        self.agent = Some(self.spawn(&program("tandem-agent")?, &["--config", &config], "agent.log")?);
        Ok(())
    }

    /// `tandem-agent VERB ...`: its output, and whether it succeeded.
    fn agent(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let config = self.path("agent.toml").display().to_string();
        let output = self.run(&program("tandem-agent")?, &[&["--config", &config], arguments].concat())?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    fn start_controller(&mut self, store: &str) -> Result<()> {
        std::fs::write(self.path("site.toml"), SITE)?;
        let at = |name: &str| self.path(name).display().to_string();
        let (api, openflow) = (format!("unix:{}", at("api.sock")), format!("unix:{}", at("openflow.sock")));
        let (site, store, world) = (at("site.toml"), at(store), at("world.sock"));
        let authority = format!("{store}.agents");
        let agents = format!("tcp:{AGENTS}");
        let arguments = [
            "--api",
            &api,
            "serve",
            "--site",
            &site,
            "--openflow",
            &openflow,
            "--agents",
            &agents,
            "--store",
            &store,
            "--world",
            &world,
            "--authority",
            &authority,
        ];
        self.controller = Some(self.spawn(&program("tandem")?, &arguments, "tandem.log")?);
        wait("the controller's API", || self.tandem(&["agent", "list"]).map(Some))?;
        Ok(())
    }

    fn tandem(&self, arguments: &[&str]) -> Result<Value> {
        let api = format!("unix:{}", self.path("api.sock").display());
        let output = self.run(&program("tandem")?, &[&["--api", &api, "--json"], arguments].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    fn token(&self) -> Result<String> {
        let reply = self.tandem(&["agent", "token", "mini1", "--address", AGENTS, "--switch", "edge1"])?;
        Ok(reply["token"].as_str().context("a token")?.to_owned())
    }

    fn enroll(&self) -> Result<()> {
        let (ok, text) = self.agent(&["enroll", "--token", &self.token()?])?;
        ensure!(ok, "{text}");
        Ok(())
    }

    /// What the running agent answers on its own socket.
    fn ask(&self, what: &str) -> Result<Value> {
        let stream = UnixStream::connect(self.path("control.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        writeln!(&stream, "{what}")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until the controller's latest wish is applied.
    fn applied(&self) -> Result<()> {
        wait("the agent has applied what the controller wants", || {
            let list = self.tandem(&["agent", "list"])?;
            let agent = &list[0]["agent"];
            let done = agent["connected"] == true
                && agent["generation"].as_u64() > Some(0)
                && agent["generation"] == agent["applied"];
            Ok(done.then_some(()))
        })
        .with_context(|| format!("{}{}", self.log("agent.log"), self.log("tandem.log")))
    }

    fn noticed(&self, words: &str) -> Result<()> {
        wait(&format!("the controller is told {words:?}"), || {
            let notices = self.tandem(&["notices"])?;
            let mut texts = notices.as_array().into_iter().flatten().map(Value::to_string);
            Ok(texts.any(|t| t.contains(words)).then_some(()))
        })
        .with_context(|| self.log("agent.log"))
    }

    /// The HTB classes of an interface as tc has them, sorted.
    fn classes(&self, interface: &str) -> Result<Vec<String>> {
        let output = self.run(Path::new("tc"), &["class", "show", "dev", interface])?;
        let text = String::from_utf8(output.stdout)?;
        let class = |l: &str| {
            let (id, rate) = (l.split(' ').nth(2)?, l.split(" rate ").nth(1)?.split(" burst").next()?);
            Some(format!("{id} rate {rate}"))
        };
        let mut all: Vec<String> = text.lines().filter_map(class).collect();
        all.sort();
        Ok(all)
    }

    fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        let output =
            self.run(Path::new("ovs-vsctl"), &[&[db.as_str(), "--timeout=20"], arguments].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn desired(&self, gold: u32) -> Result<String> {
        let class = |rate: u32, dscp: u32| {
            format!("[[switch.port.class]]\nrate = \"{rate} Mbit/s\"\ndscp = {dscp}\n")
        };
        let mut text = "[[switch]]\nname = \"edge1\"\ndatapath_id = \"00000000000000e1\"\ncontrollers = [\"tcp:127.0.0.1:9\"]\n".to_owned();
        for n in 1..=3 {
            text += &format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\nrate = \"10 Mbit/s\"\n");
            text += &(class(gold, 46) + &class(10 - gold, 10));
        }
        let file = self.path("desired.toml");
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

/// The number in front of `Mbit` that a class's line has for its rate.
fn rates(classes: &[String]) -> Vec<String> {
    classes.iter().filter_map(|c| Some(c.split("rate ").nth(1)?.split(' ').next()?.to_owned())).collect()
}

#[test]
fn an_agent_is_taken_in_makes_what_the_controller_wants_and_says_what_is_there() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    host.start_controller("store.sqlite")?;
    let token = host.token()?;
    let (ok, text) = host.agent(&["enroll", "--token", &token])?;
    ensure!(ok && text.contains("mini1 is enrolled"), "{text}");
    let (ok, text) = host.agent(&["enroll", "--token", &token])?;
    ensure!(!ok && text.contains("was used already"), "a token is good once: {text}");
    host.said("tandem.log", "was used already")?;

    host.start_agent()?;
    host.applied()?;
    ensure!(host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3");
    let shown = rates(&host.classes("p2")?);
    ensure!(shown == ["7Mbit", "3Mbit", "10Mbit"], "{:?}", host.classes("p2")?);

    // Shares change while it runs.
    host.tandem(&["class", "set", "gold=60", "silver=40"])?;
    wait("the kernel has the new shares", || {
        let now = rates(&host.classes("p2")?);
        Ok((now.contains(&"6Mbit".to_owned()) && now.contains(&"4Mbit".to_owned())).then_some(()))
    })?;
    host.applied()?;

    // On the switch itself.
    let (ok, text) = host.agent(&["status"])?;
    ensure!(ok && text.contains("connected") && text.contains("0 faults"), "{text}");
    let (ok, text) = host.agent(&["counters", "--json"])?;
    let counters: Value = serde_json::from_str(&text)?;
    ensure!(ok && counters[0]["ports"][0]["classes"].as_array().map(Vec::len) == Some(2), "{text}");
    for verb in ["apply", "release"] {
        let more: &[&str] = if verb == "apply" { &["desired.toml"] } else { &[] };
        let (ok, text) = host.agent(&[&[verb], more].concat())?;
        ensure!(!ok && text.contains("an agent is running here"), "{verb}: {text}");
    }
    let (ok, text) = host.agent(&[])?;
    ensure!(!ok && text.contains("an agent is running already"), "{text}");

    // `counters --watch` goes on until it is ended.
    let config = host.path("agent.toml").display().to_string();
    let mut watching = Command::new(program("tandem-agent")?);
    watching.args(["--config", &config, "counters", "--watch"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut watching = Process(host.ns.run(|| watching.spawn())??);
    let lines = BufReader::new(watching.0.stdout.take().context("its output")?).lines();
    let headings = lines.map_while(|l| l.ok()).filter(|l| l.contains("packets out")).take(2).count();
    ensure!(headings == 2, "it printed once more");
    Ok(())
}

#[test]
fn what_others_change_or_break_is_said_and_put_right() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    host.start_controller("store.sqlite")?;
    host.enroll()?;
    host.start_agent()?;
    host.applied()?;
    let as_wanted = host.classes("p2")?;
    ensure!(as_wanted.len() == 3, "{as_wanted:?}");
    let restored = |what: &str| {
        wait(what, || Ok((host.classes("p2")? == as_wanted).then_some(())))
            .with_context(|| host.log("agent.log"))
    };

    // 1. A queueing that somebody else has changed, a little and altogether.
    host.run(
        Path::new("tc"),
        &["class", "change", "dev", "p2", "parent", "1:fffe", "classid", "1:1", "htb", "rate", "1mbit"],
    )?;
    host.noticed("the queueing of p2 was changed by somebody else")?;
    restored("the class is put right")?;
    host.run(
        Path::new("tc"),
        &["qdisc", "replace", "dev", "p2", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "50ms"],
    )?;
    restored("the whole queueing is put right")?;

    // 2. A bridge's port.
    host.vsctl(&["del-port", "edge1", "p2"])?;
    host.noticed("bridges were changed by somebody else")?;
    wait("the port is back", || Ok(host.vsctl(&["list-ports", "edge1"])?.contains("p2").then_some(())))?;
    wait(
        "with its number",
        || Ok((host.vsctl(&["get", "interface", "p2", "ofport"])? == "2").then_some(())),
    )?;

    // 3. An interface that vanishes, and one of its name that comes.
    batch(&host.ns, &[link::delete(11)])?;
    host.noticed("there is no interface p2")?;
    let veth = link::Veth::new(("p2", 31, &host.ns), ("right", 10, &host.right));
    Netlink::open()?.batch(&[veth.request()])?;
    host.noticed("p2 is back")?;
    restored("its classes are there again")?;
    wait("it is a port again", || {
        Ok((host.vsctl(&["get", "interface", "p2", "ofport"])? == "2").then_some(()))
    })?;

    Ok(())
}

#[test]
fn vswitchd_may_be_restarted_and_the_agent_killed() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    let file = host.desired(7)?;
    host.configure(&format!("tcp:{AGENTS}"), &format!("initial = {file:?}"))?;
    // 1. Killed as soon as it has begun: the next one finishes it, whatever there was of it.
    host.start_agent()?;
    wait("it has begun", || Ok(host.path("state/desired.toml").exists().then_some(())))?;
    host.agent.take().context("it runs")?.kill()?;
    std::fs::remove_file(&file)?;
    std::fs::write(&file, "")?;
    host.start_agent()?;
    let applied = |host: &Host| {
        wait("applied", || Ok(Some(host.ask("status")?).filter(|s| s["applied"] == true)))
            .with_context(|| host.log("agent.log"))
    };
    let status = applied(&host)?;
    ensure!(status["faults"].as_array().is_some_and(Vec::is_empty), "{status}");
    ensure!(host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3");
    let as_wanted = host.classes("p1")?;
    ensure!(as_wanted.len() == 3, "{as_wanted:?}");

    // 2. Killed when all is done: the next one writes nothing.
    let number = host.vsctl(&["get", "open_vswitch", ".", "next_cfg"])?;
    host.agent.take().context("it runs")?.kill()?;
    let mut listener = host.ns.run(tandem_linux::tc::Listener::open)??;
    host.start_agent()?;
    let status = applied(&host)?;
    ensure!(status["changes"] == 0, "{status}");
    ensure!(listener.changed()?.is_some_and(|c| c.is_empty()), "the kernel heard of no change");
    ensure!(host.vsctl(&["get", "open_vswitch", ".", "next_cfg"])? == number, "nor did the database");

    // 3. vswitchd ends and comes back: ports have their numbers, queues are there, its new socket
    //    has room.
    let Host { ovs, ns, .. } = &mut host;
    ns.run(|| ovs.restart_switchd())??;
    host.write_pid()?;
    for (port, number) in [("p1", "1"), ("p2", "2"), ("p3", "3")] {
        wait("the port's number", || {
            Ok((host.vsctl(&["get", "interface", port, "ofport"])? == number).then_some(()))
        })?;
        // A vswitchd that starts takes away the HTB that it finds on its ports: the agent notices
        // and makes it again.
        wait("its queues are there", || Ok((host.classes(port)? == as_wanted).then_some(())))
            .with_context(|| host.log("agent.log"))?;
    }
    let status = host.ask("status")?;
    ensure!(status["faults"].as_array().is_some_and(Vec::is_empty), "{status}");

    // 4. Given back: nothing of it is left.
    let mut agent = host.agent.take().context("it runs")?;
    agent.signal(nix::sys::signal::Signal::SIGTERM)?;
    let ended = wait("it has ended", || Ok(agent.0.try_wait()?))?;
    ensure!(ended.success() && !host.path("control.sock").exists(), "{ended}");
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    ensure!(host.vsctl(&["list-br"])?.is_empty() && host.classes("p1")?.is_empty());
    Ok(())
}

#[test]
fn without_a_controller_a_file_is_applied_and_given_back_with_what_was_there_before() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let qdisc = || -> Result<String> {
        let output = host.run(Path::new("tc"), &["qdisc", "show", "dev", "p1"])?;
        Ok(String::from_utf8(output.stdout)?)
    };
    host.run(
        Path::new("tc"),
        &[
            "qdisc", "add", "dev", "p1", "root", "handle", "5:", "tbf", "rate", "2mbit", "burst", "10k",
            "latency", "50ms",
        ],
    )?;
    let before = qdisc()?;
    ensure!(before.contains("tbf"), "{before}");
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && text.contains("changes in"), "{text}");
    ensure!(rates(&host.classes("p1")?).len() == 3);
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && text.starts_with("0 changes"), "{text}");
    let (ok, text) = host.agent(&["report"])?;
    ensure!(ok && text.contains("edge1.3"), "{text}");
    let (_, text) = host.agent(&["doctor"])?;
    for word in ["HTB", "u32 filters", "Open vSwitch", "2 classes in use, 62 free", "not enrolled"] {
        ensure!(text.contains(word), "{word} in {text}");
    }
    std::fs::write(host.path("wrong.toml"), "[[switch]]\nname = \"edge1\"\ndatapath_id = \"zz\"\n")?;
    let (ok, text) = host.agent(&["apply", &host.path("wrong.toml").display().to_string()])?;
    ensure!(!ok && text.contains("line 3"), "{text}");
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    ensure!(host.vsctl(&["list-br"])?.is_empty() && qdisc()? == before, "{}", qdisc()?);

    // Classes that somebody else has made by hand are not ours to replace.
    host.run(Path::new("tc"), &["qdisc", "replace", "dev", "p1", "root", "handle", "9:", "htb"])?;
    host.run(
        Path::new("tc"),
        &["class", "add", "dev", "p1", "parent", "9:", "classid", "9:1", "htb", "rate", "1mbit"],
    )?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("p1 has a htb queueing of somebody else"), "{text}");
    ensure!(qdisc()?.contains("htb 9:") && host.classes("p2")?.len() == 3);
    Ok(())
}

/// A card that nobody configured is down: it is set up when it becomes a port, once, and down again
/// when it is given back.
#[test]
fn interfaces_are_set_up_when_they_become_ports_and_given_back_as_they_were() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let is_up = |name: &str| -> Result<bool> {
        let output = host.run(Path::new("ip"), &["-j", "link", "show", "dev", name])?;
        let shown: Value = serde_json::from_slice(&output.stdout)?;
        Ok(shown[0]["flags"].as_array().is_some_and(|f| f.iter().any(|f| f == "UP")))
    };
    let set = |name: &str, state: &str| host.run(Path::new("ip"), &["link", "set", name, state]).map(drop);
    set("p1", "down")?;
    set("p2", "down")?;
    let p3 = is_up("p3")?;
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && is_up("p1")? && is_up("p2")? && is_up("p3")?, "{text}");
    // Switched off afterwards, as OFPT_PORT_MOD does it: that is somebody's wish.
    set("p2", "down")?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && text.starts_with("0 changes") && !is_up("p2")?, "{text}");
    set("p2", "up")?;
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok && !is_up("p1")? && !is_up("p2")? && is_up("p3")? == p3, "{text}");
    Ok(())
}

/// Numbered packets from left to right until it is ended.
struct Stream(Arc<AtomicBool>, Arc<AtomicU64>, Vec<std::thread::JoinHandle<()>>);

impl Stream {
    fn start(host: &Host) -> Result<Stream> {
        let receiver = host.right.run(|| UdpSocket::bind("10.1.0.2:9000"))??;
        let sender = host.left.run(|| UdpSocket::bind("10.1.0.1:0"))??;
        receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sending, reading, count) = (stop.clone(), stop.clone(), received.clone());
        let feeder = std::thread::spawn(move || {
            while !sending.load(Ordering::Relaxed) {
                // While there is no way, ARP has no answer and the kernel says so.
                let _ = sender.send_to(b"x", "10.1.0.2:9000");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !reading.load(Ordering::Relaxed) {
                count.fetch_add(u64::from(receiver.recv(&mut buffer).is_ok()), Ordering::Relaxed);
            }
        });
        Ok(Stream(stop, received, vec![feeder, reader]))
    }

    fn wait(&self, more: u64) -> Result<()> {
        let from = self.1.load(Ordering::Relaxed);
        wait("packets arrive", || Ok((self.1.load(Ordering::Relaxed) >= from + more).then_some(())))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.2.drain(..).for_each(|t| drop(t.join()));
    }
}

#[test]
fn a_bridge_without_a_controller_is_taken_over_when_told_and_the_gap_is_measured() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let kind = format!("datapath_type={}", host.ovs.datapath().kind());
    host.vsctl(&["add-br", "edge1", "--", "set", "bridge", "edge1", &kind])?;
    for (port, number) in [("p1", "1"), ("p2", "2")] {
        host.vsctl(&[
            "add-port",
            "edge1",
            port,
            "--",
            "set",
            "interface",
            port,
            &format!("ofport_request={number}"),
        ])?;
    }
    let stream = Stream::start(&host)?;
    stream.wait(20)?;
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("forwarding would stop") && text.contains("--adopt-with-gap"), "{text}");
    ensure!(host.vsctl(&["get-controller", "edge1"])?.is_empty(), "nothing was changed");
    stream.wait(20)?;

    // Somebody who plays the controller: flows come back as soon as the old ones are gone.
    let mgmt = format!("unix:{}", host.path("edge1.mgmt").display());
    let config = host.path("agent.toml").display().to_string();
    let mut applying = Command::new(program("tandem-agent")?);
    applying.args(["--config", &config, "apply", "--adopt-with-gap", &file]).stdin(Stdio::null());
    applying.stdout(Stdio::piped()).stderr(Stdio::piped());
    let applying = host.ns.run(|| applying.spawn())??;
    wait("its flows are gone", || {
        let output = host.run(Path::new("ovs-ofctl"), &["dump-flows", &mgmt])?;
        Ok((output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("actions"))
            .then_some(()))
    })?;
    host.run(Path::new("ovs-ofctl"), &["add-flow", &mgmt, "actions=normal"])?;
    let output = applying.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("taken over although its forwarding stops"), "{text}");
    let gap = text.split("then none for ").nth(1).and_then(|t| t.split(' ').next()?.parse::<u64>().ok());
    ensure!(gap.is_some_and(|ms| ms > 0), "{text}");
    stream.wait(20)?;
    Ok(())
}

#[test]
fn the_interface_of_its_own_connection_is_never_put_into_a_bridge() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok, "{text}");
    // The controller is behind p2 from now on.
    batch(&host.ns, &[link::address(11, Ipv4Addr::new(10, 1, 0, 9), 24)])?;
    host.configure("tcp:10.1.0.2:6655", "")?;
    let classes = host.classes("p1")?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("p2 carries this agent's own connection to tcp:10.1.0.2:6655"), "{text}");
    ensure!(
        host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3" && host.classes("p1")? == classes,
        "what was there stays"
    );
    let (_, text) = host.agent(&["doctor"])?;
    ensure!(text.contains("p2 carries the connection to the controller"), "{text}");
    Ok(())
}

/// The serial number of a certificate.
fn serial(pem: &str) -> Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    Ok(pem.parse_x509()?.raw_serial().to_vec())
}

/// A certificate for the agent, by the controller's own authority, good from and until so many days
/// from now.
fn certificate(
    authority: &Path,
    name: &str,
    serial: &[u8],
    from: i64,
    until: i64,
) -> Result<(String, String)> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(authority.join("authority.key"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(authority.join("authority.crt"))?, key)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let now = time::OffsetDateTime::now_utc();
    (params.not_before, params.not_after) =
        (now + time::Duration::days(from), now + time::Duration::days(until));
    let own = KeyPair::generate()?;
    Ok((params.signed_by(&own, &issuer)?.pem(), own.serialize_pem()))
}

#[test]
fn who_is_not_let_in_is_told_why_and_the_controller_logs_it() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    host.start_controller("store.sqlite")?;
    // 1. Not enrolled.
    host.start_agent()?;
    host.said("agent.log", "tandem-agent enroll --token")?;
    // 2. Enrolled while it runs: the next attempt is let in.
    host.enroll()?;
    host.applied()?;
    // 3. Revoked.
    host.tandem(&["agent", "revoke", "mini1"])?;
    host.said("tandem.log", "was revoked")?;
    host.said("agent.log", "was revoked; to let it in again")?;
    // 4. Enrolled anew.
    host.enroll()?;
    host.applied()?;
    host.agent = None;
    // 5. Expired.
    let (authority, state) = (host.path("store.sqlite.agents"), host.path("state"));
    let current = serial(&std::fs::read_to_string(state.join("agent.crt"))?)?;
    let put = |(certificate, key): (String, String)| -> Result<()> {
        std::fs::write(state.join("agent.crt"), certificate)?;
        Ok(std::fs::write(state.join("agent.key"), key)?)
    };
    put(certificate(&authority, "mini1", &current, -100, -10)?)?;
    host.start_agent()?;
    host.said("tandem.log", "certificate expired")?;
    host.said("agent.log", "a certificate has expired: is this host's clock right")?;
    host.agent = None;
    // 6. A stranger with a name that was never enrolled, by a certificate of ours.
    put(certificate(&authority, "nobody", &current, -1, 10)?)?;
    host.start_agent()?;
    host.said("agent.log", "is not enrolled here")?;
    host.agent = None;
    // 7. Nearly expired: renewed at once, and let in by the new one.
    let old = certificate(&authority, "mini1", &current, -89, 1)?;
    put(old.clone())?;
    host.start_agent()?;
    host.said("tandem.log", "has renewed its certificate")?;
    wait("the new certificate is kept", || {
        let (now, key) = (
            std::fs::read_to_string(state.join("agent.crt"))?,
            std::fs::read_to_string(state.join("agent.key"))?,
        );
        Ok((now != old.0 && key != old.1).then_some(()))
    })?;
    host.agent = None;
    host.start_agent()?;
    host.applied()?;
    // 8. Garbage on the agents' port, TLS that never comes, and a lot of it.
    let before = host.log("tandem.log").matches("refused").count();
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0x16, 3, 1, 255, 255]] {
        let mut stream = host.ns.run(|| TcpStream::connect(AGENTS))??;
        stream.write_all(words)?;
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    wait("it is logged", || {
        Ok((host.log("tandem.log").matches("refused").count() >= before + 3).then_some(()))
    })?;
    host.applied()?;
    // 9. A controller with another authority.
    host.controller = None;
    host.start_controller("other.sqlite")?;
    host.said("agent.log", "another authority than the one this host was enrolled with")?;
    host.said("tandem.log", "refused")?;
    ensure!(
        host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3" && host.classes("p2")?.len() == 3,
        "what was applied stays"
    );
    Ok(())
}

/// Resident memory, kB.
fn memory(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

#[test]
fn a_controller_that_does_not_read_costs_the_agent_nothing() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    host.start_controller("store.sqlite")?;
    host.enroll()?;
    host.start_agent()?;
    host.applied()?;
    let pid = host.agent.as_ref().context("it runs")?.0.id();
    for _ in 0..200 {
        host.ask("report")?;
    }
    let before = memory(pid)?;
    let controller = host.controller.take().context("it runs")?;
    controller.signal(nix::sys::signal::Signal::SIGSTOP)?;
    wait("the agent gives the silent controller up", || {
        Ok((host.ask("status")?["connected"] == false).then_some(()))
    })
    .with_context(|| host.log("agent.log"))?;
    for _ in 0..200 {
        host.ask("report")?;
    }
    let after = memory(pid)?;
    ensure!(after < before + 2048, "it grew from {before} to {after} kB");
    ensure!(host.classes("p2")?.len() == 3, "what was applied stays");
    controller.signal(nix::sys::signal::Signal::SIGCONT)?;
    host.controller = Some(controller);
    wait("it is back", || Ok((host.ask("status")?["connected"] == true).then_some(())))
        .with_context(|| host.log("agent.log"))?;
    Ok(())
}
