//! OpenFlow 1.0: the effects of actions on packets, and their outputs. `tests/actions.py`,
//! `tests/pktact.py`, and the ports and messages of `basic.py` and `message_types.py` (OF 1.0
//! sections 3.3, 5.2.4, 5.3.3, 5.3.6 and 5.4.1).

use super::bench::{Bench, NONE, mac};
use super::{frame, tagged};
use crate::frames::checksums_are_right;
use tandem_model::Mac;
use tandem_openflow::of10::flow::command;
use tandem_openflow::of10::{
    Action, FlowMod, Match, Message, PacketIn, PacketOut, PortMod, SwitchConfig, port,
};
use tandem_openflow::switch::{ConnId, config};
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{AnyMessage, header};

/// Reason of PACKET_IN.
const ACTION: u8 = 1;
/// Offsets in a frame without a tag.
const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const TOS: usize = 15;
const NW_SRC: usize = 26;
const NW_DST: usize = 30;
const TP_SRC: usize = 34;
const TP_DST: usize = 36;
const NEW: [u8; 6] = [6, 5, 4, 3, 2, 1];

fn to(port: u16) -> Action {
    Action::Output { port, max_len: 0xffff }
}

fn ports(list: &[u16]) -> Vec<Action> {
    list.iter().map(|p| to(*p)).collect()
}

/// A switch with one flow for all packets.
fn with(actions: Vec<Action>) -> (Bench, ConnId) {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V10);
    let flow = FlowMod {
        matching: Match::any(),
        cookie: 1,
        command: command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 5,
        buffer_id: NONE,
        out_port: port::NONE,
        flags: 0,
        actions,
    };
    assert_eq!(bench.ask(conn, AnyMessage::V10(Message::FlowMod(flow))), []);
    (bench, conn)
}

/// The output for a frame that comes in by port 1: ports and bytes.
fn sent(bench: &mut Bench, bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    bench.switch.on_packet(1, &mut bytes.to_vec(), bench.now, &mut bench.world);
    std::mem::take(&mut bench.world.frames).into_iter().map(|(port, _, frame)| (port, frame)).collect()
}

fn told(bench: &mut Bench) -> Vec<PacketIn> {
    let of = |(_, _, m)| match m {
        AnyMessage::V10(Message::PacketIn(p)) => Some(p),
        _ => None,
    };
    bench.heard().into_iter().filter_map(of).collect()
}

/// `NoAction`, `Announcement`, `ForwardAll`, `ForwardFlood`, `ForwardInport`, `ForwardLocal`;
/// `Direct*`, `Flood*`, `All*`, `DirectMC*`.
#[test]
fn a_packet_goes_where_its_actions_say() {
    let cases: [(&[u16], &[u32]); 12] = [
        (&[], &[]),
        (&[2], &[2]),
        (&[2, 3], &[2, 3]),
        (&[3, 2, 3], &[3, 2, 3]),
        (&[port::ALL], &[2, 3]),
        (&[port::FLOOD], &[2, 3]),
        (&[port::IN_PORT], &[1]),
        // The input port's own number drops the packet (section 3.3: sending back takes
        // OFPP_IN_PORT).
        (&[1], &[]),
        (&[1, 2], &[2]),
        (&[port::FLOOD, port::IN_PORT], &[2, 3, 1]),
        (&[port::ALL, port::IN_PORT], &[2, 3, 1]),
        (&[port::LOCAL, 2], &[2]),
    ];
    let plain = frame("TCP over IPv4", &[]);
    for (actions, wanted) in cases {
        let (mut bench, _) = with(ports(actions));
        let all = sent(&mut bench, &plain);
        assert_eq!(all.iter().map(|(p, _)| *p).collect::<Vec<_>>(), wanted, "{actions:?}");
        assert!(all.iter().all(|(_, f)| *f == plain), "{actions:?}: other bytes");
        // The same by PACKET_OUT without a flow: `PacketOut`, `PacketOutMC`, `DirectPacket`.
        let (mut bench, conn) = with(vec![]);
        let data = Bytes(plain.clone());
        let out = PacketOut { buffer_id: NONE, in_port: 1, actions: ports(actions), data };
        assert_eq!(bench.ask(conn, AnyMessage::V10(Message::PacketOut(out))), []);
        let all = std::mem::take(&mut bench.world.frames);
        assert_eq!(all.iter().map(|(p, ..)| *p).collect::<Vec<_>>(), wanted, "{actions:?} of PACKET_OUT");
    }
}

