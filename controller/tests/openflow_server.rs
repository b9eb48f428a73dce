//! The OpenFlow server over real sockets, against a switch in memory: several connections of one
//! switch, and a switch that reads nothing while it has something to say.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tandem_controller::event_loop::{Input, now};
use tandem_controller::openflow_server::switchboard::Peer;
use tandem_controller::openflow_server::{Caller, Server, SwitchLine, connection::connection};
use tandem_model::{
    Cookie, Dpid, ETH_IPV4, Effect, Event, Leave, Owner, PortNo, Prefix, Rule, RuleAction, RuleKey,
    RuleMatch, TxnId,
};
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Description, Port, Sink, Switch};
use tandem_openflow::{framing, header};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

const DPID: Dpid = Dpid(7);
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes that a socket takes in before a write waits (the kernel doubles it).
const SMALL: u32 = 4096;

/// What the switch says to each of its controllers.
#[derive(Default)]
struct Said(Vec<(ConnId, Vec<u8>)>);

impl Sink for Said {
    fn transmit(&mut self, _: u32, _: u32, _: &[u8]) {}
    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.0.push((conn, bytes.to_vec()));
    }
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// A switch that is shared by its connections.
type Shared = Arc<Mutex<Switch>>;

fn switch(software: &str) -> Shared {
    let description = Description {
        manufacturer: "nobody".into(),
        hardware: "memory".into(),
        software: software.into(),
        ..Description::default()
    };
    let mut switch = Switch::new(Config {
        dpid: DPID,
        tables: 2,
        flows: 20_000,
        versions: vec![header::V13],
        description,
        buffers: 0,
        ..Config::default()
    });
    let port = Port {
        number: 1,
        name: "p1".into(),
        mac: [2, 0, 0, 0, 0, 1],
        up: true,
        speed: Some(1_000_000_000),
        config: 0,
        queues: Vec::new(),
    };
    switch.port(port, now(), &mut Said::default());
    Arc::new(Mutex::new(switch))
}

fn flows(switch: &Shared) -> usize {
    switch.lock().expect("no panic").pipeline().tables.iter().map(|t| t.iter().count()).sum()
}

/// One connection of a switch, on a thread: takes in one message, and nothing more until its
/// answers are written.
fn attach(switch: &Shared, stream: TcpStream) -> std::thread::JoinHandle<Vec<u8>> {
    let mut stream = stream.into_std().expect("a socket");
    stream.set_nonblocking(false).expect("a socket");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    let switch = switch.clone();
    std::thread::spawn(move || {
        let mut said = Said::default();
        let conn = switch.lock().expect("no panic").connected(now(), &mut said);
        let (mut bytes, mut read, mut last) = (Vec::new(), [0; 1024], Vec::new());
        loop {
            for (to, bytes) in said.0.drain(..) {
                // What the other end has said before it closed is read all the same.
                if to == conn {
                    let _ = stream.write_all(&bytes);
                }
            }
            if let Ok(Some((message, rest))) = framing::next(&bytes) {
                // What is said of the end, though questions that were on their way may come behind
                // it.
                if message[1] == 1 || last.get(1) != Some(&1) {
                    last = message.to_vec();
                }
                let (message, rest) = (message.to_vec(), rest.to_vec());
                let _ = switch.lock().expect("no panic").on_message(conn, &message, now(), &mut said);
                bytes = rest;
                continue;
            }
            match stream.read(&mut read) {
                Ok(0) | Err(_) => return last,
                Ok(count) => bytes.extend_from_slice(&read[..count]),
            }
        }
    })
}

