//! The simulated world: the same core in virtual time, with flow-level links, no privileges and no waiting.
//!
//! Effects become deeds after a fixed virtual delay each, deeds become events, and the clock jumps from event to event. VMs get their
//! address by the same DHCP exchange as everywhere; only the packets are left out.

pub mod flows;

use crate::record::Recorder;
use flows::Flows;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;
use tandem_core::Core;
use tandem_model::{
    Answer, Ask, BitRate, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Effect, Event, Mac, NodeId, PortInfo,
    PortNo, PortSample, RequestId, Selection, ServerId, Site, Stored, SwitchCaps, SwitchId, Time, TrafficEnd,
    VmId, VmSpec,
};

/// How long the simulated parts take.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// A switch, to confirm rules.
    pub rules: Duration,
    /// A hypervisor, to start or stop a VM.
    pub boot: Duration,
    /// A packet between a VM and the controller.
    pub packet: Duration,
    /// The store.
    pub store: Duration,
}

impl Default for Delays {
    fn default() -> Delays {
        Delays {
            rules: Duration::from_millis(1),
            boot: Duration::from_millis(50),
            packet: Duration::from_millis(1),
            store: Duration::from_millis(1),
        }
    }
}

/// What the world does next; in order of time, then of being put in.
#[derive(Debug, Clone)]
enum Deed {
    Event(Event),
    Poll(SwitchId),
    PollOnce(SwitchId),
    Discover,
}

struct Due {
    at: Time,
    seq: u64,
    deed: Deed,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// Earliest first, as `BinaryHeap` is a max-heap.
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// See the module.
pub struct Simulation {
    core: Core,
    site: Arc<Site>,
    now: Time,
    seq: u64,
    queue: BinaryHeap<Due>,
    flows: Flows,
    delays: Delays,
    vms: BTreeMap<VmId, (ServerId, VmSpec)>,
    down: BTreeMap<tandem_model::LinkId, ()>,
    /// Ports that the core has switched off.
    off: BTreeSet<(NodeId, PortNo)>,
    answers: Vec<(Time, RequestId, Answer)>,
    next_request: u64,
    recorder: Option<Recorder>,
}

impl Simulation {
    /// A data centre whose switches have just connected, at `start`. Counters are first read half a period later.
    pub fn new(site: Arc<Site>, start: Time, recorder: Option<Recorder>) -> anyhow::Result<Simulation> {
        let core = Core::new(site.clone(), Stored::default(), start);
        let mut sim = Simulation {
            flows: Flows::new(&site.topology, start),
            core,
            now: start,
            seq: 0,
            queue: BinaryHeap::new(),
            delays: Delays::default(),
            vms: BTreeMap::new(),
            down: BTreeMap::new(),
            off: BTreeSet::new(),
            answers: Vec::new(),
            next_request: 0,
            recorder,
            site: site.clone(),
        };
        for (n, switch) in (0u32..).zip(&site.topology.switches) {
            if switch.legacy {
                continue;
            }
            let id = SwitchId(n);
            let caps = SwitchCaps {
                version: "1.3".into(),
                tables: 2,
                description: "simulated".into(),
                peer: "simulation".into(),
            };
            let ports = sim.ports_of(id);
            let queues = ports.iter().map(|p| (p.port, Selection::Queue)).collect();
            sim.push(start, Deed::Event(Event::SwitchUp { switch: switch.dpid, ports, caps }));
            let agent = "simulation".into();
            sim.push(start, Deed::Event(Event::PortsManaged { agent, switch: switch.dpid, ports: queues }));
            sim.push(start + site.statistics.period / 2, Deed::Poll(id));
        }
        sim.push(
            start,
            Deed::Event(Event::WorldUp { world: "simulated".into(), vms: Vec::new(), traffic: true }),
        );
        if site.modules.discovery {
            sim.push(start, Deed::Discover);
        }
        Ok(sim)
    }

    /// The core.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Asks at the current moment; the answer comes with `take_answers`.
    pub fn ask(&mut self, at: Time, ask: Ask) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.push(at, Deed::Event(Event::Ask { id, ask }));
        id
    }

