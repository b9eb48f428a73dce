//! The driver with a switch that follows the specification, and with one that does not. Every test
//! runs in both versions.

mod memory;
mod pair;

use memory::{Answers, LONG, packet_in, port13};
use pair::{Pair, VERSIONS, apply, rule, stale, sync};
use tandem_model::{Cookie, Dpid, Effect, Event, Leave, Owner, PortNo, RuleAction, Time, TxnId};
use tandem_openflow::{AnyMessage, framing, header, of10, of13, session};
use tandem_switch_driver::DriverError;

/// The error messages to the switch: type, code, and the transaction id that they are about.
fn errors(bytes: &[u8]) -> Vec<(u16, u16, u32)> {
    let (mut rest, mut list) = (bytes, Vec::new());
    while let Ok(Some((message, after))) = framing::next(rest) {
        rest = after;
        match AnyMessage::decode(message) {
            Ok((xid, AnyMessage::V10(of10::Message::Error(e)))) => list.push((e.kind, e.code, xid)),
            Ok((xid, AnyMessage::V13(of13::Message::Error(e)))) => list.push((e.kind, e.code, xid)),
            _ => {}
        }
    }
    list
}

#[test]
fn a_sync_adds_what_is_missing_removes_what_is_stale_and_touches_nothing_else() {
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        pair.switch.plant(1, 0x99, false);
        pair.switch.plant(50, stale(), false);
        let rules = vec![rule(100, RuleAction::Output(PortNo(1))), rule(200, RuleAction::Hairpin)];
        let events = pair.effect(sync(1, rules.clone())).expect("a sync");
        assert_eq!(
            events,
            vec![Event::RulesApplied { switch: Dpid(7), txn: TxnId(1), added: 2, removed: 1 }]
        );
        assert_eq!(pair.switch.priorities(), [1, 100, 200]);

        // In a second sync nothing differs, so that only the request for flows and a barrier are
        // sent.
        let events = pair.effect(sync(2, rules)).expect("a sync");
        assert_eq!(
            events,
            vec![Event::RulesApplied { switch: Dpid(7), txn: TxnId(2), added: 0, removed: 0 }]
        );
        assert_eq!(pair.switch.errors, []);
    }
}

#[test]
fn a_refused_transaction_leaves_the_switch_as_it_was() {
    for version in VERSIONS {
        let mut pair = Pair::synced(version, vec![rule(100, RuleAction::Output(PortNo(1)))]);
        let words = |p: &Pair| -> Vec<_> {
            p.switch.pipeline().tables[0].iter().map(|f| (f.priority, f.wording.clone())).collect()
        };
        let before = words(&pair);
        pair.switch.refuses = Some(300);
        let add = [100, 200, 300].map(|p| rule(p, RuleAction::Hairpin)).to_vec();
        let events = pair.effect(apply(2, add, Vec::new())).expect("a refusal is no end");
        let [Event::RulesRefused { txn: TxnId(2), why, .. }] = &events[..] else { panic!("{events:?}") };
        assert!(why.contains("TABLE_FULL") || why.contains("TABLES_FULL"), "{why}");
        assert_eq!(words(&pair), before, "what was replaced is back, what was added is gone");
    }
}

#[test]
fn a_poll_counts_flows_and_repairs_what_was_changed_behind_our_back() {
    for version in VERSIONS {
        let rules = vec![rule(100, RuleAction::Output(PortNo(1))), rule(200, RuleAction::Hairpin)];
        let mut pair = Pair::synced(version, rules);
        let mut frame = vec![0; 100];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[30..34].copy_from_slice(&[10, 0, 0, 5]);
        for _ in 0..3 {
            pair.switch.packet(&frame);
        }
        let events = pair.wait().expect("a poll");
        let flows = events.iter().find_map(|e| match e {
            Event::Samples { flows, .. } if !flows.is_empty() => Some(flows.clone()),
            _ => None,
        });
        assert_eq!(
            flows.map(|f| (f.len(), f[0].flows, f[0].bytes)),
            Some((1, 2, Some(300))),
            "one owner, two flows"
        );
        let rules = events.iter().find_map(|e| match e {
            Event::Samples { rules, .. } if !rules.is_empty() => Some(rules.clone()),
            _ => None,
        });
        let mut rules = rules.expect("each rule");
        rules.sort_by_key(|r| r.key);
        let packets: Vec<_> = rules.iter().map(|r| (r.key.priority, r.counters.packets)).collect();
        assert_eq!(packets, [(100, Some(0)), (200, Some(3))], "by the keys that they were sent with");
        assert!(rules.iter().all(|r| r.counters.age.is_some()), "{rules:?}");
        assert!(!events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));

        pair.switch.wipe(200);
        pair.switch.plant(50, stale(), false);
        let events = pair.wait().expect("a poll");
        let repaired = Event::RulesRepaired { switch: Dpid(7), missing: 1, stale: 1 };
        assert!(events.contains(&repaired), "{events:?}");
        assert_eq!(pair.switch.priorities(), [100, 200]);
    }
}

