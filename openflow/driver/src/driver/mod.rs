//! The driver's state, and the handling of messages, effects and deadlines. Transactions are in
//! `changes`, reading and repairing flows in `flows`, errors and unreadable messages in `faults`,
//! several connections of one switch in `duty`.

mod changes;
mod duty;
mod effects;
mod faults;
mod flows;
mod pieces;
mod unlike;

pub use duty::Duty;

use crate::codec::{ProtocolCodec, SwitchMessage};
use crate::error::DriverError;
use crate::fairness::PacketRateLimiter;
use crate::flow_dump::{FlowDump, Purpose};
use crate::handshake::{Handshake, MOST_PORTS, Next};
use crate::packets::{self, Malformed, ParsedPacket};
use crate::port_changes::{Outcome, PortChanges};
use crate::v10::V10;
use crate::v13::V13;
use crate::wanted::Wanted;
use changes::Open;
use pieces::Pieces;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tandem_model::rate_limit::{KeyedRateLimiter, RateLimiter};
use tandem_model::{
    Dpid, Event, Leave, LeftRules, PortInfo, PortNo, PortSample, RuleKey, SwitchCaps, Time, TxnId,
};
use tandem_openflow::error::OfErrorCode;
use tandem_openflow::header;
use tandem_openflow::session::multipart::Assembly;
use tandem_openflow::session::{self, Incoming, Session};
use unlike::Unlike;

/// How long a switch may take for the handshake after its HELLO, for a barrier, and for the next
/// part of a reply.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Port changes that wait for a reply; when there are more, errors about the oldest are ignored.
const PORT_CHANGES: usize = 64;
/// Warnings a minute; more are dropped, so that one faulty switch does not fill the log.
const WARNINGS: u32 = 10;

/// Error replies a minute to messages that cannot be decoded.
const ANSWERS: u32 = 60;
/// OFPT_FEATURES_REPLY, in either version.
const FEATURES_REPLY: u8 = 6;
/// The most kinds of malformed packets and messages with a limit of one warning a minute each. The
/// code has about as many; further kinds share one limit.
const KINDS: usize = 64;
const MINUTE: Duration = Duration::from_secs(60);

/// The driver's configuration.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How often counters are read.
    pub poll_period: Duration,
    /// How often each port sends a discovery frame; `None` where discovery is off.
    pub lldp_period: Option<Duration>,
    /// Authenticates the discovery frames of this run of the controller.
    pub secret: u64,
    /// Packets a second that go to the core; more are counted and dropped, so that one switch
    /// cannot starve the others.
    pub packet_ins: u32,
    /// Times of the session.
    pub session: session::Config,
}

/// The output of a call.
#[derive(Debug, Default)]
pub struct Output {
    /// Bytes for the switch.
    pub bytes: Vec<u8>,
    /// Events for the core.
    pub events: Vec<Event>,
    /// Warnings for the operator's log: faults of the switch that do not end its connection.
    pub warnings: Vec<String>,
}

