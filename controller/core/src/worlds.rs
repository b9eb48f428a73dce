//! Hypervisors as they come and go: what runs there is held against what is known.
//!
//! Who runs and is known goes on; who is known and does not run is started again where it was; who is being stopped is stopped. Who is
//! not known is a stray ([`crate::strays`]) and is left alone: to know nothing of a VM is no wish to stop it.

use crate::context::Context;
use crate::services::HypervisorBackend;
use crate::services::{ComputeMut, ComputeRef, MigrationMut};
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{Effect, Level, NodeId, ServerId, VmId, VmState};

impl MigrationMut<'_> {
    pub(crate) fn on_world_up(&mut self, world: String, there: Vec<(VmId, ServerId)>, traffic: bool) {
        self.cx.notice(Level::Info, "world-up", format!("hypervisor service {world} is connected"));
        self.compute.world = Some(HypervisorBackend { name: world, traffic });
        self.compute.refused = None;
        self.cx.dirty.vms = true;
        self.compute_mut().heard_of_servers();
        self.compute_mut().take_strays(&there);
        self.compute.strays.elsewhere.clear();
        let ours: BTreeSet<VmId> = there
            .iter()
            .filter(|(vm, server)| self.compute().is_ours(*vm, *server))
            .map(|(vm, _)| *vm)
            .collect();
        let ids: Vec<VmId> = self.compute.vms.keys().copied().collect();
        for id in ids {
            let runs = ours.contains(&id);
            let Some(record) = self.compute.vms.get(&id).map(|v| &v.record) else { continue };
            let (state, away) = (record.state.clone(), self.compute.away.contains_key(&record.server));
            if self.order_again(id) {
                if runs && !matches!(state, VmState::Stopping { .. }) {
                    self.compute_mut().start_traffic(id);
                }
                continue;
            }
            // It may run there, and a second one must not.
            if !runs && away {
                continue;
            }
            // So does one that is found elsewhere, or that has its id.
            let taken = !runs && self.compute.strays.of(id).next().is_some();
            match state {
                // What undoes its move stops it when that is done.
                VmState::Stopping { .. } if self.compute().is_moving(id) => {}
                VmState::Stopping { why } => {
                    self.stop_elsewhere(id, &there);
                    self.compute_mut().stop_vm(id, &why);
                }
                VmState::Running | VmState::Cut { .. } if runs => {
                    self.compute_mut().start_traffic(id);
                    self.compute_mut().tag_again(id);
                }
                VmState::Running | VmState::Cut { .. } if taken => self.say_elsewhere(id),
                VmState::Starting if taken => {
                    let why = "there is a VM with its id that was made for another request; it is left alone";
                    self.compute_mut().fail_vm(id, why);
                }
                // It should run but does not (its server was started anew): start it again where it was.
                VmState::Running | VmState::Cut { .. } | VmState::Starting => {
                    if let Some(m) = self.compute().moving(id).map(|m| m.record.id) {
                        self.undo_move(m, "its server was started anew");
                    }
                    self.compute_mut().restart_vm(id);
                }
                VmState::Placed => {}
            }
        }
    }

    /// One that is to be gone and was made for the same request is the same VM, wherever it is found.
    fn stop_elsewhere(&mut self, id: VmId, there: &[(VmId, ServerId)]) {
        let Some(record) = self.compute.vms.get(&id).map(|v| &v.record) else { return };
        let (server, placed_at) = (record.server, record.placed_at);
        let made_for = |at: ServerId| self.compute.strays.origin(id, at).map(|o| o.placed_at);
        let copies = there.iter().filter(|(vm, at)| *vm == id && *at != server);
        let stops: Vec<Effect> = copies
            .filter(|(_, at)| made_for(*at) == Some(placed_at))
            .map(|(vm, server)| Effect::StopVm { vm: *vm, server: *server, placed_at: Some(placed_at) })
            .collect();
        self.cx.effects.extend(stops);
    }

    /// A VM that should run is not where it should be, and something with its id is somewhere else.
    fn say_elsewhere(&mut self, id: VmId) {
        self.compute.strays.elsewhere.insert(id);
        let Some(record) = self.compute.vms.get(&id).map(|v| &v.record) else { return };
        let name = |server| self.cx.server_name(server);
        let places: Vec<String> = self.compute.strays.of(id).map(|s| name(s.found.server)).collect();
        let is_same = self.compute.strays.of(id).any(|s| self.compute().record_elsewhere(s).is_some());
        let adopt = match is_same {
            true => format!(
                "It is the same VM: adopt it where it is (`tandem vm adopt {id}`), and its record follows"
            ),
            false => {
                format!("To have the other one instead, delete {id} and adopt that (`tandem vm adopt {id}`)")
            }
        };
        let text = format!(
            "{id} should run on {} and does not, but a {id} is on {}; neither is touched. {adopt}. When that one is not needed, stop it \
             (`tandem vm stop-stray {id}`): {id} is started again where it was when its hypervisor is next connected",
            name(record.server),
            places.join(" and ")
        );
        self.cx.notice(Level::Error, "vm-elsewhere", text);
    }
}

impl ComputeMut<'_> {
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

impl Context {
    /// Somebody else has asked for our hypervisors.
    pub(crate) fn on_rival(&mut self, world: &str, who: &str) {
        let text = format!(
            "another controller, {who}, has asked {world} to serve it and was refused; stop it, or give it a site and hypervisors of its own"
        );
        self.notice(Level::Warning, "second-controller", text);
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

impl Context {
    pub(crate) fn server_name(&self, id: ServerId) -> String {
        match self.site.topology.server(id) {
            Some(_) => self.site.topology.name(NodeId::Server(id)).to_owned(),
            None => id.to_string(),
        }
    }
}
