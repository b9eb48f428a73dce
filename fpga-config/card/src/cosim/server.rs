//! The server, which has the card. Several clients may be connected, one thread each; their
//! accesses are executed one at a time.

use super::protocol::{Answer, Request};
use super::{BURST, LINE};
use crate::{Card, InjectError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tandem_fpga_config::model::Sent;

/// The most clients at a time; further ones are refused with a message.
pub const CLIENTS: usize = 16;

/// A socket with a card behind it. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens at `path`. Replaces the socket of a killed server.
    ///
    /// When that fails, or another server listens there.
    pub fn bind(path: &Path) -> io::Result<Server> {
        let listener = match UnixListener::bind(path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(path).is_ok() {
                    let why =
                        format!("{} already has a server; stop it, or take another path", path.display());
                    return Err(io::Error::new(e.kind(), why));
                }
                // Nothing but a socket is ever removed.
                use std::os::unix::fs::FileTypeExt;
                if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                    let why = format!("{} is there and is no socket", path.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            other => other?,
        };
        Ok(Server { listener, path: path.to_owned() })
    }

    /// Serves until accepting a connection fails.
    ///
    /// With the reason.
    pub fn run<C: Card + Send + 'static>(&self, card: C) -> io::Result<()> {
        let card = Arc::new(Mutex::new(card));
        let clients = Arc::new(AtomicUsize::new(0));
        loop {
            let (mut stream, _) = self.listener.accept()?;
            if clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS {
                clients.fetch_sub(1, Ordering::SeqCst);
                let _ = writeln!(
                    stream,
                    "{}",
                    Answer::Refused(format!("{CLIENTS} clients are connected already"))
                );
                continue;
            }
            let (card, clients) = (Arc::clone(&card), Arc::clone(&clients));
            std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
                // A client that disconnects, or sends a malformed line, ends only its own
                // connection.
                let _ = serve(&stream, &card);
                clients.fetch_sub(1, Ordering::SeqCst);
            })?;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve<C: Card>(stream: &UnixStream, card: &Mutex<C>) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut out = BufWriter::new(stream);
    let mut line = String::new();
    let mut burst = Vec::new();
    loop {
        line.clear();
        let read = lines.by_ref().take(LINE as u64).read_line(&mut line)?;
        if read == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') {
            writeln!(out, "{}", Answer::Refused("the line has no end".to_owned()))?;
            return out.flush();
        }
        let answers = match Request::parse(line.trim_end()) {
            Ok(Request::Queue(..)) if burst.len() >= BURST => {
                vec![Answer::Refused(format!("{BURST} frames wait already; let them go in with `g`"))]
            }
            Ok(Request::Queue(queue, frame)) => {
                burst.push((queue, frame));
                vec![Answer::Done]
            }
            Ok(Request::Go) => go(&std::mem::take(&mut burst), card),
            Ok(request) => carry_out(&request, card),
            Err(error) => vec![Answer::Refused(error.to_string())],
        };
        for answer in answers {
            writeln!(out, "{answer}")?;
        }
        // The replies to requests that came together are sent together.
        if lines.buffer().is_empty() {
            out.flush()?;
        }
    }
}

/// Puts a burst of frames into the card.
fn go<C: Card>(burst: &[(u8, Vec<u8>)], card: &Mutex<C>) -> Vec<Answer> {
    let mut card = card.lock().unwrap_or_else(PoisonError::into_inner);
    let frames: Vec<(u8, &[u8])> = burst.iter().map(|(queue, frame)| (*queue, &frame[..])).collect();
    left(card.burst(&frames))
}

/// The frames that left the card, as lines.
fn left(sent: Result<Vec<Sent>, InjectError>) -> Vec<Answer> {
    match sent {
        Ok(sent) => sent.into_iter().map(|(q, f)| Answer::Packet(q, f)).chain([Answer::Done]).collect(),
        Err(error) => vec![Answer::Refused(error.to_string())],
    }
}

fn carry_out<C: Card>(request: &Request, card: &Mutex<C>) -> Vec<Answer> {
    let mut card = card.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |e: &dyn std::error::Error| vec![Answer::Refused(e.to_string())];
    match request {
        Request::Read(address) => match card.read32(*address) {
            Ok(value) => vec![Answer::Value(value)],
            Err(error) => refused(&error),
        },
        Request::Write(address, value) => match card.write32(*address, *value) {
            Ok(()) => vec![Answer::Done],
            Err(error) => refused(&error),
        },
        Request::Packet(queue, frame) => left(card.inject(*queue, frame)),
        // These are handled with their connection: see `serve`.
        Request::Queue(..) | Request::Go => vec![Answer::Refused("not carried out alone".to_owned())],
    }
}
