//! A VM's end: it shuts down, is stopped hard when it does not, and is removed with its disks.
//!
//! Disks go first: if the rest is cut, the VM is still there to be found and removed. A disk that
//! another VM uses too stays, and so does what is in a CD drive.

use super::errors::Deed;
use super::pool::Pool;
use super::records::{NULL, Vbd, Vdi, Vm};
use super::session::CallError;
use super::task::{self, TaskError, Timeouts};
use crate::VmmError;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Before something is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// Stops and removes; what is gone already is as good.
///
/// # Errors
/// When it may still be there.
pub(super) async fn remove(pool: &Pool, deed: &Deed<'_>, reference: &str) -> Result<(), VmmError> {
    let deadline = Instant::now() + pool.cfg.limits.cancel;
    pool.note_removal(reference);
    loop {
        match steps(pool, reference).await {
            Ok(()) => return Ok(()),
            // Somebody has removed it while we were at it.
            Err(TaskError::Call(error)) if error.code() == "HANDLE_INVALID" => return Ok(()),
            // Something that began before, and of which nobody knew, goes on or has just ended.
            Err(TaskError::Call(error)) if is_busy(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            Err(error) => {
                pool.forget_removal(reference);
                return Err(deed.ended(error));
            }
        }
    }
}

fn is_busy(error: &CallError) -> bool {
    matches!(
        error.code(),
        "OTHER_OPERATION_IN_PROGRESS" | "VM_BAD_POWER_STATE" | "VDI_IN_USE" | "OPERATION_NOT_ALLOWED"
    )
}

async fn steps(pool: &Pool, reference: &str) -> Result<(), TaskError> {
    let session = &pool.session;
    halt(pool, reference).await?;
    let record: Vm = session.ask("VM.get_record", vec![json!(reference)]).await?;
    for vbd in &record.vbds {
        let vbd: Vbd = match session.ask("VBD.get_record", vec![json!(vbd)]).await {
            Err(error) if error.code() == "HANDLE_INVALID" => continue,
            other => other?,
        };
        if vbd.kind != "Disk" || vbd.vdi == NULL || vbd.vdi.is_empty() {
            continue;
        }
        let vdi: Vdi = match session.ask("VDI.get_record", vec![json!(vbd.vdi)]).await {
            Err(error) if error.code() == "HANDLE_INVALID" => continue,
            other => other?,
        };
        if vdi.vbds.len() <= 1 {
            gone(session.call("VDI.destroy", vec![json!(vbd.vdi)]).await)?;
        }
    }
    match session.call("VM.destroy", vec![json!(reference)]).await {
        // Looked up: the answer was cut, the deed may have been done.
        Err(error) if error.is_in_doubt() => {
            match session.ask::<Vm>("VM.get_record", vec![json!(reference)]).await {
                Err(error) if error.code() == "HANDLE_INVALID" => Ok(()),
                _ => Err(error.into()),
            }
        }
        other => Ok(gone(other)?),
    }
}

/// Stops a VM: as its guest wishes, and hard when it does not in time.
///
/// # Errors
/// When it may still run.
pub(super) async fn stop(pool: &Pool, deed: &Deed<'_>, reference: &str) -> Result<(), VmmError> {
    let deadline = Instant::now() + pool.cfg.limits.cancel;
    loop {
        match halt(pool, reference).await {
            Err(TaskError::Call(error)) if is_busy(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            other => return other.map_err(|e| deed.ended(e)),
        }
    }
}

async fn halt(pool: &Pool, reference: &str) -> Result<(), TaskError> {
    let session = &pool.session;
    let state = || session.ask::<String>("VM.get_power_state", vec![json!(reference)]);
    let limits = pool.cfg.limits;
    let timeouts =
        Timeouts { limit: limits.shutdown, cancel_limit: limits.cancel, cancel: CancellationToken::new() };
    quiet(pool, reference).await?;
    if state().await? == "Running" {
        let asked =
            task::run(session, "VM.clean_shutdown", vec![json!(reference)], &timeouts, &mut |_| {}).await;
        if let Err(why) = asked {
            tracing::info!("{reference}: its guest does not shut down ({why}); stopping it hard");
            // Its task may be under way, if nobody knows what became of it.
            quiet(pool, reference).await?;
        }
    }
    if state().await? == "Halted" {
        return Ok(());
    }
    let hard = task::run(session, "VM.hard_shutdown", vec![json!(reference)], &timeouts, &mut |_| {}).await;
    match hard {
        Ok(_) => Ok(()),
        Err(why) => match state().await {
            Ok(state) if state == "Halted" => Ok(()),
            Err(error) if error.code() == "HANDLE_INVALID" => Err(error.into()),
            _ => Err(why),
        },
    }
}

/// What is still being done with a VM is cancelled, and waited for.
async fn quiet(pool: &Pool, reference: &str) -> Result<(), CallError> {
    let deadline = Instant::now() + pool.cfg.limits.cancel;
    let mut cancelled = false;
    loop {
        let record: Vm = pool.session.ask("VM.get_record", vec![json!(reference)]).await?;
        // What cannot be cancelled and does not end: what comes next says so.
        if record.current_operations.is_empty() || Instant::now() > deadline {
            return Ok(());
        }
        if !cancelled {
            cancelled = true;
            for task in record.current_operations.keys() {
                if let Err(error) = pool.session.call("task.cancel", vec![json!(task)]).await {
                    tracing::debug!("task.cancel {task}: {error}");
                }
            }
        }
        sleep(PAUSE).await;
    }
}

fn gone(answer: Result<super::rpc::Value, CallError>) -> Result<(), CallError> {
    match answer {
        Err(error) if error.code() == "HANDLE_INVALID" => Ok(()),
        other => other.map(drop),
    }
}
