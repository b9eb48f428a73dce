//! Executes GROUP_MOD (OF 1.3.5 sections 6.5 and 7.3.4.2) and answers requests about groups.

use super::{Refusal, Removed, replies13, span};
use crate::error::OfErrorCode;
use crate::of13::multipart::{MultipartReply, ReplyBody};
use crate::of13::stats::{Counter, GroupDesc, GroupFeatures, GroupStats};
use crate::of13::{Bucket, GroupMod, group, port};
use crate::table::flows::RemovedReason;
use crate::table::groups::{Branch, Group, Kind, watches};
use crate::table::instructions;
use crate::table::ops::{no_table, ops13};
use crate::table::pipeline::Pipeline;
use crate::wire::Pad;
use tandem_model::Time;

/// OFPET_GROUP_MOD_FAILED.
const GROUP_MOD_FAILED: u16 = 6;
/// The most buckets of a group.
const MOST_BUCKETS: usize = 256;
/// OFPGFC: weights and liveness in select groups, chaining, with checks for loops.
const CAPABILITIES: u32 = 0b1111;

/// OFPGMFC_INVALID_GROUP.
const INVALID_GROUP: u16 = 1;
/// OFPGMFC_WATCH_UNSUPPORTED.
const WATCH_UNSUPPORTED: u16 = 6;
/// OFPGMFC_BAD_WATCH.
const BAD_WATCH: u16 = 13;

fn refused(why: impl Into<String>, code: u16) -> Refusal {
    Refusal::new(why, GROUP_MOD_FAILED, code)
}

impl Pipeline {
    /// Executes a GROUP_MOD, with at most `most` groups. Deleting a group also removes the flows
    /// that send to it.
    ///
    /// Returns the OpenFlow error to answer with; nothing is changed then.
    pub fn group_mod(&mut self, m: &GroupMod, most: usize, now: Time) -> Result<Vec<Removed>, Refusal> {
        let id = m.group_id;
        match m.command {
            2 => return self.group_delete(id),
            0 | 1 => {}
            command => return Err(refused(format!("there is no command {command}"), 11)),
        }
        if id > group::MAX {
            return Err(refused(format!("{id:#x} is no group's number"), INVALID_GROUP));
        }
        let old = self.groups.get(id);
        match (m.command, old) {
            (0, Some(_)) => return Err(refused(format!("group {id} is there already"), 0)),
            (1, None) => return Err(refused(format!("there is no group {id}"), 8)),
            (0, None) if self.groups.len() >= most => {
                return Err(refused(format!("there is no room for more than {most} groups"), 3));
            }
            _ => {}
        }
        let kind =
            Kind::from_number(m.kind).ok_or_else(|| refused(format!("there is no type {}", m.kind), 10))?;
        if m.buckets.len() > MOST_BUCKETS {
            return Err(refused(format!("a group has at most {MOST_BUCKETS} buckets"), 4));
        }
        if kind == Kind::Indirect && m.buckets.len() != 1 {
            return Err(refused("an indirect group has one bucket", INVALID_GROUP));
        }
        if kind == Kind::Select && !m.buckets.is_empty() && m.buckets.iter().all(|b| b.weight == 0) {
            return Err(refused("no bucket of the select group has a weight", INVALID_GROUP));
        }
        let buckets = m.buckets.iter().map(|b| self.branch(b, kind)).collect::<Result<Vec<_>, _>>()?;
        if self.groups.loops(id, &buckets) {
            return Err(refused(format!("group {id} would come back to itself"), 7));
        }
        if let Some(missing) = buckets.iter().flat_map(Branch::groups).find(|g| self.groups.get(*g).is_none())
        {
            return Err(Refusal {
                why: format!("there is no group {missing}"),
                of_error: OfErrorCode::BAD_OUT_GROUP,
            });
        }
        // A modified group keeps its counters and age; its buckets start at zero (section 6.5).
        let (packets, bytes, added) = old.map_or((0, 0, now), |g| (g.packets, g.bytes, g.added));
        self.groups.put(Group { id, kind, buckets, packets, bytes, added });
        Ok(Vec::new())
    }

