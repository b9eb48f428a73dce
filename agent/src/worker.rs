//! The thread that owns the datapaths: commands come one at a time, so that no two applications
//! meet. Every second it looks whether what was applied is still so, and puts right what is not.

use crate::config::Config;
use crate::datapath::soft::SwitchDump;
use crate::datapath::{self, Adopt, ApplyResult, Datapaths, RunMode, SwitchCapabilities, SwitchReport};
use crate::desired::{Desired, Fault};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How often is looked whether all is still as it was applied.
const RECONCILE_PERIOD: Duration = Duration::from_secs(1);
/// The most notices that wait for somebody who reads them; then the oldest go. All of them are in
/// the log.
const NOTICES: usize = 64;

/// Orders that wait for the worker: each caller waits for its answer, so this is how many callers
/// there may be at a time (the session, and one for each line on the control socket) before the
/// next one is refused because the agent is busy.
const ORDERS: usize = 64;

enum Command {
    End(oneshot::Sender<()>),
    Ping(oneshot::Sender<()>),
    Capabilities(oneshot::Sender<Vec<SwitchCapabilities>>),
    DisruptiveChanges(Desired, oneshot::Sender<Vec<Fault>>),
    Apply(Desired, Adopt, oneshot::Sender<(ApplyResult, Duration)>),
    Resume(oneshot::Sender<Option<(ApplyResult, Duration)>>),
    TakeEvents(oneshot::Sender<Vec<Fault>>),
    Report(oneshot::Sender<Reported>),
    DumpFlows(oneshot::Sender<Vec<(String, SwitchDump)>>),
    Release(oneshot::Sender<Result<Vec<String>, String>>),
    #[cfg(test)]
    Panic,
}

/// What is there, and what has happened since the last report.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    /// Switches with their ports.
    pub switches: Vec<SwitchReport>,
    /// What somebody should know, each reported once.
    pub notices: Vec<Fault>,
}

/// Asks the worker. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    orders: mpsc::SyncSender<Command>,
    /// Its sender is the thread's: gone with it, however it ends.
    alive: watch::Receiver<()>,
}

/// The worker cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Its thread has ended.
    #[error(
        "the agent's worker has ended; what was applied stays, and the next start of the agent goes on by it"
    )]
    Over,
    /// Too many have asked and were not answered yet.
    #[error("the agent is busy: {ORDERS} requests wait already; try again")]
    Busy,
}

struct State {
    datapaths: Datapaths,
    wanted: Desired,
    file: PathBuf,
    /// What mending could not do, to be reported when it changes.
    trouble: Vec<Fault>,
    notices: VecDeque<Fault>,
}

impl Worker {
    /// Starts the thread. What was applied last is known from the state folder, so that reports go
    /// on after a restart. In a daemon it looks every second whether what was applied is still so,
    /// and repairs it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(config: &Config, mode: RunMode) -> std::io::Result<Worker> {
        let (sender, receiver) = mpsc::sync_channel(ORDERS);
        let file = config.state.join("desired.toml");
        let mut state = State {
            datapaths: Datapaths::open(config, mode),
            wanted: load(&file),
            file,
            trouble: Vec::new(),
            notices: VecDeque::new(),
        };
        let (life, alive) = watch::channel(());
        let work = move || {
            let _life = life;
            let mut next = Instant::now() + RECONCILE_PERIOD;
            loop {
                let command = if mode == RunMode::Daemon {
                    receiver.recv_timeout(next.saturating_duration_since(Instant::now()))
                } else {
                    receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
                };
                match command {
                    Ok(Command::End(reply)) => {
                        // What was applied stays; switches in this program say good-bye to what is
                        // under them.
                        drop(state);
                        let _ = reply.send(());
                        return;
                    }
                    Ok(command) => state.execute(command),
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        state.reconcile();
                        next = Instant::now() + RECONCILE_PERIOD;
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        std::thread::Builder::new().name("worker".into()).stack_size(512 << 10).spawn(work)?;
        Ok(Worker { orders: sender, alive })
    }

    /// Returns when the thread has ended: by [`Worker::end`], or because it panicked. Nobody makes
    /// switches what they are to be from then on, so whoever runs the agent is to end too, with an
    /// error: the next process goes on by what is in the state folder.
    pub async fn ended(&self) -> Ended {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
        Ended::Over
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Ended> {
        let (sender, receiver) = oneshot::channel();
        self.orders.try_send(command(sender)).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => Ended::Busy,
            mpsc::TrySendError::Disconnected(_) => Ended::Over,
        })?;
        receiver.await.map_err(|_| Ended::Over)
    }

    /// Waits until the worker has done what was asked before, which shows that it is not stuck.
    ///
    /// # Errors
    /// When the worker has ended, or has no room for one more request.
    pub async fn ping(&self) -> Result<(), Ended> {
        self.ask(Command::Ping).await
    }

    /// What the host has.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn capabilities(&self) -> Result<Vec<SwitchCapabilities>, Ended> {
        self.ask(Command::Capabilities).await
    }

