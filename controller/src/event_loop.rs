//! The event loop: owns the core, feeds it one event at a time and hands its effects to whoever
//! carries them out.
//!
//! Everything that happened since the last turn is handled before one snapshot is published.

pub use crate::clock::now;
use crate::clock::{LOOK, WallWatch, wall};
use crate::openflow_server::SwitchLine;
use crate::site_events::EventLog;
use crate::store::Writer;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use tandem_core::record_replay::Recording;
use tandem_core::{Core, Snapshot};
use tandem_hypervisor::{Gone, HypervisorReport};
use tandem_model::{
    AgentDesired, Dpid, Effect, Event, Level, Request, RequestId, Response, SiteEvent, StoreId, Time,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::async_trait;

/// Events that may wait for the core; a full queue stops the switches' connections from reading
/// (back-pressure).
pub const QUEUE: usize = 4096;
/// Events that are handled before a snapshot is published.
const BATCH: usize = 256;

/// Where an agent's session hears what the agent is to make: only the latest is of use, so that
/// nothing queues. `None` before the first.
pub type AgentLine = watch::Sender<Option<Box<AgentDesired>>>;

/// What comes into the event loop.
#[derive(Debug)]
pub enum Input {
    /// A fact.
    Event(Event),
    /// A question, and where its answer goes.
    Request(Request, oneshot::Sender<Response>),
    /// A fact from a switch's connection; void when another one drives the switch by now.
    Switch(Dpid, u64, Event),
    /// A switch is about to say `SwitchUp`; its effects go here.
    Connected(Dpid, u64, SwitchLine),
    /// A switch's connection ended.
    Disconnected(Dpid, u64, String),
    /// A hypervisor service is attached; its effects go here, [`tandem_hypervisor::ORDERS`] deep.
    /// Closed while it is
    /// attached, it is to attach again.
    WorldAttached(mpsc::Sender<Effect>),
    /// It is gone.
    WorldDetached(String),
    /// An agent's session begins, and takes the place of every session of that agent with a smaller
    /// number. What the agent is to make goes here.
    AgentAttached(String, u64, AgentLine),
    /// A fact from an agent's session; void when another one has taken its place.
    Agent(String, u64, Event),
    /// An agent's session ended, and why.
    AgentDetached(String, u64, String),
    /// To be answered in its turn, which shows that the event loop is not stuck. Not recorded.
    Ping(oneshot::Sender<()>),
    /// Stop.
    Stop,
}

/// The event loop, as hypervisors know it.
pub struct HypervisorInputs(pub mpsc::Sender<Input>);

#[async_trait]
impl tandem_hypervisor::EventLoop for HypervisorInputs {
    async fn report(&self, report: HypervisorReport) -> Result<(), Gone> {
        let input = match report {
            HypervisorReport::Event(event) => Input::Event(event),
            HypervisorReport::Attached(orders) => Input::WorldAttached(orders),
            HypervisorReport::Detached(why) => Input::WorldDetached(why),
        };
        self.0.send(input).await.map_err(|_| Gone)
    }

    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// What others see of the event loop.
#[derive(Clone)]
pub struct Handle {
    /// Questions and events go in here.
    pub inputs: mpsc::Sender<Input>,
    /// The latest snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The latest snapshot's version.
    pub version: watch::Receiver<u64>,
    /// What has changed in the data centre, for whoever follows it.
    pub events: Arc<EventLog>,
}

impl Handle {
    /// Asks and waits for the answer; `None` when the controller is stopping.
    pub async fn ask(&self, ask: Request) -> Option<Response> {
        let (sender, receiver) = oneshot::channel();
        self.inputs.send(Input::Request(ask, sender)).await.ok()?;
        receiver.await.ok()
    }
}

/// The one owner of the core: it takes events in and carries effects out.
pub struct EventLoop {
    core: Core,
    inputs: mpsc::Receiver<Input>,
    switches: BTreeMap<Dpid, (u64, SwitchLine)>,
    /// By agent: its session, and where it hears what it is to make.
    agents: BTreeMap<String, (u64, AgentLine)>,
    world: Option<mpsc::Sender<Effect>>,
    store: Writer,
    /// Writes that the store's full queue did not take.
    not_stored: Vec<(StoreId, String)>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Response>>,
    last_request: u64,
    recording: Option<Recording<BufWriter<File>>>,
    wall_watch: WallWatch,
    snapshot: Arc<ArcSwap<Snapshot>>,
    version: watch::Sender<u64>,
    events: Arc<EventLog>,
    /// Changes that are told when the snapshot that shows them is there.
    to_tell: Vec<(Time, SiteEvent)>,
    /// Answers likewise: whoever asks and then reads finds what was answered.
    to_answer: Vec<(oneshot::Sender<Response>, Response)>,
}

impl EventLoop {
    /// An event loop around a core that was just made.
    pub fn new(
        mut core: Core,
        inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
        store: Writer,
        recording: Option<Recording<BufWriter<File>>>,
    ) -> (EventLoop, Handle) {
        let first = core.snapshot();
        let (version, seen) = watch::channel(first.version);
        let snapshot = Arc::new(ArcSwap::new(first));
        let events = EventLog::new(wall());
        let handle =
            Handle { inputs: inputs.0, snapshot: snapshot.clone(), version: seen, events: events.clone() };
        let event_loop = EventLoop {
            core,
            inputs: inputs.1,
            switches: BTreeMap::new(),
            agents: BTreeMap::new(),
            world: None,
            store,
            not_stored: Vec::new(),
            waiting: BTreeMap::new(),
            last_request: 0,
            recording,
            wall_watch: WallWatch::default(),
            snapshot,
            version,
            events,
            to_tell: Vec::new(),
            to_answer: Vec::new(),
        };
        (event_loop, handle)
    }

    /// Runs until it is told to stop. Switches keep what they have.
    pub async fn run(mut self) {
        loop {
            let deadline = self.core.next_deadline();
            let wait = deadline.map_or(LOOK, |at| at.since(now()).min(LOOK));
            let mut batch = Vec::with_capacity(BATCH);
            tokio::select! {
                count = self.inputs.recv_many(&mut batch, BATCH) => if count == 0 { break },
                () = tokio::time::sleep(wait) => if deadline.is_some_and(|at| at <= now()) {
                    batch.push(Input::Event(Event::Wake));
                },
            }
            if let Some(by) = self.wall_watch.look(wall(), now()) {
                self.feed(Event::WallClockStepped { by });
            }
            for input in batch {
                if !self.take(input) {
                    return self.publish();
                }
            }
            self.publish();
        }
    }

    /// Shows what has been decided; then, to those who may look at once, says so.
    fn publish(&mut self) {
        let next = self.core.snapshot();
        let version = next.version;
        self.snapshot.store(next);
        self.version.send_if_modified(|v| std::mem::replace(v, version) != version);
        self.events.add(&self.to_tell);
        self.to_tell.clear();
        for (waiting, response) in self.to_answer.drain(..) {
            // Whoever asked may have gone; the answer is then nobody's.
            let _ = waiting.send(response);
        }
        self.flush_recording();
    }

    fn flush_recording(&mut self) {
        if let Some(Err(error)) = self.recording.as_mut().map(Recording::flush) {
            tracing::error!("the recording cannot be written any more: {error}");
            self.recording = None;
        }
    }

    /// Handles one input; false to stop.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Event(event) => self.feed(event),
            Input::Request(ask, answer) => {
                self.last_request += 1;
                let id = RequestId(self.last_request);
                self.waiting.insert(id, answer);
                self.feed(Event::Request { id, request: ask });
            }
            Input::Switch(dpid, connection, event) => {
                if self.switches.get(&dpid).is_some_and(|(c, _)| *c == connection) {
                    self.feed(event);
                }
            }
            // It was closed before this was read, and whoever drives the switch now may have said
            // so already.
            Input::Connected(_, _, line) if line.is_void() => {}
            Input::Connected(dpid, connection, line) => {
                // A second connection takes the switch over; dropping the first one's line ends it.
                self.switches.insert(dpid, (connection, line));
            }
            Input::Disconnected(dpid, connection, why) => {
                if self.switches.get(&dpid).is_some_and(|(c, _)| *c == connection) {
                    self.switches.remove(&dpid);
                    self.feed(Event::SwitchDown { switch: dpid, why });
                }
            }
            Input::WorldAttached(effects) => self.world = Some(effects),
            Input::WorldDetached(why) => {
                self.world = None;
                self.feed(Event::WorldDown { why });
            }
            Input::AgentAttached(agent, session, desired) => {
                // The inputs of two sessions may overtake each other.
                if self.agents.get(&agent).is_none_or(|(latest, _)| *latest < session) {
                    self.agents.insert(agent, (session, desired));
                }
            }
            Input::Agent(agent, session, event) => {
                if self.is_current(&agent, session) {
                    self.feed(event);
                }
            }
            Input::AgentDetached(agent, session, why) => {
                if self.is_current(&agent, session) {
                    self.agents.remove(&agent);
                    self.feed(Event::AgentDown { agent, why });
                }
            }
            Input::Ping(answer) => drop(answer.send(())),
            Input::Stop => return false,
        }
        true
    }

    /// True for the session that speaks for an agent now.
    fn is_current(&self, agent: &str, session: u64) -> bool {
        self.agents.get(agent).is_some_and(|(latest, _)| *latest == session)
    }

    fn feed(&mut self, event: Event) {
        let at = now();
        let recorded = self.recording.is_some().then(|| event.clone());
        let effects = self.core.handle(event, at);
        let changes = self.core.site_events();
        if !changes.is_empty() {
            let at = wall();
            self.to_tell.extend(changes.iter().map(|change| (at, *change)));
        }
        if let (Some(recording), Some(event)) = (&mut self.recording, &recorded)
            && let Err(error) = recording.line(at, event, &effects)
        {
            tracing::error!("the recording cannot be written any more: {error}");
            self.recording = None;
        }
        for effect in effects {
            self.dispatch(effect);
        }
        // The core tries again after a while, not at once: this ends.
        while let Some((id, why)) = self.not_stored.pop() {
            self.feed(Event::StoreFailed { id, why });
        }
    }

    fn dispatch(&mut self, effect: Effect) {
        match effect {
            Effect::SyncRules { switch, .. }
            | Effect::LeaveRules { switch, .. }
            | Effect::ApplyRules { switch, .. }
            | Effect::SendArp { switch, .. }
            | Effect::SendDhcp { switch, .. }
            | Effect::SetPort { switch, .. }
            | Effect::Discover { switch }
            | Effect::PollNow { switch } => {
                // A connection that just ended will say so; what was meant for it is void.
                if let Some((_, line)) = self.switches.get(&switch) {
                    line.carry(effect);
                }
            }
            Effect::ConfigureAgent { agent, desired } => {
                if let Some((_, line)) = self.agents.get(&agent) {
                    line.send_replace(Some(desired));
                }
            }
            Effect::AllocateVm { .. }
            | Effect::StopVm { .. }
            | Effect::TagVm { .. }
            | Effect::ResizeVm { .. }
            | Effect::AttachVm { .. }
            | Effect::MigrateVm { .. }
            | Effect::SetMigrationRate { .. }
            | Effect::CancelMigration { .. }
            | Effect::ReportLoads { .. }
            | Effect::TrafficStart { .. }
            | Effect::TrafficStop { .. } => {
                // One that has just gone will say so; one that takes nothing is let go, and says so
                // too.
                if self.world.as_ref().is_some_and(|world| world.try_send(effect).is_err()) {
                    self.world = None;
                }
            }
            Effect::Store { id, op } => {
                if let Err(why) = self.store.write(id, op) {
                    self.not_stored.push((id, why));
                }
            }
            Effect::Response { id, response } => {
                let waiting = self.waiting.remove(&id);
                self.to_answer.extend(waiting.map(|waiting| (waiting, response)));
            }
            Effect::Notice { notice } => match notice.level {
                Level::Info => tracing::info!(kind = notice.kind, "{}", notice.text),
                Level::Warning => tracing::warn!(kind = notice.kind, "{}", notice.text),
                Level::Error => tracing::error!(kind = notice.kind, "{}", notice.text),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use tandem_model::{PersistedState, StoreOp, site};

    struct Nothing;

    impl Store for Nothing {
        fn load(&mut self) -> anyhow::Result<PersistedState> {
            Ok(PersistedState::default())
        }
        fn commit(&mut self, _: &[StoreOp]) -> anyhow::Result<()> {
            Ok(())
        }
    }

    /// Two peers come with one datapath id while the event loop is busy: what the older one said in the
    /// end is read behind the newer one.
    #[tokio::test]
    async fn a_connection_that_was_closed_before_it_was_heard_displaces_nobody() {
        let site = site::read("[topology]\nshape = \"three-tier\"\n", "site.toml").expect("a site");
        let core = Core::new(Arc::new(site), PersistedState::default(), now()).expect("known policies");
        let (inputs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::start(Box::new(Nothing), inputs.clone()).expect("a thread");
        let (mut event_loop, _handle) = EventLoop::new(core, (inputs, queue), writer, None);
        assert!(event_loop.take(Input::Connected(Dpid(1), 7, crate::openflow_server::closed_line())));
        assert!(event_loop.switches.is_empty(), "it is closed, and would stay for ever");
    }

    /// Two connections of one agent, whose inputs overtake each other: the later one speaks for the
    /// agent and is told what to make, and what the earlier one still says is void.
    #[tokio::test]
    async fn the_latest_session_of_an_agent_speaks_for_it() {
        let site = site::read("[topology]\nshape = \"three-tier\"\n", "site.toml").expect("a site");
        let core = Core::new(Arc::new(site), PersistedState::default(), now()).expect("known policies");
        let (inputs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::start(Box::new(Nothing), inputs.clone()).expect("a thread");
        let (mut event_loop, _handle) = EventLoop::new(core, (inputs, queue), writer, None);
        let name = || "mini1".to_owned();
        let hello = || Event::AgentHello { agent: name(), switches: Vec::new() };
        let (earlier, earlier_hears) = watch::channel(None);
        let (later, mut later_hears) = watch::channel(None);
        event_loop.take(Input::AgentAttached(name(), 8, later));
        event_loop.take(Input::AgentAttached(name(), 7, earlier));
        event_loop.take(Input::Agent(name(), 7, hello()));
        assert!(!later_hears.has_changed().expect("it is attached"), "the earlier one is void");
        assert!(earlier_hears.has_changed().is_err(), "nobody tells it anything");
        event_loop.take(Input::Agent(name(), 8, hello()));
        let told = later_hears.borrow_and_update().clone().expect("it is told what to make");
        assert!(told.generation > 0);
        // The end of the earlier one is not the end of the agent.
        event_loop.take(Input::AgentDetached(name(), 7, "it was replaced".into()));
        event_loop.take(Input::Agent(name(), 8, hello()));
        assert!(later_hears.has_changed().expect("it is attached"));
        event_loop.take(Input::AgentDetached(name(), 8, "it has gone".into()));
        assert!(event_loop.agents.is_empty());
    }

    /// A hypervisor service that takes nothing: the queue to it is bounded, and when it is full the
    /// service is let go; its own task then says that it is gone, attaches again and is told
    /// everything that is wanted.
    #[tokio::test]
    async fn a_hypervisor_service_that_takes_nothing_is_let_go_and_synchronised_anew() {
        let site = site::read("[topology]\nshape = \"three-tier\"\n", "site.toml").expect("a site");
        let core = Core::new(Arc::new(site), PersistedState::default(), now()).expect("known policies");
        let (inputs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::start(Box::new(Nothing), inputs.clone()).expect("a thread");
        let (event_loop, handle) = EventLoop::new(core, (inputs.clone(), queue), writer, None);
        let running = tokio::spawn(event_loop.run());
        let up = || Input::Event(Event::WorldUp { world: "w".into(), vms: Vec::new(), traffic: false });
        let (effects, mut taken) = mpsc::channel(2);
        inputs.send(Input::WorldAttached(effects)).await.expect("it runs");
        // Each `WorldUp` is answered by at least one wish; nobody takes them.
        for _ in 0..4 {
            inputs.send(up()).await.expect("it runs");
        }
        // An answer says that all before it was handled.
        handle.ask(Request::PollNow).await.expect("it runs");
        let mut count = 0;
        let next = |taken: &mut mpsc::Receiver<Effect>| taken.try_recv();
        loop {
            match next(&mut taken) {
                Ok(_) => count += 1,
                Err(mpsc::error::TryRecvError::Disconnected) => break,
                Err(mpsc::error::TryRecvError::Empty) => panic!("it is still attached after {count} wishes"),
            }
        }
        assert_eq!(count, 2, "as deep as the queue, and then its end");
        let (effects, mut taken) = mpsc::channel(2);
        inputs.send(Input::WorldDetached("it was let go".into())).await.expect("it runs");
        inputs.send(Input::WorldAttached(effects)).await.expect("it runs");
        inputs.send(up()).await.expect("it runs");
        assert!(matches!(taken.recv().await, Some(Effect::ReportLoads { .. })), "it is told anew");
        inputs.send(Input::Stop).await.expect("it runs");
        running.await.expect("it ends");
    }

    /// Whoever is answered and then reads finds what was answered.
    #[tokio::test]
    async fn an_answer_comes_after_the_snapshot_that_shows_it() {
        let site = site::read("[topology]\nshape = \"three-tier\"\n", "site.toml").expect("a site");
        let core = Core::new(Arc::new(site), PersistedState::default(), now()).expect("known policies");
        let (inputs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::start(Box::new(Nothing), inputs.clone()).expect("a thread");
        let (mut event_loop, handle) = EventLoop::new(core, (inputs.clone(), queue), writer, None);
        let (sender, mut answer) = oneshot::channel();
        let ask = Request::Plan {
            aim: tandem_model::PlanGoal::KeepPolicy,
            options: tandem_model::MoveOptions::default(),
        };
        assert!(event_loop.take(Input::Request(ask, sender)));
        assert!(handle.snapshot.load().plans.is_empty(), "it is decided, and nobody sees it yet");
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        event_loop.publish();
        assert!(answer.try_recv().is_ok());
        assert_eq!(handle.snapshot.load().plans.len(), 1);
    }
}
