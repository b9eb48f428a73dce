//! The router: turns the core's orders into calls of drivers, and their results into facts.
//!
//! ```text
//!  event loop --Effect--> Router --spawns--> job (jobs.rs): one per VM at a time, in the order
//!      <--Event---------------+              of its orders; VMs side by side
//!                             +--spawns--> health (health.rs): one per server: lists it, tries
//!                             |            it again while it is away, reads its loads
//!                             +--orders--> services.rs: services that keep order themselves
//! ```
//!
//! 0. Every server's host is claimed for this controller: one that serves another one is away.
//! 1. Every server is listed. When all have answered or are known to be away,
//!    `ServersUnreachable` and `WorldUp` are sent.
//! 2. An order that is repeated while it waits or runs changes nothing; a migration that has ended
//!    is answered as it ended.
//! 3. A server that answers again is listed, and another `WorldUp` tells all that is known: the
//!    core repeats what it still wants.
//! 4. A VM that ran and is no longer counted among its server's is looked for; when it is gone, it
//!    has failed.
//!
//! At most [`CALLS`] calls at a time go to one server (sshd's MaxSessions is 10, sshd_config(5));
//! further ones wait. Nothing here blocks the event loop: its orders come by a queue of [`ORDERS`];
//! when that is full, the core is told that the hypervisors are gone and, as soon as the router can
//! take orders again, that they are back, and says anew what it wants.

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

/// Calls to one server at a time, migrations and loads apart.
pub const CALLS: usize = 4;
/// Migrations whose end is remembered, for those who ask again.
const REMEMBERED: usize = 1024;
/// Reports that wait for the router; a full queue makes those who report wait.
const QUEUE: usize = 256;

/// How long the router waits for drivers. Their own time-outs are shorter: these are for those that
/// hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a question or a small change.
    pub call: Duration,
    /// For starting or stopping a VM.
    pub start: Duration,
    /// A migration whose progress does not change for so long is given up.
    pub stall: Duration,
    /// A migration that was given up may take so long to clean up, before it is dropped and what it
    /// left is looked up.
    pub give_up: Duration,
    /// Before the first retry; each one waits twice as long.
    pub retry: Duration,
    /// No retry waits longer.
    pub longest_retry: Duration,
}

impl Timeouts {
    /// As `tandem serve` has it, with the site's `[migration] timeout`.
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

/// What jobs and health tasks report to the router.
enum RouterMsg {
    /// A job has ended; what the router must know of it.
    Ended(VmId, Next),
    /// A server was listed, or could not be.
    Listed(ServerId, Result<Vec<DiscoveredVm>, VmmError>),
    /// Who is on a server, by its loads.
    Seen(ServerId, Vec<VmId>),
    /// Another controller has asked for a server's host.
    Rival(ServerId, Owner),
    /// A driver heard of a VM that was stopped or removed.
    VmDown(VmDown),
    /// A call found a server away.
    Away(ServerId, VmmError),
    /// The driver of a service reports, by the service's number.
    Service(usize, ServiceMsg),
}

/// What is known of a server.
struct ServerHealth {
    driver: Arc<dyn Hypervisor>,
    calls: Arc<Semaphore>,
    /// `None` until it was listed for the first time.
    state: Option<Result<(), VmmError>>,
    /// Wakes its health task: it is to be listed again.
    again: Arc<tokio::sync::Notify>,
    lines: health::ServerLines,
}

/// The orders of one VM: the first one is being carried out.
#[derive(Default)]
struct VmQueue {
    jobs: VecDeque<Job>,
}

/// A migration that waits or is under way.
struct Open {
    rate: watch::Sender<BitRate>,
    cancel: CancellationToken,
}

/// The state of the router: what the core has asked for, and what is known of servers.
pub struct Router {
    servers: BTreeMap<ServerId, ServerHealth>,
    event_loop: Arc<dyn EventLoop>,
    timeouts: Timeouts,
    queues: BTreeMap<VmId, VmQueue>,
    open: BTreeMap<MigrationId, Open>,
    ended: VecDeque<(MigrationId, Event)>,
    /// What was found on each server when it was listed last, without what has gone since.
    found: BTreeMap<ServerId, Vec<DiscoveredVm>>,
    /// Where VMs run, as far as is known, and how often each was missed there in a row.
    places: BTreeMap<VmId, (ServerId, u32)>,
    /// How often loads are read; zero: not at all.
    loads: watch::Sender<Duration>,
    to_router: mpsc::Sender<RouterMsg>,
    tasks: JoinSet<()>,
    /// Services that keep order by themselves, and which of them has a server.
    services: Vec<ServiceState>,
    service_of: BTreeMap<ServerId, usize>,
    /// Where the event loop's orders come from; `None` while the router is not attached to it.
    inbox: Option<mpsc::Receiver<Effect>>,
    /// So many orders may wait there.
    depth: usize,
    /// `WorldUp` was sent.
    up: bool,
    /// `WorldUp` is to be sent as soon as all servers are known.
    is_owed: bool,
    /// Servers that are away, as the core knows it.
    known_away: BTreeSet<ServerId>,
}

/// Runs until the event loop is gone. `world` is the name of the drivers that are called, for
/// people; a service has its own.
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
            // Tasks that have ended are forgotten; one that panicked is told, its VM is not left
            // waiting by it: see `Router::start`.
            Some(ended) = router.tasks.join_next() => if let Err(error) = ended {
                tracing::error!("a hypervisor task has ended early: {error}");
            },
        }
    }
}

/// The next order; none comes while the router is not attached.
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

    /// Takes an order.
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
            // The event loop sends nothing else here.
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

    /// Puts a wish behind the VM's others, unless the last of them is the same. Of those that
    /// nobody waits for only the last counts, so that a line is never longer than what the core
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

    /// Starts the first wish of a VM's line.
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
            // A job that panics must not leave its VM's line waiting for ever.
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
            // Its health task finds out whether it is; calls fail at once until it answers.
            tracing::debug!("{server}: {why}");
            if let Some(health) = self.servers.get(&server) {
                health.again.notify_one();
            }
        }
    }
}
