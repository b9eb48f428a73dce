//! What switches, ports and discovery frames mean: links come and go, and the operator hears of what is not as declared.

use crate::access_ports::Behind;
use crate::context::Context;
use crate::hosts::HostKind;
use crate::links::LinkState;
use crate::live::{LiveTopology, Surprise, Sync, is_openflow};
use crate::port_damping::MORE_PORTS;
use crate::port_notices::PortNotice;
use crate::rules::changes::Purpose;
use crate::services::{MigrationMut, NetworkMut};
use crate::signal::Signal;
use crate::timers::Timer;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, Dpid, Effect, Level, LinkId, Mac, NodeId, PortInfo, PortNo, SwitchCaps, SwitchId, Time, TxnId,
};

impl Context {
    /// How often links are looked at: often enough that a timeout is noticed at most a third late.
    pub(crate) fn sweep_period(&self) -> Duration {
        (self.site.discovery.lldp_timeout / 3).max(Duration::from_millis(100))
    }

    fn lldp_timeout(&self) -> Option<Duration> {
        self.site.modules.discovery.then_some(self.site.discovery.lldp_timeout)
    }

    pub(crate) fn host_name(&self, kind: HostKind) -> String {
        match kind {
            HostKind::Server(id) => self.site.topology.name(NodeId::Server(id)).to_owned(),
            HostKind::Gateway(id) => self.site.topology.name(NodeId::Gateway(id)).to_owned(),
            HostKind::Vm(id) => id.to_string(),
            HostKind::Stranger => "a stranger".to_owned(),
        }
    }
}

impl MigrationMut<'_> {
    pub(crate) fn on_switch_up(&mut self, dpid: Dpid, ports: Vec<PortInfo>, caps: SwitchCaps) {
        let Some(id) = self.net.live.id(dpid) else {
            let text = format!(
                "switch {dpid} ({}) is not in the site file; it gets no rules. Add it, or disconnect it",
                caps.peer
            );
            self.net.live.unknown_mut().insert(dpid, caps);
            self.cx.dirty.switches = true;
            if self.net.live.is_to_be_said(dpid) {
                self.cx.notice(Level::Warning, "switch-unknown", text);
            }
            return;
        };
        for port in self.net.damping.forget_switch(id) {
            self.cx.timers.cancel(Timer::PortSettled(id, port));
        }
        let declared = self.cx.site.topology.ports(NodeId::Switch(id)).len();
        let two_tables = caps.version != "1.0" && caps.tables >= 2;
        // One that has refused metadata is asked again when it is another one, or has another version.
        let what = |c: &SwitchCaps| (c.version.clone(), c.tables, c.description.clone());
        let before = self.net.live.switch(id).and_then(|s| s.caps.as_ref()).map(what);
        let metadata = !two_tables || before != Some(what(&caps)) || self.rules.desired.has_metadata(id);
        let (now, again) = (self.cx.now, self.net.live.switch(id).is_some_and(|s| s.connected));
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.connected = true;
            switch.dead = false;
            switch.since = now;
            switch.caps = Some(caps);
            switch.ports = ports.into_iter().map(|p| (p.port, p)).collect();
            switch.most_ports = switch.ports.len().max(declared) + MORE_PORTS;
        }
        self.net.statistics.forget_switch(id);
        // A second connection without a goodbye of the first: whatever was asked on the first is void.
        if again {
            self.abandon(id);
        }
        let name = self.network().switch_name(dpid);
        self.cx.notice(Level::Info, "switch-up", format!("{name} is connected"));
        let txn = self.rules.changes.next_txn();
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.sync = (Sync::UnderWay, Some(txn));
        }
        if self.rules.desired.set_abilities(id, two_tables, metadata) {
            self.compute_mut().on_tables_changed(id);
        }
        let rules = self.rules.desired.all(id);
        let leave = self.compute_mut().leave_at_sync(id);
        self.cx.effects.push(Effect::SyncRules { switch: dpid, txn, rules, leave });
        self.compute_mut().tell_ports(id, dpid);
        self.cx.dirty.rules(id);
        self.cx.dirty.switches = true;
        let changed = self.network_mut().links_of_switch_changed(id);
        self.settle();
        if !changed {
            // No link changed, but a way over this switch counts only while the switch is attended.
            self.reroute_cut();
        }
        self.compute_mut().return_to_pins();
        self.network_mut().probe_hosts_at(id);
    }

    /// After some link came or went: new default routes, and other paths for the VMs that need them.
    pub(crate) fn topology_changed(&mut self) {
        let site = self.cx.site.clone();
        self.net.routes.recompute(&site.topology, &self.net.links);
        let plan = crate::rules::compile::plan(&site, &self.net.routes, self.rules.classes.queues());
        let (_, differences) = self.rules.desired.replace(tandem_model::Owner::Fabric, plan);
        self.compute_mut().start_change(Purpose::Upkeep, differences, &[]);
        self.reroute_all();
        self.compute_mut().serve_strays();
        self.compute_mut().refresh_groups();
        self.cx.dirty.links = true;
    }
}

