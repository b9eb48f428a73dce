//! Any bytes that a kernel may answer are parsed or skipped: netlink datagrams as interfaces, roots
//! and counters, and as the tree of an egress, which is then compared with a wanted one; and the
//! structures of ethtool.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use tandem_linux::{ethtool::parse, link, netlink, tc};

/// The wanted tree, with a class of each kind, so that no parsed tree equals it by chance.
fn wanted() -> tc::Tree {
    tc::Tree {
        default: 2,
        classes: vec![
            tc::Class::new(1, 0, 10_000_000, 10_000_000, 0),
            tc::Class::new(2, 1, 3_000_000, 10_000_000, 40),
            tc::Class::new(3, 1, 7_000_000, 10_000_000, 40).priority(1),
        ],
        filters: vec![tc::Filter::new(10, tc::Select::Dscp(46), 3)],
    }
}

/// Every request can be encoded, and decodes to itself.
fn sent(requests: &[netlink::Request]) {
    for request in requests {
        let mut message = NetlinkMessage::from(request.message.clone());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let _ = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).map(|m| match m.payload {
            NetlinkPayload::InnerMessage(_) => {}
            other => panic!("{}: {other:?}", request.what),
        });
    }
}

fuzz_target!(|input: (u32, &[u8])| {
    let (index, data) = input;
    let names = parse::strings(data);
    let _ = (parse::driver(data), parse::link(data), parse::mask_words(data), parse::set_size(data));
    let _ = (parse::statistics(data, &names), parse::features(data, &names));
    let _ = (tc::interfaces(data), netlink::error_text(data));
    // All lists come in one datagram here; each reader takes the items of its own kind.
    let Ok(items) = netlink::items(data) else { return };
    for root in tc::roots_in(&items).values() {
        let _ = root.is_classful();
        sent(&[root.request(index)]);
    }
    let _ = tc::classes_in(&items);
    let _ = link::interfaces(items.clone());
    // Half of the time, of an interface that is in the datagram.
    let there = tc::interfaces(data).first().copied().unwrap_or(index);
    let actual = tc::tree(there, &items, &items, &items);
    sent(&tc::difference(there, actual.as_ref(), None));
    sent(&tc::difference(there, actual.as_ref(), Some(&wanted())));
    if let Some(actual) = actual {
        let _ = actual.check();
        // A tree that was parsed and is encoded again is equal, so that nothing has to be changed.
        assert_eq!(actual.normal(), actual);
        assert!(tc::difference(there, Some(&actual), Some(&actual)).is_empty());
    }
});
