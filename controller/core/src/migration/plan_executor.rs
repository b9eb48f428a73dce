//! Carrying plans out: which are kept, how far they are, and which step is next.
//!
//! A step begins when those that it waits for have ended well and the limits allow; what it waits
//! for is in the plan, so nothing is decided here. A step that fails takes those with it that wait
//! for it. A step that finds no room while other migrations are under way (which hold room on both
//! sides) waits for one of them to end.

use crate::migration::commands::MigrationRequest;
use crate::migration::plan_store::PlanExecution;
use crate::migration::views::MoveState;
use crate::migration::{MigrationMut, MigrationRef, reroutes, what_if};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::{
    Level, MigrationEnd, MigrationId, MoveOptions, NodeId, Plan, PlanGoal, PlanId, ServerId, SiteEvent, VmId,
};

impl MigrationMut<'_> {
    /// Begins a plan that is kept.
    pub(crate) fn begin_plan(&mut self, id: PlanId) {
        let now = self.cx.wall_now();
        let Some(carried) = self.migration.plans.get_mut(id) else { return };
        carried.begun = Some(now);
        let plan = carried.plan.clone();
        self.carry_out_reroutes(&plan);
        if !plan.moves.is_empty() {
            let aim = self.migration().aim_text(&plan.aim);
            let text = format!(
                "{id} ({}) has begun: {} moves, {} MiB, {:?} as expected",
                aim,
                plan.moves.len(),
                plan.bytes.0 >> 20,
                plan.duration
            );
            self.cx.notice(Level::Info, "plan-begun", text);
            self.cx.tell(SiteEvent::PlanBegun { plan: id, moves: plan.moves.len() as u32 });
        }
        self.cx.dirty.plans = true;
        self.advance(id);
    }

    /// Begins whatever may begin, in all plans that are under way.
    pub(crate) fn advance_all(&mut self) {
        let ids: Vec<PlanId> = self.migration.plans.under_way().map(|c| c.plan.id).collect();
        ids.into_iter().for_each(|id| self.advance(id));
    }

    fn advance(&mut self, id: PlanId) {
        self.drop_hopeless(id);
        let mut refused = BTreeSet::new();
        while let Some(n) = self.migration().next_step(id, &refused) {
            let Some(carried) = self.migration.plans.get(id) else { return };
            let step = &carried.plan.moves[n];
            let order = MigrationRequest {
                vm: step.vm,
                to: Some(step.to),
                options: MoveOptions { manner: Some(step.manner), ..carried.options },
                cause: step.cause,
                plan: Some(id),
                requester: None,
            };
            self.cx.dirty.plans = true;
            match self.begin_move(order) {
                Ok(migration) => self.set_step(id, n, MoveState::UnderWay { migration }),
                // What is under way holds room on both sides; when it ends there may be enough.
                Err(_) if !self.compute.migrations.open.is_empty() => {
                    refused.insert(n);
                }
                Err(rejection) => {
                    let why = match rejection.nearest.first() {
                        Some(miss) => format!("{}: {miss}", rejection.summary),
                        None => rejection.summary,
                    };
                    self.set_step(id, n, MoveState::Failed { why });
                    self.drop_hopeless(id);
                }
            }
        }
        self.end_plan(id);
    }

    fn set_step(&mut self, id: PlanId, n: usize, state: MoveState) {
        if let Some(slot) = self.migration.plans.get_mut(id).and_then(|c| c.steps.get_mut(n)) {
            *slot = state;
        }
        self.cx.dirty.plans = true;
    }

    /// Fails the steps that wait for one that was not done, and those whose VM is gone.
    fn drop_hopeless(&mut self, id: PlanId) {
        let Some(carried) = self.migration.plans.get(id) else { return };
        let mut steps = carried.steps.clone();
        let mut changed = false;
        for (n, step) in carried.plan.moves.iter().enumerate() {
            if steps[n] != MoveState::Waiting {
                continue;
            }
            let why = if self.compute().vm(step.vm).is_none() {
                Some(format!("{} is gone", step.vm))
            } else {
                let failed = step.after.iter().find(|before| {
                    let before = **before as usize;
                    let gone = || self.compute().vm(carried.plan.moves[before].vm).is_none();
                    matches!(steps.get(before), Some(MoveState::Failed { .. })) && !gone()
                });
                failed.map(|before| format!("step {} that it waits for was not done", before + 1))
            };
            if let Some(why) = why {
                steps[n] = MoveState::Failed { why };
                changed = true;
            }
        }
        if changed && let Some(carried) = self.migration.plans.get_mut(id) {
            carried.steps = steps;
            self.cx.dirty.plans = true;
        }
    }

    /// Marks a plan as ended when nothing of it waits or is under way, and says what has become of
    /// it.
    fn end_plan(&mut self, id: PlanId) {
        let now = self.cx.wall_now();
        let Some(carried) =
            self.migration.plans.get_mut(id).filter(|c| c.begun.is_some() && c.ended.is_none())
        else {
            return;
        };
        let open = |s: &MoveState| matches!(s, MoveState::Waiting | MoveState::UnderWay { .. });
        if carried.steps.iter().any(open) {
            return;
        }
        carried.ended = Some(now);
        let done = carried.steps.iter().filter(|s| matches!(s, MoveState::Done { .. })).count();
        let failed = carried.plan.moves.iter().zip(&carried.steps).find_map(|(step, state)| match state {
            MoveState::Failed { why } => Some(format!("{}: {why}", step.vm)),
            _ => None,
        });
        let (total, aim) = (carried.steps.len(), carried.plan.aim.clone());
        let reroutes = carried.plan.reroutes.len();
        let left = carried.plan.left.len();
        let what = self.migration().aim_text(&aim);
        let mut text = match (total, failed) {
            (0, _) if reroutes > 0 => format!("{id} ({what}) has ended: {reroutes} VMs got another path"),
            (0, _) => format!("{id} ({what}) has nothing to move"),
            (_, None) => format!("{id} ({what}) has ended: all {total} moves were done"),
            (_, Some(first)) => {
                format!("{id} ({what}) has ended: {done} of {total} moves were done; {first}")
            }
        };
        if left > 0 {
            text.push_str(&format!("; {left} VMs could not be planned"));
        }
        let level = if done == total && left == 0 { Level::Info } else { Level::Warning };
        self.cx.notice(level, "plan-ended", text);
        if total > 0 {
            self.cx.tell(SiteEvent::PlanEnded { plan: id, moves: total as u32, done: done as u32 });
        }
        self.cx.dirty.plans = true;
        self.relief_ended(id);
        if let PlanGoal::Evacuate { server } = aim {
            self.evacuation_ended(server);
        }
    }

    /// A migration has ended, well or not; it may have been a step of a plan.
    pub(crate) fn on_move_ended(&mut self, migration: MigrationId, plan: Option<PlanId>, end: &MigrationEnd) {
        let found = plan.and_then(|id| {
            let carried = self.migration.plans.get(id)?;
            let n = carried.steps.iter().position(|s| *s == MoveState::UnderWay { migration })?;
            Some((id, n, carried.plan.moves[n].clone()))
        });
        if let Some((id, n, step)) = found {
            let state = match end {
                MigrationEnd::Moved { .. } => MoveState::Done { migration },
                MigrationEnd::Undone { why } | MigrationEnd::Lost { why } => {
                    MoveState::Failed { why: why.clone() }
                }
            };
            self.set_step(id, n, state);
            if matches!(end, MigrationEnd::Moved { .. }) {
                let settle = self.migration().settle();
                self.migration.plans.remember(&step, self.cx.now, settle);
            }
        }
        self.advance_all();
    }

    /// Begins no more moves of a plan; those under way go on.
    pub(crate) fn stop_plan(&mut self, id: PlanId) {
        let Some(carried) = self.migration.plans.get_mut(id) else { return };
        for state in &mut carried.steps {
            if *state == MoveState::Waiting {
                *state = MoveState::Failed { why: "the plan was stopped".into() };
            }
        }
        self.cx.dirty.plans = true;
        self.end_plan(id);
    }
}

