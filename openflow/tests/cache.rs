//! The flow cache never decides otherwise than the tables: two pipelines, one with a cache and one
//! without, go through the same changes and packets, and their output and counters are equal. Also,
//! a table finds the first matching flow in its order.

use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::of13::meter::{Band, BandKind, MeterMod};
use tandem_openflow::of13::{self, Action, Bucket, GroupMod};
use tandem_openflow::table::flows::Filter;
use tandem_openflow::table::ports::Standing;
use tandem_openflow::table::{
    AddOptions, Change, Criteria, Egress, EgressPacket, FieldId, Flow, FlowKey, Instructions, Op, Outcome,
    Pipeline,
};
use tandem_openflow::wire::Pad;

const TABLES: u8 = 3;

/// Collects all output.
#[derive(Default, PartialEq, Debug)]
struct All(Vec<(EgressPacket, Vec<u8>)>);

impl Egress for All {
    fn leave(&mut self, how: &EgressPacket, frame: &[u8]) {
        self.0.push((*how, frame.to_vec()));
    }
}

#[derive(Debug, Clone)]
enum Do {
    Add(u8, u16, Criteria, Instructions, u64),
    Modify(u8, Criteria, Instructions),
    Delete(u8, Criteria),
    Group(GroupMod),
    Meter(MeterMod),
    Port(Standing),
    NoPort(u32),
    Wait(u64),
    /// A frame, the number of times it comes in, and the port.
    Packet(Vec<u8>, usize, u32),
}

/// Ethernet with or without tags, IPv4 or IPv6, UDP or TCP, with few different values.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![Just(vec![]), Just(vec![0x81, 0, 0x20, 1]), Just(vec![0x88, 0xa8, 0, 2])];
    let dscp = prop_oneof![Just(0u8), Just(10 << 2), Just(12 << 2)];
    let ttl = prop_oneof![Just(1u8), Just(2), Just(64)];
    let fragment = prop_oneof![5 => Just(0u8), 1 => Just(1u8)];
    (tag.clone(), tag, 0u8..2, dscp, ttl, fragment, (1u8..3, 1u8..3, 0u8..3), any::<bool>(), 0usize..12)
        .prop_map(|(outer, inner, mac, dscp, ttl, fragment, (source, target, port), six, cut)| {
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, mac];
            frame.extend([outer, inner].concat());
            if six {
                frame.extend([0x86, 0xdd, 0x60 | dscp >> 4, dscp << 4, 0, 0, 0, 12, 17, ttl]);
                frame.extend([[0xfd; 15].as_slice(), &[source], &[0xfd; 15], &[target]].concat());
            } else {
                frame.extend([8, 0, 0x45, dscp, 0, 32, 0, 1, 0, fragment, ttl, 17, 7, 7, 10, 0, 0, source]);
                frame.extend([10, 0, 0, target]);
            }
            frame.extend([0, port, 0, 80, 0, 12, 3, 3, 1, 2, 3, 4]);
            // A few are truncated within the headers.
            if cut < 3 {
                frame.truncate(12 + 11 * cut);
            }
            frame
        })
}

