//! Removes a VM: it is shut down, forced off if that fails, and removed with its disks.
//!
//! Disks go first: if the rest is interrupted, the VM can still be found and removed. A disk that
//! another VM uses too stays, and so does the medium in a CD drive.

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

/// Pause before a state is read again.
const PAUSE: Duration = Duration::from_millis(200);

/// Stops and removes a VM; succeeds if it is gone.
///
/// When it may still exist.
pub(super) async fn remove(pool: &Pool, deed: &Deed<'_>, reference: &str) -> Result<(), VmmError> {
    let deadline = Instant::now() + pool.cfg.limits.cancel;
    pool.note_removal(reference);
    loop {
        match steps(pool, reference).await {
            Ok(()) => return Ok(()),
            // Somebody else has removed it meanwhile.
            Err(TaskError::Call(error)) if error.code() == "HANDLE_INVALID" => return Ok(()),
            // An earlier, unknown operation is under way, or has just ended.
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
        // The reply was lost: whether the call was executed has to be checked.
        Err(error) if error.is_in_doubt() => {
            match session.ask::<Vm>("VM.get_record", vec![json!(reference)]).await {
                Err(error) if error.code() == "HANDLE_INVALID" => Ok(()),
                _ => Err(error.into()),
            }
        }
        other => Ok(gone(other)?),
    }
}

/// Stops a VM: by its guest, and by force if that takes too long.
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
            // An operation may be under way whose result is unknown.
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

/// Cancels the operations on a VM, and waits for their end.
async fn quiet(pool: &Pool, reference: &str) -> Result<(), CallError> {
    let deadline = Instant::now() + pool.cfg.limits.cancel;
    let mut cancelled = false;
    loop {
        let record: Vm = pool.session.ask("VM.get_record", vec![json!(reference)]).await?;
        // An operation that cannot be cancelled and does not end makes the next call fail.
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
