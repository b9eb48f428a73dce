//! Frames from an interface, in a network namespace with a veth pair in place of a driver's
//! interface.

use nix::sched::{CloneFlags, unshare};
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};
use tandem_fpga_card::interface::{Listener, of_port};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_cards_interfaces_are_four_in_a_row() {
    for (device, port, wanted) in
        [("nf2c0", 0, "nf2c0"), ("nf2c0", 3, "nf2c3"), ("nf2c2", 0, "nf2c0"), ("nf2c6", 1, "nf2c5")]
    {
        assert_eq!(of_port(device, port).as_deref(), Some(wanted), "{device} {port}");
    }
    for (device, port) in [("eth0", 0), ("nf2c", 0), ("nf2c-1", 0), ("nf2c0", 4), ("nf2c4294967296", 0)] {
        assert_eq!(of_port(device, port), None, "{device} {port}");
    }
}

/// Whether the test can run: as root, with `ip`. In CI, not being able to is a failure.
fn is_possible() -> bool {
    let ip = Command::new("ip").arg("-V").output().is_ok_and(|o| o.status.success());
    if ip && nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "in CI nothing is skipped; missing: root or ip (package iproute2)"
    );
    eprintln!("skipped: missing root or ip (package iproute2)");
    false
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("it runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_comes_by_an_interface_is_handed_out_and_an_interface_that_is_gone_is_an_error() {
    if !is_possible() {
        return;
    }
    // A namespace belongs to a thread, and ends with it.
    let done = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        assert!(Listener::open("nf2c0").is_err(), "there is no such interface");
        ip("link add nf2c0 type veth peer name end");
        ip("link set nf2c0 up");
        ip("link set end up");
        ip("address add 10.9.0.1/24 dev end");
        ip("neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev end");
        let mut listener = Listener::open("nf2c0").expect("opened");
        let socket = UdpSocket::bind("10.9.0.1:5000").expect("bound");
        let marks: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n ^ 0xa5; 100]).collect();
        for mark in &marks {
            socket.send_to(mark, "10.9.0.2:5000").expect("sent");
        }
        let mut seen = Vec::new();
        let began = Instant::now();
        while seen.len() < marks.len() {
            assert!(began.elapsed() < LIMIT, "{} of {}", seen.len(), marks.len());
            let frames = listener.frames().expect("asked");
            // The kernel sends frames of its own too. The wanted ones have Ethernet, IPv4 and UDP
            // headers before the mark.
            seen.extend(frames.into_iter().filter(|f| f.len() == 14 + 20 + 8 + 100 && f[23] == 17));
        }
        assert!(seen.iter().all(|f| f[..6] == [2, 0, 0, 0, 0, 2]), "as they are on the wire");
        assert_eq!(seen.iter().map(|f| f[42..].to_vec()).collect::<Vec<_>>(), marks, "all, and in order");
        ip("link delete nf2c0");
        let gone = (0..2_000).find_map(|_| listener.frames().err());
        assert!(gone.is_some(), "it is said that the interface is gone");
    })
    .join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}
