//! Manual overrides: ports switched off, and VMs' paths pinned to switches. Each is kept in the
//! store, shown, and can be taken back on its own.
//!
//! A port that is off counts as down from the moment that the store has it, whatever its switch
//! says; the switch is told by OFPT_PORT_MOD, and again whenever it connects or says that the port
//! is up. A port that is to be on again stays listed, and in the store, until its switch has taken
//! that: a controller that is killed meanwhile tells it again.
//!
//! A pinned path is a wish that holds for as long as its VM lives. It is admitted like any other
//! path, in both directions over the same links. When it breaks, the VM has another path until the
//! pinned one is alive and has room again.

use crate::compute::ComputeMut;
use crate::compute::pending_writes::PendingWrite;
use crate::network::pinned_paths::keeps_pin;
use crate::network::place::Placement;
use crate::network::topology_state;
use crate::network::topology_state::connected;
use crate::rejection::refused;
use crate::rules::transactions::Purpose;
use crate::stored_item::Kept;
use tandem_model::{
    Dpid, Effect, Level, NodeId, PortNo, PortOverride, RequestId, Response, StoreOp, SwitchId, VmId,
    VmRecord, VmState,
};

impl ComputeMut<'_> {
    pub(crate) fn set_port(&mut self, request: RequestId, switch: SwitchId, port: PortNo, up: bool) {
        let topology = &self.cx.site.topology;
        let name = self.cx.port_name(switch, port);
        let known = topology.link_at(NodeId::Switch(switch), port).is_some()
            || self.net.live.switch(switch).is_some_and(|s| s.ports.contains_key(&port));
        if !known {
            return self.cx.answer(request, Response::NotFound { what: format!("port {name}") });
        }
        if !topology_state::is_openflow(topology, NodeId::Switch(switch)) {
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
            _ => self.store(StoreOp::PutPort { port: wish }, PendingWrite::Port(wish, request)),
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
        let mut text = match up {
            true => format!("the operator has switched {name} on again"),
            false => format!("the operator has switched {name} off"),
        };
        self.net.ports.0.insert((switch, port), wish);
        if there.is_none() {
            text.push_str("; its switch is away and will be told when it is back");
        }
        self.cx.notice(Level::Info, if up { "port-on" } else { "port-off" }, text);
        self.cx.dirty.switches = true;
        self.network_mut().link_at_changed(switch, port);
        self.cx.answer(request, Response::Done);
    }

    /// A switch has connected: it is sent again what the operator wants of its ports.
    pub(crate) fn tell_ports(&mut self, switch: SwitchId, dpid: Dpid) {
        for PortOverride { port, up, .. } in self.net.ports.of(switch) {
            self.cx.effects.push(Effect::SetPort { switch: dpid, port, up });
        }
    }

    /// A switch has taken what it was told of a port: one that is on again is as any other.
    pub(crate) fn on_port_set(&mut self, dpid: Dpid, port: PortNo, up: bool) {
        let Some(switch) = self.net.live.id(dpid) else { return };
        if up && self.net.ports.get(switch, port).is_some_and(|o| o.up) {
            self.net.ports.0.remove(&(switch, port));
            self.cx.dirty.switches = true;
            self.keep(Kept::Port(switch, port));
        }
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

    pub(crate) fn write_pin(&mut self, id: VmId, pin: Option<Vec<SwitchId>>, request: RequestId) {
        let Some(vm) = self.compute.vms.get_mut(&id) else { return };
        self.compute.pinned.insert(id);
        let before = std::mem::replace(&mut vm.record.pin, pin);
        let vm = Box::new(vm.record.clone());
        self.cx.dirty.vms = true;
        self.store(StoreOp::PutVm { vm }, PendingWrite::Pin(id, before, request));
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

    pub(crate) fn go(&mut self, id: VmId, record: &VmRecord, new: Placement, notice: (Level, &str, String)) {
        let old = Placement::of(record);
        self.release(&old, &record.request);
        self.take_way(id, &old, new, notice);
        self.groups_follow(record);
    }
}
