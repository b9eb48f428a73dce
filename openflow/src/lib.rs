//! OpenFlow 1.0 and 1.3: messages, framing, sessions and flow tables, without any I/O and without a clock.
//!
//! - [`of10`], [`of13`]: every message as a plain value, `decode` and `encode`, with views for the hot path. What was read is written
//!   back byte for byte, reserved bytes included.
//! - [`framing`]: a stream into messages. [`header`]: what all versions share.

pub mod error;
pub mod framing;
pub mod header;
mod message_enum;
pub mod of10;
pub mod session;
pub mod wire;

/// `TYPE/CODE`, with numbers for what has no name.
fn error_text(kind: Option<&&str>, code: Option<&&str>, kind_number: u16, code_number: u16) -> String {
    let kind = kind.map_or_else(|| format!("type {kind_number}"), |k| (*k).to_owned());
    let code = code.map_or_else(|| format!("code {code_number}"), |c| (*c).to_owned());
    format!("{kind}/{code}")
}
