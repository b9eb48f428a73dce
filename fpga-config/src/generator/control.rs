//! The register writes of a replay: stopping, layout of the SRAM, loading, starting, and progress.

use super::{Plan, ReplayError};
use crate::limiter::{LimitError, Setting};
use crate::profile::{Generator, GeneratorPort, RateLimiter, SramQueue};
use crate::registers::{AccessError, Registers};

/// Bits of an address in the SRAM.
const ADDRESS: u32 = (1 << 19) - 1;

/// CTRL of a queue: enables sending.
const SEND: u32 = 1;
/// CTRL of a queue: resets its counters, and starts reading at its first word.
const INITIALISE: u32 = 2;

/// Distance from a port's bit in the control register to the bit that keeps its captured frames
/// from the CPU.
const DROP: u32 = 8;

/// More than the number of shortest frames in the 1024 words of a delay module: each write releases
/// one frame.
const DELAYED: usize = 128;

/// Progress of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// Frames that left the SRAM, of all iterations.
    pub sent: u64,
    /// Frames of all iterations.
    pub of: u64,
    /// Whole iterations.
    pub iteration: u32,
    /// All frames have left the SRAM; the last one may still be delayed.
    pub done: bool,
}

impl Generator {
    /// The bits of a port in the control register: for replay and capture, and for keeping captured
    /// frames from the CPU.
    pub(super) fn bits(port: u8) -> (u32, u32) {
        // For an eighth port the bits would overlap the other kind.
        let bit = if u32::from(port) < DROP { 1 << port } else { 0 };
        (bit, bit << DROP)
    }

    /// The registers of a port.
    ///
    /// # Errors
    /// When the bitfile has no such port.
    pub fn port(&self, port: u8) -> Result<&GeneratorPort, ReplayError> {
        let ports = self.ports.len();
        self.ports.get(usize::from(port)).ok_or(ReplayError::NoSuchPort { port, ports })
    }

    /// Whether the port's registers are set for replay or capture: a program that was killed leaves
    /// them set.
    ///
    /// When the card does not answer.
    pub fn is_on(&self, regs: &mut dyn Registers, port: u8) -> Result<bool, AccessError> {
        Ok(regs.read32(self.control)? & Generator::bits(port).0 != 0)
    }

    /// Whether the port's queue has iterations left.
    ///
    /// When the card does not answer.
    pub fn is_replaying(&self, regs: &mut dyn Registers, port: u8) -> Result<bool, AccessError> {
        let Some(at) = self.ports.get(usize::from(port)) else {
            return Ok(false);
        };
        Ok(regs.read32(at.queue.control)? & SEND != 0
            && regs.read32(at.iteration)? < regs.read32(at.iterations)?
            && self.is_on(regs, port)?)
    }

    /// First step of stopping: no more frames leave the SRAM, and the port's limiter is off. Frames
    /// in flight leave within 10 ms.
    ///
    /// # Errors
    /// When the card cannot be written, or the limiter stays on.
    pub fn hold(
        &self,
        regs: &mut dyn Registers,
        limiter: Option<&RateLimiter>,
        port: u8,
    ) -> Result<(), LimitError> {
        if let Some(at) = self.ports.get(usize::from(port)) {
            regs.write32(at.queue.control, 0)?;
        }
        match limiter {
            Some(limiter) => limiter.set(regs, limiter.of_port(port), Setting::Off),
            None => Ok(()),
        }
    }

