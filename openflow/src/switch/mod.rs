//! An OpenFlow 1.0 and 1.3 switch except its I/O and its clock.
//!
//! The caller passes in packets, whole messages (see `framing`), connections, ports and the time;
//! the switch calls a [`Sink`] with its output before the call returns. A lost connection leaves
//! the tables as they are: the switch goes on forwarding.
//!
//! `on_packet` is the hot path. All other calls may allocate memory and take time.

mod buffers;
mod conn;
mod features;
mod outgoing;
mod ports;
mod settings;
mod v10;
mod v13;

pub use settings::{
    Config, ConnId, Description, NO_QUEUE, Port, PortCounters, Queue, QueueCounters, Sink, config,
};

use crate::AnyMessage;
use crate::error::OfErrorCode;
use crate::of13;
use crate::session::SessionError;
use crate::session::switch::{Asked, Identity, SwitchSession};
use crate::table::{AddOptions, Flow, Op, Outcome, Pipeline, TableError, is_fragment};
use conn::Conn;
use outgoing::{Outgoing, Outside};
use ports::State;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::Time;

/// Time-outs are in seconds: flows are checked for them no more often than this.
const EXPIRY_PERIOD: Duration = Duration::from_millis(50);

/// OFPC bits of 1.3: flow, table, port and group statistics, queue statistics.
const CAPABILITIES13: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6;
/// OFPC bits of 1.0: flow, table, port and queue statistics, addresses of ARP matched.
const CAPABILITIES10: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 6 | 1 << 7;
/// OFPAT bits of 1.0: all twelve.
const ACTIONS10: u32 = 0xfff;
/// OFPC_FRAG_DROP, in both versions.
const FRAGMENTS_DROP: u16 = 1;
/// OFPET_BAD_REQUEST, OFPBRC_IS_SLAVE (1.3).
const IS_SLAVE: OfErrorCode = OfErrorCode { kind: 1, code: 10 };

/// An OpenFlow switch without I/O: tables, groups, meters, ports, and sessions with controllers.
#[derive(Debug, Clone)]
pub struct Switch {
    cfg: Config,
    pipeline: Pipeline,
    outside: Outside,
    last_conn: u64,
    /// Remarks on flows, by the flow's id.
    remarks: BTreeMap<u64, String>,
    /// When the flows were last checked for time-outs.
    looked: Time,
    /// IP fragments are dropped (OFPC_FRAG_DROP).
    drops_fragments: bool,
    /// The tables' names.
    names: Vec<String>,
}

/// The execution of one message.
struct Turn<'a> {
    /// Index of its connection.
    conn: usize,
    xid: u32,
    message: &'a [u8],
    now: Time,
    sink: &'a mut dyn Sink,
    /// Bytes to send to the controller.
    out: &'a mut Vec<u8>,
}

impl Switch {
    /// A switch without ports or flows.
    pub fn new(cfg: Config) -> Switch {
        Switch {
            pipeline: Pipeline::new(cfg.tables.max(1), cfg.flows, Vec::new()).with_cache(cfg.cache),
            outside: Outside::new(cfg.buffers),
            last_conn: 0,
            remarks: BTreeMap::new(),
            looked: Time::ZERO,
            drops_fragments: false,
            names: (0..cfg.tables.max(1)).map(|table| format!("table{table}")).collect(),
            cfg,
        }
    }

    /// Its tables.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Adds a flow of the switch's own to a table. It is counted and timed out like any other, but
    /// not listed to controllers.
    ///
    /// # Errors
    /// When there is no room.
    pub fn add_flow(&mut self, table: u8, flow: Flow) -> Result<(), TableError> {
        let table = self.pipeline.tables.get_mut(usize::from(table)).ok_or(TableError::Full(0))?;
        table.add(flow, AddOptions::default())
    }

    /// Its configuration.
    pub fn cfg(&self) -> &Config {
        &self.cfg
    }

    /// Adds a port, or updates it.
    pub fn port(&mut self, port: Port, now: Time, sink: &mut dyn Sink) {
        let number = port.number;
        let reason = match self.outside.ports.get_mut(number) {
            Some(state) => {
                if !state.update(port) {
                    return;
                }
                of13::port::reason::MODIFY
            }
            None => {
                self.outside.ports.add(State::new(port, now));
                of13::port::reason::ADD
            }
        };
        self.tell_port(number, reason, sink);
    }

    /// Removes a port.
    pub fn unport(&mut self, number: u32, _now: Time, sink: &mut dyn Sink) {
        self.pipeline.ports.remove(number);
        if let Some(state) = self.outside.ports.remove(number) {
            self.outside.port_status(&state, of13::port::reason::DELETE, sink);
        }
    }

    /// Announces a changed port to the tables and the controllers.
    fn tell_port(&mut self, number: u32, reason: u8, sink: &mut dyn Sink) {
        let Some(state) = self.outside.ports.get(number).cloned() else { return };
        self.pipeline.ports.set(state.standing());
        self.outside.port_status(&state, reason, sink);
    }

