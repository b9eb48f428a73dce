//! The lines between a testbed's coordinator and its nodes: read whole, and never longer than what
//! either has to say.

use std::io::{self, BufRead, Read};

/// Bytes of a line at most. The longest answer has the figures of all flows and counters of a
/// machine: some hundred bytes each, of some ten thousand.
pub const LONGEST: usize = 16 << 20;

/// Why there are no more lines.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other end does not end its line.
    #[error(
        "its line is longer than {most} bytes; it is no node of this version, or something on the way writes into the connection"
    )]
    TooLong {
        /// Bytes that it may have.
        most: usize,
    },
    /// The other end has ended in the middle of a line.
    #[error("it ended in the middle of a line, after {0} bytes")]
    Cut(usize),
    /// It is no text.
    #[error("its line is no UTF-8, from byte {0} on")]
    NoText(usize),
    /// The connection.
    #[error("its line cannot be read: {0}")]
    Io(io::Error),
}

/// (The cause is in the message, and no `source` besides, so that nobody prints it twice.)
impl From<io::Error> for LineError {
    fn from(cause: io::Error) -> LineError {
        LineError::Io(cause)
    }
}

/// The next line without its end; `None` where the other end has ended after a whole one.
///
/// # Errors
/// When it is too long, cut, no text, or cannot be read. Nothing that follows can be told apart
/// then.
pub fn next(from: &mut impl BufRead, most: usize) -> Result<Option<String>, LineError> {
    let mut line = Vec::new();
    // One more than may be, and the end of the line.
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = from.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|b| *b == b'\n').is_none() {
        return Err(if read > most { LineError::TooLong { most } } else { LineError::Cut(read) });
    }
    String::from_utf8(line).map(Some).map_err(|e| LineError::NoText(e.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives the same byte for ever.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            self.0 += buffer.len();
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_an_error_and_is_not_kept_in_memory() {
        let mut endless = io::BufReader::new(Endless(0));
        let error = next(&mut endless, 1000).expect_err("too long");
        assert!(matches!(error, LineError::TooLong { most: 1000 }), "{error}");
        assert!(endless.get_ref().0 <= 1001 + 2 * 8192, "{} bytes were taken in", endless.get_ref().0);
        assert_eq!(next(&mut &b"1234\n"[..], 4).expect("as long as may be").as_deref(), Some("1234"));
        assert!(matches!(next(&mut &b"12345\n"[..], 4), Err(LineError::TooLong { most: 4 })));
        assert!(matches!(next(&mut &b"123"[..], 4), Err(LineError::Cut(3))));
        assert!(matches!(next(&mut &b"1\xff\n"[..], 4), Err(LineError::NoText(1))));
        assert!(matches!(next(&mut &b""[..], 4), Ok(None)));
    }

    proptest! {
        #[test]
        fn lines_come_whole_and_in_order_or_it_is_said_why_not(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            most in 0usize..40,
        ) {
            let mut from = &bytes[..];
            let mut again = Vec::new();
            let end = loop {
                match next(&mut from, most) {
                    Ok(Some(line)) => {
                        prop_assert!(line.len() <= most && !line.contains('\n'));
                        again.extend_from_slice(line.as_bytes());
                        again.push(b'\n');
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            prop_assert!(bytes.starts_with(&again));
            prop_assert_eq!(end.is_none(), again == bytes);
        }
    }
}
