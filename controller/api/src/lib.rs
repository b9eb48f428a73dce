//! The controller's HTTP API, as both of its ends see it.
//!
//! ```text
//!   endpoints (a table: method, path, body, answer, statuses)
//!      |                                   |
//!   client: the command line,          handlers in the controller (server/http), from which
//!   the lab, tests                     the OpenAPI document is derived
//! ```
//!
//! There is a file for each noun with the bodies that are sent for it. What is read are the core's
//! own views ([`views`]). [`error`] is what an answer says when it is not what was asked for: its
//! status follows from its code. Nothing here serves HTTP: the client does not bring a server
//! along.

pub mod address;
pub mod agents;
pub mod classes;
pub mod client;
pub mod endpoints;
pub mod error;
pub mod event_stream;
pub mod events;
pub mod groups;
pub mod limits;
pub mod migrations;
pub mod overrides;
pub mod overview;
pub mod rules;
pub mod tokens;
pub mod views;
pub mod vm_groups;
pub mod vm_ref;
pub mod vms;

pub use address::Address;
pub use client::{Client, ClientError, Reply};
pub use error::{ApiError, Code};
pub use event_stream::EventStream;
pub use vm_ref::VmRef;

/// What every request that changes something must have as a header, with the value 1: no form and
/// no simple cross-site request of a web page can have it (Fetch standard, 2.2.2).
pub const WRITE_HEADER: &str = "x-tandem-request";

/// The header of answers that are parts of a snapshot: its version. A request with `?after=VERSION`
/// waits for a newer one.
pub const VERSION_HEADER: &str = "tandem-version";

/// Where the API is unless said otherwise.
pub const DEFAULT_ADDRESS: &str = "unix:/run/tandem/api.sock";
