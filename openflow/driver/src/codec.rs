//! The interface between the driver and the codec of each version: what a switch reports, in the
//! core's types, and the messages that a driver sends.

use crate::wanted::Meaning;
use std::time::Duration;
use tandem_model::{
    BitRate, Cookie, Dpid, Mac, PortCounters, PortInfo, PortNo, PortSample, Rule, RuleAction, RuleCounters,
    RuleKey, counted,
};
use tandem_openflow::error::{DecodeError, DecodeErrorKind, OfErrorCode};

/// A flow as a switch reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) cookie: Cookie,
    /// `None` for a match that no rule of Tandem has.
    pub(crate) key: Option<RuleKey>,
    /// `None` for actions that no rule of Tandem has.
    pub(crate) actions: Option<Vec<RuleAction>>,
    pub(crate) counters: RuleCounters,
    /// A whole message that deletes exactly this flow; the transaction id is set when it is sent.
    pub(crate) erase: Vec<u8>,
}

/// A flow's counters from its fields; a field of all ones means not counted (OF 1.3.5 section
/// 7.3.5).
pub(crate) fn flow_counters(packets: u64, bytes: u64, (seconds, nanoseconds): (u32, u32)) -> RuleCounters {
    let age = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into());
    RuleCounters {
        packets: counted(packets),
        bytes: counted(bytes),
        age: (seconds != u32::MAX).then_some(age),
    }
}

/// The counters of a port for which only its age is known.
pub(crate) fn port_age(seconds: u32, nanoseconds: u32) -> PortCounters {
    let duration_ns = Some(u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds));
    PortCounters { duration_ns, ..PortCounters::default() }
}

/// The actions of a rule for the switch. A packet goes out of its input port only by OFPP_IN_PORT
/// (OF 1.0 section 5.3.3, OF 1.3.5 section 7.2.5): an output to the input port's own number is
/// dropped by switches, and some refuse the rule. It is left out here; a rule without other actions
/// becomes a drop.
pub(crate) fn actions(rule: &Rule) -> Vec<RuleAction> {
    let sends_back = |action: &RuleAction| match *action {
        RuleAction::Output(port) | RuleAction::Enqueue { port, .. } => {
            rule.key.matching.in_port == Some(port)
        }
        _ => false,
    };
    if !rule.actions.iter().any(sends_back) {
        return rule.actions.clone();
    }
    let rest: Vec<RuleAction> = rule.actions.iter().filter(|a| !sends_back(a)).copied().collect();
    let is_seen = |a: &RuleAction| {
        !matches!(
            a,
            RuleAction::SetQueue(_)
                | RuleAction::SetDscp(_)
                | RuleAction::SetEthDst(_)
                | RuleAction::WriteMetadata(_)
        )
    };
    if rest.iter().any(is_seen) { rest } else { Vec::new() }
}

/// A message of a switch, in the core's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SwitchMessage<'a> {
    /// Handshake: datapath id and tables; 1.0 lists the ports here too.
    Features { dpid: Dpid, tables: u8, ports: Option<Vec<PortInfo>> },
    /// Ports (1.3); with `more`, further parts follow.
    Ports { ports: Vec<PortInfo>, more: bool },
    /// Manufacturer, hardware, software.
    Description(String),
    /// A port was added, changed, or (true) removed.
    Port(PortInfo, bool),
    /// A packet.
    Packet { port: PortNo, data: &'a [u8] },
    /// A flow was removed.
    Removed { cookie: Cookie, key: Option<RuleKey>, deleted: bool },
    /// Flows; with `more`, further parts follow.
    Flows { flows: Vec<Reported>, more: bool },
    /// Port counters; with `more`, further parts follow.
    Counters { ports: Vec<PortSample>, more: bool },
    /// The reply to a barrier: the switch has executed all messages before it.
    Barrier,
    /// The switch has refused a message.
    Error(String),
    /// A message that the driver does not need.
    Nothing,
}

/// A message as far as it could be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Understood<'a> {
    /// Its transaction id.
    pub(crate) xid: u32,
    /// The decoded message.
    pub(crate) message: SwitchMessage<'a>,
    /// The members of its list (flows, ports, counters) that could not be read: the first one's
    /// error, and their number.
    pub(crate) lost: Option<(DecodeError, usize)>,
}

