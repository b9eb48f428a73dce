//! From placements and routes to rules.
//!
//! Table 0 says who may send: discovery, ARP and DHCP go to the controller; a server's port lets through the server itself
//! and its VMs, each only with its own Ethernet and IP address, and nothing else (`super::edge`). Table 1 says where to: by destination
//! prefix, so that core and aggregation switches need no rule per VM; a VM that is not on its default path has exact rules
//! above the prefixes.
//!
//! Where a packet enters the data centre it is marked with its class's DSCP, over whatever its sender had written there. Switches that
//! choose queues by rule also choose one there, and by the mark everywhere else; the others have filters at their ports for that.

use super::{RuleSet, edge};
use crate::live::is_openflow;
use crate::routes::{Destination, Routes};
use std::collections::BTreeSet;
use tandem_model::paths;
use tandem_model::{
    ClassId, Cookie, ETH_IPV4, ETH_LLDP, Hop, LinkId, NodeId, Owner, PortNo, Prefix, Rule, RuleAction,
    RuleKey, RuleMatch, Site, SwitchId, Topology, VlanTag, VmRecord,
};

/// The distance between priorities of table 0; priorities of table 1 are below it.
pub const STEP: u16 = 512;

/// Priorities of table 0, lowest first.
pub(super) mod source {
    use super::STEP;
    /// Everything else goes on to table 1.
    pub(in crate::rules) const REST: u16 = STEP;
    /// By its mark to its queue, and on to table 1.
    pub(in crate::rules) const CLASS: u16 = 2 * STEP;
    /// From a member of a group elsewhere: labelled, and on to table 1. Not from machines here: it is below what denies them.
    pub(in crate::rules) const LABEL: u16 = 3 * STEP;
    /// Discovery to the controller, but not from machines: it is below what denies them.
    pub(in crate::rules) const LLDP: u16 = 4 * STEP;
    /// A machine's port: nothing that was not let through above.
    pub(in crate::rules) const DENY: u16 = 5 * STEP;
    /// A gateway's port: the mark of the default class, whatever the outside had written there.
    pub(in crate::rules) const ENTRY: u16 = 6 * STEP;
    /// A gateway's port, to a VM of another class.
    pub(in crate::rules) const VM_ENTRY: u16 = 7 * STEP;
    /// A gateway's port, from an address that is inside.
    pub(in crate::rules) const SPOOFED: u16 = 8 * STEP;
    /// The server itself.
    pub(in crate::rules) const SERVER: u16 = 9 * STEP;
    /// A VM to the outside.
    pub(in crate::rules) const VM: u16 = 10 * STEP;
    /// A VM to the inside: dropped.
    pub(in crate::rules) const ISOLATE: u16 = 11 * STEP;
    /// A VM of a group to the inside: labelled, and on to table 1.
    pub(in crate::rules) const MEMBER: u16 = 12 * STEP;
    /// A VM to a gateway's own address.
    pub(in crate::rules) const GATEWAY: u16 = 13 * STEP;
    /// A VM to a member of its group.
    pub(in crate::rules) const GROUP: u16 = 14 * STEP;
    /// To many machines: dropped.
    pub(in crate::rules) const MULTICAST: u16 = 15 * STEP;
    /// ARP and DHCP to the controller.
    pub(in crate::rules) const PUNT: u16 = 16 * STEP;
    /// From one server of a migration to the other: nothing of the above matches that.
    pub(in crate::rules) const MIGRATION: u16 = 17 * STEP;
}

