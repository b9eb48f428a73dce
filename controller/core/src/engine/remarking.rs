//! What follows when ports sort packets in another way: every rule that marks packets is made anew.

use crate::migration::MigrationMut;
use crate::rules::compile;
use crate::rules::transactions::Purpose;
use std::collections::BTreeMap;
use tandem_model::{Dpid, PortNo, QueueSelection, VmId, VmState};

impl MigrationMut<'_> {
    pub(crate) fn on_ports_managed(&mut self, agent: &str, dpid: Dpid, ports: Vec<(PortNo, QueueSelection)>) {
        let Some(id) = self.net.live.id(dpid) else {
            let text = format!("agent {agent} manages switch {dpid}, which is not in the site file");
            return self.cx.notice(tandem_model::Level::Warning, "agent-unknown-switch", text);
        };
        self.net.managed.entrust(id, agent);
        let ports: BTreeMap<PortNo, QueueSelection> = ports.into_iter().collect();
        let by_queue = ports.values().any(|s| *s == QueueSelection::Queue);
        self.rules.classes.selection.insert(id, ports);
        let changed = if by_queue {
            self.rules.classes.queues.insert(id)
        } else {
            self.rules.classes.queues.remove(&id)
        };
        self.cx.dirty.switches = true;
        if changed && !self.cx.site.classes.is_empty() {
            self.mark_anew();
        }
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
