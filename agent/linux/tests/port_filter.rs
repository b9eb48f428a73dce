//! What gets out at a guest's port of a bridge, with real packets: honest ones do, everything else does not. A packet socket at the other
//! end of the uplink is the witness.

mod support;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{inside, is_root, wait};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::packet::{Batch, Receiver, Transmitter};
use tandem_linux::port_filter::{Kind, Port};

/// How long the last frame may be on its way.
const LIMIT: Duration = Duration::from_secs(20);
const BRIDGE: u32 = 50;
const UPLINK: u32 = 20;
const WITNESS: u32 = 21;
const ETH0: u32 = 80;
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 7];
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 8];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 99];
const ALL: [u8; 6] = [0xff; 6];
const OWN: [u8; 4] = [10, 0, 0, 7];
const THEIRS: [u8; 4] = [10, 0, 0, 8];
const SERVER: [u8; 4] = [10, 0, 0, 1];
const OTHER: [u8; 4] = [10, 9, 9, 9];
const NONE: [u8; 4] = [0; 4];
const EVERYBODY: [u8; 4] = [255; 4];

fn port(index: u32, mac: [u8; 6], address: [u8; 4]) -> Port {
    Port { index, mac, address: Ipv4Addr::from(address), host: HOST }
}

/// A host with a bridge, the network behind its uplink, and two guests at its ports 100 and 101.
struct Bed {
    host: NetNs,
    network: NetNs,
    guests: [NetNs; 2],
}

/// Without a filter the guests may send what they like.
fn bed(kind: Option<Kind>) -> Bed {
    let mut spaces = NetNs::many(4, link::disable_ipv6).expect("namespaces");
    let (host, network) = (spaces.remove(0), spaces.remove(0));
    let guests = [spaces.remove(0), spaces.remove(0)];
    let uplink = link::Veth::new(("up", UPLINK, &host), ("witness", WITNESS, &network)).mac_b(GATEWAY);
    Netlink::open().and_then(|mut n| n.batch(&[uplink.request()])).expect("the uplink");
    inside(&network, |n| n.batch(&[link::set_up(WITNESS, true)]));
    if let Some(kind) = kind {
        host.run(|| kind.begin().and_then(|()| kind.uplink(UPLINK))).expect("inside").expect("the filter");
    }
    inside(&host, |n| {
        n.batch(&[
            link::bridge("br0", BRIDGE, Some(HOST)),
            link::plug(UPLINK, BRIDGE),
            link::set_up(UPLINK, true),
            link::port_learning(UPLINK, false),
            link::address(BRIDGE, Ipv4Addr::from(SERVER), 8),
        ])
    });
    let bed = Bed { host, network, guests };
    bed.plug(kind, 0, port(100, GUEST, OWN));
    bed.plug(kind, 1, port(101, NEIGHBOUR, THEIRS));
    bed
}

impl Bed {
    fn plug(&self, kind: Option<Kind>, guest: usize, port: Port) {
        let name = format!("port{guest}");
        let veth = link::Veth::new(("eth0", ETH0, &self.guests[guest]), (&name, port.index, &self.host));
        let veth = veth.mac_a(port.mac);
        Netlink::open().and_then(|mut n| n.batch(&[veth.request()])).expect("a guest's cable");
        if let Some(kind) = kind {
            let known = self.host.run(|| kind.admit(&port).and_then(|()| kind.attach(&port)));
            known.expect("inside").expect("the filter");
        }
        inside(&self.host, |n| {
            let [flags, learning] =
                [link::port_flags(port.index, true, true), link::port_learning(port.index, false)];
            n.batch(&[link::plug(port.index, BRIDGE), flags, learning, link::set_up(port.index, true)])
        });
        wait("a carrier", || inside(&self.host, |n| link::one(n, port.index)).running.then_some(()));
    }
}

/// Not padded: a bridge whose packets iptables may see (br_netfilter) takes padding off.
fn ethernet(to: [u8; 6], from: [u8; 6], tags: &[[u8; 4]], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    tags.iter().for_each(|t| frame.extend_from_slice(t));
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// IPv4 with a right checksum; `fragment` is the field of flags and offset.
fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    h[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    h[6..8].copy_from_slice(&fragment.to_be_bytes());
    h.extend_from_slice(&from);
    h.extend_from_slice(&to);
    let sum: u32 = h.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    h[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    h.extend_from_slice(payload);
    h
}

fn udp(from: u16, to: u16, text: &[u8]) -> Vec<u8> {
    let length = 8 + text.len() as u16;
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0; 2], text].concat()
}

