//! VMs and their connectivity as one request: all of it or nothing.
//!
//! ```text
//! RequestVmGroup -> all placed --all Stored--> starting --all ready--> connecting --rules--> publishing --Stored--> answer
//!                      |                          |                        |                     |
//!                      +--------------------------+--- one fails ----------+---------------------+--> taken back -> answer
//! ```
//! 1. All members are placed in one decision, or none is: what the first ones take counts for the
//!    next ones, and what they have taken is given back when one has no place.
//! 2. Each placement is written by itself. A controller that starts again stops whoever has not
//!    run, as with single VMs, so a group that was cut short is undone.
//! 3. Members start as single VMs do, but none of them counts as running before all are ready.
//! 4. The rules between them come next, and are confirmed.
//! 5. The group and all members, now running, are written in one transaction. From here on a
//!    restart finds all of it; before, nothing. Then it is answered.
//!
//! One that fails before that takes all others back; when the last is gone from switches,
//! hypervisors and store, the request is answered.

use crate::compute::group_rules::is_entry;
use crate::compute::pending_writes::PendingWrite;
use crate::compute::placement::{PlacedMember, Room};
use crate::compute::vm::Vm;
use crate::compute::vm_group::{Forming, Reserved, Stage};
use crate::compute::{ComputeMut, ComputeRef, ipam};
use crate::network::place::Placement;
use crate::rejection::refused;
use crate::rules::transactions::Purpose;
use crate::stored_item::Kept;
use std::collections::BTreeSet;
use tandem_model::{
    BitRate, GroupId, GroupRecord, Level, Owner, Rejection, RequestId, Response, StoreOp, VmGroupRequest,
    VmId, VmRecord, VmRequest, VmState,
};

