//! Rules between two machines of the data centre: a VM of a group and another, and the two servers
//! of a migration.

use crate::network::attachment::{port_on, server_port, uplink_port};
use crate::network::routes::Routes;
use crate::network::topology_state::is_openflow;
use crate::rules::building_blocks::{Marking, rule, source, target};
use crate::rules::desired::RuleSet;
use crate::rules::edge;
use tandem_model::{
    ClassId, Cookie, Hop, NodeId, Prefix, Rule, RuleAction, RuleMatch, ServerId, SwitchId, Topology, VlanTag,
    VmRecord, paths,
};

/// The default way between the edges of two VMs; empty where they have the same one. The ways to
/// one edge are a tree: where two of them meet they go on as one.
pub fn way(topology: &Topology, routes: &Routes, a: &VmRecord, b: &VmRecord) -> Option<Vec<Hop>> {
    let (from, to) = (server_port(topology, a)?.0, server_port(topology, b)?.0);
    if from == to {
        return Some(Vec::new());
    }
    routes.follow(topology, from, routes.edge_index(to)?)
}

/// The rules by which one VM of a group reaches another, on a way between their edges, at the
/// switches that are `meant`.
pub fn pair(
    marking: Marking<'_>,
    (a, b): (&VmRecord, &VmRecord),
    path: &[Hop],
    cookie: Cookie,
    meant: &dyn Fn(SwitchId) -> bool,
    rules: &mut RuleSet,
) {
    let topology = &marking.site.topology;
    let (Some((edge_a, port_a)), Some((edge_b, port_b))) =
        (server_port(topology, a), server_port(topology, b))
    else {
        return;
    };
    let from = NodeId::Switch(edge_a);
    let pair = RuleMatch { ip_src: Some(Prefix::host(a.address)), ..edge::to_machine(b.mac, b.address) };
    let entry =
        RuleMatch { in_port: Some(port_a), eth_src: Some(a.mac), vlan: Some(VlanTag::NoVlan), ..pair };
    let mut put = |switch: SwitchId, r: Rule| {
        if meant(switch) {
            rules.insert((switch, r.key), r);
        }
    };
    let class = a.request.class;
    let first = match path.first() {
        None if port_a == port_b => {
            let mark = marking.mark(edge_a, class).into_iter();
            mark.filter(|m| !matches!(m, RuleAction::SetQueue(_))).chain([RuleAction::Hairpin]).collect()
        }
        None => marking.send(edge_a, class, port_b),
        Some(hop) => match port_on(topology, from, hop.link) {
            Some(port) => marking.send(edge_a, class, port),
            None => Vec::new(),
        },
    };
    put(edge_a, rule(0, source::GROUP, entry, first, cookie));
    for hop in path.iter().skip(1) {
        let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, *hop) else { continue };
        if let (true, Some(port)) = (is_openflow(topology, node), port_on(topology, node, hop.link)) {
            put(switch, rule(1, target::GROUP, pair, vec![RuleAction::Output(port)], cookie));
        }
    }
    if edge_a != edge_b {
        put(edge_b, rule(1, target::GROUP, pair, vec![RuleAction::Output(port_b)], cookie));
    }
}

/// The rules of a migration's own traffic, both ways along its path between two servers, in its
/// class.
pub fn migration(
    marking: Marking<'_>,
    (from, to): (ServerId, ServerId),
    path: &[Hop],
    class: Option<ClassId>,
    cookie: Cookie,
) -> RuleSet {
    let topology = &marking.site.topology;
    let back: Vec<Hop> = path.iter().rev().map(|h| Hop { link: h.link, down: !h.down }).collect();
    let mut rules = RuleSet::new();
    for (from, to, path) in [(from, to, path), (to, from, &back)] {
        let (Some(sender), Some(receiver)) = (topology.server(from), topology.server(to)) else { continue };
        let both = RuleMatch {
            ip_src: Some(Prefix::host(sender.address)),
            ..edge::to_machine(receiver.mac, receiver.address)
        };
        if let Some((edge, port)) = uplink_port(topology, from, 0) {
            let entering = RuleMatch {
                in_port: Some(port),
                eth_src: Some(sender.mac),
                vlan: Some(VlanTag::NoVlan),
                ..both
            };
            let r = rule(0, source::MIGRATION, entering, marking.go_on(edge, class), cookie);
            rules.insert((edge, r.key), r);
        }
        for hop in path {
            let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, *hop) else { continue };
            if let (true, Some(port)) = (is_openflow(topology, node), port_on(topology, node, hop.link)) {
                let r = rule(1, target::MIGRATION, both, vec![RuleAction::Output(port)], cookie);
                rules.insert((switch, r.key), r);
            }
        }
    }
    rules
}
