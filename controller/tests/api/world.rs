//! A world in memory: a hypervisor service whose VMs are entries of a list. It does what it is
//! ordered at once, unless a test has told it to fail or to let a migration wait.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tandem_agent_protocol::hypervisor::hypervisor_server::{Hypervisor, HypervisorServer};
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report as What};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Reports that may wait for the controller.
const REPORTS: usize = 256;

/// What a test decides of the world.
#[derive(Default)]
pub(crate) struct Orders {
    /// VMs are not started, resized or stopped: the reason that is given instead.
    pub(crate) fails: Option<String>,
    /// Migrations are begun and never end by themselves.
    pub(crate) holds_migrations: bool,
    /// Migrations that were ordered and wait: their ids.
    pub(crate) held: BTreeSet<u64>,
    /// The VM of a migration that is cancelled is lost.
    pub(crate) loses_cancelled: bool,
    /// All VMs, with what they were asked for with.
    vms: BTreeMap<(u64, u32), wire::Allocate>,
}

/// The service; it ends with this.
pub(crate) struct World {
    orders: Arc<Mutex<Orders>>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<Orders>>);

impl World {
    /// Serves at `socket` with these VMs running already.
    pub(crate) fn serve(socket: &Path, running: Vec<wire::Allocate>) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let vms = running.into_iter().map(|vm| ((vm.vm, vm.server), vm)).collect();
        let orders = Arc::new(Mutex::new(Orders { vms, ..Orders::default() }));
        let service = Service(orders.clone());
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(socket).expect("a socket")
        };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(HypervisorServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        World { orders, runtime: Mutex::new(Some(runtime)) }
    }

    /// What it is to do from now on.
    pub(crate) fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().expect("no panic")
    }

    /// All VMs, with what they were asked for with.
    pub(crate) fn running(&self) -> Vec<wire::Allocate> {
        self.orders().vms.values().cloned().collect()
    }

    /// Ends its service, while its VMs run on.
    pub(crate) fn leave(&self) {
        if let Some(runtime) = self.runtime.lock().expect("no panic").take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.leave();
    }
}

fn report(sender: &mpsc::Sender<Result<wire::Report, Status>>, what: What) {
    // A controller that is gone hears nothing.
    let _ = sender.try_send(Ok(wire::Report { report: Some(what) }));
}

impl Orders {
    fn hello(&self) -> What {
        let running = |((vm, server), kept): (&(u64, u32), &wire::Allocate)| wire::Running {
            vm: *vm,
            server: *server,
            kept: Some(kept.clone()),
        };
        What::Hello(wire::Hello {
            world: "memory".into(),
            vms: self.vms.iter().map(running).collect(),
            ..wire::Hello::default()
        })
    }

    /// Carries an order out: what is reported of it.
    fn execute(&mut self, order: Kind) -> Option<What> {
        let failed =
            |vm: u64, why: &str| Some(What::Failed(wire::Failed { vm, why: why.to_owned(), died: false }));
        let fails = self.fails.clone();
        match order {
            Kind::Allocate(a) => {
                if let Some(why) = fails {
                    return failed(a.vm, &why);
                }
                let started = wire::Started { vm: a.vm, address: Some(a.address) };
                self.vms.insert((a.vm, a.server), a);
                Some(What::Started(started))
            }
            Kind::Resize(r) => match fails {
                Some(why) => failed(r.vm, &why),
                None => Some(What::Resized(wire::Resized { vm: r.vm })),
            },
            Kind::Stop(s) => {
                self.vms.remove(&(s.vm, s.server));
                Some(What::Stopped(wire::Stopped { vm: s.vm }))
            }
            Kind::Migrate(m) if self.holds_migrations => {
                self.held.insert(m.migration);
                None
            }
            Kind::Migrate(m) => {
                if let Some(vm) = self.vms.remove(&(m.vm, m.from)) {
                    self.vms.insert((m.vm, m.to), vm);
                }
                Some(What::Moved(wire::Moved { migration: m.migration, downtime_ns: Some(1_000_000) }))
            }
            Kind::CancelMigration(c) => Some(What::MigrationFailed(wire::MigrationFailed {
                migration: c.migration,
                at: (!self.loses_cancelled).then_some(c.from),
                why: "it was cancelled".into(),
            })),
            _ => None,
        }
    }
}

#[tonic::async_trait]
impl Hypervisor for Service {
    type AttachStream = ReceiverStream<Result<wire::Report, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::Order>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (sender, receiver) = mpsc::channel(REPORTS);
        let orders = self.0.clone();
        {
            let state = orders.lock().map_err(|_| Status::internal("a panic"))?;
            report(&sender, state.hello());
        }
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(order)) = incoming.message().await {
                let Some(order) = order.order else { continue };
                let Ok(mut state) = orders.lock() else { return };
                if let Some(what) = state.execute(order) {
                    report(&sender, what);
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
