//! Messages of OpenFlow 1.0.

use super::{IP, MAC, frame, pad};
use std::net::Ipv4Addr;
use tandem_model::Dpid;
use tandem_openflow::of10;
use tandem_openflow::wire::{Bytes, Text};

pub(crate) fn actions10() -> Vec<of10::Action> {
    use of10::Action::*;
    vec![
        SetVlanVid(5, pad()),
        SetVlanPcp(3, pad()),
        StripVlan(pad()),
        SetDlSrc(MAC, pad()),
        SetDlDst(MAC, pad()),
        SetNwSrc(IP),
        SetNwDst(IP),
        SetNwTos(0x20, pad()),
        SetTpSrc(80, pad()),
        SetTpDst(81, pad()),
        Enqueue { port: 2, pad: pad(), queue_id: 4 },
        Output { port: 1, max_len: 0 },
    ]
}

fn match10() -> of10::Match {
    of10::Match {
        wildcards: 8 << of10::matching::wildcard::NW_SRC_SHIFT,
        in_port: 1,
        dl_src: MAC,
        dl_dst: MAC,
        dl_vlan: 5,
        dl_vlan_pcp: 3,
        dl_type: 0x0800,
        nw_tos: 0x20,
        nw_proto: 6,
        nw_src: Ipv4Addr::new(10, 0, 0, 0),
        nw_dst: IP,
        tp_src: 80,
        tp_dst: 81,
        ..of10::Match::any()
    }
}

fn port10() -> of10::PhyPort {
    of10::PhyPort {
        port_no: 1,
        hw_addr: MAC,
        name: Text::new("eth1"),
        config: 0,
        state: 0,
        curr: 0x40,
        advertised: 0,
        supported: 0x40,
        peer: 0,
    }
}

pub(crate) fn samples10() -> Vec<of10::Message> {
    use of10::Message as M;
    use of10::stats::*;
    let flows =
        FlowStatsRequest { matching: of10::Match::any(), table_id: 0xff, pad: pad(), out_port: 0xffff };
    let ask = |body| M::StatsRequest(of10::StatsRequest { flags: 0, body });
    let answer = |body| M::StatsReply(of10::StatsReply { flags: 0, body });
    let config = of10::SwitchConfig { flags: 0, miss_send_len: 128 };
    vec![
        M::Hello(Bytes::default()),
        M::Error(of10::switch::ErrorMsg { kind: 1, code: 6, data: Bytes(vec![1, 0, 0, 8, 0, 0, 0, 1]) }),
        M::EchoRequest(Bytes(vec![1, 2, 3])),
        M::EchoReply(Bytes(vec![1, 2, 3])),
        // Nicira, NXT_ROLE_REQUEST: an extension that ofp-print knows.
        M::Vendor(of10::switch::Vendor { vendor: 0x2320, body: Bytes(vec![0, 0, 0, 10, 0, 0, 0, 1]) }),
        M::FeaturesRequest,
        M::FeaturesReply(of10::FeaturesReply {
            datapath_id: Dpid(0x2a),
            n_buffers: 256,
            n_tables: 1,
            pad: pad(),
            capabilities: 0xc7,
            actions: 0xfff,
            ports: vec![port10()],
        }),
        M::GetConfigRequest,
        M::GetConfigReply(config.clone()),
        M::SetConfig(config),
        M::PacketIn(of10::PacketIn {
            buffer_id: u32::MAX,
            total_len: 60,
            in_port: 1,
            reason: 0,
            pad: pad(),
            data: frame(),
        }),
        M::FlowRemoved(of10::FlowRemoved {
            matching: match10(),
            cookie: 7,
            priority: 9,
            reason: 2,
            pad: pad(),
            duration_sec: 4,
            duration_nsec: 5,
            idle_timeout: 6,
            pad2: pad(),
            packet_count: 1,
            byte_count: 2,
        }),
        M::PortStatus(of10::PortStatus { reason: 2, pad: pad(), desc: port10() }),
        M::PacketOut(of10::PacketOut {
            buffer_id: u32::MAX,
            in_port: 0xffff,
            actions: actions10(),
            data: frame(),
        }),
        M::FlowMod(of10::FlowMod {
            matching: match10(),
            cookie: 7,
            command: 0,
            idle_timeout: 10,
            hard_timeout: 20,
            priority: 9,
            buffer_id: u32::MAX,
            out_port: 0xffff,
            flags: 1,
            actions: actions10(),
        }),
        M::PortMod(of10::PortMod { port_no: 1, hw_addr: MAC, config: 1, mask: 1, advertise: 0, pad: pad() }),
        ask(RequestBody::Desc),
        ask(RequestBody::Flow(flows.clone())),
        ask(RequestBody::Aggregate(flows)),
        ask(RequestBody::Table),
        ask(RequestBody::Port(PortStatsRequest { port_no: 0xffff, pad: pad() })),
        ask(RequestBody::Queue(QueueStatsRequest { port_no: 0xfffc, pad: pad(), queue_id: u32::MAX })),
        answer(ReplyBody::Desc(Box::new(DescStats {
            mfr_desc: Text::new("m"),
            hw_desc: Text::new("h"),
            sw_desc: Text::new("s"),
            serial_num: Text::new("1"),
            dp_desc: Text::new("d"),
        }))),
        answer(ReplyBody::Flow(vec![FlowStats {
            table_id: 0,
            pad: pad(),
            matching: match10(),
            duration_sec: 1,
            duration_nsec: 2,
            priority: 3,
            idle_timeout: 4,
            hard_timeout: 5,
            pad2: pad(),
            cookie: 6,
            packet_count: 7,
            byte_count: 8,
            actions: actions10(),
        }])),
        answer(ReplyBody::Aggregate(AggregateStats {
            packet_count: 1,
            byte_count: 2,
            flow_count: 3,
            pad: pad(),
        })),
        answer(ReplyBody::Table(vec![TableStats {
            table_id: 0,
            pad: pad(),
            name: Text::new("t"),
            wildcards: 0x3f_ffff,
            max_entries: 10,
            active_count: 1,
            lookup_count: 2,
            matched_count: 3,
        }])),
        answer(ReplyBody::Port(vec![PortStats {
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
        }])),
        answer(ReplyBody::Queue(vec![QueueStats {
            port_no: 1,
            pad: pad(),
            queue_id: 2,
            tx_bytes: 3,
            tx_packets: 4,
            tx_errors: 5,
        }])),
        M::BarrierRequest,
        M::BarrierReply,
        M::QueueGetConfigRequest(of10::queue::QueueGetConfigRequest { port: 1, pad: pad() }),
        M::QueueGetConfigReply(of10::queue::QueueGetConfigReply {
            port: 1,
            pad: pad(),
            queues: vec![of10::queue::PacketQueue {
                queue_id: 1,
                pad: pad(),
                properties: vec![of10::queue::Property::MinRate { pad: pad(), rate: 500, pad2: pad() }],
            }],
        }),
    ]
}
