//! The rules of a VM that has two places.
//!
//! Packets to the VM go to both (only one of them has it running, so nothing is doubled, and nothing depends on when it changes over);
//! packets from it take the one way from wherever they are to the gateway. The paths are laid so that this is a tree (see
//! [`super::fork`]); what is left to do here is to send packets out of two ports where it forks.

use super::state::{Reach, at};
use crate::rules::{RuleSet, compile, flatten};
use crate::services::ComputeRef;
use tandem_model::{Prefix, RuleAction, RuleKey, RuleMatch, SwitchId, VlanTag, VmId, VmRecord};

fn is_output(action: &RuleAction) -> bool {
    use RuleAction::{Controller, Enqueue, Hairpin, Output};
    matches!(action, Output(_) | Hairpin | Controller | Enqueue { .. })
}

/// Both sets. Of two rules with one key, one for packets to `address` sends them where either would; any other stays as `old` has it.
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

/// True when a switch's rule is one of `rules`, or, in a switch with one table, the product of one of them with another.
pub(crate) fn belongs(rules: &RuleSet, switch: SwitchId, key: &RuleKey) -> bool {
    // One with any tag that is of no VLAN is two there.
    let vlan = key.matching.vlan.map(|_| VlanTag::NoVlan);
    let as_written = RuleKey { matching: RuleMatch { vlan, ..key.matching }, ..*key };
    if rules.contains_key(&(switch, *key)) || rules.contains_key(&(switch, as_written)) {
        return true;
    }
    let second = key.priority % compile::STEP;
    let is_second = |k: &RuleKey| {
        k.table == 1
            && k.priority == second
            && flatten::intersect(&k.matching, &key.matching) == Some(key.matching)
    };
    let least = RuleKey { table: 0, priority: 0, matching: Default::default() };
    key.table == 0
        && second != 0
        && rules
            .range((switch, least)..)
            .take_while(|((s, _), _)| *s == switch)
            .any(|((_, k), _)| is_second(k))
}

impl<'a> ComputeRef<'a> {
    /// What a VM wants of the switches: the rules of its place, or of both that it has while it moves.
    pub(crate) fn vm_rules(self, id: VmId) -> RuleSet {
        let reach = self.moving(id).map_or(Reach::Old, |m| m.reach);
        self.vm_rules_at(id, reach)
    }

    /// The same as if a VM that moves had these places.
    pub(crate) fn vm_rules_at(self, id: VmId, reach: Reach) -> RuleSet {
        let Some(vm) = self.compute.vms.get(&id) else { return RuleSet::new() };
        let marking = compile::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        let alone = |record: &VmRecord| compile::vm(marking, &self.net.routes, record, vm.generation);
        let Some(m) = self.moving(id) else { return alone(&vm.record) };
        match reach {
            Reach::Old => alone(&at(&vm.record, &m.record.from)),
            Reach::New => alone(&at(&vm.record, &m.record.to)),
            Reach::Both => {
                let [old, new] = self.exact_rules(id);
                union(old, new, Prefix::host(vm.record.address))
            }
        }
    }

    /// The rules of either place of a VM that moves, each all along its path.
    pub(crate) fn exact_rules(self, id: VmId) -> [RuleSet; 2] {
        let (Some(vm), Some(m)) = (self.compute.vms.get(&id), self.moving(id)) else {
            return Default::default();
        };
        let marking = compile::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        [&m.record.from, &m.record.to]
            .map(|place| compile::vm_exact(marking, &at(&vm.record, place), vm.generation))
    }
}
