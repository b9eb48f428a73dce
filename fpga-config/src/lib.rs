//! NetFPGA cards without any I/O: what a bitfile's registers are, how a flow rule becomes register words, and a card in memory.
//!
//! - [`registers`]: the one door to a card, two operations wide. Everything below speaks through it, so that a card behind a driver, a
//!   mapped BAR, a Verilog simulation and the model are alike.
//! - [`codec`]: keys, masks, actions and rows of the OpenFlow switch bitfile.
//! - [`offload`]: a flow table kept in a card.

pub mod codec;
pub mod offload;
pub mod registers;
