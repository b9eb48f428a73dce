//! Jobs: an order of the core as calls of a driver, each with a time-out, and the events of their
//! results.

use super::super::{
    FoundState, Hypervisor, MigrateOrder, MigrationControl, MigrationKey, MigrationReport, Moved,
    ResolveOutcome, VmLocation, VmmError,
};
use super::Timeouts;
use crate::{EventLoop, HypervisorReport};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{BitRate, Event, MigrationId, PortNo, Progress, Resources, ServerId, Time, VmId, VmSpec};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Reports of a migration that wait; a driver sends a few each second.
const REPORTS: usize = 16;
/// How often an interface's move is tried.
const ATTACH_TRIES: u32 = 5;

/// An order about a VM.
#[derive(Debug, Clone)]
pub(super) enum Job {
    Allocate {
        server: ServerId,
        spec: VmSpec,
    },
    Stop {
        server: ServerId,
        /// The time of its request.
        placed_at: Option<Time>,
    },
    /// Store a specification with it.
    Tag {
        server: ServerId,
        spec: Box<VmSpec>,
    },
    Resize {
        server: ServerId,
        resources: Resources,
    },
    Attach {
        server: ServerId,
        uplink: PortNo,
    },
    Migrate {
        order: Box<MigrateOrder>,
        rate: watch::Receiver<BitRate>,
        cancel: CancellationToken,
    },
    /// Cancel a migration that the router does not know.
    Abandon {
        key: MigrationKey,
    },
    /// Check whether a VM that was missing is gone.
    Missed {
        server: ServerId,
    },
}

impl PartialEq for Job {
    fn eq(&self, other: &Job) -> bool {
        match (self, other) {
            (Job::Allocate { server: a, spec: x }, Job::Allocate { server: b, spec: y }) => a == b && x == y,
            (Job::Stop { server: a, placed_at: x }, Job::Stop { server: b, placed_at: y }) => {
                a == b && x == y
            }
            (Job::Tag { server: a, spec: x }, Job::Tag { server: b, spec: y }) => a == b && x == y,
            (Job::Missed { server: a }, Job::Missed { server: b }) => a == b,
            (Job::Resize { server: a, resources: x }, Job::Resize { server: b, resources: y }) => {
                a == b && x == y
            }
            (Job::Attach { server: a, uplink: x }, Job::Attach { server: b, uplink: y }) => a == b && x == y,
            (Job::Migrate { order: a, .. }, Job::Migrate { order: b, .. }) => {
                a.key.migration == b.key.migration
            }
            (Job::Abandon { key: a }, Job::Abandon { key: b }) => a == b,
            _ => false,
        }
    }
}

impl Job {
    /// The servers that it is about; the second one is a migration's target.
    pub(super) fn servers(&self) -> [ServerId; 2] {
        match self {
            Job::Allocate { server, .. }
            | Job::Stop { server, .. }
            | Job::Tag { server, .. }
            | Job::Resize { server, .. }
            | Job::Attach { server, .. }
            | Job::Missed { server } => [*server, *server],
            Job::Migrate { order, .. } => [order.key.from, order.key.to],
            Job::Abandon { key } => [key.from, key.to],
        }
    }
}

/// A finished job's results for the router.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// The VM's server now, if it has changed; inner `None`: it runs nowhere.
    pub(super) place: Option<Option<ServerId>>,
    /// The end of a migration, for repeated requests.
    pub(super) migration: Option<(MigrationId, Event)>,
    /// Servers that did not answer.
    pub(super) away: Vec<(ServerId, VmmError)>,
}

/// A server's driver, and the limit of its simultaneous calls.
pub(super) type Served = (Arc<dyn Hypervisor>, Arc<Semaphore>);

/// Executes one job.
pub(super) struct Carrier {
    pub(super) vm: VmId,
    /// The drivers of the job's servers; `None` for a server without a hypervisor.
    pub(super) drivers: [Option<Served>; 2],
    /// Why servers are unreachable, if they are.
    pub(super) away: [Option<VmmError>; 2],
    pub(super) event_loop: Arc<dyn EventLoop>,
    pub(super) timeouts: Timeouts,
}

impl Carrier {
    async fn say(&self, event: Event) {
        let _ = self.event_loop.report(HypervisorReport::Event(event)).await;
    }

