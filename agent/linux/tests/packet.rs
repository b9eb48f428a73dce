//! Packet sockets, on links between namespaces that these tests create.

mod support;

use pnet::packet::ethernet::{EtherType, MutableEthernetPacket};
use std::net::UdpSocket;
use std::process::Command;
use support::{inside, is_root, pair, wait};
use tandem_linux::packet::{Batch, Losses, Receiver, Transmitter};
use tandem_linux::tc::{Class, Tree};
use tandem_linux::{link, tc};

/// A frame of an experimental type (IEEE 802), so that no protocol of the kernel answers it.
fn frame(length: usize, mark: u8) -> Vec<u8> {
    let mut bytes = vec![mark; length];
    let mut packet = MutableEthernetPacket::new(&mut bytes).expect("14 bytes at least");
    packet.set_destination(pnet::datalink::MacAddr::new(2, 0, 0, 0, 0, 99));
    packet.set_source(pnet::datalink::MacAddr::new(2, 0, 0, 0, 0, 1));
    packet.set_ethertype(EtherType(0x88b5));
    bytes
}

fn send(from: &mut Transmitter, frames: &[Vec<u8>]) {
    let (mut data, mut places) = (Vec::new(), Vec::new());
    for frame in frames {
        let start = data.len() as u32;
        data.extend_from_slice(frame);
        places.push((start, data.len() as u32));
    }
    from.send(&data, &places).expect("an interface that is up");
}

/// Frames of the experimental type (or of VLANs), with their tags, until `count` have come.
fn collect(at: &mut Receiver, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut batch = Batch::new(1500);
    wait("frames", || {
        while at.receive(&mut batch, 7).expect("an interface that is up") {
            take(&mut batch, &mut all);
        }
        take(&mut batch, &mut all);
        (all.len() >= count).then_some(())
    });
    all
}

fn take(batch: &mut Batch, all: &mut Vec<Vec<u8>>) {
    for (tag, frame) in batch.frames() {
        assert_eq!(tag, 7);
        if matches!(frame[12..14], [0x88, 0xb5] | [0x81, 0x00] | [0x88, 0xa8]) {
            all.push(frame.to_vec());
        }
    }
    batch.clear();
}

#[test]
fn all_frames_come_as_they_were_sent_and_own_ones_do_not_come_back() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let mut sender = left.run(|| Transmitter::open(10, 0)).expect("a namespace").expect("a socket");
    let mut own = left.run(|| Receiver::open("left", 10)).expect("a namespace").expect("a socket");
    let mut receiver = right.run(|| Receiver::open("right", 11)).expect("a namespace").expect("a socket");
    // To another address than the interface's; more frames than one call sends; the shortest and
    // the longest.
    let frames: Vec<Vec<u8>> =
        (0..150u8).map(|n| frame(if n % 2 == 0 { 14 + usize::from(n) } else { 1514 }, n)).collect();
    send(&mut sender, &frames);
    let seen = collect(&mut receiver, frames.len());
    assert_eq!(seen, frames, "in order, byte for byte");
    assert_eq!(receiver.losses(), Losses::default());

    let mut batch = Batch::new(1500);
    own.receive(&mut batch, 7).expect("an interface that is up");
    let mut back = Vec::new();
    take(&mut batch, &mut back);
    assert_eq!(back, Vec::<Vec<u8>>::new(), "what was sent did not come back");
    assert_eq!(sender.lost(), 0);
}

#[test]
fn vlan_tags_that_the_kernel_takes_off_are_put_back() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let mut sender = left.run(|| Transmitter::open(10, 0)).expect("a namespace").expect("a socket");
    let mut receiver = right.run(|| Receiver::open("right", 11)).expect("a namespace").expect("a socket");
    let tagged = |tags: &[[u8; 4]]| {
        let plain = frame(100, 5);
        [&plain[..12], &tags.concat(), &plain[12..]].concat()
    };
    let frames = [
        tagged(&[[0x81, 0x00, 0x60, 0x2a]]),
        tagged(&[[0x88, 0xa8, 0x00, 0x07], [0x81, 0x00, 0xe0, 0x2a]]),
        tagged(&[[0x81, 0x00, 0x00, 0x00]]),
        tagged(&[]),
    ];
    send(&mut sender, &frames);
    assert_eq!(collect(&mut receiver, frames.len()), frames);
}

