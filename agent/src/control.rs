//! The socket of `tandem-agent status` and `tandem-agent counters`: each request is a line, each
//! reply a line of JSON. Only root, the agent's own user and the group in agent.toml get replies.

use crate::datapath::SwitchReport;
use crate::desired::Fault;
use crate::local_socket;
use crate::peer_lines::PeerLines;
use crate::worker::Worker;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tandem_agent_protocol::local_peers::LocalPeers;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Connections at a time. `tandem-agent status` needs one for a moment; a program that polls the
/// counters keeps one. Further ones wait.
const CONNECTIONS: usize = 32;
/// How long a client may take to send a line, and to read the reply.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the status waits for the datapaths' part: it has to come also while a state is being
/// applied.
const SOON: Duration = Duration::from_secs(1);

/// The agent's status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The controller's address.
    pub controller: String,
    /// True while it is connected.
    pub connected: bool,
    /// Why it is not connected.
    pub trouble: String,
    /// The generation of the desired state that was applied last; 0 for none.
    pub generation: u64,
    /// True once a desired state was applied.
    pub applied: bool,
    /// Its parts that could not be applied.
    pub faults: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// Number of requests that changed something; 0 if nothing had to be changed.
    pub changes: usize,
    /// Remarks of the datapaths for people (such as about a card, and whether it forwards), by
    /// switch, a line each. Left out when the worker is busy.
    #[serde(default)]
    pub about: BTreeMap<String, Vec<String>>,
}

/// The status, as it is shared.
pub type Shared = Arc<Mutex<Status>>;

/// Changes the status.
pub fn note(status: &Shared, change: impl FnOnce(&mut Status)) {
    change(&mut status.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Records the result of an application in the status.
pub fn note_applied(status: &Shared, generation: u64, faults: &[Fault], took_ms: f64, changes: usize) {
    note(status, |s| {
        (s.generation, s.applied, s.took_ms, s.changes) = (generation, true, took_ms, changes);
        s.faults = faults.iter().map(ToString::to_string).collect();
    });
}

/// Listens; replaces the socket of a process that has ended.
///
/// When another agent listens there, or the socket cannot be created.
pub async fn listen(path: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
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
    let listener =
        local_socket::listen(path, group).with_context(|| format!("cannot listen on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// Answers requests until the process ends.
pub async fn serve(listener: UnixListener, peers: LocalPeers, worker: Worker, status: Shared) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut lines = PeerLines::default();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((mut stream, _)) => {
                if let Err(why) = local_socket::check_peer(&stream, &peers) {
                    lines.warn(|| format!("the control socket: {why}"));
                    let text = serde_json::json!({ "error": why });
                    let _ = stream.try_write(format!("{text}\n").as_bytes());
                    let _ = stream.shutdown().await;
                    continue;
                }
                let (worker, status) = (worker.clone(), status.clone());
                tokio::spawn(async move {
                    answer(stream, worker, status).await;
                    drop(place);
                });
            }
            Err(error) => {
                lines.warn(|| format!("the control socket: {error}"));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// The status, with the datapaths' part if the worker answers in time.
async fn with_switches(worker: &Worker, status: &Shared) -> Status {
    let views = tokio::time::timeout(SOON, worker.dump_flows()).await;
    let mut now = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Ok(Ok(views)) = views {
        let about = views.into_iter().map(|(name, view)| (name, view.about));
        now.about = about.filter(|(_, lines)| !lines.is_empty()).collect();
    }
    now
}

async fn answer(stream: UnixStream, worker: Worker, status: Shared) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(1 << 16)).lines();
    while let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, lines.next_line()).await {
        let answer = match line.trim() {
            "status" => serde_json::to_string(&with_switches(&worker, &status).await),
            "report" => match worker.report().await {
                Ok(reported) => {
                    // Notices go to the controller and to the log.
                    serde_json::to_string::<Vec<SwitchReport>>(&reported.switches)
                }
                Err(error) => serde_json::to_string(&serde_json::json!({ "error": error.to_string() })),
            },
            "flows" => match worker.dump_flows().await {
                Ok(views) => serde_json::to_string(&views),
                Err(error) => serde_json::to_string(&serde_json::json!({ "error": error.to_string() })),
            },
            other => serde_json::to_string(
                &serde_json::json!({ "error": format!("{other:?} is not known; write status, report or flows") }),
            ),
        };
        let Ok(text) = answer else { return };
        let line = format!("{text}\n");
        let written = tokio::time::timeout(PATIENCE, write.write_all(line.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}