fn arp(op: u8, mac: [u8; 6], ip: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, op][..], &mac, &ip, &[0; 6], &target].concat()
}

/// Every frame that a guest may try, and whether it gets out.
fn frames() -> Vec<(&'static str, bool, Vec<u8>)> {
    const IP: u16 = 0x0800;
    const ARP: u16 = 0x0806;
    let plain = |from, payload: &[u8]| ethernet(GATEWAY, from, &[], IP, payload);
    let own = ipv4(OWN, OTHER, 17, 0, &udp(1000, 2000, b"x"));
    let theirs = ipv4(THEIRS, OTHER, 17, 0, &udp(1000, 2000, b"x"));
    let discover = ipv4(NONE, EVERYBODY, 17, 0, &udp(68, 67, &[1; 240]));
    let offer = ipv4(OWN, EVERYBODY, 17, 0, &udp(67, 68, &[2; 240]));
    let options = {
        // A header of 24 bytes, so that the ports are further behind.
        let mut h = ipv4(OWN, EVERYBODY, 17, 0, &[&[1, 1, 1, 1][..], &udp(67, 68, b"")].concat());
        h[0] = 0x46;
        h
    };
    let broadcast = |from, payload: &[u8]| ethernet(ALL, from, &[], ARP, payload);
    let tagged = |tags: &[[u8; 4]], kind, payload: &[u8]| ethernet(GATEWAY, GUEST, tags, kind, payload);
    let priority = [0x81, 0, 0xa0, 0];
    let vlan = [0x81, 0, 0, 5];
    let service = [0x88, 0xa8, 0, 0];
    vec![
        ("its own packet", true, plain(GUEST, &own)),
        ("a neighbour's Ethernet address", false, plain(NEIGHBOUR, &own)),
        ("a neighbour's address", false, plain(GUEST, &theirs)),
        ("a neighbour in full", false, plain(NEIGHBOUR, &theirs)),
        ("its server in full", false, plain(HOST, &ipv4(SERVER, OTHER, 17, 0, &udp(1, 2, b"x")))),
        (
            "no address, to a server of something else",
            false,
            plain(GUEST, &ipv4(NONE, OTHER, 17, 0, &udp(68, 53, b"x"))),
        ),
        ("TCP of its own", true, plain(GUEST, &ipv4(OWN, OTHER, 6, 0, &[0; 20]))),
        (
            "TCP from port 67",
            true,
            plain(
                GUEST,
                &ipv4(OWN, OTHER, 6, 0, &[0, 67, 0, 68, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]),
            ),
        ),
        ("ICMP of its own", true, plain(GUEST, &ipv4(OWN, OTHER, 1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]))),
        ("a first fragment", true, plain(GUEST, &ipv4(OWN, OTHER, 17, 0x2000, &udp(1000, 2000, &[7; 16])))),
        (
            "a later fragment whose bytes look like port 67",
            true,
            plain(GUEST, &ipv4(OWN, OTHER, 17, 3, &[0, 67, 0, 68, 0, 0, 0, 0])),
        ),
        ("a later fragment of a neighbour's", false, plain(GUEST, &ipv4(THEIRS, OTHER, 17, 3, &[0; 8]))),
        ("a DHCP client's question", true, ethernet(ALL, GUEST, &[], IP, &discover)),
        ("a neighbour's DHCP question", false, ethernet(ALL, NEIGHBOUR, &[], IP, &discover)),
        (
            "a fragment of a DHCP question",
            false,
            ethernet(ALL, GUEST, &[], IP, &ipv4(NONE, EVERYBODY, 17, 0x2000, &udp(68, 67, &[1; 16]))),
        ),
        ("a DHCP server's answer", false, ethernet(ALL, GUEST, &[], IP, &offer)),
        ("the same behind IP options", false, ethernet(ALL, GUEST, &[], IP, &options)),
        (
            "the same in a first fragment",
            false,
            plain(GUEST, &ipv4(OWN, EVERYBODY, 17, 0x2000, &udp(67, 68, &[2; 16]))),
        ),
        (
            "UDP cut before its ports",
            false,
            plain(GUEST, &{
                let mut p = ipv4(OWN, OTHER, 17, 0, &[]);
                p[0] = 0x4f;
                p
            }),
        ),
        (
            "IP version 6 under the type of version 4",
            false,
            plain(GUEST, &{
                let mut p = own.clone();
                p[0] = 0x65;
                p
            }),
        ),
        ("ARP of its own", true, broadcast(GUEST, &arp(1, GUEST, OWN, OTHER))),
        ("its gratuitous ARP", true, broadcast(GUEST, &arp(1, GUEST, OWN, OWN))),
        ("its ARP answer", true, ethernet(GATEWAY, GUEST, &[], ARP, &arp(2, GUEST, OWN, OTHER))),
        ("an ARP probe", true, broadcast(GUEST, &arp(1, GUEST, NONE, OWN))),
        ("an ARP answer without an address", false, broadcast(GUEST, &arp(2, GUEST, NONE, OWN))),
        (
            "ARP with a neighbour's Ethernet address inside",
            false,
            broadcast(GUEST, &arp(1, NEIGHBOUR, OWN, OTHER)),
        ),
        ("ARP with a neighbour's address inside", false, broadcast(GUEST, &arp(1, GUEST, THEIRS, OTHER))),
        ("gratuitous ARP for a neighbour", false, broadcast(GUEST, &arp(2, GUEST, THEIRS, THEIRS))),
        ("gratuitous ARP for its server", false, broadcast(GUEST, &arp(2, GUEST, SERVER, SERVER))),
        ("gratuitous ARP for the gateway's address", false, broadcast(GUEST, &arp(2, GUEST, OTHER, OTHER))),
        (
            "ARP of another hardware",
            false,
            broadcast(GUEST, &{
                let mut p = arp(1, GUEST, OWN, OTHER);
                p[1] = 6;
                p
            }),
        ),
        ("ARP that is cut", false, {
            let mut p = broadcast(GUEST, &arp(1, GUEST, OWN, OTHER));
            p.truncate(30);
            p
        }),
        ("a priority tag (VID 0)", true, tagged(&[priority], IP, &own)),
        ("ARP with a priority tag", true, tagged(&[priority], ARP, &arp(1, GUEST, OWN, OTHER))),
        ("a priority tag before a neighbour's address", false, tagged(&[priority], IP, &theirs)),
        (
            "a priority tag before a neighbour's ARP",
            false,
            tagged(&[priority], ARP, &arp(1, GUEST, THEIRS, OTHER)),
        ),
        ("a priority tag before IPv6", false, tagged(&[priority], 0x86dd, &[0x60; 48])),
        ("a VLAN", false, tagged(&[vlan], IP, &own)),
        ("a VLAN around ARP", false, tagged(&[vlan], ARP, &arp(1, GUEST, OWN, OTHER))),
        ("a service tag of VID 0", false, tagged(&[service], IP, &own)),
        ("two priority tags", false, tagged(&[priority, priority], IP, &own)),
        ("a VLAN in a priority tag", false, tagged(&[priority, vlan], IP, &own)),
        ("a VLAN in a service tag", false, tagged(&[service, vlan], IP, &own)),
        ("IPv6", false, ethernet(GATEWAY, GUEST, &[], 0x86dd, &[0x60; 48])),
        ("LLDP", false, ethernet([1, 0x80, 0xc2, 0, 0, 0x0e], GUEST, &[], 0x88cc, &[2; 40])),
        ("LLDP to everybody", false, ethernet(ALL, GUEST, &[], 0x88cc, &[2; 40])),
        ("spanning tree", false, ethernet([1, 0x80, 0xc2, 0, 0, 0], GUEST, &[], 38, &[0x42; 40])),
        (
            "LLC and SNAP around IPv4",
            false,
            ethernet(GATEWAY, GUEST, &[], 40, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &own].concat()),
        ),
        ("MPLS", false, ethernet(GATEWAY, GUEST, &[], 0x8847, &[0; 40])),
        ("another Ethernet type", false, ethernet(GATEWAY, GUEST, &[], 0x88b5, &[0; 40])),
        ("a short packet", false, {
            let mut p = plain(GUEST, &own);
            p.truncate(20);
            p
        }),
        ("its own packet, at the end", true, plain(GUEST, &ipv4(OWN, OTHER, 17, 0, &udp(9, 9, b"last")))),
    ]
}

