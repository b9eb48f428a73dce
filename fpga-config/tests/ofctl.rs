//! Parsing and printing of flows in the syntax of ovs-ofctl, and of their register writes.

mod world;

#[path = "world/chance.rs"]
mod chance;

use proptest::prelude::*;
use std::collections::BTreeMap;
use tandem_fpga_config::codec::listing::{CompileError, Shown, compile, compile_exact, decode};
use tandem_fpga_config::codec::ofctl::{Line, LineError};
use tandem_fpga_config::codec::ports::queue;
use tandem_fpga_config::codec::{Exact, Key, PortMap, RejectReason, Rule, Transport};
use tandem_fpga_config::profile::{FlowMap, builtin};
use tandem_openflow::of10::{Action, port};
use tandem_openflow::table::{Criteria, FieldId, FlowKey};
use world::{Dice, ports};

fn map() -> FlowMap {
    builtin::named("openflow-switch").expect("built in").flow_table.expect("it has one")
}

fn one_card() -> PortMap {
    PortMap::one_card(true)
}

#[test]
fn a_flow_is_read_as_ovs_ofctl_means_it() {
    let line = Line::parse(
        "priority=7, in_port=2,tcp,dl_vlan=5,dl_vlan_pcp=3,nw_src=10.0.0.9/255.255.255.0,nw_dst=10.1.0.0/16,tp_dst=80 actions=mod_nw_tos:32,enqueue:3:1,CONTROLLER:64",
        None,
    )
    .expect("good");
    assert_eq!(line.priority, 7);
    let all = u128::MAX;
    let wanted = Criteria::any()
        .with(FieldId::InPort, 2, all)
        .with(FieldId::EthType, 0x0800, all)
        .with(FieldId::VlanVid, 0x1005, all)
        .with(FieldId::VlanPcp, 3, all)
        .with(FieldId::IpProto, 6, all)
        .with(FieldId::Ipv4Src, 0x0a00_0000, 0xffff_ff00)
        .with(FieldId::Ipv4Dst, 0x0a01_0000, 0xffff_0000)
        .with(FieldId::L4Dst, 80, all);
    assert_eq!(line.criteria(), wanted);
    assert_eq!(line.actions[2], Action::Output { port: port::CONTROLLER, max_len: 64 });
    let shown = "priority=7,in_port=2,dl_vlan=5,dl_vlan_pcp=3,tcp,nw_src=10.0.0.0/24,nw_dst=10.1.0.0/16,tp_dst=80,actions=mod_nw_tos:32,enqueue:3:1,controller:64";
    assert_eq!(line.to_string(), shown);
    let line = Line::parse("actions=drop", None).expect("good");
    assert_eq!((line.priority, line.criteria(), line.actions.len()), (0x8000, Criteria::any(), 0));
    let named = Line::parse("in_port=nf2c1,actions=output:nf2c3", Some(&one_card())).expect("good");
    assert_eq!(named.to_string(), "priority=32768,in_port=2,actions=output:4");
}

#[test]
fn what_is_wrong_is_said_by_its_word() {
    let wrong = |text: &str| Line::parse(text, None).expect_err(text).to_string();
    for (text, word) in [
        ("ip", "no `actions=`"),
        ("ip,nw_dst=10.0.0.256,actions=drop", "10.0.0.256"),
        ("ip,nw_dst=10.0.0.1/255.0.255.0,actions=drop", "10.0.0.1/255.0.255.0"),
        ("nw_dst=10.0.0.1,actions=drop", "nw_dst is ignored without ip or arp"),
        ("tp_dst=80,ip,actions=drop", "tp_dst is ignored without tcp, udp or icmp"),
        ("arp,nw_tos=4,actions=drop", "nw_tos is ignored without ip"),
        ("dl_vlan=0xffff,dl_vlan_pcp=1,actions=drop", "dl_vlan_pcp is ignored"),
        ("ip,tcp,actions=drop", "twice"),
        ("in_port=1,in_port=2,actions=drop", "in_port is there twice"),
        ("dl_vlan=5000,actions=drop", "5000"),
        ("ip,nw_tos=3,actions=drop", "multiple of 4"),
        ("idle_timeout=5,actions=drop", "idle_timeout=5"),
        ("priority=65536,actions=drop", "65536"),
        ("ipv6,actions=drop", "\"ipv6\""),
        ("actions=jump:5", "jump:5"),
        ("actions=output:eth9", "eth9"),
        ("actions=enqueue:1", "enqueue"),
    ] {
        assert!(wrong(text).contains(word), "{text}: {}", wrong(text));
    }
    assert_eq!(Line::parse("", None), Err(LineError::NoActions));
}

