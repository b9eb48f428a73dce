//! The snapshot: what the outside may read. Immutable, shared, and rebuilt part by part: a part
//! that did not change is the same allocation as in the snapshot before.

pub mod host_pages;

use crate::compute::host_load::LoadView;
use crate::compute::moves::MigrationView;
use crate::compute::strays::Stray;
use crate::counters::Counters;
use crate::dirty::Dirty;
use crate::migration::MigrationRef;
use crate::migration::views::{HotspotView, PlanView};
use crate::network::agent_ports::{AgentPort, ClassCounters};
use crate::network::host_tracker::{Host, HostKind};
use crate::network::links::LinkState;
use crate::network::pinned_paths;
use crate::network::rule_counters::RuleReading;
use crate::network::topology_state::{Sync, WiringMismatch};
use crate::rules::qos::ClassView;
pub use crate::snapshot::host_pages::HostView;
use crate::snapshot::host_pages::HostViews;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tandem_model::{
    BitRate, Dpid, GroupRecord, Hop, LinkId, Mac, NodeId, Notice, PortNo, QueueSelection, Resources, Role,
    Rule, ServerId, Site, SwitchId, Time, VmId, VmRecord,
};

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

/// A declared link as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LinkView {
    /// `agg1.2<->edge1.1`.
    pub name: String,
    /// The seed's CSV column: `dpid.port<->dpid.port`, or `dpid.port` for a host's link.
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

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    /// When it was taken.
    pub at: Time,
    /// The site.
    #[serde(skip)]
    pub site: Arc<Site>,
    /// The allocation policy's name.
    pub policy: String,
    /// The attached world's name.
    pub world: Option<String>,
    /// Switches, declared ones first, in order of id.
    pub switches: Arc<Vec<Arc<SwitchView>>>,
    /// Service classes, by `ClassId`.
    pub classes: Arc<Vec<ClassView>>,
    /// Declared links, by `LinkId`.
    pub links: Arc<Vec<LinkView>>,
    /// What is wired otherwise than declared, in words.
    pub surprises: Arc<Vec<String>>,
    /// Servers, by `ServerId`.
    pub servers: Arc<Vec<Arc<ServerView>>>,
    /// Hosts, in order of address.
    pub hosts: HostViews,
    /// VMs, in order of id.
    pub vms: Arc<Vec<VmView>>,
    /// VMs at hypervisors that there is no record of, in order of id.
    pub strays: Arc<Vec<StrayView>>,
    /// Groups, in order of id.
    pub groups: Arc<Vec<GroupRecord>>,
    /// What the operator has decided by hand: ports first, then paths.
    pub overrides: Arc<Vec<OverrideView>>,
    /// Migrations: those under way, then the last that have ended, latest first.
    pub migrations: Arc<Vec<MigrationView>>,
    /// Plans: the latest first.
    pub plans: Arc<Vec<PlanView>>,
    /// Servers and links that are used too much.
    pub hotspots: Arc<Vec<HotspotView>>,
    /// Rules as sent, per declared switch.
    pub rules: Arc<Vec<Arc<Vec<Rule>>>>,
    /// What each declared switch has counted of our rules, as of its last reading.
    pub rule_readings: Arc<Vec<Arc<RuleReading>>>,
    /// The latest notices, oldest first.
    pub notices: Arc<Vec<Notice>>,
    /// Numbers since the start.
    pub counters: Counters,
}

