//! Log lines that somebody else causes, by the lab's own clock; see [`LogLines`].

use crate::control::service::lock;
use crate::node::traffic::clock;
use std::sync::Mutex;
use tandem_model::Time;
use tandem_model::rate_limit::LogLines;

/// The lines of one peer, or of all that come by one socket.
#[derive(Debug)]
pub struct PeerLines(Mutex<LogLines>);

impl Default for PeerLines {
    fn default() -> PeerLines {
        PeerLines(Mutex::new(LogLines::new(Time(clock()))))
    }
}

impl PeerLines {
    /// Writes a warning, if the peer may cause one more line.
    pub fn warn(&self, what: impl FnOnce() -> String) {
        let line = lock(&self.0).line(Time(clock()), what);
        if let Some(line) = line {
            tracing::warn!("{line}");
        }
    }
}