/// Priorities of table 1, lowest first; all below `STEP`.
pub(super) mod target {
    /// Outside the data centre.
    pub(in crate::rules) const OUTSIDE: u16 = 10;
    /// Inside the data centre, but nobody's address.
    pub(in crate::rules) const NOBODY: u16 = 20;
    /// An edge's prefix.
    pub(in crate::rules) const PREFIX: u16 = 100;
    /// A gateway's own address.
    pub(in crate::rules) const HOST: u16 = 200;
    /// To a VM at its edge, or off its default path.
    pub(in crate::rules) const VM_IN: u16 = 300;
    /// From a VM off its default path.
    pub(in crate::rules) const VM_OUT: u16 = 310;
    /// From inside to a VM: dropped.
    pub(in crate::rules) const ISOLATE: u16 = 320;
    /// To a server at its edge.
    pub(in crate::rules) const SERVER: u16 = 325;
    /// To a member of a group, between its edge and those of others.
    pub(in crate::rules) const TRANSIT: u16 = 326;
    /// From a labelled machine here to no member of its groups: dropped.
    pub(in crate::rules) const UNRELATED: u16 = 327;
    /// From a labelled packet's sender to a member of its group.
    pub(in crate::rules) const MEMBER: u16 = 328;
    /// The same, out of the port that it came in by.
    pub(in crate::rules) const NEIGHBOUR: u16 = 329;
    /// Between two members of a group.
    pub(in crate::rules) const GROUP: u16 = 330;
    /// Between the two servers of a migration.
    pub(in crate::rules) const MIGRATION: u16 = 340;
}

pub(super) fn rule(
    table: u8,
    priority: u16,
    matching: RuleMatch,
    actions: Vec<RuleAction>,
    cookie: Cookie,
) -> Rule {
    Rule { key: RuleKey { table, priority, matching }, actions, cookie }
}

pub(super) fn ip() -> RuleMatch {
    RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() }
}

/// How packets of classes are treated.
#[derive(Debug, Clone, Copy)]
pub struct Marking<'a> {
    /// Classes.
    pub site: &'a Site,
    /// The switches whose rules choose queues.
    pub queues: &'a BTreeSet<SwitchId>,
}

impl Marking<'_> {
    /// What is done first with a packet of a class (`None`: the default one) that enters at `switch`.
    pub(super) fn mark(&self, switch: SwitchId, class: Option<ClassId>) -> Vec<RuleAction> {
        let Some((id, class)) = self.site.class(class) else { return Vec::new() };
        let queue = self.queues.contains(&switch).then_some(RuleAction::SetQueue(id.0.into()));
        [Some(RuleAction::SetDscp(class.dscp)), queue].into_iter().flatten().collect()
    }

    /// Marked, and on to table 1.
    pub(super) fn go_on(&self, switch: SwitchId, class: Option<ClassId>) -> Vec<RuleAction> {
        let mut actions = self.mark(switch, class);
        actions.push(RuleAction::Goto(1));
        actions
    }

    /// Marked, and out of a port.
    pub(super) fn send(&self, switch: SwitchId, class: Option<ClassId>, port: PortNo) -> Vec<RuleAction> {
        let mut actions = self.mark(switch, class);
        match actions.pop() {
            Some(RuleAction::SetQueue(queue)) => actions.push(RuleAction::Enqueue { port, queue }),
            other => actions.extend(other.into_iter().chain([RuleAction::Output(port)])),
        }
        actions
    }
}

/// The port by which `node` sends on `link`.
pub fn port_on(topology: &Topology, node: NodeId, link: LinkId) -> Option<PortNo> {
    topology.link(link)?.end_at(node).map(|e| e.port)
}

/// The switch port that a server's uplink is plugged into, with its OpenFlow switch, and the hop's link at that switch.
pub fn server_port(topology: &Topology, vm: &VmRecord) -> Option<(SwitchId, PortNo)> {
    uplink_port(topology, vm.server, vm.uplink as usize)
}

/// See [`server_port`]; through a legacy switch, the port of the first OpenFlow switch behind it.
pub fn uplink_port(
    topology: &Topology,
    server: tandem_model::ServerId,
    uplink: usize,
) -> Option<(SwitchId, PortNo)> {
    let edge = topology.edge_of(server, uplink)?;
    let first = *topology.server(server)?.uplinks.get(uplink)?;
    if let Some(port) = port_on(topology, NodeId::Switch(edge), first) {
        return Some((edge, port));
    }
    let path = paths::all_shortest(topology, NodeId::Server(server), NodeId::Switch(edge), 1, |hop| {
        paths::tail(topology, hop) != Some(NodeId::Server(server)) || hop.link == first
    });
    let last = path.first()?.last()?;
    port_on(topology, NodeId::Switch(edge), last.link).map(|p| (edge, p))
}

