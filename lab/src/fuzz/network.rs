//! Connections and cables: bytes between drivers and switches, frames between switches, and what
//! happens when either is lost.

use super::switches::driver_config;
use super::world::{Item, World};
use std::time::Duration;
use tandem_model::{LinkId, NodeId, PortNo, SwitchId, Time};
use tandem_switch_driver::{Duty, Output};

impl World {
    pub(super) fn connect(&mut self, id: SwitchId) {
        if !self.alive {
            return;
        }
        self.serial += 1;
        let cfg = driver_config(&self.site, self.seed << 8 | u64::from(self.life));
        let (serial, core_now, now) = (self.serial, self.core_now(), self.now);
        let mut out = Output::default();
        self.switches[id.0 as usize].connect(serial, cfg, core_now, now, &mut out);
        self.hear_driver(id, serial, out);
        self.hear(id);
    }

    /// What a driver wants: bytes for its switch, events for the core.
    pub(super) fn hear_driver(&mut self, id: SwitchId, serial: u64, out: Output) {
        let now = self.now;
        let switch = &mut self.switches[id.0 as usize];
        if !out.bytes.is_empty() {
            let at = switch.arrival(serial, 0, now);
            self.at(at, Item::ToSwitch(id, serial, out.bytes));
        }
        self.schedule_drivers(id);
        let driver = self.switches[id.0 as usize].line(serial).map(|l| l.driver.backlog());
        if driver.is_some_and(|backlog| backlog > super::switches::MOST_BACKLOG) {
            self.violate("a driver's queue is bounded", "more waits for a switch than all rules there are");
        }
        for event in out.events {
            self.tell(event);
        }
    }

    fn schedule_drivers(&mut self, id: SwitchId) {
        let switch = &self.switches[id.0 as usize];
        let lines = [&switch.active, &switch.joining].into_iter().flatten();
        let due = lines.map(|l| l.driver.next_deadline()).min();
        self.due[id.0 as usize] = due.map_or(Time(u64::MAX), |at| at.moved(self.shift.saturating_neg()));
    }

    pub(super) fn wake_drivers(&mut self, id: SwitchId) {
        let now = self.core_now();
        let switch = &self.switches[id.0 as usize];
        let lines = [&switch.active, &switch.joining].into_iter().flatten();
        let serials: Vec<u64> = lines.map(|l| l.serial).collect();
        for serial in serials {
            let mut out = Output::default();
            let Some(line) = self.switches[id.0 as usize].line(serial) else { continue };
            let ended = line.driver.on_deadline(now, &mut out).is_err();
            self.hear_driver(id, serial, out);
            if ended {
                let wait = self.draw.micros(200_000, 2_000_000);
                self.lose(id, serial, wait);
            }
        }
        self.schedule_drivers(id);
    }

    /// A connection is lost; the switch tries again after a while.
    pub(super) fn lose(&mut self, id: SwitchId, serial: u64, back: Duration) {
        if self.switches[id.0 as usize].lose(serial) {
            self.later(Duration::from_micros(300), Item::Lost(id));
        }
        self.schedule_drivers(id);
        let wait = back.max(Duration::from_millis(5));
        self.later(wait, Item::Connect(id));
    }

    pub(super) fn tell_switch(&mut self, id: SwitchId, serial: u64, bytes: &[u8]) {
        let now = self.now;
        self.switches[id.0 as usize].take(serial, bytes, now);
        self.hear(id);
    }

    /// Passes on what a switch has said.
    pub(super) fn hear(&mut self, id: SwitchId) {
        let now = self.now;
        let switch = &mut self.switches[id.0 as usize];
        let messages = std::mem::take(&mut switch.said.messages);
        let frames = std::mem::take(&mut switch.said.frames);
        let ports = std::mem::take(&mut switch.said.ports);
        for (conn, bytes) in messages {
            let switch = &mut self.switches[id.0 as usize];
            let Some(serial) = switch.serial_of(conn) else { continue };
            let copies = switch.copies(&bytes);
            let at = switch.arrival(serial, 1, now);
            for _ in 0..copies {
                self.at(at, Item::FromSwitch(id, serial, bytes.clone()));
            }
        }
        for (port, frame) in frames {
            self.transmit(id, PortNo(port), frame);
        }
        for (port, up) in ports {
            let port = PortNo(port);
            if up {
                self.off.remove(&(id, port))
            } else {
                self.off.insert((id, port))
            };
            if let Some(link) = self.site.topology.link_at(NodeId::Switch(id), port) {
                self.later(Duration::from_micros(400), Item::Cable(link, self.cables[link.0 as usize]));
            }
        }
    }

    pub(super) fn hear_switch(&mut self, id: SwitchId, serial: u64, bytes: &[u8]) {
        let now = self.core_now();
        let mut rest = bytes;
        while let Ok(Some((message, after))) = tandem_openflow::framing::next(rest) {
            rest = after;
            let Some(line) = self.switches[id.0 as usize].line(serial) else { return };
            let mut out = Output::default();
            let ended = line.driver.on_message(message, now, &mut out).is_err();
            let is_new = line.driver.duty() == Duty::Undecided && line.driver.dpid().is_some();
            if is_new {
                line.driver.take_duty(Duty::Active, now, &mut out);
                self.switches[id.0 as usize].promote();
            }
            self.hear_driver(id, serial, out);
            if ended {
                let wait = self.draw.micros(200_000, 2_000_000);
                return self.lose(id, serial, wait);
            }
        }
    }

    /// A frame leaves a switch: what is for another switch arrives there. Machines answer in their
    /// own way (`deliver`).
    fn transmit(&mut self, id: SwitchId, port: PortNo, frame: Vec<u8>) {
        let topology = &self.site.topology;
        let node = NodeId::Switch(id);
        let Some(link) = topology.link_at(node, port).filter(|l| self.is_up(*l)) else { return };
        let Some(end) = topology.link(link).and_then(|l| l.other(node)) else { return };
        if let NodeId::Switch(next) = end.node {
            self.later(Duration::from_micros(30), Item::Frame(next, end.port, frame));
        }
    }

    /// True when a link carries frames: its cable is plugged in and neither port is switched off.
    pub(super) fn is_up(&self, link: LinkId) -> bool {
        let Some(declared) = self.site.topology.link(link) else { return false };
        let is_off = |end: tandem_model::Endpoint| match end.node {
            NodeId::Switch(id) => self.off.contains(&(id, end.port)),
            _ => false,
        };
        self.cables[link.0 as usize] && !is_off(declared.a) && !is_off(declared.b)
    }

    pub(super) fn set_cable(&mut self, link: LinkId, up: bool) {
        self.cables[link.0 as usize] = up;
        let up = self.is_up(link);
        let Some(declared) = self.site.topology.link(link) else { return };
        for end in [declared.a, declared.b] {
            if let NodeId::Switch(id) = end.node {
                let now = self.now;
                self.switches[id.0 as usize].set_port(end.port, up, now);
                self.hear(id);
            }
        }
    }
}
