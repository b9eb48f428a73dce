//! A card between a switch's wires and its tables: frames go through the card's look-up, and the card
//! follows the tables.

use super::open::{Opened, Opening, chain};
use super::recovery::Recovery;
use super::{Talk, card_ports};
use crate::config::{RowCounters, SwitchConfig, TransportChoice};
use crate::datapath::soft::io::{IoLosses, IoPort, PacketIo};
use crate::datapath::soft::packet_socket_io::Wires;
use crate::peer_lines::PeerLines;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tandem_fpga_card::InjectError;
use tandem_fpga_card::cosim::BURST;
use tandem_fpga_card::lock::Lock;
use tandem_fpga_config::card_clock::CardClock;
use tandem_fpga_config::codec::ports::{At, Port, cpu_queue, queue};
use tandem_fpga_config::codec::{PortMap, Reason, Transport};
use tandem_fpga_config::counters::Sweep;
use tandem_fpga_config::offload::{Credit, Offload, OffloadError, Options, Place, Report, admits};
use tandem_fpga_config::profile;
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_linux::packet::Batch;
use tandem_model::Time;
use tandem_openflow::switch::{PortCounters, Switch, config};
use tandem_openflow::table::{Criteria, Instructions};

/// How often counters are read, the watchdog is calmed and links are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Counters that were read so lately are not read again for a question.
const FRESH: Duration = Duration::from_millis(50);
/// How long a card that could not be asked is left alone.
const AGAIN: Duration = Duration::from_secs(5);

/// See the module.
pub struct CardIo {
    pub(super) switch: SwitchConfig,
    wires: Wires,
    /// Kept, not read: one writer per card.
    _lock: Option<Lock>,
    pub(super) card: Option<Opened>,
    /// The card, while it is opened again.
    opening: Option<Opening>,
    pub(super) injects: bool,
    /// Several frames can be put into the card at once.
    bursts: bool,
    cpu_ports: bool,
    /// The card's ports by OpenFlow number, and back.
    pub(super) card_ports: BTreeMap<u32, u8>,
    numbers: [Option<u32>; 4],
    pub(super) offload: Option<Offload>,
    pub(super) macs: Option<Sweep>,
    /// The card's clock, when its MACs were read last.
    pub(super) seconds: u32,
    pub(super) counted: BTreeMap<String, u64>,
    pub(super) rates: BTreeMap<u32, u64>,
    scratch: Option<Batch>,
    mtu: u32,
    pub(super) swept: Time,
    /// When it was tended last.
    now: Time,
    next: Time,
    again: Time,
    /// Frames that a card did not take or that had no room behind it, by OpenFlow number.
    lost: BTreeMap<u32, IoLosses>,
    /// Flows that the card was told of and that it is too small for, where there is no software.
    rejected: BTreeSet<u64>,
    trouble: Option<String>,
    /// How often the card had lost its rows.
    pub(super) flushed: u64,
    /// Why frames do not get into a card that answers.
    no_packets: Option<String>,
    pub(super) recovery: Recovery,
    pub(super) clock: CardClock,
    pub(super) talk: Talk,
    /// What controllers' orders cause to be said.
    pub(super) lines: PeerLines,
}

impl CardIo {
    /// Opens the card of a switch; nobody else may write to it from now on.
    ///
    /// # Errors
    /// When it cannot be had, with what to do.
    pub fn open(switch: &SwitchConfig, talk: Talk) -> Result<CardIo, String> {
        let lock = Opened::lock(switch)?;
        let card = Opened::open(switch)?;
        let config = switch.card.as_ref();
        let card_ports = card_ports(switch);
        let mut numbers = [None; 4];
        for (number, at) in &card_ports {
            if let Some(slot) = numbers.get_mut(usize::from(*at)) {
                *slot = Some(*number);
            }
        }
        Ok(CardIo {
            switch: switch.clone(),
            wires: Wires::new(),
            _lock: lock,
            injects: config.is_some_and(super::injects),
            bursts: true,
            cpu_ports: config.is_some_and(super::cpu_ports),
            macs: Some(Sweep::new(&card.profile, "MAC_GRP")),
            card: Some(card),
            opening: None,
            seconds: 0,
            card_ports,
            numbers,
            offload: None,
            counted: BTreeMap::new(),
            rates: BTreeMap::new(),
            scratch: None,
            mtu: 1500,
            swept: Time::ZERO,
            now: Time::ZERO,
            next: Time::ZERO,
            again: Time::ZERO,
            lost: BTreeMap::new(),
            rejected: BTreeSet::new(),
            trouble: None,
            flushed: 0,
            no_packets: None,
            recovery: Recovery::new(),
            clock: CardClock::default(),
            talk,
            lines: PeerLines::default(),
        })
    }

