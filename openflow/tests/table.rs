//! Flow tables, as the specification defines them: additions, changes, deletions, lookups,
//! time-outs, and effects on packets.

use proptest::prelude::*;
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::of10::{self, matching::wildcard};
use tandem_openflow::of13::{self, Field, Masked};
use tandem_openflow::table::flows::Filter;
use tandem_openflow::table::{
    AddOptions, Change, Criteria, FieldId, Flow, FlowKey, FlowTable, Instructions, NO_QUEUE, Op, Pipeline,
    RemovedReason, TableError,
};

const ALL: u128 = u128::MAX;
const PLAIN: AddOptions = AddOptions { check_overlap: false, keep_counts: false };
const CHECKED: AddOptions = AddOptions { check_overlap: true, keep_counts: false };

/// An Ethernet, IPv4 and UDP frame with valid checksums.
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
    table.add(flow(10, Criteria::any()), PLAIN).expect("room");
    table.add(flow(20, port(1)), PLAIN).expect("room");
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
    table.add(flow(0, Criteria::from_of10(&exact)), PLAIN).expect("room");
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
    // In 1.0, the ports of a packet that is neither TCP nor UDP are ignored.
    let ports =
        of10::Match { wildcards: wildcard::ALL & !wildcard::TP_DST, tp_dst: 80, ..of10::Match::any() };
    assert!(Criteria::from_of10(&ports).matches(&FlowKey::new(&udp_frame(), 1)));
}

#[test]
fn adding_replaces_checks_overlap_and_ends_when_the_table_is_full() {
    let mut table = FlowTable::new(2);
    table.add(Flow { cookie: 1, packets: 9, ..flow(5, port(1)) }, PLAIN).expect("room");
    table.add(Flow { cookie: 2, ..flow(5, port(1)) }, PLAIN).expect("the same match and priority");
    assert_eq!(
        table.iter().map(|f| (f.cookie, f.packets)).collect::<Vec<_>>(),
        [(2, 0)],
        "replaced, counters anew as OF 1.0 section 4.6 has it"
    );
    table.add(Flow { packets: 9, bytes: 99, ..flow(5, port(1)) }, PLAIN).expect("the same once more");
    let kept = AddOptions { keep_counts: true, ..PLAIN };
    let later = Flow { added: Time::from_secs(7), packets: 1, bytes: 1, ..flow(5, port(1)) };
    table.add(later, kept).expect("the same once more");
    assert_eq!(
        table.iter().map(|f| (f.packets, f.bytes, f.added)).collect::<Vec<_>>(),
        [(9, 99, Time::from_secs(7))],
        "counters handed on, the duration is new, as OF 1.3.5 section 6.4 has it"
    );
    let overlapping = flow(5, Criteria::any().with(FieldId::EthType, 0x800, ALL));
    assert_eq!(table.add(overlapping.clone(), CHECKED), Err(TableError::Overlap));
    assert_eq!(table.add(flow(5, port(2)), CHECKED), Ok(()), "another port cannot overlap");
    assert_eq!(table.add(overlapping, PLAIN), Err(TableError::Full(2)));
}

