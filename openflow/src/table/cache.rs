//! The flow cache: what the tables decided for a packet is remembered by the packet's compact key,
//! and the same steps are taken for the next packet with that key, without a look at the tables.
//!
//! It never decides otherwise than the tables would: a decision counts only in the generation of
//! the pipeline that it was made in; only decisions that follow from the key alone are remembered;
//! and what depends on more (counters, time-outs, meters, TTL) happens in the steps, each time
//! anew. It is bounded: a decision's set has four places, and a new one pushes out another when
//! they are taken.

use super::executor::Step;
use super::packed_key::PackedKey;
use super::pipeline::Outcome;

/// Places of a set.
const WAYS: usize = 4;
/// Decisions of more steps are not remembered, which bounds the memory.
const MOST_STEPS: usize = 64;
/// No generation ever gets here.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    key: PackedKey,
    generation: u64,
    pub(super) outcome: Outcome,
    pub(super) steps: Vec<Step>,
}

/// How a cache fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheCounters {
    /// Packets whose decision was there.
    pub hits: u64,
    /// Packets whose decision was not there, or not any more.
    pub misses: u64,
    /// Packets that have no compact key.
    pub keyless: u64,
}

/// The decisions for packets that were seen before.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    entries: Vec<Entry>,
    /// Which place of a set is pushed out next.
    turn: usize,
    pub(super) counters: CacheCounters,
}

impl Cache {
    /// A cache for `entries` decisions, rounded up to a power of two, at least 4; none at all for
    /// 0.
    pub(super) fn new(entries: usize) -> Cache {
        let empty =
            Entry { key: PackedKey::NONE, generation: NEVER, outcome: Outcome::Matched, steps: Vec::new() };
        let count = if entries == 0 { 0 } else { entries.next_power_of_two().max(WAYS) };
        Cache { entries: vec![empty; count], ..Cache::default() }
    }

    /// True when it can hold nothing.
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

    /// Where the decision for a key is to be written down: a place whose decision does not count
    /// any more, or the next one's turn. Its steps' memory is used again.
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

    /// Remembers a decision at its place.
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

    /// Gives a place its memory back, empty.
    pub(super) fn leave(&mut self, at: usize, steps: Vec<Step>) {
        if let Some(entry) = self.entries.get_mut(at)
            && steps.capacity() <= MOST_STEPS
        {
            entry.steps = steps;
        }
    }
}
