//! What an operator is told.

use crate::Time;
use serde::{Deserialize, Serialize};

/// Something an operator should know.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub at: Time,
    /// How bad.
    pub level: Level,
    /// A stable word for programs: `link-missing`, `link-miswired`, `link-unknown`, `link-down`,
    /// `link-up`, `switch-up`, `switch-down`, `switch-unknown`, `host-joined`, `host-moved`,
    /// `host-lost`, `spoofed`, `rules-repaired`, `rules-refused`, `vm-running`, `vm-rejected`,
    /// `vm-failed`, `vm-expired`, `vm-gone`, `vm-rerouted`, `vm-cut`, `store-failed`, `world-up`,
    /// `world-down`, `port-off`, `port-on`, `port-refused`, `path-pinned`, `path-unpinned`,
    /// `path-left`, `path-back`, `agent-up`, `agent-down`, `agent-trouble`, `migration-begun`,
    /// `migration-ended`, `migration-undone`, `migration-failed`, `plan-begun`, `plan-ended`,
    /// `hotspot`, `hotspot-cool`, `server-drained`, `server-back`, `server-away`, `server-there`,
    /// `vm-stray`, `vm-stray-unserved`, `vm-adopted`, `vm-elsewhere`, `world-refused`,
    /// `second-controller`, `clock-stepped`, `clock-doubted`.
    pub kind: String,
    /// One sentence: what, where, what to do.
    pub text: String,
}

/// How bad a notice is.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Info,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Error,
}
