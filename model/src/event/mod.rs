//! The door of the core: facts that come in, effects that go out, questions and answers. All
//! serialisable, so that a recorded run is a line per event.
//!
//! Facts speak no OpenFlow version: the switch driver turns messages into facts and effects into
//! messages. [`Event`] and [`Effect`] are one type each, as a recording has them; what their fields
//! are made of is here by family.

mod agent;
mod effect;
mod family;
mod notice;
mod packet;
mod request;
mod store;
mod switch;

pub use agent::{
    AgentDesired, AgentSample, AgentSwitch, ClassSample, DesiredClass, DesiredPort, DesiredSwitch,
    QueueSelection, Share,
};
pub use effect::Effect;
pub use family::EventFamily;
pub use notice::{Level, Notice};
pub use packet::{Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind};
pub use request::{Request, Response};
pub use store::{PersistedState, PortOverride, StoreOp};
pub use switch::{FlowSample, PortInfo, PortSample, SwitchCaps};

use crate::{
    Dpid, FoundVm, LeftRules, LoadSample, Mac, MigrationId, PortNo, Progress, RequestId, RuleSample,
    ServerId, StoreId, TrafficId, TxnId, VmId,
};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A fact from a world, or a question from the API. The only two things that come in from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An agent has connected.
    AgentUp {
        /// The agent's name.
        agent: String,
    },
    /// An agent has said what it has: its first message on a connection. Answered by
    /// `ConfigureAgent`, and again whenever what it should make has changed, until `AgentDown`.
    /// (Recordings of before have a `PortsManaged` for each switch instead.)
    AgentHello {
        /// The agent's name.
        agent: String,
        /// Those of its switches that it may speak for.
        switches: Vec<AgentSwitch>,
    },
    /// An agent's connection ended. What it has made stays.
    AgentDown {
        /// The agent's name.
        agent: String,
        /// The reason, for people.
        why: String,
    },
    /// An agent could not do something, or sees something that somebody should look at.
    AgentTrouble {
        /// The agent's name.
        agent: String,
        /// What it is, for people.
        what: String,
    },
    /// What an agent can do at the ports of a switch: of worlds that have no agents to configure,
    /// and in recordings of before.
    PortsManaged {
        /// The agent's name.
        agent: String,
        /// The switch.
        switch: Dpid,
        /// Each port, and how a class is chosen there.
        ports: Vec<(PortNo, QueueSelection)>,
    },
    /// What an agent has seen and counted at a switch's ports: a batch per switch and period.
    AgentSamples {
        /// The agent's name. What both ends of a cable have negotiated is compared where it is
        /// known; recordings of before do not have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// The switch.
        switch: Dpid,
        /// Its ports.
        ports: Vec<AgentSample>,
    },
    /// A switch has connected and finished its handshake. Answered by `SyncRules`.
    SwitchUp {
        /// The switch's datapath id.
        switch: Dpid,
        /// Its ports.
        ports: Vec<PortInfo>,
        /// What it can do.
        caps: SwitchCaps,
    },
    /// A switch's connection ended. It keeps forwarding.
    SwitchDown {
        /// The switch's datapath id.
        switch: Dpid,
        /// In words.
        why: String,
    },
    /// Somebody should look at how a switch is connected: by two peers, say.
    SwitchTrouble {
        /// The switch's datapath id.
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
    /// A switch has taken what it was told of a port: the barrier behind it is answered (OF 1.3.5
    /// section 6.2).
    PortSet {
        /// Which switch.
        switch: Dpid,
        /// Which port.
        port: PortNo,
        /// On?
        up: bool,
    },
    /// A switch would not switch a port on or off.
    PortRefused {
        /// Which switch.
        switch: Dpid,
        /// Which port.
        port: PortNo,
        /// The switch's error, as text.
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
        /// The switch's error, as text.
        why: String,
    },
    /// A switch refused a transaction. What the switch had taken of it is already undone there.
    RulesRefused {
        /// Which switch.
        switch: Dpid,
        /// Which transaction.
        txn: TxnId,
        /// The switch's error, as text.
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
        /// Each, and why as text.
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
        /// Whom it serves and what to do, as text.
        why: String,
    },
    /// Another controller has asked a hypervisor service, host or pool of ours to serve it, and was
    /// refused.
    RivalSeen {
        /// The service's, host's or pool's name, for people.
        world: String,
        /// Who, as text.
        who: String,
    },
    /// The hypervisor service is gone. Its VMs may still run.
    WorldDown {
        /// In words.
        why: String,
    },
    /// A VM runs. Its address is known to the hypervisor only where DHCP is not used.
    VmStarted {
        /// The VM's number.
        vm: VmId,
        /// Its address, if the hypervisor knows it.
        address: Option<Ipv4Addr>,
    },
    /// A VM that ran is gone, and not on our request.
    VmDied {
        /// The VM's number.
        vm: VmId,
        /// In words.
        why: String,
    },
    /// A VM could not be started or resized; in recordings and from labs of before also: it died.
    VmFailed {
        /// The VM's number.
        vm: VmId,
        /// In words.
        why: String,
    },
    /// A VM is gone, on our request.
    VmStopped {
        /// The VM's number.
        vm: VmId,
    },
    /// A VM has the resources it was resized to.
    VmResized {
        /// The VM's number.
        vm: VmId,
    },
    /// How far a transfer is; a few times a second at most.
    MigrationProgress {
        /// The migration's number.
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
        /// The migration's number.
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
        /// The flow's number.
        id: TrafficId,
        /// In words.
        why: String,
    },
    /// A write is on disk.
    Stored {
        /// The write's number.
        id: StoreId,
    },
    /// A write failed; nothing of it is in the store.
    StoreFailed {
        /// The write's number.
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
