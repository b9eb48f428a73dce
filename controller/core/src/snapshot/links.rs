//! Links, and cables that are plugged in otherwise than declared, as they are shown.

use crate::migration::MigrationRef;
use crate::network::links::LinkState;
use crate::network::topology_state::WiringMismatch;
use serde::{Deserialize, Serialize};
use tandem_model::{BitRate, Dpid, Hop, LinkId, NodeId, PortNo, Role};

/// A declared link as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LinkView {
    /// `agg1.2<->edge1.1`.
    pub name: String,
    /// The thesis' CSV column: `dpid.port<->dpid.port`, or `dpid.port` for a host's link.
    pub column: String,
    /// Level of its lower switch (of its switch, for a gateway's link).
    pub level: LinkLevel,
    /// `declared`, `confirmed`, `down`, `missing`.
    pub state: String,
    /// Its ports that the operator has switched off.
    #[serde(default)]
    pub switched_off: Vec<String>,
    /// Capacity of each direction, bit/s.
    pub capacity: BitRate,
    /// Measured upwards, smoothed, bit/s.
    pub up: BitRate,
    /// Measured downwards.
    pub down: BitRate,
    /// Reserved upwards.
    pub reserved_up: BitRate,
    /// Reserved downwards.
    pub reserved_down: BitRate,
    /// The busier direction over the capacity.
    pub ratio: f64,
    /// The switches at its ends do not count what goes over it: nothing is measured then.
    #[serde(default)]
    pub uncounted: bool,
}

/// Which links belong together in statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LinkLevel {
    /// Gateway to core.
    Core,
    /// Core to aggregation.
    Aggregation,
    /// Aggregation (or core) to edge, and between edges.
    Edge,
    /// Edge to server.
    Host,
}

pub(crate) fn link(core: MigrationRef<'_>, id: LinkId) -> LinkView {
    let topology = &core.cx.site.topology;
    let Some(link) = topology.link(id) else {
        return LinkView {
            name: id.to_string(),
            column: id.to_string(),
            level: LinkLevel::Host,
            state: "down".into(),
            switched_off: Vec::new(),
            capacity: BitRate(0),
            up: BitRate(0),
            down: BitRate(0),
            reserved_up: BitRate(0),
            reserved_down: BitRate(0),
            ratio: 0.0,
            uncounted: false,
        };
    };
    let (up, down) = (Hop { link: id, down: false }, Hop { link: id, down: true });
    let role = |node: NodeId| match node {
        NodeId::Switch(s) => topology.switch(s).map(|s| s.role),
        _ => None,
    };
    let level = match (link.a.node, link.b.node, role(link.b.node)) {
        (_, NodeId::Server(_), _) => LinkLevel::Host,
        (NodeId::Gateway(_), ..) | (_, NodeId::Gateway(_), _) => LinkLevel::Core,
        (_, _, Some(Role::Core | Role::Aggregation)) => LinkLevel::Aggregation,
        _ => LinkLevel::Edge,
    };
    let column: Vec<String> = [link.a, link.b]
        .iter()
        .filter_map(|e| match e.node {
            NodeId::Switch(s) => topology.switch(s).map(|s| format!("{}.{}", s.dpid, e.port)),
            _ => None,
        })
        .collect();
    LinkView {
        name: core.cx.link_name(id),
        column: column.join("<->"),
        level,
        state: match core.net.links.state(id) {
            LinkState::Declared => "declared",
            LinkState::Confirmed => "confirmed",
            LinkState::Down => "down",
            LinkState::Missing => "missing",
        }
        .into(),
        switched_off: core.network().switched_off(id),
        capacity: link.cfg.rate,
        up: core.net.links.measured(up),
        down: core.net.links.measured(down),
        reserved_up: core.net.links.reserved(up),
        reserved_down: core.net.links.reserved(down),
        ratio: core.net.links.ratio(id),
        uncounted: core.net.links.is_uncounted(up) && core.net.links.is_uncounted(down),
    }
}

pub(crate) fn surprise(core: MigrationRef<'_>, surprise: WiringMismatch) -> String {
    let port = |(dpid, port): (Dpid, PortNo)| format!("{}.{port}", core.network().switch_name(dpid));
    match surprise {
        WiringMismatch::Miswired { link, from, to } => {
            format!("{} is plugged into {}; declared: {}", port(from), port(to), core.cx.link_name(link))
        }
        WiringMismatch::Unknown { from, to } => {
            format!("{} is plugged into {}; not declared", port(from), port(to))
        }
    }
}
