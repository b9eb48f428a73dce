//! FLOW_MODs and statistics requests of both versions on real tables, as the specification defines
//! them.

use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::error::OfErrorCode;
use tandem_openflow::of10::matching::wildcard;
use tandem_openflow::of13::flow::{ALL_TABLES, command, flag};
use tandem_openflow::of13::{Field, Instruction, Masked};
use tandem_openflow::table::mod_handlers::{removed10, removed13};
use tandem_openflow::table::{Pipeline, RemovedReason, Sent};
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{AnyMessage, of10, of13};

const T0: Time = Time::ZERO;

fn add10(in_port: u16, priority: u16, out: u16) -> of10::FlowMod {
    of10::FlowMod {
        matching: of10::Match {
            wildcards: wildcard::ALL & !wildcard::IN_PORT,
            in_port,
            ..of10::Match::any()
        },
        cookie: 7,
        command: of10::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: of10::flow::NO_BUFFER,
        out_port: of10::port::NONE,
        flags: 0,
        actions: vec![of10::Action::Output { port: out, max_len: 0 }],
    }
}

fn apply(port: u32) -> Vec<Instruction> {
    vec![Instruction::ApplyActions(Pad::default(), vec![of13::Action::output(port)])]
}

fn add13(in_port: u32, priority: u16, out: u32) -> of13::FlowMod {
    of13::FlowMod {
        cookie: 7,
        cookie_mask: 0,
        table_id: 0,
        command: command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: of13::flow::NO_BUFFER,
        out_port: of13::port::ANY,
        out_group: of13::group::ANY,
        flags: 0,
        pad: Pad::default(),
        matching: of13::Match { fields: vec![Field::InPort(in_port)] },
        instructions: apply(out),
    }
}

/// The ports that a packet from this port is sent to.
fn out_of(p: &mut Pipeline, in_port: u32) -> Option<Vec<u32>> {
    p.process(&[0; 60], in_port, T0).map(|sent| sent.iter().map(|s: &Sent| s.port).collect())
}

/// Priority, cookie and packets of every flow.
fn flows(p: &Pipeline) -> Vec<(u16, u64, u64)> {
    p.tables.iter().flat_map(|t| t.iter()).map(|f| (f.priority, f.cookie, f.packets)).collect()
}

fn of_error(done: Result<impl std::fmt::Debug, tandem_openflow::table::Refusal>) -> (u16, u16) {
    let OfErrorCode { kind, code } = done.expect_err("it should be refused").of_error;
    (kind, code)
}

#[test]
fn an_identical_addition_keeps_counters_in_1_3_unless_told_and_clears_them_in_1_0() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    p.flow_mod13(&add13(1, 5, 2), T0).expect("good");
    assert_eq!(out_of(&mut p, 1), Some(vec![2]));
    p.flow_mod13(&add13(1, 5, 3), T0).expect("good");
    assert_eq!(flows(&p), [(5, 7, 1)], "OF 1.3.5 section 6.4: counters are copied from the replaced flow");
    assert_eq!(out_of(&mut p, 1), Some(vec![3]));
    p.flow_mod13(&of13::FlowMod { flags: flag::RESET_COUNTS, ..add13(1, 5, 3) }, T0).expect("good");
    assert_eq!(flows(&p), [(5, 7, 0)]);

    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    p.flow_mod10(&add10(1, 5, 2), T0).expect("good");
    assert_eq!(out_of(&mut p, 1), Some(vec![2]));
    p.flow_mod10(&add10(1, 5, 3), T0).expect("good");
    assert_eq!(flows(&p), [(5, 7, 0)], "OF 1.0 section 4.6: removed with its counters");
}

