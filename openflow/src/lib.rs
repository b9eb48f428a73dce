//! OpenFlow 1.0 and 1.3: messages, framing, sessions and flow tables, without any I/O and without a
//! clock.
//!
//! - [`of10`], [`of13`]: every message as a plain value, `decode` and `encode`, with views for the
//!   hot path. What was read is written back byte for byte, reserved bytes included.
//! - [`framing`]: a stream into messages. [`header`]: what all versions share.
//! - [`session`]: HELLO, keeping alive, messages in several parts; [`session::switch`]: what every
//!   switch answers.
//! - [`table`]: flow tables and pipelines; [`table::mod_handlers`]: applies FLOW_MODs to them and
//!   answers statistics requests about flows.
//! - [`switch`]: a whole switch except its I/O and its clock.

pub mod error;
pub mod framing;
pub mod header;
mod message_enum;
pub mod of10;
pub mod of13;
pub mod session;
pub mod switch;
pub mod table;
pub mod wire;

/// A message that a switch reported, as far as it could be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<M> {
    /// Transaction id.
    pub xid: u32,
    /// The message.
    pub message: M,
    /// The members of its list (flows, ports, counters) that could not be read: the first one's
    /// error, and their number.
    pub lost: Option<(error::DecodeError, usize)>,
}

/// A message of either version, by its version byte.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnyMessage {
    /// OpenFlow 1.0.
    V10(of10::Message),
    /// OpenFlow 1.3.
    V13(of13::Message),
}

impl AnyMessage {
    /// Reads one whole message, header included.
    ///
    /// # Errors
    /// When its version is neither, or it is no valid message of that version.
    pub fn decode(message: &[u8]) -> Result<(u32, AnyMessage), error::DecodeError> {
        let (header, r) = header::split(message)?;
        match header.version {
            header::V10 => of10::Message::decode(message).map(|(xid, m)| (xid, AnyMessage::V10(m))),
            header::V13 => of13::Message::decode(message).map(|(xid, m)| (xid, AnyMessage::V13(m))),
            version => Err(header::wrong_version(&r, version)),
        }
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// When it is longer than 65535 bytes; `out` is then as it was.
    pub fn encode(&self, xid: u32, out: &mut Vec<u8>) -> Result<(), error::EncodeError> {
        match self {
            AnyMessage::V10(m) => m.encode(xid, out),
            AnyMessage::V13(m) => m.encode(xid, out),
        }
    }

    /// Its name in Rust, e.g. `FlowMod`.
    pub fn name(&self) -> &'static str {
        match self {
            AnyMessage::V10(m) => m.name(),
            AnyMessage::V13(m) => m.name(),
        }
    }
}

/// `TYPE/CODE`, with numbers for what has no name.
fn error_text(kind: Option<&&str>, code: Option<&&str>, kind_number: u16, code_number: u16) -> String {
    let kind = kind.map_or_else(|| format!("type {kind_number}"), |k| (*k).to_owned());
    let code = code.map_or_else(|| format!("code {code_number}"), |c| (*c).to_owned());
    format!("{kind}/{code}")
}
