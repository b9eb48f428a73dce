//! Mininet as an engine of the emulated world: Mininet's Python API makes hosts, switches and links;
//! sandbox, agents, VMs, traffic and all that is asked for are the lab's, as with any engine.
//!
//! ```text
//! lab's process --a socket, lines of JSON--> driver.py --> Mininet: a shell and a namespace per host,
//!      |                                                   OVSSwitch, TCLink, RemoteController
//!      +--> the lab's own Open vSwitch, relay and agents <-- Mininet's switches
//! ```
//! Mininet's interfaces have the names that the lab's own have, and its hosts are entered by the
//! namespaces of their shells. Where a site has classes, the agent shapes the switches' ports, as
//! Mininet knows no classes; else TCLink shapes both ends of each link.

mod driver;
pub mod topology;

use crate::world::emulated::agents::{self, is_imitated};
use crate::world::emulated::datapath::SwitchDatapaths;
use crate::world::emulated::engine::{Built, Engine, Node, Steps};
use crate::world::emulated::lab_control::Start;
use crate::world::emulated::network::{self, HostSpec, NodeWork, Uplink};
use crate::world::emulated::relay;
use crate::world::emulated::room::Required;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::{NetNs, visit};
use tandem_linux::ovs::Ovs;
use tandem_linux::{link, probe, tc};
use tandem_model::{NodeId, Site};
use topology::Network;

pub use driver::{Driver, Times, installed};

/// KiB of a shell in a pseudo-terminal, of which each host and each switch has one: 433 MB were
/// measured with 1,057 of them.
const SHELL_KIB: u64 = 450;

/// The engine.
pub struct Mininet;

impl Engine for Mininet {
    fn check(&self, site: &Site, datapaths: &SwitchDatapaths) -> anyhow::Result<()> {
        for switch in site.topology.switches.iter().filter(|s| !s.legacy) {
            let made_of = datapaths.of(switch);
            if !made_of.lab.needs_open_vswitch {
                bail!(
                    "Mininet's switches are Open vSwitch's, and {} is to be made of {}: install it (apt-get install \
                     openvswitch-switch) and leave --datapath out, or take the engine native",
                    switch.name,
                    made_of.name
                );
            }
        }
        installed()
    }

    fn needs_tcp(&self) -> bool {
        true
    }

    fn require(&self, site: &Site, required: &mut Required) {
        let t = &site.topology;
        let shells = (t.servers.len() + t.gateways.len() + t.switches.len()) as u64;
        required.memory_kib += shells * SHELL_KIB;
        required.tasks += shells;
        // The driver holds two ends of each shell's pseudo-terminal.
        required.descriptors = required.descriptors.max(2 * shells);
    }

    fn build(&self, site: &Site, folder: &Path, start: &Start, steps: &mut Steps) -> anyhow::Result<Built> {
        link::disable_ipv6();
        let root = NetNs::current()?;
        check_netem(site)?;
        let ovs = Ovs::start(folder)?;
        steps.done("Open vSwitch");
        let shapes_ports = !site.classes.is_empty();
        let (ip, port) = relay::INSIDE;
        let controller = topology::Controller { ip, port };
        let network = Network::of(site, &start.protocols, ovs.datapath(), !shapes_ports, Some(controller));
        let mut driver = Driver::start(folder)?;
        let made = driver.build(&network, build_limit(&network))?;
        steps.took("Mininet: hosts and links", made.seconds.build);
        steps.took("Mininet: switches", made.seconds.start);
        driver.end_with_it()?;
        let mut servers = settle_hosts(site, &made.pids)?;
        short_queues(site, !shapes_ports)?;
        steps.done("hosts' namespaces, queues");
        let setting = agents::Setting {
            folder,
            program: &start.agent_program,
            controller: &relay::target(),
            agents: &start.agents,
            protocols: &start.protocols,
            per_switch: start.agent_per_switch,
            datapath: &start.datapath,
            adopt: true,
            shapes_ports,
        };
        let agents = agents::start(site, Some(&ovs), &setting)?;
        steps.done("agents");
        let gateways = servers.split_off(site.topology.servers.len());
        Ok(Built { root, servers, gateways, agents, ovs: Some(ovs) })
    }
}

