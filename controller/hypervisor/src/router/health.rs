//! The health of servers: whether they answer, their VMs and their loads. One task for each server.

use super::jobs::Job;
use super::*;
use std::sync::{Mutex, PoisonError};
use tandem_model::rate_limit::LogLines;
use tandem_model::{FoundVm, Time};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How often in a row a VM must be missing from its server's loads before its state is checked.
const MISSED: u32 = 2;
/// Interval of the checks that a host still serves this controller.
const OWNER: Duration = Duration::from_secs(60);

/// Limits the log lines that one server's answers cause.
#[derive(Clone)]
pub(super) struct ServerLines {
    start: Instant,
    lines: Arc<Mutex<LogLines>>,
}

impl ServerLines {
    fn new() -> ServerLines {
        ServerLines { start: Instant::now(), lines: Arc::new(Mutex::new(LogLines::new(Time::ZERO))) }
    }

    /// The line, if the server may cause another.
    fn line(&self, what: impl FnOnce() -> String) -> Option<String> {
        let now = Time::ZERO + self.start.elapsed();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).line(now, what)
    }
}

impl Router {
    pub(super) fn watch_all(&mut self, drivers: Vec<Arc<dyn Hypervisor>>, owner: &Owner) {
        for driver in drivers {
            self.tasks.spawn(listen(driver.clone(), self.to_router.clone()));
            for server in driver.servers().to_vec() {
                let again = Arc::new(tokio::sync::Notify::new());
                let lines = ServerLines::new();
                let health_task = HealthTask {
                    driver: driver.clone(),
                    server,
                    to_router: self.to_router.clone(),
                    event_loop: self.event_loop.clone(),
                    owner: owner.clone(),
                    timeouts: self.timeouts,
                    lines: lines.clone(),
                };
                self.tasks.spawn(health_task.run(again.clone(), self.loads.subscribe()));
                let calls = Arc::new(Semaphore::new(CALLS));
                self.servers.insert(
                    server,
                    ServerHealth { driver: driver.clone(), calls, state: None, again, lines },
                );
            }
        }
    }

    /// Attaches to the event loop; false when it has ended.
    pub(super) async fn attach(&mut self) -> bool {
        let (effects, inbox) = mpsc::channel(self.depth);
        let attached = self.event_loop.report(HypervisorReport::Attached(effects)).await.is_ok();
        self.inbox = attached.then_some(inbox);
        attached
    }

    /// The event loop has detached the router because the queue of orders was full: the core is
    /// notified of that, and then gets the present state. False when the event loop has ended.
    pub(super) async fn attach_again(&mut self, world: &str) -> bool {
        self.inbox = None;
        if self.event_loop.is_gone() {
            return false;
        }
        let why = format!("more than {} orders were waiting for them", self.depth);
        if self.event_loop.report(HypervisorReport::Detached(why)).await.is_err() {
            return false;
        }
        self.up = false;
        self.renew(|_| true);
        // With services alone, the first one that comes back attaches.
        if !self.servers.is_empty() {
            if !self.attach().await {
                return false;
            }
            self.tell(world).await;
        }
        true
    }

    pub(super) async fn listed(&mut self, server: ServerId, found: Vec<DiscoveredVm>, world: &str) {
        // VMs with queued or running jobs are reported by these.
        let busy = |vm: &VmId| self.queues.contains_key(vm);
        let stale: Vec<VmId> = self
            .places
            .iter()
            .filter(|(vm, (at, _))| *at == server && !busy(vm) && !found.iter().any(|f| f.vm == **vm))
            .map(|(vm, _)| *vm)
            .collect();
        let news = !matches!(self.servers.get(&server).map(|r| &r.state), Some(Some(Ok(()))));
        for vm in stale {
            if news {
                // The core starts it again when it gets the list of running VMs.
                self.places.remove(&vm);
            } else {
                self.enqueue(vm, Job::Missed { server });
            }
        }
        for f in &found {
            match f.state {
                FoundState::Running | FoundState::Paused => {
                    if !self.queues.contains_key(&f.vm) {
                        self.places.insert(f.vm, (server, 0));
                    }
                }
                // Left by a migration that the core knows and will ask for. A VM that does not run
                // is created again, or removed, by the core's orders.
                FoundState::Incoming | FoundState::Halted | FoundState::Dying => {
                    let what = || format!("{} on {server} is {:?}", f.name, f.state);
                    if let Some(line) = self.servers.get(&server).and_then(|s| s.lines.line(what)) {
                        tracing::info!("{line}");
                    }
                }
            }
        }
        self.found.insert(server, found);
        let Some(health) = self.servers.get_mut(&server) else { return };
        health.state = Some(Ok(()));
        if news {
            self.tell(world).await;
        }
    }

