//! A double of a XAPI pool: a stateful model after the public data model, accessible by XML-RPC and
//! JSON-RPC, with or without TLS, with faults that a test scripts.
//!
//! ```text
//!  server.rs: HTTP, TLS, cuts --> dispatch.rs: sessions, scripts, events, tasks --> calls.rs (at once), deeds.rs (that take time) --> model.rs
//!  wire.rs: its own XML-RPC and JSON-RPC
//! ```
//!
//! It was written after the data model's documentation, not after a host; `official.rs` runs the
//! official Python client with it.

mod calls;
mod deeds;
mod dispatch;
pub(crate) mod model;
mod server;
mod wire;

use model::{GIB, State};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The master's address; a second host of the pool listens on the next one, at the same port.
pub(crate) const MASTER: &str = "127.0.0.1";
pub(crate) const SLAVE: &str = "127.0.0.2";
pub(crate) const PASSWORD: &str = "correct horse & <battery>";

/// A fault of a call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// It is refused.
    Refuse(&'static [&'static str]),
    /// It is not executed, and the connection is closed.
    CutBefore,
    /// It is executed, and the connection is cut in the middle of the reply.
    CutAfter,
    /// It takes longer.
    Slow(Duration),
    /// All sessions end first.
    EndSessions,
    /// Its task does not end until it is cancelled.
    Hang,
    /// Its task does not end even then, until the test releases it (`Double::release`).
    HangDeaf,
    /// Its task fails in the middle.
    FailLater(&'static [&'static str]),
    /// Something else changes while its task is under way.
    Meanwhile(fn(&mut State)),
}

pub(crate) struct Script {
    method: String,
    /// Number of calls that succeed before.
    skip: u32,
    fault: Fault,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    scripts: Mutex<Vec<Script>>,
    /// The methods of all calls, in order.
    heard: Mutex<Vec<String>>,
    released: watch::Sender<bool>,
    port: u16,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Reads or changes the state, and wakes polls for changes.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let (result, last) = {
            let mut state = lock(&self.state);
            let result = work(&mut state);
            (result, state.last())
        };
        self.changed.send_if_modified(|n| std::mem::replace(n, last) != last);
        result
    }
}

/// A pool; dropping it ends it.
pub(crate) struct Double {
    pub(crate) shared: Arc<Shared>,
    /// SHA-256 of its certificate, with TLS.
    pub(crate) fingerprint: Option<[u8; 32]>,
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

/// The settings of a pool.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) tls: bool,
    /// False: an XCP 1.6.
    pub(crate) json: bool,
    /// Memory of each host in bytes.
    pub(crate) memory: i64,
    /// Both hosts reach the disks.
    pub(crate) shared_storage: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { tls: false, json: true, memory: 8 * GIB, shared_storage: true }
    }
}

impl Double {
    /// Starts two hosts `xcp1` (the master) and `xcp2`, networks, storage, a template `debian-12`.
    pub(crate) async fn start(setup: Setup) -> Double {
        let mut state = State { password: PASSWORD.to_owned(), json: setup.json, ..State::default() };
        for class in [
            "host",
            "VM",
            "VIF",
            "VBD",
            "VDI",
            "SR",
            "PBD",
            "PIF",
            "network",
            "pool",
            "task",
            "VM_guest_metrics",
        ] {
            state.objects.insert(class.to_owned(), Default::default());
        }
        let hosts = [("xcp1", MASTER), ("xcp2", SLAVE)].map(|(n, a)| state.add_host(n, a, setup.memory));
        let network =
            state.add("network", serde_json::json!({"name_label": "production", "bridge": "xenbr0"}));
        state.add("network", serde_json::json!({"name_label": "second", "bridge": "xenbr1"}));
        for host in &hosts {
            let pif = serde_json::json!({"host": host, "network": network, "management": true});
            state.add("PIF", pif);
        }
        let names = [hosts[0].as_str(), hosts[1].as_str()];
        let storage = if setup.shared_storage {
            state.add_sr("shared", &names)
        } else {
            state.add_sr("local2", &names[1..]);
            state.add_sr("local1", &names[..1])
        };
        let pool = serde_json::json!({"name_label": "lab", "master": hosts[0], "default_SR": storage});
        state.add("pool", pool);
        state.add_template("debian-12", &storage, &network);
        server::start(state, setup.tls).await
    }

    /// Adds a fault to the n-th call from now (0: the next) of this method, once.
    pub(crate) fn script(&self, method: &str, skip: u32, fault: Fault) {
        lock(&self.shared.scripts).push(Script { method: method.to_owned(), skip, fault });
    }

    /// Faults that were not triggered.
    pub(crate) fn left(&self) -> Vec<String> {
        lock(&self.shared.scripts).iter().map(|s| s.method.clone()).collect()
    }

    /// How often a method was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        lock(&self.shared.heard).iter().filter(|m| *m == method).count()
    }

    /// Lets hanging tasks end.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.shared.with(work)
    }

    /// All objects except sessions and tasks.
    pub(crate) fn things(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        self.with(|s| s.things())
    }

    /// A VM by its tag.
    pub(crate) fn vm(&self, id: u64) -> Option<String> {
        self.with(|s| {
            let tagged = |r: &serde_json::Map<String, serde_json::Value>| {
                r["other_config"]["tandem-vm"] == format!("mine/{id}")
            };
            s.all("VM").find(|(_, r)| tagged(r)).map(|(reference, _)| reference.clone())
        })
    }

    /// The name of the host that a VM runs on, or its power state if it does not run.
    pub(crate) fn place(&self, id: u64) -> String {
        let Some(vm) = self.vm(id) else { return "gone".to_owned() };
        self.with(|s| match s.text("VM", &vm, "power_state").as_str() {
            "Running" => s.text("host", &s.text("VM", &vm, "resident_on"), "name_label"),
            other => other.to_owned(),
        })
    }

    pub(crate) fn tasks(&self) -> usize {
        self.with(|s| s.all("task").count())
    }

    pub(crate) fn sessions(&self) -> usize {
        self.with(|s| s.sessions.len())
    }
}
