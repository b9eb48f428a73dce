//! Every server pings every other server and every gateway: ICMP echo (RFC 792) from a raw socket
//! in each namespace.

use crate::control::messages::Pings;
use crate::node::hosts::Host;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::{NetNs, visit};

/// How long a sender waits for answers that are missing before it asks again.
const WAIT: Duration = Duration::from_millis(1500);
/// How often a sender asks.
const ROUNDS: u16 = 3;
/// Failed pairs that are named.
const NAMED: usize = 10;
/// Nodes that send at once: more would only fill the switches' queues.
const AT_ONCE: usize = 8;
/// Neighbours that are learnt, at both ends together, before they are forgotten again: the kernel
/// keeps at most 1024 (by default) for all namespaces together, and drops none that is younger than
/// five seconds.
const NEIGHBOURS: usize = 512;

/// Who is pinged.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its namespace, where it is on this machine.
    pub ns: Option<&'a NetNs>,
}

/// Each sender pings each target but itself.
///
/// # Errors
/// When a namespace or socket cannot be had.
pub fn all(senders: &[Host], targets: &[Target<'_>]) -> anyhow::Result<Pings> {
    let mut pings = Pings::default();
    for (round, senders) in senders.chunks(AT_ONCE).enumerate() {
        for portion in targets.chunks((NEIGHBOURS / 2 / senders.len()).max(1)) {
            let first = (round * AT_ONCE) as u16;
            each_pings(first, senders, portion, &mut pings)?;
            if targets.len() * senders.len() * 2 > NEIGHBOURS {
                forget(senders.iter().map(|s| &s.ns).chain(portion.iter().filter_map(|t| t.ns)))?;
            }
        }
    }
    Ok(pings)
}

fn each_pings(first: u16, senders: &[Host], targets: &[Target<'_>], pings: &mut Pings) -> anyhow::Result<()> {
    let addresses: Vec<Ipv4Addr> = targets.iter().map(|t| t.address).collect();
    let results: Vec<anyhow::Result<(usize, BTreeSet<Ipv4Addr>)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (first..)
            .zip(senders)
            .map(|(id, sender)| {
                let others: Vec<Ipv4Addr> =
                    addresses.iter().copied().filter(|a| *a != sender.address).collect();
                scope.spawn(move || Ok((others.len(), sender.ns.run(|| ping(id, &others))??)))
            })
            .collect();
        let panicked = |_| Err(anyhow::anyhow!("a pinging thread has panicked"));
        threads.into_iter().map(|t| t.join().unwrap_or_else(panicked)).collect()
    });
    for (sender, result) in senders.iter().zip(results) {
        let (tried, silent) = result?;
        pings.tried += tried;
        pings.answered += tried - silent.len();
        for target in targets.iter().filter(|t| silent.contains(&t.address)) {
            if pings.failed.len() < NAMED {
                pings.failed.push(format!("{} -> {} ({})", sender.name, target.name, target.address));
            }
        }
    }
    Ok(())
}

fn forget<'a>(nodes: impl Iterator<Item = &'a NetNs>) -> anyhow::Result<()> {
    let places: Vec<(&NetNs, ())> = nodes.map(|ns| (ns, ())).collect();
    let forgotten = visit(&places, |()| Netlink::open().and_then(|mut n| link::forget_neighbours(&mut n)))?;
    Ok(forgotten.into_iter().collect::<Result<(), _>>()?)
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Pings targets from the thread's namespace; returns who did not answer.
fn ping(id: u16, targets: &[Ipv4Addr]) -> anyhow::Result<BTreeSet<Ipv4Addr>> {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let _ = socket.set_recv_buffer_size(1 << 20);
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut silent: BTreeSet<Ipv4Addr> = targets.iter().copied().collect();
    for round in 0..ROUNDS {
        let mut unasked: Vec<Ipv4Addr> = silent.iter().copied().collect();
        let start = Instant::now();
        while !silent.is_empty() && (start.elapsed() < WAIT || !unasked.is_empty()) {
            // A few at a time: a neighbour that is not known yet keeps a queue of limited length.
            for ip in unasked.split_off(unasked.len().saturating_sub(32)) {
                let mut packet = vec![8, 0, 0, 0];
                packet.extend_from_slice(&id.to_be_bytes());
                packet.extend_from_slice(&round.to_be_bytes());
                packet.extend_from_slice(&[0x54; 24]);
                let sum = checksum(&packet).to_be_bytes();
                packet[2..4].copy_from_slice(&sum);
                // A send that fails is an answer that is missing.
                let _ = socket.send_to(&packet, &SockAddr::from(SocketAddrV4::new(ip, 0)));
            }
            let mut answer = [0u8; 256];
            while let Ok(length) = socket.read(&mut answer) {
                // An IPv4 header of 20 bytes, then type 0 (echo reply) and our identifier.
                if length >= 28 && answer[20] == 0 && answer[24..26] == id.to_be_bytes() {
                    silent.remove(&Ipv4Addr::new(answer[12], answer[13], answer[14], answer[15]));
                }
                if silent.is_empty() {
                    break;
                }
            }
        }
        if silent.is_empty() {
            break;
        }
    }
    Ok(silent)
}