/// One connection of a switch that takes in nothing any more from the moment that it is told to,
/// and says `then` over and over.
fn attach_deaf(switch: &Shared, stream: TcpStream, then: Vec<u8>) -> Arc<AtomicBool> {
    let mut stream = stream.into_std().expect("a socket");
    stream.set_nonblocking(false).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket");
    let (switch, is_deaf) = (switch.clone(), Arc::new(AtomicBool::new(false)));
    let told = is_deaf.clone();
    std::thread::spawn(move || {
        let mut said = Said::default();
        let conn = switch.lock().expect("no panic").connected(now(), &mut said);
        let (mut bytes, mut read) = (Vec::new(), [0; 1024]);
        while !told.load(Ordering::Relaxed) {
            for (_, bytes) in said.0.drain(..).filter(|(to, _)| *to == conn) {
                stream.write_all(&bytes).expect("it listens");
            }
            let count = stream.read(&mut read).unwrap_or(0);
            bytes.extend_from_slice(&read[..count]);
            while let Ok(Some((message, rest))) = framing::next(&bytes) {
                let (message, rest) = (message.to_vec(), rest.to_vec());
                let _ = switch.lock().expect("no panic").on_message(conn, &message, now(), &mut said);
                bytes = rest;
            }
        }
        // Until the other end has closed.
        loop {
            let done =
                if then.is_empty() { stream.peek(&mut [0]).map(drop) } else { stream.write_all(&then) };
            match done {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => std::thread::sleep(Duration::from_millis(if then.is_empty() { 10 } else { 0 })),
            }
        }
    });
    is_deaf
}

/// Stands for the event loop.
struct EventLoop {
    server: Server,
    inputs: mpsc::Receiver<Input>,
    lines: BTreeMap<Dpid, (u64, SwitchLine)>,
}

impl EventLoop {
    fn new() -> EventLoop {
        let (sender, inputs) = mpsc::channel(16);
        let cfg = tandem_switch_driver::Config {
            poll_period: Duration::from_secs(3600),
            lldp_period: None,
            secret: 1,
            packet_ins: 100,
            session: tandem_openflow::session::Config::default(),
        };
        EventLoop { server: Server::new(cfg, [DPID], 100, sender), inputs, lines: BTreeMap::new() }
    }

    /// The switch's end of a new connection, whose two sockets are small.
    async fn dial(&self, from: [u8; 4]) -> TcpStream {
        let listening = TcpSocket::new_v4().expect("a socket");
        listening.set_recv_buffer_size(SMALL).expect("a size");
        listening.set_send_buffer_size(SMALL).expect("a size");
        listening.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let listener = listening.listen(1).expect("a listener");
        let dialling = TcpSocket::new_v4().expect("a socket");
        dialling.set_recv_buffer_size(SMALL).expect("a size");
        dialling.set_send_buffer_size(SMALL).expect("a size");
        dialling.bind(SocketAddr::from((from, 0))).expect("an address of this machine");
        let at = listener.local_addr().expect("an address");
        let (dialled, accepted) = tokio::join!(dialling.connect(at), listener.accept());
        let (stream, peer) = accepted.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let caller = Caller { peer: Peer::Address(peer.ip()), name: format!("tcp:{peer}") };
        tokio::spawn(connection(stream, caller, self.server.clone()));
        let dialled = dialled.expect("a connection");
        dialled.set_nodelay(true).expect("a socket");
        dialled
    }

    /// The next fact that tells something, as text; who drives the switch is remembered.
    async fn next(&mut self) -> Event {
        loop {
            let input =
                tokio::time::timeout(LIMIT, self.inputs.recv()).await.expect("something happens in time");
            match input.expect("a server") {
                Input::Connected(dpid, id, line) => drop(self.lines.insert(dpid, (id, line))),
                Input::Disconnected(dpid, id, why) if self.lines.get(&dpid).is_some_and(|l| l.0 == id) => {
                    self.lines.remove(&dpid);
                    return Event::SwitchDown { switch: dpid, why };
                }
                Input::Switch(dpid, id, event) if self.lines.get(&dpid).is_some_and(|l| l.0 == id) => {
                    if !matches!(event, Event::Samples { .. }) {
                        return event;
                    }
                }
                Input::Event(event) => return event,
                other => panic!("of a connection that does not drive the switch: {other:?}"),
            }
        }
    }

    fn order(&self, effect: Effect) {
        self.lines[&DPID].1.carry(effect);
    }
}

