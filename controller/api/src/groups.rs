//! Groups of VMs that may talk to each other.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use utoipa::ToSchema;

/// The body of `POST /api/v1/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupRequest)]
pub struct NewGroup {
    /// Addresses of the VMs; at least two.
    #[schema(value_type = Vec<String>)]
    pub members: Vec<Ipv4Addr>,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Created {
    /// Its number.
    pub id: u64,
}
