//! Rules of a group by labels: as many as it has members in each switch, not as many as it has
//! pairs of them.
//!
//! 1. Where a packet enters by a member's port it is labelled with its sender's groups, in
//!    metadata, which goes from table 0 to table 1 and not beyond the switch. So every other edge
//!    with members labels what comes from elsewhere again, by its source: in the fabric that is
//!    what the edge where it entered has let through.
//! 2. Table 1 sends a labelled packet on to a member of one of its groups: out of its port if it is
//!    here, else by the default route to its edge. What was labelled by its port and is to nobody
//!    of its groups is dropped here; and nothing without a label is delivered from the inside at a
//!    member's edge (`edge::isolated`), so a packet needs a label at either end.
//! 3. In between, members are reached by rules per destination on the default routes, above what
//!    VMs off their default paths have: a group's packets take nothing of what is reserved there.
//!
//! A label has room for two groups: for that of the lower number and for another. What a VM sends
//! to members of further ones has rules pair by pair ([`super::pairwise`]), as have groups of a
//! few, which need fewer so, VMs with two places, and switches with one table or without metadata.
//! Those are above labels, and take the same ways.

use crate::network::attachment::{port_on, server_port};
use crate::network::routes::Routes;
use crate::network::topology_state::is_openflow;
use crate::rules::building_blocks::{Marking, ip, rule, source, target};
use crate::rules::desired::RuleSet;
use crate::rules::edge;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{
    Cookie, GroupId, Metadata, NodeId, Owner, PortNo, Prefix, Rule, RuleAction, RuleMatch, SwitchId,
    VmRecord, paths,
};

/// Groups of so many members have rules pair by pair: by labels they would have more.
pub const FEW: usize = 3;

/// The groups that a label has room for.
const SLOTS: usize = 2;

/// The bits of a group's number in a label. Labels stay below 2^53, which JSON numbers are exact
/// to.
const SLOT_BITS: u32 = 24;

const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// Says that a packet was labelled by the port that it came in by.
const ENTERED: u64 = 1 << (SLOT_BITS * SLOTS as u32);

/// All bits of a label.
const ALL: u64 = (ENTERED << 1) - 1;

/// What a VM's packets carry: its groups, lowest number first. Never none: that is what packets of
/// others carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    first: u32,
    second: Option<u32>,
}

impl Label {
    /// The label of a VM in these groups, in order of number: of the first that it has room for.
    pub fn new(groups: impl IntoIterator<Item = u32>) -> Option<Label> {
        let mut groups = groups.into_iter();
        Some(Label { first: groups.next()?, second: groups.next() })
    }

    /// True when members of a group are reached by it.
    pub fn names(self, group: u32) -> bool {
        self.first == group || self.second == Some(group)
    }

    fn bits(self) -> u64 {
        u64::from(self.first) | u64::from(self.second.unwrap_or(0)) << SLOT_BITS
    }

    fn slot(self, group: u32) -> usize {
        usize::from(self.first != group)
    }
}

/// A group's number in labels; `None` for one that does not fit.
pub fn number(group: GroupId) -> Option<u32> {
    u32::try_from(group.0).ok().filter(|n| *n != 0 && u64::from(*n) <= SLOT_MASK)
}

/// A place of a member.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The member, as it is there.
    pub vm: &'a VmRecord,
    /// What it is labelled with, if that names the group.
    pub label: Option<Label>,
    /// Packets to it go there.
    pub receives: bool,
}

/// What the rules are made from.
pub struct Fabric<'a> {
    /// How packets of classes are treated.
    pub marking: Marking<'a>,
    /// The default routes.
    pub routes: &'a Routes,
    /// Which switches have two tables and metadata.
    pub metadata: &'a dyn Fn(SwitchId) -> bool,
}

/// A place with its edge and the port there.
type At<'a> = (SwitchId, PortNo, &'a Place<'a>);

/// The rules of a group at the switches that have metadata.
pub fn group(fabric: &Fabric<'_>, number: u32, places: &[Place<'_>], rules: &mut RuleSet) {
    let topology = &fabric.marking.site.topology;
    let places: Vec<At<'_>> = places
        .iter()
        .filter_map(|p| server_port(topology, p.vm).map(|(edge, port)| (edge, port, p)))
        .collect();
    let edges: BTreeSet<SwitchId> = places.iter().map(|(edge, ..)| *edge).collect();
    for edge in edges.iter().filter(|e| (fabric.metadata)(**e)) {
        label(fabric, *edge, &places, rules);
        deliver(fabric, *edge, number, &places, rules);
    }
    transit(fabric, number, &places, rules);
}

fn cookie(group: u32) -> Cookie {
    Cookie::new(Owner::Group(group), 0)
}

