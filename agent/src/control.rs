//! The socket of `tandem-agent status` and `tandem-agent counters`: a line asks, a line of JSON answers. Only root and the agent's own
//! user can open it.

use crate::datapath::SwitchReport;
use crate::desired::Fault;
use crate::worker::Worker;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// What the agent says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its controller is.
    pub controller: String,
    /// True while it is connected.
    pub connected: bool,
    /// Why it is not.
    pub trouble: String,
    /// The generation that was applied last; 0 is none.
    pub generation: u64,
    /// True once a desired state was applied.
    pub applied: bool,
    /// What of it could not be done.
    pub faults: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// How many requests it took; 0 when all was so already.
    pub changes: usize,
}

/// The status, as it is shared.
pub type Shared = Arc<Mutex<Status>>;

/// Changes the status.
pub fn note(status: &Shared, change: impl FnOnce(&mut Status)) {
    change(&mut status.lock().unwrap_or_else(PoisonError::into_inner));
}

/// What became of an application, for the status.
pub fn note_applied(status: &Shared, generation: u64, faults: &[Fault], took_ms: f64, changes: usize) {
    note(status, |s| {
        (s.generation, s.applied, s.took_ms, s.changes) = (generation, true, took_ms, changes);
        s.faults = faults.iter().map(ToString::to_string).collect();
    });
}

/// Listens, taking over a socket whose owner is gone.
///
/// # Errors
/// When an agent listens there already, or the socket cannot be made.
pub async fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    use anyhow::Context;
    if UnixStream::connect(path).await.is_ok() {
        anyhow::bail!(
            "an agent is running already (it answers on {}); `systemctl status tandem-agent` shows it",
            path.display()
        );
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the process ends.
pub async fn serve(listener: UnixListener, worker: Worker, status: Shared) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, worker.clone(), status.clone()));
            }
            Err(error) => {
                tracing::error!("the control socket: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, worker: Worker, status: Shared) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(1 << 16)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.trim() {
            "status" => serde_json::to_string(&*status.lock().unwrap_or_else(PoisonError::into_inner)),
            "report" => match worker.report().await {
                Ok(reported) => {
                    // Notices are for the controller; they were told in the log.
                    serde_json::to_string::<Vec<SwitchReport>>(&reported.switches)
                }
                Err(error) => serde_json::to_string(&serde_json::json!({ "error": error.to_string() })),
            },
            "flows" => match worker.views().await {
                Ok(views) => serde_json::to_string(&views),
                Err(error) => serde_json::to_string(&serde_json::json!({ "error": error.to_string() })),
            },
            other => serde_json::to_string(
                &serde_json::json!({ "error": format!("{other:?} is not known; write status, report or flows") }),
            ),
        };
        let Ok(text) = answer else { return };
        if write.write_all(format!("{text}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
