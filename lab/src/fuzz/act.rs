//! The actions of a schedule, done.

use super::action::{Action, Sent};
use super::hypervisors::Guest;
use super::world::{Item, World};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, Bytes, DhcpRequestKind, Event, LinkId, LoadSample, Mac, NodeId, PortNo, Request, ServerId,
    SwitchId, Time, VmId, VmOrigin, VmSpec,
};

/// The n-th of a list, counted around.
pub(super) fn nth<T: Clone>(of: &[T], n: u32) -> Option<T> {
    let at = (n as usize).checked_rem(of.len())?;
    of.get(at).cloned()
}

fn ms(n: u32) -> Duration {
    Duration::from_millis(n.into())
}

impl World {
    /// Does one action of a schedule.
    pub(super) fn act(&mut self, action: Action) {
        if self.trace {
            eprintln!("{:.6} ACTION {action}", self.now.since(super::world::START).as_secs_f64());
        }
        match action {
            Action::LoseSwitch { .. }
            | Action::TakeOver(_)
            | Action::Refuse { .. }
            | Action::SlowSwitch { .. }
            | Action::Swallow { .. }
            | Action::Stutter { .. }
            | Action::Wipe { .. } => self.act_on_switch(action),
            Action::Cable { link, back } => {
                let link = self.link(link);
                self.set_cable(link, false);
                self.later(ms(back), Item::Cable(link, true));
            }
            Action::Flap { link, times } => {
                let link = self.link(link);
                for n in 0..times * 2 {
                    self.later(ms(n * 40), Item::Cable(link, n % 2 == 1));
                }
            }
            Action::StoreFails(n) => self.store.fail(n),
            Action::SlowStore(n) => self.store.slow(ms(n)),
            Action::WorldDown { .. }
            | Action::ServerAway { .. }
            | Action::ServerDies(_)
            | Action::VmDies(_)
            | Action::StartsFail(_)
            | Action::NextTransfer(_)
            | Action::SlowHypervisors(_)
            | Action::HypervisorsStutter(_)
            | Action::Stray { .. } => self.act_on_hypervisors(action),
            Action::VmSends { vm, what } => self.vm_sends(vm, what),
            Action::HostSends { host, what } => self.host_sends(host, what),
            Action::Loads { server, percent, times } => {
                let server = self.server(server);
                self.tell_loads(server, percent, times);
            }
            Action::Agent { switch, bytes } => self.agent(switch, bytes),
            Action::AgentDown(switch) => self.agent_down(switch),
            Action::Traffic { link, mbit } => self.traffic(link, mbit),
            Action::StepClock(seconds) => self.step_clock(seconds),
            Action::Restart { back, written } => {
                if self.alive {
                    self.kill(written, ms(back));
                }
            }
            request => {
                if let Some(ask) = self.ask_of(request).filter(|_| self.alive) {
                    self.ask(ask);
                }
            }
        }
    }

    /// The controller is told something, if it runs.
    pub(super) fn say(&mut self, event: Event) {
        if self.alive {
            self.tell(event);
        }
    }

    /// Somebody asks.
    pub(super) fn ask(&mut self, ask: Request) {
        let id = self.requests.ask(ask.clone());
        self.tell(Event::Request { id, request: ask });
    }

    pub(super) fn link(&self, n: u32) -> LinkId {
        LinkId(n % self.cables.len().max(1) as u32)
    }

    pub(super) fn server(&self, n: u32) -> ServerId {
        ServerId(n % self.site.topology.servers.len().max(1) as u32)
    }

    pub(super) fn switch(&self, n: u32) -> SwitchId {
        SwitchId(n % self.switches.len().max(1) as u32)
    }

    fn act_on_switch(&mut self, action: Action) {
        match action {
            Action::LoseSwitch { switch, back } => {
                let id = self.switch(switch);
                let switch = &self.switches[id.0 as usize];
                let line = switch.active.as_ref().or(switch.joining.as_ref());
                if let Some(serial) = line.map(|l| l.serial) {
                    self.lose(id, serial, ms(back));
                }
            }
            Action::TakeOver(switch) => {
                let id = self.switch(switch);
                if self.switches[id.0 as usize].active.is_some() {
                    self.later(Duration::from_micros(10), Item::Connect(id));
                }
            }
            Action::Refuse { switch, after, why } => {
                let id = self.switch(switch);
                self.switches[id.0 as usize].refuse(after, why);
            }
            Action::SlowSwitch { switch, ms: slow } => {
                let id = self.switch(switch);
                self.switches[id.0 as usize].slow(ms(slow));
            }
            Action::Swallow { switch, answers } => {
                let id = self.switch(switch);
                self.switches[id.0 as usize].swallow(answers);
            }
            Action::Stutter { switch, answers } => {
                let id = self.switch(switch);
                self.switches[id.0 as usize].stutter(answers);
            }
            Action::Wipe { switch, nth } => {
                let (id, now) = (self.switch(switch), self.now);
                self.switches[id.0 as usize].wipe(nth, now);
                self.hear(id);
            }
            _ => {}
        }
    }

