//! What was asked for is what the kernel has, by the kernel's own tools. Everything happens in namespaces that these tests make.

use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::{Error, ethtool, link, tc};

fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root");
    eprintln!("skipped: missing root");
    false
}

fn json(ns: &NetNs, program: &str, arguments: &[&str]) -> Value {
    let output =
        ns.run(|| Command::new(program).args(arguments).output()).expect("a namespace").expect("the tool");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn inside<T: Send>(ns: &NetNs, work: impl FnOnce(&mut Netlink) -> Result<T, Error> + Send) -> T {
    ns.run(|| work(&mut Netlink::open()?)).expect("a namespace").expect("the kernel's consent")
}

/// Two namespaces with a cable between them, addresses at both ends.
fn pair() -> (NetNs, NetNs) {
    let mut both = NetNs::many(2, link::disable_ipv6).expect("namespaces");
    let (right, left) = (both.pop().expect("two"), both.pop().expect("two"));
    let veth = link::Veth::new(("left", 10, &left), ("right", 11, &right))
        .mac_a([2, 0, 0, 0, 0, 1])
        .mac_b([2, 0, 0, 0, 0, 2]);
    Netlink::open().and_then(|mut n| n.batch(&[veth.request()])).expect("a cable");
    inside(&left, |n| n.batch(&[link::address(10, Ipv4Addr::new(10, 1, 0, 1), 24)]));
    inside(&right, |n| n.batch(&[link::set_up(11, true), link::address(11, Ipv4Addr::new(10, 1, 0, 2), 24)]));
    (left, right)
}

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

    // A refusal says on what, and why.
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
    // Three times what the link carries, for a second and a half; what arrives after the first half counts.
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
    assert!((rate / 8e6 - 1.0).abs() < 0.05, "8 Mbit/s were asked for, {:.3} arrived", rate / 1e6);

    let own = inside(&left, |n| tc::classes(n, 10));
    // iproute2 6.1 prints classes as text only: "Sent 1234 bytes 5 pkt (dropped 6, ...".
    let output = left.run(|| Command::new("tc").args(["-s", "class", "show", "dev", "left"]).output());
    let text = String::from_utf8(output.expect("a namespace").expect("tc").stdout).expect("text");
    let sent = text.lines().find(|l| l.contains("Sent ")).expect("counters");
    let numbers: Vec<u64> =
        sent.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert_eq!(own.len(), 1);
    assert_eq!([own[0].bytes, own[0].packets.into(), own[0].drops.into()], numbers[..3], "{sent}");
    assert!(own[0].drops > 0, "a queue of 20 packets cannot hold three times the rate");
}
