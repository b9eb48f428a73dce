//! What follows when ports sort packets in another way: every rule that marks packets is made anew.

use crate::migration::MigrationMut;
use crate::rules::compile;
use crate::rules::transactions::Purpose;
use std::collections::BTreeMap;
use tandem_model::{AgentSwitch, Dpid, PortNo, QueueSelection, SwitchId, VmId, VmState};

impl MigrationMut<'_> {
    pub(crate) fn on_ports_managed(&mut self, agent: &str, dpid: Dpid, ports: Vec<(PortNo, QueueSelection)>) {
        let Some(id) = self.net.live.id(dpid) else {
            let text = format!("agent {agent} manages switch {dpid}, which is not in the site file");
            return self.cx.notice(tandem_model::Level::Warning, "agent-unknown-switch", text);
        };
        if self.manage_ports(agent, id, ports.into_iter().collect()) {
            self.mark_anew();
        }
    }

    /// An agent has said what it has: rules that choose queues follow, once for all of its switches,
    /// and it is told what to make.
    pub(crate) fn on_agent_hello(&mut self, agent: &str, switches: &[AgentSwitch]) {
        let mut is_to_be_marked = false;
        for (id, presented) in self.agents_mut().take_hello(agent, switches) {
            is_to_be_marked |= self.manage_ports(agent, id, presented.ports.iter().copied().collect());
        }
        if is_to_be_marked {
            self.mark_anew();
        }
        self.agents_mut().configure(agent);
    }

    /// Takes in how ports choose classes; true when rules have to follow.
    fn manage_ports(&mut self, agent: &str, id: SwitchId, ports: BTreeMap<PortNo, QueueSelection>) -> bool {
        self.net.managed.entrust(id, agent);
        let by_queue = ports.values().any(|s| *s == QueueSelection::Queue);
        self.rules.classes.selection.insert(id, ports);
        let changed = if by_queue {
            self.rules.classes.queues.insert(id)
        } else {
            self.rules.classes.queues.remove(&id)
        };
        self.cx.dirty.switches = true;
        changed && !self.cx.site.classes.is_empty()
    }

    /// Rules that choose queues, or no longer do.
    pub(crate) fn mark_anew(&mut self) {
        let site = self.cx.site.clone();
        let plan = compile::plan(&site, &self.net.routes, self.rules.classes.queues());
        let (_, differences) = self.rules.desired.replace(tandem_model::Owner::Fabric, plan);
        self.compute_mut().start_change(Purpose::Upkeep, differences, &[]);
        let there: Vec<VmId> = self
            .compute
            .vms
            .iter()
            .filter(|(_, v)| matches!(v.record.state, VmState::Running | VmState::Starting))
            .map(|(id, _)| *id)
            .collect();
        there.into_iter().for_each(|id| self.compute_mut().install(id, Purpose::Upkeep));
        self.compute_mut().serve_strays();
        self.mark_transfers_anew();
        self.compute_mut().refresh_groups();
    }
}
