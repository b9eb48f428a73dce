//! Single rules, by recorded or handwritten messages.

use crate::memory::{case, messages};
use crate::{Pair, VERSIONS, prefix, rule};
use tandem_model::{
    Dpid, ETH_ARP, ETH_IPV4, ETH_LLDP, Effect, Event, Mac, Metadata, PortNo, RuleAction, RuleMatch, Time,
    TxnId, VlanTag,
};
use tandem_openflow::of13::multipart::ReplyBody as Reply13;
use tandem_openflow::of13::{Field, Instruction, Masked};
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{header, of10, of13};
use tandem_switch_driver::Output;

/// `of10-flow-mod-output-to-in-port`: a message that the driver once sent. Now the rule becomes a
/// drop.
#[test]
fn a_rule_that_sends_back_is_a_drop_and_a_hairpin_says_in_port() {
    let flow_mod = |name| match of10::Message::decode(&case(name)) {
        Ok((_, of10::Message::FlowMod(m))) => m,
        other => panic!("{name}: {other:?}"),
    };
    let once = flow_mod("of10-flow-mod-output-to-in-port");
    assert_eq!(once.actions, [of10::Action::Output { port: once.matching.in_port, max_len: 0 }]);
    let queued = flow_mod("of10-flow-mod-enqueue-to-in-port");
    let in_port = queued.matching.in_port;
    assert!(matches!(queued.actions[..], [of10::Action::Enqueue { port, .. }] if port == in_port));
    let Ok((_, of13::Message::FlowMod(m))) = of13::Message::decode(&case("of13-flow-mod-output-to-in-port"))
    else {
        panic!("no FLOW_MOD")
    };
    assert_eq!(m.matching.fields[0], Field::InPort(3));
    let m = RuleMatch {
        in_port: Some(PortNo(3)),
        eth_type: Some(ETH_IPV4),
        ip_dst: Some(prefix(0x0a00_0001, 32)),
        ..RuleMatch::default()
    };
    for version in VERSIONS {
        for (actions, wanted) in [
            (vec![RuleAction::Output(PortNo(3))], 0),
            (vec![RuleAction::SetDscp(46), RuleAction::Output(PortNo(3))], 0),
            (vec![RuleAction::Enqueue { port: PortNo(3), queue: 1 }], 0),
            (vec![RuleAction::Output(PortNo(3)), RuleAction::Output(PortNo(1))], 1),
            (vec![RuleAction::Hairpin], 1),
        ] {
            let mut pair = Pair::new(version, Vec::new());
            pair.apply(2, vec![rule(5, m, &actions)], Vec::new());
            let sent = pair.sent.iter().find(|m| m[1] == 14).expect("a FLOW_MOD");
            for name in [
                "of10-flow-mod-output-to-in-port",
                "of10-flow-mod-enqueue-to-in-port",
                "of13-flow-mod-output-to-in-port",
            ] {
                assert_ne!(sent[8..], case(name)[8..], "{name} is never sent");
            }
            let count = if version == header::V10 {
                let Ok((_, of10::Message::FlowMod(m))) = of10::Message::decode(sent) else { panic!() };
                m.actions.len()
            } else {
                let Ok((_, of13::Message::FlowMod(m))) = of13::Message::decode(sent) else { panic!() };
                m.instructions.len()
            };
            assert_eq!(count, wanted, "{actions:?}");
        }
    }
}

/// `of10-flow-removed-*-normalised` are about wanted rules that another controller has deleted; the
/// flows are read again at once.
#[test]
fn a_removed_flow_is_known_in_another_form() {
    let of = |eth_type| RuleMatch { eth_type: Some(eth_type), ..RuleMatch::default() };
    let to = Some(prefix(0x0a00_0001, 32));
    let cases = [
        ("of10-flow-removed-lldp-normalised", 0x1800, of(ETH_LLDP)),
        ("of10-flow-removed-arp-normalised", 0x1801, of(ETH_ARP)),
        (
            "of10-flow-removed-gre-normalised",
            0x1802,
            RuleMatch { ip_proto: Some(47), ip_dst: to, ..of(ETH_IPV4) },
        ),
        (
            "of10-flow-removed-any-type-normalised",
            0x1803,
            RuleMatch { in_port: Some(PortNo(3)), ..RuleMatch::default() },
        ),
    ];
    for (name, priority, matching) in cases {
        let mut pair = Pair::new(header::V10, vec![rule(priority, matching, &[RuleAction::Controller])]);
        let mut out = Output::default();
        pair.driver.on_message(&case(name), pair.now, &mut out).expect("understood");
        let asked = messages(&out.bytes);
        assert!(matches!(&asked[..], [q] if q[1] == 16 && q[8..10] == [0, 1]), "{name}: {asked:x?}");
    }
}

