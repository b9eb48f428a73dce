//! The world around one core: switches, hypervisors and a store in virtual time, and the queue of
//! what is under way between them.
//!
//! A run is a function of its seed and of the actions that are kept: whatever is drawn comes from
//! streams of the seed, and what the core wants in one call is carried out in its canonical order,
//! so that effects which commute lead to the same run in whatever order they come.

use super::agents::Agents;
use super::canonical::{self, Fnv};
use super::draw::Draw;
use super::hypervisors::{Hypervisors, Later};
use super::invariants::{Books, Violation};
use super::requests::Requests;
use super::run::Planted;
use super::sites::Place;
use super::store::Store;
use super::switches::SwitchBox;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tandem_core::Core;
use tandem_model::{
    Dpid, Effect, Event, LinkId, LoadSample, PlanId, PortNo, ServerId, Site, SwitchId, Time, site,
};
use tandem_openflow::header;

/// When every run starts: leases are stored as absolute times, so not at zero.
pub(super) const START: Time = Time::from_secs(1_700_000_000);
/// So many things at one moment are time that stands still.
const MOST_AT_ONCE: u32 = 50_000;

/// What is under way.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Bytes for a switch, on a connection.
    ToSwitch(SwitchId, u64, Vec<u8>),
    /// Bytes from a switch.
    FromSwitch(SwitchId, u64, Vec<u8>),
    /// A frame comes in by a switch's port.
    Frame(SwitchId, PortNo, Vec<u8>),
    /// A switch's agent connects.
    Agent(SwitchId),
    /// A switch tries to connect.
    Connect(SwitchId),
    /// The controller is told of a lost connection.
    Lost(SwitchId),
    /// The store writes what waits.
    Commit(u32),
    /// An order for the hypervisors.
    Order(u64, Effect),
    /// Something of the hypervisors' own.
    Hypervisors(Later),
    /// The hypervisor service is back.
    WorldBack(u64),
    /// A server's hypervisor answers again.
    ServerBack(ServerId),
    /// A fact for this life of the controller.
    Tell(u32, Event),
    /// A cable moves.
    Cable(LinkId, bool),
    /// A server tells its load.
    Loads(ServerId, u32, u32),
    /// A killed controller is there again.
    Born,
}

