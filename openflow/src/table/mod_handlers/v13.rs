//! FLOW_MOD and multipart requests of OpenFlow 1.3. A message is about one table (a deletion also
//! about all), cookies filter flows, and counters may survive a replacement.

use super::{Command, Refusal, Removed, Tables, age, parts, reason, seconds, sum};
use crate::error::OfErrorCode;
use crate::of13::flow::{ALL_TABLES, command, flag};
use crate::of13::multipart::{REPLY_MORE, ReplyBody, RequestBody};
use crate::of13::stats::{AggregateStats, FlowStats, FlowStatsRequest, TableStats};
use crate::of13::{FlowMod, FlowRemoved, MultipartReply, group, port};
use crate::table::consistent;
use crate::table::flows::{AddOptions, Change, Filter, Flow, TableError, WireForm};
use crate::table::instructions::Instructions;
use crate::table::match_fields::Criteria;
use crate::table::pipeline::Pipeline;
use crate::wire::{Pad, Wire};
use std::time::Duration;
use tandem_model::Time;

/// OFPET_FLOW_MOD_FAILED of 1.3.
const FLOW_MOD_FAILED: u16 = 5;
/// The OFPFF bits that are supported.
const FLAGS: u16 = flag::SEND_FLOW_REM
    | flag::CHECK_OVERLAP
    | flag::RESET_COUNTS
    | flag::NO_PKT_COUNTS
    | flag::NO_BYT_COUNTS;

fn refused(error: TableError) -> Refusal {
    let code = match error {
        TableError::Full(_) => 1,
        TableError::Overlap => 3,
    };
    Refusal::new(error.to_string(), FLOW_MOD_FAILED, code)
}

impl Pipeline {
    /// Executes a FLOW_MOD of OpenFlow 1.3.
    ///
    /// Returns the OpenFlow error to answer with; nothing is changed then.
    pub fn flow_mod13(&mut self, m: &FlowMod, now: Time) -> Result<Vec<Removed>, Refusal> {
        if m.command > command::DELETE_STRICT {
            return Err(Refusal::new(format!("there is no command {}", m.command), FLOW_MOD_FAILED, 6));
        }
        if m.flags & !FLAGS != 0 {
            return Err(Refusal::new(format!("flags {:#06x} are unknown", m.flags), FLOW_MOD_FAILED, 7));
        }
        let delete = matches!(m.command, command::DELETE | command::DELETE_STRICT);
        let tables = match m.table_id {
            ALL_TABLES if delete => Tables::All,
            table if usize::from(table) < self.tables.len() => Tables::One(table),
            table => return Err(Refusal::new(format!("there is no table {table}"), FLOW_MOD_FAILED, 2)),
        };
        let criteria = Criteria::from_of13(&m.matching)?;
        let mut filter = Filter {
            strict: matches!(m.command, command::MODIFY_STRICT | command::DELETE_STRICT)
                .then_some(m.priority),
            cookie: (m.cookie, m.cookie_mask),
            ..Filter::covered_by(criteria.clone())
        };
        if delete {
            filter.out_group = (m.out_group != group::ANY).then_some(m.out_group);
            filter.out_port = (m.out_port != port::ANY).then_some(m.out_port);
            return self.execute(tables, Command::Delete(filter)).map(|(r, _)| r).map_err(refused);
        }
        let instructions = Instructions::from_of13(&m.instructions)?;
        consistent::flow(&m.matching, &m.instructions)?;
        if let Some(next) = instructions.goto
            && (next <= m.table_id || usize::from(next) >= self.tables.len())
        {
            let why = format!("table {} cannot hand on to table {next}", m.table_id);
            return Err(Refusal { why, of_error: OfErrorCode::BAD_GOTO });
        }
        self.known(&instructions)?;
        let wording = WireForm::V13(m.matching.clone(), m.instructions.clone());
        let reset_counts = m.flags & flag::RESET_COUNTS != 0;
        let command = if m.command == command::ADD {
            let flow = Flow {
                cookie: m.cookie,
                flags: m.flags,
                idle: Duration::from_secs(m.idle_timeout.into()),
                hard: Duration::from_secs(m.hard_timeout.into()),
                wording,
                ..Flow::new(m.priority, criteria, instructions, now)
            };
            let check_overlap = m.flags & flag::CHECK_OVERLAP != 0;
            Command::Add(Box::new(flow), AddOptions { check_overlap, keep_counts: !reset_counts })
        } else {
            Command::Modify(filter, Change { instructions, reset_counts, wording })
        };
        self.execute(tables, command).map(|(removed, _)| removed).map_err(refused)
    }

    /// Checks that the groups and the meter that a flow uses exist.
    fn known(&self, instructions: &Instructions) -> Result<(), Refusal> {
        if let Some(group) = instructions.groups().find(|g| self.groups.get(*g).is_none()) {
            return Err(Refusal {
                why: format!("there is no group {group}"),
                of_error: OfErrorCode::BAD_OUT_GROUP,
            });
        }
        match instructions.meter {
            // OFPET_METER_MOD_FAILED, OFPMMFC_INVALID_METER.
            Some(id) if self.meters.get(id).is_none() => {
                Err(Refusal::new(format!("there is no meter {id}"), 12, 2))
            }
            _ => Ok(()),
        }
    }

