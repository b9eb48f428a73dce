//! Handles the messages of OpenFlow 1.3 controllers.

use super::features::action_bits;
use super::ports::{State, cut};
use super::settings::{Queue, config};
use super::{Switch, Turn};
use crate::error::OfErrorCode;
use crate::of13::multipart::{MultipartReply, ReplyBody, RequestBody};
use crate::of13::queue::{PacketQueue, Property, PropertyKind, QueueGetConfigReply};
use crate::of13::stats::{Desc, PortStats, QueueStats};
use crate::of13::{Message, PacketOut, SwitchConfig, flow::command, port};
use crate::table::consistent::Given;
use crate::table::ops::ops13;
use crate::table::{Criteria, Instructions, Op, Pipeline, Refusal, Removed, mod_handlers::replies13};
use crate::wire::{Pad, Text};
use tandem_model::Time;

/// OFPPC bits that a controller can change.
const CONFIG: u32 = config::DOWN | config::NO_RECV | config::NO_FWD | config::NO_PACKET_IN;
/// OFPET_PORT_MOD_FAILED.
const PORT_MOD_FAILED: u16 = 7;
/// OFPET_PORT_MOD_FAILED, OFPPMFC_BAD_CONFIG.
const BAD_CONFIG: OfErrorCode = OfErrorCode { kind: 7, code: 2 };
/// OFPET_BAD_REQUEST, OFPBRC_BAD_EXPERIMENTER.
const BAD_EXPERIMENTER: OfErrorCode = OfErrorCode { kind: 1, code: 3 };
/// OFPET_BAD_REQUEST, OFPBRC_BAD_PORT.
const BAD_PORT: OfErrorCode = OfErrorCode { kind: 1, code: 11 };
/// OFPET_BAD_REQUEST, OFPBRC_BAD_PACKET.
const BAD_PACKET: OfErrorCode = OfErrorCode { kind: 1, code: 12 };
/// OFPET_TABLE_MOD_FAILED, OFPTMFC_BAD_TABLE.
const BAD_TABLE: OfErrorCode = OfErrorCode { kind: 8, code: 0 };
/// OFPET_TABLE_MOD_FAILED, OFPTMFC_BAD_CONFIG.
const BAD_TABLE_CONFIG: OfErrorCode = OfErrorCode { kind: 8, code: 1 };
/// OFPTC bits: the two of OFPTC_DEPRECATED_MASK, which are accepted and have no effect.
pub(super) const TABLE_CONFIG: u32 = 0b11;
/// OFPET_QUEUE_OP_FAILED, OFPQOFC_BAD_PORT.
const BAD_QUEUE_PORT: OfErrorCode = OfErrorCode { kind: 9, code: 0 };
/// OFPET_QUEUE_OP_FAILED, OFPQOFC_BAD_QUEUE.
const BAD_QUEUE: OfErrorCode = OfErrorCode { kind: 9, code: 1 };
/// OFPET_SWITCH_CONFIG_FAILED, OFPSCFC_BAD_FLAGS.
const BAD_FLAGS: OfErrorCode = OfErrorCode { kind: 10, code: 0 };
/// Bytes of ofp_packet_queue with both rates.
const QUEUE: usize = 16 + 2 * 16;
/// Bytes of an Ethernet header.
const SHORTEST_FRAME: usize = 14;

/// OFPET_FLOW_MOD_FAILED, OFPFMFC_UNKNOWN.
const NOT_DOABLE: OfErrorCode = OfErrorCode { kind: 5, code: 0 };

/// Checks that the environment supports a flow. A malformed flow passes: the tables refuse it with
/// the right error.
fn doable13(m: &crate::of13::FlowMod, turn: &mut Turn<'_>) -> bool {
    let flow = (Criteria::from_of13(&m.matching), Instructions::from_of13(&m.instructions));
    let (Ok(criteria), Ok(instructions)) = flow else { return true };
    turn.sink.admits(&criteria, &instructions).is_ok()
}

