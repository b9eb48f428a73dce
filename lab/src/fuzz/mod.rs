//! `tandem-lab fuzz-core`: the whole core with the real switch drivers in virtual time, under schedules of everything that can go wrong.
//!
//! ```text
//! seed -> sites, action -> World { Core; SwitchBox: Driver <-messages-> Switch; Store; Hypervisors } -> hash
//!            every event: invariants     when all is mended: quiet, walk     failed: shrink
//! ```
//! A run is a function of its seed and of the actions that are kept of its schedule. [`canonical`] says what its hash is of.

mod act;
pub mod action;
pub mod canonical;
mod cli;
mod deliver;
mod draw;
mod hypervisors;
mod invariants;
mod quiet;
mod requests;
mod run;
pub mod shrink;
pub mod sites;
mod store;
mod switches;
mod walk;
pub mod world;

pub use cli::{Options, run};
pub use invariants::Violation;
pub use run::{Report, Which, one};
