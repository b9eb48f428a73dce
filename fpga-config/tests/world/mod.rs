//! A switch with a card in memory, the offload and the flow table in software, compared with a flow
//! table alone that gets every packet.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::collections::BTreeSet;
use std::time::Duration;
use tandem_fpga_config::codec::ofctl::Line;
use tandem_fpga_config::codec::ports::{At, cpu_queue, queue};
use tandem_fpga_config::codec::{Field, Header, Key, Port, PortMap, Rule, Transport};
use tandem_fpga_config::model::Model;
use tandem_fpga_config::offload::row_plan::Owner;
use tandem_fpga_config::offload::{Offload, Options, Report, Seen};
use tandem_fpga_config::profile::{FlowMap, RowCounters, builtin};
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::Time;
use tandem_openflow::table::flows::Filter;
use tandem_openflow::table::{AddOptions, Change, Flow, FlowKey, Pipeline};

/// A small random number generator, so that a seed reproduces a run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len() as u64) as usize]
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// Sent frames by queue, sorted.
pub type Out = Vec<(u8, Vec<u8>)>;

/// The table's decision for a packet: output to the card's ports, or a decision that only software
/// can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Card(Out),
    Software,
}

pub fn verdict(table: &mut Pipeline, ports: &PortMap, frame: &[u8], in_port: u32, now: Time) -> Verdict {
    let Some(sent) = table.process(frame, in_port, now) else {
        return if ports.cpu_ports { Verdict::Software } else { Verdict::Card(Vec::new()) };
    };
    let mut out = Vec::new();
    for sent in sent {
        match ports.get(sent.port).map(|p| p.at) {
            Some(At::Card(n)) => out.push((queue(n), sent.frame)),
            _ => return Verdict::Software,
        }
    }
    out.sort();
    Verdict::Card(out)
}

/// The card's registers; after every write that changes a decision, packets are tried.
pub struct Watched<'a> {
    pub card: &'a mut Model,
    pub map: FlowMap,
    pub ports: &'a PortMap,
    /// Input port, frame, the right result before, the right result after.
    pub packets: &'a [(u8, Vec<u8>, Verdict, Verdict)],
    pub now: Time,
    pub tried: u64,
    pub wrong: Vec<String>,
    pub lost: u64,
    pub commits: usize,
    pub reads: usize,
    /// The first row is the guard: it is never written again.
    pub guarded: bool,
}

impl Registers for Watched<'_> {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        self.reads += 1;
        self.card.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.card.write32(address, value)?;
        let exact = address >= self.map.exact && address < self.map.exact + self.map.exact_rows * 128;
        self.commits += usize::from(address == self.map.write_row);
        if address == self.map.write_row && value == 0 && self.guarded {
            self.wrong.push("the guard was written over".to_owned());
        }
        if address == self.map.write_row || exact && address % 128 == 28 {
            let mut card = self.card.clone();
            // A frame with too short a header is never forwarded, at any moment.
            let mut short = [0; 60];
            (short[12], short[14]) = (8, 0x44);
            for queue in (0..8).filter(|_| self.guarded) {
                let out = card.packet(queue, &short, self.now);
                if !out.is_empty() {
                    self.wrong.push(format!("a short header from queue {queue} left: {out:?}"));
                }
            }
            for (n, frame, old, new) in self.packets {
                let mut out = card.packet(queue(*n), frame, self.now);
                out.sort();
                self.tried += 1;
                if self.ports.cpu_ports && out == [(cpu_queue(*n), frame.clone())] {
                    continue;
                }
                let out = Verdict::Card(out);
                if out == *old || out == *new {
                    continue;
                }
                if !self.ports.cpu_ports && out == Verdict::Card(Vec::new()) {
                    self.lost += 1;
                    continue;
                }
                self.wrong.push(format!("port {n} {frame:02x?}: {out:?}, was {old:?}, will be {new:?}"));
            }
        }
        Ok(())
    }
}

pub struct World {
    pub ports: PortMap,
    pub card: Model,
    pub map: FlowMap,
    pub offload: Offload,
    /// The table in software, which gets the packets that the card sends it.
    pub soft: Pipeline,
    /// The table alone, which gets all packets.
    pub alone: Pipeline,
    pub now: Time,
    pub compared: u64,
    pub in_card: u64,
    pub tried: u64,
    pub commits: usize,
    pub lost: u64,
    pub gaps: usize,
    pub entries: u64,
    /// Number of frames that the card treats differently from software.
    pub odd: u64,
}