/// The driver of one connection of a switch.
pub struct Driver {
    cfg: Config,
    peer: String,
    session: Session,
    codec: Option<Box<dyn ProtocolCodec + Send>>,
    handshake: Option<Handshake>,
    dpid: Dpid,
    duty: Duty,
    /// Set at the end of the handshake.
    caps: Option<SwitchCaps>,
    ports: BTreeMap<PortNo, PortInfo>,
    wanted: Wanted,
    /// Flows that stay although no rule wants them.
    leave: Leave,
    /// Such flows in the switch, as last reported to the core.
    left: Vec<LeftRules>,
    /// Fewer flows are to be left than when flows were last read.
    lets_go: bool,
    /// False until the first `SyncRules`: audits need to know the wanted rules.
    synced: bool,
    epoch: u64,
    open: VecDeque<Open>,
    pieces: Pieces,
    flow_dump: Option<FlowDump>,
    /// The next dump, as soon as the present one ends.
    queued: Option<Purpose>,
    /// The last `SyncRules`; a repair that is refused makes it refused.
    sync: Option<TxnId>,
    /// The sync was refused, and no audit has found all rules in the switch since.
    is_sync_refused: bool,
    /// Repairs are paused until this time; the length of the next pause.
    repair: (Time, Duration),
    /// Repairs without effect.
    unlike: Unlike,
    /// Keys of flows of other controllers when flows were last read (OpenFlow 1.0 only: in 1.3 a
    /// request selects by cookie).
    foreign: BTreeSet<RuleKey>,
    counters: Assembly<PortSample>,
    counters_asked: Time,
    next_poll: Time,
    next_lldp: Option<Time>,
    /// The latest port changes whose reply is awaited.
    port_changes: VecDeque<PortChange>,
    packets: PacketRateLimiter,
    port_news: PortChanges,
    complaints: RateLimiter,
    dropped: u64,
    /// Limits error replies to messages that cannot be decoded.
    answers: RateLimiter,
    misunderstood: u64,
    misunderstood_kinds: KeyedRateLimiter<(&'static str, u16, u16)>,
    malformed: u64,
    malformed_kinds: KeyedRateLimiter<Malformed>,
}

/// A PORT_MOD that was sent.
#[derive(Debug, Clone, Copy)]
struct PortChange {
    /// Transaction ids of the PORT_MOD and of the barrier behind it.
    xid: u32,
    barrier: u32,
    port: PortNo,
    up: bool,
    sent: Time,
}

impl PortChange {
    /// Whether an error with this transaction id is about one of them.
    fn is_about(self, xid: u32) -> bool {
        self.xid == xid || self.barrier == xid
    }
}

impl Driver {
    /// Starts a session with a switch that has just connected.
    pub fn new(cfg: Config, peer: &str, now: Time, out: &mut Output) -> Driver {
        let session = Session::new(&[header::V10, header::V13], cfg.session, now, &mut out.bytes);
        Driver {
            cfg,
            peer: peer.to_owned(),
            session,
            codec: None,
            handshake: None,
            dpid: Dpid(0),
            duty: Duty::Active,
            caps: None,
            ports: BTreeMap::new(),
            wanted: Wanted::new([], |key| *key),
            leave: Leave::Nothing,
            left: Vec::new(),
            lets_go: false,
            synced: false,
            epoch: 0,
            open: VecDeque::new(),
            pieces: Pieces::default(),
            flow_dump: None,
            queued: None,
            sync: None,
            is_sync_refused: false,
            repair: (now, changes::REPAIR_PAUSE),
            unlike: Unlike::default(),
            foreign: BTreeSet::new(),
            counters: Assembly::new(MOST_PORTS),
            counters_asked: now,
            next_poll: now,
            next_lldp: None,
            port_changes: VecDeque::new(),
            packets: PacketRateLimiter::new(cfg.packet_ins, &[], now),
            port_news: PortChanges::new(0, now),
            complaints: RateLimiter::new(WARNINGS, MINUTE, now),
            dropped: 0,
            answers: RateLimiter::new(ANSWERS, MINUTE, now),
            misunderstood: 0,
            misunderstood_kinds: KeyedRateLimiter::new(1, MINUTE, KINDS, now),
            malformed: 0,
            malformed_kinds: KeyedRateLimiter::new(1, MINUTE, KINDS, now),
        }
    }

    /// The switch's id, once its handshake is done.
    pub fn dpid(&self) -> Option<Dpid> {
        self.is_up().then_some(self.dpid)
    }

    /// The address that it is connected from.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Packets that were not reported to the core because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Packets that were dropped because they were malformed.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    fn is_up(&self) -> bool {
        self.codec.is_some() && self.handshake.is_none()
    }

    /// Sends a message with a new transaction id; returns the id.
    fn send(&mut self, out: &mut Output, message: impl FnOnce(&dyn ProtocolCodec, u32, &mut Vec<u8>)) -> u32 {
        let xid = self.session.next_xid();
        if let Some(codec) = &self.codec {
            message(codec.as_ref(), xid, &mut out.bytes);
        }
        xid
    }

    /// Handles one whole message.
    ///
    /// # Errors When the connection should be closed, after the bytes in `out` are sent.
    pub fn on_message(&mut self, message: &[u8], now: Time, out: &mut Output) -> Result<(), DriverError> {
        match self.session.on_message(message, now, &mut out.bytes)? {
            Incoming::Handled => Ok(()),
            Incoming::Agreed(version) => {
                self.codec = Some(if version == header::V13 { Box::new(V13) } else { Box::new(V10) });
                let mut handshake = Handshake::new(now);
                handshake.features_xid = self.send(out, |s, xid, o| s.ask_features(xid, o));
                self.handshake = Some(handshake);
                Ok(())
            }
            Incoming::Message(message) => {
                let Some(codec) = &self.codec else { return Ok(()) };
                match codec.decode(message) {
                    Ok(understood) => {
                        if let Some((why, count)) = understood.lost {
                            let what = format!("{count} of the items of a message are not understood");
                            self.on_misunderstood(&what, why, now, out);
                        }
                        self.message(understood.xid, understood.message, now, out)
                    }
                    Err(why) => self.on_unreadable(message, why, now, out),
                }
            }
        }
    }

