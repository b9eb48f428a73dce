//! OpenFlow 1.0: adding, changing, expiring and counting flows.
//! `tests/detailed_contr_sw_messages.py`, `flow_expire.py`, `flow_stats.py`, `counters.py`,
//! `caps.py`, and the priorities of `flow_matches.py` and `pktact.py` (OF 1.0 sections 3.4, 4.6,
//! 5.3.3, 5.3.5 and 5.4.3).

use super::bench::{Bench, NONE};
use super::frame;
use std::time::Duration;
use tandem_openflow::of10::flow::{command, flag};
use tandem_openflow::of10::matching::wildcard;
use tandem_openflow::of10::stats::{
    FlowStats, FlowStatsRequest, PortStats, PortStatsRequest, QueueStatsRequest, ReplyBody, RequestBody,
    TableStats,
};
use tandem_openflow::of10::{self, Action, FlowMod, FlowRemoved, Match, Message, StatsRequest, port};
use tandem_openflow::switch::{Config, ConnId, Switch};
use tandem_openflow::wire::Pad;
use tandem_openflow::{AnyMessage, header};

/// OFPFMFC codes with their error type.
const ALL_TABLES_FULL: (u16, u16) = (3, 0);
const OVERLAP: (u16, u16) = (3, 1);
const BAD_EMERG_TIMEOUT: (u16, u16) = (3, 3);
/// Reasons of FLOW_REMOVED.
const IDLE: u8 = 0;
const HARD: u8 = 1;
const DELETED: u8 = 2;
/// Transaction id of all requests.
const XID: u32 = 99;

fn output(port: u16) -> Vec<Action> {
    vec![Action::Output { port, max_len: 0 }]
}

/// An addition that sends to a port and requests FLOW_REMOVED.
fn add(matching: Match, priority: u16, to: u16) -> FlowMod {
    FlowMod {
        matching,
        cookie: 1,
        command: command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: NONE,
        out_port: port::NONE,
        flags: flag::SEND_FLOW_REM,
        actions: output(to),
    }
}

/// A match on the input port.
fn by(in_port: u16) -> Match {
    Match { wildcards: wildcard::ALL & !wildcard::IN_PORT, in_port, ..Match::any() }
}

/// An exact match for a TCP frame over IPv4 that comes in by port 1.
fn exact() -> Match {
    Match {
        wildcards: 0,
        in_port: 1,
        dl_src: tandem_model::Mac([2, 0, 0, 0, 0, 1]),
        dl_dst: tandem_model::Mac([2, 0, 0, 0, 0, 2]),
        dl_vlan: of10::matching::VLAN_NONE,
        dl_type: 0x0800,
        nw_tos: 8 << 2,
        nw_proto: 6,
        nw_src: [10, 0, 0, 1].into(),
        nw_dst: [10, 0, 0, 2].into(),
        tp_src: 5000,
        tp_dst: 80,
        ..Match::any()
    }
}

fn tcp() -> Vec<u8> {
    frame("TCP over IPv4", &[])
}

/// A controller of OpenFlow 1.0 and its switch.
struct Talk {
    bench: Bench,
    conn: ConnId,
    /// FLOW_REMOVED messages that came between replies.
    told: Vec<FlowRemoved>,
}

impl Talk {
    fn new() -> Talk {
        let mut bench = Bench::new();
        let conn = bench.connect(header::V10);
        Talk { bench, conn, told: Vec::new() }
    }

    /// Sends a message and returns the replies.
    fn exchange(&mut self, message: Message) -> Vec<AnyMessage> {
        let mut bytes = Vec::new();
        AnyMessage::V10(message).encode(XID, &mut bytes).expect("it fits");
        let Bench { switch, world, now } = &mut self.bench;
        switch.on_message(self.conn, &bytes, *now, world).expect("a session");
        self.hear()
    }

    /// Returns the replies since the last call, and stores FLOW_REMOVED messages.
    fn hear(&mut self) -> Vec<AnyMessage> {
        let mut answers = Vec::new();
        for (_, xid, message) in self.bench.heard() {
            match message {
                AnyMessage::V10(Message::FlowRemoved(r)) => self.told.push(r),
                other if xid == XID => answers.push(other),
                _ => {}
            }
        }
        answers
    }

