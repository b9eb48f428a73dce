//! The kernel's own tools show the requested configuration. Everything happens in namespaces that
//! these tests create.

mod support;

use serde_json::Value;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Stream, inside, is_root, json, pair, text, wait};
use tandem_linux::netlink::Netlink;
use tandem_linux::tc::{Class, Classifier, Filter, Select, Tree};
use tandem_linux::{Error, ethtool, link, tc};

#[test]
fn links_addresses_and_bridges_are_as_asked_for() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let shown = json(&left, "ip", &["-j", "addr", "show", "dev", "left"]);
    assert_eq!(shown[0]["address"], "02:00:00:00:00:01");
    assert_eq!(shown[0]["ifindex"], 10);
    assert!(shown[0]["flags"].as_array().expect("flags").contains(&"UP".into()));
    let v4: Vec<&Value> = shown[0]["addr_info"].as_array().expect("addresses").iter().collect();
    assert_eq!(
        (v4.len(), &v4[0]["local"], &v4[0]["prefixlen"]),
        (1, &"10.1.0.1".into(), &24.into()),
        "and nothing of IPv6"
    );

    inside(&right, |n| {
        n.batch(&[
            link::bridge("br", 20, Some([2, 0, 0, 0, 0, 9])),
            link::plug(11, 20),
            link::port_flags(11, true, false),
        ])
    });
    let port = json(&right, "bridge", &["-j", "-d", "link", "show", "dev", "right"]);
    assert_eq!(
        (&port[0]["master"], &port[0]["isolated"], &port[0]["flood"]),
        (&"br".into(), &true.into(), &false.into())
    );

    // A refusal names the object and the reason.
    let error = right
        .run(|| Netlink::open().and_then(|mut n| n.batch(&[link::bridge("br", 21, None)])))
        .expect("a namespace")
        .expect_err("the name is taken");
    assert!(error.to_string().contains("bridge br"), "{error}");
    let stats = inside(&left, link::list);
    assert!(stats.iter().any(|i| i.name == "left" && i.running));
    ethtool::tx_checksum_off(["no-such-if"]).expect_err("there is no such interface");
}

