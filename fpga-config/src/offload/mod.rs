//! Keeps a flow table on a card, so that card and software together decide every packet as the
//! table alone would.
//!
//! 1. [`Offload::start`] reads the card's rows. Right ones are kept, so that traffic does not stop
//!    for a restart.
//! 2. [`Offload::sync`] compares the table with the card and writes the differences: [`select`]
//!    decides which rules get rows, [`row_plan`] in which order rows are written, so that no packet
//!    meets a wrong one in between. OpenFlow 1.0 matches without wildcards go to the exact table.
//! 3. [`Offload::packet_seen`], called for packets that came to software, makes exact entries for
//!    rules without a row.
//! 4. [`Offload::sweep`] reads the counts of rows and entries, each register once. Only packets
//!    that the card forwarded are counted, never those it sent to software. Rows that move are read
//!    before, so that a flow's counts are complete whatever happens to its rows.
//! 5. [`Offload::verify`] detects that the watchdog has cleared the card; the next `sync` writes
//!    everything again, as it does after [`Offload::was_reset`].
//!
//! Rules that the card does not support stay in software, with a reason ([`Offload::place`]).
//! Without CPU ports there is no software path: such rules are reported as rejected, and the card
//! behaves as if they were not in the table; packets that nothing matches are dropped.
//!
//! If the bitfile makes one key of frames with a broken header from any port ([`FlowMap::guard`]),
//! the first row drops that key, belongs to no flow, and no exact entry has that key: such a frame
//! is never forwarded, whatever the flows are.
//!
//! Packets that match between the reading of a row's counter and its commit may be counted for the
//! row's next flow.

mod anew;
mod exact;
mod executor;
mod report;
pub mod row_plan;
pub mod select;

pub use report::{CounterDelta, OffloadError, Options, Place, Report, Seen};

use crate::codec::entry::{Exact, Row};
use crate::codec::key::FIRST_TYPE;
use crate::codec::ports::{At, cpu_queue, queue};
use crate::codec::{Action, Field, Header, Key, PortMap, RejectReason, Rule, Transport};
use crate::profile::FlowMap;
use crate::registers::{Registers, is_no_answer};
use exact::Entries;
use row_plan::{Owner, Slot, Step};
use select::{Candidate, Choice};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::table::{Criteria, FlowTable, Instructions};

/// The type of a frame with a service tag (IEEE 802.1ad).
const SERVICE_TAG: u64 = 0x88a8;

/// A flow as it was translated.
#[derive(Debug, Clone)]
struct Known {
    criteria: Criteria,
    instructions: Instructions,
    packets: u64,
}

/// Index of a flow by its id.
fn find(index: &[(u64, usize)], id: u64) -> Option<usize> {
    index.binary_search_by_key(&id, |(id, _)| *id).ok().and_then(|at| index.get(at)).map(|(_, at)| *at)
}

/// [`Offload::admits`] without a card.
///
/// # Errors
/// With the reason why not.
pub fn admits(
    ports: &PortMap,
    transport: Transport,
    criteria: &Criteria,
    instructions: &Instructions,
) -> Result<(), RejectReason> {
    if ports.cpu_ports {
        return Ok(());
    }
    let rule = Rule::new(criteria, instructions, ports, transport);
    rule.plan.err().and_then(RejectReason::without_software).map_or(Ok(()), Err)
}

/// Keeps a card's rows and exact entries equal to a flow table, as far as the card supports its
/// flows.
#[derive(Debug, Clone)]
pub struct Offload {
    map: FlowMap,
    ports: PortMap,
    options: Options,
    /// The contents of the card's rows.
    card: Vec<Option<Slot>>,
    counters: Vec<executor::Counters>,
    entries: Entries,
    /// The table's flows in order, with the state of each.
    rules: Vec<Candidate>,
    known: Vec<Known>,
    choices: Vec<Choice>,
    /// Index of each flow, by its id.
    index: Vec<(u64, usize)>,
    /// Counts that no sweep has returned yet.
    deltas: BTreeMap<u64, CounterDelta>,
    generation: Option<u64>,
    /// The ports have changed since the rules were translated.
    other_ports: bool,
    considered: Time,
    aged: Time,
    /// The contents of the card are uncertain.
    lost: bool,
    /// The card was reset: its exact table is empty, and need not be read.
    emptied: bool,
    /// Keys of exact entries to write again.
    again: Vec<Key>,
    verified: usize,
}

