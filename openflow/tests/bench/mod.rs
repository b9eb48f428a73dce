//! A switch whose ports and controllers are lists in memory.
#![allow(dead_code, reason = "each test takes what it needs")]

use tandem_model::{Dpid, Time};
use tandem_openflow::of13::{self, Action, Instruction, group};
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, PortCounters, Queue, QueueCounters, Sink, Switch};
use tandem_openflow::wire::Pad;
use tandem_openflow::{AnyMessage, framing};

pub(crate) const T0: Time = Time::ZERO;
pub(crate) const NONE: u32 = u32::MAX;

/// The output of the switch.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) frames: Vec<(u32, u32, Vec<u8>)>,
    pub(crate) bytes: Vec<(ConnId, Vec<u8>)>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) set: Vec<(u32, bool)>,
}

impl Sink for World {
    fn transmit(&mut self, port: u32, queue: u32, frame: &[u8]) {
        self.frames.push((port, queue, frame.to_vec()));
    }
    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.bytes.push((conn, bytes.to_vec()));
    }
    fn close(&mut self, conn: ConnId, _: &SessionError) {
        self.closed.push(conn);
    }
    fn set_port(&mut self, number: u32, up: bool) {
        self.set.push((number, up));
    }
    fn port_counters(&mut self, number: u32, seen: PortCounters) -> PortCounters {
        PortCounters { rx_errors: number.into(), ..seen }
    }
    fn queue_counters(&mut self, _: u32, _: u32, seen: QueueCounters) -> QueueCounters {
        QueueCounters { tx_errors: 7, ..seen }
    }
}

pub(crate) struct Bench {
    pub(crate) switch: Switch,
    pub(crate) world: World,
    pub(crate) now: Time,
}

impl Bench {
    /// A switch with three ports.
    pub(crate) fn new() -> Bench {
        let cfg = Config { dpid: Dpid(7), tables: 3, buffers: 2, ..Config::default() };
        let mut bench = Bench { switch: Switch::new(cfg), world: World::default(), now: T0 };
        for number in 1..=3 {
            let queue = Queue { id: 1, min: Some(300), max: Some(1000) };
            bench.port(number, true, vec![queue]);
        }
        bench
    }

    pub(crate) fn port(&mut self, number: u32, up: bool, queues: Vec<Queue>) {
        let port = Port {
            number,
            name: format!("p{number}"),
            mac: mac(number),
            up,
            speed: Some(1_000_000_000),
            config: 0,
            queues,
        };
        self.switch.port(port, self.now, &mut self.world);
    }

    /// A connection that has exchanged HELLOs.
    pub(crate) fn connect(&mut self, version: u8) -> ConnId {
        let conn = self.switch.connected(self.now, &mut self.world);
        let hello = [version, 0, 0, 8, 0, 0, 0, 1];
        self.switch.on_message(conn, &hello, self.now, &mut self.world).expect("a session");
        self.world.bytes.clear();
        conn
    }

    /// Sends a message, and returns the replies on this connection with its transaction id.
    pub(crate) fn ask(&mut self, conn: ConnId, message: AnyMessage) -> Vec<AnyMessage> {
        let mut bytes = Vec::new();
        message.encode(99, &mut bytes).expect("fits");
        self.switch.on_message(conn, &bytes, self.now, &mut self.world).expect("a session");
        self.heard().into_iter().filter(|(c, xid, _)| (*c, *xid) == (conn, 99)).map(|(.., m)| m).collect()
    }

    pub(crate) fn ask13(&mut self, conn: ConnId, message: of13::Message) -> Vec<of13::Message> {
        let told = self.ask(conn, AnyMessage::V13(message));
        told.into_iter()
            .map(|m| match m {
                AnyMessage::V13(m) => m,
                AnyMessage::V10(m) => panic!("{m:?} in a session of 1.3"),
            })
            .collect()
    }

    /// Type and code of the only reply, which is an error.
    pub(crate) fn error13(&mut self, conn: ConnId, message: of13::Message) -> (u16, u16) {
        match &self.ask13(conn, message)[..] {
            [of13::Message::Error(e)] => (e.kind, e.code),
            other => panic!("no error but {other:?}"),
        }
    }

    /// All messages that were sent to controllers since the last call.
    pub(crate) fn heard(&mut self) -> Vec<(ConnId, u32, AnyMessage)> {
        let mut list = Vec::new();
        for (conn, bytes) in std::mem::take(&mut self.world.bytes) {
            let mut rest = &bytes[..];
            while let Some((message, after)) = framing::next(rest).expect("framed") {
                let (xid, m) = AnyMessage::decode(message).expect("a good message");
                list.push((conn, xid, m));
                rest = after;
            }
            assert!(rest.is_empty(), "half a message");
        }
        list
    }

    /// A packet comes in; returns the ports and queues that it is sent to.
    pub(crate) fn packet(&mut self, in_port: u32, frame: &[u8]) -> Vec<(u32, u32)> {
        self.switch.on_packet(in_port, &mut frame.to_vec(), self.now, &mut self.world);
        std::mem::take(&mut self.world.frames).into_iter().map(|(p, q, _)| (p, q)).collect()
    }

    pub(crate) fn add13(&mut self, conn: ConnId, flow: of13::FlowMod) {
        assert_eq!(self.ask13(conn, of13::Message::FlowMod(flow)), []);
    }
}

pub(crate) fn mac(number: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, number as u8]
}

/// UDP over IPv4, 200 bytes.
pub(crate) fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1, 8, 0];
    frame.extend([0x45, 0, 0, 186, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 166, 0, 0]);
    frame.resize(200, 5);
    frame
}

pub(crate) fn flow13(priority: u16, actions: Vec<Action>) -> of13::FlowMod {
    of13::FlowMod {
        cookie: 0x10 + u64::from(priority),
        cookie_mask: 0,
        table_id: 0,
        command: of13::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: NONE,
        out_port: of13::port::ANY,
        out_group: group::ANY,
        flags: of13::flow::flag::SEND_FLOW_REM,
        pad: Pad::default(),
        matching: of13::Match::any(),
        instructions: vec![Instruction::ApplyActions(Pad::default(), actions)],
    }
}
