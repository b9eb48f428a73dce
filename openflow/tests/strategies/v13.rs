//! Messages of OpenFlow 1.3, and the parts that they share with statistics.

use super::multipart13::{reply13, request13};
use super::{bytes, eights, mac, pad, text};
use crate::samples;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::Ipv4Addr;
use tandem_openflow::of13;
use tandem_openflow::wire::Bytes;

pub(crate) fn action13() -> impl Strategy<Value = of13::Action> {
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

pub(crate) fn match13() -> impl Strategy<Value = of13::Match> {
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

pub(crate) fn instruction13() -> impl Strategy<Value = of13::Instruction> {
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

pub(crate) fn bucket13() -> impl Strategy<Value = of13::Bucket> {
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
pub(crate) fn band13() -> impl Strategy<Value = of13::Band> {
    use of13::meter::BandKind;
    let kind = prop_oneof![
        pad().prop_map(BandKind::Drop),
        (any::<u8>(), pad()).prop_map(|(level, pad)| BandKind::DscpRemark(level, pad)),
        (any::<u32>(), bytes(40))
            .prop_map(|(experimenter, body)| BandKind::Experimenter { experimenter, body }),
    ];
    (any::<(u32, u32)>(), kind).prop_map(|((rate, burst_size), kind)| of13::Band { rate, burst_size, kind })
}

pub(crate) fn port13() -> impl Strategy<Value = of13::Port> {
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

/// Port, table, meter and group mods, the whole flow mod, and every multipart message.
pub(crate) fn changes_and_statistics13() -> impl Strategy<Value = of13::Message> {
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

pub(crate) fn message13() -> impl Strategy<Value = of13::Message> {
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
