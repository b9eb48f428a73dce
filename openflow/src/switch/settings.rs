//! The settings of a switch and its ports, and the interface through which it acts on its
//! environment.

use crate::header;
use crate::session::{self, SessionError};
use crate::table::{Criteria, Instructions};
use tandem_model::Dpid;

pub use crate::table::NO_QUEUE;

/// A switch's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its id.
    pub dpid: Dpid,
    /// Flow tables. OpenFlow 1.0 uses the first.
    pub tables: u8,
    /// The most flows of each table.
    pub flows: usize,
    /// The most groups.
    pub groups: usize,
    /// The most meters.
    pub meters: usize,
    /// Version bytes that it speaks.
    pub versions: Vec<u8>,
    /// Times of its sessions.
    pub session: session::Config,
    /// The description that OFPMP_DESC reports.
    pub description: Description,
    /// Packets that it keeps for controllers that get only their beginning; a new one replaces the
    /// oldest. With 0, controllers get whole packets.
    pub buffers: u32,
    /// Decisions that the flow cache holds; rounded up to a power of two.
    pub cache: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            dpid: Dpid(0),
            tables: 8,
            flows: 65_536,
            groups: 1024,
            meters: 1024,
            versions: vec![header::V10, header::V13],
            session: session::Config::default(),
            description: Description::default(),
            buffers: 256,
            cache: 4096,
        }
    }
}

/// The answer to OFPMP_DESC (OFPST_DESC of 1.0): cut to 255 bytes each, the serial number to 31.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Manufacturer.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software.
    pub software: String,
    /// Serial number.
    pub serial: String,
    /// The datapath, for people.
    pub datapath: String,
}

/// A port, as the caller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number: 1 to 0xffffff00, or OFPP_LOCAL. OpenFlow 1.0 shows those up to 0xff00.
    pub number: u32,
    /// Its name; messages show 15 bytes of it.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// It has a link and is administratively up.
    pub up: bool,
    /// Its bit rate in bit/s, where that is known.
    pub speed: Option<u64>,
    /// OFPPC bits at the start. Later only controllers change them (OFPT_PORT_MOD); the caller's
    /// updates of them are ignored.
    pub config: u32,
    /// Its queues.
    pub queues: Vec<Queue>,
}

/// OFPPC bits, the same in both versions where they are in both.
pub mod config {
    /// Administratively down.
    pub const DOWN: u32 = 1;
    /// Drop all that it receives.
    pub const NO_RECV: u32 = 1 << 2;
    /// Not flooded to (1.0 only).
    pub const NO_FLOOD: u32 = 1 << 4;
    /// Drop all that is sent to it.
    pub const NO_FWD: u32 = 1 << 5;
    /// Packets without a matching flow are not sent to a controller.
    pub const NO_PACKET_IN: u32 = 1 << 6;
}

/// A queue of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Its number.
    pub id: u32,
    /// Guaranteed rate in tenths of a percent of the port's rate; `None` for no guarantee.
    pub min: Option<u16>,
    /// Highest rate in tenths of a percent of the port's rate; `None` for no limit.
    pub max: Option<u16>,
}

/// Counters of a port. `u64::MAX` where something is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortCounters {
    /// Packets in.
    pub rx_packets: u64,
    /// Packets out.
    pub tx_packets: u64,
    /// Bytes in.
    pub rx_bytes: u64,
    /// Bytes out.
    pub tx_bytes: u64,
    /// Dropped, in.
    pub rx_dropped: u64,
    /// Dropped, out.
    pub tx_dropped: u64,
    /// Errors, in.
    pub rx_errors: u64,
    /// Errors, out.
    pub tx_errors: u64,
    /// Alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// CRC errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
}

/// Counters of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounters {
    /// Bytes out.
    pub tx_bytes: u64,
    /// Packets out.
    pub tx_packets: u64,
    /// Packets that did not fit.
    pub tx_errors: u64,
}

/// A connection to a controller, numbered by its switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The environment of a switch: it sends frames and messages, and knows ports.
pub trait Sink {
    /// Sends a frame out of a port, by a queue ([`NO_QUEUE`] if the flows set none). The bytes are
    /// borrowed for the call only.
    fn transmit(&mut self, port: u32, queue: u32, frame: &[u8]);

    /// Sends whole messages to a controller.
    fn send(&mut self, conn: ConnId, bytes: &[u8]);

    /// Ends a connection: the environment closes it and then calls `Switch::closed`.
    fn close(&mut self, conn: ConnId, why: &SessionError);

    /// A controller turns a port on or off (OFPPC_PORT_DOWN). If the port's link changes with that,
    /// the environment calls `Switch::port`.
    fn set_port(&mut self, number: u32, up: bool);

    /// Whether the environment can forward by a flow; called before a flow is added or changed.
    /// Hardware without software forwarding behind it supports only some flows.
    ///
    /// # Errors
    /// With the reason, as text; the controller gets an error, and nothing is changed.
    fn admits(&mut self, criteria: &Criteria, instructions: &Instructions) -> Result<(), String> {
        let _ = (criteria, instructions);
        Ok(())
    }

    /// A port's counters; `seen` is what the switch itself has counted.
    fn port_counters(&mut self, number: u32, seen: PortCounters) -> PortCounters {
        let _ = number;
        seen
    }

    /// A queue's counters; `seen` is what the switch itself has counted.
    fn queue_counters(&mut self, port: u32, queue: u32, seen: QueueCounters) -> QueueCounters {
        let _ = (port, queue);
        seen
    }
}
