//! The simulated world: the same core in virtual time, with flow-level links and no privileges.
//!
//! Each effect of the core becomes a scheduled action after a fixed virtual delay, an action
//! becomes events for the core, and the clock jumps from one action to the next. VMs get their
//! address by the same DHCP exchange as in every world; only the packets are left out. An event
//! costs what it touches, so that a day of a thousand servers takes seconds.
//!
//! This crate is pure: it opens no file and reads no clock. Whoever runs a [`Simulation`] passes
//! the time up to which it runs, the seed of its faults, and an [`EventSink`] if the run is
//! recorded.

mod apply_effects;
pub mod energy;
pub mod flows;
pub mod loads;
mod network;
mod recording;
#[cfg(test)]
mod tests;
mod transfers;

pub use recording::EventSink;
pub use transfers::{Faults, TransferCounts};

use energy::Power;
use flows::Flows;
use loads::{DefaultLoad, Load, Loads};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;
use tandem_core::network::attachment;
use tandem_core::{Core, Policy, UnknownPolicy};
use tandem_model::{
    BitRate, Event, LinkId, Mac, MigrationId, NodeId, Notice, PersistedState, PortNo, QueueSelection,
    Request, RequestId, Response, ServerId, Site, SwitchCaps, SwitchId, Time, VmId, VmSpec,
};
use transfers::{Fault, Transfers};

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
    /// Between two words of a transfer on how far it is.
    pub progress: Duration,
}

impl Default for Delays {
    fn default() -> Delays {
        Delays {
            rules: Duration::from_millis(1),
            boot: Duration::from_millis(50),
            packet: Duration::from_millis(1),
            store: Duration::from_millis(1),
            progress: Duration::from_secs(1),
        }
    }
}

/// What the world does next, in order of time, then of scheduling.
#[derive(Debug, Clone)]
enum ScheduledAction {
    Event(Event),
    Poll(SwitchId),
    PollOnce(SwitchId),
    Discover,
    /// Servers and VMs report what they use, if the order to do so (its number) still counts.
    Loads(u32),
    /// A round of a transfer ends, if its timer still counts.
    Round(MigrationId, u32),
    Progress(MigrationId),
    Fault(MigrationId, Fault),
}

/// What an experiment observes of migrations as they happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimEvent {
    /// A transfer begins.
    TransferBegun {
        /// Which VM.
        vm: VmId,
        /// From where.
        from: ServerId,
        /// To where.
        to: ServerId,
    },
    /// The core has noticed a hotspot, or reports on a plan or a migration.
    Notice(Notice),
}

struct Due {
    at: Time,
    seq: u64,
    action: ScheduledAction,
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

/// A simulated data centre and its core.
pub struct Simulation {
    core: Core,
    site: Arc<Site>,
    now: Time,
    seq: u64,
    queue: BinaryHeap<Due>,
    flows: Flows,
    delays: Delays,
    vms: BTreeMap<VmId, (ServerId, VmSpec)>,
    by_mac: BTreeMap<Mac, VmId>,
    /// Bytes to and from VMs by flows of theirs that have ended.
    past_bytes: BTreeMap<VmId, [u64; 2]>,
    /// Servers and which uplink of theirs each switch sees.
    behind: BTreeMap<SwitchId, Vec<(ServerId, PortNo)>>,
    loads: Loads,
    /// How often loads are told, and which order to do so counts.
    load_period: Duration,
    load_epoch: u32,
    transfers: Transfers,
    events: Vec<(Time, SimEvent)>,
    down: BTreeMap<LinkId, ()>,
    /// Ports that the core has switched off.
    off: BTreeSet<(NodeId, PortNo)>,
    answers: Vec<(Time, RequestId, Response)>,
    next_request: u64,
    recorder: Option<Box<dyn EventSink>>,
}

impl Simulation {
    /// A data centre whose switches have just connected, at `start`. Counters are first read half a
    /// period later.
    ///
    /// # Errors
    /// The site names a policy that there is not.
    pub fn new(
        site: Arc<Site>,
        start: Time,
        recorder: Option<Box<dyn EventSink>>,
    ) -> Result<Simulation, UnknownPolicy> {
        let policy = Policy::of_site(&site)?;
        Ok(Simulation::with_policy(site, start, recorder, policy))
    }

