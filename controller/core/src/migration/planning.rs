//! Plans: from an aim to a list of moves, decided on paper. Pure: a plan changes nothing, and the
//! same data centre gives the same plan.

use crate::migration::transfer_path::{Found, Proposal};
use crate::migration::what_if::{PlanningState, use_of};
use crate::migration::{MigrationRef, hotspots, mitigation, rebalance, repacking, reroutes, schedule};
use crate::network::place::Placement;
use tandem_model::site::KeepPlanner;
use tandem_model::{Cause, Move, MoveOptions, NodeId, Plan, PlanGoal, PlanId, ServerId, VmId, VmRecord};

impl<'a> MigrationRef<'a> {
    /// A plan for `aim`, thought through and not kept. What cannot be reached is in its `left`.
    pub(crate) fn plan(self, aim: &PlanGoal, options: MoveOptions) -> Plan {
        self.make_plan(PlanId(0), aim, options, None)
    }

    /// The same under an id; `only` leaves a relief to some of the hotspots.
    pub(crate) fn make_plan(
        self,
        id: PlanId,
        aim: &PlanGoal,
        options: MoveOptions,
        only: Option<hotspots::Key>,
    ) -> Plan {
        let Proposal { reroutes, steps, left } = self.steps_for(aim, options, only);
        let mut before = PlanningState::new(self, options);
        // All other paths are taken before the first move.
        reroutes::apply(&mut before, &reroutes);
        let after = schedule::after(&before, &steps);
        let cfg = &self.cx.site.migration;
        let duration = schedule::duration(&steps, &after, cfg.at_once, cfg.per_server);
        let (active_before, active_after) = (self.active_servers(&[]), self.active_servers(&steps));
        let bytes = steps.iter().map(|s| s.predicted.bytes).sum();
        let moves = steps.into_iter().zip(after).map(|(step, after)| Move {
            vm: step.vm,
            from: step.from.server,
            to: step.to.server,
            manner: step.manner,
            cause: step.cause,
            after,
            predicted: step.predicted,
            why: step.why,
        });
        Plan {
            id,
            aim: aim.clone(),
            made_at: self.cx.wall_now(),
            reroutes,
            moves: moves.collect(),
            left,
            active_before,
            active_after,
            bytes,
            duration,
        }
    }
}

impl<'a> MigrationRef<'a> {
    /// The other paths and the moves of a plan, one after the other, and what cannot be planned.
    pub(crate) fn steps_for(
        self,
        aim: &PlanGoal,
        options: MoveOptions,
        only: Option<hotspots::Key>,
    ) -> Proposal {
        let mut paper = PlanningState::new(self, options);
        let (steps, left) = match aim {
            PlanGoal::KeepPolicy => match self.migration.policies.place.assign(&paper.view()) {
                Some(wanted) => {
                    let why = "the policy wants it there";
                    schedule::sequence(&mut paper, &wanted, Cause::KeepPolicy, why)
                }
                None if self.cx.site.migration.keep_policy.planner == KeepPlanner::FewestMoves => {
                    repacking::steps(self, options)
                }
                None => rebalance::steps(&mut paper),
            },
            PlanGoal::Relieve => return mitigation::steps(&mut paper, only),
            PlanGoal::Evacuate { server } => evacuate(&mut paper, *server),
            PlanGoal::Move { vm, to } => one(&mut paper, *vm, *to),
        };
        Proposal { reroutes: Vec::new(), steps, left }
    }
}

/// Every VM of a server elsewhere: where the policy wants it, on a server that stays cool if there
/// is one, else on any. The biggest first: what is small finds room later too.
fn evacuate(paper: &mut PlanningState<'_>, server: ServerId) -> Found {
    let core = paper.core;
    let name = core.cx.site.topology.name(NodeId::Server(server));
    paper.inventory.set_drained(server, true);
    let mut vms: Vec<&VmRecord> = core.compute().vms().filter(|vm| vm.server == server).collect();
    vms.sort_by_key(|vm| (std::cmp::Reverse(vm.request.resources.ram), vm.id));
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    for vm in vms {
        if let Some(why) = paper.immovable(vm) {
            left.push((vm.id, why));
            continue;
        }
        let from = paper.take_away(vm);
        let uses = use_of(core, vm);
        let cool = paper.find(vm, &|paper, s| s != server && !paper.gets_hot(s, uses, 1.0));
        let Some(to) = cool.or_else(|| paper.find(vm, &|_, s| s != server)) else {
            left.push((vm.id, paper.nowhere(vm)));
            paper.put(vm, from);
            continue;
        };
        let why = format!("{name} is taken out of service");
        match paper.step(vm, &from, to, Cause::Evacuate, why) {
            Ok(step) => steps.push(step),
            Err(why) => left.push((vm.id, why)),
        }
    }
    (steps, left)
}

/// One VM to one server, or to where the policy wants it among the others.
fn one(paper: &mut PlanningState<'_>, id: VmId, to: Option<ServerId>) -> Found {
    let Some(vm) = paper.core.compute().vm(id) else {
        return (Vec::new(), vec![(id, "there is no such VM".into())]);
    };
    if let Some(why) = paper.immovable(vm) {
        return (Vec::new(), vec![(id, why)]);
    }
    if to == Some(vm.server) {
        return (Vec::new(), vec![(id, "it is there already".into())]);
    }
    let from = paper.take_away(vm);
    let uses = use_of(paper.core, vm);
    let place: Option<Placement> = match to {
        Some(to) => paper.place_on(vm, to),
        None => paper
            .find(vm, &|paper, s| s != from.server && !paper.gets_hot(s, uses, 1.0))
            .or_else(|| paper.find(vm, &|_, s| s != from.server)),
    };
    let Some(place) = place else {
        let why = to.map_or_else(|| paper.nowhere(vm), |to| paper.why_not(vm, to));
        return (Vec::new(), vec![(id, why)]);
    };
    match paper.step(vm, &from, place, Cause::Asked, "it was asked for".into()) {
        Ok(step) => (vec![step], Vec::new()),
        Err(why) => (Vec::new(), vec![(id, why)]),
    }
}
