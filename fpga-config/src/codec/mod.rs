//! Keys, masks, actions and rows of the OpenFlow switch bitfile, as register words and as values.
//!
//! [`key`]: the card's key of a packet. [`action`]: what it does to one. [`hash`]: the rows of an
//! exact entry. [`entry`]: wildcard rows and exact entries. [`ports`]: OpenFlow's port numbers and
//! the card's queues. [`rule`]: a flow as rows, or the [`reject_reason`] against it. [`ofctl`]:
//! flows in the syntax of ovs-ofctl. [`listing`]: register writes as text.

pub mod action;
mod carried;
pub mod entry;
pub mod hash;
pub mod key;
pub mod listing;
pub mod ofctl;
pub mod ports;
pub mod reject_reason;
mod rewrite;
pub mod rule;

pub use action::Action;
pub(crate) use carried::Carried;
pub use entry::{Exact, Row};
pub use key::{Field, Header, Key, Mask, Pattern};
pub use ports::{At, Port, PortMap};
pub use reject_reason::RejectReason;
pub use rule::{Rule, Transport};
