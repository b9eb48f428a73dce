//! What follows a port's change of state: at once, or, where it changes too often, when it has kept
//! still.

use crate::network::port_damping::{Damped, FIRST_PAUSE, LONGEST_PAUSE, PERIOD, PORT_CHANGES};
use crate::network::port_limits::PortNotice;
use crate::network::{NetworkMut, NetworkRef};
use crate::timers::Timer;
use tandem_model::{Dpid, Effect, Level, LinkId, NodeId, PortInfo, PortNo, SwitchId};

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

impl NetworkMut<'_> {
    /// A port that is to be off says that it is on: somebody else's doing, or a message from
    /// before.
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

impl NetworkMut<'_> {
    pub(crate) fn on_port_changed(&mut self, dpid: Dpid, port: PortInfo, removed: bool) {
        let Some(id) = self.net.live.id(dpid) else { return };
        let number = port.port;
        let key = self.net.access.key(id, number);
        let Some(switch) = self.net.live.switch(id) else { return };
        let known = switch.ports.get(&number);
        // Ports that are damped and have not been up yet take places too.
        let is_new = known.is_none() && !self.net.damping.damped.contains_key(&(id, number));
        let places = || switch.ports.len() + self.net.damping.waiting(id, &switch.ports);
        if is_new && !removed && key.1.is_none() && places() >= switch.most_ports {
            let text = |core: NetworkRef<'_>| {
                let name = core.cx.port_name(id, number);
                format!("{name} appeared; its switch has more ports than make sense, and it is ignored")
            };
            self.port_notice(key, PortNotice::UnknownPorts, Level::Warning, text);
            return;
        }
        let same = known == (!removed).then_some(&port);
        if let Some(damped) = self.net.damping.damped.get_mut(&(id, number)) {
            if damped.settled.is_some_and(|at| self.cx.now.since(at) >= PERIOD) {
                self.net.damping.damped.remove(&(id, number));
            } else {
                if damped.last == (port.clone(), removed) {
                    return;
                }
                damped.last = (port.clone(), removed);
                damped.changes += 1;
                damped.settled = None;
                return self.damp(id, dpid, port, removed);
            }
        }
        if same {
            return;
        }
        let port_may = self.net.damping.ports.take(key, self.cx.now);
        let switch_may = self.net.damping.switches.take(id, self.cx.now);
        if port_may && switch_may {
            return self.port_is(id, dpid, port, removed);
        }
        let last = (port.clone(), removed);
        let damped = Damped { last, pause: FIRST_PAUSE, changes: PORT_CHANGES.into(), settled: None };
        self.net.damping.damped.insert((id, number), damped);
        self.damp(id, dpid, port, removed);
    }

    /// A change of a damped port: down at once, up when it has kept still.
    pub(crate) fn damp(&mut self, id: SwitchId, dpid: Dpid, port: PortInfo, removed: bool) {
        let number = port.port;
        let Some(damped) = self.net.damping.damped.get(&(id, number)) else { return };
        let (pause, changes) = (damped.pause, damped.changes);
        self.cx.timers.replace(self.cx.now + pause, Timer::PortSettled(id, number));
        let is_up = |p: &PortInfo| p.up;
        let counts_as_up = self.net.live.switch(id).and_then(|s| s.ports.get(&number)).is_some_and(is_up);
        if counts_as_up && (removed || !port.up) {
            self.port_is(id, dpid, port, removed);
        }
        let text = |core: NetworkRef<'_>| {
            let name = core.cx.port_name(id, number);
            format!(
                "{name} changes its state too often ({changes} times up to now); it counts as up again when it \
                 has kept still for {pause:?}. Check the cable and the machine at its other end"
            )
        };
        self.port_notice(self.net.access.key(id, number), PortNotice::Flapping, Level::Warning, text);
    }

    /// A damped port has kept still: what it said last counts.
    pub(crate) fn on_port_settled(&mut self, id: SwitchId, number: PortNo) {
        let now = self.cx.now;
        let Some(damped) = self.net.damping.damped.get_mut(&(id, number)) else { return };
        damped.settled = Some(now);
        damped.pause = (damped.pause * 2).min(LONGEST_PAUSE);
        damped.changes = 0;
        let (port, removed) = damped.last.clone();
        if removed && self.net.access.key(id, number).1.is_none() {
            // Nobody knows it: it takes no place any more.
            self.net.damping.damped.remove(&(id, number));
        }
        let Some(switch) = self.net.live.switch(id) else { return };
        if switch.ports.get(&number) == (!removed).then_some(&port) {
            return;
        }
        if let Some(dpid) = self.cx.site.topology.switch(id).map(|s| s.dpid) {
            self.port_is(id, dpid, port, removed);
        }
    }

    /// A port's state is another one now.
    pub(crate) fn port_is(&mut self, id: SwitchId, dpid: Dpid, port: PortInfo, removed: bool) {
        let number = port.port;
        let says_up = port.up && !removed;
        if let Some(switch) = self.net.live.switch_mut(id) {
            if removed {
                switch.ports.remove(&number);
                self.net.statistics.forget_port(id, number);
            } else {
                switch.ports.insert(number, port);
            }
        }
        self.cx.dirty.switch(id);
        if says_up {
            self.keep_off(id, dpid, number);
        }
        self.link_at_changed(id, number);
    }
}
