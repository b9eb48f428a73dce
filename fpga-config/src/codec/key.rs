//! The key that the card makes of a packet: 248 bits in 8 words, and the bits of it that a row
//! compares.
//!
//! Fields that a packet does not have are zero, except that a packet without a VLAN tag has 0xffff.
//! The card recognises only tags of type 0x8100. It ignores the fragment offset: in a later
//! fragment it takes the first bytes behind the IP header as ports. It does not recognise LLC/SNAP:
//! it takes the length of an 802.3 frame as its type. Of an ARP opcode it keeps the low 8 bits. It
//! ignores the hardware addresses in ARP, IPv6, and a second tag. For an IPv4 header length below 5
//! it makes a key of zeros ([`Key::of_short_header`]).

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
    /// The valid bit, in exact entries only.
    pub const VALID: Field = Field { bit: 255, width: 1 };

    /// All fields of packets, with their names.
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

    /// Reads it from words.
    pub(super) fn get(self, words: &[u32]) -> u64 {
        let (at, shift) = ((self.bit / 32) as usize, self.bit % 32);
        let word = |n: usize| u128::from(words.get(at + n).copied().unwrap_or(0)) << (32 * n);
        ((word(0) | word(1) | word(2)) >> shift) as u64 & self.full()
    }

    /// Writes it to words; value bits beyond the width are ignored.
    pub(super) fn set(self, words: &mut [u32], value: u64) {
        let (at, shift) = ((self.bit / 32) as usize, self.bit % 32);
        let (value, mask) = (u128::from(value & self.full()) << shift, u128::from(self.full()) << shift);
        for (n, word) in words.iter_mut().skip(at).take(3).enumerate() {
            *word = *word & !((mask >> (32 * n)) as u32) | (value >> (32 * n)) as u32;
        }
    }
}

/// The lowest Ethernet type; lower values are the length of an 802.3 frame (IEEE 802.3 section
/// 3.2.6).
pub const FIRST_TYPE: u16 = 0x0600;
/// VLAN field of a packet without a tag.
pub const UNTAGGED: u16 = 0xffff;
/// The source number that no packet has: a row with it is deleted.
pub const NO_SOURCE: u8 = 0xff;
/// The first bytes of ARP for IPv4 over Ethernet (RFC 826): hardware and protocol, the lengths of
/// their addresses, and the upper half of the opcode.
const ARP: u64 = u64::from_be_bytes([0, 0, 1, 0x08, 0x00, 6, 4, 0]);
/// The mask of word 7, of which rows compare 24 bits.
const TOP: u32 = 0x00ff_ffff;

/// The key of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key(pub [u32; WORDS]);

/// The bits of a key that are not compared: 1 = don't care.
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

    /// Sets a field; value bits beyond its width are ignored.
    pub fn set(&mut self, field: Field, value: u64) {
        field.set(&mut self.0, value);
    }

    /// The source queue.
    pub fn source(&self) -> u8 {
        self.get(Field::SOURCE) as u8
    }

    /// As bytes, least significant first.
    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes, least significant first.
    pub fn of_bytes(bytes: &[u8; 32]) -> Key {
        let mut key = Key::default();
        for (word, from) in key.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = from.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
        }
        key
    }

    /// A key that no packet has; writing it to a row deletes the row.
    pub fn impossible() -> Key {
        let mut key = Key::default();
        key.set(Field::SOURCE, NO_SOURCE.into());
        key
    }

    /// The key that the card makes of any IPv4 frame with a header length below 5: that of an
    /// untagged frame from queue 0 with zero in all other fields.
    pub fn of_short_header() -> Key {
        let mut key = Key::default();
        key.set(Field::VLAN, UNTAGGED.into());
        key
    }

    /// The key that the card makes because of a fault of the bitfile.
    pub fn of_fault(fault: FaultKey) -> Key {
        let mut key = Key::default();
        key.set(Field::SOURCE, fault.source.into());
        key.set(Field::VLAN, fault.vlan.into());
        key
    }

    /// The key of a frame from a queue, as the card's header parser makes it. Fields in truncated
    /// headers are zero.
    pub fn of_frame(frame: &[u8], source: u8) -> Key {
        Key::read(frame, source).0
    }

    /// The key of a frame from a queue, and whether it is right.
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
        // The word in which the parser finds the last field; the end of header and fields.
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
                // The first bytes of ARP are checked, with the upper half of the opcode.
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

/// Whether a key is right for its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The key has the frame's fields.
    Whole,
    /// The key differs from the fields that a flow table would find: the frame ends before its
    /// headers do, is IPv4 of another version, or is ARP of other hardware or with an opcode above
    /// 255. If the frame ends early, the card may read on in the next one (a fault of the bitfile).
    Broken,
    /// The IPv4 header length is below 5: the key is [`Key::of_short_header`] (a fault of the bitfile).
    Short,
}

impl Mask {
    /// Compares every bit.
    pub const EXACT: Mask = Mask([0; WORDS]);

    /// Compares nothing.
    pub const ANY: Mask = Mask([u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, TOP]);

    /// The bits of a field that are not compared.
    pub fn get(&self, field: Field) -> u64 {
        field.get(&self.0)
    }

    /// Sets the bits of a field that are not compared.
    pub fn set(&mut self, field: Field, value: u64) {
        field.set(&mut self.0, value);
    }
}

/// The match of a row: a key, whose masked bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The wanted bits.
    pub key: Key,
    /// The bits that are not compared.
    pub mask: Mask,
}

impl Pattern {
    /// Matches every packet.
    pub const ANY: Pattern = Pattern { key: Key([0; WORDS]), mask: Mask::ANY };

    /// Matches this key only.
    pub fn exactly(key: Key) -> Pattern {
        Pattern { key, mask: Mask::EXACT }
    }

    /// Compares these bits of a field (1 = compare).
    pub fn put(&mut self, field: Field, value: u64, look: u64) {
        let look = look & field.full();
        let old = self.mask.get(field);
        self.mask.set(field, old & !look);
        let kept = self.key.get(field) & !look;
        self.key.set(field, kept | value & look);
    }

    /// The same pattern that also compares these bits of a field.
    #[must_use]
    pub fn with(mut self, field: Field, value: u64, look: u64) -> Pattern {
        self.put(field, value, look);
        self
    }

    /// Whether a packet's key matches.
    pub fn matches(&self, key: &Key) -> bool {
        (0..WORDS).all(|n| (self.key.0[n] ^ key.0[n]) & !self.mask.0[n] & if n == 7 { TOP } else { !0 } == 0)
    }

    /// Whether some key matches both.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        (0..WORDS).all(|n| {
            let looked = !(self.mask.0[n] | other.mask.0[n]);
            (self.key.0[n] ^ other.key.0[n]) & looked & if n == 7 { TOP } else { !0 } == 0
        })
    }

    /// Whether every key that matches `other` matches this too.
    pub fn covers(&self, other: &Pattern) -> bool {
        (0..WORDS).all(|n| {
            let looked = !self.mask.0[n] & if n == 7 { TOP } else { !0 };
            other.mask.0[n] & looked == 0 && (self.key.0[n] ^ other.key.0[n]) & looked == 0
        })
    }
}
