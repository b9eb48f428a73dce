//! Handles the messages of OpenFlow 1.0 controllers.

use super::ports::{State, cut, narrow};
use super::settings::{Queue, config};
use super::{Switch, Turn};
use crate::error::OfErrorCode;
use crate::of10::queue::{PacketQueue, Property, QueueGetConfigReply};
use crate::of10::stats::{DescStats, PortStats, QueueStats, ReplyBody, RequestBody, StatsReply};
use crate::of10::{Message, SwitchConfig, port};
use crate::table::mod_handlers::replies10;
use crate::table::ops::{ops10, wide};
use crate::table::{Criteria, Instructions};
use crate::wire::{Pad, Text};

/// OFPPC bits that a controller can change. The spanning tree's bit is not one: this switch has no
/// spanning tree (OFPC_STP).
const CONFIG: u32 = config::DOWN | config::NO_RECV | config::NO_FLOOD | config::NO_FWD | config::NO_PACKET_IN;
/// OFPET_PORT_MOD_FAILED.
const PORT_MOD_FAILED: u16 = 4;
/// OFPET_BAD_REQUEST, OFPBRC_BAD_VENDOR.
const BAD_VENDOR: OfErrorCode = OfErrorCode { kind: 1, code: 3 };
/// OFPET_QUEUE_OP_FAILED, OFPQOFC_BAD_PORT.
const BAD_QUEUE_PORT: OfErrorCode = OfErrorCode { kind: 5, code: 0 };

/// OFPET_FLOW_MOD_FAILED, OFPFMFC_UNSUPPORTED.
const NOT_DOABLE: OfErrorCode = OfErrorCode { kind: 3, code: 5 };

/// Checks that the environment supports a flow. A malformed flow passes: the tables refuse it with
/// the right error.
fn doable10(m: &crate::of10::FlowMod, turn: &mut Turn<'_>) -> bool {
    let Ok(instructions) = Instructions::from_of10(&m.actions) else { return true };
    turn.sink.admits(&Criteria::from_of10(&m.matching), &instructions).is_ok()
}

impl Switch {
    pub(super) fn on10(&mut self, m: &Message, turn: &mut Turn<'_>) {
        match m {
            Message::FlowMod(m)
                if m.command <= crate::of10::flow::command::MODIFY_STRICT && !doable10(m, turn) =>
            {
                self.refuse(NOT_DOABLE, turn);
            }
            Message::FlowMod(m) => match self.pipeline.flow_mod10(m, turn.now) {
                Ok(gone) => {
                    self.outside.removed(&gone, turn.now, turn.sink);
                    if m.command <= crate::of10::flow::command::MODIFY_STRICT {
                        self.released(m.buffer_id, turn);
                    }
                }
                Err(refusal) => self.refuse(refusal.of_error, turn),
            },
            Message::PacketOut(m) => match ops10(&m.actions) {
                Ok(ops) => {
                    if let Some(frame) = self.frame_of(m.buffer_id, &m.data.0, turn) {
                        self.packet_out(wide(m.in_port), &ops, frame, turn);
                    }
                }
                Err(unsupported) => self.refuse(unsupported.of_error, turn),
            },
            Message::PortMod(m) => {
                let port = (wide(m.port_no), m.hw_addr.0);
                self.port_mod(port, (m.config, m.mask, CONFIG), PORT_MOD_FAILED, turn);
            }
            Message::StatsRequest(q) => self.stats10(&q.body, turn),
            Message::GetConfigRequest => {
                let miss_send_len = self.outside.conns.list[turn.conn].miss_send_len;
                self.answer10(
                    &Message::GetConfigReply(SwitchConfig { flags: self.flags(), miss_send_len }),
                    turn,
                );
            }
            Message::SetConfig(c) => {
                // OpenFlow 1.0 has no error for unsupported flags: the controller sees in the reply
                // to GET_CONFIG what the switch does.
                self.set_fragments(c.flags);
                self.outside.conns.list[turn.conn].miss_send_len = c.miss_send_len;
            }
            Message::QueueGetConfigRequest(q) => match self.outside.ports.get(wide(q.port)) {
                Some(state) => {
                    let queues = state.port.queues.iter().map(queue).collect();
                    let reply = QueueGetConfigReply { port: q.port, pad: Pad::default(), queues };
                    self.answer10(&Message::QueueGetConfigReply(reply), turn);
                }
                None => self.refuse(BAD_QUEUE_PORT, turn),
            },
            Message::Vendor(_) => self.refuse(BAD_VENDOR, turn),
            // Errors from a controller: the session handles all other types, and an error has no
            // reply.
            _ => {}
        }
    }

