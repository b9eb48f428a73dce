//! Recorded runs: what goes into the core and what comes out, a line each, so that a run can be replayed to the same decisions.
//!
//! The first line is a [`Header`], every further one a [`Line`], each as JSON.

use crate::Core;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tandem_model::{Effect, Event, Site, Stored, Time};

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
    pub stored: Stored,
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
    pub fn new(header: Header) -> Replay {
        Replay { core: Core::new(Arc::new(header.site), header.stored, header.started), events: 0 }
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
