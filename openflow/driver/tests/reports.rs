//! Reports of a switch are read tolerantly: a fault behind a valid header costs at most that
//! message, and a fault in one flow costs that flow only. Every test runs in both versions.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests read files")]

mod memory;

use memory::{Memory, cfg, messages};
use proptest::prelude::*;
use std::time::Duration;
use tandem_model::{
    Cookie, Dpid, ETH_IPV4, Effect, Event, Leave, Owner, PortNo, Prefix, Rule, RuleAction, RuleKey,
    RuleMatch, Time, TxnId,
};
use tandem_openflow::{framing, header, of10, of13};
use tandem_switch_driver::{Driver, Output};

const VERSIONS: [u8; 2] = [header::V10, header::V13];

fn message(version: u8, kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header::write(&mut out, version, kind, xid, |out| out.extend_from_slice(body)).expect("short");
    out
}

fn rules() -> Vec<Rule> {
    let rule = |priority: u16, ip_proto, l4_dst, actions: &[RuleAction]| Rule {
        key: RuleKey {
            table: 0,
            priority,
            matching: RuleMatch {
                in_port: Some(PortNo(2)),
                eth_type: Some(ETH_IPV4),
                ip_dst: Prefix::new([10, 0, 0, 0].into(), 24),
                ip_proto,
                l4_dst,
                ..RuleMatch::default()
            },
        },
        actions: actions.to_vec(),
        cookie: Cookie::new(Owner::Vm(priority.into()), 0),
    };
    vec![
        rule(1, None, None, &[]),
        rule(2, None, None, &[RuleAction::SetDscp(46), RuleAction::Output(PortNo(1))]),
        rule(3, Some(6), Some(80), &[RuleAction::Hairpin]),
        rule(4, Some(17), Some(68), &[RuleAction::Controller]),
    ]
}

/// A driver whose rules are in its switch, and the switch's reply to the next poll.
struct Polled {
    driver: Driver,
    now: Time,
    answers: Vec<Vec<u8>>,
}

impl Polled {
    fn new(version: u8) -> Polled {
        let mut out = Output::default();
        let mut driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
        let mut switch = Memory::new(version);
        let mut is_synced = false;
        loop {
            if out.bytes.is_empty() {
                if is_synced {
                    break;
                }
                is_synced = true;
                let effect = Effect::SyncRules {
                    switch: Dpid(7),
                    txn: TxnId(1),
                    rules: rules(),
                    leave: Leave::Nothing,
                };
                driver.execute(effect, Time::ZERO, &mut out);
            }
            for message in messages(&switch.answer(&std::mem::take(&mut out.bytes), Time::ZERO)) {
                driver.on_message(&message, Time::ZERO, &mut out).expect("all is well");
            }
        }
        let now = driver.next_deadline();
        out = Output::default();
        driver.on_deadline(now, &mut out).expect("a poll");
        let answers = messages(&switch.answer(&out.bytes, now));
        assert_eq!(answers.len(), 2, "flows and counters");
        Polled { driver, now, answers }
    }

    /// Passes a message to the driver.
    fn hear(&mut self, message: &[u8]) -> Output {
        let mut out = Output::default();
        self.driver.on_message(message, self.now, &mut out).expect("it costs at most itself");
        out
    }

    /// The transaction id of the request for flows.
    fn flows_xid(&self) -> u32 {
        let flows = self.answers.iter().find(|m| m[8..10] == [0, 1]).expect("flows");
        u32::from_be_bytes([flows[4], flows[5], flows[6], flows[7]])
    }
}

/// Message types that are unknown or that no switch sends, and messages that are truncated where
/// their body begins.
#[test]
fn what_is_unknown_or_short_costs_itself_and_is_said_once_a_minute() {
    for version in VERSIONS {
        let mut polled = Polled::new(version);
        let mut warnings = 0;
        for round in 0..50u32 {
            for kind in 1..=255u8 {
                if [2, 3].contains(&kind) {
                    continue;
                }
                for length in [0, 1, 2, 3, 4, 7, 8, 11] {
                    let out = polled.hear(&message(version, kind, 0x9000 + round, &vec![0xff; length]));
                    warnings += out.warnings.len();
                    assert!(out.bytes.len() <= 12 + 64, "at most one error");
                    let is_error_answered = [1, 4].contains(&kind) && !out.bytes.is_empty();
                    assert!(!is_error_answered, "an error is never answered with one");
                }
            }
        }
        assert!((1..100).contains(&warnings), "{warnings} lines");
        assert!(polled.driver.dpid().is_some());
    }
}

/// An ERROR too short for its type and code is still about the message with its transaction id.
#[test]
fn a_short_error_refuses_what_it_is_about() {
    for version in VERSIONS {
        let mut polled = Polled::new(version);
        let mut out = Output::default();
        let rule = Rule { key: RuleKey { priority: 77, ..rules()[0].key }, ..rules()[0].clone() };
        let effect = Effect::ApplyRules { switch: Dpid(7), txn: TxnId(2), add: vec![rule], remove: vec![] };
        polled.driver.execute(effect, polled.now, &mut out);
        let sent = messages(&out.bytes);
        let xid = |m: &[u8]| u32::from_be_bytes([m[4], m[5], m[6], m[7]]);
        polled.hear(&message(version, 1, xid(&sent[0]), &[]));
        let barrier = if version == header::V10 { 19 } else { 21 };
        let out = polled.hear(&message(version, barrier, xid(&sent[1]), &[]));
        assert!(
            matches!(&out.events[..], [Event::RulesRefused { why, .. }] if why.contains("without type and code")),
            "{:?}",
            out.events
        );
    }
}

