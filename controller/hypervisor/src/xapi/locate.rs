//! Locates the VM of a move in its source pool and its target pool, after every irregular end of
//! the move, and before a result is reported.
//!
//! - It runs: that is its place. A copy in the other pool that does not run is left over from the
//!   move, and is removed.
//! - It is paused or suspended: the move was interrupted; it is resumed in place.
//! - It is defined but halted: it is started again, on its source if possible.
//! - Neither pool has it: it is lost. One does not answer, and the other has nothing: its location
//!   is unknown.

use super::Pools;
use super::pool::{Ours, Pool};
use super::task::{self, Timeouts};
use crate::{MigrationKey, ResolveOutcome, VmLocation, VmmError};
use serde_json::json;
use std::sync::Arc;
use tandem_model::ServerId;
use tokio_util::sync::CancellationToken;

/// The task that moves a VM, if there is one.
pub(super) fn under_way(ours: &Ours) -> Option<&str> {
    let moving = |operation: &str| matches!(operation, "pool_migrate" | "migrate_send");
    ours.record.current_operations.iter().find(|(_, o)| moving(o)).map(|(task, _)| task.as_str())
}

/// A VM of ours and the pool that has it.
pub(super) struct Seen {
    pub(super) pool: Arc<Pool>,
    pub(super) ours: Ours,
}

/// The VMs in both pools; and the error of one that does not answer.
pub(super) async fn look(pools: &Pools, key: MigrationKey) -> (Vec<Seen>, Option<VmmError>) {
    let mut seen = Vec::new();
    let mut silent = None;
    let mut asked: Vec<&str> = Vec::new();
    for server in [key.from, key.to] {
        let Some(pool) = pools.of(server) else { continue };
        if asked.contains(&pool.cfg.access.name.as_str()) {
            continue;
        }
        asked.push(&pool.cfg.access.name);
        match pool.find(key.vm).await {
            Ok(Some(ours)) => seen.push(Seen { pool: pool.clone(), ours }),
            Ok(None) => {}
            Err(error) => {
                silent =
                    Some(pool.deed(server, Some(key.vm), format!("looking for {}", key.vm)).failed(error));
            }
        }
    }
    // A VM with this id in the other pool that was created for another request does not belong to
    // this move.
    let made_for = |s: &Seen| super::kept::spec(&s.ours.record).map(|spec| spec.origin.placed_at);
    if let [old, new] = &seen[..]
        && let (Some(old), Some(new)) = (made_for(old), made_for(new))
        && old != new
    {
        seen.truncate(1);
    }
    (seen, silent)
}

/// Locates the VM of a move in both pools, and makes it run there.
pub(super) async fn resolve(pools: &Pools, key: MigrationKey, stop: bool) -> ResolveOutcome {
    let (mut seen, mut silent) = look(pools, key).await;
    if stop {
        for s in &seen {
            if let Some(task) = under_way(&s.ours) {
                give_up(&s.pool, task).await;
            }
        }
        (seen, silent) = look(pools, key).await;
    }
    if seen.iter().any(|s| under_way(&s.ours).is_some()) {
        return ResolveOutcome::UnderWay;
    }
    if let Some(n) = seen.iter().position(|s| s.ours.record.power_state == "Running") {
        let mut trouble = None;
        for (_, copy) in
            seen.iter().enumerate().filter(|(m, s)| *m != n && s.ours.record.power_state != "Running")
        {
            let deed = copy.pool.deed(key.to, None, format!("removing what a move of {} has left", key.vm));
            trouble = super::destroy::remove(&copy.pool, &deed, &copy.ours.reference).await.err().or(trouble);
        }
        return at(&seen[n], key, trouble).await;
    }
    let Some(seen) = seen.into_iter().next() else {
        return match silent {
            Some(error) => ResolveOutcome::Ended(VmLocation::Unknown, Some(error)),
            None => {
                let host = pools.name_of(key.from);
                let why = VmmError::GoneBehindOurBack { host, vm: key.vm };
                ResolveOutcome::Ended(VmLocation::Lost, Some(why))
            }
        };
    };
    match revive(&seen, key).await {
        Ok(()) => {
            let again = seen.pool.find(key.vm).await.ok().flatten();
            let seen = Seen { ours: again.unwrap_or(seen.ours), pool: seen.pool };
            at(&seen, key, None).await
        }
        // It exists but does not run: not lost, and not known to run anywhere.
        Err(why) => ResolveOutcome::Ended(VmLocation::Unknown, Some(why)),
    }
}

async fn at(seen: &Seen, key: MigrationKey, trouble: Option<VmmError>) -> ResolveOutcome {
    // Both hosts are read, unless they were.
    let mut server: Option<ServerId> = None;
    for candidate in [key.from, key.to] {
        if seen.pool.server(candidate).is_some()
            && let Ok(host) = seen.pool.host(candidate).await
            && host.reference == seen.ours.record.resident_on
        {
            server = Some(candidate);
        }
    }
    match server.or(seen.pool.server_of(&seen.ours.record.resident_on)) {
        Some(server) => ResolveOutcome::Ended(VmLocation::At(server), trouble),
        None => ResolveOutcome::Ended(
            VmLocation::Unknown,
            Some(VmmError::Refused {
                what: format!("pool {}: looking for {}", seen.pool.cfg.access.name, key.vm),
                why: format!(
                    "it runs on a host that is no server of the site ({}); move it back by hand",
                    seen.ours.record.resident_on
                ),
            }),
        ),
    }
}

/// Cancels a move, and waits until it has ended, with any result: the VM is located afterwards.
async fn give_up(pool: &Pool, task: &str) {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let limits = pool.cfg.limits;
    let timeouts = Timeouts { limit: limits.cancel, cancel_limit: limits.cancel, cancel };
    if let Err(error) = task::follow(&pool.session, task, &timeouts, &mut |_| {}).await {
        tracing::debug!("task {task}: {error}");
    }
}

/// Makes a VM run again that a move has paused, suspended or stopped.
async fn revive(seen: &Seen, key: MigrationKey) -> Result<(), VmmError> {
    let pool = &seen.pool;
    let it = json!(seen.ours.reference);
    let server = if pool.server(key.from).is_some() { key.from } else { key.to };
    let deed = pool.deed(server, Some(key.vm), format!("letting {} run again", key.vm));
    let limits = pool.cfg.limits;
    let timeouts =
        Timeouts { limit: limits.make, cancel_limit: limits.cancel, cancel: CancellationToken::new() };
    let (method, params) = match seen.ours.record.power_state.as_str() {
        "Paused" => ("VM.unpause", vec![it]),
        state => {
            let host = pool.host(server).await?.reference;
            let method = if state == "Suspended" { "VM.resume_on" } else { "VM.start_on" };
            (method, vec![it, json!(host), json!(false), json!(false)])
        }
    };
    let done = task::run(&pool.session, method, params, &timeouts, &mut |_| {}).await;
    done.map(drop).map_err(|e| deed.ended(e))
}
