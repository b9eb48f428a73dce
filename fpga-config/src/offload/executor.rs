//! Executes the plan of an offload: commits rows after reading their counters, writes and reviews
//! exact entries, and sweeps counters.

use super::exact::{Delta, Entries, second, when};
use super::row_plan::{Owner, Step};
use super::{CounterDelta, Offload, OffloadError, Report};
use crate::codec::entry::{Exact, Row};
use crate::codec::{Action, Field, Key};
use crate::counters::Wrapping;
use crate::profile::{FlowMap, RowCounters};
use crate::registers::{AccessError, Registers};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::table::FlowTable;

/// The fewest exact entries that a sweep reads.
const LEAST: usize = 256;
/// Sweeps over which every exact entry is read once: at one a second, often enough for its 25 bits
/// of packets (22 s) and 32 of bytes (34 s).
const SWEEPS: usize = 8;

/// A row's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    packets: Wrapping,
    bytes: Wrapping,
}

impl Counters {
    /// The present values, counted for no flow.
    pub(super) fn read(map: &FlowMap, row: usize, card: &mut dyn Registers) -> Result<Counters, AccessError> {
        let row = row as u32;
        Ok(Counters {
            packets: Wrapping::since(card.read32(map.packets_hit + 4 * row)?),
            bytes: Wrapping::since(card.read32(map.bytes_hit + 4 * row)?),
        })
    }

    /// The counts since the last reading: packets and bytes, the latter read only if there were
    /// packets.
    fn take(
        &mut self,
        map: &FlowMap,
        row: usize,
        clears: bool,
        card: &mut dyn Registers,
    ) -> Result<(u64, u64), AccessError> {
        let row = row as u32;
        if clears {
            self.packets.restart(0);
            self.bytes.restart(0);
        }
        let packets = self.packets.read(card.read32(map.packets_hit + 4 * row)?);
        if packets == 0 {
            return Ok((0, 0));
        }
        Ok((packets, self.bytes.read(card.read32(map.bytes_hit + 4 * row)?)))
    }
}

impl Offload {
    fn add(&mut self, flow: u64, packets: u64, bytes: u64, used: Option<Time>) {
        let none = CounterDelta { flow, packets: 0, bytes: 0, last_used: None };
        let delta = self.deltas.entry(flow).or_insert(none);
        delta.packets = delta.packets.saturating_add(packets);
        delta.bytes = delta.bytes.saturating_add(bytes);
        delta.last_used = delta.last_used.max(used);
    }

    /// Reads a row's counters for its owner; `clock` is read at most once, when needed.
    fn settle(
        &mut self,
        at: usize,
        now: Time,
        clock: &mut Option<u32>,
        card: &mut dyn Registers,
    ) -> Result<(), AccessError> {
        let clears = self.options.row_counters.unwrap_or(self.map.row_counters) == RowCounters::ClearOnRead;
        let (packets, bytes) = self.counters[at].take(&self.map, at, clears, card)?;
        let Some(Owner::Flow(flow)) = self.card[at].map(|s| s.owner) else { return Ok(()) };
        if packets > 0 {
            let seen = card.read32(self.map.last_seen + 4 * at as u32)?;
            let clock = self.clock(clock, card)?;
            self.add(flow, packets, bytes, Some(when(now, clock, seen)));
        }
        Ok(())
    }

    fn clock(&self, clock: &mut Option<u32>, card: &mut dyn Registers) -> Result<u32, AccessError> {
        match *clock {
            Some(clock) => Ok(clock),
            None => Ok(*clock.insert(card.read32(self.map.seconds)?)),
        }
    }

    fn count_entry(
        &mut self,
        flow: Option<u64>,
        delta: Delta,
        now: Time,
        clock: &mut Option<u32>,
        card: &mut dyn Registers,
    ) -> Result<Time, AccessError> {
        let clock = self.clock(clock, card)?;
        let used = when(now, clock, second(clock, delta.last_seen));
        if let Some(flow) = flow {
            self.add(flow, delta.packets, delta.bytes, Some(used));
        }
        Ok(used)
    }

