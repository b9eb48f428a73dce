//! ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).

use super::ip::{Transport, ip};
use super::protocol::{ICMP, ICMPV6};
use super::{set, set_bits};

/// The message of a version's ICMP.
fn message(frame: &[u8], v6: bool) -> Option<Transport> {
    let ip = ip(frame).filter(|ip| ip.v6 == v6)?;
    ip.transport.filter(|t| t.protocol == if v6 { ICMPV6 } else { ICMP })
}

/// Sets the type (mask 0xff00) or the code (mask 0x00ff) of ICMP or ICMPv6.
pub(in super::super) fn icmp(frame: &mut [u8], v6: bool, value: u16, mask: u16) {
    if let Some(message) = message(frame, v6) {
        set_bits(frame, message.at, value, mask, &[Some(message.at + 2)]);
    }
}

/// The neighbour discovery message: its offset and its type.
fn discovery(frame: &[u8]) -> Option<(usize, u8)> {
    let at = message(frame, true)?.at;
    match frame.get(at..at + 2)? {
        [kind @ (135 | 136), 0] => Some((at, *kind)),
        _ => None,
    }
}

/// Sets half of the target of a neighbour solicitation or advertisement, at offset 8 or 16 of the
/// message.
pub(in super::super) fn nd_target(frame: &mut [u8], place: usize, half: [u8; 8]) {
    if let Some((at, _)) = discovery(frame) {
        set(frame, at + place, &half, &[Some(at + 2)]);
    }
}

/// Sets the link-layer address in an option: 1 is a solicitation's source, 2 an advertisement's
/// target (RFC 4861 section 4.6.1).
pub(in super::super) fn nd_option(frame: &mut [u8], option: u8, mac: [u8; 6]) {
    let Some((message, kind)) = discovery(frame) else { return };
    if kind != 134 + option {
        return;
    }
    let mut at = message + 24;
    while let Some([found, units]) = frame.get(at..at + 2).and_then(|o| o.first_chunk().copied()) {
        if units == 0 {
            return;
        }
        if found == option && units == 1 {
            return set(frame, at + 2, &mac, &[Some(message + 2)]);
        }
        at += usize::from(units) * 8;
    }
}
