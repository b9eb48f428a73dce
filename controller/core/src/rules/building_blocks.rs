//! What rules are made of: priorities, and how packets of classes are marked.

use std::collections::BTreeSet;
use tandem_model::{ClassId, Cookie, ETH_IPV4, PortNo, Rule, RuleAction, RuleKey, RuleMatch, Site, SwitchId};

/// The distance between priorities of table 0; priorities of table 1 are below it.
pub const STEP: u16 = 512;

/// Priorities of table 0, lowest first.
pub(crate) mod source {
    use crate::rules::building_blocks::STEP;
    /// Everything else goes on to table 1.
    pub(in crate::rules) const REST: u16 = STEP;
    /// By its mark to its queue, and on to table 1.
    pub(in crate::rules) const CLASS: u16 = 2 * STEP;
    /// From a member of a group elsewhere: labelled, and on to table 1. Not from machines here: it
    /// is below what denies them.
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
pub(crate) mod target {
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

pub(crate) fn rule(
    table: u8,
    priority: u16,
    matching: RuleMatch,
    actions: Vec<RuleAction>,
    cookie: Cookie,
) -> Rule {
    Rule { key: RuleKey { table, priority, matching }, actions, cookie }
}

pub(crate) fn ip() -> RuleMatch {
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
    /// What is done first with a packet of a class (`None`: the default one) that enters at
    /// `switch`.
    pub(crate) fn mark(&self, switch: SwitchId, class: Option<ClassId>) -> Vec<RuleAction> {
        let Some((id, class)) = self.site.class(class) else { return Vec::new() };
        let queue = self.queues.contains(&switch).then_some(RuleAction::SetQueue(id.0.into()));
        [Some(RuleAction::SetDscp(class.dscp)), queue].into_iter().flatten().collect()
    }

    /// Marked, and on to table 1.
    pub(crate) fn go_on(&self, switch: SwitchId, class: Option<ClassId>) -> Vec<RuleAction> {
        let mut actions = self.mark(switch, class);
        actions.push(RuleAction::Goto(1));
        actions
    }

    /// Marked, and out of a port.
    pub(crate) fn send(&self, switch: SwitchId, class: Option<ClassId>, port: PortNo) -> Vec<RuleAction> {
        let mut actions = self.mark(switch, class);
        match actions.pop() {
            Some(RuleAction::SetQueue(queue)) => actions.push(RuleAction::Enqueue { port, queue }),
            other => actions.extend(other.into_iter().chain([RuleAction::Output(port)])),
        }
        actions
    }
}
