//! Changes of rules that VMs and groups wait for.

use crate::compute::ComputeMut;
use crate::rules::desired::Difference;
use crate::rules::transactions::{Late, Purpose};
use std::collections::BTreeMap;
use tandem_model::SwitchId;

impl ComputeMut<'_> {
    /// Sends a change's first steps and deals with it at once if there was nothing to send.
    pub(crate) fn start_change(
        &mut self,
        purpose: Purpose,
        differences: BTreeMap<SwitchId, Difference>,
        entry: &[SwitchId],
    ) {
        self.start_ordered(purpose, differences, &|switch, _| entry.contains(&switch));
    }

    /// The same where it is said rule by rule which ones are late.
    pub(crate) fn start_ordered(
        &mut self,
        purpose: Purpose,
        differences: BTreeMap<SwitchId, Difference>,
        late: Late<'_>,
    ) {
        let outcome = self.rules_mut().start(purpose, differences, late);
        outcome.into_iter().for_each(|o| self.on_outcome(o));
    }
}
