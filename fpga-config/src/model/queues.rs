//! Output queues of 2048 words of 8 bytes each, whose draining a register can stop; and the MACs
//! and CPU queues behind them.

use super::{Model, Sent, words};
use std::collections::VecDeque;

/// Words of an output queue in block RAM.
const QUEUE_WORDS: u32 = 2048;
/// The bits of a frame's length that are counted.
const LENGTH: usize = 0x7ff;
/// The bits of a frame's length in words that are compared with the room.
const LENGTH_WORDS: u32 = 0xff;

impl Model {
    /// Puts a frame into an output queue, and takes it out unless the queue does not drain. `ahead`
    /// is the number of words before the frame's own.
    pub(super) fn enqueue(&mut self, queue: u8, frame: Vec<u8>, ahead: u32, sent: &mut Vec<Sent>) {
        let q = usize::from(queue);
        let place = self.places.queues.map(|p| p + 4 * q);
        if self.places.disable.is_some_and(|d| self.value(d) >> queue & 1 == 1) {
            let words = words(frame.len());
            let in_queue = place.map_or(0, |p| self.value(p + 3));
            if in_queue + (words & LENGTH_WORDS) >= QUEUE_WORDS {
                self.count(place.map(|p| p + 2), 1);
                return;
            }
            self.count(place.map(|p| p + 3), (words + ahead) as usize);
            self.count(place, frame.len() & LENGTH);
            self.count(place.map(|p| p + 1), 1);
            if let Some(held) = self.held.get_mut(q) {
                held.push_back(frame);
            }
            return;
        }
        self.count(place, frame.len() & LENGTH);
        self.count(place.map(|p| p + 1), 1);
        self.transmit(queue, frame, sent);
    }

    /// Sends the frames held in queues that drain again.
    pub(super) fn drain(&mut self, sent: &mut Vec<Sent>) {
        for queue in 0..8u8 {
            let q = usize::from(queue);
            if self.held.get(q).is_none_or(VecDeque::is_empty)
                || self.places.disable.is_some_and(|d| self.value(d) >> queue & 1 == 1)
            {
                continue;
            }
            if let Some(place) = self.places.queues {
                self.put(place + 4 * q + 3, 0);
            }
            for frame in self.held.get_mut(q).map(std::mem::take).into_iter().flatten() {
                self.transmit(queue, frame, sent);
            }
        }
    }

    /// Sends a frame out of the card, through a port's MAC or to the CPU.
    fn transmit(&mut self, queue: u8, frame: Vec<u8>, sent: &mut Vec<Sent>) {
        let port = usize::from(queue / 2);
        if queue % 2 == 1 {
            let place = self.places.cpu.get(port).copied().flatten();
            for (offset, by) in [(10, 1), (11, 1), (14, words(frame.len()) as usize), (15, frame.len())] {
                self.count(place.map(|p| p + offset), by);
            }
            sent.push((queue, frame));
            return;
        }
        let Some(place) = self.places.mac.get(port).copied().flatten() else {
            return;
        };
        let control = self.value(place);
        // TX queue off, MAC in reset, MAC TX off, or no link: it is not sent.
        let off = control & 0b1101 != 0 || !self.is_up(port);
        self.count(Some(place + 9), 1);
        self.count(Some(place + 11), words(frame.len()) as usize);
        self.count(Some(place + 12), frame.len());
        if !off {
            self.count(Some(place + 10), 1);
            sent.push((queue, frame));
        }
    }
}
