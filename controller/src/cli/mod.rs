//! The operator's command line. Every verb but `serve`, `check`, `replay` and `store` speaks the HTTP API.

pub mod agents;
pub mod client;
mod follow;
pub mod hypervisors;
pub mod moves;
pub mod operator;
pub mod site;
pub mod stats;
pub mod store;
pub mod strays;
mod table;
pub mod testbed;
pub mod tokens;
pub mod verbs;

/// Where the API is unless said otherwise.
pub const DEFAULT_API: &str = "unix:/run/tandem/api.sock";
