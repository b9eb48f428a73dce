//! Flow-table semantics: what a switch does with flow mods and packets, by the specification, for both versions. Used by tests, and
//! by every switch that is built here.
//!
//! [`key`]: a packet's fields. [`criteria`]: what a flow matches, made from either version's match. [`flows`]: one table. [`pipeline`]:
//! several tables and what they do to a packet. [`control`]: messages about flows, carried out and answered. Time is passed in. Groups and
//! meters are not part of it yet.

pub mod control;
pub mod criteria;
pub mod flows;
pub mod key;
pub mod pipeline;
mod rewrite;

pub use control::{Refusal, Removed};
pub use criteria::Criteria;
pub use flows::{Adding, Change, Flow, FlowTable, Gone, TableError, Wording};
pub use key::{FieldId, FlowKey};
pub use pipeline::{Instructions, Op, Pipeline, Sent};
