//! OFPT_MULTIPART_REQUEST and OFPT_MULTIPART_REPLY (section 7.3.5).

use super::Port;
use super::stats::{
    AggregateStats, Desc, FlowStats, FlowStatsRequest, GroupDesc, GroupFeatures, GroupStats,
    GroupStatsRequest, MeterConfig, MeterFeatures, MeterRequest, MeterStats, PortStats, PortStatsRequest,
    QueueStats, QueueStatsRequest, TableStats,
};
use super::switch::Experimenter;
use super::table_features::TableFeatures;
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Pad, Reader, Wire};
use serde::Serialize;

/// OFPMPF_REQ_MORE: more requests follow.
pub const REQUEST_MORE: u16 = 1;
/// OFPMPF_REPLY_MORE: more replies follow.
pub const REPLY_MORE: u16 = 1;

/// Makes the enum of a multipart message and its codec. Each row: name, OFPMP number, body type or
/// nothing.
macro_rules! multipart {
    ($(#[$doc:meta])* $message:ident, $(#[$edoc:meta])* $name:ident;
     $($(#[$vdoc:meta])* $variant:ident = $kind:literal $(($body:ty))?,)*) => {
        $(#[$edoc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant $(($body))?,)*
        }

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct $message {
            /// Whether more follow.
            pub flags: u16,
            /// Reserved.
            pub pad: Pad<4>,
            /// The body.
            pub body: $name,
        }

        impl $message {
            /// The whole body in one message.
            pub fn new(body: $name) -> $message {
                $message { flags: 0, pad: Pad::default(), body }
            }
        }

        impl Wire for $message {
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let at = *r;
                let (kind, flags, pad): (u16, u16, Pad<4>) = (r.get()?, r.get()?, r.get()?);
                let body = match kind {
                    $($kind => multipart!(@read r, $name::$variant $(, $body)?),)*
                    _ => return Err(at.blamed(DecodeErrorKind::Unknown { value: kind.into() }, OfErrorCode::BAD_STAT)),
                };
                Ok($message { flags, pad, body })
            }

            fn write(&self, out: &mut Vec<u8>) {
                let at = out.len();
                0u16.write(out);
                self.flags.write(out);
                self.pad.write(out);
                let kind: u16 = match &self.body {
                    $(multipart!(@bind body, $name::$variant $(, $body)?) => {
                        multipart!(@write body, out $(, $body)?);
                        $kind
                    })*
                };
                out[at..at + 2].copy_from_slice(&kind.to_be_bytes());
            }
        }
    };
    (@read $r:ident, $variant:path) => { $variant };
    (@read $r:ident, $variant:path, $body:ty) => { $variant(<$body as Wire>::read($r)?) };
    (@bind $b:ident, $variant:path) => { $variant };
    (@bind $b:ident, $variant:path, $body:ty) => { $variant($b) };
    (@write $b:ident, $out:ident) => { () };
    (@write $b:ident, $out:ident, $body:ty) => { $b.write($out) };
}

multipart! {
    /// OFPT_MULTIPART_REQUEST.
    MultipartRequest,
    /// The request.
    RequestBody;
    /// OFPMP_DESC.
    Desc = 0,
    /// OFPMP_FLOW.
    Flow = 1 (FlowStatsRequest),
    /// OFPMP_AGGREGATE.
    Aggregate = 2 (FlowStatsRequest),
    /// OFPMP_TABLE.
    Table = 3,
    /// OFPMP_PORT_STATS.
    PortStats = 4 (PortStatsRequest),
    /// OFPMP_QUEUE.
    Queue = 5 (QueueStatsRequest),
    /// OFPMP_GROUP.
    Group = 6 (GroupStatsRequest),
    /// OFPMP_GROUP_DESC.
    GroupDesc = 7,
    /// OFPMP_GROUP_FEATURES.
    GroupFeatures = 8,
    /// OFPMP_METER.
    Meter = 9 (MeterRequest),
    /// OFPMP_METER_CONFIG.
    MeterConfig = 10 (MeterRequest),
    /// OFPMP_METER_FEATURES.
    MeterFeatures = 11,
    /// OFPMP_TABLE_FEATURES; with tables it changes them.
    TableFeatures = 12 (Vec<TableFeatures>),
    /// OFPMP_PORT_DESC.
    PortDesc = 13,
    /// OFPMP_EXPERIMENTER.
    Experimenter = 0xffff (Experimenter),
}

multipart! {
    /// OFPT_MULTIPART_REPLY.
    MultipartReply,
    /// The answer, or a part of it.
    ReplyBody;
    /// OFPMP_DESC.
    Desc = 0 (Box<Desc>),
    /// OFPMP_FLOW.
    Flow = 1 (Vec<FlowStats>),
    /// OFPMP_AGGREGATE.
    Aggregate = 2 (AggregateStats),
    /// OFPMP_TABLE.
    Table = 3 (Vec<TableStats>),
    /// OFPMP_PORT_STATS.
    PortStats = 4 (Vec<PortStats>),
    /// OFPMP_QUEUE.
    Queue = 5 (Vec<QueueStats>),
    /// OFPMP_GROUP.
    Group = 6 (Vec<GroupStats>),
    /// OFPMP_GROUP_DESC.
    GroupDesc = 7 (Vec<GroupDesc>),
    /// OFPMP_GROUP_FEATURES.
    GroupFeatures = 8 (GroupFeatures),
    /// OFPMP_METER.
    Meter = 9 (Vec<MeterStats>),
    /// OFPMP_METER_CONFIG.
    MeterConfig = 10 (Vec<MeterConfig>),
    /// OFPMP_METER_FEATURES.
    MeterFeatures = 11 (MeterFeatures),
    /// OFPMP_TABLE_FEATURES.
    TableFeatures = 12 (Vec<TableFeatures>),
    /// OFPMP_PORT_DESC.
    PortDesc = 13 (Vec<Port>),
    /// OFPMP_EXPERIMENTER.
    Experimenter = 0xffff (Experimenter),
}