    /// Switches whose forwarding would stop for a moment if this were applied, each with why.
    /// Changes nothing.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn disruptive_changes(&self, desired: Desired) -> Result<Vec<Fault>, Ended> {
        self.ask(|reply| Command::DisruptiveChanges(desired, reply)).await
    }

    /// Applies a desired state; also how long it took. `adopt` says which bridges of somebody else
    /// may be taken over.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn apply(&self, desired: Desired, adopt: Adopt) -> Result<(ApplyResult, Duration), Ended> {
        self.ask(|reply| Command::Apply(desired, adopt, reply)).await
    }

    /// Applies what was applied last again: an agent that was killed in the middle of it finishes
    /// it so. `None` if there is nothing.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn resume(&self) -> Result<Option<(ApplyResult, Duration)>, Ended> {
        self.ask(Command::Resume).await
    }

    /// What has happened that somebody should know; what is still being measured is waited for.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn take_events(&self) -> Result<Vec<Fault>, Ended> {
        self.ask(Command::TakeEvents).await
    }

    /// What is there.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn report(&self) -> Result<Reported, Ended> {
        self.ask(Command::Report).await
    }

    /// What switches that live in this program show of themselves, by name.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn dump_flows(&self) -> Result<Vec<(String, SwitchDump)>, Ended> {
        self.ask(Command::DumpFlows).await
    }

    /// Ends the thread, and the switches that live in this program. What was applied stays.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn end(&self) -> Result<(), Ended> {
        self.ask(Command::End).await
    }

    /// Gives everything back as it was found, but for what somebody else has changed since, which
    /// is returned as text.
    ///
    /// # Errors
    /// When the worker has ended. Inside: what is left.
    pub async fn release(&self) -> Result<Result<Vec<String>, String>, Ended> {
        self.ask(Command::Release).await
    }
}

impl State {
    fn execute(&mut self, command: Command) {
        // Whoever asked may have gone; what was asked is done all the same.
        match command {
            Command::End(_) => {}
            Command::Ping(reply) => drop(reply.send(())),
            #[cfg(test)]
            Command::Panic => panic!("as the test wants it"),
            Command::Capabilities(reply) => drop(reply.send(self.datapaths.capabilities())),
            Command::DisruptiveChanges(desired, reply) => {
                drop(reply.send(self.datapaths.disruptive_changes(&desired.switches)))
            }
            Command::TakeEvents(reply) => {
                self.gather(true);
                let _ = reply.send(self.notices.drain(..).collect());
            }
            Command::Report(reply) => {
                self.gather(false);
                let switches = self.datapaths.report(&self.wanted.switches);
                let _ = reply.send(Reported { switches, notices: self.notices.drain(..).collect() });
            }
            Command::DumpFlows(reply) => drop(reply.send(self.datapaths.dump_flows())),
            Command::Apply(desired, adopt, reply) => drop(reply.send(self.apply(desired, adopt))),
            Command::Resume(reply) => {
                let there = !self.wanted.switches.is_empty();
                let _ = reply.send(there.then(|| self.apply(self.wanted.clone(), Adopt::No)));
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

    fn apply(&mut self, desired: Desired, adopt: Adopt) -> (ApplyResult, Duration) {
        let start = Instant::now();
        let mut unsaved = None;
        // Before anything is touched: who is killed in the middle of it finishes it on the next
        // start.
        if desired != self.wanted {
            unsaved = save(&self.file, &desired).err();
            self.wanted = desired;
        }
        let mut outcome = self.datapaths.apply(&self.wanted.switches, adopt);
        self.trouble.clear();
        if let Some(error) = unsaved {
            let why = format!("the state could not be kept for a restart: {error}");
            outcome.faults.push(Fault::new("", None, why));
        }
        self.gather(false);
        (outcome, start.elapsed())
    }

    fn reconcile(&mut self) {
        let outcome = self.datapaths.reconcile();
        if outcome.faults != self.trouble {
            let new: Vec<Fault> =
                outcome.faults.iter().filter(|f| !self.trouble.contains(f)).cloned().collect();
            self.trouble = outcome.faults;
            new.into_iter().for_each(|fault| self.note(fault));
        }
        self.gather(false);
    }

    fn gather(&mut self, wait: bool) {
        for notice in self.datapaths.take_events(wait) {
            self.note(notice);
        }
    }

    fn note(&mut self, notice: Fault) {
        tracing::warn!("{notice}");
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
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

fn save(file: &Path, desired: &Desired) -> anyhow::Result<()> {
    Ok(datapath::record::write(file, toml::to_string(desired)?.as_bytes())?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A worker of a host with no switches.
    pub(crate) fn idle(folder: &Path) -> (Config, Worker) {
        let at = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "name = \"mini1\"\ncontroller = \"unix:{}\"\nstate = {:?}\ncontrol = {:?}\n[ovs]\ndatabase = {:?}\n",
            at("nobody.sock"),
            at("state"),
            at("control.sock"),
            at("db.sock")
        );
        let file = folder.join("agent.toml");
        std::fs::write(&file, text).expect("a file");
        let config = Config::read(&file).expect("a good one");
        let worker = Worker::start(&config, RunMode::Command).expect("a thread");
        (config, worker)
    }

    /// Lets its thread panic.
    pub(crate) fn panic(worker: &Worker) {
        worker.orders.try_send(Command::Panic).expect("it waits for orders");
    }

    #[tokio::test]
    async fn that_its_thread_has_ended_is_known_however_it_ends() {
        for how in ["asked", "panicked"] {
            let folder = tempfile::tempdir().expect("a folder");
            let (_, worker) = idle(folder.path());
            let soon = tokio::time::timeout(Duration::from_millis(10), worker.ended());
            assert!(soon.await.is_err(), "it runs");
            if how == "asked" {
                worker.end().await.expect("it runs")
            } else {
                panic(&worker)
            }
            let ended = tokio::time::timeout(Duration::from_secs(60), worker.ended()).await;
            assert!(matches!(ended, Ok(Ended::Over)), "{how}");
            assert!(matches!(worker.capabilities().await, Err(Ended::Over)), "{how}");
        }
    }
}
