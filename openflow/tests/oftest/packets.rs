//! `tests/pktact.py`: truncated packets, malformed ones and 802.3 frames, against flows of OpenFlow
//! 1.0 (section 3.4 and table 4). `DirectBadIpTcpPackets`, `DirectBadIpUdpPackets`,
//! `DirectBadLlcPackets`, `DirectLlcPackets`, `DirectArpPackets`, `DirectVlanPackets`.

use super::bench::Bench;
use super::{frame, tagged};
use tandem_openflow::of10::matching::wildcard;
use tandem_openflow::of10::{self, Action, FlowMod, Match, Message};
use tandem_openflow::{AnyMessage, header};

/// Whether a frame matches the only flow of a 1.0 switch.
fn is_for(matching: &Match, frame: &[u8]) -> bool {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V10);
    let flow = FlowMod {
        matching: matching.clone(),
        cookie: 0,
        command: of10::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 1,
        buffer_id: u32::MAX,
        out_port: of10::port::NONE,
        flags: 0,
        actions: vec![Action::Output { port: 2, max_len: 0 }],
    };
    assert_eq!(bench.ask(conn, AnyMessage::V10(Message::FlowMod(flow))), []);
    !bench.packet(1, frame).is_empty()
}

/// All match fields of a well-formed TCP or UDP frame, except its input port.
fn whole(protocol: u8, ports: (u16, u16)) -> Match {
    Match {
        wildcards: wildcard::IN_PORT,
        in_port: 0,
        dl_src: tandem_model::Mac([2, 0, 0, 0, 0, 1]),
        dl_dst: tandem_model::Mac([2, 0, 0, 0, 0, 2]),
        dl_vlan: of10::matching::VLAN_NONE,
        dl_vlan_pcp: 0,
        dl_type: 0x0800,
        nw_tos: 8 << 2,
        nw_proto: protocol,
        nw_src: [10, 0, 0, 1].into(),
        nw_dst: [10, 0, 0, 2].into(),
        tp_src: ports.0,
        tp_dst: ports.1,
        ..Match::any()
    }
}

/// A match reduced to these fields.
fn only(m: Match, fields: u32) -> Match {
    Match { wildcards: wildcard::ALL & !fields, ..m }
}

const TYPE: u32 = wildcard::DL_TYPE | wildcard::DL_SRC | wildcard::DL_DST;
const IP: usize = 14;
const TRANSPORT: usize = 34;

#[test]
fn headers_that_are_cut_off_or_broken_match_no_ports() {
    for (kind, protocol, ports) in [("TCP over IPv4", 6, (5000, 80)), ("UDP over IPv4", 17, (5000, 53))] {
        let matching = whole(protocol, ports);
        let good = frame(kind, &[]);
        assert!(is_for(&matching, &good));
        assert!(!is_for(&matching, &frame(kind, &[(TRANSPORT + 2, &[0, 81])])), "another port");
        for bytes in [1, 2, 3, 12, 16, 19] {
            assert!(!is_for(&matching, &good[..IP + bytes]), "{bytes} bytes of an IP header");
        }
        for bytes in [0, 2, 3] {
            assert!(!is_for(&matching, &good[..TRANSPORT + bytes]), "{bytes} bytes of a transport header");
        }
        // A header of another length, also one that ends beyond the frame.
        for words in [6u8, 15, 4, 0] {
            let broken = frame(kind, &[(IP, &[0x40 | words])]);
            assert!(!is_for(&matching, &broken), "IHL {words}");
            assert!(!is_for(&matching, &broken[..TRANSPORT]), "IHL {words}, no transport header");
            assert!(!is_for(&matching, &broken[..IP + 12]), "IHL {words}, cut off");
        }
        // Options that could be mistaken for the ports.
        let [s0, s1] = ports.0.to_be_bytes();
        let [d0, d1] = ports.1.to_be_bytes();
        let mut options = frame(kind, &[(IP, &[0x46]), (TRANSPORT, &[0, 2, 0, 2])]);
        options.splice(TRANSPORT..TRANSPORT, [s0, s1, d0, d1]);
        assert!(!is_for(&matching, &options), "options are no ports");
        for words in 1..=10u8 {
            let mut behind = frame(kind, &[(IP, &[0x45 + words])]);
            behind.splice(TRANSPORT..TRANSPORT, vec![1; usize::from(words) * 4]);
            assert!(is_for(&matching, &behind), "{words} words of options");
        }
    }
}

