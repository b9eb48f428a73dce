//! The one door to a card: a 32-bit read and a 32-bit write by byte address in BAR 0.
//!
//! An implementation checks the address before it touches the card ([`check`]): a card answers what
//! is outside with a stale value and success. It has one user at a time: a row is built in staging
//! registers that every reader of a row overwrites.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The bytes of BAR 0 of a NetFPGA-1G: addresses are below this.
pub const BAR_BYTES: u32 = 128 << 20;

/// What a card answers where nothing is mapped, and when the user FPGA does not answer within 511
/// clocks.
pub const UNMAPPED: u32 = 0xdead_beef;

/// What a card answers when the data path's register ring does not answer within 127 clocks. The
/// low half holds whatever was there.
pub const RING_TIMEOUT: u32 = 0xdead_0000;

/// Registers of a card, by byte address in BAR 0.
pub trait Registers {
    /// Reads one register. Reading changes some registers (clear on read, staging).
    ///
    /// # Errors
    /// When the address is outside the card, or the card could not be asked. [`UNMAPPED`] is a
    /// value, not an error.
    fn read32(&mut self, address: u32) -> Result<u32, AccessError>;

    /// Writes one register. That it took effect is not known: read back what matters.
    ///
    /// # Errors
    /// When the address is outside the card, or the card could not be written.
    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError>;
}

impl<R: Registers + ?Sized> Registers for &mut R {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        (**self).read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        (**self).write32(address, value)
    }
}

impl<R: Registers + ?Sized> Registers for Box<R> {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        (**self).read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        (**self).write32(address, value)
    }
}

/// What was tried when an access failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A read of this address.
    Read(u32),
    /// A write of this value (second) to this address (first).
    Write(u32, u32),
    /// A frame into this queue, where a way to a card has packets.
    Packet(u8),
}

impl Access {
    /// The address; 0 for a frame, which has none.
    pub const fn address(self) -> u32 {
        match self {
            Access::Read(address) | Access::Write(address, _) => address,
            Access::Packet(_) => 0,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Read(address) => write!(f, "reading 0x{address:07x}"),
            Access::Write(address, value) => write!(f, "writing 0x{value:08x} to 0x{address:07x}"),
            Access::Packet(queue) => write!(f, "putting a frame into queue {queue}"),
        }
    }
}

/// Why a register could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccessError {
    /// The address is no register of any card; the card was not touched.
    #[error(
        "{0}: a card has registers at multiples of 4 below 0x8000000 (128 MiB); the card was not touched"
    )]
    Address(Access),
    /// The other side did not answer in time. Its answer may still come, so the connection is of no
    /// more use.
    #[error(
        "{access}: no answer within {within:?}; is the other side stopped? Open the card again when it runs"
    )]
    TimedOut {
        /// What was tried.
        access: Access,
        /// How long was waited.
        within: Duration,
    },
    /// The other side is gone.
    #[error("{0}: the other side closed the connection; start it and open the card again")]
    Closed(Access),
    /// The other side says that it cannot.
    #[error("{access}: refused: {why}")]
    Refused {
        /// What was tried.
        access: Access,
        /// In the other side's words.
        why: String,
    },
    /// The system could not do it.
    #[error("{access} failed")]
    Failed {
        /// What was tried.
        access: Access,
        /// The system's reason.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// That an address can be a register's: aligned, and within BAR 0.
///
/// # Errors
/// [`AccessError::Address`] when it cannot.
pub const fn check(access: Access) -> Result<(), AccessError> {
    let address = access.address();
    if address < BAR_BYTES && address.is_multiple_of(4) { Ok(()) } else { Err(AccessError::Address(access)) }
}

/// True for a value that a card gives when nothing answered: see [`UNMAPPED`] and [`RING_TIMEOUT`].
pub const fn is_no_answer(value: u32) -> bool {
    value == UNMAPPED || value & 0xffff_0000 == RING_TIMEOUT
}