struct Queued {
    at: Time,
    number: u64,
    item: Item,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The whole data centre of a schedule: core, switches, hypervisors, agents and store.
pub(super) struct World {
    pub(super) site: Arc<Site>,
    pub(super) seed: u64,
    pub(super) core: Core,
    /// True while the controller runs.
    pub(super) alive: bool,
    /// Which controller it is, counted from 0.
    pub(super) life: u32,
    /// The world's own clock, which nobody sets.
    pub(super) now: Time,
    /// By how much the wall clock is ahead of it.
    pub(super) wall: i64,
    /// The same for the controller's clock: what the wall clock said when it started.
    pub(super) shift: i64,
    queue: BinaryHeap<Reverse<Queued>>,
    number: u64,
    inbox: VecDeque<Event>,
    pub(super) switches: Vec<SwitchBox>,
    /// When each switch's drivers want to be woken, by the world's clock.
    pub(super) due: Vec<Time>,
    by_dpid: BTreeMap<Dpid, SwitchId>,
    pub(super) serial: u64,
    pub(super) cables: Vec<bool>,
    /// Ports that the controller has switched off.
    pub(super) off: std::collections::BTreeSet<(SwitchId, PortNo)>,
    pub(super) store: Store,
    pub(super) agents: Agents,
    pub(super) hypervisors: Hypervisors,
    pub(super) world_up: bool,
    /// Which connection to the hypervisor service it is.
    pub(super) world_life: u64,
    pub(super) requests: Requests,
    pub(super) last_plan: Option<PlanId>,
    pub(super) cpu: BTreeMap<ServerId, LoadSample>,
    pub(super) books: Books,
    pub(super) draw: Draw,
    hash: Fnv,
    events: u64,
    pub(super) violation: Option<Violation>,
    /// Nothing goes on after a violation; else what is decided until the end is hashed all the
    /// same.
    pub(super) stops: bool,
    stands_still: bool,
    pub(super) trace: bool,
}

/// A controller's core with what its store holds.
fn core_of(site: &Arc<Site>, store: &Store, at: Time) -> Result<Core, String> {
    Core::new(site.clone(), store.kept.clone(), at).map_err(|why| why.to_string())
}

impl World {
    /// A data centre whose controller starts with an empty store; everything connects in the first
    /// second.
    ///
    /// # Errors
    /// When the site cannot be read, which is a fault of `sites`.
    pub(super) fn new(place: &Place, seed: u64, planted: Planted) -> Result<World, String> {
        let site = site::read(&place.text, "fuzz").map_err(|faults| format!("{faults}\n{}", place.text))?;
        let site = Arc::new(site);
        let every = |n: u32, of: u32| of > 0 && n.is_multiple_of(of);
        let topology = &site.topology;
        let mut switches: Vec<SwitchBox> = (0..topology.switches.len() as u32)
            .map(|n| {
                let (version, tables) = match (every(n, place.one_table), every(n + 1, place.narrow)) {
                    (true, _) => (header::V10, 1),
                    (false, true) => (header::V13, 1),
                    (false, false) => (header::V13, 2),
                };
                SwitchBox::new(&site, SwitchId(n), version, tables, seed)
            })
            .collect();
        let mut store = Store::new(seed);
        match planted {
            Planted::Nothing => {}
            Planted::KeptFlows => switches.iter_mut().for_each(SwitchBox::keep_flows),
            Planted::ForgottenDeletions => store.forgets_deletions = true,
        }
        let mut world = World {
            seed,
            core: core_of(&site, &store, START)?,
            alive: true,
            life: 0,
            now: START,
            wall: 0,
            shift: 0,
            queue: BinaryHeap::new(),
            number: 0,
            inbox: VecDeque::new(),
            due: vec![Time(u64::MAX); switches.len()],
            by_dpid: switches.iter().map(|s| (s.dpid, s.id)).collect(),
            switches,
            serial: 0,
            cables: vec![true; topology.links.len()],
            off: std::collections::BTreeSet::new(),
            store,
            agents: Agents::default(),
            hypervisors: Hypervisors::new(seed),
            world_up: false,
            world_life: 0,
            requests: Requests::default(),
            last_plan: None,
            cpu: BTreeMap::new(),
            books: Books::default(),
            draw: Draw::new(seed, 5),
            hash: Fnv::default(),
            events: 0,
            violation: None,
            stops: true,
            stands_still: false,
            trace: false,
            site,
        };
        world.connect_everything();
        Ok(world)
    }

    /// Switches and hypervisors find a controller that has just started.
    fn connect_everything(&mut self) {
        for n in 0..self.switches.len() as u32 {
            let wait = self.draw.micros(1_000, 400_000);
            self.later(wait, Item::Connect(SwitchId(n)));
            // Classes are kept where agents manage the queues.
            if !self.site.classes.is_empty() && self.draw.chance(95) {
                self.later(wait * 2, Item::Agent(SwitchId(n)));
            }
        }
        self.world_life += 1;
        let wait = self.draw.micros(1_000, 600_000);
        self.later(wait, Item::WorldBack(self.world_life));
    }

    /// Events that the core has handled, but for those that only wake it and hellos of agents.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The hash of what it has decided.
    pub(super) fn hash(&self) -> u64 {
        self.hash.value()
    }

    /// The controller's clock.
    pub(super) fn core_now(&self) -> Time {
        self.now.moved(self.shift)
    }

    /// Something happens after a while.
    pub(super) fn later(&mut self, wait: Duration, item: Item) {
        self.at(self.now + wait, item);
    }

    pub(super) fn at(&mut self, at: Time, item: Item) {
        self.number += 1;
        self.queue.push(Reverse(Queued { at: at.max(self.now), number: self.number, item }));
    }

    /// Lets time pass.
    pub(super) fn run_until(&mut self, until: Time) {
        let (mut at_once, mut last) = (0u32, self.now);
        while !self.is_over() {
            let queued = self.queue.peek().map_or(Time(u64::MAX), |Reverse(q)| q.at);
            let to_world = |t: Time| t.moved(self.shift.saturating_neg());
            let core = match self.alive {
                true => self.core.next_deadline().map_or(Time(u64::MAX), to_world),
                false => Time(u64::MAX),
            };
            let (switch, driver) =
                self.due.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap_or((0, Time(u64::MAX)));
            let next = queued.min(core).min(driver);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            at_once = if self.now == last { at_once + 1 } else { 0 };
            last = self.now;
            if at_once > MOST_AT_ONCE {
                self.stands_still = true;
                return self.violate("time stands still", "the same moment wakes somebody again and again");
            }
            if queued == next {
                if let Some(Reverse(q)) = self.queue.pop() {
                    self.take(q.item);
                }
            } else if core == next {
                self.tell(Event::Wake);
            } else {
                self.wake_drivers(SwitchId(switch as u32));
            }
        }
        self.now = self.now.max(until);
    }

