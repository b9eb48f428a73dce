//! Flow tables by the specification: what is added, changed, deleted, found, timed out, and done to a packet.

use proptest::prelude::*;
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::of10::{self, matching::wildcard};
use tandem_openflow::of13::{self, Field, Masked};
use tandem_openflow::table::flows::Filter;
use tandem_openflow::table::{
    Criteria, FieldId, Flow, FlowKey, FlowTable, Gone, Instructions, Op, Pipeline, TableError,
};

const ALL: u128 = u128::MAX;

/// An Ethernet, IPv4 and UDP frame with right checksums.
fn udp_frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 12, 0, 0, 1, 2, 3, 4]);
    let sum = checksum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    let sum = udp_checksum(&frame).to_be_bytes();
    frame[40..42].copy_from_slice(&sum);
    frame
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// RFC 768: over a pseudo header, the header with a zero checksum, and the data.
fn udp_checksum(frame: &[u8]) -> u16 {
    let mut bytes = frame[26..34].to_vec();
    bytes.extend([0, 17]);
    bytes.extend_from_slice(&frame[38..40]);
    let mut udp = frame[34..].to_vec();
    udp[6..8].fill(0);
    bytes.extend(udp);
    checksum(&bytes)
}

fn assert_checksums(frame: &[u8]) {
    assert_eq!(checksum(&frame[14..34]), 0, "IPv4 header checksum");
    assert_eq!(frame[40..42], udp_checksum(frame).to_be_bytes(), "UDP checksum");
}

fn flow(priority: u16, criteria: Criteria) -> Flow {
    Flow::new(priority, criteria, Instructions::default(), Time::ZERO)
}

fn port(n: u128) -> Criteria {
    Criteria::any().with(FieldId::InPort, n, ALL)
}

#[test]
fn the_highest_priority_wins_and_an_exact_flow_of_1_0_wins_over_all() {
    let mut table = FlowTable::new(10);
    let key = FlowKey::new(&udp_frame(), 1);
    table.add(flow(10, Criteria::any()), false).expect("room");
    table.add(flow(20, port(1)), false).expect("room");
    assert_eq!(table.lookup(&key, 46, Time::ZERO).map(|f| f.priority), Some(20));
    let exact = of10::Match {
        wildcards: 0,
        in_port: 1,
        dl_src: tandem_model::Mac([2, 0, 0, 0, 0, 1]),
        dl_dst: tandem_model::Mac([2, 0, 0, 0, 0, 2]),
        dl_vlan: of10::matching::VLAN_NONE,
        dl_type: 0x0800,
        nw_proto: 17,
        nw_src: [10, 0, 0, 1].into(),
        nw_dst: [10, 0, 0, 2].into(),
        tp_src: 1000,
        tp_dst: 2000,
        ..of10::Match::any()
    };
    table.add(flow(0, Criteria::from_of10(&exact)), false).expect("room");
    assert_eq!(table.lookup(&key, 46, Time::ZERO).map(|f| f.priority), Some(0), "OF 1.0 section 3.4");
    assert_eq!(table.lookup(&FlowKey::new(&udp_frame(), 2), 46, Time::ZERO).map(|f| f.priority), Some(10));
}

#[test]
fn wildcards_of_1_0_and_fields_of_1_3_say_the_same() {
    let ten = of10::Match {
        wildcards: wildcard::ALL & !wildcard::DL_TYPE & !(0x3f << wildcard::NW_DST_SHIFT)
            | 8 << wildcard::NW_DST_SHIFT,
        dl_type: 0x0800,
        nw_dst: [10, 0, 0, 0].into(),
        ..of10::Match::any()
    };
    let mask = Some([255, 255, 255, 0].into());
    let thirteen = of13::Match {
        fields: vec![Field::EthType(0x0800), Field::Ipv4Dst(Masked { value: [10, 0, 0, 0].into(), mask })],
    };
    assert_eq!(Criteria::from_of10(&ten), Criteria::from_of13(&thirteen).expect("good fields"));
    let without = of13::Match { fields: vec![Field::TcpSrc(80)] };
    assert!(Criteria::from_of13(&without).is_err(), "a TCP port needs IP and its protocol");
    // A port of a packet that is no TCP or UDP is ignored in 1.0.
    let ports =
        of10::Match { wildcards: wildcard::ALL & !wildcard::TP_DST, tp_dst: 80, ..of10::Match::any() };
    assert!(Criteria::from_of10(&ports).matches(&FlowKey::new(&udp_frame(), 1)));
}

#[test]
fn adding_replaces_checks_overlap_and_ends_when_the_table_is_full() {
    let mut table = FlowTable::new(2);
    table.add(Flow { cookie: 1, packets: 9, ..flow(5, port(1)) }, false).expect("room");
    table.add(Flow { cookie: 2, ..flow(5, port(1)) }, false).expect("the same match and priority");
    assert_eq!(
        table.iter().map(|f| (f.cookie, f.packets)).collect::<Vec<_>>(),
        [(2, 0)],
        "replaced, counters anew"
    );
    let overlapping = flow(5, Criteria::any().with(FieldId::EthType, 0x800, ALL));
    assert_eq!(table.add(overlapping.clone(), true), Err(TableError::Overlap));
    assert_eq!(table.add(flow(5, port(2)), true), Ok(()), "another port cannot overlap");
    assert_eq!(table.add(overlapping, false), Err(TableError::Full(2)));
}

