//! The bus FPGA (CPCI) of the model: its registers, and the programming of the user FPGA.
//!
//! Programming: PROG_CTRL 1 clears the user FPGA and the FIFO; INIT is high for the next 10 ms.
//! Then PROG_DATA takes words, 8 of which fit the FIFO; by the next read of the status they have
//! moved into the FPGA. A ninth word without such a read overflows: the FIFO is reset, the error is
//! kept, INIT rises. DONE rises when a whole configuration of the part, with its synchronisation
//! word first, was written.

use crate::bitfile::SYNC;
use crate::registers::UNMAPPED;
use std::time::Duration;
use tandem_model::Time;

/// How long INIT is high after PROG_CTRL.
const INIT: Duration = Duration::from_millis(10);

/// Words in the FIFO.
const FIFO: u8 = 8;

const ERROR_PROGRAMMING: u32 = 1 << 16;
const ERROR_OVERFLOW: u32 = 1 << 17;
const ERROR_READ_TIMEOUT: u32 = 1 << 25;

/// The effect of a write on the rest of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    None,
    ResetUser,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Programming {
    /// The user FPGA is not programmed.
    Empty,
    /// INIT is high until that time.
    Initialising(Time),
    /// This many words were written.
    Filling(u32),
    /// The words were not a configuration; INIT is high.
    Failed,
    Done,
}

#[derive(Debug, Clone)]
pub(super) struct Bus {
    id: u32,
    control: u32,
    error: u32,
    dummy: u32,
    mask: u32,
    clock: u32,
    prog_control: u32,
    state: Programming,
    fifo: u8,
    /// Length of a configuration in 32-bit words.
    words: u32,
}

impl Bus {
    /// With a programmed user FPGA, whose configuration has this many words.
    pub(super) fn loaded(id: u32, words: u32) -> Bus {
        Bus {
            id,
            control: 1 << 16,
            error: 0,
            dummy: 0,
            mask: u32::MAX,
            clock: 1,
            prog_control: 0,
            state: Programming::Done,
            fifo: 0,
            words,
        }
    }

    pub(super) fn unload(&mut self) {
        self.state = Programming::Empty;
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.state == Programming::Done
    }

    /// The user FPGA did not answer.
    pub(super) fn timed_out(&mut self) {
        self.error |= ERROR_READ_TIMEOUT;
    }

    pub(super) fn read(&mut self, at: u32, now: Time) -> u32 {
        match at {
            0x000 => self.id,
            0x004 => 0,
            0x008 => self.control,
            0x00c | 0x044 => 0,
            0x010 => std::mem::take(&mut self.error),
            0x020 => self.dummy,
            0x040 => self.mask,
            0x050 => self.clock,
            0x104 => self.status(now),
            0x108 => self.prog_control,
            _ => UNMAPPED,
        }
    }

    fn status(&mut self, now: Time) -> u32 {
        if let Programming::Initialising(until) = self.state
            && now >= until
        {
            self.state = Programming::Filling(0);
        }
        self.fifo = 0;
        let init =
            matches!(self.state, Programming::Initialising(_) | Programming::Failed | Programming::Empty);
        u32::from(init) << 16 | u32::from(self.is_loaded()) << 8 | 1 << 1
    }

    pub(super) fn write(&mut self, at: u32, value: u32, now: Time) -> Deed {
        match at {
            0x008 => {
                self.control = value & !0x100;
                if value & 0x100 != 0 {
                    return Deed::ResetUser;
                }
            }
            0x00c if value & 1 == 1 => {
                let (state, words) = (self.state, self.words);
                *self = Bus { state, ..Bus::loaded(self.id, words) };
            }
            0x010 => self.error = 0,
            0x020 => self.dummy = value,
            0x040 => self.mask = value,
            0x050 => self.clock = value & 1,
            0x100 => self.data(value, now),
            0x108 => {
                self.prog_control = value & 1;
                if value & 1 == 1 {
                    self.state = Programming::Initialising(now + INIT);
                    self.fifo = 0;
                }
            }
            _ => {}
        }
        Deed::None
    }

    fn data(&mut self, value: u32, now: Time) {
        self.fifo += 1;
        if self.fifo > FIFO {
            self.fifo = 0;
            self.error |= ERROR_OVERFLOW;
            self.state = Programming::Failed;
            return;
        }
        if let Programming::Initialising(until) = self.state
            && now >= until
        {
            self.state = Programming::Filling(0);
        }
        let Programming::Filling(count) = self.state else {
            self.error |= ERROR_PROGRAMMING;
            if self.state != Programming::Done {
                self.state = Programming::Failed;
            }
            return;
        };
        // The first two words have to synchronise.
        let right =
            SYNC.as_chunks::<4>().0.get(count as usize).is_none_or(|w| value == u32::from_le_bytes(*w));
        self.state = match count + 1 {
            _ if !right => {
                self.error |= ERROR_PROGRAMMING;
                Programming::Failed
            }
            all if all == self.words => Programming::Done,
            count => Programming::Filling(count),
        };
    }
}
