//! Whatever a switch reports, its session stays up. The target feeds messages with a valid header
//! and any body to a driver that has two wanted rules. The driver sends only whole messages, and a
//! bounded amount of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tandem_model::{
    Cookie, Dpid, Effect, Leave, Owner, PortNo, Rule, RuleAction, RuleKey, RuleMatch, Time, TxnId,
};
use tandem_openflow::{framing, header, session};
use tandem_switch_driver::{Config, Driver, Output};

fn message(version: u8, kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header::write(&mut out, version, kind, xid, |out| out.extend_from_slice(body)).expect("short");
    out
}

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else { return };
    let mut rest = rest;
    let version = if choice & 1 == 0 { header::V10 } else { header::V13 };
    let cfg = Config {
        poll_period: Duration::from_secs(1),
        lldp_period: Some(Duration::from_secs(1)),
        secret: 1,
        packet_ins: 1000,
        session: session::Config::default(),
    };
    let mut now = Time::ZERO;
    let mut out = Output::default();
    let mut driver = Driver::new(cfg, "fuzz", now, &mut out);
    driver.on_message(&message(version, 0, 1, &[]), now, &mut out).expect("a HELLO");
    let features = [&7u64.to_be_bytes()[..], &[0; 16]].concat();
    driver.on_message(&message(version, 6, 2, &features), now, &mut out).expect("features");
    if version == header::V13 {
        driver.on_message(&message(version, 19, 4, &[0, 13, 0, 0, 0, 0, 0, 0]), now, &mut out).expect("ports");
        driver.on_message(&message(version, 19, 5, &[0; 1064]), now, &mut out).expect("a description");
    } else {
        driver.on_message(&message(version, 17, 4, &[0; 1060]), now, &mut out).expect("a description");
    }
    assert!(driver.dpid().is_some());
    let rule = |priority| Rule {
        key: RuleKey { table: 0, priority, matching: RuleMatch { in_port: Some(PortNo(1)), ..RuleMatch::default() } },
        actions: vec![RuleAction::Output(PortNo(2))],
        cookie: Cookie::new(Owner::Fabric, 0),
    };
    let rules = vec![rule(1), rule(2)];
    driver.execute(Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules, leave: Leave::Nothing }, now, &mut out);
    // The input is cut into pieces: message type, transaction id, length, body.
    while let [kind, xid, length, after @ ..] = rest {
        let (body, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        out = Output::default();
        now = now + Duration::from_millis(100);
        match driver.on_message(&message(version, *kind, (*xid).into(), body), now, &mut out) {
            Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
        let _ = driver.on_deadline(now, &mut out);
        assert!(out.warnings.len() <= 4 && out.bytes.len() < 64 * 1024);
        let mut said = &out.bytes[..];
        // The driver's output has to be cut into whole messages. It cannot be decoded again as
        // orders: the driver deletes a flow with an unknown field by that same field.
        while let Some((_, rest)) = framing::next(said).expect("framed") {
            said = rest;
        }
        assert!(said.is_empty());
    }
});
