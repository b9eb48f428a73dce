//! Settings that controllers make at a switch: its configuration and its tables' features; and the
//! pipeline fields of a PACKET_IN.

mod bench;
mod frames;

use bench::{Bench, T0, flow13};
use tandem_openflow::of13::multipart::{MultipartRequest, ReplyBody, RequestBody};
use tandem_openflow::of13::table_features::{List, TableFeatures};
use tandem_openflow::of13::{self, Action, Field, Instruction, Masked, SwitchConfig};
use tandem_openflow::wire::{Bytes, Pad, Text};
use tandem_openflow::{AnyMessage, header, of10};

fn frame(name: &str) -> Vec<u8> {
    frames::kinds().into_iter().find(|k| k.name == name).expect("there is one").frame
}

fn send(port: u32) -> of13::FlowMod {
    flow13(1, vec![Action::output(port)])
}

/// The flags of ofp_switch_config (OF 1.3.5 section 7.3.2): fragments are dropped when a controller
/// sets that, and never reassembled.
#[test]
fn fragments_are_dropped_where_a_controller_says_so() {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    bench.add13(conn, send(2));
    let (mut first, mut later) = (frame("UDP over IPv4"), frame("UDP over IPv4"));
    first[20] |= 0x20;
    later[21] = 9;
    // An IPv6 fragment header before UDP; an atomic fragment (RFC 6946) is not a fragment.
    let whole6 = frame("UDP over IPv6");
    let six = |place: u16| {
        let [p0, p1] = place.to_be_bytes();
        let mut frame = whole6.clone();
        frame[20] = 44;
        frame.splice(54..54, [17, 0, p0, p1, 0, 0, 0, 1]);
        frame[19] += 8;
        frame
    };
    let parts = [first, later, six(1), six(8)];
    let whole = [frame("UDP over IPv4"), six(0), frame("ARP")];
    let all = |bench: &mut Bench| -> (usize, usize) {
        let through =
            |bench: &mut Bench, list: &[Vec<u8>]| list.iter().map(|f| bench.packet(1, f).len()).sum();
        (through(bench, &parts), through(bench, &whole))
    };
    let set = |flags| of13::Message::SetConfig(SwitchConfig { flags, miss_send_len: 100 });
    let flags = |bench: &mut Bench| match &bench.ask13(conn, of13::Message::GetConfigRequest)[..] {
        [of13::Message::GetConfigReply(config)] => config.flags,
        other => panic!("{other:?}"),
    };
    assert_eq!((all(&mut bench), flags(&mut bench)), ((4, 3), 0));
    assert_eq!(bench.ask13(conn, set(1)), []);
    assert_eq!((all(&mut bench), flags(&mut bench)), ((0, 3), 1));
    // OFPC_FRAG_REASM is not offered, and unknown flags are invalid: nothing changes
    // (OFPSCFC_BAD_FLAGS).
    assert_eq!(bench.error13(conn, set(2)), (10, 0));
    assert_eq!(bench.error13(conn, set(8)), (10, 0));
    assert_eq!((all(&mut bench), flags(&mut bench)), ((0, 3), 1));
    assert_eq!(bench.ask13(conn, set(0)), []);
    assert_eq!(all(&mut bench), (4, 3));

    let old = bench.connect(header::V10);
    let set = |flags| of10::Message::SetConfig(of10::SwitchConfig { flags, miss_send_len: 100 });
    for (flags, through) in [(1, 0), (2, 0), (0, 4)] {
        assert_eq!(bench.ask(old, AnyMessage::V10(set(flags))), []);
        assert_eq!(all(&mut bench), (through, 3), "{flags}: 1.0 has no error for what cannot be done");
    }
}

