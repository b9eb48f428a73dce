//! Repairs without effect. A switch may report a rule in another form than it was sent, and in one
//! that the driver does not recognise as equal; then each audit finds the same fault again. Such a
//! repair is paused, ever longer, and reported once.

use super::changes::{LONGEST_REPAIR_PAUSE, REPAIR_PAUSE};
use crate::reconcile::Repair;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{RuleKey, Time};

/// Repairs of the same fault before a pause: another controller may delete a rule twice.
const AT_ONCE: u32 = 2;

/// A fault in a switch's flows that one message repairs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A rule is missing or different.
    Missing(RuleKey),
    /// A flow of Tandem is not wanted: the message that deletes it.
    Stale(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    /// The fault is not repaired again before this time.
    until: Time,
    pause: Duration,
}

/// The faults that repairs have not removed.
#[derive(Debug, Default)]
pub(super) struct Unlike {
    tries: BTreeMap<Fault, Tries>,
    is_told: bool,
}

/// Paused repairs that are to be reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PutOff {
    pub(super) rules: u32,
    pub(super) example: String,
}

impl Unlike {
    /// Removes the faults from a repair that earlier repairs did not remove. Returns the paused
    /// ones when a pause begins for the first time.
    pub(super) fn sift(&mut self, repair: &mut Repair, now: Time) -> Option<PutOff> {
        let mut before = std::mem::take(&mut self.tries);
        let mut held = 0;
        let mut example = None;
        let mut is_due = |fault: Fault, text: &dyn Fn() -> String| {
            let fresh = Tries { count: 0, until: now, pause: REPAIR_PAUSE };
            // Faults that are no longer reported drop out of the map: their repair had an effect.
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

    /// A repair was refused, or the wanted rules have changed: earlier tries do not count.
    pub(super) fn forget(&mut self) {
        *self = Unlike::default();
    }
}
