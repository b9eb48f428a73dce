//! What the site says is behind each switch port, legacy switches looked through: who may speak
//! there.
//!
//! Fixed for a site. Ports that it does not declare count as one per switch, so that nothing that
//! is kept per port can grow by what a switch or a machine says.

use crate::network::topology_state::is_openflow;
use std::collections::BTreeMap;
use tandem_model::{GatewayId, LinkId, NodeId, PortNo, ServerId, SwitchId, Topology};

/// A switch and one of its declared ports, or all that are not declared together.
pub type PortKey = (SwitchId, Option<PortNo>);

/// What is behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind<'a> {
    /// Other switches only: what comes in there has been judged where it entered.
    Switches,
    /// These servers, and so their VMs. Nobody else speaks there.
    Servers(&'a [ServerId]),
    /// These gateways, and the outside.
    Gateways(&'a [GatewayId]),
    /// The site does not say.
    Unknown,
}

#[derive(Debug, Clone, Default)]
struct Machines {
    servers: Vec<ServerId>,
    gateways: Vec<GatewayId>,
}

/// What the site says is behind each switch port.
#[derive(Debug, Clone, Default)]
pub struct AccessPorts {
    ports: BTreeMap<(SwitchId, PortNo), Machines>,
    switches: usize,
}

impl AccessPorts {
    /// Those of a topology.
    pub fn new(topology: &Topology) -> AccessPorts {
        let mut ports = BTreeMap::new();
        for n in 0..topology.switches.len() as u32 {
            let node = NodeId::Switch(SwitchId(n));
            for (port, link) in topology.ports(node).iter().filter(|_| is_openflow(topology, node)) {
                ports.insert((SwitchId(n), *port), machines(topology, node, *link));
            }
        }
        AccessPorts { ports, switches: topology.switches.len() }
    }

    /// What is behind a port.
    pub fn behind(&self, switch: SwitchId, port: PortNo) -> Behind<'_> {
        match self.ports.get(&(switch, port)) {
            None => Behind::Unknown,
            Some(m) if !m.servers.is_empty() => Behind::Servers(&m.servers),
            Some(m) if !m.gateways.is_empty() => Behind::Gateways(&m.gateways),
            Some(_) => Behind::Switches,
        }
    }

    /// What a port is counted as.
    pub fn key(&self, switch: SwitchId, port: PortNo) -> PortKey {
        (switch, self.ports.contains_key(&(switch, port)).then_some(port))
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.ports.len() + self.switches
    }

    /// The ports that a gateway is behind.
    pub fn of_gateway(&self, gateway: GatewayId) -> impl Iterator<Item = (SwitchId, PortNo)> {
        self.ports.iter().filter(move |(_, m)| m.gateways.contains(&gateway)).map(|(at, _)| *at)
    }
}

/// The machines that a link leads to from `node`.
fn machines(topology: &Topology, node: NodeId, link: LinkId) -> Machines {
    let mut found = Machines::default();
    let mut open = vec![(node, link)];
    let mut passed = Vec::new();
    while let Some((node, link)) = open.pop() {
        let Some(other) = topology.link(link).and_then(|l| l.other(node)) else { continue };
        match other.node {
            NodeId::Server(id) => found.servers.push(id),
            NodeId::Gateway(id) => found.gateways.push(id),
            legacy @ NodeId::Switch(_) if !is_openflow(topology, legacy) && !passed.contains(&legacy) => {
                passed.push(legacy);
                let onward = topology.ports(legacy).iter().map(|(_, l)| *l).filter(|l| *l != link);
                open.extend(onward.map(|l| (legacy, l)));
            }
            NodeId::Switch(_) => {}
        }
    }
    found.servers.sort_unstable();
    found.servers.dedup();
    found.gateways.sort_unstable();
    found.gateways.dedup();
    found
}
