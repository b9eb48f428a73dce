//! TCP at a rate: messages of a fixed length that carry their number and when they were sent. Delay
//! and jitter are then what an application sees, retransmissions included.

use super::measured::{Shared, with};
use super::{FlowSpec, Receiver, Sender, TrafficGenerator, clock, runs};
use crate::node::vm_relocation::Gate;
use std::net::SocketAddr;
use std::time::Duration;
use tandem_linux::netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Bytes of a message, its head included.
const MESSAGE: usize = 8192;
/// Payload of a full segment on Ethernet, with timestamps (RFC 7323), and the frame that it makes
/// on layer 2.
pub(super) const SEGMENT: (f64, f64) = (1448.0, 1514.0);

/// The tool `tcp`.
pub(super) struct Tcp;

impl TrafficGenerator for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn about(&self) -> &'static str {
        "a TCP connection, paced to the flow's rate"
    }

    fn is_reliable(&self) -> bool {
        true
    }

    fn receive(&self, _: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        let listener = end.place.run(|| std::net::TcpListener::bind(end.address))??;
        listener.set_nonblocking(true)?;
        Ok(tokio::spawn(tcp_receiver(TcpListener::from_std(listener)?, end.measured)))
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let place = end.place.duplicate()?;
        Ok(tokio::spawn(tcp_sender(place, end.gate, end.there, flow.rate, end.measured)))
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

/// Connects from inside a namespace.
pub(super) async fn connect(place: &NetNs, there: SocketAddr) -> std::io::Result<TcpStream> {
    tcp_socket(place).map_err(std::io::Error::other)?.connect(there).await
}

async fn tcp_sender(place: NetNs, gate: Gate, there: SocketAddr, rate: u64, shared: Shared) {
    let mut stream = loop {
        match connect(&place, there).await {
            Ok(stream) => break stream,
            Err(error) => with(&shared, |m| m.failed = Some(error.to_string())),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    with(&shared, |m| m.failed = None);
    let mut message = vec![0u8; MESSAGE];
    let on_the_wire = MESSAGE as f64 * 8.0 * SEGMENT.1 / SEGMENT.0;
    let mut start = tokio::time::Instant::now();
    let mut number = 0u64;
    loop {
        let due = Duration::from_secs_f64(number as f64 * on_the_wire / rate.max(1) as f64);
        tokio::time::sleep_until(start + due).await;
        // Not held while it writes, which takes as long as the network does: the kernel holds what
        // is written meanwhile.
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
    /// Calls `whole` for every message that ends within `bytes`, with its number and when it was
    /// sent.
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
    fn messages_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for number in 1..=5u64 {
            let mut message = vec![0; MESSAGE];
            message[..8].copy_from_slice(&number.to_be_bytes());
            message[8..16].copy_from_slice(&(number * 1000).to_be_bytes());
            stream.extend(message);
        }
        for cut in [1, 7, 16, 1448, MESSAGE, stream.len()] {
            let mut messages = Messages::default();
            let mut found = Vec::new();
            stream.chunks(cut).for_each(|part| messages.read(part, |n, at| found.push((n, at))));
            assert_eq!(found, [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (5, 5000)], "in parts of {cut}");
        }
    }
}