/// Every message captured from real switches, also the truncated ones, both in place of an awaited
/// reply and as a message of its own.
#[test]
fn captured_messages_of_real_switches_end_no_session() {
    for (folder, version) in [("of10", header::V10), ("of13", header::V13)] {
        let path = format!("{}/../../tests/data/openflow-vectors/{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(&path).expect("the vectors") {
            let mut bytes = std::fs::read(entry.expect("an entry").path()).expect("a vector");
            if bytes.first() != Some(&version)
                || framing::next(&bytes).map(|m| m.map(|m| m.1.len())) != Ok(Some(0))
            {
                continue;
            }
            count += 1;
            let mut polled = Polled::new(version);
            polled.hear(&bytes);
            let xid = polled.flows_xid();
            bytes[4..8].copy_from_slice(&xid.to_be_bytes());
            let mut out = Output::default();
            polled.driver.on_message(&bytes, polled.now, &mut out).expect("it costs at most the answer");
        }
        assert!(count > 15, "{count} vectors in {path}");
    }
}

/// A real switch fills the padding behind a match with the contents of its memory.
#[test]
fn padding_may_hold_anything() {
    for fill in [0x00, 0x5a, 0xff] {
        let mut polled = Polled::new(header::V13);
        for mut answer in polled.answers.clone() {
            if answer[8..10] == [0, 1] {
                let (_, decoded) = of13::Message::decode(&answer).expect("a good message");
                let of13::Message::MultipartReply(reply) = decoded else { panic!("{decoded:?}") };
                let of13::multipart::ReplyBody::Flow(flows) = reply.body else { panic!("no flows") };
                assert_eq!(flows.len(), rules().len());
                // Header and multipart header, then each flow: 48 bytes, the match, its padding.
                let mut at = 16;
                while at < answer.len() {
                    let length = usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
                    let matching = usize::from(u16::from_be_bytes([answer[at + 50], answer[at + 51]]));
                    let end = at + 48 + matching;
                    answer[end..(at + 48 + matching.next_multiple_of(8))].fill(fill);
                    answer[at + 3] = fill;
                    answer[at + 20..at + 24].fill(fill);
                    at += length;
                }
            }
            let out = polled.hear(&answer);
            assert!(!out.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));
            assert_eq!((out.bytes, out.warnings), (vec![], vec![] as Vec<String>), "nothing is repaired");
        }
    }
}

/// A flow that cannot be read is left out; the others count, and nothing else is repaired.
#[test]
fn what_concerns_one_flow_concerns_that_flow_only() {
    for version in VERSIONS {
        let mut polled = Polled::new(version);
        let flows = polled.answers.iter().find(|m| m[8..10] == [0, 1]).expect("flows").clone();
        let first = if version == header::V10 { 12 } else { 16 };
        // An unknown action type or match type in the first flow.
        let mut broken = flows.clone();
        if version == header::V10 {
            let length = usize::from(u16::from_be_bytes([broken[first], broken[first + 1]]));
            if length > 88 {
                broken[first + 88] = 0x7f;
            } else {
                broken[first + 4..first + 8].copy_from_slice(&[0; 4]);
            }
        } else {
            broken[first + 48] = 0x7f;
        }
        let out = polled.hear(&broken);
        let samples = out.events.iter().find_map(|e| match e {
            Event::Samples { flows, .. } => Some(flows.len()),
            _ => None,
        });
        assert!(samples >= Some(rules().len() - 1), "the others are counted: {:?}", out.events);
        assert!(out.warnings.len() <= 1);
        // The driver adds one rule (and may delete the flow in its place), with a barrier.
        assert!((2..=3).contains(&messages(&out.bytes).len()), "{:x?}", messages(&out.bytes));
    }
}

