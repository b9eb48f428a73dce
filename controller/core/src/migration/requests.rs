//! What the API asks of plans and of servers' maintenance, and the plans that are made by
//! themselves: keep-policy by the clock, and evacuations that are taken up again.

use crate::compute::pending_writes::PendingWrite;
use crate::migration::MigrationMut;
use crate::timers::Timer;
use std::time::Duration;
use tandem_model::{Level, MoveOptions, PlanGoal, PlanId, RequestId, Response, ServerId, StoreOp};

/// So long after an evacuation that left VMs behind, these are planned for again: room may have
/// come free.
pub(crate) const AGAIN: Duration = Duration::from_secs(30);

impl MigrationMut<'_> {
    pub(crate) fn ask_plan(&mut self, id: RequestId, aim: PlanGoal, options: MoveOptions) {
        let missing = match aim {
            PlanGoal::Evacuate { server } | PlanGoal::Move { to: Some(server), .. }
                if self.cx.site.topology.server(server).is_none() =>
            {
                Some(server.to_string())
            }
            PlanGoal::Move { vm, .. } if self.compute().vm(vm).is_none() => Some(vm.to_string()),
            _ => None,
        };
        if let Some(what) = missing {
            return self.cx.answer(id, Response::NotFound { what });
        }
        let plan = self.migration().make_plan(self.migration.plans.next_id(), &aim, options, None);
        self.migration.plans.keep(plan.clone(), options);
        self.cx.dirty.plans = true;
        self.cx.answer(id, Response::Planned { plan: Box::new(plan) });
    }

    pub(crate) fn ask_apply(&mut self, id: RequestId, plan: PlanId) {
        let Some(carried) = self.migration.plans.get(plan) else {
            let what = format!(
                "{plan} (the last 16 plans are kept, and none outlives a restart of the controller; make a new one)"
            );
            return self.cx.answer(id, Response::NotFound { what });
        };
        let refused = if carried.begun.is_some() {
            Some(format!("{plan} has begun already"))
        } else if self.compute.world.is_none() {
            Some("no hypervisor is connected; start the lab (`tandem-lab up`) or attach servers, then try again".into())
        } else {
            let changed = self.migration().stale(&carried.plan);
            changed.map(|what| {
                format!("the data centre has changed since {plan} was made: {what}; make a new plan")
            })
        };
        if let Some(why) = refused {
            return self.cx.answer(id, Response::Conflict { why });
        }
        let whole = Box::new(carried.plan.clone());
        self.begin_plan(plan);
        self.cx.answer(id, Response::Planned { plan: whole });
    }

    pub(crate) fn ask_stop(&mut self, id: RequestId, plan: PlanId) {
        match self.migration.plans.get(plan) {
            None => self.cx.answer(id, Response::NotFound { what: plan.to_string() }),
            Some(c) if c.begun.is_none() => {
                self.cx.answer(id, Response::Conflict { why: format!("{plan} was never begun") });
            }
            Some(_) => {
                self.stop_plan(plan);
                self.cx.answer(id, Response::Done);
            }
        }
    }

    pub(crate) fn ask_evacuate(&mut self, id: RequestId, server: ServerId, options: MoveOptions) {
        if self.cx.site.topology.server(server).is_none() {
            return self.cx.answer(id, Response::NotFound { what: server.to_string() });
        }
        // One that is on its way to the store already is written again: nothing moves before the
        // store has it.
        let pending =
            self.compute.stores.values().any(|w| matches!(w, PendingWrite::Drained(s, ..) if *s == server));
        if !self.compute.inventory.set_drained(server, true) && !pending {
            return self.evacuate(server, options, Some(id));
        }
        self.cx.dirty.server(server);
        self.compute_mut().store(StoreOp::PutDrained { server }, PendingWrite::Drained(server, options, id));
    }

    /// The store has it that a server is out of service: its VMs may go.
    pub(crate) fn drained_stored(&mut self, server: ServerId, options: MoveOptions, request: RequestId) {
        let count = self.compute().vms().filter(|v| v.server == server).count();
        let name = self.cx.server_name(server);
        let text = format!(
            "{name} is out of service: it gets no more VMs, and the {count} that it has are moved away"
        );
        self.cx.notice(Level::Info, "server-drained", text);
        self.evacuate(server, options, Some(request));
    }

    pub(crate) fn drained_not_stored(&mut self, server: ServerId, request: RequestId, why: String) {
        // Unless an earlier write of the same went well.
        if !self.migration.plans.under_way().any(|c| c.plan.aim == PlanGoal::Evacuate { server }) {
            self.compute.inventory.set_drained(server, false);
            self.cx.dirty.server(server);
        }
        self.cx.answer(request, Response::Failed { why });
    }

    /// Plans an evacuation and begins it. Nothing is kept of one that nobody asked for and that has
    /// nothing to move.
    pub(crate) fn evacuate(&mut self, server: ServerId, options: MoveOptions, request: Option<RequestId>) {
        let under_way =
            self.migration.plans.under_way().find(|c| c.plan.aim == PlanGoal::Evacuate { server });
        if let Some(carried) = under_way {
            let plan = Box::new(carried.plan.clone());
            if let Some(request) = request {
                self.cx.answer(request, Response::Planned { plan });
            }
            return;
        }
        let id = self.migration.plans.next_id();
        let plan = self.migration().make_plan(id, &PlanGoal::Evacuate { server }, options, None);
        if request.is_none() && plan.moves.is_empty() {
            return self.evacuation_ended(server);
        }
        self.migration.plans.keep(plan.clone(), options);
        self.begin_plan(id);
        if let Some(request) = request {
            self.cx.answer(request, Response::Planned { plan: Box::new(plan) });
        }
    }

    /// An evacuation has come to its end; what is left on the server is tried again later.
    pub(crate) fn evacuation_ended(&mut self, server: ServerId) {
        if self.compute().is_drained(server) && self.compute().vms().any(|v| v.server == server) {
            self.cx.timers.set(self.cx.now + AGAIN, Timer::EvacuateAgain(server));
        }
    }

    pub(crate) fn evacuate_again(&mut self, server: ServerId) {
        if self.compute().is_drained(server)
            && self.compute.world.is_some()
            && self.compute().vms().any(|v| v.server == server)
        {
            self.evacuate(server, MoveOptions::default(), None);
        }
    }

    pub(crate) fn ask_return(&mut self, id: RequestId, server: ServerId) {
        if self.cx.site.topology.server(server).is_none() {
            return self.cx.answer(id, Response::NotFound { what: server.to_string() });
        }
        if !self.compute().is_drained(server) {
            let why = format!("{} is in service already", self.cx.server_name(server));
            return self.cx.answer(id, Response::Conflict { why });
        }
        self.compute_mut().store(StoreOp::RemoveDrained { server }, PendingWrite::Returned(server, id));
    }

    /// The store has it that a server is back in service.
    pub(crate) fn returned_stored(&mut self, server: ServerId, request: RequestId) {
        if self.compute.inventory.set_drained(server, false) {
            let aim = PlanGoal::Evacuate { server };
            let plans: Vec<PlanId> =
                self.migration.plans.under_way().filter(|c| c.plan.aim == aim).map(|c| c.plan.id).collect();
            plans.into_iter().for_each(|plan| self.stop_plan(plan));
            let text = format!("{} is back in service", self.cx.server_name(server));
            self.cx.notice(Level::Info, "server-back", text);
            self.cx.dirty.server(server);
        }
        self.cx.answer(request, Response::Done);
    }

    /// Hypervisors are there: what is out of service and still has VMs is planned for again.
    pub(crate) fn plans_on_world_up(&mut self) {
        let drained: Vec<ServerId> = self.compute.inventory.drained().collect();
        drained.into_iter().for_each(|server| self.evacuate_again(server));
        self.advance_all();
    }

    pub(crate) fn set_keep_policy_timer(&mut self) {
        if let Some(period) = self.migration().keep_policy_period() {
            self.cx.timers.set(self.cx.now + period, Timer::KeepPolicy);
        }
    }

    /// The clock says keep-policy: a run, unless plans are under way already.
    pub(crate) fn on_keep_policy(&mut self) {
        self.set_keep_policy_timer();
        if self.compute.world.is_none() || self.migration.plans.under_way().next().is_some() {
            return;
        }
        let (id, options) = (self.migration.plans.next_id(), MoveOptions::default());
        let plan = self.migration().make_plan(id, &PlanGoal::KeepPolicy, options, None);
        if plan.moves.is_empty() {
            return;
        }
        self.migration.plans.keep(plan, options);
        self.begin_plan(id);
    }
}
