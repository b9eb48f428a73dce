//! A VM's memory on its way: from the old server to the new one over TCP, in rounds of pre-copy,
//! held to a rate.
//!
//! ```text
//! sender (old server)                                    receiver (new server, port 8002)
//!   HELLO migration, pages        ----------------------->
//!   PAGE number + 4096 bytes      ----------------------->  counts, sums up
//!   ROUND pages of this round     ----------------------->
//!                                 <-----------------------  ROUND pages that came, sum of all that is there
//!   ... more rounds; then the VM is paused, and the last one is sent ...
//!   END                           ----------------------->
//!                                 <-----------------------  END pages that are there, their sum
//! ```
//! Each answer is compared with what was sent. A receiver takes in only what is announced to it
//! ([`Expected`]), once, and by a secret key in place of the migration's number: VMs reach that
//! port too, and what they send may cost nothing. 8002 is the port on which Xen's relocation server
//! listens, too. The receiver keeps nothing: a connection that ends early leaves nothing behind.

use crate::precopy::dirty::PAGE;
use crate::precopy::memory::{Memory, Sum};
use crate::precopy::token_bucket::TokenBucket;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod receiver;

pub use receiver::{Expected, listen, serve, take_in};

/// Where a server takes VMs in (TCP).
pub const PORT: u16 = 8002;
/// A connection on which nothing moves for so long is lost.
const STALL: Duration = Duration::from_secs(5);
/// The longest wait before somebody who cancels, or changes the rate, is heard.
const SLICE: Duration = Duration::from_millis(50);
/// Between two reports of progress.
const REPORT: Duration = Duration::from_millis(250);
/// Pages that are sent in one piece.
const PIECE: usize = 4;
/// What the kernel may hold of what was not sent yet: the rest is where it can be cancelled.
const BUFFER: usize = 256 << 10;
/// Ethernet frame and TCP payload of a full segment with timestamps (RFC 7323): rates are of layer
/// 2.
const FRAME: (u64, u64) = (1514, 1448);
const HELLO: u64 = 0x5444_4d4f_5645_0001;
const PAGE_FOLLOWS: u64 = 1;
const ROUND: u64 = 2;
const END: u64 = 3;

/// What those who watch a transfer can do to it.
#[derive(Debug)]
pub struct Control {
    cancelled: AtomicBool,
    committed: AtomicBool,
    rate: AtomicU64,
}

impl Control {
    /// With the rate that it begins with, bit/s on layer 2.
    pub fn new(rate: u64) -> Control {
        Control { cancelled: AtomicBool::new(false), committed: AtomicBool::new(false), rate: rate.into() }
    }

    /// Gives it up; one whose VM is paused for the last of it goes on.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Another rate from now on.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::SeqCst);
    }

    /// From now on it cannot be cancelled; false when it has been.
    fn commit(&self) -> bool {
        self.committed.store(true, Ordering::SeqCst);
        !self.cancelled.load(Ordering::SeqCst)
    }

    fn give_up(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) && !self.committed.load(Ordering::SeqCst)
    }
}

/// Why a transfer did not succeed.
#[derive(Debug)]
pub enum TransferError {
    /// Somebody cancelled it.
    Cancelled,
    /// The connection could not be had, or was lost.
    Lost {
        /// While doing what.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// What arrived is not what was sent.
    Differs {
        /// Pages that were sent, and their sum.
        sent: (u64, u64),
        /// The same of what arrived.
        arrived: (u64, u64),
    },
    /// The VM could not be paused.
    Pause(anyhow::Error),
}

impl std::fmt::Display for TransferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TransferError::Cancelled => f.write_str("cancelled"),
            TransferError::Lost { what, source } => {
                write!(f, "the connection to the new server, {what}: {source}")
            }
            TransferError::Differs { sent, arrived } => write!(
                f,
                "what arrived is not what was sent: {} pages (sum {:016x}) instead of {} ({:016x})",
                arrived.0, arrived.1, sent.0, sent.1
            ),
            TransferError::Pause(why) => write!(f, "the VM cannot be paused: {why:#}"),
        }
    }
}

impl std::error::Error for TransferError {}

fn lost(what: &'static str) -> impl Fn(std::io::Error) -> TransferError {
    move |source| TransferError::Lost { what, source }
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Round, from 1.
    pub round: u32,
    /// Bytes of memory sent in all rounds.
    pub sent: u64,
    /// Bytes of memory still to be sent in this round.
    pub remaining: u64,
    /// Lately, bit/s on layer 2.
    pub rate: u64,
    /// At which rate different pages were dirtied in this round, bit/s.
    pub dirty: u64,
}

/// The VM whose memory is sent.
pub trait Source {
    /// Bytes that it has written to its memory since this was last asked.
    fn written(&mut self) -> f64;
    /// Pauses it for the last round: from now on nothing is written.
    ///
    /// # Errors
    /// When that cannot be done; it runs on then.
    fn pause(&mut self) -> anyhow::Result<()>;
    /// Is told how far it is.
    fn step(&mut self, step: Step);
}

