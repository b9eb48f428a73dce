//! Moves a VM from host to host.
//!
//! | between hosts of | its disks | live | cold |
//! |---|---|---|---|
//! | one pool | are reached by both | `VM.pool_migrate` | shut down, `VM.start_on` |
//! | one pool | are not | `host.migrate_receive`, `VM.migrate_send` | shut down, `migrate_send`, `start_on` |
//! | two pools | go along | the same, with the other network | the same |
//!
//! 1. A move that is under way already (the controller was restarted, a reply was lost) is
//!    continued, not started twice.
//! 2. The task is followed. Progress is in bytes of the VM's memory: XAPI reports a fraction, and
//!    no rounds.
//! 3. However it ends, [`super::locate`] locates the VM before a result is reported: a move whose
//!    reply was lost may have succeeded.

use super::Pools;
use super::locate::{self, Seen};
use super::locking;
use super::pool::{HostRef, Ours, Pool};
use super::reconfigure;
use super::records::{Host, NULL, Pbd, Sr, Vbd, Vdi};
use super::rpc::Value;
use super::session::CallError;
use super::task::{self, TaskError, Timeouts};
use crate::{
    MigrateError, MigrateOrder, MigrationControl, MigrationReport, Moved, ResolveOutcome, VmLocation,
    VmmError,
};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{BitRate, Bytes, MigrationMode, Progress, ServerId};
use tokio::time::{Instant, sleep};

/// The shortest interval of reports.
const REPORTS: Duration = Duration::from_millis(250);

/// The kind of a move.
enum Route {
    /// Its disks stay in place.
    Within,
    /// Its disks are copied: the arguments of `VM.migrate_send` behind the VM.
    Storage { dest: Value, disks: Value, interfaces: Value },
}

struct Move<'a> {
    order: &'a MigrateOrder,
    from: Arc<Pool>,
    to: Arc<Pool>,
    source: HostRef,
    target: HostRef,
}

