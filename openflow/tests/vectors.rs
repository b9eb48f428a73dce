//! Messages captured between a controller and Open vSwitch: each decodes, and encodes to the same
//! bytes. `ovs-ofctl ofp-print`, an independent decoder, has to agree on them and on messages that
//! are made here.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the tests read files and run a tool"
)]

mod samples;

use std::path::PathBuf;
use std::process::Command;
use tandem_openflow::AnyMessage;
use tandem_openflow::error::OfErrorCode;

/// Captured files whose inner lengths are wrong: a flow of 160 bytes of which 88 are there, a
/// property of length 0, a flow request without its body. A decoder must refuse them with BAD_LEN,
/// as ofp-print does.
const CUT: [&str; 3] =
    ["of10/ofpt_flow_stats_reply", "of10/ofpt_queue_get_config_reply", "of10/ofpt_stats_request"];
/// Well-formed, but ofp-print does not know the port (0xff00) or the vendor (0x80).
const NOT_FOR_OVS: [&str; 2] = ["of10/ofpt_queue_get_config_request", "of10/ofpt_vendor_header"];

/// The captured messages: version/name and bytes.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut list = Vec::new();
    for version in ["of10", "of13"] {
        let folder =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/openflow-vectors").join(version);
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("folder entry").path();
            if path.extension().is_some_and(|e| e == "dat") {
                let name = format!("{version}/{}", path.file_stem().expect("a name").to_string_lossy());
                list.push((name, std::fs::read(&path).expect("vector")));
            }
        }
    }
    list.sort();
    list
}

/// The output of ofp-print; `None` if the tool is missing, which fails in CI.
fn ofp_print(message: &[u8]) -> Option<String> {
    let hex: String = message.iter().map(|b| format!("{b:02x}")).collect();
    match Command::new("ovs-ofctl").args(["ofp-print", &hex, "2"]).output() {
        Ok(out) => {
            Some(String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
        }
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "ovs-ofctl (package openvswitch-common): {e}");
            println!("skipped: ovs-ofctl: {e}");
            None
        }
    }
}

/// The name that ofp-print prints for a message, e.g. `OFPT_FLOW_MOD`, made from the name of its
/// type here. Statistics have the name of their kind.
fn ofp_name(message: &AnyMessage) -> String {
    let mut name = String::from("OFPT");
    for c in message.name().chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    match name.as_str() {
        "OFPT_STATS_REQUEST" | "OFPT_MULTIPART_REQUEST" => "OFPST_".to_owned(),
        "OFPT_STATS_REPLY" | "OFPT_MULTIPART_REPLY" => "OFPST_".to_owned(),
        "OFPT_VENDOR" | "OFPT_EXPERIMENTER" => "NX".to_owned(),
        _ => name,
    }
}

#[test]
fn every_captured_message_is_written_back_byte_for_byte() {
    let list = vectors();
    assert_eq!(list.len(), 56);
    for (name, bytes) in &list {
        if CUT.contains(&name.as_str()) {
            let error = AnyMessage::decode(bytes).expect_err(name);
            assert_eq!(error.of_error, OfErrorCode::BAD_LEN, "{name}");
            continue;
        }
        let (xid, value) = AnyMessage::decode(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut out = vec![0xa5; 3];
        value.encode(xid, &mut out).expect("as long as before");
        assert_eq!(out[3..], **bytes, "{name}: {value:?}");
    }
}

#[test]
fn ofp_print_agrees_on_the_captured_messages() {
    for (name, bytes) in vectors() {
        let Some(text) = ofp_print(&bytes) else { return };
        if CUT.contains(&name.as_str()) {
            assert!(text.contains("decode error: OFPBRC_BAD_LEN"), "{name}: {text}");
            continue;
        }
        if NOT_FOR_OVS.contains(&name.as_str()) {
            continue;
        }
        let (xid, value) = AnyMessage::decode(&bytes).expect("see the first test");
        assert!(!text.contains("decode error"), "{name}: {text}");
        assert!(text.contains(&format!("(xid=0x{xid:x})")), "{name}: {text}");
        // The vendor statistics of the capture are Nicira's.
        let wanted = if name.ends_with("vendor_stats_reply") { "NXST_".to_owned() } else { ofp_name(&value) };
        assert!(text.contains(&wanted), "{name}: {wanted} in {text}");
    }
}

#[test]
fn key_fields_are_those_that_ofp_print_shows() {
    use tandem_openflow::{of10, of13};
    let read = |name: &str| {
        let (_, bytes) = vectors().into_iter().find(|(n, _)| n == name).expect("vector");
        (AnyMessage::decode(&bytes).expect("valid").1, ofp_print(&bytes))
    };
    let (AnyMessage::V10(of10::Message::FeaturesReply(f)), Some(text)) = read("of10/ofpt_features_reply")
    else {
        return;
    };
    assert!(text.contains(&format!("dpid:{:016x}", f.datapath_id.0)), "{text}");
    assert!(text.contains(&format!("n_tables:{}, n_buffers:{}", f.n_tables, f.n_buffers)), "{text}");
    for port in &f.ports {
        let line = format!("({}): addr:{}", port.name.text(), port.hw_addr);
        assert!(text.contains(&line), "{line} in {text}");
    }
    let (AnyMessage::V13(of13::Message::FlowMod(f)), Some(text)) = read("of13/ofpt_flow_mod") else {
        panic!("not a flow mod")
    };
    assert!(text.contains(&format!("priority={}", f.priority)), "{text}");
    let [of13::Field::EthType(eth_type), of13::Field::VlanVid(vid)] = f.matching.fields[..] else {
        panic!("{:?}", f.matching)
    };
    assert!(text.contains(&format!("dl_vlan={},dl_type=0x{eth_type:04x}", vid.value & 0xfff)), "{text}");
    let (AnyMessage::V13(of13::Message::PacketIn(p)), Some(text)) = read("of13/ofpt_packet_in") else {
        panic!("not a packet in")
    };
    assert!(text.contains(&format!("total_len={} in_port=2", p.total_len)), "{text}");
}

#[test]
fn our_own_messages_of_every_type_are_read_back_and_ofp_print_takes_them() {
    let rare = samples::rare13().len();
    let list = samples::all();
    let common = list.len() - rare;
    for (i, (message, bytes)) in list.iter().enumerate() {
        assert_eq!(AnyMessage::decode(bytes).as_ref(), Ok(&(0x1234, message.clone())));
        if i >= common {
            continue;
        }
        let Some(text) = ofp_print(bytes) else { continue };
        assert!(!text.contains("decode error"), "{message:?}\n{text}");
        let wanted = ofp_name(message);
        assert!(text.contains(&wanted), "{wanted} in {text}\n{message:?}");
    }
}

#[test]
fn the_samples_have_every_type_number() {
    for (version, last) in [(1u8, 21u8), (4, 29)] {
        for kind in 0..=last {
            assert!(
                samples::all().iter().any(|(_, b)| b[0] == version && b[1] == kind),
                "version {version}, type {kind}"
            );
        }
    }
    let mut fields: Vec<u8> =
        samples::matches13().iter().flat_map(|m| m.fields.iter().map(|f| f.id().1)).collect();
    fields.sort_unstable();
    fields.dedup();
    assert_eq!(fields, (0..40).collect::<Vec<u8>>());
}