    pub(super) async fn away(&mut self, server: ServerId, why: VmmError, world: &str) {
        let Some(health) = self.servers.get_mut(&server) else { return };
        let news = !matches!(health.state, Some(Err(_)));
        health.state = Some(Err(why));
        if news {
            self.tell(world).await;
        }
    }

    /// Reports the state once every server was asked: the servers that are unreachable, and the
    /// running VMs.
    pub(super) async fn tell(&mut self, world: &str) {
        let is_open = self.servers.values().any(|s| s.state.is_none());
        if is_open || self.services.iter().any(|s| s.state().is_none()) {
            return;
        }
        let away = self.all_away();
        let gone: BTreeSet<ServerId> = away.iter().map(|(id, _)| *id).collect();
        // Servers that became unreachable do not change the list of VMs elsewhere; servers that are
        // back do.
        self.is_owed |= !self.up || self.known_away.difference(&gone).next().is_some();
        if gone != self.known_away || (!self.up && !self.servers.is_empty()) {
            self.known_away = gone;
            self.say(Event::ServersUnreachable { servers: away }).await;
        }
        if !self.is_owed || self.renew(ServiceState::is_stale) {
            return;
        }
        self.up = true;
        self.is_owed = false;
        tracing::info!(
            "hypervisors: {} of {} servers answer",
            self.servers.len() + self.service_of.len() - self.known_away.len(),
            self.servers.len() + self.service_of.len()
        );
        // VMs on an unreachable server still count as running there, so that they are not started
        // again.
        let mut vms: Vec<(VmId, ServerId)> =
            self.places.iter().map(|(vm, (server, _))| (*vm, *server)).collect();
        let mut found: Vec<FoundVm> = self.found.values().flatten().filter_map(as_found).collect();
        let hellos: Vec<_> = self.services.iter_mut().filter_map(ServiceState::take_hello).collect();
        let traffic = hellos.iter().any(|h| h.traffic);
        let worlds: Vec<String> = match self.servers.is_empty() {
            true => hellos.iter().map(|h| h.world.clone()).collect(),
            false => vec![world.to_owned()],
        };
        for hello in hellos {
            vms.extend(hello.vms.iter().map(|f| (f.vm, f.server)));
            found.extend(hello.vms);
        }
        self.say(Event::VmsFound { vms: found }).await;
        self.say(Event::WorldUp { world: worlds.join(", "), vms, traffic }).await;
    }

    /// All servers that do not answer, with the reason.
    fn all_away(&self) -> Vec<(ServerId, String)> {
        let called = self
            .servers
            .iter()
            .filter_map(|(id, s)| s.state.as_ref()?.as_ref().err().map(|why| (*id, why.to_string())));
        let services = self.services.iter().filter_map(|s| Some((s, s.state()?.err()?)));
        let services = services.flat_map(|(s, why)| s.servers().iter().map(move |id| (*id, why.to_owned())));
        let mut away: Vec<(ServerId, String)> = called.chain(services).collect();
        away.sort_unstable_by_key(|(id, _)| *id);
        away
    }

    /// Reports that another controller has tried to claim the host of a server.
    pub(super) async fn rival(&self, server: ServerId, who: &Owner) {
        let host = self.servers.get(&server).map_or("a hypervisor", |r| r.driver.name());
        let (world, who) = (format!("{host} (the host of {server})"), who.to_string());
        self.say(Event::RivalSeen { world, who }).await;
    }

    /// Checks at once the state of a VM that somebody else has stopped or removed.
    pub(super) fn vm_down(&mut self, vm_down: &VmDown) {
        let VmDown { server, vm, why } = vm_down;
        let ours = self.places.get(vm).is_some_and(|(at, _)| at == server);
        if ours && !self.queues.contains_key(vm) {
            tracing::info!("{vm} on {server}: {why}");
            self.enqueue(*vm, Job::Missed { server: *server });
        }
    }

    /// Records which VMs a server's loads have; checks the state of those missing repeatedly.
    pub(super) fn seen(&mut self, server: ServerId, vms: &[VmId]) {
        let mut missed = Vec::new();
        for (vm, (at, times)) in &mut self.places {
            if *at != server || self.queues.contains_key(vm) {
                continue;
            }
            *times = if vms.contains(vm) { 0 } else { *times + 1 };
            if *times >= MISSED {
                *times = 0;
                missed.push(*vm);
            }
        }
        for vm in missed {
            self.enqueue(vm, Job::Missed { server });
        }
    }
}

