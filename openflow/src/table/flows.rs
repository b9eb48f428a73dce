//! One flow table: additions, changes and deletions, strict or not, the overlap check, priorities,
//! time-outs and counters (OF 1.0 sections 3 and 4.6, OF 1.3.5 sections 5 and 6.4).

use super::index::{Index, Place};
use super::instructions::Instructions;
use super::key::FlowKey;
use super::match_fields::Criteria;
use crate::{of10, of13};
use std::time::Duration;
use tandem_model::Time;

/// The match and actions of a flow as its controller sent them, so that statistics report them
/// unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WireForm {
    /// No controller sent the flow.
    #[default]
    None,
    /// Sent in OpenFlow 1.0.
    V10(of10::Match, Vec<of10::Action>),
    /// Sent in OpenFlow 1.3.
    V13(of13::Match, Vec<of13::Instruction>),
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Id of the flow among all that the pipeline ever had: given when the flow is added, kept when
    /// it is modified, never reused. 0 before it is added.
    pub id: u64,
    /// Higher wins.
    pub priority: u16,
    /// What it matches.
    pub criteria: Criteria,
    /// Cookie that the controller gave the flow.
    pub cookie: u64,
    /// OFPFF bits, kept for the controller.
    pub flags: u16,
    /// Idle time-out; zero for none.
    pub idle: Duration,
    /// Hard time-out; zero for none.
    pub hard: Duration,
    /// What is done to matching packets.
    pub instructions: Instructions,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When it was added.
    pub added: Time,
    /// When a packet last matched (at first, when it was added).
    pub used: Time,
    /// The flow as the controller sent it.
    pub wording: WireForm,
}

impl Flow {
    /// A new flow without time-outs.
    pub fn new(priority: u16, criteria: Criteria, instructions: Instructions, now: Time) -> Flow {
        let zero = Duration::ZERO;
        Flow {
            id: 0,
            priority,
            criteria,
            cookie: 0,
            flags: 0,
            idle: zero,
            hard: zero,
            instructions,
            packets: 0,
            bytes: 0,
            added: now,
            used: now,
            wording: WireForm::None,
        }
    }

    /// Whether it is a table-miss flow: it has priority 0 and no match fields (OF 1.3.5 section
    /// 5.4). In OpenFlow 1.0 that is a flow like any other.
    pub fn is_miss(&self) -> bool {
        self.priority == 0 && self.criteria.is_any() && !matches!(self.wording, WireForm::V10(..))
    }

    /// Its rank among the flows of a table. An OpenFlow 1.0 flow without wildcards ranks above all
    /// priorities (OF 1.0 section 3.4).
    fn rank(&self) -> u32 {
        if self.criteria.is_exact() { u32::from(u16::MAX) + 1 } else { self.priority.into() }
    }
}

/// How a flow is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddOptions {
    /// Refuse it if a packet may match both it and another flow of the same priority
    /// (OFPFF_CHECK_OVERLAP).
    pub check_overlap: bool,
    /// A flow with the same match and priority keeps its counters (OF 1.3.5 section 6.4, without
    /// OFPFF_RESET_COUNTS); else they start at zero (in OF 1.0 section 4.6, always).
    pub keep_counts: bool,
}

/// A modification of flows; time-outs, cookies and flags stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The new instructions.
    pub instructions: Instructions,
    /// Whether the counters start at zero (OFPFF_RESET_COUNTS of 1.3).
    pub reset_counts: bool,
    /// The new instructions as the controller sent them; the match in it is ignored.
    pub wording: WireForm,
}

/// Why a flow was removed (OFPRR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovedReason {
    /// Its idle time-out.
    Idle,
    /// Its hard time-out.
    Hard,
    /// A controller deleted it.
    Deleted,
    /// The group that it sends to was deleted.
    Group,
}

/// Why a flow mod is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// OFPFMFC_OVERLAP.
    #[error("it overlaps a flow of the same priority")]
    Overlap,
    /// OFPFMFC_ALL_TABLES_FULL, OFPFMFC_TABLE_FULL.
    #[error("the table is full ({0} flows)")]
    Full(usize),
}

