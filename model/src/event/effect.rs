//! What the core wants done, by switches, agents, hypervisors, the store and whoever asked.

use crate::{
    AgentDesired, Arp, BitRate, DhcpReply, Dpid, Leave, MigrationId, MigrationMode, Notice, PortNo,
    RequestId, Resources, Response, Rule, RuleKey, ServerId, StoreId, StoreOp, Time, TrafficId, TrafficSpec,
    TxnId, VmId, VmSpec,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// Switch a port on or off (OFPT_PORT_MOD). Answered by `PortSet` or `PortRefused`;
    /// `PortChanged` says what has become of the port.
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
    /// Say to an agent what it is to make, in place of all that it was told before. No answer: what
    /// it cannot make comes as `AgentTrouble`.
    ConfigureAgent {
        /// The agent's name.
        agent: String,
        /// All that it is to make.
        desired: Box<AgentDesired>,
    },
    /// Start a VM. Answered by `VmStarted` or `VmFailed`; by `VmFailed` too where there is one with
    /// this id that was made for another request, which is left alone.
    AllocateVm {
        /// The VM's number.
        vm: VmId,
        /// Where.
        server: ServerId,
        /// What.
        spec: VmSpec,
    },
    /// Stop a VM and remove it. Answered by `VmStopped`, also when there is no such VM. One with
    /// this id that was made for another request is not touched: it is not the VM that is meant.
    StopVm {
        /// The VM's number.
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
        /// The VM's number.
        vm: VmId,
        /// Where it runs.
        server: ServerId,
        /// What it is asked for with.
        spec: Box<VmSpec>,
    },
    /// Give a VM other resources. Answered by `VmResized` or `VmFailed`.
    ResizeVm {
        /// The VM's number.
        vm: VmId,
        /// Where it runs.
        server: ServerId,
        /// What it should have.
        resources: Resources,
    },
    /// Move a running VM's interface to another uplink of its server.
    AttachVm {
        /// The VM's number.
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
        /// The migration's number.
        migration: MigrationId,
        /// The rate.
        rate: BitRate,
    },
    /// Give a transfer up, if it can be: answered by `MigrationFailed`, or by `VmMoved` when it was
    /// too late. For one that is not known, what may be left of it on either side is cleaned up
    /// first.
    CancelMigration {
        /// The migration's number.
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
        /// The flow's number.
        id: TrafficId,
    },
    /// Write to the store. Answered by `Stored` or `StoreFailed`. Writes of one batch are one
    /// database transaction.
    Store {
        /// The write's number.
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
