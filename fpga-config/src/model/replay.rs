//! The packet generator's data path in the model: replay of queues in SRAM, capture, and frames
//! passed between a port and its CPU port.
//!
//! - A replay starts when the port's bit, its queue's CTRL and MAX_ITER are set, and reads the SRAM
//!   and the limiter then: later writes apply to the next start. A word of the SRAM that does not
//!   belong to a frame ends a queue.
//! - **Times** are computed to the nanosecond from the caller's clock (`schedule.rs`): a frame
//!   begins no earlier than the one before plus its delay word, plus what the limiter takes for the
//!   one before (its bytes with FCS), and plus that one's time on a wire of 1 Gbit/s (with preamble
//!   and gap). The card's own delay is not modelled.
//! - Frames that left wait until the caller fetches frames, at most [`WAITING`]; further ones are
//!   counted and dropped. With a cable ([`Model::cable`]) they come in at another port of the card
//!   instead.
//! - Not modelled: pad words, frames of other queues that wait while their port replays (they are
//!   dropped), and the words that a stopped replay leaves in the card's FIFOs.

use super::schedule::{BYTE, Batch, FCS, Run};
use super::{Model, Sent, words};
use crate::generator::capture;
use crate::generator::words::{Stored, Word, decode};
use crate::limiter::Setting;
use crate::profile::{Generator, GeneratorPort};
use std::collections::VecDeque;
use std::time::Duration;

/// The most frames that wait to be fetched.
pub const WAITING: usize = 32_768;

/// Their most bytes.
const WAITING_BYTES: usize = 16 << 20;

/// The state of a packet generator besides its registers.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    map: Generator,
    /// Empty until the first write.
    sram: Vec<[u32; 3]>,
    players: Vec<Player>,
    /// For each port, the port that it is cabled to.
    cables: Vec<Option<u8>>,
    /// For each port, whether the next captured frame is the first.
    first: Vec<bool>,
    waiting: VecDeque<Sent>,
    waiting_bytes: usize,
}

/// The replay of a port.
#[derive(Debug, Clone, Default)]
struct Player {
    /// Frames that left since the queue was initialised.
    sent: u64,
    run: Option<Run>,
}