fn witness(at: &mut Receiver, seen: &mut Vec<Vec<u8>>) {
    let mut batch = Batch::new(1500);
    loop {
        let more = at.receive(&mut batch, 0).expect("an interface that is up");
        seen.extend(batch.frames().map(|(_, f)| f.to_vec()));
        batch.clear();
        if !more {
            return;
        }
    }
}

fn came(seen: &[Vec<u8>], sent: &[u8]) -> bool {
    seen.iter().any(|f| f == sent)
}

/// Sends every frame of [`frames`] as the first guest, and tells which of them are wrongly let out or kept back.
fn judged(bed: &Bed) -> Vec<String> {
    let mut at = bed.network.run(|| Receiver::open("witness", WITNESS)).expect("inside").expect("a socket");
    let mut from = bed.guests[0].run(|| Transmitter::open(ETH0, 0)).expect("inside").expect("a socket");
    let mut seen = Vec::new();
    let frames = frames();
    for (what, _, frame) in &frames {
        let sent = from.send(frame, &[(0, frame.len() as u32)]);
        assert!(sent.is_ok(), "{what} is not sent at all");
    }
    // They are carried in order: the last one comes when all others have or have not.
    let last = &frames.last().expect("frames").2;
    let start = Instant::now();
    while !came(&seen, last) && start.elapsed() < LIMIT {
        witness(&mut at, &mut seen);
    }
    let mut wrong: Vec<String> = frames
        .iter()
        .filter(|(_, passes, f)| came(&seen, f) != *passes)
        .map(|(what, ..)| (*what).to_owned())
        .collect();
    let known: Vec<&Vec<u8>> = frames.iter().filter(|(_, p, _)| *p).map(|(.., f)| f).collect();
    let strange = seen.iter().filter(|f| f[6..12] == GUEST && !known.contains(f));
    wrong.extend(strange.map(|f| format!("came in another form: {f:02x?}")));
    wrong
}

