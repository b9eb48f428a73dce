//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use super::ethernet::ether_type;
use super::protocol::{DCCP, ICMPV6, TCP, UDP, UDP_LITE};
use super::{adjust, set, set_bits, word};

/// Offsets of an IP packet's parts in a frame.
#[derive(Clone, Copy)]
pub(super) struct Ip {
    /// The IP header.
    pub(super) at: usize,
    pub(super) v6: bool,
    /// The byte with the transport's protocol number: in the IP header, or in the last extension
    /// header.
    protocol_at: usize,
    /// The transport header, if it can be read: not in a later fragment, behind encryption, or
    /// truncated.
    pub(super) transport: Option<Transport>,
    /// The packet is a fragment, the first or a later one.
    pub(super) fragment: bool,
    /// The destination in the header is an intermediate hop of a routing header, so that the
    /// transport's checksum does not cover it (RFC 8200 section 8.1).
    routed: bool,
}

/// A transport header.
#[derive(Clone, Copy)]
pub(super) struct Transport {
    pub(super) at: usize,
    pub(super) protocol: u8,
    v6: bool,
}

impl Transport {
    /// Offset of its checksum, if one is in use and covers the IP addresses: that of TCP and its
    /// kind, and of ICMPv6.
    fn covering_addresses(self, frame: &[u8]) -> Option<usize> {
        match self.protocol {
            TCP => Some(self.at + 16),
            // A UDP checksum of zero means that there is none (RFC 768).
            UDP => Some(self.at + 6).filter(|at| word(frame, *at).is_some_and(|sum| sum != 0)),
            DCCP | UDP_LITE => Some(self.at + 6),
            ICMPV6 if self.v6 => Some(self.at + 2),
            _ => None,
        }
    }

    /// Offset of the checksum over its ports, if one is in use.
    pub(super) fn covering_ports(self, frame: &[u8]) -> Option<usize> {
        self.covering_addresses(frame).filter(|_| self.protocol != ICMPV6)
    }

    /// A UDP checksum that computes to zero is sent as all ones, since zero means none (RFC 768,
    /// RFC 3828).
    pub(super) fn never_zero(self, frame: &mut [u8], checksum_at: usize) {
        if matches!(self.protocol, UDP | UDP_LITE) && word(frame, checksum_at) == Some(0) {
            frame[checksum_at..checksum_at + 2].fill(0xff);
        }
    }
}

/// The IP packet in a frame.
pub(super) fn ip(frame: &[u8]) -> Option<Ip> {
    match ether_type(frame)? {
        (0x0800, at) => ipv4(frame, at),
        (0x86dd, at) => ipv6(frame, at),
        _ => None,
    }
}

fn ipv4(frame: &[u8], at: usize) -> Option<Ip> {
    let first = *frame.get(at)?;
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < 20 || frame.len() < at + header {
        return None;
    }
    let fragment = word(frame, at + 6)?;
    let transport = Transport { at: at + header, protocol: *frame.get(at + 9)?, v6: false };
    Some(Ip {
        at,
        v6: false,
        protocol_at: at + 9,
        transport: (fragment & 0x1fff == 0).then_some(transport),
        // The more-fragments bit, or an offset.
        fragment: fragment & 0x3fff != 0,
        routed: false,
    })
}