#[test]
fn a_repair_that_is_refused_is_not_called_done_and_is_tried_again_after_growing_pauses() {
    for version in VERSIONS {
        let mut pair = Pair::synced(version, vec![rule(100, RuleAction::Hairpin)]);
        pair.switch.wipe(100);
        pair.switch.refuses = Some(100);
        let mut refusals = 0;
        while pair.now < Time::from_secs(60) {
            for event in pair.wait().expect("a refusal is no end") {
                match event {
                    Event::RulesRefused { txn: TxnId(1), why, .. } if why.contains("FULL") => refusals += 1,
                    Event::Samples { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!((3..=7).contains(&refusals), "{refusals} tries in a minute of polls every second");
        pair.switch.refuses = None;
        let mut events = Vec::new();
        while !events.iter().any(|e| matches!(e, Event::RulesRepaired { missing: 1, .. })) {
            assert!(pair.now < Time::ZERO + LONG, "never repaired");
            events = pair.wait().expect("a poll");
        }
        assert_eq!(pair.switch.priorities(), [100]);
    }
}

#[test]
fn a_switch_that_will_not_tell_its_flows_is_asked_again_refused_with_the_reason_and_kept() {
    for version in VERSIONS {
        for answers in [Answers::WithError, Answers::Never] {
            let mut pair = Pair::up(version);
            pair.switch.flows = answers;
            let events =
                pair.effect(sync(1, vec![rule(100, RuleAction::Hairpin)])).expect("asked again later");
            assert_eq!(events, []);
            let why = match answers {
                Answers::WithError => "it answered BAD_REQUEST/",
                _ => "it answered nothing for 30s",
            };
            let refused = |pair: &mut Pair| loop {
                let mut events = pair.wait().expect("its session goes on");
                events.retain(|e| !matches!(e, Event::Samples { .. }));
                match &events[..] {
                    [] => assert!(pair.now < Time::ZERO + LONG, "nobody was told"),
                    [Event::RulesRefused { txn: TxnId(1), why, .. }] => break why.clone(),
                    other => panic!("{other:?}"),
                }
            };
            let told = refused(&mut pair);
            assert_eq!(pair.switch.asked.0, 4);
            assert!(told.contains(why) && told.contains("software"), "the reason and what to do: {told}");
            assert!(pair.warnings.iter().any(|w| w.contains(why)), "{:?}", pair.warnings);
            // The warning comes at most once a minute.
            let first = pair.now;
            refused(&mut pair);
            assert!(pair.now.since(first).as_secs() >= 60, "{:?}", pair.now.since(first));
            // The switch answers now: the sync is completed.
            pair.switch.flows = Answers::Right;
            let applied = Event::RulesApplied { switch: Dpid(7), txn: TxnId(1), added: 1, removed: 0 };
            while !pair.wait().expect("its session goes on").contains(&applied) {
                assert!(pair.now < Time::ZERO + LONG, "never synced");
            }
            assert_eq!(pair.switch.priorities(), [100]);
        }
    }
}

#[test]
fn a_switch_that_tells_its_flows_at_the_third_time_is_synced() {
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        pair.switch.flows = Answers::WithError;
        pair.effect(sync(1, vec![rule(100, RuleAction::Hairpin)])).expect("asked again later");
        let mut times = vec![pair.now];
        let mut events = Vec::new();
        while events.is_empty() {
            let asked = pair.switch.asked.0;
            if asked == 2 {
                pair.switch.flows = Answers::Right;
            }
            events = pair.wait().expect("no end");
            events.retain(|e| !matches!(e, Event::Samples { .. }));
            if pair.switch.asked.0 > asked {
                times.push(pair.now);
            }
        }
        assert_eq!(
            events,
            vec![Event::RulesApplied { switch: Dpid(7), txn: TxnId(1), added: 1, removed: 0 }]
        );
        assert_eq!(times, [0, 1, 3].map(Time::from_secs), "the pause doubles");
        // After the next failure there are all tries again.
        pair.switch.flows = Answers::WithError;
        pair.switch.asked.0 = 0;
        while pair.switch.asked.0 < 4 {
            let events = pair.wait().expect("no end");
            let told = events.iter().any(|e| matches!(e, Event::RulesRefused { .. }));
            assert_eq!(told, pair.switch.asked.0 == 4, "{events:?}");
            assert!(pair.now < Time::ZERO + LONG, "given up early");
        }
    }
}

#[test]
fn a_switch_without_port_counters_is_complained_about_and_kept() {
    for version in VERSIONS {
        let mut pair = Pair::synced(version, vec![rule(100, RuleAction::Hairpin)]);
        pair.switch.counters = Answers::WithError;
        for _ in 0..30 {
            let events = pair.wait().expect("no end");
            assert!(events.iter().all(|e| matches!(e, Event::Samples { ports, .. } if ports.is_empty())));
        }
        assert!(pair.warnings[0].contains("port counters with BAD_REQUEST/"), "{:?}", pair.warnings);
        assert_eq!(pair.warnings.len(), 10, "the log is not filled: ten a minute");
        assert!(pair.switch.asked.1 >= 29, "asked with every poll, in case it can now");

        // A switch that never answers is asked once a minute, not once a poll period.
        let mut pair = Pair::synced(version, vec![rule(100, RuleAction::Hairpin)]);
        pair.switch.counters = Answers::Never;
        while pair.now < Time::from_secs(65) {
            pair.wait().expect("no end");
        }
        assert!((2..=4).contains(&pair.switch.asked.1), "{} times", pair.switch.asked.1);
        assert!(pair.warnings[0].contains("has not told its port counters"), "{:?}", pair.warnings);
    }
}

#[test]
fn a_removal_spares_the_flow_of_somebody_else_with_the_same_match_and_priority() {
    for version in VERSIONS {
        // A flow of another controller has the match and priority that a transaction adds. The
        // switch refuses the addition, and the rollback must not delete that flow.
        let mut pair = Pair::up(version);
        pair.switch.plant(100, 0x99, true);
        pair.effect(sync(1, Vec::new())).expect("a sync");
        pair.switch.refuses = Some(100);
        let events = pair.effect(apply(2, vec![rule(100, RuleAction::Hairpin)], Vec::new())).expect("no end");
        assert!(matches!(events[..], [Event::RulesRefused { .. }]), "{events:?}");
        assert_eq!(pair.switch.flows(), [(100, 0x99)]);
        // A flow of Tandem is deleted as usual.
        pair.switch.refuses = None;
        pair.effect(apply(3, vec![rule(200, RuleAction::Hairpin)], Vec::new())).expect("no end");
        let events =
            pair.effect(apply(4, Vec::new(), vec![rule(200, RuleAction::Hairpin).key])).expect("no end");
        assert!(matches!(events[..], [Event::RulesApplied { .. }]), "{events:?}");
        assert_eq!(pair.switch.flows(), [(100, 0x99)]);
        // The flow that a confirmed addition replaced is Tandem's now, and is deleted.
        pair.effect(apply(5, vec![rule(100, RuleAction::Hairpin)], Vec::new())).expect("no end");
        assert_eq!(pair.switch.flows(), [(100, Cookie::new(Owner::Fabric, 0).0)]);
        pair.effect(apply(6, Vec::new(), vec![rule(100, RuleAction::Hairpin).key])).expect("no end");
        assert_eq!(pair.switch.flows(), []);
    }
}

#[test]
fn a_switch_that_falls_silent_is_let_go_and_one_that_does_not_know_barriers_is_refused_with_the_reason() {
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        pair.switch.silent = true;
        let (_, error) = pair.wait_for_the_end();
        assert!(matches!(error, DriverError::Session(session::SessionError::EchoTimeout(_))), "{error}");

        let mut pair = Pair::synced(version, Vec::new());
        pair.switch.barriers = Answers::WithError;
        let events = pair.effect(apply(2, Vec::new(), Vec::new())).expect("a refusal is no end");
        let [Event::RulesRefused { txn: TxnId(2), why, .. }] = &events[..] else { panic!("{events:?}") };
        assert!(why.contains("answers a barrier with BAD_REQUEST/"), "no barrier, no confirmation: {why}");
        pair.switch.barriers = Answers::Right;
        let events = pair.effect(apply(3, Vec::new(), Vec::new())).expect("no end");
        assert!(matches!(events[..], [Event::RulesApplied { txn: TxnId(3), .. }]), "{events:?}");

        let mut pair = Pair::synced(version, Vec::new());
        pair.switch.barriers = Answers::Never;
        pair.effect(apply(2, Vec::new(), Vec::new())).expect("waiting");
        let (_, error) = pair.wait_for_the_end();
        assert!(matches!(error, DriverError::Barrier(_)), "{error}");

        // The barrier behind a PORT_MOD times out like any other.
        let mut pair = Pair::synced(version, Vec::new());
        pair.switch.barriers = Answers::Never;
        pair.effect(Effect::SetPort { switch: Dpid(7), port: PortNo(1), up: true }).expect("waiting");
        let (_, error) = pair.wait_for_the_end();
        assert!(matches!(error, DriverError::Barrier(_)), "{error}");
    }
}

#[test]
fn what_is_no_message_is_answered_with_its_error_and_costs_itself_only() {
    for version in VERSIONS {
        // An unknown type: OFPBRC_BAD_TYPE. A truncated reply: OFPBRC_BAD_LEN.
        let mut unknown = Vec::new();
        header::write(&mut unknown, version, 99, 0x51, |_| {}).expect("short");
        let mut short = Vec::new();
        header::write(&mut short, version, 6, 0x52, |out| out.extend([0; 5])).expect("short");
        for (bytes, wanted) in [(unknown, (1, 1, 0x51)), (short.clone(), (1, 6, 0x52))] {
            let mut pair = Pair::up(version);
            pair.driver.on_message(&bytes, pair.now, &mut pair.out).expect("no end");
            assert_eq!(errors(&pair.out.bytes), [wanted]);
            assert_eq!(pair.out.bytes[0], version);
            assert_eq!(pair.out.bytes[12..], bytes[..], "the beginning of it goes back");
            assert_eq!(pair.out.warnings.len(), 1);
        }
        // Only an unreadable features reply ends the session.
        let mut pair = Pair::new(version);
        pair.driver.on_message(&[version, 0, 0, 8, 0, 0, 0, 1], pair.now, &mut pair.out).expect("a HELLO");
        pair.out.bytes.clear();
        let error = pair.driver.on_message(&short, pair.now, &mut pair.out).expect_err("nonsense");
        assert!(matches!(error, DriverError::Garbage(_)), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "its cause is in its message: {error}");
        assert!(error.to_string().contains("let only switches dial"), "{error}");
        assert_eq!(errors(&pair.out.bytes), [(1, 6, 0x52)]);
        // A length below that of the header: the bytes behind it cannot be cut into messages.
        let mut pair = Pair::up(version);
        pair.driver.on_unframed(&[version, 10, 0, 3, 0, 0, 0, 0x53], &mut pair.out);
        assert_eq!(errors(&pair.out.bytes), [(1, 6, 0x53)]);
    }
    // A peer that does not speak OpenFlow is recognised by its first bytes: OFPET_HELLO_FAILED.
    let mut pair = Pair::new(header::V10);
    pair.out.bytes.clear();
    let error = pair.driver.on_partial(b"GET / HT", &mut pair.out).expect_err("no HELLO");
    assert!(error.to_string().contains("let only switches"), "{error}");
    assert!(matches!(errors(&pair.out.bytes)[..], [(0, 0, _)]));
    let mut pair = Pair::new(header::V10);
    assert_eq!(pair.driver.on_partial(&[4], &mut pair.out), Ok(()), "a HELLO may come in pieces");
    assert_eq!(pair.driver.on_partial(&[4, 0, 0], &mut pair.out), Ok(()));
}

#[test]
fn a_handshake_that_is_refused_never_ends_or_never_comes_is_let_go_with_the_reason() {
    let mut pair = Pair::new(header::V13);
    pair.switch.ports = Answers::WithError;
    let error = pair.talk().expect_err("no ports");
    assert!(
        matches!(&error, DriverError::HandshakeRefused("its ports", e) if e.starts_with("BAD_REQUEST/")),
        "{error}"
    );

    let mut pair = Pair::new(header::V13);
    pair.switch.ports = Answers::Never;
    pair.talk().expect("waiting");
    let xid = {
        // The request for ports is the third message, after features and configuration.
        let (_, error) = pair.wait_for_the_end();
        assert!(matches!(error, DriverError::Handshake("its ports", _)), "{error}");
        let mut again = Pair::new(header::V13);
        again.switch.ports = Answers::Never;
        again.talk().expect("waiting");
        pair = again;
        4
    };
    // A port list without an end is given up at a limit, and the parts so far are dropped.
    let ports = (1..=900).map(port13).collect();
    let body = of13::multipart::ReplyBody::PortDesc(ports);
    let part = of13::MultipartReply { flags: 1, ..of13::MultipartReply::new(body) };
    let mut message = Vec::new();
    of13::Message::MultipartReply(part).encode(xid, &mut message).expect("under 64 KiB");
    let mut parts = 0;
    let error = loop {
        match pair.driver.on_message(&message, pair.now, &mut pair.out) {
            Ok(()) => parts += 1,
            Err(error) => break error,
        }
        assert!(parts < 100, "it keeps on collecting ports");
    };
    assert!(matches!(error, DriverError::Endless(_)) && parts == 72, "{parts} parts: {error}");
}

#[test]
fn packets_beyond_the_allowance_are_counted_and_dropped() {
    let frame = memory::arp_request();
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        let packet = packet_in(version, 1, &frame);
        for _ in 0..5 {
            pair.driver.on_message(&packet, Time::ZERO, &mut pair.out).expect("a packet");
        }
        assert_eq!((pair.out.events.len(), pair.driver.dropped()), (3, 2));
        pair.driver.on_message(&packet, Time::from_secs(1), &mut pair.out).expect("a packet");
        assert_eq!(pair.out.events.len(), 4, "a new second, a new allowance");
    }
}

/// OF 1.0 section 5.3.3, OF 1.3.5 section 7.3.4.3: only the bit of the mask changes, and the
/// address must be the port's.
#[test]
fn a_port_is_switched_off_and_on_and_a_refusal_is_told() {
    let set = |port, up| Effect::SetPort { switch: Dpid(7), port: PortNo(port), up };
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        for on in [false, true] {
            let events = pair.effect(set(1, on)).expect("a change");
            // OFPT_PORT_STATUS: the port's configuration has changed.
            let told =
                |e: &Event| matches!(e, Event::PortChanged { port, removed: false, .. } if port.up == on);
            let taken = Event::PortSet { switch: Dpid(7), port: PortNo(1), up: on };
            assert!(events.len() == 2 && told(&events[0]) && events[1] == taken, "{events:?}");
        }
        let told: Vec<_> =
            pair.switch.port_mods.iter().map(|(port, _, config, mask)| (*port, *config, *mask)).collect();
        assert_eq!(told, [(1, 1, 1), (1, 0, 1)]);
        let macs: Vec<_> = pair.switch.port_mods.iter().map(|(_, mac, ..)| *mac).collect();
        assert_eq!(macs, [memory::MAC; 2]);

        pair.switch.refuses_ports = true;
        let events = pair.effect(set(1, false)).expect("a refusal is no end");
        assert!(
            matches!(&events[..], [Event::PortRefused { port: PortNo(1), why, .. }] if why.contains("BAD_HW_ADDR")),
            "{events:?}"
        );
        let events = pair.effect(set(9, false)).expect("no change");
        assert!(matches!(&events[..], [Event::PortRefused { port: PortNo(9), .. }]), "{events:?}");
        assert_eq!(pair.switch.port_mods.len(), 3, "a port that is not there is not asked for");
    }
}