fn rule(n: u32) -> Rule {
    let matching = RuleMatch {
        eth_type: Some(ETH_IPV4),
        ip_dst: Prefix::new(Ipv4Addr::from_bits(0x0a00_0000 | n), 32),
        ..RuleMatch::default()
    };
    Rule {
        key: RuleKey { table: 0, priority: 100, matching },
        actions: vec![RuleAction::Output(PortNo(1))],
        cookie: Cookie::new(Owner::Fabric, 0),
    }
}

fn sync(txn: u64, rules: Vec<Rule>) -> Effect {
    Effect::SyncRules { switch: DPID, txn: TxnId(txn), rules, leave: Leave::Nothing }
}

/// Each deletion is answered (OFPT_FLOW_REMOVED), and whoever writes all of them before it reads
/// waits for a switch that waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_reads_nothing_while_it_writes_gets_all_12000_deletions() {
    const RULES: u32 = 12_000;
    let mut event_loop = EventLoop::new();
    let switch = switch("1");
    let stream = event_loop.dial([127, 0, 0, 1]).await;
    attach(&switch, stream);
    assert!(matches!(event_loop.next().await, Event::SwitchUp { switch: DPID, .. }));
    event_loop.order(sync(1, (0..RULES).map(rule).collect()));
    let applied = |txn, added, removed| Event::RulesApplied { switch: DPID, txn: TxnId(txn), added, removed };
    assert_eq!(event_loop.next().await, applied(1, RULES, 0));
    let remove: Vec<RuleKey> = (0..RULES).map(|n| rule(n).key).collect();
    event_loop.order(Effect::ApplyRules { switch: DPID, txn: TxnId(2), add: Vec::new(), remove });
    assert_eq!(event_loop.next().await, applied(2, 0, RULES));
    assert_eq!(flows(&switch), 0);
}

/// What the event loop has for a switch that takes in nothing waits up to a bound; then the
/// connection ends with the reason, and the switch is told all anew when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_takes_in_too_little_is_closed_and_synchronised_anew() {
    let mut event_loop = EventLoop::new();
    let switch = switch("1");
    let is_deaf = attach_deaf(&switch, event_loop.dial([127, 0, 0, 1]).await, Vec::new());
    assert!(matches!(event_loop.next().await, Event::SwitchUp { .. }));
    is_deaf.store(true, Ordering::Relaxed);
    // More than may wait at the event loop's end and in the connection together: 8192 effects, and those
    // of 256 KiB.
    for n in 0..30_000 {
        let add = vec![rule(n)];
        event_loop.order(Effect::ApplyRules { switch: DPID, txn: TxnId(n.into()), add, remove: Vec::new() });
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let down = event_loop.next().await;
    let is_told =
        |e: &Event| matches!(e, Event::SwitchDown { why, .. } if why.contains("takes in too little"));
    assert!(is_told(&down), "{down:?}");
    attach(&switch, event_loop.dial([127, 0, 0, 1]).await);
    assert!(matches!(event_loop.next().await, Event::SwitchUp { .. }));
    event_loop.order(sync(1, (0..100).map(rule).collect()));
    assert!(matches!(event_loop.next().await, Event::RulesApplied { txn: TxnId(1), .. }));
    assert_eq!(flows(&switch), 100);
}

