//! A switch, or a machine behind one of its ports, that floods the driver: there are few events,
//! the last state of each port arrives, and other ports are unaffected.

mod memory;

use memory::{Memory, connected, packet_in};
use std::time::Duration;
use tandem_model::{Arp, ArpOp, Event, Mac, PortNo, Time};
use tandem_openflow::wire::{Pad, Text};
use tandem_openflow::{framing, header, of10, of13};
use tandem_switch_driver::{Driver, Output, packets};

const VERSIONS: [u8; 2] = [header::V10, header::V13];

fn port_status(version: u8, number: u32, up: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let state = u32::from(!up);
    if version == header::V13 {
        let desc = of13::Port { state, ..memory::port13(number) };
        let status = of13::PortStatus { reason: of13::port::reason::MODIFY, pad: Pad::default(), desc };
        of13::Message::PortStatus(status).encode(0, &mut out).expect("a message");
    } else {
        let desc = of10::PhyPort {
            port_no: number as u16,
            hw_addr: Mac([2, 0, 0, 0, 0, 1]),
            name: Text::new("p1"),
            config: 0,
            state,
            curr: 0x20,
            advertised: 0,
            supported: 0,
            peer: 0,
        };
        let status = of10::PortStatus { reason: of10::port::reason::MODIFY, pad: Pad::default(), desc };
        of10::Message::PortStatus(status).encode(0, &mut out).expect("a message");
    }
    out
}

/// Advances the time to `end` and handles all deadlines.
fn until(driver: &mut Driver, end: Time, out: &mut Output) {
    while driver.next_deadline() <= end {
        let now = driver.next_deadline();
        // The switch of this test answers no echo request; the session would end later than this
        // test.
        driver.on_deadline(now, out).expect("nothing is overdue");
    }
}

/// The port states that were reported.
fn states(out: &Output) -> Vec<(PortNo, bool)> {
    let told = out.events.iter().filter_map(|e| match e {
        Event::PortChanged { port, removed: false, .. } => Some((port.port, port.up)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_flapping_port_makes_few_events_and_its_last_state_arrives() {
    for version in VERSIONS {
        for last in [true, false] {
            let mut driver = connected(version);
            let mut out = Output::default();
            let mut now = Time::ZERO;
            for n in 0..30_001 {
                let up = if n == 30_000 { last } else { n % 2 == 0 };
                driver.on_message(&port_status(version, 1, up), now, &mut out).expect("a port's state");
                if n % 15 == 0 {
                    now = now + Duration::from_millis(1);
                    until(&mut driver, now, &mut out);
                }
            }
            until(&mut driver, now + Duration::from_secs(2), &mut out);
            let told = states(&out);
            assert!(told.len() <= 20, "{} events in two seconds", told.len());
            assert_eq!(told.last(), Some(&(PortNo(1), last)), "version {version}");
        }
    }
}

#[test]
fn invented_ports_are_ignored_and_end_no_session() {
    for version in VERSIONS {
        let mut driver = connected(version);
        let mut out = Output::default();
        for n in 100..20_100u32 {
            let message = port_status(version, n, true);
            driver.on_message(&message, Time::ZERO, &mut out).expect("a port's state");
        }
        until(&mut driver, Time::from_secs(3), &mut out);
        assert!(states(&out).len() <= 129, "{}", states(&out).len());
        assert!(!out.warnings.is_empty() && out.warnings.len() <= 10, "{:?}", out.warnings);
    }
}

/// One of 48 ports floods with ARP; the requests of all other ports reach the core.
#[test]
fn a_flood_at_one_port_keeps_no_other_port_from_the_core() {
    for version in VERSIONS {
        let cfg = tandem_switch_driver::Config { packet_ins: 1000, ..memory::cfg() };
        let mut driver = memory::connected_with(version, cfg, 48);
        let mut out = Output::default();
        let frame = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            let sender_mac = Mac([6, 1, a, b, c, d]);
            packets::arp_frame(&Arp {
                op: ArpOp::Request,
                eth_dst: Mac::BROADCAST,
                sender_mac,
                sender_ip: std::net::Ipv4Addr::new(10, 0, 0, 9),
                target_mac: Mac([0; 6]),
                target_ip: std::net::Ipv4Addr::new(10, 0, 0, 1),
            })
        };
        for n in 0..20_000 {
            driver.on_message(&packet_in(version, 1, &frame(n)), Time::ZERO, &mut out).expect("a packet");
        }
        assert!(out.events.len() <= 600, "{}", out.events.len());
        for port in 2..=48u16 {
            let before = out.events.len();
            for n in 0..8 {
                let message = packet_in(version, port, &frame(n));
                driver.on_message(&message, Time::ZERO, &mut out).expect("a packet");
            }
            assert_eq!(out.events.len(), before + 8, "port {port}");
        }
        assert!(out.events.len() <= 1000);
    }
}

/// A link goes down between the switch's port list and the end of the handshake, so that the list
/// is outdated.
#[test]
fn what_happens_to_a_port_during_the_handshake_is_known_at_its_end() {
    for version in VERSIONS {
        let mut out = Output::default();
        let mut driver = Driver::new(memory::cfg(), "test", Time::ZERO, &mut out);
        let mut switch = Memory::with_ports(version, 2);
        let mut is_pulled = false;
        while !out.bytes.is_empty() {
            let answered = switch.answer(&std::mem::take(&mut out.bytes), Time::ZERO);
            let mut rest = &answered[..];
            while let Ok(Some((message, after))) = framing::next(rest) {
                rest = after;
                // OFPT_STATS_REPLY (1.0), OFPT_MULTIPART_REPLY (1.3) with the description, which is
                // type 0 in both.
                let reply = if version == header::V13 { 19 } else { 17 };
                if message[1] == reply && message[8..10] == [0, 0] {
                    is_pulled = true;
                    let pulled = port_status(version, 2, false);
                    driver.on_message(&pulled, Time::ZERO, &mut out).expect("a port's news");
                }
                driver.on_message(message, Time::ZERO, &mut out).expect("a handshake");
            }
        }
        assert!(is_pulled, "the description is the last answer");
        let Some(Event::SwitchUp { ports, .. }) = out.events.first() else { panic!("{:?}", out.events) };
        let up: Vec<(u32, bool)> = ports.iter().map(|p| (p.port.0, p.up)).collect();
        assert_eq!(up, [(1, true), (2, false)], "version {version}");
    }
}
