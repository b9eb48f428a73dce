//! What follows when an agent says something: it is told what to make, and what it sees is
//! compared.

use crate::agents::cable_ends::{self, Negotiated};
use crate::agents::connected::Presented;
use crate::agents::{AgentsMut, desired, validate};
use crate::network::agent_ports::MOST_PORTS;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{
    AgentDesired, AgentSample, AgentSwitch, Dpid, Effect, Endpoint, Level, NodeId, PortNo, SwitchId,
};

impl AgentsMut<'_> {
    /// Somebody should look at what an agent says.
    pub(crate) fn agent_trouble(&mut self, agent: &str, what: &str) {
        self.cx.notice(Level::Warning, "agent-trouble", format!("agent {agent}: {what}"));
    }

    /// Takes in what an agent has said that it has; returns those of its switches that the site
    /// knows, and says of the others that it does not.
    pub(crate) fn take_hello<'s>(
        &mut self,
        agent: &str,
        switches: &'s [AgentSwitch],
    ) -> Vec<(SwitchId, &'s AgentSwitch)> {
        let site = self.cx.site.clone();
        let declared = (0..).map(SwitchId).zip(&site.topology.switches);
        let declared: BTreeMap<&str, _> = declared.map(|(id, s)| (s.name.as_str(), (id, s))).collect();
        let mut known = Vec::new();
        let mut seen = BTreeSet::new();
        for presented in switches {
            let Some((id, switch)) = declared.get(presented.name.as_str()) else {
                self.agent_trouble(agent, &format!("the site file has no switch {:?}", presented.name));
                continue;
            };
            if switch.legacy {
                let what = format!(
                    "switch {} is legacy in the site file: no agent is told of it; correct [[legacy]] there, or take it out of agent.toml",
                    switch.name
                );
                self.agent_trouble(agent, &what);
                continue;
            }
            if !seen.insert(*id) {
                continue;
            }
            if let Some(what) = validate::contradicts(switch, &presented.datapath) {
                self.agent_trouble(agent, &what);
            }
            known.push((*id, presented));
        }
        let ports = |s: &AgentSwitch| s.ports.iter().map(|(port, _)| *port).take(MOST_PORTS).collect();
        let presented: Vec<Presented> = known.iter().map(|(id, s)| (*id, ports(s))).collect();
        if let Err(why) = self.agents.connected.enter(agent, presented) {
            self.agent_trouble(agent, &why.to_string());
        }
        known
    }

    /// Tells an agent what to make, where that is something else than it was told last.
    pub(crate) fn configure(&mut self, agent: &str) {
        let Some(presented) = self.agents.connected.presented(agent) else { return };
        let switches = desired::switches(&self.cx.site, self.rules.classes.shares(), presented);
        let wall_now = self.cx.wall_now();
        let Some(generation) = self.agents.connected.tell(agent, &switches, wall_now) else { return };
        let report_period = self.cx.site.statistics.period;
        let desired = Box::new(AgentDesired { generation, report_period, switches });
        self.cx.effects.push(Effect::ConfigureAgent { agent: agent.to_owned(), desired });
    }

    /// The same for all that are connected: the shares of classes are others than before.
    pub(crate) fn configure_all(&mut self) {
        for agent in self.agents.connected.names() {
            self.configure(&agent);
        }
    }

    pub(crate) fn on_agent_down(&mut self, agent: &str, why: &str) {
        self.agents.connected.leave(agent);
        self.network_mut().on_agent_down(agent, why);
    }

    /// Takes in what an agent has counted; where it is known which agent that is, what its ports
    /// have negotiated is compared with the other ends of their cables.
    pub(crate) fn on_agent_samples(&mut self, agent: Option<&str>, dpid: Dpid, samples: Vec<AgentSample>) {
        let negotiated =
            |s: &AgentSample| (s.interface.port, Negotiated { speed: s.speed, half_duplex: s.half_duplex });
        let ends: Vec<(PortNo, Negotiated)> = match agent {
            Some(_) => samples.iter().map(negotiated).collect(),
            None => Vec::new(),
        };
        self.network_mut().on_agent_samples(dpid, samples);
        let (Some(agent), Some(switch)) = (agent, self.net.live.id(dpid)) else { return };
        for (port, has) in ends {
            if let Some(what) = self.compare_ends(switch, port, has) {
                self.agent_trouble(agent, &what);
            }
        }
    }

    /// What is to be said about the cable at a port that has negotiated this.
    fn compare_ends(&mut self, switch: SwitchId, port: PortNo, has: Negotiated) -> Option<String> {
        let topology = &self.cx.site.topology;
        let here = Endpoint { node: NodeId::Switch(switch), port };
        let link = topology.link_at(here.node, port)?;
        let cable = topology.link(link)?;
        let other = if cable.a == here { cable.b } else { cable.a };
        let NodeId::Switch(far) = other.node else { return None };
        let there = self.net.managed.port(far, other.port)?;
        let there = Negotiated { speed: there.speed, half_duplex: there.half_duplex };
        if !cable_ends::differ(has, there) {
            self.agents.cable_ends.agree(link);
            return None;
        }
        let names = [self.cx.port_name(switch, port), self.cx.port_name(far, other.port)];
        let what = cable_ends::sentence((&names[0], has), (&names[1], there));
        self.agents.cable_ends.differ(link, &what).then_some(what)
    }
}
