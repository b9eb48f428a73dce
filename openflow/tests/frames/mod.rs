//! Frames of every kind that flows can match, and a check of their checksums over all bytes.
#![allow(dead_code, reason = "each test takes what it needs")]

use tandem_openflow::of13::{Field, Masked};

/// A kind of frame.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) frame: Vec<u8>,
    /// Matches of such a frame, with the prerequisites of its fields.
    pub(crate) said: Vec<Vec<Field>>,
}

const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
const SOURCE4: [u8; 4] = [10, 0, 0, 1];
const TARGET4: [u8; 4] = [10, 0, 0, 2];
const SOURCE6: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const TARGET6: [u8; 16] = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const VIA6: [u8; 16] = [0xfd, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u32;
    for part in parts {
        for word in part.chunks(2) {
            total += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        }
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// CRC-32C bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}

/// The pseudo header of a transport's checksum.
fn pseudo(source: &[u8], target: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let length = (length as u32).to_be_bytes();
    [source, target, &length, &[0, 0, 0, protocol]].concat()
}

/// A transport header with its checksum at offset `at`.
fn summed(mut bytes: Vec<u8>, at: usize, pseudo: &[u8]) -> Vec<u8> {
    let sum = !sum(&[pseudo, &bytes]);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

const TEXT: &[u8] = b"any text of some length";

fn tcp(pseudo: impl Fn(u8, usize) -> Vec<u8>) -> Vec<u8> {
    let header = [0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 4, 0, 0, 0, 0, 0];
    let bytes = [&header[..], TEXT].concat();
    let covered = pseudo(6, bytes.len());
    summed(bytes, 16, &covered)
}

fn udp(pseudo: impl Fn(u8, usize) -> Vec<u8>) -> Vec<u8> {
    let bytes = [&[0x13, 0x88, 0, 53, 0, 8 + TEXT.len() as u8, 0, 0], TEXT].concat();
    let covered = pseudo(17, bytes.len());
    summed(bytes, 6, &covered)
}

fn sctp() -> Vec<u8> {
    let mut bytes = [&[0x13, 0x88, 0x0b, 0x59, 1, 2, 3, 4, 0, 0, 0, 0], TEXT, b"."].concat();
    let crc = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&crc);
    bytes
}

fn of4(protocol: u8, length: usize) -> Vec<u8> {
    pseudo(&SOURCE4, &TARGET4, protocol, length)
}

fn of6(protocol: u8, length: usize) -> Vec<u8> {
    pseudo(&SOURCE6, &TARGET6, protocol, length)
}

fn ipv4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let length = (header + payload.len()) as u16;
    let [l0, l1] = length.to_be_bytes();
    let mut out = vec![0x40 | (header / 4) as u8, 8 << 2, l0, l1, 0, 7, 0, 0, 64, protocol, 0, 0];
    out.extend([&SOURCE4[..], &TARGET4, options].concat());
    let sum = !sum(&[&out]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    [&out, payload].concat()
}

fn ipv6(next: u8, target: &[u8; 16], payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = (payload.len() as u16).to_be_bytes();
    let header = [0x60, 0x80, 0, 0x64, l0, l1, next, 63];
    [&header[..], &SOURCE6, target, payload].concat()
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ADDRESSES[..], &kind.to_be_bytes(), payload].concat()
}

fn discovery(kind: u8, option: u8) -> Vec<u8> {
    let head = [kind, 0, 0, 0, 0, 0, 0, 0];
    // Another option comes before the one that is rewritten.
    let options = [&[14, 1, 1, 2, 3, 4, 5, 6, option, 1][..], &[2, 0, 0, 0, 0, 9]].concat();
    let bytes = [&head[..], &VIA6, &options].concat();
    let covered = of6(58, bytes.len());
    summed(bytes, 2, &covered)
}

fn arp() -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &[2, 0, 0, 0, 0, 1], &SOURCE4, &[0; 6], &TARGET4, &[0; 18]].concat()
}

