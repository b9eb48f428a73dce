//! UDP by a schedule: every packet carries its number and when it was sent, so that delay, jitter,
//! loss and reordering are known exactly. The tool `udp` sends at equal distances.

use super::measured::{Shared, with};
use super::schedule::{Constant, Schedule};
use super::{ETHERNET, FlowSpec, Receiver, Sender, TrafficGenerator, clock, runs};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// IPv4 and UDP headers.
const HEADERS: u16 = 28;

/// The tool `udp`.
pub(super) struct Udp;

impl TrafficGenerator for Udp {
    fn name(&self) -> &'static str {
        "udp"
    }

    fn about(&self) -> &'static str {
        "UDP packets at equal distances"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        receive(flow, end)
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        send(flow, end, Constant)
    }
}

/// Bytes of a packet's payload: there is room for its number and its time.
pub(super) fn payload(flow: &FlowSpec) -> usize {
    usize::from(flow.packet.saturating_sub(HEADERS).max(16))
}

/// How long a packet takes at the flow's rate.
pub(super) fn packet_time(flow: &FlowSpec) -> Duration {
    let bits = (payload(flow) as u64 + u64::from(HEADERS) + ETHERNET) * 8;
    Duration::from_nanos((u128::from(bits) * 1_000_000_000 / u128::from(flow.rate.max(1))) as u64)
}

/// Receives UDP packets that begin with their number and their time.
pub(super) fn receive(flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
    let socket = end.place.run(|| std::net::UdpSocket::bind(end.address))??;
    socket.set_nonblocking(true)?;
    let room = usize::from(flow.packet);
    Ok(tokio::spawn(udp_receiver(UdpSocket::from_std(socket)?, room, end.measured)))
}

/// Sends UDP packets by a schedule.
pub(super) fn send(
    flow: &FlowSpec,
    end: Sender<'_>,
    schedule: impl Schedule,
) -> anyhow::Result<JoinHandle<()>> {
    let socket = end.place.run(|| std::net::UdpSocket::bind(super::any(0)))??;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let bits = (payload(flow) as u64 + u64::from(HEADERS) + ETHERNET) * 8;
    let nanos = bits as f64 * 1e9 / flow.rate.max(1) as f64;
    Ok(tokio::spawn(udp_sender(socket, payload(flow), nanos, schedule, end_of(end))))
}

/// What a sender's task keeps of its end.
struct Kept {
    gate: crate::node::vm_relocation::Gate,
    there: std::net::SocketAddr,
    shared: Shared,
}

fn end_of(end: Sender<'_>) -> Kept {
    Kept { gate: end.gate, there: end.there, shared: end.measured }
}

async fn udp_sender(socket: UdpSocket, size: usize, nanos: f64, mut schedule: impl Schedule, end: Kept) {
    let mut start = tokio::time::Instant::now();
    let mut packet = vec![0u8; size];
    let mut due = 0.0;
    for number in 1u64.. {
        // Each packet has its own moment, counted from the start: the rate is exact however late a
        // timer is. The first one is due at once.
        if number > 1 {
            due += schedule.gap();
        }
        tokio::time::sleep_until(start + Duration::from_nanos((due * nanos) as u64)).await;
        let _open = runs(&end.gate, &mut start).await;
        packet[..8].copy_from_slice(&number.to_be_bytes());
        packet[8..16].copy_from_slice(&clock().to_be_bytes());
        // An unreachable receiver (not there yet, or gone) is a packet lost, not an end.
        let _ = socket.send_to(&packet, end.there).await;
        with(&end.shared, |m| m.sent = number);
    }
}

/// Takes packets in that begin with their number and when they were sent, eight bytes each.
pub(super) async fn udp_receiver(socket: UdpSocket, room: usize, shared: Shared) {
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
        let number = u64::from_be_bytes(*n);
        let sent = u64::from_be_bytes(*t);
        // Another machine's clock may be ahead of ours.
        let transit = now.wrapping_sub(sent).cast_signed() as f64 / 1e9;
        with(&shared, |m| m.take(number, transit, length as u64));
    }
}
