//! Ports of TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).

use super::ip::{Ip, ip};
use super::protocol::{SCTP, TCP, UDP};
use super::{set, word};
use crc::{CRC_32_ISCSI, Crc};

/// SCTP's checksum (RFC 9260 appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Sets a TCP or UDP port, over IPv4 or IPv6: offset 0 is the source, 2 the destination.
pub(in super::super) fn port(frame: &mut [u8], place: usize, value: u16) {
    let Some(transport) = ip(frame).and_then(|ip| ip.transport) else { return };
    if !matches!(transport.protocol, TCP | UDP) {
        return;
    }
    let sum = transport.covering_ports(frame);
    set(frame, transport.at + place, &value.to_be_bytes(), &[sum]);
    if let Some(sum) = sum {
        transport.never_zero(frame, sum);
    }
}

/// Sets an SCTP port, over IPv4 or IPv6: offset 0 is the source, 2 the destination. False if that
/// is impossible: a fragment lacks part of the data under the checksum.
pub(in super::super) fn sctp_port(frame: &mut [u8], place: usize, value: u16) -> bool {
    let Some(ip) = ip(frame) else { return true };
    let Some(transport) = ip.transport.filter(|t| t.protocol == SCTP) else { return true };
    if ip.fragment {
        return false;
    }
    let Some(packet) = end(frame, &ip).and_then(|end| frame.get_mut(transport.at..end)) else { return false };
    if packet.len() < 12 {
        return false;
    }
    // A wrong checksum stays wrong: only the difference that the port makes is added.
    let before = CRC32C.checksum(packet);
    set(packet, place, &value.to_be_bytes(), &[]);
    let change = (before ^ CRC32C.checksum(packet)).to_le_bytes();
    packet[8..12].iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
    true
}

/// Where an IP packet ends, before the padding of the frame; `None` if it is truncated.
fn end(frame: &[u8], ip: &Ip) -> Option<usize> {
    let length =
        if ip.v6 { 40 + usize::from(word(frame, ip.at + 4)?) } else { word(frame, ip.at + 2)?.into() };
    Some(ip.at + length).filter(|end| *end <= frame.len())
}
