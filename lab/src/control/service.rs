//! What a lab serves, whatever it is made of: the control socket and the hypervisor service.
//!
//! ```text
//! tandem-lab VERB --one line asks, one answers--> control socket --> LabBackend::answer
//! tandem serve ----- gRPC, orders and reports --> Service --> a queue per VM --> LabBackend
//! ```

mod connections;

use crate::control::admission::Admission;
use crate::control::keyed_queue::{Key, KeyedQueue, Length};
use crate::control::messages::{LabRequest, LabResponse};
use crate::control::peer_lines::PeerLines;
use crate::control::served::{Controller, Served, VmRecords};
use crate::precopy::transfer::Control;
use crate::precopy::{Begun, Failed, Migrations, Todo, todo};
use connections::{admit, converse};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tandem_agent_protocol::hypervisor::hypervisor_server::{Hypervisor, HypervisorServer};
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report as What};
use tandem_agent_protocol::local_peers::LocalPeers;
use tokio::sync::mpsc::error::TrySendError;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Reports that wait for the controller: the loads of the largest lab (5,000 servers) of three
/// periods, some 100 bytes each and more with VMs. A controller that is further behind has to begin
/// anew.
const REPORTS: usize = 16_384;
/// Orders that wait for a worker or for the one before them: as many as a lab starts in some
/// seconds.
const WAITING: usize = 4096;
/// Connections that were let in and wait for the service to take them: it takes one at once.
const ATTACHING: usize = 16;
/// Who asks at the control socket at once: a thread each.
const CONVERSATIONS: usize = 256;
/// Before the next connection is tried when one could not be taken in.
const PAUSE: Duration = Duration::from_millis(50);
/// Loads are not read more often, whatever is asked for: each time is a look at every VM.
const SHORTEST: Duration = Duration::from_millis(50);

/// Locks; what a panicking thread left is still the best there is.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lab is made of: namespaces of this machine, or a testbed's machines. All of it is called
/// within the runtime that carries traffic, on threads that are not the runtime's. Every order may
/// be repeated.
pub trait LabBackend: Send + Sync + 'static {
    /// Its name and the VMs that run.
    fn hello(&self) -> wire::Hello;
    /// Starts a VM; its address where that is known at once. Nothing is left of one that failed.
    ///
    /// # Errors
    /// With the step that failed.
    fn allocate(&self, order: &wire::Allocate) -> anyhow::Result<Option<u32>>;
    /// Stops a VM; one that does not run is stopped already.
    fn stop(&self, vm: u64);
    /// Plugs a VM into another uplink of its server.
    ///
    /// # Errors
    /// When there is no such VM or uplink.
    fn connect(&self, order: &wire::Connect) -> anyhow::Result<()>;
    /// A VM has other resources from now on.
    ///
    /// # Errors
    /// When there is no such VM.
    fn resize(&self, order: &wire::Resize) -> anyhow::Result<()>;
    /// The server that a VM runs on.
    fn server_of(&self, vm: u64) -> Option<u32>;
    /// Moves a VM that runs on `order.from`, and says meanwhile how far it is: how long it was
    /// silent, nanoseconds. This takes long.
    ///
    /// # Errors
    /// With where it runs then.
    fn migrate(&self, order: &wire::Migrate, control: &Control, say: &dyn Fn(What)) -> Result<u64, Failed>;
    /// What servers and VMs have used.
    ///
    /// # Errors
    /// When that cannot be read.
    fn loads(&self) -> anyhow::Result<Vec<wire::Loads>>;
    /// Starts a flow.
    ///
    /// # Errors
    /// When an end is not there, or no socket can be had.
    fn start_traffic(&self, order: &wire::TrafficStart) -> anyhow::Result<()>;
    /// Ends a flow; its figures stay.
    fn stop_traffic(&self, id: u64);
    /// Answers a question; `LabRequest::Down`, `LabRequest::Hold` and `LabRequest::MoveVm` are not
    /// among them.
    ///
    /// # Errors
    /// When it cannot be answered.
    fn answer(&self, ask: &LabRequest) -> anyhow::Result<LabResponse>;
    /// What is to be done before the process ends.
    fn end(&self);
}

type Sender = tokio::sync::mpsc::Sender<Result<wire::Report, Status>>;

/// The way to the controller that is attached, if one is.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<Option<Sender>>>);

