//! A switch host of a test, and its agent.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tandem_linux::link;
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_tests::{program, wait};

/// A switch host with three cables: p1, p2 and p3. Daemons go before the folder.
pub(crate) struct Host {
    ovs: Ovs,
    ns: NetNs,
    folder: tempfile::TempDir,
}

fn batch(ns: &NetNs, requests: &[Request]) -> Result<()> {
    Ok(ns.run(|| Netlink::open().and_then(|mut n| n.batch(requests)))??)
}

impl Host {
    pub(crate) fn new() -> Result<Host> {
        let ns = NetNs::many(1, link::disable_ipv6)?.pop().context("a namespace")?;
        let veth = |n: u32| {
            let (near, far) = (format!("p{n}"), format!("far{n}"));
            link::Veth::new((&near, 10 + n, &ns), (&far, 20 + n, &ns)).request()
        };
        Netlink::open()?.batch(&[veth(1), veth(2), veth(3)])?;
        batch(&ns, &[1, 11, 12, 13, 21, 22, 23].map(|index| link::set_up(index, true)))?;
        let folder = tempfile::tempdir()?;
        let ovs = ns.run(|| Ovs::start(folder.path()))??;
        let host = Host { ovs, ns, folder };
        std::fs::write(host.path("vswitchd.pid"), host.ovs.switchd().context("vswitchd runs")?.to_string())?;
        host.configure("edge1", "")?;
        Ok(host)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, switch: &str, ovs: &str) -> Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let mut text = format!(
            "name = \"mini1\"\ncontroller = \"unix:{}\"\nstate = {:?}\ncontrol = {:?}\n[ovs]\ndatabase = {:?}\npid_file = {:?}\n{ovs}\n\
             [[switch]]\nname = {switch:?}\n",
            at("nobody.sock"),
            at("state"),
            at("control.sock"),
            at("db.sock"),
            at("vswitchd.pid")
        );
        for n in 1..=3 {
            text += &format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\n");
        }
        Ok(std::fs::write(self.path("agent.toml"), text)?)
    }

    /// A file that wants a switch with these ports, each with two classes.
    pub(crate) fn desired(&self, switch: &str, ports: &[u32]) -> Result<String> {
        let mut text = format!(
            "[[switch]]\nname = {switch:?}\ndatapath_id = \"00000000000000e1\"\ncontrollers = [\"tcp:127.0.0.1:9\"]\n"
        );
        for n in ports {
            text += &format!(
                "[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\nrate = \"20 Mbit/s\"\n\
                 [[switch.port.class]]\nrate = \"12 Mbit/s\"\ndscp = 46\n[[switch.port.class]]\nrate = \"8 Mbit/s\"\ndscp = 10\n"
            );
        }
        let file = self.path("desired.toml");
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Ok(self.ns.run(|| command.output())??)
    }

    /// What a tool prints, which has to succeed.
    pub(crate) fn text(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(program, arguments)?;
        ensure!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        self.text("ovs-vsctl", &[&[db.as_str(), "--timeout=20"], arguments].concat())
    }

    pub(crate) fn agent(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let config = self.path("agent.toml").display().to_string();
        let agent = program("tandem-agent")?.display().to_string();
        let output = self.run(&agent, &[&["--config", &config], arguments].concat())?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// A bridge that somebody has made by hand, with a controller, so that it can be taken over
    /// without a gap.
    pub(crate) fn foreign_bridge(&self, name: &str, ports: &[&str]) -> Result<()> {
        let kind = format!("datapath_type={}", self.ovs.datapath().kind());
        self.vsctl(&["add-br", name, "--", "set", "bridge", name, &kind])?;
        for port in ports {
            let number = port.trim_start_matches('p');
            let request = format!("ofport_request={number}");
            self.vsctl(&["add-port", name, port, "--", "set", "interface", port, &request])?;
        }
        self.vsctl(&["set-controller", name, "tcp:127.0.0.1:8"])?;
        self.vsctl(&["set-fail-mode", name, "secure"])?;
        Ok(())
    }

    /// Open vSwitch's own queueing on a port: two queues of 7 and 3 Mbit/s.
    pub(crate) fn linux_htb(&self, port: &str) -> Result<()> {
        self.vsctl(&[
            "set",
            "port",
            port,
            "qos=@qos",
            "--",
            "--id=@qos",
            "create",
            "qos",
            "type=linux-htb",
            "other-config:max-rate=10000000",
            "external_ids:whose=theirs",
            "queues:0=@a",
            "queues:1=@b",
            "--",
            "--id=@a",
            "create",
            "queue",
            "other-config:min-rate=7000000",
            "dscp=46",
            "--",
            "--id=@b",
            "create",
            "queue",
            "other-config:min-rate=3000000",
            "other-config:max-rate=9000000",
        ])?;
        wait("vswitchd has made the classes", || Ok(self.tc(port)?.contains("7Mbit").then_some(())))
    }

    /// Queueing of an interface without its counters.
    pub(crate) fn tc(&self, interface: &str) -> Result<String> {
        let mut all = String::new();
        for what in ["qdisc", "class", "filter"] {
            all += &self.text("tc", &[what, "show", "dev", interface])?;
            all.push('\n');
        }
        let counters = ["direct_packets_stat", "refcnt"];
        let lines = all.lines().map(|line| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            while let Some(at) = words.iter().position(|w| counters.contains(w)) {
                words.drain(at..(at + 2).min(words.len()));
            }
            words.join(" ")
        });
        // The kernel's own choice, which it shows once an interface was up.
        let mut lines: Vec<String> =
            lines.filter(|l| !l.is_empty() && !l.starts_with("qdisc noqueue 0:")).collect();
        lines.sort();
        Ok(lines.join("\n"))
    }

    /// All that somebody can have set, in the database and in the kernel.
    pub(crate) fn everything(&self) -> Result<String> {
        let mut all = String::new();
        for columns in [
            &["list", "qos"][..],
            &["list", "queue"],
            &["--columns=_uuid,name,qos,interfaces,external_ids,other_config", "list", "port"],
            &["--columns=name,ofport_request,external_ids", "list", "interface"],
            &["--columns=name,fail_mode,protocols,datapath_type,other_config,external_ids", "list", "bridge"],
            &["--columns=target,max_backoff,inactivity_probe", "list", "controller"],
        ] {
            let text = self.vsctl(columns)?;
            let mut rows: Vec<&str> = text.split("\n\n").collect();
            rows.sort_unstable();
            all += &rows.join("\n\n");
            all.push('\n');
        }
        for port in ["p1", "p2", "p3"] {
            all += &self.tc(port)?;
            let shown = self.text("ip", &["-o", "link", "show", "dev", port])?;
            let flags = shown.split('<').nth(1).and_then(|t| t.split('>').next()).unwrap_or_default();
            all += &format!("\n{port} up: {}\n", flags.split(',').any(|f| f == "UP"));
        }
        Ok(all)
    }

    /// Waits until all is as it was: vswitchd takes a moment for its own queueing.
    pub(crate) fn is_again(&self, before: &str, what: &str) -> Result<()> {
        wait(what, || Ok((self.everything()? == before).then_some(())))
            .with_context(|| format!("now:\n{}\nbefore:\n{before}", self.everything().unwrap_or_default()))
    }

    pub(crate) fn records(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.path("state").join(name)).unwrap_or_default();
        format!("{}{}", read("queueing.json"), read("interfaces.json"))
    }
}
