//! Wanted rules against reported flows: what is missing, what is stale. Set difference, and only flows with our cookie count.

use crate::speaker::{Reported, Speaker};
use crate::wanted::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{FlowSample, Rule, RuleAction, RuleKey};

/// What has to be done to make a switch's flows of ours equal to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Repair {
    /// Missing or different.
    pub(crate) add: Vec<Rule>,
    /// Whole messages that delete stale flows; their transaction ids are still to be set.
    pub(crate) erase: Vec<Vec<u8>>,
}

/// See the module. Rules and flows are compared by meaning: by the key and actions that a rule would be reported with.
pub(crate) fn repair(wanted: &Wanted, reported: &[Reported], speaker: &dyn Speaker) -> Repair {
    let expected: BTreeMap<RuleKey, (&Rule, Option<Vec<RuleAction>>)> = wanted
        .values()
        .map(|rule| (wanted.meaning(&rule.key), (rule, speaker.actions_as_reported(rule))))
        .collect();
    let mut right = BTreeSet::new();
    let mut erase = Vec::new();
    for flow in reported.iter().filter(|f| f.cookie.is_ours()) {
        match flow.key.and_then(|key| expected.get_key_value(&key)) {
            Some((key, (rule, actions))) if flow.actions == *actions && rule.cookie == flow.cookie => {
                right.insert(key);
            }
            // The same key is replaced by adding it; deleting it as well would open a gap.
            Some(_) => {}
            None => erase.push(flow.erase.clone()),
        }
    }
    let add = expected.iter().filter(|(key, _)| !right.contains(key)).map(|(_, (rule, _))| (*rule).clone());
    Repair { add: add.collect(), erase }
}

/// Where flows of somebody else stand: in 1.0 nothing may be deleted there.
pub(crate) fn foreign(reported: &[Reported]) -> BTreeSet<RuleKey> {
    reported.iter().filter(|f| !f.cookie.is_ours()).filter_map(|f| f.key).collect()
}

/// The counters of our flows, summed by cookie without its generation: a VM's flows are its flows whatever path they take.
pub(crate) fn samples(reported: &[Reported]) -> Vec<FlowSample> {
    let mut sums: BTreeMap<u64, FlowSample> = BTreeMap::new();
    for flow in reported.iter().filter(|f| f.cookie.is_ours()) {
        let sum = sums.entry(flow.cookie.0 & !0xff).or_insert(FlowSample {
            cookie: flow.cookie,
            flows: 0,
            packets: 0,
            bytes: 0,
        });
        sum.flows += 1;
        sum.packets = sum.packets.saturating_add(flow.packets);
        sum.bytes = sum.bytes.saturating_add(flow.bytes);
    }
    sums.into_values().collect()
}
