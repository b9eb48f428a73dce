//! The pass of frames from the input arbiter to the look-up, word by word, with the bitfile's
//! faults in it.
//!
//! ```text
//! frames -> arbiter -> [9 words] tag remover -> header parser, [17 words] -> changed and sent
//!                                                    `-> key -> look-up -> decision ----^
//! ```
//!
//! Frames and decisions are paired by their order alone: the first decision is for the first frame.
//! So after a frame without a decision, because the parser took it as the end of the one before,
//! every later frame waits for the decision of the next one; and if the words behind a waiting
//! frame fill both buffers, everything stops. There is no code for these faults: they follow from
//! the words.
//!
//! There is no clock. Words move as far as they can; a decision takes no time. The other fault is a
//! race, so it is a rule here: when a tagged frame fills the second buffer to its last word, and a
//! frame that fits the first buffer completely follows in the same burst ([`Model::burst`]), the
//! tag remover misses that frame's beginning, and waits for ever.
//!
//! A reset of the user FPGA clears everything.

use super::forward::counted;
use super::parser::{Kind, Parser};
use super::{Model, Sent};
use crate::codec::{Action, Carried, Key};
use std::collections::VecDeque;

/// Words in the buffer before the tag remover.
const FIRST: usize = 9;
/// Words in the buffer behind the header parser, which wait for a decision.
const SECOND: usize = 17;
/// The shortest frame that is received, in bytes: three words. A MAC and the driver drop shorter
/// ones.
const SHORTEST: usize = 17;
/// Bytes of frames that wait before the arbiter when nothing moves; later frames are lost.
const WAITING: usize = 16 << 10;

/// A frame inside the card.
#[derive(Debug, Clone)]
struct Frame {
    queue: u8,
    bytes: Vec<u8>,
    /// Words received from the arbiter.
    arrived: usize,
    /// Words that the parser has read.
    parsed: usize,
}