#[test]
fn deleting_strictly_takes_one_and_loosely_takes_all_that_is_covered() {
    let fill = || {
        let mut table = FlowTable::new(10);
        let ip = port(1).with(FieldId::EthType, 0x800, ALL);
        let send = Instructions::applying(vec![Op::Output(7)]);
        table.add(Flow { cookie: 0x10, ..flow(5, port(1)) }, PLAIN).expect("room");
        table.add(Flow { cookie: 0x21, instructions: send, ..flow(6, ip) }, PLAIN).expect("room");
        table.add(Flow { cookie: 0x22, ..flow(7, port(2)) }, PLAIN).expect("room");
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
fn modifying_keeps_counters_unless_told_otherwise_and_adds_nothing() {
    let mut table = FlowTable::new(10);
    table.add(flow(5, port(1)), PLAIN).expect("room");
    table.lookup(&FlowKey::new(&udp_frame(), 1), 46, Time::ZERO);
    let to = Instructions::applying(vec![Op::Output(3)]);
    let mut change = Change { instructions: to.clone(), ..Change::default() };
    assert_eq!(table.modify(&Filter::covered_by(Criteria::any()), &change), 1);
    assert_eq!(table.modify(&Filter::strictly(port(9), 5), &change), 0);
    let only = table.iter().next().expect("the flow");
    assert_eq!((only.packets, only.bytes, &only.instructions), (1, 46, &to));
    change.reset_counts = true;
    assert_eq!(table.modify(&Filter::strictly(port(1), 5), &change), 1);
    assert_eq!(table.iter().map(|f| (f.packets, f.bytes)).collect::<Vec<_>>(), [(0, 0)]);
}

#[test]
fn time_outs_by_the_time_that_is_passed_in() {
    let mut table = FlowTable::new(10);
    let s = Duration::from_secs;
    table.add(Flow { idle: s(5), ..flow(1, port(1)) }, PLAIN).expect("room");
    table.add(Flow { hard: s(8), idle: s(5), ..flow(2, port(2)) }, PLAIN).expect("room");
    table.add(flow(3, port(3)), PLAIN).expect("room");
    assert_eq!(table.next_expiry(), Some(Time::from_secs(5)));
    table.lookup(&FlowKey::new(&udp_frame(), 2), 46, Time::from_secs(4));
    let gone = |table: &mut FlowTable, at| {
        table.expire(Time::from_secs(at)).into_iter().map(|(f, why)| (f.priority, why)).collect::<Vec<_>>()
    };
    assert_eq!(gone(&mut table, 4), []);
    assert_eq!(gone(&mut table, 5), [(1, RemovedReason::Idle)]);
    assert_eq!(gone(&mut table, 8), [(2, RemovedReason::Hard)], "used 4 s ago, but its time is up");
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
    p.tables[0].add(Flow { instructions: first, ..flow(1, port(1)) }, PLAIN).expect("room");
    let second =
        Instructions { write: vec![Op::Output(3), Op::SetEthDst([9; 6])], ..Instructions::default() };
    let by_metadata =
        Criteria::any().with(FieldId::Metadata, 7, 0xff).with(FieldId::Ipv4Dst, 0x0a00_0063, ALL);
    p.tables[1].add(Flow { instructions: second, ..flow(1, by_metadata) }, PLAIN).expect("room");
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
        .add(Flow { instructions: Instructions::applying(ops), ..flow(1, Criteria::any()) }, PLAIN)
        .expect("room");
    let sent = p.process(&udp_frame(), 1, Time::ZERO).expect("a match");
    let ports: Vec<(u32, u32)> = sent.iter().map(|s| (s.port, s.queue)).collect();
    assert_eq!(
        ports,
        [(2, NO_QUEUE), (3, NO_QUEUE), (1, NO_QUEUE), (2, 4)],
        "flooding and port 1 leave out where it came from, IN_PORT does not"
    );

    let mut old = udp_frame();
    old[22] = 1;
    let instructions = Instructions::applying(vec![Op::DecTtl, Op::Output(2)]);
    p.tables[0].modify(&Filter::covered_by(Criteria::any()), &Change { instructions, ..Change::default() });
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
        .add(Flow { instructions: Instructions::applying(ops), ..flow(1, Criteria::any()) }, PLAIN)
        .expect("room");
    let sent = p.process(&udp_frame(), 1, Time::ZERO).expect("a match");
    let key = FlowKey::new(&sent[0].frame, 1);
    assert_eq!((key.get(FieldId::VlanVid), key.get(FieldId::VlanPcp)), (Some(0x1064), Some(5)));
    assert_eq!(key.get(FieldId::L4Dst), Some(2000), "what is behind the tag is still seen");
    assert_eq!(sent[1].frame, udp_frame());
}

/// An Ethernet frame of this type.
fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &kind.to_be_bytes(), body].concat()
}

/// An IPv6 packet whose first header is of type `next`.
fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let head = [&[0x60, 0, 0, 0][..], &length, &[next, 64], &[0xfd; 16], &[0xfe; 16]].concat();
    frame(0x86dd, &[&head[..], body].concat())
}

#[test]
fn every_field_of_1_3_is_found_where_the_frame_has_it() {
    use FieldId as F;
    let get = |frame: &[u8], field| FlowKey::new(frame, 3).get(field);
    assert_eq!((get(&[], F::InPhyPort), get(&[], F::TunnelId)), (Some(3), Some(0)));
    // RFC 3032: label 0x12345, class 5, bottom of stack, TTL 64.
    let mpls = frame(0x8847, &[0x12, 0x34, 0x5b, 64]);
    assert_eq!(
        [F::MplsLabel, F::MplsTc, F::MplsBos].map(|f| get(&mpls, f)),
        [Some(0x12345), Some(5), Some(1)]
    );
    assert_eq!(get(&frame(0x88e7, &[0x40, 0xab, 0xcd, 0xef]), F::PbbIsid), Some(0xabcdef));
    // RFC 4861: a solicitation with another option before the source's address, and an
    // advertisement.
    let target = [0xfd; 16];
    let nd =
        |kind: u8, options: &[u8]| ipv6(58, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target, options].concat());
    let (other, own) = ([14, 1, 1, 2, 3, 4, 5, 6], [1, 1, 2, 0, 0, 0, 0, 9]);
    let ask = nd(135, &[other, own].concat());
    assert_eq!(get(&ask, F::Ipv6NdTarget), Some(u128::from_be_bytes(target)));
    assert_eq!((get(&ask, F::Ipv6NdSll), get(&ask, F::Ipv6NdTll)), (Some(0x0200_0000_0009), None));
    let tell = nd(136, &[2, 1, 2, 0, 0, 0, 0, 9]);
    assert_eq!((get(&tell, F::Ipv6NdSll), get(&tell, F::Ipv6NdTll)), (None, Some(0x0200_0000_0009)));
    assert_eq!(get(&nd(135, &[1, 0]), F::Ipv6NdSll), None, "an option without a length ends the list");
}

