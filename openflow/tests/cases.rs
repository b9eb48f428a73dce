//! Small inputs that were handled wrongly once, from `tests/data/cases`, and what the codec and the
//! soft switch have to make of them. `openflow/driver/tests/cases.rs` tests the driver with the
//! others.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests read files")]

use tandem_model::{Mac, Time};
use tandem_openflow::error::OfErrorCode;
use tandem_openflow::of13::{self, Field, Masked};
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, Sink, Switch};
use tandem_openflow::table::{Criteria, FieldId, FlowKey};
use tandem_openflow::wire::{Reader, Strictness, Wire};
use tandem_openflow::{framing, header};

fn folder() -> String {
    format!("{}/../tests/data/cases", env!("CARGO_MANIFEST_DIR"))
}

/// A file of `tests/data/cases`, as bytes.
fn case(name: &str) -> Vec<u8> {
    let path = format!("{}/{name}.hex", folder());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let text = text.trim();
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hexadecimal");
    (0..text.len() / 2).map(byte).collect()
}

/// Every case is named in one of the test files.
#[test]
fn every_case_has_a_test() {
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/driver/tests");
    let mut tests =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases.rs")).expect("this");
    for file in ["cases.rs", "reports.rs", "meaning/cases.rs"] {
        tests +=
            &std::fs::read_to_string(format!("{driver}/{file}")).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
    for entry in std::fs::read_dir(folder()).expect("the cases") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".hex") {
            assert!(tests.contains(name), "{name} has no test");
        }
    }
}

fn read_match(bytes: &[u8], strictness: Strictness) -> Result<of13::Match, OfErrorCode> {
    of13::Match::read(&mut Reader::with_strictness(bytes, "match", strictness)).map_err(|e| e.of_error)
}

/// OF 1.3.5 section 7.2.3.6: a field comes once, behind its prerequisites; in a report it need not.
#[test]
fn fields_in_another_order_are_understood_in_reports_and_refused_in_orders() {
    for (name, why, count) in [
        ("oxm-order-reversed", OfErrorCode::BAD_PREREQUISITE, 2),
        ("oxm-order-ports-first", OfErrorCode::BAD_PREREQUISITE, 4),
        ("oxm-field-twice", OfErrorCode::DUPLICATE_FIELD, 2),
    ] {
        let bytes = case(name);
        assert_eq!(read_match(&bytes, Strictness::Orders), Err(why), "{name}");
        let found = read_match(&bytes, Strictness::Reports).expect("understood");
        assert_eq!(found.fields.len(), count, "{name}");
    }
}

/// OF 1.3.5 section 7.2.3.5: a mask on a field that takes none, and value bits outside of a mask.
#[test]
fn masks_that_say_nothing_are_passed_over_in_reports_and_refused_in_orders() {
    let bytes = case("oxm-in-port-mask-all-ones");
    assert_eq!(read_match(&bytes, Strictness::Orders), Err(OfErrorCode::BAD_MATCH_MASK));
    let found = read_match(&bytes, Strictness::Reports).expect("understood");
    assert_eq!(found.fields, [Field::InPort(3)]);
    let bytes = case("oxm-ipv4-dst-bits-beside-mask");
    assert_eq!(read_match(&bytes, Strictness::Orders), Err(OfErrorCode::BAD_WILDCARDS));
    let found = read_match(&bytes, Strictness::Reports).expect("understood");
    let net = Masked { value: [10, 0, 0, 0].into(), mask: Some([255, 255, 255, 0].into()) };
    assert_eq!(found.fields, [Field::EthType(0x0800), Field::Ipv4Dst(net)]);
}

