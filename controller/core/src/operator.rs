//! The operator's hand: ports switched off, and VMs' paths pinned to switches. Each is kept in the store, shown, and can be taken back on
//! its own.
//!
//! A port that is off counts as down from the moment that the store has it, whatever its switch says; the switch is told by OFPT_PORT_MOD,
//! and again whenever it connects or says that the port is up. A port that is to be on again while its switch is away stays listed until
//! the switch can be told.
//!
//! A pinned path is a wish that holds for as long as its VM lives. It is admitted like any other path, in both directions over the same
//! links. When it breaks, the VM has another path until the pinned one is alive and has room again.

use crate::classes::refused;
use crate::context::Context;
use crate::live::connected;
use crate::placement::Placement;
use crate::rules::changes::Purpose;
use crate::services::{ComputeMut, NetworkMut, NetworkRef, RulesRef};
use crate::stored::{Kept, StoreWait};
use std::collections::BTreeMap;
use tandem_model::paths::{self, Path};
use tandem_model::{
    BitRate, Dpid, Effect, Hop, Level, LinkId, NearMiss, NodeId, PortNo, PortOverride, Rejection, RequestId,
    Resource, Response, StoreOp, SwitchId, VmId, VmRecord, VmState,
};

/// What the operator wants of ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortOverrides(BTreeMap<(SwitchId, PortNo), PortOverride>);

impl PortOverrides {
    /// True for a port that the operator has switched off.
    pub(crate) fn is_off(&self, switch: SwitchId, port: PortNo) -> bool {
        self.0.get(&(switch, port)).is_some_and(|o| !o.up)
    }

    /// All, in order of switch and port.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PortOverride> {
        self.0.values()
    }

    pub(crate) fn get(&self, switch: SwitchId, port: PortNo) -> Option<PortOverride> {
        self.0.get(&(switch, port)).copied()
    }

    pub(crate) fn restore(&mut self, stored: Vec<PortOverride>) {
        self.0 = stored.into_iter().map(|o| ((o.switch, o.port), o)).collect();
    }

    fn of(&self, switch: SwitchId) -> Vec<PortOverride> {
        self.0.range((switch, PortNo(0))..=(switch, PortNo(u32::MAX))).map(|(_, o)| *o).collect()
    }
}

fn reversed(path: &[Hop]) -> Path {
    path.iter().rev().map(|h| Hop { link: h.link, down: !h.down }).collect()
}

/// True when `wanted` are among `nodes` in that order.
pub(crate) fn in_order(nodes: &[NodeId], wanted: impl Iterator<Item = SwitchId>) -> bool {
    let mut rest = nodes.iter();
    let mut wanted = wanted;
    wanted.all(|s| rest.any(|n| *n == NodeId::Switch(s)))
}

/// True while a VM's path, both ways, goes by the switches that it is pinned to (or it is pinned to none).
pub(crate) fn keeps_pin(topology: &tandem_model::Topology, record: &VmRecord) -> bool {
    let Some(via) = &record.pin else { return true };
    let up = paths::nodes(topology, NodeId::Server(record.server), &record.path_up);
    let down = paths::nodes(topology, NodeId::Gateway(record.gateway), &record.path_down);
    in_order(&up, via.iter().copied()) && in_order(&down, via.iter().rev().copied())
}

// ---- ports ----

impl Context {
    /// `edge1.3`.
    pub(crate) fn port_name(&self, switch: SwitchId, port: PortNo) -> String {
        format!("{}.{port}", self.site.topology.name(NodeId::Switch(switch)))
    }
}

impl<'a> NetworkRef<'a> {
    /// The ports of a link that the operator has switched off.
    pub(crate) fn switched_off(self, link: LinkId) -> Vec<String> {
        let ends = self.cx.site.topology.link(link).into_iter().flat_map(|l| [l.a, l.b]);
        ends.filter_map(|end| match end.node {
            NodeId::Switch(s) if self.net.ports.is_off(s, end.port) => Some(self.cx.port_name(s, end.port)),
            _ => None,
        })
        .collect()
    }
}

