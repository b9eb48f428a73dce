//! A controller's end of an OpenFlow 1.3 connection.

use crate::support::{Talk, wait};
use tandem_openflow::of13::multipart::{ReplyBody, RequestBody};
use tandem_openflow::of13::stats::{FlowStats, FlowStatsRequest, PortStats, PortStatsRequest};
use tandem_openflow::of13::{
    Action, Field, FlowMod, FlowRemoved, Instruction, Match, Message, MultipartRequest, PacketIn, PacketOut,
};
use tandem_openflow::wire::{Bytes, Pad};

/// OFPP_CONTROLLER, OFPP_ANY.
pub(crate) const CONTROLLER: u32 = 0xffff_fffd;
const ANY: u32 = u32::MAX;

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