fn only_honest_packets_leave(kind: Kind) {
    let bed = bed(Some(kind));
    assert_eq!(judged(&bed), Vec::<String>::new(), "{kind}");
}

#[test]
fn a_port_that_is_forgotten_is_silent() {
    if !is_root() {
        return;
    }
    let kind = Kind::Nftables;
    let bed = bed(Some(kind));
    bed.host.run(|| kind.dismiss(&port(100, GUEST, OWN))).expect("inside").expect("forgotten");
    bed.host.run(|| kind.dismiss(&port(100, GUEST, OWN))).expect("inside").expect("forgotten again");
    let mut at = bed.network.run(|| Receiver::open("witness", WITNESS)).expect("inside").expect("a socket");
    let open = |ns: &NetNs| ns.run(|| Transmitter::open(ETH0, 0)).expect("inside").expect("a socket");
    let (mut guest, mut other) = (open(&bed.guests[0]), open(&bed.guests[1]));
    let honest = |mac, ip| ethernet(GATEWAY, mac, &[], 0x0800, &ipv4(ip, OTHER, 17, 0, &udp(5, 5, b"n")));
    let (own, theirs) = (honest(GUEST, OWN), honest(NEIGHBOUR, THEIRS));
    guest.send(&own, &[(0, own.len() as u32)]).expect("sent");
    other.send(&theirs, &[(0, theirs.len() as u32)]).expect("sent");
    let mut seen = Vec::new();
    wait("the neighbour's packet", || {
        witness(&mut at, &mut seen);
        came(&seen, &theirs).then_some(())
    });
    assert!(!came(&seen, &own), "a port that is forgotten still speaks");
}

/// What Tandem puts on Xen hosts as a vif script filters the same, by nftables at the device's own ingress.
#[test]
fn by_the_vif_script_of_xen_hosts_only_honest_packets_leave_a_device() {
    if !is_root() {
        return;
    }
    let has_nft = Command::new("nft").arg("--version").output().is_ok();
    assert!(
        has_nft || std::env::var_os("CI").is_none(),
        "in CI nothing is skipped; missing: nft (package nftables)"
    );
    if !has_nft {
        return eprintln!("skipped: missing nft (package nftables)");
    }
    let bed = bed(None);
    assert!(judged(&bed).len() > 20, "without a filter nearly everything gets out");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../controller/src/vmm/xl/scripts/vif-tandem");
    for _ in 0..2 {
        // Once more changes nothing: a host is prepared again whenever it is connected to again.
        let arguments = [script, "guard", "port0", "02:00:00:00:00:07", "10.0.0.7"];
        let done =
            bed.host.run(|| Command::new("bash").args(arguments).output()).expect("inside").expect("bash");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let rules = support::text(&bed.host, "nft", &["list", "ruleset"]);
        assert!(rules.contains("hook ingress"), "by nftables, not by what stands in for it: {rules}");
        assert_eq!(judged(&bed), Vec::<String>::new());
    }
}

