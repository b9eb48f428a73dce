//! Messages of OpenFlow 1.3.

use super::{IP, MAC, frame, pad};
use std::net::{Ipv4Addr, Ipv6Addr};
use tandem_model::{Dpid, Mac};
use tandem_openflow::of13;
use tandem_openflow::wire::{Bytes, Text};

fn exact<T>(value: T) -> of13::Masked<T> {
    of13::Masked::exact(value)
}

/// Matches that together have each of the 40 fields, with its prerequisites.
pub(crate) fn matches13() -> Vec<of13::Match> {
    use of13::Field::*;
    use of13::oxm::U24;
    let masked_mac =
        of13::Masked { value: Mac([2, 0, 0, 0, 0, 0]), mask: Some(Mac([0xff, 0xff, 0xff, 0, 0, 0])) };
    let masked_ip =
        of13::Masked { value: Ipv4Addr::new(10, 1, 0, 0), mask: Some(Ipv4Addr::new(255, 255, 0, 0)) };
    let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let masked_ipv6 = of13::Masked {
        value: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        mask: Some(Ipv6Addr::new(0xffff, 0xffff, 0, 0, 0, 0, 0, 0)),
    };
    [
        vec![],
        vec![InPort(1), InPhyPort(2)],
        vec![
            Metadata(of13::Masked { value: 0x10, mask: Some(0xff) }),
            TunnelId(of13::Masked { value: 5, mask: Some(7) }),
        ],
        vec![EthDst(masked_mac), EthSrc(exact(MAC)), VlanVid(exact(0x1005)), VlanPcp(3)],
        vec![VlanVid(of13::Masked { value: 0x1000, mask: Some(0x1000) })],
        vec![
            EthType(0x0800),
            IpDscp(8),
            IpEcn(1),
            IpProto(6),
            Ipv4Src(masked_ip),
            Ipv4Dst(exact(IP)),
            TcpSrc(80),
            TcpDst(81),
        ],
        vec![EthType(0x0800), IpProto(17), UdpSrc(53), UdpDst(54)],
        vec![EthType(0x86dd), IpProto(132), SctpSrc(1), SctpDst(2)],
        vec![EthType(0x0800), IpProto(1), Icmpv4Type(8), Icmpv4Code(0)],
        vec![
            EthType(0x0806),
            ArpOp(1),
            ArpSpa(exact(IP)),
            ArpTpa(masked_ip),
            ArpSha(exact(MAC)),
            ArpTha(masked_mac),
        ],
        vec![
            EthType(0x86dd),
            Ipv6Src(exact(ipv6)),
            Ipv6Dst(masked_ipv6),
            Ipv6Flabel(of13::Masked { value: 5, mask: Some(0xff) }),
        ],
        vec![
            EthType(0x86dd),
            IpProto(58),
            Icmpv6Type(135),
            Icmpv6Code(0),
            Ipv6NdTarget(ipv6),
            Ipv6NdSll(MAC),
        ],
        vec![
            EthType(0x86dd),
            IpProto(58),
            Icmpv6Type(136),
            Icmpv6Code(0),
            Ipv6NdTarget(ipv6),
            Ipv6NdTll(MAC),
        ],
        vec![EthType(0x8847), MplsLabel(100), MplsTc(3), MplsBos(1)],
        vec![
            EthType(0x88e7),
            PbbIsid(of13::Masked { value: U24::new(0x12300), mask: Some(U24::new(0xffff00)) }),
        ],
        vec![EthType(0x86dd), Ipv6Exthdr(of13::Masked { value: 1, mask: Some(0x1ff) })],
    ]
    .into_iter()
    .map(|fields| of13::Match { fields })
    .collect()
}

/// Fields that Open vSwitch 3.1 does not know: IN_PHY_PORT, PBB_ISID, IPV6_EXTHDR.
pub(crate) fn known_to_ovs(m: &of13::Match) -> bool {
    m.fields.iter().all(|f| !matches!(f.id().1, 1 | 37 | 39))
}

/// Every action but those that Open vSwitch does not have (PBB, TTL copies).
pub(crate) fn actions13() -> Vec<of13::Action> {
    use of13::Action::*;
    vec![
        PushVlan(0x8100, pad()),
        SetField(of13::Field::VlanVid(exact(0x1005))),
        PopVlan(pad()),
        SetField(of13::Field::EthDst(exact(MAC))),
        SetQueue(3),
        Group(1),
        of13::Action::output(1),
        PushMpls(0x8847, pad()),
        SetMplsTtl(9, pad()),
        DecMplsTtl(pad()),
        PopMpls(0x0800, pad()),
    ]
}

