//! Names of VMs: each belongs to one VM, from its request until it is gone.
//!
//! Requests are handled one after the other, and a VM has its name from the moment that it is
//! placed, before the store has it: of two requests for one name at the same time the second is
//! refused. After a restart names are those of the records. A store from before names were unique
//! may hold one twice: its VMs keep it, and nobody else gets it.

use crate::compute::{ComputeMut, ComputeRef};
use tandem_model::{RequestId, Response, VmId};

impl ComputeRef<'_> {
    /// The VM that has a name, the first of them.
    pub(crate) fn vm_named(self, name: &str) -> Option<VmId> {
        self.compute.vms.named(name)
    }

    /// Who has a name that is asked for, if names are unique here and somebody has it.
    pub(crate) fn name_taken(self, name: Option<&str>) -> Option<VmId> {
        name.filter(|_| self.cx.site.vm.unique_names).and_then(|name| self.vm_named(name))
    }
}

impl ComputeMut<'_> {
    /// Answers a request for a name that another VM has; false where none has it.
    pub(crate) fn refuse_taken_name(&mut self, request: RequestId, name: Option<&str>) -> bool {
        let Some((name, vm)) = name.and_then(|n| Some((n, self.compute().name_taken(Some(n))?))) else {
            return false;
        };
        self.cx.answer(request, Response::NameTaken { name: name.to_owned(), vm });
        true
    }
}
