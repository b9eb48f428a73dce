//! The router over a driver in memory whose calls fail, hang and are cut as a script says; time is
//! virtual.

use super::super::*;
use super::{Patience, run_with};
#[path = "tests_strays.rs"]
mod strays;

use crate::event_loop::Input;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tandem_model::{Bytes, Effect, Event, Mac};

const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);
const VM: VmId = VmId(7);
const MIG: MigrationId = MigrationId(3);

/// What a call does.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    /// What it should.
    Work,
    /// Never returns.
    Hang,
    /// Fails so.
    Fail(VmmError),
    /// A migration that is cut after the hand-over: nobody knows where the VM is, until `settle`
    /// finds it on B.
    Cut,
    /// A migration that reports, and ends when it is cancelled.
    UntilCancelled,
    /// Panics.
    Panic,
}

#[derive(Default)]
struct State {
    vms: BTreeSet<(ServerId, VmId)>,
    /// What the next calls of that name do; `Work` when there is none.
    script: BTreeMap<&'static str, Vec<Does>>,
    log: Vec<String>,
    away: BTreeSet<ServerId>,
    at_once: usize,
    most_at_once: usize,
    unsure: u32,
    /// What is kept with VMs.
    kept: BTreeMap<VmId, VmSpec>,
    /// VMs that are there and do not run.
    halted: BTreeSet<(ServerId, VmId)>,
    /// Whom the hosts serve, and who else has tried.
    owner: Option<Owner>,
    rival: Option<Owner>,
    /// Who hears of what somebody else does.
    ears: Option<mpsc::Sender<Noticed>>,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

impl Memory {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().expect("not poisoned"))
    }

    fn will(&self, call: &'static str, does: &[Does]) {
        self.with(|s| s.script.insert(call, does.to_vec()));
    }

    async fn act(&self, call: &'static str, server: ServerId) -> Result<Does, VmmError> {
        let does = self.with(|s| {
            s.log.push(format!("{call} {server}"));
            if s.away.contains(&server) {
                return Does::Fail(unreachable());
            }
            s.script.get_mut(call).filter(|v| !v.is_empty()).map_or(Does::Work, |v| v.remove(0))
        });
        match does {
            Does::Hang => std::future::pending().await,
            Does::Fail(why) => Err(why),
            Does::Panic => panic!("as the script says"),
            other => Ok(other),
        }
    }

    fn calls(&self, call: &str) -> usize {
        self.with(|s| s.log.iter().filter(|l| l.starts_with(call)).count())
    }
}

fn unreachable() -> VmmError {
    VmmError::HostUnreachable { host: "srvN".into(), what: "listing".into(), why: "no route".into() }
}

fn refused(why: &str) -> VmmError {
    VmmError::Refused { what: "it".into(), why: why.into() }
}

