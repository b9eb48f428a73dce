//! A card between a switch's wires and its tables: frames go through the card's look-up, and the card follows the tables.

use super::open::{Opened, chain};
use super::{Talk, card_ports, shared};
use crate::config::{SwitchConfig, TransportChoice};
use crate::soft::io::{IoLosses, IoPort, PacketIo};
use crate::soft::wires::Wires;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tandem_fpga_card::info;
use tandem_fpga_card::lock::Lock;
use tandem_fpga_config::codec::ports::{At, Port, cpu_queue, queue};
use tandem_fpga_config::codec::{PortMap, Transport};
use tandem_fpga_config::counters::{Reading, Sweep};
use tandem_fpga_config::limiter::Setting;
use tandem_fpga_config::offload::{Credit, Offload, OffloadError, Options, Report};
use tandem_fpga_config::registers::Registers;
use tandem_linux::packet::Batch;
use tandem_model::{BitRate, Time};
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
    switch: SwitchConfig,
    wires: Wires,
    /// Kept, not read: one writer per card.
    _lock: Option<Lock>,
    card: Option<Opened>,
    injects: bool,
    cpu_ports: bool,
    /// The card's ports by OpenFlow number, and back.
    card_ports: BTreeMap<u32, u8>,
    numbers: [Option<u32>; 4],
    offload: Option<Offload>,
    macs: Option<Sweep>,
    counted: BTreeMap<String, u64>,
    rates: BTreeMap<u32, u64>,
    scratch: Option<Batch>,
    mtu: u32,
    swept: Time,
    next: Time,
    again: Time,
    /// Frames that a card that cannot be asked did not take, by OpenFlow number.
    lost: BTreeMap<u32, u64>,
    trouble: Option<String>,
    talk: Talk,
}