    /// Second step: delayed frames are sent at once. At every port: the card has one register for
    /// all.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn flush(&self, regs: &mut dyn Registers) -> Result<(), AccessError> {
        (0..DELAYED).try_for_each(|_| regs.write32(self.delay_reset, 1))
    }

    /// Third step: the port sends ordinary frames again, and captures nothing.
    ///
    /// When the card does not answer.
    pub fn release(&self, regs: &mut dyn Registers, port: u8) -> Result<(), AccessError> {
        let (bit, drop) = Generator::bits(port);
        let control = regs.read32(self.control)?;
        regs.write32(self.control, control & !(bit | drop))
    }

    /// Moves queues that are not at the place of this project's layout. After a reset that is every
    /// queue.
    fn lay_out(&self, regs: &mut dyn Registers) -> Result<(), AccessError> {
        for queue in &self.others {
            if self.lies(regs, queue, queue.words)? {
                continue;
            }
            place(regs, queue, queue.words)?;
            regs.write32(queue.control, SEND)?;
        }
        for queue in self.ports.iter().map(|p| p.queue) {
            if regs.read32(queue.low)? & ADDRESS != queue.first {
                place(regs, &queue, queue.words)?;
            }
        }
        Ok(())
    }

    fn lies(&self, regs: &mut dyn Registers, queue: &SramQueue, words: u32) -> Result<bool, AccessError> {
        let last = queue.first.saturating_add(words.saturating_sub(1));
        Ok(regs.read32(queue.low)? & ADDRESS == queue.first && regs.read32(queue.high)? & ADDRESS == last)
    }
}

/// Assigns a queue its words and initialises it; it does not send.
fn place(regs: &mut dyn Registers, queue: &SramQueue, words: u32) -> Result<(), AccessError> {
    regs.write32(queue.control, 0)?;
    regs.write32(queue.low, queue.first)?;
    regs.write32(queue.high, queue.first.saturating_add(words.saturating_sub(1)))?;
    regs.write32(queue.control, INITIALISE)
}

impl Plan<'_> {
    /// Lays the SRAM out and writes the frames. `progress` is called with the number of words
    /// written, and returns whether to go on. The port must be stopped.
    ///
    /// When the card does not answer, the words read back differ, or `progress` ended it. The port
    /// is stopped then.
    pub fn load(
        &self,
        regs: &mut dyn Registers,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), ReplayError> {
        let (generator, queue) = (self.generator, &self.at.queue);
        generator.lay_out(regs)?;
        let count = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        place(regs, queue, count)?;
        let mut last = None;
        for (written, (word, at)) in self.words.iter().zip(queue.first..).enumerate() {
            let Some(address) = generator.word(at) else { break };
            for (address, value) in (address..).step_by(4).zip(word.parts()) {
                regs.write32(address, value)?;
                last = Some((address, value));
            }
            if !progress(written + 1) {
                return Err(ReplayError::Stopped);
            }
        }
        let ends = (queue.high, queue.first.saturating_add(count.saturating_sub(1)));
        for (address, wrote) in [Some((queue.low, queue.first)), Some(ends), last].into_iter().flatten() {
            let read = regs.read32(address)?;
            if read != wrote {
                return Err(ReplayError::NotKept { address, wrote, read });
            }
        }
        Ok(())
    }

    /// Starts the replay. Captured frames go to the CPU only if the port captured before.
    ///
    /// # Errors When the card cannot be written, or the limiter's setting reads back differently.
    pub fn start(&self, regs: &mut dyn Registers, capturing: bool) -> Result<(), ReplayError> {
        if let Some((limiter, index, setting)) = self.limiter {
            limiter.set(regs, index, setting)?;
        }
        regs.write32(self.at.queue.control, SEND)?;
        regs.write32(self.at.iterations, self.iterations)?;
        let (bit, drop) = Generator::bits(self.port);
        let control = regs.read32(self.generator.control)? & !(bit | drop);
        let wanted = control | bit | if capturing { 0 } else { drop };
        regs.write32(self.generator.control, wanted)?;
        Ok(())
    }

    /// The progress of the replay.
    ///
    /// When the card does not answer.
    pub fn status(&self, regs: &mut dyn Registers) -> Result<Status, AccessError> {
        let iteration = regs.read32(self.at.iteration)?;
        let packets = regs.read32(self.at.packets_removed)?;
        let frames = self.frames as u64;
        let whole = u64::from(iteration).saturating_mul(frames);
        // The counter has 32 bits and wraps; the iterations tell how often.
        let more = packets.wrapping_sub(whole as u32);
        let of = u64::from(self.iterations).saturating_mul(frames);
        let done = iteration >= self.iterations;
        // The last frame of an iteration may be counted shortly after the iteration.
        let sent = if u64::from(more) <= frames.saturating_mul(2) { whole + u64::from(more) } else { whole };
        Ok(Status { sent: sent.min(of), of, iteration, done })
    }
}