impl ComputeMut<'_> {
    pub(crate) fn set_port(&mut self, request: RequestId, switch: SwitchId, port: PortNo, up: bool) {
        let topology = &self.cx.site.topology;
        let name = self.cx.port_name(switch, port);
        let known = topology.link_at(NodeId::Switch(switch), port).is_some()
            || self.net.live.switch(switch).is_some_and(|s| s.ports.contains_key(&port));
        if !known {
            return self.cx.answer(request, Response::NotFound { what: format!("port {name}") });
        }
        if !crate::live::is_openflow(topology, NodeId::Switch(switch)) {
            let why = format!("{name} is on a switch without OpenFlow; switch the port off there by hand");
            return self.cx.answer(request, Response::Rejected { rejection: refused(why) });
        }
        let there = self.net.ports.0.get(&(switch, port)).copied();
        let wish = PortOverride { switch, port, up, since: self.cx.wall_now() };
        match (there, up) {
            (Some(o), up) if o.up == up => self.cx.answer(request, Response::Done),
            (None, true) => {
                let why = format!("{name} was not switched off here; `tandem overrides` lists what was");
                self.cx.answer(request, Response::Rejected { rejection: refused(why) });
            }
            (Some(_), true) if connected(&self.net.live, &self.cx.site.topology, switch).is_some() => {
                self.store(StoreOp::RemovePort { switch, port }, StoreWait::Port(wish, request));
            }
            _ => self.store(StoreOp::PutPort { port: wish }, StoreWait::Port(wish, request)),
        }
    }

    /// The store has what the operator wants of a port.
    pub(crate) fn port_stored(&mut self, wish: PortOverride, request: RequestId) {
        let PortOverride { switch, port, up, .. } = wish;
        let name = self.cx.port_name(switch, port);
        let there = connected(&self.net.live, &self.cx.site.topology, switch);
        if let Some(dpid) = there {
            self.cx.effects.push(Effect::SetPort { switch: dpid, port, up });
        }
        let mut text = if up {
            self.net.ports.0.remove(&(switch, port));
            format!("the operator has switched {name} on again")
        } else {
            format!("the operator has switched {name} off")
        };
        if !up || there.is_none() {
            self.net.ports.0.insert((switch, port), wish);
        }
        if there.is_none() {
            text.push_str("; its switch is away and will be told when it is back");
            if up {
                // It may have been connected when it was asked.
                self.keep(Kept::Port(switch, port));
            }
        }
        self.cx.notice(Level::Info, if up { "port-on" } else { "port-off" }, text);
        self.cx.dirty.switches = true;
        self.network_mut().link_at_changed(switch, port);
        self.cx.answer(request, Response::Done);
    }

    /// A switch has connected: it is told again what the operator wants of its ports.
    pub(crate) fn tell_ports(&mut self, switch: SwitchId, dpid: Dpid) {
        for PortOverride { port, up, .. } in self.net.ports.of(switch) {
            self.cx.effects.push(Effect::SetPort { switch: dpid, port, up });
            if up {
                self.net.ports.0.remove(&(switch, port));
                self.keep(Kept::Port(switch, port));
            }
        }
    }
}

impl NetworkMut<'_> {
    /// A port that is to be off says that it is on: somebody else's doing, or a message from before.
    pub(crate) fn keep_off(&mut self, switch: SwitchId, dpid: Dpid, port: PortNo) {
        if self.net.ports.is_off(switch, port) {
            self.cx.effects.push(Effect::SetPort { switch: dpid, port, up: false });
        }
    }

    pub(crate) fn on_port_refused(&mut self, dpid: Dpid, port: PortNo, why: &str) {
        let name = self.network().switch_name(dpid);
        let text = format!(
            "{name} would not switch port {port} on or off ({why}); its link is avoided as long as `tandem overrides` lists it"
        );
        self.cx.notice(Level::Error, "port-refused", text);
    }
}

