//! ARP (RFC 826) of Ethernet and IPv4.

use super::ethernet::ether_type;

/// Sets bytes of an ARP packet at an offset in it.
pub(in super::super) fn arp(frame: &mut [u8], place: usize, value: &[u8]) {
    let Some((0x0806, at)) = ether_type(frame) else { return };
    if frame.get(at..at + 6) == Some(&[0, 1, 8, 0, 6, 4]) {
        super::set(frame, at + place, value, &[]);
    }
}
