//! Carrying out a migration: its phases, each with its guarantee.

use crate::core::Core;
use std::time::Duration;
use tandem_model::{
    Answer, Cause, MigrationId, MoveOptions, PlanId, Progress, Rejection, RequestId, ServerId, VmId,
};

/// A move that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct MoveOrder {
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

impl Core {
    /// Checks and reserves, and sets the migration on its way.
    ///
    /// # Errors
    /// With what is short, or why the VM cannot be moved; nothing has changed then.
    pub(crate) fn begin_move(&mut self, _order: MoveOrder) -> Result<MigrationId, Rejection> {
        Err(crate::classes::refused("migration is not there yet".into()))
    }

    pub(crate) fn ask_migrate(
        &mut self,
        id: RequestId,
        vm: VmId,
        to: Option<ServerId>,
        options: MoveOptions,
    ) {
        let order = MoveOrder { vm, to, options, cause: Cause::Asked, plan: None, requester: Some(id) };
        if let Err(rejection) = self.begin_move(order) {
            self.answer(id, Answer::Rejected { rejection });
        }
    }

    pub(crate) fn ask_cancel(&mut self, id: RequestId, migration: MigrationId) {
        self.answer(id, Answer::NotFound { what: migration.to_string() });
    }

    pub(crate) fn on_migration_progress(&mut self, _migration: MigrationId, _progress: Progress) {}

    pub(crate) fn on_vm_suspended(&mut self, _migration: MigrationId) {}

    pub(crate) fn on_vm_moved(&mut self, _migration: MigrationId, _downtime: Option<Duration>) {}

    pub(crate) fn on_migration_failed(&mut self, _migration: MigrationId, _at: Option<ServerId>, _why: &str) {
    }
}
