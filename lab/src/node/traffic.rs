//! Native traffic: UDP and TCP at a rate, from a socket in one namespace to a socket in another, measured where it arrives.
//!
//! Every UDP packet carries its number and when it was sent, so that delay, jitter, loss and reordering are known exactly. TCP sends
//! messages of a fixed length that carry the same: delay and jitter are then what an application sees, retransmissions included. Where both
//! ends are on one machine, they have one clock; where only one end of a flow is on this machine, the other end's figures are merged by
//! whoever knows both, and the delay is corrected by the difference of the clocks.

use crate::control::messages::FlowReport;
use crate::node::vm_relocation::Gate;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tandem_linux::netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// First port of generated traffic; a flow's is this plus its id, wrapping.
const PORTS: u16 = 20_000;
/// IPv4 and UDP headers.
const HEADERS: u16 = 28;
/// Ethernet header.
const ETHERNET: u64 = 14;
/// Bytes of a TCP flow's message, its head included.
const MESSAGE: usize = 8192;
/// Flows that ended whose figures are kept: an experiment reads its own within seconds, and each is some 300 bytes.
pub const ENDED: usize = 1000;
/// Payload of a full TCP segment on Ethernet, with timestamps (RFC 7323), and the frame that it makes on layer 2.
const SEGMENT: (f64, f64) = (1448.0, 1514.0);

/// A flow to be generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its id.
    pub id: u64,
    /// Sender's and receiver's addresses.
    pub addresses: (Ipv4Addr, Ipv4Addr),
    /// Sender's and receiver's names, for reports.
    pub ends: String,
    /// Bits a second, layer 2.
    pub rate: u64,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// Bytes of an IP packet.
    pub packet: u16,
}

impl Spec {
    /// A flow that a person or an experiment asks for: from and to as names and addresses.
    pub fn of(id: u64, from: &(String, Ipv4Addr), to: &(String, Ipv4Addr), rate: u64, tcp: bool) -> Spec {
        let ends = format!("{} -> {}", from.0, to.0);
        Spec { id, addresses: (from.1, to.1), ends, rate, tcp, packet: 1400 }
    }
}

#[derive(Debug, Default)]
struct Measured {
    sent: u64,
    received: u64,
    bytes: u64,
    reordered: u64,
    highest: u64,
    delay_sum: f64,
    jitter: f64,
    last_transit: Option<f64>,
    first: Option<Instant>,
    last: Option<Instant>,
    ended: Option<Instant>,
    failed: Option<String>,
}

impl Measured {
    /// Takes a packet or message in that was `transit` seconds on its way.
    fn take(&mut self, number: u64, transit: f64, bytes: u64) {
        self.received += 1;
        self.reordered += u64::from(number < self.highest);
        self.highest = self.highest.max(number);
        self.delay_sum += transit;
        // RFC 3550 section 6.4.1.
        if let Some(last) = self.last_transit.replace(transit) {
            self.jitter += ((transit - last).abs() - self.jitter) / 16.0;
        }
        self.count(bytes);
    }

    fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        let at = Instant::now();
        self.first.get_or_insert(at);
        self.last = Some(at);
    }
}

struct Flow {
    spec: Spec,
    started: Instant,
    measured: Arc<Mutex<Measured>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Flow {
    /// Ends its tasks and waits until they have let go of their sockets: the port may be wanted again at once. Must be called within a
    /// runtime, on a thread that is not the runtime's.
    fn end(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = Handle::current().block_on(task);
        }
        with(&self.measured, |m| m.ended = m.ended.or_else(|| Some(Instant::now())));
    }
}

/// All flows of a lab: those that run, and what is left of the last [`ENDED`] that did.
#[derive(Default)]
pub struct Traffic {
    flows: BTreeMap<u64, Flow>,
    ended: Ended,
}

/// What flows have measured that ended: figures only, the latest [`ENDED`] of them.
#[derive(Debug, Default)]
pub struct Ended {
    reports: BTreeMap<u64, FlowReport>,
    /// Their ids, the first that ended first.
    order: VecDeque<u64>,
    forgotten: u64,
}

