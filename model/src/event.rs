//! The door of the core: facts that come in, effects that go out, questions and answers. All
//! serialisable, so that a recorded run is a line per event.
//!
//! Facts speak no OpenFlow version: the switch driver turns messages into facts and effects into
//! messages.

use crate::{
    Adoption, BitRate, Bytes, Cookie, Dpid, FoundVm, GroupId, Leave, LeftRules, LoadSample, Mac, MigrationId,
    MigrationMode, MigrationRecord, MoveOptions, Plan, PlanGoal, PlanId, PortCounters, PortNo, Progress,
    Rejection, RequestId, Resources, Rule, RuleKey, RuleSample, ServerId, StoreId, SwitchId, Time, TrafficId,
    TrafficSpec, TxnId, VmId, VmRecord, VmRequest, VmSpec, vm::GroupRecord,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A fact from a world, or a question from the API. The only two things that come in from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An agent has dialled in.
    AgentUp {
        /// Its name.
        agent: String,
    },
    /// An agent's connection ended. What it manages goes on.
    AgentDown {
        /// Its name.
        agent: String,
        /// In words.
        why: String,
    },
    /// An agent could not do something, or sees something that somebody should look at.
    AgentTrouble {
        /// Its name.
        agent: String,
        /// In words.
        what: String,
    },
    /// What an agent can do at the ports of a switch.
    PortsManaged {
        /// The agent's name.
        agent: String,
        /// Which switch.
        switch: Dpid,
        /// Each port, and how a class is chosen there.
        ports: Vec<(PortNo, QueueSelection)>,
    },
    /// What an agent has seen and counted at a switch's ports: a batch per switch and period.
    AgentSamples {
        /// Which switch.
        switch: Dpid,
        /// Its ports.
        ports: Vec<AgentSample>,
    },
    /// A switch has connected and finished its handshake. Answered by `SyncRules`.
    SwitchUp {
        /// Which.
        switch: Dpid,
        /// Its ports.
        ports: Vec<PortInfo>,
        /// What it can do.
        caps: SwitchCaps,
    },
    /// A switch's connection ended. It keeps forwarding.
    SwitchDown {
        /// Which.
        switch: Dpid,
        /// In words.
        why: String,
    },
    /// Somebody should look at how a switch is connected: by two peers, say.
    SwitchTrouble {
        /// Which.
        switch: Dpid,
        /// In words.
        what: String,
    },
    /// A port was added, removed, or changed its state.
    PortChanged {
        /// Which switch.
        switch: Dpid,
        /// The port as it is now (for a removed one: as it was).
        port: PortInfo,
        /// True when the port is gone.
        removed: bool,
    },
    /// A discovery frame of one of our switches came in at another: the link from the first to the
    /// second is alive.
    LinkSeen {
        /// Sender.
        from: (Dpid, PortNo),
        /// Receiver.
        to: (Dpid, PortNo),
    },
    /// An ARP packet was seen by a switch (RFC 826).
    ArpSeen {
        /// Which switch.
        switch: Dpid,
        /// At which port.
        port: PortNo,
        /// What it said.
        arp: Arp,
    },
    /// An IPv4 packet from `mac`/`ip` was seen by a switch (a packet-in that is neither ARP nor
    /// DHCP).
    HostSeen {
        /// Which switch.
        switch: Dpid,
        /// At which port.
        port: PortNo,
        /// Sender's Ethernet address.
        mac: Mac,
        /// Sender's address.
        ip: Ipv4Addr,
    },
    /// A DHCP client's message was seen by a switch (RFC 2131).
    DhcpSeen {
        /// Which switch.
        switch: Dpid,
        /// At which port.
        port: PortNo,
        /// What it said.
        dhcp: DhcpRequest,
    },
    /// A switch's counters: a batch per switch and period.
    Samples {
        /// Which switch.
        switch: Dpid,
        /// Port counters.
        ports: Vec<PortSample>,
        /// Counters of our flows, summed by cookie.
        flows: Vec<FlowSample>,
        /// Counters of each of our rules that the switch has as wanted. Nothing is decided by them:
        /// a recording has none, since they would be most of it.
        #[serde(skip)]
        rules: Vec<RuleSample>,
    },
    /// A switch would not switch a port on or off.
    PortRefused {
        /// Which switch.
        switch: Dpid,
        /// Which port.
        port: PortNo,
        /// The switch's error, in words.
        why: String,
    },
    /// A switch confirmed a transaction by a barrier reply.
    RulesApplied {
        /// Which switch.
        switch: Dpid,
        /// Which transaction.
        txn: TxnId,
        /// Flows added (for `SyncRules`: those that were missing or different).
        added: u32,
        /// Flows removed (for `SyncRules`: ours that were not wanted).
        removed: u32,
    },
    /// A switch with several tables refused a transaction that has rules with metadata, as one does
    /// that has none. What it had taken of it is already undone there.
    MetadataRefused {
        /// Which switch.
        switch: Dpid,
        /// Which transaction.
        txn: TxnId,
        /// The switch's error, in words.
        why: String,
    },
    /// A switch refused a transaction. What the switch had taken of it is already undone there.
    RulesRefused {
        /// Which switch.
        switch: Dpid,
        /// Which transaction.
        txn: TxnId,
        /// The switch's error, in words.
        why: String,
    },
    /// The driver found that a switch's flows differed from what was wanted, and put them right.
    RulesRepaired {
        /// Which switch.
        switch: Dpid,
        /// Flows that were missing or different.
        missing: u32,
        /// Flows of ours that were not wanted.
        stale: u32,
    },
    /// Flows of ours that a switch keeps although nobody wants them there, all of them. Said after
    /// each `SyncRules` that leaves some, and whenever they have changed.
    RulesLeft {
        /// Which switch.
        switch: Dpid,
        /// By owner.
        left: Vec<LeftRules>,
    },
    /// A switch reports rules otherwise than they were written, so that repairs change nothing:
    /// they are put off.
    RulesUnlike {
        /// Which switch.
        switch: Dpid,
        /// How many.
        rules: u32,
        /// One of them.
        example: String,
    },
    /// A hypervisor service is there and can be asked; `vms` run on it already.
    WorldUp {
        /// Its name, for people.
        world: String,
        /// VMs of ours that run there.
        vms: Vec<(VmId, ServerId)>,
        /// True when it can generate traffic.
        traffic: bool,
    },
    /// Servers whose hypervisors do not answer, all of them: what runs there is not known and left
    /// as it is. Comes before `WorldUp`, and whenever they have changed; when one answers again,
    /// another `WorldUp` follows.
    #[serde(alias = "servers_away")]
    ServersUnreachable {
        /// Each, and why in words.
        servers: Vec<(ServerId, String)>,
    },
    /// All VMs of this site that are at the hypervisors, running or not, with what is kept with
    /// them. Comes before `WorldUp`, from worlds that know more of their VMs than that they run.
    VmsFound {
        /// Each of them.
        vms: Vec<FoundVm>,
    },
    /// A hypervisor service, host or pool serves another controller, and does not serve this one.
    WorldRefused {
        /// Its name, for people.
        world: String,
        /// Whom it serves and what to do, in words.
        why: String,
    },
    /// Another controller has asked a hypervisor service, host or pool of ours to serve it, and was
    /// refused.
    RivalSeen {
        /// The service's, host's or pool's name, for people.
        world: String,
        /// Who, in words.
        who: String,
    },
    /// The hypervisor service is gone. Its VMs may still run.
    WorldDown {
        /// In words.
        why: String,
    },
    /// A VM runs. Its address is known to the hypervisor only where DHCP is not used.
    VmStarted {
        /// Which.
        vm: VmId,
        /// Its address, if the hypervisor knows it.
        address: Option<Ipv4Addr>,
    },
    /// A VM could not be started, resized, or it died.
    VmFailed {
        /// Which.
        vm: VmId,
        /// In words.
        why: String,
    },
    /// A VM is gone, on our request.
    VmStopped {
        /// Which.
        vm: VmId,
    },
    /// A VM has the resources it was resized to.
    VmResized {
        /// Which.
        vm: VmId,
    },
    /// How far a transfer is; a few times a second at most.
    MigrationProgress {
        /// Which.
        migration: MigrationId,
        /// How far.
        progress: Progress,
    },
    /// The VM was paused for the last of its memory: from here on the transfer cannot be cancelled.
    VmSuspended {
        /// Which migration.
        migration: MigrationId,
    },
    /// The VM runs on the other server, and nothing of it is left on the first.
    VmMoved {
        /// Which migration.
        migration: MigrationId,
        /// How long it was silent, where the hypervisor knows.
        downtime: Option<Duration>,
    },
    /// A transfer failed or was cancelled. What it had left on either side is cleaned up.
    MigrationFailed {
        /// Which.
        migration: MigrationId,
        /// Where the VM runs now; `None` when it was lost.
        at: Option<ServerId>,
        /// In words.
        why: String,
    },
    /// What a server and its VMs have used: a batch per server and period.
    ServerSamples {
        /// Which server.
        server: ServerId,
        /// The server itself.
        sample: LoadSample,
        /// Its VMs.
        vms: Vec<(VmId, LoadSample)>,
    },
    /// A generated flow could not be started, or ended by itself.
    TrafficEnded {
        /// Which.
        id: TrafficId,
        /// In words.
        why: String,
    },
    /// A write is on disk.
    Stored {
        /// Which.
        id: StoreId,
    },
    /// A write failed; nothing of it is in the store.
    StoreFailed {
        /// Which.
        id: StoreId,
        /// In words.
        why: String,
    },
    /// A client of the API asks for something. (`ask` in recordings of before.)
    #[serde(alias = "ask")]
    Request {
        /// Answered by exactly one `Response` with this id.
        id: RequestId,
        /// What it asks for.
        #[serde(alias = "ask")]
        request: Request,
    },
    /// The wall clock was set. Nothing that is timed moves; what is stored or shown as a wall time
    /// follows.
    WallClockStepped {
        /// Forward by so many nanoseconds, or back if it is below zero.
        by: i64,
    },
    /// Nothing happened, but `next_deadline` has passed.
    Wake,
}

