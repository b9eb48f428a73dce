//! Properties of all messages: decoding and encoding give the same bytes, encoding and decoding the
//! same message, and no bytes make the decoder panic.

mod samples;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::net::Ipv4Addr;
use tandem_model::{Mac, Time};
use tandem_openflow::wire::{Bytes, Pad, Text};
use tandem_openflow::{AnyMessage, framing, of10, of13};

/// Decodes; a message must encode to the same bytes.
fn exact(bytes: &[u8]) {
    if let Ok((xid, message)) = AnyMessage::decode(bytes) {
        let mut out = Vec::new();
        message.encode(xid, &mut out).expect("as long as before");
        assert_eq!(out, bytes, "{message:?}");
    }
    let (a, b) = (of10::PacketInView::new(bytes), of13::PacketInView::new(bytes));
    assert!(a.is_err() || b.is_err());
}

fn with_header(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 8).expect("short");
    let mut bytes = vec![version, kind];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 9]);
    bytes.extend_from_slice(body);
    bytes
}

fn pad<const N: usize>() -> impl Strategy<Value = Pad<N>> {
    any::<[u8; N]>().prop_map(Pad)
}
fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}
fn ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}
fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes)
}
/// Bytes whose length with 8 more is a multiple of 8.
fn eights() -> impl Strategy<Value = Bytes> {
    vec(any::<[u8; 8]>(), 0..4).prop_map(|b| Bytes(b.concat()))
}

fn action10() -> impl Strategy<Value = of10::Action> {
    use of10::Action as A;
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(port, max_len)| A::Output { port, max_len }),
        (any::<u16>(), pad()).prop_map(|(v, p)| A::SetVlanVid(v, p)),
        (any::<u8>(), pad()).prop_map(|(v, p)| A::SetVlanPcp(v, p)),
        pad().prop_map(A::StripVlan),
        (mac(), pad()).prop_map(|(v, p)| A::SetDlSrc(v, p)),
        (mac(), pad()).prop_map(|(v, p)| A::SetDlDst(v, p)),
        ip().prop_map(A::SetNwSrc),
        ip().prop_map(A::SetNwDst),
        (any::<u8>(), pad()).prop_map(|(v, p)| A::SetNwTos(v, p)),
        (any::<u16>(), pad()).prop_map(|(v, p)| A::SetTpSrc(v, p)),
        (any::<u16>(), pad()).prop_map(|(v, p)| A::SetTpDst(v, p)),
        (any::<u16>(), pad(), any::<u32>()).prop_map(|(port, pad, queue_id)| A::Enqueue {
            port,
            pad,
            queue_id
        }),
        (any::<u32>(), eights()).prop_map(|(vendor, body)| A::Vendor { vendor, body }),
    ]
}

fn message10() -> impl Strategy<Value = of10::Message> {
    use of10::Message as M;
    let matching =
        (any::<u32>(), any::<[u16; 5]>(), any::<[u8; 3]>(), mac(), mac(), ip(), ip(), pad(), pad());
    let matching =
        matching.prop_map(|(wildcards, n, b, dl_src, dl_dst, nw_src, nw_dst, pad1, pad2)| of10::Match {
            wildcards,
            in_port: n[0],
            dl_src,
            dl_dst,
            dl_vlan: n[1],
            dl_vlan_pcp: b[0],
            pad1,
            dl_type: n[2],
            nw_tos: b[1],
            nw_proto: b[2],
            pad2,
            nw_src,
            nw_dst,
            tp_src: n[3],
            tp_dst: n[4],
        });
    let flow_mod = (matching, any::<(u64, u32)>(), any::<[u16; 6]>(), vec(action10(), 0..6));
    prop_oneof![
        flow_mod.prop_map(|(matching, (cookie, buffer_id), n, actions)| M::FlowMod(of10::FlowMod {
            matching,
            cookie,
            command: n[0],
            idle_timeout: n[1],
            hard_timeout: n[2],
            priority: n[3],
            buffer_id,
            out_port: n[4],
            flags: n[5],
            actions,
        })),
        (any::<(u32, u16)>(), vec(action10(), 0..6), bytes(80)).prop_map(
            |((buffer_id, in_port), actions, data)| {
                M::PacketOut(of10::PacketOut { buffer_id, in_port, actions, data })
            }
        ),
        (any::<(u32, u16, u16, u8)>(), pad(), bytes(80)).prop_map(
            |((buffer_id, total_len, in_port, reason), pad, data)| {
                M::PacketIn(of10::PacketIn { buffer_id, total_len, in_port, reason, pad, data })
            }
        ),
        (any::<(u16, u16)>(), bytes(80)).prop_map(|((kind, code), data)| M::Error(of10::switch::ErrorMsg {
            kind,
            code,
            data
        })),
        (any::<u32>(), bytes(80)).prop_map(|(vendor, body)| M::Vendor(of10::switch::Vendor { vendor, body })),
        select(samples::samples10()),
    ]
}