    /// Sends a FLOW_MOD and returns the error's type and code.
    fn say(&mut self, flow: FlowMod) -> Option<(u16, u16)> {
        self.exchange(Message::FlowMod(flow)).into_iter().find_map(|m| match m {
            AnyMessage::V10(Message::Error(e)) => Some((e.kind, e.code)),
            _ => None,
        })
    }

    fn add(&mut self, flow: FlowMod) {
        assert_eq!(self.say(flow), None);
    }

    fn ask(&mut self, body: RequestBody) -> ReplyBody {
        match self.exchange(Message::StatsRequest(StatsRequest { flags: 0, body })).remove(0) {
            AnyMessage::V10(Message::StatsReply(reply)) => reply.body,
            other => panic!("{other:?}"),
        }
    }

    fn flows(&mut self, matching: Match) -> Vec<FlowStats> {
        match self.ask(RequestBody::Flow(all_of(matching))) {
            ReplyBody::Flow(flows) => flows,
            other => panic!("{other:?}"),
        }
    }

    /// Priorities of all flows, highest first.
    fn priorities(&mut self) -> Vec<u16> {
        let mut all: Vec<u16> = self.flows(Match::any()).iter().map(|f| f.priority).collect();
        all.sort_by_key(|p| std::cmp::Reverse(*p));
        all
    }

    /// Packets, bytes and number of flows.
    fn sum(&mut self, matching: Match) -> (u64, u64, u32) {
        match self.ask(RequestBody::Aggregate(all_of(matching))) {
            ReplyBody::Aggregate(a) => (a.packet_count, a.byte_count, a.flow_count),
            other => panic!("{other:?}"),
        }
    }

