//! What is written to the store, and what it holds when the core starts.

use crate::vm::GroupRecord;
use crate::{GroupId, MigrationId, MigrationRecord, PortNo, ServerId, Share, SwitchId, Time, VmId, VmRecord};
use serde::{Deserialize, Serialize};

/// One change of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum StoreOp {
    /// Write or replace a VM.
    PutVm {
        /// All of it.
        vm: Box<VmRecord>,
    },
    /// Write the classes' shares as they were changed at run time.
    PutShares {
        /// All of them, in the classes' order.
        shares: Vec<Share>,
    },
    /// Write or replace what the operator wants of a port.
    PutPort {
        /// All of it.
        port: PortOverride,
    },
    /// The operator wants nothing of a port any more.
    RemovePort {
        /// Which switch.
        switch: SwitchId,
        /// Which port.
        port: PortNo,
    },
    /// Forget a VM.
    RemoveVm {
        /// The VM's number.
        vm: VmId,
    },
    /// Write or replace a migration that is under way.
    PutMigration {
        /// All of it.
        migration: Box<MigrationRecord>,
    },
    /// Forget a migration.
    RemoveMigration {
        /// The migration's number.
        migration: MigrationId,
    },
    /// A VM has its new place: the VM and its migration are written together, or neither is.
    PutMoved {
        /// The VM, at its new place.
        vm: Box<VmRecord>,
        /// The migration.
        migration: Box<MigrationRecord>,
    },
    /// A server gets no more VMs.
    PutDrained {
        /// The server's id.
        server: ServerId,
    },
    /// A server may have VMs again.
    RemoveDrained {
        /// The server's id.
        server: ServerId,
    },
    /// Write or replace a group.
    PutGroup {
        /// All of it.
        group: GroupRecord,
    },
    /// A group and all VMs that were requested with it, as they are: all are written, or nothing
    /// is.
    PutVmGroup {
        /// The group.
        group: GroupRecord,
        /// Its members.
        vms: Vec<VmRecord>,
    },
    /// A group that was written with its VMs is taken back: it is forgotten, and the VMs are
    /// written as they are now, together.
    TakeBackVmGroup {
        /// The group.
        group: GroupId,
        /// Its members, which are being stopped.
        vms: Vec<VmRecord>,
    },
    /// Forget a group.
    RemoveGroup {
        /// The group's number.
        group: GroupId,
    },
    /// A controller runs. Written every minute while a VM has an end of its time, so that the next
    /// controller can tell how long none ran.
    PutAlive {
        /// When, by the wall clock.
        at: Time,
    },
}

/// What a store holds when the core starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PersistedState {
    /// VMs, in order of id.
    pub vms: Vec<VmRecord>,
    /// Groups, in order of id.
    pub groups: Vec<GroupRecord>,
    /// The largest VM id ever given out, also to VMs that are gone.
    pub last_vm: u64,
    /// The largest group id ever given out.
    pub last_group: u64,
    /// The classes' shares, if they were ever changed at run time.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// What the operator wants of ports. (Pinned paths are kept with their VMs.)
    #[serde(default)]
    pub ports: Vec<PortOverride>,
    /// Migrations under way, in order of id.
    #[serde(default)]
    pub migrations: Vec<MigrationRecord>,
    /// The largest migration id ever given out.
    #[serde(default)]
    pub last_migration: u64,
    /// Servers that get no more VMs.
    #[serde(default)]
    pub drained: Vec<ServerId>,
    /// When a controller last ran, by the wall clock that the VMs' ends are by; `None` where no VM
    /// had an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_at: Option<Time>,
    /// Whose store it is; `None` in recordings of before stores had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<crate::StoreIdentity>,
}

/// What the operator wants of a switch's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortOverride {
    /// Which switch.
    pub switch: SwitchId,
    /// Which port.
    pub port: PortNo,
    /// False: it is off. True: it is to be on again, and the switch has not been told yet because
    /// it was away.
    pub up: bool,
    /// Since when.
    pub since: Time,
}
