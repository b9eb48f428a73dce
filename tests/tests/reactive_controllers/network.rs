//! A soft switch in its agent, four hosts on cables, and a controller of somebody else, which the
//! switch dials over TCP.
//!
//! ```text
//! host 1 ---- p1 +--------+ p3 ---- host 3
//!                | switch | ---- TCP ---- controller          switch and controller: one namespace; hosts: one each
//! host 2 ---- p2 +--------+ p4 ---- host 4
//! ```

use crate::controllers::Controller;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tandem_linux::link::{self, Veth};
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;
use tandem_tests::foreign_controllers::Tools;
use tandem_tests::{LIMIT, program, wait};

/// The number of a host's interface in its namespace.
const CARD: u32 = 10;
/// Bytes that go over the switch by TCP.
const BULK: usize = 16 << 20;

/// The address of a host.
pub(crate) fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, host)
}

/// Its MAC address.
pub(crate) fn mac(host: u8) -> [u8; 6] {
    [2, 7, 0, 0, 0, host]
}

/// The same, as flows show it.
fn shown(host: u8) -> String {
    mac(host).map(|b| format!("{b:02x}")).join(":")
}

/// A flow as the switch shows it.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What it is for.
    pub(crate) matches: String,
    /// What it does.
    pub(crate) does: String,
    /// Packets that it was for.
    pub(crate) packets: u64,
}

/// Switches and hosts in a namespace. Processes end before their folder and their namespaces.
pub(crate) struct Network {
    agent: Option<Child>,
    controller: Option<Child>,
    what: Controller,
    tools: Tools,
    ns: NetNs,
    hosts: Vec<NetNs>,
    folder: tempfile::TempDir,
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        end(&mut self.agent);
        end(&mut self.controller);
    }
}

fn batch(ns: &NetNs, requests: &[Request]) -> Result<()> {
    Ok(ns.run(|| Netlink::open()?.batch(requests))??)
}

impl Network {
    /// Everything started; hosts 1 to 3 have their addresses.
    pub(crate) fn up(what: Controller, tools: Tools) -> Result<Network> {
        let folder = tempfile::tempdir()?;
        let mut hosts = NetNs::many(5, link::disable_ipv6)?;
        let ns = hosts.pop().context("five namespaces")?;
        batch(&ns, &[link::set_up(1, true)])?;
        for (n, host) in (1u8..).zip(&hosts) {
            let port = format!("p{n}");
            let veth = Veth::new((&port, 100 + u32::from(n), &ns), ("eth0", CARD, host));
            batch(&ns, &[veth.mac_b(mac(n)).request()])?;
        }
        let mut network = Network { agent: None, controller: None, what, tools, ns, hosts, folder };
        for n in 1..=3 {
            network.host(n)?.attach(n)?;
        }
        network.configure()?;
        network.start_controller()?;
        network.start_agent()?;
        Ok(network)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) -> Result<()> {
        let at = |name: &str| format!("{:?}", self.path(name).display().to_string());
        let ports: String =
            (1..=4).map(|n| format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\n")).collect();
        let (state, control, initial) = (at("state"), at("control.sock"), at("initial.toml"));
        let nobody = self.path("nobody").display().to_string();
        let config = format!(
            "name = \"sw\"\ncontroller = \"unix:{nobody}\"\nstate = {state}\ncontrol = {control}\ninitial = {initial}\n\
             [ovs]\ndatabase = {nobody:?}\n[[switch]]\nname = \"sw\"\ndatapath = \"soft\"\n{ports}"
        );
        let protocols = self.what.protocols;
        let wanted = format!(
            "[[switch]]\nname = \"sw\"\ndatapath_id = \"0000000000000001\"\nprotocols = [{protocols}]\n\
             controllers = [\"tcp:127.0.0.1:6653\"]\n{ports}"
        );
        std::fs::write(self.path("agent.toml"), config)?;
        std::fs::write(self.path("initial.toml"), wanted)?;
        Ok(())
    }

    fn log(&self, name: &str) -> Result<std::fs::File> {
        Ok(std::fs::OpenOptions::new().create(true).append(true).open(self.path(name))?)
    }

    fn spawn(&self, mut command: Command, log: &str) -> Result<Child> {
        let file = self.log(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        self.ns.run(|| command.spawn())?.with_context(|| log.to_owned())
    }

    /// Starts the controller (again), and waits until it listens.
    pub(crate) fn start_controller(&mut self) -> Result<()> {
        let command = self.what.command(&self.tools, self.folder.path())?;
        self.controller = Some(self.spawn(command, "controller.log")?);
        wait("the controller listens", || {
            let listening = self.ns.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp"))??;
            // Port 6653, and the state LISTEN.
            Ok(listening.lines().any(|l| l.contains(":19FD 00000000:0000 0A")).then_some(()))
        })
    }

    /// Kills the controller.
    pub(crate) fn kill_controller(&mut self) {
        end(&mut self.controller);
    }

    /// Starts the agent (again).
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        let mut command = Command::new(program("tandem-agent")?);
        command.arg("--config").arg(self.path("agent.toml"));
        self.agent = Some(self.spawn(command, "agent.log")?);
        Ok(())
    }

    /// Kills the agent, and the switch with it.
    pub(crate) fn kill_agent(&mut self) {
        end(&mut self.agent);
    }

    /// A host, 1 to 4.
    pub(crate) fn host(&self, n: u8) -> Result<Host<'_>> {
        let ns = self.hosts.get(usize::from(n) - 1).context("hosts are 1 to 4")?;
        Ok(Host { ns })
    }

