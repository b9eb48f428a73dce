//! `tandem-lab fuzz-core`: the whole core with the real switch drivers in virtual time, under
//! schedules of everything that can go wrong.
//!
//! ```text
//! seed -> sites, action -> World { Core; SwitchBox: Driver <-messages-> Switch; Store; Hypervisors } -> hash
//!            every event: invariants     when all is mended: quiet, walk     failed: shrink
//! ```
//! A run is a function of its seed and of the actions that are kept of its schedule. [`canonical`]
//! says what its hash is of.

mod act;
mod action;
mod agents;
mod asks;
pub mod canonical;
mod cli;
mod deliver;
mod draw;
mod graphs;
mod hypervisors;
mod invariants;
mod network;
mod quiet;
mod requests;
mod run;
mod shrink;
mod sites;
mod store;
mod switches;
mod together;
mod walk;
mod world;

pub use cli::{Options, parse_hashes, run};
pub use invariants::Violation;
pub use run::{Planted, Report, Which, one};
pub use shrink::{Shortest, shrink};
