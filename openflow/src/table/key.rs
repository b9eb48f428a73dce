//! A packet's fields, as flows match them (OF 1.0 section 3.4, OF 1.3.5 section 7.2.3.7). A packet
//! has a field only if it fulfils the field's prerequisite: only ARP packets have an ARP opcode.

use super::rewrite::ether_type;

/// A field of a packet. Numbers are those of OXM (OF 1.3.5 table 12), except that transport ports
/// are one field for all transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldId {
    /// Port it came in by.
    InPort = 0,
    /// The physical port; equal to `InPort` unless the packet came in by a logical port.
    InPhyPort = 1,
    /// Metadata that a table writes for later ones.
    Metadata = 2,
    /// Ethernet destination.
    EthDst = 3,
    /// Ethernet source.
    EthSrc = 4,
    /// Ethernet type, behind a VLAN tag if there is one.
    EthType = 5,
    /// 0 without a tag; 0x1000 and the VLAN id with one.
    VlanVid = 6,
    /// VLAN priority.
    VlanPcp = 7,
    /// DSCP.
    IpDscp = 8,
    /// ECN.
    IpEcn = 9,
    /// IP protocol.
    IpProto = 10,
    /// IPv4 source.
    Ipv4Src = 11,
    /// IPv4 destination.
    Ipv4Dst = 12,
    /// TCP, UDP or SCTP source port.
    L4Src = 13,
    /// TCP, UDP or SCTP destination port.
    L4Dst = 14,
    /// ICMP type.
    IcmpType = 19,
    /// ICMP code.
    IcmpCode = 20,
    /// ARP opcode.
    ArpOp = 21,
    /// ARP sender's address.
    ArpSpa = 22,
    /// ARP target's address.
    ArpTpa = 23,
    /// ARP sender's Ethernet address.
    ArpSha = 24,
    /// ARP target's Ethernet address.
    ArpTha = 25,
    /// IPv6 source.
    Ipv6Src = 26,
    /// IPv6 destination.
    Ipv6Dst = 27,
    /// IPv6 flow label.
    Ipv6Flabel = 28,
    /// ICMPv6 type.
    Icmpv6Type = 29,
    /// ICMPv6 code.
    Icmpv6Code = 30,
    /// Target of a neighbour solicitation or advertisement.
    Ipv6NdTarget = 31,
    /// Source link-layer address in a neighbour solicitation.
    Ipv6NdSll = 32,
    /// Target link-layer address in a neighbour advertisement.
    Ipv6NdTll = 33,
    /// Label of the outermost MPLS header.
    MplsLabel = 34,
    /// Its traffic class.
    MplsTc = 35,
    /// Its bottom-of-stack bit.
    MplsBos = 36,
    /// I-SID of the outermost PBB service tag.
    PbbIsid = 37,
    /// Metadata of a logical port; 0 without one.
    TunnelId = 38,
    /// OFPIEH bits of the IPv6 extension headers in the packet.
    Ipv6Exthdr = 39,
}

/// How many numbers [`FieldId`] uses.
const COUNT: usize = 40;

/// OFPIEH bits (OF 1.3.5 section 7.2.3.7).
mod exthdr {
    /// The chain of headers ends with "no next header" (59).
    pub(super) const NO_NEXT: u16 = 1;
    /// Encrypted payload.
    pub(super) const ESP: u16 = 1 << 1;
    /// Authentication.
    pub(super) const AUTH: u16 = 1 << 2;
    /// Destination options, once or twice.
    pub(super) const DEST: u16 = 1 << 3;
    /// Fragment.
    pub(super) const FRAG: u16 = 1 << 4;
    /// Routing.
    pub(super) const ROUTER: u16 = 1 << 5;
    /// Hop-by-hop options.
    pub(super) const HOP: u16 = 1 << 6;
    /// A header occurs more often than RFC 2460 allows.
    pub(super) const REPEATED: u16 = 1 << 7;
    /// Headers are not in the order of RFC 2460 section 4.1.
    pub(super) const UNORDERED: u16 = 1 << 8;
}

/// Mixes a word into a hash by the two halves of a 128-bit product with an odd constant (2^64
/// divided by the golden ratio).
#[inline]
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(hash.rotate_left(23) ^ word ^ ODD) * u128::from(ODD);
    (product >> 64) as u64 ^ product as u64
}

/// A packet's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowKey([Option<u128>; COUNT]);

impl FlowKey {
    /// The fields of a frame that came in by a port. If a header is truncated or malformed, its
    /// fields and those behind it are missing. The port is taken as a physical one; for a logical
    /// port, the caller sets `InPhyPort` and `TunnelId` afterwards.
    pub fn new(frame: &[u8], in_port: u32) -> FlowKey {
        let mut key = FlowKey([None; COUNT]);
        key.set(FieldId::InPort, in_port.into());
        key.set(FieldId::InPhyPort, in_port.into());
        key.set(FieldId::Metadata, 0);
        key.set(FieldId::TunnelId, 0);
        key.ethernet(frame);
        key
    }

