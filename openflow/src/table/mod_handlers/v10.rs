//! FLOW_MOD and statistics of OpenFlow 1.0. A modification or deletion is about all tables, a
//! replaced flow's counters start at zero, and a modification without a matching flow adds one.

use super::{Command, Refusal, Removed, Tables, age, parts, reason, seconds, sum};
use crate::of10::flow::{command, flag};
use crate::of10::stats::{
    AggregateStats, FlowStats, FlowStatsRequest, REPLY_MORE, ReplyBody, RequestBody, StatsReply, TableStats,
};
use crate::of10::{FlowMod, FlowRemoved, port};
use crate::table::flows::{AddOptions, Change, Filter, Flow, TableError, WireForm};
use crate::table::match_fields::Criteria;
use crate::table::pipeline::Pipeline;
use crate::table::{Instructions, ops};
use crate::wire::{Pad, Text, Wire};
use std::time::Duration;
use tandem_model::Time;

/// OFPET_FLOW_MOD_FAILED of 1.0.
const FLOW_MOD_FAILED: u16 = 3;
/// The OFPFW bits that the tables support: all.
const WILDCARDS: u32 = crate::of10::matching::wildcard::ALL;

fn refused(error: TableError) -> Refusal {
    let code = match error {
        TableError::Full(_) => 0,
        TableError::Overlap => 1,
    };
    Refusal::new(error.to_string(), FLOW_MOD_FAILED, code)
}

fn narrowed(port: u16) -> Option<u32> {
    match port {
        port::NONE => None,
        p => Some(ops::wide(p)),
    }
}

fn filter(criteria: Criteria, strict: Option<u16>, out_port: Option<u32>) -> Filter {
    Filter { strict, out_port, ..Filter::covered_by(criteria) }
}

impl Pipeline {
    /// Executes a FLOW_MOD of OpenFlow 1.0. Flows are added to the first table; changes and
    /// deletions are about all.
    ///
    /// Returns the OpenFlow error to answer with; nothing is changed then.
    pub fn flow_mod10(&mut self, m: &FlowMod, now: Time) -> Result<Vec<Removed>, Refusal> {
        let criteria = Criteria::from_of10(&m.matching);
        let strict =
            matches!(m.command, command::MODIFY_STRICT | command::DELETE_STRICT).then_some(m.priority);
        let run = |p: &mut Pipeline, tables, c| p.execute(tables, c).map_err(refused);
        if matches!(m.command, command::DELETE | command::DELETE_STRICT) {
            let filter = filter(criteria, strict, narrowed(m.out_port));
            return run(self, Tables::All, Command::Delete(filter)).map(|(removed, _)| removed);
        }
        if !matches!(m.command, command::ADD | command::MODIFY | command::MODIFY_STRICT) {
            return Err(Refusal::new(format!("there is no command {}", m.command), FLOW_MOD_FAILED, 4));
        }
        if m.flags & flag::EMERG != 0 {
            if (m.idle_timeout, m.hard_timeout) != (0, 0) {
                return Err(Refusal::new("emergency flows have no time-outs", FLOW_MOD_FAILED, 3));
            }
            // There is no emergency table, which is answered as a full one.
            return Err(Refusal::new("this switch has no emergency flows", FLOW_MOD_FAILED, 0));
        }
        let instructions = Instructions::from_of10(&m.actions)?;
        let wording = WireForm::V10(m.matching.clone(), m.actions.clone());
        if m.command != command::ADD {
            let filter = filter(criteria.clone(), strict, None);
            let change =
                Change { instructions: instructions.clone(), reset_counts: false, wording: wording.clone() };
            if run(self, Tables::All, Command::Modify(filter, change))?.1 > 0 {
                return Ok(Vec::new());
            }
            // A modification without a matching flow is an addition (section 4.6).
        }
        let flow = Flow {
            cookie: m.cookie,
            flags: m.flags,
            idle: Duration::from_secs(m.idle_timeout.into()),
            hard: Duration::from_secs(m.hard_timeout.into()),
            wording,
            ..Flow::new(m.priority, criteria, instructions, now)
        };
        let how = AddOptions { check_overlap: m.flags & flag::CHECK_OVERLAP != 0, keep_counts: false };
        run(self, Tables::One(0), Command::Add(Box::new(flow), how)).map(|(removed, _)| removed)
    }