/// Flows of a VM that is not on record stay as long as the core leaves them, also over audits, and
/// are reported. When the core leaves them no longer, they are deleted without being reported as
/// repairs. Stale flows of a VM with wanted rules here, and of the fabric, are deleted at once.
#[test]
fn what_is_left_stays_until_it_is_let_go() {
    let leave = |but: &[Owner]| Leave::Unknown { but: but.iter().copied().collect() };
    let with = |rules, leave| Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules, leave };
    let left = |events: &[Event]| {
        events.iter().find_map(|e| match e {
            Event::RulesLeft { left, .. } => Some(left.iter().map(|l| l.owner).collect::<Vec<_>>()),
            _ => None,
        })
    };
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        pair.switch.plant(1, 0x99, false);
        pair.switch.plant(40, Cookie::new(Owner::Fabric, 0).0, false);
        pair.switch.plant(50, stale(), false);
        pair.switch.plant(60, Cookie::new(Owner::Group(3), 0).0, true);
        pair.switch.plant(70, Cookie::new(Owner::Vm(8), 0).0, true);
        let mut wanted = rule(100, RuleAction::Hairpin);
        wanted.cookie = Cookie::new(Owner::Vm(8), 1);
        let events = pair.effect(with(vec![wanted.clone()], leave(&[]))).expect("a sync");
        assert_eq!(left(&events), Some(vec![Owner::Vm(9), Owner::Group(3)]), "{events:?}");
        assert_eq!(pair.switch.priorities(), [1, 50, 60, 100]);
        for _ in 0..4 {
            let events = pair.wait().expect("a poll");
            assert_eq!(left(&events), None, "it was told");
        }
        assert_eq!(pair.switch.priorities(), [1, 50, 60, 100]);
        let but = Effect::LeaveRules { switch: Dpid(7), leave: leave(&[Owner::Vm(9)]) };
        let events = pair.effect(but).expect("less is left");
        assert_eq!(left(&events), Some(vec![Owner::Group(3)]), "{events:?}");
        assert!(!events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })), "{events:?}");
        assert_eq!(pair.switch.priorities(), [1, 60, 100]);
        // On another connection they are reported again.
        let events = pair.effect(with(vec![wanted], leave(&[Owner::Vm(9)]))).expect("a sync");
        assert_eq!(left(&events), Some(vec![Owner::Group(3)]), "{events:?}");
        let nothing = Effect::LeaveRules { switch: Dpid(7), leave: Leave::Nothing };
        let events = pair.effect(nothing).expect("nothing is left");
        assert_eq!(left(&events), Some(Vec::new()), "{events:?}");
        assert_eq!(pair.switch.priorities(), [1, 100]);
        assert_eq!(pair.switch.errors, []);
    }
}

/// Flows that are released while a change is in flight are deleted once that is confirmed.
#[test]
fn what_is_let_go_waits_for_changes_under_way() {
    for version in VERSIONS {
        let mut pair = Pair::up(version);
        pair.switch.plant(50, stale(), false);
        let leave = Leave::Unknown { but: Default::default() };
        let sync = Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules: Vec::new(), leave };
        pair.effect(sync).expect("a sync");
        pair.driver.execute(
            apply(2, vec![rule(100, RuleAction::Hairpin)], Vec::new()),
            pair.now,
            &mut pair.out,
        );
        let nothing = Effect::LeaveRules { switch: Dpid(7), leave: Leave::Nothing };
        let events = pair.effect(nothing).expect("nothing is left");
        assert!(events.iter().any(|e| matches!(e, Event::RulesApplied { txn: TxnId(2), .. })), "{events:?}");
        assert_eq!(pair.switch.priorities(), [100]);
    }
}
