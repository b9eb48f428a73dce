//! Shared by the tests of this crate: namespaces with a link between them, the kernel's own tools,
//! waiting with a deadline.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::{Error, link};

/// How long anything may take before a test gives up.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root");
    eprintln!("skipped: missing root");
    false
}

pub fn json(ns: &NetNs, program: &str, arguments: &[&str]) -> Value {
    let output =
        ns.run(|| Command::new(program).args(arguments).output()).expect("a namespace").expect("the tool");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub fn inside<T: Send>(ns: &NetNs, work: impl FnOnce(&mut Netlink) -> Result<T, Error> + Send) -> T {
    ns.run(|| work(&mut Netlink::open()?)).expect("a namespace").expect("the kernel's consent")
}

/// Two namespaces with a link between them, and addresses at both ends.
pub fn pair() -> (NetNs, NetNs) {
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

/// The output of a tool inside a namespace.
pub fn text(ns: &NetNs, program: &str, arguments: &[&str]) -> String {
    let output =
        ns.run(|| Command::new(program).args(arguments).output()).expect("a namespace").expect("the tool");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until `ready` returns a value.
pub fn wait<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends numbered packets from the left end of a [`pair`] to the right end until it is stopped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Starts to send a packet each `pause`.
    pub fn start(left: &NetNs, right: &NetNs, port: u16, pause: Duration) -> Stream {
        let to = (Ipv4Addr::new(10, 1, 0, 2), port);
        let receiver = right.run(|| UdpSocket::bind(to)).expect("a namespace").expect("a socket");
        let sender = left.run(|| UdpSocket::bind("10.1.0.1:0")).expect("a namespace").expect("a socket");
        receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let feeding = (stop.clone(), sent.clone());
        let feeder = std::thread::spawn(move || {
            while !feeding.0.load(Ordering::Relaxed) {
                sender.send_to(&[0; 200], to).expect("sent");
                feeding.1.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(pause);
            }
        });
        let reading = (stop.clone(), received.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            loop {
                match receiver.recv(&mut buffer) {
                    Ok(_) => drop(reading.1.fetch_add(1, Ordering::Relaxed)),
                    Err(_) if reading.0.load(Ordering::Relaxed) => return,
                    Err(_) => {}
                }
            }
        });
        Stream { stop, sent, received, threads: vec![feeder, reader] }
    }

    /// Waits until this many more have arrived.
    pub fn wait(&self, more: u64) {
        let from = self.received.load(Ordering::Relaxed);
        wait("packets arrive", || (self.received.load(Ordering::Relaxed) >= from + more).then_some(()));
    }

    /// The numbers of packets sent and lost.
    pub fn end(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| t.join().expect("a thread"));
        let sent = self.sent.load(Ordering::Relaxed);
        (sent, sent - self.received.load(Ordering::Relaxed))
    }
}
