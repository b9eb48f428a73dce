//! What the outside sees of migrations, plans, hotspots and loads.

use serde::{Deserialize, Serialize};
use tandem_model::{MigrationId, Plan, Resource, Time};

/// Where a step of a plan is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum MoveState {
    /// Not begun.
    Waiting,
    /// Under way.
    UnderWay {
        /// As which migration.
        migration: MigrationId,
    },
    /// Done.
    Done {
        /// As which migration.
        migration: MigrationId,
    },
    /// It was not done, and will not be.
    Failed {
        /// Why, as text.
        why: String,
    },
}

/// A plan, and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PlanView {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Its steps, in the plan's order.
    pub steps: Vec<MoveState>,
    /// When it was begun; `None` for one that was only shown.
    pub begun: Option<Time>,
    /// When its last step ended.
    pub ended: Option<Time>,
}

/// A server or a link that is used too much, or is expected to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HotspotView {
    /// Server's name, or link's ends.
    pub place: String,
    /// Of what.
    pub resource: Resource,
    /// Share in use, 0 to 1 and above.
    pub ratio: f64,
    /// True when only the trend says so.
    pub expected: bool,
    /// Since when.
    pub since: Time,
}