fn criteria() -> impl Strategy<Value = Criteria> {
    let one = prop_oneof![
        (1u128..4).prop_map(|p| (FieldId::InPort, p, u128::MAX)),
        Just((FieldId::EthType, 0x0800, u128::MAX)),
        Just((FieldId::EthType, 0x8100, u128::MAX)),
        prop_oneof![Just(0u128), Just(0x1001), Just(0x1002)].prop_map(|v| (FieldId::VlanVid, v, u128::MAX)),
        Just((FieldId::VlanVid, 0x1000, 0x1000)),
        (0u128..2).prop_map(|p| (FieldId::VlanPcp, p, u128::MAX)),
        prop_oneof![Just(0u128), Just(10), Just(12), Just(14)].prop_map(|d| (FieldId::IpDscp, d, u128::MAX)),
        (1u128..3).prop_map(|a| (FieldId::Ipv4Src, 0x0a00_0000 + a, 0xffff_ff03)),
        (1u128..3).prop_map(|a| (FieldId::Ipv4Dst, 0x0a00_0000 + a, u128::MAX)),
        (1u128..3).prop_map(|a| (FieldId::Ipv6Dst, a, 3)),
        (0u128..3).prop_map(|p| (FieldId::L4Src, p, u128::MAX)),
        (0u128..2).prop_map(|m| (FieldId::Metadata, m, 1)),
        (0u128..2).prop_map(|t| (FieldId::TunnelId, t, u128::MAX)),
        (0u128..2).prop_map(|l| (FieldId::MplsLabel, l, u128::MAX)),
        (0u128..2).prop_map(|b| (FieldId::MplsBos, b, u128::MAX)),
        (0u128..2).prop_map(|s| (FieldId::PbbIsid, s, u128::MAX)),
        Just((FieldId::Ipv6NdTarget, 0, 1)),
        Just((FieldId::IcmpType, 0, 1)),
    ];
    vec(one, 0..3)
        .prop_map(|list| list.into_iter().fold(Criteria::any(), |c, (field, v, mask)| c.with(field, v, mask)))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u32..5).prop_map(Op::Output),
        1 => prop_oneof![
            Just(Op::Output(of13::port::FLOOD)), Just(Op::Output(of13::port::ALL)), Just(Op::Output(of13::port::IN_PORT)),
        ],
        1 => Just(Op::Controller(64)),
        2 => (1u32..5).prop_map(Op::Group),
        1 => (0u32..3).prop_map(Op::SetQueue),
        1 => (0u8..2).prop_map(|m| Op::SetEthSrc([2, 0, 0, 0, 0, m])),
        1 => (1u16..3).prop_map(Op::SetVlanVid),
        1 => (0u8..2).prop_map(Op::SetVlanPcp),
        1 => Just(Op::PushVlan(0x8100)),
        2 => Just(Op::PopVlan),
        1 => (1u32..3).prop_map(|a| Op::SetIpv4Dst(0x0a00_0000 + a)),
        1 => prop_oneof![Just(10u8), Just(14)].prop_map(Op::SetDscp),
        1 => (0u16..3).prop_map(Op::SetL4Src),
        2 => Just(Op::DecTtl),
        1 => (1u8..3).prop_map(Op::SetTtl),
        1 => (0u8..4).prop_map(Op::SetEcn),
        4 => rare_op(),
    ]
}

/// Rare actions, which often hide or uncover a header.
fn rare_op() -> impl Strategy<Value = Op> {
    let kinds = || prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8847, 0x88e7, 0x8100, 0x88cc]);
    prop_oneof![
        Just(Op::PushMpls(0x8847)),
        Just(Op::PushMpls(0x8848)),
        kinds().prop_map(Op::PopMpls),
        Just(Op::PushPbb(0x88e7)),
        Just(Op::PopPbb),
        kinds().prop_map(Op::SetEthType),
        prop::sample::select(vec![1u8, 6, 17, 58, 132]).prop_map(Op::SetIpProto),
        prop::sample::select(vec![128u8, 135, 136]).prop_map(Op::SetIcmpv6Type),
        (0u8..2).prop_map(Op::SetIcmpv6Code),
        (1u8..3).prop_map(|a| Op::SetIpv6DstLow([0xfd, 0xfd, 0xfd, 0xfd, 0xfd, 0xfd, 0xfd, a])),
        (0u32..2).prop_map(Op::SetMplsLabel),
        (0u8..2).prop_map(Op::SetMplsBos),
        (0u8..2).prop_map(Op::SetMplsTtl),
        Just(Op::DecMplsTtl),
        Just(Op::CopyTtlOut),
        Just(Op::CopyTtlIn),
        (0u64..2).prop_map(|t| Op::SetTunnelId(t.to_be_bytes())),
        (0u32..2).prop_map(Op::SetPbbIsid),
        (0u16..3).prop_map(Op::SetSctpSrc),
        (1u32..3).prop_map(|a| Op::SetArpSpa(0x0a00_0000 + a)),
        Just(Op::SetNdSll([2; 6])),
    ]
}

fn instructions() -> impl Strategy<Value = Instructions> {
    (
        prop_oneof![3 => Just(None), 1 => (1u32..3).prop_map(Some)],
        vec(op(), 0..4),
        any::<bool>(),
        vec(op(), 0..3),
        prop_oneof![2 => Just(None), 1 => (0u64..2).prop_map(|v| Some((v, 1)))],
        prop_oneof![Just(None), (1..TABLES).prop_map(Some)],
    )
        .prop_map(|(meter, apply, clear, write, metadata, goto)| Instructions {
            meter,
            apply,
            clear,
            write,
            metadata,
            goto,
        })
}

