//! Services that keep the order of calls themselves: alone they are attached and detached as a
//! whole; with a called driver they are servers that answer or are unreachable.

use super::*;
use tandem_model::FoundVm;

const C: ServerId = ServerId(2);
const D: ServerId = ServerId(3);

/// A service in memory, played by the test.
struct InMemory {
    servers: Vec<ServerId>,
    link: Mutex<Option<tokio::sync::oneshot::Sender<ServiceLink>>>,
}

#[async_trait]
impl HypervisorService for InMemory {
    fn name(&self) -> &str {
        "a service"
    }
    fn servers(&self) -> &[ServerId] {
        &self.servers
    }
    async fn attach(&self, _: &Owner, link: ServiceLink) {
        let to_test = self.link.lock().expect("not poisoned").take();
        to_test.expect("attached once").send(link).ok().expect("the test waits for it");
        std::future::pending().await
    }
}

/// A router with a service, and optionally a called driver.
async fn begin(
    memory: Option<Memory>,
    servers: &[ServerId],
    depth: usize,
) -> (ServiceLink, mpsc::Receiver<HypervisorReport>, tokio_util::task::AbortOnDropHandle<()>) {
    let (sender, link) = tokio::sync::oneshot::channel();
    let service = InMemory { servers: servers.to_vec(), link: Mutex::new(Some(sender)) };
    let mut drivers = vec![Driver::Service(Arc::new(service))];
    drivers.extend(memory.map(|memory| Driver::Called(Arc::new(memory))));
    let (event_loop, inputs) = mpsc::channel(1024);
    let task = tokio::spawn(async move {
        run_with(drivers, "hypervisors", owner(), timeouts(), Arc::new(event_loop), depth).await
    });
    (link.await.expect("it attaches"), inputs, tokio_util::task::AbortOnDropHandle::new(task))
}

fn hello(vms: &[(VmId, ServerId)]) -> ServiceHello {
    let vms = vms.iter().map(|(vm, server)| FoundVm { vm: *vm, server: *server, runs: true, spec: None });
    ServiceHello { world: "lab w".into(), vms: vms.collect(), traffic: true }
}

async fn next(inputs: &mut mpsc::Receiver<HypervisorReport>) -> HypervisorReport {
    let limit = Duration::from_secs(7200);
    tokio::time::timeout(limit, inputs.recv()).await.expect("in time").expect("the router runs")
}

async fn attached(inputs: &mut mpsc::Receiver<HypervisorReport>) -> mpsc::Sender<Effect> {
    match next(inputs).await {
        HypervisorReport::Attached(orders) => orders,
        other => panic!("{other:?} instead of being attached"),
    }
}

async fn event(inputs: &mut mpsc::Receiver<HypervisorReport>) -> Event {
    match next(inputs).await {
        HypervisorReport::Event(event) => event,
        other => panic!("{other:?} is no event"),
    }
}

/// The service's next order; `None` when it has to attach again.
async fn order(orders: &mut mpsc::Receiver<Effect>) -> Option<Effect> {
    tokio::time::timeout(Duration::from_secs(7200), orders.recv()).await.expect("in time")
}

fn world_up(world: &str, vms: &[(VmId, ServerId)]) -> Event {
    Event::WorldUp { world: world.into(), vms: vms.to_vec(), traffic: true }
}