#[test]
fn a_shaped_link_carries_its_rate_and_counts_what_tc_counts() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let shape = tc::Shape { rate: 8_000_000, queue: 20, delay: Duration::ZERO, loss_ppm: 0 };
    inside(&left, |n| n.batch(&tc::shape(10, shape)));
    let shown = json(&left, "tc", &["-j", "qdisc", "show", "dev", "left"]);
    let kinds: Vec<&str> =
        shown.as_array().expect("a list").iter().filter_map(|q| q["kind"].as_str()).collect();
    assert_eq!(kinds, ["htb", "pfifo"]);
    assert_eq!(shown[1]["options"]["limit"], 20);

    let receiver = right.run(|| UdpSocket::bind("10.1.0.2:9000")).expect("a namespace").expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    let sender = left.run(|| UdpSocket::bind("10.1.0.1:0")).expect("a namespace").expect("a socket");
    // Sends three times the link's rate for a second and a half; arrivals after the first half
    // count.
    let start = Instant::now();
    let feeder = std::thread::spawn(move || {
        let packet = [0u8; 1472];
        let mut sent = 0u64;
        while start.elapsed() < Duration::from_millis(1500) {
            let due = start.elapsed().as_nanos() * 24_000_000 / 8 / 1_000_000_000;
            while u128::from(sent) < due {
                let _ = sender.send_to(&packet, "10.1.0.2:9000");
                sent += 1514;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let (mut first, mut last, mut bytes) = (None, Instant::now(), 0u64);
    let mut buffer = [0u8; 2048];
    while let Ok(length) = receiver.recv(&mut buffer) {
        if start.elapsed() < Duration::from_millis(500) {
            continue;
        }
        last = Instant::now();
        match first {
            None => first = Some(last),
            Some(_) => bytes += length as u64 + 42,
        }
    }
    feeder.join().expect("the sender");
    let rate = bytes as f64 * 8.0 / last.duration_since(first.expect("packets")).as_secs_f64();
    // The rate is never exceeded; on a busy machine the sender may send less than three times as
    // much for a while.
    assert!((0.5..1.05).contains(&(rate / 8e6)), "8 Mbit/s were asked for, {:.3} arrived", rate / 1e6);

    let own = inside(&left, |n| tc::classes(n, 10));
    // iproute2 6.1 prints classes as text only: "Sent 1234 bytes 5 pkt (dropped 6, ...".
    let output = left.run(|| Command::new("tc").args(["-s", "class", "show", "dev", "left"]).output());
    let text = String::from_utf8(output.expect("a namespace").expect("tc").stdout).expect("text");
    let sent = text.lines().find(|l| l.contains("Sent ")).expect("counters");
    let numbers: Vec<u64> =
        sent.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert_eq!(own.len(), 1);
    assert_eq!([own[0].bytes, own[0].packets, own[0].drops.into()], numbers[..3], "{sent}");
    assert!(own[0].drops > 0, "a queue of 20 packets cannot hold three times the rate");
}

/// A port of 10 Mbit/s with 7 for DSCP 46 and 3 for the rest.
fn two_classes() -> Tree {
    Tree {
        default: 2,
        classes: vec![
            Class::new(0xfffe, 0, 10_000_000, 10_000_000, 0),
            Class::new(1, 0xfffe, 7_000_000, 10_000_000, 40).priority(1).bursts(20_000, 30_000).quantum(5000),
            Class::new(2, 0xfffe, 3_000_000, 9_000_000, 50),
        ],
        filters: vec![Filter::new(10, Select::Dscp(46), 1)],
    }
}

fn apply(n: &mut Netlink, wanted: Option<&Tree>) -> Result<usize, Error> {
    let actual = tc::read(n, 10)?;
    let requests = tc::difference(10, actual.as_ref(), wanted);
    n.batch(&requests)?;
    Ok(requests.len())
}

#[test]
fn a_tree_is_in_the_kernel_as_tc_shows_it_and_applying_it_again_writes_nothing() {
    if !is_root() {
        return;
    }
    let (left, _right) = pair();
    let tree = two_classes();
    assert_eq!(tree.check(), Ok(()));
    assert!(inside(&left, |n| apply(n, Some(&tree))) > 0);

    // iproute2 prints rates in its own units, in text only.
    let classes = text(&left, "tc", &["-d", "class", "show", "dev", "left"]);
    let of = |id: &str| {
        let line = classes.lines().find(|l| l.starts_with(&format!("class htb {id} ")));
        line.unwrap_or_else(|| panic!("no class {id} in {classes}")).to_owned()
    };
    for (id, parts) in [
        ("1:fffe", &["root", "rate 10Mbit ceil 10Mbit"][..]),
        ("1:1", &["parent 1:fffe", "prio 1", "quantum 5000", "rate 7Mbit ceil 10Mbit"]),
        ("1:2", &["parent 1:fffe", "prio 0", "rate 3Mbit ceil 9Mbit"]),
    ] {
        let line = of(id);
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    // tc prints bursts in bytes, rounded down to its ticks.
    let number = |line: &str, word: &str| -> u64 {
        let after = line.split(&format!(" {word} ")).nth(1).expect("the word");
        let text = after.split(['b', '/', ' ']).next().expect("a number").to_owned();
        let (digits, factor) = match text.strip_suffix('K') {
            Some(d) => (d.to_owned(), 1024),
            None => (text, 1),
        };
        digits.parse::<u64>().expect("a number") * factor
    };
    let line = of("1:1");
    assert!((19_900..=20_100).contains(&number(&line, "burst")), "{line}");
    assert!((29_900..=30_200).contains(&number(&line, "cburst")), "{line}");

    let qdiscs = json(&left, "tc", &["-j", "qdisc", "show", "dev", "left"]);
    let list = qdiscs.as_array().expect("a list");
    assert_eq!((&list[0]["kind"], &list[0]["options"]["default"]), (&"htb".into(), &"0x2".into()));
    let mut limits: Vec<(String, u64)> = list
        .iter()
        .filter(|q| q["kind"] == "pfifo")
        .map(|q| {
            (
                q["parent"].as_str().expect("text").to_owned(),
                q["options"]["limit"].as_u64().expect("a number"),
            )
        })
        .collect();
    limits.sort();
    assert_eq!(limits, [("1:1".into(), 40), ("1:2".into(), 50)]);
    let filters = json(&left, "tc", &["-j", "filter", "show", "dev", "left"]);
    let u32s: Vec<&Value> = filters
        .as_array()
        .expect("a list")
        .iter()
        .filter(|f| f["kind"] == "u32" && f["options"]["flowid"].is_string())
        .collect();
    assert_eq!(u32s.len(), 1, "{filters}");
    assert_eq!((&u32s[0]["pref"], &u32s[0]["options"]["flowid"]), (&10.into(), &"1:1".into()));

    // The tree that is read back is equal; there is no difference, and the kernel announces no
    // change.
    assert_eq!(inside(&left, |n| tc::read(n, 10)), Some(tree.normal()));
    let quiet = inside(&left, |n| {
        let mut listener = tc::Listener::open()?;
        assert_eq!(apply(n, Some(&tree))?, 0);
        listener.changed()
    });
    assert_eq!(quiet, Some(std::collections::BTreeSet::new()));

    // A change is announced; removing the tree restores the former state.
    let heard = inside(&left, |n| {
        let mut listener = tc::Listener::open()?;
        apply(n, None)?;
        listener.changed()
    });
    assert_eq!(heard, Some([10].into()));
    let qdiscs = json(&left, "tc", &["-j", "qdisc", "show", "dev", "left"]);
    assert!(qdiscs.as_array().expect("a list").iter().all(|q| q["kind"] == "noqueue"), "{qdiscs}");
}

#[test]
fn packets_go_into_the_classes_of_their_marks_by_either_classifier() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    let receiver = right.run(|| UdpSocket::bind("10.1.0.2:9100")).expect("a namespace").expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    for classifier in [Classifier::U32, Classifier::Bpf] {
        let mut tree = two_classes();
        tree.classes.push(Class::new(3, 0xfffe, 1_000_000, 10_000_000, 40));
        tree.filters = vec![
            Filter::new(10, Select::Dscp(46), 1).by(classifier),
            Filter::new(11, Select::Pcp(5), 3).by(classifier),
        ];
        inside(&left, |n| apply(n, None).and_then(|_| apply(n, Some(&tree))));
        assert_eq!(inside(&left, |n| tc::read(n, 10)), Some(tree.normal()), "{classifier:?}");
        let socket = left.run(|| UdpSocket::bind("10.1.0.1:0")).expect("a namespace").expect("a socket");
        let counts = || -> Vec<u64> {
            let classes = inside(&left, |n| tc::classes(n, 10));
            [1, 2, 3].map(|id| classes.iter().find(|c| c.id == id).expect("a class").packets).to_vec()
        };
        let send = |dscp: i32, times: u32| {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4Tos, &(dscp << 2))
                .expect("TOS");
            let mut buffer = [0; 64];
            for _ in 0..times {
                socket.send_to(b"x", "10.1.0.2:9100").expect("sent");
                receiver.recv(&mut buffer).expect("it arrives");
            }
        };
        // The first packet may wait for ARP, whose packets are in no class.
        send(0, 1);
        let before = counts();
        send(46, 20);
        send(0, 7);
        send(47, 3);
        let after = counts();
        let gone: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        assert_eq!(gone, [20, 10, 0], "{classifier:?}");

        // A tagged packet as a userspace switch sends it: by a packet socket, with the tag inside.
        tagged(&left, 5, 4);
        tagged(&left, 3, 6);
        let last = counts();
        let gone: Vec<u64> = last.iter().zip(&after).map(|(a, b)| a - b).collect();
        assert_eq!(gone, [0, 6, 4], "{classifier:?}");
    }
}

/// Sends tagged frames of that priority by a packet socket.
fn tagged(ns: &tandem_linux::netns::NetNs, pcp: u16, times: u32) {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, sendto, socket};
    use std::os::fd::AsRawFd;
    ns.run(|| {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll)
            .expect("a socket");
        let address = link_address("left");
        bind(socket.as_raw_fd(), &address).expect("bound");
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0];
        frame.extend_from_slice(&(pcp << 13 | 7).to_be_bytes());
        frame.extend_from_slice(&[0x08, 0x00, 0x45, 0, 0, 28]);
        frame.resize(60, 0);
        for _ in 0..times {
            sendto(socket.as_raw_fd(), &frame, &address, MsgFlags::empty()).expect("sent");
        }
    })
    .expect("a namespace");
}

