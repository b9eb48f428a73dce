//! VMs that are requested together, and what a request would lead to.

use crate::views::VmRecord;
use crate::vms::NewVm;
use serde::{Deserialize, Serialize};
use tandem_model::SpreadLevel;
use utoipa::ToSchema;

/// The body of `POST /api/v1/vms/group`: VMs that may talk to each other, all or none; and that of
/// `POST /api/v1/vms/dry-run`, where one VM will do and no name is needed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = VmGroupRequest)]
pub struct NewVmGroup {
    /// The group's name. There is one group of a name at a time; the same request again is answered
    /// with the group that there is.
    pub name: Option<String>,
    /// Its VMs, 2 to 256. One without a name is called after the group: `web-1`, `web-2` ...
    pub members: Vec<NewVm>,
    /// What each member may send to each other one, bit/s, reserved on the links between them;
    /// nothing is reserved where it is left out.
    pub rate: Option<u64>,
    /// Keep the members apart: on different servers, or behind different edge switches.
    pub spread: Option<SpreadLevel>,
}

/// A group whose VMs run and are connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmGroup {
    /// The group's number.
    pub group: u64,
    /// Its VMs, in the order of the request.
    pub vms: Vec<VmRecord>,
}
