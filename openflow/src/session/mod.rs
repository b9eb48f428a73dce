//! A session: version negotiation and keeping alive, for both roles, without a clock or a socket.
//!
//! Both sides send HELLO at once (OF 1.0 section 5.5.1, OF 1.3.5 section 6.3.1). The version is the
//! highest that both bitmaps hold; where a side sent none (a bare 8-byte HELLO is fine), the lower
//! of the two header versions. Then an echo request is sent after each quiet period, and one that
//! is not answered ends the session.
//!
//! [`switch`]: the replies of a switch on top of that. [`multipart`]: messages in several parts,
//! for both roles.

pub mod multipart;
pub mod switch;

use crate::error::OfErrorCode;
use crate::header;
use std::time::Duration;
use tandem_model::Time;

/// Type numbers that are the same in every version.
mod kind {
    pub(super) const HELLO: u8 = 0;
    pub(super) const ERROR: u8 = 1;
    pub(super) const ECHO_REQUEST: u8 = 2;
    pub(super) const ECHO_REPLY: u8 = 3;
}

/// Times of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long the peer may take for its HELLO.
    pub hello_timeout: Duration,
    /// After how long without a message an echo request is sent.
    pub idle: Duration,
    /// How long its answer may take.
    pub echo_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hello_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(5),
            echo_timeout: Duration::from_secs(15),
        }
    }
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No common version.
    #[error(
        "no common OpenFlow version: the peer offers {peer}, this side {own}; set the bridge's protocols to OpenFlow10 or OpenFlow13"
    )]
    NoCommonVersion {
        /// The versions of the peer, as text.
        peer: String,
        /// The versions of this side, as text.
        own: String,
    },
    /// The first message was not a HELLO.
    #[error(
        "it does not begin with a HELLO but with type {kind}: no OpenFlow; find out what dials this port, and let only switches do so"
    )]
    NoHello {
        /// Its type number.
        kind: u8,
    },
    /// The peer refused our HELLO.
    #[error("the peer refused the handshake: {text}")]
    Refused {
        /// The text in its error message.
        text: String,
    },
    /// A message of another version than the one agreed on.
    #[error("a message of version {got:#04x} came in a session of version {agreed:#04x}")]
    WrongVersion {
        /// Its version byte.
        got: u8,
        /// The session's.
        agreed: u8,
    },
    /// No HELLO in time.
    #[error("the peer has sent no HELLO for {0:?}")]
    HelloTimeout(Duration),
    /// No echo reply in time.
    #[error("the peer has not answered an echo request for {0:?}")]
    EchoTimeout(Duration),
}

/// What the session did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The session has handled it.
    Handled,
    /// The version is agreed: this session speaks it from now on.
    Agreed(u8),
    /// The user of the session has to handle it.
    Message(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake { since: Time },
    Open { version: u8, heard: Time, asked: Option<Time> },
}

/// One side of a connection.
#[derive(Debug, Clone)]
pub struct Session {
    cfg: Config,
    /// Version bytes that this side speaks, ascending.
    own: Vec<u8>,
    state: State,
    last_xid: u32,
}

impl Session {
    /// Starts a session that speaks `versions`, and greets.
    pub fn new(versions: &[u8], cfg: Config, now: Time, out: &mut Vec<u8>) -> Session {
        let mut own = versions.to_vec();
        own.sort_unstable();
        own.dedup();
        let highest = own.last().copied().unwrap_or(header::V10);
        let mut session = Session { cfg, own, state: State::Handshake { since: now }, last_xid: 0 };
        let bitmap = session.own.iter().filter(|v| **v < 32).fold(0u32, |b, v| b | 1 << v);
        // OFPHET_VERSIONBITMAP (OF 1.3.5 section 7.5.1); 1.0 says that a HELLO's body is to be
        // ignored.
        let xid = session.next_xid();
        put(
            out,
            highest,
            kind::HELLO,
            xid,
            &[&1u16.to_be_bytes()[..], &8u16.to_be_bytes(), &bitmap.to_be_bytes()].concat(),
        );
        session
    }

    /// The agreed version byte.
    pub fn version(&self) -> Option<u8> {
        match self.state {
            State::Handshake { .. } => None,
            State::Open { version, .. } => Some(version),
        }
    }

    /// A transaction id that this side has not used for a long time.
    pub fn next_xid(&mut self) -> u32 {
        self.last_xid = self.last_xid.wrapping_add(1).max(1);
        self.last_xid
    }

