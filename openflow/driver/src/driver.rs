//! The driver's state: handshake, transactions, reconciliation, polling, discovery.

use crate::packets::{self, Seen};
use crate::reconcile;
use crate::speaker::{Heard, Reported, Speaker};
use crate::v10::V10;
use crate::v13::V13;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tandem_model::{
    Dpid, Effect, Event, PortInfo, PortNo, PortSample, Rule, RuleKey, SwitchCaps, Time, TxnId,
};
use tandem_openflow::error::DecodeError;
use tandem_openflow::header;
use tandem_openflow::session::{self, Incoming, Session, SessionError};

/// How long a switch may take for its handshake after the HELLO, and for a barrier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Changes of ports whose refusal is still understood; a switch answers only refusals, so older ones were taken.
const PORT_CHANGES: usize = 64;
/// The most flows or ports that a switch may report in one answer; more is a broken switch.
const MOST_REPORTED: usize = 2_000_000;

/// What a driver needs to know of the site.
#[derive(Debug, Clone, Copy)]
pub struct Cfg {
    /// How often counters are read.
    pub poll_period: Duration,
    /// How often each port sends a discovery frame; `None` where discovery is off.
    pub lldp_period: Option<Duration>,
    /// Ties discovery frames to this run of the controller.
    pub secret: u64,
    /// Packets a second that go to the core; more are counted and dropped, so that one switch cannot starve the others.
    pub packet_ins: u32,
    /// Times of the session.
    pub session: session::Cfg,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The session is over.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A message that is none.
    #[error("it sent what is no OpenFlow message: {0}")]
    Garbage(#[from] DecodeError),
    /// The handshake did not end.
    #[error("it has not finished its handshake for {0:?}")]
    Handshake(Duration),
    /// A barrier was not answered.
    #[error("it has not confirmed rules for {0:?}")]
    Barrier(Duration),
    /// An answer without an end.
    #[error("it reports more than {0} flows or ports")]
    Endless(usize),
}

/// What a call leads to.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent to the switch.
    pub bytes: Vec<u8>,
    /// For the core.
    pub events: Vec<Event>,
}

/// Handshake: what is known so far.
#[derive(Debug, Clone, Default)]
struct Greeting {
    dpid: Option<Dpid>,
    tables: u8,
    ports: Vec<PortInfo>,
    ports_known: bool,
    description: Option<String>,
    since: Time,
}

/// A transaction on its way, oldest first; barriers are answered in order.
#[derive(Debug, Clone)]
struct Open {
    txn: Option<TxnId>,
    /// Transaction ids of its messages: `first..=barrier`.
    first: u32,
    barrier: u32,
    sent: Time,
    added: u32,
    removed: u32,
    refused: Option<String>,
    /// What each changed key held before.
    before: Vec<(RuleKey, Option<Rule>)>,
}

/// What flows are being read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// `SyncRules`, to be answered.
    Sync(TxnId),
    /// Counters, and a look whether all is as it should be.
    Audit,
}

#[derive(Debug)]
struct Flows {
    xid: u32,
    reading: Reading,
    /// Number of changes made when it was asked; an audit of an older state proves nothing.
    epoch: u64,
    flows: Vec<Reported>,
}

/// See the crate.
pub struct Driver {
    cfg: Cfg,
    peer: String,
    session: Session,
    speaker: Option<Box<dyn Speaker + Send>>,
    greeting: Option<Greeting>,
    dpid: Dpid,
    ports: BTreeMap<PortNo, PortInfo>,
    wanted: BTreeMap<RuleKey, Rule>,
    /// False until the core has said what it wants: until then nothing is audited.
    synced: bool,
    epoch: u64,
    open: VecDeque<Open>,
    reading: Option<Flows>,
    /// Wanted as soon as the present reading ends.
    queued: Option<Reading>,
    counters: Vec<PortSample>,
    counters_xid: u32,
    next_poll: Time,
    next_lldp: Option<Time>,
    /// The latest changes of ports, by transaction id.
    port_changes: VecDeque<(u32, PortNo)>,
    /// Packets that may still go to the core in the second that started at the time.
    allowance: (Time, u32),
    dropped: u64,
}