    fn branch(&self, bucket: &Bucket, kind: Kind) -> Result<Branch, Refusal> {
        if kind != Kind::Select && bucket.weight != 0 {
            return Err(refused("only buckets of a select group have a weight", INVALID_GROUP));
        }
        match kind {
            Kind::FastFailover if !watches(bucket) => {
                return Err(refused(
                    "a bucket of a fast failover group watches a port or a group",
                    BAD_WATCH,
                ));
            }
            Kind::All | Kind::Indirect if watches(bucket) => {
                return Err(refused(
                    "buckets of this type of group are taken dead or alive",
                    WATCH_UNSUPPORTED,
                ));
            }
            _ => {}
        }
        if !matches!(bucket.watch_port, 1..=port::MAX | port::LOCAL | port::ANY) {
            return Err(refused(format!("{:#x} is no port to watch", bucket.watch_port), BAD_WATCH));
        }
        if bucket.watch_group != group::ANY && self.groups.get(bucket.watch_group).is_none() {
            return Err(refused(format!("there is no group {} to watch", bucket.watch_group), BAD_WATCH));
        }
        let mut ops = Vec::new();
        for op in no_table(ops13(&bucket.actions)?)? {
            instructions::into_set(&mut ops, op);
        }
        instructions::in_order(&mut ops);
        Ok(Branch { said: bucket.clone(), ops, packets: 0, bytes: 0 })
    }

    fn group_delete(&mut self, id: u32) -> Result<Vec<Removed>, Refusal> {
        if id == group::ALL {
            self.groups.remove(None);
            return Ok(self.take_out(RemovedReason::Group, |f| f.instructions.groups().next().is_some()));
        }
        if id > group::MAX {
            return Err(refused(format!("{id:#x} is no group's number"), INVALID_GROUP));
        }
        if self.groups.get(id).is_none() {
            // Deleting a group that does not exist is not an error (section 6.5).
            return Ok(Vec::new());
        }
        if self.groups.references(id) > 0 {
            return Err(refused(format!("another group hands on to group {id}"), 9));
        }
        self.groups.remove(Some(id));
        Ok(self.take_out(RemovedReason::Group, |f| f.instructions.sends_to_group(id)))
    }

    /// Answers OFPMP_GROUP; OFPG_ALL requests all groups.
    pub(super) fn group_stats(&self, asked: u32, now: Time) -> Vec<MultipartReply> {
        let of = |g: &Group| {
            let flows = self.tables.iter().flat_map(|t| t.iter());
            let references =
                flows.filter(|f| f.instructions.sends_to_group(g.id)).count() + self.groups.references(g.id);
            let (duration_sec, duration_nsec) = span(g.age(now));
            let counter = |b: &Branch| Counter { packet_count: b.packets, byte_count: b.bytes };
            GroupStats {
                pad: Pad::default(),
                group_id: g.id,
                ref_count: u32::try_from(references).unwrap_or(u32::MAX),
                pad2: Pad::default(),
                packet_count: g.packets,
                byte_count: g.bytes,
                duration_sec,
                duration_nsec,
                buckets: g.buckets.iter().map(counter).collect(),
            }
        };
        let list = self.groups.iter().filter(|g| asked == group::ALL || asked == g.id).map(of).collect();
        replies13(list, ReplyBody::Group)
    }

    /// Answers OFPMP_GROUP_DESC.
    pub(super) fn group_desc(&self) -> Vec<MultipartReply> {
        let of = |g: &Group| GroupDesc {
            kind: g.kind.number(),
            pad: Pad::default(),
            group_id: g.id,
            buckets: g.buckets.iter().map(|b| b.said.clone()).collect(),
        };
        replies13(self.groups.iter().map(of).collect(), ReplyBody::GroupDesc)
    }

    /// The reply to OFPMP_GROUP_FEATURES for at most `most` groups; `actions` has a bit per OFPAT
    /// action.
    pub fn group_features(most: usize, actions: u32) -> ReplyBody {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        ReplyBody::GroupFeatures(GroupFeatures {
            types: 0b1111,
            capabilities: CAPABILITIES,
            max_groups: [most; 4],
            actions: [actions; 4],
        })
    }
}