/// An 802.3 frame: length, LLC header, payload.
fn llc(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = (header.len() + payload.len()) as u16;
    let addresses = &frame("TCP over IPv4", &[])[..12];
    [addresses, &length.to_be_bytes(), header, payload].concat()
}

#[test]
fn frames_of_802_3_have_the_type_of_their_snap_header_or_none() {
    let (ipv4, none) = (only(whole(6, (5000, 80)), TYPE), Match { dl_type: 0x05ff, ..whole(6, (0, 0)) });
    let none = only(none, TYPE);
    let tcp = &frame("TCP over IPv4", &[])[14..];
    let some = [b'S'; 10];
    let much = [b'S'; 1492];
    let snap = |code: u16| [&[0xaa, 0xaa, 3, 0, 0, 0][..], &code.to_be_bytes()].concat();
    let other_oui = [0xaa, 0xaa, 3, 0, 0, 1, 8, 0];
    // Header, payload, whether it is IPv4, whether it has no Ethernet type.
    let cases: [(&[u8], &[u8], bool, bool); 12] = [
        (&[0x33, 0x44, 3], &[], false, true),
        (&[0x33, 0x44, 0x12], b"S", false, true),
        (&[0x33, 0x44, 3], &some, false, true),
        (&[0x33, 0x44, 3], &much, false, true),
        (&[0xaa, 0xaa, 3], &[], false, true),
        (&other_oui, &some, false, true),
        (&snap(0x0800), &some, true, false),
        (&snap(0x0800), tcp, true, false),
        (&snap(0x1234), &much, false, false),
        // A number below 0x0600 is not an Ethernet type.
        (&snap(0x0003), &much, false, true),
        // Unnumbered information only; SNAP on one side only.
        (&[0xaa, 0xaa, 1, 0, 0, 0, 8, 0], tcp, false, true),
        (&[0xaa, 0xab, 3, 0, 0, 0, 8, 0], tcp, false, true),
    ];
    for (header, payload, is_ipv4, is_none) in cases {
        let untagged = llc(header, payload);
        let tagged = tagged(untagged.clone(), 7, 1);
        for frame in [untagged, tagged] {
            assert_eq!(is_for(&ipv4, &frame), is_ipv4, "IPv4: {header:02x?}");
            assert_eq!(is_for(&none, &frame), is_none, "no type: {header:02x?}");
            assert!(is_for(&only(whole(6, (0, 0)), wildcard::DL_SRC | wildcard::DL_DST), &frame));
        }
    }
    assert!(is_for(&whole(6, (5000, 80)), &llc(&snap(0x0800), tcp)), "its ports too");
}

#[test]
fn arp_and_tags_are_matched() {
    let arp = Match {
        dl_type: 0x0806,
        nw_proto: 1,
        dl_dst: tandem_model::Mac([2, 0, 0, 0, 0, 2]),
        ..whole(0, (0, 0))
    };
    assert!(is_for(&arp, &frame("ARP", &[])));
    for (at, what) in [(15, "hardware"), (17, "protocol"), (18, "its length"), (21, "opcode"), (31, "sender")]
    {
        assert!(!is_for(&arp, &frame("ARP", &[(at, &[9])])), "another {what}");
    }
    assert!(!is_for(&arp, &frame("ARP", &[])[..30]), "cut off");

    let tag = |kind| tagged(frame(kind, &[]), 1000, 5);
    let of_type = |dl_type| only(Match { dl_type, ..whole(6, (0, 0)) }, TYPE);
    assert!(is_for(&of_type(0x0800), &tag("TCP over IPv4")));
    assert!(!is_for(&of_type(0x0801), &tag("TCP over IPv4")));
    assert!(!is_for(&of_type(0x8100), &tag("TCP over IPv4")), "the tag's type is not the frame's");
    let addresses = 63 << wildcard::NW_SRC_SHIFT | 63 << wildcard::NW_DST_SHIFT;
    assert!(is_for(&only(whole(6, (0, 0)), TYPE | addresses), &tag("TCP over IPv4")));
    for kind in ["TCP over IPv4", "TCP over IPv6", "ARP", "MPLS", "PBB"] {
        assert!(is_for(&only(whole(6, (0, 0)), wildcard::DL_SRC | wildcard::DL_DST), &tag(kind)), "{kind}");
    }
}