    /// The same with a policy of one's own, whatever the site names.
    pub fn with_policy(
        site: Arc<Site>,
        start: Time,
        recorder: Option<Box<dyn EventSink>>,
        policy: impl Into<Policy>,
    ) -> Simulation {
        let core = Core::with_policy(site.clone(), PersistedState::default(), start, policy);
        let mut sim = Simulation {
            flows: Flows::new(&site.topology, start),
            core,
            now: start,
            seq: 0,
            queue: BinaryHeap::new(),
            delays: Delays::default(),
            vms: BTreeMap::new(),
            by_mac: BTreeMap::new(),
            past_bytes: BTreeMap::new(),
            behind: behind(&site),
            loads: Loads::new(&site, start),
            load_period: Duration::ZERO,
            load_epoch: 0,
            transfers: Transfers::new(),
            events: Vec::new(),
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
            let queues = ports.iter().map(|p| (p.port, QueueSelection::Queue)).collect();
            sim.push(start, ScheduledAction::Event(Event::SwitchUp { switch: switch.dpid, ports, caps }));
            let agent = "simulation".into();
            sim.push(
                start,
                ScheduledAction::Event(Event::PortsManaged { agent, switch: switch.dpid, ports: queues }),
            );
            if site.statistics.is_periodic {
                sim.push(start + site.statistics.period / 2, ScheduledAction::Poll(id));
            }
        }
        sim.push(
            start,
            ScheduledAction::Event(Event::WorldUp {
                world: "simulated".into(),
                vms: Vec::new(),
                traffic: true,
            }),
        );
        if site.modules.discovery {
            sim.push(start, ScheduledAction::Discover);
        }
        sim
    }

    /// The core.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Transfers go wrong this often from now on.
    pub fn set_faults(&mut self, faults: Faults, seed: u64) {
        self.transfers.set_faults(faults, seed);
    }

    /// How long the parts take from now on.
    pub fn set_delays(&mut self, delays: Delays) {
        self.delays = delays;
    }

    /// What servers consume; before the first VM.
    pub fn set_power(&mut self, power: Power) {
        self.loads.set_power(power, self.now);
    }

    /// What VMs use that are started from now on.
    pub fn set_default_load(&mut self, default_load: DefaultLoad) {
        self.loads.set_default_load(default_load);
    }

    /// A running VM uses this from now on.
    pub fn set_load(&mut self, vm: VmId, load: Load) {
        self.loads.set(vm, load, self.now);
    }

    /// A running VM's traffic asks for this in each direction that it has, from now on.
    pub fn set_traffic(&mut self, vm: VmId, rate: BitRate) {
        for id in apply_effects::traffic(vm) {
            self.flows.ask(id, rate, self.now);
        }
        self.follow_rates();
    }

    /// What servers and VMs use.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// All servers' watts now, and the kWh that they have consumed.
    pub fn energy(&mut self) -> (f64, f64) {
        let meter = self.loads.meter(self.now);
        (meter.watts(), meter.kwh())
    }

    /// Numbers of transfers.
    pub fn moved(&self) -> TransferCounts {
        self.transfers.counts
    }

    /// Transfers under way: the VM, and from where to where.
    pub fn under_way(&self) -> Vec<(VmId, ServerId, ServerId)> {
        self.transfers.under_way().collect()
    }

    /// Where VMs really run, as hypervisors would list them.
    pub fn vms(&self) -> impl Iterator<Item = (VmId, ServerId, &VmSpec)> {
        self.vms.iter().map(|(id, (server, spec))| (*id, *server, spec))
    }

    /// The flows on the links.
    pub fn flows(&mut self) -> &Flows {
        self.flows.advance(self.now);
        &self.flows
    }

