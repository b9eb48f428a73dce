//! VMs that are requested together, and what a request would lead to.

use crate::views::VmRecord;
use crate::vms::NewVm;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
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
    #[serde(deserialize_with = "objects")]
    pub members: Vec<NewVm>,
    /// What each member may send to each other one, bit/s, reserved on the links between them;
    /// nothing is reserved where it is left out.
    pub rate: Option<u64>,
    /// Keep the members apart: on different servers, or behind different edge switches.
    pub spread: Option<SpreadLevel>,
}

/// VMs as objects: serde would also take an empty list for one in which nothing is said.
fn objects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NewVm>, D::Error> {
    let members = Vec::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
    let vm = |object| NewVm::deserialize(serde_json::Value::Object(object)).map_err(D::Error::custom);
    members.into_iter().map(vm).collect()
}

/// A group whose VMs run and are connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmGroup {
    /// The group's number.
    pub group: u64,
    /// Its VMs, in the order of the request.
    pub vms: Vec<VmRecord>,
}
