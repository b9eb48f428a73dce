//! Every action of OpenFlow 1.3 that changes a packet, on every kind of packet: the field has the
//! new value, every other field is unchanged, and every checksum is right (recomputed here from the
//! whole packet). OF 1.3.5 sections 5.12 and 7.2.5.

mod frames;

use frames::{Kind, checksums_are_right, kinds};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use tandem_model::{Mac, Time};
use tandem_openflow::of13::oxm::U24;
use tandem_openflow::of13::{self, Action, Field, Instruction, Masked, Match};
use tandem_openflow::table::{FieldId, FlowKey, Pipeline, Refusal};
use tandem_openflow::wire::Pad;

const T0: Time = Time::ZERO;
const MATCH_INCONSISTENT: (u16, u16) = (2, 10);

fn flow(fields: Vec<Field>, instructions: Vec<Instruction>) -> of13::FlowMod {
    of13::FlowMod {
        cookie: 0,
        cookie_mask: 0,
        table_id: 0,
        command: of13::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 1,
        buffer_id: of13::flow::NO_BUFFER,
        out_port: of13::port::ANY,
        out_group: of13::group::ANY,
        flags: 0,
        pad: Pad::default(),
        matching: Match { fields },
        instructions,
    }
}

/// A frame after the only flow of a switch has changed it.
fn done(frame: &[u8], fields: Vec<Field>, actions: Vec<Action>) -> Result<Vec<u8>, Refusal> {
    let mut p = Pipeline::new(1, 10, vec![1, 2]).with_cache(16);
    let actions = [actions, vec![Action::output(2)]].concat();
    p.flow_mod13(&flow(fields, vec![Instruction::ApplyActions(Pad::default(), actions)]), T0)?;
    let sent = p.process(frame, 1, T0).expect("the flow is for it");
    assert_eq!(p.process(frame, 1, T0).expect("it still is"), sent, "remembered, it does the same");
    assert_eq!(sent.len(), 1, "it is sent on");
    Ok(sent.into_iter().next().expect("one").frame)
}

fn code(refused: Result<Vec<u8>, Refusal>) -> (u16, u16) {
    let of_error = refused.expect_err("refused").of_error;
    (of_error.kind, of_error.code)
}

