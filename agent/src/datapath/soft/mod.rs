//! The soft switch: an OpenFlow switch in this program. The tables are in
//! `tandem_openflow::switch`, which does no I/O; this module moves packets and messages.
//!
//! ```text
//! datapath (what is wanted) -> engine (one thread per switch) <-> connections (controllers)
//!                                   |
//!                                   io (the seam) <-> packet_socket_io
//! ```
//!
//! [`io`] is where packet sockets can be replaced, for example by a card that forwards part of the
//! packets itself.

mod connection;
mod datapath;
mod doctor;
mod dump;
mod engine;
mod flow_checkpoint;
pub mod io;
mod lifecycle;
pub mod packet_socket_io;
mod running;
mod runtime;

pub use connection::Target;
pub(super) use datapath::withhold;
pub use datapath::{MakeIo, Ports, Soft};
pub use dump::{DumpedFlow, SwitchDump};
pub use engine::{Ended, Engine};
#[doc(hidden)]
pub use flow_checkpoint::restored;
pub use runtime::EnginePort;

use super::registry::DatapathEntry;
use packet_socket_io::PacketSocketIo;
use tandem_agent_protocol::datapaths::{LabSetup, Management};

/// See [`crate::datapath::registry`].
pub(super) static ENTRY: DatapathEntry = DatapathEntry {
    about: "an OpenFlow switch in the agent itself",
    has_settings: false,
    check: |_| Ok(()),
    open: |config, switches, mode| {
        let make: MakeIo = Box::new(|_| Ok(Box::new(PacketSocketIo::new())));
        Some(Box::new(Soft::new(config, switches, "soft", mode, make)))
    },
    doctor: doctor::inspect,
    reads_in_user_space: |_| true,
    makes_bridges: false,
    records: |state| state.join("soft"),
    lab: || LabSetup {
        title: "soft switch".into(),
        place: "the agent (soft)".into(),
        needs_open_vswitch: false,
        management: Management::State("soft".into()),
        switch: String::new(),
        ports: Vec::new(),
    },
};
