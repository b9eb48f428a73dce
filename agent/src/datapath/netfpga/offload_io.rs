//! A card between a switch's ports and its tables: frames go through the card's look-up, and the
//! card's rows follow the tables.

use super::open::{Opened, Opening, chain};
use super::recovery::Recovery;
use super::table_sync::add_counters;
use super::{Talk, card_ports};
use crate::config::SwitchConfig;
use crate::datapath::soft::io::{IoDrops, IoPort, PacketIo};
use crate::datapath::soft::packet_socket_io::PacketSocketIo;
use crate::peer_lines::PeerLines;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tandem_fpga_card::cosim::BURST;
use tandem_fpga_card::lock::Lock;
use tandem_fpga_config::card_clock::CardClock;
use tandem_fpga_config::codec::ports::{cpu_queue, queue};
use tandem_fpga_config::counters::Sweep;
use tandem_fpga_config::offload::{Offload, admits};
use tandem_fpga_config::registers::Registers;
use tandem_linux::packet::Batch;
use tandem_model::Time;
use tandem_openflow::switch::{PortCounters, Switch};
use tandem_openflow::table::{Criteria, Instructions};

/// How often counters and links are read and the watchdog is triggered.
const PERIOD: Duration = Duration::from_secs(1);
/// Counters that were read within this time are not read again for a request.
const FRESH: Duration = Duration::from_millis(50);
/// How long a card that did not answer is left alone.
const AGAIN: Duration = Duration::from_secs(5);

/// The packet I/O of a switch whose card forwards what it can.
pub struct CardIo {
    pub(super) switch: SwitchConfig,
    pub(super) packets: PacketSocketIo,
    /// Held, not read: a card has one writer.
    _lock: Option<Lock>,
    pub(super) card: Option<Opened>,
    /// The card while it is being opened again.
    pub(super) opening: Option<Opening>,
    pub(super) injects: bool,
    /// The card accepts several frames at once.
    pub(super) bursts: bool,
    pub(super) cpu_ports: bool,
    /// The card's ports by OpenFlow number, and the reverse.
    pub(super) card_ports: BTreeMap<u32, u8>,
    pub(super) numbers: [Option<u32>; 4],
    pub(super) offload: Option<Offload>,
    pub(super) macs: Option<Sweep>,
    /// The card's clock when its MACs were last read.
    pub(super) seconds: u32,
    pub(super) counted: BTreeMap<String, u64>,
    pub(super) rates: BTreeMap<u32, u64>,
    pub(super) scratch: Option<Batch>,
    pub(super) mtu: u32,
    pub(super) swept: Time,
    /// The time of the last upkeep.
    pub(super) now: Time,
    pub(super) next: Time,
    pub(super) again: Time,
    /// Frames that the card refused or that found its buffers full, by OpenFlow number.
    pub(super) lost: BTreeMap<u32, IoDrops>,
    /// Flows that do not fit the card, if there is no software path.
    pub(super) rejected: BTreeSet<u64>,
    pub(super) trouble: Option<String>,
    /// How often the card had lost its rows.
    pub(super) flushed: u64,
    /// Why a card that answers does not accept frames.
    pub(super) no_packets: Option<String>,
    pub(super) recovery: Recovery,
    pub(super) clock: CardClock,
    pub(super) talk: Talk,
    /// Limits log lines that controllers' messages cause.
    pub(super) lines: PeerLines,
}

impl CardIo {
    /// Opens the card of a switch; no other process may write to it from then on.
    ///
    /// When it is not available, with what to do.
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
            packets: PacketSocketIo::new(),
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

    pub(super) fn number(&self, card_port: u8) -> Option<u32> {
        self.numbers.get(usize::from(card_port)).copied().flatten()
    }

    /// The card does not answer: software forwards alone, and the card is opened again after a
    /// pause.
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
        self.packets.set_ports(&wired)
    }

    fn descriptors(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        self.packets.descriptors()
    }

    fn receive(&mut self, from: u32, batch: &mut Batch, now: Time) -> io::Result<()> {
        let card_port = self.card_ports.get(&from).copied();
        let Some(card_port) = card_port.filter(|_| self.injects) else {
            self.packets.receive(from, batch, now)?;
            if card_port.is_some() {
                self.seen(batch, now);
            }
            return Ok(());
        };
        let mut scratch = self.scratch.take().unwrap_or_else(|| Batch::new(self.mtu));
        scratch.clear();
        let outcome = self.packets.receive(from, &mut scratch, now);
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
            return self.packets.transmit(port, queue, frame, now);
        };
        if !self.cpu_ports {
            self.lost.entry(port).or_default().sent += 1;
        } else if self.injects {
            self.inject(cpu_queue(card_port), &[frame], now);
        } else {
            self.packets.transmit(port, None, frame, now);
        }
    }

    fn flush(&mut self, now: Time) {
        self.packets.flush(now);
    }

    fn losses(&mut self, port: u32) -> IoDrops {
        let mut losses = self.packets.losses(port);
        if let Some(lost) = self.lost.get(&port) {
            losses.received += lost.received;
            losses.sent += lost.sent;
        }
        losses
    }

    fn poll_offload(&mut self, switch: &mut Switch, now: Time) -> Option<Time> {
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

    fn refresh_counters(&mut self, switch: &mut Switch, now: Time) {
        if self.recovery.is_clearing() {
            return;
        }
        if now.since(self.swept) >= FRESH {
            self.sweep(switch, now);
        }
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        let Some(table) = switch.pipeline().tables.first() else { return };
        match offload.sweep_due(table, now, &mut opened.card) {
            Ok(deltas) => add_counters(switch, deltas),
            Err(error) => self.fail("reading the card's counters", &error, now),
        }
    }

    fn admits(&mut self, criteria: &Criteria, instructions: &Instructions) -> Result<(), String> {
        // With a software path, every flow can be executed.
        if self.cpu_ports {
            return Ok(());
        }
        // Whether a flow fits does not depend on whether the card answers.
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
        // Setting the driver's interface down does not stop the MAC: disabling its queues and both
        // directions does.
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

impl Drop for CardIo {
    fn drop(&mut self) {
        // When the agent ends in order, the card goes on forwarding; the watchdog is for an agent
        // that hangs or was killed.
        let watched = self.watched();
        if let Some(opened) = &mut self.card
            && let Some(dog) = opened.profile.watchdog.filter(|_| watched)
        {
            let _ = opened.card.write32(dog.enable, 0);
        }
    }
}