/// The actions that Open vSwitch does not have.
pub(crate) fn rare_actions13() -> Vec<of13::Action> {
    use of13::Action::*;
    vec![
        CopyTtlOut(pad()),
        CopyTtlIn(pad()),
        SetNwTtl(9, pad()),
        DecNwTtl(pad()),
        PushPbb(0x88e7, pad()),
        PopPbb(pad()),
        Experimenter { experimenter: 0x1234_5678, body: Bytes(vec![1; 8]) },
    ]
}

pub(crate) fn flow_mod13(matching: of13::Match, instructions: Vec<of13::Instruction>) -> of13::Message {
    of13::Message::FlowMod(of13::FlowMod {
        cookie: 7,
        cookie_mask: 0,
        table_id: 0,
        command: 0,
        idle_timeout: 10,
        hard_timeout: 20,
        priority: 9,
        buffer_id: u32::MAX,
        out_port: u32::MAX,
        out_group: u32::MAX,
        flags: 1,
        pad: pad(),
        matching,
        instructions,
    })
}

fn port13() -> of13::Port {
    of13::Port {
        port_no: 1,
        pad: pad(),
        hw_addr: MAC,
        pad2: pad(),
        name: Text::new("eth1"),
        config: 0,
        state: 4,
        curr: 0x40,
        advertised: 0,
        supported: 0x40,
        peer: 0,
        curr_speed: 10_000_000,
        max_speed: 10_000_000,
    }
}

fn buckets() -> Vec<of13::Bucket> {
    let bucket = |port| of13::Bucket {
        weight: 0,
        watch_port: port,
        watch_group: u32::MAX,
        pad: pad(),
        actions: vec![of13::Action::output(port)],
    };
    vec![bucket(1), bucket(2)]
}

fn bands() -> Vec<of13::Band> {
    use of13::meter::BandKind;
    vec![
        of13::Band { rate: 1000, burst_size: 100, kind: BandKind::Drop(pad()) },
        of13::Band { rate: 500, burst_size: 100, kind: BandKind::DscpRemark(1, pad()) },
    ]
}

