//! A paper copy of the data centre: what is reserved on servers and links, and what is measured
//! there, as it will be after the moves that were planned so far. Trying something on it changes
//! nothing.
//!
//! Moves of plans that have begun and that wait for their turn are on it already; what is under way
//! has reserved its new place itself.

use crate::compute::constraints::Allowed;
use crate::compute::inventory::Inventory;
use crate::compute::placement_view::Seen;
use crate::migration::MigrationRef;
use crate::migration::policies::Place;
use crate::migration::policies::View;
use crate::migration::views::MoveState;
use crate::network::links::LinkTable;
use crate::network::place::Placement;
use crate::policy::view;
use std::collections::BTreeMap;
use std::rc::Rc;
use tandem_model::paths::Path;
use tandem_model::{BitRate, MoveOptions, NodeId, Resource, ServerId, SwitchId, VmId, VmRecord, VmState};

/// What is watched of a server, in the order of [`Use`].
pub(crate) const WATCHED: [Resource; 3] = [Resource::Cpu, Resource::Ram, Resource::Net];

/// CPU in cores, memory in bytes, network in bit/s, the busier direction.
pub(crate) type Use = [f64; 3];

/// A copy of what plans change: servers, links and where VMs are.
pub(crate) struct PlanningState<'a> {
    pub(crate) core: MigrationRef<'a>,
    pub(crate) inventory: Inventory,
    pub(crate) links: LinkTable,
    pub(crate) options: MoveOptions,
    /// Where VMs are that were moved on paper.
    moved: BTreeMap<VmId, Placement>,
    /// VMs whose move is planned already.
    taken: BTreeMap<VmId, String>,
    /// What servers use, by `ServerId`; `None` where nobody tells.
    used: Vec<Option<Use>>,
    /// Shortest paths between edge switches, as far as they were asked for.
    pub(crate) ways: BTreeMap<(SwitchId, SwitchId), Rc<[Path]>>,
}

/// What a VM uses: as measured, else what it has reserved.
pub(crate) fn use_of(core: MigrationRef<'_>, vm: &VmRecord) -> Use {
    match core.compute().vm_load(vm.id) {
        Some(load) => [load.cpu, load.ram.0 as f64, load.rx.0.max(load.tx.0) as f64],
        None => {
            let r = vm.request.resources;
            [f64::from(r.cpu), r.ram.0 as f64, r.net.0 as f64]
        }
    }
}

/// What a VM sends to its gateway and gets from it: as its hypervisor measures it, else as its edge
/// switch counts both together.
pub(crate) fn traffic_of(core: MigrationRef<'_>, vm: VmId) -> (BitRate, BitRate) {
    match core.compute().vm_load(vm) {
        Some(load) => (load.tx, load.rx),
        None => {
            let both = core.net.statistics.of_vm(vm).map(|s| s.rate()).unwrap_or_default();
            (both, both)
        }
    }
}

impl<'a> PlanningState<'a> {
    pub(crate) fn new(core: MigrationRef<'a>, options: MoveOptions) -> PlanningState<'a> {
        let servers = core.compute.inventory.servers();
        let used = servers.iter().map(|s| {
            core.compute().server_load(s.id).map(|l| [l.cpu, l.ram.0 as f64, l.rx.0.max(l.tx.0) as f64])
        });
        let mut paper = PlanningState {
            core,
            inventory: core.compute.inventory.clone(),
            links: core.net.links.clone(),
            options,
            moved: BTreeMap::new(),
            taken: BTreeMap::new(),
            used: used.collect(),
            ways: BTreeMap::new(),
        };
        for carried in core.migration.plans.under_way() {
            for (step, state) in carried.plan.moves.iter().zip(&carried.steps) {
                let Some(record) = core.compute().vm(step.vm) else { continue };
                if !matches!(state, MoveState::Waiting | MoveState::UnderWay { .. }) {
                    continue;
                }
                if *state == MoveState::Waiting {
                    paper.inventory.reserve(step.to, record.request.resources);
                }
                paper.taken.insert(step.vm, format!("{} moves it already", carried.plan.id));
                paper.use_more(step.to, use_of(core, record));
            }
        }
        for (vm, to) in core.migration.plans.settling(core.cx.now) {
            if let Some(record) = core.compute().vm(vm) {
                paper.use_more(to, use_of(core, record));
            }
        }
        paper
    }

    /// The data centre as policies see it now.
    pub(crate) fn view(&self) -> View<'_> {
        View { compute: self.core.compute(), inventory: &self.inventory }
    }

