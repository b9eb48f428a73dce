//! The driver against a switch that answers as the specification says, in both versions: an in-memory switch made of the codec alone.

use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{
    Cookie, Dpid, ETH_IPV4, Effect, Event, Owner, PortNo, Prefix, Rule, RuleAction, RuleKey, RuleMatch, Time,
    TxnId,
};
use tandem_openflow::of10::{self, Message};
use tandem_openflow::wire::{Bytes, Pad, Text};
use tandem_openflow::{framing, header, session};
use tandem_switch_driver::{Cfg, Driver, DriverError, Output};

/// An OpenFlow 1.0 switch: a table by match and priority, and how many flow mods it will still take.
struct Switch {
    flows: BTreeMap<(String, u16), of10::FlowMod>,
    /// Refuses the flow mod with this priority.
    refuses: Option<u16>,
    silent: bool,
    /// What it was told of its ports, and whether it takes it.
    port_mods: Vec<of10::PortMod>,
    refuses_ports: bool,
}

impl Switch {
    fn new() -> Switch {
        Switch {
            flows: BTreeMap::new(),
            refuses: None,
            silent: false,
            port_mods: Vec::new(),
            refuses_ports: false,
        }
    }

    /// Takes what the driver sent and answers it.
    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            if message[1] == 0 {
                // HELLO: this switch speaks 1.0 only and says so with a bare one.
                Message::Hello(Bytes(Vec::new())).encode(0, &mut out).expect("short");
                continue;
            }
            let (xid, message) = Message::decode(message).expect("the driver sends valid 1.0");
            if self.silent {
                continue;
            }
            for reply in self.one(message) {
                reply.encode(xid, &mut out).expect("short");
            }
        }
        assert!(rest.is_empty(), "the driver sent half a message");
        out
    }

    fn one(&mut self, message: Message) -> Vec<Message> {
        match message {
            Message::FeaturesRequest => vec![Message::FeaturesReply(of10::FeaturesReply {
                datapath_id: Dpid(7),
                n_buffers: 0,
                n_tables: 1,
                pad: Pad::default(),
                capabilities: 0,
                actions: 0xfff,
                ports: vec![of10::PhyPort {
                    port_no: 1,
                    hw_addr: tandem_model::Mac([2, 0, 0, 0, 0, 1]),
                    name: Text::new("p1"),
                    config: 0,
                    state: 0,
                    curr: 0x20,
                    advertised: 0,
                    supported: 0,
                    peer: 0,
                }],
            })],
            Message::StatsRequest(request) => match request.body {
                of10::stats::RequestBody::Desc => {
                    vec![reply(of10::stats::ReplyBody::Desc(Box::new(of10::stats::DescStats {
                        mfr_desc: Text::new("nobody"),
                        hw_desc: Text::new("memory"),
                        sw_desc: Text::new("1"),
                        serial_num: Text::default(),
                        dp_desc: Text::default(),
                    })))]
                }
                of10::stats::RequestBody::Flow(_) => vec![reply(of10::stats::ReplyBody::Flow(self.stats()))],
                of10::stats::RequestBody::Port(_) => vec![reply(of10::stats::ReplyBody::Port(Vec::new()))],
                _ => Vec::new(),
            },
            Message::FlowMod(flow) => {
                let key = (format!("{:?}", flow.matching), flow.priority);
                if self.refuses == Some(flow.priority) && flow.command == of10::flow::command::ADD {
                    // OFPET_FLOW_MOD_FAILED, OFPFMFC_ALL_TABLES_FULL.
                    return vec![Message::Error(of10::switch::ErrorMsg {
                        kind: 3,
                        code: 0,
                        data: Bytes(Vec::new()),
                    })];
                }
                match flow.command {
                    of10::flow::command::ADD => drop(self.flows.insert(key, flow)),
                    of10::flow::command::DELETE_STRICT => drop(self.flows.remove(&key)),
                    other => panic!("the driver sends only additions and strict deletions, not {other}"),
                }
                Vec::new()
            }
            Message::PortMod(change) => {
                self.port_mods.push(change);
                // OFPET_PORT_MOD_FAILED, OFPPMFC_BAD_HW_ADDR.
                let error = of10::switch::ErrorMsg { kind: 4, code: 1, data: Bytes(Vec::new()) };
                self.refuses_ports.then_some(Message::Error(error)).into_iter().collect()
            }
            Message::BarrierRequest => vec![Message::BarrierReply],
            _ => Vec::new(),
        }
    }

    fn stats(&self) -> Vec<of10::stats::FlowStats> {
        self.flows
            .values()
            .map(|f| of10::stats::FlowStats {
                table_id: 0,
                pad: Pad::default(),
                matching: f.matching.clone(),
                duration_sec: 1,
                duration_nsec: 0,
                priority: f.priority,
                idle_timeout: 0,
                hard_timeout: 0,
                pad2: Pad::default(),
                cookie: f.cookie,
                packet_count: 3,
                byte_count: 300,
                actions: f.actions.clone(),
            })
            .collect()
    }

    fn priorities(&self) -> Vec<u16> {
        let mut list: Vec<u16> = self.flows.keys().map(|(_, p)| *p).collect();
        list.sort_unstable();
        list
    }
}

