//! What an earlier service leaves for a later one, since it cannot call it.
//!
//! The engine hands each to the service that follows, in the order in which they were left.

use tandem_model::MigrationId;

/// Something that a later service has to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Which links can be used has changed: routes, and the paths of VMs, follow.
    TopologyChanged,
    /// A change that brings the rules of both places of a VM that moves has ended, well or refused.
    BothPlacesReady(MigrationId, Result<(), String>),
    /// A change that leaves the rules of one place of it has ended.
    OnePlaceLeft(MigrationId),
    /// A VM that is being moved is to stop: its migration is given up first.
    GiveUpMove(MigrationId, String),
}
