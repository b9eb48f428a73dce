//! The thread that owns the datapaths: it executes one command at a time, so that applications do
//! not overlap. Every second it checks whether the applied state is intact, and repairs it.

use crate::config::Config;
use crate::datapath::soft::SwitchDump;
use crate::datapath::{self, Adopt, ApplyResult, Datapaths, RunMode, SwitchCapabilities, SwitchReport};
use crate::desired::{Desired, Fault};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// The interval of these checks.
const RECONCILE_PERIOD: Duration = Duration::from_secs(1);
/// The most notices that wait for a reader; then the oldest are dropped. All of them are in the
/// log.
const NOTICES: usize = 64;

/// Commands that wait for the worker. Each caller waits for its reply, so this is the number of
/// simultaneous callers (the session, and one for each line on the control socket); further ones
/// are refused as busy.
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

/// State of the switches, and notices since the last report.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    /// Switches with their ports.
    pub switches: Vec<SwitchReport>,
    /// Notices, each reported once.
    pub notices: Vec<Fault>,
}

/// A handle to the worker. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    orders: mpsc::SyncSender<Command>,
    /// The thread has the sender, which is dropped with it however it ends.
    alive: watch::Receiver<()>,
}

/// The worker does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Its thread has ended.
    #[error(
        "the agent's worker has ended; what was applied stays, and the next start of the agent goes on by it"
    )]
    Over,
    /// The queue of commands is full.
    #[error("the agent is busy: {ORDERS} requests wait already; try again")]
    Busy,
}

struct State {
    datapaths: Datapaths,
    wanted: Desired,
    file: PathBuf,
    /// Faults of the last repair, to be reported when they change.
    trouble: Vec<Fault>,
    notices: VecDeque<Fault>,
}

impl Worker {
    /// Starts the thread. It reads the last desired state from the state folder, so that reports go
    /// on after a restart. In a daemon it checks every second that the applied state is intact, and
    /// repairs it.
    ///
    /// When no thread can be started.
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
                        // The applied state stays; switches inside this program release their cards
                        // in order.
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

    /// Returns when the thread has ended: by [`Worker::end`], or by a panic. From then on switches
    /// are not maintained, so that the process has to end with an error too; the next one continues
    /// from the state folder.
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

    /// Waits until the worker has executed earlier commands, which shows that it does not hang.
    ///
    /// # Errors
    /// When the worker has ended, or has no room for one more request.
    pub async fn ping(&self) -> Result<(), Ended> {
        self.ask(Command::Ping).await
    }

    /// The capabilities of the host's switches.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn capabilities(&self) -> Result<Vec<SwitchCapabilities>, Ended> {
        self.ask(Command::Capabilities).await
    }

    /// Switches whose forwarding would be interrupted if this were applied, each with the reason.
    /// Changes nothing.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn disruptive_changes(&self, desired: Desired) -> Result<Vec<Fault>, Ended> {
        self.ask(|reply| Command::DisruptiveChanges(desired, reply)).await
    }

    /// Applies a desired state; also returns the time it took. `adopt` says which foreign bridges
    /// may be adopted.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn apply(&self, desired: Desired, adopt: Adopt) -> Result<(ApplyResult, Duration), Ended> {
        self.ask(|reply| Command::Apply(desired, adopt, reply)).await
    }

    /// Applies the last desired state again, which completes an application during which the agent
    /// was killed. `None` if there is none.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn resume(&self) -> Result<Option<(ApplyResult, Duration)>, Ended> {
        self.ask(Command::Resume).await
    }

    /// Events for people; waits for measurements that are under way.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn take_events(&self) -> Result<Vec<Fault>, Ended> {
        self.ask(Command::TakeEvents).await
    }

    /// State and counters of all switches.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn report(&self) -> Result<Reported, Ended> {
        self.ask(Command::Report).await
    }

    /// Controllers and flows of the switches inside this program, by name.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn dump_flows(&self) -> Result<Vec<(String, SwitchDump)>, Ended> {
        self.ask(Command::DumpFlows).await
    }

    /// Ends the thread and the switches inside this program. The applied state stays.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn end(&self) -> Result<(), Ended> {
        self.ask(Command::End).await
    }

    /// Restores everything to its state before the adoption, except for changes by others since,
    /// which are returned as text.
    ///
    /// # Errors When the worker has ended. Inside: with what could not be restored.
    pub async fn release(&self) -> Result<Result<Vec<String>, String>, Ended> {
        self.ask(Command::Release).await
    }
}

impl State {
    fn execute(&mut self, command: Command) {
        // The caller may have gone; the command is executed nevertheless.
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
        // Saved before anything is changed, so that the next start completes an application that
        // was interrupted by a kill.
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

/// The last desired state; empty if it cannot be read.
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

    /// A worker of a host without switches.
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

    /// Makes its thread panic.
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
