//! Compares wanted rules with reported flows as sets: wanted flows that are missing are added,
//! flows that are not wanted are deleted. Only flows with a cookie of Tandem are considered.

use crate::codec::{ProtocolCodec, Reported};
use crate::wanted::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use tandem_model::{
    FlowSample, Leave, LeftRules, Owner, Prefix, Rule, RuleAction, RuleKey, RuleMatch, RuleSample, sum,
};

/// The changes that make a switch's flows equal to the wanted rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Repair {
    /// Rules that are missing or differ.
    pub(crate) add: Vec<Rule>,
    /// Whole messages that delete stale flows; the transaction ids are set when they are sent.
    pub(crate) erase: Vec<Vec<u8>>,
    /// The same for flows that were left until now and no longer are.
    pub(crate) let_go: Vec<Vec<u8>>,
    /// The flows that are left although no rule wants them.
    pub(crate) left: Vec<LeftRules>,
    /// Counters of each rule that the switch has as wanted.
    pub(crate) counted: Vec<RuleSample>,
}

/// Compares rules and flows by meaning: by the key and actions that the switch would report for a
/// rule.
pub(crate) fn repair(
    wanted: &Wanted,
    reported: &[Reported],
    leave: &Leave,
    codec: &dyn ProtocolCodec,
) -> Repair {
    let expected: BTreeMap<RuleKey, (&Rule, Option<Vec<RuleAction>>)> = wanted
        .values()
        .map(|rule| (wanted.meaning(&rule.key), (rule, codec.actions_as_reported(rule))))
        .collect();
    let mut right = BTreeSet::new();
    let (mut erase, mut let_go, mut counted) = (Vec::new(), Vec::new(), Vec::new());
    let unknown = Unknown::new(wanted, leave);
    let mut left: BTreeMap<Owner, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for flow in reported.iter().filter(|f| f.cookie.is_ours()) {
        match flow.key.and_then(|key| expected.get_key_value(&key)) {
            Some((key, (rule, actions))) if flow.actions == *actions && rule.cookie == flow.cookie => {
                if right.insert(key) {
                    counted.push(RuleSample { key: rule.key, counters: flow.counters });
                }
            }
            // Adding a rule replaces the flow with its key; a deletion as well would open a gap in
            // forwarding.
            Some(_) => {}
            None => match unknown.owner(flow) {
                None => erase.push(flow.erase.clone()),
                Some(owner) if unknown.is_let_go(owner) => let_go.push(flow.erase.clone()),
                Some(owner) => {
                    left.entry(owner).or_default().extend(flow.key.iter().flat_map(|k| machines(&k.matching)))
                }
            },
        }
    }
    let add = expected.iter().filter(|(key, _)| !right.contains(key)).map(|(_, (rule, _))| (*rule).clone());
    let left = left.into_iter().map(|(owner, addresses)| LeftRules { owner, addresses });
    Repair { add: add.collect(), erase, let_go, left: left.collect(), counted }
}

/// Owners that are not on record, whose flows are left in the switch until it is known who they
/// are.
struct Unknown<'a> {
    leave: &'a Leave,
    /// Owners of wanted rules here: other flows of theirs are stale.
    known: BTreeSet<Owner>,
}

impl Unknown<'_> {
    fn new<'a>(wanted: &Wanted, leave: &'a Leave) -> Unknown<'a> {
        let known = match leave {
            Leave::Nothing => BTreeSet::new(),
            Leave::Unknown { .. } => wanted.values().filter_map(|rule| rule.cookie.owner()).collect(),
        };
        Unknown { leave, known }
    }

    /// The owner of a flow, if the owner is unknown and the flow is to be left.
    fn owner(&self, flow: &Reported) -> Option<Owner> {
        let owner = flow.cookie.owner().filter(|o| o.is_recorded() && !self.leave.is_nothing())?;
        (!self.known.contains(&owner)).then_some(owner)
    }

    fn is_let_go(&self, owner: Owner) -> bool {
        matches!(self.leave, Leave::Unknown { but } if but.contains(&owner))
    }
}

/// The single addresses in a match: the sender, and the receiver if its Ethernet address is matched
/// too.
fn machines(matching: &RuleMatch) -> impl Iterator<Item = Ipv4Addr> {
    let to = matching.ip_dst.filter(|_| matching.eth_dst.is_some());
    [matching.ip_src, to].into_iter().flatten().filter(|p| p.len() == 32).map(Prefix::address)
}

/// Keys of other controllers' flows: in 1.0 a deletion of such a key would hit them.
pub(crate) fn foreign(reported: &[Reported]) -> BTreeSet<RuleKey> {
    reported.iter().filter(|f| !f.cookie.is_ours()).filter_map(|f| f.key).collect()
}

/// The counters of Tandem's flows, summed by cookie without its generation, so that a VM keeps its
/// sum when it gets another path.
pub(crate) fn samples(reported: &[Reported]) -> Vec<FlowSample> {
    let mut sums: BTreeMap<u64, FlowSample> = BTreeMap::new();
    for flow in reported.iter().filter(|f| f.cookie.is_ours()) {
        let all = sums.entry(flow.cookie.0 & !0xff).or_insert(FlowSample {
            cookie: flow.cookie,
            flows: 0,
            packets: Some(0),
            bytes: Some(0),
        });
        all.flows += 1;
        all.packets = sum([all.packets, flow.counters.packets]);
        all.bytes = sum([all.bytes, flow.counters.bytes]);
    }
    sums.into_values().collect()
}