/// The form in which a VM is reported to the core; `None` for one in the middle of a move.
fn as_found(f: &DiscoveredVm) -> Option<FoundVm> {
    let runs = match f.state {
        FoundState::Running | FoundState::Paused => true,
        FoundState::Halted => false,
        FoundState::Incoming | FoundState::Dying => return None,
    };
    Some(FoundVm { vm: f.vm, server: f.server, runs, spec: f.spec.clone() })
}

/// The task of one driver, which forwards its notifications.
async fn listen(driver: Arc<dyn Hypervisor>, to_router: mpsc::Sender<RouterMsg>) {
    let (vm_down, mut heard) = mpsc::channel(64);
    let tell = async {
        while let Some(vm_down) = heard.recv().await {
            if to_router.send(RouterMsg::VmDown(vm_down)).await.is_err() {
                heard.close();
                return;
            }
        }
    };
    tokio::join!(driver.watch(vm_down), tell);
}

/// The task of one server.
struct HealthTask {
    driver: Arc<dyn Hypervisor>,
    server: ServerId,
    to_router: mpsc::Sender<RouterMsg>,
    event_loop: Arc<dyn EventLoop>,
    owner: Owner,
    timeouts: Timeouts,
    lines: ServerLines,
}

impl HealthTask {
    async fn run(self, again: Arc<tokio::sync::Notify>, mut period: watch::Receiver<Duration>) {
        loop {
            self.list().await;
            // The server answers: its loads are read until it fails, or a call failed.
            loop {
                let every = *period.borrow_and_update();
                tokio::select! {
                    () = again.notified() => break,
                    changed = period.changed() => if changed.is_err() { return },
                    lost = self.hold() => {
                        tracing::warn!("{}: {lost}", self.server);
                        break;
                    }
                    away = self.loads(every), if !every.is_zero() => {
                        tracing::debug!("{}: {away}", self.server);
                        break;
                    }
                }
            }
        }
    }

    /// Checks periodically that the host still serves this controller; returns when it does not.
    async fn hold(&self) -> VmmError {
        loop {
            sleep(OWNER).await;
            if let Ok(Err(why @ VmmError::Owned { .. })) = timeout(self.timeouts.call, self.claim()).await {
                return why;
            }
        }
    }

    async fn claim(&self) -> Result<(), VmmError> {
        if let Some(rival) = self.driver.claim(self.server, &self.owner, false).await? {
            let _ = self.to_router.send(RouterMsg::Rival(self.server, rival)).await;
        }
        Ok(())
    }

    /// Claims the host, prepares it and lists its VMs.
    async fn look(&self) -> Result<Vec<DiscoveredVm>, VmmError> {
        self.claim().await?;
        self.driver.prepare(self.server).await?;
        self.driver.list(self.server).await
    }

    /// Lists the server's VMs, repeatedly until it answers.
    async fn list(&self) {
        let mut wait = self.timeouts.retry;
        loop {
            let result = match timeout(self.timeouts.call, self.look()).await {
                Ok(result) => result,
                Err(_) => Err(VmmError::TimeOut {
                    host: self.driver.name().to_owned(),
                    what: "listing its VMs".to_owned(),
                    after: self.timeouts.call,
                }),
            };
            let done = result.is_ok();
            let _ = self.to_router.send(RouterMsg::Listed(self.server, result)).await;
            if done {
                return;
            }
            sleep(wait).await;
            wait = (wait * 2).min(self.timeouts.longest_retry);
        }
    }

    /// Reads loads periodically until the server does not answer.
    async fn loads(&self, every: Duration) -> VmmError {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let why = match timeout(self.timeouts.call, self.driver.load(self.server)).await {
                Ok(Ok(ServerLoad { server: sample, vms })) => {
                    let ids = vms.iter().map(|(vm, _)| *vm).collect();
                    let _ = self.to_router.send(RouterMsg::Seen(self.server, ids)).await;
                    let event = Event::ServerSamples { server: self.server, sample, vms };
                    let _ = self.event_loop.report(HypervisorReport::Event(event)).await;
                    continue;
                }
                Ok(Err(why)) => why,
                Err(_) => VmmError::TimeOut {
                    host: self.driver.name().to_owned(),
                    what: "reading its loads".to_owned(),
                    after: self.timeouts.call,
                },
            };
            if why.is_away() {
                let _ = self.to_router.send(RouterMsg::Away(self.server, why.clone())).await;
                return why;
            }
            if let Some(line) = self.lines.line(|| format!("no loads of {}: {why}", self.server)) {
                tracing::warn!("{line}");
            }
        }
    }
}