    /// Looks at the start of an incomplete message, so that a peer that is not a switch is refused
    /// at once.
    ///
    /// # Errors When the connection should be closed, after the bytes in `out` are sent.
    pub fn on_partial(&mut self, start: &[u8], out: &mut Output) -> Result<(), DriverError> {
        Ok(self.session.on_partial(start, &mut out.bytes)?)
    }

    /// Answers bytes that cannot be cut into messages (OFPBRC_BAD_LEN); the caller then closes the
    /// connection.
    pub fn on_unframed(&mut self, start: &[u8], out: &mut Output) {
        self.session.refuse(start, OfErrorCode::BAD_LEN, &mut out.bytes);
    }

    fn message(
        &mut self,
        xid: u32,
        message: SwitchMessage<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), DriverError> {
        if self.handshake.is_some() {
            return self.greet(xid, message, now, out);
        }
        let switch = self.dpid;
        if !self.is_active() && !matches!(message, SwitchMessage::Port(..)) {
            return Ok(());
        }
        match message {
            SwitchMessage::Port(port, removed) => {
                match self.port_news.on_change(&port, removed, &self.ports, now) {
                    Outcome::Now => self.port_is(port, removed, out),
                    Outcome::Later => {}
                    Outcome::TooMany => {
                        let text = format!(
                            "it reports port {} and has {} already; further ones are ignored until it \
                             connects again",
                            port.port,
                            self.ports.len()
                        );
                        self.warn(text, now, out);
                    }
                }
            }
            SwitchMessage::Packet { port, data } => self.on_packet(port, data, now, out),
            SwitchMessage::Removed { cookie, key, deleted } => {
                let missed = key.is_some_and(|k| self.wanted.means(&k));
                if deleted && cookie.is_ours() && missed && self.synced {
                    self.read_flows(Purpose::Audit, now, out);
                }
            }
            SwitchMessage::Flows { flows, more } => self.on_flows(xid, flows, more, now, out),
            SwitchMessage::Counters { ports, more } => match self.counters.add(xid, ports, more) {
                Ok(None) => {}
                Ok(Some(ports)) => {
                    out.events.push(Event::Samples { switch, ports, flows: Vec::new(), rules: Vec::new() })
                }
                Err(endless) => self.warn(format!("its port counters: {endless}"), now, out),
            },
            SwitchMessage::Barrier => self.on_barrier(xid, now, out),
            SwitchMessage::Error(text) => self.on_error(xid, text, now, out),
            SwitchMessage::Features { .. }
            | SwitchMessage::Ports { .. }
            | SwitchMessage::Description(_)
            | SwitchMessage::Nothing => {}
        }
        Ok(())
    }

    fn port_is(&mut self, port: PortInfo, removed: bool, out: &mut Output) {
        if removed {
            self.ports.remove(&port.port);
        } else {
            self.ports.insert(port.port, port.clone());
        }
        if self.is_active() {
            out.events.push(Event::PortChanged { switch: self.dpid, port, removed });
        }
    }

    fn greet(
        &mut self,
        xid: u32,
        message: SwitchMessage<'_>,
        now: Time,
        out: &mut Output,
    ) -> Result<(), DriverError> {
        let Some(mut handshake) = self.handshake.take() else { return Ok(()) };
        let mut next = handshake.handle(xid, message)?;
        if next == Next::Rest {
            self.send(out, |s, xid, o| s.configure(xid, o));
            let mut asked = false;
            let ports_xid = self.send(out, |s, xid, o| asked = s.ask_ports(xid, o));
            if asked {
                handshake.parts.expect(ports_xid);
            }
            handshake.description_xid = self.send(out, |s, xid, o| s.ask_description(xid, o));
            next = Next::Wait;
        }
        let (Next::Done, Some(dpid)) = (next, handshake.dpid) else {
            self.handshake = Some(handshake);
            return Ok(());
        };
        self.dpid = dpid;
        self.ports = handshake.ports_now();
        let numbers: Vec<PortNo> = self.ports.keys().copied().collect();
        self.packets = PacketRateLimiter::new(self.cfg.packet_ins, &numbers, now);
        self.port_news = PortChanges::new(self.ports.len(), now);
        self.next_poll = now + self.cfg.poll_period;
        self.next_lldp = self.cfg.lldp_period.map(|_| now);
        let version = self.codec.as_ref().map_or("", |s| s.version()).to_owned();
        let description = handshake.description.unwrap_or_default();
        let caps = SwitchCaps { version, tables: handshake.tables, description, peer: self.peer.clone() };
        self.caps = Some(caps);
        if self.is_active() {
            self.announce(out);
        }
        Ok(())
    }

