//! A connection to one controller: it is dialled again with growing pauses while it is wanted, it
//! cuts the stream into messages, and it never blocks.

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::framing::{self, FrameError};
use tandem_openflow::switch::ConnId;

/// The first pause, and the longest: those of Open vSwitch.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Limits on the bytes that wait for a controller that does not read: above the first, PACKET_INs
/// are dropped; above the second, the connection is closed.
const WAITING: (usize, usize) = (1 << 20, 32 << 20);
/// OFPT_PACKET_IN, in both versions.
const PACKET_IN: u8 = 10;

/// The address of a controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `tcp:ADDRESS[:PORT]`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl Target {
    /// Parses an address in the syntax of Open vSwitch; `%` in a path is the switch's name.
    ///
    /// When this switch does not support the address, with what to write.
    pub fn parse(text: &str, switch: &str) -> Result<Target, String> {
        let bad = |why: &str| {
            format!("controller {text:?}: {why}; write tcp:10.0.0.1:6653 or unix:/path/to/socket")
        };
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Target::Unix(path.replace('%', switch).into())),
            Some(("tcp", rest)) => {
                let port = |a: std::net::IpAddr| SocketAddr::new(a, 6653);
                let address = rest.trim_start_matches('[').trim_end_matches(']');
                rest.parse()
                    .or_else(|_| address.parse().map(port))
                    .map(Target::Tcp)
                    .map_err(|_| bad("a switch does not look up names"))
            }
            Some(("ssl", _)) => Err(bad("this switch has no TLS")),
            Some(("ptcp" | "punix" | "pssl", _)) => Err(bad("this switch dials, it does not listen there")),
            _ => Err(bad("it is no address")),
        }
    }

    fn dial(&self) -> io::Result<(Socket, bool)> {
        let (domain, address) = match self {
            Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
        if matches!(self, Target::Tcp(_)) {
            socket.set_tcp_nodelay(true)?;
        }
        match socket.connect(&address) {
            Ok(()) => Ok((socket, true)),
            Err(e) if e.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok((socket, false)),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "tcp:{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

enum State {
    Pausing { until: Time },
    Dialling(Socket),
    Open(Socket, ConnId),
}

/// A connection of the switch with a controller, or with a management client.
pub(super) struct Connection {
    /// The address to dial; `None` for a management client, which has connected itself.
    target: Option<Target>,
    state: State,
    pause: Duration,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Why it is not connected.
    pub(super) trouble: String,
}

impl Connection {
    /// A connection to a controller, to be dialled at once.
    pub(super) fn to(target: Target, now: Time) -> Connection {
        Connection {
            target: Some(target),
            state: State::Pausing { until: now },
            pause: PAUSES.0,
            input: Vec::new(),
            output: Vec::new(),
            trouble: String::new(),
        }
    }

    /// The connection of a client.
    pub(super) fn of(stream: UnixStream, id: ConnId) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            target: None,
            state: State::Open(stream.into(), id),
            pause: PAUSES.0,
            input: Vec::new(),
            output: Vec::new(),
            trouble: String::new(),
        })
    }

    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    pub(super) fn id(&self) -> Option<ConnId> {
        if let State::Open(_, id) = &self.state { Some(*id) } else { None }
    }

    /// Whether it has ended for good.
    pub(super) fn is_over(&self) -> bool {
        self.target.is_none() && !matches!(self.state, State::Open(..))
    }

    /// The descriptor to wait for, if any, and whether to wait for writing.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.state {
            State::Pausing { .. } => None,
            State::Dialling(socket) => Some((socket.as_fd(), true)),
            State::Open(socket, _) => Some((socket.as_fd(), !self.output.is_empty())),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        if let State::Pausing { until } = &self.state { Some(*until) } else { None }
    }

    /// Dials when it is time, and checks the result. True when the connection was just established:
    /// [`Connection::open`] has to follow.
    pub(super) fn advance(&mut self, now: Time) -> bool {
        let Some(target) = &self.target else { return false };
        match &self.state {
            State::Pausing { until } if *until <= now => match target.dial() {
                Ok((socket, whole)) => {
                    self.state = State::Dialling(socket);
                    whole
                }
                Err(error) => {
                    self.close(&error.to_string(), now);
                    false
                }
            },
            State::Dialling(socket) => {
                let outcome = socket.take_error().and_then(|e| e.map_or(Ok(()), Err));
                match outcome.and_then(|()| socket.peer_addr().map(|_| ())) {
                    Ok(()) => true,
                    Err(e) if e.kind() == ErrorKind::NotConnected => false,
                    Err(error) => {
                        self.close(&error.to_string(), now);
                        false
                    }
                }
            }
            _ => false,
        }
    }

    /// Sets its number.
    pub(super) fn open(&mut self, id: ConnId, now: Time) {
        let old = std::mem::replace(&mut self.state, State::Pausing { until: now });
        if let State::Dialling(socket) | State::Open(socket, _) = old {
            self.state = State::Open(socket, id);
        }
        self.trouble.clear();
    }

    /// The peer speaks OpenFlow: the next pause is the shortest again.
    pub(super) fn is_good(&mut self) {
        self.pause = PAUSES.0;
    }

    /// Closes it after sending what it can, and schedules the next dial.
    pub(super) fn close(&mut self, why: &str, now: Time) {
        let _ = self.flush();
        self.state = State::Pausing { until: now + self.pause };
        self.pause = (self.pause * 2).min(PAUSES.1);
        self.input.clear();
        self.output.clear();
        why.clone_into(&mut self.trouble);
    }

    /// Reads the waiting bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let State::Open(socket, _) = &self.state else { return Ok(()) };
        let mut piece = [0u8; 16 << 10];
        // A limit, since packets are waiting too.
        for _ in 0..16 {
            match (&*socket).read(&mut piece) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the controller has closed it"));
                }
                Ok(n) => self.input.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The whole messages that have come; an incomplete one stays. They are returned by value, so
    /// that executing them may send on this connection.
    pub(super) fn take(&mut self) -> (Vec<u8>, Result<usize, FrameError>) {
        let mut rest = &self.input[..];
        loop {
            match framing::next(rest) {
                Ok(Some((_, after))) => rest = after,
                Ok(None) => break,
                Err(error) => return (std::mem::take(&mut self.input), Err(error)),
            }
        }
        let whole = self.input.len() - rest.len();
        let rest = rest.to_vec();
        let mut all = std::mem::replace(&mut self.input, rest);
        all.truncate(whole);
        (all, Ok(whole))
    }

    /// Queues messages. False if too many bytes wait already: the caller has to close the
    /// connection.
    pub(super) fn put(&mut self, bytes: &[u8]) -> bool {
        if !matches!(self.state, State::Open(..)) {
            return true;
        }
        if self.output.len() > WAITING.0 && bytes.get(1) == Some(&PACKET_IN) {
            return true;
        }
        self.output.extend_from_slice(bytes);
        self.output.len() <= WAITING.1
    }

    /// Sends waiting bytes as far as the socket accepts them.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let State::Open(socket, _) = &self.state else { return Ok(()) };
        let mut sent = 0;
        let outcome = loop {
            let rest = self.output.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match (&*socket).write(rest) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.output.drain(..sent);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_written_as_for_open_vswitch() {
        let tcp = |s: &str| Ok(Target::Tcp(s.parse().expect("an address")));
        assert_eq!(Target::parse("tcp:10.0.0.1:6655", "e"), tcp("10.0.0.1:6655"));
        assert_eq!(Target::parse("tcp:10.0.0.1", "e"), tcp("10.0.0.1:6653"));
        assert_eq!(Target::parse("tcp:[fe80::1]:7", "e"), tcp("[fe80::1]:7"));
        assert_eq!(Target::parse("tcp:[fe80::1]", "e"), tcp("[fe80::1]:6653"));
        assert_eq!(
            Target::parse("unix:/run/%.controller", "edge1"),
            Ok(Target::Unix("/run/edge1.controller".into()))
        );
        for (wrong, word) in [
            ("tcp:controller:6653", "names"),
            ("ssl:10.0.0.1:6653", "TLS"),
            ("ptcp:6653", "dials"),
            ("10.0.0.1", "no address"),
            ("unix:", "no address"),
        ] {
            let why = Target::parse(wrong, "e").expect_err("wrong");
            assert!(why.contains(word) && why.contains("tcp:10.0.0.1:6653"), "{why}");
        }
    }
}
