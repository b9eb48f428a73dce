//! Parses and writes the lines of the protocol, without I/O. A fuzz target covers all of it.

use std::fmt;

/// A line of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `r ADDR`.
    Read(u32),
    /// `w ADDR VALUE`.
    Write(u32, u32),
    /// `p QUEUE HEX`.
    Packet(u8, Vec<u8>),
    /// `q QUEUE HEX`.
    Queue(u8, Vec<u8>),
    /// `g`.
    Go,
}

/// A line of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `VALUE`, to a read.
    Value(u32),
    /// `ok`.
    Done,
    /// `p QUEUE HEX`: this frame left the card; more lines follow.
    Packet(u8, Vec<u8>),
    /// `! why`.
    Refused(String),
}

/// A line that is not part of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{line}\" is no line of the protocol: {wanted}")]
pub struct ProtocolError {
    /// The line's beginning.
    pub line: String,
    /// What was expected.
    pub wanted: &'static str,
}

fn error(line: &str, wanted: &'static str) -> ProtocolError {
    let line = line.chars().take(40).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    ProtocolError { line: line.collect(), wanted }
}

/// 1 to 8 hexadecimal digits.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// A queue and a frame.
fn packet(queue: &str, hex: &str) -> Option<(u8, Vec<u8>)> {
    let queue = number(queue).and_then(|q| u8::try_from(q).ok())?;
    Some((queue, bytes(hex)?))
}

/// Bytes from pairs of hexadecimal digits.
pub fn bytes(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let all = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<_>>();
    all.filter(|_| rest.is_empty())
}

impl Request {
    /// Parses a line, without its end.
    ///
    /// When it is malformed.
    pub fn parse(line: &str) -> Result<Request, ProtocolError> {
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        match *words {
            ["r", address] => number(address).map(Request::Read),
            ["w", address, value] => number(address).zip(number(value)).map(|(a, v)| Request::Write(a, v)),
            ["p", queue, hex] => packet(queue, hex).map(|(q, f)| Request::Packet(q, f)),
            ["q", queue, hex] => packet(queue, hex).map(|(q, f)| Request::Queue(q, f)),
            ["g"] => Some(Request::Go),
            _ => None,
        }
        .ok_or_else(|| {
            let wanted =
                "`r ADDR`, `w ADDR VALUE`, `p QUEUE HEX`, `q QUEUE HEX` or `g`, in hexadecimal without 0x";
            error(line, wanted)
        })
    }
}

impl Answer {
    /// Parses a line, without its end.
    ///
    /// When it is malformed.
    pub fn parse(line: &str) -> Result<Answer, ProtocolError> {
        if let Some(why) = line.strip_prefix('!') {
            return Ok(Answer::Refused(why.trim().to_owned()));
        }
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        match *words {
            ["ok"] => Some(Answer::Done),
            [value] => number(value).map(Answer::Value),
            ["p", queue, hex] => packet(queue, hex).map(|(q, f)| Answer::Packet(q, f)),
            _ => None,
        }
        .ok_or_else(|| error(line, "a value in hexadecimal, `ok`, `p QUEUE HEX` or `! why`"))
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Display for Request {
    /// Without the line's end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Read(address) => write!(f, "r {address:07x}"),
            Request::Write(address, value) => write!(f, "w {address:07x} {value:08x}"),
            Request::Packet(queue, frame) => write!(f, "p {queue:x} {}", Hex(frame)),
            Request::Queue(queue, frame) => write!(f, "q {queue:x} {}", Hex(frame)),
            Request::Go => f.write_str("g"),
        }
    }
}

impl fmt::Display for Answer {
    /// Without the line's end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Value(value) => write!(f, "{value:08x}"),
            Answer::Done => f.write_str("ok"),
            Answer::Packet(queue, frame) => write!(f, "p {queue:x} {}", Hex(frame)),
            Answer::Refused(why) => write!(f, "! {}", why.replace(['\n', '\r'], " ")),
        }
    }
}