/// Questions without end whose answers nobody takes in: they do not pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_asks_and_takes_in_no_answer_is_closed() {
    let mut event_loop = EventLoop::new();
    let switch = switch("1");
    // OFPT_ECHO_REQUEST of 60,000 bytes.
    let mut echo = vec![4, 2, 0xea, 0x60, 0, 0, 0, 1];
    echo.resize(60_000, 0);
    let is_deaf = attach_deaf(&switch, event_loop.dial([127, 0, 0, 1]).await, echo);
    assert!(matches!(event_loop.next().await, Event::SwitchUp { .. }));
    is_deaf.store(true, Ordering::Relaxed);
    let down = event_loop.next().await;
    let is_told =
        |e: &Event| matches!(e, Event::SwitchDown { why, .. } if why.contains("takes in no answer"));
    assert!(is_told(&down), "{down:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_connection_of_a_switch_takes_over_and_no_rule_is_touched() {
    let mut event_loop = EventLoop::new();
    let switch = switch("1");
    let first = event_loop.dial([127, 0, 0, 1]).await;
    let unplug = first.into_std().expect("a socket");
    let stream = TcpStream::from_std(unplug.try_clone().expect("a socket")).expect("a socket");
    attach(&switch, stream);
    assert!(matches!(event_loop.next().await, Event::SwitchUp { .. }));
    event_loop.order(sync(1, (0..100).map(rule).collect()));
    assert!(matches!(event_loop.next().await, Event::RulesApplied { added: 100, .. }));

    // Of the same switch, from elsewhere: nobody is told, and it gets no order.
    let second = event_loop.dial([127, 0, 0, 2]).await;
    let standby = attach(&switch, second);
    let asked = tokio::time::timeout(Duration::from_secs(1), event_loop.next()).await;
    assert!(asked.is_err(), "{asked:?}");
    event_loop.order(Effect::ApplyRules {
        switch: DPID,
        txn: TxnId(2),
        add: vec![rule(200)],
        remove: Vec::new(),
    });
    assert!(matches!(event_loop.next().await, Event::RulesApplied { txn: TxnId(2), .. }));

    unplug.shutdown(std::net::Shutdown::Both).expect("unplugged");
    let up = event_loop.next().await;
    assert!(matches!(&up, Event::SwitchUp { caps, .. } if caps.peer.contains("127.0.0.2")), "{up:?}");
    assert_eq!(flows(&switch), 101, "nothing was taken away");
    event_loop.order(sync(3, (0..100).chain([200]).map(rule).collect()));
    let applied = event_loop.next().await;
    assert_eq!(applied, Event::RulesApplied { switch: DPID, txn: TxnId(3), added: 0, removed: 0 });
    assert!(!standby.is_finished());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_peer_wins_and_to_and_fro_neither_is_used() {
    let mut event_loop = EventLoop::new();
    let (ours, theirs) = (switch("ours"), switch("theirs"));
    let older = attach(&ours, event_loop.dial([127, 0, 0, 1]).await);
    assert!(matches!(event_loop.next().await, Event::SwitchUp { .. }));
    let newer = attach(&theirs, event_loop.dial([127, 0, 0, 2]).await);
    let told = event_loop.next().await;
    assert!(
        matches!(&told, Event::SwitchTrouble { what, .. } if what.contains("127.0.0.1") && what.contains("127.0.0.2")),
        "{told:?}"
    );
    assert!(
        matches!(&event_loop.next().await, Event::SwitchUp { caps, .. } if caps.description.contains("theirs"))
    );
    // OFPT_ERROR, OFPET_HELLO_FAILED, OFPHFC_EPERM, and who it was.
    let last = tokio::task::spawn_blocking(|| older.join().expect("no panic")).await.expect("it is closed");
    let text = String::from_utf8_lossy(&last[12..]).into_owned();
    assert!(last[1] == 1 && last[8..12] == [0, 0, 0, 1] && text.contains("127.0.0.2"), "{last:?} {text}");

    let again = attach(&ours, event_loop.dial([127, 0, 0, 1]).await);
    assert!(matches!(event_loop.next().await, Event::SwitchTrouble { .. }));
    assert!(matches!(event_loop.next().await, Event::SwitchUp { .. }));
    attach(&theirs, event_loop.dial([127, 0, 0, 2]).await);
    // Whether the notice or the end is told first is nobody's business.
    let events = [event_loop.next().await, event_loop.next().await];
    let contested =
        |e: &&Event| matches!(e, Event::SwitchTrouble { what, .. } if what.contains("to and fro"));
    assert_eq!(events.iter().filter(contested).count(), 1, "{events:?}");
    assert_eq!(events.iter().filter(|e| matches!(e, Event::SwitchDown { .. })).count(), 1, "{events:?}");
    for thread in [newer, again] {
        tokio::task::spawn_blocking(|| thread.join().expect("no panic")).await.expect("it is closed");
    }
    let late = attach(&ours, event_loop.dial([127, 0, 0, 1]).await);
    let last = tokio::task::spawn_blocking(|| late.join().expect("no panic")).await.expect("it is closed");
    assert!(String::from_utf8_lossy(&last).contains("to and fro"), "{last:?}");
}
