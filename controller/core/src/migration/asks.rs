//! What the API asks of plans and of servers' maintenance, and the plans that are made by themselves: keep-policy by the clock, and
//! evacuations that are taken up again.

use crate::core::Core;
use crate::stored::StoreWait;
use crate::timers::Timer;
use std::time::Duration;
use tandem_model::{Level, MoveOptions, PlanGoal, PlanId, RequestId, Response, ServerId, StoreOp};

/// So long after an evacuation that left VMs behind, these are planned for again: room may have come free.
const AGAIN: Duration = Duration::from_secs(30);

impl Core {
    /// True for a server that gets no more VMs.
    pub fn is_drained(&self, server: ServerId) -> bool {
        self.inventory.is_drained(server)
    }

    pub(crate) fn ask_plan(&mut self, id: RequestId, aim: PlanGoal, options: MoveOptions) {
        let missing = match aim {
            PlanGoal::Evacuate { server } | PlanGoal::Move { to: Some(server), .. }
                if self.site.topology.server(server).is_none() =>
            {
                Some(server.to_string())
            }
            PlanGoal::Move { vm, .. } if self.vm(vm).is_none() => Some(vm.to_string()),
            _ => None,
        };
        if let Some(what) = missing {
            return self.answer(id, Response::NotFound { what });
        }
        let plan = self.make_plan(self.plans.next_id(), &aim, options, None);
        self.plans.keep(plan.clone(), options);
        self.dirty.plans = true;
        self.answer(id, Response::Planned { plan: Box::new(plan) });
    }

    pub(crate) fn ask_apply(&mut self, id: RequestId, plan: PlanId) {
        let Some(carried) = self.plans.get(plan) else {
            let what = format!(
                "{plan} (the last 16 plans are kept, and none outlives a restart of the controller; make a new one)"
            );
            return self.answer(id, Response::NotFound { what });
        };
        let refused = if carried.begun.is_some() {
            Some(format!("{plan} has begun already"))
        } else if self.world.is_none() {
            Some("no hypervisor is connected; start the lab (`tandem-lab up`) or attach servers, then try again".into())
        } else {
            let changed = self.stale(&carried.plan);
            changed.map(|what| {
                format!("the data centre has changed since {plan} was made: {what}; make a new plan")
            })
        };
        if let Some(why) = refused {
            return self.answer(id, Response::Conflict { why });
        }
        let whole = Box::new(carried.plan.clone());
        self.begin_plan(plan);
        self.answer(id, Response::Planned { plan: whole });
    }

    pub(crate) fn ask_stop(&mut self, id: RequestId, plan: PlanId) {
        match self.plans.get(plan) {
            None => self.answer(id, Response::NotFound { what: plan.to_string() }),
            Some(c) if c.begun.is_none() => {
                self.answer(id, Response::Conflict { why: format!("{plan} was never begun") });
            }
            Some(_) => {
                self.stop_plan(plan);
                self.answer(id, Response::Done);
            }
        }
    }

    pub(crate) fn ask_evacuate(&mut self, id: RequestId, server: ServerId, options: MoveOptions) {
        if self.site.topology.server(server).is_none() {
            return self.answer(id, Response::NotFound { what: server.to_string() });
        }
        // One that is on its way to the store already is written again: nothing moves before the store has it.
        let pending = self.stores.values().any(|w| matches!(w, StoreWait::Drained(s, ..) if *s == server));
        if !self.inventory.set_drained(server, true) && !pending {
            return self.evacuate(server, options, Some(id));
        }
        self.dirty.server(server);
        self.store(StoreOp::PutDrained { server }, StoreWait::Drained(server, options, id));
    }

    /// The store has it that a server is out of service: its VMs may go.
    pub(crate) fn drained_stored(&mut self, server: ServerId, options: MoveOptions, request: RequestId) {
        let count = self.vms().filter(|v| v.server == server).count();
        let name = self.server_name(server);
        let text = format!(
            "{name} is out of service: it gets no more VMs, and the {count} that it has are moved away"
        );
        self.notice(Level::Info, "server-drained", text);
        self.evacuate(server, options, Some(request));
    }

