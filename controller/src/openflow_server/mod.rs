//! The OpenFlow server: listens on TCP and Unix sockets; each connection is a task with a driver.
//!
//! ```text
//!  accept (listeners, limits) --socket--> connection (reads and writes at once, a driver) --events--> event loop
//!                                           |   ^                                          <--SwitchLine-- effects
//!                              who it is    v   | active, stand by, close
//!                                         switchboard (which connection drives a switch)
//! ```
//!
//! The memory of a connection is bounded, and each queue has a named capacity: see [`connection`].
//! A task that panics counts as a lost connection.

mod accept;
mod address;
pub mod connection;
mod line;
mod places;
pub mod switchboard;
#[cfg(test)]
mod switchboard_tests;

pub use accept::accept;
pub use address::{Address, Listener, listen};
pub use line::SwitchLine;
#[cfg(test)]
pub(crate) use line::closed_line;

use crate::event_loop::{Input, now};
use places::Places;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use switchboard::{ConnectionId, Identity, Order, Peer, Switchboard};
use tandem_model::rate_limit::{KeyedRateLimiter, LOG_LINES_A_MINUTE, Verdict};
use tandem_model::{Dpid, Event};
use tandem_switch_driver::{Config, Duty};
use tokio::sync::{mpsc, watch};

const MINUTE: Duration = Duration::from_secs(60);
/// The most peers with log limits of their own; further ones share one.
const PEERS: usize = 1024;

/// The subject of a log line: each has its own limit, so that one hides no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// A connection that was refused, or failed before its handshake ended.
    Refused,
    /// A switch's connection that has ended.
    Ended,
    /// A fault of the controller itself.
    Panic,
}

/// A peer: its identity by the kernel, and its name for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its identity.
    pub peer: Peer,
    /// Its name.
    pub name: String,
}

/// The switchboard's order for a connection; only the latest one matters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    duty: Duty,
    /// How often it was ordered to probe its switch.
    probes: u32,
    close: Option<String>,
}

struct State {
    board: Switchboard,
    wishes: BTreeMap<ConnectionId, watch::Sender<Wish>>,
    places: Places,
    /// Limits lines to one a minute.
    lines: KeyedRateLimiter<(Peer, Subject)>,
    /// Limits warnings about connected switches.
    warnings: KeyedRateLimiter<Peer>,
}

struct Shared {
    cfg: Config,
    event_loop: mpsc::Sender<Input>,
    last: AtomicU64,
    state: Mutex<State>,
}

/// The OpenFlow server. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

impl Server {
    /// Creates it for a site with these switches; at most `most` connections at once.
    pub fn new(
        cfg: Config,
        switches: impl IntoIterator<Item = Dpid>,
        most: usize,
        event_loop: mpsc::Sender<Input>,
    ) -> Server {
        let state = State {
            board: Switchboard::new(switches),
            wishes: BTreeMap::new(),
            places: Places::new(most),
            lines: KeyedRateLimiter::new(1, MINUTE, PEERS, now()),
            warnings: KeyedRateLimiter::new(LOG_LINES_A_MINUTE, MINUTE, PEERS, now()),
        };
        Server(Arc::new(Shared { cfg, event_loop, last: AtomicU64::new(0), state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new connection.
    fn next_id(&self) -> ConnectionId {
        self.0.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes a place for a connection, if there is one.
    fn enter(&self, id: ConnectionId, caller: &Caller) -> Option<watch::Receiver<Wish>> {
        let (sender, wishes) = watch::channel(Wish { duty: Duty::Undecided, probes: 0, close: None });
        let mut state = self.state();
        let evicted = state.places.enter(id, caller.peer).ok()?;
        state.wishes.insert(id, sender);
        if let Some(evicted) = evicted {
            let why = "too many connections wait for their handshake".to_owned();
            wish(&state, evicted, |w| w.close = Some(why));
        }
        Some(wishes)
    }

    /// A connection has introduced its switch.
    async fn arrive(&self, id: ConnectionId, dpid: Dpid, identity: Identity) {
        let inputs = {
            let mut state = self.state();
            state.places.settled(id);
            let orders = state.board.arrive(id, dpid, identity, now());
            carry_out(&state, orders)
        };
        self.tell(inputs).await;
    }

    /// A connection has ended.
    async fn leave(&self, id: ConnectionId, why: &str) {
        let inputs = {
            let mut state = self.state();
            state.places.leave(id);
            state.wishes.remove(&id);
            let orders = state.board.leave(id, why, now());
            carry_out(&state, orders)
        };
        self.tell(inputs).await;
    }

    async fn tell(&self, inputs: Vec<Input>) {
        for input in inputs {
            // The event loop ends only when the controller stops.
            let _ = self.0.event_loop.send(input).await;
        }
    }

    fn switch_of(&self, id: ConnectionId) -> Option<Dpid> {
        self.state().board.switch_of(id)
    }

    /// Warns of a switch's fault, if it may cause another line.
    fn warn(&self, caller: &Caller, text: &str) {
        if let Verdict::Allowed { held_back } = self.state().warnings.ask(caller.peer, now()) {
            tracing::warn!(kind = "switch-fault", held_back, "{text}");
        }
    }

    /// Whether a peer may cause another line of that subject; returns how many were suppressed
    /// since the last.
    fn may_log(&self, caller: &Caller, subject: Subject) -> Option<u64> {
        match self.state().lines.ask((caller.peer, subject), now()) {
            Verdict::Allowed { held_back } => Some(held_back),
            Verdict::HeldBack { .. } => None,
        }
    }
}

fn wish(state: &State, id: ConnectionId, change: impl FnOnce(&mut Wish)) {
    if let Some(sender) = state.wishes.get(&id) {
        sender.send_modify(change);
    }
}

/// Passes the switchboard's orders to connections; returns the reports for the event loop.
fn carry_out(state: &State, orders: Vec<Order>) -> Vec<Input> {
    let mut inputs = Vec::new();
    for order in orders {
        match order {
            Order::Activate(id) => wish(state, id, |w| w.duty = Duty::Active),
            Order::StandBy(id) => wish(state, id, |w| w.duty = Duty::Standby),
            Order::Probe(id) => wish(state, id, |w| w.probes += 1),
            Order::Close(id, why) => wish(state, id, |w| w.close = Some(why)),
            Order::Down(dpid, id, why) => inputs.push(Input::Disconnected(dpid, id, why)),
            Order::Report(switch, what) => inputs.push(Input::Event(Event::SwitchTrouble { switch, what })),
        }
    }
    inputs
}
