//! Carrying plans out: which are kept, how far they are, and which step is next.
//!
//! A step begins when those that it waits for have ended well and the limits allow; what it waits for is in the plan, so nothing is decided
//! here. A step that fails takes those with it that wait for it. A step that finds no room while other migrations are under way (which hold
//! room on both sides) waits for one of them to end.

use super::execute::MoveOrder;
use super::view::{MoveState, PlanView};
use crate::core::Core;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tandem_model::{
    Aim, Cause, Level, MigrationEnd, MigrationId, MoveOptions, NodeId, Plan, PlanId, ServerId, Time, VmId,
};

/// So many plans are kept, the latest first; those under way in any case.
const KEPT: usize = 16;

/// So many windows of samples a VM that was moved away from something hot stays where it is, and no VM goes back to a server that it left
/// by keep-policy or for a relief; unless somebody asks for just that.
pub(crate) const REST: u32 = 20;

/// A plan and how far it is.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) plan: Plan,
    pub(crate) options: MoveOptions,
    pub(crate) steps: Vec<MoveState>,
    pub(crate) begun: Option<Time>,
    pub(crate) ended: Option<Time>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans {
    last: u64,
    kept: VecDeque<Carried>,
    /// VMs that were moved away from something hot, and until when they are left alone.
    resting: BTreeMap<VmId, Time>,
    /// Servers that VMs have left by themselves, and until when they do not go back.
    left: BTreeMap<(VmId, ServerId), Time>,
    /// VMs that have arrived somewhere lately, whose load there does not show yet, and until when.
    arrived: Vec<(Time, VmId, ServerId)>,
}

impl Plans {
    /// Ids go on after those of the store's migrations.
    pub(crate) fn after(last: u64) -> Plans {
        Plans { last, ..Plans::default() }
    }

    /// The id of the next plan that is kept.
    pub(super) fn next_id(&self) -> PlanId {
        PlanId(self.last + 1)
    }

    pub(super) fn keep(&mut self, plan: Plan, options: MoveOptions) {
        self.last = self.last.max(plan.id.0);
        let steps = vec![MoveState::Waiting; plan.moves.len()];
        self.kept.push_front(Carried { plan, options, steps, begun: None, ended: None });
        while self.kept.len() > KEPT {
            let idle = |c: &Carried| c.begun.is_none() || c.ended.is_some();
            let Some(oldest) = self.kept.iter().rposition(idle) else { break };
            self.kept.remove(oldest);
        }
    }

    pub(super) fn get(&self, id: PlanId) -> Option<&Carried> {
        self.kept.iter().find(|c| c.plan.id == id)
    }

    pub(super) fn get_mut(&mut self, id: PlanId) -> Option<&mut Carried> {
        self.kept.iter_mut().find(|c| c.plan.id == id)
    }

    /// Plans that have begun and not ended, oldest first.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Carried> {
        self.kept.iter().rev().filter(|c| c.begun.is_some() && c.ended.is_none())
    }

    /// True while a VM is left where it is because it was moved away from something hot.
    pub(super) fn is_resting(&self, vm: VmId, now: Time) -> bool {
        self.resting.get(&vm).is_some_and(|until| *until > now)
    }

    /// True while a VM does not go back to a server.
    pub(super) fn has_left(&self, vm: VmId, server: ServerId, now: Time) -> bool {
        self.left.get(&(vm, server)).is_some_and(|until| *until > now)
    }

    /// VMs whose load does not show yet where they are.
    pub(super) fn settling(&self, now: Time) -> impl Iterator<Item = (VmId, ServerId)> + '_ {
        self.arrived.iter().filter(move |(until, ..)| *until > now).map(|(_, vm, to)| (*vm, *to))
    }

    pub(crate) fn views(&self) -> Vec<PlanView> {
        let view = |c: &Carried| PlanView {
            plan: c.plan.clone(),
            steps: c.steps.clone(),
            begun: c.begun,
            ended: c.ended,
        };
        self.kept.iter().map(view).collect()
    }
}

impl Core {
    /// Begins a plan that is kept.
    pub(super) fn begin_plan(&mut self, id: PlanId) {
        let now = self.now;
        let Some(carried) = self.plans.get_mut(id) else { return };
        carried.begun = Some(now);
        let plan = carried.plan.clone();
        if !plan.moves.is_empty() {
            let aim = self.aim_text(&plan.aim);
            let text = format!(
                "{id} ({}) has begun: {} moves, {} MiB, {:?} as expected",
                aim,
                plan.moves.len(),
                plan.bytes.0 >> 20,
                plan.duration
            );
            self.notice(Level::Info, "plan-begun", text);
        }
        self.dirty.plans = true;
        self.advance(id);
    }

    /// Begins whatever may begin, in all plans that are under way.
    pub(super) fn advance_all(&mut self) {
        let ids: Vec<PlanId> = self.plans.under_way().map(|c| c.plan.id).collect();
        ids.into_iter().for_each(|id| self.advance(id));
    }

