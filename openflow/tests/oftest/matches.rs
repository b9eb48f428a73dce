//! `tests-1.3/match.py`: for each match, packets that match and packets that do not (OF 1.3.5
//! section 7.2.3.7).

use super::bench::{Bench, flow13};
use super::{frame, tagged};
use tandem_model::Mac;
use tandem_openflow::header;
use tandem_openflow::of13::{self, Action, Field, Masked, Match};

/// A match, with packets that match and packets that do not.
struct Case {
    /// OFTest's class.
    name: &'static str,
    fields: Vec<Field>,
    matching: Vec<Vec<u8>>,
    others: Vec<Vec<u8>>,
}

fn case(name: &'static str, fields: Vec<Field>, matching: Vec<Vec<u8>>, others: Vec<Vec<u8>>) -> Case {
    Case { name, fields, matching, others }
}

const TCP: &str = "TCP over IPv4";
const TCP6: &str = "TCP over IPv6";
const UDP: &str = "UDP over IPv4";
const UDP6: &str = "UDP over IPv6";
const PING: &str = "ICMP";
const PING6: &str = "ICMPv6";
const ARP: &str = "ARP";

fn plain(kind: &str) -> Vec<u8> {
    frame(kind, &[])
}

/// Offsets of the fields in these frames.
mod at {
    pub(super) const TARGET: usize = 0;
    pub(super) const SOURCE: usize = 6;
    pub(super) const TOS: usize = 15;
    pub(super) const FROM4: usize = 26;
    pub(super) const TO4: usize = 30;
    pub(super) const PORTS4: usize = 34;
    pub(super) const FROM6: usize = 22;
    pub(super) const TO6: usize = 38;
    pub(super) const PORTS6: usize = 54;
    pub(super) const OPCODE: usize = 20;
    pub(super) const ARP_FROM: usize = 28;
    pub(super) const ARP_TO: usize = 38;
}

fn exact_mac(last: [u8; 6]) -> Masked<Mac> {
    Masked::exact(Mac(last))
}

fn ethernet() -> Vec<Case> {
    let mut all = Vec::new();
    for (names, place, field) in [
        (
            ["EthDst", "EthDstBroadcast", "EthDstMulticast", "EthDstMasked"],
            at::TARGET,
            Field::EthDst as fn(_) -> _,
        ),
        (
            ["EthSrc", "EthSrcBroadcast", "EthSrcMulticast", "EthSrcMasked"],
            at::SOURCE,
            Field::EthSrc as fn(_) -> _,
        ),
    ] {
        let with = |mac: [u8; 6]| frame(TCP, &[(place, &mac)]);
        let broadcast = [0xff; 6];
        let multicast = [1, 0, 0x5e, 0xed, 0x99, 2];
        all.push(case(
            names[0],
            vec![field(exact_mac([0, 1, 2, 3, 4, 5]))],
            vec![with([0, 1, 2, 3, 4, 5])],
            vec![with([0, 1, 2, 3, 4, 6]), with([1, 1, 2, 3, 4, 5]), with([2, 1, 2, 3, 4, 5])],
        ));
        all.push(case(
            names[1],
            vec![field(exact_mac(broadcast))],
            vec![with(broadcast)],
            [0xfd, 0xfe].map(|first| with([first, 0xff, 0xff, 0xff, 0xff, 0xff])).to_vec(),
        ));
        all.push(case(
            names[2],
            vec![field(exact_mac(multicast))],
            vec![with(multicast)],
            vec![with([1, 0, 0x5e, 0xed, 0x99, 3]), with([0, 0, 0x5e, 0xed, 0x99, 2]), with(broadcast)],
        ));
        let mask = Mac([0, 0xff, 0xff, 0x0f, 0xff, 0xff]);
        all.push(case(
            names[3],
            vec![field(Masked { value: Mac([0, 1, 2, 3, 4, 5]), mask: Some(mask) })],
            vec![with([0, 1, 2, 3, 4, 5]), with([0xff, 1, 2, 0xf3, 4, 5])],
            vec![with([0, 2, 2, 3, 4, 5]), with([0, 1, 2, 7, 4, 5])],
        ));
    }
    // 802.3 frames have the type of their SNAP header, or 0x05ff.
    let llc = frame("UDP in SNAP", &[(14, &[0x33, 0x44])]);
    let tag = |f: Vec<u8>| tagged(f, 2, 3);
    all.push(case(
        "EthTypeIPv4",
        vec![Field::EthType(0x0800)],
        vec![
            plain(TCP),
            plain(UDP),
            plain(PING),
            plain("UDP in SNAP"),
            tag(plain(TCP)),
            tag(plain("UDP in SNAP")),
        ],
        vec![plain(ARP), plain(TCP6), llc.clone()],
    ));
    all.push(case(
        "EthTypeIPv6",
        vec![Field::EthType(0x86dd)],
        vec![plain(TCP6), plain(UDP6), tag(plain(PING6))],
        vec![plain(TCP), plain(ARP)],
    ));
    all.push(case(
        "EthTypeARP",
        vec![Field::EthType(0x0806)],
        vec![plain(ARP), tag(plain(ARP))],
        vec![plain(TCP), plain(TCP6)],
    ));
    all.push(case(
        "EthTypeNone",
        vec![Field::EthType(0x05ff)],
        vec![llc, frame("UDP in SNAP", &[(19, &[1])])],
        vec![plain(TCP), plain("UDP in SNAP")],
    ));
    all
}