fn group() -> impl Strategy<Value = GroupMod> {
    let action = prop_oneof![
        3 => (1u32..5).prop_map(Action::output),
        1 => (1u32..5).prop_map(Action::Group),
        1 => Just(Action::DecNwTtl(Pad::default())),
        1 => Just(Action::PopVlan(Pad::default())),
        1 => Just(Action::PushVlan(0x8100, Pad::default())),
        1 => (0u32..3).prop_map(Action::SetQueue),
    ];
    let watch = prop_oneof![Just(of13::port::ANY), 1u32..4];
    let bucket = (0u16..4, watch, vec(action, 0..3)).prop_map(|(weight, watch_port, actions)| Bucket {
        weight,
        watch_port,
        watch_group: of13::group::ANY,
        pad: Pad::default(),
        actions,
    });
    (prop_oneof![3 => Just(0u16), 2 => Just(1u16), 1 => Just(2u16)], 0u8..4, 1u32..5, vec(bucket, 0..4))
        .prop_map(|(command, kind, group_id, buckets)| GroupMod {
            command,
            kind,
            pad: Pad::default(),
            group_id,
            buckets,
        })
}

fn meter() -> impl Strategy<Value = MeterMod> {
    let kind = prop_oneof![
        Just(BandKind::Drop(Pad::default())),
        (1u8..3).prop_map(|level| BandKind::DscpRemark(level, Pad::default())),
    ];
    let band = (1u32..4, 1u32..3, kind).prop_map(|(rate, burst_size, kind)| Band { rate, burst_size, kind });
    (prop_oneof![2 => Just(0u16), 2 => Just(1u16), 1 => Just(2u16)], 1u32..3, vec(band, 0..3))
        .prop_map(|(command, meter_id, bands)| MeterMod { command, flags: 0b1110, meter_id, bands })
}

fn step() -> impl Strategy<Value = Do> {
    let table = 0..TABLES;
    prop_oneof![
        6 => (table.clone(), 0u16..4, criteria(), instructions(), 0u64..3)
            .prop_map(|(t, p, c, i, idle)| Do::Add(t, p, c, i, idle)),
        1 => (table.clone(), criteria(), instructions()).prop_map(|(t, c, i)| Do::Modify(t, c, i)),
        1 => (table, criteria()).prop_map(|(t, c)| Do::Delete(t, c)),
        3 => group().prop_map(Do::Group),
        2 => meter().prop_map(Do::Meter),
        1 => (1u32..5, any::<bool>(), any::<bool>())
            .prop_map(|(number, flood, live)| Do::Port(Standing { number, flood, live })),
        1 => (1u32..5).prop_map(Do::NoPort),
        1 => (0u64..1_500).prop_map(Do::Wait),
        12 => (frame(), 1usize..4, 1u32..4).prop_map(|(f, n, p)| Do::Packet(f, n, p)),
    ]
}

/// Executes a step and returns its effects.
fn carry_out(p: &mut Pipeline, what: &Do, now: &mut Time) -> (All, Vec<Outcome>, String) {
    let mut all = All::default();
    let mut outcomes = Vec::new();
    let said = match what {
        Do::Add(table, priority, criteria, instructions, idle) => {
            let flow = Flow {
                idle: Duration::from_secs(*idle),
                cookie: u64::from(*priority),
                ..Flow::new(*priority, criteria.clone(), instructions.clone(), *now)
            };
            format!("{:?}", p.tables[usize::from(*table)].add(flow, AddOptions::default()))
        }
        Do::Modify(table, criteria, instructions) => {
            let change = Change { instructions: instructions.clone(), ..Change::default() };
            format!(
                "{}",
                p.tables[usize::from(*table)].modify(&Filter::covered_by(criteria.clone()), &change)
            )
        }
        Do::Delete(table, criteria) => {
            format!("{:?}", p.tables[usize::from(*table)].delete(&Filter::covered_by(criteria.clone())))
        }
        Do::Group(m) => format!("{:?}", p.group_mod(m, 10, *now)),
        Do::Meter(m) => format!("{:?}", p.meter_mod(m, 10, *now)),
        Do::Port(standing) => {
            p.ports.set(*standing);
            String::new()
        }
        Do::NoPort(number) => {
            p.ports.remove(*number);
            String::new()
        }
        Do::Wait(milliseconds) => {
            *now = *now + Duration::from_millis(*milliseconds);
            format!("{:?}", p.expire(*now))
        }
        Do::Packet(frame, times, port) => {
            for _ in 0..*times {
                *now = *now + Duration::from_millis(1);
                outcomes.push(p.run(&mut frame.clone(), *port, *now, &mut all));
            }
            String::new()
        }
    };
    (all, outcomes, said)
}

