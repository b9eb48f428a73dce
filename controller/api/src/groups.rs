//! Groups of VMs that may talk to each other.

use crate::VmRef;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of `POST /api/v1/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupRequest)]
pub struct NewGroup {
    /// The VMs, at least two: each by its address, its name or its number.
    pub members: Vec<VmRef>,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Created {
    /// Its number.
    pub id: u64,
}