impl Ended {
    /// Notes what an ended flow has measured; the oldest is forgotten for it where there are too many.
    pub fn note(&mut self, report: FlowReport) {
        self.take(report.id);
        self.order.push_back(report.id);
        self.reports.insert(report.id, report);
        while self.order.len() > ENDED {
            let Some(oldest) = self.order.pop_front() else { return };
            self.reports.remove(&oldest);
            self.forgotten += 1;
        }
    }

    /// Gives a flow's figures back, and forgets them.
    pub fn take(&mut self, id: u64) -> Option<FlowReport> {
        let report = self.reports.remove(&id)?;
        self.order.retain(|n| *n != id);
        Some(report)
    }

    /// In order of ids.
    pub fn reports(&self) -> impl Iterator<Item = &FlowReport> {
        self.reports.values()
    }

    /// How many have been forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

type Shared = Arc<Mutex<Measured>>;

fn with<T>(shared: &Shared, f: impl FnOnce(&mut Measured) -> T) -> T {
    f(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Traffic {
    /// Starts a flow between two namespaces, or the one end of it that is on this machine; one that runs already with the same figures is left as it is. Must be called within
    /// the runtime that is to carry it, on a thread that is not the runtime's. While the sender's gate is closed, nothing is sent: what
    /// would have been sent meanwhile never is.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub fn start(
        &mut self,
        spec: Spec,
        from: Option<(&NetNs, Gate)>,
        to: Option<&NetNs>,
    ) -> anyhow::Result<()> {
        if self
            .flows
            .get(&spec.id)
            .is_some_and(|f| f.spec == spec && with(&f.measured, |m| m.ended.is_none()))
        {
            return Ok(());
        }
        if let Some(mut before) = self.flows.remove(&spec.id) {
            before.end();
        }
        self.ended.take(spec.id);
        let port = PORTS + (spec.id % 40_000) as u16;
        let measured: Shared = Arc::default();
        // A VM whose client has its lease may not have configured it yet: nothing here depends on the address being there.
        let any = |port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
        let there = SocketAddr::V4(SocketAddrV4::new(spec.addresses.1, port));
        let mut tasks = Vec::new();
        if let Some(to) = to {
            if spec.tcp {
                let listener = to.run(|| std::net::TcpListener::bind(any(port)))??;
                listener.set_nonblocking(true)?;
                tasks.push(tokio::spawn(tcp_receiver(TcpListener::from_std(listener)?, measured.clone())));
            } else {
                let receiver = to.run(|| std::net::UdpSocket::bind(any(port)))??;
                receiver.set_nonblocking(true)?;
                let (receiver, room) = (UdpSocket::from_std(receiver)?, usize::from(spec.packet));
                tasks.push(tokio::spawn(udp_receiver(receiver, room, measured.clone())));
            }
        }
        if let Some((from, gate)) = from {
            if spec.tcp {
                let from = from.duplicate()?;
                tasks.push(tokio::spawn(tcp_sender(from, gate, there, spec.rate, measured.clone())));
            } else {
                let sender = from.run(|| std::net::UdpSocket::bind(any(0)))??;
                sender.set_nonblocking(true)?;
                let size = usize::from(spec.packet.saturating_sub(HEADERS).max(16));
                let sender = UdpSocket::from_std(sender)?;
                tasks.push(tokio::spawn(udp_sender(sender, gate, there, size, spec.rate, measured.clone())));
            }
        }
        self.flows.insert(spec.id, Flow { spec, started: Instant::now(), measured, tasks });
        Ok(())
    }

    /// Ends a flow; its figures stay. Must be called as `start`.
    pub fn stop(&mut self, id: u64) {
        if let Some(mut flow) = self.flows.remove(&id) {
            flow.end();
            self.ended.note(flow.report());
        }
    }

    /// Everything that was measured and is not forgotten, in order of ids.
    pub fn report(&self) -> Vec<FlowReport> {
        let mut all: Vec<FlowReport> = self.flows.values().map(Flow::report).collect();
        all.extend(self.ended.reports().cloned());
        all.sort_by_key(|f| f.id);
        all
    }

    /// How many flows that ended have been forgotten.
    pub fn forgotten(&self) -> u64 {
        self.ended.forgotten()
    }
}

impl Flow {
    fn report(&self) -> FlowReport {
        with(&self.measured, |m| {
            let span = m.first.zip(m.last).map_or(0.0, |(a, b)| b.duration_since(a).as_secs_f64());
            let end = m.ended.unwrap_or_else(Instant::now);
            FlowReport {
                id: self.spec.id,
                ends: self.spec.ends.clone(),
                transport: if self.spec.tcp { "tcp" } else { "udp" }.into(),
                rate: self.spec.rate,
                goodput: if span > 0.0 { m.bytes as f64 * 8.0 / span } else { 0.0 },
                bytes: m.bytes,
                sent: m.sent,
                received: m.received,
                reordered: m.reordered,
                delay_ms: if m.received > 0 { m.delay_sum / m.received as f64 * 1e3 } else { 0.0 },
                jitter_ms: m.jitter * 1e3,
                seconds: end.duration_since(self.started).as_secs_f64(),
                ended: m.ended.is_some(),
            }
        })
    }
}

/// Nanoseconds on this machine's clock that never jumps (CLOCK_MONOTONIC).
pub fn clock() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned())
}

