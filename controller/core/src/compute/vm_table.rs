//! All VMs by number, and who has which name: a name is looked up with each request that has one,
//! so it is found in O(log n).

use crate::compute::vm::Vm;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use tandem_model::VmId;

/// The VMs of a data centre. Reading goes by the map that it derefs to; what adds or removes a VM
/// goes by its own methods, which keep the names.
#[derive(Debug, Clone, Default)]
pub(crate) struct VmTable {
    vms: BTreeMap<VmId, Vm>,
    /// Several only where a store from before names were unique says so.
    by_name: BTreeMap<String, BTreeSet<VmId>>,
}

impl Deref for VmTable {
    type Target = BTreeMap<VmId, Vm>;

    fn deref(&self) -> &BTreeMap<VmId, Vm> {
        &self.vms
    }
}

impl VmTable {
    pub(crate) fn insert(&mut self, id: VmId, vm: Vm) {
        self.remove(&id);
        self.vms.insert(id, vm);
        self.renamed(id, None);
    }

    pub(crate) fn remove(&mut self, id: &VmId) -> Option<Vm> {
        let vm = self.vms.remove(id)?;
        self.renamed(*id, vm.record.request.name.as_deref());
        Some(vm)
    }

    /// A VM's record has another name than `before`, or is gone: lookups go by what it has now.
    pub(crate) fn renamed(&mut self, id: VmId, before: Option<&str>) {
        if let Some(name) = before
            && let Some(same) = self.by_name.get_mut(name)
        {
            same.remove(&id);
            if same.is_empty() {
                self.by_name.remove(name);
            }
        }
        if let Some(name) = self.vms.get(&id).and_then(|vm| vm.record.request.name.clone()) {
            self.by_name.entry(name).or_default().insert(id);
        }
    }

    pub(crate) fn get_mut(&mut self, id: &VmId) -> Option<&mut Vm> {
        self.vms.get_mut(id)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Vm> {
        self.vms.values_mut()
    }

    /// The VM that has a name, the first of them.
    pub(crate) fn named(&self, name: &str) -> Option<VmId> {
        self.by_name.get(name)?.first().copied()
    }
}
