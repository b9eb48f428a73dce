//! The door of the core, and the order in which an event goes through the services.
//!
//! An event goes to the service that it is about. What later services have to follow it has left as
//! signals, which [`MigrationMut::settle`] hands on before the event ends.

mod hypervisors;
mod load_reports;
mod persistence;
mod policy_events;
mod remarking;
mod reroute;
mod resize;
mod states;
mod switches;

use crate::compute::host_load::LoadView;
use crate::counters::Counters;
use crate::engine::states::States;
use crate::migration::MigrationMut;
use crate::migration::policy_set::Policy;
use crate::migration::rebalance::Considered;
use crate::network::place::Placement;
use crate::network::topology_state::Sync;
use crate::policy::registry::UnknownPolicy;
use crate::signal::Signal;
use crate::snapshot::Snapshot;
use crate::timers::Timer;
use std::sync::Arc;
use tandem_model::paths::Path;
use tandem_model::{
    BitRate, Effect, Event, EventFamily, GatewayId, Hop, Level, LinkId, MigrationRecord, MoveOptions,
    PersistedState, Plan, PlanGoal, Rejection, Request, RequestId, Response, ServerId, Site, SiteEvent,
    SwitchId, Time, VmId, VmRecord, VmRequest,
};

/// Decides what is done about everything that happens in a data centre. It has one owner and no
/// locks.
pub struct Core {
    states: States,
    published: Arc<Snapshot>,
}

impl Core {
    /// A core for `site`, with what the store holds, at `now`, which is also what the wall clock
    /// says then. It has the built-in policies that the site names.
    ///
    /// # Errors
    /// The site names a policy that there is not; [`crate::site::read`] lets no such site pass.
    pub fn new(site: Arc<Site>, stored: PersistedState, now: Time) -> Result<Core, UnknownPolicy> {
        let policy = Policy::of_site(&site)?;
        Ok(Core::with_policy(site, stored, now, policy))
    }

    /// The same with a policy of one's own: a boxed allocation policy, or a [`Policy`] with the
    /// parts of migration too.
    pub fn with_policy(
        site: Arc<Site>,
        stored: PersistedState,
        now: Time,
        policy: impl Into<Policy>,
    ) -> Core {
        let published = Arc::new(Snapshot::empty(site.clone()));
        let mut core = Core { states: States::initial(site, &stored, now, policy.into()), published };
        let mut all = core.states.write();
        all.network_mut().declare_hosts();
        all.compute_mut().restore_drained(&stored.drained);
        let (moves, last_move) = (stored.migrations.clone(), stored.last_migration);
        all.compute_mut().restore(stored);
        // A VM that may be at either place is reached at both, by its groups too.
        all.restore_moves(moves, last_move);
        if !all.compute.migrations.open.is_empty() {
            all.compute_mut().restore_group_rules();
        }
        all.set_keep_policy_timer();
        for n in 0..all.cx.site.topology.switches.len() as u32 {
            all.cx.timers.set(now + all.cx.site.discovery.switch_grace, Timer::SwitchGrace(SwitchId(n)));
        }
        if all.cx.site.modules.discovery {
            all.cx.timers.set(now + all.cx.sweep_period(), Timer::LinkSweep);
        }
        core
    }

    /// The site this core runs.
    pub fn site(&self) -> &Arc<Site> {
        &self.states.cx.site
    }

    /// When the core wants to be woken (by any event, `Wake` if there is none); `None` when it
    /// waits for nothing.
    pub fn next_deadline(&self) -> Option<Time> {
        self.states.cx.timers.next()
    }

