//! Loads a bitfile into a card's user FPGA. All possible checks are made before the card is
//! written; afterwards the card has to identify itself.
//!
//! 1. The file is for this part and complete; the bus FPGA is the supported one.
//! 2. The user FPGA is reset: FIFO empty, not DONE; INIT clears within three times 10 ms.
//! 3. The words are written, 8 at a time: the capacity of the FIFO.
//! 4. DONE rises within three seconds.
//! 5. The user FPGA is reset (2 s), then its PHYs.
//! 6. The device id block is read.

use crate::Card;
use std::time::Duration;
use tandem_fpga_config::bitfile::{Bitfile, BitfileError};
use tandem_fpga_config::device_id::DeviceId;
use tandem_fpga_config::profile::Board;
use tandem_fpga_config::registers::AccessError;

const ID: u32 = 0x000;
const CTRL: u32 = 0x008;
const ERROR: u32 = 0x010;
const PROG_DATA: u32 = 0x100;
const PROG_STATUS: u32 = 0x104;
const PROG_CTRL: u32 = 0x108;
const MDIO: u32 = 0x44_0000;

const INIT: u32 = 1 << 16;
const DONE: u32 = 1 << 8;
const FIFO_EMPTY: u32 = 1 << 1;
const USER_RESET: u32 = 1 << 8;

/// Words that the FIFO holds.
const FIFO: usize = 8;

/// How often the status is read before a full FIFO counts as stuck: each read takes longer than the
/// FIFO needs for a word.
const POLLS: u32 = 1_000;

/// Why a bitfile was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file is not for this card. The card was not written.
    #[error(transparent)]
    Bitfile(#[from] BitfileError),
    /// The programming of this board is not known.
    #[error("how a {0} is programmed is not known here; nothing was loaded")]
    Board(String),
    /// The bus FPGA is not the supported one. The card was not written.
    #[error(
        "the bus FPGA (CPCI) is version {found}, this is known for version {wanted}; update it first (cpci_reprogram of the NetFPGA package); nothing was loaded"
    )]
    Cpci {
        /// The card's version.
        found: u32,
        /// The supported version.
        wanted: u32,
    },
    /// The user FPGA was not cleared.
    #[error(
        "the user FPGA did not take its reset: PROG_STATUS is 0x{status:08x}; switch the machine off and on, then load again"
    )]
    Reset {
        /// PROG_STATUS.
        status: u32,
    },
    /// INIT stayed high.
    #[error(
        "INIT stays high after the reset: PROG_STATUS is 0x{status:08x}; switch the machine off and on, then load again"
    )]
    Init {
        /// PROG_STATUS.
        status: u32,
    },
    /// An error during the transfer.
    #[error("stopped at byte {at} of {of}: PROG_STATUS 0x{status:08x}, ERROR 0x{error:08x}{}; the user FPGA is now empty, load again", why(*.error))]
    Transfer {
        /// Bytes written.
        at: usize,
        /// Bytes of the configuration.
        of: usize,
        /// PROG_STATUS.
        status: u32,
        /// The ERROR register.
        error: u32,
    },
    /// All words were written, and the FPGA does not start.
    #[error(
        "all bytes are in the user FPGA, and it does not start (PROG_STATUS 0x{status:08x}); is the bitfile damaged?"
    )]
    NotDone {
        /// PROG_STATUS.
        status: u32,
    },
    /// It has started, and does not identify itself.
    #[error(
        "loaded, but the bitfile has no device id block at 0x400000 (first word 0x{word:08x}): it is none of the reference library, or does not answer"
    )]
    NoDeviceId {
        /// The word at the address of the device id block.
        word: u32,
    },
    /// It is another design than requested.
    #[error(
        "loaded, but it calls itself \"{found}\", not \"{wanted}\"; load another file, or give --profile what it is"
    )]
    Design {
        /// Its directory.
        found: String,
        /// The directory in the profile.
        wanted: String,
    },
    /// The card did not answer.
    #[error("programming was cut short; the user FPGA may be empty now")]
    Access(#[from] AccessError),
}

fn why(error: u32) -> &'static str {
    match error {
        e if e & 1 << 17 != 0 => " (overflow: words came faster than the FPGA takes them)",
        e if e & 1 << 16 != 0 => " (the FPGA refused the configuration)",
        _ => "",
    }
}

