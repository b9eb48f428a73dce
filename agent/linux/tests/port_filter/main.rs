//! Sends real packets from a guest's port of a bridge: allowed ones pass, all others are dropped. A
//! packet socket at the other end of the uplink records them.

mod frames;
#[path = "../support/mod.rs"]
mod support;
mod vif_script;

use frames::{arp, ethernet, frames, ipv4, udp};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use support::{inside, is_root, wait};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::packet::{Batch, Receiver, Transmitter};
use tandem_linux::port_filter::{Kind, Port};

/// How long the last frame may take.
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

/// Without a filter all frames pass.
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
    // The bridge sends nothing until both ends have a carrier (linkwatch is up to a second late).
    for (space, end) in [(&host, UPLINK), (&network, WITNESS)] {
        wait("the uplink's carrier", || inside(space, |n| link::one(n, end)).running.then_some(()));
    }
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
        for (space, end) in [(&self.host, port.index), (&self.guests[guest], ETH0)] {
            wait("a carrier", || inside(space, |n| link::one(n, end)).running.then_some(()));
        }
    }
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

/// Sends every frame of [`frames`] as the first guest, and returns those that are wrongly passed or
/// dropped.
fn judged(bed: &Bed) -> Vec<String> {
    let mut at = bed.network.run(|| Receiver::open("witness", WITNESS)).expect("inside").expect("a socket");
    let mut from = bed.guests[0].run(|| Transmitter::open(ETH0, 0)).expect("inside").expect("a socket");
    let mut seen = Vec::new();
    let frames = frames();
    for (what, _, frame) in &frames {
        let sent = from.send(frame, &[(0, frame.len() as u32)]);
        assert!(sent.is_ok(), "{what} is not sent at all");
    }
    // Frames arrive in order: after the last one all others have arrived or were dropped.
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

/// A guest reaches its host and other guests only through the network, and does not receive packets
/// to another guest.
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
    // From the network: one for the other guest, one for this guest, one broadcast.
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