    /// Takes in what happened at `now` (which never decreases) and returns what is to be done, in
    /// order.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Effect> {
        let mut all = self.states.write();
        all.cx.now = all.cx.now.max(now);
        all.cx.site_events.clear();
        while let Some(timer) = all.cx.timers.take_due(all.cx.now) {
            all.on_timer(timer);
            all.settle();
        }
        all.on_event(event);
        all.settle();
        all.tell_policies();
        std::mem::take(&mut self.states.cx.effects)
    }

    /// What the last call of [`Core::handle`] has changed in the data centre, in order. The next call
    /// forgets them, so whoever wants all of them looks after each.
    pub fn site_events(&self) -> &[SiteEvent] {
        &self.states.cx.site_events
    }

    /// What the outside may read, as of now. Cheap when little has changed: unchanged parts are
    /// shared with the one before.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if self.states.cx.dirty.any() || self.states.net.hosts.has_changed() {
            let dirty = std::mem::take(&mut self.states.cx.dirty);
            let hosts = self.states.net.hosts.take_changed();
            self.published = Arc::new(self.published.updated(self.states.read(), &dirty, &hosts));
        }
        self.published.clone()
    }

    /// The measured ratio of a server's primary link: the thesis' host link ratio (Teixeira 2013),
    /// 0 to 1, and above if more than its capacity was measured.
    pub fn server_link_ratio(&self, server: ServerId) -> f64 {
        let link = self.states.cx.site.topology.server(server).and_then(|s| s.uplinks.first());
        link.map_or(0.0, |l| self.states.net.links.ratio(*l))
    }

    /// The measured ratio of a switch: what it sends by all its ports over the sum of their links'
    /// rates; the thesis' switch ratio (Teixeira 2013).
    pub fn switch_ratio(&self, switch: SwitchId) -> f64 {
        self.states.net.links.by_switch().ratio(switch)
    }

    /// What is reserved on a switch, by all that it sends, and what may be; `None` where it has no
    /// limit of its own.
    pub fn switch_reserved(&self, switch: SwitchId) -> (BitRate, Option<BitRate>) {
        let loads = self.states.net.links.by_switch();
        (loads.reserved(switch), loads.limit(switch))
    }

    /// What is measured on a hop, smoothed.
    pub fn measured(&self, hop: Hop) -> BitRate {
        self.states.net.links.measured(hop)
    }

    /// True when a VM may send over a link now.
    pub fn is_usable(&self, link: LinkId) -> bool {
        self.states.net.links.is_usable(link)
    }

    /// A VM as it is.
    pub fn vm(&self, id: VmId) -> Option<&VmRecord> {
        self.states.read().compute().vm(id)
    }

    /// All VMs, in order of id.
    pub fn vms(&self) -> impl Iterator<Item = &VmRecord> {
        self.states.read().compute().vms()
    }

    /// What a server uses, as its hypervisor measures it; `None` while nobody tells.
    pub fn server_load(&self, server: ServerId) -> Option<LoadView> {
        self.states.read().compute().server_load(server)
    }

    /// What a VM uses, as its hypervisor measures it; `None` while nobody tells.
    pub fn vm_load(&self, vm: VmId) -> Option<LoadView> {
        self.states.read().compute().vm_load(vm)
    }

    /// True for a server that gets no more VMs.
    pub fn is_drained(&self, server: ServerId) -> bool {
        self.states.compute.inventory.is_drained(server)
    }

    /// One run of keep-policy without gate or bound: every VM in the order of the algorithm, and
    /// where it belongs with all earlier ones at their new places. The table of the thesis
    /// (Teixeira 2013) has a row for each.
    pub fn consider_all(&self) -> Vec<Considered> {
        self.states.read().consider_all()
    }

    /// Where a VM would go now; nothing is reserved.
    ///
    /// # Errors
    /// What is short, and how much of it, where there is no place.
    pub fn place(&self, request: &VmRequest) -> Result<Placement, Rejection> {
        self.states.read().compute().place(request)
    }

    /// The default paths of a VM on a server and uplink: up to its gateway, and down from it.
    pub fn default_ways(&self, server: ServerId, uplink: usize, gateway: GatewayId) -> Option<(Path, Path)> {
        self.states.read().network().default_ways(server, uplink, gateway)
    }

    /// The hops between two servers, each by one of its uplinks, that what VMs of a group send to
    /// each other takes; `None` while there is no way.
    pub fn way_between(&self, from: (ServerId, u32), to: (ServerId, u32)) -> Option<Path> {
        self.states.read().compute().hops_between(from, to)
    }

    /// Takes what a VM needs at a place, on its server and on the links of its path.
    pub fn reserve(&mut self, placement: &Placement, request: &VmRequest) {
        self.states.write().compute_mut().reserve(placement, request);
    }

    /// Gives back what [`Core::reserve`] took.
    pub fn release(&mut self, placement: &Placement, request: &VmRequest) {
        self.states.write().compute_mut().release(placement, request);
    }

    /// A plan for `aim`, thought through and not kept. What cannot be reached is in its `left`.
    pub fn plan(&self, aim: &PlanGoal, options: MoveOptions) -> Plan {
        self.states.read().plan(aim, options)
    }

    /// Migrations under way, in order of id.
    pub fn migrations(&self) -> impl Iterator<Item = &MigrationRecord> {
        self.states.read().compute().migrations()
    }

    /// Numbers since the start.
    pub fn counters(&self) -> Counters {
        self.states.compute.counters
    }

    /// All services, to look at.
    #[cfg(test)]
    pub(crate) fn read(&self) -> crate::migration::MigrationRef<'_> {
        self.states.read()
    }
}