impl Frame {
    fn carried(&self) -> Carried<'_> {
        Carried::of(&self.bytes)
    }

    /// Words that the arbiter sends: one before the frame, then the frame's.
    fn coming(&self) -> usize {
        1 + self.bytes.len().div_ceil(8)
    }

    /// Words behind the tag remover, with the tag first.
    fn going(&self) -> usize {
        self.coming() + usize::from(self.carried().tag().is_some())
    }

    /// Words that the tag remover needs before it starts: up to the place of a tag.
    fn begins(&self) -> usize {
        let needs = if self.carried().tag().is_some() { 4 } else { 3 };
        needs.min(self.coming())
    }

    /// A word as the parser reads it.
    fn word(&self, at: usize) -> (Kind, u64) {
        let carried = self.carried();
        let at = match (carried.tag(), at) {
            (Some(tag), 0) => return (Kind::Tag, tag.into()),
            (Some(_), at) => at - 1,
            (None, at) => at,
        };
        let Some(at) = at.checked_sub(1) else {
            let (bytes, words) = (carried.len() as u64 & 0xffff, carried.words() as u64 & 0xffff);
            return (Kind::Queue, words << 32 | u64::from(self.queue) << 16 | bytes);
        };
        let kind = if at + 1 < carried.words() { Kind::Data } else { Kind::Last };
        (kind, carried.number(8 * at, 8))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Path {
    lags: bool,
    stops: bool,
    parser: Parser,
    /// Frames in the order of their arrival.
    frames: VecDeque<Frame>,
    /// Decisions, each with the source queue in its key.
    decided: VecDeque<(Action, u8)>,
    /// The tag remover waits for the beginning of a frame that it missed; the number of frames
    /// still before that one.
    missed: Option<usize>,
    /// The first frame that came since nothing moved.
    burst: usize,
}

impl Path {
    pub(super) fn new(lags: bool, stops: bool) -> Path {
        Path {
            lags,
            stops,
            parser: Parser::new(),
            frames: VecDeque::new(),
            decided: VecDeque::new(),
            missed: None,
            burst: 0,
        }
    }

    pub(super) fn reset(self) -> Path {
        Path::new(self.lags, self.stops)
    }

    /// A frame arrives at the arbiter.
    pub(super) fn take(&mut self, queue: u8, frame: &[u8]) {
        // A whole burst is accepted if something moved before it.
        let before = self.frames.iter().take(self.burst);
        let waiting: usize = before.filter(|f| f.arrived == 0).map(|f| f.bytes.len()).sum();
        if frame.len() >= SHORTEST && waiting + frame.len() <= WAITING {
            self.frames.push_back(Frame { queue, bytes: frame.to_vec(), arrived: 0, parsed: 0 });
        }
    }

    /// Words behind the parser that wait for a decision, without one left over from an earlier
    /// frame.
    fn undecided(&self) -> usize {
        self.frames.iter().skip(self.decided.len()).map(|f| f.parsed).sum()
    }

    /// The next word behind the tag remover, if there is one and room for it.
    fn next(&mut self, rest: usize) -> Option<(Kind, u64)> {
        let undecided = self.undecided();
        let at = self.frames.iter().position(|f| f.parsed < f.going())?;
        if self.missed == Some(at) {
            return None;
        }
        let frame = self.frames.get_mut(at)?;
        let there = frame.arrived > frame.parsed || frame.arrived == frame.coming();
        let begun = frame.parsed > 0 || frame.arrived >= frame.begins();
        let room = at < self.decided.len() || undecided + rest < SECOND;
        if !(there && begun && room) {
            return None;
        }
        let word = frame.word(frame.parsed);
        frame.parsed += 1;
        Some(word)
    }

    /// Without the fault, a frame's key is complete with its last word at the latest.
    fn give_up(&mut self) -> Option<(Key, u32)> {
        let frame = self.frames.get(self.decided.len()).filter(|f| !self.lags && f.parsed == f.going())?;
        self.parser = Parser::new();
        Some((Key::of_frame(&frame.bytes, frame.queue), counted(frame.bytes.len())))
    }

    /// Moves a word from the arbiter, if there is one and room for it; returns the frame when it
    /// was its last.
    fn arrive(&mut self) -> Option<Option<usize>> {
        let ahead: usize = self.frames.iter().map(|f| f.arrived - f.parsed.min(f.arrived)).sum();
        if ahead >= FIRST {
            return None;
        }
        let at = self.frames.iter().position(|f| f.arrived < f.coming())?;
        let frame = self.frames.get_mut(at)?;
        frame.arrived += 1;
        Some((frame.arrived == frame.coming()).then_some(at))
    }

    /// The first frame, when it and its decision are complete.
    fn leave(&mut self) -> Option<(Action, u8, Vec<u8>)> {
        let ready = self.frames.front().is_some_and(|f| f.parsed == f.going());
        let (action, source) = if ready { self.decided.pop_front()? } else { return None };
        self.missed = self.missed.map(|at| at.saturating_sub(1));
        self.burst = self.burst.saturating_sub(1);
        Some((action, source, self.frames.pop_front()?.bytes))
    }

    /// Looks for the race among the frames of a burst: which frame's beginning is missed.
    fn race(&mut self, rest: usize) {
        let before = self.undecided() + rest;
        let new = self.frames.iter().enumerate().skip(self.burst);
        let mut pairs = new.clone().zip(new.skip(1));
        let found = pairs.find(|((_, tagged), (_, short))| {
            // The tag remover still holds the tagged frame's last word, and the next frame fits its
            // buffer.
            let full = tagged.carried().tag().is_some() && before + tagged.going() == SECOND + 1;
            full && short.coming() <= FIRST
        });
        if self.stops && self.missed.is_none() {
            self.missed = found.map(|(_, (at, _))| at);
        }
    }

    /// Whether the arbiter is inside a frame, and whether there is room behind it.
    fn stands(&self) -> (bool, bool) {
        let ahead: usize = self.frames.iter().map(|f| f.arrived - f.parsed.min(f.arrived)).sum();
        let within = self.frames.iter().any(|f| f.arrived > 0 && f.arrived < f.coming());
        (within, ahead < FIRST)
    }
}

impl Model {
    /// Moves words until none can move.
    pub(super) fn run(&mut self, sent: &mut Vec<Sent>) {
        let Some(mut path) = self.path.take() else { return };
        path.race(usize::from(self.rest));
        loop {
            if let Some((action, source, frame)) = path.leave() {
                self.carry_out(action, source, &frame, sent);
            } else if let Some((kind, word)) = path.next(usize::from(self.rest)) {
                let key = path.parser.word(kind, word).or_else(|| path.give_up());
                if let Some((key, bytes)) = key
                    && let Some(action) = self.decide(&key, bytes)
                {
                    path.decided.push_back((action, key.source()));
                }
            } else if let Some(last) = path.arrive() {
                if let Some(frame) = last.and_then(|at| path.frames.get(at)) {
                    self.arbitrated(&frame.bytes);
                }
            } else {
                break;
            }
        }
        path.burst = path.frames.len();
        let (within, ready) = path.stands();
        self.arbiter_stands(within, ready);
        self.path = Some(path);
    }
}
