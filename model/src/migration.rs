//! Migration: a VM's way from one server to another, what a plan of several moves is, and what
//! servers and VMs use.
//!
//! A migration goes through named phases ([`Phase`]); the record of one that is under way is in the
//! store, so that a controller that was killed finishes or undoes it. Until the switch-over nothing
//! that the VM has is touched: a failure leaves it where it was.

use crate::{BitRate, Bytes, GatewayId, Hop, MigrationId, PlanId, ServerId, Time, VmId, VmRecord};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MigrationMode {
    /// It runs while its memory is copied, and is silent for the last of it only.
    Live,
    /// It is stopped, its memory and local disks are copied, and it is started on the other server.
    Cold,
}

impl fmt::Display for MigrationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MigrationMode::Live => "live",
            MigrationMode::Cold => "cold",
        })
    }
}

/// Why a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Somebody asked for it.
    Asked,
    /// It grows, and its server is full.
    Resize,
    /// Its server is taken out of service.
    Evacuate,
    /// Its server uses more than it should.
    HotServer,
    /// A link on its path carries more than it should.
    HotLink,
    /// One of the two is expected, by the trend of the last samples.
    Expected,
    /// The allocation policy would place it elsewhere today.
    KeepPolicy,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Asked => "asked for",
            Cause::Resize => "it grows",
            Cause::Evacuate => "evacuation",
            Cause::HotServer => "hot server",
            Cause::HotLink => "hot link",
            Cause::Expected => "expected hotspot",
            Cause::KeepPolicy => "policy",
        })
    }
}

/// Where a migration is. What each phase guarantees is said with it; a failure or a cancel before
/// [`Phase::SwitchOver`] leaves all as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Checked, and both places are reserved: the new server, its path, and the path of the
    /// migration's own traffic. Nothing else has changed.
    Reserve,
    /// The rules of the new place are being installed beside the old ones, which stay; the old
    /// place works as before.
    Prepare,
    /// The hypervisors copy. The VM runs on the old server and is reached there.
    Transfer,
    /// The VM is paused or already runs on the new server; packets to it reach both places. It can
    /// no longer be cancelled.
    SwitchOver,
    /// It runs on the new server; the new place is being written to the store.
    Confirm,
    /// The old place's rules and reservations are being taken away.
    Release,
    /// It failed or was cancelled before the switch-over: what was prepared is being taken away;
    /// the VM is where it was.
    Undo,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Reserve => "reserve",
            Phase::Prepare => "prepare",
            Phase::Transfer => "transfer",
            Phase::SwitchOver => "switch over",
            Phase::Confirm => "confirm",
            Phase::Release => "release",
            Phase::Undo => "undo",
        })
    }
}

/// A place that a VM has or gets: a server and the ways to and from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Place {
    /// The server.
    pub server: ServerId,
    /// By which of its uplinks.
    pub uplink: u32,
    /// Through which gateway.
    pub gateway: GatewayId,
    /// From the server to the gateway.
    pub path_up: Vec<Hop>,
    /// From the gateway to the server.
    pub path_down: Vec<Hop>,
}

impl Place {
    /// Where a VM is.
    pub fn of(vm: &VmRecord) -> Place {
        Place {
            server: vm.server,
            uplink: vm.uplink,
            gateway: vm.gateway,
            path_up: vm.path_up.clone(),
            path_down: vm.path_down.clone(),
        }
    }
}

/// What a transfer is expected to take, by the pre-copy model (Clark et al., NSDI 2005).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Prediction {
    /// Bytes to be sent in all rounds.
    pub bytes: Bytes,
    /// Rounds of pre-copy before the last one.
    pub rounds: u32,
    /// From the first byte until it runs on the other server.
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Span))]
    pub duration: Duration,
    /// Of which it is silent.
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Span))]
    pub downtime: Duration,
    /// False when the rest does not get small enough for the allowed pause: memory is dirtied about
    /// as fast as it can be sent.
    pub converges: bool,
}

/// How far a transfer is, as its hypervisors say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Round of pre-copy, from 1; 0 before the first byte.
    pub round: u32,
    /// Bytes sent so far, in all rounds.
    pub sent: Bytes,
    /// Bytes still to be sent in this round.
    pub remaining: Bytes,
    /// At which rate it sends, bit/s.
    pub rate: BitRate,
    /// At which rate the VM dirties its memory, bit/s; 0 where it is not known.
    pub dirty: BitRate,
}