    fn view(&self) -> Result<Value> {
        let mut command = Command::new(program("tandem-agent")?);
        command.arg("--config").arg(self.path("agent.toml")).args(["--json", "flows"]);
        let output = self.ns.run(|| command.stdin(Stdio::null()).output())??;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tandem-agent flows: {errors}");
        let views: Value = serde_json::from_slice(&output.stdout)?;
        Ok(views[0][1].clone())
    }

    /// The switch's flows.
    pub(crate) fn flows(&self) -> Result<Vec<Flow>> {
        let view = self.view()?;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let flow = |f: &Value| Flow {
            matches: text(&f["matches"]),
            does: text(&f["does"]),
            packets: f["packets"].as_u64().unwrap_or_default(),
        };
        Ok(view["flows"].as_array().context("flows")?.iter().map(flow).collect())
    }

    /// Flows that send what is for a host's MAC address to a port.
    pub(crate) fn flows_to(&self, host: u8, port: u8) -> Result<Vec<Flow>> {
        let (for_host, to_port) = (format!("dl_dst={}", shown(host)), format!("output:{port}"));
        let is_one = |f: &Flow| {
            f.matches.split(',').any(|m| m == for_host) && f.does.split(',').any(|d| d.ends_with(&to_port))
        };
        Ok(self.flows()?.into_iter().filter(is_one).collect())
    }

    /// Waits until the switch is connected to its controller.
    pub(crate) fn wait_connected(&self) -> Result<()> {
        wait("the switch is connected", || {
            let view = self.view()?;
            Ok((view["controllers"][0][1] == "").then_some(()))
        })
    }

    /// Deletes the flows in which a host's MAC address is `dl_dst` or `dl_src`, as an operator
    /// does.
    pub(crate) fn delete_flows(&self, field: &str, host: u8) -> Result<()> {
        let socket = format!("unix:{}", self.path("state/soft/sw.mgmt").display());
        let what = format!("{field}={}", shown(host));
        let output = Command::new("ovs-ofctl")
            .args(["-O", "OpenFlow13", "del-flows", &socket, &what])
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "ovs-ofctl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Waits until each of these hosts reaches each other one.
    pub(crate) fn wait_all_reach(&self, hosts: &[(u8, u8)]) -> Result<()> {
        for (host, _) in hosts {
            for (_, to) in hosts.iter().filter(|(other, _)| other != host) {
                let what = format!("{}: host {host} reaches {}", self.what.name, address(*to));
                wait(
                    &what,
                    || Ok((self.host(*host)?.ping(*to, &["-c", "1", "-W", "1"])? == 0).then_some(())),
                )
                .with_context(|| self.logs())?;
            }
        }
        Ok(())
    }

    /// What switch and controller said last.
    pub(crate) fn logs(&self) -> String {
        let last = |name: &str| {
            let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(12).collect();
            format!("{name}:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        let flows = self.flows().map_or_else(|e| e.to_string(), |f| format!("{f:#?}"));
        format!("{}\n{}\n{}\nflows: {flows}", last("agent.log"), last("controller.log"), last("faucet.log"))
    }
}

/// What is at the other end of a port.
pub(crate) struct Host<'a> {
    ns: &'a NetNs,
}

impl Host<'_> {
    /// Takes the addresses of a host, itself or another one.
    pub(crate) fn attach(&self, as_host: u8) -> Result<()> {
        let text = shown(as_host);
        self.run("ip", &["link", "set", "eth0", "address", &text])?;
        // A veth pair hands on what a card would cut into frames of the MTU; a switch has no port
        // for longer ones.
        self.run("ethtool", &["-K", "eth0", "tso", "off", "gso", "off"])?;
        batch(self.ns, &[link::set_up(CARD, true), link::address(CARD, address(as_host), 24)])
    }

    /// Its cable is pulled.
    pub(crate) fn detach(&self) -> Result<()> {
        batch(self.ns, &[link::set_up(CARD, false)])
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        let output = self.ns.run(|| command.args(arguments).stdin(Stdio::null()).output())??;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
        Ok(())
    }

    /// Pings a host: how many of the packets were lost.
    pub(crate) fn ping(&self, to: u8, arguments: &[&str]) -> Result<u32> {
        let mut command = Command::new("ping");
        command.args(arguments).arg("-q").arg(address(to).to_string()).stdin(Stdio::null());
        let output = self.ns.run(|| command.output())??;
        tandem_tests::pings::lost(&String::from_utf8_lossy(&output.stdout))
    }

    /// Sends bytes to another host by TCP; each is compared.
    pub(crate) fn send_bulk(&self, to: &Host<'_>, as_host: u8) -> Result<()> {
        let listener = to.ns.run(|| TcpListener::bind((address(as_host), 8003)))??;
        let mut out = self.ns.run(|| TcpStream::connect((address(as_host), 8003)))??;
        let (mut into, _) = listener.accept()?;
        into.set_read_timeout(Some(LIMIT))?;
        out.set_write_timeout(Some(LIMIT))?;
        let bytes: Vec<u8> = (0..BULK).map(|n| ((n * 31) >> 7) as u8).collect();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| out.write_all(&bytes));
            let mut got = vec![0; BULK];
            into.read_exact(&mut got).context("bytes over the switch")?;
            ensure!(got == bytes, "other bytes than were sent");
            sender.join().map_err(|_| anyhow::anyhow!("the sender has panicked"))??;
            Ok(())
        })
    }
}
