//! `tests-1.3/groups.py`: the group table's messages and its effects on packets (OF 1.3.5 sections
//! 5.6, 6.5 and 7.3.4.2). Further effects on packets are tested in `groups_and_meters.rs`.

use super::bench::{Bench, flow13};
use super::frame;
use std::collections::BTreeSet;
use tandem_openflow::header;
use tandem_openflow::of13::multipart::{MultipartRequest, ReplyBody, RequestBody};
use tandem_openflow::of13::stats::GroupStatsRequest;
use tandem_openflow::of13::{Action, Bucket, GroupMod, Message, group, port};
use tandem_openflow::switch::ConnId;
use tandem_openflow::wire::Pad;

const ADD: u16 = 0;
const MODIFY: u16 = 1;
const DELETE: u16 = 2;
const ALL: u8 = 0;
const SELECT: u8 = 1;
const INDIRECT: u8 = 2;
/// OFPGMFC codes.
const GROUP_EXISTS: (u16, u16) = (6, 0);
const INVALID_GROUP: (u16, u16) = (6, 1);
const LOOP: (u16, u16) = (6, 7);
const UNKNOWN_GROUP: (u16, u16) = (6, 8);

fn bucket(weight: u16, action: Action) -> Bucket {
    Bucket {
        weight,
        watch_port: port::ANY,
        watch_group: group::ANY,
        pad: Pad::default(),
        actions: vec![action],
    }
}

fn out(to: u32) -> Bucket {
    bucket(0, Action::output(to))
}

fn group_mod(command: u16, kind: u8, group_id: u32, buckets: Vec<Bucket>) -> Message {
    Message::GroupMod(GroupMod { command, kind, pad: Pad::default(), group_id, buckets })
}

fn bench() -> (Bench, ConnId) {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    (bench, conn)
}

fn ask(bench: &mut Bench, conn: ConnId, body: RequestBody) -> ReplyBody {
    match bench.ask13(conn, Message::MultipartRequest(MultipartRequest::new(body))).remove(0) {
        Message::MultipartReply(reply) => reply.body,
        other => panic!("{other:?}"),
    }
}

/// All groups: number, type and buckets.
fn described(bench: &mut Bench, conn: ConnId) -> Vec<(u32, u8, Vec<Bucket>)> {
    match ask(bench, conn, RequestBody::GroupDesc) {
        ReplyBody::GroupDesc(list) => list.into_iter().map(|g| (g.group_id, g.kind, g.buckets)).collect(),
        other => panic!("{other:?}"),
    }
}

/// `GroupAdd`, `GroupAddMaxID`, `GroupModify`, `GroupModifyEmpty`, `GroupDescStats`,
/// `GroupDeleteExisting`, `GroupDeleteNonexisting`, `GroupDeleteAll`.
#[test]
fn groups_are_added_changed_described_and_deleted() {
    let (mut bench, conn) = bench();
    for (id, buckets) in [(0, vec![out(1)]), (group::MAX, vec![out(1), out(2)])] {
        assert_eq!(bench.ask13(conn, group_mod(ADD, ALL, id, buckets)), []);
    }
    let weights: Vec<Bucket> = [(1, 1), (2, 2), (3, 3)].map(|(w, p)| bucket(w, Action::output(p))).to_vec();
    assert_eq!(bench.ask13(conn, group_mod(ADD, SELECT, 1, weights.clone())), []);
    let wanted =
        vec![(0, ALL, vec![out(1)]), (1, SELECT, weights.clone()), (group::MAX, ALL, vec![out(1), out(2)])];
    assert_eq!(described(&mut bench, conn), wanted);
    assert_eq!(bench.ask13(conn, group_mod(MODIFY, ALL, 1, vec![out(3)])), []);
    assert_eq!(described(&mut bench, conn)[1], (1, ALL, vec![out(3)]));
    assert_eq!(bench.ask13(conn, group_mod(MODIFY, ALL, 1, Vec::new())), []);
    assert_eq!(described(&mut bench, conn)[1], (1, ALL, Vec::new()));
    assert_eq!(bench.ask13(conn, group_mod(DELETE, ALL, 0, Vec::new())), []);
    assert_eq!(
        bench.ask13(conn, group_mod(DELETE, ALL, 0, Vec::new())),
        [],
        "it is gone, and that is no fault"
    );
    assert_eq!(described(&mut bench, conn).len(), 2);
    assert_eq!(bench.ask13(conn, group_mod(DELETE, ALL, group::ALL, Vec::new())), []);
    assert_eq!(described(&mut bench, conn), []);
}

