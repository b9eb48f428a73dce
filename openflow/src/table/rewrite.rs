//! Changes of a packet's bytes, with its checksums (RFC 1624) kept right.

use super::key::ether_type;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// Where things stand in a frame.
struct Layout {
    /// Start of the IPv4 header, if it is an IPv4 packet.
    ip: Option<usize>,
    /// Start of the transport header, and the protocol.
    transport: Option<(usize, u8)>,
}

fn layout(frame: &[u8]) -> Layout {
    let none = Layout { ip: None, transport: None };
    let Some((0x0800, ip)) = ether_type(frame) else { return none };
    let Some(first) = frame.get(ip) else { return none };
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < 20 || frame.len() < ip + header {
        return none;
    }
    let first_fragment =
        frame.get(ip + 6..ip + 8).is_some_and(|f| u16::from_be_bytes([f[0], f[1]]) & 0x1fff == 0);
    Layout { ip: Some(ip), transport: first_fragment.then(|| (ip + header, frame[ip + 9])) }
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

/// RFC 1624 equation 3.
fn adjust(frame: &mut [u8], checksum_at: usize, old: u16, new: u16) {
    let Some(sum) = word(frame, checksum_at) else { return };
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    frame[checksum_at..checksum_at + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

/// Sets a 16-bit word and every checksum that covers it.
fn set_word(frame: &mut [u8], at: usize, value: u16, checksums: &[usize]) {
    let Some(old) = word(frame, at) else { return };
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    for sum in checksums {
        adjust(frame, *sum, old, value);
    }
}

/// Where the transport's checksum stands, if it has one in use.
fn transport_checksum(frame: &[u8], transport: Option<(usize, u8)>) -> Option<usize> {
    match transport? {
        (at, 6) => Some(at + 16),
        // A UDP checksum of zero is none (RFC 768).
        (at, 17) => Some(at + 6).filter(|at| word(frame, *at).is_some_and(|sum| sum != 0)),
        _ => None,
    }
}

/// Sets an IPv4 address: 12 is the source's place in the header, 16 the destination's.
pub(super) fn ipv4_address(frame: &mut [u8], place: usize, address: u32) {
    let Layout { ip: Some(ip), transport } = layout(frame) else { return };
    let checksum = transport_checksum(frame, transport);
    for (at, half) in [(ip + place, (address >> 16) as u16), (ip + place + 2, address as u16)] {
        let Some(old) = word(frame, at) else { return };
        set_word(frame, at, half, &[ip + 10]);
        if let Some(sum) = checksum {
            adjust(frame, sum, old, half);
        }
    }
    if let (Some(sum), Some((_, UDP))) = (checksum, transport) {
        never_zero(frame, sum);
    }
}

/// Where the IPv6 header starts, if it is an IPv6 packet.
fn ipv6(frame: &[u8]) -> Option<usize> {
    let (0x86dd, ip) = ether_type(frame)? else { return None };
    let header = frame.get(ip..ip + 40)?;
    (header[0] >> 4 == 6).then_some(ip)
}

/// Where the transport header of an IPv6 packet is, and its protocol: behind the extension headers (RFC 8200 section 4). `None` where
/// it cannot be seen: behind encryption, in a later fragment, or cut off.
fn ipv6_transport(frame: &[u8]) -> Option<(usize, u8)> {
    let ip = ipv6(frame)?;
    let (mut next, mut at) = (*frame.get(ip + 6)?, ip + 40);
    loop {
        let length = match next {
            // Hop-by-hop, routing and destination options.
            0 | 43 | 60 => (usize::from(*frame.get(at + 1)?) + 1) * 8,
            44 if word(frame, at + 2)? & 0xfff8 == 0 => 8,
            44 | 50 | 59 => return None,
            51 => (usize::from(*frame.get(at + 1)?) + 2) * 4,
            protocol => return Some((at, protocol)),
        };
        next = *frame.get(at)?;
        at += length;
    }
}

/// Where the transport header of an IP packet of either version is, and its protocol.
fn any_transport(frame: &[u8]) -> Option<(usize, u8)> {
    layout(frame).transport.or_else(|| ipv6_transport(frame))
}

/// Sets bits of the IPv4 type of service or of the IPv6 traffic class, which are made of DSCP and ECN alike.
pub(super) fn traffic_class(frame: &mut [u8], value: u8, mask: u8) {
    let (value, mask) = (u16::from(value & mask), u16::from(mask));
    if let Some(ip) = layout(frame).ip {
        let Some(first) = word(frame, ip) else { return };
        set_word(frame, ip, first & !mask | value, &[ip + 10]);
    } else if let Some(ip) = ipv6(frame) {
        let Some(first) = word(frame, ip) else { return };
        set_word(frame, ip, first & !(mask << 4) | value << 4, &[]);
    }
}

/// Raises the drop precedence of an assured forwarding class (RFC 2597 section 6), at most to the highest; other packets stay as they are.
pub(super) fn drop_precedence(frame: &mut [u8], level: u8) {
    let class = if let Some(ip) = layout(frame).ip {
        frame.get(ip + 1).copied()
    } else {
        ipv6(frame).and_then(|ip| word(frame, ip)).map(|w| (w >> 4) as u8)
    };
    let Some(dscp) = class.map(|c| c >> 2) else { return };
    let (class, precedence) = (dscp >> 3, dscp >> 1 & 3);
    if (1..=4).contains(&class) && precedence > 0 && dscp & 1 == 0 {
        let raised = precedence.saturating_add(level).min(3);
        traffic_class(frame, (class << 3 | raised << 1) << 2, 0xfc);
    }
}

/// Lowers the TTL or hop limit; false when the packet must not go on.
pub(super) fn dec_ttl(frame: &mut [u8]) -> bool {
    let Some((at, checksum)) = ttl(frame) else { return true };
    let Some(both) = word(frame, at) else { return false };
    let both = both.rotate_left(if checksum.is_some() { 0 } else { 8 });
    if both >> 8 <= 1 {
        return false;
    }
    set_ttl(frame, (both >> 8) as u8 - 1);
    true
}

/// The word that the TTL is in and its checksum (IPv4), or the word that ends with the hop limit (IPv6).
fn ttl(frame: &[u8]) -> Option<(usize, Option<usize>)> {
    let four = layout(frame).ip.map(|ip| (ip + 8, Some(ip + 10)));
    four.or_else(|| ipv6(frame).map(|ip| (ip + 6, None)))
}

/// Sets the TTL or hop limit.
pub(super) fn set_ttl(frame: &mut [u8], value: u8) {
    let Some((at, checksum)) = ttl(frame) else { return };
    let Some(both) = word(frame, at) else { return };
    match checksum {
        Some(sum) => set_word(frame, at, both & 0xff | u16::from(value) << 8, &[sum]),
        None => set_word(frame, at, both & 0xff00 | u16::from(value), &[]),
    }
}

/// Sets a TCP or UDP port, over IPv4 or IPv6: 0 is the source's place, 2 the destination's.
pub(super) fn port(frame: &mut [u8], place: usize, value: u16) {
    let Some(transport @ (at, 6 | UDP)) = any_transport(frame) else { return };
    let sum = transport_checksum(frame, Some(transport));
    set_word(frame, at + place, value, sum.as_slice());
    if let Some(sum) = sum.filter(|_| transport.1 == UDP) {
        never_zero(frame, sum);
    }
}

/// A UDP checksum that comes out as zero is sent as all ones, since zero means none (RFC 768).
fn never_zero(frame: &mut [u8], checksum_at: usize) {
    if word(frame, checksum_at) == Some(0) {
        frame[checksum_at..checksum_at + 2].fill(0xff);
    }
}

/// Sets an Ethernet address: 0 is the destination's place, 6 the source's.
pub(super) fn mac(frame: &mut [u8], place: usize, mac: [u8; 6]) {
    if let Some(field) = frame.get_mut(place..place + 6) {
        field.copy_from_slice(&mac);
    }
}

/// True with a VLAN tag.
#[inline]
pub(super) fn tagged(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// True when there is a VLAN tag under the VLAN tag.
pub(super) fn tagged_twice(frame: &[u8]) -> bool {
    tagged(frame) && matches!(frame.get(16..18), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// Pushes a VLAN tag of this type, with VLAN 0 or the outer tag's fields copied (OF 1.3.5 section 5.12.1).
pub(super) fn push_vlan(frame: &mut Vec<u8>, kind: u16) {
    if frame.len() < 14 {
        return;
    }
    let tci = if tagged(frame) { word(frame, 14).unwrap_or(0) } else { 0 };
    let [k0, k1] = kind.to_be_bytes();
    let [t0, t1] = tci.to_be_bytes();
    frame.splice(12..12, [k0, k1, t0, t1]);
}

/// Takes the outermost VLAN tag off, if there is one.
pub(super) fn pop_vlan(frame: &mut Vec<u8>) {
    if tagged(frame) && frame.len() >= 18 {
        frame.drain(12..16);
    }
}

/// Sets bits of the VLAN tag's control field, if there is a tag.
pub(super) fn vlan(frame: &mut [u8], value: u16, mask: u16) {
    if !tagged(frame) {
        return;
    }
    if let Some(old) = word(frame, 14) {
        frame[14..16].copy_from_slice(&(old & !mask | value & mask).to_be_bytes());
    }
}