/// A frame with the bytes that the card reads behind its end: zeros, after a constant if a tag was
/// removed.
fn extended(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.get(12..14) == Some(&[0x81, 0]) {
        frame.resize(frame.len().next_multiple_of(8), 0);
        frame.extend([0x60, 0x0d, 0xf0, 0x0d]);
    }
    frame.resize(frame.len().max(120), 0);
    frame
}

pub fn start() -> Time {
    Time(1_000_000_000_000)
}

impl World {
    pub fn new(ports: PortMap, options: Options) -> World {
        let now = start();
        let mut card = Model::new(builtin::named("openflow-switch").expect("built in"), now);
        if options.row_counters == Some(RowCounters::ClearOnRead) {
            card = card.clearing_row_counters();
        }
        let map = card.profile().flow_table.expect("it has one");
        let now = now + Duration::from_secs(1);
        card.set_time(now);
        // Counters of rows start just below their wrap.
        for row in 0..u32::from(map.rows) {
            card.write32(map.packets_hit + 4 * row, u32::MAX - row).expect("mapped");
            card.write32(map.bytes_hit + 4 * row, u32::MAX - 700).expect("mapped");
        }
        let mut offload = Offload::start(map, ports.clone(), options, now, &mut card).expect("it answers");
        let numbers: Vec<u32> = ports.iter().map(|p| p.number).collect();
        let soft = Pipeline::new(1, 10_000, numbers);
        // An empty card drops everything: from here on there are rows to software.
        offload.sync(&soft.tables[0], now, &mut card).expect("it answers");
        let alone = soft.clone();
        World {
            ports,
            card,
            map,
            offload,
            soft,
            alone,
            now,
            compared: 0,
            in_card: 0,
            tried: 0,
            commits: 0,
            lost: 0,
            gaps: 0,
            entries: 0,
            odd: 0,
        }
    }

    pub fn line(&self, text: &str) -> Line {
        let line = Line::parse(text, Some(&self.ports)).unwrap_or_else(|e| panic!("{text}: {e}"));
        let again = Line::parse(&line.to_string(), Some(&self.ports));
        assert_eq!(again.as_ref(), Ok(&line), "what is printed is read again as the same: {line}");
        line
    }

    pub fn add(&mut self, text: &str, idle: Duration, hard: Duration) -> bool {
        let line = self.line(text);
        let Ok(instructions) = line.instructions() else { return false };
        for table in [&mut self.soft, &mut self.alone] {
            let flow = Flow::new(line.priority, line.criteria(), instructions.clone(), self.now);
            let how = AddOptions { check_overlap: false, keep_counts: false };
            table.tables[0].add(Flow { idle, hard, ..flow }, how).expect("room");
        }
        true
    }

    pub fn modify(&mut self, text: &str, strict: bool) {
        let line = self.line(text);
        let Ok(instructions) = line.instructions() else { return };
        let filter =
            Filter { strict: strict.then_some(line.priority), ..Filter::covered_by(line.criteria()) };
        let change = Change { instructions, ..Change::default() };
        for table in [&mut self.soft, &mut self.alone] {
            table.tables[0].modify(&filter, &change);
        }
    }

    /// Deletes flows after reading their counts on the card.
    pub fn delete(&mut self, filter: &Filter) {
        let ids: Vec<u64> = self.soft.tables[0].select(filter).map(|f| f.id).collect();
        for id in ids {
            if let Some(credit) = self.offload.sweep_flow(id, self.now, &mut self.card).expect("it answers") {
                self.soft.credit(credit.flow, credit.packets, credit.bytes, credit.last_used);
            }
        }
        let counts = |t: &mut Pipeline| -> Vec<(u64, u64, u64)> {
            t.tables[0].delete(filter).iter().map(|f| (f.id, f.packets, f.bytes)).collect()
        };
        let (soft, alone) = (counts(&mut self.soft), counts(&mut self.alone));
        assert_eq!(soft, alone, "the last counts of flows that go");
    }

    pub fn sweep(&mut self) {
        for credit in self.offload.sweep(self.now, &mut self.card).expect("it answers") {
            self.soft.credit(credit.flow, credit.packets, credit.bytes, credit.last_used);
        }
    }

    /// Compares the counts of every flow.
    pub fn compare_counts(&mut self) {
        // A sweep reads part of the exact entries.
        for _ in 0..40 {
            self.sweep();
        }
        let counts = |t: &Pipeline| -> Vec<(u64, u64, u64)> {
            t.tables[0].iter().map(|f| (f.id, f.packets, f.bytes)).collect()
        };
        assert_eq!(counts(&self.soft), counts(&self.alone), "packets and bytes of every flow");
    }

