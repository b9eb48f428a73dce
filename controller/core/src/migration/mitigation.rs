//! Relief: VMs move away from what is hot, until it is expected to be cool.
//!
//! So that nothing swings back and forth: a VM goes only to where everything stays cool with it;
//! what has just arrived somewhere is counted there before its load shows; a hot place gets a new
//! plan only when the one before has ended and a whole window of new samples has come in; and a VM
//! that was moved for this is left where it is for [`REST`](super::plan_store::REST) windows.

use crate::migration::hotspots::Key;
use crate::migration::policies::Place;
use crate::migration::policies::{Candidate, Hot};
use crate::migration::transfer_path::Found;
use crate::migration::transfer_path::Step;
use crate::migration::what_if::{PlanningState, WATCHED, traffic_of, use_of};
use crate::migration::{MigrationMut, MigrationRef, hotspots};
use crate::network::place::Placement;
use tandem_model::{BitRate, Cause, Hop, Level, LinkId, MoveOptions, PlanGoal, Resource, VmRecord};

/// The moves that relieve what is hot, the hottest first; or only one of them.
pub(crate) fn steps(paper: &mut PlanningState<'_>, only: Option<Key>) -> Found {
    let mut hots: Vec<Hot> = paper
        .core
        .migration
        .hotspots
        .hot()
        .filter(|h| only.is_none_or(|key| key == (h.place, h.resource)))
        .collect();
    hots.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    for hot in hots {
        one(paper, &hot, &mut steps, &mut left);
    }
    (steps, left)
}

/// Measured over capacity of a place, on paper.
fn ratio(paper: &PlanningState<'_>, hot: &Hot) -> f64 {
    match hot.place {
        Place::Server(server) => paper.share(server, hot.resource).unwrap_or(0.0),
        Place::Link(link) => paper.links.ratio(link),
    }
}

/// The busier direction of a link.
fn busier(core: MigrationRef<'_>, link: LinkId) -> Hop {
    let (up, down) = (Hop { link, down: false }, Hop { link, down: true });
    if core.net.links.measured(up) > core.net.links.measured(down) { up } else { down }
}

/// By how much the hot place's ratio falls without a VM; 0 for one that has no part in it.
fn relief(paper: &PlanningState<'_>, vm: &VmRecord, at: &Placement, hot: &Hot) -> f64 {
    let core = paper.core;
    match hot.place {
        Place::Server(server) if at.server == server => {
            let slot = WATCHED.iter().position(|r| *r == hot.resource);
            let has = core.has(server, hot.resource);
            slot.filter(|_| has > 0.0).map_or(0.0, |slot| use_of(core, vm)[slot] / has)
        }
        Place::Server(_) => 0.0,
        Place::Link(link) => {
            let hop = busier(core, link);
            let (up, down) = traffic_of(core, vm.id);
            let part = |path: &[Hop], rate: BitRate| if path.contains(&hop) { rate.0 } else { 0 };
            let rate = part(&at.path_up, up) + part(&at.path_down, down);
            let capacity = core.cx.site.topology.link(link).map_or(0, |l| l.cfg.rate.0);
            if capacity == 0 { 0.0 } else { rate as f64 / capacity as f64 }
        }
    }
}

/// True when a place's ways stay cool with a VM, hops that it has already apart.
fn stays_cool(paper: &PlanningState<'_>, vm: &VmRecord, from: &Placement, to: &Placement) -> bool {
    let core = paper.core;
    let cfg = &core.cx.site.migration.hotspot;
    let (up, down) = traffic_of(core, vm.id);
    let cool = |path: &[Hop], old: &[Hop], rate: BitRate| {
        path.iter().filter(|hop| !old.contains(hop)).all(|hop| {
            let capacity = core.cx.site.topology.link(hop.link).map_or(0, |l| l.cfg.rate.0) as f64;
            let ratio = (paper.links.measured(*hop).0 + rate.0) as f64 / capacity.max(1.0);
            !core.migration.hotspots.is_hot(Place::Link(hop.link)) && ratio <= cfg.link * cfg.cool
        })
    };
    cool(&to.path_up, &from.path_up, up) && cool(&to.path_down, &from.path_down, down)
}

fn one(
    paper: &mut PlanningState<'_>,
    hot: &Hot,
    steps: &mut Vec<Step>,
    left: &mut Vec<(tandem_model::VmId, String)>,
) {
    let core = paper.core;
    let cfg = &core.cx.site.migration.hotspot;
    let threshold = if matches!(hot.place, Place::Server(_)) { cfg.server } else { cfg.link };
    let goal = threshold * cfg.cool;
    let start = ratio(paper, hot);
    let mut candidates = Vec::new();
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
        candidates.push((core.migration.policies.which.rank(&candidate, hot, &paper.view()), candidate));
    }
    candidates.sort_by(|(a, x), (b, y)| a.total_cmp(b).then(x.record.id.cmp(&y.record.id)));
    let cause = match hot.place {
        _ if hot.expected => Cause::Expected,
        Place::Server(_) => Cause::HotServer,
        Place::Link(_) => Cause::HotLink,
    };
    let name = core.cx.place_name(hot.place);
    for (_, candidate) in candidates {
        // What the moves so far take away shows on paper.
        if hot.ratio - (start - ratio(paper, hot)) <= goal {
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
            left.push((
                vm.id,
                format!("{name} is hot, but no other place has room and would stay cool with it"),
            ));
            paper.put(vm, from);
            continue;
        };
        let (all, part) = (hot.ratio * 100.0, candidate.relief * 100.0);
        let why = format!("{name} uses {all:.0}% of its {}, {part:.0}% by this VM", hot.resource);
        match paper.step(vm, &from, to, cause, why) {
            Ok(step) => steps.push(step),
            Err(why) => left.push((vm.id, why)),
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
        let (name, none) = (self.cx.place_name(key.0), plan.moves.is_empty());
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