/// `DirectPacketQueue`, `DirectPacketControllerQueue`, `FloodMinusPort`, `PortModFlood`,
/// `PortModFwd`, `PortModPacketIn`.
#[test]
fn queues_are_used_and_ports_obey_their_configuration() {
    let queue = Action::Enqueue { port: 2, pad: Pad::default(), queue_id: 1 };
    let (mut bench, _) = with(vec![queue, to(port::CONTROLLER)]);
    assert_eq!(bench.packet(1, &frame("TCP over IPv4", &[])), [(2, 1)]);
    assert_eq!(told(&mut bench).len(), 1);

    let (mut bench, conn) = with(ports(&[port::FLOOD]));
    let set = |bench: &mut Bench, port_no: u16, bits, mask| {
        let hw_addr = Mac(mac(port_no.into()));
        let m = PortMod { port_no, hw_addr, config: bits, mask, advertise: 0, pad: Pad::default() };
        assert_eq!(bench.ask(conn, AnyMessage::V10(Message::PortMod(m))), []);
    };
    let way = |b: &mut Bench| sent(b, &frame("TCP over IPv4", &[])).iter().map(|f| f.0).collect::<Vec<_>>();
    set(&mut bench, 3, config::NO_FLOOD, config::NO_FLOOD);
    assert_eq!(way(&mut bench), [2]);
    set(&mut bench, 3, 0, config::NO_FLOOD);
    set(&mut bench, 2, config::NO_FWD, config::NO_FWD);
    assert_eq!(way(&mut bench), [3]);
    set(&mut bench, 2, 0, config::NO_FWD);
    assert_eq!(way(&mut bench), [2, 3]);
}

/// `ForwardController`, `PacketInSizeAction`, `PacketInBodyAction`, `PacketInSizeMiss`,
/// `PacketInBodyMiss`, `DirectPacketController`, `PacketIn`, `PacketInDefaultDrop`.
#[test]
fn a_controller_gets_as_much_of_a_packet_as_it_asked_for() {
    let plain = frame("TCP over IPv4", &[]);
    for most in [16, 60, 0xffff] {
        let (mut bench, _) = with(vec![Action::Output { port: port::CONTROLLER, max_len: most }]);
        assert_eq!(sent(&mut bench, &plain), []);
        let [one] = &told(&mut bench)[..] else { panic!("one message") };
        assert_eq!((one.in_port, one.reason, usize::from(one.total_len)), (1, ACTION, plain.len()));
        assert_eq!(one.data.0, plain[..plain.len().min(most.into())]);
        assert_eq!(one.buffer_id == NONE, usize::from(most) >= plain.len(), "what is cut is kept");
    }
    for most in [0, 32, 0xffff] {
        let mut bench = Bench::new();
        let conn = bench.connect(header::V10);
        let set = Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: most });
        assert_eq!(bench.ask(conn, AnyMessage::V10(set)), []);
        assert_eq!(sent(&mut bench, &plain), []);
        let [one] = &told(&mut bench)[..] else { panic!("one message") };
        assert_eq!((one.reason, one.data.0.len()), (0, plain.len().min(most.into())));
    }
}

