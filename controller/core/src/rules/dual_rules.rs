//! The rules of a VM that has two places.
//!
//! Packets to the VM go to both (only one of them has it running, so nothing is doubled, and
//! nothing depends on when it changes over); packets from it take the one way from wherever they
//! are to the gateway. The paths are laid so that this is a tree (see
//! [`crate::network::path_tree`]); what is left to do here is to send packets out of two ports
//! where it forks.

use crate::rules::desired::RuleSet;
use crate::rules::{building_blocks, one_table};
use tandem_model::{Prefix, RuleAction, RuleKey, RuleMatch, SwitchId, VlanTag};

pub(crate) fn is_output(action: &RuleAction) -> bool {
    use RuleAction::{Controller, Enqueue, Hairpin, Output};
    matches!(action, Output(_) | Hairpin | Controller | Enqueue { .. })
}

/// Both sets. Of two rules with one key, one for packets to `address` sends them where either
/// would; any other stays as `old` has it.
pub(crate) fn union(old: RuleSet, new: RuleSet, address: Prefix) -> RuleSet {
    let mut all = old;
    for (place, rule) in new {
        match all.get_mut(&place) {
            None => {
                all.insert(place, rule);
            }
            Some(there) if place.1.matching.ip_dst == Some(address) => {
                let more: Vec<RuleAction> = rule
                    .actions
                    .into_iter()
                    .filter(is_output)
                    .filter(|a| !there.actions.contains(a))
                    .collect();
                there.actions.extend(more);
            }
            Some(_) => {}
        }
    }
    all
}

/// True when a switch's rule is one of `rules`, or, in a switch with one table, the product of one
/// of them with another.
pub(crate) fn belongs(rules: &RuleSet, switch: SwitchId, key: &RuleKey) -> bool {
    // One with any tag that is of no VLAN is two there.
    let vlan = key.matching.vlan.map(|_| VlanTag::NoVlan);
    let as_written = RuleKey { matching: RuleMatch { vlan, ..key.matching }, ..*key };
    if rules.contains_key(&(switch, *key)) || rules.contains_key(&(switch, as_written)) {
        return true;
    }
    let second = key.priority % building_blocks::STEP;
    let is_second = |k: &RuleKey| {
        k.table == 1
            && k.priority == second
            && one_table::intersect(&k.matching, &key.matching) == Some(key.matching)
    };
    let least = RuleKey { table: 0, priority: 0, matching: Default::default() };
    key.table == 0
        && second != 0
        && rules
            .range((switch, least)..)
            .take_while(|((s, _), _)| *s == switch)
            .any(|((_, k), _)| is_second(k))
}
