//! The rules of groups: by labels where that takes fewer, else pair by pair.
//!
//! Both send a packet the same way: by the default routes to its destination's edge. So a group may
//! change from one form to the other, and a packet may meet rules of either on its way, as long as
//! those that are to stay come before the others go.
//!
//! Packets to a member that moves have rules pair by pair, above the labels that it keeps at its
//! old place: to both places, which takes a tree from each sender (see [`crate::migration`]). When
//! the move is settled the labels are those of the new place already; then the pairs go.

use crate::compute::moves::{ActivePlaces, Migration, at};
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::topology_state::Sync;
use crate::network::{attachment, path_tree, topology_state};
use crate::rules::desired::RuleSet;
use crate::rules::dual_rules::union;
use crate::rules::labels::{Label, Place};
use crate::rules::{building_blocks, labels, pairwise, transactions};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{
    BitRate, Cookie, Dpid, Effect, GroupId, GroupRecord, Hop, Level, NodeId, Owner, Prefix, RuleKey,
    SwitchId, TxnId, VmId, VmRecord, VmState,
};

/// What VMs' packets are labelled with, of those that are.
pub(crate) type Labels = BTreeMap<VmId, Label>;

/// True for a rule that sends packets to where others carry them on.
pub(crate) fn is_entry(_: SwitchId, key: &RuleKey) -> bool {
    key.table == 0
}

/// A member of a group.
struct Member<'a> {
    /// Where it is, or where it comes from while it moves.
    here: Cow<'a, VmRecord>,
    /// Where it goes.
    new: Option<VmRecord>,
    /// Packets to it have rules pair by pair.
    paired: bool,
    /// What it is labelled with, if that names the group.
    label: Option<Label>,
}

fn is_labelled(group: &GroupRecord) -> Option<u32> {
    labels::number(group.id).filter(|_| group.members.len() > labels::FEW)
}

impl<'a> ComputeRef<'a> {
    /// The labels that follow from the groups as they are.
    pub(crate) fn labels(self) -> Labels {
        let mut groups: BTreeMap<VmId, Vec<u32>> = BTreeMap::new();
        for (group, number) in self.compute.groups.values().filter_map(|g| Some((g, is_labelled(g)?))) {
            group.members.iter().for_each(|vm| groups.entry(*vm).or_default().push(number));
        }
        groups.into_iter().filter_map(|(vm, numbers)| Some((vm, Label::new(numbers)?))).collect()
    }

    pub(crate) fn group_rules(self, id: GroupId) -> RuleSet {
        self.labelled_rules(id, &self.labels(), |m| m.reach, None)
    }

    /// The same with labels that are known.
    pub(crate) fn group_rules_by(self, id: GroupId, labels: &Labels) -> RuleSet {
        self.labelled_rules(id, labels, |m| m.reach, None)
    }

    /// A group's rules as if one of its members that moves was at its old place only, and with
    /// pairs to it there: what sends packets to it, whatever else it has.
    pub(crate) fn group_rules_to_old(self, id: GroupId, vm: VmId) -> RuleSet {
        let reach = |m: &Migration| if m.record.vm == vm { ActivePlaces::Old } else { m.reach };
        self.labelled_rules(id, &self.labels(), reach, Some(vm))
    }

    /// A group's rules as if its members that move had the places that `reach` says; with pairs to
    /// `paired` in any case.
    fn labelled_rules(
        self,
        id: GroupId,
        labels: &Labels,
        reach: impl Fn(&Migration) -> ActivePlaces,
        paired: Option<VmId>,
    ) -> RuleSet {
        let Some(group) = self.compute.groups.get(&id) else { return RuleSet::new() };
        let number = is_labelled(group);
        // Those that were requested together are connected before the first of them counts as running.
        let forms = self.compute.forming.contains_key(&id);
        let alive = |r: &&VmRecord| match r.state {
            VmState::Running | VmState::Cut { .. } => true,
            VmState::Starting => forms,
            _ => false,
        };
        let records =
            group.members.iter().filter_map(|m| self.compute.vms.get(m)).map(|v| &v.record).filter(alive);
        let members: Vec<Member<'_>> = records
            .map(|r| {
                let moves = self.moving(r.id).map(|m| (&m.record, reach(m)));
                let (here, new) = match moves {
                    None => (Cow::Borrowed(r), None),
                    Some((m, ActivePlaces::Old)) => (Cow::Owned(at(r, &m.from)), None),
                    Some((m, ActivePlaces::New)) => (Cow::Owned(at(r, &m.to)), None),
                    Some((m, ActivePlaces::Both)) => (Cow::Owned(at(r, &m.from)), Some(at(r, &m.to))),
                };
                let paired =
                    paired == Some(r.id) || moves.is_some_and(|(_, reach)| reach != ActivePlaces::Old);
                let label = labels.get(&r.id).copied().filter(|l| number.is_some_and(|n| l.names(n)));
                Member { here, new, paired, label }
            })
            .collect();
        let mut rules = RuleSet::new();
        if let Some(number) = number {
            self.by_labels(number, &members, &mut rules);
        }
        self.by_pairs(id, &members, rules)
    }

