//! A whole switch, seen from its controllers and its ports.

mod bench;
mod samples;

use bench::{Bench, NONE, flow13, frame, mac};
use std::time::Duration;
use tandem_model::{Mac, Time};
use tandem_openflow::of13::multipart::{MultipartRequest, RequestBody};
use tandem_openflow::of13::switch::{AsyncConfig, Role, role};
use tandem_openflow::of13::{self, Action, group};
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{ConnId, NO_QUEUE, config};
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{AnyMessage, header, of10};

fn flow10(actions: Vec<of10::Action>, buffer_id: u32) -> of10::FlowMod {
    of10::FlowMod {
        matching: of10::Match::any(),
        cookie: 1,
        command: of10::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 5,
        buffer_id,
        out_port: of10::port::NONE,
        flags: 0,
        actions,
    }
}

fn to_controller(max_len: u16) -> Action {
    Action::Output { port: of13::port::CONTROLLER, max_len, pad: Pad::default() }
}

fn packet_in13(heard: Vec<(ConnId, u32, AnyMessage)>) -> Vec<(ConnId, of13::PacketIn)> {
    let of = |(conn, _, m)| match m {
        AnyMessage::V13(of13::Message::PacketIn(p)) => Some((conn, p)),
        _ => None,
    };
    heard.into_iter().filter_map(of).collect()
}

