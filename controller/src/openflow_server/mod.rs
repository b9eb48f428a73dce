//! The OpenFlow server: listens on TCP and Unix sockets; each connection is a task with a driver.
//!
//! ```text
//!  accept (listeners, limits) --socket--> connection (reads and writes at once, a driver) --events--> event loop
//!                                           |   ^                                          <--SwitchLine-- effects
//!                              who it is    v   | active, stand by, close
//!                                         switchboard (which connection drives a switch)
//! ```
//!
//! Memory per connection is bounded, and each queue has a named depth: see [`connection`]. A task
//! that panics is a lost connection.

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
/// Peers whose log lines are told apart; more share one allowance.
const PEERS: usize = 1024;

/// What a log line is about: each kind has its own allowance, so that one hides no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// A connection that was refused, or came to nothing.
    Refused,
    /// A switch's connection that has ended.
    Ended,
    /// A fault of the controller itself.
    Panic,
}

/// Who dials: what the kernel says, and what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub peer: Peer,
    /// In words.
    pub name: String,
}

/// What the switchboard wants of a connection; only the latest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    duty: Duty,
    /// How often it was to ask whether its switch is there.
    probes: u32,
    close: Option<String>,
}

struct State {
    board: Switchboard,
    wishes: BTreeMap<ConnectionId, watch::Sender<Wish>>,
    places: Places,
    /// One line a minute.
    lines: KeyedRateLimiter<(Peer, Subject)>,
    /// What is wrong with connected switches.
    warnings: KeyedRateLimiter<Peer>,
}

struct Shared {
    cfg: Config,
    event_loop: mpsc::Sender<Input>,
    last: AtomicU64,
    state: Mutex<State>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

impl Server {
    /// For a site with these switches; `most` connections at once.
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

    /// A number for a connection that was just made.
    fn next_id(&self) -> ConnectionId {
        self.0.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Gives a connection its place, if there is one.
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

    /// A connection has said which switch it is.
    async fn arrive(&self, id: ConnectionId, dpid: Dpid, identity: Identity) {
        let inputs = {
            let mut state = self.state();
            state.places.settled(id);
            let orders = state.board.arrive(id, dpid, identity, now());
            carry_out(&state, orders)
        };
        self.tell(inputs).await;
    }

    /// A connection is gone.
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
            // The event loop is gone only when the controller stops.
            let _ = self.0.event_loop.send(input).await;
        }
    }

    fn switch_of(&self, id: ConnectionId) -> Option<Dpid> {
        self.state().board.switch_of(id)
    }

    /// Says what a switch does wrong, if it may cause one more line.
    fn warn(&self, caller: &Caller, text: &str) {
        if let Verdict::Allowed { held_back } = self.state().warnings.ask(caller.peer, now()) {
            tracing::warn!(kind = "switch-fault", held_back, "{text}");
        }
    }

    /// Whether a peer may cause one more line of that kind, and how many were not written since the
    /// last.
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

/// Tells connections what is wanted of them; what the event loop has to know comes back.
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