/// A question or a command from the API. Reading goes by the snapshot, not by questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// Place and start a VM. Answered when it runs, or with the reason why not.
    RequestVm {
        /// What is wanted.
        request: VmRequest,
    },
    /// Take up a VM that runs without a record of it. Answered by `VmRunning` when the store has
    /// it; nothing of the VM is changed.
    AdoptVm {
        /// Which.
        vm: VmId,
        /// Where it was found; may be left out when it was found on one server only.
        server: Option<ServerId>,
        /// What its tag does not say.
        known: Adoption,
    },
    /// Stop a VM that there is no record of, and remove it with its disk. Answered when it is gone.
    StopStray {
        /// Which.
        vm: VmId,
        /// Where it was found; may be left out when it was found on one server only.
        server: Option<ServerId>,
    },
    /// Stop a VM and forget it. Answered when it is gone.
    DeleteVm {
        /// Which.
        vm: VmId,
    },
    /// Change a running VM's resources where it is; it is moved first where its server or its path
    /// has no room.
    ResizeVm {
        /// Which.
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
        /// Which.
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
        /// Which.
        plan: PlanId,
    },
    /// Begin no more moves of a plan; those under way go on. Answered by `Done`.
    StopPlan {
        /// Which.
        plan: PlanId,
    },
    /// Move a VM. Answered by `Migrating` once both places are reserved and the store has it.
    MigrateVm {
        /// Which.
        vm: VmId,
        /// Where to; where the allocation policy wants it, if not said.
        to: Option<ServerId>,
        /// How.
        options: MoveOptions,
    },
    /// Leave a VM where it is. Answered by `Done` when all is as it was, by `Failed` when it is too
    /// late.
    CancelMigration {
        /// Which.
        migration: MigrationId,
    },
    /// Take a server out of service: it gets no more VMs, and those that it has are moved away.
    /// Answered by `Planned`.
    EvacuateServer {
        /// Which.
        server: ServerId,
        /// How.
        options: MoveOptions,
    },
    /// Let a server that was evacuated have VMs again.
    ReturnServer {
        /// Which.
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
        /// Which.
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

/// A wish: what a world, the store or the API should do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// Make the switch's flows of ours equal to `rules`: read, add what is missing, remove what is
    /// stale, touch nothing else. Sent on every `SwitchUp`; supersedes all transactions of that
    /// switch that are still open.
    SyncRules {
        /// Which switch.
        switch: Dpid,
        /// Answered by `RulesApplied` or `RulesRefused`.
        txn: TxnId,
        /// All rules that are wanted.
        rules: Vec<Rule>,
        /// What stays besides, until `LeaveRules` says otherwise.
        #[serde(default, skip_serializing_if = "Leave::is_nothing")]
        leave: Leave,
    },
    /// Which flows of ours a switch keeps from now on although nobody wants them there. The others
    /// are removed.
    LeaveRules {
        /// Which switch.
        switch: Dpid,
        /// Which flows.
        leave: Leave,
    },
    /// Add and remove rules, then a barrier. All or nothing on this switch.
    ApplyRules {
        /// Which switch.
        switch: Dpid,
        /// Answered by `RulesApplied` or `RulesRefused`.
        txn: TxnId,
        /// Rules to add (or to replace, where the key is the same).
        add: Vec<Rule>,
        /// Rules to remove, by key.
        remove: Vec<RuleKey>,
    },
    /// Send an ARP packet out of a port.
    SendArp {
        /// Which switch.
        switch: Dpid,
        /// Out of which port.
        port: PortNo,
        /// What it says.
        arp: Arp,
    },
    /// Send a DHCP server's message out of a port.
    SendDhcp {
        /// Which switch.
        switch: Dpid,
        /// Out of which port.
        port: PortNo,
        /// What it says.
        dhcp: DhcpReply,
    },
    /// Send discovery frames out of these ports now (besides the periodic ones).
    Discover {
        /// Which switch.
        switch: Dpid,
    },
    /// Switch a port on or off (OFPT_PORT_MOD). `PortChanged` says when it is so, `PortRefused`
    /// that it will not be.
    SetPort {
        /// Which switch.
        switch: Dpid,
        /// Which port.
        port: PortNo,
        /// On?
        up: bool,
    },
    /// Read the switch's counters now (besides the periodic reading). Answered by `Samples`.
    PollNow {
        /// Which switch.
        switch: Dpid,
    },
    /// Start a VM. Answered by `VmStarted` or `VmFailed`; by `VmFailed` too where there is one with
    /// this id that was made for another request, which is left alone.
    AllocateVm {
        /// Which.
        vm: VmId,
        /// Where.
        server: ServerId,
        /// What.
        spec: VmSpec,
    },
    /// Stop a VM and remove it. Answered by `VmStopped`, also when there is no such VM. One with
    /// this id that was made for another request is not touched: it is not the VM that is meant.
    StopVm {
        /// Which.
        vm: VmId,
        /// Where it runs.
        server: ServerId,
        /// Of which request it is; `None` for one whose tag does not say, that somebody wants gone
        /// all the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        placed_at: Option<Time>,
    },
    /// Keep this with a VM, in place of what was kept before; nothing else of it changes. No
    /// answer.
    TagVm {
        /// Which.
        vm: VmId,
        /// Where it runs.
        server: ServerId,
        /// What it is asked for with.
        spec: Box<VmSpec>,
    },
    /// Give a VM other resources. Answered by `VmResized` or `VmFailed`.
    ResizeVm {
        /// Which.
        vm: VmId,
        /// Where it runs.
        server: ServerId,
        /// What it should have.
        resources: Resources,
    },
    /// Move a running VM's interface to another uplink of its server.
    AttachVm {
        /// Which.
        vm: VmId,
        /// Where it runs.
        server: ServerId,
        /// The server's port.
        uplink_port: PortNo,
    },
    /// Copy a VM to another server and let it run there. Answered by `MigrationProgress`,
    /// `VmSuspended`, and in the end `VmMoved` or `MigrationFailed`. May be repeated: one that is
    /// under way goes on, one that has ended is answered as it ended, and a VM that runs at `to`
    /// already is `VmMoved`.
    MigrateVm {
        /// Which migration.
        migration: MigrationId,
        /// Which VM.
        vm: VmId,
        /// Where it runs.
        from: ServerId,
        /// Where it goes.
        to: ServerId,
        /// Live or cold.
        manner: MigrationMode,
        /// As it will be there.
        spec: Box<VmSpec>,
        /// The highest rate of the transfer.
        rate: BitRate,
        /// Pre-copy ends when the rest can be sent in this time.
        downtime: Duration,
        /// Pre-copy ends after so many rounds.
        rounds: u32,
    },
    /// Another highest rate for a transfer.
    SetMigrationRate {
        /// Which.
        migration: MigrationId,
        /// The rate.
        rate: BitRate,
    },
    /// Give a transfer up, if it can be: answered by `MigrationFailed`, or by `VmMoved` when it was
    /// too late. For one that is not known, what may be left of it on either side is cleaned up
    /// first.
    CancelMigration {
        /// Which.
        migration: MigrationId,
        /// Which VM.
        vm: VmId,
        /// Where it ran.
        from: ServerId,
        /// Where it was to go.
        to: ServerId,
    },
    /// Send `ServerSamples` of every server at this period. Sent on every `WorldUp`.
    ReportLoads {
        /// How often.
        period: Duration,
    },
    /// Start a generated flow. No answer; `TrafficEnded` when it fails.
    TrafficStart {
        /// What.
        spec: TrafficSpec,
    },
    /// Stop a generated flow.
    TrafficStop {
        /// Which.
        id: TrafficId,
    },
    /// Write to the store. Answered by `Stored` or `StoreFailed`. Writes of one batch are one
    /// database transaction.
    Store {
        /// Which.
        id: StoreId,
        /// The change.
        #[serde(alias = "record")]
        op: StoreOp,
    },
    /// Answer a request of the API. (`answer` in recordings of before.)
    #[serde(alias = "answer")]
    Response {
        /// Which request.
        id: RequestId,
        /// The answer.
        #[serde(alias = "answer")]
        response: Response,
    },
    /// Tell the operator (log, `tandem topology`, web).
    Notice {
        /// What.
        notice: Notice,
    },
}

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
        /// Which.
        vm: VmId,
    },
    /// Write or replace a migration that is under way.
    PutMigration {
        /// All of it.
        migration: Box<MigrationRecord>,
    },
    /// Forget a migration.
    RemoveMigration {
        /// Which.
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
        /// Which.
        server: ServerId,
    },
    /// A server may have VMs again.
    RemoveDrained {
        /// Which.
        server: ServerId,
    },
    /// Write or replace a group.
    PutGroup {
        /// All of it.
        group: GroupRecord,
    },
    /// Forget a group.
    RemoveGroup {
        /// Which.
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

/// Something an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Notice {
    /// When.
    pub at: Time,
    /// How bad.
    pub level: Level,
    /// A stable word for programs: `link-missing`, `link-miswired`, `link-unknown`, `link-down`,
    /// `link-up`, `switch-up`, `switch-down`, `switch-unknown`, `host-joined`, `host-moved`,
    /// `host-lost`, `spoofed`, `rules-repaired`, `rules-refused`, `vm-running`, `vm-rejected`,
    /// `vm-failed`, `vm-expired`, `vm-gone`, `vm-rerouted`, `vm-cut`, `store-failed`, `world-up`,
    /// `world-down`, `port-off`, `port-on`, `port-refused`, `path-pinned`, `path-unpinned`,
    /// `path-left`, `path-back`, `agent-up`, `agent-down`, `agent-trouble`, `migration-begun`,
    /// `migration-ended`, `migration-undone`, `migration-failed`, `plan-begun`, `plan-ended`,
    /// `hotspot`, `hotspot-cool`, `server-drained`, `server-back`, `server-away`, `server-there`,
    /// `vm-stray`, `vm-stray-unserved`, `vm-adopted`, `vm-elsewhere`, `world-refused`,
    /// `second-controller`, `clock-stepped`, `clock-doubted`.
    pub kind: String,
    /// One sentence: what, where, what to do.
    pub text: String,
}