/// The match of a PACKET_IN has the metadata that tables wrote and the TUNNEL_ID (OF 1.3.5 section
/// 7.4.1).
#[test]
fn a_packet_in_says_what_the_pipeline_knows() {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    let apply = |actions| Instruction::ApplyActions(Pad::default(), actions);
    let tunnel = |id| Action::SetField(Field::TunnelId(Masked::exact(id)));
    let to_controller = || Action::output(of13::port::CONTROLLER);
    let metadata =
        |value| Instruction::WriteMetadata { pad: Pad::default(), metadata: value, mask: u64::MAX };
    let second = of13::FlowMod { table_id: 1, ..flow13(1, vec![to_controller()]) };
    bench.add13(conn, second);
    let cases = [
        (vec![apply(vec![to_controller()])], vec![Field::InPort(3)]),
        (
            vec![apply(vec![tunnel(5), to_controller()])],
            vec![Field::InPort(3), Field::TunnelId(Masked::exact(5))],
        ),
        (
            vec![apply(vec![tunnel(5)]), metadata(7), Instruction::GotoTable(1, Pad::default())],
            vec![Field::InPort(3), Field::Metadata(Masked::exact(7)), Field::TunnelId(Masked::exact(5))],
        ),
    ];
    for (instructions, wanted) in cases {
        bench.add13(conn, of13::FlowMod { instructions, ..send(2) });
        // First by the tables, then by the flow cache.
        for _ in 0..2 {
            bench.packet(3, &frame("ARP"));
            let [(_, _, AnyMessage::V13(of13::Message::PacketIn(told)))] = &bench.heard()[..] else {
                panic!("one PACKET_IN")
            };
            assert_eq!((&told.matching.fields, &told.data.0), (&wanted, &frame("ARP")));
        }
    }
}

/// A PACKET_OUT is refused, and its packet not sent, if the packet lacks the fields of an action.
#[test]
fn a_packet_out_is_done_or_refused() {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    let out = |frame: &str, field: Field| {
        of13::Message::PacketOut(of13::PacketOut {
            buffer_id: u32::MAX,
            in_port: of13::port::CONTROLLER,
            pad: Pad::default(),
            actions: vec![Action::SetField(field), Action::output(2)],
            data: Bytes(self::frame(frame)),
        })
    };
    for (name, field) in [
        ("UDP over IPv4", Field::TcpDst(1)),
        ("ARP", Field::UdpDst(1)),
        ("TCP over IPv6", Field::Ipv4Dst(Masked::exact([10, 0, 0, 9].into()))),
        ("UDP over IPv4", Field::VlanPcp(1)),
    ] {
        assert_eq!(bench.error13(conn, out(name, field.clone())), (2, 10), "{field:?} of {name}");
        assert_eq!(bench.world.frames, []);
    }
    assert_eq!(bench.ask13(conn, out("TCP over IPv6", Field::TcpDst(1))), []);
    assert_eq!(std::mem::take(&mut bench.world.frames).len(), 1);
}

fn features(
    bench: &mut Bench,
    conn: tandem_openflow::switch::ConnId,
    set: Vec<TableFeatures>,
) -> Vec<of13::Message> {
    let body = RequestBody::TableFeatures(set);
    bench.ask13(conn, of13::Message::MultipartRequest(MultipartRequest::new(body)))
}

