//! Makes a site's network real: a namespace per server and gateway, a switch of Open vSwitch or of
//! the agent's own per switch, a shaped veth pair per link.

use super::agents;
use crate::node::hosts::{Host, Hosts};
use crate::node::static_arp;
use crate::world::emulated::agents::Agents;
use crate::world::emulated::lab_control::Start;
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::{NetNs, visit};
use tandem_linux::ovs::Ovs;
use tandem_linux::{ethtool, link, tc};
use tandem_model::{
    GatewayId, Link, LinkConfig, LinkId, Mac, NodeId, PortNo, Role, ServerId, Site, SwitchId, Topology,
};

/// Interface number of a node's bridge, inside its namespace. The lowest numbers may be taken: a
/// kernel with tunnel modules (gre, sit and their like) makes an interface of each in every new
/// namespace.
pub const BRIDGE: u32 = 30;
/// Interface number of a node's port 0; its ports count from 1.
pub const PORT_BASE: u32 = 40;
/// Interface numbers of switch ports start here, two per link.
const SWITCH_BASE: u32 = 100;

/// A network that is up. Dropping it takes it down.
pub struct Network {
    /// The namespace of the switches.
    pub root: NetNs,
    /// Servers and gateways, by id, with their VMs.
    pub hosts: Hosts,
    /// The agents, which end before what they manage.
    pub agents: Agents,
    /// The private Open vSwitch, where switches are its bridges.
    pub ovs: Option<Ovs>,
    /// What each step took.
    pub steps: Vec<(String, f64)>,
}

/// The name of a switch port's interface: `edge1-3`, or by numbers where that is too long.
pub fn port_name(topology: &Topology, switch: SwitchId, port: PortNo) -> String {
    let name = format!("{}-{port}", topology.name(NodeId::Switch(switch)));
    if name.len() <= 15 { name } else { format!("s{}p{port}", switch.0) }
}

/// What a link does at each of its sending ends.
pub fn shape(cfg: &LinkConfig) -> tc::Shape {
    tc::Shape { rate: cfg.rate.0, queue: cfg.queue, delay: cfg.delay, loss_ppm: cfg.loss_ppm }
}

/// A node's part of the work: what happens inside its namespace.
struct NodeWork {
    name: String,
    requests: Vec<Request>,
    offload: Vec<String>,
}

fn veth(site: &Site, nets: &Nets<'_>, id: LinkId, link: &Link) -> Request {
    let topology = &site.topology;
    let end = |end: tandem_model::Endpoint, side: u32| match end.node {
        NodeId::Switch(s) => (port_name(topology, s, end.port), SWITCH_BASE + id.0 * 2 + side, nets.root),
        NodeId::Server(s) => {
            (format!("eth{}", end.port.0 - 1), PORT_BASE + end.port.0, &nets.servers[s.0 as usize])
        }
        NodeId::Gateway(g) => {
            (format!("eth{}", end.port.0 - 1), PORT_BASE + end.port.0, &nets.gateways[g.0 as usize])
        }
    };
    let mac = |end: tandem_model::Endpoint| match end.node {
        NodeId::Server(s) if end.port == PortNo(1) => topology.server(s).map(|s| s.mac.0),
        NodeId::Gateway(g) if end.port == PortNo(1) => topology.gateway(g).map(|g| g.mac.0),
        _ => None,
    };
    let a = end(link.a, 0);
    let b = end(link.b, 1);
    let mut pair = link::Veth::new((&a.0, a.1, a.2), (&b.0, b.1, b.2));
    if let Some(mac) = mac(link.a) {
        pair = pair.mac_a(mac);
    }
    if let Some(mac) = mac(link.b) {
        pair = pair.mac_b(mac);
    }
    pair.request()
}

struct Nets<'a> {
    root: &'a NetNs,
    servers: &'a [NetNs],
    gateways: &'a [NetNs],
}

