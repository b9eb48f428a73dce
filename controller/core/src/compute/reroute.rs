//! Other paths for running VMs: after a link or a switch is lost, and back to service after one
//! returns.
//!
//! A VM keeps its server, its address and its gateway. It keeps its path too while every link of it
//! is alive, so that nothing moves without need. Rules for the new path come before the old ones
//! go.

use crate::compute::ComputeMut;
use crate::network::attachment;
use crate::network::paths::NO_WAY;
use crate::network::place::Placement;
use crate::rules::transactions::Purpose;
use crate::stored_item::Kept;
use tandem_model::{BitRate, Effect, Level, VmId, VmRecord, VmState};

impl ComputeMut<'_> {
    /// The groups of a VM that was as `before` have it at another port if it has another uplink
    /// now. Where all are looked at, all groups are too.
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
        if moved_uplink {
            self.settle_rates_of(id);
        }
        if moved_uplink && let Some(uplink_port) = self.network().server_side_port(&record) {
            self.cx.effects.push(Effect::AttachVm { vm: id, server: record.server, uplink_port });
            self.tag_vm(id);
            let at = attachment::server_port(&self.cx.site.topology, &record).into_iter().collect();
            self.net.hosts.move_to(record.address, at);
        }
        self.install(id, Purpose::VmMove(id));
        if record.path_down.first() != old.path_down.first() {
            self.announce(id);
        }
        self.cx.notice(level, kind, text);
        self.keep(Kept::Vm(id));
    }

    /// A running VM takes another path although its own would do. It goes back to that one if a
    /// switch refuses the rules.
    pub(crate) fn reroute_by_choice(&mut self, id: VmId, new: Placement, why: &str) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        let record = vm.record.clone();
        vm.former = Some(Placement::of(&record));
        let text = format!("{id} ({}) has another path: {why}", record.address);
        self.go(id, &record, new, (Level::Info, "vm-rerouted", text));
    }

    /// The switches have the rules of a VM's path.
    pub(crate) fn path_confirmed(&mut self, id: VmId) {
        if let Some(vm) = self.compute.vms.get_mut(&id) {
            vm.former = None;
        }
    }

    /// A switch has refused the rules of a VM's path. One that had no need to leave its old path
    /// goes back to it, where its rules have stayed until now; any other is cut off.
    pub(crate) fn path_refused(&mut self, id: VmId, why: &str) {
        let former = self.compute.vms.get_mut(&id).and_then(|vm| vm.former.take());
        let record = self.compute.vms.get(&id).map(|vm| vm.record.clone());
        let (Some(former), Some(record)) = (former, record) else { return self.cut(id, why) };
        let alive = self.network().is_alive(&former.path_up) && self.network().is_alive(&former.path_down);
        let stays = record.state == VmState::Running && record.pin.is_none() && !self.compute().is_moving(id);
        if !alive || !stays || former.server != record.server {
            return self.cut(id, why);
        }
        let text =
            format!("{id} ({}) keeps its path: the rules of another one were refused: {why}", record.address);
        self.go(id, &record, former, (Level::Warning, "reroute-refused", text));
    }

    /// A running VM has no path: it stays where it is, and is tried again with every change of the
    /// topology.
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