#[test]
fn by_nftables_only_honest_packets_leave_a_port() {
    if is_root() {
        only_honest_packets_leave(Kind::Nftables);
    }
}

#[test]
fn by_a_classifier_only_honest_packets_leave_a_port() {
    if is_root() {
        only_honest_packets_leave(Kind::Classifier);
    }
}

#[test]
fn the_probe_finds_something_that_filters_and_says_what() {
    if !is_root() {
        return;
    }
    let kind = Kind::probe().expect("a filter");
    assert!(kind.to_string().contains(if kind == Kind::Nftables { "nftables" } else { "cls_bpf" }));
}

/// A guest reaches its host and its neighbours by the network only, and does not see what is for a neighbour.
#[test]
fn guests_reach_neither_their_host_nor_each_other_nor_hear_each_other() {
    if !is_root() {
        return;
    }
    let bed = bed(Some(Kind::Nftables));
    let open =
        |ns: &NetNs, name, index| ns.run(|| Receiver::open(name, index)).expect("inside").expect("a socket");
    let mut neighbour = open(&bed.guests[1], "eth0", ETH0);
    let mut host = open(&bed.host, "br0", BRIDGE);
    let mut guest = open(&bed.guests[0], "eth0", ETH0);
    let mut network = open(&bed.network, "witness", WITNESS);
    let mut from = bed.guests[0].run(|| Transmitter::open(ETH0, 0)).expect("inside").expect("a socket");
    let mut back = bed.network.run(|| Transmitter::open(WITNESS, 0)).expect("inside").expect("a socket");
    let own = |to_mac, to| ethernet(to_mac, GUEST, &[], 0x0800, &ipv4(OWN, to, 17, 0, &udp(1, 2, b"own")));
    let ask = ethernet(ALL, GUEST, &[], 0x0806, &arp(1, GUEST, OWN, SERVER));
    for frame in [own(NEIGHBOUR, THEIRS), own(HOST, SERVER), ask.clone(), own(GATEWAY, OTHER)] {
        from.send(&frame, &[(0, frame.len() as u32)]).expect("sent");
    }
    let mut seen = Vec::new();
    wait("the guest's packets at the network", || {
        witness(&mut network, &mut seen);
        came(&seen, &own(GATEWAY, OTHER)).then_some(())
    });
    assert!(came(&seen, &ask) && came(&seen, &own(NEIGHBOUR, THEIRS)), "the network decides who hears it");
    // From the network: one for the neighbour, one for the guest, one for everybody.
    let for_them =
        ethernet(NEIGHBOUR, GATEWAY, &[], 0x0800, &ipv4(OTHER, THEIRS, 17, 0, &udp(3, 3, b"them")));
    let for_all = ethernet(ALL, GATEWAY, &[], 0x0806, &arp(1, GATEWAY, OTHER, OWN));
    let for_us = ethernet(GUEST, GATEWAY, &[], 0x0800, &ipv4(OTHER, OWN, 17, 0, &udp(3, 3, b"us")));
    for frame in [&for_them, &for_all, &for_us] {
        back.send(frame, &[(0, frame.len() as u32)]).expect("sent");
    }
    let (mut at_guest, mut at_neighbour, mut at_host) = (Vec::new(), Vec::new(), Vec::new());
    wait("the network's packets", || {
        witness(&mut guest, &mut at_guest);
        witness(&mut neighbour, &mut at_neighbour);
        (came(&at_guest, &for_us) && came(&at_neighbour, &for_all)).then_some(())
    });
    witness(&mut host, &mut at_host);
    assert!(came(&at_guest, &for_all) && !came(&at_guest, &for_them), "a guest hears what is for another");
    assert!(came(&at_neighbour, &for_them) && !at_neighbour.iter().any(|f| f[6..12] == GUEST));
    assert!(!at_host.iter().any(|f| f[6..12] == GUEST), "a guest speaks to its host");
}
