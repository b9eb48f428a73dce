//! Two tables into one, for switches that have only one (OpenFlow 1.0).
//!
//! A rule of table 0 that goes on to table 1 becomes its product with every rule of table 1; a
//! packet that finds nothing in table 1 is dropped, so each such rule also leaves a drop of its
//! own. Priorities of table 0 are multiples of [`super::building_blocks::STEP`] and those of table
//! 1 are below it, so that their sum keeps both orders.
//!
//! What a rule of table 0 writes into metadata is known where its product is made: so is which
//! rules of table 1 it meets, and the product needs no metadata.

use std::collections::BTreeMap;
use tandem_model::{Owner, Prefix, Rule, RuleAction, RuleKey, RuleMatch, VlanTag};

fn both<T: PartialEq + Copy>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(x), Some(y)) if x != y => None,
        (Some(x), _) | (None, Some(x)) => Some(Some(x)),
        (None, None) => Some(None),
    }
}

fn prefixes(a: Option<Prefix>, b: Option<Prefix>) -> Option<Option<Prefix>> {
    match (a, b) {
        (Some(x), Some(y)) if x.covers(y) => Some(Some(y)),
        (Some(x), Some(y)) if y.covers(x) => Some(Some(x)),
        (Some(_), Some(_)) => None,
        (x, y) => Some(x.or(y)),
    }
}

/// What both match; `None` when no packet does. Metadata is left out: it is no condition of one
/// table.
pub fn intersect(a: &RuleMatch, b: &RuleMatch) -> Option<RuleMatch> {
    Some(RuleMatch {
        in_port: both(a.in_port, b.in_port)?,
        metadata: None,
        eth_src: both(a.eth_src, b.eth_src)?,
        eth_dst: both(a.eth_dst, b.eth_dst)?,
        eth_type: both(a.eth_type, b.eth_type)?,
        vlan: match (a.vlan, b.vlan) {
            (Some(x), Some(y)) => Some(x.both(y)?),
            (x, y) => x.or(y),
        },
        ip_src: prefixes(a.ip_src, b.ip_src)?,
        ip_dst: prefixes(a.ip_dst, b.ip_dst)?,
        ip_dscp: both(a.ip_dscp, b.ip_dscp)?,
        ip_proto: both(a.ip_proto, b.ip_proto)?,
        l4_src: both(a.l4_src, b.l4_src)?,
        l4_dst: both(a.l4_dst, b.l4_dst)?,
    })
}

fn sends(action: &RuleAction) -> bool {
    use RuleAction::{Controller, Enqueue, Hairpin, Output};
    matches!(action, Output(_) | Hairpin | Controller | Enqueue { .. })
}

/// What a packet carries into the next table. It enters with nothing.
fn metadata(actions: &[RuleAction]) -> u64 {
    actions.iter().fold(0, |bits, action| match action {
        RuleAction::WriteMetadata(metadata) => metadata.written_over(bits),
        _ => bits,
    })
}

/// A queue that was chosen before, and the output that it was chosen for, in one action; metadata
/// is not for the only table.
fn enqueued(actions: &[RuleAction]) -> Vec<RuleAction> {
    let mut chosen = None;
    let mut out = Vec::new();
    for action in actions {
        match (*action, chosen) {
            (RuleAction::SetQueue(queue), _) => chosen = Some(queue),
            (RuleAction::WriteMetadata(_), _) => {}
            (RuleAction::Output(port), Some(queue)) => out.push(RuleAction::Enqueue { port, queue }),
            (other, _) => out.push(other),
        }
    }
    out
}

/// In two tables, a packet that a rule sends out of the port it came in by is dropped there (OF
/// 1.3.5 section 7.2.5); only the product knows that port, and a switch may refuse a rule that
/// names it in both places (OF 1.0 section 5.3.3).
fn not_back(matching: &RuleMatch, actions: Vec<RuleAction>) -> Vec<RuleAction> {
    let back = |action: &RuleAction| match *action {
        RuleAction::Output(port) | RuleAction::Enqueue { port, .. } => matching.in_port == Some(port),
        _ => false,
    };
    actions.into_iter().filter(|a| !back(a)).collect()
}

/// OpenFlow 1.0 has no word for "of no VLAN": a rule for each tag that is of none. What is dropped
/// is dropped with any tag.
fn by_tag(rule: &Rule) -> Vec<Rule> {
    if rule.key.matching.vlan != Some(VlanTag::NoVlan) {
        return vec![rule.clone()];
    }
    let with = |tag| {
        let matching = RuleMatch { vlan: Some(tag), ..rule.key.matching };
        Rule { key: RuleKey { matching, ..rule.key }, ..rule.clone() }
    };
    vec![with(VlanTag::Untagged), with(VlanTag::Priority)]
}

/// The rules of two tables as rules of one table, with the same effect.
pub fn flatten<'a>(rules: impl Iterator<Item = &'a Rule> + Clone) -> BTreeMap<RuleKey, Rule> {
    let mut second: Vec<&Rule> = rules.clone().filter(|r| r.key.table == 1).collect();
    second.sort_by_key(|r| std::cmp::Reverse(r.key.priority));
    let mut flat = BTreeMap::new();
    let enters = |r: &&Rule| r.key.table == 0 && r.key.matching.metadata.is_none_or(|m| m.matches(0));
    for first in rules.filter(enters).flat_map(by_tag) {
        let goes_on = first.actions.iter().any(|a| matches!(a, RuleAction::Goto(_)));
        let before: Vec<RuleAction> =
            first.actions.iter().copied().filter(|a| !matches!(a, RuleAction::Goto(_))).collect();
        let alone = if goes_on && !before.iter().any(sends) { Vec::new() } else { enqueued(&before) };
        let bits = metadata(&before);
        let key = RuleKey { matching: RuleMatch { metadata: None, ..first.key.matching }, ..first.key };
        flat.insert(key, Rule { key, actions: alone, ..first });
        if !goes_on {
            continue;
        }
        // What is dropped here needs no rule below: a server reaches none of the VMs at its edge.
        let mut dropped: Vec<RuleMatch> = Vec::new();
        for next in second.iter().filter(|n| n.key.matching.metadata.is_none_or(|m| m.matches(bits))) {
            let Some(matching) = intersect(&key.matching, &next.key.matching) else { continue };
            if dropped.iter().any(|d| intersect(d, &matching) == Some(matching)) {
                continue;
            }
            let sequence: Vec<RuleAction> = before.iter().chain(&next.actions).copied().collect();
            let sequence = not_back(&matching, enqueued(&sequence));
            let actions = if sequence.iter().any(sends) { sequence } else { Vec::new() };
            if next.actions.is_empty() {
                dropped.push(matching);
            }
            let key = RuleKey { table: 0, priority: key.priority + next.key.priority, matching };
            // What a VM's rule begins stays and goes with the VM.
            let is_recorded = first.cookie.owner().is_some_and(Owner::is_recorded);
            let cookie = if is_recorded { first.cookie } else { next.cookie };
            flat.insert(key, Rule { key, actions, cookie });
        }
    }
    flat
}