/// Loads a bitfile; returns its device id block. `wanted` is the directory that it has to have, if
/// that matters. `progress` is called with the number of bytes done, about every 64 KB.
///
/// When a check fails; the error says whether the card was written.
pub fn program(
    card: &mut dyn Card,
    board: &Board,
    bitfile: &Bitfile<'_>,
    wanted: Option<&str>,
    progress: &mut dyn FnMut(usize),
) -> Result<DeviceId, ProgramError> {
    let (Some(user), Some(bus)) = (&board.user_fpga, &board.bus_fpga) else {
        return Err(ProgramError::Board(board.name.clone()));
    };
    bitfile.for_user(user)?;
    let found = card.read32(ID)? & 0x00ff_ffff;
    if found != bus.version {
        return Err(ProgramError::Cpci { found, wanted: bus.version });
    }
    clear(card)?;
    load(card, bitfile, progress)?;
    await_done(card)?;
    reset(card, board)?;
    let Some(id) = DeviceId::read(card)? else {
        return Err(ProgramError::NoDeviceId { word: card.read32(tandem_fpga_config::device_id::BASE)? });
    };
    match wanted {
        Some(wanted) if !id.directory.eq_ignore_ascii_case(wanted) => {
            Err(ProgramError::Design { found: id.directory, wanted: wanted.to_owned() })
        }
        _ => Ok(id),
    }
}

/// Step 2: clears the FPGA's configuration, and waits until it can take another one.
fn clear(card: &mut dyn Card) -> Result<(), ProgramError> {
    card.write32(PROG_CTRL, 1)?;
    card.write32(ERROR, 0)?;
    card.wait(Duration::from_micros(100));
    let status = card.read32(PROG_STATUS)?;
    if status & (DONE | FIFO_EMPTY) != FIFO_EMPTY {
        return Err(ProgramError::Reset { status });
    }
    let mut status = INIT;
    for _ in 0..3 {
        card.wait(Duration::from_millis(10));
        status = card.read32(PROG_STATUS)?;
        if status & INIT == 0 {
            break;
        }
    }
    if status & INIT != 0 {
        return Err(ProgramError::Init { status });
    }
    Ok(())
}

/// Step 3: writes the bitfile's words, as fast as the FIFO takes them.
fn load(
    card: &mut dyn Card,
    bitfile: &Bitfile<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<(), ProgramError> {
    let of = bitfile.data.len();
    for (n, word) in bitfile.words().enumerate() {
        card.write32(PROG_DATA, word)?;
        let written = n + 1;
        if written % FIFO == 0 {
            taken(card, written * 4, of)?;
        }
        if written % (16 << 10) == 0 {
            progress(written * 4);
        }
    }
    taken(card, of, of)?;
    progress(of);
    Ok(())
}

/// Step 4: waits until the FPGA shows that it is configured.
fn await_done(card: &mut dyn Card) -> Result<(), ProgramError> {
    let mut status = card.read32(PROG_STATUS)?;
    for _ in 0..3 {
        if status & DONE != 0 {
            break;
        }
        card.wait(Duration::from_secs(1));
        status = card.read32(PROG_STATUS)?;
    }
    if status & DONE == 0 {
        return Err(ProgramError::NotDone { status });
    }
    Ok(())
}

/// Step 5: resets the design and the ports' PHYs.
fn reset(card: &mut dyn Card, board: &Board) -> Result<(), ProgramError> {
    let control = card.read32(CTRL)?;
    card.write32(CTRL, control | USER_RESET)?;
    card.wait(Duration::from_secs(2));
    for port in 0..u32::from(board.ports) {
        card.write32(MDIO + 0x80 * port, 0x8000)?;
    }
    card.wait(Duration::from_micros(100));
    Ok(())
}

/// Waits until the FIFO is empty, or the FPGA is done.
fn taken(card: &mut dyn Card, at: usize, of: usize) -> Result<(), ProgramError> {
    let mut status = 0;
    for _ in 0..POLLS {
        status = card.read32(PROG_STATUS)?;
        if status & (INIT | FIFO_EMPTY) == FIFO_EMPTY || status & DONE != 0 {
            return Ok(());
        }
        if status & INIT != 0 {
            break;
        }
    }
    let error = card.read32(ERROR)?;
    Err(ProgramError::Transfer { at, of, status, error })
}
