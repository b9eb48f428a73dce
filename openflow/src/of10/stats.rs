//! OFPT_STATS_REQUEST and OFPT_STATS_REPLY (section 5.3.5).

use super::{Action, Match};
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Pad, Reader, Text, Wire, wire_struct, with_length};
use serde::Serialize;

/// OFPSF_REPLY_MORE: more replies follow.
pub const REPLY_MORE: u16 = 1;

wire_struct! {
    /// ofp_flow_stats_request, also of OFPST_AGGREGATE.
    pub struct FlowStatsRequest {
        /// Which flows.
        matching: Match,
        /// Which table; 0xff for all.
        table_id: u8,
        /// Reserved.
        pad: Pad<1>,
        /// Only flows that send to this port; OFPP_NONE for all.
        out_port: u16,
    }
}

wire_struct! {
    /// ofp_port_stats_request.
    pub struct PortStatsRequest {
        /// Which port; OFPP_NONE for all.
        port_no: u16,
        /// Reserved.
        pad: Pad<6>,
    }
}

wire_struct! {
    /// ofp_queue_stats_request.
    pub struct QueueStatsRequest {
        /// Which port; OFPP_ALL for all.
        port_no: u16,
        /// Reserved.
        pad: Pad<2>,
        /// Which queue; 0xffffffff for all.
        queue_id: u32,
    }
}

wire_struct! {
    /// A vendor's statistics, either way.
    pub struct VendorStats {
        /// The vendor's number.
        vendor: u32,
        /// Everything after it.
        body: Bytes,
    }
}

wire_struct! {
    /// ofp_desc_stats.
    pub struct DescStats {
        /// Manufacturer.
        mfr_desc: Text<256>,
        /// Hardware.
        hw_desc: Text<256>,
        /// Software.
        sw_desc: Text<256>,
        /// Serial number.
        serial_num: Text<32>,
        /// Datapath, for people.
        dp_desc: Text<256>,
    }
}

wire_struct! {
    /// ofp_aggregate_stats_reply.
    pub struct AggregateStats {
        /// Packets.
        packet_count: u64,
        /// Bytes.
        byte_count: u64,
        /// Flows.
        flow_count: u32,
        /// Reserved.
        pad: Pad<4>,
    }
}

wire_struct! {
    /// ofp_table_stats.
    pub struct TableStats {
        /// Which table.
        table_id: u8,
        /// Reserved.
        pad: Pad<3>,
        /// Its name.
        name: Text<32>,
        /// OFPFW bits that it supports.
        wildcards: u32,
        /// Flows it can hold.
        max_entries: u32,
        /// Flows it holds.
        active_count: u32,
        /// Packets looked up.
        lookup_count: u64,
        /// Packets that matched.
        matched_count: u64,
    }
}

wire_struct! {
    /// ofp_port_stats; all ones where the switch does not count.
    pub struct PortStats {
        /// Which port.
        port_no: u16,
        /// Reserved.
        pad: Pad<6>,
        /// Packets in.
        rx_packets: u64,
        /// Packets out.
        tx_packets: u64,
        /// Bytes in.
        rx_bytes: u64,
        /// Bytes out.
        tx_bytes: u64,
        /// Dropped, in.
        rx_dropped: u64,
        /// Dropped, out.
        tx_dropped: u64,
        /// Errors, in.
        rx_errors: u64,
        /// Errors, out.
        tx_errors: u64,
        /// Alignment errors.
        rx_frame_err: u64,
        /// Overruns.
        rx_over_err: u64,
        /// CRC errors.
        rx_crc_err: u64,
        /// Collisions.
        collisions: u64,
    }
}

wire_struct! {
    /// ofp_queue_stats.
    pub struct QueueStats {
        /// Which port.
        port_no: u16,
        /// Reserved.
        pad: Pad<2>,
        /// Which queue.
        queue_id: u32,
        /// Bytes out.
        tx_bytes: u64,
        /// Packets out.
        tx_packets: u64,
        /// Packets that did not fit.
        tx_errors: u64,
    }
}

/// ofp_flow_stats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowStats {
    /// Which table.
    pub table_id: u8,
    /// Reserved.
    pub pad: Pad<1>,
    /// What it matches.
    pub matching: Match,
    /// Lifetime so far in whole seconds.
    pub duration_sec: u32,
    /// Nanoseconds beyond `duration_sec`.
    pub duration_nsec: u32,
    /// Priority.
    pub priority: u16,
    /// Idle time-out in seconds.
    pub idle_timeout: u16,
    /// Hard time-out in seconds.
    pub hard_timeout: u16,
    /// Reserved.
    pub pad2: Pad<6>,
    /// Cookie that the controller gave the flow.
    pub cookie: u64,
    /// Packets.
    pub packet_count: u64,
    /// Bytes.
    pub byte_count: u64,
    /// Actions.
    pub actions: Vec<Action>,
}

