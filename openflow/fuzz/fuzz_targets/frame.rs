//! From a frame to an event: whatever a VM sends, the driver makes at most one event of it, sends
//! nothing itself, and keeps working. The first byte of the input chooses the OpenFlow version and
//! the protocol whose header is put before the rest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_model::Time;
use tandem_openflow::{header, session};
use tandem_switch_driver::{Config, Driver, Output};

fn message(version: u8, kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header::write(&mut out, version, kind, xid, |out| out.extend_from_slice(body)).expect("short");
    out
}

/// A driver after its handshake; the transaction ids are those of a new session.
fn connected(version: u8) -> Driver {
    let cfg = Config {
        poll_period: std::time::Duration::from_secs(1),
        lldp_period: None,
        secret: 1,
        packet_ins: 1000,
        session: session::Config::default(),
    };
    let mut out = Output::default();
    let mut driver = Driver::new(cfg, "fuzz", Time::ZERO, &mut out);
    let features = [&7u64.to_be_bytes()[..], &[0; 16]].concat();
    let mut say = |kind, xid, body: &[u8]| {
        driver.on_message(&message(version, kind, xid, body), Time::ZERO, &mut out).expect("a handshake");
    };
    say(0, 1, &[]);
    say(6, 2, &features);
    if version == header::V13 {
        say(19, 4, &[0, 13, 0, 0, 0, 0, 0, 0]);
        say(19, 5, &[&[0; 8][..], &[0; 1056]].concat());
    } else {
        say(17, 4, &[&[0; 4][..], &[0; 1056]].concat());
    }
    driver
}

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else { return };
    // Headers of DHCP, IPv4, ARP, LLDP and of a VLAN tag, and none at all.
    let heads: [&[u8]; 6] = [
        &[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67, 0, 0, 0, 0],
        &[8, 0, 0x45],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &[0x88, 0xcc, 2, 4, 7],
        &[0x81, 0],
        &[],
    ];
    let mut frame = vec![255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1];
    frame.extend_from_slice(heads[usize::from(choice >> 1) % heads.len()]);
    frame.extend_from_slice(&rest[..rest.len().min(60_000)]);
    if usize::from(choice >> 1) % heads.len() == 0 && choice & 0x80 == 0 {
        // Valid lengths and a valid sender let the fuzzer reach the DHCP options.
        let (ip, udp) = ((frame.len() - 14) as u16, (frame.len() - 34) as u16);
        frame[16..18].copy_from_slice(&ip.to_be_bytes());
        frame[38..40].copy_from_slice(&udp.to_be_bytes());
        if frame.len() >= 42 + 240 {
            frame[42..45].copy_from_slice(&[1, 1, 6]);
            frame[70..76].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            frame[278..282].copy_from_slice(&[99, 130, 83, 99]);
        }
    }
    let (version, head) = if choice & 1 == 0 {
        (header::V10, [&u32::MAX.to_be_bytes()[..], &(frame.len() as u16).to_be_bytes(), &[0, 1, 1, 0]].concat())
    } else {
        let head = [&u32::MAX.to_be_bytes()[..], &(frame.len() as u16).to_be_bytes(), &[1, 0], &[0; 8]].concat();
        (header::V13, [&head[..], &[0, 1, 0, 12, 0x80, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat())
    };
    let mut driver = connected(version);
    let mut out = Output::default();
    let packet = message(version, 10, 0, &[&head[..], &frame].concat());
    driver.on_message(&packet, Time::ZERO, &mut out).expect("no packet ends a session");
    assert!(out.events.len() <= 1 && out.bytes.is_empty() && out.warnings.len() <= 1);
});
