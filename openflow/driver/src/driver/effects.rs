//! Executes the core's effects as messages to the switch: rules, packets, port states, requests for
//! statistics.

use super::changes::Change;
use super::{ANSWER_TIMEOUT, Driver, Output, PORT_CHANGES, PortChange};
use crate::flow_dump::Purpose;
use crate::packets;
use crate::wanted::{Meaning, Wanted};
use tandem_model::{Effect, Event, PortNo, Time};

impl Driver {
    /// Executes an effect for this switch. Effects that are not for a switch are ignored.
    pub fn execute(&mut self, effect: Effect, now: Time, out: &mut Output) {
        if !self.is_active() {
            return;
        }
        match effect {
            Effect::SyncRules { txn, rules, leave, .. } => {
                self.leave = leave;
                let meaning = self.codec.as_ref().map_or((|key| *key) as Meaning, |s| s.meaning());
                self.wanted = Wanted::new(rules, meaning);
                self.forget_before();
                self.unlike.forget();
                self.synced = true;
                self.sync = Some(txn);
                self.is_sync_refused = false;
                self.epoch += 1;
                self.read_flows(Purpose::Sync(txn), now, out);
            }
            Effect::LeaveRules { leave, .. } => {
                self.leave = leave;
                // A dump that is under way is compared with the new `leave` when it ends.
                self.lets_go = !self.left.is_empty();
                self.let_go(now, out);
            }
            Effect::ApplyRules { txn, add, remove, .. } => {
                self.change(Change::Apply(txn), add, &remove, Vec::new(), now, out)
            }
            Effect::SendArp { port, arp, .. } => {
                let frame = packets::arp_frame(&arp);
                self.send(out, |s, xid, o| s.packet_out(xid, port, &frame, o));
            }
            Effect::SendDhcp { port, dhcp, .. } => {
                if let Ok(frame) = packets::dhcp_frame(&dhcp) {
                    self.send(out, |s, xid, o| s.packet_out(xid, port, &frame, o));
                }
            }
            Effect::SetPort { port, up, .. } => self.set_port(port, up, now, out),
            Effect::Discover { .. } => self.discover(out),
            Effect::PollNow { .. } => self.poll(now, out),
            _ => {}
        }
    }

    pub(super) fn poll(&mut self, now: Time, out: &mut Output) {
        let waiting = self.counters.xid().is_some();
        let overdue = waiting && now >= self.counters_asked + ANSWER_TIMEOUT;
        if overdue {
            let text = format!("it has not told its port counters for {ANSWER_TIMEOUT:?}; it is asked again");
            self.warn(text, now, out);
        }
        // A reply that takes longer than a period is waited for; a second request would only add
        // load.
        if !waiting || overdue {
            let xid = self.send(out, |s, xid, o| s.ask_counters(xid, o));
            self.counters.expect(xid);
            self.counters_asked = now;
        }
        if self.synced && self.flow_dump.is_none() {
            self.read_flows(Purpose::Audit, now, out);
        }
    }

    pub(super) fn discover(&mut self, out: &mut Output) {
        if self.cfg.lldp_period.is_none() {
            return;
        }
        let ports: Vec<(PortNo, tandem_model::Mac)> =
            self.ports.values().filter(|p| p.up).map(|p| (p.port, p.mac)).collect();
        for (port, mac) in ports {
            let frame = packets::discovery_frame(self.dpid, port, mac, self.cfg.secret);
            self.send(out, |s, xid, o| s.packet_out(xid, port, &frame, o));
        }
    }

    fn set_port(&mut self, port: PortNo, up: bool, now: Time, out: &mut Output) {
        let Some(mac) = self.ports.get(&port).map(|p| p.mac) else {
            let why = "it has no such port now".to_owned();
            return out.events.push(Event::PortRefused { switch: self.dpid, port, why });
        };
        let xid = self.send(out, |s, xid, o| s.set_port(xid, port, mac, up, o));
        if self.port_changes.len() == PORT_CHANGES {
            self.port_changes.pop_front();
        }
        // PORT_MOD has no reply: the barrier's reply shows that the switch has executed it.
        let barrier = self.send(out, |s, xid, o| s.barrier(xid, o));
        self.port_changes.push_back(PortChange { xid, barrier, port, up, sent: now });
    }
}
