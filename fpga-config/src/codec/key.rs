//! What the card sees of a packet: 248 bits in 8 words, and the bits of them that a row looks at.
//!
//! Fields that a packet does not have are zero, except that a packet without a VLAN tag has 0xffff.
//! The card knows tags of type 0x8100 only. It looks at no fragment offset: of a later fragment it
//! takes the first bytes behind the IP header for ports. It knows no LLC/SNAP: the length of an
//! 802.3 frame is its type. Of an ARP opcode it keeps the low 8 bits. It does not look at the
//! hardware addresses in ARP, at IPv6, or at a second tag. An IPv4 header length below 5 makes a
//! key of zeros ([`Key::of_short_header`]).

use super::carried::Carried;
use crate::profile::FaultKey;
use std::fmt;

/// Words of a key or mask.
pub const WORDS: usize = 8;

/// A field of the key: its first bit and its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Least significant bit.
    pub bit: u32,
    /// Width in bits.
    pub width: u32,
}

impl Field {
    /// TCP or UDP destination port, ICMP code.
    pub const TP_DST: Field = Field { bit: 0, width: 16 };
    /// TCP or UDP source port, ICMP type.
    pub const TP_SRC: Field = Field { bit: 16, width: 16 };
    /// IP protocol, low 8 bits of the ARP opcode.
    pub const IP_PROTO: Field = Field { bit: 32, width: 8 };
    /// IPv4 destination, ARP target.
    pub const IP_DST: Field = Field { bit: 40, width: 32 };
    /// IPv4 source, ARP sender.
    pub const IP_SRC: Field = Field { bit: 72, width: 32 };
    /// Ethernet type, behind a VLAN tag.
    pub const ETH_TYPE: Field = Field { bit: 104, width: 16 };
    /// Ethernet destination, its first byte the most significant.
    pub const ETH_DST: Field = Field { bit: 120, width: 48 };
    /// Ethernet source.
    pub const ETH_SRC: Field = Field { bit: 168, width: 48 };
    /// The queue it came from: 2n is port n, 2n+1 CPU port n.
    pub const SOURCE: Field = Field { bit: 216, width: 8 };
    /// Type of service, its low 2 bits 0.
    pub const IP_TOS: Field = Field { bit: 224, width: 8 };
    /// VLAN priority in bits 15:13, bit 12 zero, id in 11:0; 0xffff without a tag.
    pub const VLAN: Field = Field { bit: 232, width: 16 };
    /// Exact entries only: there is one.
    pub const VALID: Field = Field { bit: 255, width: 1 };

    /// All fields that packets have, with their names.
    pub const ALL: [(&'static str, Field); 11] = [
        ("tp_dst", Field::TP_DST),
        ("tp_src", Field::TP_SRC),
        ("ip_proto", Field::IP_PROTO),
        ("ip_dst", Field::IP_DST),
        ("ip_src", Field::IP_SRC),
        ("eth_type", Field::ETH_TYPE),
        ("eth_dst", Field::ETH_DST),
        ("eth_src", Field::ETH_SRC),
        ("source", Field::SOURCE),
        ("ip_tos", Field::IP_TOS),
        ("vlan", Field::VLAN),
    ];

    /// All bits of the field.
    pub const fn full(self) -> u64 {
        (1 << self.width) - 1
    }

    /// Its value in words.
    pub(super) fn get(self, words: &[u32]) -> u64 {
        let (at, shift) = ((self.bit / 32) as usize, self.bit % 32);
        let word = |n: usize| u128::from(words.get(at + n).copied().unwrap_or(0)) << (32 * n);
        ((word(0) | word(1) | word(2)) >> shift) as u64 & self.full()
    }

    /// Puts a value into words; bits beyond the width are not looked at.
    pub(super) fn set(self, words: &mut [u32], value: u64) {
        let (at, shift) = ((self.bit / 32) as usize, self.bit % 32);
        let (value, mask) = (u128::from(value & self.full()) << shift, u128::from(self.full()) << shift);
        for (n, word) in words.iter_mut().skip(at).take(3).enumerate() {
            *word = *word & !((mask >> (32 * n)) as u32) | (value >> (32 * n)) as u32;
        }
    }
}

/// The lowest Ethernet type; what is below is the length of an 802.3 frame (IEEE 802.3 section
/// 3.2.6).
pub const FIRST_TYPE: u16 = 0x0600;
/// VLAN field of a packet without a tag.
pub const UNTAGGED: u16 = 0xffff;
/// The source that no packet has: a row with it is deleted.
pub const NO_SOURCE: u8 = 0xff;
/// How ARP for IPv4 over Ethernet begins (RFC 826): hardware and protocol, their addresses'
/// lengths, and the upper half of the opcode.
const ARP: u64 = u64::from_be_bytes([0, 0, 1, 0x08, 0x00, 6, 4, 0]);
/// The highest bit that rows compare: words 7 hold 24 bits.
const TOP: u32 = 0x00ff_ffff;

/// What the card sees of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key(pub [u32; WORDS]);

/// Which bits of a key are not looked at: 1 = don't care.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mask(pub [u32; WORDS]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        for byte in self.bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({:08x?})", self.0)
    }
}