    pub(super) async fn carry_out(self, job: Job) -> Next {
        let server = job.servers()[0];
        let Some((driver, calls)) = self.drivers[0].clone() else {
            return self.unknown_server(server, job).await;
        };
        match job {
            Job::Migrate { order, rate, cancel } => self.migrate(driver, *order, rate, cancel).await,
            Job::Abandon { key } => self.abandon(driver, key).await,
            Job::Stop { placed_at, .. } => self.stop(&driver, &calls, server, placed_at).await,
            job => {
                // The semaphore is never closed.
                let _one = calls.acquire().await;
                self.short(driver, server, job).await
            }
        }
    }

    /// Executes a job that is tried once.
    async fn short(&self, driver: Arc<dyn Hypervisor>, server: ServerId, job: Job) -> Next {
        let vm = self.vm;
        let mut next = Next::default();
        let fail = |next: &mut Next, why: &VmmError| {
            if why.is_away() {
                next.away.push((server, why.clone()));
            }
        };
        match job {
            Job::Allocate { spec, .. } => {
                let call = driver.allocate(server, vm, &spec);
                let result = match &self.away[0] {
                    Some(why) => Err(why.clone()),
                    None => within(self.timeouts.start, "starting", vm, driver.name(), call).await,
                };
                match result {
                    Ok(address) => {
                        next.place = Some(Some(server));
                        self.say(Event::VmStarted { vm, address }).await;
                    }
                    Err(why) => {
                        fail(&mut next, &why);
                        self.say(Event::VmFailed { vm, why: why.to_string() }).await;
                    }
                }
            }
            Job::Resize { resources, .. } => {
                let call = driver.resize(server, vm, resources);
                match within(self.timeouts.call, "resizing", vm, driver.name(), call).await {
                    Ok(()) => self.say(Event::VmResized { vm }).await,
                    Err(why) => {
                        fail(&mut next, &why);
                        self.say(Event::VmFailed { vm, why: why.to_string() }).await;
                    }
                }
            }
            Job::Attach { uplink, .. } => {
                // The core gets no result of it, so it is repeated until it is clear that it fails.
                for n in 1..=ATTACH_TRIES {
                    let call = driver.attach(server, vm, uplink);
                    match within(self.timeouts.call, "attaching", vm, driver.name(), call).await {
                        Ok(()) => break,
                        Err(why) => {
                            tracing::error!("{vm} is not attached to port {uplink} of its server: {why}");
                            if why.is_away() || n == ATTACH_TRIES {
                                fail(&mut next, &why);
                                break;
                            }
                        }
                    }
                    sleep(self.timeouts.retry).await;
                }
            }
            Job::Tag { spec, .. } => {
                // If it fails, the core finds the old specification in the next `VmsFound`, and
                // orders it again.
                let call = driver.tag(server, vm, &spec);
                if let Err(why) = within(self.timeouts.call, "tagging", vm, driver.name(), call).await {
                    tracing::warn!("{vm} keeps what was kept with it before: {why}");
                    fail(&mut next, &why);
                }
            }
            Job::Missed { .. } => {
                let found =
                    within(self.timeouts.call, "listing", vm, driver.name(), driver.list(server)).await;
                let lives = |s: FoundState| matches!(s, FoundState::Running | FoundState::Paused);
                match found {
                    Ok(found) if !found.iter().any(|f| f.vm == vm && lives(f.state)) => {
                        let host = driver.name().to_owned();
                        let why = VmmError::GoneBehindOurBack { host, vm };
                        next.place = Some(None);
                        self.say(Event::VmDied { vm, why: why.to_string() }).await;
                    }
                    Ok(_) => {}
                    Err(why) => fail(&mut next, &why),
                }
            }
            Job::Stop { .. } | Job::Migrate { .. } | Job::Abandon { .. } => {}
        }
        next
    }

