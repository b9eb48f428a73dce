//! Several tables and their effect on a packet: apply and write actions, metadata, goto, meters,
//! groups (OF 1.3.5 sections 5.1, 5.6 to 5.12). An OpenFlow 1.0 switch is a pipeline of one table
//! with applied actions only.

use super::cache::{Cache, CacheCounters};
use super::executor::{Egress, EgressPacket, Executor, On, Reason, Scratch, Step};
use super::flows::FlowTable;
use super::groups::{Branch, Groups};
use super::instructions;
use super::key::{FieldId, FlowKey};
use super::meters::Meters;
use super::ops::Op;
use super::packed_key::PackedKey;
use super::ports::Ports;
use tandem_model::Time;

/// The most steps of one packet. Groups whose buckets name other groups with several buckets could
/// otherwise make exponentially many copies.
const MOST_STEPS: u32 = 4096;

/// A packet that leaves the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Output port; reserved numbers such as `CONTROLLER` are those of OpenFlow 1.3. FLOOD, ALL and
    /// IN_PORT are replaced by real ports before.
    pub port: u32,
    /// Queue; [`super::NO_QUEUE`] if none was set.
    pub queue: u32,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// Collects copies of the packets that are sent, except those with an invalid TTL.
impl Egress for Vec<Sent> {
    fn leave(&mut self, how: &EgressPacket, frame: &[u8]) {
        if how.reason == Reason::InvalidTtl {
            return;
        }
        self.push(Sent { port: how.port, queue: how.queue, frame: frame.to_vec() });
    }
}

/// Whether the first table had a flow for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It had one. A later table may have had none.
    Matched,
    /// It had none (OpenFlow 1.0: to the controller; 1.3: dropped).
    Missed,
}

/// The tables of a switch, and the groups, meters and ports that they share.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The tables; packets enter at 0. A table may be changed but not exchanged for another: the
    /// flow cache relies on its generation.
    pub tables: Vec<FlowTable>,
    /// The switch's ports.
    pub ports: Ports,
    pub(super) groups: Groups,
    pub(super) meters: Meters,
    cache: Cache,
    scratch: Scratch,
}

impl Pipeline {
    /// Empty tables of at most `most` flows each.
    pub fn new(tables: u8, most: usize, ports: Vec<u32>) -> Pipeline {
        Pipeline {
            tables: (0..tables).map(|t| FlowTable::numbered(t, most)).collect(),
            ports: Ports::new(&ports),
            groups: Groups::default(),
            meters: Meters::default(),
            cache: Cache::default(),
            scratch: Scratch::default(),
        }
    }

    /// Adds a flow cache of this many decisions, rounded up to a power of two.
    #[must_use]
    pub fn with_cache(mut self, decisions: usize) -> Pipeline {
        self.cache = Cache::new(decisions);
        self
    }

    /// Hits and misses of the flow cache.
    pub fn cache(&self) -> CacheCounters {
        self.cache.counters
    }

    /// The groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The meters.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// A number that only grows, and changes whenever a decision may change: with flows, groups,
    /// meters and ports.
    pub fn generation(&self) -> u64 {
        let tables: u64 = self.tables.iter().map(FlowTable::generation).sum();
        tables + self.groups.generation() + self.meters.generation() + self.ports.generation()
    }

    /// The packets that a packet leads to; `None` when the first table has no flow for it (OpenFlow
    /// 1.0: to the controller; 1.3: dropped).
    pub fn process(&mut self, frame: &[u8], in_port: u32, now: Time) -> Option<Vec<Sent>> {
        let mut sent = Vec::new();
        match self.run(&mut frame.to_vec(), in_port, now, &mut sent) {
            Outcome::Matched => Some(sent),
            Outcome::Missed => None,
        }
    }

    /// Sends a packet through the tables, or executes the steps that the flow cache remembers for
    /// it. The flows change its bytes in place, so that the caller cannot use them afterwards;
    /// after a miss in the first table they are unchanged.
    #[inline]
    pub fn run(&mut self, frame: &mut [u8], in_port: u32, now: Time, egress: &mut impl Egress) -> Outcome {
        if self.cache.is_off() {
            return self.recorded(frame, in_port, now, egress, &mut Recording::off());
        }
        let Some(key) = PackedKey::new(frame, in_port) else {
            self.cache.counters.keyless += 1;
            return self.recorded(frame, in_port, now, egress, &mut Recording::off());
        };
        let generation = self.generation();
        let (on, cache) = self.split();
        if let Some(entry) = cache.find(&key, generation) {
            Executor::new(on, frame, in_port, now, egress).replay(&entry.steps);
            return entry.outcome;
        }
        let (place, mut steps) = cache.room(&key, generation);
        let mut record = Recording::on(&mut steps);
        let outcome = self.recorded(frame, in_port, now, egress, &mut record);
        if record.sound {
            self.cache.put(place, key, generation, outcome, steps);
        } else {
            self.cache.leave(place, steps);
        }
        outcome
    }

