//! The switch's role of a session, in both versions: the replies that all switches have in common,
//! in order, and the handling of unknown messages.

use tandem_model::{Dpid, Time};
use tandem_openflow::of13::multipart::{MultipartRequest, REQUEST_MORE, RequestBody};
use tandem_openflow::of13::table_features::TableFeatures;
use tandem_openflow::session::switch::{Asked, Identity, SwitchSession};
use tandem_openflow::session::{Config, SessionError};
use tandem_openflow::wire::{Pad, Text};
use tandem_openflow::{AnyMessage, framing, header, of10, of13};

const T0: Time = Time::ZERO;

struct Switch {
    session: SwitchSession,
    out: Vec<u8>,
}

impl Switch {
    /// A session after a bare HELLO of the controller.
    fn of(version: u8) -> Switch {
        let identity = Identity {
            dpid: Dpid(0x2a),
            buffers: 3,
            tables: 4,
            capabilities10: 1,
            capabilities13: 2,
            actions10: 5,
        };
        let mut out = Vec::new();
        let session =
            SwitchSession::new(&[header::V10, header::V13], identity, Config::default(), T0, &mut out);
        let mut switch = Switch { session, out };
        assert_eq!(switch.hear(&[version, 0, 0, 8, 0, 0, 0, 1]), Ok(Asked::Agreed(version)));
        switch.out.clear();
        switch
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<Asked, SessionError> {
        let port = of10::PhyPort {
            port_no: 1,
            hw_addr: tandem_model::Mac([2; 6]),
            name: Text::new("p"),
            config: 0,
            state: 0,
            curr: 0,
            advertised: 0,
            supported: 0,
            peer: 0,
        };
        self.session.on_message(bytes, || vec![port; 2], T0, &mut self.out)
    }

    /// A message without a body.
    fn bare(&mut self, version: u8, kind: u8, xid: u8) -> Result<Asked, SessionError> {
        self.hear(&[version, kind, 0, 8, 0, 0, 0, xid])
    }

    /// The messages that were sent since the last call.
    fn said(&mut self) -> Vec<(u32, AnyMessage)> {
        let (bytes, mut list) = (std::mem::take(&mut self.out), Vec::new());
        let mut rest = &bytes[..];
        while let Ok(Some((message, after))) = framing::next(rest) {
            list.push(AnyMessage::decode(message).expect("a switch says valid messages"));
            rest = after;
        }
        list
    }

    /// The errors among them: transaction id, type, code.
    fn errors(&mut self) -> Vec<(u32, u16, u16)> {
        self.said()
            .into_iter()
            .map(|(xid, m)| match m {
                AnyMessage::V10(of10::Message::Error(e)) => (xid, e.kind, e.code),
                AnyMessage::V13(of13::Message::Error(e)) => (xid, e.kind, e.code),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn features_and_barriers_are_answered_in_order_and_the_rest_is_handed_on() {
    let mut s = Switch::of(header::V10);
    assert_eq!(s.bare(1, 5, 9), Ok(Asked::Handled));
    // The session hands OFPT_GET_CONFIG_REQUEST to the caller, whose reply comes before that of the
    // barrier.
    let asked = s.bare(1, 7, 10);
    assert_eq!(asked, Ok(Asked::Message(10, AnyMessage::V10(of10::Message::GetConfigRequest))));
    let config = of10::SwitchConfig { flags: 0, miss_send_len: 128 };
    of10::Message::GetConfigReply(config.clone()).encode(10, &mut s.out).expect("short");
    assert_eq!(s.bare(1, 18, 11), Ok(Asked::Handled));
    let said = s.said();
    assert!(matches!(&said[0], (9, AnyMessage::V10(of10::Message::FeaturesReply(f)))
            if f.datapath_id == Dpid(0x2a) && f.n_buffers == 3 && f.n_tables == 4 && f.ports.len() == 2
            && f.capabilities == 1 && f.actions == 5));
    assert_eq!(
        said[1..],
        [
            (10, AnyMessage::V10(of10::Message::GetConfigReply(config))),
            (11, AnyMessage::V10(of10::Message::BarrierReply)),
        ]
    );

    let mut s = Switch::of(header::V13);
    assert_eq!(s.bare(4, 5, 9), Ok(Asked::Handled));
    assert_eq!(s.bare(4, 20, 10), Ok(Asked::Handled));
    let said = s.said();
    assert!(matches!(&said[0], (9, AnyMessage::V13(of13::Message::FeaturesReply(f)))
            if f.datapath_id == Dpid(0x2a) && f.n_tables == 4 && f.capabilities == 2 && f.auxiliary_id == 0));
    assert_eq!(said[1..], [(10, AnyMessage::V13(of13::Message::BarrierReply))]);
}

#[test]
fn unknown_types_and_bad_messages_are_answered_with_errors_and_the_session_goes_on() {
    for version in [header::V10, header::V13] {
        let mut s = Switch::of(version);
        assert_eq!(s.bare(version, 99, 1), Ok(Asked::Handled));
        // A type that only switches send: a features reply with a valid body.
        let mut reply = Vec::new();
        header::write(&mut reply, version, 6, 2, |out| out.extend([0; 24])).expect("short");
        assert_eq!(s.hear(&reply), Ok(Asked::Handled));
        // A truncated flow mod.
        let mut short = Vec::new();
        header::write(&mut short, version, 14, 3, |out| out.extend([0; 9])).expect("short");
        assert_eq!(s.hear(&short), Ok(Asked::Handled));
        assert_eq!(s.errors(), [(1, 1, 1), (2, 1, 1), (3, 1, 6)], "BAD_TYPE twice, BAD_LEN");
        assert_eq!(s.bare(version, if version == 1 { 18 } else { 20 }, 4), Ok(Asked::Handled));
        assert_eq!(s.said().len(), 1, "the barrier is answered all the same");

        // A message of another version ends the session, with OFPBRC_BAD_VERSION in the agreed
        // version.
        let other = if version == 1 { 4 } else { 1 };
        assert!(matches!(s.bare(other, 5, 5), Err(SessionError::WrongVersion { .. })));
        assert_eq!(s.out[0], version);
        assert_eq!(s.errors(), [(5, 1, 0)]);
    }
}

#[test]
fn a_silent_controller_is_asked_and_then_given_up() {
    let mut s = Switch::of(header::V13);
    let asked = s.session.next_deadline();
    s.session.on_deadline(asked, &mut s.out).expect("an echo request");
    assert!(matches!(s.said()[..], [(_, AnyMessage::V13(of13::Message::EchoRequest(_)))]));
    let gone = s.session.next_deadline();
    assert!(matches!(s.session.on_deadline(gone, &mut s.out), Err(SessionError::EchoTimeout(_))));
}

fn table(table_id: u8) -> TableFeatures {
    TableFeatures {
        table_id,
        pad: Pad::default(),
        name: Text::new("t"),
        metadata_match: 0,
        metadata_write: 0,
        config: 0,
        max_entries: 1,
        properties: Vec::new(),
    }
}

fn ask(tables: Vec<TableFeatures>, flags: u16, xid: u32) -> Vec<u8> {
    let body = RequestBody::TableFeatures(tables);
    let request = MultipartRequest { flags, ..MultipartRequest::new(body) };
    let mut bytes = Vec::new();
    of13::Message::MultipartRequest(request).encode(xid, &mut bytes).expect("under 64 KiB");
    bytes
}

#[test]
fn a_request_in_parts_is_put_together_and_one_without_an_end_is_refused() {
    let mut s = Switch::of(header::V13);
    assert_eq!(s.hear(&ask(vec![table(0), table(1)], REQUEST_MORE, 5)), Ok(Asked::Handled));
    let whole = s.hear(&ask(vec![table(2)], 0, 5)).expect("the last part");
    let wanted = MultipartRequest::new(RequestBody::TableFeatures(vec![table(0), table(1), table(2)]));
    assert_eq!(whole, Asked::Message(5, AnyMessage::V13(of13::Message::MultipartRequest(wanted))));
    // Another request in between restarts the assembly.
    assert_eq!(s.hear(&ask(vec![table(0)], REQUEST_MORE, 6)), Ok(Asked::Handled));
    let whole = s.hear(&ask(vec![table(9)], 0, 7)).expect("a whole one");
    let wanted = MultipartRequest::new(RequestBody::TableFeatures(vec![table(9)]));
    assert_eq!(whole, Asked::Message(7, AnyMessage::V13(of13::Message::MultipartRequest(wanted))));
    assert_eq!(s.said(), []);

    // More than 256 tables are refused with OFPBRC_MULTIPART_BUFFER_OVERFLOW.
    for _ in 0..2 {
        assert_eq!(s.hear(&ask(vec![table(0); 128], REQUEST_MORE, 8)), Ok(Asked::Handled));
    }
    assert_eq!(s.said(), []);
    assert_eq!(s.hear(&ask(vec![table(0)], REQUEST_MORE, 8)), Ok(Asked::Handled));
    assert_eq!(s.errors(), [(8, 1, 13)]);
    let plain = MultipartRequest::new(RequestBody::Desc);
    let mut bytes = Vec::new();
    of13::Message::MultipartRequest(plain.clone()).encode(9, &mut bytes).expect("short");
    assert_eq!(
        s.hear(&bytes),
        Ok(Asked::Message(9, AnyMessage::V13(of13::Message::MultipartRequest(plain)))),
        "other requests are whole"
    );
}
