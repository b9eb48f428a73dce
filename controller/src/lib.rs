//! The controller: what connects the pure core to sockets, files and the clock.
//!
//! ```text
//!  switches --OpenFlow--> connection tasks (a driver each) --events--+
//!  agents <--gRPC, mutual TLS--> agents (a session each) --events-----+
//!  hypervisors (ssh, XAPI, a lab's service) --router-----------------+ --> event loop (the core) --effects--> back to all of them
//!  tandem, browsers --HTTP--> server::http --requests----------------+        |
//!  SQLite <--> store thread ------------------------------------------        +--> snapshot (read by the API, the exporters)
//! ```

pub mod agents;
pub mod cli;
pub mod clock;
pub mod event_loop;
pub mod log;
pub mod new_site;
pub mod openflow_server;
pub mod peer_lines;
pub mod server;
mod service_manager;
pub mod site_events;
pub mod store;
