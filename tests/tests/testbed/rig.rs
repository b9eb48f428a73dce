//! A testbed of namespaces: machines with an sshd each, cabled by veth pairs as a site says, on a
//! control network of their own.
//!
//! All of it is in one network, mount and process namespace, in which the test runs again by
//! itself: when its first process ends, however it ends, everything is gone. The test is the
//! controller's machine there. The switches' machine has an Open vSwitch and an agent.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tandem_model::{Endpoint, NodeId, Site, site};
use tandem_tests::{program, wait};

/// The controller's address on the control network.
const CONTROLLER: &str = "10.99.0.1";
/// Temporary files of the programs under test, gone with the namespaces: those that are killed
/// leave some.
const TMP: &str = "/mnt/tmp";
/// Says that the test runs inside already.
const INSIDE: &str = "TANDEM_TESTBED_RIG";

/// True inside. Outside, the test named `test` is run inside, and has failed if it fails there;
/// then nothing is left to be done.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !tandem_tests::can_emulate() || !can_ssh() {
        return false;
    }
    let own = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare (package util-linux) runs");
    assert!(status.success(), "the test failed inside its namespaces; see above");
    false
}

fn can_ssh() -> bool {
    let there = Path::new("/usr/sbin/sshd").exists();
    assert!(there || std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: openssh-server");
    if !there {
        eprintln!("skipped: missing openssh-server");
    }
    there
}

/// A machine of the rig: name, last byte of its address, what it is to the site.
struct Machine {
    name: &'static str,
    number: u8,
    nodes: Vec<NodeId>,
}

/// The machines of a test's testbed.
pub(crate) struct Rig {
    /// Keys, inventory, logs.
    pub(crate) folder: PathBuf,
    /// Every daemon; the namespaces end them, too.
    children: Vec<Child>,
    controller: Option<Child>,
    machines: Vec<Machine>,
    site: Site,
}

fn sh(script: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        .trim()
        .to_owned()
}

/// The interface of a port, on its machine.
fn interface(site: &Site, end: Endpoint) -> String {
    format!("{}-{}", site.topology.name(end.node), end.port)
}

impl Rig {
    /// Machines, cables and daemons. Servers are dealt out to two machines.
    pub(crate) fn new(text: &str) -> anyhow::Result<Rig> {
        let site = site::read(text, "site.toml")?;
        sh("mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /mnt; ip link set lo up; \
            mkdir -p /run/sshd /run/openvswitch /mnt/rig /mnt/tmp")?;
        let folder = PathBuf::from("/mnt/rig");
        std::fs::write(folder.join("site.toml"), text)?;
        let t = &site.topology;
        let named = |names: Vec<&str>| -> Vec<NodeId> {
            names.into_iter().filter_map(|n| site.topology.by_name(n)).collect()
        };
        let servers = |odd: usize| {
            let all = t.servers.iter().enumerate().filter(|(n, _)| n % 2 == odd);
            named(all.map(|(_, s)| s.name.as_str()).collect())
        };
        let machines = vec![
            Machine {
                name: "mini1",
                number: 11,
                nodes: named(t.switches.iter().map(|s| s.name.as_str()).collect()),
            },
            Machine { name: "host1", number: 21, nodes: servers(0) },
            Machine { name: "host2", number: 22, nodes: servers(1) },
            Machine {
                name: "outside",
                number: 31,
                nodes: named(t.gateways.iter().map(|g| g.name.as_str()).collect()),
            },
        ];
        let mut rig = Rig { folder, children: Vec::new(), controller: None, machines, site };
        rig.cable()?;
        rig.start_sshd()?;
        rig.start_ovs()?;
        std::fs::write(rig.path("inventory.toml"), rig.inventory())?;
        Ok(rig)
    }

    /// A path in the folder, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn machine_of(&self, node: NodeId) -> &str {
        self.machines.iter().find(|m| m.nodes.contains(&node)).map_or("?", |m| m.name)
    }

    /// The control network's bridge here, an `eth0` on each machine, and a veth pair per link of
    /// the site.
    fn cable(&self) -> anyhow::Result<()> {
        let mut script =
            format!("ip link add ctl type bridge; ip addr add {CONTROLLER}/24 dev ctl; ip link set ctl up\n");
        for Machine { name, number, .. } in &self.machines {
            writeln!(
                script,
                "ip netns add {name}; ip link add c{number} type veth peer name eth0 netns {name}; ip link set c{number} master ctl up\n\
                 ip -n {name} addr add 10.99.0.{number}/24 dev eth0; ip -n {name} link set eth0 up; ip -n {name} link set lo up\n\
                 ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1"
            )?;
        }
        for link in &self.site.topology.links {
            let (a, b) = (interface(&self.site, link.a), interface(&self.site, link.b));
            let (at, bt) = (self.machine_of(link.a.node), self.machine_of(link.b.node));
            writeln!(script, "ip link add {a} netns {at} type veth peer name {b} netns {bt}")?;
            for (machine, name, end) in [(at, a, link.a), (bt, b, link.b)] {
                // As on a machine of the kind that people keep: up, and with an address of its own.
                let address = if matches!(end.node, NodeId::Switch(_)) { "" } else { "192.168.77.7/24" };
                writeln!(
                    script,
                    "ip netns exec {machine} ethtool -K {name} tx off >/dev/null; ip -n {machine} link set {name} up"
                )?;
                if !address.is_empty() {
                    writeln!(script, "ip -n {machine} addr add {address} dev {name} 2>/dev/null || true")?;
                }
            }
        }
        sh(&script)
    }

    /// A daemon on a machine.
    fn daemon(&mut self, machine: &str, log: &str, command: &[&str]) -> anyhow::Result<u32> {
        let log = std::fs::File::create(self.folder.join(log))?;
        let child = Command::new("ip")
            .args(["netns", "exec", machine])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let pid = child.id();
        self.children.push(child);
        Ok(pid)
    }

    fn start_sshd(&mut self) -> anyhow::Result<()> {
        let f = self.folder.display().to_string();
        sh(&format!(
            "cd {f}; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f id; cp id.pub authorized_keys; \
             printf 'HostKey {f}/host\\nAuthorizedKeysFile {f}/authorized_keys\\nStrictModes no\\nUsePAM no\\nPasswordAuthentication no\\n\
             PermitRootLogin prohibit-password\\nPidFile none\\nMaxSessions 64\\n' > sshd_config"
        ))?;
        let key = std::fs::read_to_string(self.path("host.pub"))?;
        let all: Vec<(&str, u8)> = self.machines.iter().map(|m| (m.name, m.number)).collect();
        let mut known = String::new();
        let config = self.path("sshd_config");
        for (name, number) in all {
            write!(known, "10.99.0.{number} {key}")?;
            self.daemon(name, &format!("sshd-{name}.log"), &["/usr/sbin/sshd", "-D", "-e", "-f", &config])?;
        }
        std::fs::write(self.path("known_hosts"), known)?;
        for machine in &self.machines {
            wait("an sshd", || {
                Ok(std::net::TcpStream::connect(format!("10.99.0.{}:22", machine.number))
                    .is_ok()
                    .then_some(()))
            })?;
        }
        Ok(())
    }

    fn start_ovs(&mut self) -> anyhow::Result<()> {
        sh("ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema")?;
        self.daemon(
            "mini1",
            "ovsdb.log",
            &[
                "ovsdb-server",
                "/run/openvswitch/conf.db",
                "--remote=punix:/run/openvswitch/db.sock",
                "--unixctl=/run/openvswitch/db.ctl",
            ],
        )?;
        wait("ovsdb-server", || Ok(Path::new("/run/openvswitch/db.sock").exists().then_some(())))?;
        sh("ovs-vsctl --db=unix:/run/openvswitch/db.sock --no-wait init")?;
        self.daemon(
            "mini1",
            "vswitchd.log",
            &[
                "ovs-vswitchd",
                "unix:/run/openvswitch/db.sock",
                "--unixctl=/run/openvswitch/vswitchd.ctl",
                "--pidfile=/run/openvswitch/ovs-vswitchd.pid",
                "--disable-system",
            ],
        )?;
        wait("ovs-vswitchd", || Ok(Path::new("/run/openvswitch/ovs-vswitchd.pid").exists().then_some(())))
    }

    /// As the machines are cabled.
    fn inventory(&self) -> String {
        let mut out = format!(
            "name = \"rig\"\n[controller]\naddress = \"{CONTROLLER}\"\n[ssh]\nkey = \"id\"\nknown_hosts = \"known_hosts\"\n"
        );
        for m in &self.machines {
            let _ = write!(
                out,
                "[[machine]]\nname = \"{}\"\naddress = \"10.99.0.{}\"\nservice = \"process\"\nroot = \"/mnt/rig/{}\"\ncontrol = \"eth0\"\n\
                 [machine.ovs]\ndatabase = \"/run/openvswitch/db.sock\"\npid_file = \"/run/openvswitch/ovs-vswitchd.pid\"\n",
                m.name, m.number, m.name
            );
            for node in &m.nodes {
                let kind = match node {
                    NodeId::Switch(_) => "switch",
                    NodeId::Server(_) => "server",
                    NodeId::Gateway(_) => "gateway",
                };
                let name = self.site.topology.name(*node);
                let _ = writeln!(out, "[[machine.{kind}]]\nname = \"{name}\"");
                for (port, _) in self.site.topology.ports(*node) {
                    let _ = writeln!(
                        out,
                        "[[machine.{kind}.port]]\nnumber = {port}\ninterface = \"{name}-{port}\""
                    );
                }
            }
        }
        out
    }

    /// `tandem serve`, reached over the control network.
    pub(crate) fn start_controller(&mut self, world: &str) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.path("tandem.log"))?;
        let mut command = Command::new(program("tandem")?);
        command
            .args([
                "--api",
                &format!("unix:{}", self.path("api.sock")),
                "serve",
                "--site",
                &self.path("site.toml"),
            ])
            .args([
                "--openflow",
                &format!("tcp:{CONTROLLER}:6653"),
                "--agents",
                &format!("tcp:{CONTROLLER}:6655"),
            ])
            .args(["--store", &self.path("store.sqlite"), "--authority", &self.path("authority")])
            .args(["--world", &format!("@tandem-lab/{world}/world")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.controller = Some(command.spawn()?);
        wait("the controller's API", || self.json(&["notices"]).map(Some)).map(drop)
    }

    /// Ends it.
    pub(crate) fn stop_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
    }

    /// Enrols and starts the switches' agent; the controller must run.
    pub(crate) fn start_agent(&mut self) -> anyhow::Result<()> {
        let machine = &self.machines[0];
        let folder = self.folder.join("agent");
        std::fs::create_dir_all(&folder)?;
        let mut config = format!(
            "name = \"mini1\"\ncontroller = \"tcp:{CONTROLLER}:6655\"\nstate = \"{0}\"\ncontrol = \"{0}/control.sock\"\n",
            folder.display()
        );
        for node in &machine.nodes {
            let name = self.site.topology.name(*node);
            let _ =
                write!(config, "[[switch]]\nname = \"{name}\"\ncontrollers = [\"tcp:{CONTROLLER}:6653\"]\n");
            for (port, _) in self.site.topology.ports(*node) {
                let _ = writeln!(config, "[[switch.port]]\nnumber = {port}\ninterface = \"{name}-{port}\"");
            }
        }
        let file = folder.join("agent.toml").display().to_string();
        std::fs::write(&file, config)?;
        let address = format!("{CONTROLLER}:6655");
        let mut arguments = vec!["agent", "token", "mini1", "--address", &address];
        for switch in &self.site.topology.switches {
            arguments.extend(["--switch", &switch.name]);
        }
        let token = self.tandem(&arguments)?;
        let agent = program("tandem-agent")?.display().to_string();
        let enrolled = Command::new("ip")
            .args(["netns", "exec", "mini1", &agent, "--config", &file, "enroll", "--token", token.trim()])
            .output()?;
        ensure!(enrolled.status.success(), "{}", text(&enrolled));
        self.daemon("mini1", "agent.log", &[&agent, "--config", &file])?;
        Ok(())
    }

    /// Waits until all switches have their rules, the agent has its state and the world is found.
    pub(crate) fn wait_ready(&self) -> anyhow::Result<()> {
        wait("switches, agent and world", || {
            let topology = self.json(&["topology"])?;
            let list = topology["switches"].as_array().cloned().unwrap_or_default();
            let switches = list.iter().all(|s| s["sync"] == "done" && s["connected"] == true);
            let notices = self.json(&["notices"])?;
            let world = notices.as_array().is_some_and(|l| l.iter().any(|n| n["kind"] == "world-up"));
            Ok((switches && !list.is_empty() && world).then_some(()))
        })
        .with_context(|| {
            let logs =
                ["tandem.log", "agent.log", "vswitchd.log"].map(|l| format!("--- {l}\n{}", self.log(l)));
            logs.join("\n")
        })
    }

    /// `tandem ARGUMENTS`.
    pub(crate) fn tandem(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Command::new(program("tandem")?)
            .args(["--api", &format!("unix:{}", self.path("api.sock"))])
            .args(arguments))
    }

    /// `tandem --json ARGUMENTS`.
    pub(crate) fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.tandem(&[&["--json"], arguments].concat())?;
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// `tandem-lab ARGUMENTS`.
    pub(crate) fn lab(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.lab_command(arguments)?)
    }

    /// `tandem-lab ARGUMENTS`, not started yet.
    pub(crate) fn lab_command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program("tandem-lab")?);
        command.args(arguments).env("TANDEM_AGENT", program("tandem-agent")?).env("TMPDIR", TMP);
        Ok(command)
    }

    /// A command on a machine, past ssh.
    pub(crate) fn on(&self, machine: &str, command: &[&str]) -> anyhow::Result<String> {
        run(Command::new("ip").args(["netns", "exec", machine]).args(command))
    }

    /// What the machines' interfaces are, in words that change when one is lent or altered: names,
    /// states, addresses, queueing.
    pub(crate) fn interfaces(&self) -> anyhow::Result<Vec<String>> {
        let mut all = Vec::new();
        for machine in &self.machines {
            let links = self.on(machine.name, &["ip", "-j", "addr"])?;
            let links: Value = serde_json::from_str(&links)?;
            for link in links.as_array().into_iter().flatten() {
                // Interfaces of Open vSwitch's own come with its bridges.
                let name = link["ifname"].as_str().unwrap_or_default();
                if machine.name == "mini1" && (!name.contains('-') || name == "ovs-netdev") {
                    continue;
                }
                let up = link["flags"].as_array().is_some_and(|f| f.iter().any(|f| f == "UP"));
                let addresses: Vec<&str> = link["addr_info"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|a| a["local"].as_str())
                    .collect();
                let mac = link["address"].as_str().unwrap_or_default();
                all.push(format!("{} {name} {mac} up={up} {}", machine.name, addresses.join(",")));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Ids of the processes in whose command line is the word.
    pub(crate) fn processes(&self, word: &str) -> Vec<i32> {
        let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let has = |command: &[u8]| command.split(|b| *b == 0 || *b == b' ').any(|w| w == word.as_bytes());
        list.filter(|e| std::fs::read(e.path().join("cmdline")).is_ok_and(|c| has(&c)))
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Those of them that are in a machine's network.
    pub(crate) fn processes_on(&self, machine: &str, word: &str) -> anyhow::Result<Vec<i32>> {
        let own = self.on(machine, &["readlink", "/proc/self/ns/net"])?;
        let there = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|l| l.display().to_string() == own)
        };
        Ok(self.processes(word).into_iter().filter(there).collect())
    }

    /// The guard of a machine, and its node.
    pub(crate) fn guard_and_node(&self, machine: &str) -> anyhow::Result<(i32, i32)> {
        let guard = *self.processes_on(machine, "node")?.first().context("there is no guard")?;
        let child = |pid: &i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|l| l.strip_prefix("PPid:").is_some_and(|p| p.trim() == guard.to_string()))
        };
        let node = self.processes("__node").into_iter().find(child).context("the guard has no node")?;
        Ok((guard, node))
    }

    /// Nothing is left of a lab: the interfaces are as they were, nothing runs, nobody holds the
    /// testbed.
    pub(crate) fn nothing_is_left(&self, before: &[String]) -> anyhow::Result<()> {
        wait("everything as it was", || {
            let now = self.interfaces()?;
            if now != before {
                bail!("the interfaces are {now:#?}, but were {before:#?}");
            }
            for word in ["__node", "node", "udhcpc", "__testbed"] {
                let left = self.processes(word);
                ensure!(left.is_empty(), "{word} runs still: {left:?}");
            }
            let locks = self.on("host1", &["find", "/mnt/rig", "-name", "*testbed.lock*"])?;
            ensure!(locks.is_empty(), "locks are left: {locks}");
            let copies = std::fs::read_dir("/tmp")?.flatten().map(|e| e.file_name());
            let copies: Vec<_> = copies.filter(|n| n.to_string_lossy().starts_with("tandem-lab.")).collect();
            ensure!(copies.is_empty(), "copies of the program are left: {copies:?}");
            let files: Vec<_> = std::fs::read_dir(TMP)?.flatten().map(|e| e.file_name()).collect();
            ensure!(files.is_empty(), "temporary files are left: {files:?}");
            Ok(Some(()))
        })
    }

    /// The last lines of a log.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(25).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().context("starting a program")?;
    if !output.status.success() {
        bail!("{command:?}: {}", text(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["tandem.log", "agent.log", "vswitchd.log"] {
                eprintln!("--- {name}\n{}", self.log(name));
            }
        }
        self.stop_controller();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
