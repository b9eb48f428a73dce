//! Replay and capture with the packet generator bitfile: frames with times become words of the
//! card's SRAM and register writes, and the card's header is removed from captured frames.
//!
//! 1. [`Plan::new`] checks everything and makes the words; if something does not fit, nothing is
//!    written.
//! 2. The rest of an earlier replay is stopped ([`Generator::hold`], [`Generator::flush`],
//!    [`Generator::release`], with waits in between), also if its program was killed.
//! 3. [`Plan::load`] lays the SRAM out, writes the words and reads part of them back;
//!    [`Plan::start`] starts.
//! 4. [`Plan::status`] returns the progress; at the end the port is released as in 2.
//!
//! Each port has its own quarter of the SRAM, so that ports replay and capture independently.
//!
//! [`Generator::hold`]: crate::profile::Generator::hold
//! [`Generator::flush`]: crate::profile::Generator::flush
//! [`Generator::release`]: crate::profile::Generator::release

pub mod capture;
mod control;
pub mod words;

pub use control::Status;

use crate::limiter::{LimitError, Setting};
use crate::profile::{Generator, GeneratorPort, RateLimiter};
use crate::registers::AccessError;
use std::time::Duration;
use tandem_model::BitRate;
use words::{GAP, Word};

/// The most iterations: one bit fewer than the register has.
pub const ITERATIONS: u32 = 1 << 31;

/// A frame to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// Time of its capture; only differences matter.
    pub at: Duration,
    /// Its bytes, without FCS.
    pub bytes: Vec<u8>,
}

/// How frames are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The port, from 0.
    pub port: u8,
    /// Number of iterations over all frames.
    pub iterations: u32,
    /// Keeps the gaps between their times; otherwise they are sent as fast as the port or `rate`
    /// allows.
    pub gaps: bool,
    /// A rate limit in layer-2 bits, FCS included.
    pub rate: Option<BitRate>,
}

/// Why frames cannot be replayed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplayError {
    /// The port does not exist.
    #[error("port {port}: this bitfile replays and captures at ports 0 to {}", ports.saturating_sub(1))]
    NoSuchPort {
        /// The port.
        port: u8,
        /// Number of ports.
        ports: usize,
    },
    /// There are no frames.
    #[error("there is no frame to replay")]
    Empty,
    /// More iterations than the card counts.
    #[error("{0} iterations: 1 to {ITERATIONS} can be had")]
    Iterations(u32),
    /// A frame is longer than the card's queues accept.
    #[error("frame {frame} has {bytes} bytes; the card replays frames of at most {longest}: leave it out")]
    TooLong {
        /// Its number, from 1.
        frame: usize,
        /// Its length without FCS.
        bytes: usize,
        /// The longest possible.
        longest: u16,
    },
    /// A gap is longer than the card's delay can be.
    #[error(
        "frame {frame} comes {gap:?} after the one before; the card waits less than {GAP:?}: replay without gaps, or split the file"
    )]
    Gap {
        /// The frame's number, from 1.
        frame: usize,
        /// Gap after the start of the frame before.
        gap: Duration,
    },
    /// The frames do not fit the port's SRAM.
    #[error(
        "{frames} frames do not fit: the port's SRAM has {words} words of 8 bytes, which hold the first {fit}; nothing was written. Send fewer, or the same more often"
    )]
    TooMany {
        /// Number of frames.
        frames: usize,
        /// Number of frames that fit.
        fit: usize,
        /// Words of the port's SRAM.
        words: u32,
    },
    /// The bitfile has no rate limiter for this port.
    #[error("port {0} has no rate limiter: replay without a rate")]
    NoLimiter(u8),
    /// The rate is not possible, or its setting reads back differently.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A word reads back differently.
    #[error(
        "0x{address:07x} was set to 0x{wrote:08x} and then read as 0x{read:08x}; is the packet generator's bitfile loaded?"
    )]
    NotKept {
        /// Its address.
        address: u32,
        /// The value written.
        wrote: u32,
        /// The value read.
        read: u32,
    },
    /// It was stopped before it started.
    #[error("stopped while the frames were loaded; none was sent")]
    Stopped,
    /// The card did not answer.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// A replay that was checked, ready to be written.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    generator: &'a Generator,
    at: GeneratorPort,
    limiter: Option<(&'a RateLimiter, u8, Setting)>,
    port: u8,
    words: Vec<Word>,
    frames: usize,
    padded: usize,
    iterations: u32,
    tail: Duration,
}