// ---- paths ----

impl ComputeMut<'_> {
    pub(crate) fn pin_path(&mut self, request: RequestId, id: VmId, via: Vec<SwitchId>) {
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else {
            return self.cx.answer(request, Response::NotFound { what: id.to_string() });
        };
        if !matches!(record.state, VmState::Running | VmState::Cut { .. }) {
            let why = format!("{id} is {}; only a running VM's path can be pinned", record.state);
            return self.cx.answer(request, Response::Rejected { rejection: refused(why) });
        }
        if self.compute().is_moving(id) {
            let why = format!("{id} is being moved; pin its path when it has arrived");
            return self.cx.answer(request, Response::Rejected { rejection: refused(why) });
        }
        let twice = via.iter().enumerate().any(|(n, s)| via[..n].contains(s));
        if via.is_empty() || twice {
            let why = "name the switches of the path in their order from the server on, each once".to_owned();
            return self.cx.answer(request, Response::Rejected { rejection: refused(why) });
        }
        let wanted = VmRecord { pin: Some(via.clone()), ..record.clone() };
        if let Err(rejection) = self.rules().pinned_way(&wanted) {
            return self.cx.answer(request, Response::Rejected { rejection });
        }
        self.write_pin(id, Some(via), request);
    }

    pub(crate) fn unpin_path(&mut self, request: RequestId, id: VmId) {
        match self.compute.vms.get(&id).map(|v| v.record.pin.is_some()) {
            None => self.cx.answer(request, Response::NotFound { what: id.to_string() }),
            Some(true) if self.compute().is_moving(id) => {
                let why = format!("{id} is being moved; unpin its path when it has arrived");
                self.cx.answer(request, Response::Rejected { rejection: refused(why) });
            }
            Some(false) => {
                let why = format!("{id}'s path is not pinned; `tandem overrides` lists those that are");
                self.cx.answer(request, Response::Rejected { rejection: refused(why) });
            }
            Some(true) => self.write_pin(id, None, request),
        }
    }

    fn write_pin(&mut self, id: VmId, pin: Option<Vec<SwitchId>>, request: RequestId) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        self.compute.pinned.insert(id);
        let before = std::mem::replace(&mut vm.record.pin, pin);
        let vm = Box::new(vm.record.clone());
        self.cx.dirty.vms = true;
        self.store(StoreOp::PutVm { vm }, StoreWait::Pin(id, before, request));
    }

    /// The store has a pin, or that there is none any more.
    pub(crate) fn pin_stored(&mut self, id: VmId, before: Option<Vec<SwitchId>>, request: RequestId) {
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else {
            return self.cx.answer(request, Response::NotFound { what: id.to_string() });
        };
        if !matches!(record.state, VmState::Running | VmState::Cut { .. }) {
            return self.cx.answer(request, Response::Done);
        }
        if record.pin.is_none() {
            self.cx.notice(Level::Info, "path-unpinned", format!("{id}'s path is no longer pinned"));
            self.reroute(id, &record);
            self.groups_follow(&record);
            return self.cx.answer(request, Response::Done);
        }
        if keeps_pin(&self.cx.site.topology, &record) && self.network().has_way(&record) {
            self.cx.notice(Level::Info, "path-pinned", format!("{id}'s path is pinned as it is"));
            return self.cx.answer(request, Response::Done);
        }
        match self.rules().pinned_way(&record) {
            Ok(new) => {
                let text = format!("{id}'s path is pinned to {}", self.cx.pin_names(&record));
                self.go(id, &record, new, (Level::Info, "path-pinned", text));
                self.cx.answer(request, Response::Done);
            }
            // Its room went to somebody else while the store was writing.
            Err(rejection) => {
                if let Some(vm) = self.compute.vms.get_mut(&id) {
                    vm.record.pin = before;
                }
                self.keep(Kept::Vm(id));
                self.cx.answer(request, Response::Rejected { rejection });
            }
        }
    }

    pub(crate) fn pin_not_stored(&mut self, id: VmId, before: Option<Vec<SwitchId>>) {
        if let Some(vm) = self.compute.vms.get_mut(&id) {
            vm.record.pin = before;
        }
        self.cx.dirty.vms = true;
    }

    /// A pinned VM, after the topology has changed.
    pub(crate) fn reroute_pinned(&mut self, id: VmId, record: &VmRecord) {
        let cut = matches!(record.state, VmState::Cut { .. });
        let (alive, kept) =
            (!cut && self.network().has_way(record), keeps_pin(&self.cx.site.topology, record));
        if alive && kept {
            return self.install(id, Purpose::VmMove(id));
        }
        if let Ok(new) = self.rules().pinned_way(record) {
            let text = format!("{id} has its pinned path by {}", self.cx.pin_names(record));
            return self.go(id, record, new, (Level::Info, "path-back", text));
        }
        if alive {
            return self.install(id, Purpose::VmMove(id));
        }
        if kept {
            let text = format!(
                "{id}'s pinned path by {} is broken; it has another, and goes back when it can",
                self.cx.pin_names(record)
            );
            self.cx.notice(Level::Warning, "path-left", text);
        }
        self.reroute(id, record);
    }

    /// Pinned VMs that had to leave their path go back where that is possible now.
    pub(crate) fn return_to_pins(&mut self) {
        let topology = &self.cx.site.topology;
        let away = |r: &&VmRecord| {
            matches!(r.state, VmState::Running | VmState::Cut { .. })
                && !keeps_pin(topology, r)
                && self.compute().moving(r.id).is_none()
        };
        let pinned = self.compute.pinned.iter().filter_map(|id| self.compute.vms.get(id)).map(|v| &v.record);
        let away: Vec<VmRecord> = pinned.filter(away).cloned().collect();
        for record in away {
            if let Ok(new) = self.rules().pinned_way(&record) {
                let text = format!("{} has its pinned path by {}", record.id, self.cx.pin_names(&record));
                self.go(record.id, &record, new, (Level::Info, "path-back", text));
            }
        }
    }

    fn go(&mut self, id: VmId, record: &VmRecord, new: Placement, notice: (Level, &str, String)) {
        let old = Placement::of(record);
        self.release(&old, &record.request);
        self.take_way(id, &old, new, notice);
        self.groups_follow(record);
    }
}

