//! Changes of rules under way: a change is a list of steps, a step a transaction on each of its
//! switches, and the next step starts when every switch has confirmed the one before by a barrier.
//!
//! The order is make before break: first the rules that carry the traffic further on, then those
//! that send it there (the late ones), and only then are old rules removed, the late ones first.
//!
//! Changes overlap: while one waits, another may want back what the first is still to remove. So a
//! step sends only what is wanted at the moment that it is sent; in whatever order the steps of
//! several changes come to pass, they end at the same rules.

use crate::rules::desired::{Desired, Difference};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tandem_model::{
    Dpid, Effect, GroupId, MigrationId, RequestId, Rule, RuleKey, SwitchId, Topology, TxnId, VmId,
};

/// What a change is for; handed back with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new VM's rules.
    VmStart(VmId),
    /// A running VM's rules on another path.
    VmMove(VmId),
    /// A VM's rules go.
    VmStop(VmId),
    /// A group's rules come, for the request that asks for them.
    GroupStart(GroupId, RequestId),
    /// The rules of a group that is made together with its VMs.
    GroupForm(GroupId),
    /// A group's rules go, or follow its members.
    GroupChange,
    /// The rules of both places of a VM that is about to move, or those of its move's own traffic.
    MovePrepare(MigrationId),
    /// The rules of one of its places again: the new one, or the old one if it is undone.
    MoveSettle(MigrationId),
    /// The rules of a VM that has no record, for the first time.
    StrayServed(VmId),
    /// Default routes, or putting things back: nobody waits for it.
    Upkeep,
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it was for.
    pub purpose: Purpose,
    /// The first refusal, as text.
    pub result: Result<(), String>,
}

/// What a step is held against when it is sent.
pub struct Present<'a> {
    /// Which switches can be asked now; the others get their rules when they come back.
    pub connected: &'a dyn Fn(SwitchId) -> Option<Dpid>,
    /// What is wanted now.
    pub desired: &'a Desired,
}

/// Which rules of a change are late: they send traffic to where the others carry it on, so they
/// come after them and go before them.
pub type Late<'a> = &'a dyn Fn(SwitchId, &RuleKey) -> bool;

#[derive(Debug, Clone, Default)]
struct Step(BTreeMap<SwitchId, (Vec<Rule>, Vec<RuleKey>)>);

#[derive(Debug, Clone)]
struct Change {
    purpose: Purpose,
    steps: VecDeque<Step>,
    waiting: BTreeSet<TxnId>,
}

/// A transaction without an answer.
#[derive(Debug, Clone)]
struct Sent {
    switch: SwitchId,
    change: u64,
    added: Vec<RuleKey>,
    removed: Vec<RuleKey>,
}

/// The changes of rules that are under way, in the order of their steps.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    last_txn: u64,
    last_change: u64,
    open: BTreeMap<u64, Change>,
    txns: BTreeMap<TxnId, Sent>,
    /// Changes that were refused, of which something may be left.
    halted: Vec<u64>,
    /// Transactions that were refused and not looked at since.
    refused: Vec<Sent>,
}

impl Changes {
    /// A fresh transaction id, for a `SyncRules`, which is no part of any change.
    pub fn next_txn(&mut self) -> TxnId {
        self.last_txn += 1;
        TxnId(self.last_txn)
    }

    /// Starts a change.
    pub fn start(
        &mut self,
        purpose: Purpose,
        differences: BTreeMap<SwitchId, Difference>,
        late: Late<'_>,
        present: &Present<'_>,
        effects: &mut Vec<Effect>,
    ) -> Option<Outcome> {
        let [mut inner, mut outer, mut outer_gone, mut inner_gone] = [const { Step(BTreeMap::new()) }; 4];
        for (switch, difference) in differences {
            for rule in difference.add {
                let step = if late(switch, &rule.key) { &mut outer } else { &mut inner };
                step.0.entry(switch).or_default().0.push(rule);
            }
            for key in difference.remove {
                let step = if late(switch, &key) { &mut outer_gone } else { &mut inner_gone };
                step.0.entry(switch).or_default().1.push(key);
            }
        }
        let steps = [inner, outer, outer_gone, inner_gone].into_iter().filter(|s| !s.0.is_empty()).collect();
        self.last_change += 1;
        let id = self.last_change;
        self.open.insert(id, Change { purpose, steps, waiting: BTreeSet::new() });
        self.go_on(id, present, effects)
    }