/// OF 1.3.5 section 7.2.3.5.
#[test]
fn a_mask_of_all_ones_is_no_mask_and_one_of_all_zeros_is_no_field() {
    let ip = || Field::EthType(0x0800);
    let cases = [
        ("oxm-eth-dst-mask-all-ones", vec![Field::EthDst(Masked::exact(Mac([2, 0, 0, 0, 0, 1])))]),
        ("oxm-ipv4-dst-mask-all-ones", vec![ip(), Field::Ipv4Dst(Masked::exact([10, 0, 0, 1].into()))]),
        // 13 bits: OFPVID_PRESENT and the VID.
        ("oxm-vlan-vid-mask-all-ones", vec![Field::VlanVid(Masked::exact(0x1000))]),
        ("oxm-eth-dst-mask-zero", vec![ip()]),
    ];
    for (name, fields) in cases {
        let (bytes, plain) = (case(name), of13::Match { fields });
        for strictness in [Strictness::Orders, Strictness::Reports] {
            let masked = read_match(&bytes, strictness).expect("a good match");
            let criteria = |m: &of13::Match| Criteria::from_of13(m).expect("good fields");
            assert_eq!(
                criteria(&masked),
                criteria(&plain),
                "{name}: the same flow, for strict deletions too"
            );
            let normal: Vec<Field> = masked.fields.iter().filter_map(Field::normal).collect();
            assert_eq!(normal, plain.fields, "{name}");
        }
    }
    let nothing = Field::EthDst(Masked { value: Mac([0; 6]), mask: Some(Mac([0; 6])) });
    assert_eq!(nothing.normal(), None);
    let found = Criteria::from_of13(&of13::Match { fields: vec![nothing] });
    assert_eq!(found, Ok(Criteria::any()));
}

#[test]
fn an_unknown_field_is_kept_in_reports_and_refused_in_orders() {
    // A field of another class, one of an experimenter, and an address of two bytes.
    for (name, number) in [
        ("of13-flow-removed-unknown-oxm", 44),
        ("of13-flow-removed-experimenter-oxm", 1),
        ("of13-flow-removed-short-oxm", 12),
    ] {
        let bytes = case(name);
        if number != 1 {
            assert!(of13::Message::decode(&bytes).is_err(), "{name}");
        }
        let report = of13::Message::decode_report(&bytes).expect("understood");
        let of13::Message::FlowRemoved(removed) = &report.message else { panic!("{report:?}") };
        let last = removed.matching.fields.last();
        assert!(matches!(last, Some(Field::Other { number: n, .. }) if *n == number), "{removed:?}");
        let mut again = Vec::new();
        report.message.encode(report.xid, &mut again).expect("short");
        assert_eq!(again, bytes, "{name}: what is not understood is written back as it came");
    }
    let unknown = case("of13-flow-removed-unknown-oxm");
    assert_eq!(of13::Message::decode(&unknown).map_err(|e| e.of_error), Err(OfErrorCode::BAD_FIELD));
}

/// Collects the frames that a switch sends.
#[derive(Default)]
struct Sent {
    frames: Vec<(u32, Vec<u8>)>,
    errors: usize,
}

impl Sink for Sent {
    fn transmit(&mut self, port: u32, _: u32, frame: &[u8]) {
        self.frames.push((port, frame.to_vec()));
    }
    fn send(&mut self, _: ConnId, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok(Some((message, after))) = framing::next(rest) {
            self.errors += usize::from(message[1] == 1);
            rest = after;
        }
    }
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// The checksum of the transport behind an IPv6 header, with its pseudo header (RFC 8200 section
/// 8.1).
fn checksum6(frame: &[u8]) -> u16 {
    let payload = &frame[54..];
    let mut bytes = frame[22..54].to_vec();
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, frame[20]]);
    bytes.extend(payload);
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A soft switch with two ports that has got a controller's HELLO and this FLOW_MOD.
fn switch_with(flow_mod: &str) -> (Switch, Sent) {
    let mut switch = Switch::new(Config { tables: 1, flows: 10, ..Config::default() });
    let mut sent = Sent::default();
    for number in 1..=2 {
        let (name, mac, queues) = (format!("p{number}"), [2, 0, 0, 0, 0, 1], Vec::new());
        let port = Port { number, name, mac, up: true, speed: None, config: 0, queues };
        switch.port(port, Time::ZERO, &mut sent);
    }
    let conn = switch.connected(Time::ZERO, &mut sent);
    for message in [vec![header::V13, 0, 0, 8, 0, 0, 0, 1], case(flow_mod)] {
        switch.on_message(conn, &message, Time::ZERO, &mut sent).expect("a session");
    }
    assert_eq!(sent.errors, 0, "the flow is taken");
    (switch, sent)
}