fn told(answers: Vec<of13::Message>) -> Vec<TableFeatures> {
    let of = |m| match m {
        of13::Message::MultipartReply(reply) => match reply.body {
            ReplyBody::TableFeatures(list) => list,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    answers.into_iter().flat_map(of).collect()
}

/// A fixed pipeline (OF 1.3.5 section 7.3.5.5.1): requests may give tables other names and fewer
/// flows; all others have their error and change nothing.
#[test]
fn table_features_are_set_as_far_as_tables_allow() {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    let is = told(features(&mut bench, conn, Vec::new()));
    assert_eq!(is.len(), 3);
    let mut wanted = is.clone();
    wanted[1].name = Text::new("routes");
    wanted[1].max_entries = 1;
    wanted.swap(0, 2);
    // The order of a list has no meaning, and properties of the table-miss flow may be left out.
    wanted[0].properties.reverse();
    let List::Fields(fields) = &mut wanted[0].properties[0].list else { panic!("fields come last") };
    fields.reverse();
    let changed = told(features(&mut bench, conn, wanted));
    assert_eq!((changed[1].name, changed[1].max_entries), (Text::new("routes"), 1));
    assert_eq!((&changed[0], &changed[2]), (&is[0], &is[2]));
    assert_eq!(told(features(&mut bench, conn, Vec::new())), changed);
    bench.add13(conn, of13::FlowMod { table_id: 1, ..send(2) });
    let another = of13::FlowMod { table_id: 1, priority: 9, ..send(2) };
    assert_eq!(bench.error13(conn, of13::Message::FlowMod(another)), (5, 1), "it takes one flow");

    type Alter = fn(&mut Vec<TableFeatures>);
    let alter = |change: Alter| {
        let mut wanted = changed.clone();
        change(&mut wanted);
        wanted
    };
    let cases: [((u16, u16), Alter); 12] = [
        ((13, 0), |t| t[0].table_id = 9),
        ((13, 0), |t| t[0].table_id = 1),
        ((13, 1), |t| t[2].metadata_match = 1),
        ((13, 1), |t| t[2].metadata_write = 0),
        ((13, 2), |t| t[0].properties[0].kind = 0xfffe),
        ((13, 4), |t| t[0].max_entries = u32::MAX),
        ((13, 4), |t| t[0].max_entries = 0),
        ((13, 4), |t| t[0].config = 4),
        ((13, 4), |t| drop(t[0].properties.pop())),
        ((13, 4), |t| {
            let first = t[0].properties[0].clone();
            t[0].properties.push(first);
        }),
        ((13, 4), |t| {
            let List::Instructions(list) = &mut t[0].properties[0].list else {
                panic!("instructions come first")
            };
            list.pop();
        }),
        ((13, 5), |t| drop(t.pop())),
    ];
    for (at, (wanted, change)) in cases.into_iter().enumerate() {
        let answers = features(&mut bench, conn, alter(change));
        let [of13::Message::Error(e)] = &answers[..] else { panic!("case {at}: no error but {answers:?}") };
        assert_eq!((e.kind, e.code), wanted, "case {at}");
    }
    assert_eq!(told(features(&mut bench, conn, Vec::new())), changed, "nothing has changed");
    assert_eq!(bench.now, T0);
}

/// Every action and every field that the table features list works, and all others are refused.
#[test]
fn table_features_list_exactly_what_works() {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    let is = told(features(&mut bench, conn, Vec::new()));
    let of =
        |kind: u16| is[0].properties.iter().find(|p| p.kind == kind).map(|p| p.list.clone()).expect("told");
    let (List::Actions(actions), List::Fields(set)) = (of(6), of(14)) else { panic!("lists") };
    let pad = Pad::<4>::default();
    let samples = vec![
        Action::output(2),
        Action::CopyTtlOut(pad),
        Action::CopyTtlIn(pad),
        Action::SetMplsTtl(1, Pad::default()),
        Action::DecMplsTtl(pad),
        Action::PushVlan(0x8100, Pad::default()),
        Action::PopVlan(pad),
        Action::PushMpls(0x8847, Pad::default()),
        Action::PopMpls(0x0800, Pad::default()),
        Action::SetQueue(1),
        Action::SetNwTtl(1, Pad::default()),
        Action::DecNwTtl(pad),
        Action::SetField(Field::VlanPcp(1)),
        Action::PushPbb(0x88e7, Pad::default()),
        Action::PopPbb(pad),
        Action::Experimenter { experimenter: 1, body: Bytes(vec![0; 8]) },
    ];
    for action in &samples {
        let listed = actions.iter().any(|c| c.kind == action.kind());
        let done = tandem_openflow::table::Op::from_of13(action).is_ok();
        assert_eq!(listed, done, "{action:?}");
    }
    let samples = samples.iter().map(Action::kind).chain([22]).collect::<std::collections::BTreeSet<_>>();
    assert!(actions.iter().all(|c| samples.contains(&c.kind)), "each has a sample here");
    // A value of zeros for each of the 40 fields, with OFPVID_PRESENT for the VLAN.
    for (number, length) in (0u8..40).zip(FIELD_LENGTHS) {
        let mut bytes = vec![0x80, 0, number << 1, length];
        bytes.resize(4 + usize::from(length), 0);
        if number == 6 {
            bytes[4] = 0x10;
        }
        let field = tandem_openflow::wire::Reader::new(&bytes, "field").get::<Field>().expect("a field");
        let done = tandem_openflow::table::Op::from_of13(&Action::SetField(field)).is_ok();
        assert_eq!(set.iter().any(|id| id.number == number), done, "field {number}");
    }
}

/// Bytes of each field's value (OF 1.3.5 table 12).
const FIELD_LENGTHS: [u8; 40] = [
    4, 4, 8, 6, 6, 2, 2, 1, 1, 1, 1, 4, 4, 2, 2, 2, 2, 2, 2, 1, 1, 2, 4, 4, 6, 6, 16, 16, 4, 1, 1, 16, 6, 6,
    4, 1, 1, 3, 8, 2,
];