impl Snapshot {
    pub(crate) fn empty(site: Arc<Site>) -> Snapshot {
        let rules = site.topology.switches.iter().map(|_| Arc::default()).collect();
        let rule_readings = site.topology.switches.iter().map(|_| Arc::default()).collect();
        Snapshot {
            version: 0,
            at: Time::ZERO,
            site,
            policy: String::new(),
            world: None,
            switches: Arc::default(),
            classes: Arc::default(),
            links: Arc::default(),
            surprises: Arc::default(),
            servers: Arc::default(),
            hosts: HostViews::default(),
            vms: Arc::default(),
            strays: Arc::default(),
            groups: Arc::default(),
            overrides: Arc::default(),
            migrations: Arc::default(),
            plans: Arc::default(),
            hotspots: Arc::default(),
            rules: Arc::new(rules),
            rule_readings: Arc::new(rule_readings),
            notices: Arc::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn updated(
        &self,
        core: MigrationRef<'_>,
        dirty: &Dirty,
        hosts: &BTreeSet<Ipv4Addr>,
    ) -> Snapshot {
        let mut next = self.clone();
        next.version += 1;
        next.at = core.cx.wall_now();
        next.policy = core.compute.inventory.policy().to_owned();
        next.world = core.compute.world.as_ref().map(|w| w.name.clone());
        next.counters = core.compute.counters;
        if dirty.switches {
            next.switches = Arc::new(switches(core));
            next.classes = Arc::new(core.rules.classes.views(&core.cx.site));
        } else if !dirty.some_switches.is_empty() {
            let switches = Arc::make_mut(&mut next.switches);
            for id in &dirty.some_switches {
                if let (Some(slot), Some(view)) = (switches.get_mut(id.0 as usize), switch(core, *id)) {
                    *slot = Arc::new(view);
                }
            }
        }
        if dirty.links {
            next.links = Arc::new(
                (0..core.cx.site.topology.links.len()).map(|n| link(core, LinkId(n as u32))).collect(),
            );
            next.surprises = Arc::new(core.net.live.surprises().map(|s| surprise(core, s)).collect());
        }
        // Which VMs are on which server is found once for all of them.
        let mut on: BTreeMap<ServerId, Vec<VmId>> = BTreeMap::new();
        if dirty.all_servers || !dirty.servers.is_empty() {
            core.compute.vms.values().for_each(|v| on.entry(v.record.server).or_default().push(v.record.id));
        }
        let mut server =
            |core: MigrationRef<'_>, id: ServerId| server(core, id, on.remove(&id).unwrap_or_default());
        if dirty.all_servers {
            let count = core.compute.inventory.servers().len() as u32;
            next.servers = Arc::new((0..count).map(|n| Arc::new(server(core, ServerId(n)))).collect());
        } else if !dirty.servers.is_empty() {
            let servers = Arc::make_mut(&mut next.servers);
            for id in &dirty.servers {
                if let Some(slot) = servers.get_mut(id.0 as usize) {
                    *slot = Arc::new(server(core, *id));
                }
            }
        }
        for address in hosts {
            next.hosts.set(*address, core.net.hosts.get(*address).map(|h| host(core, *address, h)));
        }
        if dirty.vms {
            next.vms = Arc::new(core.compute.vms.values().map(|v| vm(core, &v.record)).collect());
            next.strays = Arc::new(core.compute.strays.iter().map(|s| stray(core, s)).collect());
            next.groups = Arc::new(core.compute.groups.values().cloned().collect());
        }
        if dirty.vms || dirty.switches {
            next.overrides = Arc::new(overrides(core));
        }
        if !dirty.rules.is_empty() {
            let rules = Arc::make_mut(&mut next.rules);
            for id in &dirty.rules {
                if let Some(slot) = rules.get_mut(id.0 as usize) {
                    *slot = Arc::new(core.rules.desired.sent(*id).cloned().collect());
                }
            }
        }
        if !dirty.rule_readings.is_empty() {
            let readings = Arc::make_mut(&mut next.rule_readings);
            for id in &dirty.rule_readings {
                if let Some(slot) = readings.get_mut(id.0 as usize) {
                    *slot = core.net.rule_readings.of(*id);
                }
            }
        }
        if dirty.plans {
            next.plans = Arc::new(core.migration.plans.views());
        }
        if dirty.hotspots {
            next.hotspots = Arc::new(core.hotspot_views());
        }
        if dirty.migrations {
            next.migrations = Arc::new(core.compute.migrations.views());
        }
        if dirty.notices {
            next.notices = Arc::new(core.cx.notices.iter().cloned().collect());
        }
        next
    }

    /// A declared switch, by name or datapath id.
    pub fn switch_named(&self, switch: &str) -> Option<SwitchId> {
        let dpid = switch.parse::<Dpid>().ok();
        let switches = &self.site.topology.switches;
        let n = switches.iter().position(|s| s.name == switch || Some(s.dpid) == dpid)?;
        Some(SwitchId(n as u32))
    }

    /// The rules of a switch, by name or datapath id.
    pub fn rules_of(&self, switch: &str) -> Option<&Arc<Vec<Rule>>> {
        self.rules.get(self.switch_named(switch)?.0 as usize)
    }

    /// What a declared switch has counted of our rules.
    pub fn rule_reading(&self, switch: SwitchId) -> Option<&Arc<RuleReading>> {
        self.rule_readings.get(switch.0 as usize)
    }
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
        (_, _, Some(Role::Aggregation)) => LinkLevel::Aggregation,
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

pub(crate) fn host(core: MigrationRef<'_>, address: Ipv4Addr, host: &Host) -> HostView {
    let topology = &core.cx.site.topology;
    HostView {
        name: core.cx.host_name(host.kind),
        kind: match host.kind {
            HostKind::Server(_) => "server",
            HostKind::Gateway(_) => "gateway",
            HostKind::Vm(_) => "vm",
            HostKind::Stranger if core.cx.site.addresses.gateways.contains(address) => "gateway",
            HostKind::Stranger => "stranger",
        }
        .into(),
        address,
        mac: host.mac,
        at: host.at.map(|(s, p)| format!("{}.{p}", topology.name(NodeId::Switch(s)))),
        seen: host.at.map(|_| core.cx.by_wall_clock(host.seen)),
    }
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
