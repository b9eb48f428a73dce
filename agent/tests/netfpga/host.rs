//! A switch host: ports 1 and 2 are ports 0 and 1 of a card, ports 3 and 4 plain NICs; a namespace
//! at the other end of each.

use crate::support::{Talk, wait};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tandem_agent::datapath::soft::SwitchDump;
use tandem_linux::link::{self, Veth};
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;
use tandem_linux::packet::{Batch, Receiver, Transmitter};
use tandem_model::Time;

pub(crate) struct Agent(Child);

impl Drop for Agent {
    /// Kills it.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// Ends it as systemd does.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a process");
        wait("the agent ends", || self.0.try_wait().expect("a process"));
    }
}

/// The switch host of a test.
pub(crate) struct Host {
    ns: NetNs,
    ends: Vec<NetNs>,
    folder: tempfile::TempDir,
}

impl Drop for Host {
    /// A failure prints the agents' logs.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["a", "b"] {
                let log = self.log(name);
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(40);
                eprintln!("{name}: {}", lines.get(from..).unwrap_or_default().join("\n"));
            }
        }
    }
}

impl Host {
    pub(crate) fn new() -> Host {
        let mut all = NetNs::many(5, link::disable_ipv6).expect("namespaces");
        let ns = all.pop().expect("five");
        let host = Host { ns, ends: all, folder: tempfile::tempdir().expect("a folder") };
        for (n, end) in (1u8..).zip(&host.ends) {
            // Static neighbours, so that no ARP disturbs a test.
            let veth = Veth::new(("eth0", 10, end), (&format!("p{n}"), 10 * u32::from(n), &host.ns))
                .mac_a([2, 0, 0, 0, 0, n]);
            Netlink::open().and_then(|mut n| n.batch(&[veth.request()])).expect("a cable");
            Host::batch(end, &[link::address(10, Ipv4Addr::new(10, 1, 0, n), 24)]);
        }
        host
    }

    fn batch(ns: &NetNs, requests: &[Request]) {
        ns.run(|| Netlink::open().and_then(|mut n| n.batch(requests)))
            .expect("a namespace")
            .expect("consent");
    }

    pub(crate) fn end(&self, port: u32) -> &NetNs {
        &self.ends[port as usize - 1]
    }