fn action13() -> impl Strategy<Value = of13::Action> {
    use of13::Action as A;
    // Fields as in matches, without their masks and prerequisites.
    let plain: Vec<of13::Field> =
        samples::matches13().into_iter().flat_map(|m| m.fields).filter(|f| !f.id().2).collect();
    prop_oneof![
        (any::<(u32, u16)>(), pad()).prop_map(|((port, max_len), pad)| A::Output { port, max_len, pad }),
        select(plain).prop_map(A::SetField),
        select([samples::actions13(), samples::rare_actions13()].concat()),
        (any::<u16>(), pad()).prop_map(|(v, p)| A::PushVlan(v, p)),
        any::<u32>().prop_map(A::Group),
        (any::<u8>(), pad()).prop_map(|(v, p)| A::SetNwTtl(v, p)),
        (any::<u32>(), eights()).prop_map(|(experimenter, body)| A::Experimenter { experimenter, body }),
    ]
}

fn match13() -> impl Strategy<Value = of13::Match> {
    use of13::{Field as F, Masked};
    let other = (select(vec![0u16, 1, 0x8001, 0xffff]), 0u8..128, any::<bool>(), vec(any::<u8>(), 4..40))
        .prop_map(|(class, number, has_mask, body)| F::Other { class, number, has_mask, body: Bytes(body) });
    let own = (any::<(u32, u64, u64, u32, u32)>(), mac(), vec(other, 0..3)).prop_map(
        |((port, metadata, mask, address, address_mask), mac, others)| {
            let mut fields = vec![
                F::InPort(port),
                F::Metadata(Masked { value: metadata & mask, mask: Some(mask) }),
                F::EthDst(Masked::exact(mac)),
                F::EthType(0x0800),
                F::Ipv4Src(Masked {
                    value: Ipv4Addr::from(address & address_mask),
                    mask: Some(Ipv4Addr::from(address_mask)),
                }),
            ];
            fields.extend(others);
            of13::Match { fields }
        },
    );
    prop_oneof![own, select(samples::matches13())]
}

/// A name in a field, with any bytes behind its NUL.
fn text<const N: usize>() -> impl Strategy<Value = Text<N>> {
    any::<[u8; N]>().prop_map(Text)
}

fn instruction13() -> impl Strategy<Value = of13::Instruction> {
    use of13::Instruction as I;
    prop_oneof![
        (any::<u8>(), pad()).prop_map(|(t, p)| I::GotoTable(t, p)),
        (pad(), any::<(u64, u64)>()).prop_map(|(pad, (metadata, mask))| I::WriteMetadata {
            pad,
            metadata,
            mask
        }),
        (pad(), vec(action13(), 0..5)).prop_map(|(p, a)| I::WriteActions(p, a)),
        (pad(), vec(action13(), 0..5)).prop_map(|(p, a)| I::ApplyActions(p, a)),
        pad().prop_map(I::ClearActions),
        any::<u32>().prop_map(I::Meter),
        (any::<u32>(), eights()).prop_map(|(experimenter, body)| I::Experimenter { experimenter, body }),
    ]
}

fn bucket13() -> impl Strategy<Value = of13::Bucket> {
    (any::<(u16, u32, u32)>(), pad(), vec(action13(), 0..4)).prop_map(
        |((weight, watch_port, watch_group), pad, actions)| of13::Bucket {
            weight,
            watch_port,
            watch_group,
            pad,
            actions,
        },
    )
}
fn band13() -> impl Strategy<Value = of13::Band> {
    use of13::meter::BandKind;
    let kind = prop_oneof![
        pad().prop_map(BandKind::Drop),
        (any::<u8>(), pad()).prop_map(|(level, pad)| BandKind::DscpRemark(level, pad)),
        (any::<u32>(), bytes(40))
            .prop_map(|(experimenter, body)| BandKind::Experimenter { experimenter, body }),
    ];
    (any::<(u32, u32)>(), kind).prop_map(|((rate, burst_size), kind)| of13::Band { rate, burst_size, kind })
}

