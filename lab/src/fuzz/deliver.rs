//! What the core wants is carried out: by the drivers, the store and the hypervisors. And what
//! machines answer to what they are sent.

use super::hypervisors::{Later, Outcome};
use super::requests::is_not_durable;
use super::world::{Item, World};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Dpid, Effect, Event, Mac, NodeId,
    PortNo, RequestId, Response, ServerId, SwitchId, VmId,
};
use tandem_switch_driver::Output;

/// How often a VM's DHCP client tries before it gives up, and the pause between.
const DHCP_TRIES: u32 = 6;
const DHCP_PAUSE: Duration = Duration::from_secs(3);

impl World {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SyncRules { switch, .. }
            | Effect::LeaveRules { switch, .. }
            | Effect::ApplyRules { switch, .. }
            | Effect::Discover { switch }
            | Effect::SetPort { switch, .. }
            | Effect::PollNow { switch } => self.tell_driver(switch, effect),
            Effect::SendArp { switch, port, arp } => {
                self.tell_driver(switch, effect);
                self.hear_arp(switch, port, &arp);
            }
            Effect::SendDhcp { switch, port, ref dhcp } => {
                let dhcp = dhcp.clone();
                self.tell_driver(switch, effect);
                self.hear_dhcp(switch, port, &dhcp);
            }
            Effect::AllocateVm { vm, .. }
            | Effect::StopVm { vm, .. }
            | Effect::TagVm { vm, .. }
            | Effect::ResizeVm { vm, .. }
            | Effect::AttachVm { vm, .. }
            | Effect::MigrateVm { vm, .. }
            | Effect::CancelMigration { vm, .. } => {
                if self.world_up {
                    let at = self.hypervisors.arrival(vm, self.now);
                    self.at(at, Item::Order(self.world_life, effect));
                }
            }
            Effect::Store { id, op: record } => {
                let life = self.life;
                if let Some(at) = self.store.write(id, record, self.now) {
                    self.at(at, Item::Commit(life));
                }
            }
            Effect::ConfigureAgent { agent, desired } => self.configure_agent(&agent, *desired),
            Effect::Response { id, response: answer } => self.answered(id, &answer),
            Effect::SetMigrationRate { .. }
            | Effect::ReportLoads { .. }
            | Effect::TrafficStart { .. }
            | Effect::TrafficStop { .. }
            | Effect::Notice { .. } => {}
        }
    }

    fn tell_driver(&mut self, dpid: Dpid, effect: Effect) {
        let Some(id) = self.switch_of(dpid) else { return };
        let now = self.core_now();
        let Some(line) = &mut self.switches[id.0 as usize].active else { return };
        let mut out = Output::default();
        let serial = line.serial;
        line.driver.execute(effect, now, &mut out);
        self.hear_driver(id, serial, out);
    }

    fn answered(&mut self, id: RequestId, answer: &Response) {
        match self.requests.answer(id) {
            Err(what) => self.violate("a request is answered once", what),
            Ok(ask) => {
                if let Some(what) = is_not_durable(&ask, answer, &self.store.kept) {
                    self.violate("what was answered is in the store", what);
                }
            }
        }
        // A group may be gone again before its creation is answered.
        if let Response::GroupCreated { group } = answer {
            let is_there = self.core.snapshot().groups.iter().any(|g| g.id == *group);
            if is_there && !self.store.kept.groups.iter().any(|g| g.id == *group) {
                let what = format!("{group} was made, and the store has not got it");
                self.violate("what was answered is in the store", what);
            }
        }
        if let Response::Planned { plan } = answer {
            self.last_plan = Some(plan.id);
        }
    }

    pub(super) fn commit(&mut self, life: u32) {
        if life != self.life {
            return;
        }
        let (writes, is_written) = self.store.commit();
        for (id, record) in writes {
            if is_written {
                self.store.keep(&record);
                self.tell(Event::Stored { id });
            } else {
                self.tell(Event::StoreFailed { id, why: "disk full".to_owned() });
            }
        }
    }

    pub(super) fn order(&mut self, life: u64, order: Effect) {
        // An order on a connection that was lost is lost with it.
        if life == self.world_life && self.world_up {
            let out = self.hypervisors.take(order, self.now);
            self.outcome(out);
        }
    }

    pub(super) fn pass(&mut self, later: Later) {
        if let Later::Dhcp(vm, server, tries) = later {
            return self.dhcp_client(vm, server, tries);
        }
        let out = self.hypervisors.pass(later, self.now);
        self.outcome(out);
    }

    pub(super) fn outcome(&mut self, out: Outcome) {
        for (at, later) in out.later {
            self.at(at, Item::Hypervisors(later));
        }
        for order in out.again {
            self.later(Duration::from_secs(1), Item::Order(self.world_life, order));
        }
        if let Some(what) = self.hypervisors.wrong.take() {
            self.violate("no VM runs twice", what);
        }
        if !self.world_up {
            return;
        }
        for event in out.events {
            for _ in 0..self.hypervisors.copies() {
                self.tell(event.clone());
            }
        }
    }

    /// The hypervisor service connects: it says whom it has.
    pub(super) fn world_back(&mut self, life: u64) {
        if self.alive && life == self.world_life {
            self.world_up = true;
            self.tell_world();
        }
    }

    /// Says which servers answer and what runs there.
    pub(super) fn tell_world(&mut self) {
        let servers = self.hypervisors.away.iter().map(|s| (*s, "it does not answer".to_owned()));
        let servers = servers.collect();
        self.tell(Event::ServersUnreachable { servers });
        let found = self.hypervisors.found();
        let vms = found.iter().map(|f| (f.vm, f.server)).collect();
        self.tell(Event::VmsFound { vms: found });
        self.tell(Event::WorldUp { world: "fuzz".to_owned(), vms, traffic: true });
    }

    pub(super) fn server_back(&mut self, server: ServerId) {
        if self.hypervisors.away.remove(&server) && self.world_up {
            self.tell_world();
        }
    }

    /// The switch's port that a server's port is plugged into.
    pub(super) fn access_of(&self, server: ServerId, uplink: PortNo) -> Option<(SwitchId, PortNo)> {
        let topology = &self.site.topology;
        let node = NodeId::Server(server);
        let link = topology.link_at(node, uplink)?;
        let end = topology.link(link)?.other(node)?;
        match end.node {
            NodeId::Switch(id) => Some((id, end.port)),
            _ => None,
        }
    }

    /// A machine at a switch's port says something that goes to the controller.
    pub(super) fn seen_at(&mut self, at: (SwitchId, PortNo), event: impl FnOnce(Dpid) -> Event) {
        let (id, port) = at;
        let link = self.site.topology.link_at(NodeId::Switch(id), port);
        let is_heard = link.is_some_and(|l| self.is_up(l)) && self.switches[id.0 as usize].active.is_some();
        if is_heard && self.alive {
            let event = event(self.switches[id.0 as usize].dpid);
            self.tell(event);
        }
    }

    fn dhcp_client(&mut self, vm: VmId, server: ServerId, tries: u32) {
        if self.hypervisors.guests.contains_key(&(vm, server)) && tries < DHCP_TRIES {
            self.dhcp(vm, server, DhcpRequestKind::Discover, None);
            self.later(DHCP_PAUSE, Item::Hypervisors(Later::Dhcp(vm, server, tries + 1)));
        }
    }

    /// A VM's DHCP client says something.
    pub(super) fn dhcp(
        &mut self,
        vm: VmId,
        server: ServerId,
        kind: DhcpRequestKind,
        wanted: Option<Ipv4Addr>,
    ) {
        let Some(guest) = self.hypervisors.guests.get(&(vm, server)) else { return };
        let (mac, address) = (guest.spec.mac, guest.spec.address);
        let Some(at) = self.access_of(server, guest.spec.uplink_port) else { return };
        let client = match kind {
            DhcpRequestKind::Release | DhcpRequestKind::Inform => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let dhcp = DhcpRequest {
            kind,
            xid: vm.0 as u32,
            mac,
            eth_src: mac,
            client,
            requested: wanted,
            server: wanted.map(|_| self.site.addresses.dhcp),
            broadcast: vm.0.is_multiple_of(2),
        };
        self.seen_at(at, |switch| Event::DhcpSeen { switch, port: at.1, dhcp });
    }

    /// A VM is offered an address: it takes it.
    fn hear_dhcp(&mut self, dpid: Dpid, port: PortNo, reply: &DhcpReply) {
        let Some(id) = self.switch_of(dpid) else { return };
        let guests = self.hypervisors.guests.iter().filter(|(_, g)| g.spec.mac == reply.mac);
        let at = guests.map(|((vm, server), g)| (*vm, *server, g.spec.uplink_port));
        let at = at.filter(|(_, server, uplink)| self.access_of(*server, *uplink) == Some((id, port)));
        let Some((vm, server, _)) = at.collect::<Vec<_>>().pop() else { return };
        match reply.kind {
            DhcpReplyKind::Offer => self.dhcp(vm, server, DhcpRequestKind::Request, Some(reply.address)),
            DhcpReplyKind::Nak => {
                let again = Later::Dhcp(vm, server, 1);
                self.later(Duration::from_millis(100), Item::Hypervisors(again));
            }
            DhcpReplyKind::Ack => {}
        }
    }

    /// Who lives at a port and is asked for answers.
    fn hear_arp(&mut self, dpid: Dpid, port: PortNo, arp: &Arp) {
        let Some(id) = self.switch_of(dpid).filter(|_| arp.op == ArpOp::Request) else { return };
        let Some(link) = self.site.topology.link_at(NodeId::Switch(id), port) else { return };
        let end = self.site.topology.link(link).and_then(|l| l.other(NodeId::Switch(id)));
        let mac = match end.map(|e| e.node) {
            Some(NodeId::Server(server)) => self.mac_at(server, arp.target_ip),
            Some(NodeId::Gateway(gateway)) => {
                let gateway = self.site.topology.gateway(gateway);
                gateway.filter(|g| g.address == arp.target_ip).map(|g| g.mac)
            }
            _ => None,
        };
        let Some(mac) = mac else { return };
        let answer = Arp {
            op: ArpOp::Reply,
            eth_dst: arp.sender_mac,
            sender_mac: mac,
            sender_ip: arp.target_ip,
            target_mac: arp.sender_mac,
            target_ip: arp.sender_ip,
        };
        let event = Event::ArpSeen { switch: dpid, port, arp: answer };
        if self.is_up(link) {
            self.later(Duration::from_micros(700), Item::Tell(self.life, event));
        }
    }

    fn mac_at(&self, server: ServerId, ip: Ipv4Addr) -> Option<Mac> {
        let own = self.site.topology.server(server).filter(|s| s.address == ip).map(|s| s.mac);
        let mut guests = self.hypervisors.guests.iter().filter(|((_, at), _)| *at == server);
        own.or_else(|| guests.find(|(_, g)| g.spec.address == ip).map(|(_, g)| g.spec.mac))
    }
}
