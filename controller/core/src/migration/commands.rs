//! Carrying out a migration: its phases, each with its guarantee.
//!
//! ```text
//! begin      stored            confirmed by all switches, stored        VmSuspended    VmMoved     stored         rules gone, stored
//!   |          |                        |                                   |            |           |                 |
//!   +-Reserve--+------- Prepare --------+------------- Transfer ------------+-SwitchOver-+--Confirm--+---- Release ----+-> ended
//!        |                 |                              |                      |
//!        +-----------------+------------- Undo -----------+- MigrationFailed ----+      -> ended, the VM is where it was
//! ```
//! [`super::admission`] checks and reserves, [`crate::network::path_tree`] lays the paths,
//! [`crate::rules::dual_rules`] the rules of both places, [`super::phases`] goes from phase to
//! phase, [`super::rollback`] goes back, [`super::transfer`] is the migration's own traffic,
//! [`super::recovery`] takes up what was under way when the controller was killed,
//! [`super::link_failure`] deals with links that fail meanwhile.

use crate::migration::MigrationMut;
use tandem_model::{
    Cause, MigrationId, MoveOptions, Phase, PlanId, Rejection, RequestId, Resources, Response, ServerId, VmId,
};

/// A move that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct MigrationRequest {
    /// Which VM.
    pub(crate) vm: VmId,
    /// Where to; where the policy wants it, if not said.
    pub(crate) to: Option<ServerId>,
    /// How.
    pub(crate) options: MoveOptions,
    /// Why.
    pub(crate) cause: Cause,
    /// As part of which plan.
    pub(crate) plan: Option<PlanId>,
    /// Who is answered `Migrating` once it is in the store.
    pub(crate) requester: Option<RequestId>,
}

impl MigrationMut<'_> {
    /// Checks and reserves, and sets the migration on its way.
    ///
    /// # Errors
    /// With what is short, or why the VM cannot be moved; nothing has changed then.
    pub(crate) fn begin_move(&mut self, order: MigrationRequest) -> Result<MigrationId, Rejection> {
        self.begin(order, None)
    }

    /// Moves a VM to a server where it can have `size`, and gives it that there; `request` is
    /// answered when it has it.
    pub(crate) fn begin_growth(
        &mut self,
        vm: VmId,
        request: RequestId,
        size: Resources,
    ) -> Result<MigrationId, Rejection> {
        let order = MigrationRequest {
            vm,
            to: None,
            options: MoveOptions::default(),
            cause: Cause::Resize,
            plan: None,
            requester: None,
        };
        self.begin(order, Some((request, size)))
    }

    pub(crate) fn ask_migrate(
        &mut self,
        id: RequestId,
        vm: VmId,
        to: Option<ServerId>,
        options: MoveOptions,
    ) {
        if !self.compute.vms.contains_key(&vm) {
            return self.cx.answer(id, Response::NotFound { what: vm.to_string() });
        }
        let order =
            MigrationRequest { vm, to, options, cause: Cause::Asked, plan: None, requester: Some(id) };
        if let Err(rejection) = self.begin_move(order) {
            self.cx.answer(id, Response::Rejected { rejection });
        }
    }

    pub(crate) fn ask_cancel(&mut self, id: RequestId, migration: MigrationId) {
        let Some(m) = self.compute.migrations.open.get_mut(&migration) else {
            let ended = self.compute.migrations.ended.iter().any(|v| v.record.id == migration);
            return if ended {
                let why = format!("{migration} has ended; `tandem migrations` shows how");
                self.cx.answer(id, Response::Conflict { why })
            } else {
                self.cx.answer(id, Response::NotFound { what: migration.to_string() })
            };
        };
        match m.record.phase {
            Phase::SwitchOver | Phase::Confirm | Phase::Release => {
                let why = format!("it is too late: {} is in its phase {}", migration, m.record.phase);
                self.cx.answer(id, Response::Conflict { why });
            }
            Phase::Undo => m.cancellers.push(id),
            Phase::Reserve | Phase::Prepare | Phase::Transfer => {
                m.cancellers.push(id);
                self.undo_move(migration, "it was cancelled");
            }
        }
    }
}
