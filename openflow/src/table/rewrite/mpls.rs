//! MPLS (RFC 3032): 20 bits label, 3 bits traffic class, bottom of stack, TTL.

use super::ethernet::{TYPE, ether_type};
use super::ip::{ip, set_ttl_at, ttl_at};
use super::set_bits;

/// Bytes of a label stack entry.
const ENTRY: usize = 4;
/// The bottom-of-stack bit.
const BOTTOM: u32 = 1 << 8;

/// Offset and value of the outermost label stack entry.
fn outermost(frame: &[u8]) -> Option<(usize, u32)> {
    let (0x8847 | 0x8848, at) = ether_type(frame)? else { return None };
    Some((at, entry(frame, at)?))
}

fn entry(frame: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

/// Pushes a label stack entry directly behind the Ethernet header, before any other tag. Label,
/// traffic class and TTL are copied from the outermost entry, or without one the TTL from the IP
/// header (OF 1.3.5 sections 5.12 and 5.12.1).
pub(in super::super) fn push_mpls(frame: &mut Vec<u8>, kind: u16) {
    if frame.len() < TYPE + 2 {
        return;
    }
    let under = matches!(super::word(frame, TYPE), Some(0x8847 | 0x8848));
    let copied = outermost(frame).map(|(_, entry)| entry & !BOTTOM);
    let ttl = || ip(frame).and_then(|ip| ttl_at(frame, ip.at)).unwrap_or(0);
    let entry = copied.unwrap_or_else(|| ttl().into()) | if under { 0 } else { BOTTOM };
    let [k0, k1] = kind.to_be_bytes();
    let [e0, e1, e2, e3] = entry.to_be_bytes();
    // The Ethernet type of the payload is lost: a label stack entry does not hold it.
    frame.splice(TYPE..TYPE + 2, [k0, k1, e0, e1, e2, e3]);
}

/// Removes the outermost label stack entry; `kind` becomes the Ethernet type of the payload.
pub(in super::super) fn pop_mpls(frame: &mut Vec<u8>, kind: u16) {
    let Some((at, _)) = outermost(frame) else { return };
    frame.drain(at..at + ENTRY);
    frame[at - 2..at].copy_from_slice(&kind.to_be_bytes());
}

/// Sets bits of the outermost label stack entry.
pub(in super::super) fn mpls_bits(frame: &mut [u8], value: u32, mask: u32) {
    if let Some((at, _)) = outermost(frame) {
        set_bits(frame, at, (value >> 16) as u16, (mask >> 16) as u16, &[]);
        set_bits(frame, at + 2, value as u16, mask as u16, &[]);
    }
}

/// Sets the TTL of the outermost label stack entry.
pub(in super::super) fn set_mpls_ttl(frame: &mut [u8], ttl: u8) {
    mpls_bits(frame, ttl.into(), 0xff);
}

/// Decrements the TTL of the outermost label stack entry; false when the packet has to be dropped.
pub(in super::super) fn dec_mpls_ttl(frame: &mut [u8]) -> bool {
    let Some((_, entry)) = outermost(frame) else { return true };
    let ttl = entry as u8;
    if ttl > 1 {
        set_mpls_ttl(frame, ttl - 1);
    }
    ttl > 1
}

/// Copies the TTL of the header behind the outermost label stack entry into that entry.
pub(in super::super) fn copy_ttl_out(frame: &mut [u8]) {
    let Some((at, outer)) = outermost(frame) else { return };
    let next = at + ENTRY;
    let ttl =
        if outer & BOTTOM != 0 { ttl_at(frame, next) } else { entry(frame, next).map(|inner| inner as u8) };
    if let Some(ttl) = ttl {
        set_mpls_ttl(frame, ttl);
    }
}

/// Copies the TTL of the outermost label stack entry into the header behind it.
pub(in super::super) fn copy_ttl_in(frame: &mut [u8]) {
    let Some((at, outer)) = outermost(frame) else { return };
    if outer & BOTTOM != 0 {
        set_ttl_at(frame, at + ENTRY, outer as u8);
    } else {
        set_bits(frame, at + ENTRY + 2, (outer & 0xff) as u16, 0xff, &[]);
    }
}
