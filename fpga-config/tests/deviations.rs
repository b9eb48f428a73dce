//! The reasons why rules are not on the card, and the cases in which a card with the rule differs
//! from the table.

mod world;

use std::time::Duration;
use tandem_fpga_config::codec::ports::queue;
use tandem_fpga_config::codec::{PortMap, RejectReason, Rule, Transport};
use tandem_fpga_config::offload::{Options, Seen};
use tandem_openflow::table::FieldId;
use world::{World, ports, udp};

const NEVER: Duration = Duration::ZERO;
const IN_CARD: Options = Options {
    transport: Transport::Card,
    row_counters: None,
    idle: Duration::from_secs(60),
    reconsider: Duration::from_secs(5),
};

fn add(w: &mut World, text: &str) {
    assert!(w.add(text, NEVER, NEVER), "{text}");
}

fn id(w: &World, priority: u16) -> u64 {
    w.soft.tables[0].iter().find(|f| f.priority == priority).expect("a flow").id
}

#[test]
fn reasons_say_why_a_rule_is_in_software() {
    let map = ports(4, true, true);
    let why = |text: &str| {
        let line = tandem_fpga_config::codec::ofctl::Line::parse(text, Some(&map)).expect(text);
        let rule = Rule::new(&line.criteria(), &line.instructions().expect(text), &map, Transport::Software);
        rule.rows().map(|rows| rows.len())
    };
    assert_eq!(why("in_port=nf2c0,actions=output:nf2c1"), Ok(1));
    assert_eq!(why("actions=output:nf2c1"), Ok(2), "drop what comes from there, send the rest");
    assert_eq!(why("in_port=eth1,actions=output:1"), Err(RejectReason::FromOutside(7)));
    assert_eq!(why("actions=output:eth1"), Err(RejectReason::Outside(7)));
    assert_eq!(why("actions=flood"), Err(RejectReason::Outside(7)));
    assert_eq!(why("actions=controller"), Err(RejectReason::Reserved("the controller")));
    assert_eq!(why("in_port=3,actions=output:1,output:1"), Err(RejectReason::Twice(1)));
    assert_eq!(why("actions=output:1,mod_vlan_vid:5,output:2"), Err(RejectReason::Between));
    assert_eq!(
        why("actions=output:1,mod_vlan_vid:5"),
        Ok(2),
        "what is changed after the last output, nobody sees"
    );
    assert_eq!(why("actions=enqueue:1:3"), Err(RejectReason::Queue(3)));
    assert_eq!(why("actions=strip_vlan,mod_vlan_vid:5,output:1"), Err(RejectReason::Retag));
    assert_eq!(why("tcp,tp_dst=80,actions=output:1"), Err(RejectReason::Fragments(FieldId::L4Dst)));
    assert_eq!(why("tcp,actions=mod_nw_dst:10.0.0.1,output:1"), Err(RejectReason::FragmentsChanged));
    assert_eq!(why("icmp,actions=mod_nw_src:10.0.0.1,output:1"), Err(RejectReason::FragmentsChanged));
    for (of, action) in [
        ("udp,", "mod_nw_dst:10.0.0.1"),
        ("ip,", "mod_nw_src:10.0.0.1"),
        ("in_port=3,", "mod_nw_dst:10.0.0.1"),
        ("udp,", "mod_tp_dst:53"),
        ("ip,", "mod_tp_src:53"),
    ] {
        let text = format!("{of}actions={action},output:1");
        assert_eq!(why(&text), Err(RejectReason::UdpChecksum), "{text}");
    }
    assert_eq!(why("actions=mod_nw_tos:32,output:1"), Err(RejectReason::Ipv6Changed));
    assert_eq!(why("in_port=3,ip,actions=mod_nw_tos:32,output:1"), Ok(1));
    let rejected = PortMap::new(map.iter().cloned().collect(), false).expect("good ports");
    let line = world::World::new(rejected.clone(), Options::default());
    let (criteria, instructions) = {
        let line = line.line("in_port=eth1,actions=output:nf2c0");
        (line.criteria(), line.instructions().expect("good"))
    };
    let why = line.offload.admits(&criteria, &instructions);
    assert_eq!(why, Err(RejectReason::NoSoftware(Box::new(RejectReason::IntoCard { from: 7 }))));
}