#[test]
fn a_port_is_set_over_ipv6_with_its_checksum() {
    let tcp = case("frame-tcp6");
    // The frame as it is, and with a hop-by-hop header, which is skipped.
    let mut behind = tcp.clone();
    behind[20] = 0;
    behind.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
    behind[18..20].copy_from_slice(&28u16.to_be_bytes());
    let routing = case("frame-tcp6-behind-routing");
    let set = "of13-flow-mod-tcp6-set-tcp-src";
    // FLOW_MOD, frame, offset of its transport header, offsets of port and checksum in that, and
    // the new port.
    let cases = [
        (set, tcp.clone(), 54, 0, 16, 80u16),
        (set, behind, 62, 0, 16, 80),
        (set, routing, 62, 0, 16, 80),
        ("of13-flow-mod-tcp6-set-tcp-dst", tcp, 54, 2, 16, 443),
        ("of13-flow-mod-udp6-set-udp-dst", case("frame-udp6"), 54, 2, 6, 53),
        ("of13-flow-mod-udp6-set-udp-dst", case("frame-udp6-sum-becomes-zero"), 54, 2, 6, 53),
    ];
    for (flow_mod, frame, at, port, sum, value) in cases {
        if at == 54 {
            assert_eq!(checksum6(&frame), 0, "the case's own checksum is right");
        }
        let (mut switch, mut sent) = switch_with(flow_mod);
        switch.on_packet(1, &mut frame.clone(), Time::ZERO, &mut sent);
        let [(2, out)] = &sent.frames[..] else { panic!("{flow_mod}: {:?}", sent.frames) };
        let (port, sum) = (at + port, at + sum);
        assert_eq!(out[port..port + 2], value.to_be_bytes(), "the port of the set-field");
        assert_ne!(out[sum..sum + 2], frame[sum..sum + 2]);
        assert_ne!(out[sum..sum + 2], [0, 0], "RFC 8200 section 8.1: never sent as none");
        let mut rest = out.clone();
        for place in [port, sum] {
            rest[place..place + 2].copy_from_slice(&frame[place..place + 2]);
        }
        assert_eq!(rest, frame, "nothing else");
        if at == 54 {
            assert_eq!(checksum6(out), 0, "the checksum is right");
        }
    }
    // A later fragment has no ports, so that none of its bytes is changed (RFC 8200 section 4.5).
    let later = case("frame-tcp6-later-fragment");
    let (mut switch, mut sent) = switch_with(set);
    switch.on_packet(1, &mut later.clone(), Time::ZERO, &mut sent);
    assert!(sent.frames.iter().all(|(_, out)| *out == later), "{:?}", sent.frames);
}

/// OF 1.0 section 3.4, table 4.
#[test]
fn the_type_of_an_802_3_frame_is_its_snap_headers() {
    let frame = case("frame-8023-snap-ipv4");
    let key = FlowKey::new(&frame, 1);
    assert_eq!(key.get(FieldId::EthType), Some(0x0800));
    assert_eq!(key.get(FieldId::Ipv4Src), Some(0xc0a8_0001));
    assert_eq!(key.get(FieldId::L4Src), Some(1234));
    let with = |at: usize, byte: u8| {
        let mut other = frame.clone();
        other[at] = byte;
        FlowKey::new(&other, 1).get(FieldId::EthType)
    };
    assert_eq!(with(14, 0x42), Some(0x05ff), "LLC without SNAP");
    assert_eq!(with(17, 1), Some(0x05ff), "the SNAP header of an organisation");
    assert_eq!(with(20, 0x01), Some(0x05ff), "a length for a type");
    for (name, kind) in [
        ("frame-8023-llc-stp", 0x05ff),
        ("frame-8023-snap-cisco", 0x05ff),
        ("frame-8023-snap-arp", 0x0806),
        ("frame-8023-snap-length-inside", 0x05ff),
    ] {
        let key = FlowKey::new(&case(name), 1);
        assert_eq!(key.get(FieldId::EthType), Some(kind), "{name}");
        let is_arp = kind == 0x0806;
        assert_eq!(key.get(FieldId::ArpOp), is_arp.then_some(1), "{name}");
        assert_eq!(key.get(FieldId::Ipv4Src), None, "{name}");
    }
    // The same behind a tag, and truncated.
    let mut tagged = frame.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(FlowKey::new(&tagged, 1).get(FieldId::EthType), Some(0x0800));
    assert_eq!(FlowKey::new(&frame[..20], 1).get(FieldId::EthType), Some(0x05ff));
}
