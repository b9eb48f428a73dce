//! Tandem's own engine: a namespace per server and gateway, a switch of Open vSwitch or of the
//! agent's own per switch, a shaped veth pair per link; all over netlink, many at once.

use super::{agents, relay};
use crate::world::emulated::agents::Agents;
use crate::world::emulated::datapath::SwitchDatapaths;
use crate::world::emulated::engine::{Built, Engine, Node, Steps};
use crate::world::emulated::lab_control::Start;
use crate::world::emulated::network::{self, HostSpec, NodeWork, Uplink, name_netem, port_name, shape};
use anyhow::Context;
use std::path::Path;
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::{NetNs, visit};
use tandem_linux::ovs::Ovs;
use tandem_linux::{link, tc};
use tandem_model::{Endpoint, GatewayId, Link, LinkId, NodeId, PortNo, ServerId, Site, SwitchId, Topology};

/// Interface number of a node's port 0; its ports count from 1.
const PORT_BASE: u32 = 40;
/// Interface numbers of switch ports start here, two per link.
const SWITCH_BASE: u32 = 100;

/// Tandem's own engine.
pub struct Native;

impl Engine for Native {
    fn check(&self, _: &Site, _: &SwitchDatapaths) -> anyhow::Result<()> {
        // What the datapaths need is asked for already, and there is nothing else.
        Ok(())
    }

    fn build(&self, site: &Site, folder: &Path, start: &Start, steps: &mut Steps) -> anyhow::Result<Built> {
        build(site, folder, start, steps)
    }
}

fn build(site: &Site, folder: &Path, start: &Start, steps: &mut Steps) -> anyhow::Result<Built> {
    let topology = &site.topology;
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
    steps.done(if ovs.is_some() { "namespaces and Open vSwitch" } else { "namespaces" });

    let nets = Nets { root: &root, servers: &servers, gateways: &gateways };
    let mut netlink = Netlink::open()?;
    let mut requests: Vec<Request> =
        (0u32..).zip(&topology.links).map(|(n, link)| veth(site, &nets, LinkId(n), link)).collect();
    requests.push(link::set_up(1, true));
    netlink.batch(&requests).context("making links")?;
    steps.done("links");

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
    let hosts = network::host_specs(site);
    let places = servers.iter().chain(&gateways);
    let work: Vec<(&NetNs, NodeWork)> =
        places.zip(&hosts).map(|(ns, host)| (ns, NodeWork::new(site, host, &uplinks(site, host)))).collect();
    let setting = agents::Setting {
        folder,
        program: &start.agent_program,
        controller: &controller_for(topology, folder, start)?,
        agents: &start.agents,
        protocols: &start.protocols,
        per_switch: start.agent_per_switch,
        datapath: &start.datapath,
        adopt: false,
        shapes_ports: true,
    };
    // Shaping and the nodes' insides go on while the agents make the switches.
    let agents = std::thread::scope(|scope| -> anyhow::Result<Agents> {
        let nodes = scope.spawn(|| -> anyhow::Result<()> {
            visit(&work, network::set_up_node)?.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
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
    steps.done("bridges, addresses and shaping");
    let node = |ns, id| Node {
        ns,
        uplinks: topology.ports(id).iter().map(|(port, _)| (*port, PORT_BASE + port.0)).collect(),
    };
    let servers = (0u32..).zip(servers).map(|(n, ns)| node(ns, NodeId::Server(ServerId(n)))).collect();
    let gateways = (0u32..).zip(gateways).map(|(n, ns)| node(ns, NodeId::Gateway(GatewayId(n)))).collect();
    Ok(Built { root, servers, gateways, agents, ovs })
}

/// A host's uplinks, which this engine shapes together with all else that is done in the namespace.
fn uplinks(site: &Site, host: &HostSpec<'_>) -> Vec<Uplink> {
    let of = |id: &LinkId| {
        let link = site.topology.link(*id)?;
        let port = link.end_at(host.node)?.port;
        Some(Uplink {
            index: PORT_BASE + port.0,
            name: network::uplink_name(port),
            shape: Some(shape(&link.cfg)),
        })
    };
    host.uplinks.iter().filter_map(of).collect()
}

fn veth(site: &Site, nets: &Nets<'_>, id: LinkId, link: &Link) -> Request {
    let topology = &site.topology;
    let end = |end: Endpoint, side: u32| match end.node {
        NodeId::Switch(s) => (port_name(topology, s, end.port), SWITCH_BASE + id.0 * 2 + side, nets.root),
        NodeId::Server(s) => {
            (network::uplink_name(end.port), PORT_BASE + end.port.0, &nets.servers[s.0 as usize])
        }
        NodeId::Gateway(g) => {
            (network::uplink_name(end.port), PORT_BASE + end.port.0, &nets.gateways[g.0 as usize])
        }
    };
    let mac = |end: Endpoint| match end.node {
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

/// The controller in vswitchd's words. Of Unix sockets it takes only one per bridge in its own
/// folder, so these are links to the real one; one outside is found by the relay.
fn controller_for(topology: &Topology, folder: &Path, start: &Start) -> anyhow::Result<String> {
    let Some(socket) = start.controller.strip_prefix("unix:") else { return Ok(relay::target()) };
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
