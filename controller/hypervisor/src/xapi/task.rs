//! Long calls: started as a task, followed, cancelled, and removed when they have ended.
//!
//! 1. `Async.CLASS.method` returns a task. If the reply is lost, it is unknown whether there is
//!    one: [`TaskError::InDoubt`], and the caller checks the object to be changed.
//! 2. A long poll (`event.from` on that task) waits for a change; the task's record has its
//!    progress. If a server does not support such polls, the record alone is read.
//! 3. A task that does not end in time, or is no longer wanted, is cancelled, and waited for again.
//!    One that does not end even then is [`TaskError::Hung`].
//! 4. A task that has ended is destroyed, as their records would accumulate.

use super::records::{EventBatch, Task};
use super::rpc::{Failure, Malformed, Value, xml};
use super::session::{CallError, Session};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The time-out of a poll: also the longest delay of a change whose event was lost.
const WAIT: Duration = Duration::from_secs(5);

/// The shortest interval of polls, for a pool that answers at once without news.
const PAUSE: Duration = Duration::from_millis(20);

/// Interval of reads if there are no events.
const POLL: Duration = Duration::from_millis(500);

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It failed, or could not be started.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It was cancelled on request.
    #[error("cancelled")]
    Cancelled,
    /// It took too long and was cancelled; it has ended.
    #[error("cancelled after {0:?}")]
    TimedOut(Duration),
    /// It took too long, and has not ended even after it was cancelled.
    #[error("it has not ended within {0:?}, nor after it was cancelled")]
    Hung(Duration),
    /// It is unknown whether it was started; or it cannot be read any more.
    #[error("it is unknown whether it was executed: {0}")]
    InDoubt(CallError),
}

/// Time-outs and cancellation of a task.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For the whole task.
    pub limit: Duration,
    /// For its end after it was cancelled.
    pub cancel_limit: Duration,
    /// Cancels it.
    pub cancel: CancellationToken,
}

/// Starts a task and waits for its end. `progress` is called with its progress, from 0 to 1.
///
/// # Errors
/// See [`TaskError`].
pub async fn run(
    session: &Session,
    method: &str,
    params: Vec<Value>,
    timeouts: &Timeouts,
    progress: &mut (dyn FnMut(f64) + Send),
) -> Result<Value, TaskError> {
    if timeouts.cancel.is_cancelled() {
        return Err(TaskError::Cancelled);
    }
    let started = match session.call(&format!("Async.{method}"), params).await {
        Ok(value) => session.read::<String>(value)?,
        Err(error) if error.is_in_doubt() => return Err(TaskError::InDoubt(error)),
        Err(error) => return Err(error.into()),
    };
    follow(session, &started, timeouts, progress).await
}

/// Waits for the end of a running task.
///
/// # Errors
/// See [`TaskError`].
pub async fn follow(
    session: &Session,
    task: &str,
    timeouts: &Timeouts,
    progress: &mut (dyn FnMut(f64) + Send),
) -> Result<Value, TaskError> {
    let start = Instant::now();
    let mut given_up: Option<(Instant, bool)> = None;
    let mut token = String::new();
    let mut events = true;
    let ended = loop {
        match session.ask::<Task>("task.get_record", vec![json!(task)]).await {
            Ok(record) => match record.status.as_str() {
                "pending" | "cancelling" => progress(record.progress),
                _ => break Ok(record),
            },
            Err(error) if error.code() == "HANDLE_INVALID" => break Err(error),
            // The master is unreachable for a while; the task goes on.
            Err(error) if start.elapsed() >= timeouts.limit => return Err(TaskError::InDoubt(error)),
            Err(CallError::Refused(failure)) => return Err(CallError::Refused(failure).into()),
            Err(_) => sleep(POLL).await,
        }
        let deadline = match given_up {
            Some((at, _)) => at + timeouts.cancel_limit,
            None => start + timeouts.limit,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() && given_up.is_some() {
            return Err(TaskError::Hung(timeouts.limit));
        }
        if given_up.is_none() && (left.is_zero() || timeouts.cancel.is_cancelled()) {
            given_up = Some((Instant::now(), timeouts.cancel.is_cancelled()));
            // Refused if it can no longer be cancelled: then it ends by itself.
            if let Err(error) = session.call("task.cancel", vec![json!(task)]).await {
                tracing::debug!("task.cancel {task}: {error}");
            }
            continue;
        }
        let wait = wait(session, task, &mut token, &mut events, WAIT.min(left));
        tokio::select! {
            () = wait => {}
            () = timeouts.cancel.cancelled(), if given_up.is_none() => {}
        }
    };
    let record = match ended {
        Ok(record) => record,
        Err(gone) => return Err(TaskError::InDoubt(gone)),
    };
    // A record that stays does no harm.
    if let Err(error) = session.call("task.destroy", vec![json!(task)]).await {
        tracing::debug!("task.destroy {task}: {error}");
    }
    if record.status == "success" {
        progress(1.0);
        return result(&record.result).map_err(|source| {
            CallError::Malformed { route: session.access().name.clone(), cause: source }.into()
        });
    }
    Err(failure_of(record, given_up.map(|(_, cancelled)| cancelled), timeouts))
}

/// The error of a task that ended without success. `given_up` is `None` if it ended by itself, true
/// if it was cancelled on request, and false if it was cancelled because it took too long.
fn failure_of(record: Task, given_up: Option<bool>, timeouts: &Timeouts) -> TaskError {
    let cancelled = || match given_up {
        Some(false) => TaskError::TimedOut(timeouts.limit),
        Some(true) | None => TaskError::Cancelled,
    };
    if record.status == "cancelled" {
        return cancelled();
    }
    let list = record.error_info.into_iter().map(Value::String).collect();
    let failure =
        Failure::from_list(list).unwrap_or(Failure { code: "UNKNOWN".to_owned(), args: vec![record.status] });
    match failure.code.as_str() {
        "TASK_CANCELLED" => cancelled(),
        _ => CallError::Refused(failure).into(),
    }
}

/// Waits until the task has changed, or for `limit`.
async fn wait(session: &Session, task: &str, token: &mut String, events: &mut bool, limit: Duration) {
    if !*events {
        return sleep(POLL.min(limit)).await;
    }
    let params = vec![json!([format!("task/{task}")]), json!(token), json!(limit.as_secs_f64())];
    let answer = session.call_within("event.from", params, limit + session.access().limit).await;
    match answer.and_then(|v| session.read::<EventBatch>(v)) {
        Ok(batch) => {
            *token = batch.token;
            sleep(PAUSE.min(limit)).await;
        }
        Err(error) => {
            // After a lost event the task goes on: its record is read in any case.
            *events = error.code().is_empty() || error.code() == "EVENTS_LOST";
            token.clear();
            sleep(POLL.min(limit)).await;
        }
    }
}

/// A task's result is text: an XML-RPC value, or empty.
fn result(text: &str) -> Result<Value, Malformed> {
    let text = text.trim();
    if text.is_empty() {
        Ok(Value::Null)
    } else if text.starts_with('<') {
        xml::decode_value(text)
    } else {
        Ok(json!(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_a_value_or_nothing() {
        assert_eq!(result("<value>OpaqueRef:1</value>"), Ok(json!("OpaqueRef:1")));
        assert_eq!(result("<value><array><data></data></array></value>"), Ok(json!([])));
        assert_eq!(result(""), Ok(Value::Null));
        assert_eq!(result("OpaqueRef:2"), Ok(json!("OpaqueRef:2")));
        assert!(result("<value>").is_err());
    }
}
