//! Servers and VMs: what is reserved, what runs, and who may talk to whom. It comes after the
//! network, the rules and the agents.

pub(crate) mod adoption;
pub(crate) mod arp_dhcp;
pub(crate) mod class_shares;
pub(crate) mod constraints;
pub(crate) mod explanation;
pub(crate) mod flow_samples;
pub(crate) mod forming;
pub(crate) mod group_rules;
pub(crate) mod groups;
pub mod host_load;
pub(crate) mod hypervisors;
pub mod inventory;
pub(crate) mod ipam;
pub(crate) mod kept_rules;
pub(crate) mod leases;
pub(crate) mod left_rules;
pub(crate) mod load_reports;
pub(crate) mod maintenance;
pub mod moves;
pub(crate) mod moving;
pub(crate) mod overrides;
pub(crate) mod pair_rates;
pub(crate) mod pending_writes;
pub(crate) mod persistence;
pub(crate) mod placement;
pub(crate) mod placement_view;
pub mod rank_index;
pub(crate) mod readings;
pub(crate) mod records;
pub(crate) mod relocated;
pub(crate) mod reroute;
pub(crate) mod resize;
pub(crate) mod rule_changes;
pub(crate) mod smallest_change;
pub(crate) mod stray_network;
pub(crate) mod stray_service;
pub(crate) mod strays;
pub(crate) mod vm;
pub(crate) mod vm_group;
pub(crate) mod vm_lifecycle;
pub(crate) mod vm_names;
pub(crate) mod vm_rules;
pub(crate) mod vm_table;
pub(crate) mod vm_traffic;
pub(crate) mod waiting_requests;

use crate::agents::{AgentState, AgentsMut, AgentsRef};
use crate::compute::host_load::Loads;
use crate::compute::inventory::Inventory;
use crate::compute::ipam::Pools;
use crate::compute::moves::Migrations;
use crate::compute::pending_writes::PendingWrite;
use crate::compute::strays::Strays;
use crate::compute::vm_group::{Forming, Reserved};
use crate::compute::vm_table::VmTable;
use crate::compute::waiting_requests::WaitingForReadings;
use crate::context::Context;
use crate::counters::Counters;
use crate::handles::handles;
use crate::network::{NetworkMut, NetworkRef, NetworkState};
use crate::rules::{RuleState, RulesMut, RulesRef};
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{GroupId, GroupRecord, ServerId, StoreId, TrafficId, VmId};

/// The hypervisor service that is attached.
#[derive(Debug, Clone)]
pub(crate) struct HypervisorBackend {
    pub(crate) name: String,
    /// True when it can generate traffic.
    pub(crate) traffic: bool,
}

/// Servers and VMs: what is reserved, what runs, and who may talk to whom.
pub(crate) struct ComputeState {
    pub(crate) inventory: Inventory,
    pub(crate) addresses: Pools,
    pub(crate) vms: VmTable,
    /// VMs whose path was ever pinned: only these are looked at when a pinned path may have become
    /// free.
    pub(crate) pinned: BTreeSet<VmId>,
    pub(crate) groups: BTreeMap<GroupId, GroupRecord>,
    /// Flows among the members of groups that the world was asked for, and who receives each.
    pub(crate) group_traffic: BTreeMap<TrafficId, VmId>,
    /// Groups that were requested with their VMs, until all of it runs.
    pub(crate) forming: BTreeMap<GroupId, Forming>,
    /// What is reserved between members of groups with a rate.
    pub(crate) pair_rates: BTreeMap<GroupId, Reserved>,
    pub(crate) world: Option<HypervisorBackend>,
    /// Why no hypervisor service serves this controller, when one has said so.
    pub(crate) refused: Option<String>,
    /// Requests that wait for switches to be read.
    pub(crate) readings: WaitingForReadings,
    /// VMs that run without a record of them.
    pub(crate) strays: Strays,
    /// Servers whose hypervisors do not answer, and why: nothing is known of what runs there.
    pub(crate) away: BTreeMap<ServerId, String>,
    pub(crate) last_vm: u64,
    pub(crate) last_group: u64,
    /// Where VMs are that move: only the migration service changes it.
    pub(crate) migrations: Migrations,
    pub(crate) last_store: u64,
    pub(crate) stores: BTreeMap<StoreId, PendingWrite>,
    /// The last write failed; said once.
    pub(crate) store_is_down: bool,
    pub(crate) loads: Loads,
    pub(crate) counters: Counters,
}

handles!(
    /// The service of servers and VMs, and all before it.
    ComputeRef, ComputeMut,
    { net: NetworkState, rules: RuleState, agents: AgentState, compute: ComputeState },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
        agents: AgentsRef, agents_mut: AgentsMut { net, rules, agents },
        compute: ComputeRef, compute_mut: ComputeMut { net, rules, agents, compute },
    }
);