/// Selects the flows of a modification, deletion or request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The match of the request.
    pub criteria: Criteria,
    /// With a priority, only the flow with exactly this match and priority; else every flow whose
    /// match `criteria` covers.
    pub strict: Option<u16>,
    /// Only flows that send to this port.
    pub out_port: Option<u32>,
    /// Only flows that send to this group.
    pub out_group: Option<u32>,
    /// Only flows whose cookie has these bits: value, mask.
    pub cookie: (u64, u64),
}

impl Filter {
    /// Every flow covered by `criteria`.
    pub fn covered_by(criteria: Criteria) -> Filter {
        Filter { criteria, strict: None, out_port: None, out_group: None, cookie: (0, 0) }
    }

    /// The flow with exactly this match and priority.
    pub fn strictly(criteria: Criteria, priority: u16) -> Filter {
        Filter { strict: Some(priority), ..Filter::covered_by(criteria) }
    }

    fn takes(&self, flow: &Flow) -> bool {
        let (value, mask) = self.cookie;
        let matched = match self.strict {
            Some(priority) => flow.priority == priority && flow.criteria == self.criteria,
            None => self.criteria.covers(&flow.criteria),
        };
        matched
            && flow.cookie & mask == value & mask
            && self.out_port.is_none_or(|p| flow.instructions.sends_to(p))
            && self.out_group.is_none_or(|g| flow.instructions.sends_to_group(g))
    }
}

/// Bits of a flow's id that count flows; those above are the table's number. They suffice for a
/// million additions a second over 2000 years.
const ID_BITS: u32 = 56;

/// When a flow expires if no packet matches it; `None` without time-outs.
fn end(flow: &Flow) -> Option<Time> {
    let at = |since: Time, limit: Duration| (!limit.is_zero()).then(|| since + limit);
    at(flow.added, flow.hard).into_iter().chain(at(flow.used, flow.idle)).min()
}

/// A flow table.
#[derive(Debug, Clone)]
pub struct FlowTable {
    /// By rank, highest first; within a rank, in the order of addition.
    #[allow(
        clippy::vec_box,
        reason = "a flow has hundreds of bytes, which would all move when one before it comes or goes"
    )]
    flows: Vec<Box<Flow>>,
    /// The place of each flow in `flows`, ascending.
    places: Vec<Place>,
    by_match: Index,
    most: usize,
    /// The number of the flow that was added last.
    last_id: u64,
    generation: u64,
    /// Index in `flows` by id, and the generation of the table that it is valid for.
    by_id: (u64, Vec<(u64, usize)>),
    /// No flow expires before this time; `None` if no flow has a time-out. It may be too early,
    /// never too late.
    earliest: Option<Time>,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that matched.
    pub matched: u64,
}

impl FlowTable {
    /// An empty table for at most `most` flows.
    pub fn new(most: usize) -> FlowTable {
        FlowTable::numbered(0, most)
    }

    /// An empty table that numbers its flows so that ids differ between the tables of a pipeline.
    pub(super) fn numbered(table: u8, most: usize) -> FlowTable {
        FlowTable {
            flows: Vec::new(),
            places: Vec::new(),
            by_match: Index::default(),
            most,
            last_id: u64::from(table) << ID_BITS,
            generation: 0,
            by_id: (0, Vec::new()),
            earliest: None,
            lookups: 0,
            matched: 0,
        }
    }

    /// The table that gave a flow its id.
    pub(super) fn of_id(id: u64) -> usize {
        usize::try_from(id >> ID_BITS).unwrap_or(usize::MAX)
    }