/// A migration that is under way, as kept by the core and in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MigrationRecord {
    /// Its id.
    pub id: MigrationId,
    /// Which VM.
    pub vm: VmId,
    /// Where it was.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
    /// Live or cold.
    pub manner: MigrationMode,
    /// Why.
    pub cause: Cause,
    /// As part of which plan.
    pub plan: Option<PlanId>,
    /// The way of the migration's own traffic, from the old server to the new one; empty where it
    /// is not ours to choose.
    pub path: Vec<Hop>,
    /// The highest rate of that traffic now.
    pub rate: BitRate,
    /// Go on even if it does not converge.
    pub force: bool,
    /// How urgent it is.
    #[serde(default, skip_serializing_if = "MovePriority::is_normal")]
    pub priority: MovePriority,
    /// What it was expected to take.
    pub predicted: Prediction,
    /// Where it is.
    pub phase: Phase,
    /// When it was asked for.
    pub asked_at: Time,
    /// When its transfer began.
    pub transfer_at: Option<Time>,
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum MigrationEnd {
    /// It runs on the other server.
    Moved {
        /// How long it was silent, by its hypervisor, where that is known.
        #[cfg_attr(feature = "schema", schema(value_type = Option<crate::schema::Span>))]
        downtime: Option<Duration>,
    },
    /// It is where it was.
    Undone {
        /// Why, as text.
        why: String,
    },
    /// The VM itself was lost.
    Lost {
        /// Why, as text.
        why: String,
    },
}

/// What a plan is to achieve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "aim")]
pub enum PlanGoal {
    /// Every VM where the allocation policy would place it today.
    KeepPolicy,
    /// No server and no link that is hot.
    Relieve,
    /// An empty server.
    Evacuate {
        /// The server's id.
        server: ServerId,
    },
    /// One VM elsewhere.
    Move {
        /// The VM's number.
        vm: VmId,
        /// Where to; where the allocation policy wants it, if not said.
        to: Option<ServerId>,
    },
}

/// How urgent a move is: by its weight, transfers of different priorities share the links that they
/// have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MovePriority {
    /// Yields to all others.
    Low,
    /// Usual.
    #[default]
    Normal,
    /// Others yield to it.
    High,
}

impl MovePriority {
    /// Its weight: of a link that is shared by a high and a normal transfer, the high one has two
    /// thirds.
    pub fn weight(self) -> u64 {
        match self {
            MovePriority::Low => 1,
            MovePriority::Normal => 2,
            MovePriority::High => 4,
        }
    }

    /// True for the usual one, which is not written down.
    pub fn is_normal(&self) -> bool {
        *self == MovePriority::Normal
    }
}

/// What may be said of moves; what is left out is the site's `[migration]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoveOptions {
    /// Live or cold.
    #[serde(default)]
    pub manner: Option<MigrationMode>,
    /// Also those that are not expected to converge.
    #[serde(default)]
    pub force: bool,
    /// How urgent they are.
    #[serde(default, skip_serializing_if = "MovePriority::is_normal")]
    pub priority: MovePriority,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Move {
    /// Which VM.
    pub vm: VmId,
    /// From where.
    pub from: ServerId,
    /// To where.
    pub to: ServerId,
    /// Live or cold.
    pub manner: MigrationMode,
    /// Why, for programs.
    pub cause: Cause,
    /// Steps of the plan, by their place in it, that must have ended well before this one begins.
    pub after: Vec<u32>,
    /// What it is expected to take.
    pub predicted: Prediction,
    /// Why, for people: what it relieves, or what the policy prefers.
    pub why: String,
}

/// Another path for a VM that stays on its server, of a plan.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reroute {
    /// Which VM.
    pub vm: VmId,
    /// Its server, with the new path to the same gateway.
    pub to: Place,
    /// Why, for people: what it relieves, and which switches the new path goes by.
    pub why: String,
}

/// A list of moves that was thought through as a whole: in this order no server and no link is ever
/// overfilled. Immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = MadePlan))]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// What it is to achieve.
    pub aim: PlanGoal,
    /// When it was made.
    pub made_at: Time,
    /// VMs that get another path, all of them before the first move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reroutes: Vec<Reroute>,
    /// Its steps, in their order.
    pub moves: Vec<Move>,
    /// What could not be planned, and why.
    pub left: Vec<(VmId, String)>,
    /// Servers with VMs, before.
    pub active_before: u32,
    /// Servers with VMs, afterwards.
    pub active_after: u32,
    /// All bytes that will be sent.
    pub bytes: Bytes,
    /// How long it will take, with as many at once as the site allows.
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Span))]
    pub duration: Duration,
}

/// What a server or a VM uses: counters since its start, 64 bits wide. `u64::MAX` is "does not
/// count this".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSample {
    /// CPU time used, of all cores together, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use now, bytes.
    pub ram: u64,
    /// Bytes read from disks.
    pub disk_read: u64,
    /// Bytes written to disks.
    pub disk_written: u64,
    /// Bytes received from the network.
    pub rx_bytes: u64,
    /// Bytes sent to the network.
    pub tx_bytes: u64,
    /// Bytes of memory dirtied.
    pub dirtied: u64,
}

impl LoadSample {
    /// Nothing is counted.
    pub const UNKNOWN: LoadSample = LoadSample {
        cpu_ns: u64::MAX,
        ram: u64::MAX,
        disk_read: u64::MAX,
        disk_written: u64::MAX,
        rx_bytes: u64::MAX,
        tx_bytes: u64::MAX,
        dirtied: u64::MAX,
    };
}