/// `GroupAddInvalidAction`, `GroupAddExisting`, `GroupAddInvalidID`, `GroupAddMinimumInvalidID`,
/// `GroupModifyNonexisting`, `GroupModifyLoop`, `GroupModifyInvalidID`, `GroupAddAllWeight`,
/// `GroupAddIndirectWeight`, `GroupAddIndirectBuckets`, `GroupAddSelectNoWeight`.
#[test]
fn what_is_no_group_has_its_error() {
    let (mut bench, conn) = bench();
    assert_eq!(bench.ask13(conn, group_mod(ADD, ALL, 1, vec![out(1)])), []);
    let chain = vec![bucket(0, Action::Group(1))];
    assert_eq!(bench.ask13(conn, group_mod(ADD, ALL, 2, chain)), []);
    let back = vec![bucket(0, Action::Group(2))];
    for (message, wanted) in [
        // OFPBAC_BAD_OUT_PORT.
        (group_mod(ADD, ALL, 3, vec![out(port::ANY)]), (2, 4)),
        (group_mod(ADD, ALL, 1, vec![out(2)]), GROUP_EXISTS),
        (group_mod(ADD, ALL, group::ALL, vec![out(2)]), INVALID_GROUP),
        (group_mod(ADD, ALL, group::MAX + 1, vec![out(2)]), INVALID_GROUP),
        (group_mod(MODIFY, ALL, 3, vec![out(2)]), UNKNOWN_GROUP),
        (group_mod(MODIFY, ALL, 1, back), LOOP),
        (group_mod(MODIFY, ALL, group::ALL, vec![out(2)]), INVALID_GROUP),
        (
            group_mod(ADD, ALL, 3, vec![bucket(1, Action::output(1)), bucket(2, Action::output(2))]),
            INVALID_GROUP,
        ),
        (group_mod(ADD, INDIRECT, 3, vec![bucket(1, Action::output(1))]), INVALID_GROUP),
        (group_mod(ADD, INDIRECT, 3, vec![out(1), out(2)]), INVALID_GROUP),
        (group_mod(ADD, INDIRECT, 3, Vec::new()), INVALID_GROUP),
        (group_mod(ADD, SELECT, 3, vec![out(1), out(2)]), INVALID_GROUP),
    ] {
        assert_eq!(bench.error13(conn, message.clone()), wanted, "{message:?}");
    }
    assert_eq!(described(&mut bench, conn).len(), 2, "nothing has changed");
}

/// `GroupStats`, `GroupStatsAll`, `GroupStatsNonexistent`.
#[test]
fn groups_count_their_packets_for_each_bucket() {
    let (mut bench, conn) = bench();
    for id in 1..=2 {
        assert_eq!(bench.ask13(conn, group_mod(ADD, ALL, id, vec![out(2), out(3)])), []);
    }
    let apply = |id, priority, in_port| {
        let matching =
            tandem_openflow::of13::Match { fields: vec![tandem_openflow::of13::Field::InPort(in_port)] };
        tandem_openflow::of13::FlowMod { matching, ..flow13(priority, vec![Action::Group(id)]) }
    };
    bench.add13(conn, apply(1, 1, 1));
    bench.add13(conn, apply(2, 2, 2));
    let packet = frame("TCP over IPv4", &[]);
    let length = packet.len() as u64;
    for _ in 0..3 {
        assert_eq!(bench.packet(1, &packet).len(), 2);
    }
    assert_eq!(bench.packet(2, &packet).len(), 1, "no bucket sends back where it came from");
    let mut counts = |id| {
        let asked = RequestBody::Group(GroupStatsRequest { group_id: id, pad: Pad::default() });
        let ReplyBody::Group(list) = ask(&mut bench, conn, asked) else { panic!("no groups") };
        let of = |g: &tandem_openflow::of13::stats::GroupStats| {
            (
                g.group_id,
                g.packet_count,
                g.byte_count,
                g.buckets.iter().map(|b| b.packet_count).collect::<Vec<_>>(),
            )
        };
        list.iter().map(of).collect::<Vec<_>>()
    };
    let first = (1, 3, 3 * length, vec![3, 3]);
    let second = (2, 1, length, vec![1, 1]);
    assert_eq!(counts(1), std::slice::from_ref(&first));
    assert_eq!(counts(group::ALL), [first, second]);
    assert_eq!(counts(9), []);
}

/// `GroupFlowSelect`, `SelectFwdEmpty`, `SelectFwdSingle`, `SelectFwdSpread`.
#[test]
fn select_groups_forward_to_one_bucket_each_flow() {
    let (mut bench, conn) = bench();
    let outs = |ports: &[u32]| ports.iter().map(|p| bucket(1, Action::output(*p))).collect::<Vec<_>>();
    assert_eq!(bench.ask13(conn, group_mod(ADD, SELECT, 1, Vec::new())), []);
    bench.add13(conn, flow13(1, vec![Action::Group(1)]));
    let with_port = |port: u16| frame("TCP over IPv4", &[(34, &port.to_be_bytes())]);
    assert_eq!(bench.packet(1, &with_port(1)), []);
    assert_eq!(bench.ask13(conn, group_mod(MODIFY, SELECT, 1, outs(&[2]))), []);
    assert_eq!(bench.packet(1, &with_port(1)).iter().map(|(p, _)| *p).collect::<Vec<_>>(), [2]);
    assert_eq!(bench.ask13(conn, group_mod(MODIFY, SELECT, 1, outs(&[2, 3]))), []);
    let mut used = BTreeSet::new();
    for port in 0..100 {
        let to = bench.packet(1, &with_port(port));
        assert_eq!((to.len(), &to), (1, &bench.packet(1, &with_port(port))));
        used.insert(to[0].0);
    }
    assert_eq!(used, BTreeSet::from([2, 3]));
    // Flows are selected by the group that they send to.
    let stats = |id| tandem_openflow::of13::stats::FlowStatsRequest {
        table_id: 0xff,
        pad: Pad::default(),
        out_port: port::ANY,
        out_group: id,
        pad2: Pad::default(),
        cookie: 0,
        cookie_mask: 0,
        matching: tandem_openflow::of13::Match::any(),
    };
    for (id, wanted) in [(1, 1), (2, 0), (group::ANY, 1)] {
        let ReplyBody::Flow(flows) = ask(&mut bench, conn, RequestBody::Flow(stats(id))) else {
            panic!("no flows")
        };
        assert_eq!(flows.len(), wanted, "group {id}");
    }
}
