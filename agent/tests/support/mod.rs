//! Shared by the tests of switches in an agent: root, waiting with a deadline, and a controller's
//! end of an OpenFlow 1.3 connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tandem_openflow::of13::Message;
use tandem_openflow::{framing, header};

/// How long anything may take before a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// True as root; elsewhere than in CI, a test without root is skipped.
pub(crate) fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root");
    eprintln!("skipped: missing root");
    false
}

/// Waits until `ready` returns a value.
pub(crate) fn wait<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An OpenFlow session of a test with a switch.
pub(crate) struct Talk {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Talk {
    /// Starts the session with a HELLO.
    pub(crate) fn over(stream: UnixStream) -> Talk {
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let mut talk = Talk { stream, input: Vec::new() };
        talk.stream.write_all(&[header::V13, 0, 0, 8, 0, 0, 0, 1]).expect("a connection");
        talk
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let mut out = Vec::new();
        message.encode(7, &mut out).expect("a message");
        self.stream.write_all(&out).expect("a connection");
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some((message, after)) = framing::next(&self.input).expect("OpenFlow") {
                let (message, after) = (message.to_vec(), after.to_vec());
                self.input = after;
                // An echo request, which is answered.
                if message[1] == 2 {
                    let reply = [&[message[0], 3], &message[2..]].concat();
                    self.stream.write_all(&reply).expect("a connection");
                }
                return message;
            }
            let mut piece = [0; 4096];
            let got = self.stream.read(&mut piece).expect("an answer in time");
            assert!(got > 0, "the connection was closed");
            self.input.extend_from_slice(&piece[..got]);
        }
    }

    /// The next message of a type; the test fails on an error before it.
    pub(crate) fn until(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let message = self.next();
            assert!(message[1] != 1, "an error: {message:02x?}");
            if message[1] == kind {
                return message;
            }
        }
    }

    /// Waits until the switch has done all that it was sent.
    pub(crate) fn barrier(&mut self) {
        self.send(&Message::BarrierRequest);
        self.until(21);
    }
}