/// Waits until the sender runs, and moves its schedule by as long as it was paused.
async fn runs<'a>(gate: &'a Gate, start: &mut tokio::time::Instant) -> tokio::sync::RwLockReadGuard<'a, ()> {
    if let Ok(open) = gate.try_read() {
        return open;
    }
    let closed = Instant::now();
    let open = gate.read().await;
    *start += closed.elapsed();
    open
}

async fn udp_sender(
    socket: UdpSocket,
    gate: Gate,
    there: SocketAddr,
    size: usize,
    rate: u64,
    shared: Shared,
) {
    let frame = (size as u64 + u64::from(HEADERS) + ETHERNET) * 8;
    let mut start = tokio::time::Instant::now();
    let mut packet = vec![0u8; size];
    let mut number = 0u64;
    loop {
        // Each packet has its own moment, counted from the start: the rate is exact however late a timer is.
        let due = Duration::from_nanos(
            (u128::from(number) * u128::from(frame) * 1_000_000_000 / u128::from(rate.max(1))) as u64,
        );
        tokio::time::sleep_until(start + due).await;
        let _open = runs(&gate, &mut start).await;
        number += 1;
        packet[..8].copy_from_slice(&number.to_be_bytes());
        packet[8..16].copy_from_slice(&clock().to_be_bytes());
        // An unreachable receiver (not there yet, or gone) is a packet lost, not an end.
        let _ = socket.send_to(&packet, there).await;
        with(&shared, |m| m.sent = number);
    }
}

async fn udp_receiver(socket: UdpSocket, room: usize, shared: Shared) {
    // Not in the task itself: it would be as large for every flow.
    let mut packet = vec![0u8; room.max(usize::from(HEADERS))];
    loop {
        let Ok(length) = socket.recv(&mut packet).await else { continue };
        let now = clock();
        let Some(([n, t], _)) =
            packet.get(..length).and_then(|p| p.as_chunks::<8>().0.split_first_chunk::<2>())
        else {
            continue;
        };
        let (number, sent) = (u64::from_be_bytes(*n), u64::from_be_bytes(*t));
        // Another machine's clock may be ahead of ours.
        let transit = now.wrapping_sub(sent).cast_signed() as f64 / 1e9;
        with(&shared, |m| m.take(number, transit, length as u64));
    }
}

/// A socket made inside a namespace, not connected yet.
fn tcp_socket(place: &NetNs) -> anyhow::Result<TcpSocket> {
    let socket = place.run(|| -> std::io::Result<std::net::TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    })??;
    Ok(TcpSocket::from_std_stream(socket))
}