    /// Syncs the card with the table, trying packets in between. `old` is the table before.
    pub fn sync(&mut self, old: &Pipeline, frames: &[(u8, Vec<u8>)]) -> Report {
        if !self.ports.cpu_ports {
            // Unsupported flows are refused before they are in the table.
            let (mut trial, mut card) = (self.offload.clone(), self.card.clone());
            let report = trial.sync(&self.soft.tables[0], self.now, &mut card).expect("it answers");
            let refused: BTreeSet<u64> = report.rejected.iter().map(|(id, _)| *id).collect();
            let filters: Vec<Filter> = self.soft.tables[0]
                .iter()
                .filter(|f| refused.contains(&f.id))
                .map(|f| Filter::strictly(f.criteria.clone(), f.priority))
                .collect();
            for filter in filters {
                self.soft.tables[0].delete(&filter);
                self.alone.tables[0].delete(&filter);
            }
        }
        let (mut old, mut new) = (old.clone(), self.soft.clone());
        let packets: Vec<(u8, Vec<u8>, Verdict, Verdict)> = frames
            .iter()
            .map(|(n, frame)| {
                let in_port = self.ports.number(*n).expect("a port");
                let was = verdict(&mut old, &self.ports, frame, in_port, self.now);
                let will = verdict(&mut new, &self.ports, frame, in_port, self.now);
                (*n, frame.clone(), was, will)
            })
            .collect();
        let mut watched = Watched {
            card: &mut self.card,
            map: self.map,
            ports: &self.ports,
            packets: &packets,
            now: self.now,
            tried: 0,
            wrong: Vec::new(),
            lost: 0,
            commits: 0,
            reads: 0,
            guarded: self.offload.rows().first().is_some_and(|s| s.is_some_and(|s| s.owner == Owner::Guard)),
        };
        let report = self.offload.sync(&self.soft.tables[0], self.now, &mut watched).expect("it answers");
        assert_eq!(watched.wrong, Vec::<String>::new(), "on the way");
        assert_eq!(watched.commits, report.commits);
        self.tried += watched.tried;
        self.lost += watched.lost;
        self.commits += report.commits;
        self.gaps += report.gaps;
        report
    }

    /// The card's required result for a frame of which its key lacks something that software
    /// matches; `None` for all others.
    ///
    /// - An IPv4 header length below 5: it is dropped.
    /// - 802.3 with a length (LLC, SNAP): decided as without the rules that match a type.
    /// - A frame that ends before a field: decided and changed as if it continued as the card reads
    ///   it.
    fn odd(&self, n: u8, frame: &[u8]) -> Option<Verdict> {
        let in_port = self.ports.number(n).expect("a port");
        let (key, header) = Key::read(frame, queue(n));
        if header == Header::Short {
            return Some(Verdict::Card(Vec::new()));
        }
        if key.get(Field::ETH_TYPE) < 0x0600 {
            let mut table = self.alone.clone();
            let typed = table.tables[0].iter().filter(|f| {
                let rule = Rule::new(&f.criteria, &f.instructions, &self.ports, Transport::Literal);
                rule.except.is_some() || rule.pattern.mask.get(Field::ETH_TYPE) != 0xffff
            });
            let filters: Vec<_> = typed.map(|f| Filter::strictly(f.criteria.clone(), f.priority)).collect();
            for filter in filters {
                table.tables[0].delete(&filter);
            }
            return Some(verdict(&mut table, &self.ports, frame, in_port, self.now));
        }
        let longer = extended(frame);
        if FlowKey::new(frame, in_port) == FlowKey::new(&longer, in_port) && header == Header::Whole {
            return None;
        }
        let mut wanted = verdict(&mut self.alone.clone(), &self.ports, &longer, in_port, self.now);
        if let Verdict::Card(out) = &mut wanted {
            let more = longer.len() - frame.len();
            out.iter_mut().for_each(|(_, frame)| frame.truncate(frame.len() - more));
        }
        Some(wanted)
    }

    /// Tries such a frame on a copy of everything; true if it was one.
    fn tried_odd(&mut self, n: u8, frame: &[u8]) -> bool {
        let Some(wanted) = self.odd(n, frame) else { return false };
        self.odd += 1;
        let (mut card, mut offload) = (self.card.clone(), self.offload.clone());
        let mut out = card.packet(queue(n), frame, self.now);
        out.sort();
        let in_port = self.ports.number(n).expect("a port");
        let software = self.ports.cpu_ports && out == [(cpu_queue(n), frame.to_vec())];
        let (key, header) = Key::read(frame, queue(n));
        // Software has the whole frame, so its decision is right.
        if !software || header == Header::Short {
            assert_eq!(Verdict::Card(out), wanted, "port {n}: {frame:02x?}\n{}", self.story());
        }
        let seen = offload.packet_seen(frame, in_port, self.now, &mut card).expect("it answers");
        if header != Header::Whole || key.get(Field::ETH_TYPE) < 0x0600 {
            assert_eq!(
                seen,
                Seen::Nothing,
                "no exact entry is made of what both see differently: {frame:02x?}"
            );
        }
        true
    }

