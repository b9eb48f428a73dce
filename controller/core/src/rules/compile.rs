//! From placements and routes to rules.
//!
//! Table 0 says who may send: discovery, ARP and DHCP go to the controller; a server's port lets
//! through the server itself and its VMs, each only with its own Ethernet and IP address, and
//! nothing else (`super::edge`). Table 1 says where to: by destination prefix, so that core and
//! aggregation switches need no rule per VM; a VM that is not on its default path has exact rules
//! above the prefixes.
//!
//! Where a packet enters the data centre it is marked with its class's DSCP, over whatever its
//! sender had written there. Switches that choose queues by rule also choose one there, and by the
//! mark everywhere else; the others have filters at their ports for that.

use crate::network::attachment::{default_paths, entry, port_on, server_port};
use crate::network::routes::{Destination, Routes};
use crate::network::topology_state::is_openflow;
use crate::rules::building_blocks::{Marking, ip, rule, source, target};
use crate::rules::desired::RuleSet;
use crate::rules::edge;
use std::collections::BTreeSet;
use tandem_model::{
    Cookie, ETH_LLDP, Hop, NodeId, Owner, PortNo, Prefix, Rule, RuleAction, RuleMatch, Site, SwitchId,
    Topology, VlanTag, VmRecord, paths,
};

/// Merges neighbouring prefixes with the same next hop into shorter ones, as long as exactly the
/// same addresses are covered.
pub(crate) fn aggregate(mut routes: Vec<(Prefix, PortNo)>) -> Vec<(Prefix, PortNo)> {
    routes.sort_unstable();
    let mut merged: Vec<(Prefix, PortNo)> = Vec::with_capacity(routes.len());
    for mut route in routes {
        while let Some((left, port)) = merged.last().copied() {
            let parent = (left.len() == route.0.len() && left.len() > 0 && port == route.1)
                .then(|| Prefix::new(left.address(), left.len() - 1))
                .flatten()
                .filter(|p| {
                    p.covers(left) && p.covers(route.0) && left != route.0 && p.address() == left.address()
                });
            let Some(parent) = parent else { break };
            merged.pop();
            route = (parent, port);
        }
        merged.push(route);
    }
    merged
}

/// The rules that follow from the site and the default routes alone, for every OpenFlow switch.
pub fn plan(site: &Site, routes: &Routes, queues: &BTreeSet<SwitchId>) -> RuleSet {
    let marking = Marking { site, queues };
    let inside = edge::inside(site);
    let mut rules = RuleSet::new();
    for n in 0..site.topology.switches.len() as u32 {
        let switch = SwitchId(n);
        if is_openflow(&site.topology, NodeId::Switch(switch)) {
            for rule in switch_plan(marking, routes, &inside, switch) {
                rules.insert((switch, rule.key), rule);
            }
        }
    }
    rules
}

pub(crate) fn switch_plan(
    marking: Marking<'_>,
    routes: &Routes,
    inside: &[Prefix],
    switch: SwitchId,
) -> Vec<Rule> {
    let site = marking.site;
    let (base, plan) = (Cookie::new(Owner::Base, 0), Cookie::new(Owner::Fabric, 0));
    let mut rules = Vec::new();
    if site.modules.discovery {
        let lldp = RuleMatch { eth_type: Some(ETH_LLDP), ..RuleMatch::default() };
        rules.push(rule(0, source::LLDP, lldp, vec![RuleAction::Controller], base));
    }
    rules.push(rule(0, source::REST, RuleMatch::default(), vec![RuleAction::Goto(1)], base));
    for (n, class) in (0..).zip(&site.classes).filter(|_| marking.queues.contains(&switch)) {
        let marked = RuleMatch { ip_dscp: Some(class.dscp), ..ip() };
        rules.push(rule(0, source::CLASS, marked, vec![RuleAction::SetQueue(n), RuleAction::Goto(1)], base));
    }
    rules.extend(edge::edge(marking, inside, switch));
    table_one(site, routes, switch, plan, &mut rules);
    rules
}

pub(crate) fn table_one(site: &Site, routes: &Routes, switch: SwitchId, plan: Cookie, rules: &mut Vec<Rule>) {
    let topology = &site.topology;
    let node = NodeId::Switch(switch);
    let mut prefixes = Vec::new();
    for (index, destination) in routes.destinations().iter().enumerate() {
        let port = routes.next(index, switch).and_then(|link| port_on(topology, node, link));
        match destination {
            Destination::Edge(edge, prefix) if *edge == switch => {
                let to = RuleMatch { ip_dst: Some(*prefix), ..ip() };
                rules.push(rule(1, target::PREFIX, to, Vec::new(), plan));
            }
            Destination::Edge(_, prefix) => prefixes.extend(port.map(|p| (*prefix, p))),
            Destination::Gateway(id) => {
                let (Some(gateway), Some(port)) = (topology.gateway(*id), port) else { continue };
                let to = edge::to_machine(gateway.mac, gateway.address);
                rules.push(rule(1, target::HOST, to, vec![RuleAction::Output(port)], plan));
            }
        }
    }
    for (prefix, port) in aggregate(prefixes) {
        let to = RuleMatch { ip_dst: Some(prefix), ..ip() };
        rules.push(rule(1, target::PREFIX, to, vec![RuleAction::Output(port)], plan));
    }
    let nobody = RuleMatch { ip_dst: Some(site.addresses.network), ..ip() };
    rules.push(rule(1, target::NOBODY, nobody, Vec::new(), plan));
    let nearest = routes.gateways_from(switch).into_iter().next();
    let out = nearest.and_then(|g| routes.next(routes.gateway_index(g), switch));
    if let Some((link, port)) = out.and_then(|link| Some((link, port_on(topology, node, link)?))) {
        let to = edge::leaving(ip(), topology, switch, link);
        rules.push(rule(1, target::OUTSIDE, to, vec![RuleAction::Output(port)], plan));
    }
}

