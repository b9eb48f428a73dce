//! The router: it executes the core's orders as calls of drivers, and reports their results as
//! events.
//!
//! ```text
//!  event loop --Effect--> Router --spawns--> job (jobs.rs): one per VM at a time, in the order
//!      <--Event---------------+              of its orders; VMs side by side
//!                             +--spawns--> health (health.rs): one per server: lists it, tries
//!                             |            it again while it is away, reads its loads
//!                             +--orders--> services.rs: services that keep order themselves
//! ```
//!
//! 0. Every server's host is claimed for this controller: one that serves another controller counts
//!    as unreachable.
//! 1. Every server's VMs are listed. When all have answered or are known to be unreachable,
//!    `ServersUnreachable` and `WorldUp` are sent.
//! 2. An order that is repeated while it waits or runs has no effect; for a migration that has
//!    ended, the result is repeated.
//! 3. A server that answers again is listed, and another `WorldUp` has the whole state: the core
//!    repeats the orders that it still wants.
//! 4. A running VM that is missing from its server's loads is checked; if it is gone, it has
//!    failed.
//!
//! At most [`CALLS`] calls at a time go to one server (sshd's MaxSessions is 10, sshd_config(5));
//! further ones wait. Nothing here blocks the event loop: its orders come by a queue of [`ORDERS`].
//! When that is full, the core is notified that the hypervisors are gone and, as soon as the router
//! can take orders again, that they are back; then it repeats its orders.

mod health;
mod jobs;
mod services;
#[cfg(test)]
mod tests;