    /// Executes one step. A deleted row no longer counts; one that changes its flow counts for the
    /// new one from here on.
    pub(super) fn step(
        &mut self,
        step: &Step,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<(), OffloadError> {
        if self.card[step.at].is_some() {
            self.settle(step.at, now, &mut None, card)?;
        }
        if step.write {
            let row = step.slot.map_or_else(Row::deleted, |s| s.row);
            row.commit(&self.map, step.at as u32, card)?;
        }
        self.card[step.at] = step.slot;
        Ok(())
    }

    /// A row for a new entry; if necessary an entry of a packet is removed.
    pub(super) fn room_for(
        &mut self,
        entry: &Exact,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Option<u16>, OffloadError> {
        if let Some(row) = self.entries.free(entry, &self.map) {
            return Ok(Some(row));
        }
        if let Some(key) = self.entries.dispensable(entry) {
            self.delete_entry(&key, now, card)?;
        }
        Ok(self.entries.free(entry, &self.map))
    }

    fn delete_entry(&mut self, key: &Key, now: Time, card: &mut dyn Registers) -> Result<bool, OffloadError> {
        let Some((live, delta)) = self.entries.delete(key, &self.map, card)? else { return Ok(false) };
        if let Some(delta) = delta {
            self.count_entry(live.flow, delta, now, &mut None, card)?;
        }
        Ok(true)
    }

    /// Writes a permanent entry unless it is there; false when it finds no row. An entry with
    /// another action is replaced in its other row before it is removed.
    pub(super) fn write_permanent(
        &mut self,
        key: Key,
        action: Action,
        flow: Option<u64>,
        now: Time,
        card: &mut dyn Registers,
        report: &mut Report,
    ) -> Result<bool, OffloadError> {
        let entry = Exact { key, action };
        let mut replaced = None;
        if let Some(live) = self.entries.get_mut(&key) {
            if live.action == action {
                let former = std::mem::replace(&mut live.flow, flow);
                live.permanent = true;
                if former != flow
                    && let Some(delta) = live.read(&self.map, card)?
                {
                    self.count_entry(former, delta, now, &mut None, card)?;
                }
                return Ok(true);
            }
            replaced = Some(live.clone());
        }
        let mut row = self.entries.free(&entry, &self.map);
        if row.is_none()
            && let Some(loose) = self.entries.dispensable(&entry).filter(|k| *k != key)
        {
            self.delete_entry(&loose, now, card)?;
            report.exact_deleted += 1;
            row = self.entries.free(&entry, &self.map);
        }
        if row.is_none() && replaced.take().is_some() {
            // Both rows are taken, one by itself: for a moment its packets are matched by the rows.
            self.delete_entry(&key, now, card)?;
            report.gaps += 1;
            row = self.entries.free(&entry, &self.map);
        }
        let Some(row) = row else { return Ok(false) };
        self.entries.write(&entry, row, (flow, true), now, &self.map, card)?;
        report.exact_written += 1;
        if let Some(mut old) = replaced {
            report.exact_deleted += 1;
            if let Some(delta) = Entries::delete_row(&mut old, &key, &self.map, card)? {
                self.count_entry(old.flow, delta, now, &mut None, card)?;
            }
        }
        Ok(true)
    }

    /// Reviews the entries that a change of the table may have made wrong: those of flows that were
    /// removed or changed, those that a new or changed flow may match, and those found on the card.
    pub(super) fn review(
        &mut self,
        permanent: &BTreeMap<Key, (Action, Option<u64>)>,
        fresh: &[bool],
        now: Time,
        card: &mut dyn Registers,
        report: &mut Report,
    ) -> Result<(), OffloadError> {
        let new: Vec<usize> = (0..self.rules.len()).filter(|at| fresh.get(*at) == Some(&true)).collect();
        let mut doubtful = Vec::new();
        for (key, live) in self.entries.iter() {
            if permanent.contains_key(key) {
                continue;
            }
            let ingress = (key.get(Field::SOURCE) / 2) as u8;
            let owner = live
                .flow
                .and_then(|flow| super::find(&self.index, flow))
                .filter(|at| fresh.get(*at) == Some(&false));
            let stands = !live.permanent
                && owner.is_some_and(|owner| {
                    let above = new.iter().take_while(|at| **at < owner);
                    let hit = |at: &&usize| {
                        let rule = &self.rules[**at].rule;
                        rule.ingress.has(ingress) && rule.pattern.matches(key)
                    };
                    !above.into_iter().any(|at| hit(&at))
                });
            if !stands {
                doubtful.push((*key, ingress, live.action, live.flow));
            }
        }
        for (key, ingress, action, flow) in doubtful {
            let right = self.entry_for(&key, ingress).filter(|_| key.get(Field::SOURCE).is_multiple_of(2));
            match right {
                Some((wanted, id)) if wanted == action => {
                    let Some(live) = self.entries.get_mut(&key) else { continue };
                    (live.flow, live.permanent) = (Some(id), false);
                    if flow != Some(id)
                        && let Some(delta) = live.read(&self.map, card)?
                    {
                        self.count_entry(flow, delta, now, &mut None, card)?;
                    }
                }
                _ => {
                    // Its packets are matched by the rows now, which are right; one that comes to
                    // software makes the entry again.
                    report.exact_deleted += usize::from(self.delete_entry(&key, now, card)?);
                }
            }
        }
        Ok(())
    }

    /// Reads the counts since the last sweep: one register for a row of a flow, three if it was
    /// used; one or two for an exact entry, an eighth of them at a time (at least 256); the clock
    /// once. Idle entries are removed. To be called more often than counters wrap (34 s).
    ///
    /// When the card does not answer; counts that were read before are in the next sweep.
    pub fn sweep(&mut self, now: Time, card: &mut dyn Registers) -> Result<Vec<CounterDelta>, OffloadError> {
        let mut clock = None;
        for at in 0..self.card.len() {
            if matches!(self.card[at].map(|s| s.owner), Some(Owner::Flow(_))) {
                self.settle(at, now, &mut clock, card)?;
            }
        }
        let part = self.entries.len().div_ceil(SWEEPS).max(LEAST);
        for key in self.entries.next(part) {
            let Some(live) = self.entries.get_mut(&key) else { continue };
            let (flow, permanent) = (live.flow, live.permanent);
            match live.read(&self.map, card)? {
                Some(delta) => {
                    let used = self.count_entry(flow, delta, now, &mut clock, card)?;
                    if let Some(live) = self.entries.get_mut(&key) {
                        live.used = live.used.max(used);
                    }
                }
                None if !permanent && now.since(live.used) >= self.options.idle => {
                    self.delete_entry(&key, now, card)?;
                }
                None => {}
            }
        }
        Ok(std::mem::take(&mut self.deltas).into_values().collect())
    }

    /// The same for all rows and entries of one flow, to be called before it is deleted or its
    /// counters are reported.
    ///
    /// When the card does not answer; counts that were read before are in the next sweep.
    pub fn sweep_flow(
        &mut self,
        flow: u64,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Option<CounterDelta>, OffloadError> {
        Ok(self.sweep_flows(&BTreeSet::from([flow]), now, card)?.pop())
    }

    /// The same for all flows that have expired by the table's counters, to be called before they
    /// are removed: an exact entry that the last sweeps did not read may have been used.
    ///
    /// When the card does not answer; counts that were read before are in the next sweep.
    pub fn sweep_due(
        &mut self,
        table: &FlowTable,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Vec<CounterDelta>, OffloadError> {
        let up = |since: Time, limit: Duration| !limit.is_zero() && now.since(since) >= limit;
        let due = table.iter().filter(|f| up(f.used, f.idle) || up(f.added, f.hard)).map(|f| f.id).collect();
        self.sweep_flows(&due, now, card)
    }

    pub(super) fn sweep_flows(
        &mut self,
        flows: &BTreeSet<u64>,
        now: Time,
        card: &mut dyn Registers,
    ) -> Result<Vec<CounterDelta>, OffloadError> {
        if flows.is_empty() {
            return Ok(Vec::new());
        }
        let mut clock = None;
        for at in 0..self.card.len() {
            if matches!(self.card[at].map(|s| s.owner), Some(Owner::Flow(flow)) if flows.contains(&flow)) {
                self.settle(at, now, &mut clock, card)?;
            }
        }
        let theirs =
            self.entries.iter().filter(|(_, live)| live.flow.is_some_and(|flow| flows.contains(&flow)));
        for key in theirs.map(|(key, _)| *key).collect::<Vec<Key>>() {
            let Some(live) = self.entries.get_mut(&key) else { continue };
            let flow = live.flow;
            if let Some(delta) = live.read(&self.map, card)? {
                let used = self.count_entry(flow, delta, now, &mut clock, card)?;
                if let Some(live) = self.entries.get_mut(&key) {
                    live.used = live.used.max(used);
                }
            }
        }
        Ok(flows.iter().filter_map(|flow| self.deltas.remove(flow)).collect())
    }

    /// Reads one row back, another one with each call; false when the card does not have what was
    /// written (it was reset, or cleared by its watchdog). The next `sync` then reads all rows and
    /// writes those that are missing.
    ///
    /// When the card does not answer.
    pub fn verify(&mut self, card: &mut dyn Registers) -> Result<bool, OffloadError> {
        let rows = self.card.len().max(1);
        let next = (1..=rows)
            .map(|n| (self.verified + n) % rows)
            .find(|at| self.card.get(*at).is_some_and(Option::is_some));
        let Some(at) = next else { return Ok(true) };
        self.verified = at;
        let read = Row::read(&self.map, at as u32, card)?;
        let right = self.card[at].is_some_and(|slot| slot.row == read);
        if !right {
            self.lost = true;
            self.generation = None;
        }
        Ok(right)
    }
}
