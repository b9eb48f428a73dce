//! The receiving end of a transfer: who may connect, and what is kept of the pages that come.

use super::{END, HELLO, PAGE_FOLLOWS, PORT, ROUND, STALL, read_words, words};
use crate::control::peer_lines::PeerLines;
use crate::control::service::lock;
use crate::precopy::dirty::PAGE;
use crate::precopy::memory::{Sum, digest};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Connections of unknown peers that a receiver reads at once; more are closed. A sender says who
/// it is at once.
pub(super) const UNKNOWN_PEERS: usize = 16;

/// Opens a server's receiver. Called inside its namespace.
///
/// # Errors
/// When the port is taken.
pub fn listen() -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))
}

/// The transfers that receivers take in: how many pages each has, by a key that only its sender
/// knows.
#[derive(Debug, Default)]
pub struct Expected(Mutex<BTreeMap<u64, u64>>);

impl Expected {
    /// Announces a transfer of so many pages: its key, good once.
    pub fn announce(&self, pages: u64) -> u64 {
        // Each hasher's keys are random, and its output cannot be told without them.
        let key = RandomState::new().hash_one(pages);
        lock(&self.0).insert(key, pages);
        key
    }

    /// It does not come any more.
    pub fn forget(&self, key: u64) {
        lock(&self.0).remove(&key);
    }

    /// Somebody begins one: true when it is expected.
    fn begin(&self, key: u64, pages: u64) -> bool {
        let mut all = lock(&self.0);
        all.get(&key) == Some(&pages) && all.remove(&key).is_some()
    }
}

/// Takes expected transfers in until the listener fails, each on a thread of its own.
pub fn serve(listener: &TcpListener, expected: &Arc<Expected>) {
    let unknown = Arc::new(AtomicUsize::new(0));
    let lines = PeerLines::default();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        if unknown.fetch_add(1, Ordering::SeqCst) >= UNKNOWN_PEERS {
            unknown.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let expected = expected.clone();
        let counted = unknown.clone();
        let taken = std::thread::Builder::new().name("take-in".into()).spawn(move || {
            let greeted = greet(&stream, &expected);
            counted.fetch_sub(1, Ordering::SeqCst);
            if let Err(error) = greeted.and_then(|pages| take_in(stream, pages)) {
                tracing::debug!("a transfer that was being taken in has ended: {error}");
            }
        });
        if let Err(error) = taken {
            unknown.fetch_sub(1, Ordering::SeqCst);
            lines.warn(|| format!("a transfer cannot be taken in: {error}"));
        }
    }
}

fn garbled(why: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, why.to_owned())
}

/// Hears who it is: how many pages come.
fn greet(mut stream: &TcpStream, expected: &Expected) -> std::io::Result<u64> {
    stream.set_nodelay(true)?;
    let (mut head, mut have, deadline) = ([0u8; 24], 0, Instant::now() + STALL);
    // One time-out for all of it: a byte a second is no greeting.
    while have < head.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(head.get_mut(have..).unwrap_or_default())? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => have += n,
        }
    }
    match read_words(&head) {
        (HELLO, key, pages) if expected.begin(key, pages) => Ok(pages),
        _ => Err(garbled("this is no transfer that is expected")),
    }
}

/// Takes one transfer of so many pages in.
///
/// # Errors
/// When the connection ends early or what comes is no transfer.
pub fn take_in(mut stream: TcpStream, pages: u64) -> std::io::Result<()> {
    // The sender says something within its own time-out, unless the VM is paced to next to nothing.
    stream.set_read_timeout(Some(STALL * 12))?;
    let mut head = [0u8; 24];
    let mut sum = Sum::new(pages);
    let mut page = vec![0u8; PAGE as usize];
    let mut round = 0u64;
    let mut reader = std::io::BufReader::with_capacity(64 << 10, stream.try_clone()?);
    loop {
        reader.read_exact(&mut head)?;
        match read_words(&head) {
            (PAGE_FOLLOWS, number, _) => {
                reader.read_exact(&mut page)?;
                if !sum.put(number, digest(number, &page)) {
                    return Err(garbled("there can be no page of that number"));
                }
                round += 1;
            }
            (ROUND, count, _) if count == round => {
                round = 0;
                let (pages, sum) = sum.total();
                stream.write_all(&words(ROUND, pages, sum))?;
            }
            (ROUND, ..) => return Err(garbled("pages of a round are missing")),
            (END, ..) => {
                let (pages, sum) = sum.total();
                return stream.write_all(&words(END, pages, sum));
            }
            _ => return Err(garbled("no such message")),
        }
    }
}
