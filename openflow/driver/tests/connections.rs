//! Several connections of one switch, and changes larger than the switch reads at once. Every test
//! runs in both versions.

mod memory;

use memory::{Memory, cfg, messages, packet_in};
use tandem_model::{
    Cookie, Dpid, ETH_IPV4, Effect, Event, Leave, Owner, PortNo, Prefix, Rule, RuleAction, RuleKey,
    RuleMatch, Time, TxnId,
};
use tandem_openflow::{AnyMessage, header, of13};
use tandem_switch_driver::{Driver, Duty, Output};

const VERSIONS: [u8; 2] = [header::V10, header::V13];
/// The most unconfirmed messages, with their barriers.
const UNDER_WAY: usize = 402;

/// Exchanges messages until both sides are quiet; returns the driver's events, and the types of its
/// messages.
fn talk(driver: &mut Driver, switch: &mut Memory, out: &mut Output) -> (Vec<Event>, Vec<u8>) {
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    loop {
        events.append(&mut out.events);
        if out.bytes.is_empty() {
            return (events, sent);
        }
        let bytes = std::mem::take(&mut out.bytes);
        sent.extend(messages(&bytes).iter().map(|m| m[1]));
        for message in messages(&switch.answer(&bytes, Time::ZERO)) {
            driver.on_message(&message, Time::ZERO, out).expect("a session");
        }
    }
}

fn undecided(version: u8) -> (Driver, Memory, Output) {
    let mut out = Output::default();
    let mut driver = Driver::undecided(cfg(), "test", Time::ZERO, &mut out);
    let mut switch = Memory::new(version);
    let (events, _) = talk(&mut driver, &mut switch, &mut out);
    assert_eq!((driver.dpid(), events), (Some(Dpid(7)), Vec::new()), "nobody is told before it is decided");
    (driver, switch, out)
}

fn rule(n: u16) -> Rule {
    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 | u32::from(n));
    let matching =
        RuleMatch { eth_type: Some(ETH_IPV4), ip_dst: Prefix::new(address, 32), ..RuleMatch::default() };
    Rule {
        key: RuleKey { table: 0, priority: 100, matching },
        actions: vec![RuleAction::Output(PortNo(1))],
        cookie: Cookie::new(Owner::Fabric, 0),
    }
}

fn sync(rules: Vec<Rule>) -> Effect {
    Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules, leave: Leave::Nothing }
}

#[test]
fn a_connection_that_stands_by_says_nothing_tells_nobody_and_takes_over_without_touching_a_rule() {
    let arp = memory::arp_request();
    for version in VERSIONS {
        let (mut driver, mut switch, mut out) = undecided(version);
        driver.take_duty(Duty::Standby, Time::ZERO, &mut out);
        let (events, sent) = talk(&mut driver, &mut switch, &mut out);
        assert_eq!(events, []);
        // OFPT_SET_ASYNC: the switch should not report everything on both connections. 1.0 has no
        // such message.
        assert_eq!(sent, if version == header::V13 { vec![28] } else { vec![] });

        let packet = packet_in(version, 1, &arp);
        driver.on_message(&packet, Time::ZERO, &mut out).expect("a packet");
        driver.execute(sync(vec![rule(1)]), Time::ZERO, &mut out);
        driver.execute(Effect::PollNow { switch: Dpid(7) }, Time::ZERO, &mut out);
        assert!(out.events.is_empty() && out.bytes.is_empty(), "{out:?}");
        // Its only deadlines are those of the session: echo requests.
        let next = driver.next_deadline();
        driver.on_deadline(next, &mut out).expect("alive");
        assert_eq!(messages(&out.bytes).iter().map(|m| m[1]).collect::<Vec<_>>(), [2]);
        talk(&mut driver, &mut switch, &mut out);

        // The other connection has added the rule before it ends.
        switch.plant(100, Cookie::new(Owner::Fabric, 0).0, true);
        driver.take_duty(Duty::Active, Time::ZERO, &mut out);
        let (events, sent) = talk(&mut driver, &mut switch, &mut out);
        assert!(
            matches!(&events[..], [Event::SwitchUp { switch: Dpid(7), ports, .. }] if ports.len() == 1),
            "{events:?}"
        );
        assert_eq!(sent, if version == header::V13 { vec![28] } else { vec![] });
        let there = Rule {
            key: RuleKey {
                table: 0,
                priority: 100,
                matching: RuleMatch {
                    eth_type: Some(ETH_IPV4),
                    ip_dst: Prefix::new(std::net::Ipv4Addr::new(10, 0, 0, 0), 24),
                    ..RuleMatch::default()
                },
            },
            actions: Vec::new(),
            cookie: Cookie::new(Owner::Fabric, 0),
        };
        driver.execute(sync(vec![there, rule(1)]), Time::ZERO, &mut out);
        let (events, _) = talk(&mut driver, &mut switch, &mut out);
        assert_eq!(
            events,
            vec![Event::RulesApplied { switch: Dpid(7), txn: TxnId(1), added: 1, removed: 0 }],
            "only what is missing is added"
        );
        driver.on_message(&packet, Time::ZERO, &mut out).expect("a packet");
        assert!(matches!(out.events[..], [Event::ArpSeen { .. }]), "{:?}", out.events);
    }
}

