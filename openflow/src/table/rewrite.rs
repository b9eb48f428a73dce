//! Changes of a packet's bytes, with its checksums (RFC 1624) kept right.

/// Where things stand in a frame.
struct Layout {
    /// Start of the IPv4 header, if it is an IPv4 packet.
    ip: Option<usize>,
    /// Start of the transport header, and the protocol.
    transport: Option<(usize, u8)>,
}

fn layout(frame: &[u8]) -> Layout {
    let tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    let at = if tagged { 16 } else { 12 };
    let none = Layout { ip: None, transport: None };
    if frame.get(at..at + 2) != Some(&[8, 0]) {
        return none;
    }
    let ip = at + 2;
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
    let mut sums = vec![ip + 10];
    sums.extend(transport_checksum(frame, transport));
    set_word(frame, ip + place, (address >> 16) as u16, &sums);
    set_word(frame, ip + place + 2, address as u16, &sums);
}

/// Sets the DSCP.
pub(super) fn dscp(frame: &mut [u8], dscp: u8) {
    let Layout { ip: Some(ip), .. } = layout(frame) else { return };
    let Some(first) = word(frame, ip) else { return };
    set_word(frame, ip, first & 0xff03 | u16::from(dscp & 0x3f) << 2, &[ip + 10]);
}

/// Lowers the TTL; false when the packet must not go on.
pub(super) fn dec_ttl(frame: &mut [u8]) -> bool {
    let Layout { ip: Some(ip), .. } = layout(frame) else { return true };
    let Some(both) = word(frame, ip + 8) else { return false };
    if both >> 8 <= 1 {
        return false;
    }
    set_word(frame, ip + 8, both - 0x100, &[ip + 10]);
    true
}

/// Sets a TCP or UDP port: 0 is the source's place, 2 the destination's.
pub(super) fn port(frame: &mut [u8], place: usize, value: u16) {
    let Layout { transport: Some((at, 6 | 17)), .. } = layout(frame) else { return };
    let sum = transport_checksum(frame, Some((at, layout(frame).transport.map_or(0, |t| t.1))));
    set_word(frame, at + place, value, sum.as_slice());
}

/// Sets an Ethernet address: 0 is the destination's place, 6 the source's.
pub(super) fn mac(frame: &mut [u8], place: usize, mac: [u8; 6]) {
    if let Some(field) = frame.get_mut(place..place + 6) {
        field.copy_from_slice(&mac);
    }
}

/// Pushes a VLAN tag of this type, with VLAN 0 or the outer tag's fields copied (OF 1.3.5 section 5.12.1).
pub(super) fn push_vlan(frame: &mut Vec<u8>, kind: u16) {
    if frame.len() < 14 {
        return;
    }
    let tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    let tci = if tagged { word(frame, 14).unwrap_or(0) } else { 0 };
    let tag = [kind.to_be_bytes(), tci.to_be_bytes()].concat();
    frame.splice(12..12, tag);
}

/// Takes the outermost VLAN tag off, if there is one.
pub(super) fn pop_vlan(frame: &mut Vec<u8>) {
    if matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8])) && frame.len() >= 18 {
        frame.drain(12..16);
    }
}

/// Sets bits of the VLAN tag's control field; a packet without a tag gets one first (as OpenFlow 1.0 has it).
pub(super) fn vlan(frame: &mut Vec<u8>, value: u16, mask: u16) {
    if !matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8])) {
        push_vlan(frame, 0x8100);
    }
    if let Some(old) = word(frame, 14) {
        frame[14..16].copy_from_slice(&(old & !mask | value & mask).to_be_bytes());
    }
}
