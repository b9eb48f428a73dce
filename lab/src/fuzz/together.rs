//! VM groups as one request and constraints: drawn for seeds from [`FROM`] on, so that what other
//! seeds do stays as it was recorded; and what must hold of them.

use super::action::Action;
use super::draw::Draw;
use super::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{
    BitRate, Constraints, Hop, OnPlace, Request, ServerId, Spread, SpreadLevel, VmGroupRequest, VmId,
    VmRecord, VmRequest,
};

/// The first seed whose schedule has requests of this kind.
pub(super) const FROM: u64 = 100_000;
/// Names of groups, and tags, that are drawn.
const NAMES: u32 = 6;

/// What every fourth action of such a schedule is instead.
pub(super) fn action(draw: &mut Draw) -> Option<Action> {
    if !draw.chance(25) {
        return None;
    }
    Some(match draw.below(10) {
        0..=5 => Action::RequestTogether {
            name: draw.below(NAMES),
            size: draw.between(2, 6),
            cpu: draw.between(1, 4),
            rate: if draw.chance(50) { draw.between(1, 12) } else { 0 },
            apart: draw.below(4),
        },
        6..=8 => Action::RequestKept { cpu: draw.between(1, 4), tag: draw.below(NAMES), on: draw.below(64) },
        _ => Action::Explain { size: draw.between(1, 5), cpu: draw.between(1, 12) },
    })
}

fn level(n: u32) -> Option<SpreadLevel> {
    match n {
        0 => Some(SpreadLevel::Server),
        1 => Some(SpreadLevel::Edge),
        _ => None,
    }
}

impl World {
    /// What an action of this kind asks.
    pub(super) fn together(&self, action: Action) -> Option<Request> {
        Some(match action {
            Action::RequestTogether { name, size, cpu, rate, apart } => {
                let name = format!("group{name}");
                let spread = level(apart).map(|level| Spread { level, tag: name.clone() });
                let constraints = Constraints { on: None, spread };
                let member =
                    VmRequest { resources: self.resources(cpu, 10), constraints, ..VmRequest::default() };
                let rate = (rate > 0).then(|| BitRate(self.site.vm.default.net.0 * u64::from(rate) / 10));
                let members = vec![member; size as usize];
                Request::RequestVmGroup { request: Box::new(VmGroupRequest { name, members, rate }) }
            }
            Action::RequestKept { cpu, tag, on } => {
                let tag = format!("tag{tag}");
                let spread = level(on % 3).map(|level| Spread { level, tag });
                let place = OnPlace::Server(self.server(on / 4));
                let constraints = Constraints { on: on.is_multiple_of(4).then_some(place), spread };
                let resources = self.resources(cpu, 10);
                Request::RequestVm { request: VmRequest { resources, constraints, ..VmRequest::default() } }
            }
            Action::Explain { size, cpu } => {
                let member = VmRequest { resources: self.resources(cpu, 10), ..VmRequest::default() };
                let members = vec![member; size as usize];
                let request = VmGroupRequest { members, ..VmGroupRequest::default() };
                Request::ExplainVms { request: Box::new(request) }
            }
            _ => return None,
        })
    }

    /// What groups with a rate have on each hop, by where their members are: for a moment at which
    /// nothing moves.
    pub(super) fn recount_pairs(&mut self, hops: &mut BTreeMap<Hop, u64>) {
        let snapshot = self.core.snapshot();
        for group in snapshot.groups.iter() {
            let Some(rate) = group.rate() else { continue };
            let members: Vec<&VmRecord> = group.members.iter().filter_map(|id| self.core.vm(*id)).collect();
            for a in &members {
                for b in members.iter().filter(|b| b.id != a.id) {
                    let way = self.core.way_between((a.server, a.uplink), (b.server, b.uplink));
                    way.into_iter().flatten().for_each(|hop| *hops.entry(hop).or_default() += rate.0);
                }
            }
        }
    }

    /// A group that was requested with its VMs is there as a whole once, or never: whoever is left
    /// of one was in the store with all of it.
    pub(super) fn check_together(&mut self) {
        let of_a_group = |vm: &&VmRecord| vm.request.name.as_ref().is_some_and(|n| n.starts_with("group"));
        let formed: &BTreeSet<VmId> = &self.store.formed;
        let alone = self.core.vms().filter(of_a_group).find(|vm| !formed.contains(&vm.id));
        let alone = alone.map(|vm| format!("{} ({:?}) is there without its group", vm.id, vm.request.name));
        let broken = alone.is_none().then(|| self.together_that_should_not_be()).flatten();
        if let Some(what) = alone {
            self.violate("when all is quiet, a group request is met as a whole or not at all", what);
        } else if let Some(what) = broken {
            self.violate("when all is quiet, VMs are where their constraints let them be", what);
        }
    }

    fn together_that_should_not_be(&self) -> Option<String> {
        let mut taken: BTreeMap<(String, bool, u32), VmId> = BTreeMap::new();
        for vm in self.core.vms() {
            let constraints = &vm.request.constraints;
            if let Some(OnPlace::Server(only)) = constraints.on
                && only != vm.server
            {
                return Some(format!("{} is on {}, and is kept to {only}", vm.id, vm.server));
            }
            let Some(spread) = &constraints.spread else { continue };
            let by_edge = spread.level == SpreadLevel::Edge;
            let edge = |server: ServerId| self.site.topology.edge_of(server, 0).map_or(u32::MAX, |e| e.0);
            let place = if by_edge { edge(vm.server) } else { vm.server.0 };
            if let Some(other) = taken.insert((spread.tag.clone(), by_edge, place), vm.id) {
                return Some(format!("{other} and {} of \"{}\" are at the same place", vm.id, spread.tag));
            }
        }
        None
    }
}
