//! The soft switch in its agent, on links between namespaces that these tests create: forwarding,
//! restarts, a second agent, links that flap, controllers that connect and vanish. Flows are
//! installed over the switch's own socket, as a controller does it.

mod support;

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use support::{Talk, is_root, wait};
use tandem_linux::link::{self, Veth};
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;
use tandem_openflow::of13::{Action, Field, FlowMod, Instruction, Match, Message};
use tandem_openflow::wire::Pad;
use tandem_openflow::{header, of13};

fn batch(ns: &NetNs, requests: &[Request]) {
    ns.run(|| Netlink::open().and_then(|mut n| n.batch(requests))).expect("a namespace").expect("consent");
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A switch host: `left` - p1, p2 - `right`, on which tests start agents.
struct Host {
    ns: NetNs,
    left: NetNs,
    right: NetNs,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let mut all = NetNs::many(3, link::disable_ipv6).expect("namespaces");
        let mut next = || all.pop().expect("three");
        let (right, left, ns) = (next(), next(), next());
        let host = Host { ns, left, right, folder: tempfile::tempdir().expect("a folder") };
        host.cable(1, &host.left, 10);
        host.cable(2, &host.right, 20);
        host
    }

    /// Creates port N's interface, down like an unconfigured card, and the other end.
    fn cable(&self, n: u8, end: &NetNs, index: u32) {
        // Fixed addresses, so that no ARP is needed after a change.
        let veth =
            Veth::new(("eth0", 10, end), (&format!("p{n}"), index, &self.ns)).mac_a([2, 0, 0, 0, 0, n]);
        Netlink::open().and_then(|mut n| n.batch(&[veth.request()])).expect("a cable");
        batch(end, &[link::address(10, Ipv4Addr::new(10, 1, 0, n), 24)]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the files of an agent of that name, with controllers for its switch.
    fn configure(&self, name: &str, controllers: &str) {
        let at = |what: &str| format!("{:?}", self.path(&format!("{name}.{what}")).display().to_string());
        let ports = "[[switch.port]]\nnumber = 1\ninterface = \"p1\"\n[[switch.port]]\nnumber = 2\ninterface = \"p2\"\n";
        let config = format!(
            "name = \"{name}\"\ncontroller = \"unix:/nowhere\"\nstate = {}\ncontrol = {}\ninitial = {}\n[ovs]\ndatabase = {}\n\
             [[switch]]\nname = \"edge1\"\ndatapath = \"soft\"\n{ports}",
            at("state"),
            at("control"),
            at("initial"),
            at("no-database"),
        );
        let classes = "rate = \"10 Mbit/s\"\n[[switch.port.class]]\nrate = \"7 Mbit/s\"\ndscp = 46\n[[switch.port.class]]\n\
                       rate = \"3 Mbit/s\"\ndscp = 10\n";
        let initial = format!(
            "[[switch]]\nname = \"edge1\"\ndatapath_id = \"0000000000000001\"\ncontrollers = [{controllers}]\n{ports}{classes}"
        );
        std::fs::write(self.path(&format!("{name}.toml")), config).expect("a file");
        std::fs::write(self.path(&format!("{name}.initial")), initial).expect("a file");
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-agent"));
        command.arg("--config").arg(self.path(&format!("{name}.toml"))).stdin(Stdio::null());
        command
    }

    fn start(&self, name: &str) -> Agent {
        let log = std::fs::OpenOptions::new().create(true).append(true).clone();
        let log = log.open(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.command(name);
        command.stdout(Stdio::null()).stderr(log);
        Agent(self.ns.run(|| command.spawn()).expect("a namespace").expect("a process"))
    }

    /// Runs `tandem-agent VERB ...`; returns whether it succeeded, and its output.
    fn say(&self, name: &str, words: &[&str]) -> (bool, String) {
        let mut command = self.command(name);
        command.args(words);
        let output = self.ns.run(|| command.output()).expect("a namespace").expect("a process");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn applied(&self, name: &str) -> serde_json::Value {
        wait("a desired state is applied", || {
            let (good, text) = self.say(name, &["--json", "status"]);
            let status: serde_json::Value = serde_json::from_str(&text).ok().filter(|_| good)?;
            (status["applied"] == true).then_some(status)
        })
    }

    fn talk(&self, name: &str) -> Talk {
        let socket = self.path(&format!("{name}.state/soft/edge1.mgmt"));
        Talk::over(wait("the switch's socket", || UnixStream::connect(&socket).ok()))
    }

    /// One ping from left to right.
    fn ping(&self) -> bool {
        let mut command = Command::new("ping");
        command.args(["-c", "1", "-W", "1", "10.1.0.2"]).stdout(Stdio::null()).stderr(Stdio::null());
        self.left.run(|| command.status()).expect("a namespace").expect("ping").success()
    }
}

/// Installs flows from port 1 to port 2 by a queue, and back.
fn install(talk: &mut Talk, queue: Option<u32>) {
    for (from, to) in [(1, 2), (2, 1)] {
        let queue = queue.filter(|_| to == 2).map(Action::SetQueue);
        let output = Action::Output { port: to, max_len: 0, pad: Pad::default() };
        let actions = queue.into_iter().chain([output]).collect();
        talk.send(&Message::FlowMod(FlowMod {
            cookie: 5,
            cookie_mask: 0,
            table_id: 0,
            command: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            priority: 100,
            buffer_id: u32::MAX,
            out_port: u32::MAX,
            out_group: u32::MAX,
            flags: 0,
            pad: Pad::default(),
            matching: Match { fields: vec![Field::InPort(from)] },
            instructions: vec![Instruction::ApplyActions(Pad::default(), actions)],
        }));
    }
    talk.barrier();
}

#[test]
fn it_forwards_by_its_flows_and_goes_on_by_them_in_the_next_process() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.configure("a", "");
    let (good, text) = host.say("a", &["apply", &host.path("a.initial").display().to_string()]);
    assert!(!good && text.contains("lives in the agent that runs"), "{text}");

    let agent = host.start("a");
    assert_eq!(host.applied("a")["faults"], serde_json::json!([]));
    assert!(!host.ping(), "without flows nothing is forwarded");
    install(&mut host.talk("a"), Some(1));
    wait("packets from left to right", || host.ping().then_some(()));

    // The flow's queue is the port's class, as the kernel's counters show; the other class has sent
    // nothing.
    let classes = host.say("a", &["counters"]).1;
    let packets = |queue: &str| {
        let line = classes.lines().find(|l| l.contains(queue)).expect("a class");
        line.split_whitespace().nth(3).and_then(|n| n.parse::<u64>().ok()).expect("packets")
    };
    assert!(packets("queue 1") > 0 && packets("queue 0") == 0, "{classes}");
    let flows = host.say("a", &["flows", "edge1"]).1;
    assert!(
        flows.contains("in_port=1 actions=set_queue:1,output:2") && flows.contains("in=software"),
        "{flows}"
    );
    let (good, text) = host.say("a", &["flows", "edge2"]);
    assert!(!good && text.contains("edge2"), "{text}");

    // When the agent is killed, the switch ends with the process; the next one forwards by the same
    // flows without a controller.
    let kept = || std::fs::metadata(host.path("a.state/soft/edge1.flows")).is_ok_and(|m| m.len() > 100);
    wait("its flows are kept", || kept().then_some(()));
    drop(agent);
    assert!(!host.ping(), "a switch lives in its process");
    let agent = host.start("a");
    wait("packets by the flows that were kept", || host.ping().then_some(()));
    drop(agent);

    let (good, text) = host.say("a", &["release"]);
    assert!(good, "{text}");
    assert!(!host.path("a.state/soft/edge1.flows").exists());
    let shown = host.ns.run(|| Command::new("tc").args(["qdisc", "show", "dev", "p2"]).output());
    let shown = String::from_utf8_lossy(&shown.expect("a namespace").expect("tc").stdout).into_owned();
    assert!(!shown.contains("htb"), "{shown}");
}

#[test]
fn a_second_agent_on_the_same_ports_is_refused_until_the_first_is_gone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.configure("a", "");
    host.configure("b", "");
    let first = host.start("a");
    host.applied("a");
    install(&mut host.talk("a"), None);
    wait("packets by the first", || host.ping().then_some(()));
    let _second = host.start("b");
    let faults = host.applied("b")["faults"].to_string();
    for port in ["port 1", "port 2"] {
        assert!(faults.contains(port) && faults.contains("another agent's switch"), "{faults}");
    }
    assert!(host.ping(), "the first goes on");
    install(&mut host.talk("b"), None);
    drop(first);
    // The queueing of a killed agent is recorded in its own folder only: for the second agent it is
    // foreign until it is released.
    wait("the first's queueing is said to be in the way", || {
        let (_, text) = host.say("b", &["status"]);
        text.contains("a htb queueing of somebody else").then_some(())
    });
    let (good, text) = host.say("a", &["release"]);
    assert!(good, "{text}");
    // The second agent tries again every few seconds.
    wait("packets by the second", || host.ping().then_some(()));
}

#[test]
fn links_that_flap_and_interfaces_that_come_back_are_told_and_used_again() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.configure("a", "");
    let _agent = host.start("a");
    host.applied("a");
    install(&mut host.talk("a"), None);
    wait("packets", || host.ping().then_some(()));
    let mut talk = host.talk("a");
    talk.barrier();
    // OFPT_PORT_STATUS (OF 1.3.5 section 7.4.3): the reason at 8, the port from 16 on: its number,
    // its state at 36.
    let seen = |m: &[u8]| (m[8], m[19], m[16 + 39] & 1);
    let mut last = Vec::new();
    for _ in 0..3 {
        batch(&host.right, &[link::set_up(10, false)]);
        assert_eq!(seen(&talk.until(12)), (of13::port::reason::MODIFY, 2, 1), "port 2 has no link");
        batch(&host.right, &[link::set_up(10, true)]);
        last = talk.until(12);
        assert_eq!(seen(&last), (of13::port::reason::MODIFY, 2, 0), "it has one again");
    }
    wait("packets again", || host.ping().then_some(()));

    // A controller turns the port off, and on.
    let mac = last[24..30].try_into().expect("six bytes");
    for (config, answers) in [(1, false), (0, true)] {
        talk.send(&Message::PortMod(of13::PortMod {
            port_no: 2,
            pad: Pad::default(),
            hw_addr: tandem_model::Mac(mac),
            pad2: Pad::default(),
            config,
            mask: 1,
            advertise: 0,
            pad3: Pad::default(),
        }));
        talk.barrier();
        wait("the port is as it was told", || (host.ping() == answers).then_some(()));
    }

    // The interface is removed, and another one gets its name.
    batch(&host.right, &[link::delete(10)]);
    while talk.until(12)[8] != of13::port::reason::DELETE {}
    assert!(!host.ping());
    host.cable(2, &host.right, 33);
    wait("packets by the new interface", || host.ping().then_some(()));
    wait("its classes", || host.say("a", &["counters"]).1.contains("queue 1").then_some(()));
}

#[test]
fn controllers_are_dialled_again_and_bad_ones_do_no_harm() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let socket = host.path("controller.sock");
    host.configure("a", &format!("{:?}", format!("unix:{}", socket.display())));
    let _agent = host.start("a");
    host.applied("a");
    install(&mut host.talk("a"), None);
    let shown = || host.say("a", &["flows"]).1;
    wait("it says why it is not connected", || shown().contains("No such file").then_some(()));

    let listener = UnixListener::bind(&socket).expect("a socket");
    let accept = || listener.accept().expect("a connection").0;
    // A controller that speaks another protocol, and one that closes in the middle of a message.
    let mut stream = accept();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a connection");
    drop(stream);
    let mut stream = accept();
    stream.write_all(&[header::V13, 0, 0, 8, 0, 0, 0, 1, header::V13, 14, 0, 200]).expect("a connection");
    drop(stream);
    let mut talk = Talk::over(accept());
    talk.barrier();
    wait("connected", || shown().contains(": connected").then_some(()));
    drop(talk);
    // Flows stay when a controller is lost, and the next connection finds them.
    wait("packets", || host.ping().then_some(()));
    let mut talk = Talk::over(accept());
    talk.barrier();
    assert!(shown().contains("2 flows"), "{}", shown());
}