impl NetworkMut<'_> {
    /// A switch has told how a transaction ended: was it the one that brought it all its rules?
    pub(crate) fn on_sync(&mut self, dpid: Dpid, txn: TxnId, result: Sync) {
        let Some(switch) = self.net.live.id(dpid).and_then(|id| self.net.live.switch_mut(id)) else { return };
        if switch.sync.1 == Some(txn) {
            switch.sync.0 = result;
            self.cx.dirty.switches = true;
        }
    }

    pub(crate) fn on_switch_grace(&mut self, id: SwitchId) {
        let grace = self.cx.site.discovery.switch_grace;
        let (now, openflow) = (self.cx.now, is_openflow(&self.cx.site.topology, NodeId::Switch(id)));
        let Some(switch) = self.net.live.switch_mut(id) else { return };
        if switch.connected || switch.dead || !openflow || now.since(switch.since) < grace {
            return;
        }
        switch.dead = true;
        let name = self.cx.site.topology.switch(id).map_or("?", |s| s.name.as_str()).to_owned();
        let text = format!("{name} has been away for {grace:?}; paths avoid it until it is back");
        self.cx.notice(Level::Error, "switch-dead", text);
        self.cx.dirty.switches = true;
        self.links_of_switch_changed(id);
    }

    /// Something about a port has changed: so may have its link.
    pub(crate) fn link_at_changed(&mut self, id: SwitchId, number: PortNo) {
        let Some(link) = self.cx.site.topology.link_at(NodeId::Switch(id), number) else { return };
        let came_up = self.net.links.state(link) == LinkState::Down;
        // Which end is off may change while the link is down all the time.
        self.cx.dirty.links = true;
        if self.refresh_link(link) {
            if came_up
                && self.cx.site.modules.discovery
                && let Some(dpid) = crate::live::connected(&self.net.live, &self.cx.site.topology, id)
            {
                self.cx.effects.push(Effect::Discover { switch: dpid });
            }
            self.cx.signal(Signal::TopologyChanged);
        }
    }

    pub(crate) fn on_link_seen(&mut self, from: (Dpid, PortNo), to: (Dpid, PortNo)) {
        // No machine speaks for links: what comes in by its port is forged, or sent on by it from elsewhere.
        if let Some(switch) = self.net.live.id(to.0)
            && matches!(self.net.access.behind(switch, to.1), Behind::Servers(_) | Behind::Gateways(_))
        {
            return;
        }
        let site = self.cx.site.clone();
        let (confirmed, surprise) = self.net.live.link_seen(&site.topology, from, to, self.cx.now);
        if let Some(link) = confirmed
            && self.refresh_link(link)
        {
            self.cx.signal(Signal::TopologyChanged);
        }
        let port = |(dpid, port): (Dpid, PortNo)| format!("{}.{port}", self.network().switch_name(dpid));
        match surprise {
            None => {}
            Some(Surprise::Miswired { link, .. }) => {
                let text = format!(
                    "{} is plugged into {}, but the site declares {}; replug it or correct the site file",
                    port(from),
                    port(to),
                    self.cx.link_name(link)
                );
                self.wiring_notice(to, PortNotice::Miswired, Level::Error, text);
            }
            Some(Surprise::Unknown { .. }) => {
                let text = format!(
                    "a link from {} to {} is not in the site file; no traffic is sent over it",
                    port(from),
                    port(to)
                );
                self.wiring_notice(to, PortNotice::UnknownLink, Level::Warning, text);
            }
        }
    }

    fn wiring_notice(
        &mut self,
        (dpid, port): (Dpid, PortNo),
        notice: PortNotice,
        level: Level,
        text: String,
    ) {
        self.cx.dirty.links = true;
        // All switches that the site does not know count as one.
        let nobody = (SwitchId(u32::MAX), None);
        let key = self.net.live.id(dpid).map_or(nobody, |switch| self.net.access.key(switch, port));
        self.port_notice(key, notice, level, |_| text);
    }

    /// True when that changed which links can be used.
    fn links_of_switch_changed(&mut self, id: SwitchId) -> bool {
        let site = self.cx.site.clone();
        let mut changed = false;
        for (_, link) in site.topology.ports(NodeId::Switch(id)) {
            changed |= self.refresh_link(*link);
        }
        if changed {
            self.cx.signal(Signal::TopologyChanged);
        }
        changed
    }

    pub(crate) fn sweep_links(&mut self) {
        let mut changed = false;
        for n in 0..self.cx.site.topology.links.len() as u32 {
            if LiveTopology::is_discoverable(&self.cx.site.topology, LinkId(n)) {
                changed |= self.refresh_link(LinkId(n));
            }
        }
        let timeout = self.cx.site.discovery.lldp_timeout;
        let before = Time(self.cx.now.0.saturating_sub(timeout.as_nanos() as u64));
        self.net.live.forget_surprises(before);
        if changed {
            self.cx.signal(Signal::TopologyChanged);
        }
    }

    /// Brings a link's state up to date; true when that changed whether it can be used.
    fn refresh_link(&mut self, id: LinkId) -> bool {
        let before = self.net.links.state(id);
        let off = self.network().switched_off(id);
        let state = if off.is_empty() {
            self.net.live.link_state(
                &self.cx.site.topology,
                &self.net.links,
                id,
                self.cx.lldp_timeout(),
                self.cx.now,
            )
        } else {
            LinkState::Down
        };
        if state == before {
            return false;
        }
        if before == LinkState::Down {
            self.net.live.came_up(id, self.cx.now);
        }
        let changed = self.net.links.set_state(id, state);
        self.cx.dirty.links = true;
        let name = self.cx.link_name(id);
        match (before, state) {
            (_, LinkState::Down) if !off.is_empty() => {
                let text = format!("{name} is down: the operator has switched off {}", off.join(" and "));
                self.cx.notice(Level::Info, "link-down", text);
            }
            (_, LinkState::Down) => {
                self.cx.notice(Level::Warning, "link-down", format!("{name} is down"));
            }
            (_, LinkState::Missing) => {
                let text = format!(
                    "{name} is up at both ends but discovery does not see it for {:?}; check the cable between these ports",
                    self.cx.site.discovery.lldp_timeout
                );
                self.cx.notice(Level::Error, "link-missing", text);
            }
            (LinkState::Down | LinkState::Missing, _) => {
                self.cx.notice(Level::Info, "link-up", format!("{name} is up again"));
            }
            _ => {}
        }
        changed
    }

    /// Asks the declared hosts at a switch to show themselves.
    fn probe_hosts_at(&mut self, id: SwitchId) {
        if !self.cx.site.modules.arp {
            return;
        }
        let probes: Vec<_> = self
            .cx
            .site
            .topology
            .ports(NodeId::Switch(id))
            .iter()
            .filter_map(|(_, link)| self.cx.site.topology.link(*link)?.other(NodeId::Switch(id)))
            .filter_map(|end| match end.node {
                NodeId::Server(s) => self.cx.site.topology.server(s).map(|s| s.address),
                NodeId::Gateway(g) => self.cx.site.topology.gateway(g).map(|g| g.address),
                NodeId::Switch(_) => None,
            })
            .collect();
        probes.into_iter().for_each(|ip| self.probe(ip));
    }

    /// Asks one host by ARP, at every port where it may be. The question has no sender address (RFC 5227 section 2.1.1), so that nobody
    /// keeps the controller as a neighbour: a kernel with a thousand emulated hosts would have no room for others.
    pub(crate) fn probe(&mut self, ip: Ipv4Addr) {
        let Some(host) = self.net.hosts.get(ip) else { return };
        let arp = Arp {
            op: ArpOp::Request,
            eth_dst: host.mac,
            sender_mac: self.cx.site.addresses.dhcp_mac,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac([0; 6]),
            target_ip: ip,
        };
        let at: Vec<(SwitchId, PortNo)> = host.at.map_or_else(|| host.expected.clone(), |p| vec![p]);
        for (switch, port) in at {
            if let Some(dpid) = crate::live::connected(&self.net.live, &self.cx.site.topology, switch) {
                self.cx.effects.push(Effect::SendArp { switch: dpid, port, arp });
            }
        }
    }

    pub(crate) fn check_host(&mut self, ip: Ipv4Addr) {
        let timeout = self.cx.site.discovery.host_timeout;
        let Some(host) = self.net.hosts.get(ip).filter(|h| h.at.is_some()) else { return };
        let (seen, probes, kind) = (host.seen, host.probes, host.kind);
        let quiet = self.cx.now.since(seen);
        if quiet < timeout && probes == 0 {
            return self.cx.timers.replace(seen + timeout, Timer::HostCheck(ip));
        }
        if probes >= self.cx.site.discovery.host_probes {
            let at = host.at;
            self.net.hosts.lost(ip);
            let text = format!("{} ({ip}) has not answered {probes} ARP probes", self.cx.host_name(kind));
            // A stranger is no fault of anybody, and its port has said that strangers are there.
            if let (HostKind::Stranger, Some((switch, port))) = (kind, at) {
                let port = self.net.access.key(switch, port);
                return self.port_notice(port, PortNotice::Stranger, Level::Info, |_| text);
            }
            return self.cx.notice(Level::Warning, "host-lost", text);
        }
        self.net.hosts.probed(ip);
        self.probe(ip);
        self.cx.timers.replace(self.cx.now + Duration::from_secs(1), Timer::HostCheck(ip));
    }
}

