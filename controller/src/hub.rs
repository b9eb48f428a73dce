//! The hub: owns the core, feeds it one event at a time and hands its effects to whoever carries them out.
//!
//! Everything that happened since the last turn is handled before one snapshot is published.

use crate::store::Writer;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tandem_core::recording::Recording;
use tandem_core::{Core, Snapshot};
use tandem_model::{Answer, Ask, Dpid, Effect, Event, Level, RequestId, StoreId, Time};
use tokio::sync::{mpsc, oneshot, watch};

/// Events that may wait for the core; a full queue stops the switches' connections from reading (back-pressure).
pub const QUEUE: usize = 4096;
/// Events that are handled before a snapshot is published.
const BATCH: usize = 256;

/// What comes into the hub.
#[derive(Debug)]
pub enum Input {
    /// A fact.
    Event(Event),
    /// A question, and where its answer goes.
    Ask(Ask, oneshot::Sender<Answer>),
    /// A switch is about to say `SwitchUp`; its effects go here.
    Connected(Dpid, u64, mpsc::UnboundedSender<Effect>),
    /// A switch's connection ended.
    Disconnected(Dpid, u64, String),
    /// A hypervisor service is attached; its effects go here.
    WorldAttached(mpsc::UnboundedSender<Effect>),
    /// It is gone.
    WorldDetached(String),
    /// Stop.
    Stop,
}

/// The present moment.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// What others see of the hub.
#[derive(Clone)]
pub struct Handle {
    /// Questions and events go in here.
    pub inputs: mpsc::Sender<Input>,
    /// The latest snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The latest snapshot's version.
    pub version: watch::Receiver<u64>,
}

impl Handle {
    /// Asks and waits for the answer; `None` when the controller is stopping.
    pub async fn ask(&self, ask: Ask) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.inputs.send(Input::Ask(ask, sender)).await.ok()?;
        receiver.await.ok()
    }
}

/// See the module.
pub struct Hub {
    core: Core,
    inputs: mpsc::Receiver<Input>,
    switches: BTreeMap<Dpid, (u64, mpsc::UnboundedSender<Effect>)>,
    world: Option<mpsc::UnboundedSender<Effect>>,
    store: Writer,
    /// Writes that the store's full queue did not take.
    not_stored: Vec<(StoreId, String)>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    last_request: u64,
    recording: Option<Recording<BufWriter<File>>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    version: watch::Sender<u64>,
}

impl Hub {
    /// A hub around a core that was just made.
    pub fn new(
        mut core: Core,
        inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
        store: Writer,
        recording: Option<Recording<BufWriter<File>>>,
    ) -> (Hub, Handle) {
        let first = core.snapshot();
        let (version, seen) = watch::channel(first.version);
        let snapshot = Arc::new(ArcSwap::new(first));
        let handle = Handle { inputs: inputs.0, snapshot: snapshot.clone(), version: seen };
        let hub = Hub {
            core,
            inputs: inputs.1,
            switches: BTreeMap::new(),
            world: None,
            store,
            not_stored: Vec::new(),
            waiting: BTreeMap::new(),
            last_request: 0,
            recording,
            snapshot,
            version,
        };
        (hub, handle)
    }

    /// Runs until it is told to stop. Switches keep what they have.
    pub async fn run(mut self) {
        loop {
            let deadline = self.core.next_deadline();
            let wait = deadline.map_or(Duration::from_secs(3600), |at| at.since(now()));
            let mut batch = Vec::with_capacity(BATCH);
            tokio::select! {
                count = self.inputs.recv_many(&mut batch, BATCH) => if count == 0 { break },
                () = tokio::time::sleep(wait) => batch.push(Input::Event(Event::Wake)),
            }
            for input in batch {
                if !self.take(input) {
                    self.flush_recording();
                    return;
                }
            }
            let next = self.core.snapshot();
            let version = next.version;
            self.snapshot.store(next);
            self.version.send_if_modified(|v| std::mem::replace(v, version) != version);
            self.flush_recording();
        }
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
            Input::Ask(ask, answer) => {
                self.last_request += 1;
                let id = RequestId(self.last_request);
                self.waiting.insert(id, answer);
                self.feed(Event::Ask { id, ask });
            }
            Input::Connected(dpid, connection, effects) => {
                // A second connection takes the switch over; dropping the first one's channel ends it.
                self.switches.insert(dpid, (connection, effects));
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
            Input::Stop => return false,
        }
        true
    }

    fn feed(&mut self, event: Event) {
        let at = now();
        let recorded = self.recording.is_some().then(|| event.clone());
        let effects = self.core.handle(event, at);
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
        match &effect {
            Effect::SyncRules { switch, .. }
            | Effect::ApplyRules { switch, .. }
            | Effect::SendArp { switch, .. }
            | Effect::SendDhcp { switch, .. }
            | Effect::SetPort { switch, .. }
            | Effect::Discover { switch }
            | Effect::PollNow { switch } => {
                // A connection that just ended will say so; what was meant for it is void.
                if let Some((_, sender)) = self.switches.get(switch) {
                    let _ = sender.send(effect);
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
                if let Some(world) = &self.world {
                    let _ = world.send(effect);
                }
            }
            Effect::Store { .. } => {
                if let Effect::Store { id, record } = effect
                    && let Err(why) = self.store.write(id, record)
                {
                    self.not_stored.push((id, why));
                }
            }
            Effect::Answer { .. } => {
                if let Effect::Answer { id, answer } = effect
                    && let Some(waiting) = self.waiting.remove(&id)
                {
                    // Whoever asked may have gone; the answer is then nobody's.
                    let _ = waiting.send(answer);
                }
            }
            Effect::Notice { notice } => match notice.level {
                Level::Info => tracing::info!(kind = notice.kind, "{}", notice.text),
                Level::Warning => tracing::warn!(kind = notice.kind, "{}", notice.text),
                Level::Error => tracing::error!(kind = notice.kind, "{}", notice.text),
            },
        }
    }
}
