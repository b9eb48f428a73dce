//! The states of all services, side by side.

use crate::agents::AgentState;
use crate::compute::host_load::Loads;
use crate::compute::inventory::Inventory;
use crate::compute::moves::Migrations;
use crate::compute::strays::Strays;
use crate::compute::vm_table::VmTable;
use crate::compute::waiting_requests::WaitingForReadings;
use crate::compute::{ComputeState, ipam};
use crate::context::Context;
use crate::counters::Counters;
use crate::migration::hotspots::Hotspots;
use crate::migration::plan_store::Plans;
use crate::migration::policy_set::{Parts, Policy};
use crate::migration::{MigrationMut, MigrationRef, MigrationState};
use crate::network::NetworkState;
use crate::network::access_ports::AccessPorts;
use crate::network::agent_ports::Managed;
use crate::network::host_tracker::Hosts;
use crate::network::links::LinkTable;
use crate::network::port_damping::PortDamping;
use crate::network::port_limits::PortAllowances;
use crate::network::port_overrides::PortOverrides;
use crate::network::routes::Routes;
use crate::network::rule_counters::RuleReadings;
use crate::network::switch_counters::Statistics;
use crate::network::topology_state::LiveTopology;
use crate::rules::desired::Desired;
use crate::rules::qos::Classes;
use crate::rules::transactions::Changes;
use crate::rules::{RuleState, compile};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tandem_model::{Owner, PersistedState, Site, Time};

/// All services' states.
pub(crate) struct States {
    pub(crate) cx: Context,
    pub(crate) net: NetworkState,
    pub(crate) rules: RuleState,
    pub(crate) agents: AgentState,
    pub(crate) compute: ComputeState,
    pub(crate) migration: MigrationState,
}

impl States {
    /// Every service as it is before anything has happened.
    pub(crate) fn initial(site: Arc<Site>, stored: &PersistedState, now: Time, policy: Policy) -> States {
        let Policy { allocation, routing, when, which, place, path } = policy.configured(&site);
        let topology = &site.topology;
        let links = LinkTable::new(topology, site.policy.link_margin)
            .with_switch_margin(topology, site.policy.switch_margin);
        let routes = Routes::new(topology, &links);
        let access = AccessPorts::new(topology);
        let mut desired = Desired::new(topology.switches.len());
        desired.replace(Owner::Fabric, compile::plan(&site, &routes, &BTreeSet::new()));
        States {
            net: NetworkState {
                live: LiveTopology::new(topology, now),
                hosts: Hosts::new(&site.addresses),
                statistics: Statistics::new(topology.switches.len(), site.statistics.history_weight),
                rule_readings: RuleReadings::new(topology.switches.len()),
                managed: Managed::default(),
                ports: PortOverrides::default(),
                allowances: PortAllowances::new(access.keys(), now),
                damping: PortDamping::new(access.keys(), topology.switches.len(), now),
                polls: BTreeMap::new(),
                links,
                routes,
                routing,
                access,
            },
            rules: RuleState { desired, changes: Changes::default(), classes: Classes::new(&site) },
            agents: AgentState::default(),
            compute: ComputeState {
                inventory: Inventory::new(topology, allocation, site.policy.ties, site.policy.server_margin),
                addresses: ipam::Pools::new(&site),
                vms: VmTable::default(),
                pinned: BTreeSet::new(),
                groups: BTreeMap::new(),
                group_traffic: BTreeMap::new(),
                forming: BTreeMap::new(),
                pair_rates: BTreeMap::new(),
                world: None,
                refused: None,
                strays: Strays::default(),
                readings: WaitingForReadings::default(),
                away: BTreeMap::new(),
                last_vm: stored.last_vm,
                last_group: stored.last_group,
                migrations: Migrations::default(),
                last_store: 0,
                stores: BTreeMap::new(),
                store_is_down: false,
                loads: Loads::new(site.statistics.history_weight),
                counters: Counters::default(),
            },
            migration: MigrationState {
                plans: Plans::after(
                    stored.migrations.iter().filter_map(|m| m.plan).map(|p| p.0).max().unwrap_or(0),
                ),
                hotspots: Hotspots::default(),
                policies: Parts { when, which, place, path },
            },
            cx: Context::new(site, now),
        }
    }

    /// What only looks.
    pub(crate) fn read(&self) -> MigrationRef<'_> {
        MigrationRef {
            cx: &self.cx,
            net: &self.net,
            rules: &self.rules,
            agents: &self.agents,
            compute: &self.compute,
            migration: &self.migration,
        }
    }

    /// What changes something.
    pub(crate) fn write(&mut self) -> MigrationMut<'_> {
        MigrationMut {
            cx: &mut self.cx,
            net: &mut self.net,
            rules: &mut self.rules,
            agents: &mut self.agents,
            compute: &mut self.compute,
            migration: &mut self.migration,
        }
    }
}