/// Members of a bridge, and of a bond and a team if the kernel has those drivers, as the kernel
/// reports them.
#[test]
fn interfaces_that_serve_another_are_named_with_what_to_do() {
    if !is_root() {
        return;
    }
    for (kind, place) in [
        ("bridge", "port of the kernel's bridge m0"),
        ("bond", "part of the bond m0"),
        ("team", "part of the team m0"),
    ] {
        let host = Host::new();
        let ip = |words: &[&str]| {
            host.ns.run(|| Command::new("ip").args(words).output()).expect("a namespace").expect("ip")
        };
        let made = ip(&["link", "add", "m0", "type", kind]);
        if !made.status.success() {
            // A missing driver is no failure, not even in CI.
            eprintln!("skipped: this kernel has no {kind}: {}", String::from_utf8_lossy(&made.stderr).trim());
            continue;
        }
        // A bond accepts only interfaces that are down.
        assert!(ip(&["link", "set", "p1", "down"]).status.success());
        let joined = ip(&["link", "set", "p1", "master", "m0"]);
        assert!(joined.status.success(), "{kind}: {}", String::from_utf8_lossy(&joined.stderr));
        host.configure("mini1", "");
        let (ok, text) = host.say("mini1", &["doctor"]);
        assert!(!ok && text.contains(place) && text.contains("ip link set p1 nomaster"), "{kind}: {text}");
        let there = ip(&["-o", "link", "show", "p1"]);
        assert!(String::from_utf8_lossy(&there.stdout).contains("master m0"), "{kind}: it was taken out");
        // The advice helps.
        assert!(ip(&["link", "set", "p1", "nomaster"]).status.success());
        let (_, text) = host.say("mini1", &["doctor"]);
        assert!(!text.contains(place), "{kind}: {text}");
    }
}
