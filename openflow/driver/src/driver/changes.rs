//! Changes of a switch's flows. Each is sent with a barrier behind it, and is confirmed by the
//! barrier's reply, or refused by an error before that. A refused transaction is rolled back; a
//! refused repair is tried again after a pause.
//!
//! A large change is sent in [`pieces`](super::pieces), each with a barrier of its own; it is
//! confirmed by that of its last piece.

use super::pieces::{PIECE, Piece};
use super::{Driver, Output, PortChange};
use crate::codec::ProtocolCodec;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{Event, Rule, RuleAction, RuleKey, Time, TxnId};

/// The pause after a repair that the switch refused. It doubles each time up to a maximum, so that
/// the repair is not tried with every poll.
pub(super) const REPAIR_PAUSE: Duration = Duration::from_secs(2);
pub(super) const LONGEST_REPAIR_PAUSE: Duration = Duration::from_secs(64);

/// Why flows are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// `SyncRules`.
    Sync(TxnId),
    /// `ApplyRules`.
    Apply(TxnId),
    /// An audit found differences.
    Repair { missing: u32, stale: u32 },
    /// Rolls back a refused `ApplyRules`.
    Undo,
}

/// A transaction that the switch has not confirmed yet. They are kept oldest first, as barriers are
/// answered in order.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) change: Change,
    /// Transaction ids of its messages: `first..=barrier`, the last of its barriers.
    pub(super) first: u32,
    pub(super) barrier: u32,
    pub(super) added: u32,
    pub(super) removed: u32,
    pub(super) refused: Option<String>,
    /// A rule that is added matches or writes metadata.
    pub(super) metadata: bool,
    /// The wanted rule of each changed key before the change.
    pub(super) before: Vec<(RuleKey, Option<Rule>)>,
}

/// The messages of a change that are not part of a piece yet.
#[derive(Default)]
struct Messages {
    piece: Output,
    count: usize,
    first: Option<u32>,
}

fn has_metadata(rule: &Rule) -> bool {
    let writes = |a: &RuleAction| matches!(a, RuleAction::WriteMetadata(_));
    rule.key.matching.metadata.is_some() || rule.actions.iter().any(writes)
}

/// Whether an error may mean that the switch does not support metadata (OF 1.3.5 sections 7.4.3 and
/// 7.4.4): the error for the instruction itself, and those for any unsupported instruction, field
/// or mask.
fn is_about_metadata(error: &str) -> bool {
    let instruction = ["UNKNOWN_INST", "UNSUP_INST", "UNSUP_METADATA", "UNSUP_METADATA_MASK"];
    let matching = ["BAD_WILDCARDS", "BAD_FIELD", "BAD_MASK"];
    match error.split_once('/') {
        Some(("BAD_INSTRUCTION", code)) => instruction.contains(&code),
        Some(("BAD_MATCH", code)) => matching.contains(&code),
        _ => false,
    }
}

impl Driver {
    /// Sends changes and barriers; remembers the wanted rules before them until the last barrier is
    /// answered.
    pub(super) fn change(
        &mut self,
        change: Change,
        add: Vec<Rule>,
        remove: &[RuleKey],
        erase: Vec<Vec<u8>>,
        now: Time,
        out: &mut Output,
    ) {
        self.epoch += 1;
        let (added, removed) = (add.len() as u32, (remove.len() + erase.len()) as u32);
        let mut messages = Messages::default();
        let mut before = Vec::with_capacity(add.len() + remove.len());
        let metadata = add.iter().any(has_metadata);
        for rule in add {
            self.put(&mut messages, |s, xid, o| s.add(xid, &rule, o));
            let key = rule.key;
            before.push((key, self.wanted.insert(key, rule)));
        }
        for key in remove {
            // In 1.0 a deletion cannot name a cookie. Another controller may have replaced the flow
            // since flows were last read, at most one poll ago; that race cannot be closed.
            before.push((*key, self.wanted.remove(key)));
            if !self.is_spared(key) {
                self.put(&mut messages, |s, xid, o| s.remove(xid, key, o));
            }
        }
        for mut message in erase {
            self.put(&mut messages, |_, xid, o| {
                if let Some(field) = message.get_mut(4..8) {
                    field.copy_from_slice(&xid.to_be_bytes());
                }
                o.append(&mut message);
            });
        }
        let barrier = self.end_piece(&mut messages);
        let first = messages.first.unwrap_or(barrier);
        self.open.push_back(Open { change, first, barrier, added, removed, refused: None, metadata, before });
        self.send_pieces(now, out);
    }

    /// Adds a message to a change.
    fn put(&mut self, messages: &mut Messages, message: impl FnOnce(&dyn ProtocolCodec, u32, &mut Vec<u8>)) {
        if messages.count == PIECE {
            self.end_piece(messages);
        }
        let xid = self.send(&mut messages.piece, message);
        messages.first.get_or_insert(xid);
        messages.count += 1;
    }

