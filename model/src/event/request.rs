//! What the API asks of the core, and what the core answers.

use crate::{
    Adoption, Explanation, GroupId, MigrationId, MoveOptions, Plan, PlanGoal, PlanId, PortNo, Rejection,
    Resources, ServerId, Share, SwitchId, VmGroupRequest, VmId, VmRecord, VmRequest,
};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A question or a command from the API. Reading goes by the snapshot, not by questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// Place and start a VM. Answered when it runs, or with the reason why not.
    RequestVm {
        /// What is wanted.
        request: VmRequest,
    },
    /// Place and start VMs that may talk to each other, all or none. Answered by `VmGroupRunning`
    /// when all run and are connected, or with the reason why not; again, when the same is asked
    /// for again.
    RequestVmGroup {
        /// What is wanted.
        request: Box<VmGroupRequest>,
    },
    /// Say what a request would lead to; nothing is changed. Answered by `Explained`.
    ExplainVms {
        /// What would be wanted: one VM, or a group of them.
        request: Box<VmGroupRequest>,
    },
    /// Take up a VM that runs without a record of it. Answered by `VmRunning` when the store has
    /// it; nothing of the VM is changed.
    AdoptVm {
        /// The VM's number.
        vm: VmId,
        /// Where it was found; may be left out when it was found on one server only.
        server: Option<ServerId>,
        /// What its tag does not say.
        known: Adoption,
    },
    /// Stop a VM that there is no record of, and remove it with its disk. Answered when it is gone.
    StopStray {
        /// The VM's number.
        vm: VmId,
        /// Where it was found; may be left out when it was found on one server only.
        server: Option<ServerId>,
    },
    /// Stop a VM and forget it. Answered when it is gone.
    DeleteVm {
        /// The VM's number.
        vm: VmId,
    },
    /// Change a running VM's resources where it is; it is moved first where its server or its path
    /// has no room.
    ResizeVm {
        /// The VM's number.
        vm: VmId,
        /// What it should have.
        resources: Resources,
    },
    /// Let VMs talk to each other.
    CreateGroup {
        /// Their addresses.
        members: Vec<Ipv4Addr>,
    },
    /// Isolate them again.
    DeleteGroup {
        /// The group's number.
        group: GroupId,
    },
    /// Give classes other shares. Answered when the store has them; agents follow without dropping
    /// a packet.
    SetShares {
        /// All classes, in their order.
        shares: Vec<Share>,
    },
    /// A manual override: switch a port off, or on again. Answered when the store has it.
    SetPort {
        /// Which switch.
        switch: SwitchId,
        /// Which port.
        port: PortNo,
        /// On?
        up: bool,
    },
    /// A manual override: let a VM's path to its gateway go by these switches, in this order.
    /// Answered when it does.
    PinPath {
        /// Which VM.
        vm: VmId,
        /// From the server on.
        via: Vec<SwitchId>,
    },
    /// Let a VM's path go where routing takes it.
    UnpinPath {
        /// Which VM.
        vm: VmId,
    },
    /// Think moves through, without moving anything. Answered by `Planned`.
    Plan {
        /// What they are to achieve.
        aim: PlanGoal,
        /// How.
        options: MoveOptions,
    },
    /// Carry out a plan that was made before. Answered by `Planned` once it has begun; refused when
    /// the data centre has changed so that it no longer holds.
    ApplyPlan {
        /// The plan's number.
        plan: PlanId,
    },
    /// Begin no more moves of a plan; those under way go on. Answered by `Done`.
    StopPlan {
        /// The plan's number.
        plan: PlanId,
    },
    /// Move a VM. Answered by `Migrating` once both places are reserved and the store has it.
    MigrateVm {
        /// The VM's number.
        vm: VmId,
        /// Where to; where the allocation policy wants it, if not said.
        to: Option<ServerId>,
        /// How.
        options: MoveOptions,
    },
    /// Leave a VM where it is. Answered by `Done` when all is as it was, by `Failed` when it is too
    /// late.
    CancelMigration {
        /// The migration's number.
        migration: MigrationId,
    },
    /// Take a server out of service: it gets no more VMs, and those that it has are moved away.
    /// Answered by `Planned`.
    EvacuateServer {
        /// The server's id.
        server: ServerId,
        /// How.
        options: MoveOptions,
    },
    /// Let a server that was evacuated have VMs again.
    ReturnServer {
        /// The server's id.
        server: ServerId,
    },
    /// Read the counters of all switches now. Answered when all have answered, or after 2 s.
    PollNow,
}

/// The answer to a `Request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Response {
    /// The VM runs.
    VmRunning {
        /// Where and how.
        vm: Box<VmRecord>,
    },
    /// The VMs of a group run, and may talk to each other.
    VmGroupRunning {
        /// The group.
        group: GroupId,
        /// Its members, in the order of the request.
        vms: Vec<VmRecord>,
    },
    /// What a request would lead to.
    Explained {
        /// All of it.
        explanation: Box<Explanation>,
    },
    /// The request cannot be met; nothing was changed.
    Rejected {
        /// Why.
        rejection: Rejection,
    },
    /// It was tried and failed; everything was undone.
    Failed {
        /// Why.
        why: String,
    },
    /// Things are not such that it could be tried; nothing was changed.
    Conflict {
        /// Why.
        why: String,
    },
    /// Another VM has the name that was asked for; nothing was changed.
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        vm: VmId,
    },
    /// There is no such VM or group.
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The moves, thought through; for `ApplyPlan` and `EvacuateServer` they have begun.
    Planned {
        /// All of it.
        plan: Box<Plan>,
    },
    /// The migration is under way; the snapshot shows it.
    Migrating {
        /// The migration's number.
        migration: MigrationId,
    },
    /// The group exists.
    GroupCreated {
        /// Its id.
        group: GroupId,
    },
    /// Done.
    Done,
}
