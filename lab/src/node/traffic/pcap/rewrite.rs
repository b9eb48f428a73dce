//! Captured frames made into IPv4 packets from one address to another: addresses, identification
//! and checksums are new, all else is as it was captured.
//!
//! Left out, and counted, is what cannot go from one VM to another: what is not IPv4, fragments,
//! protocols other than TCP, UDP and ICMP, packets longer than Ethernet takes, and what was not
//! captured up to its headers' ends. What was cut off behind these (a snapshot length) is filled
//! with zeros, so that lengths on the wire are those of the capture.

use super::read::{Captured, FileError, read};
use etherparse::{Ipv4HeaderSlice, TcpHeaderSlice};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// IP protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Bytes of an Ethernet header, and of a VLAN tag.
const ETHERNET: usize = 14;
const TAG: usize = 4;
/// The longest IP packet on Ethernet.
const MTU: usize = 1500;

/// An IPv4 packet that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, counted from the first.
    pub at: Duration,
    /// From the IP header on; checksums are right.
    pub bytes: Vec<u8>,
}

/// A file's packets, in order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packets {
    /// At least one.
    pub packets: Vec<Packet>,
    /// What was left out, as text; empty when nothing was.
    pub left_out: String,
}

/// Reads a file and makes its frames packets from `from` to `to`, which are marked by `ttl`.
///
/// # Errors
/// When the file cannot be read, or nothing of it can be sent.
pub fn packets(file: &[u8], from: Ipv4Addr, to: Ipv4Addr, ttl: u8) -> Result<Packets, FileError> {
    let frames = read(file)?;
    let first = frames.iter().map(|f| f.at).min().unwrap_or_default();
    let mut left: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut packets = Vec::new();
    for frame in &frames {
        match packet(frame, from, to, ttl) {
            Ok(bytes) => packets.push(Packet { at: frame.at.saturating_sub(first), bytes }),
            Err(why) => *left.entry(why).or_default() += 1,
        }
    }
    packets.sort_by_key(|p| p.at);
    let left_out: Vec<String> = left.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
    let left_out = left_out.join(", ");
    if packets.is_empty() {
        let left_out = if frames.is_empty() { "the file is empty".into() } else { left_out };
        return Err(FileError::Nothing { frames: frames.len(), left_out });
    }
    Ok(Packets { packets, left_out })
}

fn packet(frame: &Captured<'_>, from: Ipv4Addr, to: Ipv4Addr, ttl: u8) -> Result<Vec<u8>, &'static str> {
    const SHORT: &str = "not captured up to their headers' ends";
    let mut at = ETHERNET;
    // Ethernet II with up to two VLAN tags (IEEE 802.1Q, 802.1ad).
    for _ in 0..3 {
        match frame.bytes.get(at - 2..at) {
            Some([0x81 | 0x88, 0x00 | 0xa8]) => at += TAG,
            Some([0x08, 0x00]) => break,
            Some(_) => return Err("that are not IPv4"),
            None => return Err(SHORT),
        }
    }
    let ip = frame.bytes.get(at..).ok_or(SHORT)?;
    let header = Ipv4HeaderSlice::from_slice(ip).map_err(|_| "with a bad IPv4 header")?;
    let (head, total, protocol) =
        (header.slice().len(), usize::from(header.total_len()), header.protocol().0);
    if header.is_fragmenting_payload() {
        return Err("that are fragments");
    }
    if total > MTU {
        return Err("that are longer than Ethernet takes");
    }
    if total < head || at + total > frame.length as usize {
        return Err("with a bad IPv4 header");
    }
    let there = ip.len().min(total);
    let transport = ip.get(head..there).unwrap_or_default();
    match protocol {
        TCP if TcpHeaderSlice::from_slice(transport).is_ok() => {}
        UDP | ICMP if transport.len() >= 8 => {}
        TCP | UDP | ICMP => return Err(SHORT),
        _ => return Err("of other protocols than TCP, UDP and ICMP"),
    }
    let mut bytes = ip.get(..there).unwrap_or_default().to_vec();
    bytes.resize(total, 0);
    bytes[8] = ttl;
    bytes[12..16].copy_from_slice(&from.octets());
    bytes[16..20].copy_from_slice(&to.octets());
    mend_transport(&mut bytes, head, protocol);
    number(&mut bytes, 1);
    Ok(bytes)
}

/// Gives a packet its identification, and the IP header its checksum (RFC 791 section 3.1).
pub(in super::super) fn number(bytes: &mut [u8], identification: u16) {
    let head = bytes.first().map_or(0, |b| usize::from(b & 15) * 4);
    let Some(header) = bytes.get_mut(..head).filter(|h| h.len() >= 20) else { return };
    header[4..6].copy_from_slice(&identification.to_be_bytes());
    header[10..12].fill(0);
    let sum = checksum(0, header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum of TCP (RFC 9293 section 3.1), UDP (RFC 768) or ICMP (RFC 792).
fn mend_transport(bytes: &mut [u8], head: usize, protocol: u8) {
    let length = bytes.len() - head;
    let addresses: u32 = words(&bytes[12..20]);
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    let Some(transport) = bytes.get_mut(head..) else { return };
    if protocol == UDP {
        // A datagram that says another length than its packet has is no datagram any more.
        transport[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        if transport[6..8] == [0, 0] {
            // Its sender has used none, and none stays none.
            return;
        }
    }
    transport[place..place + 2].fill(0);
    // ICMP has no pseudo-header.
    let pseudo = if protocol == ICMP { 0 } else { addresses + u32::from(protocol) + length as u32 };
    let sum = match checksum(pseudo, transport) {
        0 if protocol == UDP => u16::MAX,
        sum => sum,
    };
    transport[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The sum of 16-bit words; an odd byte at the end is the upper half of one.
fn words(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    sum + rest.first().map_or(0, |b| u32::from(*b) << 8)
}

/// RFC 1071.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
