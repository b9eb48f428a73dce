//! Cuts a byte stream into JSON objects (RFC 7047 section 4: messages follow each other without a
//! separator).
//!
//! Every byte is scanned once, however the stream arrives: a scan resumes where the last one
//! stopped. Only braces, brackets and strings are recognised here; the JSON reader checks the rest.

/// The longest message that is accepted, in bytes. The whole database of a large site has a few
/// megabytes.
pub const LONGEST: usize = 64 << 20;

/// The stream cannot be cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message does not begin with `{`.
    #[error("a message begins with byte 0x{0:02x} instead of '{{'")]
    NoObject(u8),
    /// A message does not end within the limit.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
}

/// Collects bytes and returns messages.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Offset of the message that is being scanned.
    start: usize,
    /// Offset up to which bytes were scanned; at least `start`.
    scanned: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
    longest: usize,
}

impl Default for Framer {
    fn default() -> Framer {
        Framer::new(LONGEST)
    }
}

impl Framer {
    /// One that takes messages of up to `longest` bytes.
    pub fn new(longest: usize) -> Framer {
        Framer { buffer: Vec::new(), start: 0, scanned: 0, depth: 0, in_text: false, escaped: false, longest }
    }

    /// Appends received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // Moves only the part of an incomplete message, and only once: it then starts at 0.
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message is incomplete.
    pub fn is_within_message(&self) -> bool {
        self.depth > 0
    }

    /// The next whole message; `None` until it is complete.
    ///
    /// # Errors When the bytes are not an object, or it is too long. Then the stream is unusable,
    /// and every further call returns the same error.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if self.depth == 0 {
                match byte {
                    b'{' => {
                        self.start = self.scanned;
                        self.depth = 1;
                    }
                    b' ' | b'\t' | b'\r' | b'\n' => self.start = self.scanned + 1,
                    other => return Err(FrameError::NoObject(other)),
                }
                self.scanned += 1;
                continue;
            }
            if self.scanned - self.start >= self.longest {
                return Err(FrameError::TooLong(self.longest));
            }
            self.scanned += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => self.depth += 1,
                b'}' | b']' if !self.in_text => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                let begin = std::mem::replace(&mut self.start, self.scanned);
                return Ok(Some(&self.buffer[begin..self.scanned]));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn messages(framer: &mut Framer) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let mut all = Vec::new();
        loop {
            match framer.next_message() {
                Ok(Some(message)) => all.push(message.to_vec()),
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error)),
            }
        }
    }

    /// Feeds `stream` in pieces of the given lengths, repeated.
    fn feed(stream: &[u8], pieces: &[usize], longest: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let (mut framer, mut all, mut rest) = (Framer::new(longest), Vec::new(), stream);
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).clamp(1, rest.len().max(1)).min(rest.len()));
            framer.push(now);
            let (got, error) = messages(&mut framer);
            all.extend(got);
            if error.is_some() || later.is_empty() {
                return (all, error);
            }
            rest = later;
        }
        (all, None)
    }

    #[test]
    fn objects_are_cut_where_they_end_whatever_stands_in_their_texts() {
        let text = br#"{"a":"}\"{","b":[1,{}]} {"c":1}"#;
        let cut = vec![text[..23].to_vec(), text[24..].to_vec()];
        for piece in 1..text.len() {
            assert_eq!(feed(text, &[piece], LONGEST), (cut.clone(), None));
        }
        let mut framer = Framer::default();
        framer.push(&text[..22]);
        assert_eq!(framer.next_message(), Ok(None));
        assert!(framer.is_within_message());
    }

    #[test]
    fn what_is_no_object_or_does_not_end_is_refused_for_good() {
        let mut framer = Framer::default();
        framer.push(b"HTTP/1.1 400");
        assert_eq!(framer.next_message(), Err(FrameError::NoObject(b'H')));
        framer.push(b"{}");
        assert_eq!(framer.next_message(), Err(FrameError::NoObject(b'H')));
        let mut framer = Framer::new(5);
        framer.push(br#"{"a"}{"ab"}"#);
        assert_eq!(framer.next_message(), Ok(Some(&br#"{"a"}"#[..])), "the bound itself is allowed");
        assert_eq!(framer.next_message(), Err(FrameError::TooLong(5)));
    }

    /// A scan from the start at each byte would take hours.
    #[test]
    fn a_long_message_byte_by_byte_is_scanned_once() {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
        let (got, error) = feed(text.as_bytes(), &[1], LONGEST);
        assert_eq!((got.len(), got[0].len(), error), (1, text.len(), None));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|n| json!(n)),
            any::<bool>().prop_map(|b| json!(b)),
            r#"[{}\[\]"\\a€]{0,8}"#.prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                object(inner).prop_map(Value::Object),
            ]
        })
    }

    fn object(
        inner: impl Strategy<Value = Value> + 'static,
    ) -> impl Strategy<Value = serde_json::Map<String, Value>> {
        prop::collection::btree_map(r#"[{}"\\b]{0,4}"#, inner, 0..4).prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            sent in prop::collection::vec((object(value()), r"[ \n\t\r]{0,2}"), 0..6),
            pieces in prop::collection::vec(1usize..40, 1..8),
        ) {
            let stream: String = sent.iter().map(|(o, gap)| Value::Object(o.clone()).to_string() + gap).collect();
            let (got, error) = feed(stream.as_bytes(), &pieces, LONGEST);
            prop_assert_eq!(error, None);
            let got: Vec<Value> = got.iter().map(|m| serde_json::from_slice(m).expect("JSON")).collect();
            let sent: Vec<Value> = sent.into_iter().map(|(o, _)| Value::Object(o)).collect();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn garbage_is_cut_the_same_way_however_it_arrives(
            stream in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), any::<u8>()], 0..200),
            pieces in prop::collection::vec(1usize..20, 1..8),
            longest in 1usize..60,
        ) {
            let at_once = feed(&stream, &[stream.len().max(1)], longest);
            prop_assert_eq!(feed(&stream, &pieces, longest), at_once);
        }
    }
}
