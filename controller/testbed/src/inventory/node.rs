//! Reads a machine's switches, servers and gateways, and compares them with the site.

use super::value::{interface, name};
use super::{Node, Port};
use std::collections::BTreeSet;
use tandem_model::site::{Collector, Section};
use tandem_model::{NodeId, PortNo, Site};

/// The highest number of a port: OpenFlow 1.0 reserves numbers from 0xff00 on (OF 1.0 section
/// 5.2.1).
const HIGHEST_PORT: u32 = 0xfeff;

/// The kinds of nodes that a machine may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Server,
    Gateway,
}

impl Kind {
    /// The kind's key in an inventory.
    pub(super) fn key(self) -> &'static str {
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

/// What the nodes of one machine are checked against.
pub(super) struct Context<'a> {
    /// The interface of the control network.
    pub(super) control: &'a str,
    /// The interfaces that ports of this machine have already.
    pub(super) interfaces: BTreeSet<String>,
    /// Names of nodes that were read, over all machines.
    pub(super) names: &'a mut BTreeSet<String>,
    /// The site, when names and numbers are to be compared with it.
    pub(super) site: Option<&'a Site>,
}

/// Reads a node and its ports.
pub(super) fn node(mut s: Section<'_>, c: &mut Collector<'_>, kind: Kind, context: &mut Context<'_>) -> Node {
    let name = name(&mut s, c, "name = \"edge1\", as the site file calls it");
    if kind == Kind::Switch {
        s.word(c, "datapath", &[("ovs", ())]);
    }
    if !name.is_empty() && !context.names.insert(name.clone()) {
        s.fault(
            c,
            "name",
            format!("{name:?} is on two machines, or twice on one"),
            "write each switch, server and gateway once",
        );
    }
    let known = context.site.and_then(|site| site.topology.by_name(&name)).filter(|n| kind.is(*n));
    if let (Some(site), None, false) = (context.site, known, name.is_empty()) {
        let problem = format!("the site {} has no {} {name:?}", site.name, kind.key());
        s.fault(c, "name", problem, format!("it has {}", kind.names(site)));
    }
    let mut ports = Vec::new();
    let mut numbers = BTreeSet::new();
    for mut p in s.list(c, "port") {
        let number = port_number(&mut p, c, &name, &mut numbers);
        if let (Some(number), Some(site), Some(node)) = (number, context.site, known) {
            check_port_of_site(&mut p, c, &name, number, site, node);
        }
        let interface = port_interface(&mut p, c, context);
        p.finish(c);
        if let (Some(number), Some(interface)) = (number, interface) {
            ports.push(Port { number, interface });
        }
    }
    s.finish(c);
    Node { name, ports }
}

/// Reads a port's number, which is its own among `numbers`.
fn port_number(
    p: &mut Section<'_>,
    c: &mut Collector<'_>,
    node: &str,
    numbers: &mut BTreeSet<u32>,
) -> Option<u32> {
    let number = p.count(c, "number", 1..=HIGHEST_PORT);
    if number.is_none() && !p.has("number") {
        p.fault(c, "number", "the port has no number", "write number = 1, as the site's topology numbers it");
    }
    if let Some(number) = number
        && !numbers.insert(number)
    {
        p.fault(c, "number", format!("{node} has two ports {number}"), "give each port its own number");
    }
    number
}

/// Reports a port that the site's node does not have.
fn check_port_of_site(
    p: &mut Section<'_>,
    c: &mut Collector<'_>,
    name: &str,
    number: u32,
    site: &Site,
    node: NodeId,
) {
    if site.topology.link_at(node, PortNo(number)).is_none() {
        let all: Vec<String> = site.topology.ports(node).iter().map(|(p, _)| p.to_string()).collect();
        p.fault(
            c,
            "number",
            format!("{name} has no port {number} in the site"),
            format!("it has {}", all.join(", ")),
        );
    }
}

/// Reads a port's interface, which is no other port's and not the control network's.
fn port_interface(p: &mut Section<'_>, c: &mut Collector<'_>, context: &mut Context<'_>) -> Option<String> {
    let nic = interface(p, c, "interface");
    if nic.is_none() && !p.has("interface") {
        p.fault(
            c,
            "interface",
            "the port has no interface",
            "write interface = \"eth1\"; `ip link` on the machine shows them",
        );
    }
    if let Some(nic) = &nic {
        if nic == context.control {
            let problem =
                format!("{nic} carries the control network: in a switch it would cut off the machine");
            p.fault(c, "interface", problem, "write the interface that the data's cable is in");
        } else if !context.interfaces.insert(nic.clone()) {
            let problem = format!("{nic} is used twice on this machine");
            p.fault(c, "interface", problem, "give each port an interface of its own");
        }
    }
    nic
}