    fn act_on_hypervisors(&mut self, action: Action) {
        match action {
            Action::WorldDown { back } => self.lose_world(ms(back)),
            Action::ServerAway { server, back } => {
                let server = self.server(server);
                if self.hypervisors.away.insert(server) {
                    self.later(ms(back), Item::ServerBack(server));
                    if self.world_up {
                        let away = self.hypervisors.away.iter();
                        let servers = away.map(|s| (*s, "it does not answer".to_owned())).collect();
                        self.say(Event::ServersUnreachable { servers });
                    }
                }
            }
            Action::ServerDies(server) => {
                let server = self.server(server);
                let all = self.hypervisors.guests.keys().filter(|(_, at)| *at == server);
                let dead: Vec<VmId> = all.map(|(vm, _)| *vm).collect();
                dead.into_iter().for_each(|vm| self.kill_vm(vm, server));
            }
            Action::VmDies(n) => {
                let all: Vec<_> = self.hypervisors.guests.keys().copied().collect();
                if let Some((vm, server)) = nth(&all, n) {
                    self.kill_vm(vm, server);
                }
            }
            Action::StartsFail(n) => self.hypervisors.fail_starts(n),
            Action::NextTransfer(end) => self.hypervisors.end_next(end),
            Action::SlowHypervisors(n) => self.hypervisors.slow(ms(n)),
            Action::HypervisorsStutter(n) => self.hypervisors.stutter(n),
            Action::Stray { server, id } => self.plant_stray(server, id),
            _ => {}
        }
    }

    /// The connection to the hypervisor service is lost for a while.
    pub(super) fn lose_world(&mut self, back: Duration) {
        if !self.world_up {
            return;
        }
        self.world_up = false;
        self.world_life += 1;
        self.say(Event::WorldDown { why: "gone".to_owned() });
        self.later(back, Item::WorldBack(self.world_life));
    }

    fn kill_vm(&mut self, vm: VmId, server: ServerId) {
        let event = self.hypervisors.kill(vm, server);
        let is_told = self.world_up && !self.hypervisors.away.contains(&server);
        if let Some(event) = event.filter(|_| is_told) {
            self.say(event);
        }
    }

    /// A VM that another controller has left behind; it is found when the hypervisors are next
    /// listed.
    fn plant_stray(&mut self, server: u32, id: u32) {
        let (server, vm) = (self.server(server), VmId(1 + u64::from(id)));
        let is_there = self.hypervisors.guests.keys().any(|(other, _)| *other == vm);
        // No address is made up that the core gives to somebody: those are given out from the
        // front.
        let Some(edge) = self.site.topology.edge_of(server, 0).filter(|_| !is_there) else { return };
        let prefix = self.site.topology.switch(edge).and_then(|s| s.prefix);
        let Some(address) = prefix.and_then(|p| p.nth(p.size().saturating_sub(3 + u64::from(id)))) else {
            return;
        };
        let [_, _, c, d] = address.octets();
        let spec = VmSpec {
            resources: self.resources(1, 5),
            name: None,
            image: None,
            mac: Mac([0x02, 0x01, 0x77, c, d, id as u8]),
            address,
            uplink_port: PortNo(1),
            fixed_address: None,
            origin: VmOrigin {
                placed_at: Time::from_secs(1_600_000_000 + u64::from(id)),
                ..VmOrigin::default()
            },
        };
        self.hypervisors.guests.insert((vm, server), Guest { spec, is_stray: true });
        if self.world_up && self.alive {
            self.tell_world();
        }
    }

    fn vm_sends(&mut self, n: u32, what: Sent) {
        let all: Vec<_> = self.hypervisors.guests.keys().copied().collect();
        let Some((vm, server)) = nth(&all, n) else { return };
        let Some(guest) = self.hypervisors.guests.get(&(vm, server)) else { return };
        let spec = guest.spec.clone();
        let kind = match what {
            Sent::Discover => Some((DhcpRequestKind::Discover, None)),
            Sent::Release => Some((DhcpRequestKind::Release, None)),
            Sent::Foreign => {
                let other = self.site.topology.servers.first().map(|s| s.address);
                Some((DhcpRequestKind::Request, other))
            }
            _ => None,
        };
        if let Some((kind, wanted)) = kind {
            return self.dhcp(vm, server, kind, wanted);
        }
        if let Some(at) = self.access_of(server, spec.uplink_port) {
            self.sends(at, spec.mac, spec.address, what);
        }
    }

