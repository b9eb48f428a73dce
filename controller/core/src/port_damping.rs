//! Ports that change their state too often. A few changes count at once, as they come. After that the port is damped: that it is
//! down counts at once, that it is up counts when it has kept still for a pause, which doubles with each time. So the last state
//! always wins, within [`LONGEST_PAUSE`] of the last change, and whatever a switch says, links and routes are computed anew only
//! as often as the allowances here let them.
//!
//! What is kept is bounded by the ports that are declared or were there when the switch connected.

use crate::access_ports::PortKey;
use crate::port_notices::PortNotice;
use crate::services::{NetworkMut, NetworkRef};
use crate::timers::Timer;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::rate_limit::KeyedRateLimiter;
use tandem_model::{Dpid, Level, PortInfo, PortNo, SwitchId, Time};

/// Changes of a port a minute that count at once: a cable that is pulled and plugged in again makes two.
const PORT_CHANGES: u32 = 6;
/// The same for all ports of a switch together: what a switch with a few line cards may lose and get back at once.
const SWITCH_CHANGES: u32 = 256;
const PERIOD: Duration = Duration::from_secs(60);
/// How long a damped port keeps still until it is up, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Ports that a switch may have beyond those that were declared or there when it connected: people plug things in.
pub(crate) const MORE_PORTS: usize = 64;

/// A port that is damped.
#[derive(Debug, Clone)]
struct Damped {
    /// What it said last, and that it is gone.
    last: (PortInfo, bool),
    pause: Duration,
    /// Changes since it was last still.
    changes: u64,
    settled: Option<Time>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct PortDamping {
    ports: KeyedRateLimiter<PortKey>,
    switches: KeyedRateLimiter<SwitchId>,
    damped: BTreeMap<(SwitchId, PortNo), Damped>,
}

impl PortDamping {
    pub(crate) fn new(ports: usize, switches: usize, now: Time) -> PortDamping {
        PortDamping {
            ports: KeyedRateLimiter::new(PORT_CHANGES, PERIOD, ports, now),
            switches: KeyedRateLimiter::new(SWITCH_CHANGES, PERIOD, switches, now),
            damped: BTreeMap::new(),
        }
    }

    /// How many ports of a switch are damped that it does not have.
    fn waiting(&self, switch: SwitchId, ports: &BTreeMap<PortNo, PortInfo>) -> usize {
        let all = (switch, PortNo(0))..=(switch, PortNo(u32::MAX));
        self.damped.range(all).filter(|((_, port), _)| !ports.contains_key(port)).count()
    }

    /// A switch has told all its ports anew: what was held back of them is void. Allowances stay.
    pub(crate) fn forget_switch(&mut self, switch: SwitchId) -> Vec<PortNo> {
        let all = (switch, PortNo(0))..=(switch, PortNo(u32::MAX));
        let ports: Vec<PortNo> = self.damped.range(all).map(|((_, port), _)| *port).collect();
        ports.iter().for_each(|port| drop(self.damped.remove(&(switch, *port))));
        ports
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
            return self.port_notice(key, PortNotice::UnknownPorts, Level::Warning, text);
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
    fn damp(&mut self, id: SwitchId, dpid: Dpid, port: PortInfo, removed: bool) {
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
    fn port_is(&mut self, id: SwitchId, dpid: Dpid, port: PortInfo, removed: bool) {
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
