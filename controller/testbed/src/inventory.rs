//! The inventory: the testbed's machines, how they are reached, and the site's nodes on each of
//! them.
//!
//! ```toml
#![doc = include_str!("../inventory.toml")]
//! ```
//!
//! All faults are reported at once, with line, column and what to write instead. A machine with a
//! server or a gateway holds VMs or outside traffic; a switch becomes a `[[switch]]` in the agent's
//! configuration of its machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tandem_model::site::{Collector, Faults, Section, read_by};
use tandem_model::{NodeId, PortNo, Site};

/// The longest name of a network interface (IFNAMSIZ - 1, linux/if.h).
const LONGEST_INTERFACE: usize = 15;
/// The highest number of a port: OpenFlow 1.0 reserves numbers from 0xff00 on (OF 1.0 section
/// 5.2.1).
const HIGHEST_PORT: u32 = 0xfeff;

/// A checked inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// A name for people.
    pub name: String,
    /// The controller's addresses.
    pub controller: Controller,
    /// The machines, at least one.
    pub machines: Vec<Machine>,
}

/// The addresses at which machines reach the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its address on the control network.
    pub address: String,
    /// The address at which it listens, if it differs: behind an address translation.
    pub listen: String,
    /// TCP port of OpenFlow.
    pub openflow: u16,
    /// TCP port of the agents' server.
    pub agents: u16,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name, also its agent's.
    pub name: String,
    /// Where ssh reaches it.
    pub address: String,
    /// The ssh settings.
    pub ssh: SshConfig,
    /// The supervisor of the agent.
    pub service: Service,
    /// A prefix of the path of every installed file.
    pub root: PathBuf,
    /// The interface of the control network, which is never a port.
    pub control: String,
    /// Its Open vSwitch, if it is not in the place of Debian's package.
    pub ovs: OvsConfig,
    /// Its switches.
    pub switches: Vec<Node>,
    /// Its servers of the site; several may share a machine.
    pub servers: Vec<Node>,
    /// Its gateways of the site.
    pub gateways: Vec<Node>,
}

/// The ssh settings of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfig {
    /// Login user.
    pub user: String,
    /// TCP port.
    pub port: u16,
    /// The private key's file; `None` for ssh's default.
    pub key: Option<PathBuf>,
    /// The file of known host keys; `None` for ssh's default.
    pub known_hosts: Option<PathBuf>,
    /// The policy for unknown host keys.
    pub host_keys: HostKeys,
    /// Additional options, as after ssh's `-o`.
    pub options: Vec<String>,
}

/// The policy for unknown host keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeys {
    /// They are refused.
    Strict,
    /// A key is accepted and stored at the first connection; a changed one is refused.
    AcceptNew,
}

/// The supervisor of the agent on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// systemd.
    Systemd,
    /// None: the agent is a process of its own with a pid file.
    Process,
}

/// The settings of Open vSwitch; `None` for the agent's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OvsConfig {
    /// Path of the database's socket.
    pub database: Option<PathBuf>,
    /// Path of vswitchd's pid file.
    pub pid_file: Option<PathBuf>,
    /// `auto`, `kernel` or `userspace`.
    pub datapath: Option<&'static str>,
    /// Adopt foreign bridges with the switches' names.
    pub adopt: bool,
    /// Also adopt those whose flows are deleted by that for a moment.
    pub adopt_with_gap: bool,
}

/// A node of the site on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the site file.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number in the site's topology.
    pub number: u32,
    /// Its interface on the machine.
    pub interface: String,
}

impl Inventory {
    /// Reads and checks a file; with a `site`, also whether it matches that.
    ///
    /// # Errors
    /// When it cannot be read, or with all its faults.
    pub fn load(path: &Path, site: Option<&Site>) -> Result<Inventory, LoadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadError::Read { file: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Inventory::read(&text, &path.display().to_string(), folder, site)?)
    }

    /// Reads and checks a text; file names in it are relative to `folder`. With a `site`, names and
    /// port numbers are compared with it.
    ///
    /// # Errors
    /// All faults, each with its line and column.
    pub fn read(text: &str, file: &str, folder: &Path, site: Option<&Site>) -> Result<Inventory, Faults> {
        read_by(text, file, |root, c| read_root(root, c, folder, site))
    }

    /// A machine by its name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|m| m.name == name)
    }

    /// The machine and node of a switch, server or gateway.
    pub fn node(&self, name: &str) -> Option<(&Machine, &Node)> {
        self.machines.iter().find_map(|m| m.nodes().find(|n| n.name == name).map(|n| (m, n)))
    }

    /// Switches, servers and gateways of the site without a machine; legacy switches are left out.
    pub fn missing<'s>(&self, site: &'s Site) -> Vec<&'s str> {
        let t = &site.topology;
        let switches = t.switches.iter().filter(|s| !s.legacy).map(|s| s.name.as_str());
        let servers = t.servers.iter().map(|s| s.name.as_str());
        let gateways = t.gateways.iter().map(|g| g.name.as_str());
        switches.chain(servers).chain(gateways).filter(|n| self.node(n).is_none()).collect()
    }
}