/// Each field that can be set, with a value that no frame here has.
fn settable() -> Vec<(Field, FieldId)> {
    let mac = Mac([2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);
    let four = Ipv4Addr::new(172, 31, 255, 254);
    let six: Ipv6Addr = "fd99:8877:6655:4433:2211:ff:fe00:1234".parse().expect("an address");
    vec![
        (Field::EthDst(Masked::exact(mac)), FieldId::EthDst),
        (Field::EthSrc(Masked::exact(mac)), FieldId::EthSrc),
        (Field::VlanVid(Masked::exact(0x1abc)), FieldId::VlanVid),
        (Field::VlanPcp(5), FieldId::VlanPcp),
        (Field::IpDscp(46), FieldId::IpDscp),
        (Field::IpEcn(3), FieldId::IpEcn),
        (Field::Ipv4Src(Masked::exact(four)), FieldId::Ipv4Src),
        (Field::Ipv4Dst(Masked::exact(four)), FieldId::Ipv4Dst),
        (Field::TcpSrc(40_001), FieldId::L4Src),
        (Field::TcpDst(40_002), FieldId::L4Dst),
        (Field::UdpSrc(40_003), FieldId::L4Src),
        (Field::UdpDst(40_004), FieldId::L4Dst),
        (Field::SctpSrc(40_005), FieldId::L4Src),
        (Field::SctpDst(40_006), FieldId::L4Dst),
        (Field::Icmpv4Type(13), FieldId::IcmpType),
        (Field::Icmpv4Code(9), FieldId::IcmpCode),
        (Field::ArpOp(9), FieldId::ArpOp),
        (Field::ArpSpa(Masked::exact(four)), FieldId::ArpSpa),
        (Field::ArpTpa(Masked::exact(four)), FieldId::ArpTpa),
        (Field::ArpSha(Masked::exact(mac)), FieldId::ArpSha),
        (Field::ArpTha(Masked::exact(mac)), FieldId::ArpTha),
        (Field::Ipv6Src(Masked::exact(six)), FieldId::Ipv6Src),
        (Field::Ipv6Dst(Masked::exact(six)), FieldId::Ipv6Dst),
        (Field::Ipv6Flabel(Masked::exact(0xf_1234)), FieldId::Ipv6Flabel),
        (Field::Icmpv6Code(7), FieldId::Icmpv6Code),
        (Field::Ipv6NdTarget(six), FieldId::Ipv6NdTarget),
        (Field::Ipv6NdSll(mac), FieldId::Ipv6NdSll),
        (Field::Ipv6NdTll(mac), FieldId::Ipv6NdTll),
        (Field::MplsLabel(0xf_00ff), FieldId::MplsLabel),
        (Field::MplsTc(6), FieldId::MplsTc),
        (Field::MplsBos(0), FieldId::MplsBos),
        (Field::PbbIsid(Masked::exact(U24::new(0xab_cdef))), FieldId::PbbIsid),
    ]
}

/// The prerequisites of the field (OF 1.3.5 table 11) in this kind of frame; `None` if the frame
/// has no such field.
fn needed(field: &Field, kind: &Kind) -> Option<Vec<Field>> {
    let with = |fields: Vec<Field>| Match { fields: [fields, vec![field.clone()]].concat() };
    kind.said.iter().map(|said| said.to_vec()).find(|said| with(said.clone()).check().is_ok())
}

fn number(field: &Field, key: &FlowKey, id: FieldId) -> u128 {
    let mut bytes = Vec::new();
    tandem_openflow::wire::Wire::write(field, &mut bytes);
    let value = bytes[4..].iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
    assert!(key.get(id).is_some(), "{field:?} is in the packet");
    value
}

#[test]
fn every_field_is_set_and_nothing_else_changes() {
    let mut set = std::collections::BTreeSet::new();
    for kind in kinds() {
        assert!(checksums_are_right(&kind.frame), "{}: as made", kind.name);
        for (field, id) in settable() {
            let before = FlowKey::new(&kind.frame, 1);
            let Some(said) = needed(&field, &kind).filter(|_| before.get(id).is_some()) else { continue };
            // Pushing a tag is tested elsewhere.
            if matches!(field, Field::VlanVid(_)) && before.get(FieldId::VlanVid) == Some(0) {
                continue;
            }
            let frame = done(&kind.frame, said, vec![Action::SetField(field.clone())]).expect("it fits");
            let after = FlowKey::new(&frame, 1);
            let mut wanted = before.clone();
            wanted.set(id, number(&field, &before, id));
            // With a code other than 0 a message is not neighbour discovery (RFC 4861 section 4.3).
            if matches!(field, Field::Icmpv6Code(_)) {
                assert_eq!(after.get(id), wanted.get(id), "{}: {field:?}", kind.name);
            } else {
                assert_eq!(after, wanted, "{}: {field:?}", kind.name);
            }
            assert_eq!(frame.len(), kind.frame.len());
            assert!(checksums_are_right(&frame), "{}: a checksum after {field:?}\n{frame:02x?}", kind.name);
            set.insert(format!("{id:?} {field:?}"));
        }
    }
    let unset: Vec<_> =
        settable().into_iter().filter(|(f, id)| !set.contains(&format!("{id:?} {f:?}"))).collect();
    assert!(unset.is_empty(), "no frame here has {unset:?}");
}

/// Section 6.4: a flow is refused if neither its match nor an earlier action implies a field that
/// it sets, pops or decrements.
#[test]
fn what_a_packet_may_not_have_is_not_set() {
    let any: Vec<u8> = kinds().remove(0).frame;
    for (field, id) in settable() {
        // Every packet has these fields; a VLAN tag is pushed if there is none.
        if matches!(id, FieldId::EthDst | FieldId::EthSrc | FieldId::VlanVid) {
            continue;
        }
        let refused = done(&any, Vec::new(), vec![Action::SetField(field.clone())]);
        assert_eq!(code(refused), MATCH_INCONSISTENT, "{field:?}");
    }
    let pad = Pad::default();
    for action in [
        Action::PopVlan(pad),
        Action::PopMpls(0x0800, Pad::default()),
        Action::PopPbb(pad),
        Action::SetNwTtl(3, Pad::default()),
        Action::DecNwTtl(pad),
        Action::SetMplsTtl(3, Pad::default()),
        Action::DecMplsTtl(pad),
        Action::CopyTtlOut(pad),
        Action::CopyTtlIn(pad),
    ] {
        assert_eq!(code(done(&any, Vec::new(), vec![action.clone()])), MATCH_INCONSISTENT, "{action:?}");
    }
    // TCP ports after the protocol has become UDP; IPv4 below a label; a label that was popped.
    let tcp = || vec![Field::EthType(0x0800), Field::IpProto(6)];
    let label = || Action::SetField(Field::MplsLabel(1));
    for actions in [
        vec![Action::SetField(Field::IpProto(17)), Action::SetField(Field::TcpSrc(1))],
        vec![Action::PushMpls(0x8847, Pad::default()), Action::SetField(Field::TcpSrc(1))],
        vec![Action::PushMpls(0x8847, Pad::default()), Action::PopMpls(0x0800, Pad::default()), label()],
        vec![Action::PushPbb(0x88e7, Pad::default()), Action::PopPbb(pad), Action::DecNwTtl(pad)],
        vec![
            Action::SetField(Field::EthType(0x86dd)),
            Action::SetField(Field::IpProto(6)),
            Action::PopVlan(pad),
        ],
    ] {
        assert_eq!(code(done(&any, tcp(), actions.clone())), MATCH_INCONSISTENT, "{actions:?}");
    }
    let pushed = vec![Action::PushMpls(0x8847, Pad::default()), label()];
    assert!(done(&tcp_frame(), tcp(), pushed).is_ok(), "an action before gives it");
}

fn kind(name: &str) -> Kind {
    kinds().into_iter().find(|k| k.name == name).expect("there is one")
}

fn tcp_frame() -> Vec<u8> {
    kind("TCP over IPv4").frame
}

/// Written actions are checked in the order of their execution: the push comes before the field
/// that it adds.
#[test]
fn written_actions_are_checked_in_the_order_of_an_action_set() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    let label = Action::SetField(Field::MplsLabel(77));
    let actions = vec![label, Action::output(2), Action::PushMpls(0x8847, Pad::default())];
    let m = flow(vec![Field::EthType(0x0800)], vec![Instruction::WriteActions(Pad::default(), actions)]);
    p.flow_mod13(&m, T0).expect("it fits");
    let sent = p.process(&tcp_frame(), 1, T0).expect("a flow");
    assert_eq!(FlowKey::new(&sent[0].frame, 1).get(FieldId::MplsLabel), Some(77));
}

