//! A VM, and what its life still waits for.

use crate::network::place::Placement;
use tandem_model::{RequestId, Resources, TrafficId, VmRecord};

/// A VM and what its life still waits for.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) record: VmRecord,
    /// Changes with every set of rules, so that a switch's flows tell which set they are of.
    pub(crate) generation: u8,
    pub(crate) rules_ready: bool,
    pub(crate) started: bool,
    pub(crate) addressed: bool,
    /// Who waits for it to run.
    pub(crate) requester: Option<RequestId>,
    /// Who waits for it to be gone.
    pub(crate) deleters: Vec<RequestId>,
    /// The answer to `requester` once everything is undone.
    pub(crate) failure: Option<String>,
    pub(crate) rules_gone: bool,
    pub(crate) stopped: bool,
    /// True once the hypervisor was asked to start it.
    pub(crate) allocated: bool,
    pub(crate) resizing: Option<(RequestId, Resources)>,
    pub(crate) traffic: Vec<TrafficId>,
}

impl Vm {
    /// One that runs already, and lacks nothing.
    pub(crate) fn adopted(record: VmRecord) -> Vm {
        Vm { rules_ready: true, started: true, addressed: true, allocated: true, ..Vm::new(record, None) }
    }

    pub(crate) fn new(record: VmRecord, requester: Option<RequestId>) -> Vm {
        Vm {
            record,
            generation: 0,
            rules_ready: false,
            started: false,
            addressed: false,
            requester,
            deleters: Vec::new(),
            failure: None,
            rules_gone: false,
            stopped: false,
            allocated: false,
            resizing: None,
            traffic: Vec::new(),
        }
    }

    pub(crate) fn placement(&self) -> Placement {
        Placement::of(&self.record)
    }
}