    /// Sends a packet through the tables and records the steps.
    fn recorded(
        &mut self,
        frame: &mut [u8],
        in_port: u32,
        now: Time,
        egress: &mut impl Egress,
        record: &mut Recording<'_>,
    ) -> Outcome {
        let run = Executor::new(self.split().0, frame, in_port, now, egress);
        Way::new(run, record).through_tables(in_port)
    }

    /// Applies a list of actions to a packet (OFPT_PACKET_OUT); output to
    /// [`crate::of13::port::TABLE`] sends a copy through the tables. Returns the copies that the
    /// first table has no flow for.
    pub fn apply(
        &mut self,
        ops: &[Op],
        frame: &mut [u8],
        in_port: u32,
        now: Time,
        egress: &mut impl Egress,
    ) -> Vec<Vec<u8>> {
        let mut tables = Vec::new();
        let mut record = Recording::off();
        let mut way = Way::new(Executor::new(self.split().0, frame, in_port, now, egress), &mut record);
        way.hash = FlowKey::new(way.run.frame(), in_port).flow_hash();
        for op in ops {
            if *op == Op::Output(crate::of13::port::TABLE) {
                tables.push(way.run.frame().to_vec());
            } else if !way.op(*op) {
                break;
            }
        }
        tables.retain_mut(|frame| self.run(frame, in_port, now, egress) == Outcome::Missed);
        tables
    }

    fn split(&mut self) -> (On<'_>, &mut Cache) {
        let on = On {
            tables: &mut self.tables,
            groups: &mut self.groups,
            meters: &mut self.meters,
            ports: &self.ports,
            scratch: &mut self.scratch,
        };
        (on, &mut self.cache)
    }

    /// Adds packets that hardware has forwarded to a flow's counters, and the time of the last one,
    /// so that its idle time-out is right. False if there is no such flow.
    pub fn credit(&mut self, flow: u64, packets: u64, bytes: u64, used: Option<Time>) -> bool {
        let table = self.tables.get_mut(FlowTable::of_id(flow));
        table.is_some_and(|t| t.credit(flow, packets, bytes, used))
    }
}

/// The recording of a decision, or a pass without one.
struct Recording<'a> {
    steps: Option<&'a mut Vec<Step>>,
    /// The steps hold for every packet with the same key.
    sound: bool,
    /// What a later table matches no longer follows from the packet's key alone: a popped tag has
    /// uncovered another, or a meter may have remarked the packet.
    blurred: bool,
}

impl<'a> Recording<'a> {
    fn off() -> Recording<'a> {
        Recording { steps: None, sound: false, blurred: false }
    }

    fn on(steps: &'a mut Vec<Step>) -> Recording<'a> {
        steps.clear();
        Recording { steps: Some(steps), sound: true, blurred: false }
    }
}

/// The pass of a packet through tables and groups, which decides its steps.
struct Way<'a, 'r, 's, E: Egress> {
    run: Executor<'a, E>,
    record: &'r mut Recording<'s>,
    /// Hash of the packet's flow, if a group may need it.
    hash: u64,
    left: u32,
    /// The metadata and TUNNEL_ID so far.
    metadata: u64,
    tunnel: u64,
    /// Steps have set them in the executor.
    carried: bool,
}

impl<'a, 'r, 's, E: Egress> Way<'a, 'r, 's, E> {
    fn new(run: Executor<'a, E>, record: &'r mut Recording<'s>) -> Self {
        Way { run, record, hash: 0, left: MOST_STEPS, metadata: 0, tunnel: 0, carried: false }
    }

    fn step(&mut self, step: Step) -> bool {
        if self.left == 0 {
            self.record.sound = false;
            return false;
        }
        self.left -= 1;
        if let Some(steps) = &mut self.record.steps {
            steps.push(step);
        }
        let goes_on = self.run.step(step);
        // Another packet with this key may pass the meter or the TTL check.
        self.record.sound &= goes_on;
        goes_on
    }