    /// The ports by number, each with its OFPPC bits and the counters of the switch itself.
    pub fn ports(&self) -> impl Iterator<Item = (&Port, u32, PortCounters)> {
        self.outside.ports.iter().map(|s| (&s.port, s.config, s.seen))
    }

    /// Opens a session with a controller, which starts with a HELLO.
    pub fn connected(&mut self, now: Time, sink: &mut dyn Sink) -> ConnId {
        self.last_conn += 1;
        let id = ConnId(self.last_conn);
        let identity = Identity {
            dpid: self.cfg.dpid,
            buffers: self.cfg.buffers,
            tables: self.cfg.tables.max(1),
            capabilities10: CAPABILITIES10,
            capabilities13: CAPABILITIES13,
            actions10: ACTIONS10,
        };
        let mut out = Vec::new();
        let session = SwitchSession::new(&self.cfg.versions, identity, self.cfg.session, now, &mut out);
        self.outside.conns.list.push(Conn::new(id, session));
        sink.send(id, &out);
        id
    }

    /// Ends a connection. Flows stay.
    pub fn closed(&mut self, conn: ConnId) {
        self.outside.conns.list.retain(|c| c.id != conn);
    }

    /// The version that a connection speaks, once it is agreed, and its role (OFPCR number).
    pub fn connection(&self, conn: ConnId) -> Option<(Option<u8>, u32)> {
        let conn = self.outside.conns.list.get(self.outside.conns.place(conn)?)?;
        Some((conn.session.version(), conn.role))
    }

    /// Handles one whole message.
    ///
    /// # Errors When the session is over. Its last message has gone to the sink already; the caller
    /// closes the connection and calls [`Switch::closed`].
    pub fn on_message(
        &mut self,
        conn: ConnId,
        message: &[u8],
        now: Time,
        sink: &mut dyn Sink,
    ) -> Result<(), SessionError> {
        let Some(at) = self.outside.conns.place(conn) else { return Ok(()) };
        let mut out = Vec::new();
        let Outside { ports, conns, .. } = &mut self.outside;
        let ports10 = || ports.iter().filter_map(State::port10).collect();
        let asked = conns.list[at].session.on_message(message, ports10, now, &mut out);
        let done = asked.map(|asked| {
            if let Asked::Message(xid, asked) = asked {
                let mut turn = Turn { conn: at, xid, message, now, sink, out: &mut out };
                match asked {
                    AnyMessage::V10(m) => self.on10(&m, &mut turn),
                    AnyMessage::V13(m) => self.on13(&m, &mut turn),
                }
            }
        });
        if !out.is_empty() {
            sink.send(conn, &out);
        }
        done
    }

    /// Answers a message with an error.
    fn refuse(&self, of_error: OfErrorCode, turn: &mut Turn<'_>) {
        if let Some(conn) = self.outside.conns.list.get(turn.conn) {
            conn.session.refuse(turn.message, of_error, turn.out);
        }
    }

    /// The packet that a PACKET_OUT sends, from the message or from a buffer; answers with an error
    /// if there is none.
    fn frame_of(&mut self, buffer: u32, data: &[u8], turn: &mut Turn<'_>) -> Option<Vec<u8>> {
        if buffer == buffers::NO_BUFFER {
            return Some(data.to_vec());
        }
        match self.outside.buffers.take(buffer) {
            // The port in the message counts, although the buffered packet may have come in by
            // another one.
            Ok((_, frame)) => Some(frame),
            Err(of_error) => {
                self.refuse(of_error, turn);
                None
            }
        }
    }

    /// Sends out a packet that a controller sent (OFPT_PACKET_OUT).
    fn packet_out(&mut self, in_port: u32, ops: &[Op], mut frame: Vec<u8>, turn: &mut Turn<'_>) {
        let mut egress = Outgoing { outside: &mut self.outside, sink: turn.sink, in_port };
        for missed in self.pipeline.apply(ops, &mut frame, in_port, turn.now, &mut egress) {
            self.outside.missed(in_port, &missed, turn.sink);
        }
    }

    /// Sets what is done with IP fragments (OFPC_FRAG bits): they are forwarded or dropped. Returns
    /// false for a mode that this switch does not support.
    fn set_fragments(&mut self, flags: u16) -> bool {
        let known = flags <= FRAGMENTS_DROP;
        if known {
            self.drops_fragments = flags == FRAGMENTS_DROP;
        }
        known
    }

    /// The flags of the switch configuration (OFPC).
    fn flags(&self) -> u16 {
        if self.drops_fragments { FRAGMENTS_DROP } else { 0 }
    }

    /// Sends the buffered packet that a FLOW_MOD names through the tables.
    fn released(&mut self, buffer: u32, turn: &mut Turn<'_>) {
        if buffer == buffers::NO_BUFFER {
            return;
        }
        match self.outside.buffers.take(buffer) {
            Ok((in_port, mut frame)) => self.through(in_port, &mut frame, turn.now, turn.sink),
            Err(of_error) => self.refuse(of_error, turn),
        }
    }