/// Actions, each with a frame before and after it, without checksums.
fn changes() -> Vec<(Action, Vec<u8>, Vec<u8>)> {
    let mut list = Vec::new();
    let mut change = |action: Action, kind: &str, at: usize, bytes: &[u8]| {
        list.push((action, frame(kind, &[]), frame(kind, &[(at, bytes)])));
    };
    for kind in ["TCP over IPv4", "UDP over IPv4", "ICMP", "TCP over IPv6", "ARP"] {
        change(Action::SetDlSrc(Mac(NEW), Pad::default()), kind, SOURCE, &NEW);
        change(Action::SetDlDst(Mac(NEW), Pad::default()), kind, DESTINATION, &NEW);
    }
    for kind in ["TCP over IPv4", "UDP over IPv4", "ICMP"] {
        change(Action::SetNwSrc([10, 9, 8, 7].into()), kind, NW_SRC, &[10, 9, 8, 7]);
        change(Action::SetNwDst([10, 9, 8, 7].into()), kind, NW_DST, &[10, 9, 8, 7]);
        // The two lower bits (ECN) are not set by the action.
        let ecn = frame(kind, &[])[TOS] & 3;
        change(Action::SetNwTos(0xb8, Pad::default()), kind, TOS, &[0xb8 | ecn]);
    }
    for kind in ["TCP over IPv4", "UDP over IPv4"] {
        change(Action::SetTpSrc(1234, Pad::default()), kind, TP_SRC, &[4, 0xd2]);
        change(Action::SetTpDst(1234, Pad::default()), kind, TP_DST, &[4, 0xd2]);
    }
    for kind in ["TCP over IPv4", "TCP over IPv6", "ARP"] {
        let plain = || frame(kind, &[]);
        let tag = |vid, pcp| tagged(plain(), vid, pcp);
        list.push((Action::SetVlanVid(7, Pad::default()), plain(), tag(7, 0)));
        list.push((Action::SetVlanPcp(5, Pad::default()), plain(), tag(0, 5)));
        list.push((Action::SetVlanVid(7, Pad::default()), tag(9, 3), tag(7, 3)));
        list.push((Action::SetVlanPcp(5, Pad::default()), tag(9, 3), tag(9, 5)));
        list.push((Action::StripVlan(Pad::default()), tag(9, 3), plain()));
        list.push((Action::StripVlan(Pad::default()), plain(), plain()));
    }
    list
}

/// Zeroes the checksums of an IPv4 frame; they are checked separately.
fn without_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = if bytes[12..14] == [0x81, 0] { 18 } else { 14 };
    if bytes[at - 2..at] == [8, 0] {
        bytes[at + 10..at + 12].fill(0);
        let sum = match bytes[at + 9] {
            6 => Some(at + 36),
            17 => Some(at + 26),
            _ => None,
        };
        if let Some(sum) = sum {
            bytes[sum..sum + 2].fill(0);
        }
    }
    bytes
}

/// `AddVlanTag`, `ModifyVlanTag`, `VlanPrio1`, `VlanPrio2`, `StripVLANTag*`, `ModifyL2Src`,
/// `ModifyL2Dst`, `ModifyL3Src`, `ModifyL3Dst`, `ModifyL4Src*`, `ModifyL4Dst*`, `ModifyTos`,
/// `ModifyVID*`, `ModifyVlanPcp`.
#[test]
fn an_action_changes_its_field_and_nothing_else() {
    for (action, before, after) in changes() {
        let (mut bench, _) = with(vec![action.clone(), to(2)]);
        let all = sent(&mut bench, &before);
        let [(2, got)] = &all[..] else { panic!("{action:?}: {all:?}") };
        assert_eq!(without_checksums(got), without_checksums(&after), "{action:?}");
        assert!(checksums_are_right(got), "{action:?}: a wrong checksum");
    }
}

/// `ModifyAll`, `ModifyL2DstMC`, `ModifyL2SrcMC`, `ModifyL2SrcDstMC`, `ModifyL2DstIngress*`,
/// `ModifyL2DstVIDMC`, `ModifyVIDToIngress`, `MixedVLAN`.
#[test]
fn actions_are_done_in_their_order() {
    let dst = |last| Action::SetDlDst(Mac([6, 5, 4, 3, 2, last]), Pad::default());
    let actions = vec![
        to(2),
        dst(1),
        Action::SetVlanVid(7, Pad::default()),
        to(3),
        Action::StripVlan(Pad::default()),
        dst(2),
        Action::SetDlSrc(Mac(NEW), Pad::default()),
        Action::SetTpDst(1234, Pad::default()),
        to(port::IN_PORT),
    ];
    let (mut bench, _) = with(actions);
    let plain = frame("TCP over IPv4", &[]);
    let all = sent(&mut bench, &plain);
    let at = |n: usize| (all[n].0, without_checksums(&all[n].1));
    assert_eq!(all.len(), 3);
    assert_eq!(all[0], (2, plain));
    let second = tagged(frame("TCP over IPv4", &[(DESTINATION, &[6, 5, 4, 3, 2, 1])]), 7, 0);
    assert_eq!(at(1), (3, without_checksums(&second)));
    let third =
        frame("TCP over IPv4", &[(DESTINATION, &[6, 5, 4, 3, 2, 2]), (SOURCE, &NEW), (TP_DST, &[4, 0xd2])]);
    assert_eq!(at(2), (1, without_checksums(&third)));
    assert!(all.iter().all(|(_, f)| checksums_are_right(f)));
}