impl Engine {
    pub(super) fn new(map: Generator) -> Engine {
        let ports = map.ports.len();
        Engine {
            map,
            sram: Vec::new(),
            players: vec![Player::default(); ports],
            cables: vec![None; ports],
            first: vec![true; ports],
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// A part of a word; `None` outside of the SRAM.
    pub(super) fn read(&self, address: u32) -> Option<u32> {
        let (word, part) = self.map.part(address)?;
        let word = self.sram.get(word as usize).copied().unwrap_or_default();
        word.get(part).copied()
    }

    /// Writes a part of a word; false outside of the SRAM.
    pub(super) fn write(&mut self, address: u32, value: u32) -> bool {
        let Some((word, part)) = self.map.part(address) else {
            return false;
        };
        if self.sram.is_empty() {
            self.sram.resize(self.map.sram_words as usize, [0; 3]);
        }
        if let Some(to) = self.sram.get_mut(word as usize).and_then(|w| w.get_mut(part)) {
            // A word has eight control bits.
            *to = if part == 0 { value & 0xff } else { value };
        }
        true
    }

    fn reset(&mut self) {
        self.players.fill(Player::default());
        self.first.fill(true);
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    fn room(&self) -> usize {
        if self.waiting_bytes >= WAITING_BYTES { 0 } else { WAITING.saturating_sub(self.waiting.len()) }
    }

    fn wait(&mut self, sent: Vec<Sent>) {
        for (queue, frame) in sent {
            if self.room() > 0 {
                self.waiting_bytes += frame.len();
                self.waiting.push_back((queue, frame));
            }
        }
    }

    /// The frames of a port's queue.
    fn queue(&self, low: u32, high: u32) -> Vec<Stored> {
        let words = self.sram.get(low as usize..=high as usize).unwrap_or_default();
        let words: Vec<Word> = words.iter().map(|parts| Word::of(*parts)).collect();
        decode(&words).unwrap_or_else(|(frames, _)| frames)
    }
}

impl Model {
    /// Cables two ports of the card together: frames sent by one are received by the other. No
    /// effect with a bitfile that neither replays nor captures.
    pub fn cable(&mut self, one: u8, other: u8) {
        if let Some(engine) = &mut self.generator {
            for (from, to) in [(one, other), (other, one)] {
                if let Some(cable) = engine.cables.get_mut(usize::from(from)) {
                    *cable = Some(to);
                }
            }
        }
    }

    fn at(&self, address: u32) -> u32 {
        let found = self.profile.registers.binary_search_by_key(&address, |r| r.address);
        found.map_or(0, |place| self.value(place))
    }

    fn put_at(&mut self, address: u32, value: u32) {
        if let Ok(place) = self.profile.registers.binary_search_by_key(&address, |r| r.address) {
            self.put(place, value);
        }
    }

    fn add_at(&mut self, address: u32, by: u64) {
        self.put_at(address, self.at(address).wrapping_add(by as u32));
    }

    /// After a reset all queues send, and share the SRAM equally.
    pub(super) fn reset_generator(&mut self) {
        let Some(engine) = &mut self.generator else { return };
        engine.reset();
        let (map, all) = (engine.map.clone(), engine.map.others.len() + engine.map.ports.len());
        let each = map.sram_words / u32::try_from(all).unwrap_or(u32::MAX).max(1);
        let queues = map.others.iter().copied().chain(map.ports.iter().map(|p| p.queue));
        for (queue, n) in queues.zip(0..) {
            self.put_at(queue.control, 1);
            self.put_at(queue.low, n * each);
            self.put_at(queue.high, n * each + each.saturating_sub(1));
        }
    }

    /// The effects of a write besides storing the value.
    pub(super) fn generator_written(&mut self, address: u32, before: u32, value: u32) {
        let Some(engine) = &self.generator else { return };
        let map = &engine.map;
        let ports = map.ports.clone();
        let is_queue = map.others.iter().chain(ports.iter().map(|p| &p.queue)).any(|q| q.control == address);
        if address == map.control {
            for (port, at) in (0u8..).zip(&ports) {
                if value & !before & 1 << port != 0 {
                    self.clear_captured(port, at);
                }
            }
        }
        if is_queue {
            self.put_at(address, value & 1);
            if value & 2 != 0 {
                self.initialise(address, &ports);
            }
        }
        for (port, at) in ports.iter().enumerate() {
            self.start_or_stop(port, at);
        }
    }

    /// Initialises a queue: its counters are 0.
    fn initialise(&mut self, control: u32, ports: &[GeneratorPort]) {
        // From the first counter behind CTRL to the last one before the addresses, in the order of
        // profiles.
        for offset in 1..8 {
            self.put_at(control + 4 * offset, 0);
        }
        let Some((port, at)) = (0..).zip(ports).find(|(_, p)| p.queue.control == control) else { return };
        self.put_at(at.iteration, 0);
        self.put_at(at.iterations, 0);
        if let Some(player) = self.generator.as_mut().and_then(|e| e.players.get_mut(port)) {
            *player = Player::default();
        }
    }

    fn clear_captured(&mut self, port: u8, at: &GeneratorPort) {
        self.put_at(at.captured, 0);
        for n in 0..6 {
            self.put_at(at.captured_bytes + 4 * n, 0);
        }
        if let Some(first) = self.generator.as_mut().and_then(|e| e.first.get_mut(usize::from(port))) {
            *first = true;
        }
    }

    fn start_or_stop(&mut self, port: usize, at: &GeneratorPort) {
        let (low, high) = (self.at(at.queue.low), self.at(at.queue.high));
        let on = self.at(at.queue.control) & 1 == 1
            && self.at(at.iteration) < self.at(at.iterations)
            && low <= high;
        let control = self.generator.as_ref().map_or(0, |e| self.at(e.map.control));
        let on = on && control >> port & 1 == 1;
        let limit = self.limit_of(port);
        let now = self.now;
        let Some(engine) = &mut self.generator else { return };
        let begins = on && engine.players.get(port).is_some_and(|p| p.run.is_none());
        let frames = if begins { engine.queue(low, high) } else { Vec::new() };
        if let Some(player) = engine.players.get_mut(port) {
            if begins {
                player.run = Run::new(frames, limit, now, player.sent);
            } else if !on {
                player.run = None;
            }
        }
        self.replay();
    }

    fn limit_of(&self, port: usize) -> Setting {
        let base = self.profile.rate_limiter.as_ref().and_then(|l| {
            let index = l.of_port(u8::try_from(port).ok()?);
            l.at.get(usize::from(index)).copied()
        });
        match base {
            Some(base) if self.at(base) & 1 == 1 => {
                Setting::Tokens { interval: self.at(base + 4), increment: self.at(base + 8) as u8 }
            }
            _ => Setting::Off,
        }
    }

    /// Sends the frames that are due.
    pub(super) fn replay(&mut self) {
        let ports = self.generator.as_ref().map_or(0, |e| e.players.len());
        for port in 0..ports {
            let (batch, at) = match self.due(port) {
                Some(due) => due,
                None => continue,
            };
            self.add_at(at.packets_removed, batch.packets);
            self.add_at(at.bytes_removed, batch.bytes);
            self.add_at(at.bytes_removed + 4, 8 * batch.packets);
            let mut sent = Vec::new();
            self.leave(port, batch, &mut sent);
            if let Some(engine) = &mut self.generator {
                engine.wait(sent);
            }
        }
    }

    /// The frames of a port that are due.
    fn due(&mut self, port: usize) -> Option<(Batch, GeneratorPort)> {
        let now = self.now;
        let at = self.generator.as_ref()?.map.ports.get(port).copied()?;
        let most = u64::from(self.at(at.iterations));
        let engine = self.generator.as_mut()?;
        let room = engine.room();
        let player = engine.players.get_mut(port)?;
        let run = player.run.as_ref()?;
        let due = run.due(now).min(most.saturating_mul(run.count()));
        if due <= player.sent {
            return None;
        }
        let batch = run.batch(player.sent, due, room);
        let iteration = due / run.count();
        player.sent = due;
        if iteration >= most {
            player.run = None;
        }
        self.put_at(at.iteration, iteration as u32);
        Some((batch, at))
    }

    /// Sends frames out of a port's MAC; through a cable into another, if there is one.
    fn leave(&mut self, port: usize, batch: Batch, sent: &mut Vec<Sent>) {
        let Some(place) = self.places.mac.get(port).copied().flatten() else { return };
        // TX queue off, MAC in reset, MAC TX off, or no link: it is not sent.
        let off = self.value(place) & 0b1101 != 0 || !self.is_up(port);
        for (offset, by) in [(9, batch.packets), (11, batch.words), (12, batch.bytes)] {
            self.count(Some(place + offset), by as usize);
        }
        if off {
            return;
        }
        self.count(Some(place + 10), batch.packets as usize);
        match self.generator.as_ref().and_then(|e| e.cables.get(port).copied().flatten()) {
            Some(other) => self.arrive(usize::from(other), batch, sent),
            None => {
                let queue = u8::try_from(2 * port).unwrap_or(u8::MAX);
                sent.extend(batch.frames.into_iter().map(|(_, frame)| (queue, frame)));
            }
        }
    }

    /// Receives frames from a cable at a port's MAC.
    fn arrive(&mut self, port: usize, batch: Batch, sent: &mut Vec<Sent>) {
        let Some(place) = self.places.mac.get(port).copied().flatten() else { return };
        if self.value(place) & 0b1_0110 != 0 || !self.is_up(port) {
            return;
        }
        for (offset, by) in [(2, batch.packets), (5, batch.packets), (6, batch.words), (7, batch.bytes)] {
            self.count(Some(place + offset), by as usize);
        }
        self.hand_up(port, batch, sent);
    }

    /// Passes frames to the CPU port; if the port captures, behind a header with the time, and
    /// counted.
    fn hand_up(&mut self, port: usize, batch: Batch, sent: &mut Vec<Sent>) {
        let Some(at) = self.generator.as_ref().and_then(|e| e.map.ports.get(port).copied()) else { return };
        let control = self.generator.as_ref().map_or(0, |e| self.at(e.map.control));
        let captures = control >> port & 1 == 1;
        let reset = self.reset.0;
        if captures {
            self.add_at(at.captured, batch.packets);
            let mut long = |n: u32, value: u64| {
                self.put_at(at.captured_bytes + 8 * n, (value >> 32) as u32);
                self.put_at(at.captured_bytes + 8 * n + 4, value as u32);
            };
            let first = batch.first.saturating_sub(reset);
            long(2, batch.end.saturating_sub(reset));
            let is_first =
                self.generator.as_mut().and_then(|e| e.first.get_mut(port)).is_some_and(std::mem::take);
            if is_first {
                self.put_at(at.captured_bytes + 8, (first >> 32) as u32);
                self.put_at(at.captured_bytes + 12, first as u32);
            }
            let upper = u64::from(self.at(at.captured_bytes));
            let bytes = upper << 32 | u64::from(self.at(at.captured_bytes + 4));
            let bytes = bytes.wrapping_add(batch.bytes + FCS * batch.packets) & ((1 << 40) - 1);
            self.put_at(at.captured_bytes, (bytes >> 32) as u32);
            self.put_at(at.captured_bytes + 4, bytes as u32);
            if control >> (8 + port) & 1 == 1 {
                return;
            }
        }
        let more = if captures { capture::HEADER as u64 } else { 0 };
        let place = self.places.cpu.get(port).copied().flatten();
        let bytes = batch.bytes + more * batch.packets;
        let counts = [
            (10, batch.packets),
            (11, batch.packets),
            (14, batch.words + more / 8 * batch.packets),
            (15, bytes),
        ];
        for (offset, by) in counts {
            self.count(place.map(|p| p + offset), by as usize);
        }
        let queue = u8::try_from(2 * port + 1).unwrap_or(u8::MAX);
        for (time, frame) in batch.frames {
            let header = capture::header(Duration::from_nanos(time.saturating_sub(reset)));
            let ahead = if captures { &header[..] } else { &[] };
            sent.push((queue, [ahead, &frame].concat()));
        }
    }

    /// Passes a frame from a port to its CPU port or back. While a port replays, frames from its
    /// CPU port are not sent.
    pub(super) fn pass(&mut self, queue: u8, frame: &[u8], sent: &mut Vec<Sent>) {
        let port = usize::from(queue / 2);
        let end = self.now.0.saturating_add((frame.len() as u64 + FCS) * BYTE);
        let batch = Batch {
            packets: 1,
            bytes: frame.len() as u64,
            words: words(frame.len()).into(),
            first: self.now.0,
            end,
            frames: vec![(self.now.0, frame.to_vec())],
        };
        if queue.is_multiple_of(2) {
            self.hand_up(port, batch, sent);
        } else if self.generator.as_ref().is_some_and(|e| self.at(e.map.control) >> port & 1 == 0) {
            self.leave(port, batch, sent);
        }
    }

    /// Fetches the waiting frames.
    pub(super) fn waited(&mut self) -> Vec<Sent> {
        let Some(engine) = &mut self.generator else { return Vec::new() };
        engine.waiting_bytes = 0;
        std::mem::take(&mut engine.waiting).into()
    }
}
