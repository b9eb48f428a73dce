//! Groups of VMs that may talk to each other: made, left by a VM that goes, taken away.

use crate::compute::group_rules::is_entry;
use crate::compute::pending_writes::PendingWrite;
use crate::compute::{ComputeMut, ComputeRef};
use crate::rules::desired::Difference;
use crate::rules::transactions::Purpose;
use crate::stored_item::Kept;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_model::{GroupId, GroupRecord, Owner, RequestId, Response, StoreOp, SwitchId, VmId, VmState};

impl ComputeMut<'_> {
    pub(crate) fn create_group(&mut self, request: RequestId, members: &[Ipv4Addr]) {
        let mut ids = Vec::new();
        for ip in members {
            let vm = self
                .compute
                .vms
                .values()
                .find(|v| v.record.address == *ip && v.record.state == VmState::Running);
            match vm {
                Some(vm) => ids.push(vm.record.id),
                None => {
                    let what = format!("a running VM with address {ip}");
                    return self.cx.answer(request, Response::NotFound { what });
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < 2 {
            let why = "a group needs at least two different VMs".into();
            return self.cx.answer(request, Response::Conflict { why });
        }
        if ids.iter().filter(|id| self.compute().is_moving(**id)).count() > 1 {
            let why = "more than one of them is being moved; try again when they have arrived".into();
            return self.cx.answer(request, Response::Conflict { why });
        }
        self.compute.last_group += 1;
        while self.compute.strays.left.has(Owner::Group(self.compute.last_group as u32)) {
            self.compute.last_group += 1;
        }
        let group = GroupRecord { id: GroupId(self.compute.last_group), members: ids, request: None };
        self.compute.groups.insert(group.id, group.clone());
        self.cx.dirty.vms = true;
        let id = group.id;
        self.store(StoreOp::PutGroup { group }, PendingWrite::Group(id, request));
    }

    pub(crate) fn delete_group(&mut self, request: RequestId, group: GroupId) {
        if !self.compute.groups.contains_key(&group) {
            return self.cx.answer(request, Response::NotFound { what: group.to_string() });
        }
        if self.compute.forming.contains_key(&group) {
            let why = "its VMs are still being started; try again when they run".into();
            return self.cx.answer(request, Response::Conflict { why });
        }
        self.store(StoreOp::RemoveGroup { group }, PendingWrite::GroupRemoved(group, request));
    }

    /// A group that cannot be is forgotten, also by the store.
    pub(crate) fn drop_group(&mut self, group: GroupId) {
        self.isolate_group(group);
        self.keep(Kept::Group(group));
    }

    pub(crate) fn isolate_group(&mut self, group: GroupId) {
        let Some(gone) = self.compute.groups.remove(&group) else { return };
        self.cx.dirty.vms = true;
        // What else its members are in has their labels to itself from now on.
        let linked = self.compute().linked_groups(&gone.members);
        self.refresh_each(linked.into_iter().chain([group]).collect());
        self.settle_rates(group);
    }

    pub(crate) fn leave_groups(&mut self, vm: VmId) {
        let mine = self.compute().groups_of(vm);
        let mut members = Vec::new();
        for id in &mine {
            let Some(group) = self.compute.groups.get_mut(id) else { continue };
            group.members.retain(|m| *m != vm);
            members.extend_from_slice(&group.members);
            if group.members.len() < 2 {
                self.compute.groups.remove(id);
                self.cx.dirty.vms = true;
            }
            self.keep(Kept::Group(*id));
        }
        let linked = self.compute().linked_groups(&members).into_iter().filter(|id| !mine.contains(id));
        self.refresh_each(mine.iter().copied().chain(linked).collect());
        mine.into_iter().for_each(|id| self.settle_rates(id));
    }

    pub(crate) fn refresh_group(&mut self, id: GroupId) {
        self.refresh_each(vec![id]);
    }

    pub(crate) fn refresh_groups(&mut self) {
        self.refresh_each(self.compute.groups.keys().copied().collect());
    }

    /// The groups that have members in common with this one.
    pub(crate) fn refresh_linked(&mut self, id: GroupId) {
        let members = self.compute.groups.get(&id).map(|g| g.members.clone()).unwrap_or_default();
        let linked = self.compute().linked_groups(&members);
        self.refresh_each(linked.into_iter().filter(|other| *other != id).collect());
    }

    /// In one change, since what one of them no longer labels another may have to have rules for
    /// first.
    fn refresh_each(&mut self, ids: Vec<GroupId>) {
        let labels = self.compute().labels();
        let mut all: BTreeMap<SwitchId, Difference> = BTreeMap::new();
        for id in ids {
            let rules = self.compute().group_rules_by(id, &labels);
            let (_, differences) = self.rules.desired.replace(Owner::Group(id.0 as u32), rules);
            for (switch, difference) in differences {
                let sum = all.entry(switch).or_default();
                sum.add.extend(difference.add);
                sum.remove.extend(difference.remove);
            }
        }
        // Pairs, which rank higher, before a label goes that did the same.
        all.values_mut().for_each(|d| d.add.sort_by_key(|rule| Reverse(rule.key.priority)));
        if !all.is_empty() {
            self.start_ordered(Purpose::GroupChange, all, &is_entry);
        }
        self.start_group_traffic(None);
    }
}

impl<'a> ComputeRef<'a> {
    pub(crate) fn groups_of(self, vm: VmId) -> Vec<GroupId> {
        self.compute.groups.iter().filter(|(_, g)| g.members.contains(&vm)).map(|(id, _)| *id).collect()
    }
}
