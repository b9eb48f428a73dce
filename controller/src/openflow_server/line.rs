//! The queue of effects from the event loop to a switch's connection.

use super::Wish;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tandem_model::Effect;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The capacity of the queue: more than a second of replies to as many packets as a switch may send
/// in one. A connection takes no effects while its switch does not read.
pub(super) const EFFECTS: usize = 8192;
/// Places that frames and polls leave for rules and ports. A lost frame is sent again by its
/// sender.
const KEPT_FREE: usize = EFFECTS / 4;

/// The event loop's end. When the queue is full, the connection is closed, and the switch
/// synchronised again when it is back.
#[derive(Debug)]
pub struct SwitchLine {
    effects: mpsc::Sender<Effect>,
    overflow: CancellationToken,
    lost: Arc<AtomicU64>,
    wishes: watch::Receiver<Wish>,
}

/// The connection's end.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) effects: mpsc::Receiver<Effect>,
    pub(super) overflow: CancellationToken,
    /// Number of frames and polls that found no place.
    pub(super) lost: Arc<AtomicU64>,
}

/// Creates the queue of a connection with these orders of the switchboard.
pub(super) fn line(wishes: watch::Receiver<Wish>) -> (SwitchLine, Inbox) {
    let (sender, effects) = mpsc::channel(EFFECTS);
    let (overflow, lost) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let line = SwitchLine { effects: sender, overflow: overflow.clone(), lost: lost.clone(), wishes };
    (line, Inbox { effects, overflow, lost })
}

impl SwitchLine {
    /// True when the switchboard has closed the connection: its remaining reports would come after
    /// those of its successor.
    pub(crate) fn is_void(&self) -> bool {
        self.wishes.borrow().close.is_some()
    }

    /// Adds an effect. It never blocks: the event loop waits for nobody.
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
        // A connection that has just ended reports that; its effects are void.
        if let Err(TrySendError::Full(_)) = self.effects.try_send(effect) {
            self.overflow.cancel();
        }
    }
}

/// The queue of a connection that the switchboard has closed.
#[cfg(test)]
pub(crate) fn closed_line() -> SwitchLine {
    let close = Some("another one is newer".into());
    let (_, wishes) = watch::channel(Wish { duty: tandem_switch_driver::Duty::Active, probes: 0, close });
    line(wishes).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::{Dpid, Leave, TxnId};
    use tandem_switch_driver::Duty;

    fn line() -> (SwitchLine, Inbox, watch::Sender<Wish>) {
        let (sender, wishes) = watch::channel(Wish { duty: Duty::Active, probes: 0, close: None });
        let (line, inbox) = super::line(wishes);
        (line, inbox, sender)
    }

    #[test]
    fn what_a_closed_connection_still_says_is_void() {
        let (line, _inbox, wishes) = line();
        assert!(!line.is_void());
        wishes.send_modify(|w| w.close = Some("another one is newer".into()));
        assert!(line.is_void());
        drop(wishes);
        assert!(line.is_void(), "also when it has left");
    }

    #[test]
    fn frames_leave_room_for_rules_and_too_many_rules_close_the_connection() {
        let (line, inbox, _wishes) = line();
        let poll = || Effect::PollNow { switch: Dpid(1) };
        (0..EFFECTS).for_each(|_| line.carry(poll()));
        let lost = inbox.lost.load(Ordering::Relaxed);
        assert_eq!(lost as usize, KEPT_FREE - 1);
        let rules = |n| Effect::SyncRules {
            switch: Dpid(1),
            txn: TxnId(n),
            rules: Vec::new(),
            leave: Leave::Nothing,
        };
        (0..KEPT_FREE as u64 - 1).for_each(|n| line.carry(rules(n)));
        assert!(!inbox.overflow.is_cancelled());
        line.carry(rules(9999));
        assert!(inbox.overflow.is_cancelled(), "it is not waited for, and nothing is lost in silence");
    }
}