    /// A field's value, if the packet has the field.
    pub fn get(&self, field: FieldId) -> Option<u128> {
        self.0[field as usize]
    }

    /// Sets a pipeline field (metadata, or a field of a logical port). All other fields come from
    /// the packet.
    pub fn set(&mut self, field: FieldId, value: u128) {
        self.0[field as usize] = Some(value);
    }

    /// A hash that is equal for all packets of a flow (Ethernet, VLAN, MPLS, IP, ARP and transport
    /// addresses), and evenly distributed over flows.
    pub fn flow_hash(&self) -> u64 {
        const FIELDS: [FieldId; 14] = [
            FieldId::EthDst,
            FieldId::EthSrc,
            FieldId::EthType,
            FieldId::VlanVid,
            FieldId::IpProto,
            FieldId::Ipv4Src,
            FieldId::Ipv4Dst,
            FieldId::Ipv6Src,
            FieldId::Ipv6Dst,
            FieldId::L4Src,
            FieldId::L4Dst,
            FieldId::ArpSpa,
            FieldId::ArpTpa,
            FieldId::MplsLabel,
        ];
        FIELDS.iter().fold(0, |hash, field| {
            let value = self.get(*field).unwrap_or(0);
            mix(mix(hash, value as u64), (value >> 64) as u64)
        })
    }

    fn number(&mut self, field: FieldId, bytes: &[u8], at: usize, length: usize) -> Option<u128> {
        let part = bytes.get(at..at + length)?;
        let value = part.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        self.set(field, value);
        Some(value)
    }

    fn ethernet(&mut self, frame: &[u8]) -> Option<()> {
        self.number(FieldId::EthDst, frame, 0, 6)?;
        self.number(FieldId::EthSrc, frame, 6, 6)?;
        self.set(FieldId::VlanVid, 0);
        let tag = frame.get(12..16).map(|t| ([t[0], t[1]], u16::from_be_bytes([t[2], t[3]])));
        if let Some(([0x81, 0x00] | [0x88, 0xa8], tci)) = tag {
            self.set(FieldId::VlanVid, u128::from(tci & 0xfff | 0x1000));
            self.set(FieldId::VlanPcp, u128::from(tci >> 13));
        }
        let (kind, at) = ether_type(frame)?;
        self.set(FieldId::EthType, kind.into());
        let body = frame.get(at..)?;
        match kind {
            0x0800 => self.ipv4(body),
            0x0806 => self.arp(body),
            0x86dd => self.ipv6(body),
            0x8847 | 0x8848 => self.mpls(body),
            // The service tag: flags, then 24 bits of I-SID (IEEE 802.1ah).
            0x88e7 => self.number(FieldId::PbbIsid, body, 1, 3).map(drop),
            _ => Some(()),
        }
    }

    /// RFC 3032: 20 bits label, 3 bits traffic class, bottom of stack, TTL.
    fn mpls(&mut self, body: &[u8]) -> Option<()> {
        let word = u32::from_be_bytes(*body.first_chunk::<4>()?);
        self.set(FieldId::MplsLabel, u128::from(word >> 12));
        self.set(FieldId::MplsTc, u128::from(word >> 9 & 7));
        self.set(FieldId::MplsBos, u128::from(word >> 8 & 1));
        Some(())
    }

    fn arp(&mut self, body: &[u8]) -> Option<()> {
        if body.get(..6)? != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        self.number(FieldId::ArpOp, body, 6, 2)?;
        self.number(FieldId::ArpSha, body, 8, 6)?;
        self.number(FieldId::ArpSpa, body, 14, 4)?;
        self.number(FieldId::ArpTha, body, 18, 6)?;
        self.number(FieldId::ArpTpa, body, 24, 4).map(drop)
    }

    fn ipv4(&mut self, body: &[u8]) -> Option<()> {
        let first = *body.first()?;
        let header = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || header < 20 || body.len() < header {
            return None;
        }
        let tos = *body.get(1)?;
        self.set(FieldId::IpDscp, u128::from(tos >> 2));
        self.set(FieldId::IpEcn, u128::from(tos & 3));
        let protocol = self.number(FieldId::IpProto, body, 9, 1)?;
        self.number(FieldId::Ipv4Src, body, 12, 4)?;
        self.number(FieldId::Ipv4Dst, body, 16, 4)?;
        // A later fragment has no transport header.
        let fragment = u16::from_be_bytes([*body.get(6)?, *body.get(7)?]) & 0x1fff;
        if fragment != 0 {
            return None;
        }
        self.transport(protocol, body.get(header..)?, (FieldId::IcmpType, FieldId::IcmpCode, 1))
    }