/// The event loop gets the service's reports in their order; the service gets orders in theirs,
/// repeated ones too.
#[tokio::test(start_paused = true)]
async fn a_service_alone_is_attached_while_it_is_there_and_told_orders_as_they_are() {
    let (link, mut inputs, _task) = begin(None, &[A, B], 64).await;
    // The service is unreachable at first: nothing is attached.
    link.down("nobody answers".into()).await;
    let refused = Event::WorldRefused { world: "a service".into(), why: "it serves another".into() };
    link.event(refused.clone()).await.expect("heard");
    assert_eq!(event(&mut inputs).await, refused);
    let mut orders = link.up(hello(&[(VM, B)])).await.expect("heard");
    let effects = attached(&mut inputs).await;
    let vms = hello(&[(VM, B)]).vms;
    assert_eq!(event(&mut inputs).await, Event::VmsFound { vms });
    assert_eq!(event(&mut inputs).await, world_up("lab w", &[(VM, B)]));

    let sent = [
        allocate(VmId(8), A),
        allocate(VmId(8), A),
        migrate(),
        Effect::SetMigrationRate { migration: MIG, rate: BitRate(5) },
        Effect::ReportLoads { period: Duration::from_secs(5) },
        cancel(),
        Effect::TrafficStop { id: tandem_model::TrafficId(1) },
    ];
    for effect in &sent {
        effects.send(effect.clone()).await.expect("it takes orders");
    }
    for effect in sent {
        assert_eq!(order(&mut orders).await, Some(effect));
    }
    link.event(moved()).await.expect("heard");
    link.event(moved()).await.expect("heard");
    assert_eq!(event(&mut inputs).await, moved());
    assert_eq!(event(&mut inputs).await, moved(), "as often as it says so");

    link.down("it closed the connection".into()).await;
    let HypervisorReport::Detached(why) = next(&mut inputs).await else { panic!("it has gone") };
    assert_eq!(why, "it closed the connection");
    assert!(effects.is_closed(), "what is asked meanwhile would reach nobody");
    let _orders = link.up(hello(&[])).await.expect("heard");
    let _effects = attached(&mut inputs).await;
    assert_eq!(event(&mut inputs).await, Event::VmsFound { vms: Vec::new() });
    assert_eq!(event(&mut inputs).await, world_up("lab w", &[]));
}

/// Orders that are not taken are limited: the service is detached, and gets them again when it is
/// back.
#[tokio::test(start_paused = true)]
async fn a_service_that_takes_no_orders_is_let_go() {
    let (link, mut inputs, _task) = begin(None, &[A, B], 4).await;
    let mut orders = link.up(hello(&[])).await.expect("heard");
    let effects = attached(&mut inputs).await;
    // More orders than both queues hold.
    for n in 0..20 {
        effects.send(allocate(VmId(n), A)).await.expect("the router takes them all");
    }
    let mut taken = 0;
    while order(&mut orders).await.is_some() {
        taken += 1;
    }
    assert_eq!(taken, 4, "its queue has ended");
    link.down("more than 4 orders were waiting".into()).await;
    assert!(matches!(event(&mut inputs).await, Event::VmsFound { .. }));
    assert!(matches!(event(&mut inputs).await, Event::WorldUp { .. }));
    assert!(matches!(next(&mut inputs).await, HypervisorReport::Detached(_)));
}

/// The event loop detaches a router that has only a service, which then sends another hello.
#[tokio::test(start_paused = true)]
async fn a_router_that_was_let_go_attaches_when_its_service_says_hello_anew() {
    let (link, mut inputs, _task) = begin(None, &[A, B], 4).await;
    let mut orders = link.up(hello(&[])).await.expect("heard");
    let effects = attached(&mut inputs).await;
    for _ in 0..2 {
        event(&mut inputs).await;
    }
    drop(effects);
    assert!(matches!(next(&mut inputs).await, HypervisorReport::Detached(_)));
    assert_eq!(order(&mut orders).await, None, "it is to attach anew");
    link.down("it is told everything anew".into()).await;
    let _orders = link.up(hello(&[(VM, A)])).await.expect("heard");
    let _effects = attached(&mut inputs).await;
    event(&mut inputs).await;
    assert_eq!(event(&mut inputs).await, world_up("lab w", &[(VM, A)]));
}