impl ComputeMut<'_> {
    pub(crate) fn request_vm_group(&mut self, id: RequestId, mut request: VmGroupRequest) {
        let count = request.members.len() as u64;
        if count < 2 {
            let why = "a group has at least two VMs; one alone is requested without a group".into();
            return self.cx.answer(id, Response::Conflict { why });
        }
        self.compute.counters.requested += count;
        self.cx.dirty.vms = true;
        self.compute().complete(&mut request);
        if let Some(answer) = self.known_group(id, &request) {
            self.compute.counters.requested -= count;
            return answer.into_iter().for_each(|answer| self.cx.answer(id, answer));
        }
        if self.refuse_taken_names(id, &request) {
            self.compute.counters.rejected += count;
            return;
        }
        if self.compute.world.is_none() {
            self.compute.counters.failed += count;
            let why = self.compute().no_world();
            return self.cx.answer(id, Response::Failed { why });
        }
        let places = match self.place_all(&request) {
            Ok(places) => places,
            Err(rejection) => {
                self.compute.counters.rejected += count;
                self.cx.notice(Level::Warning, "vm-rejected", rejection.summary.clone());
                return self.cx.answer(id, Response::Rejected { rejection });
            }
        };
        self.begin_group(id, request, places);
    }

    /// The answer to a request for a group of a name that there is. `None` where there is none;
    /// nothing yet for one that is on its way, which answers this request too.
    fn known_group(&mut self, id: RequestId, request: &VmGroupRequest) -> Option<Option<Response>> {
        let named = |record: &GroupRecord| record.request.as_ref().is_some_and(|r| r.name == request.name);
        let conflict = |what: &str| {
            let name = &request.name;
            let why = format!(
                "there is a group {name} already, {what}; give this one another name, or delete that one first"
            );
            Some(Some(Response::Conflict { why }))
        };
        if let Some(forming) = self.compute.forming.values_mut().find(|f| named(&f.record)) {
            let is_same = forming.record.request.as_deref() == Some(request);
            if !is_same || forming.stage == Stage::TakenBack {
                return conflict(if is_same { "which is being undone" } else { "requested otherwise" });
            }
            forming.requesters.push(id);
            return Some(None);
        }
        let group = self.compute.groups.values().find(|g| named(g))?;
        if group.request.as_deref() != Some(request) {
            return conflict("requested otherwise");
        }
        if group.members.len() != request.members.len() {
            return conflict("and it has lost members since");
        }
        Some(Some(self.compute().group_running(group)))
    }

    /// Answers a request of whose members one wants a name that another VM, or another member, has;
    /// false where each can have its own.
    fn refuse_taken_names(&mut self, id: RequestId, request: &VmGroupRequest) -> bool {
        if !self.cx.site.vm.unique_names {
            return false;
        }
        let mut own = BTreeSet::new();
        for name in request.members.iter().filter_map(|member| member.name.as_deref()) {
            if !own.insert(name) {
                let why = format!("two of the VMs would be called {name}; give each its own name");
                self.cx.answer(id, Response::Conflict { why });
                return true;
            }
            if self.refuse_taken_name(id, Some(name)) {
                return true;
            }
        }
        false
    }

    /// Places for all members with everything of each reserved, or nothing changed.
    fn place_all(&mut self, request: &VmGroupRequest) -> Result<Vec<Placement>, Rejection> {
        let taken: BTreeSet<&str> = self
            .compute
            .vms
            .values()
            .filter_map(|vm| vm.record.request.constraints.spread.as_ref())
            .map(|spread| spread.tag.as_str())
            .collect();
        let spreads = request
            .members
            .iter()
            .any(|m| m.constraints.spread.as_ref().is_some_and(|s| s.tag == request.name));
        if spreads && taken.contains(request.name.as_str()) {
            let name = &request.name;
            return Err(refused(format!(
                "there are VMs that are kept apart under the tag \"{name}\" already; give the group another name"
            )));
        }
        let mut before: Vec<PlacedMember<'_>> = Vec::new();
        for (n, member) in request.members.iter().enumerate() {
            let compute = self.compute();
            let room = Room { before: &before, rate: request.rate, ..compute.room() };
            match compute.place_member(room, member) {
                Ok(place) => {
                    self.reserve(&place, member);
                    let pairs = self.compute().pairs_with(&before, &place, request.rate);
                    self.reserve_hops(&pairs);
                    before.push(PlacedMember { request: member, place });
                }
                Err(rejection) => {
                    // The last one first, so that each is as it was when it was placed.
                    while let Some(PlacedMember { request: member, place }) = before.pop() {
                        let pairs = self.compute().pairs_with(&before, &place, request.rate);
                        self.release_hops(&pairs);
                        self.release(&place, member);
                    }
                    return Err(of_member(rejection, request, n));
                }
            }
        }
        let places: Vec<Placement> = before.into_iter().map(|member| member.place).collect();
        Ok(places)
    }

    fn begin_group(&mut self, id: RequestId, request: VmGroupRequest, places: Vec<Placement>) {
        self.compute.last_group += 1;
        while self.compute.strays.left.has(Owner::Group(self.compute.last_group as u32)) {
            self.compute.last_group += 1;
        }
        let group = GroupId(self.compute.last_group);
        let mut vms = Vec::new();
        for (member, place) in request.members.iter().zip(places) {
            let edge = self.cx.site.topology.edge_of(place.server, 0);
            // That there is one was part of the decision.
            let address = edge.and_then(|edge| self.compute.addresses.take(edge));
            debug_assert!(address.is_some(), "an edge has an address for each member that was placed there");
            let Some(address) = address else { continue };
            let id = self.next_vm_id();
            let record = VmRecord {
                id,
                request: member.clone(),
                server: place.server,
                uplink: place.uplink,
                gateway: place.gateway,
                mac: ipam::vm_mac(id),
                address,
                path_up: place.path_up,
                path_down: place.path_down,
                pin: None,
                state: VmState::Placed,
                placed_at: self.cx.wall_now(),
                running_at: None,
                expires_at: None,
            };
            self.compute.vms.insert(id, Vm::new(record.clone(), None));
            vms.push(record);
        }
        let members: Vec<VmId> = vms.iter().map(|vm| vm.id).collect();
        // What the pairs have taken is the group's from now on.
        let reserved = self.compute().rates_of(&members, request.rate);
        if !reserved.is_empty() {
            self.compute.pair_rates.insert(group, reserved);
        }
        let forming = Forming {
            record: GroupRecord { id: group, members: members.clone(), request: Some(Box::new(request)) },
            stage: Stage::Placed,
            unwritten: members.iter().copied().collect(),
            connected: false,
            left: members.into_iter().collect(),
            why: String::new(),
            requesters: vec![id],
        };
        self.compute.forming.insert(group, forming);
        for vm in vms {
            let id = vm.id;
            self.store(StoreOp::PutVm { vm: Box::new(vm) }, PendingWrite::Placed(id));
        }
    }

    /// A placement is in the store: true when it is of a group, which goes on when it has all.
    pub(crate) fn member_stored(&mut self, vm: VmId) -> bool {
        let Some(group) = self.compute().forming_of(vm) else { return false };
        let Some(forming) = self.compute.forming.get_mut(&group) else { return false };
        forming.unwritten.remove(&vm);
        match forming.stage {
            Stage::Placed if forming.unwritten.is_empty() => {
                forming.stage = Stage::Starting;
                let members = forming.record.members.clone();
                for member in members {
                    // One that was deleted meanwhile takes all of them back at its turn.
                    if self.compute.forming.get(&group).is_some_and(|f| f.stage == Stage::Starting) {
                        self.start_vm(member);
                    }
                }
            }
            Stage::TakenBack => {
                let why = forming.why.clone();
                self.stop_vm(vm, &why);
            }
            _ => {}
        }
        true
    }

    /// A member is ready, or its rules are: the group goes on when nothing is missing any more.
    pub(crate) fn advance_group(&mut self, group: GroupId) {
        let Some(forming) = self.compute.forming.get(&group) else { return };
        let members = &forming.record.members;
        let is_ready = |id: &VmId| {
            let vm = self.compute.vms.get(id);
            vm.is_some_and(|v| {
                v.record.state == VmState::Starting && v.rules_ready && v.started && v.addressed
            })
        };
        if !members.iter().all(is_ready) {
            return;
        }
        match (forming.stage, forming.connected) {
            (Stage::Starting, _) => self.connect_group(group),
            (Stage::Connecting, true) => self.publish_group(group),
            _ => {}
        }
    }

    fn connect_group(&mut self, group: GroupId) {
        let Some(forming) = self.compute.forming.get_mut(&group) else { return };
        forming.stage = Stage::Connecting;
        let record = forming.record.clone();
        if let Some(why) = self.compute().cannot_connect(&record) {
            return self.take_back(group, &why);
        }
        self.compute.groups.insert(group, record);
        self.cx.dirty.vms = true;
        self.settle_rates(group);
        let rules = self.compute().group_rules(group);
        let (_, differences) = self.rules.desired.replace(Owner::Group(group.0 as u32), rules);
        self.start_ordered(Purpose::GroupForm(group), differences, &is_entry);
    }

    /// The switches have the rules between the members, or have refused them.
    pub(crate) fn group_connected(&mut self, group: GroupId, result: Result<(), String>) {
        if let Err(why) = result {
            return self.take_back(group, &why);
        }
        if let Some(forming) = self.compute.forming.get_mut(&group) {
            forming.connected = true;
            self.advance_group(group);
        }
    }

    fn publish_group(&mut self, group: GroupId) {
        let Some(forming) = self.compute.forming.get_mut(&group) else { return };
        forming.stage = Stage::Publishing;
        let record = forming.record.clone();
        let now = self.cx.wall_now();
        let vms = record.members.iter().filter_map(|id| self.compute().vm(*id)).map(|vm| VmRecord {
            state: VmState::Running,
            running_at: Some(now),
            expires_at: vm.request.timeout.map(|timeout| now + timeout),
            ..vm.clone()
        });
        let vms = vms.collect();
        self.store(StoreOp::PutVmGroup { group: record, vms }, PendingWrite::Formed(group, now));
    }

    /// The store has all of it: it runs.
    pub(crate) fn group_formed(&mut self, group: GroupId, at: tandem_model::Time) {
        let is_published = |f: &Forming| f.stage == Stage::Publishing;
        if !self.compute.forming.get(&group).is_some_and(is_published) {
            return;
        }
        let Some(forming) = self.compute.forming.remove(&group) else { return };
        for id in &forming.record.members {
            let Some(vm) = self.compute.vms.get_mut(id) else { continue };
            vm.record.state = VmState::Running;
            vm.record.running_at = Some(at);
            vm.record.expires_at = vm.record.request.timeout.map(|timeout| at + timeout);
            if let Some(expires) = vm.record.expires_at {
                self.begin_lease(*id, expires);
            }
            self.compute.counters.accepted += 1;
        }
        self.cx.dirty.vms = true;
        let answer = self.compute().group_running(&forming.record);
        forming.requesters.into_iter().for_each(|r| self.cx.answer(r, answer.clone()));
        forming.record.members.iter().for_each(|id| self.announce_run(*id));
        self.refresh_groups();
        for id in forming.record.members {
            self.cut_without_way(id);
            // Its path, or the wall clock, may have changed while it was being written.
            self.keep(Kept::Vm(id));
        }
    }

    /// A member is to stop: true when it is of a group that does not run yet, which is then undone
    /// as a whole.
    pub(crate) fn takes_group_back(&mut self, vm: VmId, why: &str) -> bool {
        let Some(group) = self.compute().forming_of(vm) else { return false };
        let is_new = self.compute.forming.get(&group).is_some_and(|f| f.stage != Stage::TakenBack);
        if is_new {
            let name = self.compute.vms.get(&vm).and_then(|v| v.record.request.name.clone());
            let name = name.map_or(vm.to_string(), |name| format!("{name} ({vm})"));
            self.take_back(group, &format!("{name} cannot run: {why}"));
        }
        is_new
    }

    /// Undoes all of a group; whoever waits is answered when nothing of it is left.
    pub(crate) fn take_back(&mut self, group: GroupId, why: &str) {
        let Some(forming) = self.compute.forming.get_mut(&group) else { return };
        if forming.stage == Stage::TakenBack {
            return;
        }
        let before = std::mem::replace(&mut forming.stage, Stage::TakenBack);
        let name = forming.record.request.as_ref().map_or_else(String::new, |r| r.name.clone());
        forming.why = format!("the group {name} was taken back: {why}");
        let (text, members) = (forming.why.clone(), forming.record.members.clone());
        let unwritten = forming.unwritten.clone();
        self.compute.counters.failed += members.len() as u64;
        self.cx.notice(Level::Error, "group-failed", text.clone());
        if before == Stage::Publishing {
            // The store may have it as running: what a restart finds is stopped, all of it.
            let state = VmState::Stopping { why: text.clone() };
            let vms = members.iter().filter_map(|id| self.compute().vm(*id));
            let vms = vms.map(|vm| VmRecord { state: state.clone(), ..vm.clone() }).collect();
            self.store(StoreOp::TakeBackVmGroup { group, vms }, PendingWrite::TakenBack);
        }
        for id in members {
            // One that is still being written stops when it is.
            if !unwritten.contains(&id) {
                self.stop_vm(id, &text);
            }
        }
        // Rules to its members go after their own.
        if self.compute.groups.contains_key(&group) {
            self.isolate_group(group);
        }
        self.settle_rates(group);
        self.group_member_gone(group, None);
    }

    /// A member is forgotten, also by the store.
    pub(crate) fn group_member_gone(&mut self, group: GroupId, vm: Option<VmId>) {
        let Some(forming) = self.compute.forming.get_mut(&group) else { return };
        if let Some(vm) = vm {
            forming.left.remove(&vm);
        }
        if !forming.left.is_empty() || forming.stage != Stage::TakenBack {
            return;
        }
        let Some(forming) = self.compute.forming.remove(&group) else { return };
        self.settle_rates(group);
        let answer = Response::Failed { why: forming.why };
        forming.requesters.into_iter().for_each(|r| self.cx.answer(r, answer.clone()));
    }

    fn reserve_hops(&mut self, hops: &Reserved) {
        hops.iter().for_each(|(hop, rate)| self.net.links.reserve(&[*hop], BitRate(*rate)));
    }

    fn release_hops(&mut self, hops: &Reserved) {
        hops.iter().for_each(|(hop, rate)| self.net.links.release(&[*hop], BitRate(*rate)));
    }
}