    /// Why a VM cannot be moved now.
    pub(crate) fn immovable(&self, vm: &VmRecord) -> Option<String> {
        if let Some(why) = self.taken.get(&vm.id) {
            return Some(why.clone());
        }
        if self.core.compute().is_moving(vm.id) {
            return Some("it is being moved".into());
        }
        match vm.state {
            VmState::Running => None,
            ref state => Some(format!("it is {state}, and only a running VM can be moved")),
        }
    }

    /// Where a VM is on paper.
    pub(crate) fn placement(&self, vm: &VmRecord) -> Placement {
        self.moved.get(&vm.id).cloned().unwrap_or_else(|| Placement::of(vm))
    }

    fn use_more(&mut self, server: ServerId, by: Use) {
        if let Some(Some(used)) = self.used.get_mut(server.0 as usize) {
            used.iter_mut().zip(by).for_each(|(used, by)| *used += by);
        }
    }

    fn shift(&mut self, vm: &VmRecord, at: &Placement, away: bool) {
        let (up, down) = traffic_of(self.core, vm.id);
        for (path, rate) in [(&at.path_up, up), (&at.path_down, down)] {
            for hop in path {
                let before = self.links.measured(*hop);
                let after = if away { before.saturating_sub(rate) } else { before.saturating_add(rate) };
                self.links.set_measured(*hop, after);
            }
        }
        let sign = if away { -1.0 } else { 1.0 };
        self.use_more(at.server, use_of(self.core, vm).map(|u| sign * u));
    }

    /// Takes a VM away from where it is, as if it had never been placed.
    pub(crate) fn take_away(&mut self, vm: &VmRecord) -> Placement {
        let at = self.placement(vm);
        let need = vm.request.resources;
        self.inventory.release(at.server, need);
        self.links.release(&at.path_up, need.net);
        self.links.release(&at.path_down, need.net);
        self.shift(vm, &at, true);
        at
    }

    /// Puts a VM somewhere.
    pub(crate) fn put(&mut self, vm: &VmRecord, at: Placement) {
        let need = vm.request.resources;
        self.inventory.reserve(at.server, need);
        self.links.reserve(&at.path_up, need.net);
        self.links.reserve(&at.path_down, need.net);
        self.shift(vm, &at, false);
        self.moved.insert(vm.id, at);
    }