#[test]
fn a_change_of_nothing_adds_in_1_0_and_does_nothing_in_1_3() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    for (at, command) in
        [of10::flow::command::MODIFY, of10::flow::command::MODIFY_STRICT].into_iter().enumerate()
    {
        let m = of10::FlowMod { command, ..add10(1 + at as u16, 5, 3) };
        assert_eq!(p.flow_mod10(&m, T0), Ok(Vec::new()));
    }
    assert_eq!(flows(&p), [(5, 7, 0), (5, 7, 0)]);
    out_of(&mut p, 1);
    // A modification keeps counters and cookie; a non-strict one ignores the priority.
    let m = of10::FlowMod { command: of10::flow::command::MODIFY, cookie: 8, ..add10(1, 77, 2) };
    p.flow_mod10(&m, T0).expect("good");
    assert_eq!(flows(&p), [(5, 7, 1), (5, 7, 0)]);
    assert_eq!(out_of(&mut p, 1), Some(vec![2]));

    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    for command in [command::MODIFY, command::MODIFY_STRICT] {
        p.flow_mod13(&of13::FlowMod { command, ..add13(1, 5, 2) }, T0).expect("no error");
    }
    assert_eq!(flows(&p), []);
    p.flow_mod13(&add13(1, 5, 2), T0).expect("good");
    out_of(&mut p, 1);
    // In 1.3 the cookie is a filter, and RESET_COUNTS also applies to modifications.
    let change = of13::FlowMod { command: command::MODIFY, ..add13(1, 0, 3) };
    p.flow_mod13(&of13::FlowMod { cookie: 8, cookie_mask: u64::MAX, ..change.clone() }, T0).expect("good");
    assert_eq!(out_of(&mut p, 1), Some(vec![2]), "another cookie");
    p.flow_mod13(&change, T0).expect("good");
    assert_eq!((out_of(&mut p, 1), flows(&p)), (Some(vec![3]), vec![(5, 7, 3)]));
    p.flow_mod13(&of13::FlowMod { flags: flag::RESET_COUNTS, ..change }, T0).expect("good");
    assert_eq!(flows(&p), [(5, 7, 0)]);
}

#[test]
fn deletions_filter_by_table_cookie_and_port_and_tell_who_asked() {
    let fill = || {
        let mut p = Pipeline::new(2, 10, vec![1, 2, 3]);
        let told = of13::FlowMod { flags: flag::SEND_FLOW_REM, ..add13(1, 5, 2) };
        p.flow_mod13(&told, T0).expect("good");
        p.flow_mod13(&of13::FlowMod { cookie: 0x70, table_id: 1, ..add13(1, 6, 3) }, T0).expect("good");
        p
    };
    let delete = of13::FlowMod { command: command::DELETE, table_id: ALL_TABLES, ..add13(1, 0, 9) };
    let mut p = fill();
    let removed = p.flow_mod13(&delete, Time::from_secs(3)).expect("good");
    assert_eq!((flows(&p).len(), removed.len()), (0, 1), "both go, one wanted to be told");
    let message = removed13(&removed[0], Time::from_secs(3)).expect("said in 1.3");
    assert_eq!(
        (message.table_id, message.priority, message.reason, message.duration_sec, message.cookie),
        (0, 5, 2, 3, 7)
    );
    assert_eq!(message.matching.fields, [Field::InPort(1)]);
    assert_eq!(removed10(&removed[0], T0), None, "1.0 has no words for what was said in 1.3");

    let left = |m: of13::FlowMod| {
        let mut p = fill();
        p.flow_mod13(&m, T0).expect("good");
        flows(&p).iter().map(|f| f.0).collect::<Vec<_>>()
    };
    assert_eq!(left(of13::FlowMod { table_id: 1, ..delete.clone() }), [5]);
    assert_eq!(left(of13::FlowMod { out_port: 3, ..delete.clone() }), [5]);
    assert_eq!(left(of13::FlowMod { cookie: 0x7f, cookie_mask: 0xf0, ..delete.clone() }), [5]);
    assert_eq!(left(of13::FlowMod { out_group: 1, ..delete.clone() }), [5, 6], "nothing sends to a group");
    let strict = of13::FlowMod { command: command::DELETE_STRICT, priority: 5, ..delete };
    assert_eq!(left(strict.clone()), [6]);
    assert_eq!(left(of13::FlowMod { priority: 4, ..strict.clone() }), [5, 6]);
    // The cookie filter, by which a deletion spares a flow of another controller with the same
    // match and priority.
    assert_eq!(left(of13::FlowMod { cookie: 8, cookie_mask: u64::MAX, ..strict }), [5, 6]);

    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    let m = of10::FlowMod { flags: of10::flow::flag::SEND_FLOW_REM, ..add10(1, 5, of10::port::CONTROLLER) };
    p.flow_mod10(&m, T0).expect("good");
    let delete = of10::FlowMod { command: of10::flow::command::DELETE, ..add10(1, 0, 9) };
    p.flow_mod10(&of10::FlowMod { out_port: 2, ..delete.clone() }, T0).expect("good");
    assert_eq!(flows(&p).len(), 1, "it does not send there");
    let removed =
        p.flow_mod10(&of10::FlowMod { out_port: of10::port::CONTROLLER, ..delete }, T0).expect("good");
    let message = removed10(&removed[0], Time::from_secs(2)).expect("said in 1.0");
    assert_eq!((message.reason, message.duration_sec, message.matching), (2, 2, m.matching));
}