    fn ipv6(&mut self, body: &[u8]) -> Option<()> {
        let word = u32::from_be_bytes(*body.first_chunk::<4>()?);
        if word >> 28 != 6 {
            return None;
        }
        self.set(FieldId::IpDscp, u128::from(word >> 22 & 0x3f));
        self.set(FieldId::IpEcn, u128::from(word >> 20 & 3));
        self.set(FieldId::Ipv6Flabel, u128::from(word & 0xf_ffff));
        self.number(FieldId::Ipv6Src, body, 8, 16)?;
        self.number(FieldId::Ipv6Dst, body, 24, 16)?;
        let (protocol, rest) = self.extension_headers(*body.get(6)?, body.get(40..)?);
        self.set(FieldId::IpProto, protocol.into());
        self.transport(protocol.into(), rest?, (FieldId::Icmpv6Type, FieldId::Icmpv6Code, 58))
    }

    /// Reads the extension headers (RFC 2460 section 4) and sets their OFPIEH bits. Returns the
    /// protocol behind them and its bytes, which are `None` if they cannot be read: behind
    /// encryption, in a later fragment, or truncated.
    fn extension_headers<'a>(&mut self, first: u8, body: &'a [u8]) -> (u8, Option<&'a [u8]>) {
        let (mut next, mut rest) = (first, Some(body));
        let (mut found, mut place) = (0u16, 0u8);
        let mut destinations = 0;
        loop {
            // A header's rank in the order of RFC 2460 section 4.1, which has two for destination
            // options.
            let (bit, at) = match next {
                0 => (exthdr::HOP, 0),
                43 => (exthdr::ROUTER, 2),
                44 => (exthdr::FRAG, 3),
                51 => (exthdr::AUTH, 4),
                50 => (exthdr::ESP, 5),
                60 => (exthdr::DEST, if place < 2 && destinations == 0 { 1 } else { 6 }),
                59 => {
                    found |= exthdr::NO_NEXT;
                    break;
                }
                _ => break,
            };
            destinations += u8::from(next == 60);
            if found & bit != 0 && (next != 60 || destinations > 2) {
                found |= exthdr::REPEATED;
            }
            if at < place {
                found |= exthdr::UNORDERED;
            }
            (found, place) = (found | bit, place.max(at));
            let (length, later) = match (rest, next) {
                (None, _) | (_, 50) => (0, true),
                (Some(b), 44) => {
                    (8, b.get(2..4).is_some_and(|f| u16::from_be_bytes([f[0], f[1]]) & 0xfff8 != 0))
                }
                // The length of an authentication header is in words of 4 bytes, minus two (RFC
                // 4302 section 2.2).
                (Some(b), 51) => (b.get(1).map_or(0, |n| (usize::from(*n) + 2) * 4), false),
                (Some(b), _) => (b.get(1).map_or(0, |n| (usize::from(*n) + 1) * 8), false),
            };
            let header = rest.filter(|b| length > 0 && b.len() >= length);
            let Some(header) = header else {
                rest = None;
                break;
            };
            next = header[0];
            rest = Some(&header[length..]);
            if later {
                rest = None;
                break;
            }
        }
        self.set(FieldId::Ipv6Exthdr, found.into());
        (next, rest)
    }

    fn transport(&mut self, protocol: u128, body: &[u8], icmp: (FieldId, FieldId, u128)) -> Option<()> {
        match protocol {
            6 | 17 | 132 => {
                self.number(FieldId::L4Src, body, 0, 2)?;
                self.number(FieldId::L4Dst, body, 2, 2).map(drop)
            }
            p if p == icmp.2 => {
                let kind = self.number(icmp.0, body, 0, 1)?;
                let code = self.number(icmp.1, body, 1, 1)?;
                if p == 58 && code == 0 { self.neighbour_discovery(kind, body) } else { Some(()) }
            }
            _ => Some(()),
        }
    }

    /// RFC 4861 sections 4.3 and 4.4: the target, then options of a type, a length in units of 8
    /// bytes, and a value.
    fn neighbour_discovery(&mut self, kind: u128, body: &[u8]) -> Option<()> {
        let (option, field) = match kind {
            135 => (1, FieldId::Ipv6NdSll),
            136 => (2, FieldId::Ipv6NdTll),
            _ => return Some(()),
        };
        self.number(FieldId::Ipv6NdTarget, body, 8, 16)?;
        let mut options = body.get(24..)?;
        while let [found, units, ..] = *options {
            if units == 0 {
                return None;
            }
            if found == option && units == 1 {
                return self.number(field, options, 2, 6).map(drop);
            }
            options = options.get(usize::from(units) * 8..)?;
        }
        Some(())
    }
}
