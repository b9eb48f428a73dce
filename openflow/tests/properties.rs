//! What holds for all messages, not only for those we thought of: what is read is written back byte for byte, what is written is
//! read back as it was, and no bytes make the reader panic.

mod samples;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::net::Ipv4Addr;
use tandem_model::Mac;
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{AnyMessage, framing, of10, of13};

/// Reads; if it is a message, writing must give the same bytes.
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
/// Bytes such that 8 and they are a multiple of 8.
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
    // Fields as they stand in matches, without their masks and what they need before them.
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

fn message13() -> impl Strategy<Value = of13::Message> {
    use of13::{Instruction as I, Message as M};
    let instruction = prop_oneof![
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
    ];
    let bucket = (any::<(u16, u32, u32)>(), pad(), vec(action13(), 0..4)).prop_map(
        |((weight, watch_port, watch_group), pad, actions)| of13::Bucket {
            weight,
            watch_port,
            watch_group,
            pad,
            actions,
        },
    );
    let hello = vec(
        prop_oneof![
            vec(any::<u32>(), 0..4).prop_map(of13::switch::HelloElement::VersionBitmap),
            (2u16.., bytes(20)).prop_map(|(kind, body)| of13::switch::HelloElement::Other { kind, body }),
        ],
        0..4,
    );
    prop_oneof![
        (match13(), vec(instruction, 0..5)).prop_map(|(m, i)| samples::flow_mod13(m, i)),
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
        (any::<(u16, u8, u32)>(), pad(), vec(bucket, 0..4)).prop_map(
            |((command, kind, group_id), pad, buckets)| {
                M::GroupMod(of13::GroupMod { command, kind, pad, group_id, buckets })
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
        // And with a length that is right again, so that the damage is looked at.
        if let (Ok(length), Some(field)) = (u16::try_from(bytes.len()), bytes.get_mut(2..4)) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        exact(&bytes);
    }
}
