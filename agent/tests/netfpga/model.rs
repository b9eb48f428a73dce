//! A card in the agent's memory.

use crate::frame;
use crate::host::Host;
use crate::support::{is_root, wait};
use crate::talk::{CONTROLLER, across, flow};
use std::net::Ipv4Addr;
use tandem_openflow::of13::{self, Field, Masked, Message};
use tandem_openflow::wire::{Bytes, Pad};

#[test]
fn rows_forward_and_their_counters_are_the_flows() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("");
    let mut talk = host.talk("a");
    assert_eq!(host.ping(1, 2, 1), 0, "without flows nothing is forwarded");
    let before = talk.port(1).rx_packets;
    talk.install([across(1, 2), across(2, 1), flow(50, 50, vec![Field::EthType(0x88cc)], CONTROLLER)]);
    // The rows are written before the barrier is answered: no packet is lost, and none was counted
    // before.
    assert_eq!(host.ping(1, 2, 5), 5);
    wait("flow and port count the same", || {
        let (flow, port) = (talk.packets(12), talk.port(1).rx_packets);
        (flow + before == port && flow >= 5).then_some(())
    });
    let stats = talk.flows().into_iter().find(|f| f.cookie == 21).expect("the flow");
    // Five replies of 98 bytes, and at least one of ARP.
    assert!(stats.packet_count >= 6 && stats.byte_count >= 5 * 98 + 42, "{stats:?}");
    let port = talk.port(2);
    assert!(port.rx_packets >= 6 && port.tx_packets >= 6 && port.tx_bytes >= 5 * 98, "{port:?}");

    let places = host.places("a");
    assert!(
        places[&12].starts_with("hardware row ") && places[&21].starts_with("hardware row "),
        "{places:?}"
    );
    assert!(places[&50].starts_with("software: it sends to the controller"), "{places:?}");
    let text = host.say("a", &["flows"]).1;
    for words in [
        "card model: openflow-switch, ",
        " of 32 rows, 0 exact entries, software behind it",
        "in=hardware row ",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }

    // Removing a flow removes its row, before the barrier is answered.
    talk.install([of13::FlowMod { command: 3, ..across(1, 2) }]);
    assert_eq!(host.ping(1, 2, 1), 0);
    assert_eq!(host.places("a").len(), 2);
}

#[test]
fn what_crosses_to_a_plain_nic_goes_through_software_both_ways() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("");
    let mut talk = host.talk("a");
    talk.install([across(1, 3), across(3, 1), across(2, 4), across(4, 2)]);
    assert_eq!(host.ping(1, 3, 5), 5);
    assert_eq!(host.ping(4, 2, 5), 5);
    // No packet is counted twice, by the card's row to software and by software.
    talk.agree(13, 1, 6);
    talk.agree(24, 2, 6);
    let places = host.places("a");
    assert!(places[&13].contains("it sends to port 3, which is not a port of the card"), "{places:?}");
    assert!(places[&31].starts_with("software: "), "{places:?}");
    // Packets between plain NICs do not use the card.
    talk.install([across(3, 4), across(4, 3)]);
    assert_eq!(host.ping(3, 4, 3), 3);
}

#[test]
fn packets_come_in_from_and_go_out_to_ports_of_the_card() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("");
    let mut talk = host.talk("a");
    talk.install([flow(50, 50, vec![Field::EthType(0x88cc)], CONTROLLER), across(1, 2)]);
    // Below a flow in the card its packets would not reach software: the flow has a higher
    // priority.
    talk.install([of13::FlowMod { priority: 10, ..flow(9, 10, vec![], 4) }]);
    host.send(2, &frame(2));
    let packet = talk.packet_in();
    assert_eq!((packet.data, packet.matching.fields), (Bytes(frame(2)), vec![Field::InPort(2)]));
    host.hears(1, &frame(7), || talk.packet_out(1, &frame(7)));
    host.hears(3, &frame(8), || talk.packet_out(3, &frame(8)));

    // The longest frames too; none of them is taken as a fault of the card.
    let mut long = frame(9);
    long.resize(1514, 9);
    host.hears(2, &long, || host.send(1, &long));
    host.hears(2, &long, || talk.packet_out(2, &long));
    assert_eq!(host.view("a").about.len(), 1, "{:?}", host.view("a").about);
}