/// How it is to be done.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Names the transfer to the receiver: see [`Expected`].
    pub key: u64,
    /// The last of it is sent when that takes no longer, by the rate so far.
    pub downtime: Duration,
    /// Rounds of pre-copy at most; 0 sends all at once.
    pub rounds: u32,
}

/// Whether what was dirtied in a round is to be the last to be sent: it takes no longer than the VM
/// may be silent, or there were enough rounds.
pub fn is_last(round: u32, dirty_bytes: u64, rate_bit_per_s: u64, how: &How) -> bool {
    let needs = dirty_bytes as f64 * 8.0 / rate_bit_per_s.max(1) as f64;
    round >= how.rounds || needs <= how.downtime.as_secs_f64()
}

struct Sender<'a> {
    stream: TcpStream,
    control: &'a Control,
    source: &'a mut dyn Source,
    memory: Memory,
    sum: Sum,
    bucket: TokenBucket,
    paced: u64,
    begin: Instant,
    step: Step,
    /// When the round began, and when and at how many bytes was last reported.
    round_at: Instant,
    reported: (Instant, u64),
    paused: bool,
}

/// On the wire, on layer 2.
fn wire(bytes: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(FRAME.0) / u128::from(FRAME.1)).unwrap_or(u64::MAX)
}

fn words(kind: u64, a: u64, b: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([kind, a, b]) {
        *place = word.to_be_bytes();
    }
    bytes
}

fn read_words(bytes: &[u8; 24]) -> (u64, u64, u64) {
    let word = |n: usize| bytes.as_chunks::<8>().0.get(n).map_or(0, |w| u64::from_be_bytes(*w));
    (word(0), word(1), word(2))
}

/// Makes a connection to a server's receiver. Called inside the old server's namespace.
///
/// # Errors
/// When it does not answer.
pub fn connect(to: SocketAddrV4) -> Result<TcpStream, TransferError> {
    let stream = TcpStream::connect_timeout(&to.into(), STALL).map_err(lost("opening it"))?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_send_buffer_size(BUFFER).map_err(lost("setting its buffer"))?;
    socket.set_tcp_user_timeout(Some(STALL)).map_err(lost("setting its time-out"))?;
    stream.set_nodelay(true).map_err(lost("setting it up"))?;
    stream.set_write_timeout(Some(SLICE)).map_err(lost("setting its time-out"))?;
    stream.set_read_timeout(Some(SLICE)).map_err(lost("setting its time-out"))?;
    Ok(stream)
}

/// Sends a VM's memory: the rounds of pre-copy, the pause, the last round. The VM is paused when
/// this returns well, and may be when it does not.
///
/// # Errors
/// When it was cancelled, the connection was lost, or something else arrived than was sent.
pub fn send(
    stream: TcpStream,
    memory: Memory,
    how: &How,
    control: &Control,
    source: &mut dyn Source,
) -> Result<Step, TransferError> {
    let now = Instant::now();
    let rate = control.rate.load(Ordering::SeqCst);
    let piece = wire((PIECE as u64) * (PAGE + 24));
    let sum = Sum::new(memory.pages());
    smooth(&stream, rate)?;
    let mut sender = Sender {
        stream,
        control,
        source,
        memory,
        sum,
        bucket: TokenBucket::new(rate, piece, Duration::ZERO),
        paced: rate,
        begin: now,
        step: Step::default(),
        round_at: now,
        reported: (now, 0),
        paused: false,
    };
    sender.run(how)
}

/// What piled up while nothing could be sent is not to be sent at once: the way's queues are short.
/// The bucket holds the rate, the kernel spreads the packets at a little more.
fn smooth(stream: &TcpStream, rate_bit_per_s: u64) -> Result<(), TransferError> {
    let bytes = (rate_bit_per_s / 8).max(1000);
    tandem_linux::sys::pace(stream.as_fd(), bytes + bytes / 4).map_err(lost("pacing it"))
}

