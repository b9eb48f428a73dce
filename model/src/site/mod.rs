//! The site: a data centre's description, as written in `site.toml` and as checked.
//!
//! `site.toml` -> [`read`] (all faults at once, with line and column) -> [`Site`] (this file; only
//! valid values, nothing optional left open) -> [`Topology`], already built.
//!
//! What a file may say, with every default written out (also in [`EXAMPLES`], with the other
//! shapes, overrides and legacy switches):
//!
//! ```toml
#![doc = include_str!("../../sites/three-tier.toml")]
//! ```
//!
//! Bit rates, sizes and times are texts with a unit: `"1.5 Gbit/s"`, `"512 MiB"`, `"20 GB"`, `"500 ms"`, `"85 min"`.

mod addresses;
mod class_servers;
mod examples;
mod faults;
mod migration;
mod overrides;
mod policy;
mod read;
mod requests;
mod section;
mod shape;
mod traffic;

pub use examples::EXAMPLES;
pub use faults::{Collector, Fault, Faults};
pub use overrides::Lists;
pub use policy::{Joint, PolicyNames, Weights};
pub(crate) use read::{check_delay, check_rate, loss};
pub use read::{read, read_by, read_with};
pub use section::Section;

use crate::{
    BitRate, ClassId, Direction, Mac, MigrationMode, Prefix, Resources, ServerId, ToolOptions, Topology,
    TrafficPattern, TrafficTool,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A data centre as checked: everything that the core, the controller and the worlds need to know
/// of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Its name, for people and for the lab's default `--name`.
    pub name: String,
    /// Switches, servers, gateways, links.
    pub topology: Topology,
    /// Addresses.
    pub addresses: AddressPlan,
    /// Which server, which path.
    pub policy: PolicyConfig,
    /// Counters: how often, how smoothed.
    pub statistics: StatisticsConfig,
    /// What is switched on.
    pub modules: Modules,
    /// Discovery and host tracking.
    pub discovery: DiscoveryConfig,
    /// What traffic a VM gets.
    pub traffic: TrafficConfig,
    /// Service classes, by `ClassId`; none where the file has none.
    #[serde(default)]
    pub classes: Vec<ServiceClass>,
    /// The class of whoever asks for none; `None` without classes.
    #[serde(default)]
    pub default_class: Option<ClassId>,
    /// How VMs are moved, and when by themselves.
    pub migration: MigrationConfig,
    /// Request defaults, for `tandem vm request` without options and for the lab's requester.
    pub vm: VmConfig,
    /// Who may ask for VMs besides the API.
    #[serde(default)]
    pub requests: RequestsConfig,
}

/// A service class: what its users get of every port, and how its packets are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceClass {
    /// Its name.
    pub name: String,
    /// Guaranteed, in percent of a port's rate.
    pub share: f64,
    /// At most, in percent of a port's rate: what others leave free is borrowed up to here.
    pub ceiling: f64,
    /// How its packets are marked (RFC 2474), 0 to 63.
    pub dscp: u8,
    /// Packets that wait in its queue of a port at most.
    pub queue: u32,
    /// What generates the traffic of its VMs; `None` is what the site says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficTool>,
    /// The only servers that its VMs go to, in order of id; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerId>,
}

/// Who has which address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressPlan {
    /// Holds every edge's prefix, the gateways and the controller's address: one layer-2 network
    /// for its machines.
    pub network: Prefix,
    /// Addresses of gateways; outside every edge's prefix.
    pub gateways: Prefix,
    /// How many addresses at the start of each edge's prefix are for its servers; the rest are the
    /// VM pool.
    pub servers_per_prefix: u32,
    /// The DHCP server's (the controller's) address in the data centre; answers ARP, exists nowhere
    /// else.
    pub dhcp: Ipv4Addr,
    /// The Ethernet address that goes with `dhcp`.
    pub dhcp_mac: Mac,
    /// DNS servers handed out.
    pub dns: Vec<Ipv4Addr>,
    /// DHCP lease time.
    pub lease: Duration,
}

/// How VMs are placed and routed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyConfig {
    /// Which server gets a VM: the name of an allocation policy.
    pub allocation: PolicyName,
    /// Which path a VM's traffic takes: the name of a routing policy.
    #[serde(default)]
    pub routing: PolicyName,
    /// Of equal servers, the first by id (default) or the last (as the code of the thesis did under
    /// best fit).
    pub ties: Ties,
    /// Links are admitted up to capacity times this (1.20 allows over-provisioning by 20%).
    pub link_margin: f64,
    /// Switches are admitted up to the sum of their ports' rates times this, in what they send;
    /// `None` admits them without a limit of their own.
    #[serde(default)]
    pub switch_margin: Option<f64>,
    /// Servers are filled up to capacity times this.
    pub server_margin: f64,
    /// How many near misses a rejection names.
    pub near_misses: u32,
    /// What counts how much in the allocation policy `weighted`.
    #[serde(default)]
    pub weighted: Weights,
    /// What each level is chosen by in the joint placement of server and path.
    #[serde(default)]
    pub joint: Joint,
}

