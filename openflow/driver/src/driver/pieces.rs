//! Changes on their way to the switch, in pieces with a barrier each.
//!
//! A switch may answer every deletion (OFPT_FLOW_REMOVED) and take in nothing more while it does.
//! So only so many messages are under way that nobody confirmed; the others wait here, where they
//! fill no socket, and what else there is to say is not behind them.

use std::collections::VecDeque;
use tandem_model::Time;

/// Messages before a barrier: some 20 KiB, little more than a round trip's worth.
pub(super) const PIECE: usize = 200;
/// Messages under way without a confirmation at most: two pieces, so that the switch has work while
/// a barrier's reply comes back.
const UNDER_WAY: usize = 2 * PIECE;

/// So many messages and their barrier.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) barrier: u32,
    pub(super) messages: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    barrier: u32,
    messages: usize,
    at: Time,
}

/// The pieces of changes that wait to be sent, and those that are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    waiting: VecDeque<Piece>,
    sent: VecDeque<Sent>,
    /// Bytes that wait.
    backlog: usize,
    /// Messages that were sent and not confirmed.
    under_way: usize,
}

impl Pieces {
    /// One more that is to be sent.
    pub(super) fn put(&mut self, piece: Piece) {
        self.backlog += piece.bytes.len();
        self.waiting.push_back(piece);
    }

    /// The next one to be sent, if it may be now.
    pub(super) fn next(&mut self, now: Time) -> Option<Vec<u8>> {
        let messages = self.waiting.front()?.messages;
        if !self.sent.is_empty() && self.under_way + messages > UNDER_WAY {
            return None;
        }
        let piece = self.waiting.pop_front()?;
        self.backlog -= piece.bytes.len();
        self.under_way += messages;
        self.sent.push_back(Sent { barrier: piece.barrier, messages, at: now });
        Some(piece.bytes)
    }

    /// A barrier was answered; true when it was one of ours.
    pub(super) fn confirmed(&mut self, barrier: u32) -> bool {
        let Some(at) = self.sent.iter().position(|s| s.barrier == barrier) else { return false };
        let sent = self.sent.remove(at);
        self.under_way -= sent.map_or(0, |s| s.messages);
        true
    }

    /// True for the barrier of a piece that is under way.
    pub(super) fn is_barrier(&self, xid: u32) -> bool {
        self.sent.iter().any(|s| s.barrier == xid)
    }

    /// When the oldest piece under way was sent.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.sent.front().map(|s| s.at)
    }

    /// Bytes that wait.
    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }
}