    fn number(&self, card_port: u8) -> Option<u32> {
        self.numbers.get(usize::from(card_port)).copied().flatten()
    }

    /// The card cannot be asked: software goes on, and the card is opened again after a while.
    pub(super) fn fail(&mut self, what: &str, error: &dyn std::error::Error, now: Time) {
        let why = format!("{what}: {}", chain(error));
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!("switch {}: {why}; it is tried again every {AGAIN:?}", self.switch.name);
        }
        self.trouble = Some(why);
        (self.card, self.offload) = (None, None);
        self.recovery.begin_anew();
        self.again = now + AGAIN;
    }

    fn reopen(&mut self, now: Time) {
        if let Some(outcome) = self.opening.as_ref().and_then(Opening::outcome) {
            self.opening = None;
            self.again = now + AGAIN;
            match outcome {
                Ok(card) => {
                    tracing::info!("switch {}: the card {} answers again", self.switch.name, card.target);
                    self.macs = Some(Sweep::new(&card.profile, "MAC_GRP"));
                    self.seconds = 0;
                    (self.card, self.trouble, self.no_packets) = (Some(card), None, None);
                    self.rates.clear();
                }
                Err(why) => self.trouble = Some(why),
            }
        } else if self.card.is_none() && self.opening.is_none() && now >= self.again {
            match Opening::begin(&self.switch) {
                Ok(opening) => self.opening = Some(opening),
                Err(why) => (self.trouble, self.again) = (Some(why), now + AGAIN),
            }
        }
    }

    /// Frames go into one of the card's queues, as close behind each other as the card takes them; what
    /// leaves by ports is sent, what the card gives to its CPU ports is returned, with the OpenFlow number
    /// of the port that it came in by.
    fn inject(&mut self, from: u8, frames: &[&[u8]], now: Time) -> Vec<(u32, Vec<u8>)> {
        let taken = match (&mut self.card, frames) {
            (Some(opened), [frame]) => opened.card.inject(from, frame),
            (Some(opened), _) if self.bursts => {
                let all: Vec<(u8, &[u8])> = frames.iter().map(|f| (from, *f)).collect();
                opened.card.burst(&all)
            }
            (Some(_), _) => return frames.iter().flat_map(|f| self.inject(from, &[f], now)).collect(),
            (None, _) => Err(InjectError::None),
        };
        let sent = match taken {
            Ok(sent) => {
                frames.iter().for_each(|f| self.recovery.offered(from, f.len()));
                sent
            }
            Err(InjectError::Access(AccessError::Refused { .. }) | InjectError::None)
                if self.card.is_some() && frames.len() > 1 =>
            {
                // A simulation that knows no bursts.
                self.bursts = false;
                return self.inject(from, frames, now);
            }
            Err(error) => {
                if let Some(number) = self.number(from / 2) {
                    let lost = self.lost.entry(number).or_default();
                    let lost = if from.is_multiple_of(2) { &mut lost.received } else { &mut lost.sent };
                    *lost += frames.len() as u64;
                }
                match error {
                    // It goes on answering: a simulation without packets, or one that has no room.
                    InjectError::Access(AccessError::Refused { .. }) | InjectError::None => {
                        let why = format!("the card takes no frames: {}", chain(&error));
                        if self.card.is_some() && self.no_packets.as_ref() != Some(&why) {
                            tracing::warn!("switch {}: {why}", self.switch.name);
                            self.no_packets = Some(why);
                        }
                    }
                    InjectError::Access(_) => self.fail("putting a frame into the card", &error, now),
                }
                return Vec::new();
            }
        };
        self.no_packets = None;
        let mut up = Vec::new();
        for (queue, frame) in sent {
            let Some(number) = self.number(queue / 2) else { continue };
            if queue % 2 == 0 {
                self.wires.transmit(number, None, &frame, now);
            } else {
                up.push((number, frame));
            }
        }
        up
    }

    fn port_map(&self, bits: impl Fn(u32) -> u32) -> Result<PortMap, String> {
        let port = |p: &crate::config::PortConfig| {
            let at = p.card_port.map_or(At::Plain, At::Card);
            let bits = bits(p.number);
            Port {
                flood: bits & config::NO_FLOOD == 0,
                forward: bits & config::NO_FWD == 0,
                receive: bits & config::NO_RECV == 0,
                ..Port::new(p.number, p.interface.clone(), at)
            }
        };
        PortMap::new(self.switch.ports.iter().map(port).collect(), self.cpu_ports).map_err(|e| e.to_string())
    }

    /// Brings the card to the tables.
    fn follow(&mut self, switch: &mut Switch, now: Time) {
        let bits =
            |number: u32| switch.ports().find(|(p, _, _)| p.number == number).map_or(0, |(_, bits, _)| bits);
        let map = match self.port_map(bits) {
            Ok(map) => map,
            Err(why) => return self.trouble = Some(why),
        };
        match self.sync(switch, map, now) {
            Ok(report) => {
                self.reject(report);
                self.is_written(now);
            }
            Err(error) => self.fail("keeping the flows in the card", &error, now),
        }
        let flows: Vec<u64> = switch.pipeline().tables.iter().flat_map(|t| t.iter().map(|f| f.id)).collect();
        for id in flows {
            let place = match &self.offload {
                Some(offload) => offload.place(id).map(|p| match &p {
                    Place::Software(why @ Reason::NoSoftware(_)) => format!("nowhere: {why}"),
                    Place::Software(_) => p.to_string(),
                    place => match self.recovery.outage() {
                        Some(why) => format!("nowhere: {why}"),
                        None => place.to_string(),
                    },
                }),
                None if self.cpu_ports => Some("software: the card cannot be asked".to_owned()),
                None => Some("unknown: the card cannot be asked, and goes by what it has".to_owned()),
            };
            if switch.remark_of(id) != place.as_deref() {
                switch.remark(id, place);
            }
        }
    }

    /// Flows for which the card is too small, told once.
    fn reject(&mut self, report: Report) {
        for (id, why) in &report.rejected {
            if self.rejected.insert(*id) {
                let name = &self.switch.name;
                self.lines.warn(|| {
                    format!("switch {name}: flow {id} is in no hardware, and there is no software: {why}")
                });
            }
        }
        if let Some(offload) = &self.offload {
            self.rejected.retain(|id| offload.place(*id).is_some_and(|p| matches!(p, Place::Software(_))));
        }
    }

    fn transport(&self) -> Transport {
        match self.switch.card.as_ref().map(|c| c.transport) {
            Some(TransportChoice::Card) => Transport::Card,
            _ => Transport::Software,
        }
    }

    fn sync(&mut self, switch: &Switch, map: PortMap, now: Time) -> Result<Report, OffloadError> {
        let (watched, transport) = (self.watched(), self.transport());
        let (Some(opened), Some(table)) = (&mut self.card, switch.pipeline().tables.first()) else {
            return Ok(Report::default());
        };
        if self.recovery.is_clearing() {
            return Ok(Report::default());
        }
        let row_counters = self.switch.card.as_ref().and_then(|c| c.row_counters).map(|r| match r {
            RowCounters::Accumulate => profile::RowCounters::Accumulate,
            RowCounters::ClearOnRead => profile::RowCounters::ClearOnRead,
        });
        let Some(rows) = opened.profile.flow_table else { return Ok(Report::default()) };
        if self.offload.is_none() {
            let options = Options { transport, row_counters, ..Options::default() };
            self.offload = Some(Offload::start(rows, map.clone(), options, now, &mut opened.card)?);
            if let Some(dog) = opened.profile.watchdog.filter(|_| watched) {
                opened.card.write32(dog.enable, 1)?;
            }
        }
        let Some(offload) = &mut self.offload else { return Ok(Report::default()) };
        offload.set_ports(map);
        offload.sync(table, now, &mut opened.card)
    }

    pub(super) fn watched(&self) -> bool {
        self.switch.card.as_ref().is_some_and(|c| c.watchdog)
    }
}

