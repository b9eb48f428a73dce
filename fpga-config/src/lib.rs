//! NetFPGA cards without any I/O: the registers of bitfiles, the translation of flow rules to
//! register words, and a card in memory.
//!
//! - [`registers`]: access to a card by two operations. Everything below uses it, so that a card
//!   behind a driver, a mapped BAR, a Verilog simulation and the model are interchangeable.
//! - [`profile`]: a bitfile's registers and capabilities, as data. [`device_id`]: a loaded
//!   bitfile's description of itself.
//! - [`bitfile`]: files to load. [`counters`]: 32-bit counters as 64-bit ones. [`limiter`]: bit
//!   rates as registers.
//! - [`generator`]: replay and capture of the packet generator.
//! - [`health`]: whether the data path keeps up. [`settings`]: settings that a reset loses.
//!   [`card_clock`]: the speed of the card's clock.
//! - [`codec`]: keys, masks, actions and rows of the OpenFlow switch bitfile.
//! - [`offload`]: keeps a flow table on a card.
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
