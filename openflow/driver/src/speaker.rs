//! What both versions have in common, in the core's words: what comes in, and what can be said.

use tandem_model::{BitRate, Cookie, Dpid, Mac, PortInfo, PortNo, PortSample, Rule, RuleAction, RuleKey};

/// A flow as a switch reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) cookie: Cookie,
    /// `None` for a flow that no rule of ours could be.
    pub(crate) rule: Option<(RuleKey, Vec<RuleAction>)>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// A whole message that deletes exactly this flow; its transaction id is still to be set.
    pub(crate) erase: Vec<u8>,
}

/// A message, in the core's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
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

/// What can be said, whole messages appended to `out`.
pub(crate) trait Speaker {
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
    /// Asks for all flows.
    fn ask_flows(&self, xid: u32, out: &mut Vec<u8>);
    /// Asks for all port counters.
    fn ask_counters(&self, xid: u32, out: &mut Vec<u8>);
    /// Adds or replaces a flow.
    fn add(&self, xid: u32, rule: &Rule, out: &mut Vec<u8>);
    /// Deletes a flow.
    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>);
    /// Sends a packet out of a port.
    fn send(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>);
    /// Switches a port on or off; the address is the port's, so that no other one is hit that took its number meanwhile.
    fn set_port(&self, xid: u32, number: PortNo, mac: Mac, up: bool, out: &mut Vec<u8>);
    /// Asks to be told when everything before is done.
    fn barrier(&self, xid: u32, out: &mut Vec<u8>);
    /// Understands a message: its transaction id and what it says.
    fn hear<'a>(&self, message: &'a [u8]) -> Result<(u32, Heard<'a>), tandem_openflow::error::DecodeError>;
}

/// A port's speed from OFPPF bits.
pub(crate) fn speed(features: u32) -> Option<BitRate> {
    tandem_openflow::of10::port::speed(features).map(BitRate)
}