/// OF 1.0 sections 3.4, 5.3.6 and 5.4.1: the controller gets the first bytes of a packet without a
/// flow, which is buffered; a flow mod or packet-out that names the buffer sends it, once.
#[test]
fn a_miss_of_1_0_is_kept_until_the_controller_says_what_to_do() {
    let mut b = Bench::new();
    let conn = b.connect(header::V10);
    let miss = |b: &mut Bench| {
        assert_eq!(b.packet(1, &frame()), []);
        match &b.heard()[..] {
            [(_, _, AnyMessage::V10(of10::Message::PacketIn(p)))] => p.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (miss(&mut b), miss(&mut b));
    assert_eq!((first.in_port, first.reason, first.total_len), (1, 0, 200));
    assert_eq!(first.data.0, frame()[..128], "OFP_DEFAULT_MISS_SEND_LEN");
    let third = miss(&mut b);
    assert_ne!(third.buffer_id, second.buffer_id);

    let output = vec![of10::Action::Output { port: 2, max_len: 0 }];
    let out = |buffer_id, actions| {
        let data = Bytes(Vec::new());
        AnyMessage::V10(of10::Message::PacketOut(of10::PacketOut { buffer_id, in_port: 1, actions, data }))
    };
    assert_eq!(b.ask(conn, out(second.buffer_id, output.clone())), []);
    assert_eq!(b.world.frames, [(2, NO_QUEUE, frame())], "whole");
    b.world.frames.clear();
    for gone in [second.buffer_id, first.buffer_id] {
        let told = b.ask(conn, out(gone, output.clone()));
        assert!(
            matches!(&told[..], [AnyMessage::V10(of10::Message::Error(e))] if (e.kind, e.code) == (1, 7)),
            "used, or pushed out by the third: {told:?}"
        );
    }
    let added = of10::Message::FlowMod(flow10(output, third.buffer_id));
    assert_eq!(b.ask(conn, AnyMessage::V10(added)), []);
    assert_eq!(std::mem::take(&mut b.world.frames), [(2, NO_QUEUE, frame())], "by the new flow");

    // Without a buffer, the controller gets the whole packet.
    let config = of10::SwitchConfig { flags: 0, miss_send_len: 0xffff };
    assert_eq!(b.ask(conn, AnyMessage::V10(of10::Message::SetConfig(config))), []);
    let delete = of10::FlowMod { command: of10::flow::command::DELETE, ..flow10(vec![], NONE) };
    assert_eq!(b.ask(conn, AnyMessage::V10(of10::Message::FlowMod(delete))), []);
    let whole = miss(&mut b);
    assert_eq!((whole.buffer_id, whole.data.0), (NONE, frame()));
}

/// OF 1.3.5 sections 5.4 and 7.4.1.
#[test]
fn a_miss_of_1_3_is_dropped_unless_a_flow_says_otherwise() {
    let mut b = Bench::new();
    let conn = b.connect(header::V13);
    b.packet(1, &frame());
    assert_eq!(b.heard(), []);
    b.add13(conn, flow13(0, vec![to_controller(64)]));
    b.packet(2, &frame());
    let told = packet_in13(b.heard()).remove(0).1;
    assert_eq!((told.reason, told.table_id, told.cookie, told.total_len), (0, 0, 0x10, 200));
    assert_eq!((told.data.0.len(), told.matching.fields), (64, vec![of13::Field::InPort(2)]));
    assert_ne!(told.buffer_id, NONE);
    b.add13(conn, flow13(7, vec![to_controller(of13::action::NO_BUFFER)]));
    b.packet(2, &frame());
    let told = packet_in13(b.heard()).remove(0).1;
    assert_eq!((told.reason, told.cookie, told.buffer_id), (1, 0x17, NONE));
    assert_eq!(told.data.0, frame());
}

/// OF 1.3.5 sections 6.3.5 and 6.3.6.
#[test]
fn roles_decide_who_changes_and_who_hears() {
    let mut b = Bench::new();
    let (one, two) = (b.connect(header::V13), b.connect(header::V13));
    let role = |b: &mut Bench, conn, role, generation_id| {
        let told =
            b.ask13(conn, of13::Message::RoleRequest(Role { role, pad: Pad::default(), generation_id }));
        match &told[..] {
            [of13::Message::RoleReply(r)] => Ok((r.role, r.generation_id)),
            [of13::Message::Error(e)] => Err((e.kind, e.code)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(role(&mut b, one, role::NOCHANGE, 0), Ok((role::EQUAL, u64::MAX)));
    assert_eq!(role(&mut b, one, role::MASTER, 5), Ok((role::MASTER, 5)));
    assert_eq!(role(&mut b, two, role::MASTER, 6), Ok((role::MASTER, 6)));
    assert_eq!(role(&mut b, one, role::NOCHANGE, 0), Ok((role::SLAVE, 6)), "there is one master");
    assert_eq!(role(&mut b, one, role::MASTER, 5), Err((11, 0)), "an election that is over");
    assert_eq!(role(&mut b, one, 9, 7), Err((11, 2)));

    let add = || of13::Message::FlowMod(flow13(0, vec![to_controller(0xffff)]));
    assert_eq!(b.error13(one, add()), (1, 10), "a slave changes nothing");
    assert_eq!(b.ask13(two, add()), []);
    assert!(matches!(&b.ask13(one, multipart(RequestBody::Table))[..], [of13::Message::MultipartReply(_)]));

    b.packet(1, &frame());
    assert_eq!(packet_in13(b.heard()).iter().map(|(c, _)| *c).collect::<Vec<_>>(), [two]);
    b.port(3, false, Vec::new());
    assert_eq!(b.heard().iter().map(|(c, ..)| *c).collect::<Vec<_>>(), [one, two], "ports are for all");

    let mut wants = match &b.ask13(one, of13::Message::GetAsyncRequest)[..] {
        [of13::Message::GetAsyncReply(w)] => w.clone(),
        other => panic!("{other:?}"),
    };
    wants = AsyncConfig { packet_in_slave: 1, port_status_slave: 0, ..wants };
    assert_eq!(b.ask13(one, of13::Message::SetAsync(wants)), []);
    b.packet(1, &frame());
    b.port(3, true, Vec::new());
    let heard = b.heard();
    assert_eq!(heard.iter().map(|(c, ..)| *c).collect::<Vec<_>>(), [one, two, two]);

    // A closed connection gets no messages; the flows stay.
    b.switch.closed(two);
    b.packet(1, &frame());
    assert_eq!(packet_in13(b.heard()).iter().map(|(c, _)| *c).collect::<Vec<_>>(), [one]);
}

/// OF 1.0 section 5.2.1, OF 1.3.5 section 7.2.1: the effects of OFPPC bits, and the errors of
/// PORT_MOD.
#[test]
fn a_port_does_what_its_configuration_says() {
    let mut b = Bench::new();
    let conn = b.connect(header::V10);
    let output = |port| vec![of10::Action::Output { port, max_len: 0 }];
    let flood = of10::Message::FlowMod(flow10(output(of10::port::FLOOD), NONE));
    assert_eq!(b.ask(conn, AnyMessage::V10(flood)), []);
    let ports = |list: &[u32]| list.iter().map(|p| (*p, NO_QUEUE)).collect::<Vec<_>>();
    assert_eq!(b.packet(1, &frame()), ports(&[2, 3]));
    let set = |b: &mut Bench, port_no: u16, hw_addr: [u8; 6], config, mask| {
        let m =
            of10::PortMod { port_no, hw_addr: Mac(hw_addr), config, mask, advertise: 0, pad: Pad::default() };
        b.ask(conn, AnyMessage::V10(of10::Message::PortMod(m))).into_iter().find_map(|m| match m {
            AnyMessage::V10(of10::Message::Error(e)) => Some((e.kind, e.code)),
            _ => None,
        })
    };
    assert_eq!(set(&mut b, 9, mac(9), 0, 0), Some((4, 0)));
    assert_eq!(set(&mut b, 2, mac(3), 0, 0), Some((4, 1)), "not its address");

    assert_eq!(set(&mut b, 2, mac(2), config::NO_FLOOD, config::NO_FLOOD), None);
    assert_eq!(b.packet(1, &frame()), ports(&[3]));
    assert_eq!(set(&mut b, 2, mac(2), 0, config::NO_FLOOD), None);
    assert_eq!(set(&mut b, 3, mac(3), config::NO_FWD, config::NO_FWD), None);
    assert_eq!(b.packet(1, &frame()), ports(&[2]));
    assert_eq!(set(&mut b, 1, mac(1), config::NO_RECV, config::NO_RECV), None);
    assert_eq!(b.packet(1, &frame()), []);
    assert_eq!(b.world.set, [], "none of these is about the link");
    assert_eq!(set(&mut b, 2, mac(2), config::DOWN, config::DOWN), None);
    assert_eq!(set(&mut b, 2, mac(2), config::DOWN, config::DOWN), None, "once more changes nothing");
    assert_eq!(b.world.set, [(2, false)]);
    assert_eq!((b.packet(2, &frame()), b.packet(3, &frame())), (vec![], ports(&[1])));

    // Packets without a flow.
    let delete = of10::FlowMod { command: of10::flow::command::DELETE, ..flow10(vec![], NONE) };
    assert_eq!(b.ask(conn, AnyMessage::V10(of10::Message::FlowMod(delete))), []);
    b.packet(3, &frame());
    assert_eq!(b.heard().len(), 1);
    assert_eq!(set(&mut b, 3, mac(3), config::NO_PACKET_IN, config::NO_PACKET_IN), None);
    b.packet(3, &frame());
    assert_eq!(b.heard(), []);
    let other = b.connect(header::V13);
    let bad = of13::PortMod {
        port_no: 1,
        pad: Pad::default(),
        hw_addr: Mac(mac(1)),
        pad2: Pad::default(),
        config: config::NO_FLOOD,
        mask: config::NO_FLOOD,
        advertise: 0,
        pad3: Pad::default(),
    };
    assert_eq!(b.error13(other, of13::Message::PortMod(bad)), (7, 2), "1.3 has no such bit");
    b.switch.unport(3, b.now, &mut b.world);
    let gone = b.heard();
    assert_eq!(gone.len(), 2);
    assert!(matches!(&gone[0].2, AnyMessage::V10(of10::Message::PortStatus(s)) if s.reason == 1));
    assert!(matches!(&gone[1].2, AnyMessage::V13(of13::Message::PortStatus(s)) if s.desc.port_no == 3));
}

/// OF 1.3.5 section 7.3.7.
#[test]
fn a_packet_out_takes_its_actions_or_the_tables() {
    let mut b = Bench::new();
    let conn = b.connect(header::V13);
    b.add13(
        conn,
        flow13(1, vec![Action::SetQueue(4), Action::output(3), Action::output(of13::port::IN_PORT)]),
    );
    let out = |in_port, actions, data: &[u8]| {
        let data = Bytes(data.to_vec());
        of13::Message::PacketOut(of13::PacketOut {
            buffer_id: NONE,
            in_port,
            pad: Pad::default(),
            actions,
            data,
        })
    };
    let to = |port| vec![Action::output(port)];
    assert_eq!(b.ask13(conn, out(2, to(of13::port::TABLE), &frame())), []);
    assert_eq!(b.world.frames.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>(), [(3, 4), (2, 4)]);
    b.world.frames.clear();
    assert_eq!(b.ask13(conn, out(of13::port::CONTROLLER, to(of13::port::ALL), &frame())), []);
    assert_eq!(b.world.frames.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(b.error13(conn, out(of13::port::ANY, to(1), &frame())), (1, 11));
    assert_eq!(b.error13(conn, out(1, to(1), &[])), (1, 12));
    assert_eq!(b.error13(conn, out(1, to(of13::port::NORMAL), &frame())), (2, 4));
    assert_eq!(b.error13(conn, out(1, vec![Action::Group(5)], &frame())), (2, 9));
    let table = of13::Message::FlowMod(flow13(2, to(of13::port::TABLE)));
    assert_eq!(b.error13(conn, table), (2, 4), "a flow cannot");
}

/// Packets that hardware has counted restart the idle time-out, and FLOW_REMOVED has their sums.
#[test]
fn a_flow_lives_on_what_hardware_counted_for_it() {
    let mut b = Bench::new();
    let conn = b.connect(header::V13);
    b.add13(conn, of13::FlowMod { idle_timeout: 3, ..flow13(1, vec![Action::output(2)]) });
    let id = b.switch.pipeline().tables[0].iter().next().map_or(0, |f| f.id);
    b.packet(1, &frame());
    b.switch.remark(id, Some("row 3".into()));
    b.now = Time::from_secs(2);
    assert!(b.switch.credit(id, 10, 1000, Some(b.now)));
    assert!(!b.switch.credit(id + 1, 1, 1, None), "no such flow");
    let tick = |b: &mut Bench, second| {
        b.now = Time::from_secs(second);
        let due = b.switch.next_deadline().expect("a deadline");
        b.switch.on_deadline(b.now, &mut b.world);
        assert!(b.switch.next_deadline().expect("a deadline") > due.min(b.now), "it moves on");
        b.heard()
    };
    assert_eq!(tick(&mut b, 4), []);
    assert_eq!(b.switch.remark_of(id), Some("row 3"));
    let told = tick(&mut b, 5).into_iter().find_map(|(_, _, m)| match m {
        AnyMessage::V13(of13::Message::FlowRemoved(r)) => Some(r),
        _ => None,
    });
    let told = told.expect("a FLOW_REMOVED");
    assert_eq!((told.reason, told.packet_count, told.byte_count), (0, 11, 1200));
}

#[test]
fn a_connection_that_is_silent_is_given_up_and_one_that_speaks_nonsense_ends() {
    let mut b = Bench::new();
    let conn = b.connect(header::V13);
    for second in 1..60 {
        b.now = Time::from_secs(second);
        b.switch.on_deadline(b.now, &mut b.world);
    }
    assert_eq!(b.world.closed.first(), Some(&conn));
    let conn = b.switch.connected(b.now, &mut b.world);
    let http = b"GET / HTTP/1.1\r\n\r\n";
    let ended = b.switch.on_message(conn, http, b.now, &mut b.world);
    assert!(matches!(ended, Err(SessionError::NoHello { .. })));
}

fn multipart(body: RequestBody) -> of13::Message {
    of13::Message::MultipartRequest(MultipartRequest::new(body))
}

/// Every request of both versions has its reply and no other, and a barrier's reply comes after it.
#[test]
fn every_question_is_answered() {
    use of10::stats as ten;
    use of13::stats as thirteen;
    let mut b = Bench::new();
    let conn = b.connect(header::V13);
    b.add13(conn, flow13(1, vec![Action::SetQueue(1), Action::output(2)]));
    assert_eq!(b.packet(1, &frame()), [(2, 1)]);
    let flows = thirteen::FlowStatsRequest {
        table_id: 0xff,
        pad: Pad::default(),
        out_port: of13::port::ANY,
        out_group: group::ANY,
        pad2: Pad::default(),
        cookie: 0,
        cookie_mask: 0,
        matching: of13::Match::any(),
    };
    let meter = || thirteen::MeterRequest { meter_id: of13::meter::ALL, pad: Pad::default() };
    let ports = thirteen::PortStatsRequest { port_no: of13::port::ANY, pad: Pad::default() };
    let questions = [
        RequestBody::Desc,
        RequestBody::Flow(flows.clone()),
        RequestBody::Aggregate(flows),
        RequestBody::Table,
        RequestBody::PortStats(ports),
        RequestBody::Queue(thirteen::QueueStatsRequest { port_no: of13::port::ANY, queue_id: NONE }),
        RequestBody::Group(thirteen::GroupStatsRequest { group_id: group::ALL, pad: Pad::default() }),
        RequestBody::GroupDesc,
        RequestBody::GroupFeatures,
        RequestBody::Meter(meter()),
        RequestBody::MeterConfig(meter()),
        RequestBody::MeterFeatures,
        RequestBody::TableFeatures(Vec::new()),
        RequestBody::PortDesc,
    ];
    for question in questions {
        let asked = format!("{question:?}");
        let told = b.ask13(conn, multipart(question));
        let [of13::Message::MultipartReply(reply)] = &told[..] else { panic!("{asked}: {told:?}") };
        let (told, name) = (format!("{:?}", reply.body), asked.split('(').next().unwrap_or_default());
        assert!(told.starts_with(name), "{asked} is answered by {told}");
        match &reply.body {
            of13::multipart::ReplyBody::Queue(list) => {
                let of = |q: &thirteen::QueueStats| (q.port_no, q.queue_id, q.tx_packets, q.tx_errors);
                assert_eq!(
                    list.iter().map(of).collect::<Vec<_>>(),
                    [(1, 1, 0, 7), (2, 1, 1, 7), (3, 1, 0, 7)]
                );
            }
            of13::multipart::ReplyBody::PortStats(list) => {
                let of = |p: &thirteen::PortStats| (p.port_no, p.rx_packets, p.tx_bytes, p.rx_errors);
                assert_eq!(
                    list.iter().map(of).collect::<Vec<_>>(),
                    [(1, 1, 0, 1), (2, 0, 200, 2), (3, 0, 0, 3)]
                );
            }
            of13::multipart::ReplyBody::PortDesc(list) => assert_eq!((list.len(), list[0].curr), (3, 0x20)),
            of13::multipart::ReplyBody::TableFeatures(list) => assert_eq!(list.len(), 3),
            _ => {}
        }
    }
    let no_port = RequestBody::PortStats(thirteen::PortStatsRequest { port_no: 9, pad: Pad::default() });
    assert_eq!(b.error13(conn, multipart(no_port)), (1, 11));
    let queues = of13::queue::QueueGetConfigRequest { port: of13::port::ANY, pad: Pad::default() };
    let told = b.ask13(conn, of13::Message::QueueGetConfigRequest(queues));
    assert!(matches!(&told[..], [of13::Message::QueueGetConfigReply(r)] if r.queues.len() == 3), "{told:?}");

    let conn = b.connect(header::V10);
    let flows = ten::FlowStatsRequest {
        matching: of10::Match::any(),
        table_id: 0xff,
        pad: Pad::default(),
        out_port: of10::port::NONE,
    };
    let questions = [
        ten::RequestBody::Desc,
        ten::RequestBody::Flow(flows.clone()),
        ten::RequestBody::Aggregate(flows),
        ten::RequestBody::Table,
        ten::RequestBody::Port(ten::PortStatsRequest { port_no: of10::port::NONE, pad: Pad::default() }),
        ten::RequestBody::Queue(ten::QueueStatsRequest {
            port_no: of10::port::ALL,
            pad: Pad::default(),
            queue_id: NONE,
        }),
    ];
    for body in questions {
        let asked = format!("{body:?}");
        let question = of10::Message::StatsRequest(of10::StatsRequest { flags: 0, body });
        let told = b.ask(conn, AnyMessage::V10(question));
        let [AnyMessage::V10(of10::Message::StatsReply(reply))] = &told[..] else {
            panic!("{asked}: {told:?}")
        };
        let told = format!("{:?}", reply.body);
        assert!(
            told.starts_with(asked.split('(').next().unwrap_or_default()),
            "{asked} is answered by {told}"
        );
    }
}

/// After any message, the switch answers the next request.
#[test]
fn after_any_message_the_switch_still_answers() {
    for version in [header::V10, header::V13] {
        let mut b = Bench::new();
        for (_, message) in samples::all() {
            if message.first() != Some(&version) {
                continue;
            }
            let conn = b.connect(version);
            b.now = b.now + Duration::from_millis(1);
            b.switch.on_message(conn, &message, b.now, &mut b.world).expect("a session");
            b.heard();
            let barrier = match version {
                header::V10 => AnyMessage::V10(of10::Message::BarrierRequest),
                _ => AnyMessage::V13(of13::Message::BarrierRequest),
            };
            assert_eq!(b.ask(conn, barrier).len(), 1);
            b.packet(1, &frame());
            b.switch.closed(conn);
        }
    }
}

proptest::proptest! {
    /// The same for random message bodies of two controllers.
    #[test]
    fn any_bodies_leave_a_switch_that_answers(
        pieces in proptest::collection::vec((proptest::bool::ANY, 0u8..32, proptest::collection::vec(0u8..9, 0..90)), 1..30),
    ) {
        let mut b = Bench::new();
        let conns = [(header::V10, b.connect(header::V10)), (header::V13, b.connect(header::V13))];
        for (which, kind, body) in pieces {
            let (version, conn) = conns[usize::from(which)];
            let length = u16::try_from(body.len() + 8).unwrap_or(u16::MAX).to_be_bytes();
            let message = [&[version, kind, length[0], length[1], 0, 0, 0, 9][..], &body].concat();
            b.switch.on_message(conn, &message, b.now, &mut b.world).expect("a session");
            b.packet(1, &frame());
        }
        b.heard();
        let barrier = AnyMessage::V13(of13::Message::BarrierRequest);
        proptest::prop_assert_eq!(b.ask(conns[1].1, barrier).len(), 1);
    }
}
