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
    pub(crate) resizing: Option<Resize>,
    pub(crate) traffic: Vec<TrafficId>,
    /// The path that it has left without need, until the switches have confirmed the new one.
    pub(crate) former: Option<Placement>,
}

/// Other resources that a VM is to have. Until its hypervisor has confirmed them, its record has
/// the larger of both, of each: nothing is given away that it may still use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resize {
    /// Who is answered when it has them; nobody any more once a write has failed.
    pub(crate) request: Option<RequestId>,
    pub(crate) before: Resources,
    pub(crate) to: Resources,
    /// The store has what is held meanwhile.
    pub(crate) is_written: bool,
    /// The hypervisor has confirmed.
    pub(crate) is_confirmed: bool,
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
            former: None,
        }
    }

    pub(crate) fn placement(&self) -> Placement {
        Placement::of(&self.record)
    }
}
