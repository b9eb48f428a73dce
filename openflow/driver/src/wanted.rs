//! The wanted rules of a switch, and the meaning of each to the switch.
//!
//! Two keys may mean the same to a switch: a prefix without bits is no condition, and ports of a
//! packet that is neither TCP nor UDP are ignored. So flows are compared by the key that the switch
//! would report for a rule.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, Values};
use tandem_model::{Rule, RuleKey};

/// Returns the key that a switch would report for a rule; the key itself if there is none.
pub(crate) type Meaning = fn(&RuleKey) -> RuleKey;

/// The rules that a switch should have.
#[derive(Debug)]
pub(crate) struct Wanted {
    rules: BTreeMap<RuleKey, Rule>,
    /// Number of rules for each meaning.
    meanings: BTreeMap<RuleKey, u32>,
    meaning: Meaning,
}

impl Wanted {
    pub(crate) fn new(rules: impl IntoIterator<Item = Rule>, meaning: Meaning) -> Wanted {
        let mut wanted = Wanted { rules: BTreeMap::new(), meanings: BTreeMap::new(), meaning };
        for rule in rules {
            wanted.insert(rule.key, rule);
        }
        wanted
    }

    /// The key that the switch would report for this one.
    pub(crate) fn meaning(&self, key: &RuleKey) -> RuleKey {
        (self.meaning)(key)
    }

    /// Whether a wanted rule means the same to the switch as this key.
    pub(crate) fn means(&self, key: &RuleKey) -> bool {
        self.meanings.contains_key(&self.meaning(key))
    }

    pub(crate) fn contains_key(&self, key: &RuleKey) -> bool {
        self.rules.contains_key(key)
    }

    pub(crate) fn values(&self) -> Values<'_, RuleKey, Rule> {
        self.rules.values()
    }

    pub(crate) fn insert(&mut self, key: RuleKey, rule: Rule) -> Option<Rule> {
        let before = self.rules.insert(key, rule);
        if before.is_none() {
            *self.meanings.entry((self.meaning)(&key)).or_default() += 1;
        }
        before
    }

    pub(crate) fn remove(&mut self, key: &RuleKey) -> Option<Rule> {
        let before = self.rules.remove(key)?;
        if let Entry::Occupied(mut count) = self.meanings.entry((self.meaning)(key)) {
            match count.get().checked_sub(1).filter(|left| *left > 0) {
                Some(left) => *count.get_mut() = left,
                None => drop(count.remove()),
            }
        }
        Some(before)
    }
}
