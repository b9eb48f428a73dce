//! The router with a driver in memory whose calls fail, hang and are interrupted after a script;
//! time is virtual.

mod health;
mod lifecycle;
mod migration;
mod services;
mod strays;

use super::{CALLS, Timeouts, run_with};
use crate::HypervisorReport;
use crate::owner::Owner;
use crate::router::ServiceLink;
use crate::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tandem_model::{
    BitRate, Bytes, Effect, Event, LoadSample, Mac, MigrationId, MigrationMode, PortNo, Progress, Resources,
    ServerId, Time, VmId, VmSpec,
};
use tokio::sync::mpsc;

const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);
const VM: VmId = VmId(7);
const MIG: MigrationId = MigrationId(3);

/// The behaviour of a call.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    /// It succeeds.
    Work,
    /// It never returns.
    Hang,
    /// It fails with this error.
    Fail(VmmError),
    /// A migration interrupted after the hand-over: the VM's location is unknown until `resolve`
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
    /// The behaviour of the next calls with that name; `Work` without an entry.
    script: BTreeMap<&'static str, Vec<Does>>,
    log: Vec<String>,
    away: BTreeSet<ServerId>,
    at_once: usize,
    most_at_once: usize,
    unsure: u32,
    /// Specifications stored with VMs.
    kept: BTreeMap<VmId, VmSpec>,
    /// VMs that exist and do not run.
    halted: BTreeSet<(ServerId, VmId)>,
    /// The owner of the hosts, and the other controller that has tried.
    owner: Option<Owner>,
    rival: Option<Owner>,
    /// The receiver of notifications about VMs.
    ears: Option<mpsc::Sender<VmDown>>,
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
    async fn list(&self, server: ServerId) -> Result<Vec<DiscoveredVm>, VmmError> {
        self.act("list", server).await?;
        Ok(self.with(|s| {
            let kept = |vm: &VmId| s.kept.get(vm).cloned().map(Box::new);
            let found = |vm: &VmId, state| DiscoveredVm {
                vm: *vm,
                server,
                state,
                name: vm.to_string(),
                spec: kept(vm),
            };
            let here = |all: &BTreeSet<(ServerId, VmId)>, state| -> Vec<DiscoveredVm> {
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
        self.act("can_migrate", order.key.from).await.map(drop)
    }
    async fn migrate(&self, order: &MigrateOrder, control: MigrationControl) -> Result<Moved, MigrateError> {
        let key = order.key;
        let progress = Progress { round: 1, sent: Bytes::mib(1), ..Progress::default() };
        let _ = control.reports.send(MigrationReport::Progress(progress)).await;
        let does = self.act("migrate", key.from).await;
        let here = |why| MigrateError { at: VmLocation::At(key.from), why };
        match does.map_err(here)? {
            Does::UntilCancelled => {
                control.cancel.cancelled().await;
                return Err(here(VmmError::Cancelled));
            }
            Does::Cut => {
                self.with(|s| {
                    s.vms.remove(&(key.from, key.vm));
                    s.vms.insert((key.to, key.vm));
                    s.unsure = 3;
                });
                return Err(MigrateError { at: VmLocation::Unknown, why: unreachable() });
            }
            _ => {}
        }
        let _ = control.reports.send(MigrationReport::Suspended).await;
        self.with(|s| {
            s.vms.remove(&(key.from, key.vm));
            s.vms.insert((key.to, key.vm));
        });
        Ok(Moved { downtime: Some(Duration::from_millis(5)) })
    }
    async fn watch(&self, vm_down: mpsc::Sender<VmDown>) {
        self.with(|s| s.ears = Some(vm_down));
        std::future::pending().await
    }

    async fn resolve(&self, key: MigrationKey, _: bool) -> ResolveOutcome {
        let _ = self.act("resolve", key.from).await;
        self.with(|s| {
            if s.unsure > 0 {
                s.unsure -= 1;
                return ResolveOutcome::Ended(VmLocation::Unknown, Some(unreachable()));
            }
            let at = [key.to, key.from].into_iter().find(|at| s.vms.contains(&(*at, key.vm)));
            ResolveOutcome::Ended(at.map_or(VmLocation::Lost, VmLocation::At), None)
        })
    }
}

/// A running router, and its reports to the event loop.
struct Bed {
    memory: Memory,
    effects: mpsc::Sender<Effect>,
    inputs: mpsc::Receiver<HypervisorReport>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

fn owner() -> Owner {
    Owner { store: tandem_model::StoreUid(7), site: "dc".into() }
}

fn timeouts() -> Timeouts {
    Timeouts::new(Duration::from_secs(300))
}

impl Bed {
    async fn start(memory: Memory) -> Bed {
        let (event_loop, mut inputs) = mpsc::channel(1024);
        let driver: Arc<dyn Hypervisor> = Arc::new(memory.clone());
        let task = tokio::spawn(async move {
            run_with(
                vec![Driver::Called(driver)],
                "hypervisors",
                owner(),
                timeouts(),
                Arc::new(event_loop),
                64,
            )
            .await
        });
        let effects = match inputs.recv().await {
            Some(HypervisorReport::Attached(effects)) => effects,
            other => panic!("{other:?}"),
        };
        Bed { memory, effects, inputs, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// With a VM on A, after `WorldUp`.
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

    /// The next event; in virtual time a hang is a failure at once.
    async fn event(&mut self) -> Event {
        loop {
            match self.any_event().await {
                // Sent before every `WorldUp`.
                Event::VmsFound { .. } => {}
                other => return other,
            }
        }
    }

    async fn any_event(&mut self) -> Event {
        match tokio::time::timeout(Duration::from_secs(7200), self.inputs.recv()).await {
            Ok(Some(HypervisorReport::Event(event))) => event,
            other => panic!("no event: {other:?}"),
        }
    }

    /// Checks that nothing is reported for a while.
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
