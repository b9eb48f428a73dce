//! OXM fields (section 7.2.3): the 40 of class OFPXMC_OPENFLOW_BASIC by name, fields of other
//! classes as bytes.

use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Reader, Wire};
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use tandem_model::Mac;

/// OFPXMC_OPENFLOW_BASIC.
pub const BASIC: u16 = 0x8000;
/// OFPXMC_EXPERIMENTER: the value starts with the experimenter's number.
pub const EXPERIMENTER: u16 = 0xffff;
/// OFPVID_PRESENT: the bit of VLAN_VID that says that there is a tag.
pub const VLAN_PRESENT: u16 = 0x1000;
/// OFPVID_NONE: VLAN_VID of a packet without a tag.
pub const VLAN_NONE: u16 = 0;

/// A value of which only the bits of the mask count; all of them where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Masked<T> {
    /// The value; zero where the mask is.
    pub value: T,
    /// Which bits count.
    pub mask: Option<T>,
}

impl<T> Masked<T> {
    /// All bits count.
    pub fn exact(value: T) -> Masked<T> {
        Masked { value, mask: None }
    }
}

/// A 24-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct U24(u32);

impl U24 {
    /// The number, without what is above 24 bits.
    pub fn new(number: u32) -> U24 {
        U24(number & 0xff_ffff)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Wire for U24 {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, b, c] = r.array()?;
        Ok(U24(u32::from_be_bytes([0, a, b, c])))
    }
    fn write(&self, out: &mut Vec<u8>) {
        let [_, a, b, c] = self.0.to_be_bytes();
        out.extend_from_slice(&[a, b, c]);
    }
}

/// A field's value as a number, to compare bits.
trait Number: Copy {
    /// As a number.
    fn number(self) -> u128;
    /// The value with this number; bits that do not fit are cut off.
    fn of(number: u128) -> Self;
}

macro_rules! numbers {
    ($($t:ty => |$v:ident| $number:expr, |$n:ident| $of:expr;)*) => {$(
        impl Number for $t {
            fn number(self) -> u128 {
                let $v = self;
                $number
            }
            fn of($n: u128) -> Self {
                $of
            }
        }
    )*};
}
numbers! {
    u8 => |v| v.into(), |n| n as u8;
    u16 => |v| v.into(), |n| n as u16;
    u32 => |v| v.into(), |n| n as u32;
    u64 => |v| v.into(), |n| n as u64;
    U24 => |v| v.0.into(), |n| U24::new(n as u32);
    Mac => |v| v.0.iter().fold(0, |n, b| (n << 8) | u128::from(*b)), |n| {
        let [_, _, a, b, c, d, e, f] = (n as u64).to_be_bytes();
        Mac([a, b, c, d, e, f])
    };
    Ipv4Addr => |v| u32::from(v).into(), |n| Ipv4Addr::from(n as u32);
    Ipv6Addr => |v| v.into(), |n| Ipv6Addr::from(n);
}

/// Reads a value of at most `bits` bits.
fn value<T: Wire + Number>(r: &mut Reader<'_>, bits: u32) -> Result<T, DecodeError> {
    let value: T = r.get()?;
    if bits < 128 && value.number() >> bits != 0 {
        let problem = DecodeErrorKind::Unknown { value: u32::try_from(value.number()).unwrap_or(u32::MAX) };
        return Err(r.blamed(problem, OfErrorCode::BAD_MATCH_VALUE));
    }
    Ok(value)
}

/// All ones in the low `bits` bits.
fn ones(bits: u32) -> u128 {
    if bits < 128 { (1 << bits) - 1 } else { u128::MAX }
}

/// Reads a mask of at most `bits` bits; in a report, more bits than the field has are cut off.
fn mask<T: Wire + Number>(r: &mut Reader<'_>, bits: u32) -> Result<T, DecodeError> {
    if r.is_tolerant() { Ok(T::of(r.get::<T>()?.number() & ones(bits))) } else { value(r, bits) }
}

/// A field's value with or without a mask.
trait Slot: Sized {
    fn read_slot(r: &mut Reader<'_>, has_mask: bool, bits: u32) -> Result<Self, DecodeError>;
    fn write_slot(&self, out: &mut Vec<u8>);
    fn has_mask(&self) -> bool;
    /// The value, if all its bits count.
    fn exact(&self) -> Option<u128>;
    /// The same condition in its shortest form; `None` where it fulfils itself for every packet.
    fn normal(&self, bits: u32) -> Option<Self>;
}

/// A field that cannot have a mask.
macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Slot for $t {
            fn read_slot(r: &mut Reader<'_>, has_mask: bool, bits: u32) -> Result<Self, DecodeError> {
                if !has_mask {
                    return value(r, bits);
                }
                let refused = r.blamed(DecodeErrorKind::Mask, OfErrorCode::BAD_MATCH_MASK);
                if !r.is_tolerant() {
                    return Err(refused);
                }
                // OF 1.3.5 section 7.2.3.5: a mask of all ones is no mask.
                let found = value(r, bits)?;
                let mask: Self = mask(r, bits)?;
                if mask.number() == ones(bits) { Ok(found) } else { Err(refused) }
            }
            fn write_slot(&self, out: &mut Vec<u8>) {
                Wire::write(self, out);
            }
            fn has_mask(&self) -> bool {
                false
            }
            fn exact(&self) -> Option<u128> {
                Some(self.number())
            }
            fn normal(&self, _: u32) -> Option<Self> {
                Some(*self)
            }
        }
    )*};
}
plain!(u8, u16, u32, Mac, Ipv6Addr);