impl PacketIo for CardIo {
    fn set_ports(&mut self, ports: &[IoPort]) -> Vec<(u32, String)> {
        self.mtu = ports.iter().map(|p| p.mtu).max().unwrap_or(1500).max(1500);
        self.scratch = None;
        // The ports of a card without a driver have no interface.
        let have = |p: &&IoPort| self.injects || self.cpu_ports || !self.card_ports.contains_key(&p.number);
        let wired: Vec<IoPort> = ports.iter().filter(have).cloned().collect();
        self.wires.set_ports(&wired)
    }

    fn descriptors(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        self.wires.descriptors()
    }

    fn receive(&mut self, from: u32, batch: &mut Batch, now: Time) -> io::Result<()> {
        let card_port = self.card_ports.get(&from).copied();
        let Some(card_port) = card_port.filter(|_| self.injects) else {
            self.wires.receive(from, batch, now)?;
            if card_port.is_some() {
                self.seen(batch, now);
            }
            return Ok(());
        };
        let mut scratch = self.scratch.take().unwrap_or_else(|| Batch::new(self.mtu));
        scratch.clear();
        let outcome = self.wires.receive(from, &mut scratch, now);
        let frames: Vec<&[u8]> = scratch.frames().map(|(_, frame)| &*frame).collect();
        for frames in frames.chunks(BURST) {
            for (number, frame) in self.inject(queue(card_port), frames, now) {
                if !self.cpu_ports || !batch.push(number, &frame) {
                    self.lost.entry(number).or_default().received += 1;
                }
            }
        }
        self.scratch = Some(scratch);
        self.seen(batch, now);
        outcome
    }