#[test]
fn deleting_strictly_takes_one_and_loosely_takes_all_that_is_covered() {
    let fill = || {
        let mut table = FlowTable::new(10);
        let ip = port(1).with(FieldId::EthType, 0x800, ALL);
        let send = Instructions::applying(vec![Op::Output(7)]);
        table.add(Flow { cookie: 0x10, ..flow(5, port(1)) }, false).expect("room");
        table.add(Flow { cookie: 0x21, instructions: send, ..flow(6, ip) }, false).expect("room");
        table.add(Flow { cookie: 0x22, ..flow(7, port(2)) }, false).expect("room");
        table
    };
    let left = |filter: Filter| {
        let mut table = fill();
        table.delete(&filter);
        table.iter().map(|f| f.priority).collect::<Vec<_>>()
    };
    assert_eq!(left(Filter::strictly(port(1), 5)), [7, 6]);
    assert_eq!(left(Filter::strictly(port(1), 6)), [7, 6, 5], "another priority is another flow");
    assert_eq!(left(Filter::covered_by(port(1))), [7]);
    assert_eq!(left(Filter::covered_by(Criteria::any())), [0u16; 0]);
    assert_eq!(left(Filter { out_port: Some(7), ..Filter::covered_by(Criteria::any()) }), [7, 5]);
    assert_eq!(left(Filter { cookie: (0x20, 0xf0), ..Filter::covered_by(Criteria::any()) }), [5]);
}

#[test]
fn modifying_keeps_counters_and_adds_nothing() {
    let mut table = FlowTable::new(10);
    table.add(flow(5, port(1)), false).expect("room");
    table.lookup(&FlowKey::new(&udp_frame(), 1), 46, Time::ZERO);
    let to = Instructions::applying(vec![Op::Output(3)]);
    assert_eq!(table.modify(&Filter::covered_by(Criteria::any()), &to), 1);
    assert_eq!(table.modify(&Filter::strictly(port(9), 5), &to), 0);
    let only = table.iter().next().expect("the flow");
    assert_eq!((only.packets, only.bytes, &only.instructions), (1, 46, &to));
}

#[test]
fn time_outs_by_the_time_that_is_passed_in() {
    let mut table = FlowTable::new(10);
    let s = Duration::from_secs;
    table.add(Flow { idle: s(5), ..flow(1, port(1)) }, false).expect("room");
    table.add(Flow { hard: s(8), idle: s(5), ..flow(2, port(2)) }, false).expect("room");
    table.add(flow(3, port(3)), false).expect("room");
    assert_eq!(table.next_expiry(), Some(Time::from_secs(5)));
    table.lookup(&FlowKey::new(&udp_frame(), 2), 46, Time::from_secs(4));
    let gone = |table: &mut FlowTable, at| {
        table.expire(Time::from_secs(at)).into_iter().map(|(f, why)| (f.priority, why)).collect::<Vec<_>>()
    };
    assert_eq!(gone(&mut table, 4), []);
    assert_eq!(gone(&mut table, 5), [(1, Gone::Idle)]);
    assert_eq!(gone(&mut table, 8), [(2, Gone::Hard)], "used 4 s ago, but its time is up");
    assert_eq!(gone(&mut table, 1_000_000), []);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_packet_goes_through_tables_is_rewritten_and_its_checksums_stay_right() {
    let mut p = Pipeline::new(3, 10, vec![1, 2, 3]);
    let first = Instructions {
        apply: vec![Op::SetIpv4Dst(0x0a00_0063), Op::SetL4Dst(53), Op::DecTtl, Op::SetDscp(46)],
        write: vec![Op::Output(2)],
        metadata: Some((7, 0xff)),
        goto: Some(1),
        ..Instructions::default()
    };
    p.tables[0].add(Flow { instructions: first, ..flow(1, port(1)) }, false).expect("room");
    let second =
        Instructions { write: vec![Op::Output(3), Op::SetEthDst([9; 6])], ..Instructions::default() };
    let by_metadata =
        Criteria::any().with(FieldId::Metadata, 7, 0xff).with(FieldId::Ipv4Dst, 0x0a00_0063, ALL);
    p.tables[1].add(Flow { instructions: second, ..flow(1, by_metadata) }, false).expect("room");
    let sent = p.process(&udp_frame(), 1, Time::ZERO).expect("a match");
    assert_eq!(
        sent.iter().map(|s| s.port).collect::<Vec<_>>(),
        [3],
        "the later output replaces the earlier one in the set"
    );
    let frame = &sent[0].frame;
    assert_checksums(frame);
    assert_eq!((frame[..6].to_vec(), frame[22], frame[15] >> 2), (vec![9; 6], 63, 46));
    assert_eq!((&frame[30..34], &frame[36..38]), (&[10, 0, 0, 99][..], &[0, 53][..]));
    assert_eq!(p.process(&udp_frame(), 2, Time::ZERO), None, "no flow in the first table");
}

#[test]
fn reserved_ports_and_a_ttl_that_is_used_up() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    let ops = vec![
        Op::Output(of13::port::FLOOD),
        Op::Output(1),
        Op::Output(of13::port::IN_PORT),
        Op::SetQueue(4),
        Op::Output(2),
    ];
    p.tables[0]
        .add(Flow { instructions: Instructions::applying(ops), ..flow(1, Criteria::any()) }, false)
        .expect("room");
    let sent = p.process(&udp_frame(), 1, Time::ZERO).expect("a match");
    let ports: Vec<(u32, u32)> = sent.iter().map(|s| (s.port, s.queue)).collect();
    assert_eq!(
        ports,
        [(2, 0), (3, 0), (1, 0), (2, 4)],
        "flooding and port 1 leave out where it came from, IN_PORT does not"
    );

    let mut old = udp_frame();
    old[22] = 1;
    p.tables[0].modify(
        &Filter::covered_by(Criteria::any()),
        &Instructions::applying(vec![Op::DecTtl, Op::Output(2)]),
    );
    assert_eq!(p.process(&old, 1, Time::ZERO), Some(vec![]));
}

