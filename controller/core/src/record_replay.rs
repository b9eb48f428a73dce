//! Recorded runs: what goes into the core and what comes out, a line each, so that a run can be
//! replayed to the same decisions.
//!
//! The first line is a [`Header`], every further one a [`Line`], each as JSON.

use crate::engine::Core;
use crate::policy::registry::UnknownPolicy;
use serde::{Deserialize, Serialize};
use std::io;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tandem_model::{Effect, Event, PersistedState, Site, Time};

/// What a run starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the program that recorded.
    pub version: String,
    /// Which allocation policy, by name.
    pub policy: String,
    /// Seed of the world, if it had one.
    pub seed: u64,
    /// The site as checked.
    pub site: Site,
    /// The store's contents.
    pub stored: PersistedState,
    /// When the core was made.
    pub started: Time,
}

/// One event and what it led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it was handled.
    pub now: Time,
    /// What happened.
    pub event: Event,
    /// What was decided.
    pub effects: Vec<Effect>,
}

/// Where a replay first went another way.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// Number of the event, from 1.
    pub event: usize,
    /// What was recorded.
    pub recorded: Line,
    /// What was decided now.
    pub decided: Vec<Effect>,
}

/// A replay in progress: feed it line by line.
pub struct Replay {
    core: Core,
    events: usize,
}

impl Replay {
    /// A core as it was when the recording started.
    ///
    /// # Errors
    /// The recorded site names a policy that this program does not have.
    pub fn new(header: Header) -> Result<Replay, UnknownPolicy> {
        let core = Core::new(Arc::new(header.site), header.stored, header.started)?;
        Ok(Replay { core, events: 0 })
    }

    /// Handles one line.
    ///
    /// # Errors
    /// The line, and what was decided instead.
    pub fn line(&mut self, line: Line) -> Result<(), Box<Divergence>> {
        self.events += 1;
        let decided = self.core.handle(line.event.clone(), line.now);
        if decided == line.effects {
            return Ok(());
        }
        Err(Box::new(Divergence { event: self.events, recorded: line, decided }))
    }

    /// How many events were handled.
    pub fn events(&self) -> usize {
        self.events
    }

    /// The core as it is now.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }
}

/// Writes a recording, line by line, to wherever the caller wants it.
#[derive(Debug)]
pub struct Recording<W: Write>(W);

impl<W: Write> Recording<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(out: W, header: &Header) -> io::Result<Recording<W>> {
        let mut recording = Recording(out);
        recording.put(header)?;
        Ok(recording)
    }

    fn put(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    /// Adds one event and what it led to.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn line(&mut self, now: Time, event: &Event, effects: &[Effect]) -> io::Result<()> {
        /// A `Line` that borrows.
        #[derive(Serialize)]
        struct Borrowed<'a> {
            now: Time,
            event: &'a Event,
            effects: &'a [Effect],
        }
        self.put(&Borrowed { now, event, effects })
    }

    /// Hands everything on to where it goes.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Why a recording could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It could not be read.
    #[error("the recording cannot be read: {0}")]
    Read(io::Error),
    /// A line that is none.
    #[error("line {line} is no line of a recording: {why}")]
    Line {
        /// Number, from 1.
        line: usize,
        /// The reader's words.
        why: String,
    },
    /// What it says cannot have been: an index that leads nowhere, a number that has overflowed.
    #[error(
        "the recording contradicts itself {}; it was damaged, or changed by hand",
        match .event { 0 => "in its first line".to_owned(), n => format!("at event {n}") }
    )]
    Contradicts {
        /// Number of the event, from 1; 0 is the header.
        event: usize,
    },
    /// Its site names a policy that this program does not have.
    #[error("the recording cannot be replayed: {0}")]
    Policy(UnknownPolicy),
    /// It decides otherwise.
    #[error("event {} was decided otherwise:\nevent:    {}\nrecorded: {}\nnow:      {}", .0.event, json(&.0.recorded.event), json(&.0.recorded.effects), json(&.0.decided))]
    Diverged(Box<Divergence>),
}

/// (The cause is in the message, and no `source` besides, so that nobody prints it twice.)
impl From<io::Error> for ReplayError {
    fn from(cause: io::Error) -> ReplayError {
        ReplayError::Read(cause)
    }
}

impl From<UnknownPolicy> for ReplayError {
    fn from(cause: UnknownPolicy) -> ReplayError {
        ReplayError::Policy(cause)
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Replays a whole recording; returns how many events were decided the same. A last line that was
/// cut off (by a kill) is left out.
///
/// # Errors
/// When it cannot be read, or where it first goes another way.
pub fn replay(input: impl io::BufRead) -> Result<usize, ReplayError> {
    let mut lines = input.lines().peekable();
    let bad = |line: usize, why: serde_json::Error| ReplayError::Line { line, why: why.to_string() };
    let first = lines.next().transpose()?.unwrap_or_default();
    let header: Header = serde_json::from_str(&first).map_err(|e| bad(1, e))?;
    // A site is checked when its file is read; what a recording has of it is taken as it is. What
    // is inside of it leads nowhere shows only when it is used, and is a fault of the file, not of
    // who replays it.
    let guarded = |event: usize| move |_| ReplayError::Contradicts { event };
    let begin = AssertUnwindSafe(|| Replay::new(header));
    let mut replay = catch_unwind(begin).map_err(guarded(0))??;
    let mut number = 1;
    while let Some(text) = lines.next() {
        number += 1;
        match serde_json::from_str::<Line>(&text?) {
            Ok(line) => {
                let event = replay.events() + 1;
                let step = AssertUnwindSafe(|| replay.line(line));
                catch_unwind(step).map_err(guarded(event))?.map_err(ReplayError::Diverged)?;
            }
            Err(e) if e.is_eof() && lines.peek().is_none() => break,
            Err(e) => return Err(bad(number, e)),
        }
    }
    Ok(replay.events())
}