    /// Sends steps until one has to be waited for.
    fn go_on(&mut self, id: u64, present: &Present<'_>, effects: &mut Vec<Effect>) -> Option<Outcome> {
        loop {
            let change = self.open.get_mut(&id)?;
            if !change.waiting.is_empty() {
                return None;
            }
            let Some(step) = change.steps.pop_front() else {
                let change = self.open.remove(&id)?;
                return Some(Outcome { purpose: change.purpose, result: Ok(()) });
            };
            for (switch, (mut add, mut remove)) in step.0 {
                let Some(dpid) = (present.connected)(switch) else { continue };
                add.retain(|rule| present.desired.wants(switch, &rule.key) == Some(rule));
                remove.retain(|key| present.desired.wants(switch, key).is_none());
                if add.is_empty() && remove.is_empty() {
                    continue;
                }
                self.last_txn += 1;
                let txn = TxnId(self.last_txn);
                change.waiting.insert(txn);
                let added = add.iter().map(|rule| rule.key).collect();
                self.txns.insert(txn, Sent { switch, change: id, added, removed: remove.clone() });
                effects.push(Effect::ApplyRules { switch: dpid, txn, add, remove });
            }
        }
    }

    /// Another transaction takes the place of one that was refused.
    pub fn replace(&mut self, refused: TxnId, by: TxnId) {
        let Some(sent) = self.txns.remove(&refused) else { return };
        let id = sent.change;
        self.txns.insert(by, sent);
        if let Some(change) = self.open.get_mut(&id) {
            change.waiting.remove(&refused);
            change.waiting.insert(by);
        }
    }

    /// A switch confirmed a transaction.
    pub fn applied(
        &mut self,
        txn: TxnId,
        present: &Present<'_>,
        effects: &mut Vec<Effect>,
    ) -> Option<Outcome> {
        let id = self.txns.remove(&txn)?.change;
        self.open.get_mut(&id)?.waiting.remove(&txn);
        self.go_on(id, present, effects)
    }

    /// A switch refused a transaction: whoever waits for the change is notified now. What was
    /// confirmed stays until the caller wants it back.
    ///
    /// What is left of the change may still be wanted: a removal that another switch waits for, or
    /// the rules of a VM's first place, which changed while its second one was made. It goes on
    /// with [`Changes::resume`], as far as the caller still wants it then.
    pub fn refused(&mut self, txn: TxnId, why: String) -> Option<Outcome> {
        let sent = self.txns.remove(&txn)?;
        let id = sent.change;
        self.refused.push(sent);
        self.told(txn, id, why)
    }

    /// Ends a change for whoever waits for it, because of one of its transactions.
    fn told(&mut self, txn: TxnId, id: u64, why: String) -> Option<Outcome> {
        let change = self.open.get_mut(&id)?;
        change.waiting.remove(&txn);
        let purpose = std::mem::replace(&mut change.purpose, Purpose::Upkeep);
        self.halted.push(id);
        Some(Outcome { purpose, result: Err(why) })
    }

    /// After the caller has dealt with a refusal: the changes concerned go on. Returns the switches
    /// that have undone something that is still wanted; each is to be sent all its rules.
    pub fn resume(&mut self, present: &Present<'_>, effects: &mut Vec<Effect>) -> BTreeSet<SwitchId> {
        for id in std::mem::take(&mut self.halted) {
            // Nobody waits for it any more.
            let _ = self.go_on(id, present, effects);
        }
        let is_wanted = |sent: &Sent| {
            let wants = |key: &RuleKey| present.desired.wants(sent.switch, key).is_some();
            sent.added.iter().any(wants) || !sent.removed.iter().all(wants)
        };
        let refused = std::mem::take(&mut self.refused);
        refused.into_iter().filter(is_wanted).map(|sent| sent.switch).collect()
    }

    /// A switch went away. A change that brings a new VM, group or place fails; any other goes on
    /// without it, since the switch gets all rules when it comes back.
    pub fn switch_gone(
        &mut self,
        switch: SwitchId,
        topology: &Topology,
        present: &Present<'_>,
        effects: &mut Vec<Effect>,
    ) -> Vec<Outcome> {
        let name = topology.switch(switch).map_or("?", |s| s.name.as_str());
        let mine: Vec<(TxnId, u64)> =
            self.txns.iter().filter(|(_, s)| s.switch == switch).map(|(t, s)| (*t, s.change)).collect();
        let mut outcomes = Vec::new();
        for (txn, id) in mine {
            let fails = self.open.get(&id).is_some_and(|c| {
                matches!(
                    c.purpose,
                    Purpose::VmStart(_)
                        | Purpose::GroupStart(..)
                        | Purpose::GroupForm(_)
                        | Purpose::MovePrepare(_)
                )
            });
            if fails {
                let why = format!("switch {name} went away while its rules were being changed; try again");
                // It has all its rules when it is back.
                self.txns.remove(&txn);
                outcomes.extend(self.told(txn, id, why));
            } else {
                outcomes.extend(self.applied(txn, present, effects));
            }
        }
        outcomes
    }
}
