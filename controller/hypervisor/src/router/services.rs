//! Services that keep the order of calls themselves: the routing of their orders, and when they are
//! reported to the core.
//!
//! A router with services only is attached to the event loop while one of them is: otherwise nobody
//! would take its orders. If there are called drivers too, it is always attached, and a service
//! that is gone counts as unreachable servers.
//!
//! The running VMs of a service are known at its hello only. When the core needs the whole list
//! because of another server, services that have got orders since their hello are attached again
//! first.

use super::*;
use crate::{Gone, ServiceHello};

/// Messages of a service's driver.
pub(super) enum ServiceMsg {
    Up(ServiceHello, mpsc::Sender<Effect>),
    Event(Event),
    Down(String),
}

/// The connection from a service's driver to the router.
pub struct ServiceLink {
    number: usize,
    to_router: mpsc::Sender<RouterMsg>,
    depth: usize,
}

impl ServiceLink {
    async fn send(&self, message: ServiceMsg) -> Result<(), Gone> {
        self.to_router.send(RouterMsg::Service(self.number, message)).await.map_err(|_| Gone)
    }

    /// The service is attached; returns the queue of its orders. The queue ends when the service
    /// has to be attached again; reports may follow until [`ServiceLink::down`].
    ///
    /// # Errors
    /// When the router has ended.
    pub async fn up(&self, hello: ServiceHello) -> Result<mpsc::Receiver<Effect>, Gone> {
        let (sender, orders) = mpsc::channel(self.depth);
        self.send(ServiceMsg::Up(hello, sender)).await?;
        Ok(orders)
    }

    /// Forwards an event of the service.
    ///
    /// # Errors
    /// When the router has ended.
    pub async fn event(&self, event: Event) -> Result<(), Gone> {
        self.send(ServiceMsg::Event(event)).await
    }

    /// The service is not attached, or no longer, with the reason.
    pub async fn down(&self, why: String) {
        let _ = self.send(ServiceMsg::Down(why)).await;
    }

    /// True when the router has ended.
    pub fn is_closed(&self) -> bool {
        self.to_router.is_closed()
    }
}

/// The state of a service.
pub(super) struct ServiceState {
    driver: Arc<dyn HypervisorService>,
    /// `None` until the first attempt to reach it.
    state: Option<Result<(), String>>,
    /// The queue of its orders while it is attached.
    orders: Option<mpsc::Sender<Effect>>,
    hello: Option<ServiceHello>,
    /// Its hello still has all running VMs.
    is_fresh: bool,
    /// It was detached to be attached again: its next `Down` is expected.
    is_renewed: bool,
}

impl Router {
    pub(super) fn attach_services(
        &mut self,
        services: Vec<Arc<dyn HypervisorService>>,
        owner: &Owner,
        depth: usize,
    ) {
        for (number, driver) in services.into_iter().enumerate() {
            self.service_of.extend(driver.servers().iter().map(|server| (*server, number)));
            let link = ServiceLink { number, to_router: self.to_router.clone(), depth };
            let (service, owner) = (driver.clone(), owner.clone());
            self.tasks.spawn(async move { service.attach(&owner, link).await });
            self.services.push(ServiceState {
                driver,
                state: None,
                orders: None,
                hello: None,
                is_fresh: false,
                is_renewed: false,
            });
        }
    }

    pub(super) async fn hear_service(&mut self, number: usize, message: ServiceMsg, world: &str) {
        let Some(service) = self.services.get_mut(number) else { return };
        match message {
            ServiceMsg::Event(event) => self.say(event).await,
            ServiceMsg::Up(mut hello, orders) => {
                let all = hello.vms.len();
                let called = &self.servers;
                let services = &self.service_of;
                hello.vms.retain(|vm| match services.get(&vm.server) {
                    Some(other) => *other == number,
                    None => !called.contains_key(&vm.server),
                });
                if hello.vms.len() < all {
                    let name = service.driver.name();
                    tracing::warn!("{name} runs {} VMs on servers of others", all - hello.vms.len());
                }
                service.state = Some(Ok(()));
                service.orders = Some(orders);
                service.hello = Some(hello);
                service.is_fresh = true;
                service.is_renewed = false;
                self.is_owed = true;
                if self.inbox.is_none() {
                    self.attach().await;
                }
                self.tell(world).await;
            }
            ServiceMsg::Down(why) => {
                service.orders = None;
                service.hello = None;
                if std::mem::take(&mut service.is_renewed) {
                    return;
                }
                service.state = Some(Err(why.clone()));
                if self.serves_nobody() {
                    self.detach(why).await;
                } else {
                    self.tell(world).await;
                }
            }
        }
    }

