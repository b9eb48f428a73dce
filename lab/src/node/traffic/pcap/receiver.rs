//! Counting replayed packets where they arrive: a raw socket for each protocol, which sees every
//! packet that is for this node, once.

use super::super::measured::{Shared, with};
use super::super::{FlowSpec, Receiver, clock};
use super::mark;
use super::rewrite::{ICMP, TCP, UDP};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that wait to be counted.
const BUFFER: usize = 1 << 20;
/// Identifications in a round.
const ROUND: u64 = 65_535;

/// Counts a flow's packets; with `numbered`, their identification says which of them are late, and
/// how long they took where the sender is in this process.
pub(in super::super) fn count(
    flow: &FlowSpec,
    end: Receiver<'_>,
    numbered: bool,
) -> anyhow::Result<JoinHandle<()>> {
    let sockets = end.place.run(|| -> std::io::Result<Vec<Socket>> {
        [TCP, UDP, ICMP]
            .into_iter()
            .map(|protocol| {
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
                socket.set_nonblocking(true)?;
                // As much as the machine allows.
                let _ = socket.set_recv_buffer_size(BUFFER);
                Ok(socket)
            })
            .collect()
    })??;
    let sockets: Vec<UdpSocket> = sockets.into_iter().map(as_datagrams).collect::<Result<_, _>>()?;
    let known = Known { from: flow.addresses.0.octets(), to: flow.addresses.1.octets(), ttl: mark(flow.id) };
    let shared = end.measured;
    Ok(tokio::spawn(async move {
        let mut counting: JoinSet<()> =
            sockets.into_iter().map(|socket| receive(socket, known, numbered, shared.clone())).collect();
        while counting.join_next().await.is_some() {}
    }))
}

/// By what a flow's packets are known.
#[derive(Clone, Copy)]
struct Known {
    from: [u8; 4],
    to: [u8; 4],
    ttl: u8,
}

/// A raw socket as one of datagrams: both are read and written packet by packet.
pub(super) fn as_datagrams(socket: Socket) -> std::io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}

async fn receive(socket: UdpSocket, known: Known, numbered: bool, shared: Shared) {
    let mut packet = vec![0u8; 2048];
    let mut highest = 0u64;
    loop {
        let Ok(length) = socket.recv(&mut packet).await else { continue };
        let now = clock();
        let Some(header) = packet.get(..length).and_then(|p| p.first_chunk::<20>()) else { continue };
        if header[12..16] != known.from || header[16..20] != known.to || header[8] != known.ttl {
            continue;
        }
        let identification = u16::from_be_bytes([header[4], header[5]]);
        if numbered {
            let number = unwrapped(identification, highest);
            highest = highest.max(number);
            with(&shared, |m| m.arrive(number, identification, now, length as u64));
        } else {
            with(&shared, |m| m.arrive_unnumbered(length as u64));
        }
    }
}

/// The number of a packet by its identification: the one nearest to the highest so far.
fn unwrapped(identification: u16, highest: u64) -> u64 {
    let own = u64::from(identification.max(1)) - 1;
    let round = highest.saturating_sub(1) / ROUND;
    let near = [round.checked_sub(1), Some(round), Some(round + 1)];
    let numbers = near.into_iter().flatten().map(|round| round * ROUND + own + 1);
    numbers.min_by_key(|number| number.abs_diff(highest)).unwrap_or(own + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_when_identifications_begin_again() {
        assert_eq!(unwrapped(1, 0), 1);
        assert_eq!(unwrapped(65_535, 65_534), 65_535);
        assert_eq!(unwrapped(1, 65_535), 65_536);
        assert_eq!(unwrapped(65_530, 65_537), 65_530, "one that is late");
        assert_eq!(unwrapped(3, 10 * ROUND), 10 * ROUND + 3);
    }
}
