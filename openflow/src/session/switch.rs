//! The switch's role in a session: the replies that all switches have in common. On top of
//! [`Session`] it answers feature and barrier requests, refuses malformed messages and unknown
//! types, and puts requests of several parts together.
//!
//! The caller executes each message that [`SwitchSession::on_message`] returns before it passes in
//! the next one, and appends the replies to the same bytes. So a barrier's reply follows the
//! replies to all messages before it, as OF 1.3.5 section 6.2 demands.

use super::multipart::Assembly;
use super::{Config, Incoming, Session, SessionError, error};
use crate::error::OfErrorCode;
use crate::of13::multipart::{REQUEST_MORE, RequestBody};
use crate::of13::table_features::TableFeatures;
use crate::wire::Pad;
use crate::{AnyMessage, header, of10, of13};
use tandem_model::{Dpid, Time};

/// The most tables in a request to change their features, over all its parts: table numbers have 8
/// bits.
const MOST_TABLES: usize = 256;

/// What the reply to OFPT_FEATURES_REQUEST says of the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub dpid: Dpid,
    /// Packets it can keep.
    pub buffers: u32,
    /// Flow tables.
    pub tables: u8,
    /// OFPC bits of 1.0.
    pub capabilities10: u32,
    /// OFPC bits of 1.3.
    pub capabilities13: u32,
    /// OFPAT bits of 1.0.
    pub actions10: u32,
}

/// What the session did with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The session has handled it.
    Handled,
    /// The version is agreed.
    Agreed(u8),
    /// The caller has to execute it, and answer with this transaction id.
    Message(u32, AnyMessage),
}

/// The switch's side of a session: it handles HELLO, version and ECHO, and checks that the other
/// messages are well-formed.
#[derive(Debug, Clone)]
pub struct SwitchSession {
    session: Session,
    identity: Identity,
    features: Assembly<TableFeatures>,
}

impl SwitchSession {
    /// Starts a session that speaks `versions`, and greets.
    pub fn new(
        versions: &[u8],
        identity: Identity,
        cfg: Config,
        now: Time,
        out: &mut Vec<u8>,
    ) -> SwitchSession {
        let session = Session::new(versions, cfg, now, out);
        SwitchSession { session, identity, features: Assembly::new(MOST_TABLES) }
    }

    /// The agreed version byte.
    pub fn version(&self) -> Option<u8> {
        self.session.version()
    }

    /// A transaction id for a message that is not a reply.
    pub fn next_xid(&mut self) -> u32 {
        self.session.next_xid()
    }

    /// When `on_deadline` has to be called next.
    pub fn next_deadline(&self) -> Time {
        self.session.next_deadline()
    }

    /// Sends an echo request if it is time for one.
    ///
    /// # Errors
    /// When the controller has been silent for too long.
    pub fn on_deadline(&mut self, now: Time, out: &mut Vec<u8>) -> Result<(), SessionError> {
        self.session.on_deadline(now, out)
    }