    fn advance(&mut self, id: PlanId) {
        self.drop_hopeless(id);
        let mut refused = BTreeSet::new();
        while let Some(n) = self.next_step(id, &refused) {
            let Some(carried) = self.plans.get(id) else { return };
            let step = &carried.plan.moves[n];
            let order = MoveOrder {
                vm: step.vm,
                to: Some(step.to),
                options: MoveOptions { manner: Some(step.manner), ..carried.options },
                cause: step.cause,
                plan: Some(id),
                requester: None,
            };
            self.dirty.plans = true;
            match self.begin_move(order) {
                Ok(migration) => self.set_step(id, n, MoveState::UnderWay { migration }),
                // What is under way holds room on both sides; when it ends there may be enough.
                Err(_) if !self.migrations.open.is_empty() => {
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
        if let Some(slot) = self.plans.get_mut(id).and_then(|c| c.steps.get_mut(n)) {
            *slot = state;
        }
        self.dirty.plans = true;
    }

    /// The first step that waits for nothing any more and that the limits allow.
    fn next_step(&self, id: PlanId, refused: &BTreeSet<usize>) -> Option<usize> {
        if self.migrations.open.len() >= self.site.migration.at_once as usize {
            return None;
        }
        let carried = self.plans.get(id)?;
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
    fn is_settled(&self, carried: &Carried, n: u32) -> bool {
        let n = n as usize;
        let gone = || carried.plan.moves.get(n).is_some_and(|step| self.vm(step.vm).is_none());
        match carried.steps.get(n) {
            Some(MoveState::Done { .. }) => true,
            Some(MoveState::Failed { .. }) => gone(),
            _ => false,
        }
    }

    /// Fails the steps that wait for one that was not done, and those whose VM is gone.
    fn drop_hopeless(&mut self, id: PlanId) {
        let Some(carried) = self.plans.get(id) else { return };
        let mut steps = carried.steps.clone();
        let mut changed = false;
        for (n, step) in carried.plan.moves.iter().enumerate() {
            if steps[n] != MoveState::Waiting {
                continue;
            }
            let why = if self.vm(step.vm).is_none() {
                Some(format!("{} is gone", step.vm))
            } else {
                let failed = step.after.iter().find(|before| {
                    let before = **before as usize;
                    let gone = || self.vm(carried.plan.moves[before].vm).is_none();
                    matches!(steps.get(before), Some(MoveState::Failed { .. })) && !gone()
                });
                failed.map(|before| format!("step {} that it waits for was not done", before + 1))
            };
            if let Some(why) = why {
                steps[n] = MoveState::Failed { why };
                changed = true;
            }
        }
        if changed && let Some(carried) = self.plans.get_mut(id) {
            carried.steps = steps;
            self.dirty.plans = true;
        }
    }

    /// Marks a plan as ended when nothing of it waits or is under way, and says what has become of it.
    fn end_plan(&mut self, id: PlanId) {
        let now = self.now;
        let Some(carried) = self.plans.get_mut(id).filter(|c| c.begun.is_some() && c.ended.is_none()) else {
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
        let left = carried.plan.left.len();
        let what = self.aim_text(&aim);
        let mut text = match (total, failed) {
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
        self.notice(level, "plan-ended", text);
        self.dirty.plans = true;
        self.relief_ended(id);
        if let Aim::Evacuate { server } = aim {
            self.evacuation_ended(server);
        }
    }

    /// A migration has ended, well or not; it may have been a step of a plan.
    pub(crate) fn on_move_ended(&mut self, migration: MigrationId, plan: Option<PlanId>, end: &MigrationEnd) {
        let found = plan.and_then(|id| {
            let carried = self.plans.get(id)?;
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
                self.remember_move(&step);
            }
        }
        self.advance_all();
    }

    fn remember_move(&mut self, step: &tandem_model::Move) {
        let (now, settle) = (self.now, self.settle());
        let rest = now + settle * REST;
        self.plans.arrived.retain(|(until, ..)| *until > now);
        self.plans.arrived.push((now + settle, step.vm, step.to));
        let relief = matches!(step.cause, Cause::HotServer | Cause::HotLink | Cause::Expected);
        if relief {
            self.plans.resting.retain(|_, until| *until > now);
            self.plans.resting.insert(step.vm, rest);
        }
        if relief || step.cause == Cause::KeepPolicy {
            self.plans.left.retain(|_, until| *until > now);
            self.plans.left.insert((step.vm, step.from), rest);
        }
    }

    /// Begins no more moves of a plan; those under way go on.
    pub(super) fn stop_plan(&mut self, id: PlanId) {
        let Some(carried) = self.plans.get_mut(id) else { return };
        for state in &mut carried.steps {
            if *state == MoveState::Waiting {
                *state = MoveState::Failed { why: "the plan was stopped".into() };
            }
        }
        self.dirty.plans = true;
        self.end_plan(id);
    }

    /// What has changed since a plan was made so that it cannot be carried out as it is; `None` when it holds.
    pub(super) fn stale(&self, plan: &Plan) -> Option<String> {
        let mut paper = super::paper::Paper::new(self, MoveOptions::default());
        let mut at: BTreeMap<VmId, ServerId> = BTreeMap::new();
        let name = |s: ServerId| self.site.topology.name(NodeId::Server(s)).to_owned();
        for step in &plan.moves {
            let Some(vm) = self.vm(step.vm) else { return Some(format!("{} is gone", step.vm)) };
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

    /// What a plan is for, in words.
    fn aim_text(&self, aim: &Aim) -> String {
        match aim {
            Aim::KeepPolicy => "keep policy".into(),
            Aim::Relieve => "relieve".into(),
            Aim::Evacuate { server } => {
                format!("evacuate {}", self.site.topology.name(NodeId::Server(*server)))
            }
            Aim::Move { vm, .. } => format!("move {vm}"),
        }
    }

    /// So long until a keep-policy run, where the site wants them by themselves.
    pub(super) fn keep_policy_period(&self) -> Option<Duration> {
        self.site.migration.keep_policy.period
    }
}