#[test]
fn what_cannot_be_is_refused_with_its_type_and_code_and_changes_nothing() {
    let mut p = Pipeline::new(2, 1, vec![1, 2]);
    // The errors of OF 1.3.5 section 7.5.4, in the order of their types.
    let m = || add13(1, 5, 2);
    let group = Instruction::ApplyActions(Pad::default(), vec![of13::Action::Group(1)]);
    let act = |action| vec![Instruction::ApplyActions(Pad::default(), vec![action])];
    let with = |instructions| of13::FlowMod { instructions, ..m() };
    let matching = |fields| of13::FlowMod { matching: of13::Match { fields }, ..m() };
    let foreign = Field::Other { class: 0xffff, number: 1, has_mask: false, body: Bytes(vec![0; 4]) };
    let set = |field| with(act(of13::Action::SetField(field)));
    let cases = [
        (with(apply(0)), (2, 4)),
        (with(apply(of13::port::ANY)), (2, 4)),
        (with(act(of13::Action::PushVlan(0x9999, Pad::default()))), (2, 5)),
        (with(act(of13::Action::PushMpls(0x0800, Pad::default()))), (2, 5)),
        (with(act(of13::Action::PushPbb(0x8847, Pad::default()))), (2, 5)),
        (with(act(of13::Action::Experimenter { experimenter: 1, body: Bytes(vec![]) })), (2, 2)),
        (with(vec![group]), (2, 9)),
        (set(Field::Metadata(Masked::exact(1))), (2, 13)),
        (set(Field::InPort(1)), (2, 13)),
        (set(Field::InPhyPort(1)), (2, 13)),
        (set(Field::Ipv6Exthdr(Masked::exact(1))), (2, 13)),
        // OFPVID_PRESENT is not set (section 7.2.5).
        (set(Field::VlanVid(Masked::exact(5))), (2, 15)),
        (with(vec![Instruction::Meter(1)]), (12, 2)),
        (with([apply(1), apply(2)].concat()), (3, 1)),
        (with(vec![Instruction::GotoTable(0, Pad::default())]), (3, 2)),
        (with(vec![Instruction::GotoTable(2, Pad::default())]), (3, 2)),
        (with(vec![Instruction::Experimenter { experimenter: 1, body: Bytes(vec![]) }]), (3, 5)),
        (matching(vec![foreign]), (4, 6)),
        (matching(vec![Field::IpProto(6)]), (4, 9)),
        (matching(vec![Field::InPort(1), Field::InPort(1)]), (4, 10)),
        (of13::FlowMod { table_id: 2, ..m() }, (5, 2)),
        (of13::FlowMod { table_id: ALL_TABLES, ..m() }, (5, 2)),
        (of13::FlowMod { command: 9, ..m() }, (5, 6)),
        (of13::FlowMod { flags: 1 << 9, ..m() }, (5, 7)),
    ];
    for (message, wanted) in cases {
        assert_eq!(of_error(p.flow_mod13(&message, T0)), wanted, "{message:?}");
    }
    assert_eq!(flows(&p), []);
    p.flow_mod13(&m(), T0).expect("good");
    let overlap = of13::FlowMod { flags: flag::CHECK_OVERLAP, matching: of13::Match::any(), ..m() };
    assert_eq!(of_error(p.flow_mod13(&overlap, T0)), (5, 3));
    assert_eq!(of_error(p.flow_mod13(&add13(2, 5, 2), T0)), (5, 1), "the table is full");
    assert_eq!(flows(&p).len(), 1);

    // The errors of OF 1.0 section 5.4.4.
    let mut p = Pipeline::new(1, 1, vec![1, 2]);
    let m = || add10(1, 5, 2);
    let vendor = vec![of10::Action::Vendor { vendor: 1, body: Bytes(vec![]) }];
    let cases = [
        (of10::FlowMod { actions: vendor, ..m() }, (2, 2)),
        (add10(1, 5, 0), (2, 4)),
        (add10(1, 5, of10::port::NONE), (2, 4)),
        (of10::FlowMod { flags: of10::flow::flag::EMERG, ..m() }, (3, 0)),
        (of10::FlowMod { flags: of10::flow::flag::EMERG, idle_timeout: 1, ..m() }, (3, 3)),
        (of10::FlowMod { command: 9, ..m() }, (3, 4)),
    ];
    for (message, wanted) in cases {
        assert_eq!(of_error(p.flow_mod10(&message, T0)), wanted, "{message:?}");
    }
    p.flow_mod10(&m(), T0).expect("good");
    let overlap =
        of10::FlowMod { flags: of10::flow::flag::CHECK_OVERLAP, matching: of10::Match::any(), ..m() };
    assert_eq!(of_error(p.flow_mod10(&overlap, T0)), (3, 1));
    assert_eq!(of_error(p.flow_mod10(&add10(2, 5, 2), T0)), (3, 0));
    assert_eq!(flows(&p).len(), 1);
}

