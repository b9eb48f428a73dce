//! What a migration reserves.
//!
//! The VM's own reservation stays with the VM. On top of it the migration holds what the other
//! place needs: its server in full, and of its paths those hops that both places do not share. A
//! hop that both use carries the VM's traffic once: upwards only one of them sends, and downwards
//! packets are sent twice only from where the paths part, so that both branches there count in
//! full. So nothing is counted twice that is used once, and no link is ever promised more than it
//! has, whichever place the VM has in the end.

use crate::compute::moves::{HeldResources, Migration};
use crate::migration::{MigrationMut, MigrationRef};
use std::collections::BTreeMap;
use tandem_model::{BitRate, Hop, MigrationId, Place, Resources, ServerId, VmRecord};

type Hops = BTreeMap<Hop, u64>;

fn carried(path: &[Hop], rate: BitRate) -> Hops {
    path.iter().map(|hop| (*hop, rate.0)).collect()
}

/// Per hop the larger of the two, less what is there already.
fn beyond(wanted: [Hops; 2], there: &Hops) -> Vec<(Hop, BitRate)> {
    let [mut all, more] = wanted;
    for (hop, rate) in more {
        let entry = all.entry(hop).or_default();
        *entry = rate.max(*entry);
    }
    let left = |(hop, rate): (Hop, u64)| {
        let left = rate.saturating_sub(there.get(&hop).copied().unwrap_or(0));
        (left > 0).then_some((hop, BitRate(left)))
    };
    all.into_iter().filter_map(left).collect()
}

/// What is reserved for a move, beside what `vm` has where it is now.
pub(crate) fn needed(vm: &VmRecord, from: &Place, to: &Place, grown: Resources) -> HeldResources {
    let has = vm.request.resources;
    let mut servers: BTreeMap<ServerId, Resources> = BTreeMap::new();
    servers.insert(from.server, has);
    servers.insert(to.server, grown);
    if let Some(own) = servers.get_mut(&vm.server) {
        *own = own.minus(has);
    }
    servers.retain(|_, need| *need != Resources::default());
    let up = [carried(&from.path_up, has.net), carried(&to.path_up, grown.net)];
    let down = [carried(&from.path_down, has.net), carried(&to.path_down, grown.net)];
    let mut hops = beyond(up, &carried(&vm.path_up, has.net));
    hops.extend(beyond(down, &carried(&vm.path_down, has.net)));
    HeldResources { servers: servers.into_iter().collect(), hops }
}

impl MigrationMut<'_> {
    /// Reserves what a migration needs as it is now, instead of what it had before.
    pub(crate) fn hold(&mut self, id: MigrationId) {
        self.let_go(id);
        let Some(m) = self.compute.migrations.open.get(&id) else { return };
        let Some(vm) = self.compute.vms.get(&m.record.vm) else { return };
        let grown = m.size_at_new_place(&vm.record);
        let held = needed(&vm.record, &m.record.from, &m.record.to, grown);
        self.take(&held);
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        m.held = held;
        let vm = m.record.vm;
        self.compute_mut().settle_rates_of(vm);
    }

    /// Gives back what a migration holds beside its VM.
    pub(crate) fn let_go(&mut self, id: MigrationId) {
        let Some(held) = self.compute.migrations.open.get_mut(&id).map(|m| std::mem::take(&mut m.held))
        else {
            return;
        };
        self.untake(&held);
    }

    pub(crate) fn take(&mut self, held: &HeldResources) {
        for (server, what) in &held.servers {
            self.compute.inventory.reserve(*server, *what);
            self.cx.dirty.server(*server);
        }
        for (hop, rate) in &held.hops {
            self.net.links.reserve(&[*hop], *rate);
        }
        self.cx.dirty.links = true;
    }

    pub(crate) fn untake(&mut self, held: &HeldResources) {
        for (server, what) in &held.servers {
            self.compute.inventory.release(*server, *what);
            self.cx.dirty.server(*server);
        }
        for (hop, rate) in &held.hops {
            self.net.links.release(&[*hop], *rate);
        }
        self.cx.dirty.links = true;
    }

    /// Reserves another rate for a migration's own traffic, on the path that it has now.
    pub(crate) fn reserve_transfer(&mut self, id: MigrationId, path: Vec<Hop>, rate: BitRate) {
        let Some(m) = self.compute.migrations.open.get_mut(&id) else { return };
        self.net.links.release(&m.record.path, m.reserved);
        self.net.links.reserve(&path, rate);
        (m.record.path, m.reserved) = (path, rate);
        if rate.0 > 0 {
            m.record.rate = rate;
        }
        self.cx.dirty.links = true;
        self.cx.dirty.migrations = true;
    }

    /// Everything that a migration has reserved is free again.
    pub(crate) fn let_go_of_all(&mut self, id: MigrationId) {
        self.let_go(id);
        let path = self.compute.migrations.open.get(&id).map(|m| m.record.path.clone()).unwrap_or_default();
        self.reserve_transfer(id, path, BitRate(0));
    }
}

impl<'a> MigrationRef<'a> {
    /// Others that leave or enter a server now.
    pub(crate) fn moves_at(self, server: ServerId) -> usize {
        let touches = |m: &&Migration| m.record.from.server == server || m.record.to.server == server;
        self.compute.migrations.open.values().filter(touches).count()
    }
}