    pub(crate) fn drained_not_stored(&mut self, server: ServerId, request: RequestId, why: String) {
        // Unless an earlier write of the same went well.
        if !self.plans.under_way().any(|c| c.plan.aim == PlanGoal::Evacuate { server }) {
            self.inventory.set_drained(server, false);
            self.dirty.server(server);
        }
        self.answer(request, Response::Failed { why });
    }

    /// Plans an evacuation and begins it. Nothing is kept of one that nobody asked for and that has nothing to move.
    fn evacuate(&mut self, server: ServerId, options: MoveOptions, request: Option<RequestId>) {
        let under_way = self.plans.under_way().find(|c| c.plan.aim == PlanGoal::Evacuate { server });
        if let Some(carried) = under_way {
            let plan = Box::new(carried.plan.clone());
            if let Some(request) = request {
                self.answer(request, Response::Planned { plan });
            }
            return;
        }
        let id = self.plans.next_id();
        let plan = self.make_plan(id, &PlanGoal::Evacuate { server }, options, None);
        if request.is_none() && plan.moves.is_empty() {
            return self.evacuation_ended(server);
        }
        self.plans.keep(plan.clone(), options);
        self.begin_plan(id);
        if let Some(request) = request {
            self.answer(request, Response::Planned { plan: Box::new(plan) });
        }
    }

    /// An evacuation has come to its end; what is left on the server is tried again later.
    pub(super) fn evacuation_ended(&mut self, server: ServerId) {
        if self.is_drained(server) && self.vms().any(|v| v.server == server) {
            self.timers.set(self.now + AGAIN, Timer::EvacuateAgain(server));
        }
    }

    pub(crate) fn evacuate_again(&mut self, server: ServerId) {
        if self.is_drained(server) && self.world.is_some() && self.vms().any(|v| v.server == server) {
            self.evacuate(server, MoveOptions::default(), None);
        }
    }

    pub(crate) fn ask_return(&mut self, id: RequestId, server: ServerId) {
        if self.site.topology.server(server).is_none() {
            return self.answer(id, Response::NotFound { what: server.to_string() });
        }
        if !self.is_drained(server) {
            return self.answer(id, Response::Done);
        }
        self.store(StoreOp::RemoveDrained { server }, StoreWait::Returned(server, id));
    }

    /// The store has it that a server is back in service.
    pub(crate) fn returned_stored(&mut self, server: ServerId, request: RequestId) {
        if self.inventory.set_drained(server, false) {
            let aim = PlanGoal::Evacuate { server };
            let plans: Vec<PlanId> =
                self.plans.under_way().filter(|c| c.plan.aim == aim).map(|c| c.plan.id).collect();
            plans.into_iter().for_each(|plan| self.stop_plan(plan));
            let text = format!("{} is back in service", self.server_name(server));
            self.notice(Level::Info, "server-back", text);
            self.dirty.server(server);
        }
        self.answer(request, Response::Done);
    }

    /// Hypervisors are there: what is out of service and still has VMs is planned for again.
    pub(crate) fn plans_on_world_up(&mut self) {
        let drained: Vec<ServerId> = self.inventory.drained().collect();
        drained.into_iter().for_each(|server| self.evacuate_again(server));
        self.advance_all();
    }

    /// Takes over what the store holds of servers out of service.
    pub(crate) fn restore_drained(&mut self, drained: &[ServerId]) {
        for server in drained {
            self.inventory.set_drained(*server, true);
        }
    }

    pub(crate) fn set_keep_policy_timer(&mut self) {
        if let Some(period) = self.keep_policy_period() {
            self.timers.set(self.now + period, Timer::KeepPolicy);
        }
    }

    /// The clock says keep-policy: a run, unless plans are under way already.
    pub(crate) fn on_keep_policy(&mut self) {
        self.set_keep_policy_timer();
        if self.world.is_none() || self.plans.under_way().next().is_some() {
            return;
        }
        let (id, options) = (self.plans.next_id(), MoveOptions::default());
        let plan = self.make_plan(id, &PlanGoal::KeepPolicy, options, None);
        if plan.moves.is_empty() {
            return;
        }
        self.plans.keep(plan, options);
        self.begin_plan(id);
    }
}