fn port13() -> impl Strategy<Value = of13::Port> {
    (any::<[u32; 9]>(), mac(), text(), pad(), pad()).prop_map(|(n, hw_addr, name, pad, pad2)| of13::Port {
        port_no: n[0],
        pad,
        hw_addr,
        pad2,
        name,
        config: n[1],
        state: n[2],
        curr: n[3],
        advertised: n[4],
        supported: n[5],
        peer: n[6],
        curr_speed: n[7],
        max_speed: n[8],
    })
}

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
fn request13() -> impl Strategy<Value = of13::multipart::RequestBody> {
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
fn reply13() -> impl Strategy<Value = of13::multipart::ReplyBody> {
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

/// Port, table, meter and group mods, the whole flow mod, and every multipart message.
fn changes_and_statistics13() -> impl Strategy<Value = of13::Message> {
    use of13::Message as M;
    prop_oneof![
        (any::<[u32; 4]>(), mac(), pad(), pad(), pad()).prop_map(|(n, hw_addr, pad, pad2, pad3)| {
            M::PortMod(of13::PortMod {
                port_no: n[0],
                pad,
                hw_addr,
                pad2,
                config: n[1],
                mask: n[2],
                advertise: n[3],
                pad3,
            })
        }),
        (any::<(u8, u32)>(), pad()).prop_map(|((table_id, config), pad)| {
            M::TableMod(of13::switch::TableMod { table_id, pad, config })
        }),
        (any::<(u16, u16, u32)>(), vec(band13(), 0..4)).prop_map(|((command, flags, meter_id), bands)| {
            M::MeterMod(of13::MeterMod { command, flags, meter_id, bands })
        }),
        (any::<(u16, u8, u32)>(), pad(), vec(bucket13(), 0..4)).prop_map(
            |((command, kind, group_id), pad, buckets)| {
                M::GroupMod(of13::GroupMod { command, kind, pad, group_id, buckets })
            }
        ),
        (any::<([u64; 2], [u8; 2], [u16; 4], [u32; 3])>(), pad(), match13(), vec(instruction13(), 0..4))
            .prop_map(|((c, b, n, w), pad, matching, instructions)| {
                M::FlowMod(of13::FlowMod {
                    cookie: c[0],
                    cookie_mask: c[1],
                    table_id: b[0],
                    // Half of the flow mods are valid; the others have any command and flags.
                    command: if b[1] & 1 == 0 { b[1] } else { b[1] % 5 },
                    idle_timeout: n[0],
                    hard_timeout: n[1],
                    priority: n[2],
                    buffer_id: w[0],
                    out_port: w[1],
                    out_group: w[2],
                    flags: if b[1] & 1 == 0 { n[3] } else { n[3] & 0x1f },
                    pad,
                    matching,
                    instructions,
                })
            }),
        (any::<u8>(), pad(), port13()).prop_map(|(reason, pad, desc)| M::PortStatus(of13::PortStatus {
            reason,
            pad,
            desc
        })),
        (any::<u16>(), pad(), request13()).prop_map(|(flags, pad, body)| {
            M::MultipartRequest(of13::MultipartRequest { flags, pad, body })
        }),
        (any::<u16>(), pad(), reply13())
            .prop_map(|(flags, pad, body)| M::MultipartReply(of13::MultipartReply { flags, pad, body })),
    ]
}

fn message13() -> impl Strategy<Value = of13::Message> {
    use of13::Message as M;
    let hello = vec(
        prop_oneof![
            vec(any::<u32>(), 0..4).prop_map(of13::switch::HelloElement::VersionBitmap),
            (2u16.., bytes(20)).prop_map(|(kind, body)| of13::switch::HelloElement::Other { kind, body }),
        ],
        0..4,
    );
    prop_oneof![
        (any::<(u32, u16, u8, u8, u64)>(), match13(), pad(), bytes(80)).prop_map(
            |((buffer_id, total_len, reason, table_id, cookie), matching, pad, data)| {
                M::PacketIn(of13::PacketIn {
                    buffer_id,
                    total_len,
                    reason,
                    table_id,
                    cookie,
                    matching,
                    pad,
                    data,
                })
            }
        ),
        (any::<(u32, u32)>(), pad(), vec(action13(), 0..5), bytes(80)).prop_map(
            |((buffer_id, in_port), pad, actions, data)| {
                M::PacketOut(of13::PacketOut { buffer_id, in_port, pad, actions, data })
            }
        ),
        hello.prop_map(|elements| M::Hello(of13::switch::Hello { elements })),
        select(samples::samples13()),
        select(samples::rare13()),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_1_0(message in message10(), xid: u32) {
        let mut out = Vec::new();
        message.encode(xid, &mut out).expect("fits");
        prop_assert_eq!(of10::Message::decode(&out), Ok((xid, message)));
    }

    #[test]
    fn what_is_written_is_read_back_1_3(message in message13(), xid: u32) {
        let mut out = Vec::new();
        message.encode(xid, &mut out).expect("fits");
        prop_assert_eq!(of13::Message::decode(&out), Ok((xid, message)));
    }

    #[test]
    fn changes_and_statistics_of_1_3_are_byte_exact(message in changes_and_statistics13(), xid: u32) {
        let mut out = Vec::new();
        message.encode(xid, &mut out).expect("fits");
        prop_assert_eq!(of13::Message::decode(&out), Ok((xid, message)));
        // And decoding keeps the bytes.
        exact(&out);
    }

    /// Any flow mod is executed or refused without a panic, and statistics report an added flow
    /// exactly as it was sent.
    #[test]
    fn an_added_flow_is_reported_as_it_was_said(ten in message10(), thirteen in changes_and_statistics13()) {
        use tandem_openflow::table::Pipeline;
        let mut p = Pipeline::new(4, 10, vec![1, 2]);
        if let of10::Message::FlowMod(m) = ten {
            // Mostly valid commands and flags.
            let m = of10::FlowMod { command: m.command % 6, flags: m.flags & 3, ..m };
            let done = p.flow_mod10(&m, Time::ZERO);
            let all = of10::stats::FlowStatsRequest {
                matching: of10::Match::any(), table_id: 0xff, pad: Pad::default(), out_port: of10::port::NONE,
            };
            let told = p.stats10(&of10::stats::RequestBody::Flow(all), Time::ZERO).expect("flows").remove(0).body;
            let of10::stats::ReplyBody::Flow(flows) = told else { panic!("no flows") };
            if done.is_ok() && m.command <= of10::flow::command::MODIFY_STRICT {
                prop_assert_eq!((&flows[0].matching, &flows[0].actions), (&m.matching, &m.actions));
            } else {
                prop_assert!(flows.is_empty());
            }
        }
        let mut p = Pipeline::new(4, 10, vec![1, 2]);
        if let of13::Message::FlowMod(m) = thirteen {
            let done = p.flow_mod13(&m, Time::ZERO);
            let all = of13::stats::FlowStatsRequest {
                table_id: 0xff, pad: Pad::default(), out_port: of13::port::ANY, out_group: of13::group::ANY,
                pad2: Pad::default(), cookie: 0, cookie_mask: 0, matching: of13::Match::any(),
            };
            let told = p.stats13(&of13::multipart::RequestBody::Flow(all), Time::ZERO);
            let told = told.expect("all tables").expect("flows").remove(0).body;
            let of13::multipart::ReplyBody::Flow(flows) = told else { panic!("no flows") };
            if done.is_ok() && m.command == of13::flow::command::ADD {
                prop_assert_eq!((&flows[0].matching, &flows[0].instructions), (&m.matching, &m.instructions));
            } else {
                prop_assert!(flows.is_empty());
            }
        }
    }

    #[test]
    fn a_1_3_view_says_what_the_message_says(message in message13()) {
        let mut out = Vec::new();
        message.encode(3, &mut out).expect("fits");
        if let of13::Message::PacketIn(p) = &message {
            let port = p.matching.fields.iter().find_map(|f| match f {
                of13::Field::InPort(port) => Some(*port),
                _ => None,
            });
            let view = of13::PacketInView::new(&out).ok();
            prop_assert_eq!(view.map(|v| v.in_port), port);
            if let Some(v) = view {
                prop_assert_eq!((v.xid, v.buffer_id, v.total_len, v.reason), (3, p.buffer_id, p.total_len, p.reason));
                prop_assert_eq!((v.table_id, v.cookie, v.data), (p.table_id, p.cookie, &p.data.0[..]));
            }
        } else {
            prop_assert!(of13::PacketInView::new(&out).is_err());
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_exact(bytes in vec(any::<u8>(), 0..200)) {
        exact(&bytes);
        let _ = framing::next(&bytes);
    }

    #[test]
    fn any_body_is_an_error_or_exact(v13: bool, kind in 0u8..32, body in vec(prop_oneof![Just(0u8), any::<u8>()], 0..200)) {
        exact(&with_header(if v13 { 4 } else { 1 }, kind, &body));
    }

    #[test]
    fn a_damaged_message_is_an_error_or_exact(
        which: Index,
        damage in vec((any::<Index>(), prop_oneof![0u8..32, any::<u8>()]), 1..5),
        cut in prop_oneof![Just(None), any::<Index>().prop_map(Some)],
    ) {
        let list = samples::all();
        let mut bytes = list[which.index(list.len())].1.clone();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        for (at, value) in &damage {
            let at = at.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *value;
            }
        }
        exact(&bytes);
        // Also with a valid length field, so that the decoder reaches the damaged bytes.
        if let (Ok(length), Some(field)) = (u16::try_from(bytes.len()), bytes.get_mut(2..4)) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        exact(&bytes);
    }
}