    fn by_labels(self, number: u32, members: &[Member<'_>], rules: &mut RuleSet) {
        let places: Vec<Place<'_>> = members
            .iter()
            .flat_map(|m| {
                let here = Place { vm: &m.here, label: m.label, receives: true };
                let new = m.new.as_ref().map(|vm| Place { vm, label: m.label, receives: false });
                std::iter::once(here).chain(new)
            })
            .collect();
        let fabric = labels::Fabric {
            marking: building_blocks::Marking { site: &self.cx.site, queues: self.rules.classes.queues() },
            routes: &self.net.routes,
            metadata: &|switch| self.rules.desired.has_metadata(switch),
        };
        labels::group(&fabric, number, &places, rules);
    }

    fn by_pairs(self, id: GroupId, members: &[Member<'_>], mut rules: RuleSet) -> RuleSet {
        let topology = &self.cx.site.topology;
        let cookie = Cookie::new(Owner::Group(id.0 as u32), 0);
        let marking = building_blocks::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        let unable = |switch: SwitchId| !self.rules.desired.has_metadata(switch);
        let some_are_unable = (0..topology.switches.len() as u32).any(|n| unable(SwitchId(n)));
        let way = |a: &VmRecord, b: &VmRecord| pairwise::way(topology, &self.net.routes, a, b);
        for a in members {
            for b in members.iter().filter(|b| b.here.id != a.here.id) {
                let by_label = a.label.is_some() && !b.paired;
                if by_label && !some_are_unable {
                    continue;
                }
                let meant = |switch| !by_label || unable(switch);
                let to = Prefix::host(b.here.address);
                let Some(trunk) = way(&a.here, &b.here) else { continue };
                pairwise::pair(marking, (&a.here, &b.here), &trunk, cookie, &meant, &mut rules);
                let more = [
                    b.new.as_ref().map(|new| (&*a.here, new, self.way_to_new(&a.here, &trunk, new))),
                    a.new.as_ref().map(|new| (new, &*b.here, way(new, &b.here))),
                ];
                for (a, b, path) in more.into_iter().flatten() {
                    let Some(path) = path else { continue };
                    let mut new = RuleSet::new();
                    pairwise::pair(marking, (a, b), &path, cookie, &meant, &mut new);
                    rules = union(rules, new, to);
                }
            }
        }
        rules
    }

    /// The way from a VM to the new place of another of its group: the one that it will have in the
    /// end if that makes a tree with the one that it has, or else a branch of that.
    fn way_to_new(self, a: &VmRecord, trunk: &[Hop], b: &VmRecord) -> Option<Vec<Hop>> {
        let topology = &self.cx.site.topology;
        let edge = |vm| attachment::server_port(topology, vm).map(|(switch, _)| NodeId::Switch(switch));
        let (start, target) = (edge(a)?, edge(b)?);
        let last = pairwise::way(topology, &self.net.routes, a, b);
        last.filter(|path| path_tree::is_tree(topology, start, trunk, path)).or_else(|| {
            self.on_open_terrain(|terrain| {
                path_tree::branches(terrain, (start, trunk), target, BitRate(0), BitRate(0))
                    .into_iter()
                    .next()
            })
        })
    }

    /// Every link that can be used, whatever it has left: a group reserves nothing.
    fn on_open_terrain<R>(self, search: impl FnOnce(&path_tree::SearchConstraints<'_>) -> R) -> R {
        let topology = &self.cx.site.topology;
        let room = |hop: Hop| self.net.links.is_usable(hop.link).then_some(BitRate(u64::MAX));
        let forks = |node| topology_state::is_openflow(topology, node);
        search(&path_tree::SearchConstraints { topology, room: &room, forks: &forks })
    }

    /// The groups that have one of these members: what they are labelled with in one of them may
    /// depend on the others.
    pub(crate) fn linked_groups(self, members: &[VmId]) -> Vec<GroupId> {
        let members: BTreeSet<&VmId> = members.iter().collect();
        let shares = |g: &&GroupRecord| g.members.iter().any(|m| members.contains(m));
        self.compute.groups.values().filter(shares).map(|g| g.id).collect()
    }
}

impl ComputeMut<'_> {
    /// A switch has other tables than before: groups have their rules there in another form. It is
    /// to be sent all of them.
    pub(crate) fn on_tables_changed(&mut self, switch: SwitchId) {
        let labels = self.compute().labels();
        let ids: Vec<GroupId> = self.compute.groups.keys().copied().collect();
        for id in ids {
            let rules = self.compute().group_rules_by(id, &labels);
            let (_, mut differences) = self.rules.desired.replace(Owner::Group(id.0 as u32), rules);
            differences.remove(&switch);
            self.start_ordered(transactions::Purpose::GroupChange, differences, &is_entry);
        }
    }

    /// A switch takes no metadata: it gets rules pair by pair there, with everything else that it
    /// should have, in place of what it refused.
    pub(crate) fn on_metadata_refused(&mut self, dpid: Dpid, refused: TxnId, why: &str) {
        let is_there = |id: &SwitchId| self.net.live.switch(*id).is_some_and(|s| s.connected);
        let Some(id) = self.net.live.id(dpid).filter(is_there) else { return };
        if self.rules.desired.has_two_tables(id) && self.rules.desired.set_abilities(id, true, false) {
            let name = self.network().switch_name(dpid);
            let text = format!(
                "{name} takes no rules with metadata ({why}); groups have rules pair by pair there, as many as the square of their members"
            );
            self.cx.notice(Level::Warning, "metadata-refused", text);
            self.on_tables_changed(id);
        }
        let txn = self.rules.changes.next_txn();
        let rules = self.rules.desired.all(id);
        let leave = self.leave_at_sync(id);
        self.cx.effects.push(Effect::SyncRules { switch: dpid, txn, rules, leave });
        self.cx.dirty.rules(id);
        // Whoever waits for what was refused waits for this.
        self.rules.changes.replace(refused, txn);
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.sync = (Sync::UnderWay, Some(txn));
        }
    }
}