#[test]
fn deviations_are_these() {
    let differs = |options: Options, rules: &[&str], frame: &[u8]| {
        let mut w = World::new(ports(4, false, true), options);
        rules.iter().for_each(|rule| add(&mut w, rule));
        w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
        let wanted = world::verdict(&mut w.alone.clone(), &w.ports, frame, 3, w.now);
        let mut out = w.card.packet(queue(0), frame, w.now);
        out.sort();
        // Packets that reach software are decided rightly there.
        out != [(1, frame.to_vec())] && world::Verdict::Card(out) != wanted
    };
    // 1. Later fragments: their payload is matched as ports, if that is allowed.
    let rules = ["priority=9,udp,tp_dst=2000,actions=output:1", "priority=8,ip,actions=output:2"];
    assert!(!differs(IN_CARD, &rules, &udp(2, 0)), "a whole packet");
    assert!(differs(IN_CARD, &rules, &udp(2, 10)), "a later fragment");
    assert!(!differs(Options::default(), &rules, &udp(2, 10)), "by default it is right");
    let mut first = udp(2, 0x2000);
    first[40..42].copy_from_slice(&[1, 2]);
    let rules = ["priority=9,tcp,actions=mod_nw_dst:10.0.0.9,output:1"];
    let tcp = |mut frame: Vec<u8>| {
        frame[23] = 6;
        frame[50..52].copy_from_slice(&[1, 2]);
        frame
    };
    assert!(!differs(IN_CARD, &rules, &tcp(first.clone())), "a first fragment has its ports and checksum");
    let later = tcp(udp(2, 10));
    assert!(differs(IN_CARD, &rules, &later), "payload changed as if it were a checksum");
    assert!(!differs(Options::default(), &rules, &later), "by default it is right");
    // A datagram without a checksum would get one: packets that may be UDP are changed in software
    // only.
    let rules = ["priority=9,ip,actions=mod_nw_dst:10.0.0.9,output:1"];
    let none = udp(2, 0);
    assert_eq!(none[40..42], [0, 0]);
    for frame in [none, first] {
        assert!(!differs(IN_CARD, &rules, &frame), "{frame:02x?}");
    }
    // 2. Service tags: the card does not recognise them.
    let mut service = udp(2, 0);
    service.splice(12..12, [0x88, 0xa8, 0, 5]);
    let rules = ["priority=9,dl_vlan=5,actions=output:1", "priority=8,actions=output:2"];
    assert!(differs(Options::default(), &rules, &service));
    // 3. ARP opcodes above 255: the card's key has the low 8 bits.
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 1, 1]);
    arp.resize(60, 0);
    let rules = ["priority=9,arp,nw_proto=1,actions=output:1", "priority=8,actions=output:2"];
    assert!(differs(Options::default(), &rules, &arp));
    // 4. IPv4 of another version or with a broken header: the card reads its addresses
    //    nevertheless.
    let mut broken = udp(2, 0);
    broken[14] = 0x55;
    let rules = ["priority=9,ip,nw_dst=10.0.0.2,actions=output:1", "priority=8,actions=output:2"];
    assert!(differs(Options::default(), &rules, &broken));
    // 5. ARP for other hardware.
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 6, 8, 0, 6, 4, 0, 1]);
    arp.resize(60, 0);
    let rules = ["priority=9,arp,nw_proto=1,actions=output:1", "priority=8,actions=output:2"];
    assert!(differs(Options::default(), &rules, &arp));
    // 6. 802.3 with a SNAP header: software reads the type in it, the card takes the length as the
    //    type. Frames decided in software get no exact entry, and a rule for frames without a type
    //    stays in software, with the rules that it hides.
    let mut snap = udp(2, 0);
    snap.splice(12..12, [0, 54, 0xaa, 0xaa, 3, 0, 0, 0]);
    let rules = ["priority=9,ip,actions=output:1", "priority=8,actions=output:2"];
    assert!(differs(Options::default(), &rules, &snap));
    let mut w = World::new(ports(4, false, true), Options::default());
    rules.iter().for_each(|rule| add(&mut w, rule));
    w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    assert_eq!(w.offload.except(id(&w, 9)), Some(&RejectReason::Snap), "and says so");
    assert_eq!(w.offload.except(id(&w, 8)), None);
    let rules = ["priority=9,dl_type=0x05ff,actions=output:1", "priority=8,actions=output:2"];
    let mut llc = vec![0xff; 12];
    llc.extend([0, 3, 0x42, 0x42, 3]);
    llc.resize(60, 0);
    assert!(!differs(Options::default(), &rules, &llc), "it comes to software");
    let mut w = World::new(ports(4, false, true), Options::default());
    rules.iter().for_each(|rule| add(&mut w, rule));
    w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    let seen = w.offload.packet_seen(&llc, 3, w.now, &mut w.card).expect("it answers");
    assert_eq!(seen, Seen::Nothing, "what is behind the length decides");
    // 7. An IPv4 header length below 5: the card drops the frame, whatever port it came from.
    let mut short = udp(2, 0);
    short[14] = 0x43;
    let rules = ["priority=8,in_port=3,actions=output:2"];
    assert!(differs(Options::default(), &rules, &short));
}
