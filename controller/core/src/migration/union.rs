//! The rules of a VM that has two places.
//!
//! Packets to the VM go to both (only one of them has it running, so nothing is doubled, and nothing depends on when it changes over);
//! packets from it take the one way from wherever they are to the gateway. The paths are laid so that this is a tree (see
//! [`super::fork`]); what is left to do here is to send packets out of two ports where it forks.

use super::fork;
use super::state::{Migration, Reach, at};
use crate::core::Core;
use crate::rules::{RuleSet, between, compile, flatten};
use std::borrow::Cow;
use tandem_model::{
    BitRate, Cookie, GroupId, Hop, NodeId, Owner, Prefix, RuleAction, RuleKey, RuleMatch, SwitchId, VlanTag,
    VmId, VmRecord, VmState,
};

fn is_output(action: &RuleAction) -> bool {
    use RuleAction::{Controller, Enqueue, Hairpin, Output};
    matches!(action, Output(_) | Hairpin | Controller | Enqueue { .. })
}

/// Both sets. Of two rules with one key, one for packets to `address` sends them where either would; any other stays as `old` has it.
pub(crate) fn union(old: RuleSet, new: RuleSet, address: Prefix) -> RuleSet {
    let mut all = old;
    for (place, rule) in new {
        match all.get_mut(&place) {
            None => {
                all.insert(place, rule);
            }
            Some(there) if place.1.matching.ip_dst == Some(address) => {
                let more: Vec<RuleAction> = rule
                    .actions
                    .into_iter()
                    .filter(is_output)
                    .filter(|a| !there.actions.contains(a))
                    .collect();
                there.actions.extend(more);
            }
            Some(_) => {}
        }
    }
    all
}

/// True when a switch's rule is one of `rules`, or, in a switch with one table, the product of one of them with another.
pub(crate) fn belongs(rules: &RuleSet, switch: SwitchId, key: &RuleKey) -> bool {
    // One with any tag that is of no VLAN is two there.
    let vlan = key.matching.vlan.map(|_| VlanTag::NoVlan);
    let as_written = RuleKey { matching: RuleMatch { vlan, ..key.matching }, ..*key };
    if rules.contains_key(&(switch, *key)) || rules.contains_key(&(switch, as_written)) {
        return true;
    }
    let second = key.priority % compile::STEP;
    let is_second = |k: &RuleKey| {
        k.table == 1
            && k.priority == second
            && flatten::intersect(&k.matching, &key.matching) == Some(key.matching)
    };
    let least = RuleKey { table: 0, priority: 0, matching: Default::default() };
    key.table == 0
        && second != 0
        && rules
            .range((switch, least)..)
            .take_while(|((s, _), _)| *s == switch)
            .any(|((_, k), _)| is_second(k))
}

impl Core {
    /// What a VM wants of the switches: the rules of its place, or of both that it has while it moves.
    pub(crate) fn vm_rules(&self, id: VmId) -> RuleSet {
        let reach = self.moving(id).map_or(Reach::Old, |m| m.reach);
        self.vm_rules_at(id, reach)
    }

    /// The same as if a VM that moves had these places.
    pub(crate) fn vm_rules_at(&self, id: VmId, reach: Reach) -> RuleSet {
        let Some(vm) = self.vms.get(&id) else { return RuleSet::new() };
        let marking = compile::Marking { site: &self.site, queues: self.classes.queues() };
        let alone = |record: &VmRecord| compile::vm(marking, &self.routes, record, vm.generation);
        let Some(m) = self.moving(id) else { return alone(&vm.record) };
        match reach {
            Reach::Old => alone(&at(&vm.record, &m.record.from)),
            Reach::New => alone(&at(&vm.record, &m.record.to)),
            Reach::Both => {
                let [old, new] = self.exact_rules(id);
                union(old, new, Prefix::host(vm.record.address))
            }
        }
    }

    /// The rules of either place of a VM that moves, each all along its path.
    pub(crate) fn exact_rules(&self, id: VmId) -> [RuleSet; 2] {
        let (Some(vm), Some(m)) = (self.vms.get(&id), self.moving(id)) else { return Default::default() };
        let marking = compile::Marking { site: &self.site, queues: self.classes.queues() };
        [&m.record.from, &m.record.to]
            .map(|place| compile::vm_exact(marking, &at(&vm.record, place), vm.generation))
    }

    pub(crate) fn group_rules(&self, id: GroupId) -> RuleSet {
        self.group_rules_at(id, |m| m.reach)
    }

