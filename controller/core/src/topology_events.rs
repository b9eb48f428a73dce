//! What switches, ports and discovery frames mean: links come and go, and the operator hears of what is not as declared.

use crate::access_ports::Behind;
use crate::core::Core;
use crate::hosts::HostKind;
use crate::links::LinkState;
use crate::live::{LiveTopology, Surprise, Sync, is_openflow};
use crate::port_damping::MORE_PORTS;
use crate::port_notices::PortNotice;
use crate::rules::changes::{Present, Purpose};
use crate::timers::Timer;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, Dpid, Effect, Level, LinkId, Mac, NodeId, PortInfo, PortNo, SwitchCaps, SwitchId, Time, TxnId,
};

impl Core {
    /// How often links are looked at: often enough that a timeout is noticed at most a third late.
    pub(crate) fn sweep_period(&self) -> Duration {
        (self.site.discovery.lldp_timeout / 3).max(Duration::from_millis(100))
    }

    fn lldp_timeout(&self) -> Option<Duration> {
        self.site.modules.discovery.then_some(self.site.discovery.lldp_timeout)
    }

    pub(crate) fn on_switch_up(&mut self, dpid: Dpid, ports: Vec<PortInfo>, caps: SwitchCaps) {
        let Some(id) = self.live.id(dpid) else {
            let text = format!(
                "switch {dpid} ({}) is not in the site file; it gets no rules. Add it, or disconnect it",
                caps.peer
            );
            self.live.unknown_mut().insert(dpid, caps);
            self.dirty.switches = true;
            if self.live.is_to_be_said(dpid) {
                self.notice(Level::Warning, "switch-unknown", text);
            }
            return;
        };
        for port in self.damping.forget_switch(id) {
            self.timers.cancel(Timer::PortSettled(id, port));
        }
        let declared = self.site.topology.ports(NodeId::Switch(id)).len();
        let two_tables = caps.version != "1.0" && caps.tables >= 2;
        // One that has refused metadata is asked again when it is another one, or has another version.
        let what = |c: &SwitchCaps| (c.version.clone(), c.tables, c.description.clone());
        let before = self.live.switch(id).and_then(|s| s.caps.as_ref()).map(what);
        let metadata = !two_tables || before != Some(what(&caps)) || self.desired.has_metadata(id);
        let (now, again) = (self.now, self.live.switch(id).is_some_and(|s| s.connected));
        if let Some(switch) = self.live.switch_mut(id) {
            switch.connected = true;
            switch.dead = false;
            switch.since = now;
            switch.caps = Some(caps);
            switch.ports = ports.into_iter().map(|p| (p.port, p)).collect();
            switch.most_ports = switch.ports.len().max(declared) + MORE_PORTS;
        }
        self.statistics.forget_switch(id);
        // A second connection without a goodbye of the first: whatever was asked on the first is void.
        if again {
            self.abandon(id);
        }
        let name = self.switch_name(dpid);
        self.notice(Level::Info, "switch-up", format!("{name} is connected"));
        let txn = self.changes.next_txn();
        if let Some(switch) = self.live.switch_mut(id) {
            switch.sync = (Sync::UnderWay, Some(txn));
        }
        if self.desired.set_abilities(id, two_tables, metadata) {
            self.on_tables_changed(id);
        }
        let rules = self.desired.all(id);
        let leave = self.leave_at_sync(id);
        self.effects.push(Effect::SyncRules { switch: dpid, txn, rules, leave });
        self.tell_ports(id, dpid);
        self.dirty.rules(id);
        self.dirty.switches = true;
        if !self.links_of_switch_changed(id) {
            // No link changed, but a way over this switch counts only while the switch is attended.
            self.reroute_cut();
        }
        self.return_to_pins();
        self.probe_hosts_at(id);
    }

    /// A switch has told how a transaction ended: was it the one that brought it all its rules?
    pub(crate) fn on_sync(&mut self, dpid: Dpid, txn: TxnId, result: Sync) {
        let Some(switch) = self.live.id(dpid).and_then(|id| self.live.switch_mut(id)) else { return };
        if switch.sync.1 == Some(txn) {
            switch.sync.0 = result;
            self.dirty.switches = true;
        }
    }

    pub(crate) fn on_switch_down(&mut self, dpid: Dpid, why: &str) {
        let Some(id) = self.live.id(dpid) else {
            self.live.unknown_mut().remove(&dpid);
            self.dirty.switches = true;
            return;
        };
        let now = self.now;
        if let Some(switch) = self.live.switch_mut(id) {
            switch.connected = false;
            switch.since = now;
        }
        self.managed.forget_switch(id);
        self.dirty.switches = true;
        let name = self.switch_name(dpid);
        let text = format!("{name} has lost its connection ({why}); it keeps forwarding by the rules it has");
        self.notice(Level::Warning, "switch-down", text);
        self.abandon(id);
        self.timers.replace(now + self.site.discovery.switch_grace, Timer::SwitchGrace(id));
        self.polled(id);
    }

