//! The packets that the controller sends and reads: LLDP (IEEE 802.1AB), ARP (RFC 826), DHCP (RFC
//! 2131).
//!
//! Frames come from machines that are not trusted. They are read by checked slices, ARP by
//! etherparse, which is as strict. Malformed frames are dropped and counted; frames of other
//! protocols are ignored.

use crate::dhcp;
use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacketSlice};
use std::net::Ipv4Addr;
use tandem_model::{Arp, ArpOp, DhcpRequest, Dpid, ETH_ARP, ETH_IPV4, ETH_LLDP, Mac, PortNo};

pub use crate::dhcp::{DhcpError, dhcp_frame};

/// Ethernet type of an 802.1Q tag.
const ETH_VLAN: u16 = 0x8100;
/// IP protocol number of UDP.
const UDP: u8 = 17;

/// Nearest bridge (IEEE 802.1AB table 7-1): no 802.1D bridge passes it on.
const LLDP_GROUP: Mac = Mac([0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e]);
/// OUI of Tandem's own TLV: a locally administered number (IEEE 802-2014 section 8.4.1).
const ORGANISATION: [u8; 3] = [0x02, 0x54, 0x64];

/// A packet-in that concerns the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedPacket {
    /// A discovery frame of this controller, with the switch and port that it was sent from.
    Discovery(Dpid, PortNo),
    /// An ARP packet.
    Arp(Arp),
    /// A DHCP client's message.
    Dhcp(DhcpRequest),
    /// Some other IPv4 packet.
    Host(Mac, Ipv4Addr),
}

/// A malformed packet of a known protocol: it is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{protocol}: {why}")]
pub struct Malformed {
    /// The protocol.
    pub protocol: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Parses a frame; `None` for one that does not concern the controller.
///
/// IEEE 802.1Q: a tag with VID 0 is a priority without a VLAN, so it is skipped. A frame of a VLAN,
/// or with a second tag, does not concern the controller.
///
/// When it is a malformed packet of one of the protocols.
pub fn parse(frame: &[u8], secret: u64) -> Result<Option<ParsedPacket>, Malformed> {
    let Some((head, mut body)) = frame.split_first_chunk::<14>() else { return Ok(None) };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *head;
    let (eth_dst, eth_src) = (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5]));
    if eth_src.is_multicast() {
        return Ok(None);
    }
    let mut eth_type = u16::from_be_bytes([t0, t1]);
    if eth_type == ETH_VLAN {
        let Some(([c0, c1, t0, t1], rest)) = body.split_first_chunk::<4>() else { return Ok(None) };
        // The tag holds three bits of priority, one of drop eligibility, and twelve of VID.
        if u16::from_be_bytes([*c0, *c1]) & 0x0fff != 0 {
            return Ok(None);
        }
        eth_type = u16::from_be_bytes([*t0, *t1]);
        body = rest;
    }
    match eth_type {
        ETH_LLDP => Ok(discovery(body, secret)),
        ETH_ARP => Ok(arp(body, eth_src, eth_dst)),
        ETH_IPV4 => ipv4(body, eth_src),
        _ => Ok(None),
    }
}

/// Authenticates a discovery frame as one of this run of the controller: FNV-1a over the secret,
/// switch and port, mixed twice.
fn tag(secret: u64, dpid: Dpid, port: PortNo) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ secret;
    for byte in dpid.0.to_be_bytes().into_iter().chain(port.0.to_be_bytes()).chain(secret.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash
}

fn tlv(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&(kind << 9 | value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// The discovery frame for one port.
pub fn discovery_frame(dpid: Dpid, port: PortNo, mac: Mac, secret: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&LLDP_GROUP.0);
    out.extend_from_slice(&mac.0);
    out.extend_from_slice(&ETH_LLDP.to_be_bytes());
    // IEEE 802.1AB 8.5: chassis id and port id, both "locally assigned" (subtype 7), then time to
    // live.
    tlv(&mut out, 1, &[&[7][..], format!("dpid:{dpid}").as_bytes()].concat());
    tlv(&mut out, 2, &[&[7][..], port.to_string().as_bytes()].concat());
    tlv(&mut out, 3, &120u16.to_be_bytes());
    tlv(&mut out, 127, &[&ORGANISATION[..], &[1], &tag(secret, dpid, port).to_be_bytes()].concat());
    tlv(&mut out, 0, &[]);
    out.resize(out.len().max(60), 0);
    out
}

fn discovery(mut body: &[u8], secret: u64) -> Option<ParsedPacket> {
    let (mut dpid, mut port, mut mark) = (None, None, None);
    loop {
        let (head, rest) = body.split_first_chunk::<2>()?;
        let word = u16::from_be_bytes(*head);
        let (value, after) = rest.split_at_checked(usize::from(word & 0x1ff))?;
        body = after;
        match word >> 9 {
            0 => break,
            1 => {
                let text = std::str::from_utf8(value.strip_prefix(&[7])?).ok()?;
                dpid = Some(text.strip_prefix("dpid:")?.parse::<Dpid>().ok()?);
            }
            2 => port = std::str::from_utf8(value.strip_prefix(&[7])?).ok()?.parse::<u32>().ok().map(PortNo),
            127 => {
                if let Some(value) = value.strip_prefix(&ORGANISATION).and_then(|v| v.strip_prefix(&[1])) {
                    mark = value.try_into().ok().map(u64::from_be_bytes);
                }
            }
            _ => {}
        }
    }
    let (dpid, port) = (dpid?, port?);
    (mark? == tag(secret, dpid, port)).then_some(ParsedPacket::Discovery(dpid, port))
}

fn arp(body: &[u8], eth_src: Mac, eth_dst: Mac) -> Option<ParsedPacket> {
    // Only ARP of IPv4 over Ethernet concerns the controller. Padding behind the packet is ignored.
    let packet = ArpPacketSlice::from_slice(body).ok()?.to_packet().try_eth_ipv4().ok()?;
    let op = match packet.operation {
        ArpOperation::REQUEST => ArpOp::Request,
        ArpOperation::REPLY => ArpOp::Reply,
        _ => return None,
    };
    let arp = Arp {
        op,
        eth_dst,
        sender_mac: Mac(packet.sender_mac),
        sender_ip: packet.sender_ipv4_addr(),
        target_mac: Mac(packet.target_mac),
        target_ip: packet.target_ipv4_addr(),
    };
    // A sender whose ARP address differs from its frame address is forged, and ignored.
    (arp.sender_mac == eth_src).then_some(ParsedPacket::Arp(arp))
}

/// The frame of an ARP packet, padded to the minimum length of an Ethernet frame (60 bytes without
/// its check sequence).
pub fn arp_frame(arp: &Arp) -> Vec<u8> {
    let operation = match arp.op {
        ArpOp::Request => ArpOperation::REQUEST,
        ArpOp::Reply => ArpOperation::REPLY,
    };
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: arp.sender_mac.0,
        sender_ipv4: arp.sender_ip.octets(),
        target_mac: arp.target_mac.0,
        target_ipv4: arp.target_ip.octets(),
    };
    let mut out = Vec::with_capacity(60);
    out.extend_from_slice(&arp.eth_dst.0);
    out.extend_from_slice(&arp.sender_mac.0);
    out.extend_from_slice(&ETH_ARP.to_be_bytes());
    out.extend_from_slice(&packet.to_bytes());
    out.resize(60, 0);
    out
}

