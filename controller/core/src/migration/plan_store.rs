//! The plans that are kept, how far they are, and what is remembered of moves so that VMs do not go
//! to and fro.

use crate::migration::views::{MoveState, PlanView};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tandem_model::{Cause, Move, MoveOptions, Plan, PlanId, ServerId, Time, VmId};

/// So many plans are kept, the latest first; those under way in any case.
const KEPT: usize = 16;

/// So many windows of samples a VM that was moved away from something hot stays where it is, and no
/// VM goes back to a server that it left by keep-policy or for a relief; unless somebody asks for
/// just that.
pub(crate) const REST: u32 = 20;

/// A plan and how far it is.
#[derive(Debug, Clone)]
pub(crate) struct PlanExecution {
    pub(crate) plan: Plan,
    pub(crate) options: MoveOptions,
    pub(crate) steps: Vec<MoveState>,
    pub(crate) begun: Option<Time>,
    pub(crate) ended: Option<Time>,
}

/// The plans that are kept, by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans {
    last: u64,
    kept: VecDeque<PlanExecution>,
    /// VMs that were moved away from something hot, and until when they are left alone.
    resting: BTreeMap<VmId, Time>,
    /// Servers that VMs have left by themselves, and until when they do not go back.
    left: BTreeMap<(VmId, ServerId), Time>,
    /// VMs that were given another path by choice, and until when they are given no further one.
    rerouted: BTreeMap<VmId, Time>,
    /// VMs that have arrived somewhere lately, whose load there does not show yet, and until when.
    arrived: Vec<(Time, VmId, ServerId)>,
}

impl Plans {
    /// Ids go on after those of the store's migrations.
    pub(crate) fn after(last: u64) -> Plans {
        Plans { last, ..Plans::default() }
    }

    /// The id of the next plan that is kept.
    pub(crate) fn next_id(&self) -> PlanId {
        PlanId(self.last + 1)
    }

    pub(crate) fn keep(&mut self, plan: Plan, options: MoveOptions) {
        self.last = self.last.max(plan.id.0);
        let steps = vec![MoveState::Waiting; plan.moves.len()];
        self.kept.push_front(PlanExecution { plan, options, steps, begun: None, ended: None });
        while self.kept.len() > KEPT {
            let idle = |c: &PlanExecution| c.begun.is_none() || c.ended.is_some();
            let Some(oldest) = self.kept.iter().rposition(idle) else { break };
            self.kept.remove(oldest);
        }
    }

    pub(crate) fn get(&self, id: PlanId) -> Option<&PlanExecution> {
        self.kept.iter().find(|c| c.plan.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: PlanId) -> Option<&mut PlanExecution> {
        self.kept.iter_mut().find(|c| c.plan.id == id)
    }

    /// Plans that have begun and not ended, oldest first.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &PlanExecution> {
        self.kept.iter().rev().filter(|c| c.begun.is_some() && c.ended.is_none())
    }

    /// True while a VM is left where it is because it was moved away from something hot.
    pub(crate) fn is_resting(&self, vm: VmId, now: Time) -> bool {
        self.resting.get(&vm).is_some_and(|until| *until > now)
    }

    /// True while a VM is given no other path: it has got one lately, or was refused one.
    pub(crate) fn keeps_path(&self, vm: VmId, now: Time) -> bool {
        self.rerouted.get(&vm).is_some_and(|until| *until > now)
    }

    /// A VM gets another path now.
    pub(crate) fn remember_path(&mut self, vm: VmId, now: Time, settle: Duration) {
        self.rerouted.retain(|_, until| *until > now);
        self.rerouted.insert(vm, now + settle * REST);
    }

    /// True while a VM does not go back to a server.
    pub(crate) fn has_left(&self, vm: VmId, server: ServerId, now: Time) -> bool {
        self.left.get(&(vm, server)).is_some_and(|until| *until > now)
    }

    /// VMs whose load does not show yet where they are.
    pub(crate) fn settling(&self, now: Time) -> impl Iterator<Item = (VmId, ServerId)> + '_ {
        self.arrived.iter().filter(move |(until, ..)| *until > now).map(|(_, vm, to)| (*vm, *to))
    }

    /// A step has been done: its VM's load does not show where it is before `settle` has passed.
    pub(crate) fn remember(&mut self, step: &Move, now: Time, settle: Duration) {
        let rest = now + settle * REST;
        self.arrived.retain(|(until, ..)| *until > now);
        self.arrived.push((now + settle, step.vm, step.to));
        let relief = matches!(step.cause, Cause::HotServer | Cause::HotLink | Cause::Expected);
        if relief {
            self.resting.retain(|_, until| *until > now);
            self.resting.insert(step.vm, rest);
        }
        if relief || step.cause == Cause::KeepPolicy {
            self.left.retain(|_, until| *until > now);
            self.left.insert((step.vm, step.from), rest);
        }
    }

    pub(crate) fn views(&self) -> Vec<PlanView> {
        let view = |c: &PlanExecution| PlanView {
            plan: c.plan.clone(),
            steps: c.steps.clone(),
            begun: c.begun,
            ended: c.ended,
        };
        self.kept.iter().map(view).collect()
    }
}
