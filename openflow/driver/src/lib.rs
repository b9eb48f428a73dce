//! The switch driver: one for each connection of a switch. It turns OpenFlow messages into the
//! core's events, and the core's effects into messages. It handles versions 1.0 and 1.3; the core
//! knows neither.
//!
//! The driver does no I/O and reads no clock: the caller owns the socket and the clock.
//! [`Driver::on_message`] takes one whole message, [`Driver::execute`] one effect,
//! [`Driver::on_deadline`] the passing of time; each appends to [`Output`].

mod codec;
mod dhcp;
pub mod driver;
mod error;
mod fairness;
mod flow_dump;
mod handshake;
pub mod packets;
mod port_changes;
mod reconcile;
mod v10;
mod v13;
mod wanted;

pub use driver::{Config, Driver, Duty, Output};
pub use error::DriverError;
