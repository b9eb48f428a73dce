//! The simulated network: links that are cut, ports that are switched off, discovery, and counters
//! as switches tell them.

use crate::{ScheduledAction, Simulation};
use tandem_core::network::attachment;
use tandem_model::{
    Arp, ArpOp, Cookie, Dpid, Event, FlowSample, Hop, LinkId, Mac, NodeId, Owner, PortCounters, PortInfo,
    PortNo, PortSample, ServerId, Site, SwitchId, Time,
};

impl Simulation {
    /// Cuts or mends a link: both ends report their ports.
    pub fn set_link(&mut self, at: Time, link: LinkId, up: bool) {
        if up {
            self.down.remove(&link);
        } else {
            self.down.insert(link, ());
        }
        self.report_port_states(at, link);
    }

    pub(super) fn report_port_states(&mut self, at: Time, link: LinkId) {
        let Some(declared) = self.site.topology.link(link).cloned() else { return };
        for end in [declared.a, declared.b] {
            let NodeId::Switch(id) = end.node else { continue };
            let Some(switch) = self.site.topology.switch(id).filter(|s| !s.legacy) else { continue };
            let dpid = switch.dpid;
            if let Some(port) = self.ports_of(id).into_iter().find(|p| p.port == end.port) {
                self.push(
                    at,
                    ScheduledAction::Event(Event::PortChanged { switch: dpid, port, removed: false }),
                );
            }
        }
    }

    pub(super) fn ports_of(&self, id: SwitchId) -> Vec<PortInfo> {
        let topology = &self.site.topology;
        topology
            .ports(NodeId::Switch(id))
            .iter()
            .filter_map(|(port, link)| {
                let speed = topology.link(*link)?.cfg.rate;
                let [_, _, a, b] = id.0.to_be_bytes();
                let mac = Mac([0x02, 0x20, a, b, (port.0 >> 8) as u8, port.0 as u8]);
                let name = format!("{}-{port}", topology.name(NodeId::Switch(id)));
                Some(PortInfo {
                    port: *port,
                    name,
                    mac,
                    up: !self.down.contains_key(link) && !self.is_off(*link),
                    speed: Some(speed),
                })
            })
            .collect()
    }

    /// True when either end of a link was switched off: the other one has no carrier then.
    pub(super) fn is_off(&self, link: LinkId) -> bool {
        let ends = self.site.topology.link(link).into_iter().flat_map(|l| [l.a, l.b]);
        ends.into_iter().any(|end| self.off.contains(&(end.node, end.port)))
    }

    pub(super) fn discover(&mut self) -> std::io::Result<()> {
        let site = self.site.clone();
        for (n, link) in (0u32..).zip(&site.topology.links) {
            let dpid = |node: NodeId| match node {
                NodeId::Switch(id) => site.topology.switch(id).filter(|s| !s.legacy).map(|s| s.dpid),
                _ => None,
            };
            let (Some(a), Some(b)) = (dpid(link.a.node), dpid(link.b.node)) else { continue };
            if self.down.contains_key(&LinkId(n)) {
                continue;
            }
            let a = (a, link.a.port);
            let b = (b, link.b.port);
            self.feed(Event::LinkSeen { from: a, to: b })?;
            self.feed(Event::LinkSeen { from: b, to: a })?;
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, id: SwitchId) -> std::io::Result<()> {
        let site = self.site.clone();
        let Some(switch) = site.topology.switch(id) else { return Ok(()) };
        self.flows.advance(self.now);
        let ports: Vec<PortSample> = site
            .topology
            .ports(NodeId::Switch(id))
            .iter()
            .filter_map(|(port, link)| {
                let out = site.topology.link(*link)?.hop_from(*link, NodeId::Switch(id));
                let tx = self.flows.bytes(out);
                let rx = self.flows.bytes(Hop { down: !out.down, ..out });
                let packets = |bytes: u64| bytes / u64::from(site.traffic.packet);
                Some(PortSample {
                    port: *port,
                    counters: PortCounters {
                        rx_packets: Some(packets(rx)),
                        tx_packets: Some(packets(tx)),
                        rx_bytes: Some(rx),
                        tx_bytes: Some(tx),
                        rx_dropped: Some(0),
                        tx_dropped: Some(self.flows.dropped(out) / u64::from(site.traffic.packet)),
                        rx_errors: Some(0),
                        tx_errors: Some(0),
                        ..PortCounters::default()
                    },
                })
            })
            .collect();
        let flows = self.flow_samples(id);
        self.feed(Event::Samples { switch: switch.dpid, ports, flows, rules: Vec::new() })
    }

    /// What the flows of the VMs behind a switch have counted there.
    fn flow_samples(&self, switch: SwitchId) -> Vec<FlowSample> {
        let mut samples = Vec::new();
        for (server, uplink) in self.behind.get(&switch).into_iter().flatten() {
            for vm in self.loads.vms_on(*server) {
                if self.vms.get(&vm).is_none_or(|(_, spec)| spec.uplink_port != *uplink) {
                    continue;
                }
                let bytes: u64 = self.vm_bytes(vm).iter().sum();
                let packets = bytes / u64::from(self.site.traffic.packet);
                let cookie = Cookie::new(Owner::Vm(vm.0 as u32), 0);
                samples.push(FlowSample { cookie, flows: 2, packets: Some(packets), bytes: Some(bytes) });
            }
        }
        samples
    }

    /// A VM that is asked by ARP at the port where it is answers.
    pub(super) fn answer_arp(&mut self, switch: Dpid, port: PortNo, arp: &Arp) {
        let Some(vm) = self.by_mac.get(&arp.eth_dst).copied() else { return };
        let Some((server, spec)) = self.vms.get(&vm) else { return };
        let here = uplink_switch(&self.site, *server, spec.uplink_port);
        let dpid = here.and_then(|(s, _)| self.site.topology.switch(s)).map(|s| s.dpid);
        if arp.op != ArpOp::Request
            || arp.target_ip != spec.address
            || here.map(|(_, p)| p) != Some(port)
            || dpid != Some(switch)
        {
            return;
        }
        let reply = Arp {
            op: ArpOp::Reply,
            eth_dst: arp.sender_mac,
            sender_mac: spec.mac,
            sender_ip: spec.address,
            target_mac: arp.sender_mac,
            target_ip: arp.sender_ip,
        };
        self.later(2 * self.delays.packet, Event::ArpSeen { switch, port, arp: reply });
    }
}

/// Where a server's uplink, by the server's port, is plugged into the network.
pub(super) fn uplink_switch(site: &Site, server: ServerId, port: PortNo) -> Option<(SwitchId, PortNo)> {
    let topology = &site.topology;
    let uplink = topology.link_at(NodeId::Server(server), port);
    let index = topology.server(server)?.uplinks.iter().position(|l| Some(*l) == uplink)?;
    attachment::uplink_port(topology, server, index)
}
