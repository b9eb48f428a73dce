//! The data centre in a few numbers.

use crate::views::Counters;
use serde::{Deserialize, Serialize};
use tandem_model::Resources;
use utoipa::ToSchema;

/// The answer of `GET /api/v1/overview`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// The site's name.
    pub site: String,
    /// The snapshot's version.
    pub version: u64,
    /// The allocation policy.
    pub policy: String,
    /// The hypervisors that are attached.
    pub world: Option<String>,
    /// OpenFlow switches.
    pub switches: SwitchCount,
    /// Links.
    pub links: LinkCount,
    /// How many servers there are.
    pub servers: usize,
    /// How many VMs there are.
    pub vms: usize,
    /// What has happened since the controller's start.
    pub counters: Counters,
    /// What a VM gets of which nothing is said.
    pub defaults: Resources,
}

/// How many OpenFlow switches there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchCount {
    /// Of the site.
    pub declared: usize,
    /// Of these, connected.
    pub connected: usize,
}

/// How many links there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkCount {
    /// Of the site.
    pub declared: usize,
    /// Of these, not down and not missing.
    pub usable: usize,
}
