//! What the agents at switches have, count and are to make.

use crate::{BitRate, PortSample};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a port chooses the class of a packet.
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
