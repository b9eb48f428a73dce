//! A client of Open vSwitch's database (OVSDB, RFC 7047), over a Unix socket or TCP.
//!
//! In three layers, each of use alone:
//! 1. [`Ovsdb`]: a connection. Transactions, signs of life, time-outs; its byte stream is cut into messages by [`framing`].
//! 2. [`Monitor`]: what changes in the database, as it changes.
//! 3. [`Ovsdb::sync_bridges`], [`Ovsdb::read_bridges`], [`Ovsdb::release`]: bridges as they are wanted, made so by the difference
//!    to how they are. [`Ovsdb::interfaces`] reads what interfaces count.
//!
//! The database is what everybody wants; vswitchd carries it out and raises `cur_cfg` to the `next_cfg` it has carried out. A
//! transaction that went through therefore says nothing about ports; what vswitchd made of them stands in their rows afterwards.

mod bridges;
mod connection;
mod error;
mod found;
pub mod framing;
mod interfaces;
mod make;
mod monitor;
mod plan;
mod queueing;
mod row;
mod wanted;

pub use bridges::{Inspected, Synced};
pub use connection::Ovsdb;
pub use error::{Error, Gap};
use found::Found;
pub use found::{ActualBridge, ActualPort};
pub use interfaces::{About, Duplex, InterfaceRow, State};
pub use make::{Bridge, Common, Port};
pub use monitor::{Change, Comparison, Monitor, Update, Watch};
pub use row::Row;
pub use wanted::{Adopt, INACTIVITY_PROBE, MAX_BACKOFF, WantedBridge, WantedPort};
