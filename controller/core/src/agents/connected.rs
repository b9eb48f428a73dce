//! The agents that are connected, what each has, and what it was told last.

use std::collections::BTreeMap;
use tandem_model::{DesiredSwitch, PortNo, SwitchId, Time};

/// Agents that are told what to make, at most. A large data centre has one for each rack; whoever
/// takes connections allows about a thousand.
const MOST_AGENTS: usize = 4096;

/// A switch of an agent, and its ports.
pub(crate) type Presented = (SwitchId, Vec<PortNo>);

/// An agent.
#[derive(Debug)]
struct Connected {
    presented: Vec<Presented>,
    /// What it was told last; `None` before the first time.
    told: Option<Vec<DesiredSwitch>>,
}

/// There are [`MOST_AGENTS`] agents already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MOST_AGENTS} agents are connected already; it is told nothing until it connects again when there are fewer"
)]
pub(crate) struct TooManyAgents;

/// All agents that are connected, by name.
#[derive(Debug, Default)]
pub(crate) struct ConnectedAgents {
    agents: BTreeMap<String, Connected>,
    last_generation: u64,
}

impl ConnectedAgents {
    /// An agent has connected, or connected again: it has been told nothing yet.
    ///
    /// # Errors
    /// When there are as many as are remembered.
    pub(crate) fn enter(&mut self, agent: &str, presented: Vec<Presented>) -> Result<(), TooManyAgents> {
        if self.agents.len() >= MOST_AGENTS && !self.agents.contains_key(agent) {
            return Err(TooManyAgents);
        }
        self.agents.insert(agent.to_owned(), Connected { presented, told: None });
        Ok(())
    }

    /// An agent is gone.
    pub(crate) fn leave(&mut self, agent: &str) {
        self.agents.remove(agent);
    }

    /// The names of all, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    /// What an agent has; nothing for one that is not connected.
    pub(crate) fn presented(&self, agent: &str) -> Option<&[Presented]> {
        self.agents.get(agent).map(|a| a.presented.as_slice())
    }

    /// Takes down what an agent is told; the generation to tell it with, or `None` where it was
    /// told the same last.
    pub(crate) fn tell(&mut self, agent: &str, desired: &[DesiredSwitch], wall_now: Time) -> Option<u64> {
        let connected = self.agents.get_mut(agent)?;
        if connected.told.as_deref() == Some(desired) {
            return None;
        }
        connected.told = Some(desired.to_vec());
        // An agent only says which generation it has made, so it has to be another one than those
        // of an earlier controller: milliseconds since the epoch, and one more for each.
        let milliseconds = wall_now.0 / 1_000_000;
        self.last_generation = self.last_generation.max(milliseconds).saturating_add(1);
        Some(self.last_generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_once_what_is_the_same_and_anew_when_it_is_back() {
        let mut agents = ConnectedAgents::default();
        let at = Time::from_secs(2);
        assert_eq!(agents.tell("mini1", &[], at), None, "it is not connected");
        agents.enter("mini1", Vec::new()).expect("room");
        // Nothing to make is something to tell: an agent takes away what is not wanted any more.
        assert_eq!(agents.tell("mini1", &[], at), Some(2001));
        assert_eq!(agents.tell("mini1", &[], at), None);
        agents.enter("mini1", Vec::new()).expect("room");
        assert_eq!(agents.tell("mini1", &[], at), Some(2002), "it has connected again");
        agents.leave("mini1");
        assert!(agents.names().is_empty());
        // The wall clock is set back: a generation is larger than the one before all the same.
        agents.enter("mini2", Vec::new()).expect("room");
        assert_eq!(agents.tell("mini2", &[], Time::ZERO), Some(2003));
    }

    #[test]
    fn what_is_remembered_of_agents_is_bounded() {
        let mut agents = ConnectedAgents::default();
        for n in 0..MOST_AGENTS {
            agents.enter(&n.to_string(), Vec::new()).expect("room");
        }
        assert_eq!(agents.enter("one more", Vec::new()), Err(TooManyAgents));
        agents.enter("7", Vec::new()).expect("that one is there already");
    }
}
