//! The server's side of DHCP (RFC 2131, options RFC 2132), for addresses from the address plan.
//!
//! Requests come from VMs, which are not trusted. So they are read by checked slices only: the
//! fixed fields, and the few options that a reply needs. All other options are skipped by their
//! length, whatever their content, so that a malformed one hides none behind it. Replies are built
//! with dhcproto, from the controller's own values.

use crate::packets::Malformed;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode};
use dhcproto::{Encodable, Encoder};
use etherparse::PacketBuilder;
use std::net::Ipv4Addr;
use tandem_model::{DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Mac};

/// The magic cookie that marks the vendor area as DHCP options (RFC 2131 section 3).
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Offsets of the fixed fields (RFC 2131 figure 1): sname, file, and the options with their magic
/// cookie.
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;

/// Option codes (RFC 2132).
mod code {
    pub(super) const PAD: u8 = 0;
    pub(super) const REQUESTED_ADDRESS: u8 = 50;
    pub(super) const OVERLOAD: u8 = 52;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const END: u8 = 255;
}

fn bad(why: &'static str) -> Malformed {
    Malformed { protocol: "DHCP", why }
}

/// The options that a reply needs, as bytes. An option that comes in several pieces is joined (RFC
/// 3396 section 7).
#[derive(Debug, Default)]
struct Options {
    message_type: Option<Vec<u8>>,
    requested: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    overload: Option<Vec<u8>>,
}

impl Options {
    /// Reads one field of options, up to its end option or its last byte.
    fn read(&mut self, mut field: &[u8]) -> Result<(), Malformed> {
        while let [number, rest @ ..] = field {
            field = match *number {
                code::PAD => rest,
                code::END => return Ok(()),
                number => {
                    let cut = || bad("an option ends behind the packet");
                    let (length, rest) = rest.split_first().ok_or_else(cut)?;
                    let (value, rest) = rest.split_at_checked((*length).into()).ok_or_else(cut)?;
                    let kept = match number {
                        code::MESSAGE_TYPE => Some(&mut self.message_type),
                        code::REQUESTED_ADDRESS => Some(&mut self.requested),
                        code::SERVER => Some(&mut self.server),
                        code::OVERLOAD => Some(&mut self.overload),
                        _ => None,
                    };
                    if let Some(kept) = kept {
                        kept.get_or_insert_default().extend_from_slice(value);
                    }
                    rest
                }
            };
        }
        Ok(())
    }
}

fn address(value: Option<&Vec<u8>>, why: &'static str) -> Result<Option<Ipv4Addr>, Malformed> {
    let read = |v: &Vec<u8>| <[u8; 4]>::try_from(v.as_slice()).map(Ipv4Addr::from);
    value.map(read).transpose().map_err(|_| bad(why))
}

/// Reads a message of a client; `None` for anything else (BOOTP, a server's reply, a type of later
/// RFCs).
///
/// When it is malformed: no part of it may be used then.
pub(crate) fn request(payload: &[u8], eth_src: Mac) -> Result<Option<DhcpRequest>, Malformed> {
    let (fixed, options) = payload.split_at_checked(OPTIONS).ok_or_else(|| bad("it is too short"))?;
    let four =
        |at: usize| -> [u8; 4] { fixed.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default() };
    let [op, htype, hlen, _] = four(0);
    if op != 1 || four(OPTIONS - 4) != MAGIC {
        return Ok(None);
    }
    // RFC 2131 section 2: chaddr has 16 octets; Ethernet's (htype 1) are 6.
    if htype != 1 || hlen != 6 {
        return Err(bad("its hardware address is not Ethernet's"));
    }
    let chaddr = fixed.get(28..34).and_then(|b| <[u8; 6]>::try_from(b).ok()).unwrap_or_default();
    if chaddr != eth_src.0 {
        return Err(bad("its hardware address is not the frame's sender"));
    }
    let mut found = Options::default();
    found.read(options)?;
    // RFC 2132 section 9.3; RFC 3396 section 5: first the file field, then sname.
    if let Some(value) = found.overload.take() {
        let [which @ 1..=3] = value[..] else { return Err(bad("its option overload is unknown")) };
        for field in [(which & 1 != 0).then_some(FILE), (which & 2 != 0).then_some(SNAME)] {
            found.read(field.and_then(|f| fixed.get(f)).unwrap_or_default())?;
        }
    }
    let kind = match found.message_type.as_deref() {
        None => return Ok(None),
        Some([1]) => DhcpRequestKind::Discover,
        Some([3]) => DhcpRequestKind::Request,
        Some([4]) => DhcpRequestKind::Decline,
        Some([7]) => DhcpRequestKind::Release,
        Some([8]) => DhcpRequestKind::Inform,
        Some([_]) => return Ok(None),
        Some(_) => return Err(bad("its message type is not one byte")),
    };
    Ok(Some(DhcpRequest {
        kind,
        xid: u32::from_be_bytes(four(4)),
        mac: Mac(chaddr),
        eth_src,
        client: Ipv4Addr::from(four(12)),
        requested: address(found.requested.as_ref(), "its requested address has no 4 bytes")?,
        server: address(found.server.as_ref(), "its server identifier has no 4 bytes")?,
        // RFC 2131 figure 2: the broadcast flag is the first bit of flags.
        broadcast: four(8)[2] & 0x80 != 0,
    }))
}