#[test]
fn a_checksum_that_was_left_to_the_card_is_completed() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let mut receiver = right.run(|| Receiver::open("right", 11)).expect("a namespace").expect("a socket");
    let socket = left.run(|| UdpSocket::bind("10.1.0.1:4000")).expect("a namespace").expect("a socket");
    // An odd length, which pads the last byte of the checksum.
    socket.send_to(b"tandem!", "10.1.0.2:5000").expect("a route");
    let mut batch = Batch::new(1500);
    let datagram = wait("the datagram", || {
        receiver.receive(&mut batch, 7).expect("an interface that is up");
        let found = batch
            .frames()
            .find(|(_, f)| f.ends_with(b"tandem!") && f[12..14] == [8, 0])
            .map(|(_, f)| f.to_vec());
        batch.clear();
        found
    });
    // The sum over pseudo header and datagram is all ones when the checksum is right (RFC 768, RFC
    // 1071).
    let mut words: Vec<u8> = datagram[26..34].to_vec();
    words.extend([0, 17, 0, 15]);
    words.extend_from_slice(&datagram[34..]);
    words.push(0);
    let mut sum: u32 = words.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(sum, 0xffff, "{datagram:02x?}");
}

#[test]
fn the_priority_of_a_socket_picks_the_class() {
    if !is_root() {
        return;
    }
    let (left, _right) = pair();
    let tree = Tree {
        default: 3,
        classes: vec![
            Class::new(0xfffe, 0, 100_000_000, 100_000_000, 0),
            Class::new(1, 0xfffe, 50_000_000, 100_000_000, 5),
            Class::new(2, 0xfffe, 40_000_000, 100_000_000, 50),
            Class::new(3, 0xfffe, 10_000_000, 100_000_000, 50),
        ],
        filters: Vec::new(),
    };
    inside(&left, |n| n.batch(&tc::difference(10, None, Some(&tree))));
    for (priority, class, count) in [(0x1_0001, 1, 3), (0x1_0002, 2, 4), (0, 3, 2)] {
        let mut sender =
            left.run(|| Transmitter::open(10, priority)).expect("a namespace").expect("a socket");
        send(&mut sender, &vec![frame(1000, 1); count]);
        let classes = wait("the class's counter", || {
            let classes = inside(&left, |n| tc::classes(n, 10));
            let packets = |id| classes.iter().find(|c| c.id == id).map_or(0, |c| c.packets);
            (packets(class) >= count as u64).then_some((packets(1), packets(2), packets(3)))
        });
        assert_eq!([classes.0, classes.1, classes.2][class as usize - 1], count as u64);
    }
    // Class 1 holds five packets: of many at once, most are refused and counted.
    let mut sender = left.run(|| Transmitter::open(10, 0x1_0001)).expect("a namespace").expect("a socket");
    send(&mut sender, &vec![frame(1514, 1); 200]);
    let drops = inside(&left, |n| tc::classes(n, 10)).iter().find(|c| c.id == 1).map_or(0, |c| c.drops);
    assert!(sender.lost() > 0);
    assert_eq!(u64::from(drops), sender.lost());
}

#[test]
fn frames_that_are_too_long_are_counted_and_an_interface_that_is_gone_is_an_error() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let mut sender = left.run(|| Transmitter::open(10, 0)).expect("a namespace").expect("a socket");
    let mut receiver = right.run(|| Receiver::open("right", 11)).expect("a namespace").expect("a socket");
    let mut small = Batch::new(200);
    let mut seen = Vec::new();
    wait("the short frame, and the long one counted", || {
        // Nothing is sent until the other end has a carrier.
        send(&mut sender, &[frame(1000, 1), frame(100, 2)]);
        receiver.receive(&mut small, 7).expect("an interface that is up");
        take(&mut small, &mut seen);
        (!seen.is_empty() && receiver.losses().oversized > 0).then_some(())
    });
    assert!(seen.iter().all(|f| *f == frame(100, 2)), "the long one is not cut off");

    inside(&right, |n| n.batch(&[link::set_up(11, false)]));
    assert!(receiver.receive(&mut small, 7).is_err(), "it is down");
    // After the link is up again, the same socket works.
    inside(&right, |n| n.batch(&[link::set_up(11, true)]));
    let mut seen = Vec::new();
    wait("a frame", || {
        // Nothing is sent until the other end has a carrier again.
        send(&mut sender, &[frame(100, 3)]);
        receiver.receive(&mut small, 7).expect("an interface that is up");
        take(&mut small, &mut seen);
        (!seen.is_empty()).then_some(())
    });
    assert_eq!(seen[0], frame(100, 3));
    let lost = sender.lost();

    left.run(|| Command::new("ip").args(["link", "del", "left"]).status()).expect("a namespace").expect("ip");
    sender.send(&frame(100, 4), &[(0, 100)]).expect_err("there is no such interface any more");
    assert_eq!(sender.lost(), lost + 1);
    let error = left.run(|| Receiver::open("left", 10)).expect("a namespace").expect_err("it is gone");
    assert!(error.to_string().contains("left"), "{error}");
}