/// A rejection that says which member it is of.
pub(crate) fn of_member(rejection: Rejection, request: &VmGroupRequest, n: usize) -> Rejection {
    let count = request.members.len();
    if count == 1 {
        return rejection;
    }
    let name = request.members.get(n).and_then(|m| m.name.as_deref());
    let name = name.map_or_else(String::new, |name| format!(" ({name})"));
    let rest = match n {
        0 => String::new(),
        1 => ", with the first one placed".to_owned(),
        _ => format!(", with the {n} before it placed"),
    };
    let summary = format!("member {} of {count}{name}{rest}: {}", n + 1, rejection.summary);
    Rejection { summary, ..rejection }
}

impl<'a> ComputeRef<'a> {
    /// What a request leaves to the site, as a single VM's does, and names for members without one.
    pub(crate) fn complete(self, request: &mut VmGroupRequest) {
        for (n, member) in (1..).zip(&mut request.members) {
            member.timeout = member.timeout.or(self.cx.site.vm.lifetime);
            if member.name.is_none() && !request.name.is_empty() {
                member.name = Some(format!("{}-{n}", request.name));
            }
        }
    }

    /// A place for one member, in a class that is kept all along its path.
    pub(crate) fn place_member(self, room: Room<'_>, member: &VmRequest) -> Result<Placement, Rejection> {
        self.rules().class_exists(member)?;
        let place = self.place_in(room, member)?;
        self.rules().class_is_kept(member, &place)?;
        Ok(place)
    }

