//! The access to a card: a 32-bit read and a 32-bit write by byte address in BAR 0.
//!
//! An implementation checks the address before it accesses the card ([`check`]): outside of BAR 0 a
//! card returns a stale value without an error. A card has one user at a time: a row is written to
//! staging registers, which reading a row overwrites.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The bytes of BAR 0 of a NetFPGA-1G: addresses are below this.
pub const BAR_BYTES: u32 = 128 << 20;

/// The value of an unmapped address, and of any address when the user FPGA does not answer within
/// 511 clocks.
pub const UNMAPPED: u32 = 0xdead_beef;

/// The value when the data path's register ring does not answer within 127 clocks. The low half is
/// undefined.
pub const RING_TIMEOUT: u32 = 0xdead_0000;

/// Registers of a card, by byte address in BAR 0.
pub trait Registers {
    /// Reads one register. Reading has side effects on some registers (clear on read, staging).
    ///
    /// # Errors When the address is outside the card, or the card did not answer. [`UNMAPPED`] is a
    /// value, not an error.
    fn read32(&mut self, address: u32) -> Result<u32, AccessError>;

    /// Writes one register. Its effect is not confirmed: values that matter have to be read back.
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

/// The access that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A read of this address.
    Read(u32),
    /// A write of this value (second) to this address (first).
    Write(u32, u32),
    /// A frame into this queue, for cards with packets.
    Packet(u8),
}

impl Access {
    /// The address; 0 for a frame.
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
    /// The address is invalid for any card; the card was not accessed.
    #[error(
        "{0}: a card has registers at multiples of 4 below 0x8000000 (128 MiB); the card was not touched"
    )]
    Address(Access),
    /// The other side did not answer in time. Its reply may still come, so the connection cannot be
    /// used any more.
    #[error(
        "{access}: no answer within {within:?}; is the other side stopped? Open the card again when it runs"
    )]
    TimedOut {
        /// The access.
        access: Access,
        /// How long was waited.
        within: Duration,
    },
    /// The other side has closed the connection.
    #[error("{0}: the other side closed the connection; start it and open the card again")]
    Closed(Access),
    /// The other side has refused the access.
    #[error("{access}: refused: {why}")]
    Refused {
        /// The access.
        access: Access,
        /// The other side's reason.
        why: String,
    },
    /// A system call failed.
    #[error("{access} failed")]
    Failed {
        /// The access.
        access: Access,
        /// The system's error.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// Checks that an address is aligned and within BAR 0.
///
/// [`AccessError::Address`] when it is not.
pub const fn check(access: Access) -> Result<(), AccessError> {
    let address = access.address();
    if address < BAR_BYTES && address.is_multiple_of(4) { Ok(()) } else { Err(AccessError::Address(access)) }
}

/// Whether the value means that nothing answered: see [`UNMAPPED`] and [`RING_TIMEOUT`].
pub const fn is_no_answer(value: u32) -> bool {
    value == UNMAPPED || value & 0xffff_0000 == RING_TIMEOUT
}