    /// A number that changes whenever a packet may match another flow, or a flow's instructions
    /// change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All flows, in the order in which a lookup tries them.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().map(|f| &**f)
    }

    /// How many flows it can hold.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Sets the maximum of flows; flows above it stay.
    pub(crate) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Adds a flow. It replaces one with the same match and priority without FLOW_REMOVED (OF 1.3.5
    /// section 6.4); `how` says whether the counters are kept.
    ///
    /// When it overlaps (if that is checked), or the table is full. Nothing is changed then.
    pub fn add(&mut self, mut flow: Flow, how: AddOptions) -> Result<(), TableError> {
        if how.check_overlap
            && self.flows.iter().any(|f| f.priority == flow.priority && f.criteria.overlaps(&flow.criteria))
        {
            return Err(TableError::Overlap);
        }
        let old = self.by_match.with(&flow.criteria).iter().filter_map(|p| self.standing(*p)).find(|at| {
            self.at(*at).is_some_and(|f| f.priority == flow.priority && f.criteria == flow.criteria)
        });
        if old.is_none() && self.flows.len() >= self.most {
            return Err(TableError::Full(self.most));
        }
        self.generation += 1;
        self.last_id += 1;
        flow.id = self.last_id;
        self.earliest = self.earliest.into_iter().chain(end(&flow)).min();
        if let Some(old) = old.and_then(|at| self.flows.get_mut(at)) {
            if how.keep_counts {
                (flow.packets, flow.bytes) = (old.packets, old.bytes);
            }
            **old = flow;
            return Ok(());
        }
        let place = Place::new(flow.rank(), flow.id);
        let at = self.places.partition_point(|p| *p < place);
        self.by_match.add(&flow.criteria, place);
        self.places.insert(at, place);
        self.flows.insert(at, Box::new(flow));
        Ok(())
    }

    /// Indexes of the flows that a filter may select: for a strict one, those with its match, else
    /// all.
    fn candidates(&self, filter: &Filter) -> Vec<usize> {
        match filter.strict {
            Some(_) => {
                self.by_match.with(&filter.criteria).iter().filter_map(|p| self.standing(*p)).collect()
            }
            None => (0..self.flows.len()).collect(),
        }
    }

    /// Gives flows other instructions; time-outs, cookies and flags stay. Returns the number of
    /// flows.
    pub fn modify(&mut self, filter: &Filter, change: &Change) -> usize {
        let mut count = 0;
        for at in self.candidates(filter) {
            let Some(flow) = self.flows.get_mut(at).filter(|f| filter.takes(f)) else { continue };
            flow.instructions = change.instructions.clone();
            if change.reset_counts {
                (flow.packets, flow.bytes) = (0, 0);
            }
            match (&mut flow.wording, &change.wording) {
                (WireForm::V10(_, old), WireForm::V10(_, new)) => old.clone_from(new),
                (WireForm::V13(_, old), WireForm::V13(_, new)) => old.clone_from(new),
                // The match came in one version, the instructions in another: neither version can
                // report both as they were sent.
                (wording, _) => *wording = WireForm::None,
            }
            count += 1;
        }
        self.generation += u64::from(count > 0);
        count
    }

    /// The flows that a filter selects, in the order of the table.
    pub fn select(&self, filter: &Filter) -> impl Iterator<Item = &Flow> {
        self.iter().filter(move |f| filter.takes(f))
    }

    /// Deletes flows and returns them, in the order of the table.
    pub fn delete(&mut self, filter: &Filter) -> Vec<Flow> {
        if filter.strict.is_none() {
            return self.take_out(|f| filter.takes(f));
        }
        // A strict filter selects at most one flow: the one with its priority among those with its
        // match.
        let one = |at: &usize| self.at(*at).is_some_and(|f| filter.takes(f));
        let Some(at) = self.candidates(filter).into_iter().find(one) else { return Vec::new() };
        let (flow, place) = (self.flows.remove(at), self.places.remove(at));
        self.by_match.remove(&flow.criteria, place);
        self.generation += 1;
        vec![*flow]
    }

    /// Removes flows and returns them, in the order of the table.
    pub(super) fn take_out(&mut self, takes: impl Fn(&Flow) -> bool) -> Vec<Flow> {
        if !self.iter().any(&takes) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        let (flows, places) = (std::mem::take(&mut self.flows), std::mem::take(&mut self.places));
        for (flow, place) in flows.into_iter().zip(places) {
            if takes(&flow) {
                self.by_match.remove(&flow.criteria, place);
                gone.push(*flow);
            } else {
                self.flows.push(flow);
                self.places.push(place);
            }
        }
        self.generation += 1;
        gone
    }

    /// The flow that matches a packet of `bytes` bytes; counts the packet and restarts the flow's
    /// idle time-out.
    pub fn lookup(&mut self, key: &FlowKey, bytes: usize, now: Time) -> Option<&Flow> {
        let Some(at) = self.find(key) else {
            self.missed();
            return None;
        };
        self.hit(at, bytes, now)
    }

    /// Index of the flow that matches a packet; counts nothing.
    pub(super) fn find(&self, key: &FlowKey) -> Option<usize> {
        self.by_match.find(key).and_then(|place| self.standing(place))
    }

    /// Index of the flow with this place in the order.
    fn standing(&self, place: Place) -> Option<usize> {
        self.places.binary_search(&place).ok()
    }

    /// Counts a packet without a matching flow.
    pub(super) fn missed(&mut self) {
        self.lookups += 1;
    }

    /// Counts a packet for the flow at this index.
    pub(super) fn hit(&mut self, at: usize, bytes: usize, now: Time) -> Option<&Flow> {
        self.lookups += 1;
        let flow = self.flows.get_mut(at)?;
        self.matched += 1;
        flow.packets += 1;
        flow.bytes += bytes as u64;
        flow.used = now;
        Some(flow)
    }

    /// The flow at this index.
    pub(super) fn at(&self, at: usize) -> Option<&Flow> {
        self.flows.get(at).map(|f| &**f)
    }

    /// Adds packets that were counted elsewhere (by hardware) to a flow's counters, and the time of
    /// the last one; false if there is no such flow.
    pub(super) fn credit(&mut self, id: u64, packets: u64, bytes: u64, used: Option<Time>) -> bool {
        let at = self.place(id);
        if let Some(flow) = at.and_then(|at| self.flows.get_mut(at)) {
            flow.packets = flow.packets.saturating_add(packets);
            flow.bytes = flow.bytes.saturating_add(bytes);
            flow.used = flow.used.max(used.unwrap_or(flow.used));
            self.lookups = self.lookups.saturating_add(packets);
            self.matched = self.matched.saturating_add(packets);
        }
        at.is_some()
    }

    /// Index of a flow by its id. The map is rebuilt after the table has changed, so that many
    /// calls in a row are cheap.
    fn place(&mut self, id: u64) -> Option<usize> {
        if self.by_id.0 != self.generation {
            self.by_id.0 = self.generation;
            self.by_id.1 = self.flows.iter().enumerate().map(|(at, f)| (f.id, at)).collect();
            self.by_id.1.sort_unstable();
        }
        let list = &self.by_id.1;
        list.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| list[at].1)
    }

    /// Removes the flows that have expired, each with the reason. Where both time-outs have ended,
    /// the hard one is the reason.
    pub fn expire(&mut self, now: Time) -> Vec<(Flow, RemovedReason)> {
        if self.earliest.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let up = |since: Time, limit: Duration| !limit.is_zero() && now.since(since) >= limit;
        let reason = |f: &Flow| match (up(f.added, f.hard), up(f.used, f.idle)) {
            (true, _) => Some(RemovedReason::Hard),
            (_, true) => Some(RemovedReason::Idle),
            _ => None,
        };
        let gone = self.take_out(|f| reason(f).is_some());
        self.earliest = self.next_expiry();
        gone.into_iter().filter_map(|f| reason(&f).map(|r| (f, r))).collect()
    }

    /// When [`FlowTable::expire`] has to be called next.
    pub fn next_expiry(&self) -> Option<Time> {
        self.iter().filter_map(end).min()
    }

    /// A time not after [`FlowTable::next_expiry`], known without a pass over the flows.
    pub(super) fn earliest(&self) -> Option<Time> {
        self.earliest
    }
}
