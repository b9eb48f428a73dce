//! Whatever bytes a kernel answers are read or left, the whole way: netlink's datagrams to
//! interfaces, roots and counters, and to the tree of an egress, whose difference to what is wanted
//! is then asked for; and the structures of ethtool.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use tandem_linux::{ethtool::parse, link, netlink, tc};

/// What the tree is made into: a class of each kind, so that nothing that was read equals it by
/// chance.
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

/// Every request can be laid out as bytes, and reads back as what it is.
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
    // All lists come in one datagram here: each reader takes what is its own.
    let Ok(items) = netlink::items(data) else { return };
    for root in tc::roots_in(&items).values() {
        let _ = root.is_classful();
        sent(&[root.request(index)]);
    }
    let _ = tc::classes_in(&items);
    let _ = link::interfaces(items.clone());
    // Of an interface that is in it, as often as not.
    let there = tc::interfaces(data).first().copied().unwrap_or(index);
    let actual = tc::tree(there, &items, &items, &items);
    sent(&tc::difference(there, actual.as_ref(), None));
    sent(&tc::difference(there, actual.as_ref(), Some(&wanted())));
    if let Some(actual) = actual {
        let _ = actual.check();
        // What was read and is written again is the same: nothing is to be done.
        assert_eq!(actual.normal(), actual);
        assert!(tc::difference(there, Some(&actual), Some(&actual)).is_empty());
    }
});
