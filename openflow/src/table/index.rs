//! Finds the flow of a packet without a comparison with each flow: flows that match the same bits
//! of the same fields form a class, and a class finds the packet's flow by the values of these bits
//! (tuple space search).

use super::key::{FieldId, FlowKey};
use super::match_fields::Criteria;
use std::collections::BTreeMap;

/// A flow's place in the order in which a table tries flows; smaller places come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Complement of the rank: smaller for a higher rank.
    below: u32,
    /// Sequence number of its addition.
    turn: u64,
}

impl Place {
    /// The place behind all flows of a higher rank, and behind those of its rank with an earlier
    /// turn.
    pub(super) fn new(rank: u32, turn: u64) -> Place {
        Place { below: u32::MAX - rank, turn }
    }
}

/// The flows that match the same bits.
#[derive(Debug, Clone)]
struct Alike {
    /// Each field with its mask.
    bits: Vec<(FieldId, u128)>,
    /// No flow of this class comes before this place.
    first: Place,
    /// Places of flows by the fields' values, first place first.
    flows: BTreeMap<Vec<u128>, Vec<Place>>,
}

/// Finds the flows of a table that match a packet.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// Classes, ordered by `first`.
    list: Vec<Alike>,
}

/// The highest number of fields in a match.
const MOST_FIELDS: usize = 40;

impl Index {
    fn alike(&self, criteria: &Criteria) -> Option<usize> {
        let same = |a: &Alike| {
            a.bits.len() == criteria.fields().count()
                && a.bits.iter().zip(criteria.fields()).all(|(bits, (field, _, mask))| *bits == (field, mask))
        };
        self.list.iter().position(same)
    }

    fn values(criteria: &Criteria) -> Vec<u128> {
        criteria.fields().map(|(_, value, _)| value).collect()
    }

    /// The places of flows with these conditions.
    pub(super) fn with(&self, criteria: &Criteria) -> &[Place] {
        let flows = self.alike(criteria).and_then(|at| self.list.get(at)).map(|a| &a.flows);
        flows.and_then(|f| f.get(&Self::values(criteria))).map_or(&[], Vec::as_slice)
    }

    /// Adds a flow.
    pub(super) fn add(&mut self, criteria: &Criteria, place: Place) {
        let at = self.alike(criteria).unwrap_or_else(|| {
            let bits = criteria.fields().map(|(field, _, mask)| (field, mask)).collect();
            self.list.push(Alike { bits, first: place, flows: BTreeMap::new() });
            self.list.len() - 1
        });
        if let Some(alike) = self.list.get_mut(at) {
            let places = alike.flows.entry(Self::values(criteria)).or_default();
            if let Err(at) = places.binary_search(&place) {
                places.insert(at, place);
            }
            if place <= alike.first {
                alike.first = place;
                self.list.sort_by_key(|a| a.first);
            }
        }
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, criteria: &Criteria, place: Place) {
        let Some(at) = self.alike(criteria) else { return };
        let flows = &mut self.list[at].flows;
        let values = Self::values(criteria);
        if let Some(places) = flows.get_mut(&values) {
            places.retain(|p| *p != place);
            if places.is_empty() {
                flows.remove(&values);
            }
        }
        // `first` may be too early from now on, which costs a lookup and no correctness.
        if flows.is_empty() {
            self.list.remove(at);
        }
    }

    /// The place of the first flow that matches a packet.
    pub(super) fn find(&self, key: &FlowKey) -> Option<Place> {
        let mut best: Option<Place> = None;
        let mut values = [0u128; MOST_FIELDS];
        for alike in &self.list {
            if best.is_some_and(|b| b <= alike.first) {
                break;
            }
            let Some(values) = values.get_mut(..alike.bits.len()) else { continue };
            let has = |((field, mask), value): (&(FieldId, u128), &mut u128)| {
                key.get(*field).is_some_and(|found| {
                    *value = found & mask;
                    true
                })
            };
            if alike.bits.iter().zip(values.iter_mut()).all(has)
                && let Some(place) = alike.flows.get(&*values).and_then(|p| p.first())
            {
                best = Some(best.map_or(*place, |b| b.min(*place)));
            }
        }
        best
    }
}
