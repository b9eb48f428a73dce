//! Errors of the codec, each with the OpenFlow error that answers it.

/// The OpenFlow error type and code to answer a bad message with (OF 1.0 section 5.4.4, OF 1.3.5
/// section 7.5.4).
///
/// The constants have the same numbers in both versions where their comment names none; where a
/// version differs, its module has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct OfErrorCode {
    /// Error type.
    pub kind: u16,
    /// Error code.
    pub code: u16,
}

impl OfErrorCode {
    /// OFPET_BAD_REQUEST, OFPBRC_BAD_VERSION.
    pub const BAD_VERSION: OfErrorCode = OfErrorCode { kind: 1, code: 0 };
    /// OFPET_BAD_REQUEST, OFPBRC_BAD_TYPE.
    pub const BAD_TYPE: OfErrorCode = OfErrorCode { kind: 1, code: 1 };
    /// OFPET_BAD_REQUEST, OFPBRC_BAD_STAT (1.3: BAD_MULTIPART).
    pub const BAD_STAT: OfErrorCode = OfErrorCode { kind: 1, code: 2 };
    /// OFPET_BAD_REQUEST, OFPBRC_BAD_LEN.
    pub const BAD_LEN: OfErrorCode = OfErrorCode { kind: 1, code: 6 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_TYPE.
    pub const BAD_ACTION_TYPE: OfErrorCode = OfErrorCode { kind: 2, code: 0 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_LEN.
    pub const BAD_ACTION_LEN: OfErrorCode = OfErrorCode { kind: 2, code: 1 };
    /// OFPET_BAD_REQUEST, OFPBRC_BAD_TABLE_ID (1.3).
    pub const BAD_REQUEST_TABLE: OfErrorCode = OfErrorCode { kind: 1, code: 9 };
    /// OFPET_BAD_REQUEST, OFPBRC_MULTIPART_BUFFER_OVERFLOW (1.3).
    pub const MULTIPART_OVERFLOW: OfErrorCode = OfErrorCode { kind: 1, code: 13 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_EXPERIMENTER (1.0: BAD_VENDOR).
    pub const BAD_ACTION_EXPERIMENTER: OfErrorCode = OfErrorCode { kind: 2, code: 2 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_OUT_PORT.
    pub const BAD_OUT_PORT: OfErrorCode = OfErrorCode { kind: 2, code: 4 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_ARGUMENT.
    pub const BAD_ACTION_ARGUMENT: OfErrorCode = OfErrorCode { kind: 2, code: 5 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_OUT_GROUP (1.3).
    pub const BAD_OUT_GROUP: OfErrorCode = OfErrorCode { kind: 2, code: 9 };
    /// OFPET_BAD_ACTION, OFPBAC_MATCH_INCONSISTENT (1.3).
    pub const MATCH_INCONSISTENT: OfErrorCode = OfErrorCode { kind: 2, code: 10 };
    /// OFPET_BAD_INSTRUCTION, OFPBIC_UNSUP_INST (1.3).
    pub const UNSUPPORTED_INSTRUCTION: OfErrorCode = OfErrorCode { kind: 3, code: 1 };
    /// OFPET_BAD_INSTRUCTION, OFPBIC_BAD_TABLE_ID (1.3).
    pub const BAD_GOTO: OfErrorCode = OfErrorCode { kind: 3, code: 2 };
    /// OFPET_BAD_INSTRUCTION, OFPBIC_BAD_EXPERIMENTER (1.3).
    pub const BAD_INSTRUCTION_EXPERIMENTER: OfErrorCode = OfErrorCode { kind: 3, code: 5 };
    /// OFPET_BAD_INSTRUCTION, OFPBIC_UNKNOWN_INST (1.3).
    pub const UNKNOWN_INSTRUCTION: OfErrorCode = OfErrorCode { kind: 3, code: 0 };
    /// OFPET_BAD_INSTRUCTION, OFPBIC_BAD_LEN (1.3).
    pub const BAD_INSTRUCTION_LEN: OfErrorCode = OfErrorCode { kind: 3, code: 7 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_TYPE (1.3).
    pub const BAD_MATCH_TYPE: OfErrorCode = OfErrorCode { kind: 4, code: 0 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_LEN (1.3).
    pub const BAD_MATCH_LEN: OfErrorCode = OfErrorCode { kind: 4, code: 1 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_PREREQ (1.3).
    pub const BAD_PREREQUISITE: OfErrorCode = OfErrorCode { kind: 4, code: 9 };
    /// OFPET_BAD_MATCH, OFPBMC_DUP_FIELD (1.3).
    pub const DUPLICATE_FIELD: OfErrorCode = OfErrorCode { kind: 4, code: 10 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_WILDCARDS (1.3).
    pub const BAD_WILDCARDS: OfErrorCode = OfErrorCode { kind: 4, code: 5 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_FIELD (1.3).
    pub const BAD_FIELD: OfErrorCode = OfErrorCode { kind: 4, code: 6 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_VALUE (1.3).
    pub const BAD_MATCH_VALUE: OfErrorCode = OfErrorCode { kind: 4, code: 7 };
    /// OFPET_BAD_MATCH, OFPBMC_BAD_MASK (1.3).
    pub const BAD_MATCH_MASK: OfErrorCode = OfErrorCode { kind: 4, code: 8 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_SET_TYPE (1.3).
    pub const BAD_SET_TYPE: OfErrorCode = OfErrorCode { kind: 2, code: 13 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_SET_LEN (1.3).
    pub const BAD_SET_LEN: OfErrorCode = OfErrorCode { kind: 2, code: 14 };
    /// OFPET_BAD_ACTION, OFPBAC_BAD_SET_ARGUMENT (1.3).
    pub const BAD_SET_ARGUMENT: OfErrorCode = OfErrorCode { kind: 2, code: 15 };
    /// OFPET_GROUP_MOD_FAILED, OFPGMFC_BAD_BUCKET (1.3).
    pub const BAD_BUCKET: OfErrorCode = OfErrorCode { kind: 6, code: 12 };
    /// OFPET_METER_MOD_FAILED, OFPMMFC_BAD_BAND (1.3).
    pub const BAD_BAND: OfErrorCode = OfErrorCode { kind: 12, code: 8 };
    /// OFPET_TABLE_FEATURES_FAILED, OFPTFFC_BAD_TYPE (1.3).
    pub const BAD_TABLE_FEATURE_TYPE: OfErrorCode = OfErrorCode { kind: 13, code: 2 };
    /// OFPET_TABLE_FEATURES_FAILED, OFPTFFC_BAD_LEN (1.3).
    pub const BAD_TABLE_FEATURE_LEN: OfErrorCode = OfErrorCode { kind: 13, code: 3 };
    /// OFPET_FLOW_MOD_FAILED, OFPFMFC_BAD_COMMAND in 1.3 (1.0 has code 4).
    pub const BAD_COMMAND: OfErrorCode = OfErrorCode { kind: 5, code: 6 };
}

/// Why bytes do not decode as a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}: {problem} (answer with error type {}, code {})", .of_error.kind, .of_error.code)]
pub struct DecodeError {
    /// The part of the message that was being read.
    pub what: &'static str,
    /// Offset in bytes from the message's start.
    pub offset: usize,
    /// What is wrong with that part.
    pub problem: DecodeErrorKind,
    /// The OpenFlow error to answer with.
    pub of_error: OfErrorCode,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// It ends too early.
    #[error("{missing} bytes are missing")]
    Short {
        /// How many more would be needed.
        missing: usize,
    },
    /// Bytes are left over.
    #[error("{extra} bytes are left over")]
    Long {
        /// How many.
        extra: usize,
    },
    /// A length field does not fit the part that it describes.
    #[error("length {length} is impossible here")]
    Length {
        /// The value of the length field.
        length: usize,
    },
    /// A number that the specification does not define.
    #[error("{value} is unknown")]
    Unknown {
        /// The number.
        value: u32,
    },
    /// Padding that must be zero is not.
    #[error("padding is not zero")]
    Padding,
    /// A mask where none may be, or a value with bits outside of its mask.
    #[error("a mask is not allowed here, or the value has bits outside of it")]
    Mask,
    /// A match field that is there twice.
    #[error("match field {value} is there twice")]
    Repeated {
        /// The field's number.
        value: u32,
    },
    /// A match field without the field that it needs.
    #[error("match field {value} does not follow the fields that it needs")]
    Prerequisite {
        /// The field's number.
        value: u32,
    },
}

/// Why a message cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It is longer than its 16-bit length field can hold (OF 1.0 section 5.1).
    #[error("the message has {0} bytes; OpenFlow messages end at 65535")]
    TooLong(usize),
}
