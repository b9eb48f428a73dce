//! Co-simulation: a Unix stream socket with a line per access, so that a Verilog simulation can
//! replace a card.
//!
//! The client writes a line, the peer answers it before the next. Numbers are hexadecimal, without
//! `0x`; lines end with `\n`.
//!
//! | line | answer |
//! |---|---|
//! | `r ADDR` | `VALUE` |
//! | `w ADDR VALUE` | `ok` |
//! | `p QUEUE HEX`: a frame into a queue, and nothing more until all is at rest | `p QUEUE HEX` for each frame that left the card, then `ok` |
//! | `q QUEUE HEX`: a frame that goes in with the next `g` | `ok` |
//! | `g`: all of those frames go in, each as close behind the last as the card takes them | `p QUEUE HEX` for each frame that left, then `ok` |
//! | any of them, when it cannot be done | `! why` |
//!
//! A peer without packets answers `p` with `!`; one without bursts answers `q` so. At most
//! [`BURST`] frames wait for a `g`. A peer may be slow as long as it answers within the client's
//! time-out.

mod client;
pub mod protocol;
mod server;

pub use client::CosimCard;
pub use server::{CLIENTS, Server};

/// The most frames of a burst.
pub const BURST: usize = 64;

/// The longest line: a frame of 9 KB with its command.
pub const LINE: usize = 32 << 10;