#[test]
fn a_protocol_and_a_type_are_set() {
    // The bytes that may change: the protocol, the header checksum of IPv4, and the checksum of TCP
    // or UDP, which covers the protocol.
    let changing = [
        ("TCP over IPv4", vec![23, 24, 25, 50, 51]),
        ("UDP over IPv6", vec![20, 60, 61]),
        ("UDP behind extension headers", vec![62, 76, 77]),
    ];
    for (name, places) in changing {
        let kind = kind(name);
        let said = kind.said[0][..1].to_vec();
        let frame = done(&kind.frame, said, vec![Action::SetField(Field::IpProto(0xfd))]).expect("it fits");
        assert_eq!(FlowKey::new(&frame, 1).get(FieldId::IpProto), Some(0xfd), "{name}");
        let changed: Vec<_> = (0..frame.len()).filter(|at| frame[*at] != kind.frame[*at]).collect();
        assert!(changed.len() > 1 && changed.iter().all(|at| places.contains(at)), "{name}: {changed:?}");
        assert!(checksums_are_right(&frame), "{name}");
    }
    for (name, id, wanted) in [("ICMPv6", FieldId::Icmpv6Type, 200), ("ICMP", FieldId::IcmpType, 200)] {
        let kind = kind(name);
        let field = if name == "ICMP" { Field::Icmpv4Type(200) } else { Field::Icmpv6Type(200) };
        let said = kind.said[1].clone();
        let frame = done(&kind.frame, said, vec![Action::SetField(field)]).expect("it fits");
        assert_eq!(FlowKey::new(&frame, 1).get(id), Some(wanted));
        assert!(checksums_are_right(&frame), "{name}");
    }
    for (name, place) in [("TCP over IPv4", 12), ("UDP over tagged IPv4", 16), ("UDP in SNAP", 20)] {
        let kind = kind(name);
        let frame =
            done(&kind.frame, Vec::new(), vec![Action::SetField(Field::EthType(0x88b5))]).expect("fits");
        assert_eq!(frame[place..place + 2], [0x88, 0xb5], "{name}");
        assert_eq!(FlowKey::new(&frame, 1).get(FieldId::EthType), Some(0x88b5), "{name}");
        assert_eq!((&frame[..place], &frame[place + 2..]), (&kind.frame[..place], &kind.frame[place + 2..]));
    }
}

