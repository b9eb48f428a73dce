//! Capture: frames received at a port go to its CPU port behind a header with their arrival time.
//!
//! The header is 24 bytes long: destination 00:00:00:00:00:01, source 00:00:00:00:00:02, type
//! 0x9001, two bytes of zeros, and nanoseconds of the card's clock in 64 bits. Source:
//! `pkt_capture_main.v`.

use crate::profile::Generator;
use crate::registers::{AccessError, Registers};
use std::time::Duration;

/// The header's length.
pub const HEADER: usize = 24;

/// All of the header but the time.
const FIXED: [u8; 16] = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0x90, 0x01, 0, 0];

/// The card's counters of the frames received at a port since its capture began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Captured {
    /// Frames; a 32-bit counter that wraps.
    pub packets: u32,
    /// Their bytes with FCS; a 40-bit counter that wraps.
    pub bytes: u64,
    /// From the start of the first to the end of the last.
    pub during: Duration,
}

/// The header of a frame received at this time of the card's clock.
pub fn header(at: Duration) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let time = (at.as_nanos() as u64).to_be_bytes();
    for (to, from) in header.iter_mut().zip(FIXED.into_iter().chain(time)) {
        *to = from;
    }
    header
}

/// Time and bytes of a captured frame; `None` for any other frame, such as one that came to the CPU
/// port before the capture began.
pub fn split(frame: &[u8]) -> Option<(Duration, &[u8])> {
    let rest = frame.strip_prefix(&FIXED)?;
    let (time, bytes) = rest.split_first_chunk::<8>()?;
    Some((Duration::from_nanos(u64::from_be_bytes(*time)), bytes))
}

impl Generator {
    /// Whether a port captures.
    ///
    /// When the card does not answer.
    pub fn is_capturing(&self, regs: &mut dyn Registers, port: u8) -> Result<bool, AccessError> {
        let (bit, drop) = Generator::bits(port);
        Ok(regs.read32(self.control)? & (bit | drop) == bit)
    }

    /// Begins to capture at a port. Its counters start at 0, unless it replays: both use the same
    /// bit, which then stays on.
    ///
    /// When the card does not answer.
    pub fn capture(&self, regs: &mut dyn Registers, port: u8) -> Result<(), AccessError> {
        let (bit, drop) = Generator::bits(port);
        let control = regs.read32(self.control)?;
        if !self.is_replaying(regs, port)? {
            regs.write32(self.control, control & !(bit | drop))?;
        }
        regs.write32(self.control, control & !drop | bit)
    }

    /// Ends the capture. A replay at the port goes on.
    ///
    /// When the card does not answer.
    pub fn end_capture(&self, regs: &mut dyn Registers, port: u8) -> Result<(), AccessError> {
        let (bit, drop) = Generator::bits(port);
        let control = regs.read32(self.control)?;
        let after =
            if self.is_replaying(regs, port)? { control | bit | drop } else { control & !(bit | drop) };
        regs.write32(self.control, after)
    }

    /// The counters of a port; `None` if it does not exist.
    ///
    /// When the card does not answer.
    pub fn captured(&self, regs: &mut dyn Registers, port: u8) -> Result<Option<Captured>, AccessError> {
        let Some(at) = self.ports.get(usize::from(port)) else {
            return Ok(None);
        };
        let packets = regs.read32(at.captured)?;
        let mut long = |n: u32| -> Result<u64, AccessError> {
            let upper = regs.read32(at.captured_bytes.saturating_add(8 * n))?;
            let lower = regs.read32(at.captured_bytes.saturating_add(8 * n + 4))?;
            Ok(u64::from(upper) << 32 | u64::from(lower))
        };
        let (bytes, first, last) = (long(0)?, long(1)?, long(2)?);
        Ok(Some(Captured { packets, bytes, during: Duration::from_nanos(last.saturating_sub(first)) }))
    }
}