    fn abandon(&mut self, id: SwitchId) {
        let (live, site) = (&self.live, self.site.clone());
        let connected = |s: SwitchId| crate::core::connected(live, &site, s);
        let present = Present { connected: &connected, desired: &self.desired };
        let outcomes = self.changes.switch_gone(id, &site.topology, &present, &mut self.effects);
        outcomes.into_iter().for_each(|o| self.on_outcome(o));
        self.resume_changes();
    }

    pub(crate) fn on_switch_grace(&mut self, id: SwitchId) {
        let grace = self.site.discovery.switch_grace;
        let (now, openflow) = (self.now, is_openflow(&self.site.topology, NodeId::Switch(id)));
        let Some(switch) = self.live.switch_mut(id) else { return };
        if switch.connected || switch.dead || !openflow || now.since(switch.since) < grace {
            return;
        }
        switch.dead = true;
        let name = self.site.topology.switch(id).map_or("?", |s| s.name.as_str()).to_owned();
        let text = format!("{name} has been away for {grace:?}; paths avoid it until it is back");
        self.notice(Level::Error, "switch-dead", text);
        self.dirty.switches = true;
        self.links_of_switch_changed(id);
    }

    /// Something about a port has changed: so may have its link.
    pub(crate) fn link_at_changed(&mut self, id: SwitchId, number: PortNo) {
        let Some(link) = self.site.topology.link_at(NodeId::Switch(id), number) else { return };
        let came_up = self.links.state(link) == LinkState::Down;
        // Which end is off may change while the link is down all the time.
        self.dirty.links = true;
        if self.refresh_link(link) {
            if came_up
                && self.site.modules.discovery
                && let Some(dpid) = crate::core::connected(&self.live, &self.site, id)
            {
                self.effects.push(Effect::Discover { switch: dpid });
            }
            self.topology_changed();
        }
    }

