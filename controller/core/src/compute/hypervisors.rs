//! Hypervisors that are away, serve somebody else, or are gone.

use crate::compute::{ComputeMut, ComputeRef};
use std::collections::BTreeMap;
use tandem_model::{Level, ServerId};

impl ComputeMut<'_> {
    /// Somebody else has asked for our hypervisors.
    pub(crate) fn on_rival(&mut self, world: &str, who: &str) {
        let text = format!(
            "another controller, {who}, has asked {world} to serve it and was refused; stop it, or give it a site and hypervisors of its own"
        );
        self.cx.notice(Level::Warning, "second-controller", text);
    }

    /// A hypervisor service serves somebody else.
    pub(crate) fn on_world_refused(&mut self, world: &str, why: &str) {
        let text = format!("{world} does not serve this controller: {why}");
        self.compute.refused = Some(text.clone());
        self.cx.notice(Level::Error, "world-refused", text);
    }

    /// Servers that do not answer: told once each, and again when they do.
    pub(crate) fn on_servers_away(&mut self, servers: Vec<(ServerId, String)>) {
        let now: BTreeMap<ServerId, String> = servers.into_iter().collect();
        let before = std::mem::take(&mut self.compute.away);
        let name = |core: &Self, id: ServerId| core.cx.server_name(id);
        for (id, why) in now.iter().filter(|(id, _)| !before.contains_key(id)) {
            let text = format!("the hypervisor of {} is away: {why}; its VMs may still run", name(self, *id));
            self.cx.notice(Level::Warning, "server-away", text);
        }
        for id in before.keys().filter(|id| !now.contains_key(id)) {
            let text = format!("the hypervisor of {} answers again", name(self, *id));
            self.cx.notice(Level::Info, "server-there", text);
        }
        self.compute.away = now;
    }

    pub(crate) fn on_world_down(&mut self, why: &str) {
        self.cx.notice(
            Level::Warning,
            "world-down",
            format!("the hypervisor service is gone ({why}); its VMs may still run"),
        );
        self.compute.world = None;
        self.cx.dirty.vms = true;
    }
}

impl<'a> ComputeRef<'a> {
    /// Why nothing can be asked of hypervisors, and what to do.
    pub(crate) fn no_world(self) -> String {
        self.compute.refused.clone().unwrap_or_else(|| {
            "no hypervisor is connected; start the lab (`tandem-lab up`) or attach servers, then try again".into()
        })
    }
}