    /// What happened to moves since the last call.
    pub fn take_events(&mut self) -> Vec<(Time, SimEvent)> {
        std::mem::take(&mut self.events)
    }

    /// Asks at the current moment; the answer comes with `take_answers`.
    pub fn ask(&mut self, at: Time, ask: Request) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.push(at, ScheduledAction::Event(Event::Request { id, request: ask }));
        id
    }

    /// Answers since the last call.
    pub fn take_answers(&mut self) -> Vec<(Time, RequestId, Response)> {
        std::mem::take(&mut self.answers)
    }

    fn push(&mut self, at: Time, action: ScheduledAction) {
        self.seq += 1;
        self.queue.push(Due { at, seq: self.seq, action });
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.push(self.now + after, ScheduledAction::Event(event));
    }

    /// Runs until `until`; the clock stands there afterwards.
    ///
    /// # Errors
    /// When the recording cannot be written.
    pub fn run_until(&mut self, until: Time) -> std::io::Result<()> {
        loop {
            let due = self.queue.peek().map(|d| d.at).filter(|at| *at <= until);
            let wake = self.core.next_deadline().filter(|at| *at <= until);
            match (due, wake) {
                (None, None) => break,
                (Some(at), wake) if wake.is_none_or(|w| at <= w) => {
                    let Some(next) = self.queue.pop() else { break };
                    self.now = self.now.max(next.at);
                    self.run_action(next.action)?;
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

    fn run_action(&mut self, action: ScheduledAction) -> std::io::Result<()> {
        match action {
            ScheduledAction::Event(event) => self.feed(event),
            ScheduledAction::Poll(id) => {
                self.push(self.now + self.site.statistics.period, ScheduledAction::Poll(id));
                self.poll(id)
            }
            ScheduledAction::PollOnce(id) => self.poll(id),
            ScheduledAction::Discover => {
                self.push(self.now + self.site.discovery.lldp_period, ScheduledAction::Discover);
                self.discover()
            }
            ScheduledAction::Loads(epoch) if epoch == self.load_epoch => self.report_loads(),
            ScheduledAction::Loads(_) => Ok(()),
            ScheduledAction::Round(migration, epoch) => {
                self.end_round(migration, epoch);
                Ok(())
            }
            ScheduledAction::Progress(migration) => self.report_progress(migration),
            ScheduledAction::Fault(migration, fault) => {
                self.break_transfer(migration, fault);
                Ok(())
            }
        }
    }

    fn feed(&mut self, event: Event) -> std::io::Result<()> {
        let kept = self.recorder.is_some().then(|| event.clone());
        let effects = self.core.handle(event, self.now);
        if let (Some(recorder), Some(event)) = (&mut self.recorder, kept) {
            recorder.record(self.now, &event, &effects)?;
        }
        for effect in effects {
            self.apply_effect(effect);
        }
        Ok(())
    }
}

/// Which servers' uplinks each switch counts the flows of.
fn behind(site: &Site) -> BTreeMap<SwitchId, Vec<(ServerId, PortNo)>> {
    let mut behind: BTreeMap<SwitchId, Vec<(ServerId, PortNo)>> = BTreeMap::new();
    let topology = &site.topology;
    for (n, server) in (0u32..).zip(&topology.servers) {
        for (uplink, link) in server.uplinks.iter().enumerate() {
            let at = attachment::uplink_port(topology, ServerId(n), uplink);
            let own = attachment::port_on(topology, NodeId::Server(ServerId(n)), *link);
            if let (Some((switch, _)), Some(port)) = (at, own) {
                behind.entry(switch).or_default().push((ServerId(n), port));
            }
        }
    }
    behind
}

/// A rate as a share of another, in percent, to the hundredth.
pub fn percent(rate: BitRate, of: BitRate) -> f64 {
    if of.0 == 0 { 0.0 } else { (rate.0 as f64 / of.0 as f64 * 10_000.0).round() / 100.0 }
}
