//! The traffic that the attached world generates for VMs: with their gateways, or, where the site
//! has a pattern, among the members of groups.
//!
//! A world ignores the start of what it generates already, so a start may be said again: when the
//! world has come back, it is.

use crate::compute::{ComputeMut, ComputeRef};
use std::collections::BTreeMap;
use tandem_model::{
    BitRate, Direction, Effect, TrafficEnd, TrafficId, TrafficPattern, TrafficSpec, VmId, VmRecord, VmState,
};

impl ComputeMut<'_> {
    /// Asks the world for a running VM's traffic.
    pub(crate) fn start_traffic(&mut self, id: VmId) {
        if !self.compute().generates_traffic() {
            return;
        }
        if self.cx.site.traffic.pattern != TrafficPattern::Gateway {
            return self.start_group_traffic(Some(id));
        }
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else { return };
        let Some(gateway) = self.cx.site.topology.gateway(record.gateway) else { return };
        let outside = TrafficEnd::Gateway(record.gateway, gateway.address);
        let inside = TrafficEnd::Vm(id, record.address);
        let directions = match self.cx.site.traffic.direction {
            Direction::ToVm => vec![(false, outside, inside)],
            Direction::FromVm => vec![(true, inside, outside)],
            Direction::Both => vec![(false, outside, inside), (true, inside, outside)],
        };
        let rate = self.cx.site.traffic_rate(record.request.resources.net);
        let mut ids = Vec::new();
        for (from_vm, from, to) in directions {
            let id = TrafficId::with_gateway(id, from_vm);
            ids.push(id);
            let spec = self.compute().traffic(id, &record, (from, to), rate);
            self.cx.effects.push(Effect::TrafficStart { spec });
        }
        if let Some(vm) = self.compute.vms.get_mut(&id) {
            vm.traffic = ids;
        }
    }

    /// Ends a VM's traffic, also that which other members of its groups have with it.
    pub(crate) fn stop_traffic(&mut self, id: VmId) {
        let mut ids =
            self.compute.vms.get_mut(&id).map(|vm| std::mem::take(&mut vm.traffic)).unwrap_or_default();
        self.compute.group_traffic.retain(|flow, ends| {
            let keeps = *ends != id && sender_of(*flow) != sender(id);
            if !keeps {
                ids.push(*flow);
            }
            keeps
        });
        self.cx.effects.extend(ids.into_iter().map(|id| Effect::TrafficStop { id }));
    }

    /// Starts and ends what the site's pattern wants among the members of groups as they are now;
    /// what runs already is said again where it is of the VM `again`.
    pub(crate) fn start_group_traffic(&mut self, again: Option<VmId>) {
        if self.cx.site.traffic.pattern == TrafficPattern::Gateway || !self.compute().generates_traffic() {
            return;
        }
        let wanted = self.compute().group_flows();
        let gone: Vec<TrafficId> =
            self.compute.group_traffic.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        for id in gone {
            self.compute.group_traffic.remove(&id);
            self.cx.effects.push(Effect::TrafficStop { id });
        }
        for (id, (from, to, rate)) in wanted {
            let is_of = |vm: VmId| from == vm || to == vm;
            if self.compute.group_traffic.insert(id, to).is_some() && !again.is_some_and(is_of) {
                continue;
            }
            let Some(sender) = self.compute.vms.get(&from).map(|v| v.record.clone()) else { continue };
            let Some(receiver) = self.compute.vms.get(&to).map(|v| v.record.address) else { continue };
            let ends = (TrafficEnd::Vm(from, sender.address), TrafficEnd::Vm(to, receiver));
            let spec = self.compute().traffic(id, &sender, ends, rate);
            self.cx.effects.push(Effect::TrafficStart { spec });
        }
    }
}

/// The part of a flow's id that says which VM of a group sends it ([`TrafficId::between`]).
fn sender_of(flow: TrafficId) -> u64 {
    flow.0 & ((1 << 31) - 1)
}

fn sender(vm: VmId) -> u64 {
    sender_of(TrafficId::between(vm, vm))
}

/// What a pattern wants: each flow's sender, receiver and rate.
type Wanted = BTreeMap<TrafficId, (VmId, VmId, BitRate)>;

/// To so many others a member of a group sends at most: beyond it, flows would grow with the square
/// of the group.
const PEERS: usize = 63;

impl ComputeRef<'_> {
    fn generates_traffic(self) -> bool {
        self.cx.site.traffic.enabled && self.compute.world.as_ref().is_some_and(|w| w.traffic)
    }

    /// A VM's flow, of the tool that its request, its class or the site names, in this order.
    fn traffic(
        self,
        id: TrafficId,
        vm: &VmRecord,
        ends: (TrafficEnd, TrafficEnd),
        rate: BitRate,
    ) -> TrafficSpec {
        let site = &self.cx.site;
        let class = vm.request.class;
        let of_class = site.class(class).and_then(|(_, c)| c.traffic);
        let transport = vm.request.traffic.or(of_class).unwrap_or_else(|| site.traffic.tool_of(id));
        TrafficSpec { id, from: ends.0, to: ends.1, rate, transport, packet: site.traffic.packet, class }
    }

    /// Members that do not run send nothing and receive nothing. Who sends to several shares its
    /// rate among them; two groups that have two members in common have one flow between these.
    fn group_flows(self) -> Wanted {
        let mut wanted = Wanted::new();
        let runs = |id: &VmId| self.compute.vms.get(id).is_some_and(|v| v.record.state == VmState::Running);
        for group in self.compute.groups.values() {
            let members: Vec<VmId> = group.members.iter().filter(|id| runs(id)).copied().collect();
            let Some((first, others)) = members.split_first() else { continue };
            let mut want = |from: VmId, to: VmId, among: usize| {
                let Some(vm) = self.compute.vms.get(&from) else { return };
                let whole = self.cx.site.traffic_rate(vm.record.request.resources.net);
                wanted.insert(TrafficId::between(from, to), (from, to, BitRate(whole.0 / among as u64)));
            };
            match self.cx.site.traffic.pattern {
                TrafficPattern::Gateway => {}
                TrafficPattern::Incast => others.iter().for_each(|from| want(*from, *first, 1)),
                TrafficPattern::AllToAll => {
                    let peers = others.len().min(PEERS);
                    for (n, from) in members.iter().enumerate() {
                        let next = members.iter().cycle().skip(n + 1);
                        next.take(peers).for_each(|to| want(*from, *to, peers));
                    }
                }
            }
        }
        wanted
    }
}