#[test]
fn vlan_tags_are_pushed_set_and_popped() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    let ops = vec![
        Op::PushVlan(0x8100),
        Op::SetVlanVid(100),
        Op::SetVlanPcp(5),
        Op::Output(2),
        Op::PopVlan,
        Op::Output(2),
    ];
    p.tables[0]
        .add(Flow { instructions: Instructions::applying(ops), ..flow(1, Criteria::any()) }, false)
        .expect("room");
    let sent = p.process(&udp_frame(), 1, Time::ZERO).expect("a match");
    let key = FlowKey::new(&sent[0].frame, 1);
    assert_eq!((key.get(FieldId::VlanVid), key.get(FieldId::VlanPcp)), (Some(0x1064), Some(5)));
    assert_eq!(key.get(FieldId::L4Dst), Some(2000), "what is behind the tag is still seen");
    assert_eq!(sent[1].frame, udp_frame());
}

/// The reference: a list, scanned.
#[derive(Default)]
struct Naive(Vec<(u16, u8, u64)>);

proptest! {
    /// Whatever is added, deleted and looked up, the table answers what a plain list answers.
    #[test]
    fn a_table_does_what_a_list_does(ops in prop::collection::vec((0u8..4, 0u16..4, 0u8..4, 0u64..1000), 1..80)) {
        let mut table = FlowTable::new(1000);
        let mut naive = Naive::default();
        for (op, priority, p, cookie) in ops {
            match op {
                0 | 1 => {
                    table.add(Flow { cookie, ..flow(priority, port(p.into())) }, false).expect("room");
                    naive.0.retain(|(a, b, _)| (*a, *b) != (priority, p));
                    naive.0.push((priority, p, cookie));
                }
                2 => {
                    table.delete(&Filter::strictly(port(p.into()), priority));
                    naive.0.retain(|(a, b, _)| (*a, *b) != (priority, p));
                }
                _ => {
                    table.delete(&Filter::covered_by(port(p.into())));
                    naive.0.retain(|(_, b, _)| *b != p);
                }
            }
            for p in 0u8..4 {
                let found = table.lookup(&FlowKey::new(&[], p.into()), 0, Time::ZERO).map(|f| f.cookie);
                let wanted = naive.0.iter().filter(|(_, b, _)| *b == p).max_by_key(|(a, ..)| *a).map(|(.., c)| *c);
                prop_assert_eq!(found, wanted);
            }
        }
    }

    /// No frame makes the reader of fields or a rewrite panic.
    #[test]
    fn any_bytes_are_a_packet_of_some_kind(mut frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..5) {
        let kinds: [&[u8]; 5] = [&[8, 0, 0x45], &[8, 6, 0, 1], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x46], &[]];
        if frame.len() > 30 {
            frame[12..12 + kinds[kind].len()].copy_from_slice(kinds[kind]);
        }
        let mut p = Pipeline::new(1, 1, vec![1, 2]);
        let ops = vec![
            Op::SetIpv4Src(1), Op::SetIpv4Dst(2), Op::SetL4Src(3), Op::SetL4Dst(4), Op::SetDscp(5), Op::SetVlanVid(6),
            Op::PushVlan(0x88a8), Op::PopVlan, Op::PopVlan, Op::SetEthDst([1; 6]), Op::SetEthSrc([2; 6]), Op::Output(2), Op::DecTtl,
        ];
        p.tables[0].add(Flow { instructions: Instructions::applying(ops), ..flow(1, Criteria::any()) }, false).expect("room");
        let sent = p.process(&frame, 1, Time::ZERO).expect("a match");
        prop_assert_eq!(sent.len(), 1);
    }
}