/// The packet socket's address of an interface, as getifaddrs(3) has it.
fn link_address(name: &str) -> nix::sys::socket::LinkAddr {
    nix::ifaddrs::getifaddrs()
        .expect("interfaces")
        .filter(|i| i.interface_name == name)
        .find_map(|i| i.address.as_ref().and_then(|a| a.as_link_addr().copied()))
        .expect("its address")
}

#[test]
fn shares_change_while_packets_run_and_none_is_lost() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    inside(&left, |n| apply(n, Some(&two_classes())));
    let stream = Stream::start(&left, &right, 9200, Duration::from_micros(500));
    stream.wait(50);
    for round in 0..60u64 {
        let mut tree = two_classes();
        tree.classes[1].rate = 1_000_000 + round * 100_000;
        tree.classes[2].rate = 9_000_000 - round * 100_000;
        tree.classes[1].queue = 30 + (round % 20) as u32;
        tree.classes[2].ceil = 9_000_000 + (round % 2) * 1_000_000;
        let changes = inside(&left, |n| apply(n, Some(&tree)));
        assert!(changes >= 2, "something did change");
        stream.wait(5);
    }
    let (sent, lost) = stream.end();
    assert!(sent > 300);
    assert_eq!(lost, 0, "of {sent}");
    assert!(inside(&left, |n| tc::classes(n, 10)).iter().all(|c| c.drops == 0));
}

