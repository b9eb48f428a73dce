//! The header that every message of every version starts with (OF 1.0 section 5.1, OF 1.3.5 section
//! 7.1.1).

use crate::error::{DecodeError, DecodeErrorKind, EncodeError, OfErrorCode};
use crate::wire::{Reader, Strictness, Wire, wire_struct};

/// Version byte of OpenFlow 1.0.
pub const V10: u8 = 0x01;
/// Version byte of OpenFlow 1.3.
pub const V13: u8 = 0x04;
/// Length of the header in bytes.
pub const LEN: usize = 8;

wire_struct! {
    /// The header.
    pub struct Header {
        /// Version byte.
        version: u8,
        /// Message type, by version.
        kind: u8,
        /// Length of the whole message in bytes, header included.
        length: u16,
        /// Transaction id: a reply has that of its request.
        xid: u32,
    }
}

/// Splits one whole message into its header and a reader of its body.
///
/// # Errors
/// When it is shorter than a header, or its length is not the number of bytes.
pub fn split(message: &[u8]) -> Result<(Header, Reader<'_>), DecodeError> {
    split_as(message, Strictness::Orders)
}

/// Like [`split`], for a body that is read with this strictness.
///
/// # Errors
/// As [`split`].
pub fn split_as(message: &[u8], strictness: Strictness) -> Result<(Header, Reader<'_>), DecodeError> {
    let mut r = Reader::with_strictness(message, "header", strictness);
    let header = Header::read(&mut r)?;
    if usize::from(header.length) != message.len() {
        return Err(
            Reader::new(message, "header").error(DecodeErrorKind::Length { length: header.length.into() })
        );
    }
    Ok((header, r))
}

/// Writes a message: header, body, then the length.
///
/// # Errors
/// When it is longer than 65535 bytes; `out` is then as it was.
pub fn write(
    out: &mut Vec<u8>,
    version: u8,
    kind: u8,
    xid: u32,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[version, kind, 0, 0]);
    out.extend_from_slice(&xid.to_be_bytes());
    body(out);
    let total = out.len() - start;
    let Ok(length) = u16::try_from(total) else {
        out.truncate(start);
        return Err(EncodeError::TooLong(total));
    };
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// An error for a version byte that the decoder is not for.
pub(crate) fn wrong_version(r: &Reader<'_>, version: u8) -> DecodeError {
    r.blamed(DecodeErrorKind::Unknown { value: version.into() }, OfErrorCode::BAD_VERSION)
}
