//! What agents report of the ports of their switches.

use crate::context::Context;
use crate::network::NetworkMut;
use tandem_model::{AgentSample, BitRate, Dpid, Level, NodeId, PortNo, SwitchId};

impl NetworkMut<'_> {
    pub(crate) fn on_agent_samples(&mut self, dpid: Dpid, samples: Vec<AgentSample>) {
        let Some(id) = self.net.live.id(dpid) else { return };
        let history = self.cx.site.statistics.history_weight;
        for sample in samples {
            let most =
                self.cx.port_rate(id, sample.interface.port).or(sample.speed).unwrap_or(BitRate(u64::MAX));
            // Bursts are measured too: a second's packets may come in half a second.
            let most = BitRate(most.0.saturating_mul(2));
            self.net.managed.take(id, sample, most, history, self.cx.now);
        }
        self.cx.dirty.switch(id);
    }

    pub(crate) fn on_agent_down(&mut self, agent: &str, why: &str) {
        self.net.managed.forget_agent(agent);
        self.cx.dirty.switches = true;
        let text = format!("agent {agent} has gone ({why}); its ports keep what they have");
        self.cx.notice(Level::Warning, "agent-down", text);
    }
}

impl Context {
    /// The declared rate of the link at a port.
    pub(crate) fn port_rate(&self, switch: SwitchId, port: PortNo) -> Option<BitRate> {
        let topology = &self.site.topology;
        let link = topology.link_at(NodeId::Switch(switch), port)?;
        topology.link(link).map(|l| l.cfg.rate)
    }
}
