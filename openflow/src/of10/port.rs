//! Ports (section 5.2.1), OFPT_PORT_MOD (5.3.3) and OFPT_PORT_STATUS (5.4.3).

use crate::wire::{Pad, Text, wire_struct};
use tandem_model::Mac;

/// The highest number of a physical port.
pub const MAX: u16 = 0xff00;
/// The port the packet came in by.
pub const IN_PORT: u16 = 0xfff8;
/// Through the flow table again (packet-out only).
pub const TABLE: u16 = 0xfff9;
/// As a non-OpenFlow switch would.
pub const NORMAL: u16 = 0xfffa;
/// All ports but the one it came in by and those without flooding.
pub const FLOOD: u16 = 0xfffb;
/// All ports but the one it came in by.
pub const ALL: u16 = 0xfffc;
/// The controller.
pub const CONTROLLER: u16 = 0xfffd;
/// The switch itself.
pub const LOCAL: u16 = 0xfffe;
/// No port.
pub const NONE: u16 = 0xffff;

/// OFPPC_PORT_DOWN: administratively down.
pub const CONFIG_DOWN: u32 = 1;
/// OFPPS_LINK_DOWN: no link.
pub const STATE_LINK_DOWN: u32 = 1;

/// Reasons of OFPT_PORT_STATUS.
pub mod reason {
    /// Added.
    pub const ADD: u8 = 0;
    /// Removed.
    pub const DELETE: u8 = 1;
    /// Changed.
    pub const MODIFY: u8 = 2;
}

wire_struct! {
    /// ofp_phy_port, 48 bytes.
    pub struct PhyPort {
        /// Number.
        port_no: u16,
        /// Ethernet address.
        hw_addr: Mac,
        /// Name.
        name: Text<16>,
        /// OFPPC bits.
        config: u32,
        /// OFPPS bits.
        state: u32,
        /// OFPPF bits: now.
        curr: u32,
        /// OFPPF bits: advertised.
        advertised: u32,
        /// OFPPF bits: supported.
        supported: u32,
        /// OFPPF bits: advertised by the peer.
        peer: u32,
    }
}

/// The speed in bit/s that OFPPF bits (1.0 and 1.3 alike up to 10 Gbit/s) stand for; `None` where
/// none is set.
pub fn speed(features: u32) -> Option<u64> {
    const MBIT: u64 = 1_000_000;
    [(0x40, 10_000), (0x30, 1_000), (0x0c, 100), (0x03, 10)]
        .into_iter()
        .find(|(bits, _)| features & bits != 0)
        .map(|(_, mbit)| mbit * MBIT)
}

wire_struct! {
    /// OFPT_PORT_MOD, 24 bytes after the header.
    pub struct PortMod {
        /// Which port.
        port_no: u16,
        /// Its Ethernet address, for safety.
        hw_addr: Mac,
        /// OFPPC bits.
        config: u32,
        /// Which of them to change.
        mask: u32,
        /// OFPPF bits to advertise; 0 leaves them.
        advertise: u32,
        /// Reserved.
        pad: Pad<4>,
    }
}

wire_struct! {
    /// OFPT_PORT_STATUS.
    pub struct PortStatus {
        /// See [`reason`].
        reason: u8,
        /// Reserved.
        pad: Pad<7>,
        /// The port.
        desc: PhyPort,
    }
}