/// OFPT_SET_ASYNC restores the defaults of OF 1.3.5 section 6.3.2; port status is reported on
/// either connection.
#[test]
fn packets_and_removed_flows_are_asked_for_on_the_active_connection_only() {
    let (mut driver, _, mut out) = undecided(header::V13);
    for (duty, packets, flows) in [(Duty::Standby, 0, 0), (Duty::Active, 0b11, 0b1111)] {
        out = Output { events: Vec::new(), ..Output::default() };
        driver.take_duty(duty, Time::ZERO, &mut out);
        let Ok((_, AnyMessage::V13(of13::Message::SetAsync(asked)))) = AnyMessage::decode(&out.bytes) else {
            panic!("no OFPT_SET_ASYNC: {:?}", out.bytes)
        };
        let got = (asked.packet_in_master, asked.port_status_master, asked.flow_removed_master);
        assert_eq!(got, (packets, 0b111, flows));
    }
    assert!(!out.events.is_empty());
}

#[test]
fn a_large_change_goes_out_in_pieces_and_is_confirmed_once() {
    for version in VERSIONS {
        let mut out = Output::default();
        let mut driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
        let mut switch = Memory::new(version);
        talk(&mut driver, &mut switch, &mut out);
        driver.execute(sync((0..900).map(rule).collect()), Time::ZERO, &mut out);
        let mut applied = 0;
        let mut most = 0;
        // The switch reads one message at a time.
        let mut waiting = std::collections::VecDeque::new();
        loop {
            applied += out.events.drain(..).filter(|e| matches!(e, Event::RulesApplied { .. })).count();
            waiting.extend(messages(&std::mem::take(&mut out.bytes)));
            most = most.max(waiting.len());
            let Some(message) = waiting.pop_front() else { break };
            for answer in messages(&switch.answer(&message, Time::ZERO)) {
                driver.on_message(&answer, Time::ZERO, &mut out).expect("a session");
            }
            if applied == 0 && switch.flows().len() < 500 {
                assert!(driver.backlog() > 0 || switch.flows().len() + waiting.len() >= 500);
            }
        }
        assert_eq!((applied, switch.flows().len(), driver.backlog()), (1, 900, 0));
        assert!(most <= UNDER_WAY, "{most} messages without a confirmation");

        // All flows are deleted at once: in both versions the switch answers each deletion with
        // OFPT_FLOW_REMOVED.
        let remove: Vec<RuleKey> = (0..900).map(|n| rule(n).key).collect();
        let effect = Effect::ApplyRules { switch: Dpid(7), txn: TxnId(2), add: Vec::new(), remove };
        driver.execute(effect, Time::ZERO, &mut out);
        assert!(messages(&out.bytes).len() <= UNDER_WAY);
        let (events, _) = talk(&mut driver, &mut switch, &mut out);
        let removed = Event::RulesApplied { switch: Dpid(7), txn: TxnId(2), added: 0, removed: 900 };
        assert_eq!((events, switch.flows()), (vec![removed], Vec::new()));
    }
}

/// A truncated description is ignored: the handshake finishes without it.
#[test]
fn a_description_that_cannot_be_read_is_none() {
    for version in VERSIONS {
        let mut out = Output::default();
        let mut driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
        let mut switch = Memory::new(version);
        let mut events = Vec::new();
        while !out.bytes.is_empty() {
            for mut message in messages(&switch.answer(&std::mem::take(&mut out.bytes), Time::ZERO)) {
                let reply = if version == header::V13 { 19 } else { 17 };
                if message[1] == reply && message[8..10] == [0, 0] {
                    message.truncate(40);
                    message[2..4].copy_from_slice(&[0, 40]);
                }
                driver.on_message(&message, Time::ZERO, &mut out).expect("it costs itself only");
            }
            events.append(&mut out.events);
        }
        assert!(matches!(events[..], [Event::SwitchUp { .. }]), "{events:?}");
    }
}

#[test]
fn a_connection_is_probed_and_dismissed_with_a_text() {
    for version in VERSIONS {
        let (mut driver, _, mut out) = undecided(version);
        driver.probe(Time::ZERO, &mut out);
        driver.probe(Time::ZERO, &mut out);
        assert_eq!(messages(&out.bytes).iter().map(|m| m[1]).collect::<Vec<_>>(), [2], "asked once");
        out.bytes.clear();
        driver.dismiss("another switch has your datapath id", &mut out);
        // OFPET_HELLO_FAILED, OFPHFC_EPERM.
        assert_eq!(
            (out.bytes[..2].to_vec(), out.bytes[8..12].to_vec()),
            (vec![version, 1], vec![0, 0, 0, 1])
        );
        assert!(out.bytes.ends_with(b"another switch has your datapath id"));
    }
}