impl Machine {
    /// All its nodes: switches, servers, gateways.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.switches.iter().chain(&self.servers).chain(&self.gateways)
    }

    /// An absolute path on the machine, below its root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

/// Why an inventory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the inventory {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// Values that were used already, over all machines.
#[derive(Default)]
struct Used {
    machines: BTreeSet<String>,
    nodes: BTreeSet<String>,
    places: BTreeMap<(String, u16, PathBuf), String>,
}

fn read_root(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    folder: &Path,
    site: Option<&Site>,
) -> Option<Inventory> {
    let name = name(root, c, "name = \"lab1\"");
    let mut s = root.section(c, "controller");
    let reached = address(&mut s, c, "the address at which the machines reach the controller");
    let listen = s.parsed::<IpAddr>(
        c,
        "listen",
        "an IP address of the computer that the controller runs on, such as \"127.0.0.1\"",
    );
    let controller = Controller {
        listen: listen.map_or_else(|| reached.clone(), |ip| ip.to_string()),
        address: reached,
        openflow: tcp_port(&mut s, c, "openflow").unwrap_or(6653),
        agents: tcp_port(&mut s, c, "agents").unwrap_or(6655),
    };
    s.finish(c);
    let default = SshConfig {
        user: "root".to_owned(),
        port: 22,
        key: None,
        known_hosts: None,
        host_keys: HostKeys::Strict,
        options: Vec::new(),
    };
    let ssh = ssh(root, c, folder, default);
    let mut used = Used::default();
    let list = root.list(c, "machine");
    if list.is_empty() {
        root.fault(c, "machine", "there is no machine", "write a section [[machine]] for each");
    }
    let machines = list.into_iter().map(|m| machine(m, c, folder, &ssh, &mut used, site)).collect();
    Some(Inventory { name, controller, machines })
}

fn ssh(parent: &mut Section<'_>, c: &mut Collector<'_>, folder: &Path, default: SshConfig) -> SshConfig {
    let mut s = parent.section(c, "ssh");
    let words = [("strict", HostKeys::Strict), ("accept-new", HostKeys::AcceptNew)];
    // ssh itself expands `~`.
    let file = |p: String| if p.starts_with('~') { p.into() } else { folder.join(p) };
    let cfg = SshConfig {
        user: s.text(c, "user").unwrap_or(default.user),
        port: tcp_port(&mut s, c, "port").unwrap_or(default.port),
        key: s.text(c, "key").map(file).or(default.key),
        known_hosts: s.text(c, "known_hosts").map(file).or(default.known_hosts),
        host_keys: s.word(c, "host_keys", &words).unwrap_or(default.host_keys),
        options: s.texts(c, "options").unwrap_or(default.options),
    };
    if s.has("user") && !plain(&cfg.user, 32) {
        s.fault(
            c,
            "user",
            format!("{:?} cannot be a user's name", cfg.user),
            "write a name such as \"root\"",
        );
    }
    if cfg.options.iter().any(|o| !o.contains('=') || o.chars().any(char::is_control)) {
        let instead = "write each as KEY=VALUE, such as \"KexAlgorithms=+diffie-hellman-group1-sha1\"";
        s.fault(c, "options", "this is no option of ssh", instead);
    }
    s.finish(c);
    cfg
}

