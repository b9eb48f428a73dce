//! Requests and replies of OFPT_MULTIPART in OpenFlow 1.3.

use super::v13::{band13, bucket13, instruction13, match13, port13};
use super::{bytes, pad, text};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tandem_openflow::of13;
use tandem_openflow::wire::Bytes;

fn counters13() -> impl Strategy<Value = Vec<of13::stats::Counter>> {
    let counter = any::<(u64, u64)>()
        .prop_map(|(packet_count, byte_count)| of13::stats::Counter { packet_count, byte_count });
    vec(counter, 0..4)
}

fn table_features13() -> impl Strategy<Value = of13::table_features::TableFeatures> {
    use of13::oxm::Id;
    use of13::table_features::{Capability, List, Property, TableFeatures};
    let capability = || {
        let own = (0u16..0xffff).prop_map(|kind| Capability { kind, body: Bytes::default() });
        let other = any::<[u8; 4]>().prop_map(|b| Capability { kind: 0xffff, body: Bytes(b.to_vec()) });
        vec(prop_oneof![own, other], 0..5)
    };
    let id = (select(vec![0u16, 0x8000, 0x8001, 0xffff]), 0u8..128, any::<(bool, u8, u32)>()).prop_map(
        |(class, number, (has_mask, length, e))| Id {
            class,
            number,
            has_mask,
            length,
            experimenter: (class == 0xffff).then_some(e),
        },
    );
    let property = prop_oneof![
        (select(vec![0u16, 1]), capability())
            .prop_map(|(kind, c)| Property { kind, list: List::Instructions(c) }),
        (select(vec![2u16, 3]), bytes(20)).prop_map(|(kind, b)| Property { kind, list: List::NextTables(b) }),
        (select(vec![4u16, 5, 6, 7]), capability())
            .prop_map(|(kind, c)| Property { kind, list: List::Actions(c) }),
        (select(vec![8u16, 10, 12, 13, 14, 15]), vec(id, 0..5))
            .prop_map(|(kind, f)| Property { kind, list: List::Fields(f) }),
        (select(vec![0xfffeu16, 0xffff]), any::<(u32, u32)>(), bytes(20))
            .prop_map(|(kind, (e, t), b)| Property { kind, list: List::Experimenter(e, t, b) }),
    ];
    (any::<(u8, u64, u64, u32, u32)>(), pad(), text(), vec(property, 0..5)).prop_map(
        |((table_id, metadata_match, metadata_write, config, max_entries), pad, name, properties)| {
            TableFeatures {
                table_id,
                pad,
                name,
                metadata_match,
                metadata_write,
                config,
                max_entries,
                properties,
            }
        },
    )
}

fn experimenter13() -> impl Strategy<Value = of13::switch::Experimenter> {
    (any::<(u32, u32)>(), bytes(40)).prop_map(|((experimenter, exp_type), body)| of13::switch::Experimenter {
        experimenter,
        exp_type,
        body,
    })
}

/// Every body of OFPT_MULTIPART_REQUEST.
pub(crate) fn request13() -> impl Strategy<Value = of13::multipart::RequestBody> {
    use of13::multipart::RequestBody as Q;
    use of13::stats::*;
    let flows = || {
        (any::<(u8, u32, u32, u64, u64)>(), pad(), pad(), match13()).prop_map(
            |((table_id, out_port, out_group, cookie, cookie_mask), pad, pad2, matching)| FlowStatsRequest {
                table_id,
                pad,
                out_port,
                out_group,
                pad2,
                cookie,
                cookie_mask,
                matching,
            },
        )
    };
    let meter = || (any::<u32>(), pad()).prop_map(|(meter_id, pad)| MeterRequest { meter_id, pad });
    prop_oneof![
        select(vec![Q::Desc, Q::Table, Q::GroupDesc, Q::GroupFeatures, Q::MeterFeatures, Q::PortDesc]),
        flows().prop_map(Q::Flow),
        flows().prop_map(Q::Aggregate),
        (any::<u32>(), pad()).prop_map(|(port_no, pad)| Q::PortStats(PortStatsRequest { port_no, pad })),
        any::<(u32, u32)>().prop_map(|(port_no, queue_id)| Q::Queue(QueueStatsRequest { port_no, queue_id })),
        (any::<u32>(), pad()).prop_map(|(group_id, pad)| Q::Group(GroupStatsRequest { group_id, pad })),
        meter().prop_map(Q::Meter),
        meter().prop_map(Q::MeterConfig),
        vec(table_features13(), 0..3).prop_map(Q::TableFeatures),
        experimenter13().prop_map(Q::Experimenter),
    ]
}

