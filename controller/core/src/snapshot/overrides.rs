//! Manual overrides, as they are shown.

use crate::migration::MigrationRef;
use crate::network::pinned_paths;
use serde::{Deserialize, Serialize};
use tandem_model::{NodeId, PortNo, SwitchId, Time, VmId};

/// What the operator has decided by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "override")]
pub enum OverrideView {
    /// A port is off.
    PortOff {
        /// The switch's name.
        switch: String,
        /// The port's number.
        port: PortNo,
        /// Since when.
        since: Time,
        /// True when it is to be on again as soon as its switch is back.
        lifted: bool,
    },
    /// A VM's path goes by these switches.
    PathPinned {
        /// Which VM.
        vm: VmId,
        /// From the server on.
        switches: Vec<String>,
        /// False while that cannot be and the VM has another path.
        kept: bool,
    },
}

pub(crate) fn overrides(core: MigrationRef<'_>) -> Vec<OverrideView> {
    let topology = &core.cx.site.topology;
    let name = |switch: SwitchId| topology.name(NodeId::Switch(switch)).to_owned();
    let ports = core.net.ports.iter().map(|o| OverrideView::PortOff {
        switch: name(o.switch),
        port: o.port,
        since: o.since,
        lifted: o.up,
    });
    let pins = core.compute.vms.values().map(|v| &v.record).filter_map(|record| {
        Some(OverrideView::PathPinned {
            vm: record.id,
            switches: record.pin.as_ref()?.iter().map(|s| name(*s)).collect(),
            kept: pinned_paths::keeps_pin(topology, record),
        })
    });
    ports.chain(pins).collect()
}
