//! Access to NetFPGA cards: one trait, four ways.
//!
//! - [`ioctl`]: through the nf2 driver (or those of the later boards), on kernels that it runs on.
//!   [`mmap`]: the PCI device's `resource0`, on any kernel, without packets. [`cosim`]: a Unix
//!   socket with a line per access, behind which a Verilog simulation, or the model, is.
//!   [`memory_card`]: the card in memory, in this process.
//! - [`target`]: how a card is named, and opened. [`pci`]: which there are. [`lock`]: one writer
//!   per card.
//! - [`replay`]: frames sent by the packet generator. [`interface`]: frames that a driver hands
//!   out. [`mod@pcap`]: files of frames.
//! - [`program`]: a bitfile into a card, with every check before and after. [`selftest`]: harmless
//!   checks. [`info`]: what a card is.

pub mod cosim;
pub mod info;
pub mod interface;
pub mod ioctl;
pub mod lock;
pub mod memory_card;
pub mod mmap;
pub mod pcap;
pub mod pci;
pub mod program;
pub mod replay;
pub mod selftest;
mod sys;
pub mod target;

use std::time::Duration;
use tandem_fpga_config::model::Sent;
use tandem_fpga_config::registers::{AccessError, Registers};

/// A card that was opened.
pub trait Card: Registers {
    /// Lets time pass for the card: real time for a real one.
    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Puts a frame into a queue (2n: as if it came in at port n, 2n+1: from CPU port n); gives
    /// what left the card.
    ///
    /// # Errors
    /// When this way to a card has no packets, or the card cannot be asked.
    fn inject(&mut self, queue: u8, frame: &[u8]) -> Result<Vec<Sent>, InjectError> {
        let _ = (queue, frame);
        Err(InjectError::None)
    }

    /// The same for frames that follow each other as closely as the card takes them:
    /// [`Card::inject`] lets everything come to rest first.
    ///
    /// # Errors
    /// As [`Card::inject`]; or when the other side knows no bursts.
    fn burst(&mut self, frames: &[(u8, &[u8])]) -> Result<Vec<Sent>, InjectError> {
        let _ = frames;
        Err(InjectError::None)
    }
}

/// Why a frame could not be put into a card.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InjectError {
    /// There are only registers.
    #[error("this way to a card has no packets; a co-simulation or the model has")]
    None,
    /// The card could not be asked.
    #[error(transparent)]
    Access(#[from] AccessError),
}