impl<'a> MigrationRef<'a> {
    /// The first step that waits for nothing any more and that the limits allow.
    fn next_step(self, id: PlanId, refused: &BTreeSet<usize>) -> Option<usize> {
        if self.compute.migrations.open.len() >= self.cx.site.migration.at_once as usize {
            return None;
        }
        let carried = self.migration.plans.get(id)?;
        let ready = |(n, (step, state)): &(usize, (&tandem_model::Move, &MoveState))| {
            **state == MoveState::Waiting
                && !refused.contains(n)
                && step.after.iter().all(|before| self.is_settled(carried, *before))
                && self.must_wait(step.vm, step.from, Some(step.to)).is_none()
        };
        let steps = carried.plan.moves.iter().zip(&carried.steps);
        steps.enumerate().find(ready).map(|(n, _)| n)
    }

    /// True when what a step was to give back is free: it is done, or its VM is gone.
    fn is_settled(self, carried: &PlanExecution, n: u32) -> bool {
        let n = n as usize;
        let gone = || carried.plan.moves.get(n).is_some_and(|step| self.compute().vm(step.vm).is_none());
        match carried.steps.get(n) {
            Some(MoveState::Done { .. }) => true,
            Some(MoveState::Failed { .. }) => gone(),
            _ => false,
        }
    }

    /// What has changed since a plan was made so that it cannot be carried out as it is; `None`
    /// when it holds.
    pub(crate) fn stale(self, plan: &Plan) -> Option<String> {
        let mut paper = what_if::PlanningState::new(self, MoveOptions::default());
        if let Some(why) = reroutes::stale(&mut paper, plan) {
            return Some(why);
        }
        let mut at: BTreeMap<VmId, ServerId> = BTreeMap::new();
        let name = |s: ServerId| self.cx.site.topology.name(NodeId::Server(s)).to_owned();
        for step in &plan.moves {
            let Some(vm) = self.compute().vm(step.vm) else { return Some(format!("{} is gone", step.vm)) };
            if let Some(why) = paper.immovable(vm) {
                return Some(format!("{}: {why}", step.vm));
            }
            let here = at.insert(step.vm, step.to).unwrap_or(vm.server);
            if here != step.from {
                return Some(format!("{} is on {}, not on {}", step.vm, name(here), name(step.from)));
            }
            paper.take_away(vm);
            let Some(place) = paper.place_on(vm, step.to) else {
                return Some(format!("{} has no place any more: {}", step.vm, paper.why_not(vm, step.to)));
            };
            paper.put(vm, place);
        }
        None
    }

    /// What a plan is for, as text.
    fn aim_text(self, aim: &PlanGoal) -> String {
        match aim {
            PlanGoal::KeepPolicy => "keep policy".into(),
            PlanGoal::Relieve => "relieve".into(),
            PlanGoal::Evacuate { server } => {
                format!("evacuate {}", self.cx.site.topology.name(NodeId::Server(*server)))
            }
            PlanGoal::Move { vm, .. } => format!("move {vm}"),
        }
    }

    /// So long until a keep-policy run, where the site wants them by themselves.
    pub(crate) fn keep_policy_period(self) -> Option<Duration> {
        self.cx.site.migration.keep_policy.period
    }
}
