//! Executes the messages of controllers about flows, groups and meters on a [`Pipeline`]: FLOW_MOD
//! of either version (OF 1.0 section 4.6, OF 1.3.5 section 6.4), GROUP_MOD, METER_MOD, and requests
//! for statistics of them and of tables.
//!
//! A message that fails changes nothing. Removed flows are returned if their controller asked for
//! FLOW_REMOVED. The caller holds the buffered packets: after a FLOW_MOD that succeeded it sends
//! the packet that the message names through the pipeline. A switch speaks one version at a time:
//! flows that came in the other version count in aggregates and tables, but are not listed.

mod groups;
mod meters;
mod v10;
mod v13;

pub use v10::{removed10, replies10};
pub use v13::{removed13, replies13};

use super::flows::{AddOptions, Change, Filter, Flow, RemovedReason, TableError};
use super::match_fields::CriteriaError;
use super::ops::Unsupported;
use super::pipeline::Pipeline;
use crate::error::OfErrorCode;
use std::time::Duration;
use tandem_model::Time;

/// Why a message is refused, and the OpenFlow error to answer with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// The reason, as text.
    pub why: String,
    /// The error's type and code, in the version of the message.
    pub of_error: OfErrorCode,
}

impl Refusal {
    fn new(why: impl Into<String>, kind: u16, code: u16) -> Refusal {
        Refusal { why: why.into(), of_error: OfErrorCode { kind, code } }
    }
}

impl From<CriteriaError> for Refusal {
    fn from(error: CriteriaError) -> Refusal {
        Refusal { of_error: error.of_error(), why: error.to_string() }
    }
}

impl From<Unsupported> for Refusal {
    fn from(error: Unsupported) -> Refusal {
        Refusal { of_error: error.of_error, why: error.to_string() }
    }
}

/// A removed flow whose controller asked for FLOW_REMOVED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The table it was in.
    pub table: u8,
    /// The flow as it was.
    pub flow: Flow,
    /// Why it was removed.
    pub reason: RemovedReason,
}

/// OFPFF_SEND_FLOW_REM, the same bit in both versions.
const SEND_FLOW_REM: u16 = 1;

/// One of the five commands of a FLOW_MOD, in one form for both versions.
enum Command {
    Add(Box<Flow>, AddOptions),
    Modify(Filter, Change),
    Delete(Filter),
}

impl Pipeline {
    fn at(&self, tables: Tables) -> std::ops::Range<usize> {
        match tables {
            Tables::All => 0..self.tables.len(),
            Tables::One(table) => usize::from(table)..usize::from(table) + 1,
        }
    }

    fn execute(&mut self, tables: Tables, command: Command) -> Result<(Vec<Removed>, usize), TableError> {
        let range = self.at(tables);
        let first = range.start;
        let mut removed = Vec::new();
        let mut count = 0;
        match command {
            Command::Add(flow, how) => {
                if let Some(table) = self.tables.get_mut(first) {
                    table.add(*flow, how)?;
                    count = 1;
                }
            }
            Command::Modify(filter, change) => {
                for table in self.tables.get_mut(range).unwrap_or_default() {
                    count += table.modify(&filter, &change);
                }
            }
            Command::Delete(filter) => {
                for (at, table) in self.tables.get_mut(range).unwrap_or_default().iter_mut().enumerate() {
                    let gone = table.delete(&filter);
                    count += gone.len();
                    let table = u8::try_from(first + at).unwrap_or(u8::MAX);
                    let told = gone.into_iter().filter(|f| f.flags & SEND_FLOW_REM != 0);
                    removed.extend(told.map(|flow| Removed { table, flow, reason: RemovedReason::Deleted }));
                }
            }
        }
        Ok((removed, count))
    }

    /// Removes the flows that have expired, and returns those whose controller asked for
    /// FLOW_REMOVED.
    pub fn expire(&mut self, now: Time) -> Vec<Removed> {
        let mut removed = Vec::new();
        for (at, table) in self.tables.iter_mut().enumerate() {
            let told = table.expire(now).into_iter().filter(|(f, _)| f.flags & SEND_FLOW_REM != 0);
            let table = u8::try_from(at).unwrap_or(u8::MAX);
            removed.extend(told.map(|(flow, reason)| Removed { table, flow, reason }));
        }
        removed
    }

    /// Removes flows, and returns those whose controller asked for FLOW_REMOVED.
    fn take_out(&mut self, reason: RemovedReason, takes: impl Fn(&Flow) -> bool) -> Vec<Removed> {
        let mut removed = Vec::new();
        for (at, table) in self.tables.iter_mut().enumerate() {
            let told = table.take_out(&takes).into_iter().filter(|f| f.flags & SEND_FLOW_REM != 0);
            let table = u8::try_from(at).unwrap_or(u8::MAX);
            removed.extend(told.map(|flow| Removed { table, flow, reason }));
        }
        removed
    }

    /// A time not after [`Pipeline::next_expiry`], known without a pass over the flows.
    pub fn earliest(&self) -> Option<Time> {
        self.tables.iter().filter_map(super::FlowTable::earliest).min()
    }

    /// When [`Pipeline::expire`] has to be called next.
    pub fn next_expiry(&self) -> Option<Time> {
        self.tables.iter().filter_map(super::FlowTable::next_expiry).min()
    }

    /// The flows that a filter selects in a table or in all, each with its table.
    fn selected<'a>(&'a self, tables: Tables, filter: &'a Filter) -> impl Iterator<Item = (u8, &'a Flow)> {
        let range = self.at(tables);
        let first = range.start;
        let tables = self.tables.get(range).unwrap_or_default();
        tables.iter().enumerate().flat_map(move |(at, table)| {
            let id = u8::try_from(first + at).unwrap_or(u8::MAX);
            table.select(filter).map(move |flow| (id, flow))
        })
    }
}

/// The tables that a message is about.
#[derive(Clone, Copy)]
enum Tables {
    All,
    One(u8),
}

/// Whole seconds and nanoseconds since a flow was added.
fn age(flow: &Flow, now: Time) -> (u32, u32) {
    span(now.since(flow.added))
}

/// Whole seconds and nanoseconds.
fn span(time: Duration) -> (u32, u32) {
    (u32::try_from(time.as_secs()).unwrap_or(u32::MAX), time.subsec_nanos())
}

/// A time-out in a message: whole seconds, 0 for none.
fn seconds(timeout: Duration) -> u16 {
    u16::try_from(timeout.as_secs()).unwrap_or(u16::MAX)
}

/// Total packets, bytes and number of flows.
fn sum<'a>(flows: impl Iterator<Item = (u8, &'a Flow)>) -> (u64, u64, u32) {
    flows.fold((0u64, 0u64, 0u32), |(packets, bytes, count), (_, f)| {
        (packets.saturating_add(f.packets), bytes.saturating_add(f.bytes), count.saturating_add(1))
    })
}

fn reason(gone: RemovedReason) -> u8 {
    match gone {
        RemovedReason::Idle => 0,
        RemovedReason::Hard => 1,
        RemovedReason::Deleted => 2,
        RemovedReason::Group => 3,
    }
}

/// Splits a list into at least one part, so that each fits a message after `head` bytes; `length`
/// is the encoded length of an item.
fn parts<T>(list: Vec<T>, head: usize, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts = vec![Vec::new()];
    let mut left = usize::from(u16::MAX) - head;
    for item in list {
        let length = length(&item);
        if length > left {
            parts.push(Vec::new());
            left = usize::from(u16::MAX) - head;
        }
        left = left.saturating_sub(length);
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}
