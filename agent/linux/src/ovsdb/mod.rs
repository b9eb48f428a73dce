//! A client of Open vSwitch's database (OVSDB, RFC 7047), over a Unix socket or TCP.
//!
//! In three layers, each of use alone:
//! 1. [`Ovsdb`]: a connection. Transactions, signs of life, time-outs; its byte stream is cut into
//!    messages by [`framing`].
//! 2. [`Monitor`]: what changes in the database, as it changes.
//! 3. [`Ovsdb::sync_bridges`], [`Ovsdb::read_bridges`], [`Ovsdb::release`]: bridges as they are
//!    wanted, made so by the difference to how they are. [`Ovsdb::interfaces`] reads what
//!    interfaces count.
//!
//! The database is what everybody wants; vswitchd carries it out and raises `cur_cfg` to the
//! `next_cfg` it has carried out. A transaction that went through therefore says nothing about
//! ports; what vswitchd made of them stands in their rows afterwards.

mod actual;
mod bootstrap;
mod bridges;
mod connection;
mod desired;
mod error;
pub mod framing;
mod give_back;
mod interfaces;
mod monitor;
mod plan;
mod queueing;
mod refusals;
mod row;
mod row_change;

use actual::Found;
pub use actual::{ActualBridge, ActualPort};
pub use bootstrap::{Bridge, Common, Port};
pub use bridges::{Inspected, Synced};
pub use connection::Ovsdb;
pub use desired::{Adopt, INACTIVITY_PROBE, MAX_BACKOFF, WantedBridge, WantedPort};
pub use error::{Error, Gap};
pub use interfaces::{About, Duplex, InterfaceRow, State};
pub use monitor::{Change, Comparison, Monitor, Update, Watch};
pub use row::Row;