impl Offload {
    /// Reads a card's contents: 26 registers per row and at least one per exact entry.
    ///
    /// When the card or its exact table does not answer.
    pub fn start(
        map: FlowMap,
        ports: PortMap,
        options: Options,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Offload, OffloadError> {
        let mut offload = Offload {
            card: vec![None; map.rows.into()],
            counters: vec![executor::Counters::default(); map.rows.into()],
            map,
            ports,
            options,
            entries: Entries::default(),
            rules: Vec::new(),
            known: Vec::new(),
            choices: Vec::new(),
            index: Vec::new(),
            deltas: BTreeMap::new(),
            generation: None,
            other_ports: false,
            considered: now,
            aged: now,
            lost: false,
            emptied: false,
            again: Vec::new(),
            verified: 0,
        };
        offload.adopt(now, card)?;
        Ok(offload)
    }

    /// Takes over the contents of the card.
    fn adopt(&mut self, now: Time, card: &mut dyn Registers) -> Result<(), OffloadError> {
        self.lost = true;
        self.generation = None;
        for at in 0..self.card.len() {
            let row = Row::read(&self.map, at as u32, card)?;
            let owner = if at == 0 && Some(row) == self.guard() { Owner::Guard } else { Owner::Found };
            self.card[at] = (!row.is_deleted()).then_some(Slot { owner, row });
            self.counters[at] = executor::Counters::read(&self.map, at, card)?;
        }
        self.entries.clear();
        // Of an empty table only one row is read, to check that it answers.
        let rows = if self.emptied { self.map.exact_rows.min(1) } else { self.map.exact_rows };
        for row in 0..rows.min(1 << 15) as u16 {
            let address = self.map.exact + u32::from(row) * self.map.exact_stride + 28;
            if row == 0 && is_no_answer(card.read32(address)?) {
                return Err(OffloadError::NoAnswer(address));
            }
            if let Some(entry) = Exact::read(&self.map, row, card)? {
                self.entries.found(&entry, row, now, &self.map, card)?;
            }
        }
        (self.lost, self.emptied) = (false, false);
        Ok(())
    }

    /// The row that the first one is reserved for, if it is.
    fn guard(&self) -> Option<Row> {
        self.map.guard.map(Row::guard)
    }

    /// Number of rows that flows cannot have.
    fn kept(&self) -> usize {
        usize::from(self.map.guard.is_some()).min(self.card.len())
    }

    /// Changes the ports: all flows are translated again at the next `sync`.
    pub fn set_ports(&mut self, ports: PortMap) {
        if self.ports != ports {
            self.ports = ports;
            self.other_ports = true;
            self.generation = None;
        }
    }

    /// The ports.
    pub fn ports(&self) -> &PortMap {
        &self.ports
    }

    /// Whether this switch supports a flow, called before it is added: with CPU ports always, as
    /// software does; without, only if the card does. Whether there are rows for it is known after
    /// [`Offload::sync`].
    ///
    /// # Errors
    /// With the reason why not.
    pub fn admits(&self, criteria: &Criteria, instructions: &Instructions) -> Result<(), RejectReason> {
        admits(&self.ports, self.options.transport, criteria, instructions)
    }

    /// Writes the differences between table and card.
    ///
    /// # Errors
    /// When the card cannot be read or written; it is read again at the next `sync`.
    pub fn sync(
        &mut self,
        table: &FlowTable,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Report, OffloadError> {
        if self.lost {
            self.adopt(now, card)?;
        }
        let changed = self.generation != Some(table.generation());
        if !changed && now.since(self.considered) < self.options.reconsider {
            return Ok(Report::default());
        }
        let fresh = self.translate(table, now);
        self.considered = now;
        self.lost = true;
        let mut report = self.carry_out(&fresh, changed, now, card)?;
        self.write_again(now, card, &mut report)?;
        self.lost = false;
        self.generation = Some(table.generation());
        Ok(report)
    }

    /// Takes over the table's flows; returns which are new or changed.
    fn translate(&mut self, table: &FlowTable, now: Time) -> Vec<bool> {
        let rules = std::mem::take(&mut self.rules);
        let mut old: Vec<Option<(Candidate, Known)>> =
            rules.into_iter().zip(std::mem::take(&mut self.known)).map(Some).collect();
        let index = std::mem::take(&mut self.index);
        // Most flows keep their index, so that is tried before a search.
        let mut next = 0;
        let mut take = |id: u64| {
            let here = old.get(next).and_then(Option::as_ref).is_some_and(|(r, _)| r.id == id);
            let at = if here { next } else { find(&index, id)? };
            next = at + 1;
            old.get_mut(at)?.take()
        };
        let age = now.since(self.aged) >= Duration::from_secs(1);
        if age {
            self.aged = now;
        }
        let mut fresh = Vec::with_capacity(table.len());
        for flow in table.iter() {
            let before = take(flow.id);
            let same = before
                .as_ref()
                .is_some_and(|(_, k)| k.criteria == flow.criteria && k.instructions == flow.instructions)
                && !self.other_ports;
            let (mut rule, known) = match before {
                Some((rule, known)) if same => (rule, known),
                before => {
                    let rule =
                        Rule::new(&flow.criteria, &flow.instructions, &self.ports, self.options.transport);
                    let rows = rule.rows();
                    // After a restart, rules with rows on the card keep them.
                    let found = |row: &Row| {
                        self.card.iter().flatten().any(|s| s.owner == Owner::Found && s.row == *row)
                    };
                    let there = || rows.as_ref().is_ok_and(|rows| !rows.is_empty() && rows.iter().all(found));
                    let (used, had) = before.as_ref().map_or_else(|| (0, there()), |(r, _)| (r.used, r.had));
                    let packets = before.map_or(flow.packets, |(_, k)| k.packets);
                    let known = Known {
                        criteria: flow.criteria.clone(),
                        instructions: flow.instructions.clone(),
                        packets,
                    };
                    (Candidate { id: flow.id, rule, rows, used, had, exact: false }, known)
                }
            };
            let mut known = known;
            if age {
                rule.used = rule.used / 2 + flow.packets.saturating_sub(known.packets);
                known.packets = flow.packets;
            }
            fresh.push(!same);
            self.rules.push(rule);
            self.known.push(known);
        }
        self.index = self.rules.iter().enumerate().map(|(at, r)| (r.id, at)).collect();
        self.index.sort_unstable();
        self.other_ports = false;
        fresh
    }

    /// Writes the differences.
    fn carry_out(
        &mut self,
        fresh: &[bool],
        changed: bool,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Report, OffloadError> {
        let mut report = Report::default();
        // 1. Permanent exact entries: they match before all rows, so they may be written first. A
        //    rule whose entry finds no row is treated like one with wildcards.
        let mut without = BTreeSet::new();
        let (permanent, wanted) = loop {
            let keys = self.exact_rules(&without);
            self.choose();
            let wanted = select::wanted(&self.rules, &self.choices, &self.ports);
            let permanent = self.permanent(&keys, &wanted);
            let before = without.len();
            for (key, (action, flow)) in &permanent {
                if !self.write_permanent(*key, *action, *flow, now, card, &mut report)? {
                    without.extend(keys.get(key).map(|at| self.rules[*at].id));
                }
            }
            if without.len() == before {
                break (permanent, wanted);
            }
        };
        for (rule, choice) in self.rules.iter_mut().zip(&self.choices) {
            rule.had = *choice == Choice::Rows;
        }
        if !self.ports.cpu_ports {
            let rejected = self.rules.iter().zip(&self.choices).filter_map(|(r, c)| match c {
                // Packets between plain NICs need no card.
                Choice::None(RejectReason::FromOutside(_) | RejectReason::NotReceived(_)) => None,
                Choice::None(why) => Some((r.id, why.clone())),
                _ => None,
            });
            report.rejected = rejected.collect();
        }
        // 2. Rows.
        let kept = self.kept();
        // The guard comes first, unless a foreign flow has its row: the packets of that flow need
        // their new row before.
        let empty = |slot: &Slot| slot.row == Row::after_reset();
        let early = self.card.first().is_some_and(|slot| slot.as_ref().is_none_or(empty));
        report.commits += if early { self.put_guard(now, card)? } else { 0 };
        let rows = row_plan::plan(self.card.get(kept..).unwrap_or_default(), &wanted);
        report.gaps += rows.gaps;
        for step in &rows.steps {
            self.step(&Step { at: step.at + kept, ..*step }, now, card)?;
            report.commits += usize::from(step.write);
        }
        report.commits += self.put_guard(now, card)?;
        // 3. Exact entries that no longer agree with the table.
        if changed {
            self.review(&permanent, fresh, now, card, &mut report)?;
        }
        Ok(report)
    }

    /// Writes the guard into the first row if it is not there; returns the number of rows written.
    fn put_guard(&mut self, now: Time, card: &mut dyn Registers) -> Result<usize, OffloadError> {
        let Some(row) = self.guard() else { return Ok(0) };
        let slot = Slot { owner: Owner::Guard, row };
        if self.card.first() == Some(&Some(slot)) {
            return Ok(0);
        }
        self.step(&Step { at: 0, slot: Some(slot), write: true }, now, card)?;
        Ok(1)
    }

    fn choose(&mut self) {
        let room = self.card.len().saturating_sub(self.kept() + select::base(&self.ports).len());
        self.choices = select::choose(&self.rules, room, self.ports.cpu_ports);
    }

    /// Marks the rules for the exact table, one per key: the table's first one.
    fn exact_rules(&mut self, without: &BTreeSet<u64>) -> BTreeMap<Key, usize> {
        let mut keys = BTreeMap::new();
        let guarded = self.map.guard.map(Key::of_fault);
        for (at, rule) in self.rules.iter_mut().enumerate() {
            rule.exact = false;
            let Some((key, _)) = rule.rule.key().filter(|(key, _)| Some(*key) != guarded) else { continue };
            let doable = rule.rule.plan.is_ok() || self.ports.cpu_ports;
            if doable && !without.contains(&rule.id) && !keys.contains_key(&key) {
                keys.insert(key, at);
                rule.exact = true;
            }
        }
        keys
    }

    /// The permanent exact entries. One that sends to software is needed only if rows would match
    /// its packets.
    fn permanent(
        &self,
        keys: &BTreeMap<Key, usize>,
        wanted: &[Slot],
    ) -> BTreeMap<Key, (Action, Option<u64>)> {
        let needed = |key: &Key| {
            wanted.iter().any(|s| matches!(s.owner, Owner::Flow(_)) && s.row.pattern.matches(key))
        };
        keys.iter()
            .filter_map(|(key, at)| {
                let (key, rule) = (*key, &self.rules[*at]);
                let ingress = rule.rule.key()?.1;
                match &rule.rule.plan {
                    Ok(plan) => Some((key, (plan.action(ingress), Some(rule.id)))),
                    Err(_) => needed(&key).then(|| (key, (Action::to(1 << cpu_queue(ingress)), None))),
                }
            })
            .collect()
    }

    /// The first rule that may match a key, by the fields in it.
    fn decide(&self, key: &Key, ingress: u8) -> Option<&Candidate> {
        // Without software, a rule without a row counts as absent.
        let there = |choice: &Choice| self.ports.cpu_ports || !matches!(choice, Choice::None(_));
        let mut rules = self.rules.iter().zip(&self.choices);
        let found =
            rules.find(|(r, c)| r.rule.ingress.has(ingress) && r.rule.pattern.matches(key) && there(c));
        found.map(|(r, _)| r)
    }

    /// The action of an entry for a key, and its flow; `None` if it would be wrong or useless.
    fn entry_for(&self, key: &Key, ingress: u8) -> Option<(Action, u64)> {
        if self.map.guard.map(Key::of_fault) == Some(*key) {
            return None;
        }
        let rule = self.decide(key, ingress)?;
        let plan = rule.rule.plan.as_ref().ok()?;
        Some((plan.action(ingress), rule.id))
    }

    /// Handles a packet that came to software from a port: if it matches a rule without a row, an
    /// exact entry is made. To be called after `sync`.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn packet_seen(
        &mut self,
        frame: &[u8],
        in_port: u32,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Seen, OffloadError> {
        let Some(At::Card(ingress)) = self.ports.get(in_port).map(|p| p.at) else { return Ok(Seen::Nothing) };
        // A frame whose key differs between card and software gets no entry.
        let (key, Header::Whole) = Key::read(frame, queue(ingress)) else { return Ok(Seen::Nothing) };
        if self.lost || self.entries.get(&key).is_some() {
            return Ok(Seen::Nothing);
        }
        // Behind a length or a service tag, software matches fields that the card's key lacks.
        let kind = key.get(Field::ETH_TYPE);
        if kind < u64::from(FIRST_TYPE) || kind == SERVICE_TAG {
            return Ok(Seen::Nothing);
        }
        self.make(key, ingress, now, card)
    }

    /// The place of a flow; `None` for one that did not exist at the last `sync`.
    pub fn place(&self, flow: u64) -> Option<Place> {
        let at = find(&self.index, flow)?;
        let entries = || self.entries.iter().filter(|(_, live)| live.flow == Some(flow)).count();
        Some(match self.choices.get(at)? {
            Choice::Rows => {
                let mine = |slot: &Option<Slot>| slot.is_some_and(|s| s.owner == Owner::Flow(flow));
                Place::Rows((0..self.card.len()).filter(|row| mine(&self.card[*row])).collect())
            }
            Choice::Exact => match &self.rules.get(at)?.rule.plan {
                Ok(_) => Place::Exact(entries()),
                Err(why) => Place::Software(why.clone()),
            },
            Choice::Punt(why) | Choice::None(why) => match entries() {
                0 => Place::Software(why.clone()),
                n => Place::Exact(n),
            },
        })
    }

    /// The part of a flow that the card does not match although it has the rest, if there is one.
    pub fn except(&self, flow: u64) -> Option<&RejectReason> {
        let at = find(&self.index, flow)?;
        let there = matches!(self.place(flow)?, Place::Rows(_) | Place::Exact(_));
        self.rules.get(at).filter(|_| there)?.rule.except.as_ref()
    }

    /// Number of exact entries on the card.
    pub fn exact_entries(&self) -> usize {
        self.entries.len()
    }

    /// The card's rows as written.
    pub fn rows(&self) -> &[Option<Slot>] {
        &self.card
    }
}
