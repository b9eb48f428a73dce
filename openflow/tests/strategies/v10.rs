//! Messages of OpenFlow 1.0.

use super::{bytes, eights, ip, mac, pad};
use crate::samples;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tandem_openflow::of10;

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

pub(crate) fn message10() -> impl Strategy<Value = of10::Message> {
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