impl CardIo {
    /// Opens the card of a switch; nobody else may write to it from now on.
    ///
    /// # Errors
    /// When it cannot be had, with what to do.
    pub fn open(switch: &SwitchConfig, talk: Talk) -> Result<CardIo, String> {
        let lock = Opened::lock(switch)?;
        let card = Opened::open(switch)?;
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
            injects: card.injects(),
            cpu_ports: card.cpu_ports(),
            macs: Some(Sweep::new(&card.profile, "MAC_GRP")),
            card: Some(card),
            card_ports,
            numbers,
            offload: None,
            counted: BTreeMap::new(),
            rates: BTreeMap::new(),
            scratch: None,
            mtu: 1500,
            swept: Time::ZERO,
            next: Time::ZERO,
            again: Time::ZERO,
            lost: BTreeMap::new(),
            trouble: None,
            talk,
        })
    }

    fn number(&self, card_port: u8) -> Option<u32> {
        self.numbers.get(usize::from(card_port)).copied().flatten()
    }

    /// The card cannot be asked: software goes on, and the card is opened again after a while.
    fn fail(&mut self, what: &str, error: &dyn std::error::Error, now: Time) {
        let why = format!("{what}: {}", chain(error));
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!("switch {}: {why}; it is tried again every {AGAIN:?}", self.switch.name);
        }
        self.trouble = Some(why);
        (self.card, self.offload) = (None, None);
        self.again = now + AGAIN;
    }

    fn reopen(&mut self, now: Time) {
        if self.card.is_some() || now < self.again {
            return;
        }
        self.again = now + AGAIN;
        match Opened::open(&self.switch) {
            Ok(card) => {
                tracing::info!("switch {}: the card {} answers again", self.switch.name, card.target);
                self.macs = Some(Sweep::new(&card.profile, "MAC_GRP"));
                (self.card, self.trouble) = (Some(card), None);
                self.rates.clear();
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    /// A frame goes into one of the card's queues; what leaves by ports is sent, what the card gives to its CPU ports is returned, with the
    /// OpenFlow number of the port that it came in by.
    fn inject(&mut self, from: u8, frame: &[u8], now: Time) -> Vec<(u32, Vec<u8>)> {
        let Some(opened) = &mut self.card else { return Vec::new() };
        let sent = match opened.card.inject(from, frame) {
            Ok(sent) => sent,
            Err(error) => {
                self.fail("putting a frame into the card", &error, now);
                return Vec::new();
            }
        };
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

    fn port_map(&self, switch: &Switch) -> Result<PortMap, String> {
        let bits =
            |number: u32| switch.ports().find(|(p, _, _)| p.number == number).map_or(0, |(_, bits, _)| bits);
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
        let map = match self.port_map(switch) {
            Ok(map) => map,
            Err(why) => return self.trouble = Some(why),
        };
        let report = match self.sync(switch, map, now) {
            Ok(report) => report,
            Err(error) => return self.fail("keeping the flows in the card", &error, now),
        };
        for (id, why) in &report.rejected {
            let name = &self.switch.name;
            tracing::warn!("switch {name}: flow {id} is in no hardware, and there is no software: {why}");
        }
        let Some(offload) = &self.offload else { return };
        let flows: Vec<u64> = switch.pipeline().tables.iter().flat_map(|t| t.iter().map(|f| f.id)).collect();
        for id in flows {
            let place = offload.place(id).map(|p| p.to_string());
            if switch.remark_of(id) != place.as_deref() {
                switch.remark(id, place);
            }
        }
    }

    fn sync(&mut self, switch: &Switch, map: PortMap, now: Time) -> Result<Report, OffloadError> {
        let watched = self.watched();
        let (Some(opened), Some(table)) = (&mut self.card, switch.pipeline().tables.first()) else {
            return Ok(Report::default());
        };
        let Some(rows) = opened.profile.flow_table else { return Ok(Report::default()) };
        if self.offload.is_none() {
            let transport = match self.switch.card.as_ref().map(|c| c.transport) {
                Some(TransportChoice::Card) => Transport::Card,
                _ => Transport::Software,
            };
            let options = Options { transport, ..Options::default() };
            self.offload = Some(Offload::start(rows, map.clone(), options, now, &mut opened.card)?);
            if let Some(dog) = opened.profile.watchdog.filter(|_| watched) {
                opened.card.write32(dog.enable, 1)?;
            }
        }
        let Some(offload) = &mut self.offload else { return Ok(Report::default()) };
        offload.set_ports(map);
        offload.sync(table, now, &mut opened.card)
    }

    fn watched(&self) -> bool {
        self.switch.card.as_ref().is_some_and(|c| c.watchdog)
    }

    /// What the card counted goes to the flows.
    fn sweep(&mut self, switch: &mut Switch, now: Time) {
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        self.swept = now;
        match offload.sweep(now, &mut opened.card) {
            Ok(credits) => credit(switch, credits),
            Err(error) => self.fail("reading the card's counters", &error, now),
        }
    }

    /// Once a period: counters of the ports, links, the watchdog, the limiters, and whether the card still holds what was written.
    fn look_after(&mut self, now: Time) {
        let Some(opened) = &mut self.card else { return };
        let watched = self.switch.card.as_ref().is_some_and(|c| c.watchdog);
        let result = (|| {
            if let Some(dog) = opened.profile.watchdog.filter(|_| watched) {
                opened.card.read32(dog.counter)?;
                // A card that was reset has forgotten it.
                if opened.card.read32(dog.enable)? & 1 == 0 {
                    opened.card.write32(dog.enable, 1)?;
                }
            }
            if let Some(macs) = &mut self.macs {
                let readings = macs.read(&mut opened.card)?;
                self.counted =
                    readings.into_iter().map(|Reading { name, value, .. }| (name, value)).collect();
            }
            if !self.injects {
                for (number, at) in &self.card_ports {
                    if let Some(up) = info::link(opened.card.as_mut(), &opened.profile, *at)? {
                        shared(&self.talk).links.insert(*number, up);
                    }
                }
            }
            Ok::<(), tandem_fpga_config::registers::AccessError>(())
        })();
        if let Err(error) = result {
            return self.fail("looking after the card", &error, now);
        }
        self.limit(now);
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        match offload.verify(&mut opened.card) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "switch {}: the card has lost its rows (a reset, or its watchdog); they are written again",
                self.switch.name
            ),
            Err(error) => self.fail("reading the card's rows back", &error, now),
        }
    }

    /// Holds ports to their rates, where the bitfile can.
    fn limit(&mut self, now: Time) {
        let wanted = shared(&self.talk).rates.clone();
        let Some(opened) = &mut self.card else { return };
        let Some(limiter) = opened.profile.rate_limiter.clone().filter(|_| wanted != self.rates) else {
            return;
        };
        for (number, at) in &self.card_ports {
            let setting = match wanted.get(number).map(|r| Setting::at_most(limiter.kind, BitRate(*r))) {
                Some(Ok(setting)) => setting,
                None => Setting::Off,
                Some(Err(error)) => {
                    tracing::warn!("switch {} port {number}: {error}", self.switch.name);
                    continue;
                }
            };
            if let Err(error) = limiter.set(&mut opened.card, *at, setting) {
                return self.fail("setting a rate limiter", &error, now);
            }
        }
        self.rates = wanted;
    }
}

impl PacketIo for CardIo {
    fn set_ports(&mut self, ports: &[IoPort]) -> Vec<(u32, String)> {
        self.mtu = ports.iter().map(|p| p.mtu).max().unwrap_or(1500).max(1500);
        self.scratch = None;
        // The ports of a card without a driver have no interface.
        let have = |p: &&IoPort| self.cpu_ports || !self.card_ports.contains_key(&p.number);
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
        for (_, frame) in scratch.frames() {
            if self.card.is_none() {
                *self.lost.entry(from).or_default() += 1;
                continue;
            }
            for (number, frame) in self.inject(queue(card_port), frame, now) {
                if !batch.push(number, &frame) {
                    *self.lost.entry(number).or_default() += 1;
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
        if !self.cpu_ports || self.injects && self.card.is_none() {
            *self.lost.entry(port).or_default() += 1;
        } else if self.injects {
            self.inject(cpu_queue(card_port), frame, now);
        } else {
            self.wires.transmit(port, None, frame, now);
        }
    }

    fn flush(&mut self, now: Time) {
        self.wires.flush(now);
    }

    fn losses(&mut self, port: u32) -> IoLosses {
        let mut losses = self.wires.losses(port);
        losses.sent += self.lost.get(&port).copied().unwrap_or_default();
        losses
    }

    fn tend(&mut self, switch: &mut Switch, now: Time) -> Option<Time> {
        self.reopen(now);
        self.follow(switch, now);
        if now >= self.next {
            self.next = now + PERIOD;
            self.sweep(switch, now);
            self.look_after(now);
        }
        Some(self.next)
    }

    fn freshen(&mut self, switch: &mut Switch, now: Time) {
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
        match &self.offload {
            // With software, everything has a place.
            Some(offload) if !self.cpu_ports => offload
                .admits(criteria, instructions)
                .map_err(|why| format!("this card has no CPU ports, and {why}")),
            _ => Ok(()),
        }
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
        // Setting an interface of the driver down does not stop the MAC: its queues and both its directions do.
        const OFF: u32 = 0b1_1011;
        let control = opened.card.read32(address);
        let outcome = control.and_then(|c| opened.card.write32(address, if up { c & !OFF } else { c | OFF }));
        if let Err(error) = outcome {
            tracing::warn!("switch {} port {port}: {}", self.switch.name, chain(&error));
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
        lines.extend(self.trouble.clone());
        lines
    }
}

impl CardIo {
    /// Frames came to software: for those of rules without a row, exact entries are made.
    fn seen(&mut self, batch: &mut Batch, now: Time) {
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
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

fn credit(switch: &mut Switch, credits: Vec<Credit>) {
    for c in credits {
        switch.credit(c.flow, c.packets, c.bytes, c.last_used);
    }
}

impl Drop for CardIo {
    fn drop(&mut self) {
        // An agent that ends leaves the card forwarding; only one that is stuck or killed is noticed by the watchdog.
        let watched = self.watched();
        if let Some(opened) = &mut self.card
            && let Some(dog) = opened.profile.watchdog.filter(|_| watched)
        {
            let _ = opened.card.write32(dog.enable, 0);
        }
    }
}
