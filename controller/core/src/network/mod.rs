//! The network as it is: switches, ports, links, hosts, and what they count. The first service.

pub mod access_ports;
pub mod agent_ports;
pub(crate) mod agent_reports;
pub mod attachment;
pub mod host_tracker;
pub mod links;
pub(crate) mod names;
pub(crate) mod path_search;
pub(crate) mod path_tree;
pub(crate) mod paths;
pub(crate) mod pinned_paths;
pub(crate) mod place;
pub(crate) mod polling;
pub(crate) mod port_damping;
pub(crate) mod port_events;
pub(crate) mod port_limits;
pub(crate) mod port_notices;
pub(crate) mod port_overrides;
pub mod routes;
pub mod rule_counters;
pub(crate) mod sender_checks;
pub mod switch_counters;
pub mod switch_loads;
pub(crate) mod topology_events;
pub mod topology_state;

use crate::context::Context;
use crate::handles::handles;
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
use crate::policy::routing::RoutingPolicy;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{RequestId, SwitchId};

/// The network as it is: switches, links, ports, hosts, and what they count.
pub(crate) struct NetworkState {
    pub(crate) live: LiveTopology,
    pub(crate) links: LinkTable,
    pub(crate) routes: Routes,
    /// Which path a VM takes.
    pub(crate) routing: Box<dyn RoutingPolicy>,
    pub(crate) access: AccessPorts,
    pub(crate) hosts: Hosts,
    pub(crate) statistics: Statistics,
    /// What switches have counted of our rules.
    pub(crate) rule_readings: RuleReadings,
    pub(crate) managed: Managed,
    pub(crate) ports: PortOverrides,
    pub(crate) allowances: PortAllowances,
    pub(crate) damping: PortDamping,
    /// Polls on demand, and the switches that have not answered yet.
    pub(crate) polls: BTreeMap<RequestId, BTreeSet<SwitchId>>,
}

handles!(
    /// The network service.
    NetworkRef, NetworkMut, { net: NetworkState },
    { network: NetworkRef, network_mut: NetworkMut { net } }
);
