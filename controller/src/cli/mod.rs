//! The operator's command line. Every verb but `serve`, `check` and `replay` speaks the HTTP API.

pub mod agents;
pub mod client;
pub mod hypervisors;
pub mod operator;
pub mod site;
pub mod stats;
mod table;
pub mod testbed;
pub mod verbs;

/// Where the API is unless said otherwise.
pub const DEFAULT_API: &str = "unix:/run/tandem/api.sock";