    fn asked13(&self, q: &FlowStatsRequest) -> Result<(Tables, Filter), Refusal> {
        let tables = match q.table_id {
            ALL_TABLES => Tables::All,
            table if usize::from(table) < self.tables.len() => Tables::One(table),
            table => {
                let why = format!("there is no table {table}");
                return Err(Refusal { why, of_error: OfErrorCode::BAD_REQUEST_TABLE });
            }
        };
        let filter = Filter {
            out_port: (q.out_port != port::ANY).then_some(q.out_port),
            out_group: (q.out_group != group::ANY).then_some(q.out_group),
            cookie: (q.cookie, q.cookie_mask),
            ..Filter::covered_by(Criteria::from_of13(&q.matching)?)
        };
        Ok((tables, filter))
    }

    fn flows13(&self, q: &FlowStatsRequest, now: Time) -> Result<Vec<FlowStats>, Refusal> {
        let (tables, filter) = self.asked13(q)?;
        let of = |(table_id, f): (u8, &Flow)| {
            let WireForm::V13(matching, instructions) = &f.wording else { return None };
            let (duration_sec, duration_nsec) = age(f, now);
            Some(FlowStats {
                table_id,
                pad: Pad::default(),
                duration_sec,
                duration_nsec,
                priority: f.priority,
                idle_timeout: seconds(f.idle),
                hard_timeout: seconds(f.hard),
                flags: f.flags,
                pad2: Pad::default(),
                cookie: f.cookie,
                packet_count: f.packets,
                byte_count: f.bytes,
                matching: matching.clone(),
                instructions: instructions.clone(),
            })
        };
        Ok(self.selected(tables, &filter).filter_map(of).collect())
    }

    /// Answers a multipart request of OpenFlow 1.3 about flows, aggregates, tables, groups or
    /// meters, in as many messages as needed; `None` for other requests.
    ///
    /// Returns the OpenFlow error to answer with, if the table does not exist or the match is
    /// malformed.
    pub fn stats13(&self, question: &RequestBody, now: Time) -> Result<Option<Vec<MultipartReply>>, Refusal> {
        Ok(Some(match question {
            RequestBody::Flow(q) => replies13(self.flows13(q, now)?, ReplyBody::Flow),
            RequestBody::Aggregate(q) => {
                let (tables, filter) = self.asked13(q)?;
                let (packet_count, byte_count, flow_count) = sum(self.selected(tables, &filter));
                let pad = Pad::default();
                let body = AggregateStats { packet_count, byte_count, flow_count, pad };
                vec![MultipartReply::new(ReplyBody::Aggregate(body))]
            }
            RequestBody::Table => {
                let of = |(at, t): (usize, &crate::table::FlowTable)| TableStats {
                    table_id: u8::try_from(at).unwrap_or(u8::MAX),
                    pad: Pad::default(),
                    active_count: u32::try_from(t.len()).unwrap_or(u32::MAX),
                    lookup_count: t.lookups,
                    matched_count: t.matched,
                };
                replies13(self.tables.iter().enumerate().map(of).collect(), ReplyBody::Table)
            }
            RequestBody::Group(q) => self.group_stats(q.group_id, now),
            RequestBody::GroupDesc => self.group_desc(),
            RequestBody::Meter(q) => self.meter_stats(q.meter_id, now)?,
            RequestBody::MeterConfig(q) => self.meter_config(q.meter_id)?,
            _ => return Ok(None),
        }))
    }
}

/// Statistics in as many replies as needed; all but the last have OFPMPF_REPLY_MORE.
pub fn replies13<T: Wire>(list: Vec<T>, body: impl Fn(Vec<T>) -> ReplyBody) -> Vec<MultipartReply> {
    let length = |item: &T| {
        let mut out = Vec::new();
        item.write(&mut out);
        out.len()
    };
    let mut replies: Vec<MultipartReply> = parts(list, crate::header::LEN + 8, length)
        .into_iter()
        .map(|part| MultipartReply { flags: REPLY_MORE, ..MultipartReply::new(body(part)) })
        .collect();
    if let Some(last) = replies.last_mut() {
        last.flags = 0;
    }
    replies
}

/// The FLOW_REMOVED of a flow; `None` for a flow that did not come in OpenFlow 1.3.
pub fn removed13(removed: &Removed, now: Time) -> Option<FlowRemoved> {
    let f = &removed.flow;
    let WireForm::V13(matching, _) = &f.wording else { return None };
    let (duration_sec, duration_nsec) = age(f, now);
    Some(FlowRemoved {
        cookie: f.cookie,
        priority: f.priority,
        reason: reason(removed.reason),
        table_id: removed.table,
        duration_sec,
        duration_nsec,
        idle_timeout: seconds(f.idle),
        hard_timeout: seconds(f.hard),
        packet_count: f.packets,
        byte_count: f.bytes,
        matching: matching.clone(),
    })
}