    /// Repeats until the VM is gone: one that may still exist must not be forgotten. For an
    /// unreachable server the core repeats the order when it answers.
    async fn stop(
        &self,
        driver: &Arc<dyn Hypervisor>,
        calls: &Semaphore,
        server: ServerId,
        placed_at: Option<Time>,
    ) -> Next {
        let vm = self.vm;
        let mut wait = self.timeouts.retry;
        loop {
            let one = calls.acquire().await;
            let call = driver.destroy(server, vm, placed_at);
            let result = within(self.timeouts.start, "stopping", vm, driver.name(), call).await;
            drop(one);
            match result {
                Ok(()) => {
                    self.say(Event::VmStopped { vm }).await;
                    return Next { place: Some(None), ..Next::default() };
                }
                // The requested VM does not exist.
                Err(why @ (VmmError::NotMeant { .. } | VmmError::MadeForUnknown { .. })) => {
                    tracing::warn!("{why}");
                    self.say(Event::VmStopped { vm }).await;
                    return Next::default();
                }
                Err(why) => {
                    tracing::warn!("{vm} is not stopped yet: {why}");
                    if why.is_away() {
                        return Next { away: vec![(server, why)], ..Next::default() };
                    }
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(self.timeouts.longest_retry);
        }
    }

    async fn migrate(
        &self,
        driver: Arc<dyn Hypervisor>,
        order: MigrateOrder,
        rate: watch::Receiver<BitRate>,
        cancel: CancellationToken,
    ) -> Next {
        let key = order.key;
        if !driver.servers().contains(&key.to) {
            let other = self.drivers[1].as_ref().map_or("no hypervisor", |(d, _)| d.name());
            let why = VmmError::Refused {
                what: format!("moving {} from {} to {other}", key.vm, driver.name()),
                why: "hosts of different drivers or pools cannot hand VMs over; choose a server of the same one".to_owned(),
            };
            return self.ended(key, VmLocation::At(key.from), Some(why), None).await;
        }
        // Cleans up after an earlier controller, or an earlier try.
        match self.resolved(&driver, key, false).await {
            ResolveOutcome::UnderWay => {}
            ResolveOutcome::Ended(VmLocation::At(at), why) if at == key.from => {
                let refused = if cancel.is_cancelled() {
                    Some(VmmError::Cancelled)
                } else if let Some(away) = self.away.iter().flatten().next() {
                    Some(why.unwrap_or_else(|| away.clone()))
                } else {
                    let call = driver.can_migrate(&order);
                    within(self.timeouts.call, "asking whether it can be moved", key.vm, driver.name(), call)
                        .await
                        .err()
                };
                if let Some(why) = refused {
                    return self.ended(key, VmLocation::At(at), Some(why), None).await;
                }
            }
            ResolveOutcome::Ended(at, why) => return self.ended(key, at, why, None).await,
        }
        let result = self.transfer(&driver, &order, rate, cancel).await;
        match result {
            Some(Ok(moved)) => self.ended(key, VmLocation::At(key.to), None, moved.downtime).await,
            Some(Err((at @ (VmLocation::At(_) | VmLocation::Lost), why))) => {
                self.ended(key, at, Some(why), None).await
            }
            unknown => {
                let said = unknown.and_then(Result::err).map(|(_, why)| why);
                match self.resolved(&driver, key, true).await {
                    ResolveOutcome::Ended(at, why) => self.ended(key, at, said.or(why), None).await,
                    // Not with `stop`.
                    ResolveOutcome::UnderWay => self.ended(key, VmLocation::At(key.from), said, None).await,
                }
            }
        }
    }

    /// Calls the driver and forwards its reports; cancels when there is no progress. `None` if the
    /// call had to be dropped.
    async fn transfer(
        &self,
        driver: &Arc<dyn Hypervisor>,
        order: &MigrateOrder,
        rate: watch::Receiver<BitRate>,
        cancel: CancellationToken,
    ) -> Option<Result<Moved, (VmLocation, VmmError)>> {
        let migration = order.key.migration;
        let (sender, mut reports) = mpsc::channel(REPORTS);
        let call = driver.migrate(order, MigrationControl { reports: sender, rate, cancel: cancel.clone() });
        tokio::pin!(call);
        let mut last = MigrationReport::Progress(Progress::default());
        let mut moved_at = Instant::now();
        let mut stalled = false;
        let result = loop {
            let limit = if cancel.is_cancelled() {
                self.timeouts.give_up
            } else {
                self.timeouts.stall.saturating_sub(moved_at.elapsed())
            };
            tokio::select! {
                result = &mut call => break result,
                Some(report) = reports.recv() => {
                    if report != last {
                        (last, moved_at) = (report, Instant::now());
                    }
                    self.report(migration, report).await;
                }
                () = cancel.cancelled(), if !cancel.is_cancelled() => {}
                () = sleep(limit) => {
                    if cancel.is_cancelled() {
                        let after = self.timeouts.give_up;
                        tracing::warn!("{migration} did not end within {after:?} after it was given up");
                        return None;
                    }
                    tracing::warn!("{migration} makes no progress; it is given up");
                    stalled = true;
                    cancel.cancel();
                }
            }
        };
        // Reports sent just before the end are forwarded before it.
        while let Ok(report) = reports.try_recv() {
            self.report(migration, report).await;
        }
        Some(result.map_err(|e| {
            let (host, after) = (driver.name().to_owned(), self.timeouts.stall);
            let what = format!("moving {}, which made no progress,", order.key.vm);
            (e.at, if stalled { VmmError::TimeOut { host, what, after } } else { e.why })
        }))
    }

    async fn report(&self, migration: MigrationId, report: MigrationReport) {
        self.say(match report {
            MigrationReport::Progress(progress) => Event::MigrationProgress { migration, progress },
            MigrationReport::Suspended => Event::VmSuspended { migration },
        })
        .await;
    }

    /// Repeats until the VM's location is known.
    async fn resolved(&self, driver: &Arc<dyn Hypervisor>, key: MigrationKey, stop: bool) -> ResolveOutcome {
        let mut wait = self.timeouts.retry;
        loop {
            match timeout(self.timeouts.call, driver.resolve(key, stop)).await {
                Ok(ResolveOutcome::Ended(VmLocation::Unknown, why)) => {
                    let why = why.map_or_else(String::new, |w| format!(": {w}"));
                    tracing::warn!(
                        "nobody can tell where {} of {} runs{why}; asking again",
                        key.vm,
                        key.migration
                    );
                }
                Ok(resolved) => return resolved,
                Err(_) => tracing::warn!(
                    "{}: looking for {} has taken too long; asking again",
                    key.migration,
                    key.vm
                ),
            }
            sleep(wait).await;
            wait = (wait * 2).min(self.timeouts.longest_retry);
        }
    }

    async fn abandon(&self, driver: Arc<dyn Hypervisor>, key: MigrationKey) -> Next {
        match self.resolved(&driver, key, true).await {
            ResolveOutcome::Ended(at, why) => {
                self.ended(key, at, why.or(Some(VmmError::Cancelled)), None).await
            }
            ResolveOutcome::UnderWay => self.ended(key, VmLocation::At(key.from), None, None).await,
        }
    }

    /// Reports the end of a migration.
    async fn ended(
        &self,
        key: MigrationKey,
        at: VmLocation,
        why: Option<VmmError>,
        downtime: Option<Duration>,
    ) -> Next {
        let migration = key.migration;
        let place = if let VmLocation::At(server) = at { Some(server) } else { None };
        let event = if place == Some(key.to) {
            Event::VmMoved { migration, downtime }
        } else {
            let why =
                why.as_ref().map_or_else(|| "it did not come to an end".to_owned(), ToString::to_string);
            Event::MigrationFailed { migration, at: place, why }
        };
        self.say(event.clone()).await;
        let away = why.filter(VmmError::is_away).map(|w| (key.to, w)).into_iter().collect();
        Next { place: Some(place), migration: Some((migration, event)), away }
    }

    /// Answers a job for a server without a hypervisor.
    async fn unknown_server(&self, server: ServerId, job: Job) -> Next {
        let why =
            format!("{server} is not in the hypervisors file; add a [[host]] or [[pool.server]] for it");
        let vm = self.vm;
        match job {
            Job::Allocate { .. } | Job::Resize { .. } => self.say(Event::VmFailed { vm, why }).await,
            Job::Stop { .. } => self.say(Event::VmStopped { vm }).await,
            Job::Migrate { order, .. } => {
                let (migration, at) = (order.key.migration, Some(order.key.from));
                self.say(Event::MigrationFailed { migration, at, why }).await;
            }
            Job::Abandon { key } => {
                self.say(Event::MigrationFailed { migration: key.migration, at: Some(key.from), why }).await;
            }
            Job::Attach { .. } | Job::Tag { .. } | Job::Missed { .. } => {}
        }
        Next::default()
    }
}

/// A call with a time-out.
pub(super) async fn within<T>(
    limit: Duration,
    doing: &str,
    vm: VmId,
    host: &str,
    call: impl Future<Output = Result<T, VmmError>>,
) -> Result<T, VmmError> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => {
            Err(VmmError::TimeOut { host: host.to_owned(), what: format!("{doing} {vm}"), after: limit })
        }
    }
}