/// Label, traffic class and TTL are copied from the outermost entry, or without one the TTL from
/// IP; the entry is directly behind the Ethernet header, before a VLAN tag (sections 5.12 and
/// 5.12.1).
#[test]
fn labels_are_pushed_and_popped() {
    let push = || Action::PushMpls(0x8847, Pad::default());
    for (name, ttl) in
        [("TCP over IPv4", 64), ("UDP over IPv6", 63), ("ARP", 0), ("UDP over tagged IPv4", 64)]
    {
        let kind = kind(name);
        let inner = u16::from_be_bytes([kind.frame[12], kind.frame[13]]);
        let once = done(&kind.frame, kind.said[0][..1].to_vec(), vec![push()]).expect("it fits");
        let wanted = [&kind.frame[..12], &[0x88, 0x47, 0, 0, 1, ttl], &kind.frame[14..]].concat();
        assert_eq!(once, wanted, "{name}");
        let labelled = [Field::MplsLabel(0x12345), Field::MplsTc(5)].map(Action::SetField);
        let twice = [vec![push()], labelled.to_vec(), vec![push()]].concat();
        let twice = done(&kind.frame, kind.said[0][..1].to_vec(), twice).expect("it fits");
        let entries = [0x88, 0x47, 0x12, 0x34, 0x5a, ttl, 0x12, 0x34, 0x5b, ttl];
        assert_eq!(twice, [&kind.frame[..12], &entries, &kind.frame[14..]].concat(), "{name}");
        let mpls = || vec![Field::EthType(0x8847)];
        let pop = |kind| Action::PopMpls(kind, Pad::default());
        let popped = done(&twice, mpls(), vec![pop(0x8847), pop(inner)]).expect("it fits");
        assert_eq!(popped, kind.frame, "{name}");
    }
}

#[test]
fn ttls_are_copied_set_and_lowered() {
    let pad = Pad::default();
    let mpls = || vec![Field::EthType(0x8847)];
    for (name, place) in [("TCP over IPv4", 18 + 8), ("UDP over IPv6", 18 + 7)] {
        let plain = kind(name);
        let push = vec![Action::PushMpls(0x8847, Pad::default()), Action::SetMplsTtl(9, Pad::default())];
        let frame = done(&plain.frame, plain.said[0][..1].to_vec(), push).expect("it fits");
        assert_eq!(frame[17], 9);
        let inwards = done(&frame, mpls(), vec![Action::CopyTtlIn(pad)]).expect("it fits");
        assert_eq!((inwards[17], inwards[place]), (9, 9), "{name}");
        let kind = u16::from_be_bytes([plain.frame[12], plain.frame[13]]);
        let popped = done(&inwards, mpls(), vec![Action::PopMpls(kind, Pad::default())]).expect("it fits");
        assert!(checksums_are_right(&popped), "{name}");
        let outwards = done(&frame, mpls(), vec![Action::CopyTtlOut(pad)]).expect("it fits");
        assert_eq!(outwards[17], plain.frame[place - 4], "{name}");
        let lower = vec![Action::DecMplsTtl(pad), Action::DecMplsTtl(pad)];
        assert_eq!(done(&frame, mpls(), lower).expect("it fits")[17], 7);
    }
    // Copies from one label to the next.
    let tcp = kind("TCP over IPv4");
    let push = |ttl| [Action::PushMpls(0x8847, Pad::default()), Action::SetMplsTtl(ttl, Pad::default())];
    let two = done(&tcp.frame, tcp.said[0][..1].to_vec(), [push(5), push(80)].concat()).expect("it fits");
    let ttls = |frame: Vec<u8>| (frame[17], frame[21]);
    assert_eq!(ttls(two.clone()), (80, 5));
    assert_eq!(ttls(done(&two, mpls(), vec![Action::CopyTtlIn(pad)]).expect("it fits")), (80, 80));
    assert_eq!(ttls(done(&two, mpls(), vec![Action::CopyTtlOut(pad)]).expect("it fits")), (5, 5));
}