impl MigrationMut<'_> {
    pub(crate) fn on_switch_down(&mut self, dpid: Dpid, why: &str) {
        let Some(id) = self.net.live.id(dpid) else {
            self.net.live.unknown_mut().remove(&dpid);
            self.cx.dirty.switches = true;
            return;
        };
        let now = self.cx.now;
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.connected = false;
            switch.since = now;
        }
        self.net.managed.forget_switch(id);
        self.cx.dirty.switches = true;
        let name = self.network().switch_name(dpid);
        let text = format!("{name} has lost its connection ({why}); it keeps forwarding by the rules it has");
        self.cx.notice(Level::Warning, "switch-down", text);
        self.abandon(id);
        self.cx.timers.replace(now + self.cx.site.discovery.switch_grace, Timer::SwitchGrace(id));
        self.network_mut().polled(id);
    }

    /// What was asked of a switch on a connection that has ended is void.
    fn abandon(&mut self, id: SwitchId) {
        let outcomes = self.rules_mut().switch_gone(id);
        outcomes.into_iter().for_each(|o| self.compute_mut().on_outcome(o));
        self.settle();
        self.rules_mut().resume_changes();
    }
}

impl NetworkMut<'_> {
    /// A switch's driver has found that its flows differed, and has put them right.
    pub(crate) fn on_rules_repaired(&mut self, dpid: Dpid, missing: u32, stale: u32) {
        if let Some(s) = self.net.live.id(dpid).and_then(|id| self.net.live.switch_mut(id)) {
            s.sync.0 = Sync::Done;
            self.cx.dirty.switches = true;
        }
        let name = self.network().switch_name(dpid);
        let text = format!("{name}: {missing} rules were missing and {stale} were stale; put right");
        self.cx.notice(Level::Warning, "rules-repaired", text);
    }

    /// A switch reports rules otherwise than they were written.
    pub(crate) fn on_rules_unlike(&mut self, dpid: Dpid, rules: u32, example: &str) {
        let name = self.network().switch_name(dpid);
        let text = format!(
            "{name}: {rules} rules are still missing or different after they were put right twice, one of them: \
             {example}. They are tried again after growing pauses; look for another controller of this switch, or \
             update its software"
        );
        self.cx.notice(Level::Warning, "rules-unlike", text);
    }
}
