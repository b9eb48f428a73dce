//! Flow-table semantics: what a switch does with flow mods and packets, by the specification, for both versions. Used by tests, and
//! by every switch that is built here.
//!
//! [`key`]: a packet's fields. [`criteria`]: what a flow matches, made from either version's match. [`instructions`] and [`ops`]: what it does.
//! [`flows`]: one table. [`groups`], [`meters`], [`ports`]: what tables share. [`pipeline`]: several tables and what they do to a packet,
//! with a cache of decisions in front of them (`cache`).
//! [`control`]: messages about flows, groups and meters, carried out and answered. Time is passed in.

mod cache;
mod compact;
pub(crate) mod consistent;
pub mod control;
pub mod criteria;
pub mod flows;
pub mod groups;
mod index;
pub mod instructions;
pub mod key;
pub mod meters;
pub mod ops;
pub mod pipeline;
pub mod ports;
mod rewrite;
mod run;

pub use cache::CacheCounters;
pub use control::{Refusal, Removed};
pub use criteria::Criteria;
pub use flows::{Adding, Change, Flow, FlowTable, Gone, TableError, Wording};
pub use instructions::Instructions;
pub use key::{FieldId, FlowKey};
pub use ops::Op;
pub use pipeline::{Outcome, Pipeline, Sent};
pub(crate) use rewrite::fragment as is_fragment;
pub use run::{Egress, Leaving, NO_QUEUE, Reason};
