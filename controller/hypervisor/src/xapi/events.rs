//! Watches VMs of ours for changes by others, with one long poll (`event.from`) per pool.
//!
//! A VM that is deleted or halted while the driver works on it, or that the driver has removed, is
//! not reported. Changes during an interruption are found by comparison: whenever the watch starts
//! again, all VMs of ours are compared with those known before.

use super::Xapi;
use super::pool::{Ours, Pool};
use super::records::{EventBatch, Vm};
use super::session::CallError;
use crate::VmDown;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{ServerId, VmId};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The time-out of a poll.
const WAIT: Duration = Duration::from_secs(30);

/// Pause after an error.
const RETRY: Duration = Duration::from_secs(1);

/// The shortest interval of polls, so that a pool that answers at once without news is not polled
/// in a busy loop. Changes in between come together.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of the VMs of a pool, by reference.
type Known = BTreeMap<String, (VmId, Option<ServerId>)>;

/// Watches one pool until the receiver is gone.
pub(super) async fn listen(driver: &Xapi, pool: &Pool, vm_down: &mpsc::Sender<VmDown>) {
    let mut known = Known::new();
    let mut token = String::new();
    while !vm_down.is_closed() {
        match turn(driver, pool, &mut token, &mut known, vm_down).await {
            Ok(()) => sleep(PAUSE).await,
            Err(error) => {
                tracing::debug!("events of pool {}: {error}", pool.cfg.access.name);
                token.clear();
                sleep(RETRY).await;
            }
        }
    }
}

async fn turn(
    driver: &Xapi,
    pool: &Pool,
    token: &mut String,
    known: &mut Known,
    vm_down: &mpsc::Sender<VmDown>,
) -> Result<(), CallError> {
    let beginning = token.is_empty();
    let wait = if beginning { Duration::ZERO } else { WAIT };
    let params = vec![json!(["vm"]), json!(token), json!(wait.as_secs_f64())];
    let limit = wait + pool.session.access().limit;
    let question = pool.session.call_within("event.from", params, limit);
    let answer = tokio::select! {
        answer = question => answer?,
        () = vm_down.closed() => return Ok(()),
    };
    let batch: EventBatch = pool.session.read(answer)?;
    *token = batch.token;
    if beginning {
        return compare(driver, pool, known, vm_down).await;
    }
    for change in batch.events.into_iter().filter(|c| c.class.eq_ignore_ascii_case("vm")) {
        // The event comes when the removal has ended, and the VM is no longer busy.
        if pool.is_removed_by_us(&change.reference) {
            known.remove(&change.reference);
            continue;
        }
        if change.operation == "del" {
            if let Some((vm, server)) = known.remove(&change.reference) {
                tell(driver, vm_down, vm, server, "somebody has removed it").await;
            }
            continue;
        }
        let Some(record) = change.snapshot.and_then(|v| pool.session.read::<Vm>(v).ok()) else { continue };
        let Some(vm) = pool.tag(&record) else { continue };
        let server = pool.server_of(super::pool::place(&record));
        if record.power_state == "Running" {
            known.insert(change.reference, (vm, server));
        } else if record.power_state == "Halted"
            && let Some((vm, server)) = known.remove(&change.reference)
        {
            tell(driver, vm_down, vm, server, "it was shut down, or has crashed").await;
        }
    }
    Ok(())
}

/// Compares all VMs of ours with those known before an interruption.
async fn compare(
    driver: &Xapi,
    pool: &Pool,
    known: &mut Known,
    vm_down: &mpsc::Sender<VmDown>,
) -> Result<(), CallError> {
    let there = pool.ours().await?;
    let runs = |o: &&Ours| o.record.power_state == "Running";
    let mut now = Known::new();
    for ours in there.iter().filter(runs) {
        let server = pool.server_of(&ours.record.resident_on);
        now.insert(ours.reference.clone(), (ours.vm, server));
    }
    for (_, (vm, server)) in
        std::mem::take(known).into_iter().filter(|(r, _)| !now.contains_key(r) && !pool.is_removed_by_us(r))
    {
        tell(driver, vm_down, vm, server, "it was removed or has stopped").await;
    }
    *known = now;
    Ok(())
}

async fn tell(driver: &Xapi, vm_down: &mpsc::Sender<VmDown>, vm: VmId, server: Option<ServerId>, why: &str) {
    let Some(server) = server else { return };
    if driver.is_busy(vm) {
        return;
    }
    // It may run in another pool, or again here, if somebody has moved it.
    for pool in driver.pools.all() {
        if let Ok(Some(ours)) = pool.find(vm).await
            && ours.record.power_state == "Running"
        {
            return;
        }
    }
    let _ = vm_down.send(VmDown { server, vm, why: why.to_owned() }).await;
}