/// The customer's frame is unchanged; a backbone VLAN tag stays when the service tag is popped
/// (section 5.12).
#[test]
fn service_tags_are_pushed_and_popped() {
    let push = || Action::PushPbb(0x88e7, Pad::default());
    for (name, priority) in [("TCP over IPv4", 0), ("UDP over tagged IPv4", 0x60), ("ARP", 0)] {
        let kind = kind(name);
        let said = || kind.said[0][..1].to_vec();
        let once = done(&kind.frame, said(), vec![push()]).expect("it fits");
        let tag = [0x88, 0xe7, priority, 0, 0, 0];
        assert_eq!(once, [&kind.frame[..12], &tag, &kind.frame].concat(), "{name}");
        let service = Action::SetField(Field::PbbIsid(Masked::exact(U24::new(0x010203))));
        let outer = Action::SetField(Field::EthDst(Masked::exact(Mac([6; 6]))));
        let twice = done(&kind.frame, said(), vec![push(), service, push(), outer]).expect("it fits");
        let pbb = || vec![Field::EthType(0x88e7)];
        let key = FlowKey::new(&twice, 1);
        assert_eq!(key.get(FieldId::PbbIsid), Some(0x010203), "copied: {name}");
        let popped = done(&twice, pbb(), vec![Action::PopPbb(Pad::default())]).expect("it fits");
        let tag = [0x88, 0xe7, priority, 1, 2, 3];
        assert_eq!(popped, [&kind.frame[..12], &tag, &kind.frame].concat(), "{name}");
        let vlan = Action::SetField(Field::VlanVid(Masked::exact(0x1077)));
        let tagged =
            done(&popped, pbb(), vec![Action::PushVlan(0x88a8, Pad::default()), vlan]).expect("fits");
        let untied = done(&tagged, pbb(), vec![Action::PopPbb(Pad::default())]).expect("it fits");
        assert_eq!(
            untied,
            [&kind.frame[..12], &[0x88, 0xa8, 0, 0x77], &kind.frame[12..]].concat(),
            "{name}: the backbone's tag stays"
        );
    }
}

/// A fragment lacks part of the data under SCTP's checksum: it is dropped rather than sent with a
/// wrong one.
#[test]
fn what_cannot_be_done_right_is_not_sent() {
    let mut kind = kind("SCTP over IPv4");
    kind.frame[20] |= 0x20;
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    let actions = vec![Action::SetField(Field::SctpDst(5)), Action::output(2)];
    let said = vec![Field::EthType(0x0800), Field::IpProto(132)];
    p.flow_mod13(&flow(said, vec![Instruction::ApplyActions(Pad::default(), actions)]), T0).expect("it fits");
    assert_eq!(p.process(&kind.frame, 1, T0), Some(Vec::new()));
}

/// TUNNEL_ID is kept from table to table and changes no byte of the packet; a bucket has its own.
#[test]
fn a_tunnel_id_is_carried_along() {
    let mut p = Pipeline::new(2, 10, vec![1, 2, 3]).with_cache(16);
    let set = |id| Action::SetField(Field::TunnelId(Masked::exact(id)));
    let apply = |actions| Instruction::ApplyActions(Pad::default(), actions);
    let bucket = of13::Bucket {
        weight: 0,
        watch_port: of13::port::ANY,
        watch_group: of13::group::ANY,
        pad: Pad::default(),
        actions: vec![set(9), Action::output(3)],
    };
    let group =
        of13::GroupMod { command: 0, kind: 0, pad: Pad::default(), group_id: 1, buckets: vec![bucket] };
    p.group_mod(&group, 10, T0).expect("good");
    let goto = Instruction::GotoTable(1, Pad::default());
    p.flow_mod13(&flow(vec![], vec![apply(vec![set(5), Action::Group(1)]), goto]), T0).expect("good");
    let second = |id, port| of13::FlowMod {
        table_id: 1,
        ..flow(vec![Field::TunnelId(Masked::exact(id))], vec![apply(vec![Action::output(port)])])
    };
    p.flow_mod13(&second(5, 2), T0).expect("good");
    p.flow_mod13(&second(9, 1), T0).expect("good");
    for _ in 0..2 {
        let sent = p.process(&tcp_frame(), 1, T0).expect("a flow");
        assert_eq!(sent.iter().map(|s| s.port).collect::<Vec<_>>(), [3, 2]);
        assert!(sent.iter().all(|s| s.frame == tcp_frame()));
    }
}