fn ask13(table_id: u8) -> of13::stats::FlowStatsRequest {
    of13::stats::FlowStatsRequest {
        table_id,
        pad: Pad::default(),
        out_port: of13::port::ANY,
        out_group: of13::group::ANY,
        pad2: Pad::default(),
        cookie: 0,
        cookie_mask: 0,
        matching: of13::Match::any(),
    }
}

#[test]
fn flows_are_reported_as_they_were_said_in_as_many_messages_as_it_takes() {
    use of13::multipart::{REPLY_MORE, ReplyBody, RequestBody};
    let mut p = Pipeline::new(2, 5000, vec![1, 2]);
    for at in 0..3000 {
        p.flow_mod13(&of13::FlowMod { idle_timeout: 9, ..add13(at, 5, 2) }, T0).expect("room");
    }
    p.flow_mod13(&of13::FlowMod { table_id: 1, cookie: 8, ..add13(1, 6, 2) }, T0).expect("room");
    out_of(&mut p, 1);
    let replies =
        p.stats13(&RequestBody::Flow(ask13(ALL_TABLES)), Time::from_secs(4)).expect("good").expect("flows");
    assert!(replies.len() > 1, "3001 flows do not fit one message");
    let (last, first) = replies.split_last().expect("some");
    assert!(last.flags == 0 && first.iter().all(|r| r.flags == REPLY_MORE));
    let mut all = Vec::new();
    for reply in replies {
        let mut bytes = Vec::new();
        of13::Message::MultipartReply(reply).encode(1, &mut bytes).expect("each fits");
        let Ok((_, AnyMessage::V13(of13::Message::MultipartReply(r)))) = AnyMessage::decode(&bytes) else {
            panic!("not read back")
        };
        let ReplyBody::Flow(flows) = r.body else { panic!("no flows") };
        all.extend(flows);
    }
    assert_eq!(all.len(), 3001);
    let one = all.iter().find(|f| f.matching.fields == [Field::InPort(1)]).expect("said so");
    assert_eq!(
        (one.packet_count, one.byte_count, one.duration_sec, one.idle_timeout, one.priority),
        (1, 60, 4, 9, 5)
    );
    assert_eq!(one.instructions, apply(2), "word for word");

    let sum =
        |q| match p.stats13(&RequestBody::Aggregate(q), T0).expect("good").expect("a sum").remove(0).body {
            ReplyBody::Aggregate(a) => (a.packet_count, a.byte_count, a.flow_count),
            other => panic!("{other:?}"),
        };
    assert_eq!(sum(ask13(ALL_TABLES)), (1, 60, 3001));
    assert_eq!(
        sum(of13::stats::FlowStatsRequest { cookie: 8, cookie_mask: 0xf, ..ask13(ALL_TABLES) }),
        (0, 0, 1)
    );
    assert_eq!(sum(of13::stats::FlowStatsRequest { out_port: 1, ..ask13(0) }), (0, 0, 0));
    assert_eq!(of_error(p.stats13(&RequestBody::Flow(ask13(9)), T0)), (1, 9), "OFPBRC_BAD_TABLE_ID");
    let tables = p.stats13(&RequestBody::Table, T0).expect("good").expect("tables").remove(0).body;
    let ReplyBody::Table(tables) = tables else { panic!("no tables") };
    assert_eq!(
        tables
            .iter()
            .map(|t| (t.table_id, t.active_count, t.lookup_count, t.matched_count))
            .collect::<Vec<_>>(),
        [(0, 3000, 1, 1), (1, 1, 0, 0)]
    );
    assert_eq!(p.stats13(&RequestBody::Desc, T0), Ok(None), "not about flows");
}