/// How bad a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Info,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Error,
}

/// A switch's port as the switch tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Number.
    pub port: PortNo,
    /// Name, as the switch has it.
    pub name: String,
    /// Ethernet address.
    pub mac: Mac,
    /// True when it is enabled and has a link.
    pub up: bool,
    /// Current speed, where the switch knows it.
    pub speed: Option<BitRate>,
}

/// What a switch can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchCaps {
    /// `1.0` or `1.3`.
    pub version: String,
    /// Number of flow tables.
    pub tables: u8,
    /// Manufacturer, hardware and software, in one line; empty where it does not say.
    pub description: String,
    /// Where it connected from, for people.
    pub peer: String,
}

/// ARP operation (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArpOp {
    /// Who has it?
    Request,
    /// I have it.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arp {
    /// Request or reply.
    pub op: ArpOp,
    /// Ethernet destination of the frame.
    pub eth_dst: Mac,
    /// Sender's Ethernet address (also the frame's source when we send).
    pub sender_mac: Mac,
    /// Sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target's Ethernet address (zero in a request).
    pub target_mac: Mac,
    /// Target's address.
    pub target_ip: Ipv4Addr,
}

/// Kind of a DHCP client's message (RFC 2131 table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpRequestKind {
    /// Looking for servers.
    Discover,
    /// Wants an offered address, or to renew one.
    Request,
    /// The address is in use by somebody else.
    Decline,
    /// Gives the address back.
    Release,
    /// Has an address, wants parameters.
    Inform,
}

