//! Rules as a desired state: who wants which rule in which switch, what was sent, and the changes
//! under way.
//!
//! [`Desired`] holds every owner's rules (a VM's, a group's, the plan's). Replacing an owner's
//! rules yields the difference per switch; [`transactions`](super::transactions) carries it out in
//! steps, each confirmed by barriers; on a refusal the owner's former rules are wanted again, which
//! yields the difference back.

use crate::rules::one_table;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{Owner, Rule, RuleKey, SwitchId};

/// One owner's rules, over all switches.
pub type RuleSet = BTreeMap<(SwitchId, RuleKey), Rule>;

/// What has to be sent to one switch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// To add or replace.
    pub add: Vec<Rule>,
    /// To remove.
    pub remove: Vec<RuleKey>,
}

/// One switch's rules: wanted, and as sent.
#[derive(Debug, Clone, Default)]
struct PerSwitch {
    /// False for a switch with one table, which gets the flattened product.
    two_tables: bool,
    /// True for one that has two tables and refuses metadata.
    no_metadata: bool,
    /// Wanted, as written for two tables; the last owner to ask for a key has it.
    wanted: BTreeMap<RuleKey, Rule>,
    /// What was sent last (in the switch's own form).
    sent: BTreeMap<RuleKey, Rule>,
}

/// The rules that each switch should have, by owner.
#[derive(Debug, Clone)]
pub struct Desired {
    owners: BTreeMap<Owner, RuleSet>,
    switches: Vec<PerSwitch>,
}

impl Desired {
    /// Nothing is wanted in any of `switches` switches.
    pub fn new(switches: usize) -> Desired {
        Desired {
            owners: BTreeMap::new(),
            switches: vec![PerSwitch { two_tables: true, ..PerSwitch::default() }; switches],
        }
    }

    /// What an owner wants.
    pub fn of(&self, owner: Owner) -> Option<&RuleSet> {
        self.owners.get(&owner)
    }

    /// Replaces what an owner wants and returns what it wanted before, with the difference per
    /// switch.
    pub fn replace(&mut self, owner: Owner, rules: RuleSet) -> (RuleSet, BTreeMap<SwitchId, Difference>) {
        let before = self.owners.remove(&owner).unwrap_or_default();
        let mut touched: BTreeMap<SwitchId, BTreeSet<RuleKey>> = BTreeMap::new();
        for ((switch, key), rule) in &before {
            if rules.get(&(*switch, *key)) != Some(rule) {
                touched.entry(*switch).or_default().insert(*key);
                // Two groups with two members in common want the same rules: what is left has it.
                let mut others = self.owners.range(Owner::Group(0)..).map(|(_, rules)| rules);
                let heir = others.find_map(|rules| rules.get(&(*switch, *key))).cloned();
                if let Some(s) = self.switches.get_mut(switch.0 as usize) {
                    match heir {
                        Some(rule) => s.wanted.insert(*key, rule),
                        None => s.wanted.remove(key),
                    };
                }
            }
        }
        for ((switch, key), rule) in &rules {
            if before.get(&(*switch, *key)) != Some(rule) {
                touched.entry(*switch).or_default().insert(*key);
                if let Some(s) = self.switches.get_mut(switch.0 as usize) {
                    s.wanted.insert(*key, rule.clone());
                }
            }
        }
        if !rules.is_empty() {
            self.owners.insert(owner, rules);
        }
        let differences = touched
            .into_iter()
            .map(|(switch, keys)| (switch, self.difference(switch, &keys)))
            .filter(|(_, d)| *d != Difference::default())
            .collect();
        (before, differences)
    }

    /// What must be sent to a switch after `keys` changed, remembered as sent.
    fn difference(&mut self, switch: SwitchId, keys: &BTreeSet<RuleKey>) -> Difference {
        let Some(s) = self.switches.get_mut(switch.0 as usize) else { return Difference::default() };
        let mut difference = Difference::default();
        if s.two_tables {
            for key in keys {
                match s.wanted.get(key) {
                    Some(rule) if s.sent.get(key) != Some(rule) => {
                        s.sent.insert(*key, rule.clone());
                        difference.add.push(rule.clone());
                    }
                    None if s.sent.remove(key).is_some() => difference.remove.push(*key),
                    _ => {}
                }
            }
            return difference;
        }
        let flat = one_table::flatten(s.wanted.values());
        difference.add = flat.values().filter(|r| s.sent.get(&r.key) != Some(*r)).cloned().collect();
        difference.remove = s.sent.keys().filter(|k| !flat.contains_key(k)).copied().collect();
        s.sent = flat;
        difference
    }

    /// Everything that a switch should have, in its own form; remembered as sent.
    pub fn all(&mut self, switch: SwitchId) -> Vec<Rule> {
        let Some(s) = self.switches.get_mut(switch.0 as usize) else { return Vec::new() };
        s.sent = if s.two_tables { s.wanted.clone() } else { one_table::flatten(s.wanted.values()) };
        s.sent.values().cloned().collect()
    }

    /// Whether packets carry labels in a switch, which takes two tables and metadata; so it is
    /// taken until it has said otherwise.
    pub fn has_metadata(&self, switch: SwitchId) -> bool {
        self.switches.get(switch.0 as usize).is_none_or(|s| s.two_tables && !s.no_metadata)
    }

    /// Takes note of whether a switch has two tables, and metadata; true if that is another thing
    /// than before. It is to get [`Desired::all`] then.
    pub fn set_abilities(&mut self, switch: SwitchId, two_tables: bool, metadata: bool) -> bool {
        let Some(s) = self.switches.get_mut(switch.0 as usize) else { return false };
        let before = (s.two_tables, s.no_metadata);
        (s.two_tables, s.no_metadata) = (two_tables, !metadata);
        before != (s.two_tables, s.no_metadata)
    }

    /// Whether a switch has two tables.
    pub fn has_two_tables(&self, switch: SwitchId) -> bool {
        self.switches.get(switch.0 as usize).is_none_or(|s| s.two_tables)
    }

    /// The rule that a switch should have under a key, in its own form.
    pub fn wants(&self, switch: SwitchId, key: &RuleKey) -> Option<&Rule> {
        self.switches.get(switch.0 as usize)?.sent.get(key)
    }

    /// What was last sent to a switch.
    pub fn sent(&self, switch: SwitchId) -> impl Iterator<Item = &Rule> {
        self.switches.get(switch.0 as usize).into_iter().flat_map(|s| s.sent.values())
    }

    /// How many rules a switch has.
    pub fn count(&self, switch: SwitchId) -> usize {
        self.switches.get(switch.0 as usize).map_or(0, |s| s.sent.len())
    }
}
