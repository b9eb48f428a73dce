//! Other paths for all VMs that need one, those that are being moved included.

use crate::migration::MigrationMut;
use crate::rules::transactions::Purpose;
use tandem_model::{VmId, VmRecord, VmState};

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
                // Its path stands, but may no longer (or again) be the default one: its exact rules
                // follow.
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
