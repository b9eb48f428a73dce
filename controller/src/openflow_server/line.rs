//! Effects on their way from the hub to a switch's connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tandem_model::Effect;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

/// Effects that wait for a connection: more than a second of answers to as many packets as a switch may send in one. A connection takes
/// none while its switch does not take in what it was sent.
pub(super) const EFFECTS: usize = 8192;
/// Of these, places that frames and polls leave to rules and ports. A frame that is lost is sent again by whoever asked for it.
const KEPT_FREE: usize = EFFECTS / 4;

/// The hub's end. When it is full, the connection is closed: the switch is synchronised anew when it is back.
#[derive(Debug)]
pub struct SwitchLine {
    effects: mpsc::Sender<Effect>,
    overflow: CancellationToken,
    lost: Arc<AtomicU64>,
}

/// The connection's end.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) effects: mpsc::Receiver<Effect>,
    pub(super) overflow: CancellationToken,
    /// Frames and polls that found no place.
    pub(super) lost: Arc<AtomicU64>,
}

/// A line.
pub(super) fn line() -> (SwitchLine, Inbox) {
    let (sender, effects) = mpsc::channel(EFFECTS);
    let (overflow, lost) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let line = SwitchLine { effects: sender, overflow: overflow.clone(), lost: lost.clone() };
    (line, Inbox { effects, overflow, lost })
}

impl SwitchLine {
    /// Hands an effect on. It never waits: the hub waits for nobody.
    pub fn carry(&self, effect: Effect) {
        let may_be_lost = matches!(
            effect,
            Effect::SendArp { .. }
                | Effect::SendDhcp { .. }
                | Effect::Discover { .. }
                | Effect::PollNow { .. }
        );
        if may_be_lost && self.effects.capacity() < KEPT_FREE {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // A connection that just ended will say so; what was meant for it is void.
        if let Err(TrySendError::Full(_)) = self.effects.try_send(effect) {
            self.overflow.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::{Dpid, TxnId};

    #[test]
    fn frames_leave_room_for_rules_and_too_many_rules_close_the_connection() {
        let (line, inbox) = line();
        let poll = || Effect::PollNow { switch: Dpid(1) };
        (0..EFFECTS).for_each(|_| line.carry(poll()));
        let lost = inbox.lost.load(Ordering::Relaxed);
        assert_eq!(lost as usize, KEPT_FREE - 1);
        let rules = |n| Effect::SyncRules { switch: Dpid(1), txn: TxnId(n), rules: Vec::new() };
        (0..KEPT_FREE as u64 - 1).for_each(|n| line.carry(rules(n)));
        assert!(!inbox.overflow.is_cancelled());
        line.carry(rules(9999));
        assert!(inbox.overflow.is_cancelled(), "it is not waited for, and nothing is lost in silence");
    }
}