/// A DHCP client's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpRequest {
    /// Kind.
    pub kind: DhcpRequestKind,
    /// Transaction id.
    pub xid: u32,
    /// Client's Ethernet address (`chaddr`; also checked against the frame's source by the driver's
    /// caller).
    pub mac: Mac,
    /// The frame's Ethernet source.
    pub eth_src: Mac,
    /// `ciaddr`: the address the client has already; 0.0.0.0 if none.
    pub client: Ipv4Addr,
    /// Option 50, the address it wants.
    pub requested: Option<Ipv4Addr>,
    /// Option 54, the server it chose.
    pub server: Option<Ipv4Addr>,
    /// True when it can only take a broadcast answer.
    pub broadcast: bool,
}

/// Kind of a DHCP server's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpReplyKind {
    /// An address for the asking.
    Offer,
    /// The address is yours for the lease's time.
    Ack,
    /// The address is not for you: start again.
    Nak,
}

/// A DHCP server's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpReply {
    /// Kind.
    pub kind: DhcpReplyKind,
    /// The client's transaction id.
    pub xid: u32,
    /// The client's Ethernet address.
    pub mac: Mac,
    /// The client's `ciaddr`, copied.
    pub client: Ipv4Addr,
    /// `yiaddr`: the address; 0.0.0.0 in a NAK.
    pub address: Ipv4Addr,
    /// The server's address (option 54 and the packet's source).
    pub server: Ipv4Addr,
    /// The server's Ethernet address.
    pub server_mac: Mac,
    /// Prefix length of the client's network (option 1).
    pub prefix_len: u8,
    /// Default router (option 3).
    pub router: Option<Ipv4Addr>,
    /// DNS servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// Lease time (option 51).
    pub lease: Duration,
    /// True to answer by broadcast.
    pub broadcast: bool,
}

