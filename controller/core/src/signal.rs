//! What an earlier service leaves for a later one, since it cannot call it.
//!
//! The engine hands each to the service that follows, in the order in which they were left.

use crate::rules::transactions::Outcome;
use tandem_model::MigrationId;

/// Something that a later service has to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Which links can be used has changed: routes, and the paths of VMs, follow.
    TopologyChanged,
    /// The rules of a migration's places have come or gone, or were refused.
    MoveRules(Outcome),
    /// A VM that is being moved is to stop: its migration is given up first.
    GiveUpMove(MigrationId, String),
}
