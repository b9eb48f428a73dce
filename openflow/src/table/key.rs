//! A packet's fields, as flows match them (OF 1.0 section 3.4, OF 1.3.5 section 7.2.3.7). A field is there only where its prerequisite
//! is: a packet that is no ARP has no ARP opcode.

/// A field of a packet. Numbers are those of OXM (OF 1.3.5 table 12), except that transport ports are one field for all transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldId {
    /// Port it came in by.
    InPort = 0,
    /// Carried between tables.
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
}

/// How many numbers [`FieldId`] uses.
const COUNT: usize = 31;

/// A packet's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowKey([Option<u128>; COUNT]);

impl FlowKey {
    /// The fields of a frame that came in by a port. What is cut off or broken has no fields from there on.
    pub fn new(frame: &[u8], in_port: u32) -> FlowKey {
        let mut key = FlowKey([None; COUNT]);
        key.set(FieldId::InPort, in_port.into());
        key.set(FieldId::Metadata, 0);
        key.ethernet(frame);
        key
    }

    /// A field's value, if the packet has the field.
    pub fn get(&self, field: FieldId) -> Option<u128> {
        self.0[field as usize]
    }

    /// Sets a field (metadata between tables; everything else is the packet's own).
    pub fn set(&mut self, field: FieldId, value: u128) {
        self.0[field as usize] = Some(value);
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
        let mut at = 12;
        self.set(FieldId::VlanVid, 0);
        let tag = frame.get(at..at + 4).map(|t| ([t[0], t[1]], u16::from_be_bytes([t[2], t[3]])));
        if let Some(([0x81, 0x00] | [0x88, 0xa8], tci)) = tag {
            self.set(FieldId::VlanVid, u128::from(tci & 0xfff | 0x1000));
            self.set(FieldId::VlanPcp, u128::from(tci >> 13));
            at += 4;
        }
        let kind = self.number(FieldId::EthType, frame, at, 2)?;
        let body = frame.get(at + 2..)?;
        match kind {
            0x0800 => self.ipv4(body),
            0x0806 => self.arp(body),
            0x86dd => self.ipv6(body),
            _ => Some(()),
        }
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
        let protocol = self.number(FieldId::IpProto, body, 6, 1)?;
        self.number(FieldId::Ipv6Src, body, 8, 16)?;
        self.number(FieldId::Ipv6Dst, body, 24, 16)?;
        self.transport(protocol, body.get(40..)?, (FieldId::Icmpv6Type, FieldId::Icmpv6Code, 58))
    }

    fn transport(&mut self, protocol: u128, body: &[u8], icmp: (FieldId, FieldId, u128)) -> Option<()> {
        match protocol {
            6 | 17 | 132 => {
                self.number(FieldId::L4Src, body, 0, 2)?;
                self.number(FieldId::L4Dst, body, 2, 2).map(drop)
            }
            p if p == icmp.2 => {
                self.number(icmp.0, body, 0, 1)?;
                self.number(icmp.1, body, 1, 1).map(drop)
            }
            _ => Some(()),
        }
    }
}
