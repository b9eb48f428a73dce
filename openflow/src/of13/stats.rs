//! Bodies of multipart messages with statistics (section 7.3.5): requests and replies.

use super::meter::Band;
use super::{Bucket, Instruction, Match};
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Pad, Reader, Text, Wire, wire_struct, with_length};
use serde::Serialize;

wire_struct! {
    /// ofp_flow_stats_request, also ofp_aggregate_stats_request.
    pub struct FlowStatsRequest {
        /// Which table; 0xff for all.
        table_id: u8,
        /// Reserved.
        pad: Pad<3>,
        /// Only flows that send to this port; OFPP_ANY for all.
        out_port: u32,
        /// Only flows that send to this group; OFPG_ANY for all.
        out_group: u32,
        /// Reserved.
        pad2: Pad<4>,
        /// Only flows with this cookie.
        cookie: u64,
        /// Bits of it that count; 0 for any.
        cookie_mask: u64,
        /// Which flows.
        matching: Match,
    }
}

wire_struct! {
    /// ofp_port_stats_request.
    pub struct PortStatsRequest {
        /// Which port; OFPP_ANY for all.
        port_no: u32,
        /// Reserved.
        pad: Pad<4>,
    }
}

wire_struct! {
    /// ofp_queue_stats_request.
    pub struct QueueStatsRequest {
        /// Which port; OFPP_ANY for all.
        port_no: u32,
        /// Which queue; 0xffffffff for all.
        queue_id: u32,
    }
}

wire_struct! {
    /// ofp_group_stats_request.
    pub struct GroupStatsRequest {
        /// Which group; OFPG_ALL for all.
        group_id: u32,
        /// Reserved.
        pad: Pad<4>,
    }
}

wire_struct! {
    /// ofp_meter_multipart_request.
    pub struct MeterRequest {
        /// Which meter; OFPM_ALL for all.
        meter_id: u32,
        /// Reserved.
        pad: Pad<4>,
    }
}

wire_struct! {
    /// ofp_desc.
    pub struct Desc {
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
        port_no: u32,
        /// Reserved.
        pad: Pad<4>,
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
        /// Age of the port in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
    }
}

wire_struct! {
    /// ofp_queue_stats.
    pub struct QueueStats {
        /// Which port.
        port_no: u32,
        /// Which queue.
        queue_id: u32,
        /// Bytes out.
        tx_bytes: u64,
        /// Packets out.
        tx_packets: u64,
        /// Packets that did not fit.
        tx_errors: u64,
        /// Age of the queue in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
    }
}

wire_struct! {
    /// ofp_group_features.
    pub struct GroupFeatures {
        /// A bit per group type.
        types: u32,
        /// OFPGFC bits.
        capabilities: u32,
        /// Most groups, by type.
        max_groups: [u32; 4],
        /// A bit per OFPAT action, by type.
        actions: [u32; 4],
    }
}

wire_struct! {
    /// ofp_meter_features.
    pub struct MeterFeatures {
        /// Most meters.
        max_meter: u32,
        /// A bit per band type.
        band_types: u32,
        /// OFPMF bits.
        capabilities: u32,
        /// Most bands in a meter.
        max_bands: u8,
        /// Highest colour.
        max_color: u8,
        /// Reserved.
        pad: Pad<2>,
    }
}

wire_struct! {
    /// Packets and bytes: ofp_bucket_counter, and ofp_meter_band_stats.
    pub struct Counter {
        /// Packets.
        packet_count: u64,
        /// Bytes.
        byte_count: u64,
    }
}

/// A struct with its own 16-bit length between its fields.
macro_rules! measured_struct {
    ($(#[$doc:meta])* pub struct $name:ident {
        $($(#[$bdoc:meta])* $before:ident: $btype:ty,)* => length at $at:literal, at least $least:literal,
        $($(#[$fdoc:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct $name {
            $($(#[$bdoc])* pub $before: $btype,)*
            $($(#[$fdoc])* pub $field: $type,)*
        }

        impl Wire for $name {
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let length = usize::from(r.peek16($at)?);
                if length < $least {
                    return Err(r.part(stringify!($name), OfErrorCode::BAD_LEN).error(DecodeErrorKind::Length { length }));
                }
                let mut s = r.sub(length)?;
                $(let $before = s.get()?;)*
                s.take(2)?;
                let value = $name { $($before,)* $($field: <$type as Wire>::read(&mut s)?,)* };
                s.end_of_message()?;
                Ok(value)
            }

            fn write(&self, out: &mut Vec<u8>) {
                with_length(out, $at, |out| {
                    $(self.$before.write(out);)*
                    0u16.write(out);
                    $(self.$field.write(out);)*
                });
            }
        }
    };
}
pub(super) use measured_struct;

measured_struct! {
    /// ofp_flow_stats.
    pub struct FlowStats {
        => length at 0, at least 56,
        /// Which table.
        table_id: u8,
        /// Reserved.
        pad: Pad<1>,
        /// Age in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
        /// Priority.
        priority: u16,
        /// Idle time-out in seconds.
        idle_timeout: u16,
        /// Hard time-out in seconds.
        hard_timeout: u16,
        /// OFPFF bits.
        flags: u16,
        /// Reserved.
        pad2: Pad<4>,
        /// Cookie that the controller gave the flow.
        cookie: u64,
        /// Packets.
        packet_count: u64,
        /// Bytes.
        byte_count: u64,
        /// What it matches.
        matching: Match,
        /// What is done to matching packets.
        instructions: Vec<Instruction>,
    }
}

measured_struct! {
    /// ofp_group_stats.
    pub struct GroupStats {
        => length at 0, at least 40,
        /// Reserved.
        pad: Pad<2>,
        /// Which group.
        group_id: u32,
        /// Flows and groups that send to it.
        ref_count: u32,
        /// Reserved.
        pad2: Pad<4>,
        /// Packets.
        packet_count: u64,
        /// Bytes.
        byte_count: u64,
        /// Age in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
        /// Counters of each bucket.
        buckets: Vec<Counter>,
    }
}

measured_struct! {
    /// ofp_group_desc.
    pub struct GroupDesc {
        => length at 0, at least 8,
        /// 0 all, 1 select, 2 indirect, 3 fast failover.
        kind: u8,
        /// Reserved.
        pad: Pad<1>,
        /// Which group.
        group_id: u32,
        /// Its buckets.
        buckets: Vec<Bucket>,
    }
}

measured_struct! {
    /// ofp_meter_stats.
    pub struct MeterStats {
        /// Which meter.
        meter_id: u32,
        => length at 4, at least 40,
        /// Reserved.
        pad: Pad<6>,
        /// Flows that use it.
        flow_count: u32,
        /// Packets.
        packet_in_count: u64,
        /// Bytes.
        byte_in_count: u64,
        /// Age in whole seconds.
        duration_sec: u32,
        /// Nanoseconds beyond `duration_sec`.
        duration_nsec: u32,
        /// Counters of each band.
        bands: Vec<Counter>,
    }
}

measured_struct! {
    /// ofp_meter_config.
    pub struct MeterConfig {
        => length at 0, at least 8,
        /// OFPMF bits.
        flags: u16,
        /// Which meter.
        meter_id: u32,
        /// Its bands.
        bands: Vec<Band>,
    }
}