impl<'a> Plan<'a> {
    /// Checks frames and makes their words.
    ///
    /// # Errors With the first thing that is not possible. No card is accessed.
    pub fn new(
        generator: &'a Generator,
        limiter: Option<&'a RateLimiter>,
        frames: &[Timed],
        options: Options,
    ) -> Result<Plan<'a>, ReplayError> {
        let (port, iterations) = (options.port, options.iterations);
        let at = *generator.port(port)?;
        if frames.is_empty() {
            return Err(ReplayError::Empty);
        }
        if !(1..=ITERATIONS).contains(&iterations) {
            return Err(ReplayError::Iterations(iterations));
        }
        let gap = |i: usize| match (i.checked_sub(1).and_then(|i| frames.get(i)), frames.get(i)) {
            (Some(before), Some(frame)) if options.gaps => frame.at.saturating_sub(before.at),
            _ => Duration::ZERO,
        };
        check(generator, at.queue.words, frames, gap)?;
        let mut words = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            words::encode(&frame.bytes, gap(i), at.queue.number, &mut words);
        }
        let limiter = match (limiter, options.rate) {
            (None, Some(_)) => return Err(ReplayError::NoLimiter(port)),
            (None, None) => None,
            (Some(limiter), rate) => {
                let setting = rate.map(|rate| Setting::at_most(limiter.kind, rate)).transpose()?;
                Some((limiter, limiter.of_port(port), setting.unwrap_or(Setting::Off)))
            }
        };
        let tail = tail(frames, gap(frames.len().saturating_sub(1)), limiter.and_then(|(_, _, s)| s.rate()));
        let padded = frames.iter().filter(|f| f.bytes.len() < words::SHORTEST).count();
        Ok(Plan { generator, at, limiter, port, words, frames: frames.len(), padded, iterations, tail })
    }

    /// Frames of one iteration.
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// Number of them that are padded to Ethernet's minimum length.
    pub const fn padded(&self) -> usize {
        self.padded
    }

    /// The longest time that the last frame is delayed after the card has reported that all have
    /// left the SRAM.
    pub const fn tail(&self) -> Duration {
        self.tail
    }

    /// The rate that the port's limiter is set to.
    pub fn rate(&self) -> Option<BitRate> {
        self.limiter.and_then(|(_, _, setting)| setting.rate())
    }

    /// The words to write.
    pub fn words(&self) -> &[Word] {
        &self.words
    }
}

/// Checks every frame before any word is made.
fn check(
    generator: &Generator,
    room: u32,
    frames: &[Timed],
    gap: impl Fn(usize) -> Duration,
) -> Result<(), ReplayError> {
    let longest = generator.longest;
    let mut left = usize::try_from(room).unwrap_or(usize::MAX);
    let mut fit = None;
    for (i, frame) in frames.iter().enumerate() {
        let (bytes, gap) = (frame.bytes.len(), gap(i));
        if bytes > usize::from(longest) {
            return Err(ReplayError::TooLong { frame: i + 1, bytes, longest });
        }
        if gap >= GAP {
            return Err(ReplayError::Gap { frame: i + 1, gap });
        }
        match left.checked_sub(words::needed(bytes, gap)) {
            Some(rest) => left = rest,
            None => {
                fit = Some(i);
                break;
            }
        }
    }
    match fit {
        Some(fit) => Err(ReplayError::TooMany { frames: frames.len(), fit, words: room }),
        None => Ok(()),
    }
}

/// The delay of the last frame behind the SRAM: its gap, and the limiter's time for the frame
/// before.
fn tail(frames: &[Timed], gap: Duration, rate: Option<BitRate>) -> Duration {
    let longest = frames.iter().map(|f| f.bytes.len()).max().unwrap_or_default() as u64 + 24;
    let rate = rate.map_or(1_000_000_000, |r| r.0.max(1));
    gap.saturating_add(Duration::from_micros((2 * longest * 8).saturating_mul(1_000_000) / rate))
}
