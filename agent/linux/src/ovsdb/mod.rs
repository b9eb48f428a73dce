//! A client of Open vSwitch's database (OVSDB, RFC 7047), over a Unix socket or TCP.
//!
//! In three layers, each usable alone:
//! 1. [`Ovsdb`]: a connection. Transactions, echo requests, time-outs; [`framing`] cuts its byte
//!    stream into messages.
//! 2. [`Monitor`]: reports changes of the database.
//! 3. [`Ovsdb::sync_bridges`], [`Ovsdb::read_bridges`], [`Ovsdb::release`]: wanted bridges, set up
//!    by their difference from the actual ones. [`Ovsdb::interfaces`] reads the counters of
//!    interfaces.
//!
//! The database holds the wanted configuration. vswitchd executes it and sets `cur_cfg` to the
//! `next_cfg` that it has executed. A transaction that succeeded therefore says nothing about
//! ports; vswitchd writes their state into their rows afterwards.

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
