//! Switches and their ports, as they are shown.

use crate::migration::MigrationRef;
use crate::network::agent_ports::{AgentPort, ClassCounters};
use crate::network::topology_state::Sync;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tandem_model::{BitRate, Dpid, NodeId, PortNo, QueueSelection, Role, SwitchId};

/// A switch as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SwitchView {
    /// Name in the site; the datapath id for a switch that the site does not know.
    pub name: String,
    /// Datapath id.
    pub dpid: Dpid,
    /// Level; `None` for a switch that the site does not know.
    pub role: Option<Role>,
    /// Speaks no OpenFlow.
    pub legacy: bool,
    /// Connected to the controller.
    pub connected: bool,
    /// Whether it has confirmed its rules.
    pub sync: Sync,
    /// OpenFlow version, once it connected.
    pub version: Option<String>,
    /// Manufacturer, hardware, software.
    pub description: String,
    /// Number of our rules in it.
    pub rules: usize,
    /// Sum of what its ports send over the sum of their links' capacities, 0 to 1.
    pub ratio: f64,
    /// Its ports.
    pub ports: Vec<PortView>,
}

/// A switch port as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PortView {
    /// Number.
    pub port: PortNo,
    /// Name on the switch.
    pub name: String,
    /// Enabled, with a link.
    pub up: bool,
    /// What the site says is plugged in, e.g. `srv1.1`; empty if nothing.
    pub peer: String,
    /// Smoothed rate in, bit/s. This and the counters are `None` where the switch does not count.
    pub rx: Option<BitRate>,
    /// Smoothed rate out, bit/s.
    pub tx: Option<BitRate>,
    /// Bytes in, as counted by the switch.
    pub rx_bytes: Option<u64>,
    /// Bytes out.
    pub tx_bytes: Option<u64>,
    /// Packets in.
    pub rx_packets: Option<u64>,
    /// Packets out.
    pub tx_packets: Option<u64>,
    /// Packets dropped, in and out.
    pub dropped: Option<u64>,
    /// Errors, in and out.
    pub errors: Option<u64>,
    /// Frame alignment errors in.
    #[serde(default)]
    pub rx_frame_errors: Option<u64>,
    /// Overruns in: packets that came faster than they were taken.
    #[serde(default)]
    pub rx_overrun_errors: Option<u64>,
    /// Check sequence (CRC) errors in.
    #[serde(default)]
    pub rx_crc_errors: Option<u64>,
    /// Collisions.
    #[serde(default)]
    pub collisions: Option<u64>,
    /// Switched off by the operator.
    #[serde(default)]
    pub switched_off: bool,
    /// How classes are chosen here; `None` while no agent manages the port.
    pub selection: Option<QueueSelection>,
    /// What each class has sent here, in the classes' order; empty while no agent has told.
    pub classes: Vec<ClassCounters>,
    /// The port as its agent sees it; `None` while none tells.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<AgentPort>))]
    pub agent: Option<Arc<AgentPort>>,
}

pub(crate) fn switches(core: MigrationRef<'_>) -> Vec<Arc<SwitchView>> {
    let declared = (0..core.cx.site.topology.switches.len() as u32).filter_map(|n| switch(core, SwitchId(n)));
    let unknown = core.net.live.unknown().iter().map(|(dpid, caps)| SwitchView {
        name: dpid.to_string(),
        dpid: *dpid,
        role: None,
        legacy: false,
        connected: true,
        sync: Sync::Never,
        version: Some(caps.version.clone()),
        description: caps.description.clone(),
        rules: 0,
        ratio: 0.0,
        ports: Vec::new(),
    });
    declared.chain(unknown).map(Arc::new).collect()
}

pub(crate) fn switch(core: MigrationRef<'_>, id: SwitchId) -> Option<SwitchView> {
    let topology = &core.cx.site.topology;
    let switch = topology.switch(id)?;
    let live = core.net.live.switch(id);
    let (mut sent, mut capacity) = (0u64, 0u64);
    for (port, link) in topology.ports(NodeId::Switch(id)) {
        capacity = capacity.saturating_add(topology.link(*link).map_or(0, |l| l.cfg.rate.0));
        sent = sent
            .saturating_add(core.net.statistics.of_port(id, *port).and_then(|p| p.tx()).map_or(0, |r| r.0));
    }
    let ports = live.map(|l| l.ports.values().map(|p| port(core, id, p)).collect()).unwrap_or_default();
    let caps = live.and_then(|l| l.caps.as_ref());
    Some(SwitchView {
        name: switch.name.clone(),
        dpid: switch.dpid,
        role: Some(switch.role),
        legacy: switch.legacy,
        connected: live.is_some_and(|l| l.connected),
        sync: live.map_or(Sync::Never, |l| l.sync.0),
        version: caps.map(|c| c.version.clone()),
        description: caps.map(|c| c.description.clone()).unwrap_or_default(),
        rules: core.rules.desired.count(id),
        ratio: if capacity == 0 { 0.0 } else { sent as f64 / capacity as f64 },
        ports,
    })
}

pub(crate) fn port(core: MigrationRef<'_>, switch: SwitchId, info: &tandem_model::PortInfo) -> PortView {
    let topology = &core.cx.site.topology;
    let node = NodeId::Switch(switch);
    let peer = topology.link_at(node, info.port).and_then(|l| topology.link(l)?.other(node));
    let stats = core.net.statistics.of_port(switch, info.port);
    let count =
        |f: fn(&tandem_model::PortCounters) -> Option<u64>| stats.map_or(Some(0), |s| f(&s.sample.counters));
    PortView {
        port: info.port,
        name: info.name.clone(),
        up: info.up,
        peer: peer.map(|e| format!("{}.{}", topology.name(e.node), e.port)).unwrap_or_default(),
        rx: stats.map_or(Some(BitRate::default()), |s| s.rx()),
        tx: stats.map_or(Some(BitRate::default()), |s| s.tx()),
        rx_bytes: count(|s| s.rx_bytes),
        tx_bytes: count(|s| s.tx_bytes),
        rx_packets: count(|s| s.rx_packets),
        tx_packets: count(|s| s.tx_packets),
        dropped: count(|c| tandem_model::sum([c.rx_dropped, c.tx_dropped])),
        errors: count(|c| tandem_model::sum([c.rx_errors, c.tx_errors])),
        rx_frame_errors: count(|c| c.rx_frame_errors),
        rx_overrun_errors: count(|c| c.rx_overrun_errors),
        rx_crc_errors: count(|c| c.rx_crc_errors),
        collisions: count(|c| c.collisions),
        switched_off: core.net.ports.is_off(switch, info.port),
        selection: core.rules.classes.selection(switch, info.port),
        classes: core.rules().class_counters(switch, info.port),
        agent: core.net.managed.port(switch, info.port).cloned(),
    }
}