/// Every body of OFPT_MULTIPART_REPLY.
pub(crate) fn reply13() -> impl Strategy<Value = of13::multipart::ReplyBody> {
    use of13::multipart::ReplyBody as A;
    use of13::stats::*;
    let desc = (text(), text(), text(), text(), text()).prop_map(
        |(mfr_desc, hw_desc, sw_desc, serial_num, dp_desc)| Desc {
            mfr_desc,
            hw_desc,
            sw_desc,
            serial_num,
            dp_desc,
        },
    );
    let flow =
        (any::<(u8, [u32; 2], [u16; 4], [u64; 3])>(), pad(), pad(), match13(), vec(instruction13(), 0..3))
            .prop_map(|((table_id, d, n, c), pad, pad2, matching, instructions)| FlowStats {
                table_id,
                pad,
                duration_sec: d[0],
                duration_nsec: d[1],
                priority: n[0],
                idle_timeout: n[1],
                hard_timeout: n[2],
                flags: n[3],
                pad2,
                cookie: c[0],
                packet_count: c[1],
                byte_count: c[2],
                matching,
                instructions,
            });
    let aggregate =
        (any::<(u64, u64, u32)>(), pad()).prop_map(|((packet_count, byte_count, flow_count), pad)| {
            AggregateStats { packet_count, byte_count, flow_count, pad }
        });
    let table = (any::<(u8, u32, u64, u64)>(), pad()).prop_map(
        |((table_id, active_count, lookup_count, matched_count), pad)| TableStats {
            table_id,
            pad,
            active_count,
            lookup_count,
            matched_count,
        },
    );
    let port = (any::<([u32; 3], [u64; 12])>(), pad()).prop_map(|((n, c), pad)| PortStats {
        port_no: n[0],
        pad,
        rx_packets: c[0],
        tx_packets: c[1],
        rx_bytes: c[2],
        tx_bytes: c[3],
        rx_dropped: c[4],
        tx_dropped: c[5],
        rx_errors: c[6],
        tx_errors: c[7],
        rx_frame_err: c[8],
        rx_over_err: c[9],
        rx_crc_err: c[10],
        collisions: c[11],
        duration_sec: n[1],
        duration_nsec: n[2],
    });
    let queue = any::<([u32; 4], [u64; 3])>().prop_map(|(n, c)| QueueStats {
        port_no: n[0],
        queue_id: n[1],
        tx_bytes: c[0],
        tx_packets: c[1],
        tx_errors: c[2],
        duration_sec: n[2],
        duration_nsec: n[3],
    });
    let group = (any::<([u32; 4], [u64; 2])>(), pad(), pad(), counters13()).prop_map(
        |((n, c), pad, pad2, buckets)| GroupStats {
            pad,
            group_id: n[0],
            ref_count: n[1],
            pad2,
            packet_count: c[0],
            byte_count: c[1],
            duration_sec: n[2],
            duration_nsec: n[3],
            buckets,
        },
    );
    let group_desc = (any::<(u8, u32)>(), pad(), vec(bucket13(), 0..3))
        .prop_map(|((kind, group_id), pad, buckets)| GroupDesc { kind, pad, group_id, buckets });
    let group_features =
        any::<(u32, u32, [u32; 4], [u32; 4])>().prop_map(|(types, capabilities, max_groups, actions)| {
            GroupFeatures { types, capabilities, max_groups, actions }
        });
    let meter =
        (any::<([u32; 4], [u64; 2])>(), pad(), counters13()).prop_map(|((n, c), pad, bands)| MeterStats {
            meter_id: n[0],
            pad,
            flow_count: n[1],
            packet_in_count: c[0],
            byte_in_count: c[1],
            duration_sec: n[2],
            duration_nsec: n[3],
            bands,
        });
    let meter_config = (any::<(u16, u32)>(), vec(band13(), 0..3))
        .prop_map(|((flags, meter_id), bands)| MeterConfig { flags, meter_id, bands });
    let meter_features = (any::<([u32; 3], u8, u8)>(), pad()).prop_map(|((n, max_bands, max_color), pad)| {
        MeterFeatures { max_meter: n[0], band_types: n[1], capabilities: n[2], max_bands, max_color, pad }
    });
    prop_oneof![
        desc.prop_map(|d| A::Desc(Box::new(d))),
        vec(flow, 0..3).prop_map(A::Flow),
        aggregate.prop_map(A::Aggregate),
        vec(table, 0..4).prop_map(A::Table),
        vec(port, 0..4).prop_map(A::PortStats),
        vec(queue, 0..4).prop_map(A::Queue),
        vec(group, 0..3).prop_map(A::Group),
        vec(group_desc, 0..3).prop_map(A::GroupDesc),
        group_features.prop_map(A::GroupFeatures),
        vec(meter, 0..3).prop_map(A::Meter),
        vec(meter_config, 0..3).prop_map(A::MeterConfig),
        meter_features.prop_map(A::MeterFeatures),
        vec(table_features13(), 0..3).prop_map(A::TableFeatures),
        vec(port13(), 0..4).prop_map(A::PortDesc),
        experimenter13().prop_map(A::Experimenter),
    ]
}
