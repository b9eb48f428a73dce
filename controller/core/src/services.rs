//! The services of the core: the state of each, and what each may see of the others.
//!
//! The services stand in one order: [`NetworkState`], [`RuleState`], [`ComputeState`], [`MigrationState`]. Each owns its
//! state. A service's methods are on two handles: `…Ref` for what only looks, `…Mut` for what changes something. A
//! handle has the states of its service and of all earlier ones, and none of a later one, so that a call against the
//! order does not compile. What a later service has to follow is left as a [`Signal`](crate::signal::Signal).

use crate::access_ports::AccessPorts;
use crate::addressing::Pools;
use crate::classes::Classes;
use crate::context::Context;
use crate::counters::Counters;
use crate::hosts::Hosts;
use crate::inventory::Inventory;
use crate::lifecycle::Vm;
use crate::links::LinkTable;
use crate::live::LiveTopology;
use crate::load::Loads;
use crate::managed::Managed;
use crate::migration::hotspot::Hotspots;
use crate::migration::kept::Plans;
use crate::migration::policies::Parts;
use crate::migration::state::Migrations;
use crate::operator::PortOverrides;
use crate::port_damping::PortDamping;
use crate::port_notices::PortAllowances;
use crate::routes::Routes;
use crate::rules::Desired;
use crate::rules::changes::Changes;
use crate::statistics::Statistics;
use crate::stored::StoreWait;
use crate::strays::Strays;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{GroupId, GroupRecord, RequestId, ServerId, StoreId, SwitchId, VmId};

/// The network as it is: switches, links, ports, hosts, and what they count.
pub(crate) struct NetworkState {
    pub(crate) live: LiveTopology,
    pub(crate) links: LinkTable,
    pub(crate) routes: Routes,
    pub(crate) access: AccessPorts,
    pub(crate) hosts: Hosts,
    pub(crate) statistics: Statistics,
    pub(crate) managed: Managed,
    pub(crate) ports: PortOverrides,
    pub(crate) allowances: PortAllowances,
    pub(crate) damping: PortDamping,
    /// Polls on demand, and the switches that have not answered yet.
    pub(crate) polls: BTreeMap<RequestId, BTreeSet<SwitchId>>,
}

/// The rules that switches should have, and their classes of service.
pub(crate) struct RuleState {
    pub(crate) desired: Desired,
    pub(crate) changes: Changes,
    pub(crate) classes: Classes,
}

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
    pub(crate) vms: BTreeMap<VmId, Vm>,
    /// VMs whose path was ever pinned: only these are looked at when a pinned path may have become free.
    pub(crate) pinned: BTreeSet<VmId>,
    pub(crate) groups: BTreeMap<GroupId, GroupRecord>,
    pub(crate) world: Option<HypervisorBackend>,
    /// Why no hypervisor service serves this controller, when one has said so.
    pub(crate) refused: Option<String>,
    /// VMs that run without a record of them.
    pub(crate) strays: Strays,
    /// Servers whose hypervisors do not answer, and why: nothing is known of what runs there.
    pub(crate) away: BTreeMap<ServerId, String>,
    pub(crate) last_vm: u64,
    pub(crate) last_group: u64,
    /// Where VMs are that move: only the migration service changes it.
    pub(crate) migrations: Migrations,
    pub(crate) last_store: u64,
    pub(crate) stores: BTreeMap<StoreId, StoreWait>,
    /// The last write failed; said once.
    pub(crate) store_is_down: bool,
    pub(crate) loads: Loads,
    pub(crate) counters: Counters,
}

/// When and why VMs move.
pub(crate) struct MigrationState {
    pub(crate) plans: Plans,
    pub(crate) hotspots: Hotspots,
    pub(crate) policies: Parts,
}

/// All services' states.
pub(crate) struct States {
    pub(crate) cx: Context,
    pub(crate) net: NetworkState,
    pub(crate) rules: RuleState,
    pub(crate) compute: ComputeState,
    pub(crate) migration: MigrationState,
}

/// Makes the two handles of a service, and their ways to the handles of earlier services.
macro_rules! handles {
    ($(#[$doc:meta])* $read:ident, $write:ident, { $($field:ident: $state:ty),+ },
     { $($name:ident: $lower:ident, $name_mut:ident: $lower_mut:ident { $($part:ident),+ }),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $read<'a> {
            pub(crate) cx: &'a Context,
            $(pub(crate) $field: &'a $state,)+
        }

        $(#[$doc])*
        pub(crate) struct $write<'a> {
            pub(crate) cx: &'a mut Context,
            $(pub(crate) $field: &'a mut $state,)+
        }

        #[allow(dead_code, reason = "every handle has every way, whether it is taken today or not")]
        impl<'a> $read<'a> {
            $(pub(crate) fn $name(self) -> $lower<'a> {
                $lower { cx: self.cx, $($part: self.$part),+ }
            })*
        }

        #[allow(dead_code, reason = "every handle has every way, whether it is taken today or not")]
        impl $write<'_> {
            $(pub(crate) fn $name(&self) -> $lower<'_> {
                $lower { cx: self.cx, $($part: self.$part),+ }
            }
            pub(crate) fn $name_mut(&mut self) -> $lower_mut<'_> {
                $lower_mut { cx: self.cx, $($part: self.$part),+ }
            })*
        }
    };
}

handles!(
    /// The network service.
    NetworkRef, NetworkMut, { net: NetworkState },
    { network: NetworkRef, network_mut: NetworkMut { net } }
);
handles!(
    /// The service of rules, and the network.
    RulesRef, RulesMut, { net: NetworkState, rules: RuleState },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
    }
);
handles!(
    /// The service of servers and VMs, and all before it.
    ComputeRef, ComputeMut, { net: NetworkState, rules: RuleState, compute: ComputeState },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
        compute: ComputeRef, compute_mut: ComputeMut { net, rules, compute },
    }
);
handles!(
    /// The service that moves VMs, and all before it.
    MigrationRef, MigrationMut,
    { net: NetworkState, rules: RuleState, compute: ComputeState, migration: MigrationState },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
        compute: ComputeRef, compute_mut: ComputeMut { net, rules, compute },
        migration: MigrationRef, migration_mut: MigrationMut { net, rules, compute, migration },
    }
);

impl States {
    /// What only looks.
    pub(crate) fn read(&self) -> MigrationRef<'_> {
        MigrationRef {
            cx: &self.cx,
            net: &self.net,
            rules: &self.rules,
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
            compute: &mut self.compute,
            migration: &mut self.migration,
        }
    }
}
