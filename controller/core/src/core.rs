//! The core's state, its door, and the order in which an event goes through the services.

use crate::access_ports::AccessPorts;
use crate::classes::Classes;
use crate::hosts::{HostKind, Hosts};
use crate::inventory::Inventory;
use crate::lifecycle::Vm;
use crate::links::LinkTable;
use crate::live::{LiveTopology, Sync};
use crate::load::Loads;
use crate::managed::Managed;
use crate::migration::hotspot::Hotspots;
use crate::migration::kept::Plans;
use crate::migration::policies::{Parts, Policy};
use crate::migration::state::Migrations;
use crate::operator::PortOverrides;
use crate::policy;
use crate::port_damping::PortDamping;
use crate::port_notices::PortAllowances;
use crate::routes::Routes;
use crate::rules::changes::{Changes, Present};
use crate::rules::{Desired, compile};
use crate::snapshot::{Dirty, Snapshot};
use crate::statistics::{BELIEVABLE, Statistics};
use crate::stored::StoreWait;
use crate::strays::Strays;
use crate::timers::{Timer, Timers};
use crate::wall_clock::WallClock;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tandem_model::text::escaped_to;
use tandem_model::{
    BitRate, Dpid, Effect, Event, GroupId, GroupRecord, Hop, Level, LinkId, NodeId, Notice, Owner,
    PersistedState, PortNo, PortSample, Request, RequestId, Response, ServerId, Site, StoreId, StoreOp,
    SwitchId, Time, VmId,
};

/// How many notices the snapshot keeps.
const NOTICES: usize = 200;
/// Characters of a notice's text at most.
const NOTICE_TEXT: usize = 1000;

/// How long a poll on demand waits for slow switches.
const POLL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// The hypervisor service that is attached.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) traffic: bool,
}

/// Numbers that the operator asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// VM requests.
    pub requested: u64,
    /// Requests that led to a running VM.
    pub accepted: u64,
    /// Requests that could not be met.
    pub rejected: u64,
    /// Requests that were placed but failed to start.
    pub failed: u64,
    /// VMs whose time ran out.
    pub expired: u64,
    /// VMs that were given another path.
    pub rerouted: u64,
    /// VMs that were moved to another server.
    #[serde(default)]
    pub migrated: u64,
    /// Migrations that were undone, or that lost their VM.
    #[serde(default)]
    pub migrations_undone: u64,
}

/// See the crate. One owner, no locks.
pub struct Core {
    pub(crate) site: Arc<Site>,
    pub(crate) now: Time,
    pub(crate) live: LiveTopology,
    pub(crate) classes: Classes,
    pub(crate) links: LinkTable,
    pub(crate) routes: Routes,
    pub(crate) access: AccessPorts,
    pub(crate) hosts: Hosts,
    pub(crate) desired: Desired,
    pub(crate) changes: Changes,
    pub(crate) statistics: Statistics,
    pub(crate) managed: Managed,
    pub(crate) loads: Loads,
    pub(crate) policies: Parts,
    pub(crate) hotspots: Hotspots,
    pub(crate) plans: Plans,
    pub(crate) ports: PortOverrides,
    pub(crate) inventory: Inventory,
    pub(crate) addresses: crate::addressing::Pools,
    pub(crate) vms: BTreeMap<VmId, Vm>,
    /// VMs whose path was ever pinned: only these are looked at when a pinned path may have become free.
    pub(crate) pinned: BTreeSet<VmId>,
    pub(crate) groups: BTreeMap<GroupId, GroupRecord>,
    pub(crate) world: Option<World>,
    /// Why no hypervisor service serves this controller, when one has said so.
    pub(crate) refused: Option<String>,
    /// VMs that run without a record of them.
    pub(crate) strays: Strays,
    /// Servers whose hypervisors do not answer, and why: nothing is known of what runs there.
    pub(crate) away: BTreeMap<ServerId, String>,
    pub(crate) last_vm: u64,
    pub(crate) last_group: u64,
    pub(crate) migrations: Migrations,
    pub(crate) last_store: u64,
    pub(crate) stores: BTreeMap<StoreId, StoreWait>,
    /// The last write failed; said once.
    pub(crate) store_is_down: bool,
    pub(crate) polls: BTreeMap<RequestId, BTreeSet<SwitchId>>,
    pub(crate) timers: Timers,
    pub(crate) wall_clock: WallClock,
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) counters: Counters,
    pub(crate) allowances: PortAllowances,
    pub(crate) damping: PortDamping,
    pub(crate) dirty: Dirty,
    pub(crate) published: Arc<Snapshot>,
    pub(crate) effects: Vec<Effect>,
}

