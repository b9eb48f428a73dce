//! DHCP messages of `tests/data/cases`, from a VM's port through its switch's rules and its driver
//! to what the core answers.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests read files")]

use crate::fabric::{Fabric, Sender};
use crate::world::{SMALL, World, read};
use tandem_model::{DhcpReplyKind, Effect, Mac};

/// Whose address the cases have.
const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A case, as if this machine had sent it.
fn case(name: &str, from: Mac) -> Vec<u8> {
    let path = format!("{}/../../tests/data/cases/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let text = text.trim();
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hexadecimal");
    let mut frame: Vec<u8> = (0..text.len() / 2).map(byte).collect();
    for at in 0..frame.len() - 6 {
        if frame[at..at + 6] == CLIENT.0 {
            frame[at..at + 6].copy_from_slice(&from.0);
        }
    }
    frame
}

/// RFC 2131 section 4.3: a DISCOVER gets an OFFER whatever options stand before its type, with VID
/// 0 too (IEEE 802.1Q); a REQUEST to another server gets silence.
#[test]
fn discovers_are_offered_an_address_and_requests_to_others_are_left_to_them() {
    for one_table in [false, true] {
        let mut world = World::dark(read(SMALL), Default::default());
        world.one_table = one_table;
        world.connect_all();
        world.attach(Vec::new());
        let vm = world.vm();
        let mut fabric = Fabric::of(&world);
        let sender = Sender::vm(&vm);
        let cases = [
            ("dhcp-fqdn-before-type", Some(DhcpReplyKind::Offer)),
            ("dhcp-untypable-before-type", Some(DhcpReplyKind::Offer)),
            ("dhcp-type-in-sname", Some(DhcpReplyKind::Offer)),
            ("dhcp-priority-tagged", Some(DhcpReplyKind::Offer)),
            ("dhcp-priority-7-drop-eligible", Some(DhcpReplyKind::Offer)),
            ("dhcp-request-for-another-server", None),
            ("dhcp-request-split-server", None),
            ("dhcp-request-server-in-file", None),
            ("dhcp-vid-1", None),
            ("dhcp-two-tags-vid-0", None),
        ];
        for (name, wanted) in cases {
            let ended = sender.sends(&mut fabric, &case(name, vm.mac));
            world.forget();
            let seen = format!("{ended:?}");
            ended.events.into_iter().for_each(|event| world.tell(event));
            // What comes first: the VM asks for what it was offered.
            let answer = world.log.iter().find_map(|effect| match effect {
                Effect::SendDhcp { dhcp, .. } => Some((dhcp.kind, dhcp.mac, dhcp.address)),
                _ => None,
            });
            assert_eq!(answer, wanted.map(|kind| (kind, vm.mac, vm.address)), "{name}: {seen}");
        }
    }
}
