//! The packets that the controller sends and understands: LLDP (IEEE 802.1AB), ARP (RFC 826), DHCP (RFC 2131).
//!
//! Frames come from machines that nobody vouches for: everything is checked, and what is not understood is nothing.

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::net::Ipv4Addr;
use tandem_model::{
    Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Dpid, ETH_ARP, ETH_IPV4, ETH_LLDP,
    Mac, PortNo,
};

/// Nearest bridge (IEEE 802.1AB table 7-1): no 802.1D bridge passes it on.
const LLDP_GROUP: Mac = Mac([0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e]);
/// Organisation of our own TLV: a locally administered number (IEEE 802-2014 section 8.4.1).
const ORGANISATION: [u8; 3] = [0x02, 0x54, 0x64];

/// What a packet-in shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A discovery frame of one of our switches, sent from this port of it.
    Discovery(Dpid, PortNo),
    /// An ARP packet.
    Arp(Arp),
    /// A DHCP client's message.
    Dhcp(DhcpRequest),
    /// Some other IPv4 packet.
    Host(Mac, Ipv4Addr),
}

/// What a frame is; `None` for everything else, and for what is broken.
pub fn parse(frame: &[u8], secret: u64) -> Option<Seen> {
    let (head, body) = frame.split_first_chunk::<14>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *head;
    let (eth_dst, eth_src) = (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5]));
    if eth_src.is_multicast() {
        return None;
    }
    match u16::from_be_bytes([t0, t1]) {
        ETH_LLDP => discovery(body, secret),
        ETH_ARP => arp(body, eth_src, eth_dst),
        ETH_IPV4 => ipv4(frame, eth_src),
        _ => None,
    }
}

/// Ties a discovery frame to this controller's run: FNV-1a over the secret and the place, twice mixed.
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
    // IEEE 802.1AB 8.5: chassis id and port id, both "locally assigned" (subtype 7), then time to live.
    tlv(&mut out, 1, &[&[7][..], format!("dpid:{dpid}").as_bytes()].concat());
    tlv(&mut out, 2, &[&[7][..], port.to_string().as_bytes()].concat());
    tlv(&mut out, 3, &120u16.to_be_bytes());
    tlv(&mut out, 127, &[&ORGANISATION[..], &[1], &tag(secret, dpid, port).to_be_bytes()].concat());
    tlv(&mut out, 0, &[]);
    out.resize(out.len().max(60), 0);
    out
}

fn discovery(mut body: &[u8], secret: u64) -> Option<Seen> {
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
    (mark? == tag(secret, dpid, port)).then_some(Seen::Discovery(dpid, port))
}

fn arp(body: &[u8], eth_src: Mac, eth_dst: Mac) -> Option<Seen> {
    // Hardware Ethernet, protocol IPv4, lengths 6 and 4.
    let rest = body.strip_prefix(&[0, 1, 8, 0, 6, 4])?;
    let (fields, _) = rest.split_first_chunk::<22>()?;
    let op = match fields[..2] {
        [0, 1] => ArpOp::Request,
        [0, 2] => ArpOp::Reply,
        _ => return None,
    };
    let mac = |at: usize| Some(Mac(fields.get(at..at + 6)?.try_into().ok()?));
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(fields.get(at..at + 4)?).ok()?));
    let arp =
        Arp { op, eth_dst, sender_mac: mac(2)?, sender_ip: ip(8)?, target_mac: mac(12)?, target_ip: ip(18)? };
    // A sender that hides behind another frame address is no sender.
    (arp.sender_mac == eth_src).then_some(Seen::Arp(arp))
}

/// The frame of an ARP packet.
pub fn arp_frame(arp: &Arp) -> Vec<u8> {
    let mut out = Vec::with_capacity(60);
    out.extend_from_slice(&arp.eth_dst.0);
    out.extend_from_slice(&arp.sender_mac.0);
    out.extend_from_slice(&ETH_ARP.to_be_bytes());
    out.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, if arp.op == ArpOp::Request { 1 } else { 2 }]);
    out.extend_from_slice(&arp.sender_mac.0);
    out.extend_from_slice(&arp.sender_ip.octets());
    out.extend_from_slice(&arp.target_mac.0);
    out.extend_from_slice(&arp.target_ip.octets());
    out.resize(60, 0);
    out
}

fn ipv4(frame: &[u8], eth_src: Mac) -> Option<Seen> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = packet.net else { return None };
    if let Some(TransportSlice::Udp(udp)) = &packet.transport
        && (udp.source_port(), udp.destination_port()) == (68, 67)
    {
        return dhcp(udp.payload(), eth_src);
    }
    Some(Seen::Host(eth_src, ip.header().source_addr()))
}