impl Context {
    pub(crate) fn pin_names(&self, record: &VmRecord) -> String {
        let name = |s: &SwitchId| self.site.topology.name(NodeId::Switch(*s)).to_owned();
        record.pin.iter().flatten().map(name).collect::<Vec<_>>().join(" - ")
    }
}

impl<'a> RulesRef<'a> {
    /// A way by the switches that a VM is pinned to, with room for it on every link that it is not on already; by its own uplink first.
    fn pinned_way(self, record: &VmRecord) -> Result<Placement, Rejection> {
        let new = self.network().look_for_pinned_way(record)?;
        self.class_is_kept(&record.request, &new)?;
        Ok(new)
    }
}

impl<'a> NetworkRef<'a> {
    fn look_for_pinned_way(self, record: &VmRecord) -> Result<Placement, Rejection> {
        let (server, gateway) = (record.server, record.gateway);
        let count = self.cx.site.topology.server(server).map_or(0, |s| s.uplinks.len()) as u32;
        let others = (0..count).filter(|u| *u != record.uplink);
        let mut nearest = Vec::new();
        for uplink in std::iter::once(record.uplink).chain(others) {
            match self.by_way_of(record, uplink) {
                Ok(up) => {
                    let path_down = reversed(&up);
                    return Ok(Placement { server, uplink, gateway, path_up: up, path_down });
                }
                Err(miss) if nearest.contains(&miss) => {}
                Err(miss) => nearest.push(miss),
            }
        }
        let counts = nearest.iter().fold(BTreeMap::<Resource, u32>::new(), |mut all, miss| {
            *all.entry(miss.resource).or_default() += 1;
            all
        });
        let short: Vec<String> = counts.keys().map(ToString::to_string).collect();
        let summary = format!(
            "{}'s path cannot go by {}: short of {}",
            record.id,
            self.cx.pin_names(record),
            short.join(", ")
        );
        Err(Rejection { summary, counts: counts.into_iter().collect(), nearest })
    }

