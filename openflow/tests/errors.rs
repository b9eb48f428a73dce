//! Malformed messages, each with the OpenFlow error that the specification assigns to it (OF 1.3.5
//! section 7.5.4, OF 1.0 section 5.4.4).

mod samples;

use tandem_openflow::error::EncodeError;
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{AnyMessage, of10, of13};

fn message(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 8).expect("short");
    [&[version, kind][..], &length.to_be_bytes(), &[0, 0, 0, 1], body].concat()
}

/// A FLOW_MOD of 1.3 with these match fields and instructions.
fn flow_mod(fields: &[u8], instructions: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 40];
    let length = fields.len() + 4;
    body.extend_from_slice(&[0, 1, 0, u8::try_from(length).expect("short")]);
    body.extend_from_slice(fields);
    body.resize(body.len() + (8 - length % 8) % 8, 0);
    body.extend_from_slice(instructions);
    message(4, 14, &body)
}

/// The same with APPLY_ACTIONS of one action.
fn apply(action: &[u8]) -> Vec<u8> {
    let length = u8::try_from(action.len() + 8).expect("short");
    flow_mod(&[], &[&[0, 4, 0, length, 0, 0, 0, 0], action].concat())
}

const ETH_IP: [u8; 6] = [0x80, 0, 0x0a, 2, 0x08, 0x00];

#[test]
fn every_fault_has_its_error() {
    let mut nonzero = flow_mod(&ETH_IP, &[]);
    *nonzero.last_mut().expect("padding") = 1;
    let mut standard_match = flow_mod(&[], &[]);
    standard_match[49] = 0;
    let rows: Vec<(&str, Vec<u8>, (u16, u16))> = vec![
        ("version 2", message(2, 0, &[]), (1, 0)),
        ("type 30 of 1.3", message(4, 30, &[]), (1, 1)),
        ("type 22 of 1.0", message(1, 22, &[]), (1, 1)),
        ("barrier with a body", message(4, 20, &[0; 4]), (1, 6)),
        ("multipart type 99", message(4, 18, &[0, 99, 0, 0, 0, 0, 0, 0]), (1, 2)),
        ("statistics type 99", message(1, 16, &[0, 99, 0, 0]), (1, 2)),
        ("1.0 action of 4 bytes", message(1, 13, &[0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4]), (2, 1)),
        ("1.0 action 99", message(1, 13, &[0, 0, 0, 0, 0, 0, 0, 8, 0, 99, 0, 8, 0, 0, 0, 0]), (2, 0)),
        ("match of type standard", standard_match, (4, 0)),
        ("padding of a match", nonzero, (4, 1)),
        ("field of a wrong length", flow_mod(&[0x80, 0, 0x0a, 3, 8, 0, 0], &[]), (4, 1)),
        ("field 50", flow_mod(&[0x80, 0, 100, 1, 0], &[]), (4, 6)),
        ("VLAN priority 8", flow_mod(&[0x80, 0, 12, 2, 0x10, 1, 0x80, 0, 14, 1, 8], &[]), (4, 7)),
        ("mask on ETH_TYPE", flow_mod(&[0x80, 0, 0x0b, 4, 8, 0, 0xff, 0xff], &[]), (4, 8)),
        ("bits outside of the mask", flow_mod(&[0x80, 0, 13, 4, 0x10, 1, 0x10, 0], &[]), (4, 5)),
        ("IPV4_SRC without ETH_TYPE", flow_mod(&[0x80, 0, 22, 4, 10, 0, 0, 1], &[]), (4, 9)),
        ("ETH_TYPE twice", flow_mod(&[ETH_IP, ETH_IP].concat(), &[]), (4, 10)),
        ("instruction 99", flow_mod(&[], &[0, 99, 0, 8, 0, 0, 0, 0]), (3, 0)),
        ("instruction of 12 bytes", flow_mod(&[], &[0, 1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0]), (3, 7)),
        ("action 99", apply(&[0, 99, 0, 8, 0, 0, 0, 0]), (2, 0)),
        ("output of 8 bytes", apply(&[0, 0, 0, 8, 0, 0, 0, 1]), (2, 1)),
        ("set-field of field 50", apply(&[0, 25, 0, 16, 0x80, 0, 100, 1, 0, 0, 0, 0, 0, 0, 0, 0]), (2, 13)),
        (
            "set-field with a mask",
            apply(&[0, 25, 0, 16, 0x80, 0, 13, 4, 0x10, 1, 0x1f, 0xff, 0, 0, 0, 0]),
            (2, 13),
        ),
        ("set-field of priority 8", apply(&[0, 25, 0, 16, 0x80, 0, 14, 1, 8, 0, 0, 0, 0, 0, 0, 0]), (2, 15)),
        (
            "set-field of a wrong length",
            apply(&[0, 25, 0, 16, 0x80, 0, 14, 2, 1, 0, 0, 0, 0, 0, 0, 0]),
            (2, 14),
        ),
        ("bucket of 8 bytes", message(4, 15, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0]), (6, 12)),
        (
            "meter band 9",
            message(4, 29, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (12, 8),
        ),
    ];
    for (what, bytes, (kind, code)) in rows {
        let error = AnyMessage::decode(&bytes).expect_err(what);
        assert_eq!((error.of_error.kind, error.of_error.code), (kind, code), "{what}: {error}");
    }
}

#[test]
fn errors_have_the_names_of_the_specification() {
    assert_eq!(of10::switch::error_name(3, 4), "FLOW_MOD_FAILED/BAD_COMMAND");
    assert_eq!(of13::switch::error_name(4, 9), "BAD_MATCH/BAD_PREREQ");
    assert_eq!(of13::switch::error_name(13, 5), "TABLE_FEATURES_FAILED/EPERM");
    assert_eq!(of13::switch::error_name(12, 11), "METER_MOD_FAILED/OUT_OF_BANDS");
    assert_eq!(of13::switch::error_name(99, 1), "type 99/code 1");
    assert_eq!(of13::switch::error_name(0xffff, 1), "EXPERIMENTER/type 1");
}

/// The length field has 16 bits: a longer message is an error, and the buffer is unchanged.
#[test]
fn a_message_that_is_too_long_is_not_written() {
    let mut out = vec![1, 2, 3];
    let long = of13::Message::EchoRequest(Bytes(vec![0; 65528]));
    assert_eq!(long.encode(1, &mut out), Err(EncodeError::TooLong(65536)));
    let actions = vec![of13::Action::output(1); 5000];
    let long = samples::flow_mod13(
        of13::Match::any(),
        vec![of13::Instruction::ApplyActions(Pad::default(), actions)],
    );
    assert!(matches!(long.encode(1, &mut out), Err(EncodeError::TooLong(_))));
    assert_eq!(out, [1, 2, 3]);
    assert_eq!(of13::Message::EchoRequest(Bytes(vec![0; 65527])).encode(1, &mut out), Ok(()));
    assert_eq!(AnyMessage::decode(&out[3..]).map(|(xid, _)| xid), Ok(1));
}
