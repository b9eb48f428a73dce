//! Limits on the cost of one peer: connections, enrolment attempts, log lines. Peers are
//! distinguished by their address, the only property of theirs that they cannot choose.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tandem_model::Time;
use tandem_model::rate_limit::{KeyedRateLimiter, LOG_LINES_A_MINUTE, Verdict};

const MINUTE: Duration = Duration::from_secs(60);
/// The most TLS connections of all peers: an agent has one, a testbed has up to some hundred, and
/// each takes a descriptor.
pub(super) const CONNECTIONS: usize = 1024;
/// The most connections of one address: several agents may be behind one address translation.
pub(super) const CONNECTIONS_OF_ONE: usize = 64;
/// Enrolment attempts of an address in a minute: as many as agents are deployed at once from behind
/// one address.
const ENROLMENTS: u32 = 30;
/// The most peers with limits of their own; further ones share one limit.
const PEERS: usize = 1024;

/// The subject of a log line: each has its own limit, so that garbage hides no refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A connection without a successful handshake.
    Handshake,
    /// A refused or missing certificate.
    Admission,
    /// An enrolment.
    Enrolment,
    /// A connection could not be accepted: no descriptor is free.
    Accept,
}

/// The address of a peer: `None` for this machine, by a Unix socket.
pub(super) type Address = Option<IpAddr>;

struct State {
    log: KeyedRateLimiter<(Address, Subject)>,
    enrolments: KeyedRateLimiter<Address>,
    /// Limits notices about switches that an agent claims without being allowed to.
    claims: KeyedRateLimiter<String>,
    connections: BTreeMap<IpAddr, usize>,
}

/// The limits of all peers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Limits {
    start: Instant,
    state: Arc<Mutex<State>>,
}

/// The place of a connection, freed when dropped.
pub(super) struct Place {
    limits: Limits,
    address: IpAddr,
}

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// That address has too many.
    #[error("its address has {CONNECTIONS_OF_ONE} connections already")]
    Address,
    /// There are too many in all.
    #[error("{CONNECTIONS} agents are connected already")]
    All,
}

impl Limits {
    pub(super) fn new() -> Limits {
        let state = State {
            log: KeyedRateLimiter::new(LOG_LINES_A_MINUTE, MINUTE, PEERS, Time::ZERO),
            enrolments: KeyedRateLimiter::new(ENROLMENTS, MINUTE, PEERS, Time::ZERO),
            claims: KeyedRateLimiter::new(1, MINUTE, PEERS, Time::ZERO),
            connections: BTreeMap::new(),
        };
        Limits { start: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    /// Logs a warning about a peer, if it may cause another line; `what` has to be escaped already.
    pub(super) fn warn(&self, peer: Address, subject: Subject, what: impl FnOnce() -> String) {
        let verdict = self.state().log.ask((peer, subject), self.now());
        let Verdict::Allowed { held_back } = verdict else { return };
        let what = what();
        if held_back == 0 {
            tracing::warn!(kind = "agent-refused", "{what}");
        } else {
            tracing::warn!(
                kind = "agent-refused",
                held_back,
                "{what} ({held_back} more lines of this peer were not written)"
            );
        }
    }

    /// Whether an address may try to enrol again.
    pub(super) fn may_enrol(&self, peer: Address) -> bool {
        self.state().enrolments.take(peer, self.now())
    }

    /// Whether an agent's claim is reported again.
    pub(super) fn may_say_claim(&self, agent: &str) -> bool {
        self.state().claims.take(agent.to_owned(), self.now())
    }

    /// Takes a place for a connection.
    pub(super) fn enter(&self, address: IpAddr) -> Result<Place, Full> {
        let mut state = self.state();
        if state.connections.values().sum::<usize>() >= CONNECTIONS {
            return Err(Full::All);
        }
        let count = state.connections.entry(address).or_default();
        if *count >= CONNECTIONS_OF_ONE {
            return Err(Full::Address);
        }
        *count += 1;
        Ok(Place { limits: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.limits.state();
        if let Some(count) = state.connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.connections.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_gets_them_back() {
        let limits = Limits::new();
        let one = IpAddr::from([10, 0, 0, 1]);
        let mut places: Vec<Place> =
            (0..CONNECTIONS_OF_ONE).map(|_| limits.enter(one).expect("room")).collect();
        assert_eq!(limits.enter(one).err(), Some(Full::Address));
        assert!(limits.enter(IpAddr::from([10, 0, 0, 2])).is_ok(), "another has its own");
        places.pop();
        assert!(limits.enter(one).is_ok());
        drop(places);
        assert!(limits.state().connections.is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn all_together_have_so_many() {
        let limits = Limits::new();
        let address = |n: usize| IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]);
        let places: Vec<Place> = (0..CONNECTIONS).map(|n| limits.enter(address(n)).expect("room")).collect();
        assert_eq!(limits.enter(address(5000)).err(), Some(Full::All));
        drop(places);
    }

    #[test]
    fn an_address_tries_so_often_a_minute() {
        let limits = Limits::new();
        let peer = Some(IpAddr::from([10, 0, 0, 1]));
        let tries = (0..1000).filter(|_| limits.may_enrol(peer)).count();
        assert_eq!(tries, ENROLMENTS as usize);
        let mut lines = 0;
        for _ in 0..1000 {
            limits.warn(peer, Subject::Enrolment, || {
                lines += 1;
                String::new()
            });
        }
        assert_eq!(lines, LOG_LINES_A_MINUTE);
    }
}
