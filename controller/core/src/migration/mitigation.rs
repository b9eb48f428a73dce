//! Relief: VMs move away from what is hot, until it is expected to be cool. Where `[migration]
//! hot_link` says so, VMs whose traffic crosses a hot link get another path first, and move only
//! when none of them can be given one.
//!
//! So that nothing swings back and forth: a VM goes only to where everything stays cool with it;
//! what has just arrived somewhere is counted there before its load shows; a hot place gets a new
//! plan only when the one before has ended and a whole window of new samples has come in; and a VM
//! that was moved for this is left where it is for [`REST`](super::plan_store::REST) windows.

use crate::migration::cooling::{ratio, reason, relief, stays_cool};
use crate::migration::hotspots::Key;
use crate::migration::policies::Place;
use crate::migration::policies::{Candidate, Hot};
use crate::migration::transfer_path::Proposal;
use crate::migration::what_if::{PlanningState, use_of};
use crate::migration::{MigrationMut, MigrationRef, hotspots, reroutes};
use crate::network::place::Placement;
use tandem_model::site::HotLink;
use tandem_model::{Cause, Level, MoveOptions, PlanGoal, Resource};

/// What relieves what is hot, the hottest first; or only one of them.
pub(crate) fn steps(paper: &mut PlanningState<'_>, only: Option<Key>) -> Proposal {
    let mut hots: Vec<Hot> = paper
        .core
        .migration
        .hotspots
        .hot()
        .filter(|h| only.is_none_or(|key| key == (h.place, h.resource)))
        .collect();
    hots.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let mut proposal = Proposal::default();
    for hot in hots {
        one(paper, &hot, &mut proposal);
    }
    proposal
}

/// The VMs whose leaving relieves a hot place, in the order of the policy.
fn candidates<'a>(paper: &PlanningState<'a>, hot: &Hot) -> Vec<Candidate<'a>> {
    let core = paper.core;
    let mut ranked = Vec::new();
    for vm in core.compute().vms() {
        let at = paper.placement(vm);
        let relief = relief(paper, vm, &at, hot);
        if relief <= 0.0
            || paper.immovable(vm).is_some()
            || core.migration.plans.is_resting(vm.id, core.cx.now)
        {
            continue;
        }
        let [cpu, ram, net] = use_of(core, vm);
        let share =
            |used: f64, resource: Resource| used / core.has(at.server, resource).max(f64::MIN_POSITIVE);
        let candidate = Candidate {
            record: vm,
            cpu: share(cpu, Resource::Cpu),
            ram: share(ram, Resource::Ram),
            net: share(net, Resource::Net),
            relief,
        };
        ranked.push((core.migration.policies.which.rank(&candidate, hot, &paper.view()), candidate));
    }
    ranked.sort_by(|(a, x), (b, y)| a.total_cmp(b).then(x.record.id.cmp(&y.record.id)));
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

fn one(paper: &mut PlanningState<'_>, hot: &Hot, proposal: &mut Proposal) {
    let core = paper.core;
    let cfg = &core.cx.site.migration.hotspot;
    let threshold = if matches!(hot.place, Place::Server(_)) { cfg.server } else { cfg.link };
    let goal = threshold * cfg.cool;
    let start = ratio(paper, hot);
    // What the steps so far take away shows on paper.
    let is_cool = |paper: &PlanningState<'_>| hot.ratio - (start - ratio(paper, hot)) <= goal;
    let candidates = candidates(paper, hot);
    if core.cx.site.migration.hot_link == HotLink::RerouteFirst {
        let found = reroutes::around(paper, hot, &candidates, &is_cool);
        // Whether they are enough is measured before any VM moves.
        if !found.is_empty() {
            return proposal.reroutes.extend(found);
        }
    }
    let cause = match hot.place {
        _ if hot.expected => Cause::Expected,
        Place::Server(_) => Cause::HotServer,
        Place::Link(_) => Cause::HotLink,
    };
    let name = core.cx.place_name(hot.place);
    for candidate in candidates {
        if is_cool(paper) {
            break;
        }
        let vm = candidate.record;
        let from = paper.take_away(vm);
        let uses = use_of(core, vm);
        let hot_link = |place: &Placement| match hot.place {
            Place::Link(link) => place.path_up.iter().chain(&place.path_down).any(|h| h.link == link),
            Place::Server(_) => false,
        };
        let place = paper.find_where(
            vm,
            &|paper, s| {
                let back = core.migration.plans.has_left(vm.id, s, core.cx.now);
                s != from.server && !back && !paper.gets_hot(s, uses, cfg.cool)
            },
            &|paper, place| !hot_link(place) && stays_cool(paper, vm, &from, place),
        );
        let Some(to) = place else {
            let why = format!("{name} is hot, but no other place has room and would stay cool with it");
            proposal.left.push((vm.id, why));
            paper.put(vm, from);
            continue;
        };
        let why = reason(paper, hot, &candidate);
        match paper.step(vm, &from, to, cause, why) {
            Ok(step) => proposal.steps.push(step),
            Err(why) => proposal.left.push((vm.id, why)),
        }
    }
}

impl<'a> MigrationRef<'a> {
    /// So long after its relief a place is left alone: a whole window of new samples.
    pub(crate) fn settle(self) -> std::time::Duration {
        self.cx.site.statistics.period * self.cx.site.migration.hotspot.of
    }
}

impl MigrationMut<'_> {
    /// Something is hot: makes a plan and begins it, if the site wants that and the time has come.
    pub(crate) fn relieve(&mut self, key: Key) {
        let now = self.cx.now;
        let due = |s: &hotspots::Spot| s.plan.is_none() && s.not_before <= now;
        if !self.cx.site.migration.hotspot.relieve
            || self.compute.world.is_none()
            || !self.migration.hotspots.spots.get(&key).is_some_and(due)
        {
            return;
        }
        let id = self.migration.plans.next_id();
        let options = MoveOptions::default();
        let plan = self.migration().make_plan(id, &PlanGoal::Relieve, options, Some(key));
        let settled = now + self.migration().settle();
        let (name, none) = (self.cx.place_name(key.0), plan.moves.is_empty() && plan.reroutes.is_empty());
        let Some(spot) = self.migration.hotspots.spots.get_mut(&key) else { return };
        if none {
            spot.not_before = settled;
            if !std::mem::replace(&mut spot.said, true) {
                let text = format!(
                    "{name} cannot be relieved: no VM that it would help to move has a place that stays cool with it; add servers or links, or stop VMs"
                );
                self.cx.notice(Level::Warning, "hotspot", text);
            }
            return;
        }
        spot.plan = Some(id);
        self.migration.plans.keep(plan, options);
        self.begin_plan(id);
    }

    /// A plan has ended: what it was to relieve is judged anew, by new samples.
    pub(crate) fn relief_ended(&mut self, plan: tandem_model::PlanId) {
        let settled = self.cx.now + self.migration().settle();
        let mut keys = Vec::new();
        for (key, spot) in &mut self.migration.hotspots.spots {
            if spot.plan == Some(plan) {
                (spot.plan, spot.not_before) = (None, settled);
                keys.push(*key);
            }
        }
        keys.into_iter().for_each(|key| self.migration.hotspots.look_anew(key));
    }
}
