//! Decides which connection drives a switch, when several introduce themselves as the same one.
//!
//! 1. The first one is active.
//! 2. Another connection of the same switch is standby, and takes over when the active one ends:
//!    Open vSwitch dials every address in its configuration, and a switch that lost its connection
//!    dials again before the loss is detected here.
//! 3. A connection of another peer replaces the older one, which is closed with the reason: a
//!    switch was replaced, or its id is used twice.
//! 4. When peers replace each other repeatedly, it is unknown which is right: both are closed, a
//!    notice names them, and neither is used until only one of them has tried for [`QUIET`]. A
//!    switch that comes after another has gone is no such change, unless it was there before the
//!    other.
//!
//! Pure: it is notified of arrivals and departures and returns orders, which the owner of the
//! sockets executes. Its memory is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::rate_limit::RateLimiter;
use tandem_model::{Dpid, Mac, PortNo, Time};

/// A connection's number, unique in this run.
pub type ConnectionId = u64;

/// Changes to another peer within a [`MINUTE`] that count as repeated replacement.
const TO_AND_FRO: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
/// How long only one peer has to have tried until it is used again: longer than any switch's pause
/// between two tries (Open vSwitch: 8 s).
pub const QUIET: Duration = Duration::from_secs(60);
/// The most standby connections of a switch: it dials a few addresses, and lost ones are not
/// detected at once.
const STANDBY: usize = 4;
/// How often a switch may connect in a minute: once a second is accepted, a busy loop is not.
const ARRIVALS: u32 = 60;
/// The most connections of switches unknown to the site: ids can be invented.
const UNKNOWN: usize = 64;
/// Switches without a connection that are remembered, before those older than a minute are dropped.
const REMEMBERED: usize = 1024;

/// The identity of a peer, by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// By TCP, from this address.
    Address(IpAddr),
    /// By a Unix socket: this process of this user.
    Process {
        /// User id.
        user: u32,
        /// Process id.
        process: i32,
    },
    /// The kernel does not report it.
    Unknown,
}

/// The properties by which switches are distinguished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its peer.
    pub peer: Peer,
    /// A name for people.
    pub name: String,
    /// Manufacturer, hardware, software.
    pub description: String,
    /// Its ports, each with its name and address.
    pub ports: BTreeMap<PortNo, (String, Mac)>,
}

impl Identity {
    /// Whether two connections are of one switch: of one process; or of one address with the same
    /// description and a port in common, by number and name (ports come and go, and a restarted
    /// Open vSwitch gives other addresses to some of them); or from any peer with the same
    /// description and ports.
    fn is_same_switch(&self, other: &Identity) -> bool {
        let alike = self.description == other.description;
        match (self.peer, other.peer) {
            (Peer::Process { .. }, Peer::Process { .. }) if self.peer == other.peer => true,
            (Peer::Address(a), Peer::Address(b)) if a == b && alike => {
                let is_bare = self.ports.is_empty() || other.ports.is_empty();
                is_bare || self.has_port_of(other)
            }
            _ => alike && !self.ports.is_empty() && self.ports == other.ports,
        }
    }

    fn has_port_of(&self, other: &Identity) -> bool {
        self.ports.iter().any(|(number, (name, _))| other.ports.get(number).is_some_and(|o| o.0 == *name))
    }
}

/// An order, to be executed in sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Make this connection active.
    Activate(ConnectionId),
    /// Make this one standby.
    StandBy(ConnectionId),
    /// Probe the switch on this one.
    Probe(ConnectionId),
    /// Send the reason on this one, and close it.
    Close(ConnectionId, String),
    /// Report the switch as down; this was its last connection.
    Down(Dpid, ConnectionId, String),
    /// Report a notice to the operator.
    Report(Dpid, String),
}

#[derive(Debug)]
struct Connection {
    dpid: Dpid,
    identity: Arc<Identity>,
}

#[derive(Debug)]
struct Record {
    active: Option<ConnectionId>,
    /// Standby connections, oldest first.
    standby: VecDeque<ConnectionId>,
    /// The last two different switches that tried, latest first, with their times.
    seen: VecDeque<(Arc<Identity>, Time)>,
    /// The last active one.
    last: Option<Arc<Identity>>,
    /// When the active one was replaced.
    changes: VecDeque<Time>,
    is_contested: bool,
    arrivals: RateLimiter,
}

impl Record {
    fn new(now: Time) -> Record {
        Record {
            active: None,
            standby: VecDeque::new(),
            seen: VecDeque::new(),
            last: None,
            changes: VecDeque::new(),
            is_contested: false,
            arrivals: RateLimiter::new(ARRIVALS, MINUTE, now),
        }
    }

    /// Records a try of a switch: returns whether it is one of the last two, and the last other one
    /// with its time.
    fn saw(&mut self, identity: &Arc<Identity>, now: Time) -> (bool, Option<(Arc<Identity>, Time)>) {
        let before = self.seen.len();
        self.seen.retain(|(other, _)| !other.is_same_switch(identity));
        let returns = self.seen.len() < before;
        let other = self.seen.front().cloned();
        self.seen.push_front((identity.clone(), now));
        self.seen.truncate(2);
        (returns, other)
    }

    fn is_idle(&self, now: Time) -> bool {
        self.active.is_none() && self.seen.iter().all(|(_, at)| now.since(*at) >= MINUTE.max(QUIET))
    }
}

/// The state of all switches' connections.
#[derive(Debug)]
pub struct Switchboard {
    /// The switches of the site.
    known: BTreeSet<Dpid>,
    connections: BTreeMap<ConnectionId, Connection>,
    records: BTreeMap<Dpid, Record>,
    unknown: usize,
}