async fn tcp_sender(place: NetNs, gate: Gate, there: SocketAddr, rate: u64, shared: Shared) {
    let mut stream = loop {
        let connected = match tcp_socket(&place) {
            Ok(socket) => socket.connect(there).await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match connected {
            Ok(stream) => break stream,
            Err(why) => with(&shared, |m| m.failed = Some(why)),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut message = vec![0u8; MESSAGE];
    let on_the_wire = MESSAGE as f64 * 8.0 * SEGMENT.1 / SEGMENT.0;
    let mut start = tokio::time::Instant::now();
    let mut number = 0u64;
    loop {
        let due = Duration::from_secs_f64(number as f64 * on_the_wire / rate.max(1) as f64);
        tokio::time::sleep_until(start + due).await;
        // Not held while it writes, which takes as long as the network does: the kernel holds what is written meanwhile.
        drop(runs(&gate, &mut start).await);
        number += 1;
        message[..8].copy_from_slice(&number.to_be_bytes());
        message[8..16].copy_from_slice(&clock().to_be_bytes());
        if let Err(error) = stream.write_all(&message).await {
            return with(&shared, |m| m.failed = Some(error.to_string()));
        }
        with(&shared, |m| m.sent = number);
    }
}

async fn tcp_receiver(listener: TcpListener, shared: Shared) {
    let Ok((mut stream, _)) = listener.accept().await else { return };
    let mut buffer = vec![0u8; 2 * MESSAGE];
    let mut messages = Messages::default();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => with(&shared, |m| {
                m.count(length as u64);
                messages.read(&buffer[..length], |number, sent| {
                    m.take(number, clock().wrapping_sub(sent).cast_signed() as f64 / 1e9, 0);
                });
            }),
        }
    }
}

/// Finds the messages in a stream of bytes, however it is cut.
#[derive(Default)]
struct Messages {
    /// How much of the current message has come.
    at: usize,
    head: [u8; 16],
}

impl Messages {
    /// Calls `whole` for every message that ends within `bytes`, with its number and when it was sent.
    fn read(&mut self, mut bytes: &[u8], mut whole: impl FnMut(u64, u64)) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(MESSAGE - self.at));
            if let Some(room) = self.head.get_mut(self.at..) {
                let n = room.len().min(part.len());
                room[..n].copy_from_slice(&part[..n]);
            }
            self.at += part.len();
            if self.at == MESSAGE {
                self.at = 0;
                let [n0, n1, n2, n3, n4, n5, n6, n7, sent @ ..] = self.head;
                whole(u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]), u64::from_be_bytes(sent));
            }
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_flows_that_ended_the_latest_are_kept() {
        let mut ended = Ended::default();
        let report = |id| FlowReport { id, ended: true, ..FlowReport::default() };
        for id in 0..5000 {
            ended.note(report(id));
            // One that runs again and ends again is the latest, and is there once.
            ended.note(report(0));
        }
        assert_eq!(ended.reports().count(), ENDED);
        assert_eq!(ended.forgotten(), 5000 - ENDED as u64);
        let (first, second) = (ended.reports().next(), ended.reports().nth(1));
        assert_eq!((first.map(|f| f.id), second.map(|f| f.id)), (Some(0), Some(5001 - ENDED as u64)));
        assert!(ended.take(0).is_some() && ended.take(0).is_none());
        assert_eq!((ended.order.len(), ended.reports.len()), (ENDED - 1, ENDED - 1));
    }

    #[test]
    fn messages_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for number in 1..=5u64 {
            let mut message = vec![0; MESSAGE];
            message[..8].copy_from_slice(&number.to_be_bytes());
            message[8..16].copy_from_slice(&(number * 1000).to_be_bytes());
            stream.extend(message);
        }
        for cut in [1, 7, 16, 1448, MESSAGE, stream.len()] {
            let (mut messages, mut found) = (Messages::default(), Vec::new());
            stream.chunks(cut).for_each(|part| messages.read(part, |n, at| found.push((n, at))));
            assert_eq!(found, [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (5, 5000)], "in parts of {cut}");
        }
    }

    #[test]
    fn jitter_follows_rfc_3550_and_a_packet_that_comes_late_is_counted() {
        let mut m = Measured::default();
        for (number, transit) in [(1, 0.010), (3, 0.026), (2, 0.010)] {
            m.take(number, transit, 100);
        }
        assert_eq!((m.received, m.reordered, m.bytes), (3, 1, 300));
        // 0, then 16 ms / 16 = 1 ms, then 1 + (16 - 1) / 16 ms.
        assert!((m.jitter - 0.001_937_5).abs() < 1e-9, "{}", m.jitter);
    }
}
