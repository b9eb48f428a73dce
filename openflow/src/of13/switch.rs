//! Messages about the switch as a whole: OFPT_HELLO (section 7.5.1), OFPT_ERROR (7.5.4),
//! OFPT_EXPERIMENTER (7.5.5), OFPT_FEATURES_REPLY (7.3.1), the configuration (7.3.2),
//! OFPT_TABLE_MOD (7.3.3), roles (7.3.9) and OFPT_SET_ASYNC (7.3.10).

use crate::error::{DecodeError, DecodeErrorKind};
use crate::wire::{Bytes, Pad, Reader, Wire, wire_struct, with_length};
use serde::Serialize;
use tandem_model::Dpid;

wire_struct! {
    /// OFPT_HELLO.
    pub struct Hello {
        /// Properties of the sender.
        elements: Vec<HelloElement>,
    }
}

/// ofp_hello_elem_header and its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HelloElement {
    /// OFPHET_VERSIONBITMAP: bit n of word n / 32 says that the sender speaks version n.
    VersionBitmap(Vec<u32>),
    /// An element of another type, which a receiver has to ignore (section 7.5.1).
    Other {
        /// Its type.
        kind: u16,
        /// Its body.
        body: Bytes,
    },
}

impl Wire for HelloElement {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, length) = (r.peek16(0)?, usize::from(r.peek16(2)?));
        if length < 4 {
            return Err(r.error(DecodeErrorKind::Length { length }));
        }
        let mut e = r.sub(length)?;
        r.skip_padding(length)?;
        e.take(4)?;
        // A bitmap that is not a sequence of whole words is kept as an unknown element.
        if kind == 1 && length % 4 == 0 {
            Ok(HelloElement::VersionBitmap(e.all()?))
        } else {
            Ok(HelloElement::Other { kind, body: e.get()? })
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        with_length(out, 2, |out| match self {
            HelloElement::VersionBitmap(words) => {
                1u16.write(out);
                0u16.write(out);
                words.write(out);
            }
            HelloElement::Other { kind, body } => {
                kind.write(out);
                0u16.write(out);
                body.write(out);
            }
        });
        crate::wire::pad_to_eight(out, start);
    }
}

wire_struct! {
    /// OFPT_ERROR; type 0xffff has the experimenter's number at the start of `data`.
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
    /// OFPT_EXPERIMENTER.
    pub struct Experimenter {
        /// The experimenter's number.
        experimenter: u32,
        /// Its own type.
        exp_type: u32,
        /// Everything after it.
        body: Bytes,
    }
}

wire_struct! {
    /// OFPT_FEATURES_REPLY.
    pub struct FeaturesReply {
        /// The switch's id.
        datapath_id: Dpid,
        /// Packets it can keep.
        n_buffers: u32,
        /// Flow tables.
        n_tables: u8,
        /// 0 for the main connection.
        auxiliary_id: u8,
        /// Reserved.
        pad: Pad<2>,
        /// OFPC bits.
        capabilities: u32,
        /// Reserved.
        reserved: u32,
    }
}

wire_struct! {
    /// OFPT_GET_CONFIG_REPLY and OFPT_SET_CONFIG.
    pub struct SwitchConfig {
        /// OFPC_FRAG: what happens to IP fragments.
        flags: u16,
        /// Bytes of a packet that go to the controller; 0xffff for all, without a buffer.
        miss_send_len: u16,
    }
}

wire_struct! {
    /// OFPT_TABLE_MOD.
    pub struct TableMod {
        /// Which table; 0xff for all.
        table_id: u8,
        /// Reserved.
        pad: Pad<3>,
        /// OFPTC bits; none is in use.
        config: u32,
    }
}

/// OFPCR roles.
pub mod role {
    /// Report the role without changing it.
    pub const NOCHANGE: u32 = 0;
    /// Full access; other controllers may have it too.
    pub const EQUAL: u32 = 1;
    /// Full access; at most one controller has this role.
    pub const MASTER: u32 = 2;
    /// Read-only access.
    pub const SLAVE: u32 = 3;
}

wire_struct! {
    /// OFPT_ROLE_REQUEST and OFPT_ROLE_REPLY.
    pub struct Role {
        /// See [`role`].
        role: u32,
        /// Reserved.
        pad: Pad<4>,
        /// Number of the master election that the request belongs to (section 6.3.5).
        generation_id: u64,
    }
}