    /// A packet is received by a port of the card, and passes card and software.
    pub fn packet(&mut self, n: u8, frame: &[u8]) {
        if self.tried_odd(n, frame) {
            return;
        }
        let in_port = self.ports.number(n).expect("a port");
        let wanted = self.alone.process(frame, in_port, self.now);
        let out = self.card.packet(queue(n), frame, self.now);
        self.compared += 1;
        if self.ports.cpu_ports && out == [(cpu_queue(n), frame.to_vec())] {
            let got = self.soft.process(frame, in_port, self.now);
            assert_eq!(got, wanted, "in software");
            // Frames that software sends to a port of the card leave unchanged.
            for sent in got.into_iter().flatten() {
                if let Some(At::Card(to)) = self.ports.get(sent.port).map(|p| p.at) {
                    let out = self.card.packet(cpu_queue(to), &sent.frame, self.now);
                    assert_eq!(out, [(queue(to), sent.frame)]);
                }
            }
            let seen =
                self.offload.packet_seen(frame, in_port, self.now, &mut self.card).expect("it answers");
            self.entries += u64::from(seen == Seen::Made);
            return;
        }
        self.in_card += 1;
        let mut out = out;
        out.sort();
        let wanted = match wanted {
            None if self.ports.cpu_ports => panic!("a miss must go to software: {frame:02x?}: {out:?}"),
            wanted => wanted.unwrap_or_default(),
        };
        let mut wanted: Out = wanted
            .into_iter()
            .map(|sent| match self.ports.get(sent.port).map(|p| p.at) {
                Some(At::Card(to)) => (queue(to), sent.frame),
                _ => panic!("port {} is not the card's, yet the card decided {frame:02x?}", sent.port),
            })
            .collect();
        wanted.sort();
        assert_eq!(out, wanted, "port {n}: {frame:02x?}\n{}", self.story());
    }

    /// The place of every flow, as text.
    pub fn story(&self) -> String {
        let mut out = String::new();
        for f in self.soft.tables[0].iter() {
            let place = self.offload.place(f.id).map_or_else(String::new, |p| p.to_string());
            out += &format!("{} {:?} {:?}: {place}\n", f.priority, f.criteria, f.instructions.apply);
        }
        for (at, slot) in self.offload.rows().iter().enumerate() {
            if let Some(slot) = slot {
                let shown = tandem_fpga_config::codec::listing::Shown(
                    &slot.row.pattern,
                    &slot.row.action,
                    &self.ports,
                );
                out += &format!("row {at}: {shown} {:?}\n", slot.owner);
            }
        }
        out
    }

    /// Expires flows in both tables.
    pub fn expire(&mut self) -> usize {
        self.sweep();
        let due = self.offload.sweep_due(&self.soft.tables[0], self.now, &mut self.card).expect("it answers");
        for credit in due {
            self.soft.credit(credit.flow, credit.packets, credit.bytes, credit.last_used);
        }
        let gone = |t: &mut Pipeline, now| -> Vec<(u64, u64)> {
            t.tables[0].expire(now).iter().map(|(f, _)| (f.id, f.packets)).collect()
        };
        let (soft, alone) = (gone(&mut self.soft, self.now), gone(&mut self.alone, self.now));
        assert_eq!(soft, alone, "flows whose time is up");
        soft.len()
    }
}

/// Ports in an order that counting would get wrong: card ports 0 to 3 are 3, 1, 4, 2.
pub fn ports(card: u8, plain: bool, cpu_ports: bool) -> PortMap {
    let numbers = [3, 1, 4, 2];
    let mut list: Vec<Port> =
        (0..card).map(|n| Port::new(numbers[usize::from(n)], format!("nf2c{n}"), At::Card(n))).collect();
    if plain {
        list.insert(0, Port::new(7, "eth1", At::Plain));
    }
    PortMap::new(list, cpu_ports).expect("good ports")
}

/// UDP from 10.0.0.1:1000 to 10.0.0.2:2000, with this last byte of the destination and this
/// fragment field.
pub fn udp(last: u8, fragment: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, last]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 20, 0, 0]);
    frame.resize(60, 0);
    frame
}