/// Each part comes in time, but there is no last one.
#[test]
fn an_answer_without_an_end_has_one_deadline_and_is_asked_for_again_later() {
    for version in VERSIONS {
        let mut polled = Polled::new(version);
        let flows = polled.answers.iter().find(|m| m[8..10] == [0, 1]).expect("flows").clone();
        let empty = if version == header::V10 { 12 } else { 16 };
        for with_flows in [false, true] {
            let mut part = if with_flows { flows.clone() } else { flows[..empty].to_vec() };
            let length = (part.len() as u16).to_be_bytes();
            part[2..4].copy_from_slice(&length);
            part[10..12].copy_from_slice(&[0, 1]);
            let xid = polled.flows_xid();
            part[4..8].copy_from_slice(&xid.to_be_bytes());
            let began = polled.now;
            let mut warned = Vec::new();
            while !warned.iter().any(|w: &String| w.contains("asked which flows")) {
                polled.now = polled.now + Duration::from_secs(1);
                let mut out = polled.hear(&part);
                if polled.driver.next_deadline() <= polled.now {
                    polled.driver.on_deadline(polled.now, &mut out).expect("no end");
                }
                warned.append(&mut out.warnings);
                assert!(
                    polled.now.since(began) <= Duration::from_secs(301),
                    "it is waited for without an end"
                );
            }
            let text = warned.iter().find(|w| w.contains("asked which flows")).expect("said");
            assert!(text.contains("has not come to an end"), "{text}");
            // The request is repeated after a pause, with another transaction id.
            let mut again = Vec::new();
            while again.is_empty() {
                polled.now = polled.driver.next_deadline().max(polled.now);
                let mut out = Output::default();
                polled.driver.on_deadline(polled.now, &mut out).expect("no end");
                again = messages(&out.bytes);
                again.retain(|m| m.get(8..10) == Some(&[0, 1]) && [16, 18].contains(&m[1]));
            }
            polled.answers = again.iter().map(|q| [&q[..4], &q[4..8], &[0, 1]].concat()).collect();
        }
    }
}

/// A FLOW_REMOVED with an unknown field, of a flow of another controller.
#[test]
fn an_unknown_match_field_is_a_warning_at_most() {
    let text = std::fs::read_to_string(format!(
        "{}/../../tests/data/cases/of13-flow-removed-unknown-oxm.hex",
        env!("CARGO_MANIFEST_DIR")
    ));
    let text = text.expect("the case");
    let bytes: Vec<u8> = (0..text.trim().len() / 2)
        .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hexadecimal"))
        .collect();
    let out = Polled::new(header::V13).hear(&bytes);
    assert!(out.bytes.is_empty() && out.events.is_empty() && out.warnings.is_empty());
}

/// OF 1.0 section 5.3.5, OF 1.3.5 section 7.3.5: a counter of all ones is not supported, and so a
/// sum with it is not either.
#[test]
fn a_counter_of_all_ones_is_not_supported_and_neither_is_its_sum() {
    for version in VERSIONS {
        let mut polled = Polled::new(version);
        for mut answer in polled.answers.clone() {
            if answer[8..10] == [0, 1] {
                // Offset of the first flow, and in a flow those of its cookie and its byte counter.
                let (first, cookie, bytes) = if version == header::V10 { (12, 64, 80) } else { (16, 24, 40) };
                let length = usize::from(u16::from_be_bytes([answer[first], answer[first + 1]]));
                let second = first + length;
                answer[first + bytes..first + bytes + 8].fill(0xff);
                // The second flow has counted seven bytes, and belongs to the same VM.
                answer.copy_within(first + cookie..first + cookie + 8, second + cookie);
                answer[second + bytes + 7] = 7;
            }
            let out = polled.hear(&answer);
            for event in &out.events {
                let Event::Samples { flows, .. } = event else { continue };
                let uncounted: Vec<u32> =
                    flows.iter().filter(|f| f.bytes.is_none()).map(|f| f.flows).collect();
                let counted = flows.iter().filter(|f| f.bytes == Some(0)).count();
                assert!(flows.is_empty() || (uncounted == [2] && counted == rules().len() - 2), "{flows:?}");
            }
        }
    }
}

proptest! {
    /// Replies of a real switch with random changes behind the headers.
    #[test]
    fn no_change_behind_a_header_ends_the_session(
        is_13 in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut polled = Polled::new(if is_13 { header::V13 } else { header::V10 });
        for mut answer in polled.answers.clone() {
            for (at, value) in &changes {
                let at = 8 + at.index(answer.len() - 8);
                answer[at] = *value;
            }
            if let Some(cut) = cut {
                answer.truncate(8 + cut.index(answer.len() - 7));
                let length = (answer.len() as u16).to_be_bytes();
                answer[2..4].copy_from_slice(&length);
            }
            let out = polled.hear(&answer);
            prop_assert!(out.warnings.len() <= 3);
            // At most, every rule is added again and every flow deleted, with a barrier and an
            // error reply.
            prop_assert!(messages(&out.bytes).len() <= 2 * rules().len() + 2);
        }
        prop_assert!(polled.driver.dpid().is_some());
        let echo = polled.hear(&message(if is_13 { 4 } else { 1 }, 2, 5, b"still there?"));
        prop_assert_eq!(echo.bytes.get(1), Some(&3));
    }

    /// The same for asynchronous messages: PACKET_IN, PORT_STATUS, FLOW_REMOVED.
    #[test]
    fn no_unasked_message_ends_the_session(
        is_13 in any::<bool>(),
        kind in prop::sample::select(vec![1u8, 4, 6, 8, 10, 11, 12, 17, 19, 21, 25]),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let version = if is_13 { header::V13 } else { header::V10 };
        let mut polled = Polled::new(version);
        let out = polled.hear(&message(version, kind, 0x7fff_0001, &body));
        prop_assert!(out.events.len() <= 1 && out.bytes.len() <= 12 + 64);
        let _ = of10::Message::decode(&message(version, kind, 1, &body));
    }
}