impl Switch {
    pub(super) fn on13(&mut self, m: &Message, turn: &mut Turn<'_>) {
        let changes = match m {
            Message::MultipartRequest(q) => {
                matches!(&q.body, RequestBody::TableFeatures(tables) if !tables.is_empty())
            }
            Message::FlowMod(_)
            | Message::GroupMod(_)
            | Message::MeterMod(_)
            | Message::PacketOut(_)
            | Message::PortMod(_)
            | Message::TableMod(_) => true,
            _ => false,
        };
        if changes && self.slave(turn) {
            return;
        }
        match m {
            Message::FlowMod(m) if m.command <= command::MODIFY_STRICT && !doable13(m, turn) => {
                self.refuse(NOT_DOABLE, turn);
            }
            Message::FlowMod(m) => match self.pipeline.flow_mod13(m, turn.now) {
                Ok(gone) => {
                    self.outside.removed(&gone, turn.now, turn.sink);
                    if m.command <= command::MODIFY_STRICT {
                        self.released(m.buffer_id, turn);
                    }
                }
                Err(refusal) => self.refuse(refusal.of_error, turn),
            },
            Message::GroupMod(m) => {
                let done = self.pipeline.group_mod(m, self.cfg.groups, turn.now);
                self.went(done, turn);
            }
            Message::MeterMod(m) => {
                let done = self.pipeline.meter_mod(m, self.cfg.meters, turn.now);
                self.went(done, turn);
            }
            Message::PacketOut(m) => self.packet_out13(m, turn),
            Message::PortMod(m) if m.config & m.mask & !CONFIG != 0 => self.refuse(BAD_CONFIG, turn),
            Message::PortMod(m) => {
                self.port_mod((m.port_no, m.hw_addr.0), (m.config, m.mask, CONFIG), PORT_MOD_FAILED, turn);
            }
            Message::TableMod(m)
                if m.table_id != u8::MAX && usize::from(m.table_id) >= self.pipeline.tables.len() =>
            {
                self.refuse(BAD_TABLE, turn);
            }
            Message::TableMod(m) if m.config & !TABLE_CONFIG != 0 => self.refuse(BAD_TABLE_CONFIG, turn),
            // No bit of a table's configuration has an effect (section 7.3.3).
            Message::TableMod(_) => {}
            Message::MultipartRequest(q) => self.multipart(&q.body, turn),
            Message::GetConfigRequest => {
                let miss_send_len = self.outside.conns.list[turn.conn].miss_send_len;
                self.answer13(
                    &Message::GetConfigReply(SwitchConfig { flags: self.flags(), miss_send_len }),
                    turn,
                );
            }
            // Reassembly of fragments is not offered (OFPC_IP_REASM).
            Message::SetConfig(c) if !self.set_fragments(c.flags) => self.refuse(BAD_FLAGS, turn),
            Message::SetConfig(c) => self.outside.conns.list[turn.conn].miss_send_len = c.miss_send_len,
            Message::QueueGetConfigRequest(q) => self.queues(q.port, turn),
            Message::RoleRequest(asked) => match self.outside.conns.change_role(turn.conn, asked) {
                Ok(role) => self.answer13(&Message::RoleReply(role), turn),
                Err(of_error) => self.refuse(of_error, turn),
            },
            Message::GetAsyncRequest => {
                let wants = self.outside.conns.list[turn.conn].wants.clone();
                self.answer13(&Message::GetAsyncReply(wants), turn);
            }
            Message::SetAsync(wants) => self.outside.conns.list[turn.conn].wants = wants.clone(),
            Message::Experimenter(_) => self.refuse(BAD_EXPERIMENTER, turn),
            // Errors from a controller: the session handles all other types, and an error has no
            // reply.
            _ => {}
        }
    }

    fn went(&mut self, done: Result<Vec<Removed>, Refusal>, turn: &mut Turn<'_>) {
        match done {
            Ok(gone) => self.outside.removed(&gone, turn.now, turn.sink),
            Err(refusal) => self.refuse(refusal.of_error, turn),
        }
    }