wire_struct! {
    /// OFPT_GET_ASYNC_REPLY and OFPT_SET_ASYNC: a bit per reason, for each kind of message and
    /// role.
    pub struct AsyncConfig {
        /// OFPT_PACKET_IN, as master or equal.
        packet_in_master: u32,
        /// OFPT_PACKET_IN, as slave.
        packet_in_slave: u32,
        /// OFPT_PORT_STATUS, as master or equal.
        port_status_master: u32,
        /// OFPT_PORT_STATUS, as slave.
        port_status_slave: u32,
        /// OFPT_FLOW_REMOVED, as master or equal.
        flow_removed_master: u32,
        /// OFPT_FLOW_REMOVED, as slave.
        flow_removed_slave: u32,
    }
}

const ERROR_TYPES: [&str; 14] = [
    "HELLO_FAILED",
    "BAD_REQUEST",
    "BAD_ACTION",
    "BAD_INSTRUCTION",
    "BAD_MATCH",
    "FLOW_MOD_FAILED",
    "GROUP_MOD_FAILED",
    "PORT_MOD_FAILED",
    "TABLE_MOD_FAILED",
    "QUEUE_OP_FAILED",
    "SWITCH_CONFIG_FAILED",
    "ROLE_REQUEST_FAILED",
    "METER_MOD_FAILED",
    "TABLE_FEATURES_FAILED",
];

#[rustfmt::skip]
const ERROR_CODES: [&[&str]; 14] = [
    &["INCOMPATIBLE", "EPERM"],
    &["BAD_VERSION", "BAD_TYPE", "BAD_MULTIPART", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "EPERM", "BAD_LEN", "BUFFER_EMPTY",
      "BUFFER_UNKNOWN", "BAD_TABLE_ID", "IS_SLAVE", "BAD_PORT", "BAD_PACKET", "MULTIPART_BUFFER_OVERFLOW"],
    &["BAD_TYPE", "BAD_LEN", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_OUT_PORT", "BAD_ARGUMENT", "EPERM", "TOO_MANY",
      "BAD_QUEUE", "BAD_OUT_GROUP", "MATCH_INCONSISTENT", "UNSUPPORTED_ORDER", "BAD_TAG", "BAD_SET_TYPE", "BAD_SET_LEN",
      "BAD_SET_ARGUMENT"],
    &["UNKNOWN_INST", "UNSUP_INST", "BAD_TABLE_ID", "UNSUP_METADATA", "UNSUP_METADATA_MASK", "BAD_EXPERIMENTER",
      "BAD_EXP_TYPE", "BAD_LEN", "EPERM"],
    &["BAD_TYPE", "BAD_LEN", "BAD_TAG", "BAD_DL_ADDR_MASK", "BAD_NW_ADDR_MASK", "BAD_WILDCARDS", "BAD_FIELD", "BAD_VALUE",
      "BAD_MASK", "BAD_PREREQ", "DUP_FIELD", "EPERM"],
    &["UNKNOWN", "TABLE_FULL", "BAD_TABLE_ID", "OVERLAP", "EPERM", "BAD_TIMEOUT", "BAD_COMMAND", "BAD_FLAGS"],
    &["GROUP_EXISTS", "INVALID_GROUP", "WEIGHT_UNSUPPORTED", "OUT_OF_GROUPS", "OUT_OF_BUCKETS", "CHAINING_UNSUPPORTED",
      "WATCH_UNSUPPORTED", "LOOP", "UNKNOWN_GROUP", "CHAINED_GROUP", "BAD_TYPE", "BAD_COMMAND", "BAD_BUCKET", "BAD_WATCH",
      "EPERM"],
    &["BAD_PORT", "BAD_HW_ADDR", "BAD_CONFIG", "BAD_ADVERTISE", "EPERM"],
    &["BAD_TABLE", "BAD_CONFIG", "EPERM"],
    &["BAD_PORT", "BAD_QUEUE", "EPERM"],
    &["BAD_FLAGS", "BAD_LEN", "EPERM"],
    &["STALE", "UNSUP", "BAD_ROLE"],
    &["UNKNOWN", "METER_EXISTS", "INVALID_METER", "UNKNOWN_METER", "BAD_COMMAND", "BAD_FLAGS", "BAD_RATE", "BAD_BURST",
      "BAD_BAND", "BAD_BAND_VALUE", "OUT_OF_METERS", "OUT_OF_BANDS"],
    &["BAD_TABLE", "BAD_METADATA", "BAD_TYPE", "BAD_LEN", "BAD_ARGUMENT", "EPERM"],
];

/// The name of an error, e.g. `BAD_REQUEST/BAD_LEN`; numbers for what the specification does not
/// know.
pub fn error_name(kind: u16, code: u16) -> String {
    if kind == 0xffff {
        return format!("EXPERIMENTER/type {code}");
    }
    let at = usize::from(kind);
    let name = ERROR_CODES.get(at).and_then(|codes| codes.get(usize::from(code)));
    crate::error_text(ERROR_TYPES.get(at), name, kind, code)
}
