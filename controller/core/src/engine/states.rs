//! The states of all services, side by side.

use crate::agents::AgentState;
use crate::compute::ComputeState;
use crate::context::Context;
use crate::migration::{MigrationMut, MigrationRef, MigrationState};
use crate::network::NetworkState;
use crate::rules::RuleState;

/// All services' states.
pub(crate) struct States {
    pub(crate) cx: Context,
    pub(crate) net: NetworkState,
    pub(crate) rules: RuleState,
    pub(crate) agents: AgentState,
    pub(crate) compute: ComputeState,
    pub(crate) migration: MigrationState,
}

impl States {
    /// What only looks.
    pub(crate) fn read(&self) -> MigrationRef<'_> {
        MigrationRef {
            cx: &self.cx,
            net: &self.net,
            rules: &self.rules,
            agents: &self.agents,
            compute: &self.compute,
            migration: &self.migration,
        }
    }

    /// What changes something.
    pub(crate) fn write(&mut self) -> MigrationMut<'_> {
        MigrationMut {
            cx: &mut self.cx,
            net: &mut self.net,
            rules: &mut self.rules,
            agents: &mut self.agents,
            compute: &mut self.compute,
            migration: &mut self.migration,
        }
    }
}
