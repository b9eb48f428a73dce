//! What the API asks of plans and of servers' maintenance.

use crate::core::Core;
use tandem_model::{Aim, Answer, MoveOptions, PlanId, RequestId, ServerId};

impl Core {
    pub(crate) fn ask_plan(&mut self, id: RequestId, _aim: Aim, _options: MoveOptions) {
        self.answer(id, Answer::Failed { why: "plans are not there yet".into() });
    }

    pub(crate) fn ask_apply(&mut self, id: RequestId, plan: PlanId) {
        self.answer(id, Answer::NotFound { what: plan.to_string() });
    }

    pub(crate) fn ask_stop(&mut self, id: RequestId, plan: PlanId) {
        self.answer(id, Answer::NotFound { what: plan.to_string() });
    }

    pub(crate) fn ask_evacuate(&mut self, id: RequestId, server: ServerId, _options: MoveOptions) {
        self.answer(id, Answer::NotFound { what: server.to_string() });
    }

    pub(crate) fn ask_return(&mut self, id: RequestId, server: ServerId) {
        self.answer(id, Answer::NotFound { what: server.to_string() });
    }
}