    /// Takes in one whole message; answers go to `out`.
    ///
    /// # Errors
    /// When the session is over; `out` then holds what should still be sent.
    pub fn on_message<'a>(
        &mut self,
        message: &'a [u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> Result<Incoming<'a>, SessionError> {
        let Some([version, kind, _, _, x0, x1, x2, x3]) = message.first_chunk::<8>() else {
            return Ok(Incoming::Handled);
        };
        let xid = u32::from_be_bytes([*x0, *x1, *x2, *x3]);
        match &mut self.state {
            State::Handshake { .. } => self.greeted(*version, *kind, xid, &message[8..], now, out),
            State::Open { version: agreed, heard, asked } => {
                (*heard, *asked) = (now, None);
                let agreed = *agreed;
                match *kind {
                    // A late or second HELLO has no effect: the version is agreed already.
                    kind::HELLO => Ok(Incoming::Handled),
                    _ if *version != agreed => {
                        error(out, agreed, message, OfErrorCode::BAD_VERSION);
                        Err(SessionError::WrongVersion { got: *version, agreed })
                    }
                    kind::ECHO_REQUEST => {
                        put(out, agreed, kind::ECHO_REPLY, xid, &message[8..]);
                        Ok(Incoming::Handled)
                    }
                    kind::ECHO_REPLY => Ok(Incoming::Handled),
                    _ => Ok(Incoming::Message(message)),
                }
            }
        }
    }

