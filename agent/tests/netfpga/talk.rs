//! A controller's end of an OpenFlow 1.3 connection.

use crate::host::{LIMIT, wait};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use tandem_openflow::of13::multipart::{ReplyBody, RequestBody};
use tandem_openflow::of13::stats::{FlowStats, FlowStatsRequest, PortStats, PortStatsRequest};
use tandem_openflow::of13::{
    Action, Field, FlowMod, FlowRemoved, Instruction, Match, Message, MultipartRequest, PacketIn, PacketOut,
};
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{framing, header};

/// OFPP_CONTROLLER, OFPP_ANY.
pub(crate) const CONTROLLER: u32 = 0xffff_fffd;
const ANY: u32 = u32::MAX;

/// An OpenFlow session of a test with a switch.
pub(crate) struct Talk {
    stream: UnixStream,
    input: Vec<u8>,
}

/// A flow that sends matching packets to a port.
pub(crate) fn flow(cookie: u64, priority: u16, fields: Vec<Field>, to: u32) -> FlowMod {
    let output = Action::Output { port: to, max_len: u16::MAX, pad: Pad::default() };
    FlowMod {
        cookie,
        cookie_mask: 0,
        table_id: 0,
        command: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: u32::MAX,
        out_port: ANY,
        out_group: ANY,
        flags: 0,
        pad: Pad::default(),
        matching: Match { fields },
        instructions: vec![Instruction::ApplyActions(Pad::default(), vec![output])],
    }
}

/// A flow from a port to another, with a cookie made of both.
pub(crate) fn across(from: u32, to: u32) -> FlowMod {
    flow(u64::from(10 * from + to), 100, vec![Field::InPort(from)], to)
}

impl Talk {
    pub(crate) fn over(stream: UnixStream) -> Talk {
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let mut talk = Talk { stream, input: Vec::new() };
        talk.stream.write_all(&[header::V13, 0, 0, 8, 0, 0, 0, 1]).expect("a connection");
        talk
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let mut out = Vec::new();
        message.encode(7, &mut out).expect("a message");
        self.stream.write_all(&out).expect("a connection");
    }

    fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some((message, after)) = framing::next(&self.input).expect("OpenFlow") {
                let (message, after) = (message.to_vec(), after.to_vec());
                self.input = after;
                // An echo request, which is answered.
                if message[1] == 2 {
                    let reply = [&[message[0], 3], &message[2..]].concat();
                    self.stream.write_all(&reply).expect("a connection");
                }
                return message;
            }
            let mut piece = [0; 4096];
            let got = self.stream.read(&mut piece).expect("an answer in time");
            assert!(got > 0, "the connection was closed");
            self.input.extend_from_slice(&piece[..got]);
        }
    }

    /// The next message of a type, and those before it.
    pub(crate) fn all_until(&mut self, kind: u8) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            all.push(self.next());
            if all.last().is_some_and(|m| m[1] == kind) {
                return all;
            }
        }
    }

    /// The next message of a type; the test fails on an error before it.
    pub(crate) fn until(&mut self, kind: u8) -> Vec<u8> {
        let mut all = self.all_until(kind);
        let last = all.pop().expect("one at least");
        assert!(all.iter().all(|m| m[1] != 1), "an error: {all:02x?}");
        last
    }

    pub(crate) fn barrier(&mut self) {
        self.send(&Message::BarrierRequest);
        self.until(21);
    }

    /// Adds flows, and waits for the barrier.
    pub(crate) fn install(&mut self, flows: impl IntoIterator<Item = FlowMod>) {
        for flow in flows {
            self.send(&Message::FlowMod(flow));
        }
        self.barrier();
    }

    /// Adds a flow that must be refused; returns the error's type.
    pub(crate) fn refused(&mut self, flow: FlowMod) -> u16 {
        self.send(&Message::FlowMod(flow));
        self.send(&Message::BarrierRequest);
        let all = self.all_until(21);
        let error = all.iter().find(|m| m[1] == 1).unwrap_or_else(|| panic!("no error: {all:02x?}"));
        u16::from_be_bytes([error[8], error[9]])
    }

    fn ask(&mut self, body: RequestBody) -> ReplyBody {
        self.send(&Message::MultipartRequest(MultipartRequest::new(body)));
        match Message::decode(&self.until(19)).expect("a reply") {
            (_, Message::MultipartReply(reply)) => reply.body,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn flows(&mut self) -> Vec<FlowStats> {
        let all = FlowStatsRequest {
            table_id: 0xff,
            pad: Pad::default(),
            out_port: ANY,
            out_group: ANY,
            pad2: Pad::default(),
            cookie: 0,
            cookie_mask: 0,
            matching: Match { fields: Vec::new() },
        };
        match self.ask(RequestBody::Flow(all)) {
            ReplyBody::Flow(flows) => flows,
            other => panic!("{other:?}"),
        }
    }

    /// A flow's packets, by cookie.
    pub(crate) fn packets(&mut self, cookie: u64) -> u64 {
        let flows = self.flows();
        flows.iter().find(|f| f.cookie == cookie).unwrap_or_else(|| panic!("{flows:?}")).packet_count
    }

    pub(crate) fn port(&mut self, number: u32) -> PortStats {
        match self.ask(RequestBody::PortStats(PortStatsRequest { port_no: number, pad: Pad::default() })) {
            ReplyBody::PortStats(mut ports) => ports.pop().expect("the port"),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a flow has counted as many packets as its only port has received by the card's
    /// MAC; returns the number.
    pub(crate) fn agree(&mut self, cookie: u64, port: u32, least: u64) -> u64 {
        wait("flow and port count the same", || {
            let (flow, port) = (self.packets(cookie), self.port(port).rx_packets);
            (flow == port && flow >= least).then_some(flow)
        })
    }

    pub(crate) fn packet_in(&mut self) -> PacketIn {
        match Message::decode(&self.until(10)).expect("a message") {
            (_, Message::PacketIn(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn removed(&mut self) -> FlowRemoved {
        match Message::decode(&self.until(11)).expect("a message") {
            (_, Message::FlowRemoved(removed)) => removed,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn packet_out(&mut self, port: u32, frame: &[u8]) {
        self.send(&Message::PacketOut(PacketOut {
            buffer_id: u32::MAX,
            in_port: CONTROLLER,
            pad: Pad::default(),
            actions: vec![Action::Output { port, max_len: 0, pad: Pad::default() }],
            data: Bytes(frame.to_vec()),
        }));
    }
}