impl Core {
    /// A core for `site`, with what the store holds, at `now`, which is also what the wall clock says then. It has one of the built-in policies, by the site's choice.
    pub fn new(site: Arc<Site>, stored: PersistedState, now: Time) -> Core {
        let policy = policy::built_in(site.policy.allocation);
        Core::with_policy(site, stored, now, policy)
    }

    /// The same with a policy of one's own: a boxed allocation policy, or a [`Policy`] with the parts of migration too.
    pub fn with_policy(
        site: Arc<Site>,
        stored: PersistedState,
        now: Time,
        policy: impl Into<Policy>,
    ) -> Core {
        let Policy { allocation, when, which, place, path } = policy.into();
        let topology = &site.topology;
        let links = LinkTable::new(topology, site.policy.link_margin);
        let routes = Routes::new(topology, &links);
        let access = AccessPorts::new(topology);
        let mut desired = Desired::new(topology.switches.len());
        desired.replace(Owner::Fabric, compile::plan(&site, &routes, &BTreeSet::new()));
        let mut core = Core {
            now,
            live: LiveTopology::new(topology, now),
            classes: Classes::new(&site),
            routes,
            hosts: Hosts::new(&site.addresses),
            desired,
            changes: Changes::default(),
            statistics: Statistics::new(topology.switches.len(), site.statistics.history_weight),
            managed: Managed::default(),
            loads: Loads::new(site.statistics.history_weight),
            policies: Parts { when, which, place, path },
            hotspots: Hotspots::default(),
            plans: Plans::after(
                stored.migrations.iter().filter_map(|m| m.plan).map(|p| p.0).max().unwrap_or(0),
            ),
            ports: PortOverrides::default(),
            inventory: Inventory::new(topology, allocation, site.policy.ties, site.policy.server_margin),
            addresses: crate::addressing::Pools::new(&site),
            vms: BTreeMap::new(),
            pinned: BTreeSet::new(),
            groups: BTreeMap::new(),
            world: None,
            refused: None,
            strays: Strays::default(),
            away: BTreeMap::new(),
            last_vm: stored.last_vm,
            last_group: stored.last_group,
            migrations: Migrations::default(),
            last_store: 0,
            stores: BTreeMap::new(),
            store_is_down: false,
            polls: BTreeMap::new(),
            timers: Timers::default(),
            wall_clock: WallClock::default(),
            notices: VecDeque::new(),
            counters: Counters::default(),
            allowances: PortAllowances::new(access.keys(), now),
            damping: PortDamping::new(access.keys(), topology.switches.len(), now),
            access,
            dirty: Dirty::all(topology.switches.len()),
            published: Arc::new(Snapshot::empty(site.clone())),
            effects: Vec::new(),
            links,
            site,
        };
        core.declare_hosts();
        core.restore_drained(&stored.drained);
        core.restore(stored);
        core.set_keep_policy_timer();
        for n in 0..core.site.topology.switches.len() as u32 {
            core.timers.set(now + core.site.discovery.switch_grace, Timer::SwitchGrace(SwitchId(n)));
        }
        if core.site.modules.discovery {
            core.timers.set(now + core.sweep_period(), Timer::LinkSweep);
        }
        core
    }

    fn declare_hosts(&mut self) {
        let site = self.site.clone();
        for (n, server) in (0u32..).zip(&site.topology.servers) {
            let id = ServerId(n);
            let at = (0..server.uplinks.len()).filter_map(|u| compile::uplink_port(&site.topology, id, u));
            self.hosts.declare(server.address, HostKind::Server(id), server.mac, at.collect());
        }
        for (n, gateway) in (0u32..).zip(&site.topology.gateways) {
            let id = tandem_model::GatewayId(n);
            let at = self.access.of_gateway(id).collect();
            self.hosts.declare(gateway.address, HostKind::Gateway(id), gateway.mac, at);
        }
    }