    fn greeted(
        &mut self,
        version: u8,
        kind: u8,
        xid: u32,
        body: &[u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> Result<Incoming<'static>, SessionError> {
        match kind {
            kind::HELLO => {}
            kind::ERROR => {
                let text = String::from_utf8_lossy(body.get(4..).unwrap_or_default());
                let text = tandem_model::text::escaped(text.trim_end_matches('\0')).to_string();
                return Err(SessionError::Refused { text });
            }
            kind => return Err(self.no_hello(version, kind, xid, out)),
        }
        let own_highest = self.own.last().copied().unwrap_or(header::V10);
        let common = match bitmap(body) {
            Some(bits) => self.own.iter().rev().copied().find(|v| *v < 32 && bits & (1 << v) != 0),
            None => self.own.iter().rev().copied().find(|v| *v == version.min(own_highest)),
        };
        let Some(agreed) = common else {
            let peer = bitmap(body).map_or_else(|| format!("{version:#04x}"), |b| format!("bitmap {b:#x}"));
            let own = self.own.iter().map(|v| format!("{v:#04x}")).collect::<Vec<_>>().join(", ");
            let error = SessionError::NoCommonVersion { peer, own };
            // OFPET_HELLO_FAILED, OFPHFC_INCOMPATIBLE, with a text.
            let text = error.to_string();
            put(
                out,
                version.min(own_highest),
                kind::ERROR,
                xid,
                &[&[0, 0, 0, 0][..], text.as_bytes()].concat(),
            );
            return Err(error);
        };
        self.state = State::Open { version: agreed, heard: now, asked: None };
        Ok(Incoming::Agreed(agreed))
    }

    fn no_hello(&self, version: u8, kind: u8, xid: u32, out: &mut Vec<u8>) -> SessionError {
        let error = SessionError::NoHello { kind };
        // OFPET_HELLO_FAILED, OFPHFC_INCOMPATIBLE, with a text.
        let body = [&[0, 0, 0, 0][..], error.to_string().as_bytes()].concat();
        put(out, self.spoken(version), kind::ERROR, xid, &body);
        error
    }

    /// The version to answer in before one is agreed: that of the peer, if this side speaks it.
    fn spoken(&self, version: u8) -> u8 {
        let agreed = self.version();
        let own = || self.own.iter().copied().find(|v| *v == version).or(self.own.last().copied());
        agreed.or_else(own).unwrap_or(header::V10)
    }

    /// Looks at the start of a message that has not come completely: before the HELLO, nothing but
    /// a HELLO is worth waiting for.
    ///
    /// # Errors
    /// When the session is over; `out` then holds what should still be sent.
    pub fn on_partial(&self, start: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        match (self.state, start) {
            (State::Handshake { .. }, [version, kind, ..]) if *kind > kind::ERROR => {
                Err(self.no_hello(*version, *kind, xid_of(start), out))
            }
            _ => Ok(()),
        }
    }

    /// Answers a message, or bytes that should have been one, with an error that carries their
    /// beginning (OF 1.3.5 section 7.5.4).
    pub fn refuse(&self, message: &[u8], of_error: OfErrorCode, out: &mut Vec<u8>) {
        error(out, self.spoken(message.first().copied().unwrap_or_default()), message, of_error);
    }

    /// Tells the peer why, as text, this side closes the connection: OFPET_HELLO_FAILED,
    /// OFPHFC_EPERM, whose data is a text (OF 1.0 section 5.4.4, OF 1.3.5 section 7.5.4.1).
    pub fn dismiss(&mut self, text: &str, out: &mut Vec<u8>) {
        let version = self.spoken(self.own.last().copied().unwrap_or(header::V10));
        let xid = self.next_xid();
        put(out, version, kind::ERROR, xid, &[&[0, 0, 0, 1][..], text.as_bytes()].concat());
    }

    /// Sends an echo request now, unless one is unanswered already. For a caller that doubts that
    /// the peer is still there.
    pub fn probe(&mut self, now: Time, out: &mut Vec<u8>) {
        if let State::Open { version, heard, asked: None } = self.state {
            self.state = State::Open { version, heard, asked: Some(now) };
            let xid = self.next_xid();
            put(out, version, kind::ECHO_REQUEST, xid, &[]);
        }
    }

    /// When `on_deadline` has to be called next.
    pub fn next_deadline(&self) -> Time {
        match self.state {
            State::Handshake { since } => since + self.cfg.hello_timeout,
            State::Open { heard, asked: None, .. } => heard + self.cfg.idle,
            State::Open { asked: Some(asked), .. } => asked + self.cfg.echo_timeout,
        }
    }

    /// Sends an echo request if it is time for one.
    ///
    /// # Errors
    /// When the peer has been silent for too long.
    pub fn on_deadline(&mut self, now: Time, out: &mut Vec<u8>) -> Result<(), SessionError> {
        if now < self.next_deadline() {
            return Ok(());
        }
        match self.state {
            State::Handshake { .. } => Err(SessionError::HelloTimeout(self.cfg.hello_timeout)),
            State::Open { asked: Some(_), .. } => Err(SessionError::EchoTimeout(self.cfg.echo_timeout)),
            State::Open { asked: None, .. } => {
                self.probe(now, out);
                Ok(())
            }
        }
    }
}

/// The version bitmap among a HELLO's elements; `None` if there is none, or if the body is not a
/// list of elements.
fn bitmap(mut body: &[u8]) -> Option<u32> {
    while let Some([k0, k1, l0, l1]) = body.first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if length < 4 || length > body.len() {
            return None;
        }
        if [*k0, *k1] == [0, 1] {
            let bits = body.get(4..8).filter(|_| length >= 8)?;
            return Some(u32::from_be_bytes([bits[0], bits[1], bits[2], bits[3]]));
        }
        body = body.get(length.next_multiple_of(8)..)?;
    }
    None
}

/// The transaction id of bytes that may not be a whole message; 0 if they end before it.
fn xid_of(message: &[u8]) -> u32 {
    message.get(4..8).map_or(0, |x| u32::from_be_bytes([x[0], x[1], x[2], x[3]]))
}

/// Writes OFPT_ERROR about a message, with the message's first 64 bytes.
fn error(out: &mut Vec<u8>, version: u8, message: &[u8], of_error: OfErrorCode) {
    let start = &message[..message.len().min(64)];
    let body = [&of_error.kind.to_be_bytes()[..], &of_error.code.to_be_bytes(), start].concat();
    put(out, version, kind::ERROR, xid_of(message), &body);
}

