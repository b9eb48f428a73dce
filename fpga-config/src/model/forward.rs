//! The way of a frame: it is received, passed on by the input arbiter, looked up, changed, and sent
//! to queues.

use super::table::Verdict;
use super::{Model, Sent, words};
use crate::codec::{Action, Carried, Key};
use tandem_model::Time;

/// The bits of a frame's length in the look-up's byte counters.
const LENGTH: usize = 0xfff;

/// A frame's length in the look-up's byte counters.
pub(super) const fn counted(bytes: usize) -> u32 {
    (bytes & LENGTH) as u32
}

impl Model {
    /// Passes a frame (without FCS) from queue `queue` (2n: port n, 2n+1: CPU port n) through the
    /// card until nothing moves; returns the frames that left, in the order of queues. Frames held
    /// in queues that drain again leave first.
    pub fn packet(&mut self, queue: u8, frame: &[u8], now: Time) -> Vec<Sent> {
        self.burst(&[(queue, frame)], now)
    }

    /// The same for frames from any queues that follow each other as closely as the card accepts
    /// them.
    pub fn burst(&mut self, frames: &[(u8, &[u8])], now: Time) -> Vec<Sent> {
        self.set_time(now);
        let mut sent = Vec::new();
        self.drain(&mut sent);
        sent.extend(self.waited());
        for (queue, frame) in frames {
            if !self.bus.is_loaded() || *queue >= 8 || !self.received(*queue, frame.len()) {
                continue;
            }
            match &mut self.path {
                _ if self.generator.is_some() => self.pass(*queue, frame, &mut sent),
                Some(path) => path.take(*queue, frame),
                None => self.forward(*queue, frame, &mut sent),
            }
        }
        self.run(&mut sent);
        // Frames of a queue stay in the order in which they left.
        sent.sort_by_key(|(queue, _)| *queue);
        sent
    }

    fn forward(&mut self, queue: u8, frame: &[u8], sent: &mut Vec<Sent>) {
        self.arbitrated(frame);
        let key = Key::of_frame(frame, queue);
        if let Some(action) = self.decide(&key, counted(frame.len())) {
            self.carry_out(action, key.source(), frame, sent);
        }
    }

    /// The input arbiter has passed a frame on: it counts the frame, and keeps its first two words.
    pub(super) fn arbitrated(&mut self, frame: &[u8]) {
        let Some(arbiter) = self.places.arbiter else { return };
        self.count(Some(arbiter), 1);
        let half =
            |at: usize| (at..at + 4).fold(0, |n, i| n << 8 | u32::from(frame.get(i).copied().unwrap_or(0)));
        // In a last word, a control bit marks the last byte.
        let control = |at: usize| match frame.len().checked_sub(at) {
            Some(left @ 1..=8) => 0x100 >> left,
            _ => 0,
        };
        for (offset, value) in (1..).zip([half(0), half(4), control(0), half(8), half(12), control(8)]) {
            self.put(arbiter + offset, value);
        }
    }

    /// Sets the input arbiter's state: whether it is inside a frame, and whether the stage behind
    /// it accepts words.
    pub(super) fn arbiter_stands(&mut self, within: bool, ready: bool) {
        if let Some(arbiter) = self.places.arbiter {
            self.put(arbiter + 7, u32::from(ready) << 1 | u32::from(within));
        }
    }

    /// Looks a key up, and counts; an empty action if nothing matches. `None` for a bitfile without
    /// a flow table.
    pub(super) fn decide(&mut self, key: &Key, bytes: u32) -> Option<Action> {
        let (clearing, second) = (self.is_clearing(), self.second());
        let Verdict { exact, row, action } = self.tables.as_mut()?.look_up(key, bytes, second, clearing);
        let lookup = self.places.lookup;
        self.count(lookup.map(|l| l + if exact { 3 } else { 2 }), 1);
        match row {
            // Counted also when an exact entry decides.
            None => self.count(lookup, 1),
            Some(row) if !exact => {
                self.count(lookup.map(|l| l + 1), 1);
                self.count(self.places.packets_hit.map(|p| p + row), 1);
                self.count(self.places.bytes_hit.map(|p| p + row), bytes as usize);
                if let Some(place) = self.places.last_seen {
                    self.put(place + row, second);
                }
            }
            Some(_) => {}
        }
        Some(action.unwrap_or_default())
    }

    /// Applies the action to a frame. Without any port it is dropped, and counted for the source
    /// queue in its key; with only ports that do not exist (bits above 7) it vanishes uncounted.
    pub(super) fn carry_out(&mut self, action: Action, source: u8, frame: &[u8], sent: &mut Vec<Sent>) {
        let carried = Carried::of(frame);
        // In a queue, a frame is preceded by a word of its own, the tag that was removed, and a
        // word left over from the last frame.
        let ahead = 1 + u32::from(action.strip && carried.tag().is_some()) + u32::from(self.rest);
        self.rest = carried.leaves_rest();
        if action.ports == 0 {
            self.count(self.places.lookup.map(|l| l + 4 + usize::from(source % 8)), 1);
            return;
        }
        let mut changed = frame.to_vec();
        action.apply(&mut changed);
        let queues = (0..8).filter(|q| action.ports >> q & 1 == 1);
        let last = 7 - (action.ports as u8).leading_zeros().min(7) as u8;
        for queue in queues {
            let frame = if queue == last { std::mem::take(&mut changed) } else { changed.clone() };
            self.enqueue(queue, frame, ahead, sent);
        }
    }

    /// Counts a received frame; false when it is not received.
    fn received(&mut self, queue: u8, length: usize) -> bool {
        let port = usize::from(queue / 2);
        let counts = if queue % 2 == 1 {
            let Some(place) = self.places.cpu.get(port).copied().flatten() else {
                return false;
            };
            [(place + 2, 1), (place + 4, 1), (place + 7, words(length) as usize), (place + 8, length)]
        } else {
            let Some(place) = self.places.mac.get(port).copied().flatten() else {
                return false;
            };
            // RX queue off, MAC in reset, MAC RX off, or no link.
            if self.value(place) & 0b1_0110 != 0 || !self.is_up(port) {
                return false;
            }
            [(place + 2, 1), (place + 5, 1), (place + 6, words(length) as usize), (place + 7, length)]
        };
        for (place, by) in counts {
            self.count(Some(place), by);
        }
        true
    }
}
