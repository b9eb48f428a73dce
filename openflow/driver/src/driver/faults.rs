//! Errors and unreadable messages of a switch. Each costs at most the message or the change that it
//! is about, not the session.

use super::{Driver, FEATURES_REPLY, Output};
use crate::codec::{self, SwitchMessage};
use crate::error::DriverError;
use crate::flow_dump::FlowDump;
use crate::packets::Malformed;
use tandem_model::{Event, PortNo, Time};
use tandem_openflow::error::DecodeError;

impl Driver {
    /// A framed message that cannot be decoded does not end the session: it is answered with its
    /// error (OF 1.0 section 5.4.4, OF 1.3.5 section 7.5.4). The exception is the features reply,
    /// without which the switch is not identified.
    pub(super) fn on_unreadable(
        &mut self,
        message: &[u8],
        why: DecodeError,
        now: Time,
        out: &mut Output,
    ) -> Result<(), DriverError> {
        let xid = codec::xid_of(message);
        let is_features = message.get(1) == Some(&FEATURES_REPLY);
        let is_awaited = is_features && self.handshake.as_ref().is_some_and(|g| g.dpid.is_none());
        // Error replies are limited, so that a switch that sends garbage all day is not answered
        // all day.
        if is_awaited || self.answers.take(now) {
            self.session.refuse(message, why.of_error, &mut out.bytes);
        }
        if is_awaited {
            return Err(why.into());
        }
        let kind = message.get(1).copied().unwrap_or_default();
        self.on_misunderstood(&format!("a message of type {kind} is not understood"), why, now, out);
        // The description is optional, so the handshake goes on without it.
        if self.handshake.as_ref().is_some_and(|g| g.dpid.is_some() && g.description_xid == xid) {
            self.greet(xid, SwitchMessage::Description(String::new()), now, out)?;
        }
        Ok(())
    }

    /// Warns of a message that cannot be decoded, at most once a minute for each kind of fault.
    pub(super) fn on_misunderstood(&mut self, what: &str, why: DecodeError, now: Time, out: &mut Output) {
        self.misunderstood += 1;
        if self.misunderstood_kinds.take((why.what, why.of_error.kind, why.of_error.code), now) {
            let all = self.misunderstood;
            out.warnings.push(format!(
                "{what}: {} at byte {}: {} (the {all}. fault since it connected); what it is about is ignored. \
                 Update the switch's software if something is missing",
                why.what, why.offset, why.problem
            ));
        }
    }

    pub(super) fn warn(&mut self, text: String, now: Time, out: &mut Output) {
        if self.complaints.take(now) {
            out.warnings.push(text);
        }
    }

    /// The switch has refused the message with this transaction id.
    pub(super) fn on_error(&mut self, xid: u32, text: String, now: Time, out: &mut Output) {
        let is_barrier = self.pieces.is_barrier(xid);
        if let Some(open) = self.open.iter_mut().find(|o| (o.first..=o.barrier).contains(&xid)) {
            if is_barrier {
                // An error in place of a barrier's reply says nothing about the changes before the
                // barrier: they count as refused, and are repaired when flows are next read.
                let text = format!(
                    "it answers a barrier with {text}; without barriers rules cannot be confirmed: update the switch's software"
                );
                open.refused.get_or_insert(text);
                self.on_barrier(xid, now, out);
            } else {
                open.refused.get_or_insert(text);
            }
        } else if let Some(at) = self.port_changes.iter().position(|change| change.is_about(xid)) {
            let port = self.port_changes.remove(at).map_or(PortNo(0), |change| change.port);
            out.events.push(Event::PortRefused { switch: self.dpid, port, why: text });
        } else if self.flow_dump.as_ref().and_then(FlowDump::xid) == Some(xid) {
            self.unread(&format!("it answered {text}"), now, out);
        } else if self.counters.xid() == Some(xid) {
            self.counters.forget();
            let text = format!(
                "it answers the question for its port counters with {text}; its links have no measured rates. Update its software"
            );
            self.warn(text, now, out);
        } else {
            self.warn(format!("it answered a message of ours with {text}"), now, out);
        }
    }

    /// Counts a malformed packet, and warns of it at most once a minute for each kind of fault.
    pub(super) fn on_malformed(&mut self, port: PortNo, why: Malformed, now: Time, out: &mut Output) {
        self.malformed += 1;
        if self.malformed_kinds.take(why, now) {
            let all = self.malformed;
            out.warnings.push(format!(
                "dropped a broken packet that came in by port {port}: {why} ({all} broken ones since it connected)"
            ));
        }
    }
}
