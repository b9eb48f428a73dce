//! Wanted rules against reported flows: what is missing, what is stale. Set difference, and only flows with our cookie count.

use crate::speaker::Reported;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{FlowSample, Rule, RuleKey};

/// What has to be done to make a switch's flows of ours equal to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Repair {
    /// Missing or different.
    pub(crate) add: Vec<Rule>,
    /// Whole messages that delete stale flows; their transaction ids are still to be set.
    pub(crate) erase: Vec<Vec<u8>>,
}

/// See the module.
pub(crate) fn repair(wanted: &BTreeMap<RuleKey, Rule>, reported: &[Reported]) -> Repair {
    let mut right = BTreeSet::new();
    let mut erase = Vec::new();
    for flow in reported.iter().filter(|f| f.cookie.is_ours()) {
        match flow.key.and_then(|key| wanted.get(&key)) {
            Some(wanted)
                if flow.actions.as_ref() == Some(&wanted.actions) && wanted.cookie == flow.cookie =>
            {
                right.insert(wanted.key);
            }
            // The same key is replaced by adding it; deleting it as well would open a gap.
            Some(_) => {}
            None => erase.push(flow.erase.clone()),
        }
    }
    let add = wanted.values().filter(|r| !right.contains(&r.key)).cloned().collect();
    Repair { add, erase }
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