    fn answer13(&self, m: &Message, turn: &mut Turn<'_>) {
        // Statistics are cut to fit, and the other replies are short.
        let _ = m.encode(turn.xid, turn.out);
    }

    fn packet_out13(&mut self, m: &PacketOut, turn: &mut Turn<'_>) {
        // OFPT_PACKET_OUT has to name a physical port, LOCAL or CONTROLLER as its input port
        // (section 7.3.7).
        if !matches!(m.in_port, 1..=port::MAX | port::CONTROLLER | port::LOCAL) {
            return self.refuse(BAD_PORT, turn);
        }
        if m.buffer_id == super::buffers::NO_BUFFER && m.data.0.len() < SHORTEST_FRAME {
            return self.refuse(BAD_PACKET, turn);
        }
        let ops = match ops13(&m.actions) {
            Ok(ops) => ops,
            Err(unsupported) => return self.refuse(unsupported.of_error, turn),
        };
        let unknown = |op: &Op| matches!(op, Op::Group(g) if self.pipeline.groups().get(*g).is_none());
        if ops.iter().any(unknown) {
            return self.refuse(OfErrorCode::BAD_OUT_GROUP, turn);
        }
        let Some(frame) = self.frame_of(m.buffer_id, &m.data.0, turn) else { return };
        if let Err(unsupported) = Given::packet(&frame).actions(&m.actions) {
            return self.refuse(unsupported.of_error, turn);
        }
        self.packet_out(m.in_port, &ops, frame, turn);
    }

    /// Answers with the queues of a port or of all. The reply is one message (section 7.3.6):
    /// queues beyond its length are left out, and a controller gets them by a request for their
    /// port.
    fn queues(&mut self, asked: u32, turn: &mut Turn<'_>) {
        if asked != port::ANY && self.outside.ports.get(asked).is_none() {
            return self.refuse(BAD_QUEUE_PORT, turn);
        }
        let states = self.outside.ports.iter().filter(|s| asked == port::ANY || asked == s.port.number);
        let most = (usize::from(u16::MAX) - crate::header::LEN - 8) / QUEUE;
        let of = |s: &State| s.port.queues.iter().map(|q| queue(s.port.number, q)).collect::<Vec<_>>();
        let queues = states.flat_map(of).take(most).collect();
        let reply = QueueGetConfigReply { port: asked, pad: Pad::default(), queues };
        self.answer13(&Message::QueueGetConfigReply(reply), turn);
    }

    fn multipart(&mut self, question: &RequestBody, turn: &mut Turn<'_>) {
        let now = turn.now;
        let replies = match question {
            RequestBody::Desc => {
                let d = &self.cfg.description;
                vec![MultipartReply::new(ReplyBody::Desc(Box::new(Desc {
                    mfr_desc: Text::new(cut(&d.manufacturer, 255)),
                    hw_desc: Text::new(cut(&d.hardware, 255)),
                    sw_desc: Text::new(cut(&d.software, 255)),
                    serial_num: Text::new(cut(&d.serial, 31)),
                    dp_desc: Text::new(cut(&d.datapath, 255)),
                })))]
            }
            RequestBody::PortDesc => {
                replies13(self.outside.ports.iter().map(State::port13).collect(), ReplyBody::PortDesc)
            }
            RequestBody::PortStats(q) => {
                if q.port_no != port::ANY && self.outside.ports.get(q.port_no).is_none() {
                    return self.refuse(BAD_PORT, turn);
                }
                let one = |s: &&State| q.port_no == port::ANY || q.port_no == s.port.number;
                let list = self.outside.ports.iter().filter(one).map(|s| port_stats(s, now, turn)).collect();
                replies13(list, ReplyBody::PortStats)
            }
            RequestBody::Queue(q) => match self.queue_stats(q.port_no, q.queue_id, turn) {
                Ok(list) => replies13(list, ReplyBody::Queue),
                Err(of_error) => return self.refuse(of_error, turn),
            },
            RequestBody::TableFeatures(tables) if tables.is_empty() => {
                replies13(self.table_features(), ReplyBody::TableFeatures)
            }
            RequestBody::TableFeatures(wanted) => match self.set_table_features(wanted) {
                Ok(()) => replies13(self.table_features(), ReplyBody::TableFeatures),
                Err(of_error) => return self.refuse(of_error, turn),
            },
            RequestBody::Experimenter(_) => return self.refuse(BAD_EXPERIMENTER, turn),
            RequestBody::GroupFeatures => {
                let features = Pipeline::group_features(self.cfg.groups, action_bits());
                vec![MultipartReply::new(features)]
            }
            RequestBody::MeterFeatures => {
                vec![MultipartReply::new(Pipeline::meter_features(self.cfg.meters))]
            }
            of_tables => match self.pipeline.stats13(of_tables, now) {
                Ok(replies) => replies.unwrap_or_default(),
                Err(refusal) => return self.refuse(refusal.of_error, turn),
            },
        };
        for reply in replies {
            self.answer13(&Message::MultipartReply(reply), turn);
        }
    }