    fn transmit(&mut self, port: u32, queue: Option<u32>, frame: &[u8], now: Time) {
        let Some(card_port) = self.card_ports.get(&port).copied() else {
            return self.wires.transmit(port, queue, frame, now);
        };
        if !self.cpu_ports {
            self.lost.entry(port).or_default().sent += 1;
        } else if self.injects {
            self.inject(cpu_queue(card_port), &[frame], now);
        } else {
            self.wires.transmit(port, None, frame, now);
        }
    }

    fn flush(&mut self, now: Time) {
        self.wires.flush(now);
    }

    fn losses(&mut self, port: u32) -> IoLosses {
        let mut losses = self.wires.losses(port);
        if let Some(lost) = self.lost.get(&port) {
            losses.received += lost.received;
            losses.sent += lost.sent;
        }
        losses
    }

    fn tend(&mut self, switch: &mut Switch, now: Time) -> Option<Time> {
        self.reopen(now);
        self.recover(switch, now);
        self.follow(switch, now);
        if now >= self.next && !self.recovery.is_clearing() {
            self.next = now + PERIOD;
            self.sweep(switch, now);
            self.look_after(now);
            if self.card.is_some() && self.offload.is_none() {
                self.follow(switch, now);
            }
        }
        let next = if self.recovery.is_clearing() { now + PERIOD } else { self.next };
        self.now = now;
        Some(next.min(self.recovery.deadline()))
    }

    fn freshen(&mut self, switch: &mut Switch, now: Time) {
        if self.recovery.is_clearing() {
            return;
        }
        if now.since(self.swept) >= FRESH {
            self.sweep(switch, now);
        }
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        let Some(table) = switch.pipeline().tables.first() else { return };
        match offload.sweep_due(table, now, &mut opened.card) {
            Ok(credits) => credit(switch, credits),
            Err(error) => self.fail("reading the card's counters", &error, now),
        }
    }

