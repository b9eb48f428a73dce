//! OFPT_FLOW_MOD (section 7.3.4.1) and OFPT_FLOW_REMOVED (7.4.2).

use super::{Instruction, Match};
use crate::wire::{Pad, wire_struct};

/// OFPFC commands.
pub mod command {
    /// New flow; one with the same match and priority is replaced.
    pub const ADD: u8 = 0;
    /// Change the instructions of all matching flows.
    pub const MODIFY: u8 = 1;
    /// Change the instructions of the flow with exactly this match and priority.
    pub const MODIFY_STRICT: u8 = 2;
    /// Delete all matching flows.
    pub const DELETE: u8 = 3;
    /// Delete the flow with exactly this match and priority.
    pub const DELETE_STRICT: u8 = 4;
}

/// OFPFF bits.
pub mod flag {
    /// Send OFPT_FLOW_REMOVED when the flow goes.
    pub const SEND_FLOW_REM: u16 = 1;
    /// Refuse if it overlaps a flow of the same priority.
    pub const CHECK_OVERLAP: u16 = 1 << 1;
    /// Start the counters anew.
    pub const RESET_COUNTS: u16 = 1 << 2;
    /// Packets need not be counted.
    pub const NO_PKT_COUNTS: u16 = 1 << 3;
    /// Bytes need not be counted.
    pub const NO_BYT_COUNTS: u16 = 1 << 4;
}

/// buffer_id that means no buffered packet.
pub const NO_BUFFER: u32 = 0xffff_ffff;

/// OFPTT_ALL: every table, for deletions.
pub const ALL_TABLES: u8 = 0xff;

wire_struct! {
    /// OFPT_FLOW_MOD.
    pub struct FlowMod {
        /// Free for the controller's use.
        cookie: u64,
        /// For changes and deletions: bits of the cookie that must be the same; 0 for any.
        cookie_mask: u64,
        /// Which table; [`ALL_TABLES`] for deletions from all.
        table_id: u8,
        /// See [`command`]; others are refused when the message is carried out, not when it is
        /// read.
        command: u8,
        /// Seconds without a packet until it goes; 0 for never.
        idle_timeout: u16,
        /// Seconds until it goes; 0 for never.
        hard_timeout: u16,
        /// Higher wins.
        priority: u16,
        /// Packet to apply it to, or [`NO_BUFFER`].
        buffer_id: u32,
        /// For deletions: only flows that send to this port; OFPP_ANY for all.
        out_port: u32,
        /// For deletions: only flows that send to this group; OFPG_ANY for all.
        out_group: u32,
        /// See [`flag`].
        flags: u16,
        /// Reserved.
        pad: Pad<2>,
        /// What it matches.
        matching: Match,
        /// What is done to matching packets; a flow without instructions drops them.
        instructions: Vec<Instruction>,
    }
}

wire_struct! {
    /// OFPT_FLOW_REMOVED.
    pub struct FlowRemoved {
        /// Cookie that the controller gave the flow.
        cookie: u64,
        /// Its priority.
        priority: u16,
        /// 0 idle time-out, 1 hard time-out, 2 deleted, 3 its group was deleted.
        reason: u8,
        /// Its table.
        table_id: u8,
        /// Lifetime in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
        /// Its idle time-out.
        idle_timeout: u16,
        /// Its hard time-out.
        hard_timeout: u16,
        /// Packets it matched.
        packet_count: u64,
        /// Bytes in them.
        byte_count: u64,
        /// What it matched.
        matching: Match,
    }
}