    fn queue_stats(&self, asked: u32, id: u32, turn: &mut Turn<'_>) -> Result<Vec<QueueStats>, OfErrorCode> {
        if asked != port::ANY && self.outside.ports.get(asked).is_none() {
            return Err(BAD_QUEUE_PORT);
        }
        let mut list = Vec::new();
        for state in self.outside.ports.iter().filter(|s| asked == port::ANY || asked == s.port.number) {
            for queue in state.port.queues.iter().filter(|q| id == u32::MAX || id == q.id) {
                let seen = state.queue(queue.id).unwrap_or_default();
                let c = turn.sink.queue_counters(state.port.number, queue.id, seen);
                let age = turn.now.since(state.added);
                list.push(QueueStats {
                    port_no: state.port.number,
                    queue_id: queue.id,
                    tx_bytes: c.tx_bytes,
                    tx_packets: c.tx_packets,
                    tx_errors: c.tx_errors,
                    duration_sec: u32::try_from(age.as_secs()).unwrap_or(u32::MAX),
                    duration_nsec: age.subsec_nanos(),
                });
            }
        }
        // The request named one queue of one port, and there is none.
        if list.is_empty() && id != u32::MAX {
            return Err(BAD_QUEUE);
        }
        Ok(list)
    }
}

fn queue(port: u32, queue: &Queue) -> PacketQueue {
    let property = |kind| Property { pad: Pad::default(), kind };
    let min = queue.min.map(|r| property(PropertyKind::MinRate(r, Pad::default())));
    let max = queue.max.map(|r| property(PropertyKind::MaxRate(r, Pad::default())));
    PacketQueue {
        queue_id: queue.id,
        port,
        pad: Pad::default(),
        properties: min.into_iter().chain(max).collect(),
    }
}

fn port_stats(state: &State, now: Time, turn: &mut Turn<'_>) -> PortStats {
    let c = turn.sink.port_counters(state.port.number, state.seen);
    let age = now.since(state.added);
    PortStats {
        port_no: state.port.number,
        pad: Pad::default(),
        rx_packets: c.rx_packets,
        tx_packets: c.tx_packets,
        rx_bytes: c.rx_bytes,
        tx_bytes: c.tx_bytes,
        rx_dropped: c.rx_dropped,
        tx_dropped: c.tx_dropped,
        rx_errors: c.rx_errors,
        tx_errors: c.tx_errors,
        rx_frame_err: c.rx_frame_err,
        rx_over_err: c.rx_over_err,
        rx_crc_err: c.rx_crc_err,
        collisions: c.collisions,
        duration_sec: u32::try_from(age.as_secs()).unwrap_or(u32::MAX),
        duration_nsec: age.subsec_nanos(),
    }
}
