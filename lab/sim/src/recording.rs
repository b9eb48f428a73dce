//! Where a recorded run goes: the simulation opens no file, so its caller passes a sink.

use std::io::{self, Write};
use tandem_core::record_replay::Recording;
use tandem_model::{Effect, Event, Time};

/// Takes each event that the core handles, with the effects that it decided.
pub trait EventSink {
    /// Records one event, in the order in which the core handled them.
    ///
    /// # Errors
    /// When it cannot be recorded; the run then ends with this error.
    fn record(&mut self, now: Time, event: &Event, effects: &[Effect]) -> io::Result<()>;

    /// Called whenever the simulation has reached the time up to which it was to run.
    ///
    /// # Errors
    /// When what was recorded cannot be handed on.
    fn flush(&mut self) -> io::Result<()>;
}

/// A recording that `tandem replay` reads.
impl<W: Write> EventSink for Recording<W> {
    fn record(&mut self, now: Time, event: &Event, effects: &[Effect]) -> io::Result<()> {
        self.line(now, event, effects)
    }

    fn flush(&mut self) -> io::Result<()> {
        Recording::flush(self)
    }
}