pub(crate) fn samples13() -> Vec<of13::Message> {
    use of13::Message as M;
    use of13::multipart::{ReplyBody as A, RequestBody as Q};
    use of13::stats::*;
    use of13::table_features::{Capability, List, Property, TableFeatures};
    let ask = |body| M::MultipartRequest(of13::MultipartRequest::new(body));
    let answer = |body| M::MultipartReply(of13::MultipartReply::new(body));
    let config = of13::SwitchConfig { flags: 0, miss_send_len: 0xffff };
    let matching = matches13().swap_remove(5);
    let flows = FlowStatsRequest {
        table_id: 0xff,
        pad: pad(),
        out_port: u32::MAX,
        out_group: u32::MAX,
        pad2: pad(),
        cookie: 0,
        cookie_mask: 0,
        matching: of13::Match::any(),
    };
    let meter = MeterRequest { meter_id: u32::MAX, pad: pad() };
    let counters = vec![Counter { packet_count: 1, byte_count: 2 }; 2];
    let role = of13::switch::Role { role: 2, pad: pad(), generation_id: 5 };
    let asynchronous = of13::switch::AsyncConfig {
        packet_in_master: 3,
        packet_in_slave: 0,
        port_status_master: 7,
        port_status_slave: 7,
        flow_removed_master: 15,
        flow_removed_slave: 0,
    };
    let capability = |kind| Capability { kind, body: Bytes::default() };
    let id =
        |number, length| of13::oxm::Id { class: 0x8000, number, has_mask: false, length, experimenter: None };
    let property = |kind, list| Property { kind, list };
    let features = TableFeatures {
        table_id: 0,
        pad: pad(),
        name: Text::new("t"),
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        config: 0,
        max_entries: 100,
        properties: vec![
            property(0, List::Instructions(vec![capability(1), capability(4)])),
            property(2, List::NextTables(Bytes(vec![1, 2, 3]))),
            property(4, List::Actions(vec![capability(0)])),
            property(6, List::Actions(vec![capability(0), capability(25)])),
            property(8, List::Fields(vec![id(0, 4), id(5, 2)])),
            property(10, List::Fields(vec![id(0, 4)])),
            property(12, List::Fields(vec![id(3, 6)])),
            property(14, List::Fields(vec![id(3, 6)])),
        ],
    };
    use of13::Instruction as I;
    let mut list = vec![
        M::Hello(of13::switch::Hello {
            elements: vec![of13::switch::HelloElement::VersionBitmap(vec![0x12])],
        }),
        M::Error(of13::switch::ErrorMsg { kind: 1, code: 6, data: Bytes(vec![4, 0, 0, 8, 0, 0, 0, 1]) }),
        M::EchoRequest(Bytes(vec![1, 2, 3])),
        M::EchoReply(Bytes(vec![1, 2, 3])),
        // Nicira, NXT_SET_PACKET_IN_FORMAT: an extension that ofp-print knows.
        M::Experimenter(of13::switch::Experimenter {
            experimenter: 0x2320,
            exp_type: 16,
            body: Bytes(vec![0, 0, 0, 2]),
        }),
        M::FeaturesRequest,
        M::FeaturesReply(of13::FeaturesReply {
            datapath_id: Dpid(0x2a),
            n_buffers: 0,
            n_tables: 2,
            auxiliary_id: 0,
            pad: pad(),
            capabilities: 0x4f,
            reserved: 0,
        }),
        M::GetConfigRequest,
        M::GetConfigReply(config.clone()),
        M::SetConfig(config),
        M::PacketIn(of13::PacketIn {
            buffer_id: u32::MAX,
            total_len: 60,
            reason: 0,
            table_id: 1,
            cookie: 7,
            matching: of13::Match { fields: vec![of13::Field::InPort(1)] },
            pad: pad(),
            data: frame(),
        }),
        M::FlowRemoved(of13::FlowRemoved {
            cookie: 7,
            priority: 9,
            reason: 2,
            table_id: 1,
            duration_sec: 1,
            duration_nsec: 2,
            idle_timeout: 3,
            hard_timeout: 4,
            packet_count: 5,
            byte_count: 6,
            matching: matching.clone(),
        }),
        M::PortStatus(of13::PortStatus { reason: 2, pad: pad(), desc: port13() }),
        M::PacketOut(of13::PacketOut {
            buffer_id: u32::MAX,
            in_port: 0xffff_fffd,
            pad: pad(),
            actions: vec![of13::Action::output(1)],
            data: frame(),
        }),
        M::GroupMod(of13::GroupMod { command: 0, kind: 3, pad: pad(), group_id: 1, buckets: buckets() }),
        M::PortMod(of13::PortMod {
            port_no: 1,
            pad: pad(),
            hw_addr: MAC,
            pad2: pad(),
            config: 1,
            mask: 1,
            advertise: 0,
            pad3: pad(),
        }),
        M::TableMod(of13::switch::TableMod { table_id: 0xff, pad: pad(), config: 0 }),
        ask(Q::Desc),
        ask(Q::Flow(flows.clone())),
        ask(Q::Aggregate(flows)),
        ask(Q::Table),
        ask(Q::PortStats(PortStatsRequest { port_no: u32::MAX, pad: pad() })),
        ask(Q::Queue(QueueStatsRequest { port_no: u32::MAX, queue_id: u32::MAX })),
        ask(Q::Group(GroupStatsRequest { group_id: 0xffff_fffc, pad: pad() })),
        ask(Q::GroupDesc),
        ask(Q::GroupFeatures),
        ask(Q::Meter(meter.clone())),
        ask(Q::MeterConfig(meter)),
        ask(Q::MeterFeatures),
        ask(Q::TableFeatures(vec![])),
        ask(Q::PortDesc),
        answer(A::Desc(Box::new(Desc {
            mfr_desc: Text::new("m"),
            hw_desc: Text::new("h"),
            sw_desc: Text::new("s"),
            serial_num: Text::new("1"),
            dp_desc: Text::new("d"),
        }))),
        answer(A::Flow(vec![FlowStats {
            table_id: 1,
            pad: pad(),
            duration_sec: 1,
            duration_nsec: 2,
            priority: 3,
            idle_timeout: 4,
            hard_timeout: 5,
            flags: 1,
            pad2: pad(),
            cookie: 6,
            packet_count: 7,
            byte_count: 8,
            matching: matching.clone(),
            instructions: vec![I::ApplyActions(pad(), vec![of13::Action::output(1)]), I::GotoTable(2, pad())],
        }])),
        answer(A::Aggregate(AggregateStats { packet_count: 1, byte_count: 2, flow_count: 3, pad: pad() })),
        answer(A::Table(vec![TableStats {
            table_id: 0,
            pad: pad(),
            active_count: 1,
            lookup_count: 2,
            matched_count: 3,
        }])),
        answer(A::PortStats(vec![PortStats {
            port_no: 1,
            pad: pad(),
            rx_packets: 1,
            tx_packets: 2,
            rx_bytes: 3,
            tx_bytes: 4,
            rx_dropped: 5,
            tx_dropped: 6,
            rx_errors: 7,
            tx_errors: 8,
            rx_frame_err: 9,
            rx_over_err: 10,
            rx_crc_err: 11,
            collisions: 12,
            duration_sec: 13,
            duration_nsec: 14,
        }])),
        answer(A::Queue(vec![QueueStats {
            port_no: 1,
            queue_id: 2,
            tx_bytes: 3,
            tx_packets: 4,
            tx_errors: 5,
            duration_sec: 6,
            duration_nsec: 7,
        }])),
        answer(A::Group(vec![GroupStats {
            pad: pad(),
            group_id: 1,
            ref_count: 2,
            pad2: pad(),
            packet_count: 3,
            byte_count: 4,
            duration_sec: 5,
            duration_nsec: 6,
            buckets: counters.clone(),
        }])),
        answer(A::GroupDesc(vec![GroupDesc { kind: 3, pad: pad(), group_id: 1, buckets: buckets() }])),
        answer(A::GroupFeatures(GroupFeatures {
            types: 15,
            capabilities: 7,
            max_groups: [1, 2, 3, 4],
            actions: [1, 1, 1, 1],
        })),
        answer(A::Meter(vec![MeterStats {
            meter_id: 1,
            pad: pad(),
            flow_count: 2,
            packet_in_count: 3,
            byte_in_count: 4,
            duration_sec: 5,
            duration_nsec: 6,
            bands: counters,
        }])),
        answer(A::MeterConfig(vec![MeterConfig { flags: 5, meter_id: 1, bands: bands() }])),
        answer(A::MeterFeatures(MeterFeatures {
            max_meter: 1,
            band_types: 6,
            capabilities: 15,
            max_bands: 2,
            max_color: 1,
            pad: pad(),
        })),
        answer(A::TableFeatures(vec![features])),
        answer(A::PortDesc(vec![port13()])),
        M::BarrierRequest,
        M::BarrierReply,
        M::QueueGetConfigRequest(of13::queue::QueueGetConfigRequest { port: 1, pad: pad() }),
        M::QueueGetConfigReply(of13::queue::QueueGetConfigReply {
            port: 1,
            pad: pad(),
            queues: vec![of13::queue::PacketQueue {
                queue_id: 1,
                port: 1,
                pad: pad(),
                properties: vec![
                    of13::queue::Property {
                        pad: pad(),
                        kind: of13::queue::PropertyKind::MinRate(100, pad()),
                    },
                    of13::queue::Property {
                        pad: pad(),
                        kind: of13::queue::PropertyKind::MaxRate(900, pad()),
                    },
                ],
            }],
        }),
        M::RoleRequest(role.clone()),
        M::RoleReply(role),
        M::GetAsyncRequest,
        M::GetAsyncReply(asynchronous.clone()),
        M::SetAsync(asynchronous),
        M::MeterMod(of13::MeterMod { command: 0, flags: 5, meter_id: 1, bands: bands() }),
        flow_mod13(
            of13::Match::any(),
            vec![
                I::Meter(1),
                I::ClearActions(pad()),
                I::WriteActions(pad(), vec![of13::Action::output(2)]),
                I::WriteMetadata { pad: pad(), metadata: 1, mask: 3 },
                I::GotoTable(1, pad()),
            ],
        ),
        flow_mod13(matches13().swap_remove(3), vec![I::ApplyActions(pad(), actions13())]),
    ];
    list.extend(matches13().into_iter().filter(known_to_ovs).map(|m| flow_mod13(m, vec![])));
    list
}

/// Messages that Open vSwitch does not understand.
pub(crate) fn rare13() -> Vec<of13::Message> {
    let apply = of13::Instruction::ApplyActions(pad(), rare_actions13());
    let other = of13::Instruction::Experimenter { experimenter: 5, body: Bytes(vec![1; 8]) };
    let unknown = of13::Field::Other { class: 0xffff, number: 3, has_mask: true, body: Bytes(vec![9; 12]) };
    let mut list = vec![flow_mod13(of13::Match { fields: vec![unknown] }, vec![apply, other])];
    list.extend(matches13().into_iter().filter(|m| !known_to_ovs(m)).map(|m| flow_mod13(m, vec![])));
    list
}
