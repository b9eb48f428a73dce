//! The soft switch: an OpenFlow switch in this program. The tables are `tandem_openflow::switch`,
//! which does no I/O; here is what moves its packets and messages.
//!
//! ```text
//! datapath (what is wanted) -> engine (one thread per switch) <-> connections (controllers)
//!                                   |
//!                                   io (the seam) <-> packet_socket_io
//! ```
//!
//! [`io`] is where something else than sockets can be put, such as a card that forwards by itself
//! what it can.

mod connection;
mod datapath;
mod dump;
mod engine;
mod flow_checkpoint;
pub mod io;
pub mod packet_socket_io;
mod runtime;

pub use connection::Target;
pub(super) use datapath::withhold;
pub use datapath::{MakeIo, Ports, Soft};
pub use dump::{FlowView, View};
pub use engine::{Ended, Engine};
#[doc(hidden)]
pub use flow_checkpoint::restored;
pub use runtime::EnginePort;