/// The name of a policy. Empty stands for the first of its kind; who knows the policies knows which
/// that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyName(pub String);

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Allocation> for PolicyName {
    fn from(which: Allocation) -> PolicyName {
        PolicyName(which.name().to_owned())
    }
}

impl PartialEq<Allocation> for PolicyName {
    fn eq(&self, other: &Allocation) -> bool {
        self.0 == other.name()
    }
}

/// The allocation policies of the thesis (Teixeira 2013), which its figures compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// The first server, by id, with room.
    FirstFit,
    /// The fullest server with room.
    BestFit,
    /// The emptiest server.
    WorstFit,
}

impl Allocation {
    /// Its name in a site file.
    pub fn name(self) -> &'static str {
        match self {
            Allocation::FirstFit => "first-fit",
            Allocation::BestFit => "best-fit",
            Allocation::WorstFit => "worst-fit",
        }
    }
}

/// Which of equal servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// The one with the lowest id.
    First,
    /// The one with the highest id.
    Last,
}

/// Statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatisticsConfig {
    /// How often counters are read, where that is done by the clock; how often they are written and
    /// loads are told in any case.
    pub period: Duration,
    /// Counters are read by the clock; off: only when a request arrives, or somebody asks.
    #[serde(default = "on")]
    pub is_periodic: bool,
    /// When a request arrives, switches whose readings are older than `max_age` are read first.
    #[serde(default)]
    pub on_request: bool,
    /// How old a reading may be that a request is decided by; `None` is the period.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// `history * old + (1 - history) * new`, 0 to below 1.
    pub history_weight: f64,
}

/// Parts that can be switched off one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// Answer DHCP. Off: VMs get fixed addresses from the hypervisor.
    pub dhcp: bool,
    /// Answer ARP. Off: the worlds set neighbours by hand.
    pub arp: bool,
    /// Confirm links by LLDP. Off: declared links count as alive while their ports are up.
    pub discovery: bool,
    /// Write the CSV files.
    pub exporter: bool,
    /// Show the figures to Prometheus: `GET /metrics` of the API.
    #[serde(default = "on")]
    pub metrics: bool,
}

fn on() -> bool {
    true
}

/// Discovery of links and hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscoveryConfig {
    /// How often each port sends LLDP.
    pub lldp_period: Duration,
    /// A confirmed link that was not seen for this long is missing.
    pub lldp_timeout: Duration,
    /// A switch that was away for this long is taken for dead, and the VMs behind it get other
    /// paths.
    pub switch_grace: Duration,
    /// A host that was not seen for this long is probed by ARP.
    pub host_timeout: Duration,
    /// How many unanswered probes make it lost.
    pub host_probes: u32,
    /// How often hosts announce themselves by gratuitous ARP (RFC 5227 section 3); `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Duration>,
}

/// The traffic that a running VM gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficConfig {
    /// None at all when false.
    pub enabled: bool,
    /// What generates it: `udp`, `tcp`, or another tool of the attached world.
    pub transport: TrafficTool,
    /// Which part of the flows is UDP, 0 to 1, the others being TCP; `None` where `transport` says
    /// what all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_share: Option<f64>,
    /// To the VM, from it, or both.
    pub direction: Direction,
    /// Share of the VM's requested network rate, e.g. 1.0.
    pub share: f64,
    /// IP packet size of UDP, in bytes.
    pub packet: u16,
    /// Between whom.
    #[serde(default, skip_serializing_if = "traffic::is_default")]
    pub pattern: TrafficPattern,
    /// The same seed mixes the same flows, and lets tools send at the same moments.
    #[serde(default = "traffic::seed", skip_serializing_if = "traffic::is_seed")]
    pub seed: u64,
    /// What tools are told, by the tool's name or that of a `[traffic.NAME]` with `tool = "..."`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<TrafficTool, ToolOptions>,
}

/// How VMs are moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationConfig {
    /// Live or cold, where nobody says.
    pub manner: MigrationMode,
    /// The highest rate of one transfer. The path's free rate bounds it too.
    pub rate: BitRate,
    /// The class of the migrations' own traffic; `None` is the site's class with the smallest
    /// share, if it has classes.
    pub class: Option<ClassId>,
    /// So many at once in all.
    pub at_once: u32,
    /// So many at once that leave or enter one server.
    pub per_server: u32,
    /// Pre-copy ends when the rest can be sent in this time.
    pub downtime: Duration,
    /// Pre-copy ends after so many rounds.
    pub rounds: u32,
    /// A transfer that has not made any progress for this long is given up.
    pub timeout: Duration,
    /// At which rate a VM is taken to dirty its memory while that was not measured.
    pub dirty_rate: BitRate,
    /// When a server or link is hot: the name of a detector.
    #[serde(default)]
    pub detector: PolicyName,
    /// Which VM leaves a hot place first: the name of a selector.
    #[serde(default)]
    pub selector: PolicyName,
    /// Where a VM that moves goes: the name of a destination policy.
    #[serde(default)]
    pub destination: PolicyName,
    /// Which path a migration's own traffic takes: the name of a transfer path policy.
    #[serde(default)]
    pub transfer_path: PolicyName,
    /// What is done first about a hot link.
    #[serde(default)]
    pub hot_link: HotLink,
    /// When servers and links are too hot, and what then.
    pub hotspot: HotspotConfig,
    /// Whether VMs are brought back to where the allocation policy wants them, and how often.
    pub keep_policy: KeepPolicyConfig,
}

