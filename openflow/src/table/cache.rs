//! The flow cache remembers what the tables decided for a packet by the packet's compact key. The
//! next packet with that key takes the same steps without a lookup in the tables.
//!
//! It never decides otherwise than the tables: a decision is valid only in the generation of the
//! pipeline that made it; only decisions that follow from the key alone are remembered; and what
//! depends on more (counters, time-outs, meters, TTL) is done by the steps, anew for each packet.
//! It is bounded: a set has four places, and a new decision replaces one of them when all are
//! taken.

use super::executor::Step;
use super::packed_key::PackedKey;
use super::pipeline::Outcome;

/// Places in a set.
const WAYS: usize = 4;
/// The most steps of a decision that is remembered, which bounds the memory.
const MOST_STEPS: usize = 64;
/// A generation that no pipeline reaches: the place is free.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    key: PackedKey,
    generation: u64,
    pub(super) outcome: Outcome,
    pub(super) steps: Vec<Step>,
}

/// Hits and misses of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheCounters {
    /// Packets whose decision was found.
    pub hits: u64,
    /// Packets whose decision was not found, or was of an earlier generation.
    pub misses: u64,
    /// Packets that have no compact key.
    pub keyless: u64,
}

/// Decisions by compact key.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    entries: Vec<Entry>,
    /// Which place of a set is replaced next.
    turn: usize,
    pub(super) counters: CacheCounters,
}

impl Cache {
    /// A cache for `entries` decisions, rounded up to a power of two, at least 4; 0 turns the cache
    /// off.
    pub(super) fn new(entries: usize) -> Cache {
        let empty =
            Entry { key: PackedKey::NONE, generation: NEVER, outcome: Outcome::Matched, steps: Vec::new() };
        let count = if entries == 0 { 0 } else { entries.next_power_of_two().max(WAYS) };
        Cache { entries: vec![empty; count], ..Cache::default() }
    }

    /// True when it was made for 0 decisions.
    pub(super) fn is_off(&self) -> bool {
        self.entries.is_empty()
    }

    /// The set that a key belongs to.
    #[inline]
    fn set(&self, key: &PackedKey) -> std::ops::Range<usize> {
        let sets = self.entries.len() / WAYS;
        let first = (key.hash() as usize & sets.saturating_sub(1)) * WAYS;
        first..first + WAYS
    }

    /// The decision for a key, made in this generation.
    #[inline]
    pub(super) fn find(&mut self, key: &PackedKey, generation: u64) -> Option<&Entry> {
        let set = self.set(key);
        let found = self.entries.get(set)?.iter().find(|e| e.generation == generation && e.key == *key);
        match found {
            Some(_) => self.counters.hits += 1,
            None => self.counters.misses += 1,
        }
        found
    }

    /// The place for a key's decision: a place whose decision is no longer valid, else the next in
    /// turn. Returned with the memory of its steps, for reuse.
    pub(super) fn room(&mut self, key: &PackedKey, generation: u64) -> (usize, Vec<Step>) {
        let set = self.set(key);
        let old = |at: &usize| self.entries.get(*at).is_some_and(|e| e.generation != generation);
        let at = set.clone().find(old).unwrap_or_else(|| {
            self.turn = (self.turn + 1) % WAYS;
            set.start + self.turn
        });
        let entry = self.entries.get_mut(at);
        let steps = entry.map(|e| {
            e.generation = NEVER;
            std::mem::take(&mut e.steps)
        });
        (at, steps.unwrap_or_default())
    }

    /// Stores a decision at its place.
    pub(super) fn put(
        &mut self,
        at: usize,
        key: PackedKey,
        generation: u64,
        outcome: Outcome,
        steps: Vec<Step>,
    ) {
        if steps.len() > MOST_STEPS {
            return;
        }
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = Entry { key, generation, outcome, steps };
        }
    }

    /// Returns the memory of its steps to a place, without a decision.
    pub(super) fn leave(&mut self, at: usize, steps: Vec<Step>) {
        if let Some(entry) = self.entries.get_mut(at)
            && steps.capacity() <= MOST_STEPS
        {
            entry.steps = steps;
        }
    }
}
