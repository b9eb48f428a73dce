//! What the agents at switches have, count and are to make.

use crate::{BitRate, Dpid, PortNo, PortSample};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a port chooses the class of a packet.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueSelection {
    /// The rule that sends the packet names the queue (Open vSwitch in the kernel, the soft
    /// switch).
    Queue,
    /// A filter at the port reads the packet's DSCP (Open vSwitch in user space).
    Dscp,
    /// The port is held to its rate as a whole (some NetFPGA bitfiles); packets are marked, and the
    /// next switch tells them apart.
    RateLimiter,
    /// Packets are marked with their class's DSCP, and the next switch tells them apart (NetFPGA).
    Mark,
    /// Not at all.
    None,
}

/// What a class is guaranteed and may have at most, in percent of a port's rate.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Guaranteed.
    pub share: f64,
    /// At most.
    pub ceiling: f64,
}

// Percentages come from a checked file or request and are never NaN.
impl Eq for Share {}

/// A class's counters at a port, since the class was made.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClassSample {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Packets waiting now.
    pub queued: u32,
}

/// A port as its agent sees it. Counters are 64 bits wide; they start again when the interface or a
/// class is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSample {
    /// The interface's own counters, as the kernel keeps them.
    #[serde(flatten)]
    pub interface: PortSample,
    /// Negotiated, if the interface says.
    pub speed: Option<BitRate>,
    /// True when it cannot send and receive at once.
    pub half_duplex: bool,
    /// Per class, in the classes' order; empty where the port has none.
    pub classes: Vec<ClassSample>,
    /// The card's own counters by the names that its driver gives them; those that are not zero.
    pub hardware: BTreeMap<String, u64>,
}

/// A switch that an agent has and may speak for, as the agent presents it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSwitch {
    /// Its name; the site file is expected to have a switch of that name.
    pub name: String,
    /// What it is made of: `ovs (kernel)`, `soft`, `netfpga (mmap:0000:03:00.0)`.
    pub datapath: String,
    /// Its ports by their OpenFlow numbers, and how each chooses the class of a packet.
    pub ports: Vec<(PortNo, QueueSelection)>,
}

/// All that an agent is to make: whatever of its own is not in it, the agent takes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDesired {
    /// Which desired state this is: larger than every earlier one of this controller, and of
    /// controllers before it unless the clock was set back between both.
    pub generation: u64,
    /// The time between two reports of the agent.
    pub report_period: Duration,
    /// The switches that it has presented and that the site knows, in the order in which it has
    /// presented them.
    pub switches: Vec<DesiredSwitch>,
}

/// A switch as its agent is to make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredSwitch {
    /// Its name, by the site file.
    pub name: String,
    /// The datapath id that it connects with.
    pub dpid: Dpid,
    /// Its ports: those that it has presented and that have a link in the site.
    pub ports: Vec<DesiredPort>,
}

/// A port as its agent is to make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredPort {
    /// Its OpenFlow number.
    pub port: PortNo,
    /// Its rate; 0 leaves its queueing alone.
    pub rate: BitRate,
    /// How many packets may wait where there are no classes.
    pub queue: u32,
    /// In the order of their queue numbers, from 0.
    pub classes: Vec<DesiredClass>,
    /// The queue number of the class for packets that no rule or filter puts elsewhere.
    pub default_class: u32,
}

/// A class of service as a port is to keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredClass {
    /// Guaranteed to it.
    pub rate: BitRate,
    /// What it may have at most, when others leave room.
    pub ceiling: BitRate,
    /// The mark of its packets (RFC 2474).
    pub dscp: u8,
    /// How many of its packets may wait.
    pub queue: u32,
}