impl Sender<'_> {
    fn run(&mut self, how: &How) -> Result<Step, TransferError> {
        self.write(&words(HELLO, how.key, self.memory.pages()))?;
        // What was written before the first byte is in it.
        self.source.written();
        if how.rounds == 0 {
            self.pause()?;
        }
        loop {
            self.step.round += 1;
            self.round_at = Instant::now();
            let before = self.step.sent;
            let pages = self.memory.begin_round();
            self.round(&pages)?;
            if self.paused {
                break;
            }
            self.note_written();
            let took = self.round_at.elapsed().as_secs_f64().max(1e-6);
            let achieved = (wire(self.step.sent - before) as f64 * 8.0 / took) as u64;
            // A round too short to tell says nothing of the rate.
            let cap = self.control.rate.load(Ordering::SeqCst);
            let rate = if took < 0.02 { cap } else { achieved.min(cap) };
            if is_last(self.step.round, wire(self.memory.dirty_pages() * PAGE), rate, how) {
                self.pause()?;
                self.note_written();
            }
        }
        self.write(&words(END, 0, 0))?;
        self.compare(END)?;
        if self.memory.missing() > 0 {
            let (pages, sum) = self.sum.total();
            let sent = (pages, sum);
            return Err(TransferError::Differs { sent, arrived: (pages - self.memory.missing(), sum) });
        }
        Ok(self.step)
    }

    fn pause(&mut self) -> Result<(), TransferError> {
        if !self.control.commit() {
            return Err(TransferError::Cancelled);
        }
        self.source.pause().map_err(TransferError::Pause)?;
        self.paused = true;
        Ok(())
    }

    fn note_written(&mut self) {
        let written = self.source.written();
        self.memory.written(written);
    }

    fn round(&mut self, pages: &[u64]) -> Result<(), TransferError> {
        let mut piece = Vec::with_capacity(PIECE * (PAGE as usize + 24));
        self.step.remaining = pages.len() as u64 * PAGE;
        self.report(true);
        for numbers in pages.chunks(PIECE) {
            piece.clear();
            for number in numbers {
                piece.extend_from_slice(&words(PAGE_FOLLOWS, *number, 0));
                let at = piece.len();
                piece.resize(at + PAGE as usize, 0);
                let digest = self.memory.take(*number, &mut piece[at..]);
                self.sum.put(*number, digest);
            }
            self.wait(wire(piece.len() as u64))?;
            self.write(&piece)?;
            let bytes = numbers.len() as u64 * PAGE;
            self.step.sent += bytes;
            self.step.remaining -= bytes;
            self.report(false);
        }
        self.write(&words(ROUND, pages.len() as u64, 0))?;
        self.compare(ROUND)
    }

    /// Waits until so many bytes may be sent.
    fn wait(&mut self, bytes: u64) -> Result<(), TransferError> {
        loop {
            let rate = self.control.rate.load(Ordering::SeqCst);
            if rate != self.paced {
                self.bucket.set(rate, wire((PIECE as u64) * (PAGE + 24)), self.begin.elapsed());
                self.paced = rate;
                smooth(&self.stream, rate)?;
            }
            let wait = self.bucket.wait(bytes, self.begin.elapsed());
            if self.control.give_up() {
                return Err(TransferError::Cancelled);
            }
            if wait.is_zero() {
                self.bucket.sent(bytes);
                return Ok(());
            }
            std::thread::sleep(wait.min(SLICE));
            self.report(false);
        }
    }

    fn report(&mut self, always: bool) {
        let (at, sent) = self.reported;
        let since = at.elapsed();
        if !always && since < REPORT {
            return;
        }
        if !self.paused {
            self.note_written();
        }
        if since >= REPORT {
            self.step.rate = (wire(self.step.sent - sent) as f64 * 8.0 / since.as_secs_f64()) as u64;
            self.reported = (Instant::now(), self.step.sent);
            let round = self.round_at.elapsed().as_secs_f64().max(1e-6);
            self.step.dirty = (self.memory.dirty_pages() as f64 * PAGE as f64 * 8.0 / round) as u64;
        }
        self.source.step(self.step);
    }

    /// Reads the receiver's answer, and compares what it has with what was sent.
    fn compare(&mut self, kind: u64) -> Result<(), TransferError> {
        let mut answer = [0u8; 24];
        let mut have = 0;
        let mut last = Instant::now();
        while have < answer.len() {
            match self.stream.read(&mut answer[have..]) {
                Ok(0) => return Err(lost("waiting for the answer")(ErrorKind::UnexpectedEof.into())),
                Ok(n) => (have, last) = (have + n, Instant::now()),
                Err(error) => self.bear(error, last, "waiting for the answer")?,
            }
        }
        let (said, pages, sum) = read_words(&answer);
        let arrived = (pages, sum);
        if said != kind || arrived != self.sum.total() {
            return Err(TransferError::Differs { sent: self.sum.total(), arrived });
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), TransferError> {
        let mut last = Instant::now();
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => (bytes, last) = (bytes.get(n..).unwrap_or_default(), Instant::now()),
                Err(error) => self.bear(error, last, "sending")?,
            }
        }
        Ok(())
    }

    /// A wait that is over for now is no error, unless it has been too long or somebody cancels.
    fn bear(
        &mut self,
        error: std::io::Error,
        last: Instant,
        what: &'static str,
    ) -> Result<(), TransferError> {
        match error.kind() {
            ErrorKind::WouldBlock if last.elapsed() < STALL => {
                self.report(false);
                if self.control.give_up() { Err(TransferError::Cancelled) } else { Ok(()) }
            }
            ErrorKind::WouldBlock => Err(lost(what)(std::io::Error::new(
                ErrorKind::TimedOut,
                format!("nothing moved for {STALL:?}"),
            ))),
            ErrorKind::Interrupted => Ok(()),
            _ => Err(lost(what)(error)),
        }
    }
}

#[cfg(test)]
mod tests;