    /// True when nothing goes on any more.
    pub(super) fn is_over(&self) -> bool {
        self.stands_still || self.stops && self.violation.is_some()
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::ToSwitch(id, serial, bytes) => self.tell_switch(id, serial, &bytes),
            Item::FromSwitch(id, serial, bytes) => self.hear_switch(id, serial, &bytes),
            Item::Frame(id, port, mut frame) => {
                let now = self.now;
                let switch = &mut self.switches[id.0 as usize];
                switch.soft.on_packet(port.0, &mut frame, now, &mut switch.said);
                self.hear(id);
            }
            Item::Agent(id) => self.agent_up(id),
            Item::Connect(id) => self.connect(id),
            Item::Lost(id) => {
                if self.alive && self.switches[id.0 as usize].active.is_none() {
                    let switch = self.switches[id.0 as usize].dpid;
                    self.tell(Event::SwitchDown { switch, why: "connection reset".to_owned() });
                }
            }
            Item::Commit(life) => self.commit(life),
            Item::Order(life, order) => self.order(life, order),
            Item::Hypervisors(later) => self.pass(later),
            Item::WorldBack(life) => self.world_back(life),
            Item::ServerBack(server) => self.server_back(server),
            Item::Tell(life, event) => {
                if self.alive && life == self.life {
                    self.tell(event);
                }
            }
            Item::Cable(link, up) => self.set_cable(link, up),
            Item::Loads(server, percent, times) => self.tell_loads(server, percent, times),
            Item::Born => self.born(),
        }
    }

    /// Tells the core one event, and does everything that follows from it at once.
    pub(super) fn tell(&mut self, event: Event) {
        self.inbox.push_back(event);
        if self.inbox.len() > 1 {
            return;
        }
        while let Some(event) = self.inbox.front().cloned() {
            if self.alive {
                self.handle(event);
            }
            self.inbox.pop_front();
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.core_now();
        // A schedule ends after so many events, those of the time at which its hash was recorded.
        if !matches!(event, Event::Wake | Event::AgentHello { .. }) {
            self.events += 1;
        }
        self.before(&event);
        if self.trace {
            eprintln!("{:.6} {event:?}", self.now.since(START).as_secs_f64());
        }
        let mut effects = self.core.handle(event, now);
        effects.sort_by_key(canonical::lane);
        if self.trace {
            effects.iter().for_each(|e| eprintln!("      -> {e:?}"));
        }
        canonical::add_call(&mut self.hash, now, &effects);
        self.after(&effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    /// The switch with that datapath id.
    pub(super) fn switch_of(&self, dpid: Dpid) -> Option<SwitchId> {
        self.by_dpid.get(&dpid).copied()
    }

    /// The controller is killed.
    pub(super) fn kill(&mut self, written: bool, back: Duration) {
        self.store.cut(written);
        self.alive = false;
        self.life += 1;
        self.world_life += 1;
        self.world_up = false;
        for switch in &mut self.switches {
            let lines = [&switch.active, &switch.joining].into_iter().flatten();
            let serials: Vec<u64> = lines.map(|l| l.serial).collect();
            for serial in serials {
                switch.lose(serial);
            }
        }
        self.due.fill(Time(u64::MAX));
        self.books.forget_controller();
        self.agents.forget_controller();
        self.requests.forget();
        self.last_plan = None;
        self.later(back, Item::Born);
    }

    fn born(&mut self) {
        self.alive = true;
        self.shift = self.wall;
        match core_of(&self.site, &self.store, self.core_now()) {
            Ok(core) => self.core = core,
            Err(why) => return self.violate("the core begins anew", why),
        }
        self.connect_everything();
    }

    /// Says what is wrong; the first thing counts.
    pub(super) fn violate(&mut self, invariant: &'static str, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what.into(), at: self.now.since(START) });
        }
    }
}