    /// Turns the other end of a port on or off.
    pub(crate) fn plug(&self, port: u32, up: bool) {
        Host::batch(self.end(port), &[link::set_up(10, up)]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration of an agent; `card` is the content of [switch.card].
    pub(crate) fn configure(&self, name: &str, card: &str) {
        let at = |what: &str| format!("{:?}", self.path(&format!("{name}.{what}")).display().to_string());
        let port = |n: u8| format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\n");
        let of_card = |n: u8| format!("{}card_port = {}\n", port(n), n - 1);
        let config = format!(
            "name = \"{name}\"\ncontroller = \"unix:/nowhere\"\nstate = {}\ncontrol = {}\ninitial = {}\n[ovs]\ndatabase = {}\n\
             [[switch]]\nname = \"core1\"\ndatapath = \"netfpga\"\n[switch.card]\n{card}\n{}{}{}{}",
            at("state"),
            at("control"),
            at("initial"),
            at("no-database"),
            of_card(1),
            of_card(2),
            port(3),
            port(4),
        );
        let ports: String = (1..=4).map(port).collect();
        let initial = format!(
            "[[switch]]\nname = \"core1\"\ndatapath_id = \"0000000000000001\"\ncontrollers = []\n{ports}"
        );
        std::fs::write(self.path(&format!("{name}.toml")), config).expect("a file");
        std::fs::write(self.path(&format!("{name}.initial")), initial).expect("a file");
    }

    /// A host whose card is in the agent's memory.
    pub(crate) fn with_model(options: &str) -> (Host, Agent) {
        let host = Host::new();
        host.configure("a", &format!("device = \"model\"\nprofile = \"openflow-switch\"\n{options}"));
        let agent = host.start("a");
        assert_eq!(host.applied("a"), serde_json::json!([]));
        (host, agent)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-agent"));
        command.arg("--config").arg(self.path(&format!("{name}.toml"))).stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, name: &str) -> Agent {
        let log = std::fs::OpenOptions::new().create(true).append(true).clone();
        let log = log.open(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.command(name);
        command.stdout(Stdio::null()).stderr(log);
        Agent(self.ns.run(|| command.spawn()).expect("a namespace").expect("a process"))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Runs `tandem-agent VERB ...`; returns whether it succeeded, and its output.
    pub(crate) fn say(&self, name: &str, words: &[&str]) -> (bool, String) {
        let mut command = self.command(name);
        command.args(words);
        let output = self.ns.run(|| command.output()).expect("a namespace").expect("a process");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until the first desired state is applied; returns the faults.
    pub(crate) fn applied(&self, name: &str) -> serde_json::Value {
        wait("a desired state is applied", || {
            let (good, text) = self.say(name, &["--json", "status"]);
            let status: serde_json::Value = serde_json::from_str(&text).ok().filter(|_| good)?;
            (status["applied"] == true).then(|| status["faults"].clone())
        })
    }

    /// The state of the switch, once it runs.
    pub(crate) fn view(&self, name: &str) -> SwitchDump {
        wait("the switch's view", || {
            let (good, text) = self.say(name, &["--json", "flows"]);
            let views: Vec<(String, SwitchDump)> = serde_json::from_str(&text).ok().filter(|_| good)?;
            views.into_iter().next().map(|(_, view)| view)
        })
    }

    /// The place of each flow, by cookie.
    pub(crate) fn places(&self, name: &str) -> std::collections::BTreeMap<u64, String> {
        let flows = self.view(name).flows;
        flows.into_iter().map(|f| (f.cookie, f.place.unwrap_or_default())).collect()
    }

    /// Waits until a line about the card has this text.
    pub(crate) fn shows(&self, name: &str, words: &str) -> String {
        wait(words, || self.view(name).about.into_iter().find(|line| line.contains(words)))
    }

    pub(crate) fn talk(&self, name: &str) -> Talk {
        let socket = self.path(&format!("{name}.state/netfpga/core1.mgmt"));
        Talk::over(wait("the switch's socket", || UnixStream::connect(&socket).ok()))
    }

    /// Pings from the end of a port to that of another in quick succession; returns the number of
    /// replies.
    pub(crate) fn ping(&self, from: u32, to: u32, count: u32) -> u32 {
        let mut command = Command::new("ping");
        command.args(["-c", &count.to_string(), "-i", "0.2", "-W", "1", &format!("10.1.0.{to}")]);
        let output = self.end(from).run(|| command.output()).expect("a namespace").expect("ping");
        String::from_utf8_lossy(&output.stdout).matches("bytes from").count() as u32
    }

    /// Waits until the ends of two ports reach each other.
    pub(crate) fn reach(&self, from: u32, to: u32) {
        wait(&format!("packets from {from} to {to}"), || (self.ping(from, to, 1) == 1).then_some(()));
    }

    /// Sends a frame from the end of a port.
    pub(crate) fn send(&self, port: u32, frame: &[u8]) {
        let send = || Transmitter::open(10, 0).map(|mut t| t.send(frame, &[(0, frame.len() as u32)]));
        self.end(port).run(send).expect("a namespace").expect("a socket").expect("it is taken");
    }

    /// Sends frames from the end of a port, in one call.
    pub(crate) fn send_all(&self, port: u32, frames: &[Vec<u8>]) {
        let mut ends = Vec::new();
        for frame in frames {
            let start = ends.last().map_or(0, |(_, end)| *end);
            ends.push((start, start + frame.len() as u32));
        }
        let send = || Transmitter::open(10, 0).map(|mut t| t.send(&frames.concat(), &ends));
        self.end(port).run(send).expect("a namespace").expect("a socket").expect("they are taken");
    }

    /// Repeats `work` until a frame comes out at the end of a port.
    pub(crate) fn hears(&self, port: u32, frame: &[u8], mut work: impl FnMut() + Send) {
        let hear = || {
            let mut receiver = Receiver::open("eth0", 10).expect("a socket");
            let mut batch = Batch::new(1500);
            work();
            wait("the frame", || {
                batch.clear();
                receiver.receive(&mut batch, 0).expect("a socket");
                batch.frames().any(|(_, f)| f == frame).then_some(())
            });
        };
        self.end(port).run(hear).expect("a namespace");
    }
}

/// The present time for a model.
pub(crate) fn now() -> Time {
    tandem_fpga_card::memory_card::now()
}