    fn table(&mut self) -> TableStats {
        match self.ask(RequestBody::Table) {
            ReplyBody::Table(mut tables) => tables.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn port(&mut self, port_no: u16) -> PortStats {
        match self.ask(RequestBody::Port(PortStatsRequest { port_no, pad: Pad::default() })) {
            ReplyBody::Port(mut ports) => ports.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// FLOW_REMOVED messages since the last call, by priority.
    fn removed(&mut self) -> Vec<FlowRemoved> {
        assert_eq!(self.hear(), []);
        let mut told = std::mem::take(&mut self.told);
        told.sort_by_key(|r| r.priority);
        told
    }

    /// Advances the time and handles the switch's deadlines.
    fn pass(&mut self, time: Duration) {
        let b = &mut self.bench;
        b.now = b.now + time;
        while b.switch.next_deadline().is_some_and(|t| t <= b.now) {
            b.switch.on_deadline(b.now, &mut b.world);
        }
    }

    /// The output ports of a TCP frame that comes in by port 1.
    fn way(&mut self) -> Vec<u32> {
        self.bench.packet(1, &tcp()).into_iter().map(|(to, _)| to).collect()
    }
}

fn all_of(matching: Match) -> FlowStatsRequest {
    FlowStatsRequest { matching, table_id: 0xff, pad: Pad::default(), out_port: port::NONE }
}

/// `OverlapChecking`, `NoOverlapChecking`, `IdenticalFlows` (section 4.6: an addition replaces an
/// identical flow and its counters).
#[test]
fn additions_overlap_or_replace() {
    let mut t = Talk::new();
    t.add(add(by(1), 7, 2));
    let wider = add(Match::any(), 7, 3);
    let checked = FlowMod { flags: flag::CHECK_OVERLAP, ..wider.clone() };
    assert_eq!(t.say(checked), Some(OVERLAP));
    assert_eq!(t.priorities(), [7]);
    t.add(wider);
    assert_eq!(t.priorities(), [7, 7]);
    let other = FlowMod { flags: flag::CHECK_OVERLAP, ..add(Match::any(), 8, 3) };
    t.add(other);
    assert_eq!(t.priorities(), [8, 7, 7], "another priority is no overlap");

    let mut t = Talk::new();
    t.add(add(by(1), 7, 2));
    assert_eq!(t.way(), [2]);
    assert_eq!(t.flows(Match::any())[0].packet_count, 1);
    t.add(add(by(1), 7, 3));
    assert_eq!(t.flows(Match::any()).iter().map(|f| f.packet_count).collect::<Vec<_>>(), [0]);
    assert_eq!((t.way(), t.removed()), (vec![3], vec![]), "what is replaced is not told");
}

/// `MissingModifyAdd`, `ModifyAction`, `StrictModifyAction`, `Flow_Mod_*` of `flow_query.py`.
#[test]
fn changes_are_of_what_they_cover_or_of_one() {
    let mut t = Talk::new();
    t.add(FlowMod { command: command::MODIFY, ..add(by(1), 5, 2) });
    assert_eq!(t.priorities(), [5], "a change of nothing adds");
    t.add(add(by(1), 9, 2));
    assert_eq!(t.way(), [2]);
    t.add(FlowMod { command: command::MODIFY_STRICT, ..add(by(1), 9, 3) });
    let actions = |t: &mut Talk| {
        let mut all: Vec<_> = t.flows(Match::any()).into_iter().map(|f| (f.priority, f.actions)).collect();
        all.sort_by_key(|f| f.0);
        all
    };
    assert_eq!(actions(&mut t), [(5, output(2)), (9, output(3))]);
    assert_eq!(t.sum(Match::any()).0, 1, "counters go on");
    t.add(FlowMod { command: command::MODIFY, ..add(Match::any(), 1, 1) });
    assert_eq!(actions(&mut t), [(5, output(1)), (9, output(1))], "whatever their priorities");
}

/// `DeleteNonexistingFlow`, `SendFlowRem`, `StrictVsNonstrict`, `Outport1`, `Outport2`,
/// `Flow_Del_*` of `flow_query.py`.
#[test]
fn deletions_are_of_what_they_cover_and_tell_who_asked() {
    let mut t = Talk::new();
    let delete = |command, matching, priority, out_port| FlowMod {
        command,
        out_port,
        actions: Vec::new(),
        ..add(matching, priority, 1)
    };
    t.add(delete(command::DELETE, Match::any(), 1, port::NONE));
    t.add(delete(command::DELETE_STRICT, by(3), 1, port::NONE));
    // out_port is ignored in an addition.
    t.add(FlowMod { out_port: 3, ..add(by(1), 5, 2) });
    t.add(add(by(2), 6, 3));
    t.add(FlowMod { flags: 0, ..add(by(2), 7, 3) });
    t.add(delete(command::DELETE_STRICT, by(2), 5, port::NONE));
    assert_eq!(t.priorities(), [7, 6, 5], "strictly, the priority is to be the same");
    t.add(delete(command::DELETE_STRICT, Match::any(), 6, port::NONE));
    assert_eq!(t.priorities(), [7, 6, 5], "and the match");
    assert_eq!(t.removed(), []);
    t.add(delete(command::DELETE, Match::any(), 1, 2));
    assert_eq!(t.priorities(), [7, 6]);
    let told: Vec<_> = t.removed().iter().map(|r| (r.priority, r.reason, r.matching.in_port)).collect();
    assert_eq!(told, [(5, DELETED, 1)]);
    t.add(delete(command::DELETE, by(2), 1, port::NONE));
    assert_eq!(t.priorities(), [] as [u16; 0]);
    assert_eq!(t.removed().iter().map(|r| r.priority).collect::<Vec<_>>(), [6], "the other did not ask");
}

/// `IdleTimeout`, `HardTimeout`, `FlowTimeout`, `FlowExpire` (section 5.4.3: the report of a
/// removed flow).
#[test]
fn flows_expire_and_tell() {
    let mut t = Talk::new();
    t.add(FlowMod { idle_timeout: 2, ..add(by(1), 5, 2) });
    t.add(FlowMod { hard_timeout: 4, ..add(by(2), 6, 3) });
    t.add(FlowMod { hard_timeout: 3, flags: 0, ..add(by(3), 7, 1) });
    t.pass(Duration::from_millis(1500));
    assert_eq!(t.way(), [2]);
    t.pass(Duration::from_millis(1500));
    assert_eq!(
        (t.removed(), t.priorities()),
        (vec![], vec![6, 5]),
        "a packet keeps it; the silent one is gone"
    );
    t.pass(Duration::from_secs(1));
    let told: Vec<_> = t
        .removed()
        .iter()
        .map(|r| (r.priority, r.reason, r.duration_sec, r.idle_timeout, r.packet_count, r.byte_count))
        .collect();
    let bytes = tcp().len() as u64;
    assert_eq!(told, [(5, IDLE, 4, 2, 1, bytes), (6, HARD, 4, 0, 0, 0)]);
    assert_eq!(t.table().active_count, 0);
}

/// `SingleFlowStats`, `TwoFlowStats`, `AggregateStats`, `EmptyFlowStats`, `EmptyAggregateStats`,
/// `DeletedFlowStats`, `PktPerFlow`, `BytPerFlow`, `DurationPerFlow`, `FlowStatsGet`.
#[test]
fn flows_are_counted_one_by_one_and_in_sum() {
    let mut t = Talk::new();
    assert_eq!((t.flows(Match::any()), t.sum(Match::any())), (vec![], (0, 0, 0)));
    t.add(add(by(1), 5, 2));
    t.add(add(by(2), 5, 3));
    let bytes = tcp().len() as u64;
    for _ in 0..3 {
        assert_eq!(t.way(), [2]);
    }
    assert_eq!(t.bench.packet(2, &tcp()).len(), 1);
    t.pass(Duration::from_millis(2250));
    let seen = |t: &mut Talk, matching| {
        let flows = t.flows(matching);
        flows.iter().map(|f| (f.matching.in_port, f.packet_count, f.byte_count)).collect::<Vec<_>>()
    };
    assert_eq!(seen(&mut t, by(1)), [(1, 3, 3 * bytes)]);
    let mut both = seen(&mut t, Match::any());
    both.sort_unstable();
    assert_eq!(both, [(1, 3, 3 * bytes), (2, 1, bytes)]);
    assert_eq!(t.sum(Match::any()), (4, 4 * bytes, 2));
    assert_eq!((t.sum(by(2)), t.sum(by(3))), ((1, bytes, 1), (0, 0, 0)));
    let one = t.flows(by(1)).remove(0);
    assert_eq!((one.duration_sec, one.duration_nsec, one.cookie), (2, 250_000_000, 1));
    t.add(FlowMod { command: command::DELETE, ..add(by(1), 5, 2) });
    assert_eq!((seen(&mut t, by(1)), seen(&mut t, Match::any()).len()), (vec![], 1));
}

/// `ActiveCount`, `LookupMatchedCount`, `RxPktPerPort`, `TxPktPerPort`, `RxBytPerPort`,
/// `TxBytPerPort`, `TxPktPerQueue`, `TxBytPerQueue`, `TableStatsGet`, `SingleFlowStats`,
/// `MultiFlowStats` and `AllPortStats` of `port_stats.py`.
#[test]
fn tables_ports_and_queues_are_counted() {
    let mut t = Talk::new();
    let queue = Action::Enqueue { port: 2, pad: Pad::default(), queue_id: 1 };
    t.add(FlowMod { actions: vec![queue], ..add(by(1), 5, 2) });
    t.add(add(by(3), 5, 2));
    for in_port in [1, 1, 3, 2] {
        t.bench.packet(in_port, &tcp());
    }
    let table = t.table();
    assert_eq!((table.active_count, table.lookup_count, table.matched_count), (2, 4, 3));
    assert_eq!(table.wildcards & wildcard::ALL, wildcard::ALL);
    let bytes = tcp().len() as u64;
    let seen = |p: &PortStats| (p.rx_packets, p.rx_bytes, p.tx_packets, p.tx_bytes);
    assert_eq!(seen(&t.port(1)), (2, 2 * bytes, 0, 0));
    assert_eq!(seen(&t.port(2)), (1, bytes, 3, 3 * bytes));
    let all = match t.ask(RequestBody::Port(PortStatsRequest { port_no: port::NONE, pad: Pad::default() })) {
        ReplyBody::Port(ports) => ports,
        other => panic!("{other:?}"),
    };
    assert_eq!(all.iter().map(|p| p.port_no).collect::<Vec<_>>(), [1, 2, 3]);
    let request = QueueStatsRequest { port_no: 2, pad: Pad::default(), queue_id: 1 };
    match t.ask(RequestBody::Queue(request)) {
        ReplyBody::Queue(queues) => {
            let of: Vec<_> = queues.iter().map(|q| (q.queue_id, q.tx_packets, q.tx_bytes)).collect();
            assert_eq!(of, [(1, 2, 2 * bytes)]);
        }
        other => panic!("{other:?}"),
    }
}

/// `ExactMatch`, `ExactMatchPrio`, `WildcardMatchPrio`, `AllWildcardMatch`,
/// `SingleWildcardMatchPriority*`, `WildcardPriority*` (section 3.4: a flow without wildcards has
/// the highest priority).
#[test]
fn the_highest_priority_wins_and_an_exact_flow_over_all() {
    let mut t = Talk::new();
    t.add(add(Match::any(), 1, 2));
    assert_eq!(t.way(), [2]);
    t.add(add(by(1), 10, 3));
    assert_eq!(t.way(), [3]);
    t.add(add(exact(), 5, 2));
    assert_eq!(t.way(), [2], "though another one has a higher priority");
    t.add(FlowMod { command: command::DELETE_STRICT, ..add(exact(), 5, 2) });
    assert_eq!(t.way(), [3]);
    t.add(FlowMod { command: command::MODIFY_STRICT, ..add(by(1), 10, 2) });
    t.add(FlowMod { command: command::DELETE_STRICT, ..add(Match::any(), 1, 2) });
    assert_eq!((t.way(), t.bench.packet(2, &tcp())), (vec![2], vec![]), "nothing is for port 2");
}

/// `FillTableExact`, `FillTableWC`: an addition to a full table is refused, and the flows stay.
#[test]
fn a_full_table_says_so() {
    let mut t = Talk::new();
    t.bench.switch = Switch::new(Config { flows: 300, ..Config::default() });
    t.conn = t.bench.connect(header::V10);
    let most = t.table().max_entries;
    assert_eq!(most, 300);
    let flow = |n: u32| {
        let some = Match {
            wildcards: wildcard::ALL & !(wildcard::IN_PORT | wildcard::DL_SRC),
            in_port: 1,
            ..Match::any()
        };
        let [a, b, c, d] = n.to_be_bytes();
        FlowMod { flags: 0, ..add(Match { dl_src: tandem_model::Mac([2, 0, a, b, c, d]), ..some }, 5, 2) }
    };
    for n in 0..most {
        t.add(flow(n));
    }
    assert_eq!(t.say(flow(most)), Some(ALL_TABLES_FULL));
    t.add(flow(0));
    assert_eq!(t.table().active_count, most);
    t.add(FlowMod { command: command::DELETE_STRICT, ..flow(1) });
    t.add(flow(most));
    assert_eq!(t.table().active_count, most);
}

/// `EmerFlowTimeout`, `DeleteEmerFlow` (section 4.6): a switch without an emergency table refuses
/// emergency flows.
#[test]
fn emergency_flows_are_refused() {
    let mut t = Talk::new();
    let emergency = FlowMod { flags: flag::EMERG, ..add(by(1), 5, 2) };
    assert_eq!(t.say(FlowMod { idle_timeout: 5, ..emergency.clone() }), Some(BAD_EMERG_TIMEOUT));
    assert_eq!(t.say(FlowMod { hard_timeout: 5, ..emergency.clone() }), Some(BAD_EMERG_TIMEOUT));
    assert_eq!(t.say(emergency), Some(ALL_TABLES_FULL));
    assert_eq!((t.priorities(), t.removed()), (vec![], vec![]));
}