#[test]
fn compiled_rows_decode_to_what_was_written() {
    let text = "priority=9,in_port=1,ip,nw_dst=10.0.0.0/8,actions=mod_vlan_pcp:5,output:2,output:3";
    let writes = compile(text, &one_card(), Transport::Software, &map(), 4).expect("the card can");
    assert!(writes.lines().all(|l| l.starts_with('#') || l.split_whitespace().count() == 3), "{writes}");
    assert_eq!(
        writes.lines().rfind(|l| l.starts_with('w')),
        Some("w 200106c 00000004"),
        "the commit of row 4"
    );
    let meaning = decode(&writes, &map(), &one_card()).expect("writes");
    assert_eq!(
        meaning,
        "row 4: in_port=1,dl_type=0x0800,nw_dst=10.0.0.0/8 actions=mod_vlan_pcp:5,output:2,output:3\n"
    );
    // Without an in_port: packets from the output's port are dropped first.
    let writes =
        compile("ip,actions=output:2", &one_card(), Transport::Software, &map(), 0).expect("the card can");
    let meaning = decode(&writes, &map(), &one_card()).expect("writes");
    assert_eq!(
        meaning,
        "row 0: in_port=2,dl_type=0x0800 actions=drop\nrow 1: in_port=1|2|3|4,dl_type=0x0800 actions=output:2\n"
    );
    let deleted = decode("w 2001060 000000ff\n", &map(), &one_card());
    assert_eq!(deleted.as_deref(), Ok(""), "not committed yet");
    assert!(decode("w 2001060", &map(), &one_card()).is_err());
    assert!(decode("r 2001060 1", &map(), &one_card()).is_err());
    let full = compile("ip,actions=output:2", &one_card(), Transport::Software, &map(), 31);
    assert_eq!(full, Err(CompileError::Rows { needs: 2, first: 31, rows: 32 }));
    let never = compile("ip,actions=controller", &one_card(), Transport::Software, &map(), 0);
    assert_eq!(never, Err(CompileError::Card(RejectReason::Reserved("the controller"))));
}

/// The vector observed on the Verilog: its rows are 0x5dc9 and 0x78fd.
#[test]
fn an_exact_entry_is_compiled_for_both_of_its_rows() {
    let text = "in_port=1,dl_src=00:0a:00:00:00:01,dl_dst=00:0a:00:00:00:02,dl_vlan=0xffff,udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,tp_src=1000,tp_dst=2000,actions=output:2";
    let writes = compile_exact(text, &one_card(), Transport::Card, &map()).expect("the card can");
    let first = 0x100_0000 + 0x5dc9 * 128;
    assert!(writes.contains("# exact row 0x5dc9 (taken"), "{writes}");
    assert!(writes.contains("# exact row 0x78fd"), "{writes}");
    assert!(writes.contains(&format!("w {first:07x} 03e807d0")), "{writes}");
    let last = writes.lines().rfind(|l| l.starts_with('w'));
    assert_eq!(last, Some(format!("w {:07x} 80ffff00", first + 28).as_str()), "valid comes last");
    let meaning = decode(&writes, &map(), &one_card()).expect("writes");
    assert!(meaning.starts_with("exact row 0x5dc9: in_port=1,dl_src=00:0a:00:00:00:01"), "{meaning}");
    assert_eq!(meaning.lines().count(), 1);
    let open = compile_exact("in_port=1,ip,actions=output:2", &one_card(), Transport::Card, &map());
    assert_eq!(open, Err(CompileError::NotExact));
}

/// Register writes executed in a map.
fn written(text: &str) -> BTreeMap<u32, u32> {
    let hex = |w: &str| u32::from_str_radix(w, 16).expect("hex");
    let words = |l: &str| l.split_whitespace().skip(1).map(hex).collect::<Vec<_>>();
    text.lines().filter(|l| l.starts_with('w')).map(words).map(|w| (w[0], w[1])).collect()
}