#[test]
fn the_default_class_changes_and_classes_come_and_go() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    inside(&left, |n| apply(n, Some(&two_classes())));
    let stream = Stream::start(&left, &right, 9300, Duration::from_micros(500));
    stream.wait(50);
    let packets = |id: u16| {
        let all = inside(&left, |n| tc::classes(n, 10));
        all.iter().find(|c| c.id == id).map_or(0, |c| c.packets)
    };
    let mut tree = two_classes();
    tree.default = 1;
    inside(&left, |n| apply(n, Some(&tree)));
    let before = packets(1);
    wait("packets in the new default class", || (packets(1) > before + 20).then_some(()));
    assert_eq!(inside(&left, |n| tc::read(n, 10)), Some(tree.normal()));
    tree.classes.push(Class::new(3, 0xfffe, 500_000, 10_000_000, 20));
    tree.filters.push(Filter::new(11, Select::Dscp(10), 3));
    inside(&left, |n| apply(n, Some(&tree)));
    assert_eq!(inside(&left, |n| tc::read(n, 10)), Some(tree.normal()));
    tree.classes.pop();
    tree.filters.pop();
    inside(&left, |n| apply(n, Some(&tree)));
    assert_eq!(inside(&left, |n| tc::read(n, 10)), Some(tree.normal()));
    assert_eq!(stream.end().1, 0, "packets lost");
}

#[test]
fn a_refusal_has_the_kernel_s_own_words() {
    if !is_root() {
        return;
    }
    let (left, _right) = pair();
    let error = left
        .run(|| {
            let mut n = Netlink::open()?;
            n.batch(&[tc::htb_root(10, 1)])?;
            n.batch(&[tc::remove_class(10, 5)])
        })
        .expect("a namespace")
        .expect_err("there is no class 1:5");
    assert!(error.to_string().contains("HTB class 1:5 from interface 10"), "{error}");
    let error = left
        .run(|| Netlink::open().and_then(|mut n| n.batch(&[tc::htb_root(10, 1)])))
        .expect("a namespace")
        .expect_err("it is there already");
    let Error::Refused { text, .. } = &error else { panic!("{error}") };
    assert!(std::error::Error::source(&error).is_none(), "its cause is in its message: {error}");
    assert!(text.contains("Exclusivity flag on"), "the extended text is missing: {error}");
}

#[test]
fn somebody_else_s_root_is_seen_and_put_back_as_it_was() {
    if !is_root() {
        return;
    }
    let (left, _right) = pair();
    assert!(inside(&left, tc::roots).is_empty(), "the kernel's own choice is nobody's");
    text(
        &left,
        "tc",
        &[
            "qdisc", "add", "dev", "left", "root", "handle", "7:", "tbf", "rate", "5mbit", "burst", "15k",
            "latency", "50ms",
        ],
    );
    let shown = json(&left, "tc", &["-j", "qdisc", "show", "dev", "left"]);
    let found = inside(&left, tc::roots).remove(&10).expect("a root");
    assert_eq!((found.kind.as_str(), found.is_classful()), ("tbf", false));
    inside(&left, |n| apply(n, Some(&two_classes())));
    inside(&left, |n| apply(n, None).and_then(|_| n.batch(&[found.request(10)])));
    assert_eq!(json(&left, "tc", &["-j", "qdisc", "show", "dev", "left"]), shown);
}

#[test]
fn counters_are_those_of_ip_and_of_tc() {
    if !is_root() {
        return;
    }
    let (left, right) = pair();
    inside(&left, |n| apply(n, Some(&two_classes())));
    let stream = Stream::start(&left, &right, 9400, Duration::from_micros(300));
    stream.wait(100);
    assert_eq!(stream.end().1, 0);
    let own = inside(&left, link::list).into_iter().find(|i| i.name == "left").expect("the interface");
    let stats = own.stats.expect("counters");
    let shown = json(&left, "ip", &["-s", "-j", "link", "show", "dev", "left"]);
    let tx = &shown[0]["stats64"]["tx"];
    assert_eq!(
        (tx["bytes"].as_u64(), tx["packets"].as_u64()),
        (Some(stats.tx_bytes), Some(stats.tx_packets))
    );
    let classes = inside(&left, |n| tc::classes(n, 10));
    let text = text(&left, "tc", &["-s", "class", "show", "dev", "left"]);
    let mut lines = text.lines();
    let mut compared = 0;
    while let Some(line) = lines.next() {
        let Some(id) = line.strip_prefix("class htb 1:").and_then(|l| l.split(' ').next()) else { continue };
        let id = u16::from_str_radix(id, 16).expect("a number");
        let sent = lines.find(|l| l.contains("Sent ")).expect("counters");
        let numbers: Vec<u64> =
            sent.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        let class = classes.iter().find(|c| c.id == id).expect("the class");
        assert_eq!([class.bytes, class.packets, class.drops.into()], numbers[..3], "{sent}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}