fn vlan() -> Vec<Case> {
    let tag = |vid, pcp| tagged(plain(TCP), vid, pcp);
    let vid = |value: u16, mask| Field::VlanVid(Masked { value: 0x1000 | value, mask });
    let any = || vid(0, Some(0x1000));
    vec![
        case(
            "VlanExact",
            vec![vid(2, None), Field::VlanPcp(3)],
            vec![tag(2, 3)],
            vec![tag(4, 2), tag(4, 3), tag(2, 1), tag(0, 3), tag(2, 0), plain(TCP)],
        ),
        case("VlanVID", vec![vid(2, None)], vec![tag(2, 3), tag(2, 7)], vec![tag(4, 2), plain(TCP)]),
        case(
            "VlanVIDMasked",
            vec![vid(3, Some(0x1003))],
            vec![tag(3, 2), tag(7, 2), tag(11, 2)],
            vec![tag(0, 2), tag(1, 2), tag(2, 2), tag(4, 2), plain(TCP)],
        ),
        case("VlanPCP", vec![vid(2, None), Field::VlanPcp(3)], vec![tag(2, 3)], vec![tag(2, 4), plain(TCP)]),
        case(
            "VlanPCPAnyVID",
            vec![any(), Field::VlanPcp(3)],
            vec![tag(2, 3), tag(0, 3)],
            vec![tag(2, 4), plain(TCP)],
        ),
        case("VlanPresent", vec![any()], vec![tag(2, 3), tag(0, 7), tag(2, 0), tag(0, 0)], vec![plain(TCP)]),
        case(
            "VlanAbsent",
            vec![Field::VlanVid(Masked::exact(0))],
            vec![plain(TCP)],
            vec![tag(0, 0), tag(1, 3)],
        ),
    ]
}