use crate::owner::Owner;
use crate::{DiscoveredVm, FoundState, Hypervisor, MigrateOrder, MigrationKey, ServerLoad, VmDown, VmmError};
use crate::{Driver, EventLoop, HypervisorReport, HypervisorService, ORDERS};
use jobs::{Job, Next};
pub use services::ServiceLink;
use services::{ServiceMsg, ServiceState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{BitRate, Effect, Event, MigrationId, ServerId, TrafficId, VmId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Simultaneous calls to one server, not counting migrations and loads.
pub const CALLS: usize = 4;
/// Migrations whose end is remembered, for repeated requests.
const REMEMBERED: usize = 1024;
/// Reports that wait for the router; with a full queue the senders wait.
const QUEUE: usize = 256;

/// How long the router waits for drivers. Their own time-outs are shorter: these are for drivers
/// that hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a query or a small change.
    pub call: Duration,
    /// For starting or stopping a VM.
    pub start: Duration,
    /// A migration without progress for this time is cancelled.
    pub stall: Duration,
    /// A cancelled migration may take this long to clean up; then it is dropped, and `resolve`
    /// cleans up.
    pub give_up: Duration,
    /// Pause before the first retry; it doubles with each.
    pub retry: Duration,
    /// The longest pause.
    pub longest_retry: Duration,
}

impl Timeouts {
    /// The time-outs of `tandem serve`, with the site's `[migration] timeout`.
    pub fn new(stall: Duration) -> Timeouts {
        Timeouts {
            call: Duration::from_secs(180),
            start: Duration::from_secs(900),
            stall,
            give_up: Duration::from_secs(120),
            retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(60),
        }
    }
}

/// Messages of jobs and health tasks to the router.
enum RouterMsg {
    /// A job has ended, with its results for the router.
    Ended(VmId, Next),
    /// A server was listed, or could not be.
    Listed(ServerId, Result<Vec<DiscoveredVm>, VmmError>),
    /// The VMs in a server's loads.
    Seen(ServerId, Vec<VmId>),
    /// Another controller has tried to claim a server's host.
    Rival(ServerId, Owner),
    /// A driver was notified of a VM that was stopped or removed.
    VmDown(VmDown),
    /// A call found a server unreachable.
    Away(ServerId, VmmError),
    /// A message of a service's driver, by the service's number.
    Service(usize, ServiceMsg),
}

/// The state of a server.
struct ServerHealth {
    driver: Arc<dyn Hypervisor>,
    calls: Arc<Semaphore>,
    /// `None` until it was listed for the first time.
    state: Option<Result<(), VmmError>>,
    /// Wakes its health task to list it again.
    again: Arc<tokio::sync::Notify>,
    lines: health::ServerLines,
}

/// The jobs of one VM: the first one is being executed.
#[derive(Default)]
struct VmQueue {
    jobs: VecDeque<Job>,
}

/// A migration that waits or is under way.
struct Open {
    rate: watch::Sender<BitRate>,
    cancel: CancellationToken,
}

/// The state of the router: the core's orders, and the state of servers.
pub struct Router {
    servers: BTreeMap<ServerId, ServerHealth>,
    event_loop: Arc<dyn EventLoop>,
    timeouts: Timeouts,
    queues: BTreeMap<VmId, VmQueue>,
    open: BTreeMap<MigrationId, Open>,
    ended: VecDeque<(MigrationId, Event)>,
    /// VMs found on each server in the last list, without those that have gone since.
    found: BTreeMap<ServerId, Vec<DiscoveredVm>>,
    /// Each VM's server as far as known, and how often it was missing there in a row.
    places: BTreeMap<VmId, (ServerId, u32)>,
    /// Interval of reading loads; zero for never.
    loads: watch::Sender<Duration>,
    to_router: mpsc::Sender<RouterMsg>,
    tasks: JoinSet<()>,
    /// Services that keep the order of calls themselves, and the service of each server.
    services: Vec<ServiceState>,
    service_of: BTreeMap<ServerId, usize>,
    /// The event loop's orders; `None` while the router is not attached to it.
    inbox: Option<mpsc::Receiver<Effect>>,
    /// The capacity of that queue.
    depth: usize,
    /// `WorldUp` was sent.
    up: bool,
    /// `WorldUp` has to be sent as soon as the state of all servers is known.
    is_owed: bool,
    /// Servers that were reported to the core as unreachable.
    known_away: BTreeSet<ServerId>,
}

/// Runs until the event loop has ended. `world` is the name of the called drivers, for people; a
/// service has its own.
pub async fn run(
    drivers: Vec<Driver>,
    world: &str,
    owner: Owner,
    timeouts: Timeouts,
    event_loop: Arc<dyn EventLoop>,
) {
    run_with(drivers, world, owner, timeouts, event_loop, ORDERS).await;
}

async fn run_with(
    drivers: Vec<Driver>,
    world: &str,
    owner: Owner,
    timeouts: Timeouts,
    event_loop: Arc<dyn EventLoop>,
    depth: usize,
) {
    let (to_router, mut reports) = mpsc::channel(QUEUE);
    let mut router = Router {
        servers: BTreeMap::new(),
        event_loop,
        timeouts,
        queues: BTreeMap::new(),
        open: BTreeMap::new(),
        ended: VecDeque::new(),
        found: BTreeMap::new(),
        places: BTreeMap::new(),
        loads: watch::channel(Duration::ZERO).0,
        to_router,
        tasks: JoinSet::new(),
        services: Vec::new(),
        service_of: BTreeMap::new(),
        inbox: None,
        depth,
        up: false,
        is_owed: false,
        known_away: BTreeSet::new(),
    };
    let (mut called, mut services) = (Vec::new(), Vec::new());
    for driver in drivers {
        match driver {
            Driver::Called(driver) => called.push(driver),
            Driver::Service(service) => services.push(service),
        }
    }
    if !called.is_empty() && !router.attach().await {
        return;
    }
    router.watch_all(called, &owner);
    router.attach_services(services, &owner, depth);
    loop {
        tokio::select! {
            effect = next_order(&mut router.inbox) => match effect {
                Some(effect) => router.order(effect).await,
                None => if !router.attach_again(world).await { return },
            },
            Some(report) = reports.recv() => {
                router.hear(report, world).await;
                if router.event_loop.is_gone() {
                    return;
                }
            }
            // Collects finished tasks. A panic is logged; its VM's queue does not wait for it: see
            // `Router::start`.
            Some(ended) = router.tasks.join_next() => if let Err(error) = ended {
                tracing::error!("a hypervisor task has ended early: {error}");
            },
        }
    }
}

/// The next order; waits for ever while the router is not attached.
async fn next_order(inbox: &mut Option<mpsc::Receiver<Effect>>) -> Option<Effect> {
    match inbox {
        Some(inbox) => inbox.recv().await,
        None => std::future::pending().await,
    }
}

impl Router {
    async fn say(&self, event: Event) {
        let _ = self.event_loop.report(HypervisorReport::Event(event)).await;
    }

    /// Handles an order.
    async fn order(&mut self, effect: Effect) {
        let Some(effect) = self.route_to_services(effect).await else { return };
        match effect {
            Effect::AllocateVm { vm, server, spec } => self.enqueue(vm, Job::Allocate { server, spec }),
            Effect::StopVm { vm, server, placed_at } => self.enqueue(vm, Job::Stop { server, placed_at }),
            Effect::TagVm { vm, server, spec } => self.enqueue(vm, Job::Tag { server, spec }),
            Effect::ResizeVm { vm, server, resources } => self.enqueue(vm, Job::Resize { server, resources }),
            Effect::AttachVm { vm, server, uplink_port } => {
                self.enqueue(vm, Job::Attach { server, uplink: uplink_port });
            }
            Effect::MigrateVm { migration, vm, from, to, manner, spec, rate, downtime, rounds } => {
                let key = MigrationKey { migration, vm, from, to };
                let order = MigrateOrder { key, manner, spec: *spec, downtime, rounds };
                self.migrate(order, rate).await;
            }
            Effect::SetMigrationRate { migration, rate } => {
                if let Some(open) = self.open.get(&migration) {
                    open.rate.send_replace(rate);
                }
            }
            Effect::CancelMigration { migration, vm, from, to } => {
                self.cancel(MigrationKey { migration, vm, from, to }).await;
            }
            Effect::ReportLoads { period } => {
                self.loads.send_replace(period);
            }
            Effect::TrafficStart { spec } => self.no_traffic(spec.id).await,
            // The event loop sends no other effects here.
            _ => {}
        }
    }

    async fn no_traffic(&self, id: TrafficId) {
        let why = "hypervisors make no traffic; it comes from the VMs themselves".to_owned();
        self.say(Event::TrafficEnded { id, why }).await;
    }

    async fn migrate(&mut self, order: MigrateOrder, rate: BitRate) {
        let id = order.key.migration;
        if let Some(open) = self.open.get(&id) {
            open.rate.send_replace(rate);
            return;
        }
        if let Some((_, event)) = self.ended.iter().find(|(m, _)| *m == id) {
            return self.say(event.clone()).await;
        }
        let (sender, seen) = watch::channel(rate);
        let cancel = CancellationToken::new();
        self.open.insert(id, Open { rate: sender, cancel: cancel.clone() });
        self.enqueue(order.key.vm, Job::Migrate { order: Box::new(order), rate: seen, cancel });
    }

    async fn cancel(&mut self, key: MigrationKey) {
        if let Some(open) = self.open.get(&key.migration) {
            open.cancel.cancel();
        } else if let Some((_, event)) = self.ended.iter().find(|(m, _)| *m == key.migration) {
            self.say(event.clone()).await;
        } else {
            self.enqueue(key.vm, Job::Abandon { key });
        }
    }

    /// Adds a job to a VM's queue, unless the last one is equal. Of jobs without a result only the
    /// last one counts, so that a queue is never longer than the number of results that the core
    /// waits for.
    fn enqueue(&mut self, vm: VmId, job: Job) {
        let line = self.queues.entry(vm).or_default();
        if line.jobs.back() == Some(&job) {
            return;
        }
        if line.jobs.len() > 1
            && let Some(last @ Job::Attach { .. }) = line.jobs.back_mut()
            && matches!(job, Job::Attach { .. })
        {
            *last = job;
            return;
        }
        line.jobs.push_back(job);
        if line.jobs.len() == 1 {
            self.start(vm);
        }
    }

    /// Starts the first job in a VM's queue.
    fn start(&mut self, vm: VmId) {
        let Some(job) = self.queues.get(&vm).and_then(|l| l.jobs.front()).cloned() else { return };
        let carrier = jobs::Carrier {
            vm,
            drivers: job.servers().map(|s| self.servers.get(&s).map(|r| (r.driver.clone(), r.calls.clone()))),
            away: job.servers().map(|s| match self.servers.get(&s).map(|r| &r.state) {
                Some(Some(Err(why))) => Some(why.clone()),
                _ => None,
            }),
            event_loop: self.event_loop.clone(),
            timeouts: self.timeouts,
        };
        let to_router = self.to_router.clone();
        self.tasks.spawn(async move {
            // A job that panics must not block its VM's queue for ever.
            let job = AbortOnDropHandle::new(tokio::spawn(carrier.carry_out(job)));
            let next = job.await.unwrap_or_default();
            let _ = to_router.send(RouterMsg::Ended(vm, next)).await;
        });
    }

    async fn hear(&mut self, to_router: RouterMsg, world: &str) {
        match to_router {
            RouterMsg::Ended(vm, next) => self.job_ended(vm, next).await,
            RouterMsg::Listed(server, Ok(found)) => self.listed(server, found, world).await,
            RouterMsg::Listed(server, Err(why)) | RouterMsg::Away(server, why) => {
                self.away(server, why, world).await
            }
            RouterMsg::Seen(server, vms) => self.seen(server, &vms),
            RouterMsg::Rival(server, who) => self.rival(server, &who).await,
            RouterMsg::Service(number, message) => self.hear_service(number, message, world).await,
            RouterMsg::VmDown(vm_down) => self.vm_down(&vm_down),
        }
    }

    async fn job_ended(&mut self, vm: VmId, next: Next) {
        let ended = self.queues.get_mut(&vm).and_then(|l| l.jobs.pop_front());
        if let Some(Job::Migrate { order, .. }) = &ended {
            self.open.remove(&order.key.migration);
        }
        if let Some(place) = next.place {
            match place {
                Some(server) => self.places.insert(vm, (server, 0)),
                None => self.places.remove(&vm),
            };
            if place.is_none() {
                self.found.values_mut().for_each(|all| all.retain(|f| f.vm != vm));
            }
        }
        if let Some((migration, event)) = next.migration {
            self.ended.push_back((migration, event));
            if self.ended.len() > REMEMBERED {
                self.ended.pop_front();
            }
        }
        if self.queues.get(&vm).is_some_and(|l| l.jobs.is_empty()) {
            self.queues.remove(&vm);
        } else {
            self.start(vm);
        }
        for (server, why) in next.away {
            // Its health task checks whether it is; until it answers, calls fail at once.
            tracing::debug!("{server}: {why}");
            if let Some(health) = self.servers.get(&server) {
                health.again.notify_one();
            }
        }
    }
}
