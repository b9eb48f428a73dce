//! The operator's command line: a file for each noun. Every command but `serve`, `check`, `replay`
//! and `store` speaks the HTTP API.

pub mod agent;
pub mod args;
pub mod check;
pub mod class;
pub mod command;
pub mod events;
pub mod group;
pub mod hotspots;
pub mod hypervisors;
pub mod links;
pub mod machine;
pub mod migrate;
pub mod notices;
pub mod overrides;
pub mod plan;
pub mod rules;
pub mod site;
pub mod stats;
pub mod store;
pub mod stray;
mod table;
pub mod testbed;
pub mod token;
pub mod topology;
pub mod vm;
pub mod vm_request;
mod watch;