fn ip() -> Vec<Case> {
    let of = |kind, fields: Vec<Field>| [vec![Field::EthType(kind)], fields].concat();
    let tos = |value: u8| frame(TCP, &[(at::TOS, &[value])]);
    let class = |value: u8| frame(TCP6, &[(14, &[0x60 | value >> 4, value << 4])]);
    let four = |place, address: [u8; 4]| frame(TCP, &[(place, &address)]);
    let six = |place: usize, last: u8| frame(TCP6, &[(place + 15, &[last])]);
    let masked = |value: [u8; 4], mask: [u8; 4]| Masked { value: value.into(), mask: Some(mask.into()) };
    let one = [192, 168, 0, 1];
    let address6 = |last: u16, mask: Option<u16>| -> Masked<std::net::Ipv6Addr> {
        let base = [0xfd00, 1, 0, 0, 0, 0, 0, last];
        let mask = mask.map(|m| [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, m].into());
        Masked { value: base.into(), mask }
    };
    let mut all = vec![
        case("IPv4Dscp", of(0x0800, vec![Field::IpDscp(4)]), vec![tos(0x10), tos(0x13)], vec![tos(0x14)]),
        case(
            "IPv6Dscp",
            of(0x86dd, vec![Field::IpDscp(4)]),
            vec![class(0x10), class(0x13)],
            vec![class(0x14)],
        ),
        case(
            "IPv4Ecn",
            of(0x0800, vec![Field::IpEcn(2)]),
            vec![tos(0x02), tos(0xfe)],
            vec![tos(0x01), tos(0)],
        ),
        case("IPv6Ecn", of(0x86dd, vec![Field::IpEcn(2)]), vec![class(0x02), class(0xfe)], vec![class(0x01)]),
    ];
    for (name, kind, protocol, right, wrong) in [
        ("IPv4ProtoTCP", 0x0800, 6, TCP, [UDP, PING]),
        ("IPv6ProtoTCP", 0x86dd, 6, TCP6, [UDP6, PING6]),
        ("IPv4ProtoUDP", 0x0800, 17, UDP, [TCP, PING]),
        ("IPv6ProtoUDP", 0x86dd, 17, UDP6, [TCP6, PING6]),
        ("IPv4ProtoICMP", 0x0800, 1, PING, [TCP, UDP]),
        ("IPv6ProtoICMP", 0x86dd, 58, PING6, [TCP6, UDP6]),
    ] {
        let fields = of(kind, vec![Field::IpProto(protocol)]);
        all.push(case(
            name,
            fields,
            vec![plain(right), tagged(plain(right), 5, 0)],
            wrong.map(plain).to_vec(),
        ));
    }
    for (names, place, field) in [
        (["IPv4Src", "IPv4SrcSubnetMasked", "IPv4SrcMasked"], at::FROM4, Field::Ipv4Src as fn(_) -> _),
        (["IPv4Dst", "IPv4DstSubnetMasked", "IPv4DstMasked"], at::TO4, Field::Ipv4Dst as fn(_) -> _),
    ] {
        let exact = of(0x0800, vec![field(Masked::exact(one.into()))]);
        all.push(case(names[0], exact, vec![four(place, one)], vec![four(place, [192, 168, 0, 2])]));
        all.push(case(
            names[1],
            of(0x0800, vec![field(masked([192, 168, 0, 0], [255, 255, 240, 0]))]),
            vec![four(place, one), four(place, [192, 168, 4, 2])],
            vec![four(place, [192, 168, 16, 1]), four(place, [192, 167, 0, 1])],
        ));
        all.push(case(
            names[2],
            of(0x0800, vec![field(masked([192, 168, 0, 1], [255, 254, 0, 255]))]),
            vec![four(place, one), four(place, [192, 169, 9, 1])],
            vec![four(place, [192, 170, 0, 1]), four(place, [192, 168, 0, 2])],
        ));
    }
    for (names, place, field) in [
        (["IPv6Src", "IPv6SrcSubnetMasked", "IPv6SrcMasked"], at::FROM6, Field::Ipv6Src as fn(_) -> _),
        (["IPv6Dst", "IPv6DstSubnetMasked", "IPv6DstMasked"], at::TO6, Field::Ipv6Dst as fn(_) -> _),
    ] {
        // The addresses of both frames differ in their second group.
        let of_place = |last, mask| {
            let mut address = address6(last, mask);
            let mut octets = address.value.octets();
            octets[3] = if place == at::FROM6 { 1 } else { 2 };
            address.value = octets.into();
            of(0x86dd, vec![field(address)])
        };
        all.push(case(names[0], of_place(7, None), vec![six(place, 7)], vec![six(place, 8)]));
        let subnet = of_place(0, Some(0xfff0));
        all.push(case(names[1], subnet, vec![six(place, 1), six(place, 15)], vec![six(place, 16)]));
        let bits = of_place(5, Some(0xff0f));
        all.push(case(names[2], bits, vec![six(place, 5), six(place, 0x75)], vec![six(place, 0x76)]));
    }
    all
}

fn transport() -> Vec<Case> {
    let of = |kind, protocol, field| vec![Field::EthType(kind), Field::IpProto(protocol), field];
    let mut all = Vec::new();
    for (name, kind, fields, place, others) in [
        ("IPv4TCPSrc", TCP, of(0x0800, 6, Field::TcpSrc(53)), at::PORTS4, UDP),
        ("IPv6TCPSrc", TCP6, of(0x86dd, 6, Field::TcpSrc(53)), at::PORTS6, UDP6),
        ("IPv4TCPDst", TCP, of(0x0800, 6, Field::TcpDst(53)), at::PORTS4 + 2, UDP),
        ("IPv6TCPDst", TCP6, of(0x86dd, 6, Field::TcpDst(53)), at::PORTS6 + 2, UDP6),
        ("IPv4UDPSrc", UDP, of(0x0800, 17, Field::UdpSrc(53)), at::PORTS4, TCP),
        ("IPv6UDPSrc", UDP6, of(0x86dd, 17, Field::UdpSrc(53)), at::PORTS6, TCP6),
        ("IPv4UDPDst", UDP, of(0x0800, 17, Field::UdpDst(53)), at::PORTS4 + 2, TCP),
        ("IPv6UDPDst", UDP6, of(0x86dd, 17, Field::UdpDst(53)), at::PORTS6 + 2, TCP6),
    ] {
        let port = |kind, port: u8| frame(kind, &[(place, &[0, port])]);
        all.push(case(name, fields, vec![port(kind, 53)], vec![port(kind, 52), port(others, 53)]));
    }
    for (name, kind, fields, place) in [
        ("IPv4ICMPType", PING, of(0x0800, 1, Field::Icmpv4Type(3)), at::PORTS4),
        ("IPv4ICMPCode", PING, of(0x0800, 1, Field::Icmpv4Code(3)), at::PORTS4 + 1),
        ("IPv6ICMPType", PING6, of(0x86dd, 58, Field::Icmpv6Type(3)), at::PORTS6),
        ("IPv6ICMPCode", PING6, of(0x86dd, 58, Field::Icmpv6Code(3)), at::PORTS6 + 1),
    ] {
        let with = |value: u8| frame(kind, &[(place, &[value])]);
        all.push(case(name, fields, vec![with(3)], vec![with(2), with(4)]));
    }
    all
}

