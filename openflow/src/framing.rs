//! Cuts a byte stream into messages.
//!
//! Too few bytes for a whole message is a normal result, not an error. A length below 8 is an error
//! that nothing can mend: the place where the next message starts is not known.

/// The stream cannot be cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a message of {length} bytes is impossible: the header alone has 8; the peer does not speak OpenFlow; find out what dials this port, and let only switches do so"
)]
pub struct FrameError {
    /// The value of the length field.
    pub length: u16,
}

/// One whole message, and the bytes behind it.
pub type Cut<'a> = (&'a [u8], &'a [u8]);

/// The first whole message of `bytes` and the bytes behind it; `None` until it has come completely.
///
/// # Errors
/// When its length field is below 8.
#[inline]
pub fn next(bytes: &[u8]) -> Result<Option<Cut<'_>>, FrameError> {
    let Some([_, _, high, low]) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u16::from_be_bytes([*high, *low]);
    if usize::from(length) < crate::header::LEN {
        return Err(FrameError { length });
    }
    Ok(bytes.split_at_checked(length.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_hello_is_a_message_and_a_piece_of_one_is_not_yet() {
        let hello = [1, 0, 0, 8, 0, 0, 0, 1];
        assert_eq!(next(&hello), Ok(Some((&hello[..], &[][..]))));
        for n in 0..8 {
            assert_eq!(next(&hello[..n]), Ok(None));
        }
        let two = [hello, hello].concat();
        assert_eq!(next(&two).map(|m| m.map(|(a, b)| (a.len(), b.len()))), Ok(Some((8, 8))));
        assert_eq!(next(&[1, 0, 0, 7, 0, 0, 0, 1]), Err(FrameError { length: 7 }));
    }
}
