//! Agents at switches, one for each: they come and go, say what they have and count, and remember
//! what they were told to make.

use super::world::World;
use std::collections::BTreeMap;
use tandem_model::{
    AgentDesired, AgentSample, AgentSwitch, BitRate, ClassSample, DesiredPort, Event, NodeId, PortCounters,
    PortNo, PortSample, QueueSelection, SwitchId,
};

/// The agents that are connected, each with its switch and what it was told last.
#[derive(Debug, Default)]
pub(super) struct Agents {
    connected: BTreeMap<String, (SwitchId, Option<AgentDesired>)>,
    /// The largest generation that any of them was told by this controller.
    generation: u64,
}

impl Agents {
    /// The controller is gone, and with it every connection.
    pub(super) fn forget_controller(&mut self) {
        *self = Agents::default();
    }
}

fn name_of(switch: SwitchId) -> String {
    format!("agent{}", switch.0)
}

/// The first thing in which two desired states differ, but for their generations.
fn difference(before: Option<&AgentDesired>, fresh: Option<&AgentDesired>) -> Option<String> {
    let (Some(before), Some(fresh)) = (before, fresh) else {
        return Some(format!("was told {before:?}, a fresh one is told {fresh:?}"));
    };
    if (before.report_period, &before.switches) == (fresh.report_period, &fresh.switches) {
        return None;
    }
    let ports = |desired: &AgentDesired| -> Vec<DesiredPort> {
        desired.switches.iter().flat_map(|s| s.ports.iter().cloned()).collect()
    };
    let other = ports(before).into_iter().zip(ports(fresh)).find(|(b, f)| b != f);
    Some(match other {
        Some((before, fresh)) => format!("was told {before:?}, a fresh one is told {fresh:?}"),
        None => "was told of other switches or ports than a fresh one is told of".to_owned(),
    })
}

impl World {
    fn queues_of(&self, id: SwitchId) -> Vec<(PortNo, QueueSelection)> {
        let ports = self.site.topology.ports(NodeId::Switch(id)).iter();
        ports.map(|(port, _)| (*port, QueueSelection::Queue)).collect()
    }

    /// The agent of a switch connects and says what it manages.
    pub(super) fn agent_up(&mut self, id: SwitchId) {
        let switch = self.switches[id.0 as usize].dpid;
        let agent = name_of(id);
        let ports = self.queues_of(id);
        self.say(Event::AgentUp { agent: agent.clone() });
        // A hello says the same and more. The hashes were recorded when there was none, so that what
        // follows for the rules stays an event of its own.
        self.say(Event::PortsManaged { agent, switch, ports });
        self.agent_hello(id);
    }

    /// An agent says what it has, and must be told what to make of it.
    fn agent_hello(&mut self, id: SwitchId) {
        let declared = self.site.topology.switch(id).filter(|s| !s.legacy).cloned();
        let Some(declared) = declared.filter(|_| self.alive) else { return };
        let datapath = declared.datapath.map_or_else(|| "soft".to_owned(), |kind| kind.to_string());
        let presented = AgentSwitch { name: declared.name, datapath, ports: self.queues_of(id) };
        let agent = name_of(id);
        self.agents.connected.insert(agent.clone(), (id, None));
        self.say(Event::AgentHello { agent, switches: vec![presented] });
    }

    pub(super) fn agent_down(&mut self, switch: u32) {
        let agent = name_of(self.switch(switch));
        self.agents.connected.remove(&agent);
        self.say(Event::AgentDown { agent, why: "gone".to_owned() });
    }

    /// An agent is told what to make.
    pub(super) fn configure_agent(&mut self, agent: &str, desired: AgentDesired) {
        if desired.generation <= self.agents.generation {
            let what = format!("{agent} was told {} after {}", desired.generation, self.agents.generation);
            return self.violate("generations of desired states grow", what);
        }
        self.agents.generation = desired.generation;
        match self.agents.connected.get_mut(agent) {
            Some((_, told)) => *told = Some(desired),
            None => {
                let what = format!("{agent} was told {desired:?}");
                self.violate("only agents that are connected are told what to make", what);
            }
        }
    }

    /// Each agent was told last what one would be told that connects now.
    pub(super) fn check_agents(&mut self) {
        let connected: Vec<(String, SwitchId, Option<AgentDesired>)> = self
            .agents
            .connected
            .iter()
            .map(|(name, (id, told))| (name.clone(), *id, told.clone()))
            .collect();
        for (agent, id, before) in connected {
            self.agent_hello(id);
            let fresh = self.agents.connected.get(&agent).and_then(|(_, told)| told.as_ref());
            if let Some(difference) = difference(before.as_ref(), fresh) {
                let what = format!("{agent} {difference}");
                return self.violate("when all is quiet, each agent was told what a fresh one is told", what);
            }
        }
    }

    /// An agent connects and reports that so much has gone through each of its ports.
    pub(super) fn agent(&mut self, switch: u32, bytes: u32) {
        let id = self.switch(switch);
        let switch = self.switches[id.0 as usize].dpid;
        let ports: Vec<PortNo> =
            self.site.topology.ports(NodeId::Switch(id)).iter().map(|(p, _)| *p).collect();
        let class = ClassSample { bytes: bytes.into(), ..ClassSample::default() };
        let classes = vec![class; self.site.classes.len()];
        let samples = ports.iter().map(|port| AgentSample {
            interface: PortSample {
                port: *port,
                counters: PortCounters {
                    rx_packets: Some(u64::from(bytes) / 1000),
                    tx_packets: Some(u64::from(bytes) / 1000),
                    rx_bytes: Some(bytes.into()),
                    tx_bytes: Some(bytes.into()),
                    rx_dropped: Some(0),
                    tx_dropped: Some(0),
                    rx_errors: Some(0),
                    tx_errors: Some(0),
                    ..PortCounters::default()
                },
            },
            speed: Some(BitRate::mbit(1000)),
            half_duplex: false,
            classes: classes.clone(),
            hardware: BTreeMap::new(),
        });
        let samples = samples.collect();
        self.agent_up(id);
        let agent = Some(name_of(id));
        self.say(Event::AgentSamples { agent, switch, ports: samples });
    }
}
