//! A group that was requested with its VMs, as the core keeps it until all of it runs, and what is
//! reserved between its members.

use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{GroupRecord, Hop, RequestId, VmId};

/// What is reserved for a group: bit/s by hop.
pub(crate) type Reserved = BTreeMap<Hop, u64>;

/// How far a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Placements are being written.
    Placed,
    /// Members are being started.
    Starting,
    /// The rules between them are being brought to the switches.
    Connecting,
    /// All is being written.
    Publishing,
    /// All is being undone.
    TakenBack,
}

/// A group whose members do not all run yet.
#[derive(Debug, Clone)]
pub(crate) struct Forming {
    /// As it will be; its members in order of id.
    pub(crate) record: GroupRecord,
    pub(crate) stage: Stage,
    /// Members whose placement is not in the store yet.
    pub(crate) unwritten: BTreeSet<VmId>,
    /// The switches have the rules between them.
    pub(crate) connected: bool,
    /// Members that are still there, once it is taken back.
    pub(crate) left: BTreeSet<VmId>,
    /// Why it is.
    pub(crate) why: String,
    /// Who waits for it.
    pub(crate) requesters: Vec<RequestId>,
}