    pub(crate) fn on_link_seen(&mut self, from: (Dpid, PortNo), to: (Dpid, PortNo)) {
        // No machine speaks for links: what comes in by its port is forged, or sent on by it from elsewhere.
        if let Some(switch) = self.live.id(to.0)
            && matches!(self.access.behind(switch, to.1), Behind::Servers(_) | Behind::Gateways(_))
        {
            return;
        }
        let site = self.site.clone();
        let (confirmed, surprise) = self.live.link_seen(&site.topology, from, to, self.now);
        if let Some(link) = confirmed
            && self.refresh_link(link)
        {
            self.topology_changed();
        }
        let port = |(dpid, port): (Dpid, PortNo)| format!("{}.{port}", self.switch_name(dpid));
        match surprise {
            None => {}
            Some(Surprise::Miswired { link, .. }) => {
                let text = format!(
                    "{} is plugged into {}, but the site declares {}; replug it or correct the site file",
                    port(from),
                    port(to),
                    self.link_name(link)
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
        self.dirty.links = true;
        // All switches that the site does not know count as one.
        let nobody = (SwitchId(u32::MAX), None);
        let key = self.live.id(dpid).map_or(nobody, |switch| self.access.key(switch, port));
        self.port_notice(key, notice, level, |_| text);
    }

    /// True when that changed which links can be used.
    fn links_of_switch_changed(&mut self, id: SwitchId) -> bool {
        let site = self.site.clone();
        let mut changed = false;
        for (_, link) in site.topology.ports(NodeId::Switch(id)) {
            changed |= self.refresh_link(*link);
        }
        if changed {
            self.topology_changed();
        }
        changed
    }

    pub(crate) fn sweep_links(&mut self) {
        let mut changed = false;
        for n in 0..self.site.topology.links.len() as u32 {
            if LiveTopology::is_discoverable(&self.site.topology, LinkId(n)) {
                changed |= self.refresh_link(LinkId(n));
            }
        }
        let timeout = self.site.discovery.lldp_timeout;
        let before = Time(self.now.0.saturating_sub(timeout.as_nanos() as u64));
        self.live.forget_surprises(before);
        if changed {
            self.topology_changed();
        }
    }

    /// Brings a link's state up to date; true when that changed whether it can be used.
    fn refresh_link(&mut self, id: LinkId) -> bool {
        let before = self.links.state(id);
        let off = self.switched_off(id);
        let state = if off.is_empty() {
            self.live.link_state(&self.site.topology, &self.links, id, self.lldp_timeout(), self.now)
        } else {
            LinkState::Down
        };
        if state == before {
            return false;
        }
        if before == LinkState::Down {
            self.live.came_up(id, self.now);
        }
        let changed = self.links.set_state(id, state);
        self.dirty.links = true;
        let name = self.link_name(id);
        match (before, state) {
            (_, LinkState::Down) if !off.is_empty() => {
                let text = format!("{name} is down: the operator has switched off {}", off.join(" and "));
                self.notice(Level::Info, "link-down", text);
            }
            (_, LinkState::Down) => {
                self.notice(Level::Warning, "link-down", format!("{name} is down"));
            }
            (_, LinkState::Missing) => {
                let text = format!(
                    "{name} is up at both ends but discovery does not see it for {:?}; check the cable between these ports",
                    self.site.discovery.lldp_timeout
                );
                self.notice(Level::Error, "link-missing", text);
            }
            (LinkState::Down | LinkState::Missing, _) => {
                self.notice(Level::Info, "link-up", format!("{name} is up again"));
            }
            _ => {}
        }
        changed
    }

    /// After some link came or went: new default routes, and other paths for the VMs that need them.
    fn topology_changed(&mut self) {
        let site = self.site.clone();
        self.routes.recompute(&site.topology, &self.links);
        let plan = crate::rules::compile::plan(&site, &self.routes, self.classes.queues());
        let (_, differences) = self.desired.replace(tandem_model::Owner::Fabric, plan);
        self.start_change(Purpose::Upkeep, differences, &[]);
        self.reroute_all();
        self.serve_strays();
        self.refresh_groups();
        self.dirty.links = true;
    }

    /// Asks the declared hosts at a switch to show themselves.
    fn probe_hosts_at(&mut self, id: SwitchId) {
        if !self.site.modules.arp {
            return;
        }
        let probes: Vec<_> = self
            .site
            .topology
            .ports(NodeId::Switch(id))
            .iter()
            .filter_map(|(_, link)| self.site.topology.link(*link)?.other(NodeId::Switch(id)))
            .filter_map(|end| match end.node {
                NodeId::Server(s) => self.site.topology.server(s).map(|s| s.address),
                NodeId::Gateway(g) => self.site.topology.gateway(g).map(|g| g.address),
                NodeId::Switch(_) => None,
            })
            .collect();
        probes.into_iter().for_each(|ip| self.probe(ip));
    }

    /// Asks one host by ARP, at every port where it may be. The question has no sender address (RFC 5227 section 2.1.1), so that nobody
    /// keeps the controller as a neighbour: a kernel with a thousand emulated hosts would have no room for others.
    pub(crate) fn probe(&mut self, ip: Ipv4Addr) {
        let Some(host) = self.hosts.get(ip) else { return };
        let arp = Arp {
            op: ArpOp::Request,
            eth_dst: host.mac,
            sender_mac: self.site.addresses.dhcp_mac,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac([0; 6]),
            target_ip: ip,
        };
        let at: Vec<(SwitchId, PortNo)> = host.at.map_or_else(|| host.expected.clone(), |p| vec![p]);
        for (switch, port) in at {
            if let Some(dpid) = crate::core::connected(&self.live, &self.site, switch) {
                self.effects.push(Effect::SendArp { switch: dpid, port, arp });
            }
        }
    }

    pub(crate) fn check_host(&mut self, ip: Ipv4Addr) {
        let timeout = self.site.discovery.host_timeout;
        let Some(host) = self.hosts.get(ip).filter(|h| h.at.is_some()) else { return };
        let (seen, probes, kind) = (host.seen, host.probes, host.kind);
        let quiet = self.now.since(seen);
        if quiet < timeout && probes == 0 {
            return self.timers.replace(seen + timeout, Timer::HostCheck(ip));
        }
        if probes >= self.site.discovery.host_probes {
            let at = host.at;
            self.hosts.lost(ip);
            let text = format!("{} ({ip}) has not answered {probes} ARP probes", self.host_name(kind));
            // A stranger is no fault of anybody, and its port has said that strangers are there.
            if let (HostKind::Stranger, Some((switch, port))) = (kind, at) {
                let port = self.access.key(switch, port);
                return self.port_notice(port, PortNotice::Stranger, Level::Info, |_| text);
            }
            return self.notice(Level::Warning, "host-lost", text);
        }
        self.hosts.probed(ip);
        self.probe(ip);
        self.timers.replace(self.now + Duration::from_secs(1), Timer::HostCheck(ip));
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