impl<'a> Understood<'a> {
    /// A message that was decoded completely.
    pub(crate) fn whole(xid: u32, message: SwitchMessage<'a>) -> Understood<'a> {
        Understood { xid, message, lost: None }
    }

    /// A message that the driver does not need.
    pub(crate) fn nothing(message: &[u8]) -> Understood<'a> {
        Understood::whole(xid_of(message), SwitchMessage::Nothing)
    }
}

/// The transaction id in a message's header.
pub(crate) fn xid_of(message: &[u8]) -> u32 {
    message.get(4..8).and_then(|x| x.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// An ERROR, with its name if it has a known type and code. One too short for them is still about
/// the message with its transaction id.
pub(crate) fn error(message: &[u8], name: fn(u16, u16) -> String) -> Understood<'static> {
    let text = match message.get(8..12) {
        Some([a, b, c, d]) => name(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => "an ERROR without type and code".to_owned(),
    };
    Understood::whole(xid_of(message), SwitchMessage::Error(text))
}

/// The error for a message of a type that is unknown or that no switch sends.
pub(crate) fn unknown_type(kind: u8) -> DecodeError {
    let problem = DecodeErrorKind::Unknown { value: kind.into() };
    DecodeError { what: "message type", offset: 1, problem, of_error: OfErrorCode::BAD_TYPE }
}

/// Writes the driver's messages in one version, each appended to `out` as a whole.
pub(crate) trait ProtocolCodec {
    /// `1.0` or `1.3`.
    fn version(&self) -> &'static str;
    /// Requests the datapath id and the features.
    fn ask_features(&self, xid: u32, out: &mut Vec<u8>);
    /// Requests the description.
    fn ask_description(&self, xid: u32, out: &mut Vec<u8>);
    /// Requests the ports; false if the features reply has them.
    fn ask_ports(&self, xid: u32, out: &mut Vec<u8>) -> bool;
    /// Sets the switch to send whole packets to the controller.
    fn configure(&self, xid: u32, out: &mut Vec<u8>);
    /// How a switch of this version understands keys.
    fn meaning(&self) -> Meaning;
    /// The actions that a switch reports for a rule: those that are sent, read back.
    fn actions_as_reported(&self, rule: &Rule) -> Option<Vec<RuleAction>>;
    /// Requests all flows.
    fn ask_flows(&self, xid: u32, out: &mut Vec<u8>);
    /// Requests all port counters.
    fn ask_counters(&self, xid: u32, out: &mut Vec<u8>);
    /// Adds or replaces a flow.
    fn add(&self, xid: u32, rule: &Rule, out: &mut Vec<u8>);
    /// Deletes a flow of Tandem; in 1.3, a flow of another controller with the same match and
    /// priority stays. A deletion of 1.0 cannot name a cookie, so the driver first checks whose
    /// flow was last reported there.
    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>);
    /// Sends a packet out of a port.
    fn packet_out(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>);
    /// Turns a port on or off. The port's address is sent too, so that the switch refuses the
    /// message if another port has got the number meanwhile.
    fn set_port(&self, xid: u32, number: PortNo, mac: Mac, up: bool, out: &mut Vec<u8>);
    /// Requests a barrier.
    fn barrier(&self, xid: u32, out: &mut Vec<u8>);
    /// Requests packet-ins and flow-removed messages on this connection, or (false) only port
    /// status. Writes nothing in a version without such a message.
    fn set_async(&self, xid: u32, all: bool, out: &mut Vec<u8>);
    /// Decodes a message of a switch, tolerantly (`Strictness::Reports`).
    ///
    /// # Errors
    /// When nothing of it is understood.
    fn decode<'a>(&self, message: &'a [u8]) -> Result<Understood<'a>, DecodeError>;
}

/// A port's speed from OFPPF bits.
pub(crate) fn speed(features: u32) -> Option<BitRate> {
    tandem_openflow::of10::port::speed(features).map(BitRate)
}
