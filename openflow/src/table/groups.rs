//! The group table (OF 1.3.5 section 5.6): all, select, indirect and fast failover.

use super::ops::Op;
use super::ports::Ports;
use crate::of13::{Bucket, group, port};
use std::time::Duration;
use tandem_model::Time;

/// OFPGT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A copy to every bucket.
    All,
    /// To one bucket, by weight and by the packet's flow.
    Select,
    /// To its one bucket.
    Indirect,
    /// To the first bucket that is alive.
    FastFailover,
}

impl Kind {
    /// From its number.
    pub fn from_number(kind: u8) -> Option<Kind> {
        [Kind::All, Kind::Select, Kind::Indirect, Kind::FastFailover].get(usize::from(kind)).copied()
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// True when a bucket's life depends on a port or a group (section 5.6.1).
pub(super) fn watches(bucket: &Bucket) -> bool {
    bucket.watch_port != port::ANY || bucket.watch_group != group::ANY
}

/// One bucket, ready for execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The bucket as the controller sent it.
    pub said: Bucket,
    /// Its actions, in the order of an action set.
    pub ops: Vec<Op>,
    /// Packets that went into it.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Branch {
    /// True when its actions change the packet's bytes.
    pub(super) fn rewrites(&self) -> bool {
        self.ops.iter().any(|op| op.rewrites())
    }

    /// The groups that its actions name.
    pub(super) fn groups(&self) -> impl Iterator<Item = u32> {
        self.ops.iter().filter_map(|op| match op {
            Op::Group(group) => Some(*group),
            _ => None,
        })
    }

    /// The groups that its actions name or that it watches.
    fn named(&self) -> impl Iterator<Item = u32> {
        self.groups().chain((self.said.watch_group != group::ANY).then_some(self.said.watch_group))
    }
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// How it chooses buckets.
    pub kind: Kind,
    /// Its buckets.
    pub buckets: Vec<Branch>,
    /// Packets.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// When it was added.
    pub added: Time,
}

impl Group {
    /// Time since it was added.
    pub fn age(&self, now: Time) -> Duration {
        now.since(self.added)
    }
}

/// All groups, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    list: Vec<Group>,
    generation: u64,
}

impl Groups {
    /// The groups in ascending order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.list.iter()
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True without groups.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A group by its number.
    pub fn get(&self, id: u32) -> Option<&Group> {
        self.place(id).and_then(|at| self.list.get(at))
    }

    /// Index of a group by its number.
    pub(super) fn place(&self, id: u32) -> Option<usize> {
        self.list.binary_search_by_key(&id, |g| g.id).ok()
    }

    /// The group at this index.
    pub(super) fn at(&self, at: usize) -> Option<&Group> {
        self.list.get(at)
    }

    /// Adds a group; it replaces one with the same number.
    pub(super) fn put(&mut self, group: Group) {
        match self.list.binary_search_by_key(&group.id, |g| g.id) {
            Ok(at) => self.list[at] = group,
            Err(at) => self.list.insert(at, group),
        }
        self.generation += 1;
    }

    /// Removes a group, or all without a number.
    pub(super) fn remove(&mut self, id: Option<u32>) {
        self.list.retain(|g| id.is_some_and(|id| id != g.id));
        self.generation += 1;
    }

    /// A number that changes whenever the groups do.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of groups whose buckets name this one.
    pub fn references(&self, id: u32) -> usize {
        self.list.iter().filter(|g| g.buckets.iter().any(|b| b.groups().any(|to| to == id))).count()
    }

    /// Whether a group with these buckets would, directly or through other groups, name or watch
    /// itself.
    pub(super) fn loops(&self, id: u32, buckets: &[Branch]) -> bool {
        let mut todo: Vec<u32> = buckets.iter().flat_map(Branch::named).collect();
        let mut seen = Vec::new();
        while let Some(next) = todo.pop() {
            if next == id {
                return true;
            }
            if let Err(at) = seen.binary_search(&next) {
                seen.insert(at, next);
                if let Some(group) = self.get(next) {
                    todo.extend(group.buckets.iter().flat_map(Branch::named));
                }
            }
        }
        false
    }

    /// Counts a packet for a group's bucket, and for the group itself where it is the first bucket
    /// of this packet.
    pub(super) fn count(&mut self, at: usize, bucket: usize, first: bool, bytes: usize) {
        if let Some(group) = self.list.get_mut(at) {
            if first {
                group.packets += 1;
                group.bytes += bytes as u64;
            }
            if let Some(bucket) = group.buckets.get_mut(bucket) {
                bucket.packets += 1;
                bucket.bytes += bytes as u64;
            }
        }
    }

    /// The first bucket from `from` on that a packet goes into; `hash` is that of the packet's
    /// flow.
    pub(super) fn next_bucket(&self, at: usize, from: usize, hash: u64, ports: &Ports) -> Option<usize> {
        let group = self.list.get(at)?;
        match group.kind {
            Kind::All | Kind::Indirect => (from < group.buckets.len()).then_some(from),
            _ if from > 0 => None,
            Kind::Select => self.selected(group, hash, ports),
            Kind::FastFailover => group.buckets.iter().position(|b| self.watched_lives(b, ports)),
        }
    }

    /// Chooses by weight among the buckets that are not known to be dead (section 5.6.1).
    fn selected(&self, group: &Group, hash: u64, ports: &Ports) -> Option<usize> {
        let weight = |b: &Branch| if self.usable(b, ports) { u64::from(b.said.weight) } else { 0 };
        let total: u64 = group.buckets.iter().map(weight).sum();
        let mut point = hash.checked_rem(total)?;
        group.buckets.iter().position(|b| {
            let weight = weight(b);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        })
    }

    /// Whether the bucket is alive or watches nothing.
    fn usable(&self, bucket: &Branch, ports: &Ports) -> bool {
        !watches(&bucket.said) || self.watched_lives(bucket, ports)
    }

    /// A bucket is alive when the port or the group that it watches is (section 6.5).
    fn watched_lives(&self, bucket: &Branch, ports: &Ports) -> bool {
        let said = &bucket.said;
        said.watch_port != port::ANY && ports.live(said.watch_port)
            || said.watch_group != group::ANY && self.lives(said.watch_group, ports)
    }

    /// A group is alive when one of its buckets is; a group that watches nothing always is. Each
    /// watched group is checked once, so that a loop of groups ends.
    fn lives(&self, id: u32, ports: &Ports) -> bool {
        let (mut todo, mut seen) = (vec![id], vec![id]);
        while let Some(id) = todo.pop() {
            // A watched group that does not exist is dead.
            let Some(group) = self.get(id) else { continue };
            for said in group.buckets.iter().map(|b| &b.said) {
                if !watches(said) || said.watch_port != port::ANY && ports.live(said.watch_port) {
                    return true;
                }
                if said.watch_group != group::ANY
                    && let Err(at) = seen.binary_search(&said.watch_group)
                {
                    seen.insert(at, said.watch_group);
                    todo.push(said.watch_group);
                }
            }
        }
        false
    }
}