    fn through_tables(&mut self, in_port: u32) -> Outcome {
        let mut set: Vec<Op> = Vec::new();
        let mut table = 0u8;
        loop {
            let mut key = FlowKey::new(self.run.frame(), in_port);
            if table == 0 && !self.run.on.groups.is_empty() {
                self.hash = key.flow_hash();
            }
            key.set(FieldId::Metadata, self.metadata.into());
            key.set(FieldId::TunnelId, self.tunnel.into());
            self.record.sound &= !self.record.blurred;
            let place = usize::from(table);
            let Some(at) = self.run.on.tables.get(place).and_then(|t| t.find(&key)) else {
                self.step(Step::Miss(table));
                // A miss in a later table drops the packet; copies that were already sent stay
                // sent.
                return if table == 0 { Outcome::Missed } else { Outcome::Matched };
            };
            if !self.step(Step::Flow(table, u32::try_from(at).unwrap_or(u32::MAX)))
                || !self.metered(place, at)
            {
                return Outcome::Matched;
            }
            // Fetches one action at a time by its place, since executing it needs the tables
            // mutably.
            let op = |way: &Self, i: usize| way.instructions(place, at).and_then(|f| f.apply.get(i).copied());
            let mut i = 0;
            while let Some(op) = op(self, i) {
                if !self.op(op) {
                    return Outcome::Matched;
                }
                i += 1;
            }
            let Some(instructions) = self.instructions(place, at) else { return Outcome::Matched };
            let (goto, metadata) = (instructions.goto, instructions.metadata);
            if instructions.clear {
                set.clear();
            }
            instructions.write.iter().for_each(|op| instructions::into_set(&mut set, *op));
            if let Some((value, mask)) = metadata {
                self.metadata = self.metadata & !mask | value & mask;
            }
            match goto {
                // A goto leads only to a later table (section 5.1), so the loop ends.
                Some(next) if next > table => table = next,
                _ => break,
            }
        }
        instructions::in_order(&mut set);
        for op in set {
            if !self.op(op) {
                break;
            }
        }
        Outcome::Matched
    }

    fn instructions(&self, table: usize, at: usize) -> Option<&instructions::Instructions> {
        self.run.on.tables.get(table)?.at(at).map(|f| &f.instructions)
    }

    fn metered(&mut self, table: usize, at: usize) -> bool {
        let meter = self.instructions(table, at).and_then(|i| i.meter);
        let Some(place) = meter.and_then(|id| self.run.on.meters.place(id)) else { return true };
        self.record.blurred |= self.run.on.meters.at(place).is_some_and(|m| m.remarks());
        self.step(Step::Meter(u32::try_from(place).unwrap_or(u32::MAX)))
    }

    fn op(&mut self, op: Op) -> bool {
        match op {
            Op::Group(group) => {
                self.group(group);
                return true;
            }
            Op::SetTunnelId(tunnel) => {
                self.tunnel = u64::from_be_bytes(tunnel);
                return true;
            }
            // These are equal for all packets of the decision, so they are set only before a step
            // that may send to a controller.
            Op::Controller(_) | Op::DecTtl | Op::DecMplsTtl => self.tell_carried(),
            Op::PopVlan => self.record.blurred |= super::rewrite::tagged_twice(self.run.frame()),
            op => self.record.blurred |= op.uncovers(),
        }
        self.step(Step::Op(op))
    }

    /// Adds steps that set the pipeline fields of a PACKET_IN, if they are not zero.
    fn tell_carried(&mut self) {
        for (value, step) in [
            (self.metadata, Step::Metadata as fn([u8; 8]) -> Step),
            (self.tunnel, Step::Tunnel as fn([u8; 8]) -> Step),
        ] {
            if value != 0 || self.carried {
                self.step(step(value.to_be_bytes()));
            }
        }
        self.carried |= self.metadata != 0 || self.tunnel != 0;
    }

    fn branch(&self, group: usize, bucket: usize) -> Option<&Branch> {
        self.run.on.groups.at(group)?.buckets.get(bucket)
    }

    /// Sends copies of the packet through a group's buckets; the packet itself is unchanged
    /// (section 5.11).
    fn group(&mut self, id: u32) {
        let Some(group) = self.run.on.groups.place(id) else { return };
        let mut next = 0;
        while let Some(bucket) = self.run.on.groups.next_bucket(group, next, self.hash, self.run.on.ports) {
            let keep = self.branch(group, bucket).is_some_and(Branch::rewrites);
            let enter = Step::Enter {
                group: u32::try_from(group).unwrap_or(u32::MAX),
                bucket: u16::try_from(bucket).unwrap_or(u16::MAX),
                first: next == 0,
                keep,
            };
            if !self.step(enter) {
                return;
            }
            let tunnel = self.tunnel;
            let mut i = 0;
            while let Some(op) = self.branch(group, bucket).and_then(|b| b.ops.get(i).copied()) {
                if !self.op(op) {
                    break;
                }
                i += 1;
            }
            // This step must not be left out: without it the packet would keep the changes of the
            // bucket.
            self.left = self.left.max(1);
            self.step(Step::Leave { keep });
            self.tunnel = tunnel;
            next = bucket + 1;
        }
    }
}