#[test]
fn links_that_flap_are_told_and_used_again() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("");
    let mut talk = host.talk("a");
    talk.install([across(1, 2), across(2, 1)]);
    host.reach(1, 2);
    // OFPT_PORT_STATUS (OF 1.3.5 section 7.4.3): the reason at 8, the port from 16 on: its number,
    // its state at 36.
    let seen = |m: &[u8]| (m[8], m[19], m[16 + 39] & 1);
    let mut last = Vec::new();
    for _ in 0..3 {
        host.plug(2, false);
        assert_eq!(seen(&talk.until(12)), (of13::port::reason::MODIFY, 2, 1), "port 2 has no link");
        host.plug(2, true);
        last = talk.until(12);
        assert_eq!(seen(&last), (of13::port::reason::MODIFY, 2, 0), "it has one again");
    }
    host.reach(1, 2);
    // A controller turns the port off and on; then only its receiver.
    let mac = last[24..30].try_into().expect("six bytes");
    let mut port_mod = |config, mask| {
        talk.send(&Message::PortMod(of13::PortMod {
            port_no: 2,
            pad: Pad::default(),
            hw_addr: tandem_model::Mac(mac),
            pad2: Pad::default(),
            config,
            mask,
            advertise: 0,
            pad3: Pad::default(),
        }));
        talk.barrier();
    };
    // OFPPC_PORT_DOWN, OFPPC_NO_RECV, OFPPC_NO_FWD.
    for bit in [1, 4, 32] {
        port_mod(bit, bit);
        wait("the port is off", || (host.ping(1, 2, 1) == 0).then_some(()));
        port_mod(0, bit);
        host.reach(1, 2);
    }
}

#[test]
fn traffic_in_the_card_keeps_flows_alive_and_its_end_times_them_out() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("");
    let mut talk = host.talk("a");
    let lives = |flow| of13::FlowMod { idle_timeout: 2, flags: 1, ..flow };
    talk.install([lives(across(1, 2)), lives(across(2, 1))]);
    // 6 s, three times the idle time-out.
    assert_eq!(host.ping(1, 2, 30), 30);
    let flows = talk.flows();
    assert!(flows.len() == 2 && flows.iter().all(|f| f.duration_sec >= 5), "{flows:?}");
    assert!(host.places("a")[&12].starts_with("hardware row "));
    for _ in 0..2 {
        let removed = talk.removed();
        assert!(removed.reason == 0 && removed.packet_count >= 30, "{removed:?}");
    }
    // A flow without packets expires too, with its row.
    talk.install([lives(across(1, 2))]);
    let removed = talk.removed();
    assert_eq!((removed.reason, removed.packet_count), (0, 0));
    assert_eq!(host.view("a").flows.len(), 0);
    // A hard time-out does not depend on packets.
    talk.install([of13::FlowMod { hard_timeout: 2, flags: 1, ..across(1, 2) }]);
    host.ping(1, 2, 3);
    let removed = talk.removed();
    assert!(removed.reason == 1 && removed.packet_count >= 3, "{removed:?}");
}

#[test]
fn more_flows_than_rows_are_right_and_the_used_ones_come_into_the_card() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("");
    let mut talk = host.talk("a");
    // 60 unused flows above the two used ones, all of which fit the card.
    let unused = (0..60u32).map(|n| {
        let fields = vec![
            Field::InPort(1),
            Field::EthType(0x800),
            Field::Ipv4Dst(Masked { value: Ipv4Addr::from_bits(0x0a02_0000 + n), mask: None }),
        ];
        flow(1000 + u64::from(n), 200, fields, 2)
    });
    talk.install(unused.chain([across(1, 2), across(2, 1)]));
    assert_eq!(host.ping(1, 2, 5), 5);
    let text = host.say("a", &["flows"]).1;
    assert!(text.contains("in=software: it needs") || text.contains("exact table"), "{text}");
    talk.agree(12, 1, 5);
    talk.agree(21, 2, 5);
}
