//! What switches count: rates of ports and links, signs of life of VMs, and polls on demand.

use crate::network::host_tracker::HostKind;
use crate::network::switch_counters::BELIEVABLE;
use crate::network::topology_state::{LiveSwitch, is_openflow};
use crate::network::{NetworkMut, attachment};
use crate::timers::Timer;
use std::collections::BTreeSet;
use std::time::Duration;
use tandem_model::{
    BitRate, Effect, GatewayId, Hop, NodeId, PortNo, PortSample, RequestId, Response, RuleSample, ServerId,
    SwitchId,
};

/// How long a poll on demand waits for slow switches.
pub(crate) const POLL_TIMEOUT: Duration = Duration::from_secs(2);

impl NetworkMut<'_> {
    /// Servers and gateways are hosts that the site declares.
    pub(crate) fn declare_hosts(&mut self) {
        let site = self.cx.site.clone();
        for (n, server) in (0u32..).zip(&site.topology.servers) {
            let id = ServerId(n);
            let at = (0..server.uplinks.len()).filter_map(|u| attachment::uplink_port(&site.topology, id, u));
            self.net.hosts.declare(server.address, HostKind::Server(id), server.mac, at.collect());
        }
        for (n, gateway) in (0u32..).zip(&site.topology.gateways) {
            let id = GatewayId(n);
            let at = self.net.access.of_gateway(id).collect();
            self.net.hosts.declare(gateway.address, HostKind::Gateway(id), gateway.mac, at);
        }
    }

    /// Asks all switches that are connected for their counters.
    pub(crate) fn poll_now(&mut self, id: RequestId) {
        let mut waiting = BTreeSet::new();
        for (n, switch) in (0u32..).zip(&self.cx.site.topology.switches) {
            if self.net.live.switch(SwitchId(n)).is_some_and(|s| s.connected) {
                waiting.insert(SwitchId(n));
                self.cx.effects.push(Effect::PollNow { switch: switch.dpid });
            }
        }
        if waiting.is_empty() {
            return self.cx.answer(id, Response::Done);
        }
        self.net.polls.insert(id, waiting);
        self.cx.timers.set(self.cx.now + POLL_TIMEOUT, Timer::PollTimeout(id));
    }

    /// A poll has waited long enough for switches that do not answer.
    pub(crate) fn on_poll_timeout(&mut self, request: RequestId) {
        if self.net.polls.remove(&request).is_some() {
            self.cx.answer(request, Response::Done);
        }
    }

    /// A switch has told its counters, or will not: the polls that waited for nobody else are
    /// answered.
    pub(crate) fn polled(&mut self, switch: SwitchId) {
        let mut done = Vec::new();
        for (id, waiting) in &mut self.net.polls {
            if waiting.remove(&switch) && waiting.is_empty() {
                done.push(*id);
            }
        }
        for id in done {
            self.net.polls.remove(&id);
            self.cx.answer(id, Response::Done);
        }
    }

    /// Takes in the counters of our rules in a switch. Its ports are told apart from them, so that an
    /// empty list is no reading.
    pub(crate) fn take_rule_samples(&mut self, switch: SwitchId, rules: Vec<RuleSample>) {
        if !rules.is_empty() {
            let (now, wall) = (self.cx.now, self.cx.wall_now());
            self.net.rule_readings.take(switch, rules, now, wall);
            self.cx.dirty.rule_readings.insert(switch);
        }
    }

    /// Takes in the counters of a switch's ports.
    pub(crate) fn take_port_samples(&mut self, switch: SwitchId, ports: Vec<PortSample>) {
        self.net.statistics.is_read(switch, self.cx.now);
        for sample in ports {
            let link = self.cx.site.topology.link_at(NodeId::Switch(switch), sample.port);
            let is_there = |s: &LiveSwitch| s.ports.contains_key(&sample.port);
            // Counters of ports that a switch only invents are not kept.
            if link.is_none() && !self.net.live.switch(switch).is_some_and(is_there) {
                continue;
            }
            // What a port can carry, with room for a link that is faster than declared.
            let rate = link.and_then(|l| self.cx.site.topology.link(l)).map(|l| l.cfg.rate);
            let most = rate.map_or(BELIEVABLE, |r| BitRate(r.0.saturating_mul(4)));
            if self.net.statistics.port(switch, sample, most, self.cx.now) {
                self.measure(switch, sample.port);
            }
        }
        self.cx.dirty.statistics(switch);
    }

    /// Carries a port's rates over to its link: sent is the direction that leaves the switch; what
    /// a host sends is only seen by the switch that receives it.
    pub(crate) fn measure(&mut self, switch: SwitchId, port: PortNo) {
        let topology = &self.cx.site.topology;
        let node = NodeId::Switch(switch);
        let Some(link) = topology.link_at(node, port) else { return };
        let Some(declared) = topology.link(link) else { return };
        let Some(stats) = self.net.statistics.of_port(switch, port) else { return };
        let out = declared.hop_from(link, node);
        let (tx, rx) = (stats.tx(), stats.rx());
        self.net.links.set_counted(out, tx);
        let measured = |n: Option<NodeId>| n.is_some_and(|n| is_openflow(topology, n));
        let mut other = declared.other(node).map(|e| e.node);
        if !measured(other) {
            self.net.links.set_counted(Hop { link, down: !out.down }, rx);
        }
        // A legacy switch between two neighbours counts nothing, and passes on what it gets.
        let mut from = link;
        let mut left = topology.links.len();
        while let Some(legacy @ NodeId::Switch(_)) = other.filter(|n| !measured(Some(*n)) && left > 0) {
            let mut beyond = topology.ports(legacy).iter().map(|(_, l)| *l).filter(|l| *l != from);
            let (Some(next), None) = (beyond.next(), beyond.next()) else { return };
            let Some(declared) = topology.link(next) else { return };
            let on = declared.hop_from(next, legacy);
            self.net.links.set_counted(on, tx);
            other = declared.other(legacy).map(|e| e.node);
            if !measured(other) {
                self.net.links.set_counted(Hop { link: next, down: !on.down }, rx);
            }
            from = next;
            left -= 1;
        }
    }
}
