//! Sends large changes in pieces, each with a barrier.
//!
//! A switch may answer every deletion (OFPT_FLOW_REMOVED) and read no further message while it
//! does. So only a limited number of messages is unconfirmed at a time; the others wait here. They
//! do not fill the socket, and other messages need not queue behind them.

use std::collections::VecDeque;
use tandem_model::Time;

/// Messages before a barrier: about 20 KiB, little more than one round trip carries.
pub(super) const PIECE: usize = 200;
/// The most unconfirmed messages: two pieces, so that the switch is busy while a barrier's reply
/// comes back.
const UNDER_WAY: usize = 2 * PIECE;

/// Up to [`PIECE`] messages and their barrier.
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

/// The pieces that wait to be sent, and those that are unconfirmed.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    waiting: VecDeque<Piece>,
    sent: VecDeque<Sent>,
    /// Bytes of the waiting pieces.
    backlog: usize,
    /// Messages that were sent and not confirmed.
    under_way: usize,
}

impl Pieces {
    /// Adds a piece to the waiting ones.
    pub(super) fn put(&mut self, piece: Piece) {
        self.backlog += piece.bytes.len();
        self.waiting.push_back(piece);
    }

    /// The next piece, if it may be sent now.
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

    /// Takes the reply to a barrier; true if it was that of a piece.
    pub(super) fn confirmed(&mut self, barrier: u32) -> bool {
        let Some(at) = self.sent.iter().position(|s| s.barrier == barrier) else { return false };
        let sent = self.sent.remove(at);
        self.under_way -= sent.map_or(0, |s| s.messages);
        true
    }

    /// Whether this is the barrier of an unconfirmed piece.
    pub(super) fn is_barrier(&self, xid: u32) -> bool {
        self.sent.iter().any(|s| s.barrier == xid)
    }

    /// When the oldest unconfirmed piece was sent.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.sent.front().map(|s| s.at)
    }

    /// Bytes of the waiting pieces.
    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }
}
