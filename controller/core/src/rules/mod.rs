//! Rules as a desired state: who wants which rule in which switch, what was sent, and the changes
//! under way.
//!
//! [`desired::Desired`] holds every owner's rules (a VM's, a group's, the plan's). Replacing an
//! owner's rules yields the difference per switch; [`transactions`] carries it out in steps, each
//! confirmed by barriers; on a refusal the owner's former rules are wanted again, which yields the
//! difference back.

pub mod building_blocks;
pub mod compile;
pub mod desired;
pub(crate) mod dual_rules;
pub(crate) mod edge;
pub mod labels;
pub mod one_table;
pub(crate) mod owners;
pub mod pairwise;
pub(crate) mod port_classes;
pub mod qos;
pub(crate) mod service;
pub mod transactions;

use crate::context::Context;
use crate::handles::handles;
use crate::network::{NetworkMut, NetworkRef, NetworkState};
use crate::rules::desired::Desired;
use crate::rules::qos::Classes;
use crate::rules::transactions::Changes;

/// The rules that switches should have, and their classes of service.
pub(crate) struct RuleState {
    pub(crate) desired: Desired,
    pub(crate) changes: Changes,
    pub(crate) classes: Classes,
}

handles!(
    /// The service of rules, and the network.
    RulesRef, RulesMut, { net: NetworkState, rules: RuleState },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
    }
);
