//! What a switch says of itself, and what it counts.

use crate::{BitRate, Cookie, Mac, PortCounters, PortNo};
use serde::{Deserialize, Serialize};

/// A switch's port as the switch tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Number.
    pub port: PortNo,
    /// Name, as the switch has it.
    pub name: String,
    /// Ethernet address.
    pub mac: Mac,
    /// True when it is enabled and has a link.
    pub up: bool,
    /// Current speed, where the switch knows it.
    pub speed: Option<BitRate>,
}

/// What a switch can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchCaps {
    /// `1.0` or `1.3`.
    pub version: String,
    /// Number of flow tables.
    pub tables: u8,
    /// Manufacturer, hardware and software, in one line; empty where it does not say.
    pub description: String,
    /// Where it connected from, for people.
    pub peer: String,
}

/// A port's counters, as whoever counts reports them.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSample {
    /// Which port.
    pub port: PortNo,
    /// What it has counted.
    #[serde(flatten)]
    pub counters: PortCounters,
}

/// The counters of the flows that carry one cookie, summed; `None` where one of them is not
/// counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSample {
    /// Whose flows.
    pub cookie: Cookie,
    /// How many flows.
    pub flows: u32,
    /// Packets.
    #[serde(default, deserialize_with = "crate::counters::read", skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes.
    #[serde(default, deserialize_with = "crate::counters::read", skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}