    fn on_packet(&mut self, port: PortNo, data: &[u8], now: Time, out: &mut Output) {
        let switch = self.dpid;
        let seen = match packets::parse(data, self.cfg.secret) {
            Ok(Some(seen)) => seen,
            Ok(None) => return,
            Err(why) => return self.on_malformed(port, why, now, out),
        };
        if !self.packets.take(port, now) {
            self.dropped += 1;
            return;
        }
        out.events.push(match seen {
            ParsedPacket::Discovery(dpid, from) => Event::LinkSeen { from: (dpid, from), to: (switch, port) },
            ParsedPacket::Arp(arp) => Event::ArpSeen { switch, port, arp },
            ParsedPacket::Dhcp(dhcp) => Event::DhcpSeen { switch, port, dhcp },
            ParsedPacket::Host(mac, ip) => Event::HostSeen { switch, port, mac, ip },
        });
    }

    /// When [`Driver::on_deadline`] has to be called next.
    pub fn next_deadline(&self) -> Time {
        let mut next = self.session.next_deadline();
        if let Some(handshake) = &self.handshake {
            next = next.min(handshake.since + ANSWER_TIMEOUT);
        }
        if self.is_up() {
            next = self.port_news.deadline().map_or(next, |at| next.min(at));
        }
        if self.is_active() {
            next = next.min(self.next_poll);
            next = self.next_lldp.map_or(next, |at| next.min(at));
            next = self.pieces.oldest().map_or(next, |sent| next.min(sent + ANSWER_TIMEOUT));
            next = self.port_changes.front().map_or(next, |change| next.min(change.sent + ANSWER_TIMEOUT));
            next = self.flow_dump.as_ref().map_or(next, |r| next.min(r.deadline()));
        }
        next
    }

    /// Whether all requests and changes for flows and ports have been answered, and none is
    /// waiting.
    pub fn is_idle(&self) -> bool {
        let is_reading = self.flow_dump.is_some() || self.queued.is_some() || self.lets_go;
        self.open.is_empty() && self.port_changes.is_empty() && !is_reading
    }

    /// Polls, sends discovery frames and keeps the session alive, as they are due.
    ///
    /// # Errors
    /// When the switch has been silent for too long.
    pub fn on_deadline(&mut self, now: Time, out: &mut Output) -> Result<(), DriverError> {
        self.session.on_deadline(now, &mut out.bytes)?;
        if let Some(handshake) = self.handshake.as_ref().filter(|g| now >= g.since + ANSWER_TIMEOUT) {
            if !handshake.lacks_description_only() {
                return Err(handshake.overdue(ANSWER_TIMEOUT));
            }
            let xid = handshake.description_xid;
            self.greet(xid, SwitchMessage::Description(String::new()), now, out)?;
        }
        if self.is_up() {
            for (port, removed) in self.port_news.take_due(now) {
                self.port_is(port, removed, out);
            }
        }
        if !self.is_active() {
            return Ok(());
        }
        let oldest = [self.pieces.oldest(), self.port_changes.front().map(|change| change.sent)];
        if oldest.into_iter().flatten().any(|sent| now >= sent + ANSWER_TIMEOUT) {
            return Err(DriverError::Barrier(ANSWER_TIMEOUT));
        }
        if now >= self.next_poll {
            // The next poll follows from the last one's due time, so that polls do not drift;
            // periods that were missed are skipped.
            let late = now.since(self.next_poll).as_nanos() / self.cfg.poll_period.as_nanos().max(1);
            self.next_poll = self.next_poll + self.cfg.poll_period * (late as u32).saturating_add(1);
            self.poll(now, out);
        }
        if let Some(flow_dump) = self.flow_dump.as_ref().filter(|r| r.is_overdue(now)) {
            let why = flow_dump.why_overdue(now);
            self.unread(&why, now, out);
        }
        self.ask_flows(now, out);
        if self.next_lldp.is_some_and(|at| now >= at) {
            self.next_lldp = self.cfg.lldp_period.map(|p| now + p);
            self.discover(out);
        }
        Ok(())
    }
}
