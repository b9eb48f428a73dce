//! The frames that a guest may send: allowed ones and all others.

use crate::{ALL, EVERYBODY, GATEWAY, GUEST, HOST, NEIGHBOUR, NONE, OTHER, OWN, SERVER, THEIRS};

/// Not padded: a bridge with br_netfilter removes padding.
pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], tags: &[[u8; 4]], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    tags.iter().for_each(|t| frame.extend_from_slice(t));
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// IPv4 with a right checksum; `fragment` is the field of flags and offset.
pub(crate) fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    h[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    h[6..8].copy_from_slice(&fragment.to_be_bytes());
    h.extend_from_slice(&from);
    h.extend_from_slice(&to);
    let sum: u32 = h.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    h[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    h.extend_from_slice(payload);
    h
}

pub(crate) fn udp(from: u16, to: u16, text: &[u8]) -> Vec<u8> {
    let length = 8 + text.len() as u16;
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0; 2], text].concat()
}

pub(crate) fn arp(op: u8, mac: [u8; 6], ip: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, op][..], &mac, &ip, &[0; 6], &target].concat()
}

/// Every frame, with whether the filter passes it.
pub(crate) fn frames() -> Vec<(&'static str, bool, Vec<u8>)> {
    const IP: u16 = 0x0800;
    const ARP: u16 = 0x0806;
    let plain = |from, payload: &[u8]| ethernet(GATEWAY, from, &[], IP, payload);
    let own = ipv4(OWN, OTHER, 17, 0, &udp(1000, 2000, b"x"));
    let theirs = ipv4(THEIRS, OTHER, 17, 0, &udp(1000, 2000, b"x"));
    let discover = ipv4(NONE, EVERYBODY, 17, 0, &udp(68, 67, &[1; 240]));
    let offer = ipv4(OWN, EVERYBODY, 17, 0, &udp(67, 68, &[2; 240]));
    let options = {
        // A header of 24 bytes, so that the ports are further back.
        let mut h = ipv4(OWN, EVERYBODY, 17, 0, &[&[1, 1, 1, 1][..], &udp(67, 68, b"")].concat());
        h[0] = 0x46;
        h
    };
    let broadcast = |from, payload: &[u8]| ethernet(ALL, from, &[], ARP, payload);
    let tagged = |tags: &[[u8; 4]], kind, payload: &[u8]| ethernet(GATEWAY, GUEST, tags, kind, payload);
    let priority = [0x81, 0, 0xa0, 0];
    let vlan = [0x81, 0, 0, 5];
    let service = [0x88, 0xa8, 0, 0];
    vec![
        ("its own packet", true, plain(GUEST, &own)),
        ("a neighbour's Ethernet address", false, plain(NEIGHBOUR, &own)),
        ("a neighbour's address", false, plain(GUEST, &theirs)),
        ("a neighbour in full", false, plain(NEIGHBOUR, &theirs)),
        ("its server in full", false, plain(HOST, &ipv4(SERVER, OTHER, 17, 0, &udp(1, 2, b"x")))),
        (
            "no address, to a server of something else",
            false,
            plain(GUEST, &ipv4(NONE, OTHER, 17, 0, &udp(68, 53, b"x"))),
        ),
        ("TCP of its own", true, plain(GUEST, &ipv4(OWN, OTHER, 6, 0, &[0; 20]))),
        (
            "TCP from port 67",
            true,
            plain(
                GUEST,
                &ipv4(OWN, OTHER, 6, 0, &[0, 67, 0, 68, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]),
            ),
        ),
        ("ICMP of its own", true, plain(GUEST, &ipv4(OWN, OTHER, 1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]))),
        ("a first fragment", true, plain(GUEST, &ipv4(OWN, OTHER, 17, 0x2000, &udp(1000, 2000, &[7; 16])))),
        (
            "a later fragment whose bytes look like port 67",
            true,
            plain(GUEST, &ipv4(OWN, OTHER, 17, 3, &[0, 67, 0, 68, 0, 0, 0, 0])),
        ),
        ("a later fragment of a neighbour's", false, plain(GUEST, &ipv4(THEIRS, OTHER, 17, 3, &[0; 8]))),
        ("a DHCP client's question", true, ethernet(ALL, GUEST, &[], IP, &discover)),
        ("a neighbour's DHCP question", false, ethernet(ALL, NEIGHBOUR, &[], IP, &discover)),
        (
            "a fragment of a DHCP question",
            false,
            ethernet(ALL, GUEST, &[], IP, &ipv4(NONE, EVERYBODY, 17, 0x2000, &udp(68, 67, &[1; 16]))),
        ),
        ("a DHCP server's answer", false, ethernet(ALL, GUEST, &[], IP, &offer)),
        ("the same behind IP options", false, ethernet(ALL, GUEST, &[], IP, &options)),
        (
            "the same in a first fragment",
            false,
            plain(GUEST, &ipv4(OWN, EVERYBODY, 17, 0x2000, &udp(67, 68, &[2; 16]))),
        ),
        (
            "UDP cut before its ports",
            false,
            plain(GUEST, &{
                let mut p = ipv4(OWN, OTHER, 17, 0, &[]);
                p[0] = 0x4f;
                p
            }),
        ),
        (
            "IP version 6 under the type of version 4",
            false,
            plain(GUEST, &{
                let mut p = own.clone();
                p[0] = 0x65;
                p
            }),
        ),
        ("ARP of its own", true, broadcast(GUEST, &arp(1, GUEST, OWN, OTHER))),
        ("its gratuitous ARP", true, broadcast(GUEST, &arp(1, GUEST, OWN, OWN))),
        ("its ARP answer", true, ethernet(GATEWAY, GUEST, &[], ARP, &arp(2, GUEST, OWN, OTHER))),
        ("an ARP probe", true, broadcast(GUEST, &arp(1, GUEST, NONE, OWN))),
        ("an ARP answer without an address", false, broadcast(GUEST, &arp(2, GUEST, NONE, OWN))),
        (
            "ARP with a neighbour's Ethernet address inside",
            false,
            broadcast(GUEST, &arp(1, NEIGHBOUR, OWN, OTHER)),
        ),
        ("ARP with a neighbour's address inside", false, broadcast(GUEST, &arp(1, GUEST, THEIRS, OTHER))),
        ("gratuitous ARP for a neighbour", false, broadcast(GUEST, &arp(2, GUEST, THEIRS, THEIRS))),
        ("gratuitous ARP for its server", false, broadcast(GUEST, &arp(2, GUEST, SERVER, SERVER))),
        ("gratuitous ARP for the gateway's address", false, broadcast(GUEST, &arp(2, GUEST, OTHER, OTHER))),
        (
            "ARP of another hardware",
            false,
            broadcast(GUEST, &{
                let mut p = arp(1, GUEST, OWN, OTHER);
                p[1] = 6;
                p
            }),
        ),
        ("ARP that is cut", false, {
            let mut p = broadcast(GUEST, &arp(1, GUEST, OWN, OTHER));
            p.truncate(30);
            p
        }),
        ("a priority tag (VID 0)", true, tagged(&[priority], IP, &own)),
        ("ARP with a priority tag", true, tagged(&[priority], ARP, &arp(1, GUEST, OWN, OTHER))),
        ("a priority tag before a neighbour's address", false, tagged(&[priority], IP, &theirs)),
        (
            "a priority tag before a neighbour's ARP",
            false,
            tagged(&[priority], ARP, &arp(1, GUEST, THEIRS, OTHER)),
        ),
        ("a priority tag before IPv6", false, tagged(&[priority], 0x86dd, &[0x60; 48])),
        ("a VLAN", false, tagged(&[vlan], IP, &own)),
        ("a VLAN around ARP", false, tagged(&[vlan], ARP, &arp(1, GUEST, OWN, OTHER))),
        ("a service tag of VID 0", false, tagged(&[service], IP, &own)),
        ("two priority tags", false, tagged(&[priority, priority], IP, &own)),
        ("a VLAN in a priority tag", false, tagged(&[priority, vlan], IP, &own)),
        ("a VLAN in a service tag", false, tagged(&[service, vlan], IP, &own)),
        ("IPv6", false, ethernet(GATEWAY, GUEST, &[], 0x86dd, &[0x60; 48])),
        ("LLDP", false, ethernet([1, 0x80, 0xc2, 0, 0, 0x0e], GUEST, &[], 0x88cc, &[2; 40])),
        ("LLDP to everybody", false, ethernet(ALL, GUEST, &[], 0x88cc, &[2; 40])),
        ("spanning tree", false, ethernet([1, 0x80, 0xc2, 0, 0, 0], GUEST, &[], 38, &[0x42; 40])),
        (
            "LLC and SNAP around IPv4",
            false,
            ethernet(GATEWAY, GUEST, &[], 40, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &own].concat()),
        ),
        ("MPLS", false, ethernet(GATEWAY, GUEST, &[], 0x8847, &[0; 40])),
        ("another Ethernet type", false, ethernet(GATEWAY, GUEST, &[], 0x88b5, &[0; 40])),
        ("a short packet", false, {
            let mut p = plain(GUEST, &own);
            p.truncate(20);
            p
        }),
        ("its own packet, at the end", true, plain(GUEST, &ipv4(OWN, OTHER, 17, 0, &udp(9, 9, b"last")))),
    ]
}
