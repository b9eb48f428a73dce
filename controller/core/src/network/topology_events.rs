//! What switches, ports and discovery frames mean: links come and go, and the operator hears of
//! what is not as declared.

use crate::network::access_ports::Behind;
use crate::network::host_tracker::HostKind;
use crate::network::links::LinkState;
use crate::network::port_limits::PortNotice;
use crate::network::topology_state::{LiveTopology, Sync, WiringMismatch, is_openflow};
use crate::network::{NetworkMut, topology_state};
use crate::signal::Signal;
use crate::timers::Timer;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, Dpid, Effect, Level, LinkId, Mac, NodeId, PortNo, SiteEvent, SwitchId, Time, TxnId,
};

impl NetworkMut<'_> {
    /// A switch has told how a transaction ended: was it the one that brought it all its rules?
    /// A switch has all its rules, or has refused some of them. True when it has refused rules
    /// before that were still wanted, and has them now.
    pub(crate) fn on_sync(&mut self, dpid: Dpid, txn: TxnId, result: Sync) -> bool {
        let Some(switch) = self.net.live.id(dpid).and_then(|id| self.net.live.switch_mut(id)) else {
            return false;
        };
        if switch.sync.1 != Some(txn) {
            return false;
        }
        switch.sync.0 = result;
        self.cx.dirty.switches = true;
        result == Sync::Done && std::mem::take(&mut switch.resyncs)
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
                && let Some(dpid) = topology_state::connected(&self.net.live, &self.cx.site.topology, id)
            {
                self.cx.effects.push(Effect::Discover { switch: dpid });
            }
            self.cx.signal(Signal::TopologyChanged);
        }
    }

    pub(crate) fn on_link_seen(&mut self, from: (Dpid, PortNo), to: (Dpid, PortNo)) {
        // No machine speaks for links: what comes in by its port is forged, or sent on by it from
        // elsewhere.
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
            Some(WiringMismatch::Miswired { link, .. }) => {
                let text = format!(
                    "{} is plugged into {}, but the site declares {}; replug it or correct the site file",
                    port(from),
                    port(to),
                    self.cx.link_name(link)
                );
                self.wiring_notice(to, PortNotice::Miswired, Level::Error, text);
            }
            Some(WiringMismatch::Unknown { .. }) => {
                let text = format!(
                    "a link from {} to {} is not in the site file; no traffic is sent over it",
                    port(from),
                    port(to)
                );
                self.wiring_notice(to, PortNotice::UnknownLink, Level::Warning, text);
            }
        }
    }

    pub(crate) fn wiring_notice(
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
    pub(crate) fn links_of_switch_changed(&mut self, id: SwitchId) -> bool {
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
    pub(crate) fn refresh_link(&mut self, id: LinkId) -> bool {
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
        if changed {
            let is_usable = self.net.links.is_usable(id);
            let event =
                if is_usable { SiteEvent::LinkUp { link: id } } else { SiteEvent::LinkDown { link: id } };
            self.cx.tell(event);
        }
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
    pub(crate) fn probe_hosts_at(&mut self, id: SwitchId) {
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

    /// Asks one host by ARP, at every port where it may be. The question has no sender address (RFC
    /// 5227 section 2.1.1), so that nobody keeps the controller as a neighbour: a kernel with a
    /// thousand emulated hosts would have no room for others.
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
            if let Some(dpid) = topology_state::connected(&self.net.live, &self.cx.site.topology, switch) {
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
            let (at, mac) = (host.at, host.mac);
            self.net.hosts.lost(ip);
            let lost = |(switch, port)| SiteEvent::HostLost { mac, ip: Some(ip), switch, port };
            let text = format!("{} ({ip}) has not answered {probes} ARP probes", self.cx.host_name(kind));
            // An unknown host is no fault of anybody, and its port has said that unknown hosts are there.
            if let (HostKind::Unknown, Some((switch, port))) = (kind, at) {
                let key = self.net.access.key(switch, port);
                if self.port_notice(key, PortNotice::UnknownHost, Level::Info, |_| text) {
                    self.cx.tell(lost((switch, port)));
                }
                return;
            }
            if let Some(at) = at {
                self.cx.tell(lost(at));
            }
            return self.cx.notice(Level::Warning, "host-lost", text);
        }
        self.net.hosts.probed(ip);
        self.probe(ip);
        self.cx.timers.replace(self.cx.now + Duration::from_secs(1), Timer::HostCheck(ip));
    }
}

impl NetworkMut<'_> {
    /// A switch's driver has found that its flows differed, and has put them right.
    /// The same answer as that of [`NetworkMut::on_sync`].
    pub(crate) fn on_rules_repaired(&mut self, dpid: Dpid, missing: u32, stale: u32) -> bool {
        let mut has_them_now = false;
        if let Some(s) = self.net.live.id(dpid).and_then(|id| self.net.live.switch_mut(id)) {
            s.sync.0 = Sync::Done;
            has_them_now = std::mem::take(&mut s.resyncs);
            self.cx.dirty.switches = true;
        }
        let name = self.network().switch_name(dpid);
        let text = format!("{name}: {missing} rules were missing and {stale} were stale; put right");
        self.cx.notice(Level::Warning, "rules-repaired", text);
        has_them_now
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