impl Wire for FlowStats {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(r.peek16(0)?);
        if length < 88 {
            return Err(r.error(DecodeErrorKind::Length { length }));
        }
        let mut f = r.sub(length)?;
        f.take(2)?;
        Ok(FlowStats {
            table_id: f.get()?,
            pad: f.get()?,
            matching: f.get()?,
            duration_sec: f.get()?,
            duration_nsec: f.get()?,
            priority: f.get()?,
            idle_timeout: f.get()?,
            hard_timeout: f.get()?,
            pad2: f.get()?,
            cookie: f.get()?,
            packet_count: f.get()?,
            byte_count: f.get()?,
            actions: f.all()?,
        })
    }
    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 0, |out| {
            0u16.write(out);
            self.table_id.write(out);
            self.pad.write(out);
            self.matching.write(out);
            self.duration_sec.write(out);
            self.duration_nsec.write(out);
            self.priority.write(out);
            self.idle_timeout.write(out);
            self.hard_timeout.write(out);
            self.pad2.write(out);
            self.cookie.write(out);
            self.packet_count.write(out);
            self.byte_count.write(out);
            self.actions.write(out);
        });
    }
}

/// Body of OFPT_STATS_REQUEST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestBody {
    /// OFPST_DESC.
    Desc,
    /// OFPST_FLOW.
    Flow(FlowStatsRequest),
    /// OFPST_AGGREGATE.
    Aggregate(FlowStatsRequest),
    /// OFPST_TABLE.
    Table,
    /// OFPST_PORT.
    Port(PortStatsRequest),
    /// OFPST_QUEUE.
    Queue(QueueStatsRequest),
    /// OFPST_VENDOR.
    Vendor(VendorStats),
}

/// OFPT_STATS_REQUEST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatsRequest {
    /// None are defined.
    pub flags: u16,
    /// The request.
    pub body: RequestBody,
}

/// Body of OFPT_STATS_REPLY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// OFPST_DESC.
    Desc(Box<DescStats>),
    /// OFPST_FLOW.
    Flow(Vec<FlowStats>),
    /// OFPST_AGGREGATE.
    Aggregate(AggregateStats),
    /// OFPST_TABLE.
    Table(Vec<TableStats>),
    /// OFPST_PORT.
    Port(Vec<PortStats>),
    /// OFPST_QUEUE.
    Queue(Vec<QueueStats>),
    /// OFPST_VENDOR.
    Vendor(VendorStats),
}

/// OFPT_STATS_REPLY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatsReply {
    /// [`REPLY_MORE`].
    pub flags: u16,
    /// The answer, or a part of it.
    pub body: ReplyBody,
}

fn unknown(r: &Reader<'_>, kind: u16) -> DecodeError {
    r.blamed(DecodeErrorKind::Unknown { value: kind.into() }, OfErrorCode::BAD_STAT)
}

impl Wire for StatsRequest {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, flags): (u16, u16) = (r.get()?, r.get()?);
        let body = match kind {
            0 => RequestBody::Desc,
            1 => RequestBody::Flow(r.get()?),
            2 => RequestBody::Aggregate(r.get()?),
            3 => RequestBody::Table,
            4 => RequestBody::Port(r.get()?),
            5 => RequestBody::Queue(r.get()?),
            0xffff => RequestBody::Vendor(r.get()?),
            _ => return Err(unknown(r, kind)),
        };
        Ok(StatsRequest { flags, body })
    }
    fn write(&self, out: &mut Vec<u8>) {
        let kind: u16 = match &self.body {
            RequestBody::Desc => 0,
            RequestBody::Flow(_) => 1,
            RequestBody::Aggregate(_) => 2,
            RequestBody::Table => 3,
            RequestBody::Port(_) => 4,
            RequestBody::Queue(_) => 5,
            RequestBody::Vendor(_) => 0xffff,
        };
        kind.write(out);
        self.flags.write(out);
        match &self.body {
            RequestBody::Desc | RequestBody::Table => {}
            RequestBody::Flow(b) | RequestBody::Aggregate(b) => b.write(out),
            RequestBody::Port(b) => b.write(out),
            RequestBody::Queue(b) => b.write(out),
            RequestBody::Vendor(b) => b.write(out),
        }
    }
}

impl Wire for StatsReply {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, flags): (u16, u16) = (r.get()?, r.get()?);
        let body = match kind {
            0 => ReplyBody::Desc(Box::new(r.get()?)),
            1 => ReplyBody::Flow(r.all()?),
            2 => ReplyBody::Aggregate(r.get()?),
            3 => ReplyBody::Table(r.all()?),
            4 => ReplyBody::Port(r.all()?),
            5 => ReplyBody::Queue(r.all()?),
            0xffff => ReplyBody::Vendor(r.get()?),
            _ => return Err(unknown(r, kind)),
        };
        Ok(StatsReply { flags, body })
    }
    fn write(&self, out: &mut Vec<u8>) {
        let kind: u16 = match &self.body {
            ReplyBody::Desc(_) => 0,
            ReplyBody::Flow(_) => 1,
            ReplyBody::Aggregate(_) => 2,
            ReplyBody::Table(_) => 3,
            ReplyBody::Port(_) => 4,
            ReplyBody::Queue(_) => 5,
            ReplyBody::Vendor(_) => 0xffff,
        };
        kind.write(out);
        self.flags.write(out);
        match &self.body {
            ReplyBody::Desc(b) => b.write(out),
            ReplyBody::Flow(b) => b.write(out),
            ReplyBody::Aggregate(b) => b.write(out),
            ReplyBody::Table(b) => b.write(out),
            ReplyBody::Port(b) => b.write(out),
            ReplyBody::Queue(b) => b.write(out),
            ReplyBody::Vendor(b) => b.write(out),
        }
    }
}