    /// `None` for the emergency table, which does not exist.
    fn asked10(&self, q: &FlowStatsRequest) -> Option<(Tables, Filter)> {
        let tables = match q.table_id {
            0xff => Tables::All,
            0xfe => return None,
            table => Tables::One(table),
        };
        Some((tables, filter(Criteria::from_of10(&q.matching), None, narrowed(q.out_port))))
    }

    fn flows10(&self, q: &FlowStatsRequest, now: Time) -> Vec<FlowStats> {
        let Some((tables, filter)) = self.asked10(q) else { return Vec::new() };
        let of = |(table_id, f): (u8, &Flow)| {
            let WireForm::V10(matching, actions) = &f.wording else { return None };
            let (duration_sec, duration_nsec) = age(f, now);
            Some(FlowStats {
                table_id,
                pad: Pad::default(),
                matching: matching.clone(),
                duration_sec,
                duration_nsec,
                priority: f.priority,
                idle_timeout: seconds(f.idle),
                hard_timeout: seconds(f.hard),
                pad2: Pad::default(),
                cookie: f.cookie,
                packet_count: f.packets,
                byte_count: f.bytes,
                actions: actions.clone(),
            })
        };
        self.selected(tables, &filter).filter_map(of).collect()
    }

    /// Answers a statistics request of OpenFlow 1.0 about flows, aggregates or tables, in as many
    /// messages as needed; `None` for other requests.
    pub fn stats10(&self, question: &RequestBody, now: Time) -> Option<Vec<StatsReply>> {
        let one = |body| Some(vec![StatsReply { flags: 0, body }]);
        match question {
            RequestBody::Flow(q) => Some(replies10(self.flows10(q, now), ReplyBody::Flow)),
            RequestBody::Aggregate(q) => {
                let (packet_count, byte_count, flow_count) =
                    self.asked10(q).map_or((0, 0, 0), |(tables, filter)| sum(self.selected(tables, &filter)));
                let pad = Pad::default();
                one(ReplyBody::Aggregate(AggregateStats { packet_count, byte_count, flow_count, pad }))
            }
            RequestBody::Table => one(ReplyBody::Table(
                self.tables
                    .iter()
                    .enumerate()
                    .map(|(at, t)| TableStats {
                        table_id: u8::try_from(at).unwrap_or(u8::MAX),
                        pad: Pad::default(),
                        name: Text::new(&format!("table{at}")),
                        wildcards: WILDCARDS,
                        max_entries: u32::try_from(t.most()).unwrap_or(u32::MAX),
                        active_count: u32::try_from(t.len()).unwrap_or(u32::MAX),
                        lookup_count: t.lookups,
                        matched_count: t.matched,
                    })
                    .collect(),
            )),
            _ => None,
        }
    }
}

/// Statistics in as many replies as needed; all but the last have OFPSF_REPLY_MORE.
pub fn replies10<T: Wire>(list: Vec<T>, body: impl Fn(Vec<T>) -> ReplyBody) -> Vec<StatsReply> {
    let length = |item: &T| {
        let mut out = Vec::new();
        item.write(&mut out);
        out.len()
    };
    let mut replies: Vec<StatsReply> = parts(list, crate::header::LEN + 4, length)
        .into_iter()
        .map(|part| StatsReply { flags: REPLY_MORE, body: body(part) })
        .collect();
    if let Some(last) = replies.last_mut() {
        last.flags = 0;
    }
    replies
}

/// The FLOW_REMOVED of a flow; `None` for a flow that did not come in OpenFlow 1.0.
pub fn removed10(removed: &Removed, now: Time) -> Option<FlowRemoved> {
    let f = &removed.flow;
    let WireForm::V10(matching, _) = &f.wording else { return None };
    let (duration_sec, duration_nsec) = age(f, now);
    Some(FlowRemoved {
        matching: matching.clone(),
        cookie: f.cookie,
        priority: f.priority,
        reason: reason(removed.reason),
        pad: Pad::default(),
        duration_sec,
        duration_nsec,
        idle_timeout: seconds(f.idle),
        pad2: Pad::default(),
        packet_count: f.packets,
        byte_count: f.bytes,
    })
}