impl<'a> Move<'a> {
    async fn new(pools: &Pools, order: &'a MigrateOrder) -> Result<Move<'a>, VmmError> {
        let pool = |server: ServerId| {
            pools.of(server).cloned().ok_or_else(|| VmmError::Refused {
                what: format!("moving {}", order.key.vm),
                why: format!("{server} is no host of a XAPI pool; it can only be moved between those"),
            })
        };
        let (from, to) = (pool(order.key.from)?, pool(order.key.to)?);
        let (source, target) = (from.host(order.key.from).await?, to.host(order.key.to).await?);
        Ok(Move { order, from, to, source, target })
    }

    fn one_pool(&self) -> bool {
        Arc::ptr_eq(&self.from, &self.to)
    }

    /// An error of the target.
    fn failed(&self, error: CallError) -> VmmError {
        self.to
            .deed(self.order.key.to, Some(self.order.key.vm), format!("moving {} there", self.order.key.vm))
            .failed(error)
    }

    fn ended(&self, error: TaskError) -> VmmError {
        self.to
            .deed(self.order.key.to, Some(self.order.key.vm), format!("moving {} there", self.order.key.vm))
            .ended(error)
    }

    fn refused(&self, why: String) -> VmmError {
        let to = self.to.server(self.order.key.to).map_or("", |s| s.name.as_str());
        VmmError::Refused { what: format!("moving {} to {to}", self.order.key.vm), why }
    }

    /// Chooses the kind of the move, with its arguments. Changes nothing permanently.
    async fn route(&self, ours: &Ours) -> Result<Route, VmmError> {
        if self.one_pool() {
            let params = vec![json!(ours.reference), json!(self.target.reference)];
            match self.to.session.ask::<Value>("VM.assert_can_boot_here", params).await {
                Ok(_) => return Ok(Route::Within),
                Err(error) if matches!(error.code(), "VM_REQUIRES_SR" | "HOST_CANNOT_SEE_SR") => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let storage = self.storage().await?;
        let mut disks = Map::new();
        for vbd in &ours.record.vbds {
            let vbd: Vbd = self.ask("VBD.get_record", vbd).await?;
            if vbd.kind == "Disk" && vbd.vdi != NULL && !vbd.vdi.is_empty() {
                let vdi: Vdi = self.ask("VDI.get_record", &vbd.vdi).await?;
                let stays = self.one_pool() && self.reaches(&vdi.sr).await?;
                disks.insert(vbd.vdi, json!(if stays { &vdi.sr } else { &storage }));
            }
        }
        let mut interfaces = Map::new();
        if !self.one_pool() {
            let network = self.to.network(self.order.key.to, self.order.spec.uplink_port).await?;
            for vif in &ours.record.vifs {
                interfaces.insert(vif.clone(), json!(network));
            }
        }
        let pifs: BTreeMap<String, super::records::Pif> =
            self.to.session.ask("PIF.get_all_records", Vec::new()).await.map_err(|e| self.failed(e))?;
        let management = pifs.values().find(|p| p.management && p.host == self.target.reference);
        let network = management
            .map(|p| p.network.clone())
            .ok_or_else(|| self.refused("the target host has no management interface".to_owned()))?;
        let receive = vec![json!(self.target.reference), json!(network), json!({})];
        let dest = self.to.session.call("host.migrate_receive", receive).await.map_err(|e| self.failed(e))?;
        Ok(Route::Storage { dest, disks: Value::Object(disks), interfaces: Value::Object(interfaces) })
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, method: &str, of: &str) -> Result<T, VmmError> {
        self.from.session.ask(method, vec![json!(of)]).await.map_err(|e| self.failed(e))
    }

    async fn pbds(&self) -> Result<Vec<Pbd>, VmmError> {
        let all: BTreeMap<String, Pbd> =
            self.to.session.ask("PBD.get_all_records", Vec::new()).await.map_err(|e| self.failed(e))?;
        Ok(all.into_values().filter(|p| p.currently_attached && p.host == self.target.reference).collect())
    }

    async fn reaches(&self, sr: &str) -> Result<bool, VmmError> {
        Ok(self.pbds().await?.iter().any(|p| p.sr == sr))
    }

    /// The storage for disks: the pool's default if the target reaches it, else the target's own.
    async fn storage(&self) -> Result<String, VmmError> {
        let there = self.pbds().await?;
        let session = &self.to.session;
        let pools: Vec<String> = session.ask("pool.get_all", Vec::new()).await.map_err(|e| self.failed(e))?;
        if let Some(pool) = pools.first() {
            let default: String =
                session.ask("pool.get_default_SR", vec![json!(pool)]).await.map_err(|e| self.failed(e))?;
            if there.iter().any(|p| p.sr == default) {
                return Ok(default);
            }
        }
        for pbd in there {
            let sr: Sr =
                session.ask("SR.get_record", vec![json!(pbd.sr)]).await.map_err(|e| self.failed(e))?;
            if sr.content_type != "iso" && !matches!(sr.kind.as_str(), "iso" | "udev") {
                return Ok(pbd.sr);
            }
        }
        Err(self
            .refused("its disks cannot be reached there, and the host has no storage for them".to_owned()))
    }

    /// Runs a move as a task. If its start is uncertain, it is looked up by its VM, and followed.
    async fn run(
        &self,
        ours: &Ours,
        method: &str,
        params: Vec<Value>,
        timeouts: &Timeouts,
        heard: &mut Reporter<'_>,
    ) -> Result<Value, VmmError> {
        let session = &self.from.session;
        let doubt = match task::run(session, method, params, timeouts, &mut |p| heard.report(p)).await {
            Err(TaskError::InDoubt(error)) => error,
            other => return other.map_err(|e| self.ended(e)),
        };
        let start = Instant::now();
        while start.elapsed() < self.from.cfg.limits.doubt {
            let found = self.from.find(self.order.key.vm).await.map_err(|e| self.failed(e))?;
            match found {
                Some(now) if now.record.resident_on == ours.record.resident_on => {
                    if let Some(task) = locate::under_way(&now) {
                        let followed = task::follow(session, task, timeouts, &mut |p| heard.report(p)).await;
                        return followed.map_err(|e| self.ended(e));
                    }
                }
                // The VM has left already; its location is looked up.
                _ => break,
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(self.failed(doubt))
    }

    fn send(&self, ours: &Ours, live: bool, route: &Route) -> Option<Vec<Value>> {
        let Route::Storage { dest, disks, interfaces } = route else { return None };
        Some(vec![
            json!(ours.reference),
            dest.clone(),
            json!(live),
            disks.clone(),
            interfaces.clone(),
            json!({}),
        ])
    }
}

/// Checks whether it can be moved.
///
/// Why it cannot.
pub(super) async fn can_migrate(pools: &Pools, order: &MigrateOrder) -> Result<(), VmmError> {
    let m = Move::new(pools, order).await?;
    let ours = m.from.must_find(order.key.from, order.key.vm, "looking for it before its move").await?;
    if ours.record.power_state != "Running" {
        return Err(m.refused(format!(
            "it is {}: only a running VM is moved",
            ours.record.power_state.to_lowercase()
        )));
    }
    if ours.record.resident_on != m.source.reference && locate::under_way(&ours).is_none() {
        return Err(m.refused("it does not run on the host that it should".to_owned()));
    }
    let target: Host =
        m.to.session.ask("host.get_record", vec![json!(m.target.reference)]).await.map_err(|error| {
            if error.code() == "HANDLE_INVALID" {
                m.to.forget_hosts();
            }
            m.failed(error)
        })?;
    if !target.enabled {
        let failure = super::rpc::Failure { code: "HOST_DISABLED".to_owned(), args: Vec::new() };
        return Err(m.failed(failure.into()));
    }
    let free: Value =
        m.to.session
            .ask("host.compute_free_memory", vec![json!(m.target.reference)])
            .await
            .map_err(|e| m.failed(e))?;
    let free = super::rpc::integer(free).unwrap_or(i64::MAX);
    let needed = ours.record.memory_dynamic_max;
    if m.source.reference != m.target.reference && needed > free {
        let host = m.to.deed(order.key.to, None, "").host.to_owned();
        let bytes = |n: i64| Bytes(u64::try_from(n).unwrap_or(0));
        return Err(VmmError::NoMemory { host, vm: order.key.vm, needed: bytes(needed), free: bytes(free) });
    }
    let route = m.route(&ours).await?;
    // For a cold move the check would fail, as the VM has to be halted first.
    if order.manner == MigrationMode::Live
        && let Some(params) = m.send(&ours, true, &route)
    {
        m.from.session.ask::<Value>("VM.assert_can_migrate", params).await.map_err(|e| m.failed(e))?;
    }
    Ok(())
}

/// Moves a VM, in the steps of the module's description.
///
/// Why it was not moved, and where it runs.
pub(super) async fn migrate(
    pools: &Pools,
    order: &MigrateOrder,
    control: MigrationControl,
) -> Result<Moved, MigrateError> {
    let why = attempt(pools, order, &control).await.err();
    // 3.
    match locate::resolve(pools, order.key, false).await {
        ResolveOutcome::Ended(VmLocation::At(at), trouble) if at == order.key.to => {
            if let Some(why) = why.or(trouble) {
                tracing::warn!("{}: {} has moved in spite of: {why}", order.key.migration, order.key.vm);
            }
            arrive(pools, order).await;
            Ok(Moved { downtime: None })
        }
        ResolveOutcome::Ended(at, trouble) => Err(MigrateError {
            at,
            why: why.or(trouble).unwrap_or_else(|| VmmError::Failed {
                host: pools.name_of(order.key.to),
                what: format!("moving {} there", order.key.vm),
                why: "the pool says that it was moved, but it does not run there".to_owned(),
            }),
        }),
        ResolveOutcome::UnderWay => Err(MigrateError {
            at: VmLocation::Unknown,
            why: why.unwrap_or_else(|| VmmError::Failed {
                host: pools.name_of(order.key.to),
                what: format!("moving {} there", order.key.vm),
                why: "another move of it is under way in the pool".to_owned(),
            }),
        }),
    }
}

async fn attempt(pools: &Pools, order: &MigrateOrder, control: &MigrationControl) -> Result<(), VmmError> {
    let m = Move::new(pools, order).await?;
    let limits = m.from.cfg.limits;
    let timeouts =
        Timeouts { limit: limits.migrate, cancel_limit: limits.cancel, cancel: control.cancel.clone() };
    let (seen, silent) = locate::look(pools, order.key).await;
    // 1.
    for Seen { pool, ours } in &seen {
        if let Some(task) = locate::under_way(ours) {
            let mut heard = Reporter::new(control, ours.record.memory_dynamic_max);
            let followed = task::follow(&pool.session, task, &timeouts, &mut |p| heard.report(p)).await;
            return followed.map(drop).map_err(|e| m.ended(e));
        }
    }
    if let Some(error) = silent {
        return Err(error);
    }
    let host = || pools.name_of(order.key.from);
    let Some(Seen { ours, .. }) = seen.into_iter().find(|s| Arc::ptr_eq(&s.pool, &m.from)) else {
        return Err(VmmError::GoneBehindOurBack { host: host(), vm: order.key.vm });
    };
    if ours.record.resident_on == m.target.reference && m.one_pool() {
        return Ok(());
    }
    let route = m.route(&ours).await?;
    match order.manner {
        MigrationMode::Live => live(&m, &ours, &route, &timeouts, control).await,
        MigrationMode::Cold => cold(&m, &ours, &route, &timeouts, control).await,
    }
}

async fn live(
    m: &Move<'_>,
    ours: &Ours,
    route: &Route,
    timeouts: &Timeouts,
    control: &MigrationControl,
) -> Result<(), VmmError> {
    let mut heard = Reporter::new(control, ours.record.memory_dynamic_max);
    let (method, params) = match m.send(ours, true, route) {
        Some(params) => ("VM.migrate_send", params),
        None => {
            let options = json!({"live": "true", "force": "false"});
            ("VM.pool_migrate", vec![json!(ours.reference), json!(m.target.reference), options])
        }
    };
    m.run(ours, method, params, timeouts, &mut heard).await.map(drop)
}

async fn cold(
    m: &Move<'_>,
    ours: &Ours,
    route: &Route,
    timeouts: &Timeouts,
    control: &MigrationControl,
) -> Result<(), VmmError> {
    let mut heard = Reporter::new(control, ours.record.memory_dynamic_max);
    if timeouts.cancel.is_cancelled() {
        return Err(VmmError::Cancelled);
    }
    let deed = m.from.deed(
        m.order.key.from,
        Some(m.order.key.vm),
        format!("stopping {} for its move", m.order.key.vm),
    );
    super::destroy::stop(&m.from, &deed, &ours.reference).await?;
    let mut there = ours.reference.clone();
    if let Some(params) = m.send(ours, false, route) {
        let sent = m.run(ours, "VM.migrate_send", params, timeouts, &mut heard).await?;
        if let Value::String(new) = sent {
            there = new;
        }
    }
    if timeouts.cancel.is_cancelled() {
        return Err(VmmError::Cancelled);
    }
    // From here on it is started on the target, or again on the source.
    let _ = control.reports.try_send(MigrationReport::Suspended);
    let params = vec![json!(there), json!(m.target.reference), json!(false), json!(false)];
    let last = Timeouts { limit: m.to.cfg.limits.make, cancel: Default::default(), ..timeouts.clone() };
    let done = task::run(&m.to.session, "VM.start_on", params, &last, &mut |_| {}).await;
    done.map(drop).map_err(|e| m.ended(e))
}

/// Steps that the VM does not need to run, but later: the lock to its addresses, its preferred
/// host, and its network if the uplink differs.
async fn arrive(pools: &Pools, order: &MigrateOrder) {
    let Some(pool) = pools.of(order.key.to) else { return };
    let done = async {
        let ours = pool.must_find(order.key.to, order.key.vm, "finding it after its move").await?;
        let host = pool.host(order.key.to).await?;
        let deed = pool.deed(order.key.to, Some(order.key.vm), "after its move");
        locking::ensure(pool, &deed, &ours.record, order.spec.address).await?;
        let affinity = vec![json!(ours.reference), json!(host.reference)];
        pool.session.call("VM.set_affinity", affinity).await.map_err(|e| deed.failed(e))?;
        reconfigure::attach(pool, order.key.to, order.key.vm, order.spec.uplink_port).await
    };
    if let Err(error) = done.await {
        tracing::error!("{}: {} runs on its new server, but: {error}", order.key.migration, order.key.vm);
    }
}

/// Converts XAPI's fraction into bytes of the VM's memory.
struct Reporter<'a> {
    control: &'a MigrationControl,
    memory: f64,
    start: Instant,
    last: Option<Instant>,
}

impl<'a> Reporter<'a> {
    fn new(control: &'a MigrationControl, memory: i64) -> Reporter<'a> {
        Reporter { control, memory: memory.max(0) as f64, start: Instant::now(), last: None }
    }

    fn report(&mut self, share: f64) {
        let now = Instant::now();
        if self.last.is_some_and(|l| now < l + REPORTS) && share < 1.0 {
            return;
        }
        self.last = Some(now);
        let sent = share.clamp(0.0, 1.0) * self.memory;
        let elapsed = (now - self.start).as_secs_f64();
        let rate = if elapsed > 0.0 { sent * 8.0 / elapsed } else { 0.0 };
        let progress = Progress {
            round: 1,
            sent: Bytes(sent as u64),
            remaining: Bytes((self.memory - sent) as u64),
            rate: BitRate(rate as u64),
            dirty: BitRate(0),
        };
        // A receiver that is slow or gone misses a report.
        let _ = self.control.reports.try_send(MigrationReport::Progress(progress));
    }
}
