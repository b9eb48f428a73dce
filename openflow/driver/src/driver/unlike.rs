//! Repairs that change nothing. A switch may report a rule otherwise than it was written, in a form
//! that is not known to mean the same; then each repair finds the same fault again. Such a fault is
//! put off, with a pause that grows, and said once.

use super::changes::{LONGEST_REPAIR_PAUSE, REPAIR_PAUSE};
use crate::reconcile::Repair;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{RuleKey, Time};

/// Repairs of the same fault that are made at once; a rule may be deleted twice by somebody else.
const AT_ONCE: u32 = 2;

/// What is wrong with a switch's flows, as one repair mends it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A rule is missing or different.
    Missing(RuleKey),
    /// A flow of ours is not wanted: the message that deletes it.
    Stale(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    /// Not again before this time.
    until: Time,
    pause: Duration,
}

/// The rules that a switch shows otherwise than they were sent, again and again.
#[derive(Debug, Default)]
pub(super) struct Unlike {
    tries: BTreeMap<Fault, Tries>,
    is_told: bool,
}

/// What was put off, when it is to be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PutOff {
    pub(super) rules: u32,
    pub(super) example: String,
}

impl Unlike {
    /// Takes out of a repair what it has mended in vain. The result is there once, when something
    /// is put off for the first time.
    pub(super) fn sift(&mut self, repair: &mut Repair, now: Time) -> Option<PutOff> {
        let mut before = std::mem::take(&mut self.tries);
        let mut held = 0;
        let mut example = None;
        let mut is_due = |fault: Fault, text: &dyn Fn() -> String| {
            let fresh = Tries { count: 0, until: now, pause: REPAIR_PAUSE };
            // A fault that is gone has been mended, and is forgotten.
            let mut tries = before.remove(&fault).unwrap_or(fresh);
            let is_due = tries.count < AT_ONCE || now >= tries.until;
            if is_due {
                tries.count += 1;
                if tries.count >= AT_ONCE {
                    tries.until = now + tries.pause;
                    tries.pause = (tries.pause * 2).min(LONGEST_REPAIR_PAUSE);
                }
            } else {
                held += 1;
                example.get_or_insert_with(text);
            }
            self.tries.insert(fault, tries);
            is_due
        };
        repair.add.retain(|rule| {
            let text = || format!("priority {}, {}", rule.key.priority, rule.key.matching);
            is_due(Fault::Missing(rule.key), &text)
        });
        for stale in [&mut repair.erase, &mut repair.let_go] {
            stale.retain(|message| {
                is_due(Fault::Stale(message.clone()), &|| "a flow that it does not delete".to_owned())
            });
        }
        if held == 0 {
            self.is_told &= self.tries.values().any(|t| t.count > AT_ONCE);
            return None;
        }
        let example = example.filter(|_| !self.is_told)?;
        self.is_told = true;
        Some(PutOff { rules: held, example })
    }

    /// A repair was refused, or other rules are wanted: nothing was tried in vain.
    pub(super) fn forget(&mut self) {
        *self = Unlike::default();
    }
}
