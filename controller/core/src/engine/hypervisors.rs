//! Hypervisors as they come and go: what runs there is held against what is known.
//!
//! Who runs and is known goes on; who is known and does not run is started again where it was; who
//! is being stopped is stopped. Who is not known is a stray ([`crate::compute::strays`]) and is
//! left alone: to know nothing of a VM is no wish to stop it.

use crate::compute::HypervisorBackend;
use crate::migration::MigrationMut;
use std::collections::BTreeSet;
use tandem_model::{Effect, Level, ServerId, VmId, VmState};

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
                    self.settle();
                }
                VmState::Running | VmState::Cut { .. } if runs => {
                    self.compute_mut().start_traffic(id);
                    self.compute_mut().tag_again(id);
                    // The order, or its answer, may be lost.
                    self.compute_mut().ask_resize(id);
                }
                VmState::Running | VmState::Cut { .. } if taken => self.say_elsewhere(id),
                VmState::Starting if taken => {
                    let why = "there is a VM with its id that was made for another request; it is left alone";
                    self.compute_mut().fail_vm(id, why);
                    self.settle();
                }
                // It should run but does not (its server was started anew): start it again where it
                // was.
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

    /// One that is to be gone and was made for the same request is the same VM, wherever it is
    /// found.
    pub(crate) fn stop_elsewhere(&mut self, id: VmId, there: &[(VmId, ServerId)]) {
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
    pub(crate) fn say_elsewhere(&mut self, id: VmId) {
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
