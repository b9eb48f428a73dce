//! The snapshot: what the outside may read. Immutable, shared, and rebuilt part by part: a part
//! that did not change is the same allocation as in the snapshot before.

pub mod host_pages;
mod links;
mod overrides;
mod servers;
mod switches;
mod vms;

use crate::compute::moves::MigrationView;
use crate::counters::Counters;
use crate::dirty::Dirty;
use crate::migration::MigrationRef;
use crate::migration::views::{HotspotView, PlanView};
use crate::network::host_tracker::{Host, HostKind};
use crate::network::rule_counters::RuleReading;
use crate::rules::qos::ClassView;
pub use crate::snapshot::host_pages::HostView;
use crate::snapshot::host_pages::HostViews;
pub use crate::snapshot::links::{LinkLevel, LinkView};
use crate::snapshot::links::{link, surprise};
pub use crate::snapshot::overrides::OverrideView;
use crate::snapshot::overrides::overrides;
pub use crate::snapshot::servers::ServerView;
use crate::snapshot::servers::server;
pub use crate::snapshot::switches::{PortView, SwitchView};
use crate::snapshot::switches::{switch, switches};
pub use crate::snapshot::vms::{StrayView, VmView};
use crate::snapshot::vms::{stray, vm};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tandem_model::{Dpid, GroupRecord, LinkId, NodeId, Notice, Rule, ServerId, Site, SwitchId, Time, VmId};

/// Everything that the API shows, as it was at one moment.
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
    /// What is wired otherwise than declared, as text.
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

pub(crate) fn host(core: MigrationRef<'_>, address: Ipv4Addr, host: &Host) -> HostView {
    let topology = &core.cx.site.topology;
    HostView {
        name: core.cx.host_name(host.kind),
        kind: match host.kind {
            HostKind::Server(_) => "server",
            HostKind::Gateway(_) => "gateway",
            HostKind::Vm(_) => "vm",
            HostKind::Unknown if core.cx.site.addresses.gateways.contains(address) => "gateway",
            HostKind::Unknown => "unknown",
        }
        .into(),
        address,
        mac: host.mac,
        at: host.at.map(|(s, p)| format!("{}.{p}", topology.name(NodeId::Switch(s)))),
        seen: host.at.map(|_| core.cx.by_wall_clock(host.seen)),
    }
}
