//! What stands between a switch's tables and its wires: the one seam of the soft switch.
//!
//! [`PacketSocketIo`](super::packet_socket_io::PacketSocketIo) are packet sockets. Something else
//! can be put here, or in front of it: a network card that looks packets up itself hands on only
//! those that its own rules do not decide ([`PacketIo::receive`]), takes what the tables decide
//! ([`PacketIo::transmit`]), and follows the tables ([`PacketIo::poll_offload`]).
//!
//! All calls come from the engine's one thread. Ports have their OpenFlow numbers throughout.

use std::io;
use std::os::fd::BorrowedFd;
use tandem_linux::packet::Batch;
use tandem_model::Time;
use tandem_openflow::switch::{PortCounters, Switch};
use tandem_openflow::table::{Criteria, Instructions};

/// A port as the engine wants it: an interface that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoPort {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// The interface's number: another one under the same name is another interface.
    pub index: u32,
    /// The longest packet, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// How many classes there are: queues 0 to `queues` - 1.
    pub queues: u32,
}

/// What was lost on the way between wire and tables at a port, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoDrops {
    /// Received, but nobody had time or room for it.
    pub received: u64,
    /// Received, and longer than the port's packets can be.
    pub oversized: u64,
    /// Decided, and not taken by the port (a full queue; a port that is down).
    pub sent: u64,
}

/// Moves the packets of one switch between its ports and its tables.
pub trait PacketIo: Send {
    /// Makes the ports these and no others; those that stay as they were go on undisturbed. What
    /// could not be done, by port; such a port is not there, and is tried again with the next call.
    fn set_ports(&mut self, ports: &[IoPort]) -> Vec<(u32, String)>;

    /// What becomes readable when something can be received, each with the number that
    /// [`PacketIo::receive`] is then given. Asked for after every [`PacketIo::set_ports`].
    fn descriptors(&self) -> Vec<(u32, BorrowedFd<'_>)>;

    /// Appends what has come in to the (empty) batch, each frame with its port as the tag; does not
    /// wait. `from` is one of the numbers of [`PacketIo::descriptors`]. What is left is received
    /// with the next call.
    ///
    /// # Errors
    /// When the port is down or gone; the engine goes on.
    fn receive(&mut self, from: u32, batch: &mut Batch, now: Time) -> io::Result<()>;

    /// Takes a frame that is to leave by a port; `None` is no queue in particular. It need not
    /// leave before [`PacketIo::flush`].
    fn transmit(&mut self, port: u32, queue: Option<u32>, frame: &[u8], now: Time);

    /// Sends all that was taken. Called at least once between two waits.
    fn flush(&mut self, now: Time);

    /// What was lost.
    fn losses(&mut self, port: u32) -> IoDrops;

    /// Called after messages of controllers were carried out, after the switch's own time-outs, and
    /// when it wants to be (what it returned last): for whoever follows the tables, counts what it
    /// forwarded, or has to look after itself. Sockets have nothing to do here.
    fn poll_offload(&mut self, switch: &mut Switch, now: Time) -> Option<Time> {
        let _ = (switch, now);
        None
    }

    /// Called before the tables' counters are reported or decide over time-outs: whoever forwards
    /// by itself brings them up to date.
    fn refresh_counters(&mut self, switch: &mut Switch, now: Time) {
        let _ = (switch, now);
    }

    /// Whether a flow can be done at all; asked before it is added or changed.
    ///
    /// # Errors
    /// With the reason, as text.
    fn admits(&mut self, criteria: &Criteria, instructions: &Instructions) -> Result<(), String> {
        let _ = (criteria, instructions);
        Ok(())
    }

    /// A port's counters, where others count than its interface.
    fn port_counters(&mut self, port: u32) -> Option<PortCounters> {
        let _ = port;
        None
    }

    /// Switches a port on or off; false when that is its interface's matter.
    fn set_port(&mut self, port: u32, up: bool) -> bool {
        let _ = (port, up);
        false
    }

    /// What people should know of it, a line each.
    fn about(&self) -> Vec<String> {
        Vec::new()
    }
}
