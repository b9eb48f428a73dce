//! UDP at a rate: every packet carries its number and when it was sent, so that delay, jitter, loss
//! and reordering are known exactly.

use super::measured::{Shared, with};
use super::{ETHERNET, FlowSpec, Receiver, Sender, TrafficGenerator, clock, runs};
use crate::node::vm_relocation::Gate;
use std::net::SocketAddr;
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

    fn is_reliable(&self) -> bool {
        false
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        let socket = end.place.run(|| std::net::UdpSocket::bind(end.address))??;
        socket.set_nonblocking(true)?;
        let room = usize::from(flow.packet);
        Ok(tokio::spawn(udp_receiver(UdpSocket::from_std(socket)?, room, end.measured)))
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let socket = end.place.run(|| std::net::UdpSocket::bind(super::any(0)))??;
        socket.set_nonblocking(true)?;
        let size = usize::from(flow.packet.saturating_sub(HEADERS).max(16));
        let socket = UdpSocket::from_std(socket)?;
        Ok(tokio::spawn(udp_sender(socket, end.gate, end.there, size, flow.rate, end.measured)))
    }
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
        // Each packet has its own moment, counted from the start: the rate is exact however late a
        // timer is.
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