    /// The site this core runs.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// When the core wants to be woken (by any event, `Wake` if there is none); `None` when it waits for nothing.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Takes in what happened at `now` (which never decreases) and returns what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Effect> {
        self.now = self.now.max(now);
        while let Some(timer) = self.timers.take_due(self.now) {
            self.on_timer(timer);
        }
        match event {
            Event::SwitchUp { switch, ports, caps } => self.on_switch_up(switch, ports, caps),
            Event::SwitchDown { switch, why } => self.on_switch_down(switch, &why),
            Event::SwitchTrouble { switch, what } => {
                let text = format!("{}: {what}", self.switch_name(switch));
                self.notice(Level::Warning, "switch-trouble", text);
            }
            Event::PortChanged { switch, port, removed } => self.on_port_changed(switch, port, removed),
            Event::LinkSeen { from, to } => self.on_link_seen(from, to),
            Event::ArpSeen { switch, port, arp } => self.on_arp(switch, port, arp),
            Event::HostSeen { switch, port, mac, ip } => self.on_host_seen(switch, port, mac, ip),
            Event::DhcpSeen { switch, port, dhcp } => self.on_dhcp(switch, port, &dhcp),
            Event::Samples { switch, ports, flows } => self.on_samples(switch, ports, &flows),
            Event::RulesApplied { switch, txn, .. } => {
                self.on_sync(switch, txn, Sync::Done);
                let live = &self.live;
                let site = self.site.clone();
                let connected = |s: SwitchId| connected(live, &site, s);
                let present = Present { connected: &connected, desired: &self.desired };
                let outcome = self.changes.applied(txn, &present, &mut self.effects);
                outcome.into_iter().for_each(|o| self.on_outcome(o));
            }
            Event::MetadataRefused { switch, txn, why } => self.on_metadata_refused(switch, txn, &why),
            Event::RulesRefused { switch, txn, why } => {
                self.on_sync(switch, txn, Sync::Refused);
                let name = self.switch_name(switch);
                self.notice(Level::Error, "rules-refused", format!("{name} refused rules: {why}"));
                let outcome = self.changes.refused(txn, format!("{name} refused rules: {why}"));
                outcome.into_iter().for_each(|o| self.on_outcome(o));
                self.resume_changes();
            }
            Event::PortsManaged { agent, switch, ports } => self.on_ports_managed(&agent, switch, ports),
            Event::AgentSamples { switch, ports } => self.on_agent_samples(switch, ports),
            Event::AgentUp { agent } => {
                self.notice(Level::Info, "agent-up", format!("agent {agent} is connected"));
            }
            Event::AgentDown { agent, why } => self.on_agent_down(&agent, &why),
            Event::PortRefused { switch, port, why } => self.on_port_refused(switch, port, &why),
            Event::AgentTrouble { agent, what } => {
                self.notice(Level::Warning, "agent-trouble", format!("agent {agent}: {what}"));
            }
            Event::RulesRepaired { switch, missing, stale } => {
                if let Some(s) = self.live.id(switch).and_then(|id| self.live.switch_mut(id)) {
                    s.sync.0 = Sync::Done;
                    self.dirty.switches = true;
                }
                let name = self.switch_name(switch);
                let text = format!("{name}: {missing} rules were missing and {stale} were stale; put right");
                self.notice(Level::Warning, "rules-repaired", text);
            }
            Event::RulesLeft { switch, left } => self.on_rules_left(switch, left),
            Event::RulesUnlike { switch, rules, example } => {
                let name = self.switch_name(switch);
                let text = format!(
                    "{name}: {rules} rules are still missing or different after they were put right twice, one of them: \
                     {example}. They are tried again after growing pauses; look for another controller of this switch, or \
                     update its software"
                );
                self.notice(Level::Warning, "rules-unlike", text);
            }
            Event::WorldUp { world, vms, traffic } => {
                self.on_world_up(world, vms, traffic);
                self.ask_loads();
                self.plans_on_world_up();
            }
            Event::VmsFound { vms } => self.on_vms_found(vms),
            Event::WorldRefused { world, why } => self.on_world_refused(&world, &why),
            Event::RivalSeen { world, who } => self.on_rival(&world, &who),
            Event::ServersAway { servers } => self.on_servers_away(servers),
            Event::WorldDown { why } => self.on_world_down(&why),
            Event::VmStarted { vm, address } => self.on_vm_started(vm, address),
            Event::VmFailed { vm, why } => self.on_vm_failed(vm, &why),
            Event::VmStopped { vm } => self.on_vm_stopped(vm),
            Event::VmResized { vm } => self.on_vm_resized(vm),
            Event::MigrationProgress { migration, progress } => {
                self.on_migration_progress(migration, progress)
            }
            Event::VmSuspended { migration } => self.on_vm_suspended(migration),
            Event::VmMoved { migration, downtime } => self.on_vm_moved(migration, downtime),
            Event::MigrationFailed { migration, at, why } => self.on_migration_failed(migration, at, &why),
            Event::ServerSamples { server, sample, vms } => self.on_server_samples(server, sample, vms),
            Event::TrafficEnded { id, why } => {
                self.notice(Level::Warning, "traffic-ended", format!("traffic {id} ended: {why}"));
            }
            Event::Stored { id } => self.on_stored(id),
            Event::StoreFailed { id, why } => self.on_store_failed(id, &why),
            Event::Request { id, request: ask } => self.on_ask(id, ask),
            Event::WallClockStepped { by } => self.on_wall_clock_stepped(by),
            Event::Wake => {}
        }
        std::mem::take(&mut self.effects)
    }

    fn on_ask(&mut self, id: RequestId, ask: Request) {
        match ask {
            Request::RequestVm { request } => self.request_vm(id, request),
            Request::AdoptVm { vm, server, known } => self.adopt_vm(id, vm, server, known),
            Request::StopStray { vm, server } => self.stop_stray(id, vm, server),
            Request::DeleteVm { vm } => self.delete_vm(id, vm),
            Request::ResizeVm { vm, resources } => self.resize_vm(id, vm, resources),
            Request::CreateGroup { members } => self.create_group(id, &members),
            Request::DeleteGroup { group } => self.delete_group(id, group),
            Request::PollNow => self.poll_now(id),
            Request::Plan { aim, options } => self.ask_plan(id, aim, options),
            Request::ApplyPlan { plan } => self.ask_apply(id, plan),
            Request::StopPlan { plan } => self.ask_stop(id, plan),
            Request::MigrateVm { vm, to, options } => self.ask_migrate(id, vm, to, options),
            Request::CancelMigration { migration } => self.ask_cancel(id, migration),
            Request::EvacuateServer { server, options } => self.ask_evacuate(id, server, options),
            Request::ReturnServer { server } => self.ask_return(id, server),
            Request::SetShares { shares } => self.set_shares(id, &shares),
            Request::SetPort { switch, port, up } => self.set_port(id, switch, port, up),
            Request::PinPath { vm, via } => self.pin_path(id, vm, via),
            Request::UnpinPath { vm } => self.unpin_path(id, vm),
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::StartTimeout(vm) => self.on_start_timeout(vm),
            Timer::Expiry(vm) => self.on_expiry(vm),
            Timer::LinkSweep => {
                self.sweep_links();
                self.return_to_pins();
                self.timers.set(self.now + self.sweep_period(), Timer::LinkSweep);
            }
            Timer::SwitchGrace(switch) => self.on_switch_grace(switch),
            Timer::HostCheck(ip) => self.check_host(ip),
            Timer::PortSettled(switch, port) => self.on_port_settled(switch, port),
            Timer::Alive => self.on_alive(),
            Timer::KeepPolicy => self.on_keep_policy(),
            Timer::EvacuateAgain(server) => self.evacuate_again(server),
            Timer::LoadSilence(server) => self.on_load_silence(server),
            Timer::RetryRemove(vm) => self.remove_from_store(vm),
            Timer::RetryStore(kept) => self.keep(kept),
            Timer::MoveTimeout(id) => self.on_move_timeout(id),
            Timer::RetryMove(id) => self.write_move(id),
            Timer::PollTimeout(request) => {
                if self.polls.remove(&request).is_some() {
                    self.answer(request, Response::Done);
                }
            }
        }
    }

    fn poll_now(&mut self, id: RequestId) {
        let mut waiting = BTreeSet::new();
        for (n, switch) in (0u32..).zip(&self.site.topology.switches) {
            if self.live.switch(SwitchId(n)).is_some_and(|s| s.connected) {
                waiting.insert(SwitchId(n));
                self.effects.push(Effect::PollNow { switch: switch.dpid });
            }
        }
        if waiting.is_empty() {
            return self.answer(id, Response::Done);
        }
        self.polls.insert(id, waiting);
        self.timers.set(self.now + POLL_TIMEOUT, Timer::PollTimeout(id));
    }

    fn on_samples(&mut self, dpid: Dpid, ports: Vec<PortSample>, flows: &[tandem_model::FlowSample]) {
        let Some(switch) = self.live.id(dpid) else { return };
        for sample in ports {
            // What a port can carry, with room for a link that is faster than declared.
            let link = self.site.topology.link_at(NodeId::Switch(switch), sample.port);
            let is_there = |s: &crate::live::LiveSwitch| s.ports.contains_key(&sample.port);
            // Counters of ports that a switch only invents are not kept.
            if link.is_none() && !self.live.switch(switch).is_some_and(is_there) {
                continue;
            }
            let rate = link.and_then(|l| self.site.topology.link(l)).map(|l| l.cfg.rate);
            let most = rate.map_or(BELIEVABLE, |r| BitRate(r.0.saturating_mul(4)));
            if self.statistics.port(switch, sample, most, self.now) {
                self.measure(switch, sample.port);
            }
        }
        for flow in flows {
            let Some(Owner::Vm(low)) = flow.cookie.owner() else { continue };
            let vm = VmId(u64::from(low));
            let Some(record) = self.vms.get(&vm).map(|v| &v.record) else { continue };
            let home = compile::server_port(&self.site.topology, record).map(|(s, _)| s);
            if home == Some(switch) && self.statistics.vm(vm, flow, self.now) {
                let address = record.address;
                self.hosts.alive(address, self.now);
            }
        }
        self.dirty.statistics(switch);
        self.watch_links(switch);
        self.polled(switch);
    }

    /// A switch has told its counters, or will not: the polls that waited for nobody else are answered.
    pub(crate) fn polled(&mut self, switch: SwitchId) {
        let done: Vec<RequestId> = self
            .polls
            .iter_mut()
            .filter_map(|(id, waiting)| (waiting.remove(&switch) && waiting.is_empty()).then_some(*id))
            .collect();
        for id in done {
            self.polls.remove(&id);
            self.answer(id, Response::Done);
        }
    }

    /// Carries a port's rates over to its link: sent is the direction that leaves the switch; what a host sends is only seen by
    /// the switch that receives it.
    fn measure(&mut self, switch: SwitchId, port: PortNo) {
        let topology = &self.site.topology;
        let node = NodeId::Switch(switch);
        let Some(link) = topology.link_at(node, port) else { return };
        let Some(declared) = topology.link(link) else { return };
        let Some(stats) = self.statistics.of_port(switch, port) else { return };
        let out = declared.hop_from(link, node);
        let (tx, rx) = (stats.tx(), stats.rx());
        self.links.set_counted(out, tx);
        let measured = |n: Option<NodeId>| n.is_some_and(|n| crate::live::is_openflow(topology, n));
        let mut other = declared.other(node).map(|e| e.node);
        if !measured(other) {
            self.links.set_counted(Hop { link, down: !out.down }, rx);
        }
        // A legacy switch between two neighbours counts nothing, and passes on what it gets.
        let (mut from, mut left) = (link, topology.links.len());
        while let Some(legacy @ NodeId::Switch(_)) = other.filter(|n| !measured(Some(*n)) && left > 0) {
            let mut beyond = topology.ports(legacy).iter().map(|(_, l)| *l).filter(|l| *l != from);
            let (Some(next), None) = (beyond.next(), beyond.next()) else { return };
            let Some(declared) = topology.link(next) else { return };
            let on = declared.hop_from(next, legacy);
            self.links.set_counted(on, tx);
            other = declared.other(legacy).map(|e| e.node);
            if !measured(other) {
                self.links.set_counted(Hop { link: next, down: !on.down }, rx);
            }
            (from, left) = (next, left - 1);
        }
    }

    /// Sends a change's first steps and deals with it at once if there was nothing to send.
    pub(crate) fn start_change(
        &mut self,
        purpose: crate::rules::changes::Purpose,
        differences: BTreeMap<SwitchId, crate::rules::Difference>,
        entry: &[SwitchId],
    ) {
        self.start_ordered(purpose, differences, &|switch, _| entry.contains(&switch));
    }

    /// The same where it is said rule by rule which ones are late.
    pub(crate) fn start_ordered(
        &mut self,
        purpose: crate::rules::changes::Purpose,
        differences: BTreeMap<SwitchId, crate::rules::Difference>,
        late: crate::rules::changes::Late<'_>,
    ) {
        for switch in differences.keys() {
            self.dirty.rules(*switch);
        }
        let (live, site) = (&self.live, self.site.clone());
        let connected = |s: SwitchId| connected(live, &site, s);
        let present = Present { connected: &connected, desired: &self.desired };
        let outcome = self.changes.start(purpose, differences, late, &present, &mut self.effects);
        outcome.into_iter().for_each(|o| self.on_outcome(o));
    }

    /// After a refusal was dealt with.
    pub(crate) fn resume_changes(&mut self) {
        let (live, site) = (&self.live, self.site.clone());
        let connected = |s: SwitchId| connected(live, &site, s);
        let present = Present { connected: &connected, desired: &self.desired };
        self.changes.resume(&present, &mut self.effects);
    }

    pub(crate) fn store(&mut self, record: StoreOp, wait: StoreWait) {
        self.last_store += 1;
        let id = StoreId(self.last_store);
        self.stores.insert(id, wait);
        self.effects.push(Effect::Store { id, op: record });
    }

    pub(crate) fn answer(&mut self, id: RequestId, answer: Response) {
        self.effects.push(Effect::Response { id, response: answer });
    }

    pub(crate) fn notice(&mut self, level: Level, kind: &str, text: String) {
        // Names and reasons in it may be others' words: it stays one line, and is cut.
        let text = escaped_to(&text, NOTICE_TEXT).to_string();
        let notice = Notice { at: self.wall_now(), level, kind: kind.to_owned(), text };
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice.clone());
        self.dirty.notices = true;
        self.effects.push(Effect::Notice { notice });
    }

    pub(crate) fn switch_name(&self, dpid: Dpid) -> String {
        match self.live.id(dpid).and_then(|id| self.site.topology.switch(id)) {
            Some(switch) => switch.name.clone(),
            None => format!("switch {dpid}"),
        }
    }

    pub(crate) fn link_name(&self, id: LinkId) -> String {
        let topology = &self.site.topology;
        topology.link(id).map_or_else(
            || id.to_string(),
            |l| {
                let end = |e: tandem_model::Endpoint| format!("{}.{}", topology.name(e.node), e.port);
                format!("{}<->{}", end(l.a), end(l.b))
            },
        )
    }

    /// The measured ratio of a server's primary link: the seed's host link ratio, 0 to 1 (and above, if more than its capacity
    /// was measured).
    pub fn server_link_ratio(&self, server: ServerId) -> f64 {
        let link = self.site.topology.server(server).and_then(|s| s.uplinks.first());
        link.map_or(0.0, |l| self.links.ratio(*l))
    }

    /// What is measured on a hop, smoothed.
    pub fn measured(&self, hop: Hop) -> BitRate {
        self.links.measured(hop)
    }

    /// A VM as it is.
    pub fn vm(&self, id: VmId) -> Option<&tandem_model::VmRecord> {
        self.vms.get(&id).map(|v| &v.record)
    }

    /// All VMs, in order of id.
    pub fn vms(&self) -> impl Iterator<Item = &tandem_model::VmRecord> {
        self.vms.values().map(|v| &v.record)
    }

    /// True when a VM may send over a link now.
    pub fn is_usable(&self, link: LinkId) -> bool {
        self.links.is_usable(link)
    }

    /// Numbers since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the outside may read, as of now. Cheap when little has changed: unchanged parts are shared with the one before.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if self.dirty.any() || self.hosts.has_changed() {
            let dirty = std::mem::take(&mut self.dirty);
            let hosts = self.hosts.take_changed();
            self.published = Arc::new(self.published.updated(self, &dirty, &hosts));
        }
        self.published.clone()
    }
}

/// The datapath id of a switch that can be asked now.
pub(crate) fn connected(live: &LiveTopology, site: &Site, switch: SwitchId) -> Option<Dpid> {
    live.switch(switch).filter(|s| s.connected)?;
    site.topology.switch(switch).map(|s| s.dpid)
}