/// What is done first about a hot link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HotLink {
    /// VMs whose traffic crosses it are moved to other servers.
    #[default]
    Move,
    /// They stay where they are and get another path, where there is one that stays cool; VMs move
    /// only when no VM can be given one.
    RerouteFirst,
}

/// When a server or a link is hot: the Sandpiper rule (Wood et al., NSDI 2007), k of the last n
/// samples over a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HotspotConfig {
    /// Move VMs away from them. They are found and told in any case.
    pub relieve: bool,
    /// Share of a server's CPU, memory or network in use, 0 to 1.
    pub server: f64,
    /// Share of a link's rate in use, 0 to 1.
    pub link: f64,
    /// It is cool again below the threshold times this, 0 to 1 (hysteresis).
    pub cool: f64,
    /// Samples over the threshold,
    pub over: u32,
    /// of so many.
    pub of: u32,
    /// Also those that the trend expects within this time; zero: none.
    pub horizon: Duration,
}

/// The keep-policy algorithm of the thesis (Teixeira 2013) at work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepPolicyConfig {
    /// How often; `None` is never by itself.
    pub period: Option<Duration>,
    /// Moves per run at most.
    pub moves: u32,
    /// A move must be worth this much: the share of a server that it frees or evens out, per GiB
    /// that it sends. 0 takes every move.
    pub gain: f64,
    /// In which order VMs are looked at.
    #[serde(default)]
    pub order: KeepOrder,
    /// Who makes the moves of what the policy wants.
    #[serde(default)]
    pub planner: KeepPlanner,
}

/// In which order keep-policy looks at VMs; "order can affect how many migration are needed"
/// (Teixeira 2013).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepOrder {
    /// Servers in order of id, and on each its VMs in order of id.
    #[default]
    AsIs,
    /// The emptiest servers first.
    EmptiestFirst,
    /// The VMs first that take the largest part of their server.
    LargestFirst,
}

/// Who makes the moves of keep-policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepPlanner {
    /// The algorithm of the thesis (Teixeira 2013): one VM after the other.
    #[default]
    OneByOne,
    /// The same packing of servers with the fewest moves: VMs of the same size stand for each other.
    FewestMoves,
}

/// Requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmConfig {
    /// What a request that says nothing asks for.
    pub default: Resources,
    /// How long a VM may take from placement to running.
    pub start_timeout: Duration,
    /// How long a VM lives once it runs, when its request does not say; `None` is until it is
    /// deleted.
    pub lifetime: Option<Duration>,
    /// A name that one VM has is refused to another. Recordings from before this was so have it
    /// false, and are replayed as they were decided.
    #[serde(default)]
    pub unique_names: bool,
    /// A VM sends no more than its network rate: what is more waits at its own port, or is lost
    /// there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub police: bool,
}

/// Requests that do not come by the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsConfig {
    /// Where the controller listens for requests in the text protocol of the thesis (Teixeira
    /// 2013): a path, or `tcp:ADDRESS:PORT`; `None` is nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_socket: Option<String>,
    /// Whose requests those are; it is kept with their VMs.
    pub requester: String,
}

impl Default for RequestsConfig {
    fn default() -> RequestsConfig {
        RequestsConfig { text_socket: None, requester: "text-socket".to_owned() }
    }
}

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(100 * 366 * 86_400);

impl StatisticsConfig {
    /// How often a switch is asked for its counters by the clock.
    pub fn poll_period(&self) -> Duration {
        if self.is_periodic { self.period } else { NEVER }
    }

    /// How old a reading may be that a request is decided by.
    pub fn oldest(&self) -> Duration {
        self.max_age.unwrap_or(self.period)
    }
}

impl Site {
    /// The class of a request: the one it names, else the default; `None` where there is no such
    /// class, or none at all.
    pub fn class(&self, class: Option<ClassId>) -> Option<(ClassId, &ServiceClass)> {
        let id = class.or(self.default_class)?;
        self.classes.get(usize::from(id.0)).map(|c| (id, c))
    }

    /// The rate a VM's generated traffic runs at: its network rate times the share, in layer-2
    /// bits.
    pub fn traffic_rate(&self, net: BitRate) -> BitRate {
        BitRate((net.0 as f64 * self.traffic.share) as u64)
    }
}

#[cfg(test)]
mod tests;
