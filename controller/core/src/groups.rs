//! Groups of VMs that may talk to each other: made, left by a VM that goes, taken away.

use crate::core::Core;
use crate::rules::RuleSet;
use crate::rules::changes::Purpose;
use crate::stored::{Kept, StoreWait};
use std::net::Ipv4Addr;
use tandem_model::{Answer, GroupId, GroupRecord, Owner, Record, RequestId, VmId, VmState};

impl Core {
    pub(crate) fn create_group(&mut self, request: RequestId, members: &[Ipv4Addr]) {
        let mut ids = Vec::new();
        for ip in members {
            let vm =
                self.vms.values().find(|v| v.record.address == *ip && v.record.state == VmState::Running);
            match vm {
                Some(vm) => ids.push(vm.record.id),
                None => {
                    let what = format!("a running VM with address {ip}");
                    return self.answer(request, Answer::NotFound { what });
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < 2 {
            let why = "a group needs at least two different VMs".into();
            return self.answer(request, Answer::Conflict { why });
        }
        if ids.iter().filter(|id| self.is_moving(**id)).count() > 1 {
            let why = "more than one of them is being moved; try again when they have arrived".into();
            return self.answer(request, Answer::Conflict { why });
        }
        self.last_group += 1;
        while self.strays.left.has(Owner::Group(self.last_group as u32)) {
            self.last_group += 1;
        }
        let group = GroupRecord { id: GroupId(self.last_group), members: ids };
        self.groups.insert(group.id, group.clone());
        self.dirty.vms = true;
        let id = group.id;
        self.store(Record::PutGroup { group }, StoreWait::Group(id, request));
    }

    pub(crate) fn delete_group(&mut self, request: RequestId, group: GroupId) {
        if !self.groups.contains_key(&group) {
            return self.answer(request, Answer::NotFound { what: group.to_string() });
        }
        self.store(Record::RemoveGroup { group }, StoreWait::GroupRemoved(group, request));
    }

    /// A group that cannot be is forgotten, also by the store.
    pub(crate) fn drop_group(&mut self, group: GroupId) {
        self.isolate_group(group);
        self.keep(Kept::Group(group));
    }

    pub(crate) fn isolate_group(&mut self, group: GroupId) {
        self.groups.remove(&group);
        self.dirty.vms = true;
        let (_, differences) = self.desired.replace(Owner::Group(group.0 as u32), RuleSet::new());
        self.start_change(Purpose::GroupChange, differences, &[]);
    }

    pub(crate) fn leave_groups(&mut self, vm: VmId) {
        let mine: Vec<GroupId> =
            self.groups.iter().filter(|(_, g)| g.members.contains(&vm)).map(|(id, _)| *id).collect();
        for id in mine {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.members.retain(|m| *m != vm);
            if group.members.len() < 2 {
                self.drop_group(id);
            } else {
                self.keep(Kept::Group(id));
                self.refresh_group(id);
            }
        }
    }

    pub(crate) fn refresh_group(&mut self, id: GroupId) {
        let rules = self.group_rules(id);
        let (_, differences) = self.desired.replace(Owner::Group(id.0 as u32), rules);
        self.start_change(Purpose::GroupChange, differences, &[]);
    }

    pub(crate) fn refresh_groups(&mut self) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        ids.into_iter().for_each(|id| self.refresh_group(id));
    }
}