fn put(out: &mut Vec<u8>, version: u8, kind: u8, xid: u32, body: &[u8]) {
    // Bodies here are short or copied from messages of at most 65535 bytes; a message that is too
    // long is not sent.
    let _ = header::write(out, version, kind, xid, |out| out.extend_from_slice(body));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [u8; 2] = [header::V10, header::V13];

    fn message(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, version, kind, 7, body);
        out
    }

    fn bitmap_of(bits: u32) -> Vec<u8> {
        [&[0, 1, 0, 8][..], &bits.to_be_bytes()].concat()
    }

    /// All pairs of HELLOs, with the version that the specification's rule gives for them.
    #[test]
    fn greetings() {
        // Versions of this side, version in the peer's header, body of its HELLO, agreed version.
        type Row<'a> = (&'a [u8], u8, Vec<u8>, Option<u8>);
        let rows: &[Row<'_>] = &[
            (&BOTH, 1, vec![], Some(1)),
            (&BOTH, 4, vec![], Some(4)),
            (&BOTH, 6, vec![], Some(4)),
            (&BOTH, 6, bitmap_of(1 << 1 | 1 << 6), Some(1)),
            (&BOTH, 6, bitmap_of(1 << 6), None),
            (&BOTH, 4, bitmap_of(1 << 1 | 1 << 4), Some(4)),
            (&BOTH, 2, vec![], None),
            (&[4], 1, vec![], None),
            (&[1], 4, vec![], Some(1)),
            (&BOTH, 4, vec![0, 1, 0, 3, 0, 0, 0, 0], Some(4)),
            (&BOTH, 4, vec![0, 9, 0, 4, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 2], Some(1)),
        ];
        for (own, version, body, agreed) in rows {
            let mut out = Vec::new();
            let mut session = Session::new(own, Config::default(), Time::ZERO, &mut out);
            let hello = message(*version, 0, body);
            let mut out = Vec::new();
            let result = session.on_message(&hello, Time::ZERO, &mut out);
            match agreed {
                Some(v) => assert_eq!(result, Ok(Incoming::Agreed(*v)), "{own:?} {version} {body:?}"),
                None => {
                    assert!(matches!(result, Err(SessionError::NoCommonVersion { .. })), "{own:?} {version}");
                    assert_eq!(&out[1..2], &[1], "an error is sent");
                }
            }
        }
    }

    #[test]
    fn what_is_no_greeting_ends_the_session() {
        let mut session = Session::new(&BOTH, Config::default(), Time::ZERO, &mut Vec::new());
        let http = *b"GET / HTTP/1.1\r\n\r\n";
        assert!(matches!(
            session.on_message(&http, Time::ZERO, &mut Vec::new()),
            Err(SessionError::NoHello { .. })
        ));
        let refused = message(1, 1, &[&[0, 0, 0, 0][..], b"no"].concat());
        let error = session.on_message(&refused, Time::ZERO, &mut Vec::new());
        assert_eq!(error, Err(SessionError::Refused { text: "no".into() }));
    }

    #[test]
    fn silence_is_asked_about_and_then_ends_the_session() {
        let cfg = Config::default();
        let mut session = Session::new(&BOTH, cfg, Time::ZERO, &mut Vec::new());
        assert_eq!(
            session.on_deadline(Time::ZERO + cfg.hello_timeout, &mut Vec::new()),
            Err(SessionError::HelloTimeout(cfg.hello_timeout))
        );
        session.on_message(&message(4, 0, &[]), Time::ZERO, &mut Vec::new()).expect("a greeting");
        let mut out = Vec::new();
        assert_eq!(session.on_deadline(Time::ZERO + cfg.idle, &mut out), Ok(()));
        assert_eq!(out[..2], [4, 2], "an echo request");
        let late = Time::ZERO + cfg.idle + cfg.echo_timeout;
        let mut answered = session.clone();
        assert_eq!(session.on_deadline(late, &mut out), Err(SessionError::EchoTimeout(cfg.echo_timeout)));
        let reply = message(4, 3, &[]);
        assert_eq!(answered.on_message(&reply, late, &mut out), Ok(Incoming::Handled));
        assert_eq!(answered.next_deadline(), late + cfg.idle);
    }

    #[test]
    fn an_echo_request_is_answered_with_its_body_and_another_version_is_refused() {
        let mut session = Session::new(&BOTH, Config::default(), Time::ZERO, &mut Vec::new());
        session.on_message(&message(4, 0, &[]), Time::ZERO, &mut Vec::new()).expect("a greeting");
        let mut out = Vec::new();
        let asked = message(4, 2, b"tick");
        assert_eq!(session.on_message(&asked, Time::ZERO, &mut out), Ok(Incoming::Handled));
        assert_eq!(out, message(4, 3, b"tick"));
        let old = message(1, 10, &[]);
        let error = session.on_message(&old, Time::ZERO, &mut out);
        assert_eq!(error, Err(SessionError::WrongVersion { got: 1, agreed: 4 }));
    }
}
