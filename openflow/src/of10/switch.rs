//! OFPT_FEATURES_REPLY (section 5.3.1), OFPT_GET_CONFIG_REPLY and OFPT_SET_CONFIG (5.3.2),
//! OFPT_ERROR (5.4.4), OFPT_VENDOR (5.5.4).

use super::PhyPort;
use crate::wire::{Bytes, Pad, wire_struct};
use tandem_model::Dpid;

wire_struct! {
    /// OFPT_FEATURES_REPLY.
    pub struct FeaturesReply {
        /// The switch's id.
        datapath_id: Dpid,
        /// Packets it can keep.
        n_buffers: u32,
        /// Flow tables.
        n_tables: u8,
        /// Reserved.
        pad: Pad<3>,
        /// OFPC bits.
        capabilities: u32,
        /// A bit per OFPAT action.
        actions: u32,
        /// Its ports.
        ports: Vec<PhyPort>,
    }
}

wire_struct! {
    /// OFPT_GET_CONFIG_REPLY and OFPT_SET_CONFIG.
    pub struct SwitchConfig {
        /// OFPC_FRAG: what happens to IP fragments.
        flags: u16,
        /// Bytes of a packet without a match that go to the controller.
        miss_send_len: u16,
    }
}

wire_struct! {
    /// OFPT_ERROR.
    pub struct ErrorMsg {
        /// OFPET type.
        kind: u16,
        /// Code, by type.
        code: u16,
        /// At least 64 bytes of the message it is about; text for HELLO_FAILED.
        data: Bytes,
    }
}

wire_struct! {
    /// OFPT_VENDOR.
    pub struct Vendor {
        /// The vendor's number.
        vendor: u32,
        /// Everything after it.
        body: Bytes,
    }
}

/// The name of an error, e.g. `BAD_REQUEST/BAD_LEN`; numbers for what the specification does not
/// know.
pub fn error_name(kind: u16, code: u16) -> String {
    const TYPES: [&str; 6] = [
        "HELLO_FAILED",
        "BAD_REQUEST",
        "BAD_ACTION",
        "FLOW_MOD_FAILED",
        "PORT_MOD_FAILED",
        "QUEUE_OP_FAILED",
    ];
    let codes: &[&str] = match kind {
        0 => &["INCOMPATIBLE", "EPERM"],
        1 => &[
            "BAD_VERSION",
            "BAD_TYPE",
            "BAD_STAT",
            "BAD_VENDOR",
            "BAD_SUBTYPE",
            "EPERM",
            "BAD_LEN",
            "BUFFER_EMPTY",
            "BUFFER_UNKNOWN",
        ],
        2 => &[
            "BAD_TYPE",
            "BAD_LEN",
            "BAD_VENDOR",
            "BAD_VENDOR_TYPE",
            "BAD_OUT_PORT",
            "BAD_ARGUMENT",
            "EPERM",
            "TOO_MANY",
            "BAD_QUEUE",
        ],
        3 => &["ALL_TABLES_FULL", "OVERLAP", "EPERM", "BAD_EMERG_TIMEOUT", "BAD_COMMAND", "UNSUPPORTED"],
        4 => &["BAD_PORT", "BAD_HW_ADDR"],
        5 => &["BAD_PORT", "BAD_QUEUE", "EPERM"],
        _ => &[],
    };
    crate::error_text(TYPES.get(usize::from(kind)), codes.get(usize::from(code)), kind, code)
}