    fn answer10(&self, m: &Message, turn: &mut Turn<'_>) {
        // Statistics are cut to fit and the other replies are short. A queue list that does not fit
        // one message cannot be sent in OpenFlow 1.0.
        let _ = m.encode(turn.xid, turn.out);
    }

    fn stats10(&mut self, question: &RequestBody, turn: &mut Turn<'_>) {
        let replies = match question {
            RequestBody::Desc => {
                let d = &self.cfg.description;
                let body = ReplyBody::Desc(Box::new(DescStats {
                    mfr_desc: Text::new(cut(&d.manufacturer, 255)),
                    hw_desc: Text::new(cut(&d.hardware, 255)),
                    sw_desc: Text::new(cut(&d.software, 255)),
                    serial_num: Text::new(cut(&d.serial, 31)),
                    dp_desc: Text::new(cut(&d.datapath, 255)),
                }));
                vec![StatsReply { flags: 0, body }]
            }
            RequestBody::Port(q) => {
                let one = (q.port_no != port::NONE).then_some(wide(q.port_no));
                let states = self.outside.ports.iter().filter(|s| one.is_none_or(|n| n == s.port.number));
                replies10(states.filter_map(|s| port_stats(s, turn)).collect(), ReplyBody::Port)
            }
            RequestBody::Queue(q) => {
                // OFPP_ALL means every port here (section 5.3.5).
                let one = (q.port_no != port::ALL).then_some(wide(q.port_no));
                let all = q.queue_id == u32::MAX;
                let mut list = Vec::new();
                for state in self.outside.ports.iter().filter(|s| one.is_none_or(|n| n == s.port.number)) {
                    for queue in state.port.queues.iter().filter(|w| all || w.id == q.queue_id) {
                        list.extend(queue_stats(state, queue, turn));
                    }
                }
                replies10(list, ReplyBody::Queue)
            }
            RequestBody::Vendor(_) => return self.refuse(BAD_VENDOR, turn),
            flows => self.pipeline.stats10(flows, turn.now).unwrap_or_default(),
        };
        for reply in replies {
            self.answer10(&Message::StatsReply(reply), turn);
        }
    }
}

fn queue(queue: &Queue) -> PacketQueue {
    let rate = |rate| Property::MinRate { pad: Pad::default(), rate, pad2: Pad::default() };
    PacketQueue {
        queue_id: queue.id,
        pad: Pad::default(),
        properties: queue.min.map(rate).into_iter().collect(),
    }
}

fn port_stats(state: &State, turn: &mut Turn<'_>) -> Option<PortStats> {
    let c = turn.sink.port_counters(state.port.number, state.seen);
    Some(PortStats {
        port_no: narrow(state.port.number)?,
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
    })
}

fn queue_stats(state: &State, queue: &Queue, turn: &mut Turn<'_>) -> Option<QueueStats> {
    let seen = state.queue(queue.id).unwrap_or_default();
    let c = turn.sink.queue_counters(state.port.number, queue.id, seen);
    Some(QueueStats {
        port_no: narrow(state.port.number)?,
        pad: Pad::default(),
        queue_id: queue.id,
        tx_bytes: c.tx_bytes,
        tx_packets: c.tx_packets,
        tx_errors: c.tx_errors,
    })
}
