//! Reads a stream of server-sent events (WHATWG HTML, 9.2.6), as far as this API uses them: of each
//! event its `data`, which is all of it in JSON.

use crate::client::ClientError;
use crate::events::EventView;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Bytes of one event at most. The longest names and numbers make some hundreds.
const LONGEST: usize = 64 * 1024;

/// The events of one connection, until it ends.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    lines: Lines,
}

impl EventStream {
    pub(crate) fn new(body: Incoming) -> EventStream {
        EventStream { body, lines: Lines::default() }
    }

    /// The next event; `None` when the controller has ended the stream. Nothing is lost when the
    /// returned future is dropped before it is done.
    ///
    /// # Errors
    /// When the connection is cut, or when what comes is no event.
    pub async fn next(&mut self) -> Result<Option<EventView>, ClientError> {
        loop {
            if let Some(data) = self.lines.event() {
                return serde_json::from_str(&data).map(Some).map_err(ClientError::OtherVersion);
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let Ok(bytes) = frame.map_err(ClientError::Ended)?.into_data() else { continue };
            self.lines.take(&bytes)?;
        }
    }
}

/// What has come and makes no whole event yet.
#[derive(Debug, Default)]
struct Lines {
    left: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.left.extend_from_slice(bytes);
        if self.left.len() > LONGEST && self.end().is_none() {
            return Err(ClientError::EventTooLong);
        }
        Ok(())
    }

    /// Where the first event ends, with its empty line.
    fn end(&self) -> Option<usize> {
        self.left.windows(2).position(|w| w == b"\n\n").map(|at| at + 2)
    }

    /// The data of the first whole event that has any.
    fn event(&mut self) -> Option<String> {
        while let Some(end) = self.end() {
            let event: Vec<u8> = self.left.drain(..end).collect();
            let text = String::from_utf8_lossy(&event);
            if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data:")) {
                return Some(data.trim_start().to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_any_pieces_and_comments_are_left_out() {
        let text =
            ":\n\nevent: link_up\nid: 7\ndata: {\"a\":1}\n\n:\n\nevent: x\nid: 8\ndata: {\"a\":2}\n\nid: 9\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.take(piece).expect("short enough");
                found.extend(std::iter::from_fn(|| lines.event()));
            }
            assert_eq!(found, ["{\"a\":1}", "{\"a\":2}"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; LONGEST];
        lines.take(&piece).expect("short enough");
        assert!(lines.take(&piece).is_err());
    }
}