impl Reports {
    /// Says something to the controller. One that is away hears of it when it is back: the first
    /// report lists what runs.
    pub fn send(&self, report: What) {
        let mut to = lock(&self.0);
        let Some(sender) = &*to else { return };
        let is_load = matches!(report, What::Loads(_));
        match sender.try_send(Ok(wire::Report { report: Some(report) })) {
            // The next period's loads say more than these.
            Err(TrySendError::Full(_)) if is_load => {
                tracing::debug!("the controller reads too slowly: loads of a period are left out");
            }
            Err(TrySendError::Full(_)) => {
                tracing::warn!(
                    "the controller has not read {REPORTS} reports: the connection is closed, and what runs is told anew when it is back"
                );
                *to = None;
            }
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// Where orders go: into the queue of what they concern, so that a stop never overtakes its start
/// and nobody waits for a migration.
struct Orders<W> {
    world: Arc<W>,
    reports: Reports,
    queue: KeyedQueue,
    migrations: Migrations,
    /// The controller that is attached.
    served: Served,
    /// What is kept with VMs.
    kept: VmRecords,
    /// How often loads are asked for; none before the first order.
    loads: (Mutex<Option<Duration>>, Condvar),
    /// VMs that were moved by hand.
    by_hand: AtomicU64,
    /// What the controller's orders cause to be said.
    lines: PeerLines,
}

/// The hypervisor service.
struct Service<W>(Arc<Orders<W>>);

#[tonic::async_trait]
impl<W: LabBackend> Hypervisor for Service<W> {
    type AttachStream = ReceiverStream<Result<wire::Report, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::Order>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut hello = self.0.world.hello();
        let world = format!("lab {}", hello.world);
        let who = Controller::of(request.metadata());
        let attached = self.0.served.admit(&world, who, std::time::Instant::now()).map_err(|refused| {
            if let Some(rival) = refused.rival {
                tracing::warn!("another controller was refused: {}", rival.who);
                self.0.reports.send(What::Rival(rival));
            }
            refused.status
        })?;
        self.0.kept.complete(&mut hello);
        let (sender, receiver) = tokio::sync::mpsc::channel(REPORTS);
        // It is empty: there is room.
        let _ = sender.try_send(Ok(wire::Report { report: Some(What::Hello(hello)) }));
        *lock(&self.0.reports.0) = Some(sender);
        let orders = self.0.clone();
        let mut inbox = request.into_inner();
        tokio::spawn(async move {
            // As long as it may order something, it is served.
            let _attached = attached;
            while let Ok(Some(order)) = inbox.message().await {
                // Back-pressure: what is not read waits at the controller.
                while orders.queue.waiting() >= WAITING {
                    tokio::time::sleep(PAUSE).await;
                }
                if let Some(order) = order.order {
                    orders.take(order);
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl<W: LabBackend> Orders<W> {
    /// Executes an order at once where that takes no time, or puts it into the queue.
    fn take(self: &Arc<Self>, order: Kind) {
        let key = match &order {
            Kind::Allocate(a) => Key::Vm(a.vm),
            Kind::Stop(s) => {
                // It does not wait for a transfer that is of no use any more.
                if self.kept.is_meant(s.vm, s.placed_at_ns) {
                    self.migrations.cancel_vm(s.vm);
                }
                Key::Vm(s.vm)
            }
            Kind::Resize(r) => Key::Vm(r.vm),
            Kind::Connect(c) => Key::Vm(c.vm),
            Kind::Tag(t) => Key::Vm(t.kept.as_ref().map_or(0, |k| k.vm)),
            Kind::TrafficStart(t) => Key::Flow(t.id),
            Kind::TrafficStop(t) => Key::Flow(t.id),
            Kind::Migrate(m) => {
                let m = *m;
                return match self.migrations.begin(&m) {
                    Begun::New(control) => {
                        let own = self.clone();
                        self.queue
                            .submit(Key::Vm(m.vm), Length::Long, move || drop(own.migrate(&m, &control)));
                    }
                    Begun::UnderWay(Some(said)) => self.reports.send(said),
                    Begun::UnderWay(None) => {}
                };
            }
            Kind::CancelMigration(c) => return self.cancel(c),
            Kind::SetMigrationRate(r) => return self.migrations.set_rate(r.migration, r.rate_bit_per_s),
            Kind::ReportLoads(r) => {
                let (period, changed) = &self.loads;
                *lock(period) = (r.period_ns > 0).then(|| Duration::from_nanos(r.period_ns).max(SHORTEST));
                return changed.notify_all();
            }
        };
        let own = self.clone();
        self.queue.submit(key, Length::Short, move || own.execute(order));
    }

    fn execute(&self, order: Kind) {
        let world = &self.world;
        let reports = &self.reports;
        match order {
            Kind::Allocate(a) => {
                let vm = a.vm;
                if !self.kept.is_meant(vm, a.origin.map(|o| o.placed_at_ns)) {
                    let why = format!(
                        "there is a vm{vm} already that was made for another request; it is left alone"
                    );
                    return reports.send(What::Failed(wire::Failed { vm, why, died: false }));
                }
                reports.send(match world.allocate(&a) {
                    Ok(address) => {
                        self.kept.put(a);
                        What::Started(wire::Started { vm, address })
                    }
                    Err(error) => What::Failed(wire::Failed { vm, why: format!("{error:#}"), died: false }),
                });
            }
            Kind::Stop(s) => {
                // One that was made for another request is not the one that is meant, which is not
                // there.
                if self.kept.is_meant(s.vm, s.placed_at_ns) {
                    world.stop(s.vm);
                    self.kept.forget(s.vm);
                }
                reports.send(What::Stopped(wire::Stopped { vm: s.vm }));
            }
            Kind::Resize(r) => match world.resize(&r) {
                Ok(()) => {
                    self.kept.change(r.vm, |kept| kept.resources = r.resources);
                    reports.send(What::Resized(wire::Resized { vm: r.vm }));
                }
                Err(error) => self.lines.warn(|| format!("vm{}: {error:#}", r.vm)),
            },
            Kind::Connect(c) => match world.connect(&c) {
                Ok(()) => self.kept.change(c.vm, |kept| kept.uplink_port = c.uplink_port),
                Err(error) => self.lines.warn(|| format!("vm{}: {error:#}", c.vm)),
            },
            Kind::Tag(t) => {
                if let Some(kept) = t.kept.filter(|k| world.server_of(k.vm) == Some(k.server)) {
                    self.kept.put(kept);
                }
            }
            Kind::TrafficStart(t) => {
                let id = t.id;
                if let Err(error) = world.start_traffic(&t) {
                    reports.send(What::TrafficEnded(wire::TrafficEnded { id, why: format!("{error:#}") }));
                }
            }
            Kind::TrafficStop(t) => world.stop_traffic(t.id),
            // These are not put into the queue in this way.
            Kind::Migrate(_)
            | Kind::CancelMigration(_)
            | Kind::SetMigrationRate(_)
            | Kind::ReportLoads(_) => {}
        }
    }

    /// Moves a VM when its turn comes, and reports how that has ended.
    fn migrate(&self, order: &wire::Migrate, control: &Control) -> What {
        let migration = order.migration;
        let how = match todo(order, self.world.server_of(order.vm), self.migrations.ended(order)) {
            Todo::Answer(answer) => answer,
            Todo::Start => {
                let say = |what| self.migrations.say(migration, what, &self.reports);
                match self.world.migrate(order, control, &say) {
                    Ok(downtime) => {
                        self.kept.change(order.vm, |kept| {
                            kept.server = order.to;
                            kept.uplink_port = order.uplink_port;
                            kept.resources = order.resources.or(kept.resources);
                        });
                        What::Moved(wire::Moved { migration, downtime_ns: Some(downtime) })
                    }
                    Err(Failed { at, why }) => {
                        What::MigrationFailed(wire::MigrationFailed { migration, at, why })
                    }
                }
            }
        };
        self.migrations.end(order, &how);
        self.reports.send(how.clone());
        how
    }

    fn cancel(&self, c: &wire::CancelMigration) {
        if self.migrations.cancel(c.migration) {
            return;
        }
        // Nothing is ever left of a transfer that is not under way.
        let order =
            wire::Migrate { migration: c.migration, vm: c.vm, from: c.from, to: c.to, ..Default::default() };
        let at = self.world.server_of(c.vm);
        let answer = match todo(&order, at, self.migrations.ended(&order)) {
            Todo::Answer(answer) => answer,
            Todo::Start => What::MigrationFailed(wire::MigrationFailed {
                migration: c.migration,
                at,
                why: "cancelled before it had begun".into(),
            }),
        };
        self.reports.send(answer);
    }

    /// Moves a VM without the controller having asked for it: how long it was silent, nanoseconds.
    fn move_by_hand(self: &Arc<Self>, mut order: wire::Migrate) -> anyhow::Result<u64> {
        order.from =
            self.world.server_of(order.vm).ok_or_else(|| anyhow::anyhow!("there is no vm{}", order.vm))?;
        // Far from the controller's numbers, and each used once.
        order.migration = u64::MAX - self.by_hand.fetch_add(1, Ordering::Relaxed);
        let Begun::New(control) = self.migrations.begin(&order) else {
            anyhow::bail!("its number is taken; try again");
        };
        let (sender, ended) = mpsc::channel();
        let own = self.clone();
        self.queue.submit(Key::Vm(order.vm), Length::Long, move || {
            let _ = sender.send(own.migrate(&order, &control));
        });
        match ended.recv()? {
            What::Moved(m) => Ok(m.downtime_ns.unwrap_or(0)),
            What::MigrationFailed(f) => Err(anyhow::anyhow!("{}", f.why)),
            other => Err(anyhow::anyhow!("it ended with {other:?}")),
        }
    }

    /// Reports loads at the period that was asked for, for as long as the process lives.
    fn report_loads(&self) {
        let (period, changed) = &self.loads;
        let mut asked = lock(period);
        loop {
            let Some(wait) = *asked else {
                asked = changed.wait(asked).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (again, timeout) = changed.wait_timeout(asked, wait).unwrap_or_else(PoisonError::into_inner);
            asked = again;
            if timeout.timed_out() && asked.is_some() {
                drop(asked);
                match self.world.loads() {
                    Ok(all) => all.into_iter().for_each(|load| self.reports.send(What::Loads(load))),
                    Err(error) => self.lines.warn(|| format!("loads cannot be read: {error:#}")),
                }
                asked = lock(period);
            }
        }
    }
}

/// Serves until it is told to end, and then ends the process.
///
/// # Errors
/// When a socket or thread cannot be had.
pub fn run(
    world: Arc<impl LabBackend>,
    reports: Reports,
    peers: LocalPeers,
    control: UnixListener,
    service: UnixListener,
) -> anyhow::Result<()> {
    let admission = Arc::new(Admission::new(peers));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // A handle's guard lives no longer than the handle: for these threads, as long as the process.
    let handle: &'static tokio::runtime::Handle = Box::leak(Box::new(runtime.handle().clone()));
    let orders = Arc::new(Orders {
        world,
        reports,
        queue: KeyedQueue::new(|| handle.enter())?,
        migrations: Migrations::default(),
        served: Served::default(),
        kept: VmRecords::default(),
        loads: Default::default(),
        by_hand: AtomicU64::new(0),
        lines: PeerLines::default(),
    });
    let own = orders.clone();
    std::thread::Builder::new().name("loads".into()).spawn(move || own.report_loads())?;
    service.set_nonblocking(true)?;
    let server = HypervisorServer::new(Service(orders.clone()));
    {
        let _guard = runtime.enter();
        let (sender, incoming) = tokio::sync::mpsc::channel(ATTACHING);
        let listener = tokio::net::UnixListener::from_std(service)?;
        runtime.spawn(admit(listener, admission.clone(), sender));
        let incoming = ReceiverStream::new(incoming);
        runtime.spawn(tonic::transport::Server::builder().add_service(server).serve_with_incoming(incoming));
    }
    let conversations = Arc::new(AtomicUsize::new(0));
    for stream in control.incoming() {
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // No descriptor is free: the next one may be.
                admission.lines.warn(|| format!("a connection is not taken in: {error}"));
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let is_full = conversations.load(Ordering::Relaxed) >= CONVERSATIONS;
        let refused = admission.check(&stream).err().or_else(|| {
            is_full.then(|| format!("this lab is being asked by {CONVERSATIONS} already; try again"))
        });
        if let Some(why) = refused {
            // Whoever does not read it does not hear it.
            let _ = stream.set_nonblocking(true);
            let _ = writeln!(stream, "{}", serde_json::to_string(&LabResponse::Error { why })?);
            continue;
        }
        let orders = orders.clone();
        let conversations = conversations.clone();
        conversations.fetch_add(1, Ordering::Relaxed);
        let ended = conversations.clone();
        let talk = move || {
            let _guard = handle.enter();
            if let Err(error) = converse(&orders, stream) {
                tracing::debug!("control: {error:#}");
            }
            conversations.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = std::thread::Builder::new().name("control".into()).spawn(talk) {
            admission.lines.warn(|| format!("a connection is not answered: {error}"));
            ended.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