fn reply(body: of10::stats::ReplyBody) -> Message {
    Message::StatsReply(of10::StatsReply { flags: 0, body })
}

fn cfg() -> Cfg {
    Cfg {
        poll_period: Duration::from_secs(1),
        lldp_period: None,
        secret: 1,
        packet_ins: 3,
        session: session::Cfg::default(),
    }
}

/// Runs the two against each other until neither has anything to say; the driver's facts.
fn talk(
    driver: &mut Driver,
    switch: &mut Switch,
    out: &mut Output,
    now: Time,
) -> Result<Vec<Event>, DriverError> {
    let mut events = std::mem::take(&mut out.events);
    while !out.bytes.is_empty() {
        let sent = std::mem::take(&mut out.bytes);
        let answered = switch.answer(&sent);
        let mut rest = &answered[..];
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            driver.on_message(message, now, out)?;
        }
        events.append(&mut out.events);
    }
    Ok(events)
}

fn up() -> (Driver, Switch, Output) {
    let (mut out, mut switch) = (Output::default(), Switch::new());
    let mut driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
    let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a handshake");
    match &events[..] {
        [Event::SwitchUp { switch, ports, caps }] => {
            assert_eq!((*switch, ports.len(), caps.version.as_str()), (Dpid(7), 1, "1.0"));
            assert!(ports[0].up && ports[0].speed == Some(tandem_model::BitRate(1_000_000_000)));
        }
        other => panic!("wanted SwitchUp, got {other:?}"),
    }
    (driver, switch, out)
}

fn rule(priority: u16, action: RuleAction) -> Rule {
    let matching = RuleMatch {
        eth_type: Some(ETH_IPV4),
        ip_dst: Prefix::new(std::net::Ipv4Addr::new(10, 0, 0, 0), 24),
        ..RuleMatch::default()
    };
    Rule {
        key: RuleKey { table: 0, priority, matching },
        actions: vec![action],
        cookie: Cookie::new(Owner::Plan, 0),
    }
}

fn foreign() -> of10::FlowMod {
    of10::FlowMod {
        matching: of10::Match::any(),
        cookie: 0x99,
        command: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 1,
        buffer_id: of10::flow::NO_BUFFER,
        out_port: of10::port::NONE,
        flags: 0,
        actions: Vec::new(),
    }
}

#[test]
fn a_sync_adds_what_is_missing_removes_what_is_stale_and_touches_nothing_else() {
    let (mut driver, mut switch, mut out) = up();
    switch.flows.insert(("somebody else's".into(), 1), foreign());
    let stale = of10::FlowMod { cookie: Cookie::new(Owner::Vm(9), 0).0, priority: 50, ..foreign() };
    switch.flows.insert((format!("{:?}", stale.matching), 50), stale);
    let rules = vec![rule(100, RuleAction::Output(PortNo(1))), rule(200, RuleAction::Hairpin)];
    driver.carry_out(
        Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules: rules.clone() },
        Time::ZERO,
        &mut out,
    );
    let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a sync");
    assert_eq!(events, vec![Event::RulesApplied { switch: Dpid(7), txn: TxnId(1), added: 2, removed: 1 }]);
    assert_eq!(switch.priorities(), [1, 100, 200]);

    // Once more: everything is as it should be, so nothing is sent but the question and a barrier.
    driver.carry_out(Effect::SyncRules { switch: Dpid(7), txn: TxnId(2), rules }, Time::ZERO, &mut out);
    let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a sync");
    assert_eq!(events, vec![Event::RulesApplied { switch: Dpid(7), txn: TxnId(2), added: 0, removed: 0 }]);
}