/// A VM's rules: at its edge always, along its path where that is not the default one.
pub fn vm(marking: Marking<'_>, routes: &Routes, vm: &VmRecord, generation: u8) -> RuleSet {
    let topology = &marking.site.topology;
    let default = default_paths(topology, routes, vm).map(|(up, down)| {
        // What goes outside takes the way to the nearest gateway, which need not be the VM's.
        let is_way_out =
            topology.gateways.len() < 2 || up.iter().all(|hop| leads_out(topology, routes, *hop));
        (if is_way_out { up } else { Vec::new() }, down)
    });
    vm_beside(marking, default, vm, generation)
}

/// True when a switch sends on this hop what has no more exact way to the outside.
pub(crate) fn leads_out(topology: &Topology, routes: &Routes, hop: Hop) -> bool {
    let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, hop) else { return true };
    let nearest = || routes.gateways_from(switch).into_iter().next();
    !is_openflow(topology, node)
        || nearest().and_then(|g| routes.next(routes.gateway_index(g), switch)) == Some(hop.link)
}

/// The same with rules all along its path, the default one too: for a VM that has another place
/// beside this one.
pub fn vm_exact(marking: Marking<'_>, vm: &VmRecord, generation: u8) -> RuleSet {
    vm_beside(marking, None, vm, generation)
}

pub(crate) fn vm_beside(
    marking: Marking<'_>,
    default: Option<(Vec<Hop>, Vec<Hop>)>,
    vm: &VmRecord,
    generation: u8,
) -> RuleSet {
    let site = marking.site;
    let topology = &site.topology;
    let cookie = Cookie::new(Owner::Vm(vm.id.0 as u32), generation);
    let mut rules = RuleSet::new();
    let Some((edge, port)) = server_port(topology, vm) else { return rules };
    let mut put = |switch: SwitchId, rule: Rule| {
        rules.insert((switch, rule.key), rule);
    };
    let from = RuleMatch {
        in_port: Some(port),
        eth_src: Some(vm.mac),
        ip_src: Some(Prefix::host(vm.address)),
        ..edge::plain_ip()
    };
    let inside = |prefix| RuleMatch { ip_dst: Some(prefix), ..from };
    let hop = vm.path_up.iter().find(|h| paths::tail(topology, **h) == Some(NodeId::Switch(edge)));
    let up = hop.and_then(|h| Some((h.link, port_on(topology, NodeId::Switch(edge), h.link)?)));
    if let Some((link, up)) = up {
        let send = marking.send(edge, vm.request.class, up);
        let out = |matching| edge::leaving(matching, topology, edge, link);
        put(edge, rule(0, source::VM, out(from), send.clone(), cookie));
        put(edge, rule(0, source::GATEWAY, out(inside(site.addresses.gateways)), send, cookie));
    }
    put(edge, rule(0, source::ISOLATE, inside(site.addresses.network), Vec::new(), cookie));
    let to = edge::to_machine(vm.mac, vm.address);
    put(edge, rule(1, target::VM_IN, to, vec![RuleAction::Output(port)], cookie));
    let is_at_home = topology.switch(edge).and_then(|s| s.prefix).is_some_and(|p| p.contains(vm.address));
    if !is_at_home {
        let inside = edge::inside(site);
        edge::isolated(&inside, Prefix::host(vm.address), cookie).for_each(|r| put(edge, r));
    }

    if vm.request.class.is_some()
        && vm.request.class != site.default_class
        && let Some((entry, port)) = vm.path_down.first().and_then(|h| entry(topology, *h))
    {
        let arriving = RuleMatch { in_port: Some(port), vlan: Some(VlanTag::NoVlan), ..to };
        put(entry, rule(0, source::VM_ENTRY, arriving, marking.go_on(entry, vm.request.class), cookie));
    }

    let exact = |path: &[Hop], matching: RuleMatch, priority: u16, put: &mut dyn FnMut(SwitchId, Rule)| {
        for hop in path {
            let Some(NodeId::Switch(switch)) = paths::tail(topology, *hop) else { continue };
            if switch == edge || !is_openflow(topology, NodeId::Switch(switch)) {
                continue;
            }
            if let Some(port) = port_on(topology, NodeId::Switch(switch), hop.link) {
                let matching = edge::leaving(matching, topology, switch, hop.link);
                put(switch, rule(1, priority, matching, vec![RuleAction::Output(port)], cookie));
            }
        }
    };
    if default.as_ref().map(|(up, _)| up) != Some(&vm.path_up) {
        let matching = RuleMatch { ip_src: Some(Prefix::host(vm.address)), ..ip() };
        exact(&vm.path_up, matching, target::VM_OUT, &mut put);
    }
    if default.as_ref().map(|(_, down)| down) != Some(&vm.path_down) {
        exact(&vm.path_down, to, target::VM_IN, &mut put);
    }
    rules
}