/// A complete flow of every kind of frame, with and without a tag, has one key; with a field left
/// open it has not.
#[test]
fn every_kind_of_complete_flow_is_an_exact_entry_of_its_frame() {
    let ip = |more: &str| format!("dl_type=0x0800,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,{more}");
    let packet = |protocol: u8| {
        let mut body = vec![0x45, 0, 0, 46, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        body.extend([8, 0, 7, 0xd0, 0, 26, 0, 0]);
        (0x0800u16, body)
    };
    let arp = |op: u8| {
        let mut body = vec![0, 1, 8, 0, 6, 4, 0, op, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1];
        body.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        (0x0806u16, body)
    };
    let kinds = [
        (ip("nw_proto=6,tp_src=2048,tp_dst=2000"), packet(6)),
        (ip("nw_proto=17,tp_src=2048,tp_dst=2000"), packet(17)),
        (ip("nw_proto=1,tp_src=8,tp_dst=0"), packet(1)),
        (ip("nw_proto=47"), packet(47)),
        (ip("nw_proto=0"), packet(0)),
        ("dl_type=0x0806,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_proto=1".into(), arp(1)),
        ("dl_type=0x0806,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_proto=2".into(), arp(2)),
        ("dl_type=0x86dd".into(), (0x86dd, vec![0x60; 40])),
        ("dl_type=0x88cc".into(), (0x88cc, vec![2, 7, 4])),
    ];
    for (text, (kind, body)) in kinds {
        for (vlan, tag) in [("dl_vlan=0xffff", &[][..]), ("dl_vlan=5,dl_vlan_pcp=3", &[0x81, 0, 0x60, 5])] {
            let fields = format!("in_port=2,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,{vlan},{text}");
            let flow = format!("{fields},actions=output:3");
            let writes = compile_exact(&flow, &one_card(), Transport::Card, &map()).expect(&flow);
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
            frame.extend(tag);
            frame.extend(kind.to_be_bytes());
            frame.extend(&body);
            frame.resize(64, 0);
            let entry = Exact {
                key: Key::of_frame(&frame, 2),
                action: tandem_fpga_config::codec::Action::to(1 << 4),
            };
            let wanted: BTreeMap<u32, u32> = entry.writes(&map(), entry.rows()[0]).collect();
            assert_eq!(written(&writes), wanted, "{flow}");
            for left_out in fields.split(',') {
                let rest: Vec<&str> = fields.split(',').filter(|f| *f != left_out).collect();
                let open = format!("{},actions=output:3", rest.join(","));
                let error = compile_exact(&open, &one_card(), Transport::Card, &map()).expect_err(&open);
                // Without a type or protocol other fields have no meaning, which is reported
                // instead.
                let right = matches!(
                    error,
                    CompileError::NotExact
                        | CompileError::Card(RejectReason::Needs { .. })
                        | CompileError::Line(_)
                );
                assert!(right, "{open}: {error}");
            }
        }
    }
    // No entry may have the key of the bitfile's fault.
    let zero = "in_port=1,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_vlan=0xffff,dl_type=0,actions=output:2";
    assert_eq!(compile_exact(zero, &one_card(), Transport::Literal, &map()), Err(CompileError::Guarded));
}

/// A flow for which the card differs from a flow table is refused by default, and compiled by hand
/// with a comment.
#[test]
fn compiled_by_hand_a_flow_is_what_the_registers_can_say() {
    for (text, why) in [
        ("dl_type=0x0031,actions=output:2", RejectReason::Length),
        ("udp,actions=mod_nw_dst:10.0.0.1,output:2", RejectReason::UdpChecksum),
        ("in_port=1,actions=mod_tp_dst:53,output:2", RejectReason::Ipv6PortsChanged),
    ] {
        let refused = compile(text, &one_card(), Transport::Card, &map(), 0).expect_err(text);
        assert_eq!(refused, CompileError::Card(why.clone()));
        // The reason is in the message once, and not in the error's source too.
        assert!(std::error::Error::source(&refused).is_none());
        assert_eq!(refused.to_string().matches(&why.to_string()).count(), 1);
        match compile(text, &one_card(), Transport::Literal, &map(), 0) {
            Ok(writes) => {
                assert!(writes.starts_with(&format!("# not as a flow table does it: {why}\n")), "{writes}")
            }
            Err(error) => assert_eq!((error, why), (refused, RejectReason::Ipv6PortsChanged)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// A printed flow parses to the same flow.
    #[test]
    fn printed_flows_are_read_again(seed in any::<u64>()) {
        let mut d = Dice(seed);
        let text = chance::flow(&mut d, true);
        let line = Line::parse(&text, None).expect("good");
        prop_assert_eq!(Line::parse(&line.to_string(), None), Ok(line));
    }

    /// No text makes the parser panic.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z_0-9=:/.,x ]{0,80}", tail in "(,actions=[a-z_0-9:.,]{0,40})?") {
        let _ = Line::parse(&format!("{text}{tail}"), Some(&one_card()));
        let _ = decode(&text, &map(), &one_card());
    }

    /// A row matches a frame exactly if its flow does.
    #[test]
    fn a_row_matches_what_its_flow_matches(seed in any::<u64>()) {
        let mut d = Dice(seed);
        let ports = ports(4, true, true);
        let text = format!("{}actions=drop", chance::matched(&mut d, true));
        let line = Line::parse(&text, Some(&ports)).expect("good");
        let instructions = line.instructions().expect("good");
        let rule = Rule::new(&line.criteria(), &instructions, &ports, Transport::Card);
        for _ in 0..50 {
            let (n, frame) = (d.pick(&[0u8, 1, 2, 3]), chance::frame(&mut d, false));
            let wanted = line.criteria().matches(&FlowKey::new(&frame, ports.number(n).expect("a port")));
            let key = Key::of_frame(&frame, queue(n));
            let covered = rule.ingress.has(n) && rule.pattern.matches(&key);
            prop_assert_eq!(covered, wanted, "{} {:02x?}", text, frame);
            if let Ok(rows) = rule.rows() {
                prop_assert_eq!(rows.iter().any(|r| r.pattern.matches(&key)), wanted, "{} {:02x?}", text, frame);
                let cpu = Key::of_frame(&frame, queue(n) + 1);
                prop_assert!(!rows.iter().any(|r| r.pattern.matches(&cpu)), "never what comes from the host");
            }
        }
    }

    /// Patterns overlap and cover by the packets that they match.
    #[test]
    fn patterns_overlap_and_cover_by_what_they_match(seed in any::<u64>()) {
        let mut d = Dice(seed);
        let ports = ports(4, false, true);
        let rule = |d: &mut Dice| {
            let line = Line::parse(&format!("{}actions=drop", chance::matched(d, true)), Some(&ports)).expect("good");
            Rule::new(&line.criteria(), &line.instructions().expect("good"), &ports, Transport::Card)
        };
        let (a, b) = (rule(&mut d), rule(&mut d));
        prop_assert_eq!(a.pattern.overlaps(&b.pattern), b.pattern.overlaps(&a.pattern));
        for _ in 0..40 {
            let key = Key::of_frame(&chance::frame(&mut d, true), 0);
            let (in_a, in_b) = (a.pattern.matches(&key), b.pattern.matches(&key));
            prop_assert!(!(in_a && in_b) || a.pattern.overlaps(&b.pattern));
            prop_assert!(!a.pattern.covers(&b.pattern) || !in_b || in_a);
        }
        prop_assert!(a.pattern.covers(&a.pattern));
    }

    /// Rows written as text decode to the same rows.
    #[test]
    fn writes_hold_the_row(seed in any::<u64>()) {
        let mut d = Dice(seed);
        let text = chance::flow(&mut d, true);
        let ports = ports(4, false, true);
        let line = Line::parse(&text, Some(&ports)).expect("good");
        let Ok(instructions) = line.instructions() else { return Ok(()) };
        let rule = Rule::new(&line.criteria(), &instructions, &ports, Transport::Card);
        let compiled = compile(&text, &ports, Transport::Card, &map(), 0);
        prop_assert_eq!(compiled.is_ok(), rule.rows().is_ok());
        if let (Ok(compiled), Ok(rows)) = (compiled, rule.rows()) {
            let meaning = decode(&compiled, &map(), &ports).expect("writes");
            let wanted: Vec<String> = (0..)
                .zip(&rows)
                .map(|(n, r)| format!("row {n}: {}", Shown(&r.pattern, &r.action, &ports)))
                .collect();
            prop_assert_eq!(meaning.lines().collect::<Vec<_>>(), wanted);
        }
        if let (Some((key, n)), Ok(plan)) = (rule.key(), &rule.plan) {
            let entry = Exact { key, action: plan.action(n) };
            let text = compile_exact(&text, &ports, Transport::Card, &map()).expect("exact");
            let wanted: BTreeMap<u32, u32> = entry.writes(&map(), entry.rows()[0]).collect();
            prop_assert_eq!(written(&text), wanted);
        }
    }
}