    /// What a place and those of `before` send to each other.
    pub(crate) fn pairs_with(
        self,
        before: &[PlacedMember<'_>],
        place: &Placement,
        rate: Option<BitRate>,
    ) -> Reserved {
        let Some(rate) = rate else { return Reserved::new() };
        let at = (place.server, place.uplink);
        let mut hops = Reserved::new();
        for mate in before {
            let mate = (mate.place.server, mate.place.uplink);
            let ways = [self.hops_between(at, mate), self.hops_between(mate, at)];
            for hop in ways.into_iter().flatten().flatten() {
                *hops.entry(hop).or_default() += rate.0;
            }
        }
        hops
    }

    /// The group that a VM is of while that does not run yet.
    pub(crate) fn forming_of(self, vm: VmId) -> Option<GroupId> {
        self.compute.forming.values().find(|f| f.left.contains(&vm)).map(|f| f.record.id)
    }

    /// A group, whether it runs already or not.
    pub(crate) fn group_or_forming(self, group: GroupId) -> Option<&'a GroupRecord> {
        let forming = self.compute.forming.get(&group).filter(|f| f.stage != Stage::TakenBack);
        self.compute.groups.get(&group).or(forming.map(|f| &f.record))
    }

    fn group_running(self, group: &GroupRecord) -> Response {
        let vms = group.members.iter().filter_map(|id| self.vm(*id)).cloned().collect();
        Response::VmGroupRunning { group: group.id, vms }
    }

    /// Why the members of a group cannot be connected to their gateways or to each other.
    fn cannot_connect(self, group: &GroupRecord) -> Option<String> {
        let members: Vec<&VmRecord> = group.members.iter().filter_map(|id| self.vm(*id)).collect();
        for (n, a) in members.iter().enumerate() {
            if !self.network().has_way(a) {
                return Some(format!("no live path leads from {} to its gateway", a.id));
            }
            for b in members.iter().take(n) {
                let ways = [(a, b), (b, a)];
                if ways
                    .iter()
                    .any(|(a, b)| self.hops_between((a.server, a.uplink), (b.server, b.uplink)).is_none())
                {
                    return Some(format!("no live way leads between {} and {}", b.id, a.id));
                }
            }
        }
        None
    }
}