/// With called hosts, a service is servers: the core gets the unreachable ones, and one list of all
/// running VMs. Each is responsible for its own servers' VMs.
#[tokio::test(start_paused = true)]
async fn beside_hosts_a_service_is_servers_that_answer_or_are_away() {
    let memory = Memory::default();
    memory.with(|s| s.vms.insert((A, VM)));
    let (link, mut inputs, _task) = begin(Some(memory.clone()), &[C, D], 64).await;
    let effects = attached(&mut inputs).await;
    link.down("nobody answers".into()).await;
    let away = |why: &str| Event::ServersUnreachable {
        servers: [C, D].map(|server| (server, why.to_owned())).to_vec(),
    };
    assert_eq!(event(&mut inputs).await, away("nobody answers"));
    assert!(matches!(event(&mut inputs).await, Event::VmsFound { vms } if vms.len() == 1));
    let up = |vms: &[(VmId, ServerId)], traffic| Event::WorldUp {
        world: "hypervisors".into(),
        vms: vms.to_vec(),
        traffic,
    };
    assert_eq!(event(&mut inputs).await, up(&[(VM, A)], false));
    // Orders for it are answered meanwhile.
    effects.send(allocate(VmId(8), C)).await.expect("it takes orders");
    let Event::VmFailed { vm: VmId(8), why } = event(&mut inputs).await else { panic!("nobody is there") };
    assert!(why.contains("a service is away: nobody answers"), "{why}");

    // It is attached. A VM that it reports on another driver's server is ignored.
    let mut orders = link.up(hello(&[(VmId(9), D), (VM, B)])).await.expect("heard");
    assert_eq!(event(&mut inputs).await, Event::ServersUnreachable { servers: Vec::new() });
    assert!(matches!(event(&mut inputs).await, Event::VmsFound { vms } if vms.len() == 2));
    assert_eq!(event(&mut inputs).await, up(&[(VM, A), (VmId(9), D)], true));

    effects.send(allocate(VmId(8), C)).await.expect("it takes orders");
    assert_eq!(order(&mut orders).await, Some(allocate(VmId(8), C)));
    effects.send(allocate(VmId(10), B)).await.expect("it takes orders");
    assert_eq!(event(&mut inputs).await, started(VmId(10)));
    assert_eq!(memory.calls("allocate"), 1, "each has its own");
    // VMs cannot be moved between them.
    for (from, to) in [(A, C), (C, A)] {
        let Effect::MigrateVm { migration, vm, manner, spec, rate, downtime, rounds, .. } = migrate() else {
            panic!("a move")
        };
        let effect = Effect::MigrateVm { migration, vm, from, to, manner, spec, rate, downtime, rounds };
        effects.send(effect).await.expect("it takes orders");
        let ended = event(&mut inputs).await;
        assert!(
            matches!(&ended, Event::MigrationFailed { at: Some(at), why, .. } if *at == from && why.contains("hand")),
            "{ended:?}"
        );
    }
}

/// The running VMs of a service are known at its hello. When a host comes back and the whole list
/// is needed, a service that has got orders since sends another hello first.
#[tokio::test(start_paused = true)]
async fn a_service_says_hello_anew_before_all_that_runs_is_told() {
    let memory = Memory::default();
    memory.with(|s| s.away.insert(B));
    let (link, mut inputs, _task) = begin(Some(memory.clone()), &[C], 64).await;
    let effects = attached(&mut inputs).await;
    let mut orders = link.up(hello(&[])).await.expect("heard");
    for _ in 0..3 {
        event(&mut inputs).await;
    }
    effects.send(allocate(VmId(8), C)).await.expect("it takes orders");
    assert_eq!(order(&mut orders).await, Some(allocate(VmId(8), C)));
    memory.with(|s| s.away.clear());
    assert_eq!(event(&mut inputs).await, Event::ServersUnreachable { servers: Vec::new() });
    assert_eq!(order(&mut orders).await, None, "it is to attach anew");
    link.event(started(VmId(8))).await.expect("heard");
    assert_eq!(event(&mut inputs).await, started(VmId(8)), "what it still says counts");
    link.down("it is told everything anew".into()).await;
    let _orders = link.up(hello(&[(VmId(8), C)])).await.expect("heard");
    assert!(matches!(event(&mut inputs).await, Event::VmsFound { vms } if vms.len() == 1));
    assert!(matches!(event(&mut inputs).await, Event::WorldUp { vms, .. } if vms == [(VmId(8), C)]));
}
