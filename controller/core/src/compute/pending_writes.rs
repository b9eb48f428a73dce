//! What waits for the store. Nothing is answered before the store has it; what it refuses is
//! undone, or, where it has happened already, written again until it can be.

use crate::stored_item::Kept;
use std::time::Duration;
use tandem_model::{
    GroupId, MigrationId, MoveOptions, Phase, PortOverride, RequestId, ServerId, Share, SwitchId, Time, VmId,
    VmRecord,
};

/// How soon what the store could not take is tried again.
pub(crate) const STORE_RETRY: Duration = Duration::from_secs(1);

/// What waits for a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PendingWrite {
    /// A placement: then it is started.
    Placed(VmId),
    /// A running VM: then its requester is answered.
    Running(VmId),
    /// A stray: then it is a VM like any other.
    Adopted(Box<VmRecord>, RequestId),
    /// A VM on record that runs elsewhere: then its record is of where it runs.
    Followed(Box<VmRecord>, RequestId),
    /// What a VM holds while it is resized: then the hypervisor is asked.
    Resized(VmId),
    /// That a VM has less than before: then whoever asked is answered.
    Shrunk(VmId),
    /// A running VM that somebody wants gone: then it is stopped.
    Deleting(VmId, RequestId),
    /// A VM is forgotten.
    Removed(VmId),
    /// Something that nobody waits for and that has happened already.
    Updated(Kept),
    /// A migration in a phase.
    Move(MigrationId, Phase),
    /// A migration is forgotten.
    MoveGone(MigrationId),
    /// A group and all its VMs, which run from then on, since this moment.
    Formed(GroupId, Time),
    /// That a group which was written with its VMs is taken back: that goes on meanwhile.
    TakenBack,
    /// A group exists.
    Group(GroupId, RequestId),
    /// A group that somebody wants gone: then its members are isolated.
    GroupRemoved(GroupId, RequestId),
    /// Other shares of the classes; those before.
    Shares(Vec<Share>, RequestId),
    /// What the operator wants of a port.
    Port(PortOverride, RequestId),
    /// A server out of service: then its VMs are moved away.
    Drained(ServerId, MoveOptions, RequestId),
    /// A server back in service.
    Returned(ServerId, RequestId),
    /// That a controller runs: written again in a minute whatever comes of it.
    Alive,
    /// A pinned path, or none any more; the pin before.
    Pin(VmId, Option<Vec<SwitchId>>, RequestId),
}

impl PendingWrite {
    /// True for the removal of a group, or what an operator wants of a port: what was decided
    /// before must not be written after it.
    pub(crate) fn decides(&self, kept: Kept) -> bool {
        match (self, kept) {
            (PendingWrite::GroupRemoved(group, _), Kept::Group(id)) => *group == id,
            (PendingWrite::Port(wish, _), Kept::Port(switch, port)) => {
                (wish.switch, wish.port) == (switch, port)
            }
            _ => false,
        }
    }
}
