//! Flow-table semantics for both versions: the effects of flow mods, and of flows on packets, as
//! the specification defines them. The soft switch uses it, and so do tests as their reference.
//!
//! [`key`]: a packet's fields. [`match_fields`]: a flow's match, made from that of either version.
//! [`instructions`] and [`ops`]: a flow's actions. [`flows`]: one table. [`groups`], [`meters`],
//! [`ports`]: what tables share. [`pipeline`]: several tables and their effect on a packet, with a
//! cache of decisions in front of them (`cache`). [`mod_handlers`]: executes messages about flows,
//! groups and meters. The caller passes in the time.

mod cache;
pub(crate) mod consistent;
mod executor;
pub mod flows;
pub mod groups;
mod index;
pub mod instructions;
pub mod key;
pub mod match_fields;
pub mod meters;
pub mod mod_handlers;
pub mod ops;
mod packed_key;
pub mod pipeline;
pub mod ports;
mod rewrite;

pub use cache::CacheCounters;
pub use executor::{Egress, EgressPacket, NO_QUEUE, Reason};
pub use flows::{AddOptions, Change, Flow, FlowTable, RemovedReason, TableError, WireForm};
pub use instructions::Instructions;
pub use key::{FieldId, FlowKey};
pub use match_fields::Criteria;
pub use mod_handlers::{Refusal, Removed};
pub use ops::Op;
pub use pipeline::{Outcome, Pipeline, Sent};
pub(crate) use rewrite::fragment as is_fragment;