#[test]
fn a_refused_transaction_leaves_the_switch_as_it_was() {
    let (mut driver, mut switch, mut out) = up();
    let before = vec![rule(100, RuleAction::Output(PortNo(1)))];
    driver.carry_out(
        Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules: before },
        Time::ZERO,
        &mut out,
    );
    talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a sync");
    let flows = switch.flows.clone();

    switch.refuses = Some(300);
    let add =
        vec![rule(100, RuleAction::Hairpin), rule(200, RuleAction::Hairpin), rule(300, RuleAction::Hairpin)];
    let effect = Effect::ApplyRules { switch: Dpid(7), txn: TxnId(2), add, remove: Vec::new() };
    driver.carry_out(effect, Time::ZERO, &mut out);
    let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a refusal is no end");
    assert!(
        matches!(&events[..], [Event::RulesRefused { txn: TxnId(2), why, .. }] if why.contains("ALL_TABLES_FULL")),
        "{events:?}"
    );
    assert_eq!(switch.flows, flows, "what was replaced is back, what was added is gone");
}

#[test]
fn a_poll_counts_flows_and_repairs_what_was_changed_behind_our_back() {
    let (mut driver, mut switch, mut out) = up();
    let rules = vec![rule(100, RuleAction::Output(PortNo(1))), rule(200, RuleAction::Hairpin)];
    driver.carry_out(Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules }, Time::ZERO, &mut out);
    talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a sync");

    let now = driver.next_deadline();
    driver.on_deadline(now, &mut out).expect("a poll");
    let events = talk(&mut driver, &mut switch, &mut out, now).expect("a poll");
    let flows = events.iter().find_map(|e| match e {
        Event::Samples { flows, .. } if !flows.is_empty() => Some(flows.clone()),
        _ => None,
    });
    assert_eq!(flows.map(|f| (f.len(), f[0].flows, f[0].bytes)), Some((1, 2, 600)), "one owner, two flows");
    assert!(!events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));

    switch.flows.retain(|(_, p), _| *p != 200);
    let stale = of10::FlowMod { cookie: Cookie::new(Owner::Vm(9), 0).0, priority: 50, ..foreign() };
    switch.flows.insert((format!("{:?}", stale.matching), 50), stale);
    let now = driver.next_deadline();
    driver.on_deadline(now, &mut out).expect("a poll");
    let events = talk(&mut driver, &mut switch, &mut out, now).expect("a poll");
    assert!(events.contains(&Event::RulesRepaired { switch: Dpid(7), missing: 1, stale: 1 }), "{events:?}");
    assert_eq!(switch.priorities(), [100, 200]);
}

#[test]
fn a_switch_that_falls_silent_or_talks_nonsense_is_let_go() {
    let (mut driver, mut switch, mut out) = up();
    switch.silent = true;
    let gone = loop {
        let now = driver.next_deadline();
        if let Err(error) = driver.on_deadline(now, &mut out) {
            break error;
        }
        talk(&mut driver, &mut switch, &mut out, now).expect("silence is no message");
        assert!(now < Time::from_secs(120), "nobody noticed");
    };
    assert!(matches!(gone, DriverError::Session(session::SessionError::EchoTimeout(_))), "{gone}");

    let (mut driver, _, mut out) = up();
    let mut nonsense = Vec::new();
    header::write(&mut nonsense, header::V10, 99, 1, |_| {}).expect("short");
    assert!(matches!(driver.on_message(&nonsense, Time::ZERO, &mut out), Err(DriverError::Garbage(_))));
}

#[test]
fn packets_beyond_the_allowance_are_counted_and_dropped() {
    let (mut driver, _, mut out) = up();
    let frame = tandem_switch_driver::packets::arp_frame(&tandem_model::Arp {
        op: tandem_model::ArpOp::Request,
        eth_dst: tandem_model::Mac::BROADCAST,
        sender_mac: tandem_model::Mac([2, 0, 0, 0, 0, 9]),
        sender_ip: std::net::Ipv4Addr::new(10, 0, 0, 9),
        target_mac: tandem_model::Mac([0; 6]),
        target_ip: std::net::Ipv4Addr::new(10, 0, 0, 1),
    });
    let mut packet = Vec::new();
    let message = Message::PacketIn(of10::PacketIn {
        buffer_id: of10::flow::NO_BUFFER,
        total_len: frame.len() as u16,
        in_port: 1,
        reason: 1,
        pad: Pad::default(),
        data: Bytes(frame),
    });
    message.encode(0, &mut packet).expect("short");
    for _ in 0..5 {
        driver.on_message(&packet, Time::ZERO, &mut out).expect("a packet");
    }
    assert_eq!((out.events.len(), driver.dropped()), (3, 2));
    driver.on_message(&packet, Time::from_secs(1), &mut out).expect("a packet");
    assert_eq!(out.events.len(), 4, "a new second, a new allowance");
}