/// All counters.
fn counted(p: &Pipeline) -> String {
    let tables: Vec<_> =
        p.tables.iter().map(|t| (t.iter().collect::<Vec<_>>(), t.lookups, t.matched)).collect();
    format!("{tables:?} {:?} {:?}", p.groups(), p.meters())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn with_a_cache_and_without_everything_is_the_same(steps in vec(step(), 1..120)) {
        let mut plain = Pipeline::new(TABLES, 40, vec![1, 2, 3]);
        // The cache is small, so that decisions replace each other.
        let mut cached = plain.clone().with_cache(8);
        let (mut a, mut b) = (Time::ZERO, Time::ZERO);
        for step in &steps {
            let wanted = carry_out(&mut plain, step, &mut a);
            prop_assert_eq!(&carry_out(&mut cached, step, &mut b), &wanted, "{:?}", step);
            if let Do::Packet(frame, _, port) = step {
                let key = FlowKey::new(frame, *port);
                for table in &plain.tables {
                    // The first matching flow in the table's order, by a linear search.
                    let first = table.iter().find(|f| f.criteria.matches(&key)).map(|f| f.id);
                    prop_assert_eq!(table.clone().lookup(&key, 0, a).map(|f| f.id), first);
                }
            }
        }
        prop_assert_eq!(counted(&cached), counted(&plain));
    }
}

/// A second packet is not looked up in the tables, until something changes.
#[test]
fn a_decision_is_remembered_until_something_changes() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]).with_cache(16);
    let to = |port| Flow::new(1, Criteria::any(), Instructions::applying(vec![Op::Output(port)]), Time::ZERO);
    p.tables[0].add(to(2), AddOptions::default()).expect("room");
    let frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xcc][..], &[0; 46]].concat();
    let port = |p: &mut Pipeline| p.process(&frame, 1, Time::ZERO).expect("a flow")[0].port;
    assert_eq!([port(&mut p), port(&mut p), port(&mut p)], [2, 2, 2]);
    assert_eq!((p.cache().hits, p.cache().misses), (2, 1));
    p.tables[0].add(to(9), AddOptions::default()).expect("the same flow");
    assert_eq!(port(&mut p), 9);
    assert_eq!((p.cache().hits, p.cache().misses), (2, 2));
    assert_eq!(p.tables[0].iter().next().map(|f| f.packets), Some(1), "a new flow counts anew");
}

/// A header that an action uncovers does not follow from the packet's key: another packet with that
/// key may have a different one.
#[test]
fn what_comes_to_light_is_looked_at_for_each_packet() {
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let ipv4 = |length: u8, protocol: u8, payload: [u8; 8]| {
        let header = [0x45, 0, length, 32, 0, 1, 0, 0, 64, protocol, 7, 7, 10, 0, 0, 1, 10, 0, 0, 2];
        [&ethernet[..], &[8, 0], &header, &payload].concat()
    };
    let ipv6 = |last: u8| {
        let header = [0x60, 0, 0, 0, 0, 24, 58, 64];
        let message = [&[128, 0, 1, 2, 0, 0, 0, 0][..], &[0xfd; 15], &[last]].concat();
        [&ethernet[..], &[0x86, 0xdd], &header, &[0xfd; 32], &message].concat()
    };
    let lengths = || [ipv4(0, 47, [0; 8]), ipv4(1, 47, [0; 8])];
    let cases = [
        (vec![Op::SetEthType(0x8847)], (FieldId::MplsBos, 1), lengths()),
        (vec![Op::PushMpls(0x8847), Op::PopMpls(0x8847)], (FieldId::MplsBos, 1), lengths()),
        (
            vec![Op::SetIpProto(17)],
            (FieldId::L4Dst, 0x0102),
            [ipv4(0, 47, [0; 8]), ipv4(0, 47, [0, 0, 1, 2, 0, 0, 0, 0])],
        ),
        (
            vec![Op::SetIcmpv6Type(135)],
            (FieldId::Ipv6NdTarget, u128::from_be_bytes([0xfd; 16])),
            [ipv6(1), ipv6(0xfd)],
        ),
    ];
    for (ops, (field, value), frames) in cases {
        let mut p = Pipeline::new(2, 10, vec![1, 2, 3]).with_cache(16);
        let first = Instructions { apply: ops.clone(), goto: Some(1), ..Instructions::default() };
        let flow = |priority, criteria, does| Flow::new(priority, criteria, does, Time::ZERO);
        let to = |port| Instructions::applying(vec![Op::Output(port)]);
        p.tables[0].add(flow(1, Criteria::any(), first), AddOptions::default()).expect("room");
        let brought = Criteria::any().with(field, value, u128::MAX);
        p.tables[1].add(flow(2, brought, to(2)), AddOptions::default()).expect("room");
        p.tables[1].add(flow(1, Criteria::any(), to(3)), AddOptions::default()).expect("room");
        for (frame, port) in frames.iter().zip([3, 2]) {
            let sent = p.process(frame, 1, Time::ZERO).expect("a flow");
            assert_eq!(sent[0].port, port, "{ops:?}: {frame:02x?}");
        }
    }
}
