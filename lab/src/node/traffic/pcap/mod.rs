//! Replay of captured traffic: the frames of a pcap or pcapng file as packets from the sender to
//! the receiver, at the flow's rate, over and over.
//!
//! Packets keep their order and the proportion of their distances: the whole file takes as long as
//! its frames take at the flow's rate. They are sent by a raw socket, so that the kernel finds the
//! way as for any packet of the node, and counted by raw sockets at the receiver, which knows them
//! by their sender and by the TTL that marks the flow. The IP identification numbers them.
//!
//! All frames go one way, whichever way they went when they were captured. Nobody listens at the
//! receiver: its kernel answers TCP with a reset, as it does for anybody.

mod read;
mod receiver;
mod rewrite;
#[cfg(test)]
mod tests;

pub use read::{Captured, FileError, read};
pub(super) use receiver::count;
pub(super) use rewrite::number;
pub use rewrite::{Packet, Packets, packets};

use super::measured::with;
use super::options::{OptionFault, Reader};
use super::{ETHERNET, FlowSpec, Receiver, Sender, TrafficGenerator, clock, read_file, runs};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::ToolOptions;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The tool `pcap`.
pub(super) struct Pcap;

/// IPPROTO_RAW: what is sent has its IP header (raw(7)).
const RAW: i32 = 255;

/// The packets of the file that the options name.
pub(super) fn file_of(
    options: &ToolOptions,
    ends: (Ipv4Addr, Ipv4Addr),
    ttl: u8,
) -> Result<Packets, OptionFault> {
    let mut o = Reader::new(options);
    let path = o.text("file");
    o.finish(())?;
    let Some(path) = path else { return Ok(sample(ends, ttl)) };
    let fault = |problem: String, instead: &str| OptionFault {
        key: "file".into(),
        problem: format!("{path}: {problem}"),
        instead: instead.into(),
    };
    let bytes = read_file(path, read::BYTES)
        .map_err(|why| fault(format!("it cannot be read: {why}"), "write the path of a readable file"))?;
    packets(&bytes, ends.0, ends.1, ttl)
        .map_err(|why| fault(why.to_string(), "give it whole frames of Ethernet (`tcpdump -s 0 -w FILE`)"))
}

/// What is replayed where no file is named: full packets of UDP at equal distances.
fn sample(ends: (Ipv4Addr, Ipv4Addr), ttl: u8) -> Packets {
    const PACKETS: u64 = 100;
    const PAYLOAD: usize = 1372;
    let packet = |n: u64| {
        let mut bytes = Vec::new();
        let builder = etherparse::PacketBuilder::ipv4(ends.0.octets(), ends.1.octets(), ttl);
        // Memory takes it, and it fits.
        let _ = builder.udp(DISCARD, DISCARD).write(&mut bytes, &[0; PAYLOAD]);
        Packet { at: Duration::from_millis(n), bytes }
    };
    Packets { packets: (0..PACKETS).map(packet).collect(), left_out: String::new() }
}

/// The discard port (RFC 863).
const DISCARD: u16 = 9;

/// The TTL that marks a flow's packets: none that kernels use for their own answers (64, 128, 255).
pub(super) fn mark(flow: u64) -> u8 {
    const FIRST: u8 = 129;
    FIRST + (flow % 126) as u8
}

impl TrafficGenerator for Pcap {
    fn name(&self) -> &'static str {
        "pcap"
    }

    fn about(&self) -> &'static str {
        "replays captured frames: file (pcap or pcapng, Ethernet; full UDP packets if left out)"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        file_of(options, (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST), 1).map(drop)
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        count(flow, end, true)
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let all = file_of(&flow.options, flow.addresses, mark(flow.id))?;
        if !all.left_out.is_empty() {
            with(&end.measured, |m| m.failed = Some(format!("left out of the file: {}", all.left_out)));
        }
        let socket = end.place.run(|| -> std::io::Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })??;
        let socket = receiver::as_datagrams(socket)?;
        let timetable = Timetable::new(&all.packets, flow.rate);
        Ok(tokio::spawn(sender(socket, all.packets, timetable, end.gate, end.there, end.measured)))
    }
}

/// When each packet of a file is due, counted from the round's start, and when the next round is.
struct Timetable {
    due: Vec<Duration>,
    round: Duration,
}

impl Timetable {
    fn new(packets: &[Packet], rate: u64) -> Timetable {
        let bits = |p: &Packet| (p.bytes.len() as u64 + ETHERNET) * 8;
        let whole: u64 = packets.iter().map(bits).sum();
        let round = whole as f64 / rate.max(1) as f64;
        let captured = packets.last().map_or(0.0, |p| p.at.as_secs_f64());
        let mut before = 0;
        let due = packets.iter().map(|p| {
            // Where all have the same time, they follow each other at the rate. The last packet's
            // own time ends the round.
            let part = if captured > 0.0 {
                let room = 1.0 - bits(packets.last().unwrap_or(p)) as f64 / whole.max(1) as f64;
                p.at.as_secs_f64() / captured * room
            } else {
                before as f64 / whole.max(1) as f64
            };
            before += bits(p);
            Duration::from_secs_f64((part * round).min(1e9))
        });
        Timetable { due: due.collect(), round: Duration::from_secs_f64(round.min(1e9)) }
    }
}

async fn sender(
    socket: UdpSocket,
    mut packets: Vec<Packet>,
    timetable: Timetable,
    gate: crate::node::vm_relocation::Gate,
    there: std::net::SocketAddr,
    shared: super::Shared,
) {
    let mut start = tokio::time::Instant::now();
    let mut sent = 0u64;
    for round in 0u64.. {
        let begins = timetable.round.as_secs_f64() * round as f64;
        for (packet, due) in packets.iter_mut().zip(&timetable.due) {
            let due = Duration::from_secs_f64((begins + due.as_secs_f64()).min(1e9));
            tokio::time::sleep_until(start + due).await;
            let _open = runs(&gate, &mut start).await;
            sent += 1;
            let identification = identification(sent);
            number(&mut packet.bytes, identification);
            with(&shared, |m| m.depart(identification, clock()));
            // A socket whose buffer is full waits; what cannot be sent otherwise is lost.
            let _ = socket.send_to(&packet.bytes, there).await;
            with(&shared, |m| m.sent = sent);
        }
    }
}

/// Numbers from 1 to 65535 and again: the kernel replaces 0 by its own (raw(7)).
fn identification(sent: u64) -> u16 {
    ((sent - 1) % 65_535 + 1) as u16
}