/// Step 1. Groups that share a sender write the same rule for it, so it has the cookie of the first
/// of them.
fn label(fabric: &Fabric<'_>, edge: SwitchId, places: &[At<'_>], rules: &mut RuleSet) {
    let marking = fabric.marking;
    let network = marking.site.addresses.network;
    let delivers = places.iter().any(|(at, _, p)| *at == edge && p.receives);
    for (at, port, place) in places {
        let (Some(label), vm) = (place.label, place.vm) else { continue };
        let mark = marking.mark(edge, vm.request.class);
        let (ip_src, ip_dst) = (Some(Prefix::host(vm.address)), Some(network));
        let r = if *at == edge {
            let (in_port, eth_src) = (Some(*port), Some(vm.mac));
            let entering = RuleMatch { in_port, eth_src, ip_src, ip_dst, ..edge::plain_ip() };
            let carried = Metadata::new(label.bits() | ENTERED, ALL);
            let actions = mark.into_iter().chain([RuleAction::WriteMetadata(carried), RuleAction::Goto(1)]);
            rule(0, source::MEMBER, entering, actions.collect(), cookie(label.first))
        } else if delivers {
            let arriving = RuleMatch { ip_src, ip_dst, ..ip() };
            // It has its mark; its queue is chosen by that elsewhere, and here instead of there.
            let queue = mark.into_iter().filter(|a| matches!(a, RuleAction::SetQueue(_)));
            let carried = Metadata::new(label.bits(), ALL);
            let actions = queue.chain([RuleAction::WriteMetadata(carried), RuleAction::Goto(1)]);
            rule(0, source::LABEL, arriving, actions.collect(), cookie(label.first))
        } else {
            continue;
        };
        rules.insert((edge, r.key), r);
    }
}

/// Step 2.
fn deliver(fabric: &Fabric<'_>, edge: SwitchId, number: u32, places: &[At<'_>], rules: &mut RuleSet) {
    let topology = &fabric.marking.site.topology;
    let mut put = |r: Rule| {
        rules.insert((edge, r.key), r);
    };
    let slots: BTreeSet<usize> =
        places.iter().filter_map(|(_, _, p)| p.label).map(|label| label.slot(number)).collect();
    let labelled = |slot: usize| {
        let shift = SLOT_BITS * slot as u32;
        Metadata::new(u64::from(number) << shift, SLOT_MASK << shift)
    };
    let senders: Vec<&At<'_>> = places.iter().filter(|(at, _, p)| *at == edge && p.label.is_some()).collect();
    for (at, port, place) in places.iter().filter(|(_, _, p)| p.receives) {
        let to = edge::to_machine(place.vm.mac, place.vm.address);
        let out = if *at == edge {
            Some(*port)
        } else if senders.is_empty() {
            None
        } else {
            let next = fabric.routes.edge_index(*at).and_then(|to| fabric.routes.next(to, edge));
            next.and_then(|link| port_on(topology, NodeId::Switch(edge), link))
        };
        let Some(out) = out else { continue };
        let has_neighbour =
            *at == edge && senders.iter().any(|(_, p, other)| p == port && other.vm.id != place.vm.id);
        for slot in &slots {
            let to = RuleMatch { metadata: Some(labelled(*slot)), ..to };
            put(rule(1, target::MEMBER, to, vec![RuleAction::Output(out)], cookie(number)));
            if has_neighbour {
                let to = RuleMatch { in_port: Some(*port), ..to };
                put(rule(1, target::NEIGHBOUR, to, vec![RuleAction::Hairpin], cookie(number)));
            }
        }
    }
    // Who is in two groups is dropped by the first.
    if senders.iter().any(|(_, _, p)| p.label.is_some_and(|label| label.first == number)) {
        let entered = Metadata::new(u64::from(number) | ENTERED, SLOT_MASK | ENTERED);
        let unrelated = RuleMatch { metadata: Some(entered), ..RuleMatch::default() };
        put(rule(1, target::UNRELATED, unrelated, Vec::new(), cookie(number)));
    }
}

/// Step 3. Servers' packets to members may take these ways too; they are dropped at their ends.
fn transit(fabric: &Fabric<'_>, number: u32, places: &[At<'_>], rules: &mut RuleSet) {
    let site = fabric.marking.site;
    let topology = &site.topology;
    let inside = edge::inside(site);
    let from: BTreeSet<SwitchId> =
        places.iter().filter(|(_, _, p)| p.label.is_some()).map(|(edge, ..)| *edge).collect();
    // The tree of the ways to an edge is the same for all members there.
    let mut trees: BTreeMap<SwitchId, BTreeSet<(SwitchId, PortNo)>> = BTreeMap::new();
    for (to, _, place) in places.iter().filter(|(_, _, p)| p.receives) {
        let tree = trees.entry(*to).or_insert_with(|| {
            let index = fabric.routes.edge_index(*to);
            let way = |from: &SwitchId| fabric.routes.follow(topology, *from, index?);
            let hops =
                from.iter().filter(|from| *from != to).filter_map(way).flat_map(|w| w.into_iter().skip(1));
            let inner = hops.filter_map(|hop| {
                let node @ NodeId::Switch(switch) = paths::tail(topology, hop)? else { return None };
                let port = port_on(topology, node, hop.link)?;
                (is_openflow(topology, node) && (fabric.metadata)(switch)).then_some((switch, port))
            });
            inner.collect()
        });
        let to = edge::to_machine(place.vm.mac, place.vm.address);
        for (switch, port) in tree.iter() {
            for part in &inside {
                let passing = RuleMatch { ip_src: Some(*part), ..to };
                let actions = vec![RuleAction::Output(*port)];
                let r = rule(1, target::TRANSIT, passing, actions, cookie(number));
                rules.insert((*switch, r.key), r);
            }
        }
    }
}