fn arp() -> Vec<Case> {
    let of = |field| vec![Field::EthType(0x0806), field];
    let op = |value: u8| frame(ARP, &[(at::OPCODE, &[0, value])]);
    let mut all = vec![case("ArpOp", of(Field::ArpOp(3)), vec![op(3)], vec![op(4)])];
    for (names, place, field) in [
        (["ArpSPA", "ArpSPASubnetMasked", "ArpSPAMasked"], at::ARP_FROM, Field::ArpSpa as fn(_) -> _),
        (["ArpTPA", "ArpTPASubnetMasked", "ArpTPAMasked"], at::ARP_TO, Field::ArpTpa as fn(_) -> _),
    ] {
        let with = |address: [u8; 4]| frame(ARP, &[(place, &address)]);
        let masked = |value: [u8; 4], mask: [u8; 4]| Masked { value: value.into(), mask: Some(mask.into()) };
        let one = [192, 168, 0, 1];
        let exact = of(field(Masked::exact(one.into())));
        all.push(case(names[0], exact, vec![with(one)], vec![with([192, 168, 0, 2])]));
        let subnet = of(field(masked([192, 168, 0, 0], [255, 255, 240, 0])));
        all.push(case(
            names[1],
            subnet,
            vec![with(one), with([192, 168, 4, 2])],
            vec![with([192, 168, 16, 1])],
        ));
        let bits = of(field(masked([192, 168, 0, 1], [255, 254, 0, 255])));
        all.push(case(names[2], bits, vec![with([192, 169, 5, 1])], vec![with([192, 168, 5, 2])]));
    }
    all
}

#[test]
fn a_match_is_for_its_packets_and_no_others() {
    let cases: Vec<Case> = [ethernet(), vlan(), ip(), transport(), arp()].into_iter().flatten().collect();
    assert_eq!(cases.len(), 60);
    for case in cases {
        let mut bench = Bench::new();
        let conn = bench.connect(header::V13);
        let flow = of13::FlowMod {
            matching: Match { fields: case.fields.clone() },
            ..flow13(1000, vec![Action::output(2)])
        };
        bench.add13(conn, flow);
        for (frames, wanted) in [(&case.matching, 1), (&case.others, 0)] {
            assert!(!frames.is_empty());
            for frame in frames {
                assert_eq!(bench.packet(1, frame).len(), wanted, "{}: {frame:02x?}", case.name);
            }
        }
    }
}

/// `InPort`, which no byte of a packet holds; the masks that OpenFlow 1.3 does not allow
/// (`VlanPCPMasked`, `IPv4TCPSrcMasked`, `IPv4TCPDstMasked`, `IPv4UDPSrcMasked`,
/// `IPv4UDPDstMasked`: no mask in OF 1.3.5 table 12) are refused.
#[test]
fn ports_match_and_masks_that_are_none_are_refused() {
    let mut bench = Bench::new();
    let conn = bench.connect(header::V13);
    let matching = Match { fields: vec![Field::InPort(1)] };
    bench.add13(conn, of13::FlowMod { matching, ..flow13(1000, vec![Action::output(2)]) });
    assert_eq!((bench.packet(1, &plain(TCP)).len(), bench.packet(3, &plain(TCP)).len()), (1, 0));
    let fields = [
        (Field::VlanPcp(3), vec![Field::VlanVid(Masked::exact(0x1002))]),
        (Field::TcpSrc(52), vec![Field::EthType(0x0800), Field::IpProto(6)]),
        (Field::TcpDst(52), vec![Field::EthType(0x0800), Field::IpProto(6)]),
        (Field::UdpSrc(52), vec![Field::EthType(0x0800), Field::IpProto(17)]),
        (Field::UdpDst(52), vec![Field::EthType(0x0800), Field::IpProto(17)]),
    ];
    for (field, before) in fields {
        let (_, number, _) = field.id();
        let mut body = Vec::new();
        tandem_openflow::wire::Wire::write(&field, &mut body);
        // Value and mask.
        let body = [&body[4..], &vec![0xfe; body.len() - 4]].concat();
        let masked = Field::Other {
            class: of13::oxm::BASIC,
            number,
            has_mask: true,
            body: tandem_openflow::wire::Bytes(body),
        };
        let matching = Match { fields: [before, vec![masked]].concat() };
        let flow = of13::FlowMod { matching, ..flow13(1000, vec![Action::output(2)]) };
        // OFPBMC_BAD_MASK.
        assert_eq!(bench.error13(conn, of13::Message::FlowMod(flow)), (4, 8), "{field:?}");
    }
}
