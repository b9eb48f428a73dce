//! The core: decides where a VM goes, which path its traffic takes and which rules the switches get.
//!
//! A pure, deterministic state machine with one door: [`Core::handle`] takes an event and the time and returns effects;
//! [`Core::next_deadline`] says when it wants to be woken; [`Core::snapshot`] is what the outside may read. The same
//! events give the same effects, always.
//!
//! Services are called in one order, and a later one reads earlier ones, never the reverse: topology ([`live`], [`links`],
//! [`routes`]), [`hosts`], [`rules`], [`statistics`], requests and inventory ([`inventory`], [`policy`]), placement, life cycle, plans and
//! [`migration`].

pub mod access_ports;
mod addressing;
mod adoption;
pub mod classes;
mod context;
mod counters;
mod elsewhere;
mod engine;
pub mod export;
mod group_rules;
mod groups;
pub mod hosts;
pub mod index;
pub mod inventory;
mod left_rules;
mod lifecycle;
pub mod links;
pub mod live;
pub mod load;
pub mod managed;
pub mod migration;
mod operator;
mod placement;
pub mod policy;
mod polling;
mod port_damping;
mod port_notices;
pub mod recording;
mod reroute;
mod resize;
pub mod routes;
pub mod rules;
mod services;
mod signal;
pub mod snapshot;
mod snapshot_hosts;
pub mod statistics;
mod stored;
mod stray_network;
mod strays;
mod timers;
mod topology_events;
mod wall_clock;
mod worlds;

pub use counters::Counters;
pub use engine::Core;
pub use migration::Policy;
pub use placement::Placement;
pub use snapshot::Snapshot;
pub use snapshot_hosts::HostViews;