/// `oxm-*` in flow statistics: forms of a wanted rule's match, which cause no repair.
#[test]
fn a_mask_of_all_ones_is_no_mask() {
    let ip = RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    let to = |address, bits| RuleMatch { ip_dst: Some(prefix(address, bits)), ..ip };
    let any = RuleMatch::default();
    let cases = [
        ("oxm-eth-dst-mask-all-ones", RuleMatch { eth_dst: Some(Mac([2, 0, 0, 0, 0, 1])), ..any }),
        ("oxm-ipv4-dst-mask-all-ones", to(0x0a00_0001, 32)),
        ("oxm-vlan-vid-mask-all-ones", RuleMatch { vlan: Some(VlanTag::Priority), ..any }),
        ("oxm-in-port-mask-all-ones", RuleMatch { in_port: Some(PortNo(3)), ..any }),
        ("oxm-eth-dst-mask-zero", ip),
        ("oxm-ipv4-dst-bits-beside-mask", to(0x0a00_0000, 24)),
        ("oxm-order-reversed", to(0x0a00_0001, 32)),
        ("oxm-order-ports-first", RuleMatch { ip_proto: Some(6), l4_dst: Some(80), ..to(0x0a00_0001, 32) }),
        ("oxm-field-twice", ip),
    ];
    for (name, m) in cases {
        let mut pair = Pair::new(header::V13, vec![rule(5, m, &[RuleAction::Output(PortNo(1))])]);
        let reported = case(name);
        let distort = |message: Vec<u8>| {
            if message[1] != 19 || message[8..10] != [0, 1] || message.len() < 68 {
                return message;
            }
            // Two headers and 48 bytes are before the match. The match of the case replaces the
            // driver's.
            let ours = usize::from(u16::from_be_bytes([message[66], message[67]])).next_multiple_of(8);
            let mut other = [&message[..64], &reported[..], &message[64 + ours..]].concat();
            let (whole, flow) = (other.len() as u16, (other.len() - 16) as u16);
            other[2..4].copy_from_slice(&whole.to_be_bytes());
            other[16..18].copy_from_slice(&flow.to_be_bytes());
            other
        };
        for _ in 0..3 {
            pair.wait(&distort);
        }
        let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if flows.len() == 1);
        assert!(pair.events.iter().any(is_read), "{name}");
        assert_eq!(pair.mods(), 0, "{name}: {:?}", pair.events);
    }
}

/// OF 1.0 section 3.4: a flow without wildcards is above all others, whatever its priority, and may
/// be reported with the highest; Open vSwitch reports the priority of no VLAN as not wildcarded.
#[test]
fn a_flow_without_wildcards_is_known_whatever_its_priority() {
    let exact = RuleMatch {
        in_port: Some(PortNo(2)),
        eth_src: Some(Mac([2, 0, 0, 0, 0, 1])),
        eth_dst: Some(Mac([2, 0, 0, 0, 0, 2])),
        eth_type: Some(ETH_IPV4),
        vlan: Some(VlanTag::Untagged),
        ip_src: Some(prefix(0x0a00_0001, 32)),
        ip_dst: Some(prefix(0x0a00_0002, 32)),
        ip_dscp: Some(10),
        ip_proto: Some(6),
        l4_src: Some(1000),
        l4_dst: Some(80),
        ..RuleMatch::default()
    };
    for (is_pcp_clear, priority) in [(false, None), (true, None), (true, Some(0xffff))] {
        let mut pair = Pair::new(header::V10, vec![rule(5, exact, &[RuleAction::Output(PortNo(1))])]);
        let distort = |message: Vec<u8>| {
            let Ok((xid, of10::Message::StatsReply(mut reply))) = of10::Message::decode(&message) else {
                return message;
            };
            let of10::stats::ReplyBody::Flow(flows) = &mut reply.body else { return message };
            for flow in flows {
                if is_pcp_clear {
                    flow.matching.wildcards &= !of10::matching::wildcard::DL_VLAN_PCP;
                }
                flow.priority = priority.unwrap_or(flow.priority);
            }
            let mut out = Vec::new();
            of10::Message::StatsReply(reply).encode(xid, &mut out).expect("short");
            out
        };
        for _ in 0..3 {
            pair.wait(&distort);
        }
        let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if flows.len() == 1);
        assert!(pair.events.iter().any(is_read));
        assert_eq!(pair.mods(), 0, "{is_pcp_clear} {priority:?}: {:?}", pair.events);
    }
}

