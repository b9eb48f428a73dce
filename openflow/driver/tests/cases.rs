//! Small inputs that were handled wrongly once, from `tests/data/cases`, and what a connected
//! driver has to make of each. `openflow/tests/cases.rs` tests the soft switch with the others.

mod memory;

use memory::{case, connected, packet_in};
use std::net::Ipv4Addr;
use tandem_model::{DhcpRequestKind, Event, Mac, PortNo, Time};
use tandem_openflow::header;
use tandem_switch_driver::Output;

const VERSIONS: [u8; 2] = [header::V10, header::V13];

/// The driver's output for a frame that came in by port 1, and the number of malformed packets.
fn seen(version: u8, frame: &[u8]) -> (Output, u64) {
    let mut driver = connected(version);
    let mut out = Output::default();
    let message = packet_in(version, 1, frame);
    driver.on_message(&message, Time::ZERO, &mut out).expect("no packet ends a session");
    (out, driver.malformed())
}

/// RFC 2131 section 2: chaddr has 16 octets; Ethernet's addresses have 6.
#[test]
fn a_hardware_address_longer_than_its_field_is_dropped_and_counted() {
    for version in VERSIONS {
        for name in ["dhcp-hlen-17", "dhcp-hlen-0", "dhcp-hlen-255", "dhcp-htype-6"] {
            let (out, malformed) = seen(version, &case(name));
            assert_eq!((out.events, out.bytes), (vec![], vec![]), "{name}");
            assert_eq!(malformed, 1, "{name}");
            assert_eq!(out.warnings.len(), 1, "said once");
        }
    }
}

#[test]
fn what_cannot_be_typed_hides_no_option_and_a_priority_tag_is_looked_through() {
    let discover = (DhcpRequestKind::Discover, None, None);
    let elsewhere =
        (DhcpRequestKind::Request, Some(Ipv4Addr::new(10, 0, 0, 1)), Some(Ipv4Addr::new(10, 9, 9, 9)));
    let cases = [
        ("dhcp-fqdn-before-type", discover),
        ("dhcp-untypable-before-type", discover),
        // RFC 2132 section 9.3: options in the field of the server's name.
        ("dhcp-type-in-sname", discover),
        ("dhcp-priority-tagged", discover),
        ("dhcp-priority-7-drop-eligible", discover),
        // The client has chosen another server, and the core does not answer; also with the option
        // in pieces (RFC 3396) and in the file field.
        ("dhcp-request-for-another-server", elsewhere),
        ("dhcp-request-split-server", elsewhere),
        ("dhcp-request-server-in-file", elsewhere),
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

/// Unknown and truncated messages cause at most a warning and an error reply; the session goes on.
#[test]
fn what_is_not_understood_ends_no_session() {
    for name in [
        "of13-flow-removed-unknown-oxm",
        "of13-flow-removed-experimenter-oxm",
        "of13-flow-removed-short-oxm",
        "of13-multipart-reply-unknown-type",
        "of13-error-without-code",
        "of13-experimenter-cut",
        "of13-unknown-message-type",
    ] {
        let mut driver = connected(header::V13);
        let mut warnings = 0;
        for _ in 0..50 {
            let mut out = Output::default();
            driver.on_message(&case(name), Time::ZERO, &mut out).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(out.events, [], "{name}");
            warnings += out.warnings.len();
            let errors = out.bytes.get(1).copied();
            assert!(out.bytes.len() <= 12 + 64 && matches!(errors, None | Some(1)), "{name}");
        }
        assert!(warnings <= 10, "{name}: {warnings} lines");
        let mut out = Output::default();
        driver.on_message(&[4, 2, 0, 8, 0, 0, 0, 9], Time::ZERO, &mut out).expect("an echo");
        assert_eq!(out.bytes, [4, 3, 0, 8, 0, 0, 0, 9], "{name}: it still answers");
    }
}

/// IEEE 802.1Q: only VID 0 is without a VLAN. Frames of a VLAN, and frames with two tags, get no
/// answer.
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
        for name in ["dhcp-vid-1", "dhcp-two-tags-vid-0"] {
            let (out, malformed) = seen(version, &case(name));
            assert_eq!((out.events, malformed), (vec![], 0), "{name}");
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

/// Real frames with random changes and cuts cause no panic, do not end the session, and cause a
/// bounded number of warnings.
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