fn dhcp(payload: &[u8], eth_src: Mac) -> Option<Seen> {
    let message = Message::decode(&mut Decoder::new(payload)).ok()?;
    if message.opcode() != Opcode::BootRequest {
        return None;
    }
    let address = |code| match message.opts().get(code) {
        Some(DhcpOption::RequestedIpAddress(ip) | DhcpOption::ServerIdentifier(ip)) => Some(*ip),
        _ => None,
    };
    let kind = match message.opts().msg_type()? {
        MessageType::Discover => DhcpRequestKind::Discover,
        MessageType::Request => DhcpRequestKind::Request,
        MessageType::Decline => DhcpRequestKind::Decline,
        MessageType::Release => DhcpRequestKind::Release,
        MessageType::Inform => DhcpRequestKind::Inform,
        _ => return None,
    };
    Some(Seen::Dhcp(DhcpRequest {
        kind,
        xid: message.xid(),
        mac: Mac(message.chaddr().try_into().ok()?),
        eth_src,
        client: message.ciaddr(),
        requested: address(OptionCode::RequestedIpAddress),
        server: address(OptionCode::ServerIdentifier),
        broadcast: message.flags().broadcast(),
    }))
}

/// A DHCP message that could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a DHCP answer to {mac} could not be written: {why}")]
pub struct DhcpError {
    /// For whom.
    pub mac: Mac,
    /// The writer's words.
    pub why: String,
}

/// The frame of a DHCP server's message.
///
/// # Errors
/// When the message has no valid form (too many DNS servers, say).
pub fn dhcp_frame(reply: &DhcpReply) -> Result<Vec<u8>, DhcpError> {
    let fail = |why: String| DhcpError { mac: reply.mac, why };
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let mut message =
        Message::new_with_id(reply.xid, reply.client, reply.address, unspecified, unspecified, &reply.mac.0);
    message.set_opcode(Opcode::BootReply);
    if reply.broadcast {
        message.set_flags(Flags::default().set_broadcast());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(match reply.kind {
        DhcpReplyKind::Offer => MessageType::Offer,
        DhcpReplyKind::Ack => MessageType::Ack,
        DhcpReplyKind::Nak => MessageType::Nak,
    }));
    options.insert(DhcpOption::ServerIdentifier(reply.server));
    if reply.kind != DhcpReplyKind::Nak {
        let mask = tandem_model::Prefix::new(unspecified, reply.prefix_len).map_or(unspecified, |p| p.mask());
        options.insert(DhcpOption::SubnetMask(mask));
        if let Some(router) = reply.router {
            options.insert(DhcpOption::Router(vec![router]));
        }
        if !reply.dns.is_empty() {
            options.insert(DhcpOption::DomainNameServer(reply.dns.clone()));
        }
        if !reply.lease.is_zero() {
            let seconds = u32::try_from(reply.lease.as_secs()).unwrap_or(u32::MAX);
            options.insert(DhcpOption::AddressLeaseTime(seconds));
        }
    }
    let mut payload = Vec::with_capacity(320);
    message.encode(&mut Encoder::new(&mut payload)).map_err(|e| fail(e.to_string()))?;
    // RFC 1542 section 2.1: clients may discard BOOTP messages below 300 bytes.
    payload.resize(payload.len().max(300), 0);
    let to = match (reply.broadcast, reply.client.is_unspecified()) {
        (true, _) => Ipv4Addr::BROADCAST,
        (false, false) => reply.client,
        (false, true) => reply.address,
    };
    let eth_dst = if reply.broadcast { Mac::BROADCAST } else { reply.mac };
    let builder = PacketBuilder::ethernet2(reply.server_mac.0, eth_dst.0)
        .ipv4(reply.server.octets(), to.octets(), 64)
        .udp(67, 68);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, &payload).map_err(|e| fail(e.to_string()))?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_discovery_frame_names_its_port_to_those_who_know_the_secret() {
        let (dpid, port) = (Dpid(0xa1), PortNo(7));
        let frame = discovery_frame(dpid, port, Mac([2, 0, 0, 0, 0, 1]), 42);
        assert_eq!(parse(&frame, 42), Some(Seen::Discovery(dpid, port)));
        assert_eq!(parse(&frame, 43), None, "another controller's, or forged");
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
        assert_eq!(parse(&frame, 0), Some(Seen::Arp(arp)));
        frame[11] = 9;
        assert_eq!(parse(&frame, 0), None);
    }

    #[test]
    fn a_dhcp_answer_is_a_valid_packet_from_server_to_client() {
        let reply = DhcpReply {
            kind: DhcpReplyKind::Offer,
            xid: 77,
            mac: Mac([2, 16, 0, 0, 0, 1]),
            client: Ipv4Addr::UNSPECIFIED,
            address: Ipv4Addr::new(10, 0, 0, 3),
            server: Ipv4Addr::new(10, 255, 255, 254),
            server_mac: Mac([2, 2, 0, 0, 0, 1]),
            prefix_len: 8,
            router: Some(Ipv4Addr::new(10, 255, 255, 1)),
            dns: vec![],
            lease: std::time::Duration::from_secs(600),
            broadcast: false,
        };
        let frame = dhcp_frame(&reply).expect("a frame");
        let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
        let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP") };
        let message = Message::decode(&mut Decoder::new(udp.payload())).expect("a DHCP message");
        assert_eq!((message.xid(), message.yiaddr()), (77, reply.address));
        assert_eq!(
            message.opts().get(OptionCode::SubnetMask),
            Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 0, 0)))
        );
        assert_eq!(parse(&frame, 0), Some(Seen::Host(reply.server_mac, reply.server)), "not a client's");
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