/// What has to be done inside a node with these uplinks: one is the node's interface itself;
/// several are ports of a bridge that does not pass packets from one to the other.
fn node_work(
    site: &Site,
    name: &str,
    mac: [u8; 6],
    address: std::net::Ipv4Addr,
    uplinks: &[LinkId],
    node: NodeId,
) -> NodeWork {
    let mut requests = vec![link::set_up(1, true)];
    let mut offload = Vec::new();
    let len = site.addresses.network.len();
    for id in uplinks {
        let Some(end) = site.topology.link(*id).and_then(|l| l.end_at(node)) else { continue };
        offload.push(format!("eth{}", end.port.0 - 1));
        requests.push(link::set_up(PORT_BASE + end.port.0, true));
        if let Some(link) = site.topology.link(*id) {
            requests.extend(tc::shape(PORT_BASE + end.port.0, shape(&link.cfg)));
        }
    }
    let is_gateway = matches!(node, NodeId::Gateway(_));
    if is_gateway && uplinks.len() > 1 {
        requests.push(link::bridge("br0", BRIDGE, Some(mac)));
        for id in uplinks {
            let Some(end) = site.topology.link(*id).and_then(|l| l.end_at(node)) else { continue };
            requests.push(link::plug(PORT_BASE + end.port.0, BRIDGE));
            requests.push(link::port_flags(PORT_BASE + end.port.0, true, false));
        }
        offload.push("br0".into());
        requests.push(link::address(BRIDGE, address, len));
    } else {
        // A server with several uplinks lives at its first; the others are for its VMs.
        requests.push(link::address(PORT_BASE + 1, address, len));
    }
    NodeWork { name: name.to_owned(), requests, offload }
}

/// A kernel without netem says only that it does not know it.
fn name_netem(error: tandem_linux::Error) -> tandem_linux::Error {
    match error {
        tandem_linux::Error::Refused { what, cause, .. }
            if what.starts_with("netem") && cause.kind() == std::io::ErrorKind::NotFound =>
        {
            tandem_linux::Error::Unsupported {
                feature: "netem (module sch_netem), which delays and loses packets",
                instead: "leave delay and loss out of the site file, or use another kernel",
            }
        }
        other => other,
    }
}

fn do_node_work(work: &NodeWork) -> anyhow::Result<()> {
    let context = || format!("setting up {}", work.name);
    Netlink::open().and_then(|mut n| n.batch(&work.requests)).map_err(name_netem).with_context(context)?;
    ethtool::tx_checksum_off(work.offload.iter().map(String::as_str)).with_context(context)
}

/// Builds everything. Called by the sandbox's own process, whose network namespace is the
/// switches'.
///
/// # Errors
/// With the step that failed; what was made before is gone when the caller's namespaces are.
pub fn build(site: &Site, folder: &Path, start: &Start) -> anyhow::Result<Network> {
    let topology = &site.topology;
    let mut steps = Vec::new();
    let mut last = Instant::now();
    let mut step = |name: &str| {
        steps.push((name.to_owned(), last.elapsed().as_secs_f64() * 1e3));
        last = Instant::now();
    };
    link::disable_ipv6();
    let root = NetNs::current()?;
    // Open vSwitch comes up beside the namespaces.
    let (ovs, nodes) = std::thread::scope(|scope| {
        let wanted = start.datapath.needs_ovs(site);
        let ovs = scope.spawn(move || wanted.then(|| Ovs::start(folder)).transpose());
        let nodes = NetNs::many(topology.servers.len() + topology.gateways.len(), link::disable_ipv6);
        (ovs.join(), nodes)
    });
    let ovs = ovs.map_err(|_| anyhow::anyhow!("starting Open vSwitch has panicked"))??;
    let mut servers = nodes.context("making namespaces for servers and gateways")?;
    let gateways = servers.split_off(topology.servers.len());
    step(if ovs.is_some() { "namespaces and Open vSwitch" } else { "namespaces" });

    let nets = Nets { root: &root, servers: &servers, gateways: &gateways };
    let mut netlink = Netlink::open()?;
    let mut requests: Vec<Request> =
        (0u32..).zip(&topology.links).map(|(n, link)| veth(site, &nets, LinkId(n), link)).collect();
    requests.push(link::set_up(1, true));
    netlink.batch(&requests).context("making links")?;
    step("links");

    requests.clear();
    for (n, l) in (0u32..).zip(&topology.links) {
        if matches!(l.b.node, NodeId::Switch(_)) {
            requests.push(link::set_up(SWITCH_BASE + n * 2 + 1, true));
        }
    }
    for (n, link) in (0u32..).zip(&topology.links) {
        for (side, end) in [(0, link.a), (1, link.b)] {
            // Those of OpenFlow switches are their agent's.
            let own = matches!(end.node, NodeId::Switch(s) if topology.switch(s).is_some_and(|s| s.legacy));
            if own || agents::is_imitated(&link.cfg) && matches!(end.node, NodeId::Switch(_)) {
                requests.extend(tc::shape(SWITCH_BASE + n * 2 + side, shape(&link.cfg)));
            }
        }
    }
    requests.extend(legacy(topology));
    let mut work: Vec<(&NetNs, NodeWork)> = Vec::new();
    for (n, (server, ns)) in (0u32..).zip(topology.servers.iter().zip(&servers)) {
        let node = NodeId::Server(ServerId(n));
        work.push((ns, node_work(site, &server.name, server.mac.0, server.address, &server.uplinks, node)));
    }
    for (n, (gateway, ns)) in (0u32..).zip(topology.gateways.iter().zip(&gateways)) {
        let node = NodeId::Gateway(GatewayId(n));
        work.push((
            ns,
            node_work(site, &gateway.name, gateway.mac.0, gateway.address, &gateway.uplinks, node),
        ));
    }
    let setting = agents::Setting {
        folder,
        program: &start.agent_program,
        controller: &controller_for(topology, folder, &start.controller)?,
        agents: &start.agents,
        protocols: &start.protocols,
        per_switch: start.agent_per_switch,
        datapath: &start.datapath,
    };
    // Shaping and the nodes' insides go on while the agents make the switches.
    let agents = std::thread::scope(|scope| -> anyhow::Result<Agents> {
        let nodes = scope.spawn(|| -> anyhow::Result<()> {
            visit(&work, do_node_work)?.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
            Ok(())
        });
        let switches = scope.spawn(move || netlink.batch(&requests));
        let agents = agents::start(site, ovs.as_ref(), &setting);
        let joined = (nodes.join(), switches.join());
        match joined {
            (Ok(nodes), Ok(switches)) => {
                nodes?;
                switches.map_err(name_netem).context("shaping links")?;
                agents
            }
            _ => anyhow::bail!("a thread that sets up nodes has panicked"),
        }
    })?;
    step("bridges, addresses and shaping");
    let host = |name: &str, ns, mac: Mac, address, node| Host {
        name: name.to_owned(),
        ns,
        mac: mac.0,
        address,
        prefix_len: site.addresses.network.len(),
        uplinks: topology.ports(node).iter().map(|(port, _)| (*port, PORT_BASE + port.0)).collect(),
        direct: true,
    };
    let servers = (0u32..).zip(topology.servers.iter().zip(servers));
    let servers =
        servers.map(|(n, (s, ns))| host(&s.name, ns, s.mac, s.address, NodeId::Server(ServerId(n))));
    let gateways = (0u32..).zip(topology.gateways.iter().zip(gateways));
    let gateways =
        gateways.map(|(n, (g, ns))| host(&g.name, ns, g.mac, g.address, NodeId::Gateway(GatewayId(n))));
    let hosts = Hosts::new(servers.collect(), gateways.collect(), folder)?;
    if !site.modules.arp {
        static_arp::hosts(&hosts).context("setting neighbours by hand ([modules] arp = false)")?;
        step("neighbours");
    }
    Ok(Network { root, hosts, agents, ovs, steps })
}