impl<T: Wire + Number> Slot for Masked<T> {
    fn read_slot(r: &mut Reader<'_>, has_mask: bool, bits: u32) -> Result<Self, DecodeError> {
        let at = *r;
        let found: T = value(r, bits)?;
        let mask = if has_mask { Some(mask::<T>(r, bits)?) } else { None };
        match mask {
            Some(mask) if found.number() & !mask.number() == 0 => {
                Ok(Masked { value: found, mask: Some(mask) })
            }
            // In a report, value bits outside of the mask are ignored.
            Some(mask) if r.is_tolerant() => {
                Ok(Masked { value: T::of(found.number() & mask.number()), mask: Some(mask) })
            }
            Some(_) => Err(at.blamed(DecodeErrorKind::Mask, OfErrorCode::BAD_WILDCARDS)),
            None => Ok(Masked { value: found, mask: None }),
        }
    }
    fn write_slot(&self, out: &mut Vec<u8>) {
        self.value.write(out);
        if let Some(mask) = &self.mask {
            mask.write(out);
        }
    }
    fn has_mask(&self) -> bool {
        self.mask.is_some()
    }
    fn exact(&self) -> Option<u128> {
        self.mask.is_none().then(|| self.value.number())
    }
    fn normal(&self, bits: u32) -> Option<Self> {
        match self.mask {
            Some(mask) if mask.number() == 0 => None,
            Some(mask) if mask.number() == ones(bits) => Some(Masked { value: self.value, mask: None }),
            _ => Some(*self),
        }
    }
}

/// See [`Field`]. Each row: name, number, type, bits.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $number:literal: $type:ty, $bits:literal;)*) => {
        /// One OXM field with its value (section 7.2.3.7). A field with a mask is [`Masked`],
        /// others cannot have one.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Field {
            $($(#[$doc])* $name($type),)*
            /// A field of another class; in a report, also a field of this class that is unknown
            /// here.
            Other {
                /// Its class.
                class: u16,
                /// Its number there, 7 bits.
                number: u8,
                /// Whether the second half of the body is a mask.
                has_mask: bool,
                /// Value and mask, after the experimenter's number where the class has it. At most
                /// 255 bytes.
                body: Bytes,
            },
        }

        impl Field {
            /// Class, number and whether it has a mask.
            pub fn id(&self) -> (u16, u8, bool) {
                match self {
                    $(Field::$name(v) => (BASIC, $number, Slot::has_mask(v)),)*
                    Field::Other { class, number, has_mask, .. } => (*class, *number & 0x7f, *has_mask),
                }
            }

            /// The same condition in its shortest form (section 7.2.3.5): a mask of all ones is no
            /// mask, and a field whose mask is all zeros is no condition.
            pub fn normal(&self) -> Option<Field> {
                match self {
                    $(Field::$name(v) => Slot::normal(v, $bits).map(Field::$name),)*
                    Field::Other { has_mask, body, .. } => {
                        let mask = body.0.get(body.0.len() / 2..).unwrap_or_default();
                        let is_none = *has_mask && !mask.is_empty() && mask.iter().all(|b| *b == 0);
                        (!is_none).then(|| self.clone())
                    }
                }
            }

            /// The value as a number, if it is a basic field of which all bits count.
            pub(super) fn exact(&self) -> Option<u128> {
                match self {
                    $(Field::$name(v) => Slot::exact(v),)*
                    Field::Other { .. } => None,
                }
            }

            fn read_basic(r: &mut Reader<'_>, number: u8, has_mask: bool) -> Result<Field, DecodeError> {
                match number {
                    $($number => Ok(Field::$name(Slot::read_slot(r, has_mask, $bits)?)),)*
                    _ => Err(r.blamed(DecodeErrorKind::Unknown { value: number.into() }, OfErrorCode::BAD_FIELD)),
                }
            }

            fn write_body(&self, out: &mut Vec<u8>) {
                match self {
                    $(Field::$name(v) => Slot::write_slot(v, out),)*
                    Field::Other { body, .. } => body.write(out),
                }
            }
        }
    };
}