/// Every action, with a value derived from a number.
fn every_op(n: u64) -> Vec<tandem_openflow::table::Op> {
    use tandem_openflow::table::Op;
    let bytes = n.to_be_bytes();
    let [b, .., a] = bytes;
    let (short, long) = (n as u16, n as u32);
    let mac = [a, b, a, b, a, b];
    vec![
        Op::SetEthDst(mac),
        Op::SetEthSrc(mac),
        Op::SetEthType(short),
        Op::SetVlanVid(short & 0xfff),
        Op::SetVlanPcp(a & 7),
        Op::PushVlan(0x8100),
        Op::PopVlan,
        Op::SetIpProto(a),
        Op::SetIpv4Src(long),
        Op::SetIpv4Dst(long),
        Op::SetIpv6SrcHigh(bytes),
        Op::SetIpv6SrcLow(bytes),
        Op::SetIpv6DstHigh(bytes),
        Op::SetIpv6DstLow(bytes),
        Op::SetIpv6Flabel(long & 0xf_ffff),
        Op::SetDscp(a & 63),
        Op::SetEcn(a & 3),
        Op::SetL4Src(short),
        Op::SetL4Dst(short),
        Op::SetSctpSrc(short),
        Op::SetSctpDst(short),
        Op::SetIcmpType(a),
        Op::SetIcmpCode(a),
        Op::SetIcmpv6Type(a),
        Op::SetIcmpv6Code(a),
        Op::SetNdTargetHigh(bytes),
        Op::SetNdTargetLow(bytes),
        Op::SetNdSll(mac),
        Op::SetNdTll(mac),
        Op::SetArpOp(short),
        Op::SetArpSpa(long),
        Op::SetArpTpa(long),
        Op::SetArpSha(mac),
        Op::SetArpTha(mac),
        Op::DecTtl,
        Op::SetTtl(a),
        Op::PushMpls(0x8847),
        Op::PopMpls(short),
        Op::SetMplsLabel(long & 0xf_ffff),
        Op::SetMplsTc(a & 7),
        Op::SetMplsBos(a & 1),
        Op::DecMplsTtl,
        Op::SetMplsTtl(a),
        Op::CopyTtlOut,
        Op::CopyTtlIn,
        Op::PushPbb(0x88e7),
        Op::PopPbb,
        Op::SetPbbIsid(long & 0xff_ffff),
        Op::SetTunnelId(bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// On truncated and modified frames no list of actions panics, and checksums that are right
    /// stay right as far as the frame has them.
    #[test]
    fn no_frame_is_too_broken(
        kind in 0usize..19, changes in vec((0usize..90, any::<u8>()), 0..4), cut in prop::option::of(0usize..90),
        ops in vec((0usize..49, any::<u64>()), 0..8),
    ) {
        let mut frame = kinds().swap_remove(kind).frame;
        for (at, byte) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.truncate(cut.unwrap_or(usize::MAX));
        let ops: Vec<_> = ops.into_iter().map(|(which, n)| every_op(n).swap_remove(which)).collect();
        let grows = ops.iter().filter(|op| op.rewrites()).count() * 18 + frame.len();
        let mut p = Pipeline::new(1, 10, vec![1, 2]);
        let mut sent: Vec<tandem_openflow::table::Sent> = Vec::new();
        p.apply(&[ops, vec![tandem_openflow::table::Op::Output(2)]].concat(), &mut frame, 1, T0, &mut sent);
        prop_assert!(sent.iter().all(|s| s.frame.len() <= grows));
    }
}
