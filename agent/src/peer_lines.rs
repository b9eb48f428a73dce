//! Log lines that a controller or a client causes, limited by the process's clock; see
//! [`LogLines`].

use std::time::Instant;
use tandem_model::Time;
use tandem_model::rate_limit::LogLines;

/// The lines of one peer.
#[derive(Debug)]
pub(crate) struct PeerLines {
    start: Instant,
    lines: LogLines,
}

impl Default for PeerLines {
    fn default() -> PeerLines {
        PeerLines { start: Instant::now(), lines: LogLines::new(Time::ZERO) }
    }
}

impl PeerLines {
    /// Logs a warning, if the peer may cause another line.
    pub(crate) fn warn(&mut self, what: impl FnOnce() -> String) {
        if let Some(line) = self.lines.line(Time::ZERO + self.start.elapsed(), what) {
            tracing::warn!("{line}");
        }
    }

    /// Logs an information, if the peer may cause another line.
    pub(crate) fn info(&mut self, what: impl FnOnce() -> String) {
        if let Some(line) = self.lines.line(Time::ZERO + self.start.elapsed(), what) {
            tracing::info!("{line}");
        }
    }
}
