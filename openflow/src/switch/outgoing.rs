//! The output of a switch: frames out of ports, and the asynchronous messages PACKET_IN,
//! PORT_STATUS and FLOW_REMOVED.

use super::buffers::{Buffers, NO_BUFFER};
use super::conn::{AsyncMessage, Conns};
use super::ports::{PortList, State, narrow};
use super::settings::{Sink, config};
use crate::table::mod_handlers::{Removed, removed10, removed13};
use crate::table::{Egress, EgressPacket, Reason, RemovedReason};
use crate::wire::Pad;
use crate::{header, of10, of13};
use tandem_model::Time;

/// The state of a switch beside its tables: ports, connections, buffers.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    pub(super) ports: PortList,
    pub(super) conns: Conns,
    pub(super) buffers: Buffers,
    /// Reused memory for a message.
    bytes: Vec<u8>,
}

/// A packet that goes to controllers.
#[derive(Debug, Clone, Copy)]
struct PacketIn<'a> {
    in_port: u32,
    reason: u8,
    table: u8,
    cookie: u64,
    metadata: u64,
    tunnel: u64,
    frame: &'a [u8],
}

impl PacketIn<'_> {
    /// Writes the pipeline fields: IN_PORT always, METADATA and TUNNEL_ID if they are not zero (OF
    /// 1.3.5 section 7.4.1).
    fn write_match(&self, out: &mut Vec<u8>) {
        let more = [(2, self.metadata), (38, self.tunnel)].into_iter().filter(|(_, value)| *value != 0);
        let length = 12 + 12 * more.clone().count();
        // OFPMT_OXM and its length, without the padding to a multiple of 8.
        out.extend_from_slice(&[0, 1, 0, length as u8, 0x80, 0, 0, 4]);
        out.extend_from_slice(&self.in_port.to_be_bytes());
        for (number, value) in more {
            out.extend_from_slice(&[0x80, 0, number << 1, 8]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        out.resize(out.len() + length.next_multiple_of(8) - length, 0);
    }

    /// Writes the message field by field, without the codec's types: a reactive controller's
    /// PACKET_INs must not allocate memory.
    fn write(&self, version: u8, xid: u32, buffer: u32, length: usize, out: &mut Vec<u8>) {
        const KIND: u8 = of13::PacketInView::KIND;
        let total = u16::try_from(self.frame.len()).unwrap_or(u16::MAX).to_be_bytes();
        let data = &self.frame[..length];
        let done = if version == header::V10 {
            let port = narrow(self.in_port).unwrap_or(of10::port::NONE);
            header::write(out, version, KIND, xid, |out| {
                out.extend_from_slice(&buffer.to_be_bytes());
                out.extend_from_slice(&total);
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(&[self.reason, 0]);
                out.extend_from_slice(data);
            })
        } else {
            header::write(out, version, KIND, xid, |out| {
                out.extend_from_slice(&buffer.to_be_bytes());
                out.extend_from_slice(&total);
                out.extend_from_slice(&[self.reason, self.table]);
                out.extend_from_slice(&self.cookie.to_be_bytes());
                self.write_match(out);
                out.extend_from_slice(&[0; 2]);
                out.extend_from_slice(data);
            })
        };
        // `length` is cut so that the message fits.
        let _ = done;
    }
}

/// The most bytes of a packet that a PACKET_IN has room for, in either version.
const MOST_DATA: usize = 65_535 - 66;

impl Outside {
    pub(super) fn new(buffers: u32) -> Outside {
        Outside {
            ports: PortList::default(),
            conns: Conns::default(),
            buffers: Buffers::new(buffers),
            bytes: Vec::new(),
        }
    }

    /// Sends a packet to the controllers that `takes` accepts and that want it. Without `max_len`
    /// each gets as many bytes as its miss_send_len says.
    fn packet_in(
        &mut self,
        packet: PacketIn<'_>,
        max_len: Option<u16>,
        takes: impl Fn(u8) -> bool,
        sink: &mut dyn Sink,
    ) {
        let mut kept = None;
        for at in 0..self.conns.list.len() {
            let conn = &mut self.conns.list[at];
            let Some(version) = conn.session.version().filter(|v| takes(*v)) else { continue };
            if !conn.hears(AsyncMessage::PacketIn(packet.reason)) {
                continue;
            }
            let asked = max_len.unwrap_or(conn.miss_send_len);
            let whole = packet.frame.len().min(MOST_DATA);
            // OFPCML_NO_BUFFER requests the whole packet; a packet that is sent whole needs no
            // buffer.
            let short = asked != of13::action::NO_BUFFER && usize::from(asked) < packet.frame.len();
            let buffer = match (short, kept) {
                (false, _) => None,
                (true, None) => {
                    kept = self.buffers.keep(packet.in_port, packet.frame);
                    kept
                }
                (true, kept) => kept,
            };
            let length = if buffer.is_some() { whole.min(asked.into()) } else { whole };
            self.bytes.clear();
            let xid = conn.session.next_xid();
            packet.write(version, xid, buffer.unwrap_or(NO_BUFFER), length, &mut self.bytes);
            sink.send(conn.id, &self.bytes);
        }
    }

    /// Handles a table miss: OpenFlow 1.0 sends the packet to the controllers (section 3.4), 1.3
    /// drops it (section 5.4).
    pub(super) fn missed(&mut self, in_port: u32, frame: &[u8], sink: &mut dyn Sink) {
        if self.silent_misses(in_port) {
            return;
        }
        let packet =
            PacketIn { in_port, reason: 0, table: 0, cookie: u64::MAX, metadata: 0, tunnel: 0, frame };
        self.packet_in(packet, None, |v| v == header::V10, sink);
    }

    fn silent_misses(&self, in_port: u32) -> bool {
        self.ports.get(in_port).is_some_and(|p| p.config & config::NO_PACKET_IN != 0)
    }

    /// Sends PORT_STATUS to every controller that wants it.
    pub(super) fn port_status(&mut self, port: &State, reason: u8, sink: &mut dyn Sink) {
        for conn in &mut self.conns.list {
            if !conn.hears(AsyncMessage::PortStatus(reason)) {
                continue;
            }
            self.bytes.clear();
            let xid = conn.session.next_xid();
            let pad = Pad::default();
            let done = if conn.session.version() == Some(header::V10) {
                let Some(desc) = port.port10() else { continue };
                of10::Message::PortStatus(of10::PortStatus { reason, pad, desc }).encode(xid, &mut self.bytes)
            } else {
                let desc = port.port13();
                of13::Message::PortStatus(of13::PortStatus { reason, pad, desc }).encode(xid, &mut self.bytes)
            };
            // The message is short, so that it always fits.
            let _ = done;
            sink.send(conn.id, &self.bytes);
        }
    }

    /// Sends FLOW_REMOVED to every controller that wants it and whose version can express the flow.
    pub(super) fn removed(&mut self, gone: &[Removed], now: Time, sink: &mut dyn Sink) {
        for removed in gone {
            let reason = match removed.reason {
                RemovedReason::Idle => 0,
                RemovedReason::Hard => 1,
                RemovedReason::Deleted => 2,
                RemovedReason::Group => 3,
            };
            for conn in &mut self.conns.list {
                if !conn.hears(AsyncMessage::FlowRemoved(reason)) {
                    continue;
                }
                self.bytes.clear();
                let done = if conn.session.version() == Some(header::V10) {
                    let Some(m) = removed10(removed, now) else { continue };
                    of10::Message::FlowRemoved(m).encode(conn.session.next_xid(), &mut self.bytes)
                } else {
                    let Some(m) = removed13(removed, now) else { continue };
                    of13::Message::FlowRemoved(m).encode(conn.session.next_xid(), &mut self.bytes)
                };
                // The flow's match came in a longer message, so that this one fits.
                let _ = done;
                sink.send(conn.id, &self.bytes);
            }
        }
    }
}

/// Where the output of a packet goes.
pub(super) struct Outgoing<'a> {
    pub(super) outside: &'a mut Outside,
    pub(super) sink: &'a mut dyn Sink,
    pub(super) in_port: u32,
}

impl Egress for Outgoing<'_> {
    #[inline]
    fn leave(&mut self, how: &EgressPacket, frame: &[u8]) {
        if how.port != of13::port::CONTROLLER {
            if let Some(port) = self.outside.ports.get_mut(how.port)
                && port.sends()
            {
                port.sent(how.queue, frame.len());
                self.sink.transmit(how.port, how.queue, frame);
            }
            return;
        }
        let in_port = self.in_port;
        let reason = match how.reason {
            Reason::NoMatch if self.outside.silent_misses(in_port) => return,
            Reason::NoMatch => 0,
            Reason::Action => 1,
            Reason::InvalidTtl => 2,
        };
        let packet = PacketIn {
            in_port,
            reason,
            table: how.table,
            cookie: how.cookie,
            metadata: how.metadata,
            tunnel: how.tunnel,
            frame,
        };
        self.outside.packet_in(packet, Some(how.max_len), |_| true, self.sink);
    }
}