fn machine(
    mut m: Section<'_>,
    c: &mut Collector<'_>,
    folder: &Path,
    ssh_default: &SshConfig,
    used: &mut Used,
    site: Option<&Site>,
) -> Machine {
    let name = name(&mut m, c, "name = \"mini1\"");
    if !name.is_empty() && !used.machines.insert(name.clone()) {
        m.fault(
            c,
            "name",
            format!("two machines are called {name:?}"),
            "rename one, or join them in one [[machine]]",
        );
    }
    let address = address(&mut m, c, "the machine's address on the control network");
    let ssh = ssh(&mut m, c, folder, ssh_default.clone());
    let words = [("systemd", Service::Systemd), ("process", Service::Process)];
    let service = m.word(c, "service", &words).unwrap_or(Service::Systemd);
    let root: PathBuf = m.text(c, "root").unwrap_or_else(|| "/".to_owned()).into();
    let whole = root.is_absolute()
        && root.components().all(|p| !matches!(p, std::path::Component::ParentDir))
        && !root.to_string_lossy().chars().any(|ch| ch.is_control() || ch.is_whitespace());
    if !whole {
        m.fault(
            c,
            "root",
            format!("{:?} is no absolute path", root.display().to_string()),
            "write \"/\", or a folder's whole path without spaces",
        );
    } else if service == Service::Systemd && root != Path::new("/") {
        m.fault(
            c,
            "root",
            "systemd looks for units below / only",
            "leave root out, or write service = \"process\"",
        );
    }
    let place = (address.clone(), ssh.port, root.clone());
    if !address.is_empty()
        && let Some(other) = used.places.insert(place, name.clone())
    {
        let problem = format!("{other:?} is at {address} port {} below {} too", ssh.port, root.display());
        m.fault(c, "address", problem, "write each machine once, with all of its switches and servers");
    }
    let control = interface(&mut m, c, "control").unwrap_or_default();
    if !m.has("control") {
        let instead = "write control = \"eth0\": the interface that carries ssh and the controller's traffic";
        m.fault(c, "control", "the interface of the control network is not said", instead);
    }
    let ovs = ovs(&mut m, c);
    let mut interfaces = BTreeSet::new();
    let mut nodes = |m: &mut Section<'_>, c: &mut Collector<'_>, kind: Kind| -> Vec<Node> {
        let list = m.list(c, kind.key());
        list.into_iter().map(|s| node(s, c, kind, &control, &mut interfaces, used, site)).collect()
    };
    let switches = nodes(&mut m, c, Kind::Switch);
    let servers = nodes(&mut m, c, Kind::Server);
    let gateways = nodes(&mut m, c, Kind::Gateway);
    m.finish(c);
    Machine { name, address, ssh, service, root, control, ovs, switches, servers, gateways }
}

fn ovs(m: &mut Section<'_>, c: &mut Collector<'_>) -> OvsConfig {
    let mut s = m.section(c, "ovs");
    let words = [("auto", "auto"), ("kernel", "kernel"), ("userspace", "userspace")];
    let cfg = OvsConfig {
        database: s.text(c, "database").map(PathBuf::from),
        pid_file: s.text(c, "pid_file").map(PathBuf::from),
        datapath: s.word(c, "datapath", &words),
        adopt: s.flag(c, "adopt").unwrap_or(false),
        adopt_with_gap: s.flag(c, "adopt_with_gap").unwrap_or(false),
    };
    s.finish(c);
    cfg
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Server,
    Gateway,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Kind::Switch => "switch",
            Kind::Server => "server",
            Kind::Gateway => "gateway",
        }
    }

    fn is(self, node: NodeId) -> bool {
        matches!(
            (self, node),
            (Kind::Switch, NodeId::Switch(_))
                | (Kind::Server, NodeId::Server(_))
                | (Kind::Gateway, NodeId::Gateway(_))
        )
    }

    /// The names of the site's nodes of that kind, the first few of them.
    fn names(self, site: &Site) -> String {
        let t = &site.topology;
        let all: Vec<&str> = match self {
            Kind::Switch => t.switches.iter().filter(|s| !s.legacy).map(|s| s.name.as_str()).collect(),
            Kind::Server => t.servers.iter().map(|s| s.name.as_str()).collect(),
            Kind::Gateway => t.gateways.iter().map(|g| g.name.as_str()).collect(),
        };
        let more = if all.len() > 8 { ", ..." } else { "" };
        format!("{}{more}", all.iter().take(8).copied().collect::<Vec<_>>().join(", "))
    }
}