/// The controller in vswitchd's words. Of Unix sockets it takes only one per bridge in its own
/// folder, so these are links to the real one.
fn controller_for(topology: &Topology, folder: &Path, controller: &str) -> anyhow::Result<String> {
    let Some(socket) = controller.strip_prefix("unix:") else { return Ok(controller.to_owned()) };
    for switch in topology.switches.iter().filter(|s| !s.legacy) {
        let link = folder.join(format!("{}.controller", switch.name));
        std::os::unix::fs::symlink(socket, &link).with_context(|| format!("making {}", link.display()))?;
    }
    Ok(format!("unix:{}/%.controller", folder.display()))
}

/// Legacy switches are the kernel's own bridges.
fn legacy(topology: &Topology) -> Vec<Request> {
    let mut requests = Vec::new();
    for (n, switch) in (0u32..).zip(&topology.switches).filter(|(_, s)| s.legacy) {
        let bridge = SWITCH_BASE + topology.links.len() as u32 * 2 + n;
        requests.push(link::bridge(&switch.name, bridge, None));
        for (_, id) in topology.ports(NodeId::Switch(SwitchId(n))) {
            let Some(link) = topology.link(*id) else { continue };
            let side = u32::from(link.b.node == NodeId::Switch(SwitchId(n)));
            requests.push(link::plug(SWITCH_BASE + id.0 * 2 + side, bridge));
        }
    }
    requests
}

/// Takes the switches' interfaces away, all at once. vswitchd would close its own one by one when
/// it ends, and the kernel would wait for its readers each time.
///
/// # Errors
/// When the kernel refuses; ending takes longer then, and that is all.
pub fn unplug() -> Result<(), tandem_linux::Error> {
    let mut netlink = Netlink::open()?;
    let all = link::list(&mut netlink)?;
    let indices: Vec<u32> = all.iter().filter(|i| i.name != "lo").map(|i| i.index).collect();
    netlink.batch(&link::delete_together(&indices))
}

/// Switches per role, for people.
pub fn roles(topology: &Topology) -> BTreeMap<Role, usize> {
    let mut counts = BTreeMap::new();
    for switch in topology.switches.iter().filter(|s| !s.legacy) {
        *counts.entry(switch.role).or_default() += 1;
    }
    counts
}