/// A port's counters, as whoever counts reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PortSample {
    /// Which port.
    pub port: PortNo,
    /// What it has counted.
    #[serde(flatten)]
    pub counters: PortCounters,
}

/// The counters of the flows that carry one cookie, summed; `None` where one of them is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSample {
    /// Whose flows.
    pub cookie: Cookie,
    /// How many flows.
    pub flows: u32,
    /// Packets.
    #[serde(default, deserialize_with = "crate::counters::read", skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes.
    #[serde(default, deserialize_with = "crate::counters::read", skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Sum of memory-like amounts, for reports.
impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        Bytes(iter.map(|b| b.0).fold(0, u64::saturating_add))
    }
}

/// How a port chooses the class of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QueueSelection {
    /// The rule that sends the packet names the queue (Open vSwitch in the kernel, the soft
    /// switch).
    Queue,
    /// A filter at the port reads the packet's DSCP (Open vSwitch in user space).
    Dscp,
    /// The port is held to its rate as a whole (some NetFPGA bitfiles); packets are marked, and the
    /// next switch tells them apart.
    RateLimiter,
    /// Packets are marked with their class's DSCP, and the next switch tells them apart (NetFPGA).
    Mark,
    /// Not at all.
    None,
}

/// What a class is guaranteed and may have at most, in percent of a port's rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Share {
    /// Guaranteed.
    pub share: f64,
    /// At most.
    pub ceiling: f64,
}

// Percentages come from a checked file or request and are never NaN.
impl Eq for Share {}

/// A class's counters at a port, since the class was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClassSample {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Packets waiting now.
    pub queued: u32,
}

/// A port as its agent sees it. Counters are 64 bits wide; they start again when the interface or a
/// class is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSample {
    /// The interface's own counters, as the kernel keeps them.
    #[serde(flatten)]
    pub interface: PortSample,
    /// Negotiated, if the interface says.
    pub speed: Option<BitRate>,
    /// True when it cannot send and receive at once.
    pub half_duplex: bool,
    /// Per class, in the classes' order; empty where the port has none.
    pub classes: Vec<ClassSample>,
    /// The card's own counters by the names that its driver gives them; those that are not zero.
    pub hardware: BTreeMap<String, u64>,
}
