//! Other paths for VMs whose traffic crosses a hot link: the server and the gateway stay, and no
//! memory is sent.
//!
//! The routing policy chooses each path, from what is reserved and measured without the VM, and
//! with what is hot or would get hot by it taken for unusable. A VM whose path is pinned keeps it.
//! So that nothing swings to and fro, a VM that was given another path, or was refused one by a
//! switch, keeps what it has for [`REST`](super::plan_store::REST) windows of samples.

use crate::migration::cooling::{reason, too_warm};
use crate::migration::policies::{Candidate, Hot, Place};
use crate::migration::what_if::PlanningState;
use crate::migration::{MigrationMut, MigrationRef};
use crate::network::links::LinkState;
use crate::network::place::Placement;
use tandem_model::{LinkId, NodeId, Plan, Reroute, VmRecord, VmState, paths};

/// So many paths are looked at for one VM.
const TRIES: usize = 16;

/// Other paths around a hot link for some of `candidates`, until `is_cool` or until there are no
/// more; none for what is no link. They are taken on paper.
pub(crate) fn around(
    paper: &mut PlanningState<'_>,
    hot: &Hot,
    candidates: &[Candidate<'_>],
    is_cool: &dyn Fn(&PlanningState<'_>) -> bool,
) -> Vec<Reroute> {
    let Place::Link(link) = hot.place else { return Vec::new() };
    let mut found = Vec::new();
    for candidate in candidates {
        if is_cool(paper) {
            break;
        }
        let vm = candidate.record;
        if vm.pin.is_some() || paper.core.migration.plans.keeps_path(vm.id, paper.core.cx.now) {
            continue;
        }
        let from = paper.take_away(vm);
        let Some(to) = another_path(paper, vm, &from, link) else {
            paper.put(vm, from);
            continue;
        };
        let why = format!("{}; now by {}", reason(paper, hot, candidate), switches(paper.core, vm, &to));
        found.push(Reroute { vm: vm.id, to: to.clone().into_place(), why });
        paper.put(vm, to);
    }
    found
}

/// A path for a VM that was taken away from `from`: not over the hot link, nor over any that would
/// get hot by it.
fn another_path(
    paper: &PlanningState<'_>,
    vm: &VmRecord,
    from: &Placement,
    hot: LinkId,
) -> Option<Placement> {
    let mut links = paper.links.clone();
    links.set_state(hot, LinkState::Down);
    for _ in 0..TRIES {
        let to = paper.core.network().way_on(&links, vm, vm.request.resources.net)?;
        match too_warm(paper, vm, from, &to) {
            None => return Some(to).filter(|to| paper.keeps_class(vm, to)),
            Some(hop) => links.set_state(hop.link, LinkState::Down),
        };
    }
    None
}

/// The switches of a path up to the gateway, for people.
fn switches(core: MigrationRef<'_>, vm: &VmRecord, place: &Placement) -> String {
    let topology = &core.cx.site.topology;
    let nodes = paths::nodes(topology, NodeId::Server(vm.server), &place.path_up);
    let names = nodes.iter().filter(|n| matches!(n, NodeId::Switch(_))).map(|n| topology.name(*n));
    names.collect::<Vec<_>>().join(" - ")
}

/// Takes the other paths of a plan on paper.
pub(crate) fn apply(paper: &mut PlanningState<'_>, reroutes: &[Reroute]) {
    for reroute in reroutes {
        if let Some(vm) = paper.core.compute().vm(reroute.vm) {
            paper.take_away(vm);
            paper.put(vm, Placement::at(&reroute.to));
        }
    }
}

/// What has changed so that a plan's other paths cannot be taken any more; `None` when all can, and
/// then they are taken on paper.
pub(crate) fn stale(paper: &mut PlanningState<'_>, plan: &Plan) -> Option<String> {
    for Reroute { vm: id, to, .. } in &plan.reroutes {
        let Some(vm) = paper.core.compute().vm(*id) else { return Some(format!("{id} is gone")) };
        if let Some(why) = paper.immovable(vm) {
            return Some(format!("{id}: {why}"));
        }
        if vm.server != to.server || vm.gateway != to.gateway || vm.pin.is_some() {
            return Some(format!("{id} was moved, or its path was pinned"));
        }
        let to = Placement::at(to);
        paper.take_away(vm);
        let admits = |path| paper.core.network().admits(&paper.links, path, vm.request.resources.net);
        if !admits(&to.path_up) || !admits(&to.path_down) {
            return Some(format!("the other path of {id} has no room any more, or is broken"));
        }
        paper.put(vm, to);
    }
    None
}

impl MigrationMut<'_> {
    /// The VMs of a plan that has begun take their other paths, with rules made before broken.
    pub(crate) fn carry_out_reroutes(&mut self, plan: &Plan) {
        let settle = self.migration().settle();
        for Reroute { vm, to, why } in &plan.reroutes {
            let is_there = |r: &VmRecord| r.state == VmState::Running && r.server == to.server;
            if !self.compute().vm(*vm).is_some_and(is_there) {
                continue;
            }
            self.migration.plans.remember_path(*vm, self.cx.now, settle);
            self.compute_mut().reroute_by_choice(*vm, Placement::at(to), why);
        }
    }
}