#[async_trait]
impl Hypervisor for Memory {
    fn name(&self) -> &str {
        "memory"
    }
    fn servers(&self) -> &[ServerId] {
        &[A, B]
    }
    fn capabilities(&self, _: ServerId) -> Capabilities {
        Capabilities {
            live: true,
            cold: true,
            storage: false,
            cancel: true,
            progress: true,
            rate: true,
            resize: true,
            loads: true,
            addresses: true,
        }
    }
    async fn list(&self, server: ServerId) -> Result<Vec<Found>, VmmError> {
        self.act("list", server).await?;
        Ok(self.with(|s| {
            let kept = |vm: &VmId| s.kept.get(vm).cloned().map(Box::new);
            let found =
                |vm: &VmId, state| Found { vm: *vm, server, state, name: vm.to_string(), spec: kept(vm) };
            let here = |all: &BTreeSet<(ServerId, VmId)>, state| -> Vec<Found> {
                all.iter().filter(|(at, _)| *at == server).map(|(_, vm)| found(vm, state)).collect()
            };
            [here(&s.vms, FoundState::Running), here(&s.halted, FoundState::Halted)].concat()
        }))
    }
    async fn claim(
        &self,
        server: ServerId,
        owner: &Owner,
        take_over: bool,
    ) -> Result<Option<Owner>, VmmError> {
        let by = self.with(|s| s.owner.clone()).filter(|_| !take_over);
        if let Some(by) = by.filter(|by| by != owner) {
            self.with(|s| s.rival = Some(owner.clone()));
            return Err(VmmError::Owned { host: server.to_string(), by });
        }
        self.with(|s| s.owner = Some(owner.clone()));
        Ok(self.with(|s| s.rival.take()))
    }
    async fn tag(&self, server: ServerId, vm: VmId, spec: &VmSpec) -> Result<(), VmmError> {
        self.act("tag", server).await?;
        self.with(|s| s.kept.insert(vm, spec.clone()));
        Ok(())
    }
    async fn allocate(&self, server: ServerId, vm: VmId, _: &VmSpec) -> Result<Option<Ipv4Addr>, VmmError> {
        self.with(|s| {
            s.at_once += 1;
            s.most_at_once = s.most_at_once.max(s.at_once);
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let result = self.act("allocate", server).await;
        self.with(|s| s.at_once -= 1);
        result?;
        self.with(|s| s.vms.insert((server, vm)));
        Ok(Some(Ipv4Addr::new(10, 0, 0, 7)))
    }
    async fn destroy(&self, server: ServerId, vm: VmId, placed_at: Option<Time>) -> Result<(), VmmError> {
        let made_for = self.with(|s| s.kept.get(&vm).map(|spec| spec.origin.placed_at));
        if made_for.is_some() && placed_at.is_some() && made_for != placed_at {
            return Err(VmmError::NotMeant { host: server.to_string(), vm });
        }
        self.act("destroy", server).await?;
        self.with(|s| s.vms.remove(&(server, vm)));
        Ok(())
    }
    async fn resize(&self, server: ServerId, _: VmId, _: Resources) -> Result<(), VmmError> {
        self.act("resize", server).await.map(drop)
    }
    async fn attach(&self, server: ServerId, _: VmId, _: PortNo) -> Result<(), VmmError> {
        self.act("attach", server).await.map(drop)
    }
    async fn address(&self, server: ServerId, _: VmId) -> Result<Option<Ipv4Addr>, VmmError> {
        self.act("address", server).await.map(|_| None)
    }
    async fn load(&self, server: ServerId) -> Result<ServerLoad, VmmError> {
        self.act("load", server).await?;
        let vms = self.with(|s| s.vms.iter().filter(|(at, _)| *at == server).map(|(_, vm)| *vm).collect());
        let vms: Vec<VmId> = vms;
        let vms = vms.into_iter().map(|vm| (vm, LoadSample::UNKNOWN)).collect();
        Ok(ServerLoad { server: LoadSample::UNKNOWN, vms })
    }
    async fn can_migrate(&self, order: &MigrateOrder) -> Result<(), VmmError> {
        self.act("can_migrate", order.way.from).await.map(drop)
    }
    async fn migrate(&self, order: &MigrateOrder, steering: Steering) -> Result<Moved, MigrateError> {
        let way = order.way;
        let progress = Progress { round: 1, sent: Bytes::mib(1), ..Progress::default() };
        let _ = steering.reports.send(MigrationReport::Progress(progress)).await;
        let does = self.act("migrate", way.from).await;
        let here = |why| MigrateError { at: Whereabouts::At(way.from), why };
        match does.map_err(here)? {
            Does::UntilCancelled => {
                steering.cancel.cancelled().await;
                return Err(here(VmmError::Cancelled));
            }
            Does::Cut => {
                self.with(|s| {
                    s.vms.remove(&(way.from, way.vm));
                    s.vms.insert((way.to, way.vm));
                    s.unsure = 3;
                });
                return Err(MigrateError { at: Whereabouts::Unknown, why: unreachable() });
            }
            _ => {}
        }
        let _ = steering.reports.send(MigrationReport::Suspended).await;
        self.with(|s| {
            s.vms.remove(&(way.from, way.vm));
            s.vms.insert((way.to, way.vm));
        });
        Ok(Moved { downtime: Some(Duration::from_millis(5)) })
    }
    async fn watch(&self, noticed: mpsc::Sender<Noticed>) {
        self.with(|s| s.ears = Some(noticed));
        std::future::pending().await
    }

    async fn settle(&self, way: Way, _: bool) -> Settled {
        let _ = self.act("settle", way.from).await;
        self.with(|s| {
            if s.unsure > 0 {
                s.unsure -= 1;
                return Settled::Ended(Whereabouts::Unknown, Some(unreachable()));
            }
            let at = [way.to, way.from].into_iter().find(|at| s.vms.contains(&(*at, way.vm)));
            Settled::Ended(at.map_or(Whereabouts::Lost, Whereabouts::At), None)
        })
    }
}

/// A running router, and what it told the event loop.
struct Bed {
    memory: Memory,
    effects: mpsc::Sender<Effect>,
    inputs: mpsc::Receiver<Input>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

fn owner() -> Owner {
    Owner { store: tandem_model::StoreUid(7), site: "dc".into() }
}

fn patience() -> Patience {
    Patience::new(Duration::from_secs(300))
}

impl Bed {
    async fn start(memory: Memory) -> Bed {
        let (event_loop, mut inputs) = mpsc::channel(1024);
        let driver: Arc<dyn Hypervisor> = Arc::new(memory.clone());
        let task = tokio::spawn(async move {
            run_with(vec![driver], "hypervisors", owner(), patience(), event_loop, 64).await
        });
        let effects = match inputs.recv().await {
            Some(Input::WorldAttached(effects)) => effects,
            other => panic!("{other:?}"),
        };
        Bed { memory, effects, inputs, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// With a VM on A, and up.
    async fn up(memory: Memory) -> Bed {
        memory.with(|s| s.vms.insert((A, VM)));
        let mut bed = Bed::start(memory).await;
        assert_eq!(bed.event().await, Event::ServersUnreachable { servers: Vec::new() });
        let up = Event::WorldUp { world: "hypervisors".into(), vms: vec![(VM, A)], traffic: false };
        assert_eq!(bed.event().await, up);
        bed
    }

    fn send(&self, effect: Effect) {
        self.effects.try_send(effect).expect("the router runs");
    }

    /// The next fact; virtual time makes a hang a failure at once.
    async fn event(&mut self) -> Event {
        loop {
            match self.any_event().await {
                // Told before every `WorldUp`.
                Event::VmsFound { .. } => {}
                other => return other,
            }
        }
    }

    async fn any_event(&mut self) -> Event {
        match tokio::time::timeout(Duration::from_secs(7200), self.inputs.recv()).await {
            Ok(Some(Input::Event(event))) => event,
            other => panic!("no event: {other:?}"),
        }
    }

    /// Nothing is said for a while.
    async fn quiet(&mut self) {
        if let Ok(said) = tokio::time::timeout(Duration::from_secs(30), self.inputs.recv()).await {
            panic!("{said:?}");
        }
    }
}

fn spec() -> VmSpec {
    VmSpec {
        resources: Resources { cpu: 1, ram: Bytes::mib(96), disk: Bytes(0), net: BitRate(0) },
        name: None,
        image: None,
        mac: Mac([2, 0, 0, 0, 0, 7]),
        address: Ipv4Addr::new(10, 0, 0, 7),
        uplink_port: PortNo(1),
        fixed_address: None,
        origin: Default::default(),
    }
}

fn allocate(vm: VmId, server: ServerId) -> Effect {
    Effect::AllocateVm { vm, server, spec: spec() }
}

fn migrate() -> Effect {
    Effect::MigrateVm {
        migration: MIG,
        vm: VM,
        from: A,
        to: B,
        manner: MigrationMode::Live,
        spec: Box::new(spec()),
        rate: BitRate::mbit(100),
        downtime: Duration::from_millis(300),
        rounds: 5,
    }
}

fn cancel() -> Effect {
    Effect::CancelMigration { migration: MIG, vm: VM, from: A, to: B }
}

fn started(vm: VmId) -> Event {
    Event::VmStarted { vm, address: Some(Ipv4Addr::new(10, 0, 0, 7)) }
}

fn moved() -> Event {
    Event::VmMoved { migration: MIG, downtime: Some(Duration::from_millis(5)) }
}

#[tokio::test(start_paused = true)]
async fn wishes_of_one_vm_are_carried_out_in_their_order_and_repeated_ones_once() {
    let mut bed = Bed::up(Memory::default()).await;
    let vm = VmId(8);
    for effect in
        [allocate(vm, A), allocate(vm, A), Effect::StopVm { vm, server: A, placed_at: None }, allocate(vm, B)]
    {
        bed.send(effect);
    }
    assert_eq!(bed.event().await, started(vm));
    assert_eq!(bed.event().await, Event::VmStopped { vm });
    assert_eq!(bed.event().await, started(vm));
    bed.quiet().await;
    assert!(bed.memory.with(|s| s.vms.contains(&(B, vm)) && !s.vms.contains(&(A, vm))));
    assert_eq!(bed.memory.calls("allocate"), 2);
}

#[tokio::test(start_paused = true)]
async fn vms_are_served_side_by_side_within_the_bound_of_a_server() {
    let mut bed = Bed::up(Memory::default()).await;
    for n in 100..120 {
        bed.send(allocate(VmId(n), A));
    }
    for _ in 100..120 {
        assert!(matches!(bed.event().await, Event::VmStarted { .. }));
    }
    assert_eq!(bed.memory.with(|s| s.most_at_once), super::CALLS);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_hangs_or_panics_does_not_hold_up_what_comes_after_it() {
    let memory = Memory::default();
    memory.will("allocate", &[Does::Fail(refused("no kernel")), Does::Hang, Does::Panic]);
    let mut bed = Bed::up(memory).await;
    let vm = VmId(8);
    bed.send(allocate(vm, A));
    assert_eq!(bed.event().await, Event::VmFailed { vm, why: "it: no kernel".into() });
    bed.send(allocate(vm, A));
    let Event::VmFailed { why, .. } = bed.event().await else { panic!("it hangs") };
    assert!(why.contains("memory: starting vm8 was given up after 900s"), "{why}");
    // A hang makes its server doubtful, and it is listed again; it answers, so nothing is said.
    bed.send(allocate(vm, A));
    bed.send(Effect::StopVm { vm, server: A, placed_at: None });
    assert_eq!(bed.event().await, Event::VmStopped { vm });
    bed.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_cannot_be_stopped_is_tried_until_it_is() {
    let memory = Memory::default();
    memory.will("destroy", &[Does::Fail(refused("busy")), Does::Fail(refused("busy"))]);
    let mut bed = Bed::up(memory).await;
    bed.send(Effect::StopVm { vm: VM, server: A, placed_at: None });
    assert_eq!(bed.event().await, Event::VmStopped { vm: VM });
    assert_eq!(bed.memory.calls("destroy"), 3);
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_away_are_told_tried_again_and_what_they_have_is_adopted() {
    let memory = Memory::default();
    memory.with(|s| {
        s.away.insert(B);
        s.vms.insert((A, VM));
        s.vms.insert((B, VmId(9)));
    });
    let mut bed = Bed::start(memory).await;
    let Event::ServersUnreachable { servers } = bed.event().await else { panic!("B is away") };
    assert_eq!(servers.len(), 1);
    assert!(servers[0].0 == B && servers[0].1.contains("no route"), "{servers:?}");
    let up = |vms: &[(VmId, ServerId)]| Event::WorldUp {
        world: "hypervisors".into(),
        vms: vms.to_vec(),
        traffic: false,
    };
    assert_eq!(bed.event().await, up(&[(VM, A)]));
    // A request for it fails at once, with the reason.
    bed.send(allocate(VmId(10), B));
    let Event::VmFailed { why, .. } = bed.event().await else { panic!("B is away") };
    assert!(why.contains("cannot be reached"), "{why}");
    assert_eq!(bed.memory.calls("allocate"), 0);
    // What cannot be stopped now is not said to be stopped.
    bed.send(Effect::StopVm { vm: VmId(9), server: B, placed_at: None });
    bed.quiet().await;
    bed.memory.with(|s| s.away.clear());
    assert_eq!(bed.event().await, Event::ServersUnreachable { servers: Vec::new() });
    assert_eq!(bed.event().await, up(&[(VM, A), (VmId(9), B)]));
    // It goes while its loads are read: that is told, and nothing is declared dead.
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    for _ in 0..2 {
        assert!(matches!(bed.event().await, Event::ServerSamples { .. }));
    }
    bed.memory.with(|s| s.away.insert(B));
    let mut told = Vec::new();
    while !told.iter().any(|e| matches!(e, Event::ServersUnreachable { servers } if servers.len() == 1)) {
        told.push(bed.event().await);
    }
    assert!(
        told.iter().all(|e| matches!(e, Event::ServerSamples { .. } | Event::ServersUnreachable { .. })),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_somebody_destroyed_is_told_and_one_that_is_only_missed_is_not() {
    let mut bed = Bed::up(Memory::default()).await;
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    bed.memory.with(|s| s.vms.remove(&(A, VM)));
    let failed = loop {
        match bed.event().await {
            Event::ServerSamples { .. } => {}
            other => break other,
        }
    };
    let Event::VmFailed { vm: VM, why } = failed else { panic!("{failed:?}") };
    assert!(why.contains("not on memory any more"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn what_a_driver_hears_of_is_looked_at_at_once() {
    let mut bed = Bed::up(Memory::default()).await;
    let ears = bed.memory.with(|s| s.ears.clone()).expect("the router listens");
    let noticed = Noticed { server: A, vm: VM, why: "somebody has removed it".into() };
    // A false alarm.
    ears.send(noticed.clone()).await.expect("heard");
    bed.quiet().await;
    bed.memory.with(|s| s.vms.remove(&(A, VM)));
    ears.send(noticed).await.expect("heard");
    let failed = bed.event().await;
    assert!(matches!(&failed, Event::VmFailed { vm: VM, .. }), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_migration_is_reported_and_answered_again_as_it_ended() {
    let mut bed = Bed::up(Memory::default()).await;
    bed.send(migrate());
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { migration: MIG, .. }));
    assert_eq!(bed.event().await, Event::VmSuspended { migration: MIG });
    assert_eq!(bed.event().await, moved());
    bed.quiet().await;
    for effect in [migrate(), cancel()] {
        bed.send(effect);
        assert_eq!(bed.event().await, moved());
    }
    assert_eq!(bed.memory.calls("migrate"), 1);
    // Another controller's memory is empty: it finds the VM where it went.
    let mut other = Bed::start(bed.memory.clone()).await;
    other.event().await;
    other.event().await;
    other.send(migrate());
    assert_eq!(other.event().await, Event::VmMoved { migration: MIG, downtime: None });
    assert_eq!(other.memory.calls("migrate"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_move_that_is_refused_leaves_the_vm_where_it_is() {
    let memory = Memory::default();
    memory.will("can_migrate", &[Does::Fail(refused("its disk is local"))]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    let failed = Event::MigrationFailed { migration: MIG, at: Some(A), why: "it: its disk is local".into() };
    assert_eq!(bed.event().await, failed);
    assert_eq!(bed.memory.calls("migrate"), 0);
    // As one onto a server that is away, or of nobody's.
    bed.memory.with(|s| s.away.insert(B));
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    while !matches!(bed.event().await, Event::ServersUnreachable { .. }) {}
    let Effect::MigrateVm { vm, from, manner, spec, rate, downtime, rounds, .. } = migrate() else {
        panic!()
    };
    let to = |migration, to| Effect::MigrateVm {
        migration,
        vm,
        from,
        to,
        manner,
        spec: spec.clone(),
        rate,
        downtime,
        rounds,
    };
    for (n, target, reason) in [(4, B, "cannot be reached"), (5, ServerId(99), "different drivers")] {
        bed.send(to(MigrationId(n), target));
        let why = loop {
            match bed.event().await {
                Event::MigrationFailed { at: Some(A), why, .. } => break why,
                Event::ServerSamples { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(why.contains(reason), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_transfer_and_a_late_one_is_looked_up() {
    let memory = Memory::default();
    memory.will("migrate", &[Does::UntilCancelled]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    bed.send(cancel());
    let undone = Event::MigrationFailed { migration: MIG, at: Some(A), why: "cancelled".into() };
    assert_eq!(bed.event().await, undone);
    // One that is not known here: what it left is cleaned up first.
    let unknown = Effect::CancelMigration { migration: MigrationId(9), vm: VM, from: A, to: B };
    bed.send(unknown);
    let undone = Event::MigrationFailed { migration: MigrationId(9), at: Some(A), why: "cancelled".into() };
    assert_eq!(bed.event().await, undone);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_stands_still_is_given_up_and_one_that_does_not_even_end_then_is_looked_up() {
    let memory = Memory::default();
    memory.will("migrate", &[Does::UntilCancelled, Does::Hang]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    let Event::MigrationFailed { at: Some(A), why, .. } = bed.event().await else { panic!("it stalls") };
    assert!(why.contains("made no progress, was given up after 300s"), "{why}");
    let Effect::MigrateVm { vm, from, to, manner, spec, rate, downtime, rounds, .. } = migrate() else {
        panic!()
    };
    bed.send(Effect::MigrateVm {
        migration: MigrationId(4),
        vm,
        from,
        to,
        manner,
        spec,
        rate,
        downtime,
        rounds,
    });
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    let ended = bed.event().await;
    assert!(matches!(ended, Event::MigrationFailed { at: Some(A), .. }), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_that_was_cut_is_asked_about_until_somebody_knows() {
    let memory = Memory::default();
    memory.will("migrate", &[Does::Cut]);
    let mut bed = Bed::up(memory).await;
    bed.send(migrate());
    assert!(matches!(bed.event().await, Event::MigrationProgress { .. }));
    assert_eq!(bed.event().await, Event::VmMoved { migration: MIG, downtime: None });
    assert_eq!(bed.memory.calls("settle"), 5);
    // Its place is the new one: what is missed there is told.
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    bed.memory.with(|s| s.vms.clear());
    let failed = loop {
        match bed.event().await {
            Event::ServerSamples { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(failed, Event::VmFailed { vm: VM, .. }), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_answered_too() {
    let memory = Memory::default();
    memory.will("resize", &[Does::Fail(refused("too large"))]);
    memory.will("attach", &[Does::Fail(refused("no bridge")), Does::Fail(refused("no bridge"))]);
    let mut bed = Bed::up(memory).await;
    let resources = spec().resources;
    bed.send(Effect::ResizeVm { vm: VM, server: A, resources });
    assert_eq!(bed.event().await, Event::VmFailed { vm: VM, why: "it: too large".into() });
    bed.send(Effect::AttachVm { vm: VM, server: A, uplink_port: PortNo(2) });
    bed.send(Effect::ResizeVm { vm: VM, server: A, resources });
    assert_eq!(bed.event().await, Event::VmResized { vm: VM });
    assert_eq!(bed.memory.calls("attach"), 3);
    bed.send(allocate(VM, ServerId(99)));
    let Event::VmFailed { why, .. } = bed.event().await else { panic!("no such server") };
    assert!(why.contains("not in the hypervisors file"), "{why}");
}

/// The event loop lets go of a router whose queue is full: the router says so, attaches again and tells
/// what runs.
#[tokio::test(start_paused = true)]
async fn a_router_that_was_let_go_attaches_again_and_tells_what_runs() {
    let Bed { memory, effects, inputs, _task } = Bed::up(Memory::default()).await;
    drop(effects);
    let mut inputs = inputs;
    let detached = inputs.recv().await;
    assert!(
        matches!(&detached, Some(Input::WorldDetached(why)) if why.contains("64 wishes")),
        "{detached:?}"
    );
    let Some(Input::WorldAttached(effects)) = inputs.recv().await else { panic!("it attaches again") };
    let mut bed = Bed { memory, effects, inputs, _task };
    assert_eq!(bed.event().await, Event::ServersUnreachable { servers: Vec::new() });
    let up = Event::WorldUp { world: "hypervisors".into(), vms: vec![(VM, A)], traffic: false };
    assert_eq!(bed.event().await, up);
    bed.send(allocate(VmId(8), A));
    assert_eq!(bed.event().await, started(VmId(8)));
}

/// Ways in and out of a server that flap while a call hangs leave one wish, the last.
#[tokio::test(start_paused = true)]
async fn a_line_of_attachments_is_one_attachment_long() {
    let memory = Memory::default();
    memory.will("attach", &[Does::Hang]);
    let mut bed = Bed::up(memory).await;
    for n in 0..50 {
        bed.send(Effect::AttachVm { vm: VM, server: A, uplink_port: PortNo(1 + n % 2) });
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(7200);
    while bed.memory.calls("attach") < 2 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bed.quiet().await;
    assert_eq!(bed.memory.calls("attach"), 2, "the one that hung, and the last");
}
