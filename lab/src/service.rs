//! What a lab serves, whatever it is made of: the control socket and the hypervisor service.
//!
//! ```text
//! tandem-lab VERB --one line asks, one answers--> control socket --> World::answer
//! tandem serve ----- gRPC, orders and reports --> Service --> one worker --> World::allocate, stop, ...
//! ```

use crate::emulated::control::{Answer, Ask};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use tandem_agent_protocol::hypervisor::hypervisor_server::{Hypervisor, HypervisorServer};
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report as What};
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Locks; what a panicking thread left is still the best there is.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lab is made of: namespaces of this machine, or a testbed's machines. All of it is called within the runtime that carries
/// traffic, on threads that are not the runtime's. Every order may be repeated.
pub trait World: Send + Sync + 'static {
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
    /// Starts a flow.
    ///
    /// # Errors
    /// When an end is not there, or no socket can be had.
    fn start_traffic(&self, order: &wire::TrafficStart) -> anyhow::Result<()>;
    /// Ends a flow; its figures stay.
    fn stop_traffic(&self, id: u64);
    /// Answers a question; `Ask::Down` and `Ask::Hold` are not among them.
    ///
    /// # Errors
    /// When it cannot be answered.
    fn answer(&self, ask: &Ask) -> anyhow::Result<Answer>;
    /// What is to be done before the process ends.
    fn end(&self);
}

type Sender = tokio::sync::mpsc::UnboundedSender<Result<wire::Report, Status>>;

/// The way to the controller that is attached, if one is.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<Option<Sender>>>);

impl Reports {
    /// Says something to the controller. One that is away hears of it when it is back: the first report lists what runs.
    pub fn send(&self, report: What) {
        if let Some(sender) = &*lock(&self.0) {
            let _ = sender.send(Ok(wire::Report { report: Some(report) }));
        }
    }
}

/// The hypervisor service: hands orders to the worker, one at a time, so that a stop never overtakes its start.
struct Service<W> {
    world: Arc<W>,
    reports: Reports,
    orders: mpsc::Sender<Kind>,
}

#[tonic::async_trait]
impl<W: World> Hypervisor for Service<W> {
    type AttachStream = UnboundedReceiverStream<Result<wire::Report, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::Order>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let hello = self.world.hello();
        let _ = sender.send(Ok(wire::Report { report: Some(What::Hello(hello)) }));
        *lock(&self.reports.0) = Some(sender);
        let orders = self.orders.clone();
        let mut inbox = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(order)) = inbox.message().await {
                if let Some(order) = order.order
                    && orders.send(order).is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}

fn carry_out(world: &impl World, reports: &Reports, order: Kind) {
    match order {
        Kind::Allocate(a) => {
            let vm = a.vm;
            reports.send(match world.allocate(&a) {
                Ok(address) => What::Started(wire::Started { vm, address }),
                Err(error) => What::Failed(wire::Failed { vm, why: format!("{error:#}") }),
            });
        }
        Kind::Stop(s) => {
            world.stop(s.vm);
            reports.send(What::Stopped(wire::Stopped { vm: s.vm }));
        }
        // A VM that is a namespace has no CPU or memory of its own to change.
        Kind::Resize(r) => reports.send(What::Resized(wire::Resized { vm: r.vm })),
        Kind::Connect(c) => {
            if let Err(error) = world.connect(&c) {
                tracing::error!("vm{}: {error:#}", c.vm);
            }
        }
        Kind::TrafficStart(t) => {
            let id = t.id;
            if let Err(error) = world.start_traffic(&t) {
                reports.send(What::TrafficEnded(wire::TrafficEnded { id, why: format!("{error:#}") }));
            }
        }
        Kind::TrafficStop(t) => world.stop_traffic(t.id),
        Kind::Migrate(m) => reports.send(What::MigrationFailed(wire::MigrationFailed {
            migration: m.migration,
            at: Some(m.from),
            why: "this world cannot move VMs yet".into(),
        })),
        Kind::CancelMigration(_) | Kind::SetMigrationRate(_) | Kind::ReportLoads(_) => {}
    }
}

/// Serves until it is told to end, and then ends the process.
///
/// # Errors
/// When a socket or thread cannot be had.
pub fn run(
    world: Arc<impl World>,
    reports: Reports,
    control: UnixListener,
    service: UnixListener,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (orders, queue) = mpsc::channel::<Kind>();
    let (worker, answers, handle) = (world.clone(), reports.clone(), runtime.handle().clone());
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        let _guard = handle.enter();
        while let Ok(order) = queue.recv() {
            carry_out(&*worker, &answers, order);
        }
    })?;
    service.set_nonblocking(true)?;
    let server = HypervisorServer::new(Service { world: world.clone(), reports, orders });
    {
        let _guard = runtime.enter();
        let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(service)?);
        runtime.spawn(tonic::transport::Server::builder().add_service(server).serve_with_incoming(incoming));
    }
    for stream in control.incoming() {
        let stream = stream?;
        let (world, handle) = (world.clone(), runtime.handle().clone());
        std::thread::spawn(move || {
            let _guard = handle.enter();
            if let Err(error) = converse(&*world, stream) {
                tracing::debug!("control: {error:#}");
            }
        });
    }
    Ok(())
}

fn converse(world: &impl World, stream: UnixStream) -> anyhow::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut held = false;
    for line in BufReader::new(stream.take(1 << 20)).lines() {
        // Whoever held the lab may have been killed in the middle of a line.
        let Ok(line) = line else { break };
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(Ask::Down) => Answer::Ending,
            Ok(Ask::Hold) => {
                held = true;
                Answer::Done
            }
            Ok(ask) => world.answer(&ask).unwrap_or_else(|error| Answer::Error { why: format!("{error:#}") }),
            Err(error) => Answer::Error { why: format!("not understood: {error}") },
        };
        writeln!(writer, "{}", serde_json::to_string(&answer)?)?;
        if matches!(answer, Answer::Ending) {
            writer.flush()?;
            world.end();
            std::process::exit(0);
        }
    }
    if held {
        world.end();
        std::process::exit(0);
    }
    Ok(())
}