/// An IPv4 packet. Of a fragment only the sender is read, since it cannot be decoded as DHCP.
fn ipv4(body: &[u8], eth_src: Mac) -> Result<Option<ParsedPacket>, Malformed> {
    let bad = |why| Malformed { protocol: "IPv4", why };
    let (head, _) = body.split_first_chunk::<20>().ok_or_else(|| bad("it is too short"))?;
    let header = usize::from(head[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[0] >> 4 != 4 || header < 20 || total < header {
        return Err(bad("its lengths contradict each other"));
    }
    let payload = body.get(header..total).ok_or_else(|| bad("it ends before its length"))?;
    let source = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
    // RFC 791: 13 bits of offset and the flag "more fragments".
    let fragment = u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0;
    if head[9] == UDP && !fragment {
        let bad = |why| Malformed { protocol: "UDP", why };
        let (udp, _) = payload.split_first_chunk::<8>().ok_or_else(|| bad("it is too short"))?;
        let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        let data = payload.get(8..length).ok_or_else(|| bad("its length is impossible"))?;
        if udp[..4] == [0, 68, 0, 67] {
            return Ok(dhcp::request(data, eth_src)?.map(ParsedPacket::Dhcp));
        }
    }
    Ok(Some(ParsedPacket::Host(eth_src, source)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_discovery_frame_names_its_port_to_those_who_know_the_secret() {
        let (dpid, port) = (Dpid(0xa1), PortNo(7));
        let frame = discovery_frame(dpid, port, Mac([2, 0, 0, 0, 0, 1]), 42);
        assert_eq!(parse(&frame, 42), Ok(Some(ParsedPacket::Discovery(dpid, port))));
        assert_eq!(parse(&frame, 43), Ok(None), "another controller's, or forged");
    }

    #[test]
    fn arp_reads_back_as_written_and_a_forged_sender_is_nobody() {
        let arp = Arp {
            op: ArpOp::Request,
            eth_dst: Mac::BROADCAST,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac([0; 6]),
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut frame = arp_frame(&arp);
        assert_eq!(parse(&frame, 0), Ok(Some(ParsedPacket::Arp(arp))));
        frame[11] = 9;
        assert_eq!(parse(&frame, 0), Ok(None));
    }

    #[test]
    fn only_whole_requests_and_replies_about_ipv4_over_ethernet_are_arp() {
        let arp = Arp {
            op: ArpOp::Reply,
            eth_dst: Mac([2, 0, 0, 0, 0, 2]),
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac([2, 0, 0, 0, 0, 2]),
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let frame = arp_frame(&arp);
        assert_eq!(frame.len(), 60, "the least that Ethernet has");
        assert_eq!(parse(&frame[..42], 0), Ok(Some(ParsedPacket::Arp(arp))), "without padding");
        for length in 14..42 {
            assert_eq!(parse(&frame[..length], 0), Ok(None), "cut off at {length}");
        }
        // RFC 826: hardware space, protocol space, both lengths, opcode.
        for (at, value) in [(15, 6), (16, 0x86), (18, 8), (19, 16), (18, 0), (19, 0), (21, 3), (20, 1)] {
            let mut other = frame.clone();
            other[at] = value;
            assert_eq!(parse(&other, 0), Ok(None), "byte {at} is {value}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_parser_panic(frame in prop::collection::vec(any::<u8>(), 0..400), kind in 0usize..4) {
            let mut frame = frame;
            let types: [&[u8]; 4] = [&[0x88, 0xcc], &[8, 6, 0, 1, 8, 0, 6, 4], &[8, 0, 0x45], &[]];
            if frame.len() > 30 {
                frame[14 - 2..14 - 2 + types[kind].len()].copy_from_slice(types[kind]);
            }
            let _ = parse(&frame, 1);
        }
    }
}
