//! The driver for XAPI: XCP 1.6, XenServer, XCP-ng.
//!
//! ```text
//!  Hypervisor trait -- mod.rs -- allocate, destroy, reconfigure, migrate + locate, load + rrd, events
//!                                   | task.rs: long calls        | pool.rs: hosts and VMs of ours
//!                                   +-- session.rs: one session with a pool's master
//!                                        +-- rpc/: the wire       tunnel.rs: the way to old hosts
//! ```
//!
//! One driver has all pools, so that a VM can be moved from one to another. It has no state that a
//! restart needs: VMs carry our id in their `other_config`, and a move that is under way is found
//! in its VM's `current_operations`.
//!
//! **No XCP, XenServer or XCP-ng host was tried.** None is available where this is built and
//! tested. The driver was written after the public data model and tested with a double
//! (`controller/hypervisor/tests/xapi/`), which the official Python client accepts as a server.
//! Behaviour of a real host that is described in neither is unknown here.
//!
//! XAPI reports a move's progress, but not when the VM is paused, nor the round; and a move's rate
//! cannot be set.

mod allocate;
pub mod config;
mod destroy;
pub mod errors;
mod events;
pub mod kept;
pub mod load;
mod locate;
mod locking;
mod migrate;
pub mod pool;
mod reconfigure;
pub mod records;
pub mod rpc;
pub mod rrd;
pub mod section;
pub mod session;
pub mod task;
mod tunnel;

use super::config::Image;
use super::owner::Owner;
use super::{
    Capabilities, DiscoveredVm, FoundState, Hypervisor, MigrateError, MigrateOrder, MigrationControl,
    MigrationKey, Moved, ResolveOutcome, ServerLoad, VmDown, VmmError, async_trait,
};
use config::PoolConfig;
use load::Loads;
use pool::{Ours, Pool, place};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tandem_model::{PortNo, Resources, ServerId, Time, VmId, VmSpec};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// All pools.
#[derive(Clone)]
pub struct Pools(Arc<[Arc<Pool>]>);

impl Pools {
    fn of(&self, server: ServerId) -> Option<&Arc<Pool>> {
        self.0.iter().find(|p| p.server(server).is_some())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.0.iter()
    }

    fn name_of(&self, server: ServerId) -> String {
        let cfg = self.of(server).and_then(|p| p.server(server));
        cfg.map_or_else(|| server.to_string(), |s| s.name.clone())
    }
}

/// The driver: all pools in the hypervisors file, and the operations under way in them.
pub struct Xapi {
    name: String,
    servers: Vec<ServerId>,
    pools: Pools,
    images: Arc<[Image]>,
    loads: Loads,
    /// VMs that our own calls work on, with the number of calls.
    busy: Arc<Mutex<BTreeMap<VmId, u32>>>,
}

/// While it lives, changes of the VM count as our own.
struct Busy {
    vm: VmId,
    all: Arc<Mutex<BTreeMap<VmId, u32>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = all.get_mut(&self.vm) {
            *n -= 1;
            if *n == 0 {
                all.remove(&self.vm);
            }
        }
    }
}

impl Xapi {
    /// For these pools and the VMs of a site; sends nothing yet.
    pub fn new(site: &str, pools: Vec<PoolConfig>, images: Vec<Image>) -> Xapi {
        let names: Vec<&str> = pools.iter().map(|p| p.access.name.as_str()).collect();
        Xapi {
            name: format!("xapi ({})", names.join(", ")),
            servers: pools.iter().flat_map(|p| p.servers.iter().map(|s| s.server)).collect(),
            pools: Pools(pools.into_iter().map(|p| Arc::new(Pool::new(p, site))).collect()),
            images: images.into(),
            loads: Loads::default(),
            busy: Arc::default(),
        }
    }

    /// Ends the sessions. A later call logs in again.
    pub async fn close(&self) {
        for pool in self.pools.all() {
            pool.session.close().await;
        }
    }

    fn pool(&self, server: ServerId) -> Result<Arc<Pool>, VmmError> {
        self.pools.of(server).cloned().ok_or_else(|| VmmError::Refused {
            what: format!("looking for {server}"),
            why: "it is no host of a pool; add it as [[pool.server]] to the hypervisors file".to_owned(),
        })
    }

    fn is_busy(&self, vm: VmId) -> bool {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&vm)
    }

    fn busy(&self, vm: VmId) -> Busy {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(vm).or_default() += 1;
        Busy { vm, all: self.busy.clone() }
    }
}

/// Runs work to its end even if the caller drops it: then it is cancelled, and cleans up.
async fn to_its_end<T: Send + 'static>(
    cancel: CancellationToken,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let guard = cancel.drop_guard();
    let done = tokio::spawn(work).await;
    guard.disarm();
    match done {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        },
    }
}

#[async_trait]
impl Hypervisor for Xapi {
    fn name(&self) -> &str {
        &self.name
    }

    fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    fn capabilities(&self, _server: ServerId) -> Capabilities {
        Capabilities {
            live: true,
            cold: true,
            storage: true,
            cancel: true,
            progress: true,
            rate: false,
            resize: true,
            loads: true,
            addresses: true,
        }
    }

    async fn claim(
        &self,
        server: ServerId,
        owner: &Owner,
        take_over: bool,
    ) -> Result<Option<Owner>, VmmError> {
        let pool = self.pool(server)?;
        kept::claim(&pool, server, owner, take_over).await
    }

    async fn tag(&self, server: ServerId, vm: VmId, spec: &VmSpec) -> Result<(), VmmError> {
        let pool = self.pool(server)?;
        let what = format!("writing down what {vm} was asked for with");
        let ours = pool.must_find(server, vm, &what).await?;
        kept::keep(&pool, &pool.deed(server, Some(vm), what), &ours.reference, spec).await
    }

    async fn list(&self, server: ServerId) -> Result<Vec<DiscoveredVm>, VmmError> {
        let pool = self.pool(server)?;
        let deed = pool.deed(server, None, "listing its VMs");
        let host = pool.host(server).await?;
        let ours = pool.ours().await.map_err(|e| deed.failed(e))?;
        let here = ours.into_iter().filter(|o| place(&o.record) == host.reference);
        let found = here.map(|Ours { vm, record, .. }| DiscoveredVm {
            vm,
            server,
            state: match record.power_state.as_str() {
                "Running" => FoundState::Running,
                "Halted" => FoundState::Halted,
                _ => FoundState::Paused,
            },
            spec: kept::spec(&record),
            name: record.name_label,
        });
        Ok(found.collect())
    }

    async fn allocate(
        &self,
        server: ServerId,
        vm: VmId,
        spec: &VmSpec,
    ) -> Result<Option<Ipv4Addr>, VmmError> {
        let (pool, images, spec) = (self.pool(server)?, self.images.clone(), spec.clone());
        let (busy, cancel) = (self.busy(vm), CancellationToken::new());
        to_its_end(cancel.clone(), async move {
            let _busy = busy;
            allocate::allocate(&pool, &images, server, vm, &spec, &cancel).await
        })
        .await
    }

    async fn destroy(&self, server: ServerId, vm: VmId, placed_at: Option<Time>) -> Result<(), VmmError> {
        let (pool, busy) = (self.pool(server)?, self.busy(vm));
        to_its_end(CancellationToken::new(), async move {
            let _busy = busy;
            let deed = pool.deed(server, Some(vm), format!("removing {vm}"));
            match pool.find(vm).await.map_err(|e| deed.failed(e))? {
                Some(ours) => {
                    if let Some(placed_at) = placed_at {
                        kept::check_made_for(&deed, vm, &ours.record, placed_at)?;
                    }
                    destroy::remove(&pool, &deed, &ours.reference).await
                }
                None => Ok(()),
            }
        })
        .await
    }

    async fn resize(&self, server: ServerId, vm: VmId, resources: Resources) -> Result<(), VmmError> {
        reconfigure::resize(&*self.pool(server)?, server, vm, resources).await
    }

    async fn attach(&self, server: ServerId, vm: VmId, uplink: PortNo) -> Result<(), VmmError> {
        reconfigure::attach(&*self.pool(server)?, server, vm, uplink).await
    }

    async fn address(&self, server: ServerId, vm: VmId) -> Result<Option<Ipv4Addr>, VmmError> {
        let pool = self.pool(server)?;
        let what = format!("asking for the address of {vm}");
        let ours = pool.must_find(server, vm, &what).await?;
        let deed = pool.deed(server, Some(vm), what);
        allocate::address(&pool, &ours.record).await.map_err(|e| deed.failed(e))
    }

    async fn load(&self, server: ServerId) -> Result<ServerLoad, VmmError> {
        self.loads.of(&*self.pool(server)?, server).await
    }

    async fn can_migrate(&self, order: &MigrateOrder) -> Result<(), VmmError> {
        migrate::can_migrate(&self.pools, order).await
    }

    async fn migrate(&self, order: &MigrateOrder, control: MigrationControl) -> Result<Moved, MigrateError> {
        let (pools, order, busy) = (self.pools.clone(), order.clone(), self.busy(order.key.vm));
        // If the caller drops the call, the controller ends or has given the move up: the move is
        // cancelled, and the VM stays in place.
        to_its_end(control.cancel.clone(), async move {
            let _busy = busy;
            migrate::migrate(&pools, &order, control).await
        })
        .await
    }

    async fn resolve(&self, key: MigrationKey, stop: bool) -> ResolveOutcome {
        let _busy = self.busy(key.vm);
        locate::resolve(&self.pools, key, stop).await
    }

    async fn watch(&self, vm_down: mpsc::Sender<VmDown>) {
        let all = self.pools.all().map(|pool| Box::pin(events::listen(self, pool, &vm_down)));
        let mut running: Vec<_> = all.collect();
        // There are few pools: each is polled on every wake-up.
        std::future::poll_fn(|cx| {
            running.retain_mut(|f| f.as_mut().poll(cx).is_pending());
            if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}
