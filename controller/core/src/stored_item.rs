//! What the store keeps one record of.

use tandem_model::{GroupId, PortNo, SwitchId, VmId};

/// What the store keeps one record of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// A VM.
    Vm(VmId),
    /// A group.
    Group(GroupId),
    /// What the operator wants of a port.
    Port(SwitchId, PortNo),
}