fn node(
    mut s: Section<'_>,
    c: &mut Collector<'_>,
    kind: Kind,
    control: &str,
    interfaces: &mut BTreeSet<String>,
    used: &mut Used,
    site: Option<&Site>,
) -> Node {
    let name = name(&mut s, c, "name = \"edge1\", as the site file calls it");
    if kind == Kind::Switch {
        s.word(c, "datapath", &[("ovs", ())]);
    }
    if !name.is_empty() && !used.nodes.insert(name.clone()) {
        s.fault(
            c,
            "name",
            format!("{name:?} is on two machines, or twice on one"),
            "write each switch, server and gateway once",
        );
    }
    let known = site.and_then(|site| site.topology.by_name(&name)).filter(|n| kind.is(*n));
    if let (Some(site), None, false) = (site, known, name.is_empty()) {
        let problem = format!("the site {} has no {} {name:?}", site.name, kind.key());
        s.fault(c, "name", problem, format!("it has {}", kind.names(site)));
    }
    let mut ports = Vec::new();
    let mut numbers = BTreeSet::new();
    for mut p in s.list(c, "port") {
        let number = p.count(c, "number", 1..=HIGHEST_PORT);
        if number.is_none() && !p.has("number") {
            p.fault(
                c,
                "number",
                "the port has no number",
                "write number = 1, as the site's topology numbers it",
            );
        }
        if let Some(number) = number {
            if !numbers.insert(number) {
                p.fault(
                    c,
                    "number",
                    format!("{name} has two ports {number}"),
                    "give each port its own number",
                );
            }
            if let (Some(site), Some(node)) = (site, known)
                && site.topology.link_at(node, PortNo(number)).is_none()
            {
                let all: Vec<String> = site.topology.ports(node).iter().map(|(p, _)| p.to_string()).collect();
                p.fault(
                    c,
                    "number",
                    format!("{name} has no port {number} in the site"),
                    format!("it has {}", all.join(", ")),
                );
            }
        }
        let nic = interface(&mut p, c, "interface");
        if nic.is_none() && !p.has("interface") {
            p.fault(
                c,
                "interface",
                "the port has no interface",
                "write interface = \"eth1\"; `ip link` on the machine shows them",
            );
        }
        if let Some(nic) = &nic {
            if nic == control {
                let problem =
                    format!("{nic} carries the control network: in a switch it would cut off the machine");
                p.fault(c, "interface", problem, "write the interface that the data's cable is in");
            } else if !interfaces.insert(nic.clone()) {
                let problem = format!("{nic} is used twice on this machine");
                p.fault(c, "interface", problem, "give each port an interface of its own");
            }
        }
        p.finish(c);
        if let (Some(number), Some(interface)) = (number, nic) {
            ports.push(Port { number, interface });
        }
    }
    s.finish(c);
    Node { name, ports }
}

/// True for letters, digits, '-', '_' and '.', at most `longest` of them, that cannot be taken as
/// an option.
fn plain(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn name(s: &mut Section<'_>, c: &mut Collector<'_>, example: &str) -> String {
    let name = s.text(c, "name").unwrap_or_default();
    if !s.has("name") {
        s.fault(c, "name", "there is no name", format!("write {example}"));
    } else if !plain(&name, 64) && !name.is_empty() || s.has("name") && name.is_empty() {
        let problem = format!("{name:?} cannot be a name");
        s.fault(c, "name", problem, "write up to 64 letters, digits, '-', '_' or '.'");
    }
    name
}

fn address(s: &mut Section<'_>, c: &mut Collector<'_>, what: &str) -> String {
    let address = s.text(c, "address").unwrap_or_default();
    let good = plain(&address.replace([':', '%'], "."), 255) && !address.starts_with('%');
    if !s.has("address") {
        s.fault(
            c,
            "address",
            "there is no address",
            format!("write {what}, such as address = \"10.0.0.11\""),
        );
    } else if !good && s.text(c, "address").is_some() {
        s.fault(
            c,
            "address",
            format!("{address:?} is no address"),
            format!("write {what}, such as \"10.0.0.11\""),
        );
    }
    address
}

fn tcp_port(s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> Option<u16> {
    s.count(c, key, 1..=65535).and_then(|p| u16::try_from(p).ok())
}

fn interface(s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> Option<String> {
    let nic = s.text(c, key)?;
    let good = (1..=LONGEST_INTERFACE).contains(&nic.len())
        && !nic.starts_with('-')
        && nic.bytes().all(|b| b.is_ascii_graphic() && !b"/:\"'\\$`;&|<>*?".contains(&b));
    if !good {
        let problem = format!("{nic:?} cannot be an interface's name");
        s.fault(c, key, problem, format!("write up to {LONGEST_INTERFACE} characters, such as \"eth1\""));
        return None;
    }
    Some(nic)
}

#[cfg(test)]
mod tests;
