//! Properties of all messages: decoding and encoding give the same bytes, encoding and decoding the
//! same message, and no bytes make the decoder panic.

mod samples;
mod strategies;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use strategies::{changes_and_statistics13, message10, message13};
use tandem_model::Time;
use tandem_openflow::wire::Pad;
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