/// Two rules with different keys may mean the same to a switch: removing one leaves the other.
#[test]
fn a_removal_leaves_another_rule_of_the_same_meaning() {
    let plain = RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    let all = RuleMatch { ip_dst: Some(prefix(0, 0)), l4_dst: Some(80), ..plain };
    for version in VERSIONS {
        let output = [RuleAction::Output(PortNo(1))];
        let mut pair = Pair::new(version, vec![rule(9, plain, &output)]);
        pair.apply(2, vec![rule(9, all, &output)], vec![rule(9, plain, &output).key]);
        assert_eq!(pair.switch.priorities(), [9], "the new one is still there");
        pair.wait(&|m| m);
        assert!(!pair.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));
        pair.apply(3, Vec::new(), vec![rule(9, all, &output).key]);
        assert_eq!(pair.switch.flows(), [], "and goes when it is taken away");
    }
}

/// A switch that reports each rule with another priority, which changes the meaning. Repairs have
/// no effect, so they are paused and reported once; when the switch reports correctly again, the
/// fault is over.
#[test]
fn a_repair_in_vain_is_put_off_and_said_once() {
    let m = RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    for version in VERSIONS {
        let output = [RuleAction::Output(PortNo(1))];
        let mut pair = Pair::new(version, (1..=5).map(|n| rule(n * 10, m, &output)).collect());
        let odd = |message: Vec<u8>| {
            let mut out = Vec::new();
            if let Ok((xid, of10::Message::StatsReply(mut reply))) = of10::Message::decode(&message) {
                if let of10::stats::ReplyBody::Flow(flows) = &mut reply.body {
                    flows.iter_mut().for_each(|f| f.priority += 1);
                }
                of10::Message::StatsReply(reply).encode(xid, &mut out).expect("short");
            } else if let Ok((xid, of13::Message::MultipartReply(mut reply))) =
                of13::Message::decode(&message)
            {
                if let Reply13::Flow(flows) = &mut reply.body {
                    flows.iter_mut().for_each(|f| f.priority += 1);
                }
                of13::Message::MultipartReply(reply).encode(xid, &mut out).expect("short");
            }
            if out.is_empty() { message } else { out }
        };
        while pair.now < Time::from_secs(300) {
            pair.wait(&odd);
            assert_eq!(
                pair.switch.priorities(),
                [10, 20, 30, 40, 50],
                "nothing is deleted that was just added"
            );
        }
        let count = |pair: &Pair, f: fn(&Event) -> bool| pair.events.iter().filter(|e| f(e)).count();
        let repaired = count(&pair, |e| matches!(e, Event::RulesRepaired { .. }));
        assert!((2..=10).contains(&repaired), "{repaired} repairs in five minutes of polls every second");
        assert_eq!(count(&pair, |e| matches!(e, Event::RulesUnlike { rules: 10, .. })), 1);
        pair.events.clear();
        // Meanwhile a real fault is repaired at once.
        pair.switch.wipe(30);
        for _ in 0..200 {
            pair.wait(&|m| m);
        }
        assert_eq!(pair.switch.priorities(), [10, 20, 30, 40, 50]);
    }
}

