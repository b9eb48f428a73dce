//! Where a VM may run, whatever a policy would prefer, and VMs that are requested together.
//!
//! Constraints are kept with the VM: they hold where it is placed and wherever it is moved later.

use crate::{BitRate, ServerId, SwitchId, VmRequest};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a VM may run. Nothing said: everywhere that its class may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Constraints {
    /// Only here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<OnPlace>,
    /// Apart from others (anti-affinity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

impl Constraints {
    /// True when they allow every place.
    pub fn is_none(&self) -> bool {
        self.on.is_none() && self.spread.is_none()
    }
}

/// A place that a VM is kept to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnPlace {
    /// One server.
    Server(ServerId),
    /// The servers whose first uplink is plugged into one edge switch.
    Edge(SwitchId),
}

/// No two VMs of one tag are at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Spread {
    /// What counts as the same place.
    pub level: SpreadLevel,
    /// Whom it is apart from: all VMs that have the same tag. That of a VM group is its name.
    pub tag: String,
}

/// How far apart VMs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SpreadLevel {
    /// On different servers.
    Server,
    /// Behind different edge switches.
    Edge,
}

impl fmt::Display for SpreadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpreadLevel::Server => "server",
            SpreadLevel::Edge => "edge",
        })
    }
}

/// VMs and their connectivity as one request: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = RequestedVmGroup))]
pub struct VmGroupRequest {
    /// The group's name. There is one group of a name at a time, and whoever asks for the same
    /// again is told of the one that there is.
    pub name: String,
    /// What is asked for, in the order in which it is answered.
    pub members: Vec<VmRequest>,
    /// What each member may send to each other one, reserved on the links between them; `None`
    /// reserves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<BitRate>,
}
