//! Flow-table semantics: what a switch does with flow mods and packets, by the specification, for
//! both versions. Used by tests, and by every switch that is built here.
//!
//! [`key`]: a packet's fields. [`match_fields`]: what a flow matches, made from either version's
//! match. [`instructions`] and [`ops`]: what it does. [`flows`]: one table. [`groups`], [`meters`],
//! [`ports`]: what tables share. [`pipeline`]: several tables and what they do to a packet, with a
//! cache of decisions in front of them (`cache`). [`mod_handlers`]: messages about flows, groups
//! and meters, carried out and answered. Time is passed in.

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
