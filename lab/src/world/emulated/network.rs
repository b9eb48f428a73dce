//! A site's network made real by an engine ([`super::engine`]), and what is the same for all
//! engines: names, what happens inside a host, the hosts with their VMs.

use crate::node::hosts::{Host, Hosts};
use crate::node::static_arp;
use crate::world::emulated::agents::Agents;
use crate::world::emulated::engine::Steps;
use crate::world::emulated::lab_control::Start;
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_linux::{ethtool, link, tc};
use tandem_model::{
    GatewayId, LinkConfig, LinkId, Mac, NodeId, PortNo, Role, ServerId, Site, SwitchId, Topology,
};

/// Interface number of a node's bridge, inside its namespace. The lowest numbers may be taken: a
/// kernel with tunnel modules (gre, sit and their like) makes an interface of each in every new
/// namespace.
pub const BRIDGE: u32 = 30;

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

/// The name of a host's interface by its port: `eth0` is its first.
pub fn uplink_name(port: PortNo) -> String {
    format!("eth{}", port.0 - 1)
}

/// A server or gateway as the site has it.
#[derive(Debug, Clone, Copy)]
pub struct HostSpec<'a> {
    /// The node's id.
    pub node: NodeId,
    /// What it is called.
    pub name: &'a str,
    /// Its Ethernet address, at its first uplink.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its links, in order of its ports.
    pub uplinks: &'a [LinkId],
}

/// All servers by id, then all gateways by id.
pub fn host_specs(site: &Site) -> Vec<HostSpec<'_>> {
    let servers = (0u32..).zip(&site.topology.servers).map(|(n, s)| HostSpec {
        node: NodeId::Server(ServerId(n)),
        name: &s.name,
        mac: s.mac,
        address: s.address,
        uplinks: &s.uplinks,
    });
    let gateways = (0u32..).zip(&site.topology.gateways).map(|(n, g)| HostSpec {
        node: NodeId::Gateway(GatewayId(n)),
        name: &g.name,
        mac: g.mac,
        address: g.address,
        uplinks: &g.uplinks,
    });
    servers.chain(gateways).collect()
}

/// An interface of a host that leads to a switch.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// Its number in the host's namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// What it does to what it sends, where nobody else sees to that.
    pub shape: Option<tc::Shape>,
}

/// What has to be done inside a host's namespace.
pub struct NodeWork {
    name: String,
    requests: Vec<Request>,
    offload: Vec<String>,
}

impl NodeWork {
    /// What has to be done inside a host with these uplinks: one is the host's interface itself;
    /// several are ports of a bridge that does not pass packets from one to the other.
    pub fn new(site: &Site, host: &HostSpec<'_>, uplinks: &[Uplink]) -> NodeWork {
        let mut requests = vec![link::set_up(1, true)];
        let mut offload: Vec<String> = uplinks.iter().map(|u| u.name.clone()).collect();
        let len = site.addresses.network.len();
        for uplink in uplinks {
            requests.push(link::set_up(uplink.index, true));
            requests.extend(uplink.shape.into_iter().flat_map(|shape| tc::shape(uplink.index, shape)));
        }
        match (host.node, uplinks) {
            (NodeId::Gateway(_), [_, _, ..]) => {
                requests.push(link::bridge("br0", BRIDGE, Some(host.mac.0)));
                for uplink in uplinks {
                    requests.push(link::plug(uplink.index, BRIDGE));
                    requests.push(link::port_flags(uplink.index, true, false));
                }
                offload.push("br0".into());
                requests.push(link::address(BRIDGE, host.address, len));
            }
            // A server with several uplinks lives at its first; the others are for its VMs.
            (_, [first, ..]) => requests.push(link::address(first.index, host.address, len)),
            (_, []) => {}
        }
        NodeWork { name: host.name.to_owned(), requests, offload }
    }
}

/// A kernel without netem says only that it does not know it.
pub fn name_netem(error: tandem_linux::Error) -> tandem_linux::Error {
    match error {
        tandem_linux::Error::Refused { what, cause, .. }
            if what.starts_with("netem") && cause.kind() == std::io::ErrorKind::NotFound =>
        {
            no_netem()
        }
        other => other,
    }
}

/// What is said where a site delays or loses packets and the kernel cannot.
pub fn no_netem() -> tandem_linux::Error {
    tandem_linux::Error::Unsupported {
        feature: "netem (module sch_netem), which delays and loses packets",
        instead: "leave delay and loss out of the site file, or use another kernel",
    }
}

/// Does a host's part of the work, inside its namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn set_up_node(work: &NodeWork) -> anyhow::Result<()> {
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
    let mut steps = Steps::begin();
    let built = start.engine.engine().build(site, folder, start, &mut steps)?;
    let mut servers: Vec<Host> = built
        .servers
        .into_iter()
        .chain(built.gateways)
        .zip(host_specs(site))
        .map(|(made, spec)| Host {
            name: spec.name.to_owned(),
            ns: made.ns,
            mac: spec.mac.0,
            address: spec.address,
            prefix_len: site.addresses.network.len(),
            uplinks: made.uplinks,
            direct: true,
        })
        .collect();
    let gateways = servers.split_off(site.topology.servers.len());
    let hosts = Hosts::new(servers, gateways, folder)?;
    if !site.modules.arp {
        static_arp::hosts(&hosts).context("setting neighbours by hand ([modules] arp = false)")?;
        steps.done("neighbours");
    }
    let steps = steps.into_list();
    Ok(Network { root: built.root, hosts, agents: built.agents, ovs: built.ovs, steps })
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
