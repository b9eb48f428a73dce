//! Links that fail while a VM moves.
//!
//! Before the switch-over the VM is at its old place. When that is cut, it gets another way there,
//! and the new place's paths are laid anew beside it; when only the new place is cut, those are
//! laid anew alone; where that cannot be done, the migration is undone. A VM that has no way left
//! at its old place keeps moving: that may be what saves it. From the switch-over on the new place
//! is what counts: it gets another way, beside the old one if that can be, else alone.

use crate::compute::moves::{ActivePlaces, at};
use crate::migration::{MigrationMut, MigrationRef};
use crate::network::path_tree;
use crate::network::place::Placement;
use crate::rules::transactions::Purpose;
use crate::stored_item;
use tandem_model::{BitRate, Effect, Level, MigrationId, NodeId, Phase, Place, VmId, VmRecord, VmState};

impl MigrationMut<'_> {
    /// Looks at the paths of a VM that moves, and at that of its move.
    pub(crate) fn reroute_moving(&mut self, vm: VmId) {
        let Some((id, over)) = self.compute().moving(vm).map(|m| (m.record.id, m.is_over())) else { return };
        self.mend_transfer(id);
        if self.compute.vms.get(&vm).is_some_and(|v| matches!(v.record.state, VmState::Stopping { .. })) {
            return;
        }
        if over {
            self.mend_new(id, vm);
        } else {
            self.mend_old(id, vm);
        }
        self.mend_way(vm);
    }

    /// The new place was given up, but the hypervisors were faster than the cancel: it is wanted
    /// again.
    pub(crate) fn reach_new_again(&mut self, id: MigrationId) {
        let Some(m) = self.compute.migrations.open.get(&id).filter(|m| m.reach == ActivePlaces::Old) else {
            return;
        };
        let vm = m.record.vm;
        let reach = if self.migration().are_tree(&m.record.from, &m.record.to) {
            ActivePlaces::Both
        } else {
            ActivePlaces::New
        };
        if let Some(m) = self.compute.migrations.open.get_mut(&id) {
            m.reach = reach;
        }
        self.expect_at(vm);
        self.reroute_moving(vm);
    }

    fn mend_old(&mut self, id: MigrationId, vm: VmId) {
        let (Some(m), Some(record)) =
            (self.compute().moving(vm), self.compute.vms.get(&vm).map(|v| v.record.clone()))
        else {
            return;
        };
        let (mut from, to) = (m.record.from.clone(), m.record.to.clone());
        let goes_on = m.reach == ActivePlaces::Both || m.record.phase == Phase::Reserve;
        let size = m.size_at_new_place(&record);
        let (from_stands, to_stands) =
            (self.migration().is_way(&record, &from), self.migration().is_way(&record, &to));
        if from_stands && (to_stands || !goes_on) {
            return self.want_again(id, vm);
        }
        self.let_go(id);
        let mut moved = false;
        if !from_stands {
            // Its own reservation is not in its own way.
            self.compute_mut().release(&Placement::at(&from), &record.request);
            let found = self.migration().any_way(&record);
            self.compute_mut().reserve(&Placement::at(&from), &record.request);
            if let Some(found) = found {
                let text = format!("{vm} ({}) has another path", record.address);
                (from, moved) = (found, true);
                self.take_place(vm, &from);
                self.compute.counters.rerouted += 1;
                self.cx.notice(Level::Info, "vm-rerouted", text);
                if from.uplink != record.uplink
                    && let Some(uplink_port) = self.network().server_side_port(&at(&record, &from))
                {
                    self.cx.effects.push(Effect::AttachVm { vm, server: from.server, uplink_port });
                    self.compute_mut().tag_vm(vm);
                }
            }
        }
        let record = at(&record, &from);
        let mut given_up = false;
        let mut new = to.clone();
        if goes_on && (moved || !to_stands) {
            match self.migration().new_place(&record, &from, to.server, size, true) {
                Ok(place) => new = place,
                Err(_) => given_up = true,
            }
        }
        if let Some(m) = self.compute.migrations.open.get_mut(&id) {
            (m.record.from, m.record.to) = (from, new);
            if given_up {
                m.reach = ActivePlaces::Old;
            }
        }
        self.hold(id);
        if moved {
            self.compute_mut().announce(vm);
            self.compute_mut().keep(stored_item::Kept::Vm(vm));
        }
        self.expect_at(vm);
        self.want_again(id, vm);
        let written = matches!(self.compute().moving(vm).map(|m| m.record.phase), Some(Phase::Transfer));
        if written && !given_up {
            self.write_move(id);
        }
        if given_up {
            self.undo_move(
                id,
                "the path of its new place was lost, and there is no other beside its old one",
            );
        }
    }

    fn mend_new(&mut self, id: MigrationId, vm: VmId) {
        let (Some(m), Some(record)) =
            (self.compute().moving(vm), self.compute.vms.get(&vm).map(|v| v.record.clone()))
        else {
            return;
        };
        let (from, to, reach) = (m.record.from.clone(), m.record.to.clone(), m.reach);
        if self.migration().is_way(&record, &to) {
            return self.want_again(id, vm);
        }
        let size = m.size_at_new_place(&record);
        let is_there = record.server == to.server;
        self.let_go(id);
        if is_there {
            self.compute_mut().release(&Placement::of(&record), &record.request);
        }
        let beside = reach == ActivePlaces::Both && self.migration().is_way(&record, &from);
        let tree =
            beside.then(|| self.migration().new_place(&record, &from, to.server, size, true).ok()).flatten();
        let found = tree.clone().or_else(|| self.migration().any_way(&at(&record, &to)));
        if is_there {
            self.compute_mut().reserve(&Placement::of(&record), &record.request);
        }
        if let Some(place) = found {
            if is_there {
                self.take_place(vm, &place);
            }
            if let Some(m) = self.compute.migrations.open.get_mut(&id) {
                m.record.to = place;
                if tree.is_none() {
                    m.reach = ActivePlaces::New;
                }
            }
            self.compute.counters.rerouted += 1;
            self.cx.notice(Level::Info, "vm-rerouted", format!("{vm} ({}) has another path", record.address));
        }
        self.hold(id);
        self.compute_mut().announce(vm);
        if is_there {
            self.compute_mut().keep(stored_item::Kept::Vm(vm));
        } else {
            self.write_move(id);
        }
        self.expect_at(vm);
        self.want_again(id, vm);
    }

    /// The rules as they are wanted now; a move that waits for its rules waits for these too.
    fn want_again(&mut self, id: MigrationId, vm: VmId) {
        let phase = self.compute.migrations.open.get(&id).map(|m| m.record.phase);
        if phase == Some(Phase::Prepare) {
            let wishes = self.migration().both_wanted(vm);
            return self.want(id, Purpose::MovePrepare(id), wishes);
        }
        self.compute_mut().install(vm, Purpose::VmMove(vm));
        self.compute().groups_of(vm).into_iter().for_each(|group| self.compute_mut().refresh_group(group));
        self.compute_mut().settle_rates_of(vm);
    }
}

impl<'a> MigrationRef<'a> {
    /// True when packets can be sent to both places without meeting themselves.
    pub(crate) fn are_tree(self, from: &Place, to: &Place) -> bool {
        let topology = &self.cx.site.topology;
        let gateway = NodeId::Gateway(from.gateway);
        let up = [&from.path_up, &to.path_up].map(|path| path_tree::reversed(path));
        path_tree::is_tree(topology, gateway, &from.path_down, &to.path_down)
            && path_tree::is_tree(topology, gateway, &up[0], &up[1])
    }

    fn is_way(self, vm: &VmRecord, place: &Place) -> bool {
        self.network().has_way(&at(vm, place))
    }

    /// Any way from a VM's server to its gateway: with room if there is one.
    fn any_way(self, vm: &VmRecord) -> Option<Place> {
        let net = vm.request.resources.net;
        let found = self.network().way(vm, net).or_else(|| self.network().way(vm, BitRate(0)))?;
        Some(found.into_place())
    }
}
