//! Numbers that an operator asks for.

/// Numbers since the controller started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Counters {
    /// VM requests.
    pub requested: u64,
    /// Requests that led to a running VM.
    pub accepted: u64,
    /// Requests that could not be met.
    pub rejected: u64,
    /// Requests that were placed but failed to start.
    pub failed: u64,
    /// VMs whose time ran out.
    pub expired: u64,
    /// VMs that were given another path.
    pub rerouted: u64,
    /// VMs that were moved to another server.
    #[serde(default)]
    pub migrated: u64,
    /// Migrations that were undone, or that lost their VM.
    #[serde(default)]
    pub migrations_undone: u64,
}