    #[inline]
    fn through(&mut self, in_port: u32, frame: &mut [u8], now: Time, sink: &mut dyn Sink) {
        let mut egress = Outgoing { outside: &mut self.outside, sink, in_port };
        if self.pipeline.run(frame, in_port, now, &mut egress) == Outcome::Missed {
            // A miss in the first table comes before any action, so the packet is unchanged.
            self.outside.missed(in_port, frame, sink);
        }
    }

    /// Forwards a packet that came in by a port. The flows change its bytes in place, so that the
    /// caller cannot use them afterwards.
    #[inline]
    pub fn on_packet(&mut self, in_port: u32, frame: &mut [u8], now: Time, sink: &mut dyn Sink) {
        let Some(port) = self.outside.ports.get_mut(in_port) else { return };
        port.seen.rx_packets += 1;
        port.seen.rx_bytes += frame.len() as u64;
        if !port.receives() || self.drops_fragments && is_fragment(frame) {
            port.seen.rx_dropped += 1;
            return;
        }
        self.through(in_port, frame, now, sink);
    }

    /// Removes flows whose time-outs have ended, sends echo requests on quiet connections, and
    /// closes those that did not answer one.
    pub fn on_deadline(&mut self, now: Time, sink: &mut dyn Sink) {
        let mut out = Vec::new();
        for conn in &mut self.outside.conns.list {
            out.clear();
            let done = conn.session.on_deadline(now, &mut out);
            if !out.is_empty() {
                sink.send(conn.id, &out);
            }
            if let Err(why) = done {
                sink.close(conn.id, &why);
            }
        }
        if now >= self.looked + EXPIRY_PERIOD {
            self.looked = now;
            let gone = self.pipeline.expire(now);
            self.outside.removed(&gone, now, sink);
            self.forget();
        }
    }

    /// When `on_deadline` has to be called next. A flow's time-out may be late by up to 50 ms.
    pub fn next_deadline(&self) -> Option<Time> {
        let flows = self.pipeline.earliest().map(|at| at.max(self.looked + EXPIRY_PERIOD));
        self.outside.conns.list.iter().map(|c| c.session.next_deadline()).chain(flows).min()
    }

    /// Adds packets that hardware has forwarded to a flow's counters, and the time of the last one,
    /// so that its idle time-out is right. Returns false if there is no such flow.
    pub fn credit(&mut self, flow: u64, packets: u64, bytes: u64, last_used: Option<Time>) -> bool {
        self.pipeline.credit(flow, packets, bytes, last_used)
    }

    /// Sets or removes a remark on a flow, such as where hardware holds it. OpenFlow messages do
    /// not show remarks.
    pub fn remark(&mut self, flow: u64, text: Option<String>) {
        match text {
            Some(text) => drop(self.remarks.insert(flow, text)),
            None => drop(self.remarks.remove(&flow)),
        }
    }

    /// The remark on a flow.
    pub fn remark_of(&self, flow: u64) -> Option<&str> {
        self.remarks.get(&flow).map(String::as_str)
    }

    /// Drops the remarks on flows that are gone, once there are twice as many remarks as flows.
    fn forget(&mut self) {
        let flows: usize = self.pipeline.tables.iter().map(|t| t.len()).sum();
        if self.remarks.len() > 2 * flows + 16 {
            let there: std::collections::BTreeSet<u64> =
                self.pipeline.tables.iter().flat_map(|t| t.iter().map(|f| f.id)).collect();
            self.remarks.retain(|id, _| there.contains(id));
        }
    }

    /// Answers with an error and returns true if the connection may not change anything
    /// (OFPCR_ROLE_SLAVE).
    fn slave(&self, turn: &mut Turn<'_>) -> bool {
        let slave = self.outside.conns.list.get(turn.conn).is_some_and(Conn::slave);
        if slave {
            self.refuse(IS_SLAVE, turn);
        }
        slave
    }

    /// Changes a port's configuration (OFPT_PORT_MOD): `known` are the OFPPC bits of the version,
    /// `kind` its OFPET_PORT_MOD_FAILED.
    fn port_mod(
        &mut self,
        (number, mac): (u32, [u8; 6]),
        (bits, mask, known): (u32, u32, u32),
        kind: u16,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.outside.ports.get_mut(number) else {
            return self.refuse(OfErrorCode { kind, code: 0 }, turn);
        };
        if state.port.mac != mac {
            return self.refuse(OfErrorCode { kind, code: 1 }, turn);
        }
        let mask = mask & known;
        let before = state.config;
        state.config = before & !mask | bits & mask;
        let changed = before ^ state.config;
        if changed & config::DOWN != 0 {
            turn.sink.set_port(number, state.config & config::DOWN == 0);
        }
        if changed != 0 {
            self.tell_port(number, of13::port::reason::MODIFY, turn.sink);
        }
    }
}