    fn host_sends(&mut self, n: u32, what: Sent) {
        let servers = self.site.topology.servers.len() as u32;
        let gateways = self.site.topology.gateways.len() as u32;
        let n = n % (servers + gateways).max(1);
        let topology = &self.site.topology;
        let (node, mac, ip, link) = if n < servers {
            let s = &topology.servers[n as usize];
            (NodeId::Server(ServerId(n)), s.mac, s.address, s.uplinks.first().copied())
        } else {
            let g = &topology.gateways[(n - servers) as usize];
            (
                NodeId::Gateway(tandem_model::GatewayId(n - servers)),
                g.mac,
                g.address,
                g.uplinks.first().copied(),
            )
        };
        let end = link.and_then(|l| topology.link(l)).and_then(|l| l.other(node));
        if let Some(tandem_model::Endpoint { node: NodeId::Switch(id), port }) = end {
            self.sends((id, port), mac, ip, what);
        }
    }

    /// Somebody at a port says what the switch shows to the controller.
    fn sends(&mut self, at: (SwitchId, PortNo), mac: Mac, ip: Ipv4Addr, what: Sent) {
        let port = at.1;
        let gateway = self.site.topology.gateways.first().map_or(Ipv4Addr::UNSPECIFIED, |g| g.address);
        let foreign = Ipv4Addr::from(u32::from(ip) ^ 1);
        let arp = |sender_ip, target_ip| Arp {
            op: ArpOp::Request,
            eth_dst: Mac::BROADCAST,
            sender_mac: mac,
            sender_ip,
            target_mac: Mac([0; 6]),
            target_ip,
        };
        self.seen_at(at, |switch| match what {
            Sent::Arp => Event::ArpSeen { switch, port, arp: arp(ip, gateway) },
            Sent::Probe => Event::ArpSeen { switch, port, arp: arp(Ipv4Addr::UNSPECIFIED, ip) },
            Sent::Spoofed => Event::HostSeen { switch, port, mac, ip: foreign },
            _ => Event::HostSeen { switch, port, mac, ip },
        });
    }

    /// A server tells what it and its VMs have used in the last second; and again in a second.
    pub(super) fn tell_loads(&mut self, server: ServerId, percent: u32, times: u32) {
        let Some(declared) = self.site.topology.server(server) else { return };
        let cores = u64::from(declared.capacity.cpu);
        let used = 10_000_000 * u64::from(percent) * cores;
        let ram = declared.capacity.ram.0 * u64::from(percent.min(100)) / 100;
        let zero = LoadSample {
            cpu_ns: 0,
            ram: 0,
            disk_read: 0,
            disk_written: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            dirtied: 0,
        };
        let sample = self.cpu.entry(server).or_insert(zero);
        sample.cpu_ns += used;
        sample.ram = ram;
        let sample = *sample;
        let guests: Vec<VmId> =
            self.hypervisors.guests.keys().filter(|(_, at)| *at == server).map(|(vm, _)| *vm).collect();
        let share = (guests.len() as u64).max(1);
        let vms = guests.iter().map(|vm| {
            let load = LoadSample { cpu_ns: sample.cpu_ns / share, ram: ram / share, ..sample };
            (*vm, load)
        });
        let vms = vms.collect();
        if self.world_up && !self.hypervisors.away.contains(&server) {
            self.say(Event::ServerSamples { server, sample, vms });
        }
        if times > 1 {
            self.later(Duration::from_secs(1), Item::Loads(server, percent, times - 1));
        }
    }

    fn step_clock(&mut self, seconds: i32) {
        let by = i64::from(seconds) * 1_000_000_000;
        self.wall += by;
        self.say(Event::WallClockStepped { by });
    }

    /// So much has gone through a link in the last ten seconds.
    fn traffic(&mut self, link: u32, mbit: u32) {
        let link = self.link(link);
        let bytes = Bytes(u64::from(mbit) * 125_000 * 10).0;
        let Some(declared) = self.site.topology.link(link) else { return };
        let ends = [(declared.a, (0, bytes)), (declared.b, (bytes, 0))];
        for (end, (rx, tx)) in ends {
            if let NodeId::Switch(id) = end.node {
                self.switches[id.0 as usize].count(end.port, rx, tx);
            }
        }
    }
}