impl Key {
    /// A field.
    pub fn get(&self, field: Field) -> u64 {
        field.get(&self.0)
    }

    /// Sets a field; bits beyond its width are not looked at.
    pub fn set(&mut self, field: Field, value: u64) {
        field.set(&mut self.0, value);
    }

    /// The queue it came from.
    pub fn source(&self) -> u8 {
        self.get(Field::SOURCE) as u8
    }

    /// As it lies in memory, least significant byte first.
    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes as they lie in memory.
    pub fn of_bytes(bytes: &[u8; 32]) -> Key {
        let mut key = Key::default();
        for (word, from) in key.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = from.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
        }
        key
    }

    /// The key that no packet has: written to a row, it deletes it.
    pub fn impossible() -> Key {
        let mut key = Key::default();
        key.set(Field::SOURCE, NO_SOURCE.into());
        key
    }

    /// The key that the card makes of an IPv4 frame with a header length below 5, wherever it came
    /// from and whatever else is in it: that of an untagged frame from queue 0 with zero in all
    /// other fields.
    pub fn of_short_header() -> Key {
        let mut key = Key::default();
        key.set(Field::VLAN, UNTAGGED.into());
        key
    }

    /// The key that a fault of the bitfile makes.
    pub fn of_fault(fault: FaultKey) -> Key {
        let mut key = Key::default();
        key.set(Field::SOURCE, fault.source.into());
        key.set(Field::VLAN, fault.vlan.into());
        key
    }

    /// The key of a frame from a queue, as the card's header parser reads it. Never fails: what is
    /// cut off is zero.
    pub fn of_frame(frame: &[u8], source: u8) -> Key {
        Key::read(frame, source).0
    }

    /// The key of a frame from a queue, and whether it is the frame's own.
    pub fn read(frame: &[u8], source: u8) -> (Key, Header) {
        let carried = Carried::of(frame);
        let number = |at: usize, bytes: usize| carried.number(at, bytes);
        let mut key = Key::default();
        key.set(Field::SOURCE, source.into());
        key.set(Field::ETH_DST, number(0, 6));
        key.set(Field::ETH_SRC, number(6, 6));
        key.set(Field::VLAN, carried.tag().map_or(UNTAGGED, |tag| tag & 0xefff).into());
        let kind = number(12, 2);
        key.set(Field::ETH_TYPE, kind);
        // The word in which the parser finds the last field, and where header and fields end.
        let (mut last, mut end, mut right) = (4, 14, true);
        match kind {
            0x0800 => {
                let (protocol, length) = (number(23, 1), usize::from(carried.byte(14) & 0xf));
                if length < 5 {
                    return (Key::of_short_header(), Header::Short);
                }
                key.set(Field::IP_TOS, number(15, 1) & 0xfc);
                key.set(Field::IP_PROTO, protocol);
                key.set(Field::IP_SRC, number(26, 4));
                key.set(Field::IP_DST, number(30, 4));
                let transport = 14 + 4 * length;
                (end, right) = (transport, carried.byte(14) >> 4 == 4);
                let bytes = match protocol {
                    6 | 17 => 2,
                    1 => 1,
                    _ => 0,
                };
                if bytes > 0 {
                    (last, end) = (length / 2 + 2, transport + 2 * bytes);
                    key.set(Field::TP_SRC, number(transport, bytes));
                    key.set(Field::TP_DST, number(transport + bytes, bytes));
                }
            }
            0x0806 => {
                // Hardware, protocol, their address lengths, and the upper half of the opcode.
                (last, end, right) = (5, 42, number(14, 7) == ARP);
                key.set(Field::IP_PROTO, number(21, 1));
                key.set(Field::IP_SRC, number(28, 4));
                key.set(Field::IP_DST, number(38, 4));
            }
            _ => {}
        }
        let whole = right && end <= carried.len() && last < carried.words_with_rest();
        (key, if whole { Header::Whole } else { Header::Broken })
    }
}

