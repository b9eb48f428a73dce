//! The thread that owns the datapaths: commands come one at a time, so that no two applications meet.

use crate::config::Config;
use crate::datapath::{self, Datapaths, Outcome, Presented, SwitchReport};
use crate::desired::{Desired, Fault};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

enum Command {
    Present(oneshot::Sender<Vec<Presented>>),
    Apply(Desired, oneshot::Sender<(Outcome, Duration)>),
    Report(oneshot::Sender<Vec<SwitchReport>>),
    Release(oneshot::Sender<Result<(), String>>),
}

/// Asks the worker. Cheap to clone.
#[derive(Clone)]
pub struct Worker(mpsc::Sender<Command>);

/// The worker's thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the agent's worker has ended")]
pub struct Ended;

struct State {
    datapaths: Datapaths,
    wanted: Desired,
    file: PathBuf,
}

impl Worker {
    /// Starts the thread. What was applied last is known from the state folder, so that reports go on after a restart.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(config: &Config) -> std::io::Result<Worker> {
        let (sender, receiver) = mpsc::channel();
        let file = config.state.join("desired.toml");
        let mut state = State { datapaths: datapath::open(config), wanted: load(&file), file };
        std::thread::Builder::new().name("worker".into()).stack_size(512 << 10).spawn(move || {
            while let Ok(command) = receiver.recv() {
                state.carry_out(command);
            }
        })?;
        Ok(Worker(sender))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Ended> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(command(sender)).map_err(|_| Ended)?;
        receiver.await.map_err(|_| Ended)
    }

    /// What the host has.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn present(&self) -> Result<Vec<Presented>, Ended> {
        self.ask(Command::Present).await
    }

    /// Applies a desired state; also how long it took.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn apply(&self, desired: Desired) -> Result<(Outcome, Duration), Ended> {
        self.ask(|reply| Command::Apply(desired, reply)).await
    }

    /// What is there.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn report(&self) -> Result<Vec<SwitchReport>, Ended> {
        self.ask(Command::Report).await
    }

    /// Gives everything back as it was found.
    ///
    /// # Errors
    /// When the worker has ended. Inside: what is left.
    pub async fn release(&self) -> Result<Result<(), String>, Ended> {
        self.ask(Command::Release).await
    }
}

impl State {
    fn carry_out(&mut self, command: Command) {
        // Whoever asked may have gone; what was asked is done all the same.
        match command {
            Command::Present(reply) => drop(reply.send(self.datapaths.present())),
            Command::Report(reply) => drop(reply.send(self.datapaths.report(&self.wanted.switches))),
            Command::Apply(desired, reply) => {
                let start = Instant::now();
                let mut outcome = self.datapaths.apply(&desired.switches);
                if desired != self.wanted {
                    if let Err(error) = save(&self.file, &desired) {
                        let why = format!("the state could not be kept for a restart: {error}");
                        outcome.faults.push(Fault::new("", None, why));
                    }
                    self.wanted = desired;
                }
                let _ = reply.send((outcome, start.elapsed()));
            }
            Command::Release(reply) => {
                let result = self.datapaths.release();
                if result.is_ok() {
                    self.wanted = Desired::default();
                    let _ = std::fs::remove_file(&self.file);
                }
                let _ = reply.send(result);
            }
        }
    }
}

/// What was applied last; nothing if that is not known any more.
fn load(file: &Path) -> Desired {
    let Ok(text) = std::fs::read_to_string(file) else { return Desired::default() };
    toml::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!("{} is damaged and is left out of account: {error}", file.display());
        Desired::default()
    })
}

/// Whole or not at all: written beside, then moved over.
fn save(file: &Path, desired: &Desired) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("new");
    std::fs::write(&beside, toml::to_string(desired)?)?;
    std::fs::rename(&beside, file)?;
    Ok(())
}