impl MigrationMut<'_> {
    /// Hands on what earlier services have left for later ones, until nothing is left.
    pub(crate) fn settle(&mut self) {
        while let Some(signal) = self.cx.signals.pop_front() {
            match signal {
                Signal::TopologyChanged => self.topology_changed(),
                Signal::BothPlacesReady(migration, result) => self.on_move_rules(migration, Some(result)),
                Signal::OnePlaceLeft(migration) => self.on_move_rules(migration, None),
                Signal::GiveUpMove(migration, why) => self.undo_move(migration, &why),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event.family() {
            EventFamily::Switch => self.on_switch_event(event),
            EventFamily::Agent => self.on_agent_event(event),
            EventFamily::Hypervisor => self.on_hypervisor_event(event),
            EventFamily::Controller => self.on_controller_event(event),
        }
    }

    fn on_switch_event(&mut self, event: Event) {
        match event {
            Event::SwitchUp { switch, ports, caps } => self.on_switch_up(switch, ports, caps),
            Event::SwitchDown { switch, why } => self.on_switch_down(switch, &why),
            Event::SwitchTrouble { switch, what } => {
                let text = format!("{}: {what}", self.network().switch_name(switch));
                self.cx.notice(Level::Warning, "switch-trouble", text);
            }
            Event::PortChanged { switch, port, removed } => {
                self.network_mut().on_port_changed(switch, port, removed);
            }
            Event::LinkSeen { from, to } => self.network_mut().on_link_seen(from, to),
            Event::ArpSeen { switch, port, arp } => self.compute_mut().on_arp(switch, port, arp),
            Event::HostSeen { switch, port, mac, ip } => {
                self.compute_mut().on_host_seen(switch, port, mac, ip);
            }
            Event::DhcpSeen { switch, port, dhcp } => self.compute_mut().on_dhcp(switch, port, &dhcp),
            Event::Samples { switch, ports, flows, rules } => {
                if let Some(id) = self.net.live.id(switch) {
                    self.network_mut().take_port_samples(id, ports);
                    self.network_mut().take_rule_samples(id, rules);
                    self.compute_mut().take_flow_samples(id, &flows);
                    self.watch_links(id);
                    self.network_mut().polled(id);
                    self.compute_mut().readings_told(id);
                }
            }
            Event::RulesApplied { switch, txn, .. } => {
                let has_what_it_refused = self.network_mut().on_sync(switch, txn, Sync::Done);
                let outcome = self.rules_mut().applied(txn);
                outcome.into_iter().for_each(|o| self.compute_mut().on_outcome(o));
                if has_what_it_refused {
                    self.settle();
                    self.reroute_cut();
                }
            }
            Event::MetadataRefused { switch, txn, why } => {
                self.compute_mut().on_metadata_refused(switch, txn, &why);
            }
            Event::RulesRefused { switch, txn, why } => {
                self.network_mut().on_sync(switch, txn, Sync::Refused);
                let outcome = self.rules_mut().refused(switch, txn, &why);
                outcome.into_iter().for_each(|o| self.compute_mut().on_outcome(o));
                self.settle();
                self.resume_changes();
            }
            Event::RulesRepaired { switch, missing, stale } => {
                if self.network_mut().on_rules_repaired(switch, missing, stale) {
                    self.reroute_cut();
                }
            }
            Event::RulesLeft { switch, left } => self.compute_mut().on_rules_left(switch, left),
            Event::RulesUnlike { switch, rules, example } => {
                self.network_mut().on_rules_unlike(switch, rules, &example);
            }
            Event::PortSet { switch, port, up } => self.compute_mut().on_port_set(switch, port, up),
            Event::PortRefused { switch, port, why } => {
                self.network_mut().on_port_refused(switch, port, &why);
            }
            other => debug_assert!(false, "{other:?} is no event of a switch"),
        }
    }

    fn on_agent_event(&mut self, event: Event) {
        match event {
            Event::PortsManaged { agent, switch, ports } => self.on_ports_managed(&agent, switch, ports),
            Event::AgentHello { agent, switches } => self.on_agent_hello(&agent, &switches),
            Event::AgentSamples { agent, switch, ports } => {
                self.agents_mut().on_agent_samples(agent.as_deref(), switch, ports);
            }
            Event::AgentUp { agent } => {
                self.cx.notice(Level::Info, "agent-up", format!("agent {agent} is connected"));
            }
            Event::AgentDown { agent, why } => self.agents_mut().on_agent_down(&agent, &why),
            Event::AgentTrouble { agent, what } => self.agents_mut().agent_trouble(&agent, &what),
            other => debug_assert!(false, "{other:?} is no event of an agent"),
        }
    }

    fn on_hypervisor_event(&mut self, event: Event) {
        match event {
            Event::WorldUp { world, vms, traffic } => {
                self.on_world_up(world, vms, traffic);
                self.compute_mut().ask_loads();
                self.plans_on_world_up();
            }
            Event::VmsFound { vms } => self.compute_mut().on_vms_found(vms),
            Event::WorldRefused { world, why } => self.compute_mut().on_world_refused(&world, &why),
            Event::RivalSeen { world, who } => self.compute_mut().on_rival(&world, &who),
            Event::ServersUnreachable { servers } => self.compute_mut().on_servers_away(servers),
            Event::WorldDown { why } => self.compute_mut().on_world_down(&why),
            Event::VmStarted { vm, address } => self.compute_mut().on_vm_started(vm, address),
            Event::VmDied { vm, why } => self.compute_mut().on_vm_died(vm, &why),
            Event::VmFailed { vm, why } => self.compute_mut().on_vm_failed(vm, &why),
            Event::VmStopped { vm } => self.compute_mut().on_vm_stopped(vm),
            Event::VmResized { vm } => self.compute_mut().on_vm_resized(vm),
            Event::MigrationProgress { migration, progress } => {
                self.on_migration_progress(migration, progress);
            }
            Event::VmSuspended { migration } => self.on_vm_suspended(migration),
            Event::VmMoved { migration, downtime } => self.on_vm_moved(migration, downtime),
            Event::MigrationFailed { migration, at, why } => self.on_migration_failed(migration, at, &why),
            Event::ServerSamples { server, sample, vms } => self.on_server_samples(server, sample, vms),
            Event::TrafficEnded { id, why } => {
                self.cx.notice(Level::Warning, "traffic-ended", format!("traffic {id} ended: {why}"));
            }
            other => debug_assert!(false, "{other:?} is no event of a hypervisor service"),
        }
    }

    fn on_controller_event(&mut self, event: Event) {
        match event {
            Event::Stored { id } => self.on_stored(id),
            Event::StoreFailed { id, why } => self.on_store_failed(id, &why),
            Event::Request { id, request } => self.on_request(id, request),
            Event::WallClockStepped { by } => self.compute_mut().on_wall_clock_stepped(by),
            Event::Wake => {}
            other => debug_assert!(false, "{other:?} is no event of the controller itself"),
        }
    }

    fn on_request(&mut self, id: RequestId, request: Request) {
        match request {
            Request::RequestVm { request } => self.compute_mut().read_and_request_vm(id, request),
            Request::RequestVmGroup { request } => self.compute_mut().request_vm_group(id, *request),
            Request::ExplainVms { request } => {
                let explanation = Box::new(self.compute().explain_request(*request));
                self.cx.answer(id, Response::Explained { explanation });
            }
            Request::AdoptVm { vm, server, known } => self.compute_mut().adopt_vm(id, vm, server, known),
            Request::StopStray { vm, server } => self.compute_mut().stop_stray(id, vm, server),
            Request::DeleteVm { vm } => self.compute_mut().delete_vm(id, vm),
            Request::ResizeVm { vm, resources } => self.resize_vm(id, vm, resources),
            Request::CreateGroup { members } => self.compute_mut().create_group(id, &members),
            Request::DeleteGroup { group } => self.compute_mut().delete_group(id, group),
            Request::PollNow => self.network_mut().poll_now(id),
            Request::Plan { aim, options } => self.ask_plan(id, aim, options),
            Request::ApplyPlan { plan } => self.ask_apply(id, plan),
            Request::StopPlan { plan } => self.ask_stop(id, plan),
            Request::MigrateVm { vm, to, options } => self.ask_migrate(id, vm, to, options),
            Request::CancelMigration { migration } => self.ask_cancel(id, migration),
            Request::EvacuateServer { server, options } => self.ask_evacuate(id, server, options),
            Request::ReturnServer { server } => self.ask_return(id, server),
            Request::SetShares { shares } => self.compute_mut().set_shares(id, &shares),
            Request::SetPort { switch, port, up } => self.compute_mut().set_port(id, switch, port, up),
            Request::PinPath { vm, via } => self.compute_mut().pin_path(id, vm, via),
            Request::UnpinPath { vm } => self.compute_mut().unpin_path(id, vm),
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::StartTimeout(vm) => self.compute_mut().on_start_timeout(vm),
            Timer::Expiry(vm) => self.compute_mut().on_expiry(vm),
            Timer::LinkSweep => {
                self.network_mut().sweep_links();
                self.settle();
                self.compute_mut().return_to_pins();
                self.cx.timers.set(self.cx.now + self.cx.sweep_period(), Timer::LinkSweep);
            }
            Timer::Resync(switch) => self.resync(switch),
            Timer::SwitchGrace(switch) => self.network_mut().on_switch_grace(switch),
            Timer::HostCheck(ip) => self.network_mut().check_host(ip),
            Timer::PortSettled(switch, port) => self.network_mut().on_port_settled(switch, port),
            Timer::Alive => self.compute_mut().on_alive(),
            Timer::KeepPolicy => self.on_keep_policy(),
            Timer::EvacuateAgain(server) => self.evacuate_again(server),
            Timer::LoadSilence(server) => self.on_load_silence(server),
            Timer::RetryRemove(vm) => self.compute_mut().remove_from_store(vm),
            Timer::RetryShrunk(vm) => self.compute_mut().write_shrunk(vm),
            Timer::RetryStore(kept) => self.compute_mut().keep(kept),
            Timer::MoveTimeout(id) => self.on_move_timeout(id),
            Timer::RetryMove(id) => self.write_move(id),
            Timer::PollTimeout(request) => self.network_mut().on_poll_timeout(request),
            Timer::ReadingsTimeout(request) => self.compute_mut().on_readings_timeout(request),
        }
    }
}
