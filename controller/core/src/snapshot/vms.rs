//! VMs, and those without a record, as they are shown.

use crate::compute::host_load::LoadView;
use crate::compute::strays::Stray;
use crate::migration::MigrationRef;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tandem_model::{BitRate, Mac, NodeId, Resources, ServerId, VmId, VmRecord};

/// A VM as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VmView {
    /// All that is decided.
    #[serde(flatten)]
    pub record: VmRecord,
    /// Its server's name.
    pub server_name: String,
    /// Its gateway's name.
    pub gateway_name: String,
    /// Names along its path to the gateway.
    pub path: Vec<String>,
    /// Smoothed rate of its traffic, in and out together.
    pub rate: BitRate,
    /// What it uses, as its hypervisor measures it; `None` where it does not.
    pub load: Option<LoadView>,
}

/// A VM that runs without a record of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StrayView {
    /// Its id.
    pub id: VmId,
    /// Where it is.
    pub server: ServerId,
    /// That server's name.
    pub server_name: String,
    /// Its name, for people.
    pub name: Option<String>,
    /// False when it is there but does not run.
    pub runs: bool,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address, where it is known.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub address: Option<Ipv4Addr>,
    /// What it has, where that is kept with it.
    pub resources: Option<Resources>,
    /// What must be said to adopt it, by the names of `tandem vm adopt`'s options.
    pub lacks: Vec<String>,
    /// There is a record of a VM with its id, which is another one or on another server.
    pub id_is_taken: bool,
    /// The server where the record of this same VM has it: adopted, it stays where it is and the
    /// record follows.
    #[serde(default)]
    pub recorded_on: Option<String>,
    /// Why this controller does not serve it: it has at most the rules that switches had for it.
    /// `None` where its network is as if it had a record.
    #[serde(default)]
    pub unserved: Option<String>,
}

pub(crate) fn vm(core: MigrationRef<'_>, record: &VmRecord) -> VmView {
    let topology = &core.cx.site.topology;
    let nodes = tandem_model::paths::nodes(topology, NodeId::Server(record.server), &record.path_up);
    VmView {
        server_name: topology.name(NodeId::Server(record.server)).to_owned(),
        gateway_name: topology.name(NodeId::Gateway(record.gateway)).to_owned(),
        path: nodes.into_iter().map(|n| topology.name(n).to_owned()).collect(),
        rate: core.net.statistics.of_vm(record.id).map(|s| s.rate()).unwrap_or_default(),
        load: core.compute().vm_load(record.id),
        record: record.clone(),
    }
}

pub(crate) fn stray(core: MigrationRef<'_>, s: &Stray) -> StrayView {
    StrayView {
        id: s.found.vm,
        server: s.found.server,
        server_name: core.cx.server_name(s.found.server),
        name: s.found.spec.as_ref().and_then(|spec| spec.name.clone()),
        runs: s.found.runs,
        mac: s.mac(),
        address: s.address,
        resources: s.found.spec.as_ref().map(|spec| spec.resources),
        lacks: s.lacks().into_iter().map(str::to_owned).collect(),
        id_is_taken: core.compute.vms.contains_key(&s.found.vm),
        recorded_on: core.compute().record_elsewhere(s).map(|r| core.cx.server_name(r.server)),
        unserved: s.network.refused().map(str::to_owned),
    }
}
