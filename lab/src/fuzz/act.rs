//! The actions of a schedule, done.

use super::action::{Action, PlanKind, Sent};
use super::hypervisors::Guest;
use super::world::{Item, World};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Adoption, AgentSample, Arp, ArpOp, BitRate, Bytes, ClassId, ClassSample, DhcpRequestKind, Event, LinkId,
    LoadSample, Mac, MigrationMode, MoveOptions, NodeId, PlanGoal, PlanId, PortCounters, PortNo, PortSample,
    QueueSelection, Request, Resources, ServerId, Share, SwitchId, Time, VmId, VmOrigin, VmRequest, VmSpec,
    VmState,
};

/// The n-th of a list, counted around.
fn nth<T: Clone>(of: &[T], n: u32) -> Option<T> {
    let at = (n as usize).checked_rem(of.len())?;
    of.get(at).cloned()
}

fn ms(n: u32) -> Duration {
    Duration::from_millis(n.into())
}

impl World {
    /// Does one action of a schedule.
    pub fn act(&mut self, action: Action) {
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
            Action::AgentDown(switch) => {
                let agent = format!("agent{}", self.switch(switch).0);
                self.say(Event::AgentDown { agent, why: "gone".to_owned() });
            }
            Action::Traffic { link, mbit } => self.traffic(link, mbit),
            Action::StepClock(seconds) => {
                let by = i64::from(seconds) * 1_000_000_000;
                self.wall += by;
                self.say(Event::WallClockStepped { by });
            }
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
    fn say(&mut self, event: Event) {
        if self.alive {
            self.tell(event);
        }
    }

    /// Somebody asks.
    pub(super) fn ask(&mut self, ask: Request) {
        let id = self.requests.ask(ask.clone());
        self.tell(Event::Request { id, request: ask });
    }

    fn link(&self, n: u32) -> LinkId {
        LinkId(n % self.cables.len().max(1) as u32)
    }

    fn server(&self, n: u32) -> ServerId {
        ServerId(n % self.site.topology.servers.len().max(1) as u32)
    }

    fn switch(&self, n: u32) -> SwitchId {
        SwitchId(n % self.switches.len().max(1) as u32)
    }

    fn vm(&self, n: u32) -> Option<VmId> {
        let ids: Vec<VmId> = self.core.vms().map(|v| v.id).collect();
        nth(&ids, n)
    }

    /// The n-th VM that runs; sometimes the n-th of all, which may be on its way in or out.
    fn running(&self, n: u32) -> Option<VmId> {
        let running = self.core.vms().filter(|v| n % 4 == 0 || v.state == VmState::Running);
        let ids: Vec<VmId> = running.map(|v| v.id).collect();
        nth(&ids, n / 4)
    }

    fn resources(&self, cpu: u32, net: u32) -> Resources {
        let default = self.site.vm.default;
        Resources { cpu, net: BitRate(default.net.0 * u64::from(net) / 10), ..default }
    }

    /// What an action asks of the controller, if there is what it is about.
    fn ask_of(&self, action: Action) -> Option<Request> {
        Some(match action {
            Action::RequestVm { cpu, net, class, lifetime } => {
                let classes = self.site.classes.len() as u32;
                let class = (class > 0 && classes > 0).then(|| ClassId(((class - 1) % classes) as u16));
                let timeout = (lifetime > 0).then(|| Duration::from_secs(lifetime.into()));
                let resources = self.resources(cpu, net);
                Request::RequestVm {
                    request: VmRequest { resources, class, timeout, name: None, image: None },
                }
            }
            Action::DeleteVm(vm) => Request::DeleteVm { vm: self.vm(vm)? },
            Action::ResizeVm { vm, cpu, net } => {
                Request::ResizeVm { vm: self.running(vm)?, resources: self.resources(cpu, net) }
            }
            Action::CreateGroup { first, stride, size } => self.group(first, stride, size)?,
            Action::DeleteGroup(n) => {
                let groups: Vec<_> = self.store.kept.groups.iter().map(|g| g.id).collect();
                Request::DeleteGroup { group: nth(&groups, n)? }
            }
            Action::SetShares(n) => self.shares(n)?,
            Action::PortOff { link, upper } => {
                let link = self.site.topology.link(self.link(link))?;
                let ends = if upper { [link.a, link.b] } else { [link.b, link.a] };
                let end = ends.into_iter().find(|e| matches!(e.node, NodeId::Switch(_)))?;
                let NodeId::Switch(switch) = end.node else { return None };
                Request::SetPort { switch, port: end.port, up: false }
            }
            Action::PortOn(n) => {
                let port = nth(&self.store.kept.ports, n)?;
                Request::SetPort { switch: port.switch, port: port.port, up: true }
            }
            Action::PinPath { vm, via } => {
                Request::PinPath { vm: self.running(vm)?, via: vec![self.switch(via)] }
            }
            Action::UnpinPath(vm) => Request::UnpinPath { vm: self.vm(vm)? },
            other => return self.move_of(other),
        })
    }

    fn move_of(&self, action: Action) -> Option<Request> {
        let options = MoveOptions::default();
        Some(match action {
            Action::MigrateVm { vm, to, force, cold } => {
                let manner = cold.then_some(MigrationMode::Cold);
                let to = to.map(|n| self.server(n));
                Request::MigrateVm { vm: self.running(vm)?, to, options: MoveOptions { manner, force } }
            }
            Action::CancelMigration(n) => {
                let open: Vec<_> = self.core.migrations().map(|m| m.id).collect();
                Request::CancelMigration { migration: nth(&open, n)? }
            }
            Action::Plan(kind) => {
                let aim = match kind {
                    PlanKind::KeepPolicy => PlanGoal::KeepPolicy,
                    PlanKind::Relieve => PlanGoal::Relieve,
                    PlanKind::Evacuate(n) => PlanGoal::Evacuate { server: self.server(n) },
                    PlanKind::Move(n) => PlanGoal::Move { vm: self.vm(n)?, to: None },
                };
                Request::Plan { aim, options }
            }
            Action::ApplyPlan => Request::ApplyPlan { plan: self.last_plan.unwrap_or(PlanId(1)) },
            Action::StopPlan => Request::StopPlan { plan: self.last_plan.unwrap_or(PlanId(1)) },
            Action::Evacuate(n) => Request::EvacuateServer { server: self.server(n), options },
            Action::ReturnServer(n) => Request::ReturnServer { server: nth(&self.store.kept.drained, n)? },
            Action::PollNow => Request::PollNow,
            Action::AdoptStray(n) => {
                let (vm, server) = self.stray(n)?;
                Request::AdoptVm { vm, server: Some(server), known: Adoption::default() }
            }
            Action::StopStray(n) => {
                let (vm, server) = self.stray(n)?;
                Request::StopStray { vm, server: Some(server) }
            }
            _ => return None,
        })
    }

    fn stray(&self, n: u32) -> Option<(VmId, ServerId)> {
        let strays = self.hypervisors.guests.iter().filter(|(_, g)| g.is_stray).map(|(at, _)| *at);
        nth(&strays.collect::<Vec<_>>(), n)
    }

    fn group(&self, first: u32, stride: u32, size: u32) -> Option<Request> {
        let running: Vec<Ipv4Addr> =
            self.core.vms().filter(|v| v.state == VmState::Running).map(|v| v.address).collect();
        let mut members = Vec::new();
        for n in 0..size {
            let member = nth(&running, first.wrapping_add(n * stride))?;
            if !members.contains(&member) {
                members.push(member);
            }
        }
        Some(Request::CreateGroup { members })
    }

    fn shares(&self, n: u32) -> Option<Request> {
        let count = self.site.classes.len() as u32;
        if count == 0 {
            return None;
        }
        let share = |class: u32| Share {
            share: f64::from(5 + (n >> (class * 4)) % 16) * f64::from(3 - count.min(2)),
            ceiling: f64::from(60 + (n >> (class * 3)) % 40),
        };
        Some(Request::SetShares { shares: (0..count).map(share).collect() })
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
            Action::WorldDown { back } => {
                if self.world_up {
                    self.world_up = false;
                    self.world_life += 1;
                    self.say(Event::WorldDown { why: "gone".to_owned() });
                    self.later(ms(back), Item::WorldBack(self.world_life));
                }
            }
            Action::ServerAway { server, back } => {
                let server = self.server(server);
                if self.hypervisors.away.insert(server) {
                    self.later(ms(back), Item::ServerBack(server));
                    if self.world_up {
                        let away = self.hypervisors.away.iter();
                        let servers = away.map(|s| (*s, "it does not answer".to_owned())).collect();
                        self.say(Event::ServersAway { servers });
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

    fn kill_vm(&mut self, vm: VmId, server: ServerId) {
        let event = self.hypervisors.kill(vm, server);
        let is_told = self.world_up && !self.hypervisors.away.contains(&server);
        if let Some(event) = event.filter(|_| is_told) {
            self.say(event);
        }
    }

    /// A VM that another controller has left behind; it is found when the hypervisors are next listed.
    fn plant_stray(&mut self, server: u32, id: u32) {
        let (server, vm) = (self.server(server), VmId(1 + u64::from(id)));
        let is_there = self.hypervisors.guests.keys().any(|(other, _)| *other == vm);
        // No address is made up that the core gives to somebody: those are given out from the front.
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

    /// The agent of a switch connects and says what it manages.
    pub(super) fn agent_up(&mut self, id: SwitchId) {
        let switch = self.switches[id.0 as usize].dpid;
        let agent = format!("agent{}", id.0);
        let ports =
            self.site.topology.ports(NodeId::Switch(id)).iter().map(|(p, _)| (*p, QueueSelection::Queue));
        let ports = ports.collect();
        self.say(Event::AgentUp { agent: agent.clone() });
        self.say(Event::PortsManaged { agent, switch, ports });
    }

    fn agent(&mut self, switch: u32, bytes: u32) {
        let id = self.switch(switch);
        let switch = self.switches[id.0 as usize].dpid;
        let ports: Vec<PortNo> =
            self.site.topology.ports(NodeId::Switch(id)).iter().map(|(p, _)| *p).collect();
        let class = ClassSample { bytes: bytes.into(), ..ClassSample::default() };
        let classes = vec![class; self.site.classes.len()];
        let samples = ports.iter().map(|port| AgentSample {
            interface: PortSample {
                port: *port,
                counters: PortCounters {
                    rx_packets: Some(u64::from(bytes) / 1000),
                    tx_packets: Some(u64::from(bytes) / 1000),
                    rx_bytes: Some(bytes.into()),
                    tx_bytes: Some(bytes.into()),
                    rx_dropped: Some(0),
                    tx_dropped: Some(0),
                    rx_errors: Some(0),
                    tx_errors: Some(0),
                    ..PortCounters::default()
                },
            },
            speed: Some(BitRate::mbit(1000)),
            half_duplex: false,
            classes: classes.clone(),
            hardware: BTreeMap::new(),
        });
        let samples = samples.collect();
        self.agent_up(id);
        self.say(Event::AgentSamples { switch, ports: samples });
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