    /// Whether there is no called driver, and no service is attached.
    pub(super) fn serves_nobody(&self) -> bool {
        self.servers.is_empty() && self.services.iter().all(|s| s.orders.is_none() && !s.is_renewed)
    }

    async fn detach(&mut self, why: String) {
        self.up = false;
        self.known_away.clear();
        if self.inbox.take().is_some() {
            let _ = self.event_loop.report(HypervisorReport::Detached(why)).await;
        }
    }

    /// Detaches services so that they send another hello; true if there was one.
    pub(super) fn renew(&mut self, which: impl Fn(&ServiceState) -> bool) -> bool {
        let mut any = false;
        for service in self.services.iter_mut().filter(|s| s.orders.is_some() && which(s)) {
            service.orders = None;
            service.hello = None;
            service.state = None;
            service.is_renewed = true;
            any = true;
        }
        any
    }

    /// Passes an order to services; returns the part for called drivers.
    pub(super) async fn route_to_services(&mut self, effect: Effect) -> Option<Effect> {
        let number = match &effect {
            Effect::AllocateVm { server, .. }
            | Effect::StopVm { server, .. }
            | Effect::TagVm { server, .. }
            | Effect::ResizeVm { server, .. }
            | Effect::AttachVm { server, .. } => self.service_of.get(server).copied(),
            Effect::MigrateVm { from, .. } | Effect::CancelMigration { from, .. } => {
                self.service_of.get(from).copied()
            }
            Effect::TrafficStart { .. } => {
                self.services.iter().position(|s| s.hello.as_ref().is_some_and(|h| h.traffic))
            }
            // For every service: the one that knows the migration or the flow executes it.
            Effect::SetMigrationRate { .. } | Effect::ReportLoads { .. } | Effect::TrafficStop { .. } => {
                for number in 0..self.services.len() {
                    self.order_service(number, effect.clone()).await;
                }
                None
            }
            // The event loop sends no other effects here.
            _ => None,
        };
        let Some(number) = number else { return Some(effect) };
        if let Effect::MigrateVm { migration, from, to, .. } = &effect
            && self.service_of.get(to) != Some(&number)
        {
            let why = "servers of different drivers cannot hand VMs over; choose one of the same".to_owned();
            self.say(Event::MigrationFailed { migration: *migration, at: Some(*from), why }).await;
            return None;
        }
        self.order_service(number, effect).await;
        None
    }

    /// Sends an order to a service; detaches a service whose queue is full.
    async fn order_service(&mut self, number: usize, effect: Effect) {
        let Some(service) = self.services.get_mut(number) else { return };
        let Some(orders) = &service.orders else {
            // Before its next hello, orders are dropped: the core will repeat them.
            if let Some(Err(why)) = &service.state {
                let why = format!("{} is away: {why}", service.driver.name());
                if let Some(event) = unserved(&effect, why) {
                    self.say(event).await;
                }
            }
            return;
        };
        service.is_fresh = false;
        if orders.try_send(effect).is_err() {
            service.orders = None;
        }
    }
}

impl ServiceState {
    pub(super) fn state(&self) -> Option<Result<(), &str>> {
        self.state.as_ref().map(|s| s.as_ref().copied().map_err(String::as_str))
    }

    pub(super) fn servers(&self) -> &[ServerId] {
        self.driver.servers()
    }

    pub(super) fn is_stale(&self) -> bool {
        !self.is_fresh
    }

    /// Its hello, whose stored specifications are valid only once.
    pub(super) fn take_hello(&mut self) -> Option<ServiceHello> {
        let hello = self.hello.as_mut()?;
        let said = hello.clone();
        hello.vms = Vec::new();
        self.is_fresh = false;
        Some(said)
    }
}

/// The result of an order whose service is unreachable; `None` for orders that the core repeats.
fn unserved(effect: &Effect, why: String) -> Option<Event> {
    Some(match effect {
        Effect::AllocateVm { vm, .. } | Effect::ResizeVm { vm, .. } => Event::VmFailed { vm: *vm, why },
        Effect::MigrateVm { migration, from, .. } | Effect::CancelMigration { migration, from, .. } => {
            Event::MigrationFailed { migration: *migration, at: Some(*from), why }
        }
        _ => return None,
    })
}
