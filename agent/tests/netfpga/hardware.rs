//! Without CPU ports, like a card without its driver: flows that fit the card are accepted, others
//! are refused.

use crate::frame;
use crate::host::Host;
use crate::support::{is_root, wait};
use crate::talk::{CONTROLLER, across, flow};
use tandem_openflow::of13::{Field, Masked, Message};

/// OFPET_FLOW_MOD_FAILED.
const FLOW_MOD_FAILED: u16 = 5;

#[test]
fn what_the_card_cannot_is_refused_and_what_it_can_forwards() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("cpu_ports = false");
    let mut talk = host.talk("a");
    let lldp = flow(50, 50, vec![Field::EthType(0x88cc)], CONTROLLER);
    let mut rest = flow(1, 0, vec![], CONTROLLER);
    for inexpressible in [lldp, rest.clone(), across(1, 3), across(3, 1)] {
        assert_eq!(talk.refused(inexpressible.clone()), FLOW_MOD_FAILED, "{inexpressible:?}");
    }
    assert!(host.log("a").contains("no path from the card to software"), "{}", host.log("a"));
    talk.install([across(1, 2), across(2, 1), across(3, 4), across(4, 3)]);
    assert_eq!(host.ping(1, 2, 5), 5);
    assert_eq!(host.ping(3, 4, 3), 3, "plain NICs are software's");
    talk.agree(12, 1, 5);
    let places = host.places("a");
    assert!(places[&12].starts_with("hardware row ") && places.len() == 4, "{places:?}");
    let about = host.view("a").about;
    assert!(
        about[0].contains("3 of 32 rows") && about[0].contains("no CPU ports: hardware only"),
        "{about:?}"
    );

    // Packets without a flow do not come in; nothing is sent to software.
    talk.install([flow(12, 100, vec![Field::InPort(1), Field::EthType(0x800)], 2)]);
    rest.command = 3;
    rest.priority = 100;
    rest.matching = across(2, 1).matching;
    talk.install([rest]);
    let (received, lost) = (talk.port(2).rx_packets, talk.port(1).tx_dropped);
    host.send(2, &frame(2));
    wait("the frame at the MAC", || (talk.port(2).rx_packets > received).then_some(()));
    talk.packet_out(1, &frame(1));
    talk.send(&Message::BarrierRequest);
    let before = talk.all_until(21);
    assert!(before.iter().all(|m| m[1] != 10), "a packet-in: {before:02x?}");
    wait("the packet-out at the losses", || (talk.port(1).tx_dropped > lost).then_some(()));
}

#[test]
fn flows_for_which_the_card_is_too_small_are_nowhere_and_said() {
    if !is_root() {
        return;
    }
    let (host, _agent) = Host::with_model("cpu_ports = false");
    let mut talk = host.talk("a");
    let many = (0..40u8).map(|n| {
        let mac = tandem_model::Mac([2, 0, 0, 9, 9, n]);
        flow(
            1000 + u64::from(n),
            200,
            vec![Field::InPort(1), Field::EthDst(Masked { value: mac, mask: None })],
            2,
        )
    });
    talk.install(many);
    let places = host.places("a");
    let there = places.values().filter(|p| p.starts_with("hardware row ")).count();
    assert_eq!((there, places.len()), (31, 40), "{places:?}");
    let nowhere = places.values().filter(|p| p.starts_with("nowhere: ") && p.contains("free")).count();
    assert_eq!(nowhere, 9, "{places:?}");
    let told = || host.log("a").matches("is in no hardware").count();
    wait("it is told", || (told() == 9).then_some(()));
}
