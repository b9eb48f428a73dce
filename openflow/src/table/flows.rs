//! One flow table: additions, changes and deletions, strict or not, the overlap check, priorities, time-outs and counters (OF 1.0 sections
//! 3 and 4.6, OF 1.3.5 sections 5 and 6.4).

use super::criteria::Criteria;
use super::key::FlowKey;
use super::pipeline::Instructions;
use crate::{of10, of13};
use std::time::Duration;
use tandem_model::Time;

/// How a controller worded a flow, so that it can be reported in the same words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wording {
    /// No controller did.
    #[default]
    None,
    /// In OpenFlow 1.0.
    V10(of10::Match, Vec<of10::Action>),
    /// In OpenFlow 1.3.
    V13(of13::Match, Vec<of13::Instruction>),
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Higher wins.
    pub priority: u16,
    /// What it matches.
    pub criteria: Criteria,
    /// The controller's.
    pub cookie: u64,
    /// OFPFF bits, kept for the controller.
    pub flags: u16,
    /// Without a packet for this long, it goes; zero for never.
    pub idle: Duration,
    /// After this long, it goes; zero for never.
    pub hard: Duration,
    /// What is done.
    pub instructions: Instructions,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When it was added.
    pub added: Time,
    /// When it matched last (or was added).
    pub used: Time,
    /// How it was said.
    pub wording: Wording,
}

impl Flow {
    /// A new flow without time-outs.
    pub fn new(priority: u16, criteria: Criteria, instructions: Instructions, now: Time) -> Flow {
        let zero = Duration::ZERO;
        Flow {
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
            wording: Wording::None,
        }
    }

    /// Its place in the order: an OpenFlow 1.0 flow without wildcards stands above all priorities.
    fn rank(&self) -> u32 {
        if self.criteria.is_exact() { u32::from(u16::MAX) + 1 } else { self.priority.into() }
    }
}

/// How a flow is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adding {
    /// Refuse it if a packet may match both it and another flow of the same priority (OFPFF_CHECK_OVERLAP).
    pub check_overlap: bool,
    /// A flow with the same match and priority hands its counters on (OF 1.3.5 section 6.4, without OFPFF_RESET_COUNTS); else they start
    /// anew (OF 1.0 section 4.6 always).
    pub keep_counts: bool,
}

/// What is changed in flows; everything else stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// What is done from now on.
    pub instructions: Instructions,
    /// Whether the counters start anew (OFPFF_RESET_COUNTS of 1.3).
    pub reset_counts: bool,
    /// How it was said; the match in it is not looked at.
    pub wording: Wording,
}

/// Why a flow went (OFPRR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// No packet for its idle time-out.
    Idle,
    /// Its hard time-out.
    Hard,
    /// Deleted.
    Deleted,
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

/// Which flows a change or deletion is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What they match.
    pub criteria: Criteria,
    /// With exactly this match and this priority; else every flow whose match is covered.
    pub strict: Option<u16>,
    /// Only flows that send to this port.
    pub out_port: Option<u32>,
    /// Only flows whose cookie has these bits: value and mask.
    pub cookie: (u64, u64),
}

impl Filter {
    /// Every flow covered by `criteria`.
    pub fn covered_by(criteria: Criteria) -> Filter {
        Filter { criteria, strict: None, out_port: None, cookie: (0, 0) }
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
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct FlowTable {
    /// By rank, highest first; of one rank, in the order of addition.
    flows: Vec<Flow>,
    most: usize,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that matched.
    pub matched: u64,
}

impl FlowTable {
    /// An empty table for at most `most` flows.
    pub fn new(most: usize) -> FlowTable {
        FlowTable { flows: Vec::new(), most, lookups: 0, matched: 0 }
    }

    /// All flows, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter()
    }

    /// How many flows it can hold.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Adds a flow; one with the same match and priority is replaced without a word, its counters handed on or not.
    ///
    /// # Errors
    /// When it overlaps (and that is to be checked), or there is no room. Nothing is then changed.
    pub fn add(&mut self, mut flow: Flow, how: Adding) -> Result<(), TableError> {
        let same = |f: &Flow| f.priority == flow.priority && f.criteria == flow.criteria;
        if how.check_overlap
            && self.flows.iter().any(|f| f.priority == flow.priority && f.criteria.overlaps(&flow.criteria))
        {
            return Err(TableError::Overlap);
        }
        if let Some(old) = self.flows.iter_mut().find(|f| same(f)) {
            if how.keep_counts {
                (flow.packets, flow.bytes) = (old.packets, old.bytes);
            }
            *old = flow;
            return Ok(());
        }
        if self.flows.len() >= self.most {
            return Err(TableError::Full(self.most));
        }
        let at = self.flows.partition_point(|f| f.rank() >= flow.rank());
        self.flows.insert(at, flow);
        Ok(())
    }

    /// Gives flows other instructions; time-outs, cookies and flags stay. Returns how many.
    pub fn modify(&mut self, filter: &Filter, change: &Change) -> usize {
        let mut count = 0;
        for flow in self.flows.iter_mut().filter(|f| filter.takes(f)) {
            flow.instructions = change.instructions.clone();
            if change.reset_counts {
                (flow.packets, flow.bytes) = (0, 0);
            }
            match (&mut flow.wording, &change.wording) {
                (Wording::V10(_, old), Wording::V10(_, new)) => old.clone_from(new),
                (Wording::V13(_, old), Wording::V13(_, new)) => old.clone_from(new),
                // Half of it was said in one version, half in another: no version has words for the whole.
                (wording, _) => *wording = Wording::None,
            }
            count += 1;
        }
        count
    }

    /// The flows that a filter is about, in the order of the table.
    pub fn select(&self, filter: &Filter) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |f| filter.takes(f))
    }

    /// Deletes flows and returns them, in the order of the table.
    pub fn delete(&mut self, filter: &Filter) -> Vec<Flow> {
        let (gone, kept) = std::mem::take(&mut self.flows).into_iter().partition(|f| filter.takes(f));
        self.flows = kept;
        gone
    }

    /// The flow for a packet of `bytes` bytes; its counters and its idle time are brought up to date.
    pub fn lookup(&mut self, key: &FlowKey, bytes: usize, now: Time) -> Option<&Flow> {
        self.lookups += 1;
        let flow = self.flows.iter_mut().find(|f| f.criteria.matches(key))?;
        self.matched += 1;
        flow.packets += 1;
        flow.bytes += bytes as u64;
        flow.used = now;
        Some(flow)
    }

    /// Takes out the flows whose time is up, with the reason. A hard time-out counts before an idle one.
    pub fn expire(&mut self, now: Time) -> Vec<(Flow, Gone)> {
        let up = |since: Time, limit: Duration| !limit.is_zero() && now.since(since) >= limit;
        let reason = |f: &Flow| match (up(f.added, f.hard), up(f.used, f.idle)) {
            (true, _) => Some(Gone::Hard),
            (_, true) => Some(Gone::Idle),
            _ => None,
        };
        let (gone, kept): (Vec<Flow>, Vec<Flow>) =
            std::mem::take(&mut self.flows).into_iter().partition(|f| reason(f).is_some());
        self.flows = kept;
        gone.into_iter().filter_map(|f| reason(&f).map(|r| (f, r))).collect()
    }

    /// When [`FlowTable::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<Time> {
        let at = |since: Time, limit: Duration| (!limit.is_zero()).then(|| since + limit);
        self.flows.iter().flat_map(|f| [at(f.added, f.hard), at(f.used, f.idle)]).flatten().min()
    }
}
