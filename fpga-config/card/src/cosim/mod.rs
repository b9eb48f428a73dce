//! Co-simulation: a Unix stream socket with a line per access, so that a Verilog simulation can stand in for a card.
//!
//! The client writes a line, the peer answers it before the next. Numbers are hexadecimal, without `0x`; lines end with `\n`.
//!
//! | line | answer |
//! |---|---|
//! | `r ADDR` | `VALUE` |
//! | `w ADDR VALUE` | `ok` |
//! | `p QUEUE HEX`: a frame into a queue | `p QUEUE HEX` for each frame that left the card, then `ok` |
//! | any of them, when it cannot be done | `! why` |
//!
//! A peer that has no packets answers `p` with `!`. A peer may run as slowly as it likes as long as it answers within the client's time-out.

mod client;
pub mod protocol;
mod server;

pub use client::CosimCard;
pub use server::{CLIENTS, Server};

/// The longest line: a frame of 9 KB and what is around it.
pub const LINE: usize = 32 << 10;
