//! A frame in the card's data path: in words of 8 bytes, with its outer VLAN tag removed and sent
//! ahead.
//!
//! Removing the tag moves everything behind it up by 4 bytes, and a constant is appended, so that
//! the number of words is unchanged. If the frame then ends a word earlier, the last word is left
//! over and follows the frame's end. In a frame without a tag, the bytes of the last word behind
//! the frame's end are zero.

/// The Ethernet type of the only tag that the card recognises.
pub(crate) const TAG: u16 = 0x8100;

/// The bytes appended to a frame whose tag was removed.
const FILLING: [u8; 4] = [0x60, 0x0d, 0xf0, 0x0d];

/// A frame without its outer tag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried<'a> {
    frame: &'a [u8],
    tag: Option<u16>,
}

impl<'a> Carried<'a> {
    /// The frame (without FCS) as the card carries it.
    pub(crate) fn of(frame: &'a [u8]) -> Carried<'a> {
        let tag = match frame.get(12..16) {
            Some([0x81, 0x00, high, low]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        };
        Carried { frame, tag }
    }

    /// The outer tag: priority, bit 12 and id.
    pub(crate) const fn tag(&self) -> Option<u16> {
        self.tag
    }

    /// Bytes without the tag.
    pub(crate) const fn len(&self) -> usize {
        if self.tag.is_some() { self.frame.len() - 4 } else { self.frame.len() }
    }

    /// Words of the frame, without one that is left over.
    pub(crate) const fn words(&self) -> usize {
        self.len().div_ceil(8)
    }

    /// Words in which the header parser may look for fields, with the one that is left over.
    pub(crate) const fn words_with_rest(&self) -> usize {
        self.frame.len().div_ceil(8)
    }

    /// Whether a word is left over behind the end.
    pub(crate) const fn leaves_rest(&self) -> bool {
        self.words() < self.words_with_rest()
    }

    /// A byte; zero behind the last word.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        if self.tag.is_none() || at < 12 {
            return self.frame.get(at).copied().unwrap_or(0);
        }
        let at = at + 4;
        match at.checked_sub(8 * self.words_with_rest()) {
            None => self.frame.get(at).copied().unwrap_or(0),
            Some(behind) => FILLING.get(behind).copied().unwrap_or(0),
        }
    }

    /// Up to 8 bytes as a big-endian number.
    pub(crate) fn number(&self, at: usize, bytes: usize) -> u64 {
        let place =
            if self.tag.is_none() || at + bytes <= 12 { Some(at) } else { (at >= 12).then_some(at + 4) };
        match place.and_then(|place| self.frame.get(place..place + bytes)) {
            Some(inside) => inside.iter().fold(0, |n, b| n << 8 | u64::from(*b)),
            None => (at..at + bytes).fold(0, |n, i| n << 8 | u64::from(self.byte(i))),
        }
    }
}
