//! The controller: what connects the pure core to sockets, files and the clock.
//!
//! ```text
//!  switches --OpenFlow--> connection tasks (a driver each) --events--+
//!  agents <--gRPC, mutual TLS--> agents (a session each) --events-----+
//!  vmm: hypervisors (ssh, XAPI), or a lab's service (gRPC) ----------+ --> hub (the core) --effects--> back to all of them
//!  tandem, browsers --HTTP--> api --asks-----------------------------+        |
//!  SQLite <--> store thread ------------------------------------------        +--> snapshot (read by the API, the exporters)
//! ```

// The API's document is one `json!` of many paths.
#![recursion_limit = "256"]

pub mod agents;
pub mod api;
pub mod cli;
pub mod clock;
pub mod exporter;
pub mod http;
pub mod hub;
mod limits;
pub mod log;
pub mod metrics;
pub mod moves;
pub mod openapi;
pub mod openflow_server;
pub mod peer_lines;
pub mod serve;
mod service_manager;
pub mod store;
pub mod vmm;
