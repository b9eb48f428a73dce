//! Access to NetFPGA cards: one trait with four implementations.
//!
//! - [`ioctl`]: through the nf2 driver (or those of the later boards), on kernels that it runs on.
//!   [`mmap`]: the PCI device's `resource0`, on any kernel, without packets. [`cosim`]: a Unix
//!   socket with a line per access, behind which a Verilog simulation, or the model, is.
//!   [`memory_card`]: the card in memory, in this process.
//! - [`target`]: names of cards, and how they are opened. [`pci`]: the cards of a machine.
//!   [`lock`]: one writer per card.
//! - [`replay`]: sends frames with the packet generator. [`interface`]: frames from a driver's
//!   interface. [`mod@pcap`]: files of frames.
//! - [`program`]: loads a bitfile, with checks before and after. [`selftest`]: harmless checks.
//!   [`info`]: the properties of a card.

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

/// An open card.
pub trait Card: Registers {
    /// Waits for the card: real time for a real one.
    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Puts a frame into a queue (2n: as if received at port n, 2n+1: from CPU port n); returns the
    /// frames that left the card.
    ///
    /// When the device has no packets, or the card does not answer.
    fn inject(&mut self, queue: u8, frame: &[u8]) -> Result<Vec<Sent>, InjectError> {
        let _ = (queue, frame);
        Err(InjectError::None)
    }

    /// The same for frames that follow each other as closely as the card accepts them:
    /// [`Card::inject`] waits until nothing moves.
    ///
    /// As [`Card::inject`]; or when the other side does not support bursts.
    fn burst(&mut self, frames: &[(u8, &[u8])]) -> Result<Vec<Sent>, InjectError> {
        let _ = frames;
        Err(InjectError::None)
    }
}

/// Why a frame could not be put into a card.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InjectError {
    /// The device has registers only.
    #[error("this way to a card has no packets; a co-simulation or the model has")]
    None,
    /// The card did not answer.
    #[error(transparent)]
    Access(#[from] AccessError),
}