    /// A path by some switches in their order, on which every link has room both ways; or the first link that has none, or the first stop
    /// that cannot be reached at all.
    fn by_way_of(self, record: &VmRecord, uplink: u32) -> Result<Path, NearMiss> {
        let rate = record.request.resources.net;
        let with_room = self.walk(record, uplink, rate);
        // A detour around a full link may be where there is no way on: then the shortest way says which link it was.
        let path = match with_room.or_else(|_| self.walk(record, uplink, BitRate(0))) {
            Ok(path) => path,
            Err(stop) => {
                let place = self.cx.site.topology.name(stop).to_owned();
                return Err(NearMiss { place, resource: Resource::Path, needed: 1, available: 0 });
            }
        };
        let full = |hop: &&Hop| self.room(record, **hop).is_none_or(|left| left < rate);
        let back = reversed(&path);
        let short = path.iter().chain(&back).find(full).copied();
        short.map_or(Ok(path), |hop| Err(self.link_miss(hop, rate)))
    }

    /// What a hop has left for a VM. Where the VM is already, it has its room: what is measured there is its own traffic too.
    fn room(self, record: &VmRecord, hop: Hop) -> Option<BitRate> {
        let left = self.net.links.residual(hop)?;
        let has = record.path_up.contains(&hop) || record.path_down.contains(&hop);
        Some(if has { left.max(record.request.resources.net) } else { left })
    }

    /// From stop to stop by the shortest way, without passing anything twice; the stop that cannot be reached.
    fn walk(self, record: &VmRecord, uplink: u32, rate: BitRate) -> Result<Path, NodeId> {
        let topology = &self.cx.site.topology;
        let via = record.pin.iter().flatten().map(|s| NodeId::Switch(*s));
        let stops: Vec<NodeId> = via.chain([NodeId::Gateway(record.gateway)]).collect();
        let start = NodeId::Server(record.server);
        let own = topology.server(record.server).and_then(|s| s.uplinks.get(uplink as usize)).copied();
        let (mut path, mut passed) = (Path::new(), vec![start]);
        for (n, stop) in stops.iter().enumerate() {
            let from = passed.last().copied().unwrap_or(start);
            let residual = |hop: Hop| {
                let (tail, head) = (paths::tail(topology, hop)?, paths::head(topology, hop)?);
                let elsewhere = tail == start && Some(hop.link) != own;
                let again = passed.contains(&head) || stops[n + 1..].contains(&head);
                if elsewhere || again || !self.net.live.path_is_attended(&self.net.links, &[hop]) {
                    return None;
                }
                let back = Hop { link: hop.link, down: !hop.down };
                Some(self.room(record, hop)?.min(self.room(record, back)?))
            };
            let part = paths::by_residual(topology, from, *stop, rate, residual).ok_or(*stop)?;
            passed.extend(part.iter().filter_map(|hop| paths::head(topology, *hop)));
            path.extend(part);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_found_in_their_order_only() {
        let nodes: Vec<NodeId> = [3, 1, 2].into_iter().map(|n| NodeId::Switch(SwitchId(n))).collect();
        let has = |wanted: &[u32]| in_order(&nodes, wanted.iter().map(|n| SwitchId(*n)));
        assert!(has(&[]) && has(&[1]) && has(&[3, 2]) && has(&[3, 1, 2]));
        assert!(!has(&[2, 1]) && !has(&[4]) && !has(&[3, 3]));
    }
}
