//! What the members of a group may send to each other, where a group was requested with a rate: it
//! is reserved on the default ways between them, in both directions, besides what each member has
//! reserved towards its gateway.
//!
//! The reservation follows the members: where one is rerouted or moved, what the group had is given
//! back and taken on its present ways. A member that moves has both its places in it.

use crate::compute::vm_group::Reserved;
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::attachment;
use std::collections::BTreeSet;
use tandem_model::{BitRate, GroupId, Hop, Level, ServerId, VmId, VmRecord};

/// A server and one of its uplinks: where a VM is attached.
pub(crate) type At = (ServerId, u32);

impl<'a> ComputeRef<'a> {
    /// The hops from one place to another by the default way; `None` while there is none.
    pub(crate) fn hops_between(self, a: At, b: At) -> Option<Vec<Hop>> {
        let topology = &self.cx.site.topology;
        let access = |(server, uplink): At| attachment::access_path(topology, server, uplink as usize);
        let edge = |(server, uplink): At| topology.edge_of(server, uplink as usize);
        let (from, to) = (edge(a)?, edge(b)?);
        let mut hops = access(a)?;
        if from != to {
            hops.extend(self.net.routes.follow(topology, from, self.net.routes.edge_index(to)?)?);
        }
        hops.extend(access(b)?.iter().rev().map(|h| Hop { link: h.link, down: !h.down }));
        Some(hops)
    }

    /// Where a VM is, and where it goes while it moves.
    fn places(self, vm: &VmRecord) -> Vec<At> {
        let mut places = vec![(vm.server, vm.uplink)];
        if let Some(m) = self.migration_of(vm.id).filter(|m| !m.settled) {
            for place in [&m.record.from, &m.record.to] {
                let at = (place.server, place.uplink);
                if !places.contains(&at) {
                    places.push(at);
                }
            }
        }
        places
    }

    /// What a group needs on each hop, by where its members are.
    fn wanted_rates(self, group: GroupId) -> Reserved {
        match self.group_or_forming(group) {
            Some(record) => self.rates_of(&record.members, record.rate()),
            None => Reserved::new(),
        }
    }

    /// The same for these members.
    pub(crate) fn rates_of(self, members: &[VmId], rate: Option<BitRate>) -> Reserved {
        let mut wanted = Reserved::new();
        let Some(rate) = rate else { return wanted };
        let members: Vec<Vec<At>> =
            members.iter().filter_map(|id| self.vm(*id)).map(|vm| self.places(vm)).collect();
        for (n, a) in members.iter().enumerate() {
            for b in members.iter().enumerate().filter(|(other, _)| *other != n).map(|(_, b)| b) {
                // Of several places each hop counts once: packets are sent to one of them in the end.
                let ways = a.iter().flat_map(|from| b.iter().map(move |to| (*from, *to)));
                let hops: BTreeSet<Hop> =
                    ways.filter_map(|(from, to)| self.hops_between(from, to)).flatten().collect();
                hops.into_iter().for_each(|hop| *wanted.entry(hop).or_default() += rate.0);
            }
        }
        wanted
    }

    /// What a VM's groups need besides what they have, so that it may be at another server too: on
    /// each hop that what one sends another goes over from there and not from here.
    ///
    /// # Errors
    /// When no way leads from there to one of them.
    pub(crate) fn rates_beyond(self, vm: &VmRecord, to: ServerId) -> Result<Reserved, String> {
        let mut more = Reserved::new();
        let (old, new) = ((vm.server, vm.uplink), (to, 0));
        for group in self.groups_of(vm.id) {
            let Some(record) = self.compute.groups.get(&group) else { continue };
            let Some(rate) = record.rate() else { continue };
            for mate in record.members.iter().filter(|m| **m != vm.id).filter_map(|m| self.vm(*m)) {
                let mate = (mate.server, mate.uplink);
                for (now, then) in [((old, mate), (new, mate)), ((mate, old), (mate, new))] {
                    let has = self.hops_between(now.0, now.1).unwrap_or_default();
                    let Some(way) = self.hops_between(then.0, then.1) else {
                        return Err("no live way leads from there to its group".to_owned());
                    };
                    let beyond: BTreeSet<Hop> = way.into_iter().filter(|hop| !has.contains(hop)).collect();
                    beyond.into_iter().for_each(|hop| *more.entry(hop).or_default() += rate.0);
                }
            }
        }
        Ok(more)
    }

    /// Which link has no room for what a VM and its groups send to each other, if it moves to a
    /// server; `None` when all have. What the VM has towards its gateway may go over the same links.
    pub(crate) fn short_for_mates(self, vm: &VmRecord, to: ServerId) -> Option<String> {
        let more = match self.rates_beyond(vm, to) {
            Ok(more) => more,
            Err(why) => return Some(why),
        };
        let net = vm.request.resources.net.0;
        let is_short = |(hop, needed): &(Hop, u64)| {
            self.net.links.residual(*hop).is_none_or(|left| left.0 < needed + net)
        };
        let (hop, _) = more.into_iter().find(is_short)?;
        let link = self.cx.link_name(hop.link);
        Some(format!("{link} has no room for what it sends to the others of its group"))
    }
}

impl ComputeMut<'_> {
    /// Reserves what a group needs as its members are now, instead of what it had before; nothing
    /// for one that is gone.
    pub(crate) fn settle_rates(&mut self, group: GroupId) {
        let had = self.compute.pair_rates.remove(&group).unwrap_or_default();
        let wanted = self.compute().wanted_rates(group);
        if had == wanted {
            if !wanted.is_empty() {
                self.compute.pair_rates.insert(group, wanted);
            }
            return;
        }
        for (hop, rate) in &had {
            self.net.links.release(&[*hop], BitRate(*rate));
        }
        let more = |(hop, rate): &(&Hop, &u64)| **rate > had.get(hop).copied().unwrap_or_default();
        let short = wanted
            .iter()
            .filter(more)
            .find(|(hop, rate)| self.net.links.residual(**hop).is_none_or(|left| left.0 < **rate));
        if let Some((hop, _)) = short {
            let link = self.cx.link_name(hop.link);
            let text =
                format!("{link} has no room for all that the members of {group} may send to each other");
            self.cx.notice(Level::Warning, "group-overbooked", text);
        }
        for (hop, rate) in &wanted {
            self.net.links.reserve(&[*hop], BitRate(*rate));
        }
        if !wanted.is_empty() {
            self.compute.pair_rates.insert(group, wanted);
        }
        self.cx.dirty.links = true;
    }

    /// The same of all groups: the ways between their members may be others.
    pub(crate) fn settle_all_rates(&mut self) {
        let groups: Vec<GroupId> = self.compute.groups.keys().copied().collect();
        groups.into_iter().for_each(|group| self.settle_rates(group));
    }

    /// The same of all groups that have a VM: it is somewhere else, or is to be.
    pub(crate) fn settle_rates_of(&mut self, vm: VmId) {
        let groups = self.compute().groups_of(vm);
        groups.into_iter().for_each(|group| self.settle_rates(group));
    }
}