/// All kinds, with right checksums.
pub(crate) fn kinds() -> Vec<Kind> {
    let of_ip = |kind: u16, protocol: u8| {
        let kind = Field::EthType(kind);
        vec![vec![kind.clone()], vec![kind, Field::IpProto(protocol)]]
    };
    let icmpv6 = |kind: u8| {
        let head = vec![Field::EthType(0x86dd), Field::IpProto(58)];
        let mut said = of_ip(0x86dd, 58);
        said.push([head, vec![Field::Icmpv6Type(kind)]].concat());
        said
    };
    let tagged = |mut said: Vec<Vec<Field>>| {
        said.push(vec![Field::VlanVid(Masked { value: 0x1000, mask: Some(0x1000) })]);
        said
    };
    let mut unsummed = udp(of4);
    unsummed[6..8].fill(0);
    let ping = summed([&[8, 0, 0, 0, 0, 1, 0, 1], TEXT].concat(), 2, &[]);
    let ping6 = [&[128, 0, 0, 0, 0, 1, 0, 1], TEXT].concat();
    let ping6 = summed(ping6.clone(), 2, &of6(58, ping6.len()));
    // Hop-by-hop options, then destination options.
    let options = [&[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0][..], &udp(of6)].concat();
    // The next hop is VIA6; the destination is TARGET6, which the checksum covers.
    let routing = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &TARGET6, &udp(of6)].concat();
    let mut padded = ethernet(0x0800, &ipv4(132, &[], &sctp()));
    padded.extend([0xee; 9]);
    let snap = |payload: &[u8]| {
        let length = (payload.len() + 8) as u16;
        [&ADDRESSES[..], &length.to_be_bytes(), &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], payload].concat()
    };
    let kind = |name, frame, said| Kind { name, frame, said };
    vec![
        kind("TCP over IPv4", ethernet(0x0800, &ipv4(6, &[], &tcp(of4))), of_ip(0x0800, 6)),
        kind("TCP behind options", ethernet(0x0800, &ipv4(6, &[1, 1, 1, 0], &tcp(of4))), of_ip(0x0800, 6)),
        kind("UDP over IPv4", ethernet(0x0800, &ipv4(17, &[], &udp(of4))), of_ip(0x0800, 17)),
        kind("UDP without a checksum", ethernet(0x0800, &ipv4(17, &[], &unsummed)), of_ip(0x0800, 17)),
        kind("UDP in SNAP", snap(&ipv4(17, &[], &udp(of4))), of_ip(0x0800, 17)),
        kind(
            "UDP over tagged IPv4",
            [&ADDRESSES[..], &[0x81, 0, 0x60, 0x64, 8, 0], &ipv4(17, &[], &udp(of4))].concat(),
            tagged(of_ip(0x0800, 17)),
        ),
        kind("ICMP", ethernet(0x0800, &ipv4(1, &[], &ping)), of_ip(0x0800, 1)),
        kind("SCTP over IPv4", padded, of_ip(0x0800, 132)),
        kind("TCP over IPv6", ethernet(0x86dd, &ipv6(6, &TARGET6, &tcp(of6))), of_ip(0x86dd, 6)),
        kind("UDP over IPv6", ethernet(0x86dd, &ipv6(17, &TARGET6, &udp(of6))), of_ip(0x86dd, 17)),
        kind("SCTP over IPv6", ethernet(0x86dd, &ipv6(132, &TARGET6, &sctp())), of_ip(0x86dd, 132)),
        kind(
            "UDP behind extension headers",
            ethernet(0x86dd, &ipv6(0, &TARGET6, &options)),
            of_ip(0x86dd, 17),
        ),
        kind("UDP behind a routing header", ethernet(0x86dd, &ipv6(43, &VIA6, &routing)), of_ip(0x86dd, 17)),
        kind("ICMPv6", ethernet(0x86dd, &ipv6(58, &TARGET6, &ping6)), icmpv6(128)),
        kind(
            "neighbour solicitation",
            ethernet(0x86dd, &ipv6(58, &TARGET6, &discovery(135, 1))),
            icmpv6(135),
        ),
        kind(
            "neighbour advertisement",
            ethernet(0x86dd, &ipv6(58, &TARGET6, &discovery(136, 2))),
            icmpv6(136),
        ),
        kind("ARP", ethernet(0x0806, &arp()), vec![vec![Field::EthType(0x0806)]]),
        kind(
            "MPLS",
            ethernet(0x8847, &[&[0, 6, 0x47, 64][..], &ipv4(6, &[], &tcp(of4))].concat()),
            vec![vec![Field::EthType(0x8847)]],
        ),
        kind(
            "PBB",
            ethernet(0x88e7, &[&[0x60, 0, 0, 100][..], &ethernet(0x0806, &arp())].concat()),
            vec![vec![Field::EthType(0x88e7)]],
        ),
    ]
}

/// Whether the checksums of the IP packet in a frame are right.
pub(crate) fn checksums_are_right(frame: &[u8]) -> bool {
    let mut at = 12;
    if matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) {
        at += 4;
    }
    if u16::from_be_bytes([frame[at], frame[at + 1]]) < 0x0600 {
        at += 8;
    }
    let packet = &frame[at + 2..];
    match frame[at..at + 2] {
        [0x08, 0x00] => ipv4_is_right(packet),
        [0x86, 0xdd] => ipv6_is_right(packet),
        _ => true,
    }
}

fn ipv4_is_right(packet: &[u8]) -> bool {
    let header = usize::from(packet[0] & 15) * 4;
    let payload = &packet[header..usize::from(u16::from_be_bytes([packet[2], packet[3]]))];
    sum(&[&packet[..header]]) == 0xffff
        && transport_is_right(packet[9], payload, &packet[12..16], &packet[16..20])
}

fn ipv6_is_right(packet: &[u8]) -> bool {
    let mut payload = &packet[40..40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]))];
    let (mut next, mut target) = (packet[6], &packet[24..40]);
    while matches!(next, 0 | 43 | 60) {
        let length = (usize::from(payload[1]) + 1) * 8;
        if next == 43 && payload[3] > 0 {
            target = &payload[length - 16..length];
        }
        next = payload[0];
        payload = &payload[length..];
    }
    transport_is_right(next, payload, &packet[8..24], target)
}

fn transport_is_right(protocol: u8, payload: &[u8], source: &[u8], target: &[u8]) -> bool {
    let covered = pseudo(source, target, protocol, payload.len());
    match protocol {
        17 if payload[6..8] == [0, 0] => true,
        6 | 17 | 58 => sum(&[&covered, payload]) == 0xffff,
        1 => sum(&[payload]) == 0xffff,
        132 => {
            let mut bytes = payload.to_vec();
            bytes[8..12].fill(0);
            crc32c(&bytes).to_le_bytes() == payload[8..12]
        }
        _ => true,
    }
}