    /// Where a VM that was taken away would go: the policy's first server that `admit` takes, with
    /// room on it and on the links. The links of where it is now are not asked: it is there
    /// already, and links that are full of its own traffic must not drive it away.
    pub(crate) fn find(
        &self,
        vm: &VmRecord,
        admit: &dyn Fn(&PlanningState<'_>, ServerId) -> bool,
    ) -> Option<Placement> {
        self.find_where(vm, admit, &|_, _| true)
    }

    /// The same where the whole place must be to one's liking.
    pub(crate) fn find_where(
        &self,
        vm: &VmRecord,
        admit: &dyn Fn(&PlanningState<'_>, ServerId) -> bool,
        accept: &dyn Fn(&PlanningState<'_>, &Placement) -> bool,
    ) -> Option<Placement> {
        let mut found = None;
        let mut hopeless = BTreeMap::new();
        let (net, own) = (vm.request.resources.net, self.placement(vm));
        let allowed = self.allowed(vm);
        let mut takes = |server: ServerId, via: &[SwitchId]| {
            // Where it is it may stay.
            let is_barred = || server != own.server && self.is_barred(&allowed, vm, server);
            if !admit(self, server) || is_barred() {
                return false;
            }
            found = if server == own.server {
                Some(own.clone())
            } else if !via.is_empty() {
                self.core.network().connect_via(&self.links, (server, net), Some(own.gateway), via)
            } else {
                self.core.network().connect_on(&self.links, (server, net), Some(own.gateway), &mut hopeless)
            };
            found = found.take().filter(|place| accept(self, place) && self.keeps_class(vm, place));
            found.is_some()
        };
        match self.core.migration.policies.place.order(vm, &self.view()) {
            Some(order) => order.into_iter().find(|s| {
                let room = self.inventory.server(*s).is_some_and(|s| s.free().fits(vm.request.resources));
                room && !self.inventory.is_drained(*s) && takes(*s, &[])
            }),
            None => {
                let view =
                    Seen { compute: self.core.compute(), inventory: &self.inventory, links: &self.links };
                self.inventory.find(&view, &vm.request, &mut takes)
            }
        };
        found
    }

    /// What bars servers for a VM, with others where they are on paper.
    fn allowed(&self, vm: &VmRecord) -> Allowed<'a> {
        let at = |other: &VmRecord| self.moved.get(&other.id).map_or(other.server, |place| place.server);
        self.core.compute().allowed(&vm.request, Some(vm.id), &at, &mut std::iter::empty())
    }

    fn is_barred(&self, allowed: &Allowed<'_>, vm: &VmRecord, to: ServerId) -> bool {
        allowed.bars(to).is_some() || self.core.compute().short_for_mates(vm, to).is_some()
    }

    /// A place on one server, for a VM that was taken away.
    pub(crate) fn place_on(&self, vm: &VmRecord, to: ServerId) -> Option<Placement> {
        let need = vm.request.resources;
        let room =
            self.inventory.server(to).is_some_and(|s| s.free().fits(need)) && !self.inventory.is_drained(to);
        let gateway = self.placement(vm).gateway;
        let connect = || {
            self.core.network().connect_on(&self.links, (to, need.net), Some(gateway), &mut BTreeMap::new())
        };
        let barred = to != self.placement(vm).server && self.is_barred(&self.allowed(vm), vm, to);
        let place = (room && !barred).then(connect).flatten();
        place.filter(|place| self.keeps_class(vm, place))
    }

    /// A VM's class holds wherever it is moved to.
    pub(crate) fn keeps_class(&self, vm: &VmRecord, place: &Placement) -> bool {
        self.core.cx.site.classes.is_empty() || self.core.rules().class_is_kept(&vm.request, place).is_ok()
    }

    /// Why a VM that was taken away has no place on a server.
    pub(crate) fn why_not(&self, vm: &VmRecord, to: ServerId) -> String {
        let name = self.core.cx.site.topology.name(NodeId::Server(to));
        if self.inventory.server(to).is_none() {
            return format!("there is no server {to}");
        }
        if self.inventory.is_drained(to) {
            return format!("{name} is out of service");
        }
        let barred = self.allowed(vm).bars(to).or_else(|| self.core.compute().short_for_mates(vm, to));
        if let Some(why) = barred {
            return format!("{name} may not have it: {why}");
        }
        let short = self.inventory.shortage(to, vm.request.resources);
        match short.first() {
            Some((resource, needed, there)) => {
                format!("{name} is short of {resource}: {needed} needed, {there} free")
            }
            None => format!(
                "no way between {name} and its gateway has {} left for its class",
                vm.request.resources.net
            ),
        }
    }

    /// Why a VM that was taken away has no place anywhere else: what the nearest server is short
    /// of.
    pub(crate) fn nowhere(&self, vm: &VmRecord) -> String {
        let own = self.placement(vm).server;
        let need = vm.request.resources;
        let short = |s: &view::ServerView| {
            let short = self.inventory.shortage(s.id, need);
            let far = short
                .iter()
                .map(|(_, needed, there)| (needed - there) as f64 / *needed as f64)
                .fold(0.0, f64::max);
            (s.id, far)
        };
        let allowed = self.allowed(vm);
        let mut others = self
            .inventory
            .servers()
            .iter()
            .filter(|s| s.id != own && !self.inventory.is_drained(s.id))
            .peekable();
        // One that may go nowhere else is told why not by any of them.
        if let Some(first) = others.peek().map(|s| s.id)
            && let Some(why) = allowed.bars(first)
            && others.clone().all(|s| allowed.bars(s.id).is_some())
        {
            return format!("it may be on no other server: {why}");
        }
        let others = others.filter(|s| allowed.bars(s.id).is_none());
        match others.map(short).min_by(|(_, a), (_, b)| a.total_cmp(b)) {
            Some((nearest, _)) => {
                format!("no other server has room; the nearest: {}", self.why_not(vm, nearest))
            }
            None => "there is no other server in service".into(),
        }
    }

    /// Whether a server gets too warm when something that uses `more` comes to it: at `share` of
    /// the hotspot's threshold. A server that tells no load is judged by reservations alone.
    pub(crate) fn gets_hot(&self, server: ServerId, more: Use, share: f64) -> bool {
        if self.core.migration.hotspots.is_hot(Place::Server(server)) {
            return true;
        }
        let Some(Some(used)) = self.used.get(server.0 as usize) else { return false };
        let limit = self.core.cx.site.migration.hotspot.server * share;
        WATCHED.iter().zip(used.iter().zip(more)).any(|(resource, (used, more))| {
            let has = self.core.has(server, *resource);
            has > 0.0 && more > 0.0 && (used + more) / has > limit
        })
    }

    /// What the VM's place has in use of a resource, as a share; `None` where nobody tells.
    pub(crate) fn share(&self, server: ServerId, resource: Resource) -> Option<f64> {
        let slot = WATCHED.iter().position(|r| *r == resource)?;
        let used = (*self.used.get(server.0 as usize)?)?;
        let has = self.core.has(server, resource);
        (has > 0.0).then(|| used[slot] / has)
    }
}
