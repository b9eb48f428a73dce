//! Migration: when VMs are moved, which, where to and by which path; plans; and how a move is carried out.
//!
//! ```text
//! samples -> load, hotspot --when--> plan (which, where, order) --> execute (phases) --effects--> hypervisors, switches, store
//!                   asked, resize, evacuate, keep-policy -^                 ^-- events -----------------+
//! ```
//! Planning decides everything on paper and changes nothing; carrying out leaves no choice open.

mod asks;
mod begin;
mod books;
mod detour;
mod execute;
#[cfg(test)]
mod fixture;
pub(crate) mod fork;
pub(crate) mod hotspot;
mod keep_policy;
pub(crate) mod kept;
mod order;
#[cfg(test)]
mod order_tests;
mod paper;
mod phases;
mod plan;
pub(crate) mod policies;
pub mod precopy;
mod recover;
mod relief;
mod runner;
pub(crate) mod state;
mod transfer;
mod undo;
pub(crate) mod union;
mod view;
mod way;

pub use hotspot::Place;
pub use keep_policy::Considered;
pub use policies::{
    AsAllocated, ByPath, Candidate, Heat, Hot, LeastLoaded, LeastVolume, OverThreshold, Policy, View,
    Watched, Way, When, Where, Which,
};
pub use view::{HotspotView, LoadView, MigrationView, MoveState, PlanView};
