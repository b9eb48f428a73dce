//! The soft switch: an OpenFlow switch in this program. The tables are `tandem_openflow::switch`, which does no I/O; here is what moves its
//! packets and messages.
//!
//! ```text
//! wires (packet sockets) <-> io (the seam) <-> engine (one thread per switch) <-> connections (controllers)
//! ```
//!
//! [`io`] is where something else than sockets can be put, such as a card that forwards by itself what it can.

mod connection;
mod engine;
pub mod io;
mod kept;
mod view;
pub mod wires;
mod world;

pub use connection::Target;
pub use engine::{Ended, Engine};
#[doc(hidden)]
pub use kept::restored;
pub use view::{FlowView, View};
pub use world::EnginePort;
