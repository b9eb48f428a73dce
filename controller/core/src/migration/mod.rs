//! Migration: when VMs are moved, which, where to and by which path; plans; and how a move is
//! carried out.
//!
//! ```text
//! samples -> load, hotspot --when--> plan (which, where, order) --> execute (phases) --effects--> hypervisors, switches, store
//!                   asked, resize, evacuate, keep-policy -^                 ^-- events -----------------+
//! ```
//! Planning decides everything on paper and changes nothing; carrying out leaves no choice open.

pub(crate) mod admission;
pub(crate) mod commands;
pub(crate) mod cooling;
pub mod destinations;
pub mod detectors;
#[cfg(test)]
mod fixture;
pub(crate) mod hotspot_watch;
pub(crate) mod hotspots;
pub(crate) mod link_failure;
pub(crate) mod mitigation;
pub(crate) mod phases;
pub(crate) mod plan_executor;
pub(crate) mod plan_store;
pub(crate) mod planning;
pub mod policies;
pub mod policy_set;
pub mod precopy;
pub(crate) mod priorities;
pub mod rebalance;
pub(crate) mod recovery;
pub mod registry;
pub(crate) mod repacking;
pub(crate) mod requests;
pub(crate) mod reroutes;
pub(crate) mod reservations;
pub(crate) mod rollback;
pub(crate) mod schedule;
#[cfg(test)]
mod schedule_tests;
pub mod selectors;
pub(crate) mod transfer;
pub(crate) mod transfer_path;
pub mod transfer_paths;
pub(crate) mod trend;
pub mod views;
pub(crate) mod what_if;

use crate::agents::{AgentState, AgentsMut, AgentsRef};
use crate::compute::{ComputeMut, ComputeRef, ComputeState};
use crate::context::Context;
use crate::handles::handles;
use crate::migration::hotspots::Hotspots;
use crate::migration::plan_store::Plans;
use crate::migration::policy_set::Parts;
use crate::network::{NetworkMut, NetworkRef, NetworkState};
use crate::rules::{RuleState, RulesMut, RulesRef};

/// When and why VMs move.
pub(crate) struct MigrationState {
    pub(crate) plans: Plans,
    pub(crate) hotspots: Hotspots,
    pub(crate) policies: Parts,
}

handles!(
    /// The service that moves VMs, and all before it.
    MigrationRef, MigrationMut,
    {
        net: NetworkState, rules: RuleState, agents: AgentState, compute: ComputeState,
        migration: MigrationState
    },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
        agents: AgentsRef, agents_mut: AgentsMut { net, rules, agents },
        compute: ComputeRef, compute_mut: ComputeMut { net, rules, agents, compute },
        migration: MigrationRef, migration_mut: MigrationMut { net, rules, agents, compute, migration },
    }
);
