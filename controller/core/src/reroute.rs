//! Other paths for running VMs: after a link or a switch is lost, and back to service after one returns.
//!
//! A VM keeps its server, its address and its gateway. It keeps its path too while every link of it is alive, so that nothing
//! moves without need. Rules for the new path come before the old ones go.

use crate::placement::Placement;
use crate::rules::changes::Purpose;
use crate::rules::compile;
use crate::services::{ComputeMut, MigrationMut, NetworkRef};
use crate::stored::Kept;
use tandem_model::{BitRate, Effect, Hop, Level, VmId, VmRecord, VmState};

/// Why a VM is cut off.
pub(crate) const NO_WAY: &str = "no live path leads from its server to its gateway";

impl MigrationMut<'_> {
    /// Looks at every VM's path. Called after default routes were recomputed.
    pub(crate) fn reroute_all(&mut self) {
        let ids: Vec<VmId> = self.compute.vms.keys().copied().collect();
        for id in ids {
            let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else { continue };
            if self.compute().moving(id).is_some() {
                self.reroute_moving(id);
                continue;
            }
            let cut = matches!(record.state, VmState::Cut { .. });
            if !cut && !matches!(record.state, VmState::Running | VmState::Starting) {
                continue;
            }
            if record.pin.is_some() {
                self.compute_mut().reroute_pinned(id, &record);
                continue;
            }
            if !cut && self.network().has_way(&record) {
                // Its path stands, but may no longer (or again) be the default one: its exact rules follow.
                self.compute_mut().install(id, Purpose::VmMove(id));
                continue;
            }
            self.compute_mut().reroute(id, &record);
        }
    }

    /// Looks for a way for every VM that is cut off.
    pub(crate) fn reroute_cut(&mut self) {
        let is_cut = |r: &VmRecord| matches!(r.state, VmState::Cut { .. });
        let cut: Vec<VmRecord> =
            self.compute.vms.values().map(|v| &v.record).filter(|r| is_cut(r)).cloned().collect();
        for record in &cut {
            if self.compute().moving(record.id).is_some() {
                self.reroute_moving(record.id);
            } else if record.pin.is_some() {
                self.compute_mut().reroute_pinned(record.id, record);
            } else {
                self.compute_mut().reroute(record.id, record);
                self.compute_mut().groups_follow(record);
            }
        }
    }
}

impl ComputeMut<'_> {
    /// The groups of a VM that was as `before` have it at another port if it has another uplink now. Where all are looked at, all groups are too.
    pub(crate) fn groups_follow(&mut self, before: &VmRecord) {
        if self.compute.vms.get(&before.id).is_some_and(|v| v.record.uplink != before.uplink) {
            self.compute().groups_of(before.id).into_iter().for_each(|group| self.refresh_group(group));
        }
    }

    pub(crate) fn reroute(&mut self, id: VmId, record: &VmRecord) {
        let request = record.request.clone();
        let old = Placement::of(record);
        self.release(&old, &request);
        let net = request.resources.net;
        let found = self.network().way(record, net).map(|p| (p, true)).or_else(|| {
            // No path has room: any live one is better than none.
            self.network().way(record, BitRate(0)).map(|p| (p, false))
        });
        let Some((new, has_room)) = found else {
            self.reserve(&old, &request);
            return self.cut(id, NO_WAY);
        };
        let (level, text) = if has_room {
            (Level::Info, format!("{id} ({}) has another path", record.address))
        } else {
            let text =
                format!("{id} ({}) has another path, but its links have no room for {net}", record.address);
            (Level::Warning, text)
        };
        self.take_way(id, &old, new, (level, "vm-rerouted", text));
    }

    /// Puts a VM on another way, in the books and in the switches. What it had is released already.
    pub(crate) fn take_way(
        &mut self,
        id: VmId,
        old: &Placement,
        new: Placement,
        (level, kind, text): (Level, &str, String),
    ) {
        let Some(request) = self.compute.vms.get(&id).map(|v| v.record.request.clone()) else { return };
        self.reserve(&new, &request);
        let moved_uplink = new.uplink != old.uplink;
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        vm.generation = vm.generation.wrapping_add(1);
        vm.record.uplink = new.uplink;
        (vm.record.path_up, vm.record.path_down) = (new.path_up, new.path_down);
        if matches!(vm.record.state, VmState::Cut { .. }) {
            vm.record.state = VmState::Running;
        }
        let record = vm.record.clone();
        self.compute.counters.rerouted += 1;
        self.cx.dirty.vms = true;
        if moved_uplink && let Some(uplink_port) = self.network().server_side_port(&record) {
            self.cx.effects.push(Effect::AttachVm { vm: id, server: record.server, uplink_port });
            self.tag_vm(id);
            let at = compile::server_port(&self.cx.site.topology, &record).into_iter().collect();
            self.net.hosts.move_to(record.address, at);
        }
        self.install(id, Purpose::VmMove(id));
        if record.path_down.first() != old.path_down.first() {
            self.announce(id);
        }
        self.cx.notice(level, kind, text);
        self.keep(Kept::Vm(id));
    }

    /// A running VM has no path: it stays where it is, and is tried again with every change of the topology.
    pub(crate) fn cut(&mut self, id: VmId, why: &str) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        if vm.record.state != VmState::Running {
            return;
        }
        vm.record.state = VmState::Cut { why: why.to_owned() };
        let address = vm.record.address;
        self.cx.dirty.vms = true;
        self.cx.notice(Level::Error, "vm-cut", format!("{id} ({address}) is cut off: {why}"));
    }
}

impl<'a> NetworkRef<'a> {
    /// True while every link of its path, both ways, can be used.
    pub(crate) fn has_way(self, record: &VmRecord) -> bool {
        self.is_alive(&record.path_up) && self.is_alive(&record.path_down)
    }

    fn is_alive(self, path: &[Hop]) -> bool {
        path.iter().all(|hop| self.net.links.is_usable(hop.link))
    }

    /// A way for a VM from where it is to its gateway: the default path if it is alive and has room, else by residual bandwidth; its
    /// own uplink first.
    pub(crate) fn way(self, record: &VmRecord, rate: BitRate) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        let count = topology.server(record.server)?.uplinks.len() as u32;
        let others = (0..count).filter(|u| *u != record.uplink);
        for uplink in std::iter::once(record.uplink).chain(others) {
            let default = compile::paths_via(
                topology,
                &self.net.routes,
                record.server,
                uplink as usize,
                record.gateway,
            )
            .filter(|(up, down)| {
                self.net.links.shortage(up, rate).is_none() && self.net.links.shortage(down, rate).is_none()
            })
            .filter(|(up, down)| self.is_alive(up) && self.is_alive(down))
            .filter(|(up, down)| {
                self.net.live.path_is_attended(&self.net.links, up)
                    && self.net.live.path_is_attended(&self.net.links, down)
            });
            let found = default.or_else(|| self.detour(record.server, uplink as usize, record.gateway, rate));
            if let Some((path_up, path_down)) = found {
                let (server, gateway) = (record.server, record.gateway);
                return Some(Placement { server, uplink, gateway, path_up, path_down });
            }
        }
        None
    }
}
