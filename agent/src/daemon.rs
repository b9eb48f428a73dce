//! The agent as a daemon: it applies the last desired state again, serves its control socket, keeps
//! a session with its controller, and ends on a signal.

use crate::config::Config;
use crate::control::{self, Status, note, note_applied};
use crate::datapath::{Adopt, RunMode};
use crate::desired::Desired;
use crate::worker::Worker;
use crate::{local_socket, service_manager, session};
use anyhow::Context;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Runs until SIGTERM or SIGINT, or until the worker has ended. The applied state stays in place.
///
/// When a socket cannot be opened, or the worker has ended: the supervisor has to start the agent
/// again.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let peers = local_socket::peers(config.group.as_deref())?;
    let listener = control::listen(&config.control, config.group.as_deref()).await?;
    let worker = Worker::start(&config, RunMode::Daemon)?;
    let status = Arc::new(Mutex::new(Status {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        controller: config.controller.to_string(),
        ..Status::default()
    }));
    let serving = tokio::spawn(control::serve(listener, peers, worker.clone(), status.clone()));
    // The last applied state takes precedence over the initial one.
    let mut first = worker.resume().await?;
    if let (None, Some(file)) = (&first, &config.initial) {
        first = Some(worker.apply(read_desired(file)?, Adopt::No).await?);
    }
    if let Some((outcome, took)) = first {
        outcome.faults.iter().for_each(|f| tracing::warn!("{f}"));
        note_applied(&status, 0, &outcome.faults, took.as_secs_f64() * 1e3, outcome.changes);
    }
    service_manager::ready();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut ended = Ok(());
    tokio::select! {
        // An error, so that the supervisor starts the agent again.
        why = session::run(&config, &worker, &status) => ended = Err(why),
        () = service_manager::keep_alive(&worker) => {}
        _ = term.recv() => tracing::info!("stopping; what was applied stays"),
        _ = int.recv() => tracing::info!("stopping; what was applied stays"),
    }
    note(&status, |s| s.connected = false);
    serving.abort();
    // The limit guards against a card that hangs.
    let _ = tokio::time::timeout(Duration::from_secs(5), worker.end()).await;
    let _ = std::fs::remove_file(&config.control);
    Ok(ended?)
}

/// Reads a desired state from a file.
///
/// When it cannot be read, or with all contradictions in it.
pub fn read_desired(file: &Path) -> anyhow::Result<Desired> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Desired::parse(&text)
        .with_context(|| format!("nothing was changed: {} is no desired state", file.display()))
}