    /// Forgets the rules before open changes, since a sync replaces all rules: refused changes are
    /// not rolled back.
    pub(super) fn forget_before(&mut self) {
        self.open.iter_mut().for_each(|open| open.before.clear());
    }

    /// Ends a piece with a barrier; returns the barrier's transaction id.
    fn end_piece(&mut self, messages: &mut Messages) -> u32 {
        let barrier = self.send(&mut messages.piece, |s, xid, o| s.barrier(xid, o));
        let bytes = std::mem::take(&mut messages.piece.bytes);
        self.pieces.put(Piece { bytes, barrier, messages: std::mem::take(&mut messages.count) });
        barrier
    }

    /// Sends as many pieces as may be unconfirmed.
    pub(super) fn send_pieces(&mut self, now: Time, out: &mut Output) {
        while let Some(mut bytes) = self.pieces.next(now) {
            out.bytes.append(&mut bytes);
        }
    }

    /// Whether the flow of a key must not be deleted: it belongs to another controller, or another
    /// wanted rule means the same to the switch.
    fn is_spared(&self, key: &RuleKey) -> bool {
        self.foreign.contains(&self.wanted.meaning(key)) || self.wanted.means(key)
    }

    pub(super) fn on_barrier(&mut self, xid: u32, now: Time, out: &mut Output) {
        if let Some(at) = self.port_changes.iter().position(|change| change.barrier == xid) {
            let taken = self.port_changes.remove(at);
            out.events.extend(taken.map(|PortChange { port, up, .. }| Event::PortSet {
                switch: self.dpid,
                port,
                up,
            }));
            return;
        }
        if self.pieces.confirmed(xid) {
            self.send_pieces(now, out);
        }
        let Some(at) = self.open.iter().position(|o| o.barrier == xid) else { return };
        let Some(open) = self.open.remove(at) else { return };
        if open.refused.is_none() {
            // An added flow has replaced any other controller's flow of that key; a removal may
            // have left it.
            for (key, _) in open.before.iter().filter(|(key, _)| self.wanted.contains_key(key)) {
                self.foreign.remove(&self.wanted.meaning(key));
            }
        }
        self.conclude(open, now, out);
    }

    /// Reports the end of a change, and what follows from a refusal.
    fn conclude(&mut self, open: Open, now: Time, out: &mut Output) {
        let switch = self.dpid;
        let is_metadata = open.metadata && open.refused.as_deref().is_some_and(is_about_metadata);
        let refused = |txn, why| match is_metadata {
            true => Event::MetadataRefused { switch, txn, why },
            false => Event::RulesRefused { switch, txn, why },
        };
        self.let_go(now, out);
        match (open.change, open.refused) {
            (Change::Sync(txn) | Change::Apply(txn), None) => {
                let Open { added, removed, .. } = open;
                out.events.push(Event::RulesApplied { switch, txn, added, removed });
            }
            (Change::Apply(txn), Some(why)) => {
                self.undo(open.before, now, out);
                out.events.push(refused(txn, why));
            }
            (Change::Repair { missing, stale }, None) => {
                self.repair = (now, REPAIR_PAUSE);
                // Flows that were released are not repairs of a fault.
                if missing + stale > 0 {
                    self.is_sync_refused = false;
                    out.events.push(Event::RulesRepaired { switch, missing, stale });
                }
            }
            // The rules stay wanted: the next audits try to add them again.
            (Change::Sync(txn), Some(why)) => {
                self.is_sync_refused = self.sync == Some(txn);
                self.put_off_repairs(now);
                out.events.push(refused(txn, why));
            }
            (Change::Repair { .. }, Some(why)) => {
                self.put_off_repairs(now);
                self.unlike.forget();
                if let Some(txn) = self.sync {
                    self.is_sync_refused = true;
                    out.events.push(refused(txn, why));
                }
            }
            (Change::Undo, _) => {}
        }
    }

    fn put_off_repairs(&mut self, now: Time) {
        let (_, pause) = self.repair;
        self.repair = (now + pause, (pause * 2).min(LONGEST_REPAIR_PAUSE));
    }

    /// Rolls back a refused transaction.
    ///
    /// Where a later open transaction has changed the same key, the switch has that one's rule and
    /// keeps it. Only if it is refused too, the rule before both is restored.
    fn undo(&mut self, before: Vec<(RuleKey, Option<Rule>)>, now: Time, out: &mut Output) {
        // Of a key that was changed twice, the older value is the one before the transaction.
        let mut before: BTreeMap<RuleKey, Option<Rule>> = before.into_iter().rev().collect();
        for (key, was) in self.open.iter_mut().flat_map(|later| &mut later.before) {
            if let Some(rule) = before.remove(key) {
                *was = rule;
            }
        }
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (key, rule) in before {
            match rule {
                Some(rule) => add.push(rule),
                None => remove.push(key),
            }
        }
        if add.is_empty() && remove.is_empty() {
            return;
        }
        self.change(Change::Undo, add, &remove, Vec::new(), now, out);
    }
}
