//! A switch host of its own: a namespace with a private Open vSwitch, the agent in it, and, where a
//! test is about both, the real controller.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_linux::{ethtool, link};
use tandem_tests::{program, wait};

/// Where the controller listens for agents, inside the host's namespace.
pub(crate) const AGENTS: &str = "127.0.0.1:6655";

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
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id().cast_signed()), signal)?)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
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
pub(crate) struct Host {
    pub(crate) agent: Option<Process>,
    pub(crate) controller: Option<Process>,
    pub(crate) ovs: Ovs,
    pub(crate) ns: NetNs,
    pub(crate) left: NetNs,
    pub(crate) right: NetNs,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn batch(ns: &NetNs, requests: &[tandem_linux::netlink::Request]) -> Result<()> {
    Ok(ns.run(|| Netlink::open().and_then(|mut n| n.batch(requests)))??)
}

impl Host {
    /// With a controller, and an agent that is enrolled there and has made what it was told to.
    pub(crate) fn attached() -> Result<Host> {
        let mut host = Host::new()?;
        host.start_controller("store.sqlite")?;
        host.enroll()?;
        host.start_agent()?;
        host.applied()?;
        Ok(host)
    }

    pub(crate) fn new() -> Result<Host> {
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

    pub(crate) fn write_pid(&self) -> Result<()> {
        let pid = self.ovs.switchd().context("vswitchd runs")?;
        Ok(std::fs::write(self.path("vswitchd.pid"), pid.to_string())?)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// agent.toml, with more lines in front of its tables.
    pub(crate) fn configure(&self, controller: &str, more: &str) -> Result<()> {
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

    pub(crate) fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Ok(self.ns.run(|| command.output())??)
    }

    pub(crate) fn spawn(&self, program: &Path, arguments: &[&str], log: &str) -> Result<Process> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path(log))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Process(self.ns.run(|| command.spawn())??))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a log has a line with these words.
    pub(crate) fn said(&self, log: &str, words: &str) -> Result<()> {
        wait(&format!("{log} says {words:?}"), || Ok(self.log(log).contains(words).then_some(())))
            .with_context(|| self.log(log))
    }

    pub(crate) fn start_agent(&mut self) -> Result<()> {
        let config = self.path("agent.toml").display().to_string();
        self.agent = Some(self.spawn(&program("tandem-agent")?, &["--config", &config], "agent.log")?);
        Ok(())
    }

    /// `tandem-agent VERB ...`: its output, and whether it succeeded.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let config = self.path("agent.toml").display().to_string();
        let output = self.run(&program("tandem-agent")?, &[&["--config", &config], arguments].concat())?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    pub(crate) fn start_controller(&mut self, store: &str) -> Result<()> {
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

    pub(crate) fn tandem(&self, arguments: &[&str]) -> Result<Value> {
        let api = format!("unix:{}", self.path("api.sock").display());
        let output = self.run(&program("tandem")?, &[&["--api", &api, "--json"], arguments].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    pub(crate) fn token(&self) -> Result<String> {
        let reply = self.tandem(&["agent", "token", "mini1", "--address", AGENTS, "--switch", "edge1"])?;
        Ok(reply["token"].as_str().context("a token")?.to_owned())
    }

    pub(crate) fn enroll(&self) -> Result<()> {
        let (ok, text) = self.agent(&["enroll", "--token", &self.token()?])?;
        ensure!(ok, "{text}");
        Ok(())
    }

    /// What the running agent answers on its own socket.
    pub(crate) fn ask(&self, what: &str) -> Result<Value> {
        let stream = UnixStream::connect(self.path("control.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        writeln!(&stream, "{what}")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until the controller's latest wish is applied.
    pub(crate) fn applied(&self) -> Result<()> {
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

    pub(crate) fn noticed(&self, words: &str) -> Result<()> {
        wait(&format!("the controller is told {words:?}"), || {
            let notices = self.tandem(&["notices"])?;
            let mut texts = notices.as_array().into_iter().flatten().map(Value::to_string);
            Ok(texts.any(|t| t.contains(words)).then_some(()))
        })
        .with_context(|| self.log("agent.log"))
    }

    /// The HTB classes of an interface as tc has them, sorted.
    pub(crate) fn classes(&self, interface: &str) -> Result<Vec<String>> {
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

    pub(crate) fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        let output =
            self.run(Path::new("ovs-vsctl"), &[&[db.as_str(), "--timeout=20"], arguments].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn desired(&self, gold: u32) -> Result<String> {
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
pub(crate) fn rates(classes: &[String]) -> Vec<String> {
    classes.iter().filter_map(|c| Some(c.split("rate ").nth(1)?.split(' ').next()?.to_owned())).collect()
}
