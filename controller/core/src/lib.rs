//! The core: decides where a VM goes, which path its traffic takes and which rules the switches
//! get.
//!
//! A pure, deterministic state machine with one door: [`Core::handle`] takes an event and the time
//! and returns effects; [`Core::next_deadline`] says when it wants to be woken; [`Core::snapshot`]
//! is what the outside may read. The same events give the same effects, always.
//!
//! Inside it, services stand in one order, and each sees only itself and earlier ones: [`network`]
//! (switches, links, hosts and what they count), [`rules`] (what switches should have), `agents`
//! (what agents at switches are to make), [`compute`] (servers, VMs, groups), [`migration`] (which
//! VMs move, and how). What a later service has to follow is left as a signal, and the engine over
//! all of them hands it on. [`snapshot`] is what the outside may read.

mod agents;
pub mod compute;
mod context;
mod counters;
mod dirty;
mod engine;
pub mod export;
mod handles;
pub mod migration;
pub mod network;
pub mod policy;
pub mod record_replay;
mod rejection;
pub mod rules;
mod signal;
pub mod site;
pub mod snapshot;
mod stored_item;
mod timers;

pub use counters::Counters;
pub use engine::Core;
pub use migration::policy_set::Policy;
pub use network::place::Placement;
pub use policy::registry::UnknownPolicy;
pub use snapshot::Snapshot;
pub use snapshot::host_pages::HostViews;
