//! What is decided by hand: ports that are off, paths that are pinned.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of `PUT /api/v1/ports/{switch}/{port}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Port)]
pub struct PortState {
    /// Switched on?
    pub up: bool,
}

/// The body of `PUT /api/v1/vms/{vm}/pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Pin)]
pub struct PathPin {
    /// Switches by name or datapath id, in the path's order from the server on.
    pub switches: Vec<String>,
}