#[test]
fn questions_of_1_0_and_flows_that_time_out() {
    use of10::stats::{FlowStatsRequest, ReplyBody, RequestBody};
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    let short = of10::FlowMod { idle_timeout: 5, flags: of10::flow::flag::SEND_FLOW_REM, ..add10(1, 5, 2) };
    p.flow_mod10(&short, T0).expect("room");
    p.flow_mod10(&of10::FlowMod { hard_timeout: 8, ..add10(2, 6, 1) }, T0).expect("room");
    let ask = |out_port| FlowStatsRequest {
        matching: of10::Match::any(),
        table_id: 0xff,
        pad: Pad::default(),
        out_port,
    };
    let list = |p: &Pipeline, q| match p.stats10(&RequestBody::Flow(q), T0).expect("flows").remove(0).body {
        ReplyBody::Flow(flows) => flows,
        other => panic!("{other:?}"),
    };
    let all = list(&p, ask(of10::port::NONE));
    assert_eq!(all.iter().map(|f| (f.priority, f.hard_timeout)).collect::<Vec<_>>(), [(6, 8), (5, 0)]);
    assert_eq!((&all[1].matching, &all[1].actions), (&short.matching, &short.actions), "word for word");
    assert_eq!(list(&p, ask(2)).len(), 1);
    assert_eq!(
        list(&p, FlowStatsRequest { table_id: 0xfe, ..ask(of10::port::NONE) }),
        [],
        "no emergency flows"
    );
    let sum = p.stats10(&RequestBody::Aggregate(ask(of10::port::NONE)), T0).expect("a sum").remove(0).body;
    assert!(matches!(sum, ReplyBody::Aggregate(a) if a.flow_count == 2));
    let tables = p.stats10(&RequestBody::Table, T0).expect("tables").remove(0).body;
    assert!(
        matches!(tables, ReplyBody::Table(t) if t.len() == 1 && t[0].active_count == 2 && t[0].max_entries == 10)
    );

    assert_eq!(p.next_expiry(), Some(T0 + Duration::from_secs(5)));
    let gone = p.expire(Time::from_secs(5));
    assert_eq!(
        gone.iter().map(|r| (r.flow.priority, r.reason)).collect::<Vec<_>>(),
        [(5, RemovedReason::Idle)]
    );
    assert_eq!(p.expire(Time::from_secs(8)), [], "it goes, and nobody wanted to be told");
    assert_eq!(flows(&p), []);
}

/// OF 1.0 section 5.2.4: the queue of an ENQUEUE is for its own output; later outputs have no
/// queue, which is not queue 0.
#[test]
fn a_queue_of_1_0_is_for_its_own_output() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]);
    let enqueue = of10::Action::Enqueue { port: 2, pad: Pad::default(), queue_id: 7 };
    let actions = vec![enqueue, of10::Action::Output { port: 3, max_len: 0 }];
    p.flow_mod10(&of10::FlowMod { actions, ..add10(1, 5, 2) }, T0).expect("good");
    let sent = p.process(&[0; 60], 1, T0).expect("a flow");
    let by: Vec<_> = sent.iter().map(|s| (s.port, s.queue)).collect();
    assert_eq!(by, [(2, 7), (3, tandem_openflow::table::NO_QUEUE)]);
}
