//! The interface between a switch's tables and its packets.
//!
//! [`PacketSocketIo`](super::packet_socket_io::PacketSocketIo) uses packet sockets. Another
//! implementation can replace or wrap it: a network card with its own look-up passes on only the
//! packets that its rules do not match ([`PacketIo::receive`]), sends those that the tables forward
//! ([`PacketIo::transmit`]), and follows the tables ([`PacketIo::poll_offload`]).
//!
//! All calls come from the engine's one thread. Ports have their OpenFlow numbers throughout.

use std::io;
use std::os::fd::BorrowedFd;
use tandem_linux::packet::Batch;
use tandem_model::Time;
use tandem_openflow::switch::{PortCounters, Switch};
use tandem_openflow::table::{Criteria, Instructions};

/// A port with an existing interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoPort {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// The interface's number: another number under the same name is another interface.
    pub index: u32,
    /// The longest packet, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Number of classes: queues are numbered 0 to `queues` - 1.
    pub queues: u32,
}

/// Packets lost between interface and tables at a port, since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoDrops {
    /// Received, and dropped for lack of time or room.
    pub received: u64,
    /// Received, and longer than the port's packets may be.
    pub oversized: u64,
    /// Forwarded, and refused by the port (a full queue; a port that is down).
    pub sent: u64,
}

/// Moves the packets of one switch between its ports and its tables.
pub trait PacketIo: Send {
    /// Sets the ports; unchanged ones are not disturbed. Returns the faults by port; such a port
    /// does not exist, and is tried again with the next call.
    fn set_ports(&mut self, ports: &[IoPort]) -> Vec<(u32, String)>;

    /// Descriptors that become readable when packets wait, each with the number to pass to
    /// [`PacketIo::receive`]. Called after every [`PacketIo::set_ports`].
    fn descriptors(&self) -> Vec<(u32, BorrowedFd<'_>)>;

    /// Appends waiting frames to the (empty) batch, each with its port as the tag; does not block.
    /// `from` is one of the numbers of [`PacketIo::descriptors`]. Remaining frames are received
    /// with the next call.
    ///
    /// When the port is down or gone; the engine goes on.
    fn receive(&mut self, from: u32, batch: &mut Batch, now: Time) -> io::Result<()>;

    /// Accepts a frame to be sent out of a port; `None` is no particular queue. It may be held
    /// until [`PacketIo::flush`].
    fn transmit(&mut self, port: u32, queue: Option<u32>, frame: &[u8], now: Time);

    /// Sends all accepted frames. Called at least once between two waits.
    fn flush(&mut self, now: Time);

    /// The packets lost at a port.
    fn losses(&mut self, port: u32) -> IoDrops;

    /// Called after messages of controllers were executed, after the switch's time-outs, and at the
    /// time that it returned last: for an implementation that follows the tables, counts packets
    /// that it forwarded, or needs upkeep. Sockets do nothing here.
    fn poll_offload(&mut self, switch: &mut Switch, now: Time) -> Option<Time> {
        let _ = (switch, now);
        None
    }

    /// Called before the tables' counters are reported or decide time-outs: an implementation that
    /// forwards by itself updates them.
    fn refresh_counters(&mut self, switch: &mut Switch, now: Time) {
        let _ = (switch, now);
    }

    /// Whether a flow is supported; called before it is added or changed.
    ///
    /// # Errors
    /// With the reason, as text.
    fn admits(&mut self, criteria: &Criteria, instructions: &Instructions) -> Result<(), String> {
        let _ = (criteria, instructions);
        Ok(())
    }

    /// A port's counters, if they are not those of its interface.
    fn port_counters(&mut self, port: u32) -> Option<PortCounters> {
        let _ = port;
        None
    }

    /// Turns a port on or off; false if the interface has to be set up or down instead.
    fn set_port(&mut self, port: u32, up: bool) -> bool {
        let _ = (port, up);
        false
    }

    /// Remarks for people, a line each.
    fn about(&self) -> Vec<String> {
        Vec::new()
    }
}
