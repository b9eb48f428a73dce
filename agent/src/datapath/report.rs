//! What datapaths say of their switches: what these can do, what became of an application, and what
//! ports are and have counted.

use super::netfpga::CardState;
use crate::desired::Fault;
use serde::Serialize;
use std::collections::BTreeMap;
use tandem_model::PortCounters;

/// How a port chooses the class of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueSelection {
    /// Rules choose queues.
    Queue,
    /// A filter at the port reads the DSCP.
    Dscp,
    /// The port is held to its rate as a whole; rules mark packets for the next switch.
    RateLimiter,
    /// Rules mark packets for the next switch.
    Mark,
    /// Not at all.
    None,
}

/// A switch and what can be done at its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchCapabilities {
    /// As the site file calls it.
    pub name: String,
    /// `ovs (kernel)`, `ovs (userspace)`, `soft`.
    pub datapath: String,
    /// Ports.
    pub ports: Vec<PortCapabilities>,
}

/// See [`SwitchCapabilities`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortCapabilities {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// How classes are chosen.
    pub selection: QueueSelection,
    /// Negotiated, bit/s.
    pub speed: Option<u64>,
}

/// What became of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ApplyResult {
    /// What could not be done.
    pub faults: Vec<Fault>,
    /// Requests that changed something; 0 when all was so already.
    pub changes: usize,
}

impl ApplyResult {
    pub(super) fn add(&mut self, other: ApplyResult) {
        self.faults.extend(other.faults);
        self.changes += other.changes;
    }
}

/// A switch as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SwitchReport {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<PortReport>,
    /// The card under it, where it has one.
    pub card: Option<CardState>,
}

/// A port as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PortReport {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// There is no such interface.
    pub missing: bool,
    /// Up, with a carrier.
    pub up: bool,
    /// Negotiated, bit/s; `None` if the interface does not say.
    pub speed: Option<u64>,
    /// True when it can only send or receive at a time.
    pub half_duplex: bool,
    /// True when speed and duplex were set by hand, not negotiated.
    pub by_hand: bool,
    /// Classes, in the order of their queue numbers.
    pub classes: Vec<ClassReport>,
    /// The interface's counters.
    pub counters: PortCounters,
    /// The card's own counters that are not zero.
    pub hardware: BTreeMap<String, u64>,
}

/// A class's counters at a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassReport {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Packets waiting.
    pub queued: u32,
}
