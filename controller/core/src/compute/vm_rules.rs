//! What a VM wants of the switches: the rules of its place, or of both that it has while it moves.

use crate::compute::ComputeRef;
use crate::compute::moves::{ActivePlaces, at};
use crate::rules::desired::RuleSet;
use crate::rules::dual_rules::union;
use crate::rules::{building_blocks, compile};
use tandem_model::{Prefix, VmId, VmRecord};

impl<'a> ComputeRef<'a> {
    /// What a VM wants of the switches: the rules of its place, or of both that it has while it
    /// moves.
    pub(crate) fn vm_rules(self, id: VmId) -> RuleSet {
        let reach = self.moving(id).map_or(ActivePlaces::Old, |m| m.reach);
        self.vm_rules_at(id, reach)
    }

    /// The same as if a VM that moves had these places.
    pub(crate) fn vm_rules_at(self, id: VmId, reach: ActivePlaces) -> RuleSet {
        let Some(vm) = self.compute.vms.get(&id) else { return RuleSet::new() };
        let marking = building_blocks::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        let alone = |record: &VmRecord| compile::vm(marking, &self.net.routes, record, vm.generation);
        let Some(m) = self.moving(id) else { return alone(&vm.record) };
        match reach {
            ActivePlaces::Old => alone(&at(&vm.record, &m.record.from)),
            ActivePlaces::New => alone(&at(&vm.record, &m.record.to)),
            ActivePlaces::Both => {
                let [old, new] = self.exact_rules(id);
                union(old, new, Prefix::host(vm.record.address))
            }
        }
    }

    /// The rules of either place of a VM that moves, each all along its path.
    pub(crate) fn exact_rules(self, id: VmId) -> [RuleSet; 2] {
        let (Some(vm), Some(m)) = (self.compute.vms.get(&id), self.moving(id)) else {
            return Default::default();
        };
        let marking = building_blocks::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        [&m.record.from, &m.record.to]
            .map(|place| compile::vm_exact(marking, &at(&vm.record, place), vm.generation))
    }
}
