//! What the outside sees of migrations, plans, hotspots and loads.

use serde::{Deserialize, Serialize};
use tandem_model::{
    BitRate, Bytes, MigrationEnd, MigrationId, MigrationRecord, Plan, Progress, Resource, Time,
};

/// A migration that is under way, or one of the last that have ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationView {
    /// What is being done.
    #[serde(flatten)]
    pub record: MigrationRecord,
    /// How far the transfer is; `None` before it began.
    pub progress: Option<Progress>,
    /// When and how it ended; `None` while it is under way.
    pub ended: Option<(Time, MigrationEnd)>,
}

/// Where a step of a plan is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        /// Why, in words.
        why: String,
    },
}

/// A plan, and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// What a server or a VM uses, smoothed by the site's history weight; 0 where it is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadView {
    /// CPU cores in use, 1.5 is one and a half.
    pub cpu: f64,
    /// Memory in use.
    pub ram: Bytes,
    /// Read from disks, bit/s.
    pub disk_read: BitRate,
    /// Written to disks, bit/s.
    pub disk_written: BitRate,
    /// Received from the network.
    pub rx: BitRate,
    /// Sent to the network.
    pub tx: BitRate,
    /// Memory dirtied, bit/s.
    pub dirty: BitRate,
}
