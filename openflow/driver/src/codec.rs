//! What both versions have in common, in the core's words: what comes in, and what can be said.

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
    /// `None` for a match that no rule of ours has.
    pub(crate) key: Option<RuleKey>,
    /// `None` for actions that no rule of ours has.
    pub(crate) actions: Option<Vec<RuleAction>>,
    pub(crate) counters: RuleCounters,
    /// A whole message that deletes exactly this flow; its transaction id is still to be set.
    pub(crate) erase: Vec<u8>,
}

/// What a flow has counted, from its fields; all ones is what is not counted.
pub(crate) fn flow_counters(packets: u64, bytes: u64, (seconds, nanoseconds): (u32, u32)) -> RuleCounters {
    let age = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into());
    RuleCounters {
        packets: counted(packets),
        bytes: counted(bytes),
        age: (seconds != u32::MAX).then_some(age),
    }
}

/// The counters of a port of which nothing is known but how long it has been there.
pub(crate) fn port_age(seconds: u32, nanoseconds: u32) -> PortCounters {
    let duration_ns = Some(u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds));
    PortCounters { duration_ns, ..PortCounters::default() }
}

/// What a rule does with a packet. A packet never goes out of the port that it came in by, except
/// by OFPP_IN_PORT (OF 1.0 section 5.3.3, OF 1.3.5 section 7.2.5): switches drop it, and some
/// refuse a rule that says so. What would do nothing else is a drop.
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

/// A message, in the core's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SwitchMessage<'a> {
    /// Handshake: who it is. Ports are known already in 1.0.
    Features { dpid: Dpid, tables: u8, ports: Option<Vec<PortInfo>> },
    /// Ports (1.3), perhaps only some.
    Ports { ports: Vec<PortInfo>, more: bool },
    /// Manufacturer, hardware, software.
    Description(String),
    /// A port came, changed, or (true) went.
    Port(PortInfo, bool),
    /// A packet.
    Packet { port: PortNo, data: &'a [u8] },
    /// A flow is gone.
    Removed { cookie: Cookie, key: Option<RuleKey>, deleted: bool },
    /// Flows, perhaps only some.
    Flows { flows: Vec<Reported>, more: bool },
    /// Port counters, perhaps only some.
    Counters { ports: Vec<PortSample>, more: bool },
    /// Everything before this is done.
    Barrier,
    /// The switch does not like what it was sent.
    Error(String),
    /// Of no interest.
    Nothing,
}

/// A message as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Understood<'a> {
    /// Its transaction id.
    pub(crate) xid: u32,
    /// What it says.
    pub(crate) message: SwitchMessage<'a>,
    /// What was left out of its list of flows, ports or counters: why the first, and how many.
    pub(crate) lost: Option<(DecodeError, usize)>,
}

impl<'a> Understood<'a> {
    /// All of it.
    pub(crate) fn whole(xid: u32, message: SwitchMessage<'a>) -> Understood<'a> {
        Understood { xid, message, lost: None }
    }

    /// A message that nobody here has to know of.
    pub(crate) fn nothing(message: &[u8]) -> Understood<'a> {
        Understood::whole(xid_of(message), SwitchMessage::Nothing)
    }
}

/// The transaction id in a message's header.
pub(crate) fn xid_of(message: &[u8]) -> u32 {
    message.get(4..8).and_then(|x| x.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// An ERROR: its name, or that it has none. One without type and code is still about the message
/// with its transaction id.
pub(crate) fn error(message: &[u8], name: fn(u16, u16) -> String) -> Understood<'static> {
    let text = match message.get(8..12) {
        Some([a, b, c, d]) => name(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => "an ERROR without type and code".to_owned(),
    };
    Understood::whole(xid_of(message), SwitchMessage::Error(text))
}

/// The error for a type of message that no switch sends, or that nobody knows.
pub(crate) fn unknown_type(kind: u8) -> DecodeError {
    let problem = DecodeErrorKind::Unknown { value: kind.into() };
    DecodeError { what: "message type", offset: 1, problem, of_error: OfErrorCode::BAD_TYPE }
}

/// What can be said, whole messages appended to `out`.
pub(crate) trait ProtocolCodec {
    /// `1.0` or `1.3`.
    fn version(&self) -> &'static str;
    /// Asks who it is.
    fn ask_features(&self, xid: u32, out: &mut Vec<u8>);
    /// Asks for its description.
    fn ask_description(&self, xid: u32, out: &mut Vec<u8>);
    /// Asks for its ports; false where the features have them.
    fn ask_ports(&self, xid: u32, out: &mut Vec<u8>) -> bool;
    /// Whole packets, please.
    fn configure(&self, xid: u32, out: &mut Vec<u8>);
    /// What keys mean to a switch of this version.
    fn meaning(&self) -> Meaning;
    /// The actions that a switch would report for a rule: what it was sent, read back.
    fn actions_as_reported(&self, rule: &Rule) -> Option<Vec<RuleAction>>;
    /// Asks for all flows.
    fn ask_flows(&self, xid: u32, out: &mut Vec<u8>);
    /// Asks for all port counters.
    fn ask_counters(&self, xid: u32, out: &mut Vec<u8>);
    /// Adds or replaces a flow.
    fn add(&self, xid: u32, rule: &Rule, out: &mut Vec<u8>);
    /// Deletes a flow of ours; in 1.3 one with the same match and priority that is not ours stays.
    /// In 1.0 a deletion cannot name a cookie, so the driver looks first whose flow was last seen
    /// there.
    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>);
    /// Sends a packet out of a port.
    fn packet_out(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>);
    /// Switches a port on or off; the address is the port's, so that no other one is hit that took
    /// its number meanwhile.
    fn set_port(&self, xid: u32, number: PortNo, mac: Mac, up: bool, out: &mut Vec<u8>);
    /// Asks to be notified when everything before is done.
    fn barrier(&self, xid: u32, out: &mut Vec<u8>);
    /// Asks that the switch tells of packets and of flows that are gone on this connection, or
    /// (false) of ports only. Nothing where the version cannot say it.
    fn set_async(&self, xid: u32, all: bool, out: &mut Vec<u8>);
    /// Understands a message, as far as it can be understood: a switch's words are read tolerantly.
    ///
    /// # Errors
    /// When nothing of it is understood.
    fn decode<'a>(&self, message: &'a [u8]) -> Result<Understood<'a>, DecodeError>;
}

/// A port's speed from OFPPF bits.
pub(crate) fn speed(features: u32) -> Option<BitRate> {
    tandem_openflow::of10::port::speed(features).map(BitRate)
}