/// TCLink delays and loses by netem, and goes on without where there is none.
fn check_netem(site: &Site) -> anyhow::Result<()> {
    let wanted = site.topology.links.iter().any(|l| is_imitated(&l.cfg));
    if wanted && !probe::queueing()?.netem {
        return Err(network::no_netem().into());
    }
    Ok(())
}

/// How long Mininet may take: about 0.07 s for each end of a link that it shapes, and the same for
/// each node, on a busy machine of two cores; several times over.
pub fn build_limit(network: &Network) -> Duration {
    const LEAST: Duration = Duration::from_secs(120);
    const EACH: Duration = Duration::from_millis(500);
    LEAST + EACH * u32::try_from(network.size()).unwrap_or(u32::MAX)
}

/// What the lab does in the hosts' namespaces beside Mininet, and where they are: servers by id, then
/// gateways.
fn settle_hosts(site: &Site, pids: &BTreeMap<String, i32>) -> anyhow::Result<Vec<Node>> {
    let specs = network::host_specs(site);
    let places = specs.iter().map(|host| {
        let pid = pids.get(host.name).with_context(|| format!("Mininet has no host {}", host.name))?;
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).with_context(|| format!("opening {path}, of {}'s shell", host.name))?;
        Ok((NetNs::from(OwnedFd::from(file)), host))
    });
    let places: Vec<(NetNs, &HostSpec<'_>)> = places.collect::<anyhow::Result<_>>()?;
    let visits: Vec<(&NetNs, &HostSpec<'_>)> = places.iter().map(|(ns, host)| (ns, *host)).collect();
    let uplinks = visit(&visits, |host| settle_host(site, host))?;
    let nodes = places.into_iter().zip(uplinks).map(|((ns, host), uplinks)| {
        let uplinks = uplinks.with_context(|| format!("setting up {}", host.name))?;
        Ok(Node { ns, uplinks })
    });
    nodes.collect()
}

/// Called inside the host's namespace.
fn settle_host(site: &Site, host: &HostSpec<'_>) -> anyhow::Result<Vec<(tandem_model::PortNo, u32)>> {
    link::disable_ipv6();
    let there = indices()?;
    let mut ports = Vec::new();
    let mut uplinks = Vec::new();
    let mut queues = Vec::new();
    for id in host.uplinks {
        let Some(link) = site.topology.link(*id) else { continue };
        let Some(end) = link.end_at(host.node) else { continue };
        let name = network::uplink_name(end.port);
        let index = *there.get(&name).with_context(|| format!("Mininet has not made {name}"))?;
        ports.push((end.port, index));
        if !is_imitated(&link.cfg) {
            queues.push(tc::leaf_under(index, topology::CLASS, link.cfg.queue));
        }
        uplinks.push(Uplink { index, name, shape: None });
    }
    network::set_up_node(&NodeWork::new(site, host, &uplinks))?;
    Netlink::open()?.batch(&queues).context("short queues")?;
    Ok(ports)
}

fn indices() -> anyhow::Result<BTreeMap<String, u32>> {
    let list = Netlink::open().and_then(|mut n| link::list(&mut n))?;
    Ok(list.into_iter().map(|i| (i.name, i.index)).collect())
}

/// Gives the ports that TCLink shapes the site's queues. Mininet leaves them with the kernel's 1000
/// packets, which is more than vswitchd's packet sockets can hold: packets to other ports are lost
/// then.
fn short_queues(site: &Site, shaped: bool) -> anyhow::Result<()> {
    let there = indices()?;
    let mut requests: Vec<Request> = Vec::new();
    for l in site.topology.links.iter().filter(|l| !is_imitated(&l.cfg)) {
        for end in [l.a, l.b] {
            let NodeId::Switch(switch) = end.node else { continue };
            let is_legacy = site.topology.switch(switch).is_some_and(|s| s.legacy);
            if !shaped && !is_legacy {
                continue;
            }
            let name = network::port_name(&site.topology, switch, end.port);
            let index = *there.get(&name).with_context(|| format!("Mininet has not made {name}"))?;
            requests.push(tc::leaf_under(index, topology::CLASS, l.cfg.queue));
        }
    }
    Netlink::open()?.batch(&requests).context("short queues at switches")
}
