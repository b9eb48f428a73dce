//! What was under way when the controller was killed, or when the hypervisor service went away.
//!
//! The store has a migration from the moment that it is answered, and its phase before anything
//! depends on it. What had not asked the hypervisors yet is undone: nothing else had happened. What
//! had is asked again (the order says how it ended, if it has) with the rules of both places wanted
//! and both reserved. What had only to be tidied up is tidied up: every switch gets all its rules
//! when it connects.

use crate::compute::moves::{ActivePlaces, Migration, MigrationView};
use crate::migration::{MigrationMut, MigrationRef};
use crate::rules::owners;
use crate::rules::owners::transfer_owner;
use crate::timers;
use tandem_model::{Level, MigrationEnd, MigrationRecord, Phase, Place, VmId, VmState};

impl MigrationMut<'_> {
    /// Takes up the migrations of the store. The VMs and groups are there already.
    pub(crate) fn restore_moves(&mut self, stored: Vec<MigrationRecord>, last: u64) {
        self.compute.migrations.last = self.compute.migrations.last.max(last);
        for record in stored {
            self.compute.migrations.last = self.compute.migrations.last.max(record.id.0);
            self.restore_move(record);
        }
    }

    pub(crate) fn restore_move(&mut self, mut record: MigrationRecord) {
        let (id, vm) = (record.id, record.vm);
        let was = self.compute.vms.get(&vm).map(|v| v.record.server);
        let known = [&record.from, &record.to].into_iter().all(|place| self.migration().is_known(place));
        let end = match (was, record.phase) {
            (None, _) => Some(MigrationEnd::Lost { why: "the store has no such VM any more".into() }),
            // The store was told where it is now: only the old place was still to be given up.
            (Some(server), _) if server == record.to.server => Some(MigrationEnd::Moved { downtime: None }),
            _ if !known || self.compute().is_moving(vm) => Some(MigrationEnd::Undone {
                why: "the site has changed, and its places are not there".into(),
            }),
            (_, Phase::Reserve | Phase::Prepare) => Some(MigrationEnd::Undone {
                why: "the controller was restarted before the transfer began".into(),
            }),
            _ => None,
        };
        if let Some(end) = end {
            let (level, kind) = match end {
                MigrationEnd::Moved { .. } => (Level::Info, "migration-ended"),
                _ => (Level::Warning, "migration-undone"),
            };
            let text =
                format!("{id} of {vm}, which was under way when the controller stopped, has ended: {end:?}");
            self.cx.notice(level, kind, text);
            self.remember(MigrationView { record, progress: None, ended: Some((self.cx.wall_now(), end)) });
            return self.write_move(id);
        }
        // One that is to be gone is not moved before.
        let stops = |s: &VmState| matches!(s, VmState::Stopping { .. });
        if record.phase == Phase::Transfer
            && self.compute.vms.get(&vm).is_some_and(|v| stops(&v.record.state))
        {
            record.phase = Phase::Undo;
        }
        let (path, rate) = (record.path.clone(), record.rate);
        let mut m = Migration::new(record, self.cx.now);
        m.why =
            (m.record.phase == Phase::Undo).then(|| "it was cancelled before the controller stopped".into());
        (m.reach, m.ordered, m.uplink) = (ActivePlaces::Both, true, m.record.to.uplink);
        // Its paths may have been changed since it was written (a link failed): only a tree can
        // have both.
        let from =
            self.compute.vms.get(&vm).map(|v| Place::of(&v.record)).unwrap_or_else(|| m.record.from.clone());
        let fits = self.migration().are_tree(&from, &m.record.to);
        m.record.from = from;
        if !fits {
            m.reach = if m.is_over() { ActivePlaces::New } else { ActivePlaces::Old };
        }
        self.compute.migrations.insert(m);
        self.hold(id);
        self.reserve_transfer(id, path, rate);
        self.expect_at(vm);
        let rules = self.compute().vm_rules(vm);
        self.rules.desired.replace(owners::owner(vm), rules);
        let rules = self.migration().transfer_rules(id);
        self.rules.desired.replace(transfer_owner(id), rules);
        self.cx.timers.set(self.cx.now + self.cx.site.migration.timeout, timers::Timer::MoveTimeout(id));
    }

    /// The hypervisor service is (again) there: what it was asked for is asked again.
    pub(crate) fn order_again(&mut self, vm: VmId) -> bool {
        let Some((id, phase)) =
            self.compute().moving(vm).filter(|m| m.ordered).map(|m| (m.record.id, m.record.phase))
        else {
            return false;
        };
        if phase == Phase::Undo {
            self.order_cancel(id)
        } else {
            self.order_move(id)
        }
        true
    }
}

impl<'a> MigrationRef<'a> {
    /// True for a place that the site still has.
    pub(crate) fn is_known(self, place: &Place) -> bool {
        let topology = &self.cx.site.topology;
        topology.edge_of(place.server, place.uplink as usize).is_some()
            && topology.gateway(place.gateway).is_some()
            && place.path_up.iter().chain(&place.path_down).all(|hop| topology.link(hop.link).is_some())
    }
}