/// Whether a key is that of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is.
    Whole,
    /// It is that of other fields than a flow table would find, or of more: the frame ends before
    /// its headers do, or is IPv4 of another version, or ARP of other hardware or with an opcode
    /// above 255. Where it ends early the card may go on in the frame behind it (a fault of the
    /// bitfile).
    Broken,
    /// An IPv4 header length below 5: it is [`Key::of_short_header`] (a fault of the bitfile).
    Short,
}

impl Mask {
    /// Looks at every bit.
    pub const EXACT: Mask = Mask([0; WORDS]);

    /// Looks at nothing.
    pub const ANY: Mask = Mask([u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, TOP]);

    /// The bits of a field that are not looked at.
    pub fn get(&self, field: Field) -> u64 {
        field.get(&self.0)
    }

    /// Sets the bits of a field that are not looked at.
    pub fn set(&mut self, field: Field, value: u64) {
        field.set(&mut self.0, value);
    }
}

/// What a row matches: a key, of which the masked bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// Wanted bits.
    pub key: Key,
    /// Those that are not looked at.
    pub mask: Mask,
}

impl Pattern {
    /// Every packet.
    pub const ANY: Pattern = Pattern { key: Key([0; WORDS]), mask: Mask::ANY };

    /// This key alone.
    pub fn exactly(key: Key) -> Pattern {
        Pattern { key, mask: Mask::EXACT }
    }

    /// Looks at these bits of a field (1 = look).
    pub fn put(&mut self, field: Field, value: u64, look: u64) {
        let look = look & field.full();
        let old = self.mask.get(field);
        self.mask.set(field, old & !look);
        let kept = self.key.get(field) & !look;
        self.key.set(field, kept | value & look);
    }

    /// With these bits of a field looked at.
    #[must_use]
    pub fn with(mut self, field: Field, value: u64, look: u64) -> Pattern {
        self.put(field, value, look);
        self
    }

    /// True when a packet's key matches.
    pub fn matches(&self, key: &Key) -> bool {
        (0..WORDS).all(|n| (self.key.0[n] ^ key.0[n]) & !self.mask.0[n] & if n == 7 { TOP } else { !0 } == 0)
    }

    /// True when some key matches both.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        (0..WORDS).all(|n| {
            let looked = !(self.mask.0[n] | other.mask.0[n]);
            (self.key.0[n] ^ other.key.0[n]) & looked & if n == 7 { TOP } else { !0 } == 0
        })
    }

    /// True when every key that matches `other` matches this.
    pub fn covers(&self, other: &Pattern) -> bool {
        (0..WORDS).all(|n| {
            let looked = !self.mask.0[n] & if n == 7 { TOP } else { !0 };
            other.mask.0[n] & looked == 0 && (self.key.0[n] ^ other.key.0[n]) & looked == 0
        })
    }
}