    /// Answers since the last call.
    pub fn take_answers(&mut self) -> Vec<(Time, RequestId, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Cuts or mends a link: both ends report their ports.
    pub fn set_link(&mut self, at: Time, link: tandem_model::LinkId, up: bool) {
        if up {
            self.down.remove(&link);
        } else {
            self.down.insert(link, ());
        }
        self.tell_ends(at, link);
    }

    fn tell_ends(&mut self, at: Time, link: tandem_model::LinkId) {
        let Some(declared) = self.site.topology.link(link).cloned() else { return };
        for end in [declared.a, declared.b] {
            let NodeId::Switch(id) = end.node else { continue };
            let Some(switch) = self.site.topology.switch(id).filter(|s| !s.legacy) else { continue };
            let dpid = switch.dpid;
            if let Some(port) = self.ports_of(id).into_iter().find(|p| p.port == end.port) {
                self.push(at, Deed::Event(Event::PortChanged { switch: dpid, port, removed: false }));
            }
        }
    }

    fn push(&mut self, at: Time, deed: Deed) {
        self.seq += 1;
        self.queue.push(Due { at, seq: self.seq, deed });
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.push(self.now + after, Deed::Event(event));
    }

    fn ports_of(&self, id: SwitchId) -> Vec<PortInfo> {
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
    fn is_off(&self, link: tandem_model::LinkId) -> bool {
        let ends = self.site.topology.link(link).into_iter().flat_map(|l| [l.a, l.b]);
        ends.into_iter().any(|end| self.off.contains(&(end.node, end.port)))
    }

    /// Runs until `until`; the clock stands there afterwards.
    pub fn run_until(&mut self, until: Time) -> anyhow::Result<()> {
        loop {
            let due = self.queue.peek().map(|d| d.at).filter(|at| *at <= until);
            let wake = self.core.next_deadline().filter(|at| *at <= until);
            match (due, wake) {
                (None, None) => break,
                (Some(at), wake) if wake.is_none_or(|w| at <= w) => {
                    let Some(next) = self.queue.pop() else { break };
                    self.now = self.now.max(next.at);
                    self.do_deed(next.deed)?;
                }
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.feed(Event::Wake)?;
                }
                (Some(_), None) => break,
            }
        }
        self.now = self.now.max(until);
        if let Some(recorder) = &mut self.recorder {
            recorder.flush()?;
        }
        Ok(())
    }

    fn do_deed(&mut self, deed: Deed) -> anyhow::Result<()> {
        match deed {
            Deed::Event(event) => self.feed(event),
            Deed::Poll(id) => {
                self.push(self.now + self.site.statistics.period, Deed::Poll(id));
                self.poll(id)
            }
            Deed::PollOnce(id) => self.poll(id),
            Deed::Discover => {
                self.push(self.now + self.site.discovery.lldp_period, Deed::Discover);
                self.discover()
            }
        }
    }

    fn discover(&mut self) -> anyhow::Result<()> {
        let site = self.site.clone();
        for (n, link) in (0u32..).zip(&site.topology.links) {
            let dpid = |node: NodeId| match node {
                NodeId::Switch(id) => site.topology.switch(id).filter(|s| !s.legacy).map(|s| s.dpid),
                _ => None,
            };
            let (Some(a), Some(b)) = (dpid(link.a.node), dpid(link.b.node)) else { continue };
            if self.down.contains_key(&tandem_model::LinkId(n)) {
                continue;
            }
            let (a, b) = ((a, link.a.port), (b, link.b.port));
            self.feed(Event::LinkSeen { from: a, to: b })?;
            self.feed(Event::LinkSeen { from: b, to: a })?;
        }
        Ok(())
    }

    fn poll(&mut self, id: SwitchId) -> anyhow::Result<()> {
        let site = self.site.clone();
        let Some(switch) = site.topology.switch(id) else { return Ok(()) };
        self.flows.advance(self.now);
        let ports: Vec<PortSample> = site
            .topology
            .ports(NodeId::Switch(id))
            .iter()
            .filter_map(|(port, link)| {
                let out = site.topology.link(*link)?.hop_from(*link, NodeId::Switch(id));
                let (tx, rx) =
                    (self.flows.bytes(out), self.flows.bytes(tandem_model::Hop { down: !out.down, ..out }));
                let packets = |bytes: u64| bytes / u64::from(site.traffic.packet);
                Some(PortSample {
                    port: *port,
                    rx_packets: packets(rx),
                    tx_packets: packets(tx),
                    rx_bytes: rx,
                    tx_bytes: tx,
                    rx_dropped: 0,
                    tx_dropped: self.flows.dropped(out) / u64::from(site.traffic.packet),
                    rx_errors: 0,
                    tx_errors: 0,
                })
            })
            .collect();
        self.feed(Event::Samples { switch: switch.dpid, ports, flows: Vec::new() })
    }

    fn feed(&mut self, event: Event) -> anyhow::Result<()> {
        let effects = self.core.handle(event.clone(), self.now);
        if let Some(recorder) = &mut self.recorder {
            recorder.line(self.now, &event, &effects)?;
        }
        for effect in effects {
            self.carry_out(effect);
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        let delays = self.delays;
        match effect {
            Effect::SyncRules { switch, txn, rules } => {
                let added = rules.len() as u32;
                self.later(delays.rules, Event::RulesApplied { switch, txn, added, removed: 0 });
                self.refresh_paths();
            }
            Effect::ApplyRules { switch, txn, add, remove } => {
                let (added, removed) = (add.len() as u32, remove.len() as u32);
                self.later(delays.rules, Event::RulesApplied { switch, txn, added, removed });
                self.refresh_paths();
            }
            Effect::AllocateVm { vm, server, spec } => {
                if spec.fixed_address.is_none() {
                    self.later(
                        delays.boot,
                        dhcp(&self.site, server, &spec, vm, DhcpRequestKind::Discover, None),
                    );
                }
                self.vms.insert(vm, (server, spec));
                self.later(delays.boot, Event::VmStarted { vm, address: None });
            }
            Effect::SendDhcp { dhcp: reply, .. } if reply.kind == DhcpReplyKind::Offer => {
                let found = self.vms.iter().find(|(_, (_, spec))| spec.mac == reply.mac);
                if let Some((vm, (server, spec))) = found {
                    let wanted = Some(reply.address);
                    let event = dhcp(&self.site, *server, spec, *vm, DhcpRequestKind::Request, wanted);
                    self.later(delays.packet, event);
                }
            }
            Effect::StopVm { vm, .. } => {
                self.vms.remove(&vm);
                self.later(delays.boot, Event::VmStopped { vm });
            }
            Effect::ResizeVm { vm, .. } => self.later(delays.packet, Event::VmResized { vm }),
            Effect::TrafficStart { spec } => {
                if let Some(path) = self.path_of(spec.from, spec.to) {
                    self.flows.start(spec.id, spec.rate, spec.transport, path, self.now);
                }
            }
            Effect::TrafficStop { id } => self.flows.stop(id, self.now),
            Effect::Store { id, .. } => self.later(delays.store, Event::Stored { id }),
            Effect::Answer { id, answer } => self.answers.push((self.now, id, answer)),
            Effect::PollNow { switch } => {
                if let Some(id) = self.site.topology.switch_by_dpid(switch) {
                    self.push(self.now, Deed::PollOnce(id));
                }
            }
            Effect::SetPort { switch, port, up } => {
                let topology = &self.site.topology;
                let Some(node) = topology.switch_by_dpid(switch).map(NodeId::Switch) else { return };
                let link = topology.link_at(node, port);
                if up {
                    self.off.remove(&(node, port))
                } else {
                    self.off.insert((node, port))
                };
                link.into_iter().for_each(|l| self.tell_ends(self.now + delays.packet, l));
            }
            Effect::SendArp { .. }
            | Effect::SendDhcp { .. }
            | Effect::Discover { .. }
            | Effect::AttachVm { .. }
            | Effect::MigrateVm { .. }
            | Effect::SetMigrationRate { .. }
            | Effect::CancelMigration { .. }
            | Effect::ReportLoads { .. }
            | Effect::Notice { .. } => {}
        }
    }

    /// Flows follow their VM's path when its rules change.
    fn refresh_paths(&mut self) {
        let core = &self.core;
        self.flows.reroute(self.now, |id| {
            let record = core.vm(VmId(id.0 / 2))?;
            let path = if id.0 % 2 == 0 { &record.path_down } else { &record.path_up };
            Some(path.clone())
        });
    }

    fn path_of(&self, from: TrafficEnd, to: TrafficEnd) -> Option<Vec<tandem_model::Hop>> {
        match (from, to) {
            (TrafficEnd::Gateway(..), TrafficEnd::Vm(vm, _)) => self.core.vm(vm).map(|r| r.path_down.clone()),
            (TrafficEnd::Vm(vm, _), TrafficEnd::Gateway(..)) => self.core.vm(vm).map(|r| r.path_up.clone()),
            _ => None,
        }
    }
}

/// A VM's DHCP message as its edge switch would show it.
fn dhcp(
    site: &Site,
    server: ServerId,
    spec: &VmSpec,
    vm: VmId,
    kind: DhcpRequestKind,
    requested: Option<std::net::Ipv4Addr>,
) -> Event {
    let topology = &site.topology;
    let uplink = topology.link_at(NodeId::Server(server), spec.uplink_port);
    let index =
        topology.server(server).and_then(|s| s.uplinks.iter().position(|l| Some(*l) == uplink)).unwrap_or(0);
    let at = tandem_core::rules::compile::uplink_port(topology, server, index);
    let (switch, port) = at.unwrap_or((SwitchId(0), PortNo(0)));
    Event::DhcpSeen {
        switch: topology.switch(switch).map(|s| s.dpid).unwrap_or(tandem_model::Dpid(0)),
        port,
        dhcp: DhcpRequest {
            kind,
            xid: vm.0 as u32,
            mac: spec.mac,
            eth_src: spec.mac,
            client: std::net::Ipv4Addr::UNSPECIFIED,
            requested,
            server: requested.map(|_| site.addresses.dhcp),
            broadcast: false,
        },
    }
}

/// A rate as a share of another, in percent, to the hundredth.
pub fn percent(rate: BitRate, of: BitRate) -> f64 {
    if of.0 == 0 { 0.0 } else { (rate.0 as f64 / of.0 as f64 * 10_000.0).round() / 100.0 }
}
