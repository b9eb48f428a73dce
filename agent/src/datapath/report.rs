//! Reports of datapaths: capabilities of switches, results of applications, and state and counters
//! of ports.

use super::netfpga::CardState;
use crate::desired::Fault;
use serde::Serialize;
use std::collections::BTreeMap;
use tandem_model::PortCounters;

/// How a port chooses the class of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueSelection {
    /// Rules set the queue.
    Queue,
    /// A filter at the port maps the DSCP to a queue.
    Dscp,
    /// The port as a whole is limited to its rate; rules mark packets for the next switch.
    RateLimiter,
    /// Rules mark packets for the next switch.
    Mark,
    /// There is no selection.
    None,
}

/// A switch and the capabilities of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchCapabilities {
    /// Its name in the site file.
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
    /// How the class of a packet is chosen.
    pub selection: QueueSelection,
    /// Negotiated rate in bit/s.
    pub speed: Option<u64>,
}

/// The result of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ApplyResult {
    /// The parts that failed.
    pub faults: Vec<Fault>,
    /// Number of requests that changed something; 0 if nothing had to be changed.
    pub changes: usize,
}

impl ApplyResult {
    pub(super) fn add(&mut self, other: ApplyResult) {
        self.faults.extend(other.faults);
        self.changes += other.changes;
    }
}

/// State of a switch.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SwitchReport {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<PortReport>,
    /// The state of its card, if it has one.
    pub card: Option<CardState>,
}

/// State of a port.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PortReport {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// The interface does not exist.
    pub missing: bool,
    /// It is up and has a carrier.
    pub up: bool,
    /// Negotiated rate in bit/s; `None` if the interface does not report it.
    pub speed: Option<u64>,
    /// True if it cannot send and receive at the same time.
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