    fn admits(&mut self, criteria: &Criteria, instructions: &Instructions) -> Result<(), String> {
        // With software, everything has a place.
        if self.cpu_ports {
            return Ok(());
        }
        // Whether the card can is known whether it answers or not.
        let ports = self.port_map(|_| 0)?;
        let refused = admits(&ports, self.transport(), criteria, instructions);
        refused.map_err(|why| {
            self.lines.warn(|| format!("switch {}: a flow is refused: {why}", self.switch.name));
            why.to_string()
        })
    }

    fn port_counters(&mut self, port: u32) -> Option<PortCounters> {
        let at = *self.card_ports.get(&port)?;
        let lost = self.losses(port);
        let get = |name: &str| self.counted.get(&format!("MAC_GRP_{at}_{name}")).copied();
        let bad = get("RX_QUEUE_NUM_PKTS_DROPPED_BAD")?;
        Some(PortCounters {
            rx_packets: get("RX_QUEUE_NUM_PKTS_STORED")?,
            tx_packets: get("TX_QUEUE_NUM_PKTS_SENT")?,
            rx_bytes: get("RX_QUEUE_NUM_BYTES_PUSHED")?,
            tx_bytes: get("TX_QUEUE_NUM_BYTES_PUSHED")?,
            rx_dropped: get("RX_QUEUE_NUM_PKTS_DROPPED_FULL")? + lost.received,
            tx_dropped: lost.sent,
            rx_errors: bad,
            rx_crc_err: bad,
            ..PortCounters::default()
        })
    }

    fn set_port(&mut self, port: u32, up: bool) -> bool {
        let Some(at) = self.card_ports.get(&port).copied().filter(|_| !self.injects) else { return false };
        let Some(opened) = &mut self.card else { return true };
        let Some(address) = opened.profile.port_register("MAC_GRP", at, "CONTROL") else { return false };
        // Setting an interface of the driver down does not stop the MAC: its queues and both its directions
        // do.
        const OFF: u32 = 0b1_1011;
        let control = opened.card.read32(address);
        let outcome = control.and_then(|c| opened.card.write32(address, if up { c & !OFF } else { c | OFF }));
        if let Err(error) = outcome {
            self.lines.warn(|| format!("switch {} port {port}: {}", self.switch.name, chain(&error)));
        }
        true
    }

    fn about(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(opened) = &self.card {
            let rows = self.offload.as_ref().map_or(0, |o| o.rows().iter().flatten().count());
            let exact = self.offload.as_ref().map_or(0, Offload::exact_entries);
            let most = opened.profile.flow_table.map_or(0, |t| t.rows);
            let software = if self.cpu_ports { "software behind it" } else { "no CPU ports: hardware only" };
            lines.push(format!(
                "card {}: {}, {rows} of {most} rows, {exact} exact entries, {software}",
                opened.target, opened.profile.name
            ));
        }
        lines.extend(self.recovery.about(self.now));
        lines.extend(self.trouble.clone());
        lines.extend(self.no_packets.clone());
        if self.flushed > 0 {
            lines.push(format!("it has lost its rows {} times; they were written again", self.flushed));
        }
        lines
    }
}

impl CardIo {
    /// Frames came to software: for those of rules without a row, exact entries are made.
    fn seen(&mut self, batch: &mut Batch, now: Time) {
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        if self.recovery.is_clearing() {
            return;
        }
        let mut failed = None;
        for (number, frame) in batch.frames() {
            if let Err(error) = offload.packet_seen(frame, number, now, &mut opened.card) {
                failed = Some(error);
                break;
            }
        }
        if let Some(error) = failed {
            self.fail("making an exact entry", &error, now);
        }
    }
}

pub(super) fn credit(switch: &mut Switch, credits: Vec<Credit>) {
    for c in credits {
        switch.credit(c.flow, c.packets, c.bytes, c.last_used);
    }
}

impl Drop for CardIo {
    fn drop(&mut self) {
        // An agent that ends leaves the card forwarding; only one that is stuck or killed is noticed by the
        // watchdog.
        let watched = self.watched();
        if let Some(opened) = &mut self.card
            && let Some(dog) = opened.profile.watchdog.filter(|_| watched)
        {
            let _ = opened.card.write32(dog.enable, 0);
        }
    }
}
