//! Small inputs that went wrong once, from `tests/data/cases`: what each must lead to in a connected driver. The soft
//! switch's side of the others is in `openflow/tests/cases.rs`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests read files")]

mod memory;

use memory::{connected, packet_in};
use std::net::Ipv4Addr;
use tandem_model::{DhcpRequestKind, Event, Mac, PortNo, Time};
use tandem_openflow::header;
use tandem_switch_driver::Output;

const VERSIONS: [u8; 2] = [header::V10, header::V13];

/// A file of `tests/data/cases`, as bytes.
fn case(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/data/cases/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let digits: Vec<u8> = text.trim().bytes().collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

/// What a driver makes of a frame that came in by port 1: its output and how many packets were broken.
fn seen(version: u8, frame: &[u8]) -> (Output, u64) {
    let mut driver = connected(version);
    let mut out = Output::default();
    let message = packet_in(version, 1, frame);
    driver.on_message(&message, Time::ZERO, &mut out).expect("no packet ends a session");
    (out, driver.malformed())
}

#[test]
fn a_hardware_address_longer_than_its_field_is_dropped_and_counted() {
    for version in VERSIONS {
        let (out, malformed) = seen(version, &case("dhcp-hlen-17"));
        assert_eq!((out.events, out.bytes), (vec![], vec![]));
        assert_eq!(malformed, 1);
        assert_eq!(out.warnings.len(), 1, "said once");
    }
}

#[test]
fn what_cannot_be_typed_hides_no_option_and_a_priority_tag_is_looked_through() {
    let discover = (DhcpRequestKind::Discover, None, None);
    let elsewhere =
        (DhcpRequestKind::Request, Some(Ipv4Addr::new(10, 0, 0, 1)), Some(Ipv4Addr::new(10, 9, 9, 9)));
    let cases = [
        ("dhcp-fqdn-before-type", discover),
        ("dhcp-priority-tagged", discover),
        // The server it chose is another one, and the core says nothing then.
        ("dhcp-request-for-another-server", elsewhere),
    ];
    for version in VERSIONS {
        for (name, (kind, requested, server)) in cases {
            let (out, malformed) = seen(version, &case(name));
            let [Event::DhcpSeen { port: PortNo(1), dhcp, .. }] = &out.events[..] else {
                panic!("{name}: {:?}", out.events)
            };
            let mac = Mac([2, 0, 0, 0, 0, 1]);
            assert_eq!((dhcp.kind, dhcp.mac, dhcp.eth_src, dhcp.xid), (kind, mac, mac, 0x1234), "{name}");
            assert_eq!((dhcp.server, malformed), (server, 0), "{name}");
            if requested.is_some() {
                assert!(dhcp.requested.is_some(), "{name}");
            }
        }
    }
}

/// IEEE 802.1Q: only VID 0 is no VLAN. A frame of a VLAN, and one with two tags, is not answered.
#[test]
fn frames_of_vlans_are_nobodys() {
    let tagged = case("dhcp-priority-tagged");
    for version in VERSIONS {
        for priority in [0x00, 0x20, 0xe0, 0xf0] {
            let mut frame = tagged.clone();
            frame[14] = priority;
            assert_eq!(seen(version, &frame).0.events.len(), 1, "priority {priority:#x}, VID 0");
            frame[15] = 7;
            assert_eq!(seen(version, &frame).0.events, [], "VID 7");
        }
        let mut twice = tagged.clone();
        twice.splice(12..12, [0x81, 0, 0, 0]);
        assert_eq!(seen(version, &twice).0.events, [], "two tags");
        let mut provider = tagged.clone();
        provider[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert_eq!(seen(version, &provider).0.events, [], "802.1ad");
        assert_eq!(seen(version, &tagged[..16]).0.events, [], "cut off");
    }
}

/// Real frames with anything changed and cut anywhere: no panic, no end of the session, a bounded number of warnings.
#[test]
fn broken_frames_cost_a_count_and_a_line_a_minute() {
    let names = [
        "dhcp-hlen-17",
        "dhcp-fqdn-before-type",
        "dhcp-priority-tagged",
        "dhcp-request-for-another-server",
        "frame-tcp6",
        "frame-8023-snap-ipv4",
    ];
    for version in VERSIONS {
        let mut driver = connected(version);
        let mut warnings = 0;
        for frame in names.map(case) {
            for at in 0..frame.len() {
                for change in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                    let mut changed = frame.clone();
                    changed[at] = change;
                    for message in [packet_in(version, 1, &changed), packet_in(version, 1, &changed[..at])] {
                        let mut out = Output::default();
                        driver.on_message(&message, Time::ZERO, &mut out).expect("no end");
                        assert!(out.bytes.is_empty() && out.events.len() <= 1);
                        warnings += out.warnings.len();
                    }
                }
            }
        }
        assert!(driver.malformed() > 100);
        assert!(warnings <= 32, "{warnings} lines");
    }
}
