//! Agents at switches: which are connected, what each is to make of its switches, and whether both
//! ends of a cable have negotiated alike. It comes after the network and the rules.
//!
//! ```text
//! AgentHello ---> connected ---desired(site, shares)---> ConfigureAgent      (each has a generation)
//! new shares ------^                 only where it differs from what was told last
//! AgentSamples -> cable_ends ---> a notice, once for each difference
//! ```
//! Who may speak for which switch is not decided here: whoever takes connections checks that, and
//! leaves out of the hello what the agent was not given.

pub(crate) mod cable_ends;
pub(crate) mod connected;
pub(crate) mod desired;
pub(crate) mod messages;
pub(crate) mod validate;

use crate::agents::cable_ends::CableEnds;
use crate::agents::connected::ConnectedAgents;
use crate::context::Context;
use crate::handles::handles;
use crate::network::{NetworkMut, NetworkRef, NetworkState};
use crate::rules::{RuleState, RulesMut, RulesRef};

/// What is known of agents.
#[derive(Debug, Default)]
pub(crate) struct AgentState {
    pub(crate) connected: ConnectedAgents,
    pub(crate) cable_ends: CableEnds,
}

handles!(
    /// The service of agents, and all before it.
    AgentsRef, AgentsMut, { net: NetworkState, rules: RuleState, agents: AgentState },
    {
        network: NetworkRef, network_mut: NetworkMut { net },
        rules: RulesRef, rules_mut: RulesMut { net, rules },
        agents: AgentsRef, agents_mut: AgentsMut { net, rules, agents },
    }
);
