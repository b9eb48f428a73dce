//! Servers, as they are shown.

use crate::compute::host_load::LoadView;
use crate::migration::MigrationRef;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tandem_model::{NodeId, Resources, ServerId, VmId};

/// A server as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServerView {
    /// Id.
    pub id: ServerId,
    /// Name.
    pub name: String,
    /// Its own address.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub address: Ipv4Addr,
    /// Its edge switch.
    pub edge: String,
    /// What it has, margin included.
    pub capacity: Resources,
    /// What is reserved.
    pub used: Resources,
    /// VMs on it.
    pub vms: Vec<VmId>,
    /// What it uses, as its hypervisor measures it; `None` where it does not.
    pub load: Option<LoadView>,
    /// It is out of service: it gets no more VMs.
    #[serde(default)]
    pub drained: bool,
}

pub(crate) fn server(core: MigrationRef<'_>, id: ServerId, vms: Vec<VmId>) -> ServerView {
    let topology = &core.cx.site.topology;
    let view = core.compute.inventory.server(id).copied();
    ServerView {
        id,
        name: topology.name(NodeId::Server(id)).to_owned(),
        address: topology.server(id).map_or(Ipv4Addr::UNSPECIFIED, |s| s.address),
        edge: topology
            .edge_of(id, 0)
            .map(|e| topology.name(NodeId::Switch(e)).to_owned())
            .unwrap_or_default(),
        capacity: view.map(|v| v.capacity).unwrap_or_default(),
        used: view.map(|v| v.used).unwrap_or_default(),
        vms,
        load: core.compute().server_load(id),
        drained: core.compute().is_drained(id),
    }
}