#[test]
fn extension_headers_are_told_and_what_follows_them_is_seen() {
    let bits = |f: &[u8]| FlowKey::new(f, 1).get(FieldId::Ipv6Exthdr);
    let udp = [0x03, 0xe8, 0x07, 0xd0, 0, 8, 0, 0];
    let header = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
    // OFPIEH (OF 1.3.5 section 7.2.3.7): 1 none follows, 2 ESP, 4 AH, 8 destination, 16 fragment,
    // 32 routing, 64 hop-by-hop, 128 repeated, 256 out of order.
    assert_eq!(bits(&ipv6(17, &udp)), Some(0));
    assert_eq!(bits(&ipv6(59, &[])), Some(1));
    let chain = ipv6(0, &[&header(60)[..], &header(43), &header(60), &header(17), &udp].concat());
    assert_eq!(bits(&chain), Some(64 + 8 + 32), "destination options may come before and after routing");
    let key = FlowKey::new(&chain, 1);
    assert_eq!((key.get(FieldId::IpProto), key.get(FieldId::L4Dst)), (Some(17), Some(2000)));
    assert_eq!(bits(&ipv6(43, &[&header(43)[..], &header(17), &udp].concat())), Some(32 + 128));
    assert_eq!(bits(&ipv6(43, &[&header(0)[..], &header(17), &udp].concat())), Some(64 + 32 + 256));
    assert_eq!(bits(&ipv6(50, &[0; 16])), Some(2), "nothing is seen behind encryption");
    // RFC 4302: 4 + 2 words of 4 bytes.
    let mut auth = [0u8; 24];
    (auth[0], auth[1]) = (17, 4);
    let authenticated = FlowKey::new(&ipv6(51, &[&auth[..], &udp].concat()), 1);
    assert_eq!(
        (authenticated.get(FieldId::Ipv6Exthdr), authenticated.get(FieldId::L4Src)),
        (Some(4), Some(1000))
    );
    let fragment = |offset: u8| ipv6(44, &[&[17, 0, 0, offset, 0, 0, 0, 1][..], &udp].concat());
    let (first, later) = (FlowKey::new(&fragment(1), 1), FlowKey::new(&fragment(8), 1));
    assert_eq!((bits(&fragment(8)), first.get(FieldId::L4Dst)), (Some(16), Some(2000)));
    assert_eq!((later.get(FieldId::IpProto), later.get(FieldId::L4Dst)), (Some(17), None));
    assert_eq!(bits(&ipv6(0, &[17])), Some(64), "a header that is cut off was still announced");
}

/// The reference: a list with linear search.
#[derive(Default)]
struct Naive(Vec<(u16, u8, u64)>);

proptest! {
    /// After any additions, deletions and lookups, the table answers as a plain list does.
    #[test]
    fn a_table_does_what_a_list_does(ops in prop::collection::vec((0u8..4, 0u16..4, 0u8..4, 0u64..1000), 1..80)) {
        let mut table = FlowTable::new(1000);
        let mut naive = Naive::default();
        for (op, priority, p, cookie) in ops {
            match op {
                0 | 1 => {
                    table.add(Flow { cookie, ..flow(priority, port(p.into())) }, PLAIN).expect("room");
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

    /// No frame makes the key extraction or a rewrite panic.
    #[test]
    fn any_bytes_are_a_packet_of_some_kind(mut frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..8) {
        let kinds: [&[u8]; 8] = [
            &[8, 0, 0x45], &[8, 6, 0, 1], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x46], &[0x88, 0x47], &[0x88, 0xe7],
            &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 58], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 0],
        ];
        if frame.len() > 30 {
            frame[12..12 + kinds[kind].len()].copy_from_slice(kinds[kind]);
        }
        let mut p = Pipeline::new(1, 1, vec![1, 2]);
        let ops = vec![
            Op::SetIpv4Src(1), Op::SetIpv4Dst(2), Op::SetL4Src(3), Op::SetL4Dst(4), Op::SetDscp(5), Op::SetVlanVid(6),
            Op::PushVlan(0x88a8), Op::PopVlan, Op::PopVlan, Op::SetEthDst([1; 6]), Op::SetEthSrc([2; 6]), Op::Output(2), Op::DecTtl,
        ];
        p.tables[0].add(Flow { instructions: Instructions::applying(ops), ..flow(1, Criteria::any()) }, PLAIN).expect("room");
        let sent = p.process(&frame, 1, Time::ZERO).expect("a match");
        prop_assert_eq!(sent.len(), 1);
    }
}
