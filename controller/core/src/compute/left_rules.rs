//! Rules in switches that belong to VMs or groups which may run without a record: they stay until
//! it is known.

use crate::compute::{ComputeMut, ComputeRef};
use crate::network::host_tracker::HostKind;
use crate::network::topology_state;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use tandem_model::{Dpid, Effect, GroupId, Leave, LeftRules, Owner, ServerId, SwitchId, VmId};

impl ComputeMut<'_> {
    /// Servers of which it is known what runs there.
    pub(crate) fn heard_of_servers(&mut self) {
        let all = (0..self.cx.site.topology.servers.len() as u32).map(ServerId);
        self.compute.strays.heard.extend(all.filter(|server| !self.compute.away.contains_key(server)));
    }

    /// What a switch that has just connected leaves.
    pub(crate) fn leave_at_sync(&mut self, switch: SwitchId) -> Leave {
        let leave = self.compute().leave_at(switch);
        self.compute.strays.left.told.insert(switch, leave.clone());
        leave
    }

    /// A switch has told what it keeps although nobody wants it.
    pub(crate) fn on_rules_left(&mut self, dpid: Dpid, left: Vec<LeftRules>) {
        let Some(switch) = self.net.live.id(dpid) else { return };
        let owners: BTreeMap<_, _> = left.into_iter().map(|l| (l.owner, l.addresses)).collect();
        if owners.is_empty() {
            self.compute.strays.left.by_switch.remove(&switch);
        } else {
            self.compute.strays.left.by_switch.insert(switch, owners);
        }
        if self.end_groups() {
            return self.review_left();
        }
        self.tell_leave(switch);
        let held: Vec<Ipv4Addr> = self.compute().kept_addresses([switch]).into_iter().collect();
        self.hold_left(held);
    }

    /// Groups with a member on record end; true when one more has.
    pub(crate) fn end_groups(&mut self) -> bool {
        let is_group = |owner: &Owner| matches!(owner, Owner::Group(_));
        let on_record =
            |a: &Ipv4Addr| self.compute().vm_with(*a).is_some_and(|vm| self.compute.vms.contains_key(&vm));
        let there = self.compute.strays.left.by_switch.values().flatten();
        let ended: Vec<Owner> = there
            .filter(|(owner, addresses)| is_group(owner) && addresses.iter().any(on_record))
            .map(|(owner, _)| *owner)
            .collect();
        let before = self.compute.strays.left.ended.len();
        self.compute.strays.left.ended.extend(ended);
        self.compute.strays.left.ended.len() > before
    }

    /// Looks at everything that is left anew: after VMs became known, or are gone.
    pub(crate) fn review_left(&mut self) {
        self.end_groups();
        let told: Vec<SwitchId> = self.compute.strays.left.told.keys().copied().collect();
        told.into_iter().for_each(|switch| self.tell_leave(switch));
        if !self.compute().may_be_more() {
            self.compute.strays.left.by_switch.clear();
            self.compute.strays.left.ended.clear();
        }
        let switches: Vec<SwitchId> = self.compute.strays.left.by_switch.keys().copied().collect();
        let kept = self.compute().kept_addresses(switches);
        let given_back: Vec<Ipv4Addr> = self.compute.strays.left.held.difference(&kept).copied().collect();
        for address in given_back {
            self.compute.strays.left.held.remove(&address);
            self.compute.addresses.give_back(address);
        }
        self.hold_left(kept.into_iter().collect());
    }

    pub(crate) fn tell_leave(&mut self, switch: SwitchId) {
        let Some(dpid) = topology_state::connected(&self.net.live, &self.cx.site.topology, switch) else {
            return;
        };
        let leave = self.compute().leave_at(switch);
        if self.compute.strays.left.told.get(&switch) != Some(&leave) {
            self.compute.strays.left.told.insert(switch, leave.clone());
            self.cx.effects.push(Effect::LeaveRules { switch: dpid, leave });
        }
    }

    pub(crate) fn hold_left(&mut self, addresses: Vec<Ipv4Addr>) {
        for address in addresses {
            if self.compute.addresses.hold(address) {
                self.compute.strays.left.held.insert(address);
            }
        }
    }
}

impl<'a> ComputeRef<'a> {
    pub(crate) fn all_is_heard(self) -> bool {
        self.compute.strays.heard.len() >= self.cx.site.topology.servers.len()
    }

    /// True while VMs may run that are not on record.
    pub(crate) fn may_be_more(self) -> bool {
        !self.all_is_heard() || self.compute.strays.iter().any(|s| s.found.runs)
    }

    pub(crate) fn leave_at(self, switch: SwitchId) -> Leave {
        if !self.may_be_more() {
            return Leave::Nothing;
        }
        let there = self.compute.strays.left.by_switch.get(&switch).into_iter().flatten();
        let but = there.filter(|(owner, addresses)| !self.stays(**owner, addresses)).map(|(o, _)| *o);
        Leave::Unknown { but: but.collect() }
    }

    /// True when the rules of that owner may be somebody's who is not on record.
    pub(crate) fn stays(self, owner: Owner, addresses: &BTreeSet<Ipv4Addr>) -> bool {
        if self.rules.desired.of(owner).is_some() {
            // Until the rules of a stray are in all switches, those of before carry its packets.
            return matches!(owner, Owner::Vm(n) if self.compute.strays.unsettled.contains(&VmId(u64::from(n))));
        }
        match owner {
            Owner::Vm(n) => {
                let id = VmId(u64::from(n));
                let runs = || self.compute.strays.of(id).any(|s| s.found.runs);
                let is_anothers = |a: &Ipv4Addr| self.vm_with(*a).is_some_and(|other| other != id);
                !self.compute.vms.contains_key(&id)
                    && !addresses.iter().any(is_anothers)
                    && (!self.all_is_heard() || runs())
            }
            Owner::Group(n) => {
                !self.compute.groups.contains_key(&GroupId(u64::from(n)))
                    && !self.compute.strays.left.ended.contains(&owner)
            }
            Owner::Migration(_) => true,
            Owner::Base | Owner::Fabric | Owner::Admin(_) => false,
        }
    }

    /// The VM, on record or served, that has an address.
    pub(crate) fn vm_with(self, address: Ipv4Addr) -> Option<VmId> {
        match self.net.hosts.get(address)?.kind {
            HostKind::Vm(id) => Some(id),
            _ => None,
        }
    }

    /// The addresses of what stays in these switches.
    pub(crate) fn kept_addresses(self, switches: impl IntoIterator<Item = SwitchId>) -> BTreeSet<Ipv4Addr> {
        let left = &self.compute.strays.left.by_switch;
        let there = switches.into_iter().filter_map(|switch| left.get(&switch)).flatten();
        let stays = there.filter(|(owner, addresses)| self.stays(**owner, addresses));
        stays.flat_map(|(_, addresses)| addresses).copied().collect()
    }
}