impl Driver {
    /// Greets a switch that has just connected.
    pub fn new(cfg: Cfg, peer: &str, now: Time, out: &mut Output) -> Driver {
        let session = Session::new(&[header::V10, header::V13], cfg.session, now, &mut out.bytes);
        Driver {
            cfg,
            peer: peer.to_owned(),
            session,
            speaker: None,
            greeting: None,
            dpid: Dpid(0),
            ports: BTreeMap::new(),
            wanted: BTreeMap::new(),
            synced: false,
            epoch: 0,
            open: VecDeque::new(),
            reading: None,
            queued: None,
            counters: Vec::new(),
            counters_xid: 0,
            next_poll: now,
            next_lldp: None,
            port_changes: VecDeque::new(),
            allowance: (now, cfg.packet_ins),
            dropped: 0,
        }
    }

    /// The switch's id, once its handshake is done.
    pub fn dpid(&self) -> Option<Dpid> {
        self.is_up().then_some(self.dpid)
    }

    /// Packets that did not go to the core because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_up(&self) -> bool {
        self.speaker.is_some() && self.greeting.is_none()
    }

    /// Says something that needs a transaction id; returns the id.
    fn say(&mut self, out: &mut Output, say: impl FnOnce(&dyn Speaker, u32, &mut Vec<u8>)) -> u32 {
        let xid = self.session.next_xid();
        if let Some(speaker) = &self.speaker {
            say(speaker.as_ref(), xid, &mut out.bytes);
        }
        xid
    }

    /// Takes in one whole message.
    ///
    /// # Errors
    /// When the connection should be closed, after what `out` holds is sent.
    pub fn on_message(&mut self, message: &[u8], now: Time, out: &mut Output) -> Result<(), DriverError> {
        match self.session.on_message(message, now, &mut out.bytes)? {
            Incoming::Handled => Ok(()),
            Incoming::Agreed(version) => {
                self.speaker = Some(if version == header::V13 { Box::new(V13) } else { Box::new(V10) });
                self.greeting = Some(Greeting { since: now, ..Greeting::default() });
                self.say(out, |s, xid, o| s.ask_features(xid, o));
                Ok(())
            }
            Incoming::Message(message) => {
                let Some(speaker) = &self.speaker else { return Ok(()) };
                let (xid, heard) = speaker.hear(message)?;
                self.heard(xid, heard, now, out)
            }
        }
    }

    fn heard(&mut self, xid: u32, heard: Heard<'_>, now: Time, out: &mut Output) -> Result<(), DriverError> {
        if self.greeting.is_some() {
            self.greet(heard, now, out);
            return Ok(());
        }
        let switch = self.dpid;
        match heard {
            Heard::Port(port, removed) => {
                if removed {
                    self.ports.remove(&port.port);
                } else {
                    self.ports.insert(port.port, port.clone());
                }
                out.events.push(Event::PortChanged { switch, port, removed });
            }
            Heard::Packet { port, data } => self.on_packet(port, data, now, out),
            Heard::Removed { cookie, key, deleted } => {
                let missed = key.is_some_and(|k| self.wanted.contains_key(&k));
                if deleted && cookie.is_ours() && missed && self.synced {
                    self.read_flows(Reading::Audit, out);
                }
            }
            Heard::Flows { flows, more } => self.on_flows(xid, flows, more, now, out)?,
            Heard::Counters { ports, more } if xid == self.counters_xid => {
                if self.counters.len() + ports.len() > MOST_REPORTED {
                    return Err(DriverError::Endless(MOST_REPORTED));
                }
                self.counters.extend(ports);
                if !more {
                    let ports = std::mem::take(&mut self.counters);
                    out.events.push(Event::Samples { switch, ports, flows: Vec::new() });
                }
            }
            Heard::Barrier => self.on_barrier(xid, now, out),
            Heard::Error(text) => {
                let mine = self.open.iter_mut().find(|o| (o.first..=o.barrier).contains(&xid));
                if let Some(open) = mine {
                    open.refused.get_or_insert(text);
                } else if let Some((_, port)) = self.port_changes.iter().find(|(x, _)| *x == xid) {
                    out.events.push(Event::PortRefused { switch, port: *port, why: text });
                }
            }
            Heard::Features { .. }
            | Heard::Ports { .. }
            | Heard::Description(_)
            | Heard::Counters { .. }
            | Heard::Nothing => {}
        }
        Ok(())
    }

    fn greet(&mut self, heard: Heard<'_>, now: Time, out: &mut Output) {
        let Some(mut greeting) = self.greeting.take() else { return };
        match heard {
            Heard::Features { dpid, tables, ports } => {
                (greeting.dpid, greeting.tables) = (Some(dpid), tables);
                if let Some(ports) = ports {
                    (greeting.ports, greeting.ports_known) = (ports, true);
                }
                self.say(out, |s, xid, o| s.configure(xid, o));
                self.say(out, |s, xid, o| {
                    s.ask_ports(xid, o);
                });
                self.say(out, |s, xid, o| s.ask_description(xid, o));
            }
            Heard::Ports { ports, more } => {
                greeting.ports.extend(ports);
                greeting.ports_known = !more;
            }
            Heard::Description(text) => greeting.description = Some(text),
            // A switch that does not describe itself is a switch all the same.
            Heard::Error(_) if greeting.dpid.is_some() => {
                greeting.description.get_or_insert_default();
            }
            _ => {}
        }
        let (Some(dpid), true, Some(description)) =
            (greeting.dpid, greeting.ports_known, greeting.description.clone())
        else {
            self.greeting = Some(greeting);
            return;
        };
        self.dpid = dpid;
        self.ports = greeting.ports.iter().map(|p| (p.port, p.clone())).collect();
        self.next_poll = now + self.cfg.poll_period;
        self.next_lldp = self.cfg.lldp_period.map(|_| now);
        let version = self.speaker.as_ref().map_or("", |s| s.version()).to_owned();
        let caps = SwitchCaps { version, tables: greeting.tables, description, peer: self.peer.clone() };
        out.events.push(Event::SwitchUp { switch: dpid, ports: greeting.ports, caps });
    }

    fn on_packet(&mut self, port: PortNo, data: &[u8], now: Time, out: &mut Output) {
        let switch = self.dpid;
        let Some(seen) = packets::parse(data, self.cfg.secret) else { return };
        let (since, left) = &mut self.allowance;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *left) = (now, self.cfg.packet_ins);
        }
        let Some(fewer) = left.checked_sub(1) else {
            self.dropped += 1;
            return;
        };
        *left = fewer;
        out.events.push(match seen {
            Seen::Discovery(dpid, from) => Event::LinkSeen { from: (dpid, from), to: (switch, port) },
            Seen::Arp(arp) => Event::ArpSeen { switch, port, arp },
            Seen::Dhcp(dhcp) => Event::DhcpSeen { switch, port, dhcp },
            Seen::Host(mac, ip) => Event::HostSeen { switch, port, mac, ip },
        });
    }

    /// Carries out an effect for this switch. Other effects are none of its business.
    pub fn carry_out(&mut self, effect: Effect, now: Time, out: &mut Output) {
        if !self.is_up() {
            return;
        }
        match effect {
            Effect::SyncRules { txn, rules, .. } => {
                self.wanted = rules.into_iter().map(|r| (r.key, r)).collect();
                self.synced = true;
                self.epoch += 1;
                self.read_flows(Reading::Sync(txn), out);
            }
            Effect::ApplyRules { txn, add, remove, .. } => {
                self.change(Some(txn), add, &remove, Vec::new(), now, out)
            }
            Effect::SendArp { port, arp, .. } => {
                let frame = packets::arp_frame(&arp);
                self.say(out, |s, xid, o| s.send(xid, port, &frame, o));
            }
            Effect::SendDhcp { port, dhcp, .. } => {
                if let Ok(frame) = packets::dhcp_frame(&dhcp) {
                    self.say(out, |s, xid, o| s.send(xid, port, &frame, o));
                }
            }
            Effect::SetPort { port, up, .. } => self.set_port(port, up, out),
            Effect::Discover { .. } => self.discover(out),
            Effect::PollNow { .. } => self.poll(out),
            _ => {}
        }
    }

    /// Sends changes and a barrier; what was there before is remembered until the barrier is answered.
    fn change(
        &mut self,
        txn: Option<TxnId>,
        add: Vec<Rule>,
        remove: &[RuleKey],
        erase: Vec<Vec<u8>>,
        now: Time,
        out: &mut Output,
    ) {
        self.epoch += 1;
        let (added, removed) = (add.len() as u32, (remove.len() + erase.len()) as u32);
        let mut first = None;
        let mut before = Vec::with_capacity(add.len() + remove.len());
        for rule in add {
            let xid = self.say(out, |s, xid, o| s.add(xid, &rule, o));
            first.get_or_insert(xid);
            let key = rule.key;
            before.push((key, self.wanted.insert(key, rule)));
        }
        for key in remove {
            let xid = self.say(out, |s, xid, o| s.remove(xid, key, o));
            first.get_or_insert(xid);
            before.push((*key, self.wanted.remove(key)));
        }
        for mut message in erase {
            let xid = self.session.next_xid();
            first.get_or_insert(xid);
            if let Some(field) = message.get_mut(4..8) {
                field.copy_from_slice(&xid.to_be_bytes());
            }
            out.bytes.append(&mut message);
        }
        let barrier = self.say(out, |s, xid, o| s.barrier(xid, o));
        let first = first.unwrap_or(barrier);
        self.open.push_back(Open { txn, first, barrier, sent: now, added, removed, refused: None, before });
    }

    fn on_barrier(&mut self, xid: u32, now: Time, out: &mut Output) {
        let Some(at) = self.open.iter().position(|o| o.barrier == xid) else { return };
        let Some(open) = self.open.remove(at) else { return };
        let switch = self.dpid;
        match (open.txn, open.refused) {
            (Some(txn), None) => {
                let Open { added, removed, .. } = open;
                out.events.push(Event::RulesApplied { switch, txn, added, removed });
            }
            (Some(txn), Some(why)) => {
                self.undo(open.before, now, out);
                out.events.push(Event::RulesRefused { switch, txn, why });
            }
            (None, _) => {}
        }
    }

    /// Puts back what a refused transaction changed, newest change first.
    fn undo(&mut self, before: Vec<(RuleKey, Option<Rule>)>, now: Time, out: &mut Output) {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (key, rule) in before.into_iter().rev() {
            match rule {
                Some(rule) => add.push(rule),
                None => remove.push(key),
            }
        }
        self.change(None, add, &remove, Vec::new(), now, out);
    }

    fn read_flows(&mut self, reading: Reading, out: &mut Output) {
        if self.reading.is_some() {
            // A sync is never given up for an audit.
            if !matches!(self.queued, Some(Reading::Sync(_))) || matches!(reading, Reading::Sync(_)) {
                self.queued = Some(reading);
            }
            return;
        }
        let xid = self.say(out, |s, xid, o| s.ask_flows(xid, o));
        self.reading = Some(Flows { xid, reading, epoch: self.epoch, flows: Vec::new() });
    }

    fn on_flows(
        &mut self,
        xid: u32,
        flows: Vec<Reported>,
        more: bool,
        now: Time,
        out: &mut Output,
    ) -> Result<(), DriverError> {
        let Some(reading) = self.reading.as_mut().filter(|r| r.xid == xid) else { return Ok(()) };
        if reading.flows.len() + flows.len() > MOST_REPORTED {
            return Err(DriverError::Endless(MOST_REPORTED));
        }
        reading.flows.extend(flows);
        if more {
            return Ok(());
        }
        let Some(Flows { reading, epoch, flows, .. }) = self.reading.take() else { return Ok(()) };
        let switch = self.dpid;
        let repair = reconcile::repair(&self.wanted, &flows);
        match reading {
            Reading::Sync(txn) => self.change(Some(txn), repair.add, &[], repair.erase, now, out),
            Reading::Audit => {
                out.events.push(Event::Samples {
                    switch,
                    ports: Vec::new(),
                    flows: reconcile::samples(&flows),
                });
                let (missing, stale) = (repair.add.len() as u32, repair.erase.len() as u32);
                if self.synced && epoch == self.epoch && self.open.is_empty() && missing + stale > 0 {
                    self.change(None, repair.add, &[], repair.erase, now, out);
                    out.events.push(Event::RulesRepaired { switch, missing, stale });
                }
            }
        }
        if let Some(next) = self.queued.take() {
            self.read_flows(next, out);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Output) {
        self.counters.clear();
        self.counters_xid = self.say(out, |s, xid, o| s.ask_counters(xid, o));
        if self.synced && self.reading.is_none() {
            self.read_flows(Reading::Audit, out);
        }
    }

    fn discover(&mut self, out: &mut Output) {
        if self.cfg.lldp_period.is_none() {
            return;
        }
        let ports: Vec<(PortNo, tandem_model::Mac)> =
            self.ports.values().filter(|p| p.up).map(|p| (p.port, p.mac)).collect();
        for (port, mac) in ports {
            let frame = packets::discovery_frame(self.dpid, port, mac, self.cfg.secret);
            self.say(out, |s, xid, o| s.send(xid, port, &frame, o));
        }
    }

    fn set_port(&mut self, port: PortNo, up: bool, out: &mut Output) {
        let Some(mac) = self.ports.get(&port).map(|p| p.mac) else {
            let why = "it has no such port now".to_owned();
            return out.events.push(Event::PortRefused { switch: self.dpid, port, why });
        };
        let xid = self.say(out, |s, xid, o| s.set_port(xid, port, mac, up, o));
        if self.port_changes.len() == PORT_CHANGES {
            self.port_changes.pop_front();
        }
        self.port_changes.push_back((xid, port));
    }

    /// When [`Driver::on_deadline`] has to be called next.
    pub fn next_deadline(&self) -> Time {
        let mut next = self.session.next_deadline();
        if let Some(greeting) = &self.greeting {
            next = next.min(greeting.since + ANSWER_TIMEOUT);
        }
        if self.is_up() {
            next = next.min(self.next_poll);
            next = self.next_lldp.map_or(next, |at| next.min(at));
            next = self.open.front().map_or(next, |o| next.min(o.sent + ANSWER_TIMEOUT));
        }
        next
    }

    /// Polls, discovers and keeps alive, as far as it is time for it.
    ///
    /// # Errors
    /// When the switch has been silent for too long.
    pub fn on_deadline(&mut self, now: Time, out: &mut Output) -> Result<(), DriverError> {
        self.session.on_deadline(now, &mut out.bytes)?;
        if self.greeting.as_ref().is_some_and(|g| now >= g.since + ANSWER_TIMEOUT) {
            return Err(DriverError::Handshake(ANSWER_TIMEOUT));
        }
        if !self.is_up() {
            return Ok(());
        }
        if self.open.front().is_some_and(|o| now >= o.sent + ANSWER_TIMEOUT) {
            return Err(DriverError::Barrier(ANSWER_TIMEOUT));
        }
        if now >= self.next_poll {
            // Kept in step with the clock, so that readings do not drift; periods that were missed are left out.
            let late = now.since(self.next_poll).as_nanos() / self.cfg.poll_period.as_nanos().max(1);
            self.next_poll = self.next_poll + self.cfg.poll_period * (late as u32).saturating_add(1);
            self.poll(out);
        }
        if self.next_lldp.is_some_and(|at| now >= at) {
            self.next_lldp = self.cfg.lldp_period.map(|p| now + p);
            self.discover(out);
        }
        Ok(())
    }
}