/// Merges neighbouring prefixes with the same next hop into shorter ones, as long as exactly the same addresses are covered.
fn aggregate(mut routes: Vec<(Prefix, PortNo)>) -> Vec<(Prefix, PortNo)> {
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

fn switch_plan(marking: Marking<'_>, routes: &Routes, inside: &[Prefix], switch: SwitchId) -> Vec<Rule> {
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

fn table_one(site: &Site, routes: &Routes, switch: SwitchId, plan: Cookie, rules: &mut Vec<Rule>) {
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

/// The default paths of a VM: up to its gateway and down from it. `None` where there is none.
pub fn default_paths(topology: &Topology, routes: &Routes, vm: &VmRecord) -> Option<(Vec<Hop>, Vec<Hop>)> {
    let edge = topology.edge_of(vm.server, vm.uplink as usize)?;
    if !topology.switch(edge)?.prefix?.contains(vm.address) {
        return None;
    }
    paths_via(topology, routes, vm.server, vm.uplink as usize, vm.gateway)
}

/// The default paths between a server (by one of its uplinks) and a gateway, up and down.
pub fn paths_via(
    topology: &Topology,
    routes: &Routes,
    server: tandem_model::ServerId,
    uplink: usize,
    gateway: tandem_model::GatewayId,
) -> Option<(Vec<Hop>, Vec<Hop>)> {
    let edge = topology.edge_of(server, uplink)?;
    let access = access_path(topology, server, uplink)?;
    let mut up = access.clone();
    up.extend(routes.follow(topology, edge, routes.gateway_index(gateway))?);
    let first = *topology.gateway(gateway)?.uplinks.first()?;
    // Down: from the gateway's switch that its own way up ends at, which is where its replies start.
    let last = up.last().copied().filter(|h| paths::head(topology, *h) == Some(NodeId::Gateway(gateway)));
    let start = last.map_or(first, |h| h.link);
    let hop = topology.link(start)?.hop_from(start, NodeId::Gateway(gateway));
    let NodeId::Switch(entry) = paths::head(topology, hop)? else { return None };
    let mut down = vec![hop];
    down.extend(routes.follow(topology, entry, routes.edge_index(edge)?)?);
    down.extend(access.iter().rev().map(|h| Hop { link: h.link, down: !h.down }));
    Some((up, down))
}

/// From a server to its edge switch by one of its uplinks (over legacy switches if there are any).
pub fn access_path(topology: &Topology, server: tandem_model::ServerId, uplink: usize) -> Option<Vec<Hop>> {
    let tandem_model::Access { edge, hop, direct } = topology.access(server, uplink)?;
    if direct {
        return Some(vec![hop]);
    }
    let first = hop.link;
    let start = paths::head(topology, hop)?;
    let rest = paths::all_shortest(topology, start, NodeId::Switch(edge), 1, |h| h.link != first)
        .into_iter()
        .next()?;
    Some(std::iter::once(hop).chain(rest).collect())
}

/// The switch that a hop from a gateway leads to, with its port.
fn entry(topology: &Topology, hop: Hop) -> Option<(SwitchId, PortNo)> {
    let node @ NodeId::Switch(switch) = paths::head(topology, hop)? else { return None };
    is_openflow(topology, node).then_some(())?;
    port_on(topology, node, hop.link).map(|port| (switch, port))
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
fn leads_out(topology: &Topology, routes: &Routes, hop: Hop) -> bool {
    let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, hop) else { return true };
    let nearest = || routes.gateways_from(switch).into_iter().next();
    !is_openflow(topology, node)
        || nearest().and_then(|g| routes.next(routes.gateway_index(g), switch)) == Some(hop.link)
}

/// The same with rules all along its path, the default one too: for a VM that has another place beside this one.
pub fn vm_exact(marking: Marking<'_>, vm: &VmRecord, generation: u8) -> RuleSet {
    vm_beside(marking, None, vm, generation)
}

fn vm_beside(
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
