//! OFPT_FLOW_MOD (section 5.3.3) and OFPT_FLOW_REMOVED (5.4.2).

use super::{Action, Match};
use crate::wire::{Pad, wire_struct};

/// OFPFC commands.
pub mod command {
    /// New flow; one with the same match and priority is replaced.
    pub const ADD: u16 = 0;
    /// Change the actions of all matching flows.
    pub const MODIFY: u16 = 1;
    /// Change the actions of the flow with exactly this match and priority.
    pub const MODIFY_STRICT: u16 = 2;
    /// Delete all matching flows.
    pub const DELETE: u16 = 3;
    /// Delete the flow with exactly this match and priority.
    pub const DELETE_STRICT: u16 = 4;
}

/// OFPFF bits.
pub mod flag {
    /// Send OFPT_FLOW_REMOVED when the flow goes.
    pub const SEND_FLOW_REM: u16 = 1;
    /// Refuse if it overlaps a flow of the same priority.
    pub const CHECK_OVERLAP: u16 = 1 << 1;
    /// Only while the switch has no controller.
    pub const EMERG: u16 = 1 << 2;
}

/// buffer_id that means no buffered packet.
pub const NO_BUFFER: u32 = 0xffff_ffff;

wire_struct! {
    /// OFPT_FLOW_MOD, 64 bytes and actions after the header.
    pub struct FlowMod {
        /// What it matches.
        matching: Match,
        /// Free for the controller's use.
        cookie: u64,
        /// See [`command`]; others are refused when the message is carried out, not when it is
        /// read.
        command: u16,
        /// Seconds without a packet until it goes; 0 for never.
        idle_timeout: u16,
        /// Seconds until it goes; 0 for never.
        hard_timeout: u16,
        /// Higher wins; flows without wildcards win always.
        priority: u16,
        /// Packet to apply it to, or [`NO_BUFFER`].
        buffer_id: u32,
        /// For deletions: only flows that send to this port; OFPP_NONE for all.
        out_port: u16,
        /// See [`flag`].
        flags: u16,
        /// Actions; none is a drop.
        actions: Vec<Action>,
    }
}

wire_struct! {
    /// OFPT_FLOW_REMOVED.
    pub struct FlowRemoved {
        /// What it matched.
        matching: Match,
        /// Cookie that the controller gave the flow.
        cookie: u64,
        /// Its priority.
        priority: u16,
        /// 0 idle time-out, 1 hard time-out, 2 deleted.
        reason: u8,
        /// Reserved.
        pad: Pad<1>,
        /// Lifetime in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
        /// Its idle time-out.
        idle_timeout: u16,
        /// Reserved.
        pad2: Pad<2>,
        /// Packets it matched.
        packet_count: u64,
        /// Bytes in them.
        byte_count: u64,
    }
}