    /// A group's rules as if its members that move had the places that `reach` says.
    pub(crate) fn group_rules_at(&self, id: GroupId, reach: impl Fn(&Migration) -> Reach) -> RuleSet {
        let Some(group) = self.groups.get(&id) else { return RuleSet::new() };
        let cookie = Cookie::new(Owner::Group(id.0 as u32), 0);
        let marking = compile::Marking { site: &self.site, queues: self.classes.queues() };
        let alive = |r: &&VmRecord| matches!(r.state, VmState::Running | VmState::Cut { .. });
        let records = group.members.iter().filter_map(|m| self.vms.get(m)).map(|v| &v.record).filter(alive);
        // One place of each, and of those that have two the other one too.
        let members: Vec<(Cow<'_, VmRecord>, Option<VmRecord>)> = records
            .map(|r| match self.moving(r.id).map(|m| (&m.record, reach(m))) {
                None => (Cow::Borrowed(r), None),
                Some((m, Reach::Old)) => (Cow::Owned(at(r, &m.from)), None),
                Some((m, Reach::New)) => (Cow::Owned(at(r, &m.to)), None),
                Some((m, Reach::Both)) => (Cow::Owned(at(r, &m.from)), Some(at(r, &m.to))),
            })
            .collect();
        let mut rules = RuleSet::new();
        for (a, a_new) in &members {
            for (b, b_new) in members.iter().filter(|(b, _)| b.id != a.id) {
                let (a, b): (&VmRecord, &VmRecord) = (a, b);
                let usable = |hop: Hop| self.links.is_usable(hop.link);
                let Some(trunk) = between::shortest(&self.site.topology, usable, a, b) else { continue };
                between::pair(marking, a, b, &trunk, cookie, &mut rules);
                let more = [
                    b_new.as_ref().map(|b_new| (a, b_new, self.way_to_new(a, &trunk, b_new))),
                    a_new.as_ref().map(|a_new| (a_new, b, self.way_from_new(a_new, &trunk, b))),
                ];
                for (a, b, path) in more.into_iter().flatten() {
                    let Some(path) = path else { continue };
                    let mut new = RuleSet::new();
                    between::pair(marking, a, b, &path, cookie, &mut new);
                    rules = union(rules, new, Prefix::host(b.address));
                }
            }
        }
        rules
    }

    fn edge(&self, vm: &VmRecord) -> Option<NodeId> {
        compile::server_port(&self.site.topology, vm).map(|(s, _)| NodeId::Switch(s))
    }

    /// The way from a VM to the new place of another of its group: the one that it will have in the end if that makes a tree with the
    /// one that it has, or else a branch of that.
    fn way_to_new(&self, a: &VmRecord, trunk: &[Hop], b: &VmRecord) -> Option<Vec<Hop>> {
        let topology = &self.site.topology;
        let (start, target) = (self.edge(a)?, self.edge(b)?);
        let last = between::shortest(topology, |hop| self.links.is_usable(hop.link), a, b);
        last.filter(|path| fork::is_tree(topology, start, trunk, path)).or_else(|| {
            self.on_open_terrain(|terrain| {
                fork::branches(terrain, (start, trunk), target, BitRate(0), BitRate(0)).into_iter().next()
            })
        })
    }

    /// The way from the new place of a VM to another of its group: one that joins the one that it has.
    fn way_from_new(&self, a: &VmRecord, trunk: &[Hop], b: &VmRecord) -> Option<Vec<Hop>> {
        let topology = &self.site.topology;
        let (source, end) = (self.edge(a)?, self.edge(b)?);
        let last = between::shortest(topology, |hop| self.links.is_usable(hop.link), a, b);
        let back = fork::reversed(trunk);
        last.filter(|path| fork::is_tree(topology, end, &back, &fork::reversed(path))).or_else(|| {
            self.on_open_terrain(|terrain| {
                fork::joins(terrain, (end, trunk), source, BitRate(0), BitRate(0)).into_iter().next()
            })
        })
    }

    /// Every link that can be used, whatever it has left: a group reserves nothing.
    fn on_open_terrain<R>(&self, search: impl FnOnce(&fork::Terrain<'_>) -> R) -> R {
        let topology = &self.site.topology;
        let room = |hop: Hop| self.links.is_usable(hop.link).then_some(BitRate(u64::MAX));
        let forks = |node| crate::live::is_openflow(topology, node);
        search(&fork::Terrain { topology, room: &room, forks: &forks })
    }
}