fn ipv6(frame: &[u8], at: usize) -> Option<Ip> {
    let header = frame.get(at..at + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let mut found = Ip { at, v6: true, protocol_at: at + 6, transport: None, fragment: false, routed: false };
    let mut next = at + 40;
    loop {
        let protocol = frame[found.protocol_at];
        // Extension headers (RFC 8200 section 4); the length of an authentication header is in
        // words of 4 bytes, minus two (RFC 4302 section 2.2).
        let length = match protocol {
            0 | 43 | 60 => frame.get(next + 1).map(|n| (usize::from(*n) + 1) * 8),
            44 => Some(8),
            51 => frame.get(next + 1).map(|n| (usize::from(*n) + 2) * 4),
            50 | 59 => None,
            protocol => {
                found.transport = Some(Transport { at: next, protocol, v6: true });
                None
            }
        };
        let Some(length) = length.filter(|length| frame.len() >= next + length) else { return Some(found) };
        // A routing header with segments left.
        found.routed |= protocol == 43 && frame[next + 3] > 0;
        found.protocol_at = next;
        if protocol == 44 {
            let place = word(frame, next + 2)?;
            found.fragment |= place & 0xfff9 != 0;
            if place & 0xfff8 != 0 {
                return Some(found);
            }
        }
        next += length;
    }
}

/// True for an IP fragment, the first one too.
pub(crate) fn fragment(frame: &[u8]) -> bool {
    ip(frame).is_some_and(|ip| ip.fragment)
}

/// Sets an address of either version at an offset in the header.
fn address(frame: &mut [u8], ip: &Ip, place: usize, address: &[u8], covered: bool) {
    let transport = ip.transport.filter(|_| covered);
    let sum = transport.and_then(|t| t.covering_addresses(frame));
    let header = (!ip.v6).then_some(ip.at + 10);
    set(frame, ip.at + place, address, &[header, sum]);
    if let (Some(transport), Some(sum)) = (transport, sum) {
        transport.never_zero(frame, sum);
    }
}

/// Sets an IPv4 address: offset 12 of the header is the source, 16 the destination.
pub(in super::super) fn ipv4_address(frame: &mut [u8], place: usize, value: u32) {
    if let Some(ip) = ip(frame).filter(|ip| !ip.v6) {
        address(frame, &ip, place, &value.to_be_bytes(), true);
    }
}

/// Sets half of an IPv6 address: offsets 8 and 16 of the header are the source, 24 and 32 the
/// destination.
pub(in super::super) fn ipv6_address(frame: &mut [u8], place: usize, value: [u8; 8]) {
    if let Some(ip) = ip(frame).filter(|ip| ip.v6) {
        address(frame, &ip, place, &value, !(place >= 24 && ip.routed));
    }
}

/// Sets the IPv6 flow label (20 bits).
pub(in super::super) fn flow_label(frame: &mut [u8], label: u32) {
    if let Some(ip) = ip(frame).filter(|ip| ip.v6) {
        set_bits(frame, ip.at, (label >> 16) as u16, 0x000f, &[]);
        set_bits(frame, ip.at + 2, label as u16, 0xffff, &[]);
    }
}

/// Sets the IP protocol (the last next header), and updates the checksum of the transport header.
pub(in super::super) fn ip_protocol(frame: &mut [u8], protocol: u8) {
    let Some(ip) = ip(frame) else { return };
    let Some(old) = frame.get(ip.protocol_at).copied() else { return };
    let sum = ip.transport.and_then(|t| t.covering_addresses(frame));
    if ip.v6 {
        frame[ip.protocol_at] = protocol;
    } else {
        set_bits(frame, ip.protocol_at - 1, protocol.into(), 0x00ff, &[Some(ip.at + 10)]);
    }
    if let (Some(transport), Some(sum)) = (ip.transport, sum) {
        adjust(frame, sum, old.into(), protocol.into());
        transport.never_zero(frame, sum);
    }
}

/// Sets bits of the IPv4 type of service or of the IPv6 traffic class; both consist of DSCP and
/// ECN.
pub(in super::super) fn traffic_class(frame: &mut [u8], value: u8, mask: u8) {
    let (value, mask) = (u16::from(value), u16::from(mask));
    match ip(frame) {
        Some(Ip { v6: false, at, .. }) => set_bits(frame, at, value, mask, &[Some(at + 10)]),
        Some(Ip { at, .. }) => set_bits(frame, at, value << 4, mask << 4, &[]),
        None => {}
    }
}

/// Raises the drop precedence of an assured forwarding class (RFC 2597 section 6), at most to the
/// highest; packets of other classes are unchanged.
pub(in super::super) fn drop_precedence(frame: &mut [u8], level: u8) {
    let class = ip(frame).and_then(|ip| Some((ip.v6, word(frame, ip.at)?)));
    let Some(dscp) = class.map(|(v6, word)| (if v6 { word >> 6 } else { word >> 2 }) as u8 & 0x3f) else {
        return;
    };
    let (class, precedence) = (dscp >> 3, dscp >> 1 & 3);
    if (1..=4).contains(&class) && precedence > 0 && dscp & 1 == 0 {
        let raised = precedence.saturating_add(level).min(3);
        traffic_class(frame, (class << 3 | raised << 1) << 2, 0xfc);
    }
}

/// Offset of the TTL or hop limit in an IP header.
fn ttl_place(ip: &Ip) -> usize {
    ip.at + if ip.v6 { 7 } else { 8 }
}

/// Decrements the TTL or hop limit; false when the packet has to be dropped.
pub(in super::super) fn dec_ttl(frame: &mut [u8]) -> bool {
    let Some(ip) = ip(frame) else { return true };
    let Some(ttl) = frame.get(ttl_place(&ip)).copied() else { return false };
    if ttl <= 1 {
        return false;
    }
    set_ttl_of(frame, &ip, ttl - 1);
    true
}

/// Sets the TTL or hop limit.
pub(in super::super) fn set_ttl(frame: &mut [u8], value: u8) {
    if let Some(ip) = ip(frame) {
        set_ttl_of(frame, &ip, value);
    }
}

fn set_ttl_of(frame: &mut [u8], ip: &Ip, value: u8) {
    if ip.v6 {
        set_bits(frame, ip.at + 6, value.into(), 0x00ff, &[]);
    } else {
        set_bits(frame, ip.at + 8, u16::from(value) << 8, 0xff00, &[Some(ip.at + 10)]);
    }
}

/// The TTL or hop limit of the IP header at an offset, without an Ethernet type that names it: the
/// first bits are the version (RFC 4928 section 2).
pub(super) fn ttl_at(frame: &[u8], at: usize) -> Option<u8> {
    let ip = unnamed(frame, at)?;
    frame.get(ttl_place(&ip)).copied()
}

/// Sets the TTL or hop limit of the IP header at an offset.
pub(super) fn set_ttl_at(frame: &mut [u8], at: usize, value: u8) {
    if let Some(ip) = unnamed(frame, at) {
        set_ttl_of(frame, &ip, value);
    }
}

fn unnamed(frame: &[u8], at: usize) -> Option<Ip> {
    if frame.get(at)? >> 4 == 4 { ipv4(frame, at) } else { ipv6(frame, at) }
}