impl Switchboard {
    /// Creates it for a site with these switches.
    pub fn new(known: impl IntoIterator<Item = Dpid>) -> Switchboard {
        Switchboard {
            known: known.into_iter().collect(),
            connections: BTreeMap::new(),
            records: BTreeMap::new(),
            unknown: 0,
        }
    }

    /// The switch that a connection has introduced, until it ends.
    pub fn switch_of(&self, id: ConnectionId) -> Option<Dpid> {
        self.connections.get(&id).map(|c| c.dpid)
    }

    /// A connection introduces its switch.
    pub fn arrive(&mut self, id: ConnectionId, dpid: Dpid, identity: Identity, now: Time) -> Vec<Order> {
        if self.records.len() >= REMEMBERED && !self.records.contains_key(&dpid) {
            self.records.retain(|_, record| !record.is_idle(now));
        }
        let is_known = self.known.contains(&dpid);
        if !is_known && self.unknown >= UNKNOWN {
            let text = format!(
                "the site file has no switch {dpid}, and {UNKNOWN} such switches are connected already; correct the datapath id"
            );
            return vec![Order::Close(id, text)];
        }
        let identity = Arc::new(identity);
        let record = self.records.entry(dpid).or_insert_with(|| Record::new(now));
        let (returns, other) = record.saw(&identity, now);
        if !record.arrivals.take(now) {
            let text = format!(
                "switch {dpid} has connected {ARRIVALS} times in a minute; it is accepted again in the next"
            );
            return vec![Order::Close(id, text)];
        }
        let mut orders = Vec::new();
        if record.is_contested {
            if let Some((other, _)) = other.filter(|(_, at)| now.since(*at) < QUIET) {
                let text = contested(dpid, &other.name, &identity.name);
                return vec![Order::Close(id, text)];
            }
            record.is_contested = false;
            record.changes.clear();
            record.last = None;
            let text = format!("only {} has tried for {QUIET:?}: it is used again", identity.name);
            orders.push(Order::Report(dpid, text));
        }
        self.connections.insert(id, Connection { dpid, identity: identity.clone() });
        if !is_known {
            self.unknown += 1;
        }
        let active = record.active.and_then(|a| Some((a, self.connections.get(&a)?.identity.clone())));
        match active {
            Some((active, of)) if of.is_same_switch(&identity) => {
                record.standby.push_back(id);
                if record.standby.len() > STANDBY
                    && let Some(oldest) = record.standby.pop_front()
                {
                    let text = format!("switch {dpid} has {STANDBY} newer connections that stand by");
                    orders.push(Order::Close(oldest, text));
                }
                // It may have dialled again because the other connection is dead.
                orders.extend([Order::StandBy(id), Order::Probe(active)]);
            }
            active => {
                let active = active.map(|(active, _)| active);
                self.succeed(id, &identity, (active, returns), now, &mut orders);
            }
        }
        orders
    }

    /// Activates a connection: the first of its switch, or that of another peer.
    fn succeed(
        &mut self,
        id: ConnectionId,
        identity: &Arc<Identity>,
        (active, returns): (Option<ConnectionId>, bool),
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let Some(dpid) = self.switch_of(id) else { return };
        let Some(record) = self.records.get_mut(&dpid) else { return };
        let last = record.last.replace(identity.clone()).filter(|last| !last.is_same_switch(identity));
        if let Some(last) = last.filter(|_| active.is_some() || returns) {
            record.changes.retain(|at| now.since(*at) < MINUTE);
            record.changes.push_back(now);
            record.is_contested = record.changes.len() >= TO_AND_FRO;
            let text = if record.is_contested {
                contested(dpid, &last.name, &identity.name)
            } else {
                format!(
                    "{} has connected with the datapath id {dpid} of {}: the newer one is used. If both are switches, give one of \
                     them another id",
                    identity.name, last.name
                )
            };
            let older = record.active.take().into_iter().chain(std::mem::take(&mut record.standby));
            orders.extend(older.map(|older| Order::Close(older, text.clone())));
            if record.is_contested {
                orders.push(Order::Close(id, text.clone()));
                orders.extend(active.map(|active| Order::Down(dpid, active, text.clone())));
            }
            if self.known.contains(&dpid) {
                orders.push(Order::Report(dpid, text));
            }
            if record.is_contested {
                return;
            }
        }
        record.active = Some(id);
        orders.push(Order::Activate(id));
    }

    /// A connection has ended, for any reason.
    pub fn leave(&mut self, id: ConnectionId, why: &str, now: Time) -> Vec<Order> {
        let Some(Connection { dpid, identity }) = self.connections.remove(&id) else { return Vec::new() };
        if !self.known.contains(&dpid) {
            self.unknown = self.unknown.saturating_sub(1);
        }
        let Some(record) = self.records.get_mut(&dpid) else { return Vec::new() };
        record.standby.retain(|s| *s != id);
        if record.active != Some(id) {
            return Vec::new();
        }
        record.saw(&identity, now);
        // The newest one: older ones may be dead.
        record.active = record.standby.pop_back();
        match record.active {
            Some(next) => vec![Order::Activate(next)],
            None => vec![Order::Down(dpid, id, why.to_owned())],
        }
    }
}

fn contested(dpid: Dpid, one: &str, other: &str) -> String {
    format!(
        "{one} and {other} both connect as switch {dpid}, to and fro; neither is used until only one of them has tried for {QUIET:?}. \
         Give one of them another datapath id, or disconnect it"
    )
}
