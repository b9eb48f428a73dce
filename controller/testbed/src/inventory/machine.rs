//! Reads an inventory's sections: the controller, the ssh settings and the machines.

use super::node::{Context, Kind, node};
use super::value::{address, interface, name, plain, tcp_port};
use super::{Controller, HostKeys, Inventory, Machine, Node, OvsConfig, Service, SshConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tandem_model::Site;
use tandem_model::site::{Collector, Section};

/// Values that were used already, over all machines.
#[derive(Default)]
struct Used {
    machines: BTreeSet<String>,
    nodes: BTreeSet<String>,
    places: BTreeMap<(String, u16, PathBuf), String>,
}

/// Reads a whole inventory.
pub(super) fn inventory(
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

/// Reads the ssh settings; those that are missing are `default`'s.
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

/// Reads a machine with its nodes.
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
    let root = root_folder(&mut m, c, service);
    let place = (address.clone(), ssh.port, root.clone());
    if !address.is_empty()
        && let Some(other) = used.places.insert(place, name.clone())
    {
        let problem = format!("{other:?} is at {address} port {} below {} too", ssh.port, root.display());
        m.fault(c, "address", problem, "write each machine once, with all of its switches and servers");
    }
    let control = control_interface(&mut m, c);
    let ovs = ovs(&mut m, c);
    let mut context =
        Context { control: &control, interfaces: BTreeSet::new(), names: &mut used.nodes, site };
    let mut nodes = |m: &mut Section<'_>, c: &mut Collector<'_>, kind: Kind| -> Vec<Node> {
        m.list(c, kind.key()).into_iter().map(|s| node(s, c, kind, &mut context)).collect()
    };
    let switches = nodes(&mut m, c, Kind::Switch);
    let servers = nodes(&mut m, c, Kind::Server);
    let gateways = nodes(&mut m, c, Kind::Gateway);
    m.finish(c);
    Machine { name, address, ssh, service, root, control, ovs, switches, servers, gateways }
}

/// Reads the folder below which the machine's files are, a whole path.
fn root_folder(m: &mut Section<'_>, c: &mut Collector<'_>, service: Service) -> PathBuf {
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
    root
}

/// Reads the name of the control network's interface, which every machine has.
fn control_interface(m: &mut Section<'_>, c: &mut Collector<'_>) -> String {
    let control = interface(m, c, "control").unwrap_or_default();
    if !m.has("control") {
        let instead = "write control = \"eth0\": the interface that carries ssh and the controller's traffic";
        m.fault(c, "control", "the interface of the control network is not said", instead);
    }
    control
}

/// Reads the settings of Open vSwitch.
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