    /// Takes in one whole message. `ports` are the switch's now, for the features of 1.0. A bad
    /// message is answered with its error and has no other effect: the session goes on.
    ///
    /// # Errors
    /// When the session is over; `out` then holds what should still be sent.
    pub fn on_message(
        &mut self,
        message: &[u8],
        ports: impl FnOnce() -> Vec<of10::PhyPort>,
        now: Time,
        out: &mut Vec<u8>,
    ) -> Result<Asked, SessionError> {
        let message = match self.session.on_message(message, now, out)? {
            Incoming::Handled => return Ok(Asked::Handled),
            Incoming::Agreed(version) => return Ok(Asked::Agreed(version)),
            Incoming::Message(message) => message,
        };
        let (xid, asked) = match AnyMessage::decode(message) {
            Ok(asked) => asked,
            Err(bad) => {
                self.refuse(message, bad.of_error, out);
                return Ok(Asked::Handled);
            }
        };
        let answer = match asked {
            AnyMessage::V10(of10::Message::FeaturesRequest) => self.features10(ports()),
            AnyMessage::V13(of13::Message::FeaturesRequest) => self.features13(),
            AnyMessage::V10(of10::Message::BarrierRequest) => AnyMessage::V10(of10::Message::BarrierReply),
            AnyMessage::V13(of13::Message::BarrierRequest) => AnyMessage::V13(of13::Message::BarrierReply),
            AnyMessage::V13(of13::Message::MultipartRequest(request)) => {
                return Ok(self.request(xid, request, message, out));
            }
            // Only switches send these; from a controller they are of an unknown type.
            AnyMessage::V10(
                of10::Message::FeaturesReply(_)
                | of10::Message::GetConfigReply(_)
                | of10::Message::PacketIn(_)
                | of10::Message::FlowRemoved(_)
                | of10::Message::PortStatus(_)
                | of10::Message::StatsReply(_)
                | of10::Message::BarrierReply
                | of10::Message::QueueGetConfigReply(_),
            )
            | AnyMessage::V13(
                of13::Message::FeaturesReply(_)
                | of13::Message::GetConfigReply(_)
                | of13::Message::PacketIn(_)
                | of13::Message::FlowRemoved(_)
                | of13::Message::PortStatus(_)
                | of13::Message::MultipartReply(_)
                | of13::Message::BarrierReply
                | of13::Message::QueueGetConfigReply(_)
                | of13::Message::RoleReply(_)
                | of13::Message::GetAsyncReply(_),
            ) => {
                self.refuse(message, OfErrorCode::BAD_TYPE, out);
                return Ok(Asked::Handled);
            }
            other => return Ok(Asked::Message(xid, other)),
        };
        // Both fit a message: OpenFlow 1.0 has at most 65280 ports, and ports that do not fit are
        // left out.
        let _ = answer.encode(xid, out);
        Ok(Asked::Handled)
    }

    /// Answers a message with an error that carries the message's beginning (OF 1.3.5 section
    /// 7.5.4).
    pub fn refuse(&self, message: &[u8], of_error: OfErrorCode, out: &mut Vec<u8>) {
        if let Some(version) = self.version() {
            error(out, version, message, of_error);
        }
    }

    /// Only requests to change table features come in several parts (section 7.3.5); any other
    /// request with OFPMPF_REQ_MORE is taken as whole.
    fn request(
        &mut self,
        xid: u32,
        mut request: of13::MultipartRequest,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Asked {
        let more = request.flags & REQUEST_MORE != 0;
        if let RequestBody::TableFeatures(tables) = &mut request.body {
            if self.features.xid() != Some(xid) {
                self.features.expect(xid);
            }
            match self.features.add(xid, std::mem::take(tables), more) {
                Ok(Some(whole)) => *tables = whole,
                Ok(None) => return Asked::Handled,
                Err(_) => {
                    self.refuse(message, OfErrorCode::MULTIPART_OVERFLOW, out);
                    return Asked::Handled;
                }
            }
        }
        request.flags &= !REQUEST_MORE;
        Asked::Message(xid, AnyMessage::V13(of13::Message::MultipartRequest(request)))
    }

    fn features10(&self, mut ports: Vec<of10::PhyPort>) -> AnyMessage {
        let who = &self.identity;
        // Header and fixed fields take 32 bytes, a port 48.
        ports.truncate((usize::from(u16::MAX) - header::LEN - 24) / 48);
        AnyMessage::V10(of10::Message::FeaturesReply(of10::FeaturesReply {
            datapath_id: who.dpid,
            n_buffers: who.buffers,
            n_tables: who.tables,
            pad: Pad::default(),
            capabilities: who.capabilities10,
            actions: who.actions10,
            ports,
        }))
    }

    fn features13(&self) -> AnyMessage {
        let who = &self.identity;
        AnyMessage::V13(of13::Message::FeaturesReply(of13::FeaturesReply {
            datapath_id: who.dpid,
            n_buffers: who.buffers,
            n_tables: who.tables,
            auxiliary_id: 0,
            pad: Pad::default(),
            capabilities: who.capabilities13,
            reserved: 0,
        }))
    }
}