fields! {
    /// Port the packet came in by.
    InPort = 0: u32, 32;
    /// The physical port under it.
    InPhyPort = 1: u32, 32;
    /// What earlier tables wrote.
    Metadata = 2: Masked<u64>, 64;
    /// Ethernet destination.
    EthDst = 3: Masked<Mac>, 48;
    /// Ethernet source.
    EthSrc = 4: Masked<Mac>, 48;
    /// Ethernet type, after VLAN tags.
    EthType = 5: u16, 16;
    /// VLAN id and [`VLAN_PRESENT`].
    VlanVid = 6: Masked<u16>, 13;
    /// VLAN priority.
    VlanPcp = 7: u8, 3;
    /// DSCP.
    IpDscp = 8: u8, 6;
    /// ECN.
    IpEcn = 9: u8, 2;
    /// IP protocol.
    IpProto = 10: u8, 8;
    /// IPv4 source.
    Ipv4Src = 11: Masked<Ipv4Addr>, 32;
    /// IPv4 destination.
    Ipv4Dst = 12: Masked<Ipv4Addr>, 32;
    /// TCP source port.
    TcpSrc = 13: u16, 16;
    /// TCP destination port.
    TcpDst = 14: u16, 16;
    /// UDP source port.
    UdpSrc = 15: u16, 16;
    /// UDP destination port.
    UdpDst = 16: u16, 16;
    /// SCTP source port.
    SctpSrc = 17: u16, 16;
    /// SCTP destination port.
    SctpDst = 18: u16, 16;
    /// ICMP type.
    Icmpv4Type = 19: u8, 8;
    /// ICMP code.
    Icmpv4Code = 20: u8, 8;
    /// ARP opcode.
    ArpOp = 21: u16, 16;
    /// ARP sender's IPv4 address.
    ArpSpa = 22: Masked<Ipv4Addr>, 32;
    /// ARP target's IPv4 address.
    ArpTpa = 23: Masked<Ipv4Addr>, 32;
    /// ARP sender's Ethernet address.
    ArpSha = 24: Masked<Mac>, 48;
    /// ARP target's Ethernet address.
    ArpTha = 25: Masked<Mac>, 48;
    /// IPv6 source.
    Ipv6Src = 26: Masked<Ipv6Addr>, 128;
    /// IPv6 destination.
    Ipv6Dst = 27: Masked<Ipv6Addr>, 128;
    /// IPv6 flow label.
    Ipv6Flabel = 28: Masked<u32>, 20;
    /// ICMPv6 type.
    Icmpv6Type = 29: u8, 8;
    /// ICMPv6 code.
    Icmpv6Code = 30: u8, 8;
    /// Target of IPv6 neighbour discovery.
    Ipv6NdTarget = 31: Ipv6Addr, 128;
    /// Its source link-layer address.
    Ipv6NdSll = 32: Mac, 48;
    /// Its target link-layer address.
    Ipv6NdTll = 33: Mac, 48;
    /// MPLS label.
    MplsLabel = 34: u32, 20;
    /// MPLS traffic class.
    MplsTc = 35: u8, 3;
    /// MPLS bottom of stack.
    MplsBos = 36: u8, 1;
    /// PBB I-SID.
    PbbIsid = 37: Masked<U24>, 24;
    /// Metadata of a logical port.
    TunnelId = 38: Masked<u64>, 64;
    /// IPv6 extension headers, OFPIEH bits.
    Ipv6Exthdr = 39: Masked<u16>, 9;
}

impl Wire for Field {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = *r;
        let class: u16 = r.get()?;
        let [packed, length] = r.array()?;
        let (number, has_mask) = (packed >> 1, packed & 1 != 0);
        let mut body = r.sub(length.into())?;
        if class == BASIC {
            let mut known = body;
            match Field::read_basic(&mut known, number, has_mask).and_then(|f| known.end().map(|()| f)) {
                Err(error) if !r.is_tolerant() => return Err(error),
                Err(_) => {}
                Ok(field) => return Ok(field),
            }
        } else if class == EXPERIMENTER && length < 4 && !r.is_tolerant() {
            return Err(at.error(DecodeErrorKind::Length { length: length.into() }));
        }
        Ok(Field::Other { class, number, has_mask, body: body.get()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (class, number, has_mask) = self.id();
        class.write(out);
        out.push((number << 1) | u8::from(has_mask));
        let at = out.len();
        out.push(0);
        self.write_body(out);
        // The length field has 8 bits: a longer body, which no reader accepts, is cut.
        out.truncate(at + 1 + 255);
        let length = u8::try_from(out.len() - at - 1).unwrap_or(u8::MAX);
        if let Some(field) = out.get_mut(at) {
            *field = length;
        }
    }
}

/// An OXM header without a value, as table features have it (section 7.3.5.5.2); the length is that
/// of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Id {
    /// Class.
    pub class: u16,
    /// Number, 7 bits.
    pub number: u8,
    /// Whether it has a mask.
    pub has_mask: bool,
    /// Length of value and mask.
    pub length: u8,
    /// The experimenter's number, where the class is [`EXPERIMENTER`].
    pub experimenter: Option<u32>,
}

impl Wire for Id {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let class: u16 = r.get()?;
        let [packed, length] = r.array()?;
        let experimenter = if class == EXPERIMENTER { Some(r.get()?) } else { None };
        Ok(Id { class, number: packed >> 1, has_mask: packed & 1 != 0, length, experimenter })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.class.write(out);
        out.push((self.number << 1) | u8::from(self.has_mask));
        out.push(self.length);
        if let Some(experimenter) = self.experimenter {
            experimenter.write(out);
        }
    }
}
