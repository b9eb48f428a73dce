//! NetFPGA cards without any I/O: what a bitfile's registers are, how a flow rule becomes register
//! words, and a card in memory.
//!
//! - [`registers`]: the one door to a card, two operations wide. Everything below speaks through
//!   it, so that a card behind a driver, a mapped BAR, a Verilog simulation and the model are
//!   alike.
//! - [`profile`]: a bitfile's registers and abilities, as data. [`device_id`]: what a loaded
//!   bitfile says about itself.
//! - [`bitfile`]: what can be loaded. [`counters`]: 32-bit counters as 64-bit ones. [`limiter`]:
//!   bit rates as registers.
//! - [`generator`]: replay and capture of the packet generator.
//! - [`health`]: whether the data path keeps up. [`settings`]: what a reset would forget.
//!   [`card_clock`]: whether its seconds are as long as ours.
//! - [`codec`]: keys, masks, actions and rows of the OpenFlow switch bitfile.
//! - [`offload`]: a flow table kept in a card.
//! - [`model`]: a card in memory.

pub mod bitfile;
pub mod card_clock;
pub mod codec;
pub mod counters;
pub mod device_id;
pub mod generator;
pub mod health;
pub mod limiter;
pub mod model;
pub mod offload;
pub mod profile;
pub mod registers;
pub mod settings;