/// Labels as groups have them: written under one mask and matched under another. Labels that differ
/// are told apart.
#[test]
fn labels_go_out_as_they_are_and_others_are_repaired() {
    let label = Metadata::new(7 << 24 | 1 << 48, (1 << 49) - 1);
    let matched = Metadata::new(7 << 24, 0xff_ffff << 24);
    let enters = RuleMatch { in_port: Some(PortNo(1)), eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    let leaves = RuleMatch { metadata: Some(matched), ..RuleMatch::default() };
    // A rule of the same priority with the label of another group.
    let like = Metadata::new(8 << 24, 0xff_ffff << 24);
    let leaves_too = RuleMatch { metadata: Some(like), ..RuleMatch::default() };
    let rules = vec![
        rule(5, enters, &[RuleAction::SetDscp(46), RuleAction::WriteMetadata(label), RuleAction::Goto(1)]),
        rule(6, leaves, &[RuleAction::Output(PortNo(2))]),
        rule(6, leaves_too, &[RuleAction::Output(PortNo(3))]),
    ];
    let mut pair = Pair::new(header::V13, Vec::new());
    pair.apply(2, rules, Vec::new());
    let sent: Vec<of13::FlowMod> = pair
        .sent
        .iter()
        .filter(|m| m[1] == 14)
        .map(|m| match of13::Message::decode(m) {
            Ok((_, of13::Message::FlowMod(m))) => m,
            other => panic!("{other:?}"),
        })
        .collect();
    // OF 1.3.5 section 5.9: metadata is written before the next table; section 7.2.4 defines both
    // as instructions.
    let (pad, metadata, mask) = (Pad::default(), 0x1_0000_0700_0000, 0x1_ffff_ffff_ffff);
    let wanted =
        [Instruction::WriteMetadata { pad, metadata, mask }, Instruction::GotoTable(1, Pad::default())];
    assert_eq!(sent[0].instructions[1..], wanted);
    let field = Field::Metadata(Masked { value: 0x700_0000, mask: Some(0xffff_ff00_0000) });
    assert_eq!(sent[1].matching.fields, [field]);
    for _ in 0..3 {
        pair.wait(&|m| m);
    }
    let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if !flows.is_empty());
    assert!(pair.events.iter().any(is_read));
    assert!(!pair.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));
    // One of two similar rules is removed, and the right one.
    pair.apply(3, Vec::new(), vec![rule(6, leaves, &[]).key]);
    assert_eq!(pair.switch.priorities(), [5, 6]);
    // A label with one other bit is another label.
    let other = |message: Vec<u8>| {
        let Ok((xid, of13::Message::MultipartReply(mut reply))) = of13::Message::decode(&message) else {
            return message;
        };
        let Reply13::Flow(flows) = &mut reply.body else { return message };
        for flow in flows.iter_mut() {
            for instruction in &mut flow.instructions {
                if let Instruction::WriteMetadata { metadata, .. } = instruction {
                    *metadata ^= 1;
                }
            }
        }
        let mut out = Vec::new();
        of13::Message::MultipartReply(reply).encode(xid, &mut out).expect("short");
        out
    };
    pair.wait(&other);
    pair.wait(&|m| m);
    assert!(pair.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })), "{:?}", pair.events);
}

/// A switch that refuses metadata is reported as one without it, but only if the refused rules used
/// metadata.
#[test]
fn a_switch_that_refuses_metadata_is_told_of() {
    let error = |kind, code, about: &[u8]| {
        let data = Bytes(about[..about.len().min(64)].to_vec());
        let xid = u32::from_be_bytes([about[4], about[5], about[6], about[7]]);
        let mut bytes = Vec::new();
        let message = of13::Message::Error(of13::switch::ErrorMsg { kind, code, data });
        message.encode(xid, &mut bytes).expect("short");
        bytes
    };
    let port = RuleMatch { in_port: Some(PortNo(1)), ..RuleMatch::default() };
    let writes = [RuleAction::WriteMetadata(Metadata::new(1, 1)), RuleAction::Goto(1)];
    let matched = RuleMatch { metadata: Some(Metadata::new(1, 1)), ..RuleMatch::default() };
    // OF 1.3.5 sections 7.4.3 (BAD_INSTRUCTION), 7.4.4 (BAD_MATCH), 7.4.5
    // (FLOW_MOD_FAILED/TABLE_FULL).
    for (asked, kind, code, is_told) in [
        (rule(5, port, &writes), 3, 3, true),
        (rule(5, port, &writes), 3, 1, true),
        (rule(5, matched, &[RuleAction::Hairpin]), 4, 6, true),
        (rule(5, port, &[RuleAction::Hairpin]), 4, 6, false),
        (rule(5, port, &writes), 5, 1, false),
    ] {
        let mut pair = Pair::new(header::V13, Vec::new());
        let mut out = Output::default();
        let apply =
            Effect::ApplyRules { switch: Dpid(7), txn: TxnId(2), add: vec![asked], remove: Vec::new() };
        pair.driver.execute(apply, pair.now, &mut out);
        let sent = messages(&out.bytes);
        let about = sent.iter().find(|m| m[1] == 14).expect("a FLOW_MOD");
        pair.driver.on_message(&error(kind, code, about), pair.now, &mut out).expect("understood");
        pair.talk(out, &|m| m);
        let told: Vec<&Event> = pair
            .events
            .iter()
            .filter(|e| matches!(e, Event::MetadataRefused { .. } | Event::RulesRefused { .. }))
            .collect();
        match (&told[..], is_told) {
            ([Event::MetadataRefused { txn: TxnId(2), .. }], true)
            | ([Event::RulesRefused { txn: TxnId(2), .. }], false) => {}
            other => panic!("{kind} {code}: {other:?}"),
        }
    }
}