/// A DHCP message that dhcproto could not encode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a DHCP answer to {mac} could not be written: {why}")]
pub struct DhcpError {
    /// The client.
    pub mac: Mac,
    /// dhcproto's error.
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
    use crate::packets::{ParsedPacket, parse};
    use dhcproto::v4::OptionCode;
    use dhcproto::{Decodable, Decoder};
    use etherparse::{SlicedPacket, TransportSlice};
    use proptest::prelude::*;

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
        assert_eq!(
            parse(&frame, 0),
            Ok(Some(ParsedPacket::Host(reply.server_mac, reply.server))),
            "not a client's"
        );
    }

    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A client's message with these options, and with these bytes in the file and sname fields.
    fn message(options: &[u8], file: &[u8], sname: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 240];
        out[..4].copy_from_slice(&[1, 1, 6, 0]);
        out[28..34].copy_from_slice(&CLIENT.0);
        out[44..44 + sname.len()].copy_from_slice(sname);
        out[108..108 + file.len()].copy_from_slice(file);
        out[236..].copy_from_slice(&MAGIC);
        out.extend_from_slice(options);
        out
    }

    type Short = (DhcpRequestKind, Option<Ipv4Addr>, Option<Ipv4Addr>);

    fn read(options: &[u8], file: &[u8], sname: &[u8]) -> Result<Option<Short>, Malformed> {
        let found = request(&message(options, file, sname), CLIENT)?;
        Ok(found.map(|r| (r.kind, r.requested, r.server)))
    }

    /// Options as real clients send them, with the request that each is read as. `None`: not a
    /// message of a client; an error: dropped.
    #[test]
    fn options_are_found_wherever_the_rfcs_let_them_stand() {
        use DhcpRequestKind::{Discover, Request};
        let ip = |n| Some(Ipv4Addr::new(10, 0, 0, n));
        type Case<'a> = (&'a [u8], &'a [u8], &'a [u8], Short);
        let good: &[Case<'_>] = &[
            (&[53, 1, 1, 255], &[], &[], (Discover, None, None)),
            (&[53, 1, 1], &[], &[], (Discover, None, None)),
            (&[0, 0, 53, 1, 1, 0, 0, 255, 53, 9], &[], &[], (Discover, None, None)),
            // Options of invalid length: an FQDN of three bytes, a classless route of 77 bits, an
            // empty option, a private one.
            (&[81, 3, 0, 0, 0, 121, 2, 77, 1, 43, 0, 224, 1, 9, 53, 1, 1], &[], &[], (Discover, None, None)),
            // RFC 3396: the server's address in two pieces with another option between them.
            (&[53, 1, 3, 54, 2, 10, 0, 12, 1, 65, 54, 2, 0, 9, 255], &[], &[], (Request, None, ip(9))),
            // RFC 2132 9.3: options in the file field, in sname, and in both.
            (&[52, 1, 1, 53, 1, 3], &[50, 4, 10, 0, 0, 5, 255], &[], (Request, ip(5), None)),
            (&[52, 1, 2, 53, 1, 3], &[50, 4, 10, 0, 0, 5], &[54, 4, 10, 0, 0, 6], (Request, None, ip(6))),
            (&[52, 1, 3], &[53, 1, 3, 54, 2, 10, 0], &[54, 2, 0, 6, 255], (Request, None, ip(6))),
            // Without the overload option these fields hold names.
            (&[53, 1, 1], &[54, 4, 10, 0, 0, 5], &[54, 4, 10, 0, 0, 6], (Discover, None, None)),
        ];
        for (options, file, sname, wanted) in good {
            assert_eq!(read(options, file, sname), Ok(Some(*wanted)), "{options:?} {file:?} {sname:?}");
        }
        for nothing in [&[][..], &[255], &[50, 4, 10, 0, 0, 5], &[53, 1, 2], &[53, 1, 99]] {
            assert_eq!(read(nothing, &[], &[]), Ok(None), "{nothing:?}");
        }
        let broken: &[&[u8]] = &[
            &[53],
            &[53, 1],
            &[53, 1, 1, 12, 9, 65],
            &[53, 0],
            &[53, 1, 3, 53, 1, 1],
            &[53, 1, 3, 54, 3, 10, 0, 0],
            &[53, 1, 3, 50, 0],
            &[53, 1, 1, 52, 1, 4],
            &[53, 1, 1, 52, 0],
        ];
        for options in broken {
            assert!(read(options, &[], &[]).is_err(), "{options:?}");
        }
        assert!(read(&[53, 1, 1, 52, 1, 1], &[54, 200], &[]).is_err(), "longer than its field");
    }

    #[test]
    fn only_ethernet_addresses_that_are_the_senders_are_clients() {
        let good = message(&[53, 1, 1], &[], &[]);
        assert!(matches!(request(&good, CLIENT), Ok(Some(_))));
        for length in [0, 1, 5, 7, 16, 17, 255] {
            let mut other = good.clone();
            other[2] = length;
            assert!(request(&other, CLIENT).is_err(), "{length}");
        }
        let mut token_ring = good.clone();
        token_ring[1] = 6;
        assert!(request(&token_ring, CLIENT).is_err());
        assert!(request(&good, Mac([2, 0, 0, 0, 0, 2])).is_err());
        assert!(request(&good[..239], CLIENT).is_err());
    }

    proptest! {
        /// Options that are needed are found behind any other options.
        #[test]
        fn no_option_hides_another(
            others in prop::collection::vec((1u8..255, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        ) {
            let mut options = Vec::new();
            for (number, value) in others.iter().filter(|(n, _)| ![50, 52, 53, 54].contains(n)) {
                options.extend_from_slice(&[*number, value.len() as u8]);
                options.extend_from_slice(value);
            }
            options.extend_from_slice(&[53, 1, 3, 54, 4, 10, 0, 0, 9]);
            let wanted = (DhcpRequestKind::Request, None, Some(Ipv4Addr::new(10, 0, 0, 9)));
            prop_assert_eq!(read(&options, &[], &[]), Ok(Some(wanted)));
        }
    }
}
