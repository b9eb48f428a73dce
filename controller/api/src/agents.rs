//! Agents on the switches.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The body of `POST /api/v1/agents/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AgentToken)]
pub struct NewAgentToken {
    /// The agent's name, as its agent.toml has it.
    pub name: String,
    /// How long the token is good, in minutes; 60 if left out.
    #[serde(default)]
    pub minutes: Option<u32>,
    /// Where the agent reaches the controller: host and port.
    #[serde(default)]
    pub address: Option<String>,
    /// The switches that it may speak for; left out: those that it had before, or the one that is
    /// called as it is.
    #[serde(default)]
    pub switches: Option<Vec<String>>,
}

/// The body of `PUT /api/v1/agents/{name}/switches`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSwitches {
    /// All switches that it may speak for.
    pub switches: Vec<String>,
}

/// An agent, and its certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentEntry {
    /// As it is seen.
    pub agent: AgentView,
    /// As the registry has it; `None` for one that speaks over the controller's own socket.
    pub certificate: Option<Enrolled>,
}

/// An agent as it is seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Connected now.
    pub connected: bool,
    /// Its version.
    pub version: String,
    /// Its machine's host name.
    pub machine: String,
    /// Its switches.
    pub switches: Vec<String>,
    /// The generation that it was sent last.
    pub generation: u64,
    /// The generation that it has applied.
    pub applied: u64,
    /// How long that took, in milliseconds.
    pub took_ms: f64,
    /// What it could not do.
    pub faults: Vec<String>,
    /// What its ports are, as reported last.
    pub ports: Vec<AgentPortView>,
    /// The cards under its switches, as reported last.
    pub cards: Vec<CardView>,
}

/// A card that forwards by itself, as its agent sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CardView {
    /// Its switch.
    pub switch: String,
    /// `forwards`, `stopped`, `recovering` or `unreachable`.
    #[schema(value_type = String)]
    pub path: Cow<'static, str>,
    /// How often it has lagged or stopped since its agent's start.
    pub outages: u64,
    /// Milliseconds of that in all.
    pub outage_ms: f64,
}

/// A port as its agent sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentPortView {
    /// `edge1.3`.
    pub port: String,
    /// The interface's name.
    pub interface: String,
    /// `ovs (kernel)`, ...
    pub datapath: String,
    /// Up, with a carrier.
    pub up: bool,
    /// Negotiated, bit/s; 0 if not known.
    pub speed: u64,
    /// Cannot send and receive at once.
    pub half_duplex: bool,
    /// The card's own counters that are not zero.
    pub hardware: BTreeMap<String, u64>,
}

/// An agent as the registry has it. Times are seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// Its name.
    pub name: String,
    /// Its latest certificate's serial number, hexadecimal.
    pub serial: String,
    /// When that expires.
    pub expires: i64,
    /// When it enrolled.
    pub enrolled: i64,
    /// No longer let in.
    pub revoked: bool,
    /// The switches that it may speak for; `None` where nobody has said: the one that is called as
    /// it is.
    #[serde(default)]
    pub switches: Option<Vec<String>>,
}
