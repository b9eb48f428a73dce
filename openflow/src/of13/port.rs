//! Ports (section 7.2.1), OFPT_PORT_MOD (7.3.4.3) and OFPT_PORT_STATUS (7.4.3).

use crate::wire::{Pad, Text, wire_struct};
use tandem_model::Mac;

/// The highest number of a physical port.
pub const MAX: u32 = 0xffff_ff00;
/// The port the packet came in by.
pub const IN_PORT: u32 = 0xffff_fff8;
/// Through the first flow table again (packet-out only).
pub const TABLE: u32 = 0xffff_fff9;
/// As a non-OpenFlow switch would.
pub const NORMAL: u32 = 0xffff_fffa;
/// All ports but the one it came in by and those that are blocked.
pub const FLOOD: u32 = 0xffff_fffb;
/// All ports but the one it came in by.
pub const ALL: u32 = 0xffff_fffc;
/// The controller.
pub const CONTROLLER: u32 = 0xffff_fffd;
/// The switch itself.
pub const LOCAL: u32 = 0xffff_fffe;
/// No port in particular.
pub const ANY: u32 = 0xffff_ffff;

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
    /// ofp_port, 64 bytes.
    pub struct Port {
        /// Number.
        port_no: u32,
        /// Reserved.
        pad: Pad<4>,
        /// Ethernet address.
        hw_addr: Mac,
        /// Reserved.
        pad2: Pad<2>,
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
        /// Bit rate now, in kbit/s.
        curr_speed: u32,
        /// Highest bit rate, in kbit/s.
        max_speed: u32,
    }
}

wire_struct! {
    /// OFPT_PORT_MOD, 32 bytes after the header.
    pub struct PortMod {
        /// Which port.
        port_no: u32,
        /// Reserved.
        pad: Pad<4>,
        /// Its Ethernet address, for safety.
        hw_addr: Mac,
        /// Reserved.
        pad2: Pad<2>,
        /// OFPPC bits.
        config: u32,
        /// Which of them to change.
        mask: u32,
        /// OFPPF bits to advertise; 0 leaves them.
        advertise: u32,
        /// Reserved.
        pad3: Pad<4>,
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
        desc: Port,
    }
}