/// OF 1.0 section 5.3.3, OF 1.3.5 section 7.3.4.3: only the bit of the mask changes, and the address must be the port's.
#[test]
fn a_port_is_switched_off_and_on_and_a_refusal_is_told() {
    let (mut driver, mut switch, mut out) = up();
    let set = |port, up| Effect::SetPort { switch: Dpid(7), port: PortNo(port), up };
    for on in [false, true] {
        driver.carry_out(set(1, on), Time::ZERO, &mut out);
        let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a change");
        assert_eq!(events, Vec::new(), "a switch says nothing to what it takes");
    }
    let told: Vec<_> = switch.port_mods.iter().map(|m| (m.port_no, m.hw_addr, m.config, m.mask)).collect();
    let mac = tandem_model::Mac([2, 0, 0, 0, 0, 1]);
    assert_eq!(told, [(1, mac, 1, 1), (1, mac, 0, 1)]);

    switch.refuses_ports = true;
    driver.carry_out(set(1, false), Time::ZERO, &mut out);
    let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("a refusal is no end");
    assert!(
        matches!(&events[..], [Event::PortRefused { port: PortNo(1), why, .. }] if why.contains("BAD_HW_ADDR")),
        "{events:?}"
    );
    driver.carry_out(set(9, false), Time::ZERO, &mut out);
    let events = talk(&mut driver, &mut switch, &mut out, Time::ZERO).expect("no change");
    assert!(matches!(&events[..], [Event::PortRefused { port: PortNo(9), .. }]), "{events:?}");
    assert_eq!(switch.port_mods.len(), 3, "a port that is not there is not asked for");
}

#[test]
fn the_same_in_the_words_of_1_3() {
    use tandem_openflow::of13;
    let mut out = Output::default();
    let mut driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
    let say = |driver: &mut Driver, out: &mut Output, xid: u32, message: of13::Message| {
        let mut bytes = Vec::new();
        message.encode(xid, &mut bytes).expect("short");
        driver.on_message(&bytes, Time::ZERO, out).expect("valid 1.3");
    };
    // What the driver asks with which transaction id; `None` for what is no request.
    let asked = |out: &mut Output| -> Vec<(u32, of13::Message)> {
        let bytes = std::mem::take(&mut out.bytes);
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            all.extend(of13::Message::decode(message).ok());
        }
        all
    };
    say(&mut driver, &mut out, 0, of13::Message::Hello(of13::switch::Hello { elements: Vec::new() }));
    for _ in 0..8 {
        for (xid, message) in asked(&mut out) {
            let port = of13::Port {
                port_no: 3,
                pad: Pad::default(),
                hw_addr: tandem_model::Mac([2, 0, 0, 0, 0, 3]),
                pad2: Pad::default(),
                name: Text::new("p3"),
                config: 0,
                state: 0,
                curr: 0,
                advertised: 0,
                supported: 0,
                peer: 0,
                curr_speed: 0,
                max_speed: 0,
            };
            let reply = |body| {
                of13::Message::MultipartReply(of13::MultipartReply { flags: 0, pad: Pad::default(), body })
            };
            match message {
                of13::Message::FeaturesRequest => {
                    let features = of13::FeaturesReply {
                        datapath_id: Dpid(7),
                        n_buffers: 0,
                        n_tables: 2,
                        auxiliary_id: 0,
                        pad: Pad::default(),
                        capabilities: 0,
                        reserved: 0,
                    };
                    say(&mut driver, &mut out, xid, of13::Message::FeaturesReply(features));
                }
                of13::Message::MultipartRequest(request) => match request.body {
                    of13::multipart::RequestBody::PortDesc => {
                        let body = of13::multipart::ReplyBody::PortDesc(vec![port]);
                        say(&mut driver, &mut out, xid, reply(body));
                    }
                    // It does not describe itself: OFPET_BAD_REQUEST, OFPBRC_BAD_MULTIPART.
                    _ => {
                        let error = of13::switch::ErrorMsg { kind: 1, code: 2, data: Bytes(Vec::new()) };
                        say(&mut driver, &mut out, xid, of13::Message::Error(error));
                    }
                },
                _ => {}
            }
        }
    }
    assert!(matches!(&out.events[..], [Event::SwitchUp { .. }]), "{:?}", out.events);
    driver.carry_out(Effect::SetPort { switch: Dpid(7), port: PortNo(3), up: false }, Time::ZERO, &mut out);
    match &asked(&mut out)[..] {
        [(_, of13::Message::PortMod(change))] => assert_eq!(
            (change.port_no, change.hw_addr, change.config, change.mask),
            (3, tandem_model::Mac([2, 0, 0, 0, 0, 3]), 1, 1)
        ),
        other => panic!("wanted a PORT_MOD, got {other:?}"),
    }
}
