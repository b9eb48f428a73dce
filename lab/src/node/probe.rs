//! A probe: numbered packets at a fixed interval between a node and a VM, in both directions, and
//! what came of each.
//!
//! Besides the two ends, taps at servers see which of the packets to the VM arrive there, so that
//! what a paused VM has lost can be told from what the network has lost. Arrivals are stamped by
//! the kernel (SO_TIMESTAMPNS), all on the lab's clock.

use crate::control::service::lock;
use crate::node::hosts::Hosts;
use crate::node::traffic::clock;
use crate::node::vm_relocation::Gate;
use anyhow::{Context, bail};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tandem_linux::netns::NetNs;

/// UDP port at both ends.
const PORT: u16 = 7007;
/// Bytes of a packet's payload.
const SIZE: usize = 64;
/// Packets of a probe in one direction, at most: an hour's at one each millisecond, some 8 bytes
/// each at either end. Then it sends no more.
const PACKETS: usize = 4_000_000;
/// Before a receiver looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long packets may be on their way after the last one was sent.
const LINGER: Duration = Duration::from_millis(500);
/// What a receiver may be behind: a burst that waits while nobody runs is not to be lost here.
const ROOM: usize = 4 << 20;
/// ETH_P_ALL (linux/if_ether.h), in network order.
const EVERYTHING: i32 = 0x0003_u16.to_be() as i32;

/// Between whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The node: `gw1`.
    pub node: (String, Ipv4Addr),
    /// The VM: `vm1`.
    pub vm: (String, Ipv4Addr),
    /// Servers at which packets to the VM are watched for.
    pub taps: Vec<String>,
    /// Microseconds between packets.
    pub every_us: u64,
}

/// What came of a packet. Times are nanoseconds on the lab's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Packet {
    /// When it was sent.
    pub sent: u64,
    /// When it arrived; `None` when it was lost.
    pub received: Option<u64>,
    /// When it arrived at each server with a tap, in their order.
    pub seen: Vec<Option<u64>>,
}

/// No packet waits longer for its receiver, in nanoseconds.
const LONGEST_WAIT: u64 = 1_000_000_000;

type Times = Arc<Mutex<Vec<u64>>>;

/// A probe that is under way.
struct Running {
    stop: Arc<AtomicBool>,
    drain: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
    /// When each packet was sent: down, up.
    sent: [Times; 2],
    /// When each arrived: down, up.
    arrived: [Times; 2],
    /// When each to the VM arrived at each tap.
    seen: Vec<Times>,
}

/// At most one at a time.
#[derive(Default)]
pub struct Probes(Mutex<Option<Running>>);

/// How far the clock of time stamps is ahead of the lab's, nanoseconds. Time stamps are by the wall
/// clock, which may be set at any time.
fn ahead() -> i128 {
    let ns = |t: TimeSpec| i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec());
    let real = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, ns);
    real - i128::from(clock())
}

fn put(times: &Times, number: u64, at: u64) {
    let Ok(place) = usize::try_from(number) else { return };
    let mut times = lock(times);
    if times.len() <= place && place < PACKETS {
        times.resize(place + 1, 0);
    }
    if let Some(first) = times.get_mut(place).filter(|t| **t == 0) {
        *first = at;
    }
}

/// Notes when a packet arrived. Anybody can send to the probe's port: of what nobody has sent
/// nothing is kept, whatever its number is.
fn arrived(times: &Times, sent: &Times, number: u64, at: u64) {
    let so_far = lock(sent).len();
    if usize::try_from(number).is_ok_and(|n| n < so_far) {
        put(times, number, at);
    }
}

/// When a packet arrived, by the lab's clock, that is read at `now`: as its time stamp says, unless
/// the wall clock was set in between.
fn arrival(stamped: i128, now: u64) -> u64 {
    let at = u64::try_from(stamped).unwrap_or(0);
    if at <= now && now - at < LONGEST_WAIT { at } else { now }
}

/// Notes what arrives until it is told to end. The number is at `offset` of what is received;
/// `sent` is what was sent so far.
fn receive(socket: &Socket, offset: usize, times: &Times, sent: &Times, drain: &AtomicBool) {
    let mut buffer = [0u8; 256];
    let mut control = nix::cmsg_space!(TimeSpec);
    while !drain.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let Ok(message) =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
        else {
            continue;
        };
        let stamp = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|c| match c {
                ControlMessageOwned::ScmTimestampns(t) => Some(t),
                _ => None,
            })
        });
        let length = message.bytes;
        let at = stamp.map_or_else(clock, |t| {
            let ns = i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec());
            arrival(ns - ahead(), clock())
        });
        let number = buffer.get(..length).and_then(|b| b.get(offset..)?.first_chunk::<8>());
        if let Some(number) = number {
            arrived(times, sent, u64::from_be_bytes(*number), at);
        }
    }
}

fn send(socket: &Socket, to: SocketAddrV4, every: Duration, gate: &Gate, times: &Times, stop: &AtomicBool) {
    let mut payload = [0u8; SIZE];
    let mut due = Instant::now();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) && number < PACKETS as u64 {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A VM that is paused sends nothing, and makes up for nothing.
        let waited = Instant::now();
        let _open = gate.blocking_read();
        if waited.elapsed() > every {
            due += waited.elapsed();
        }
        payload[..8].copy_from_slice(&number.to_be_bytes());
        put(times, number, clock());
        // One that cannot be sent is one that is lost.
        let _ = socket.send_to(&payload, &to.into());
        number += 1;
        due += every;
    }
}

fn stamped(socket: &Socket) -> anyhow::Result<()> {
    setsockopt(&socket.as_fd(), ReceiveTimestampns, &true).context("asking for time stamps")?;
    socket.set_read_timeout(Some(LOOK))?;
    socket.set_recv_buffer_size(ROOM)?;
    Ok(())
}

fn end(place: &NetNs) -> anyhow::Result<Socket> {
    place.run(|| -> anyhow::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket
            .bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT).into())
            .context("binding the probe's port")?;
        stamped(&socket)?;
        Ok(socket)
    })?
}

/// A packet socket that sees the probe's packets to an address at all interfaces of a namespace;
/// the first sight of each is at the uplink.
fn tap(place: &NetNs, to: Ipv4Addr) -> anyhow::Result<Socket> {
    // Classic BPF (linux/filter.h): load half, byte, word at an offset; jump if equal; return so
    // many bytes.
    const LDH: u16 = 0x28;
    const LDB: u16 = 0x30;
    const LDW: u16 = 0x20;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    let filter = [
        SockFilter::new(LDH, 0, 0, 12),
        SockFilter::new(JEQ, 0, 7, 0x0800),
        SockFilter::new(LDB, 0, 0, 23),
        SockFilter::new(JEQ, 0, 5, 17),
        SockFilter::new(LDW, 0, 0, 30),
        SockFilter::new(JEQ, 0, 3, to.to_bits()),
        SockFilter::new(LDH, 0, 0, 36),
        SockFilter::new(JEQ, 0, 1, u32::from(PORT)),
        SockFilter::new(RET, 0, 0, 256),
        SockFilter::new(RET, 0, 0, 0),
    ];
    place.run(|| -> anyhow::Result<Socket> {
        let everything = Some(Protocol::from(EVERYTHING));
        let socket = Socket::new(Domain::PACKET, Type::RAW, everything).context("opening a tap")?;
        socket.attach_filter(&filter).context("setting a tap's filter")?;
        // What came before there was a filter.
        let mut rest = [std::mem::MaybeUninit::uninit(); 2048];
        socket.set_nonblocking(true)?;
        while socket.recv(&mut rest).is_ok() {}
        socket.set_nonblocking(false)?;
        stamped(&socket)?;
        Ok(socket)
    })?
}

impl Probes {
    /// Starts one.
    ///
    /// # Errors
    /// When there is one already, an end is not there, or no socket can be had.
    pub fn start(&self, hosts: &Hosts, probe: &Probe) -> anyhow::Result<()> {
        let mut running = lock(&self.0);
        if running.is_some() {
            bail!("there is a probe already");
        }
        let place = |name: &str| hosts.place(name).with_context(|| format!("there is no node {name:?}"));
        let ends = [end(&place(&probe.node.0)?)?, end(&place(&probe.vm.0)?)?];
        let gates = [Gate::default(), hosts.gate(&probe.vm.0)];
        let (stop, drain): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let mut now = Running {
            stop,
            drain,
            senders: Vec::new(),
            receivers: Vec::new(),
            sent: Default::default(),
            arrived: Default::default(),
            seen: Vec::new(),
        };
        let spawn = |what: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(format!("probe {what}")).spawn(work)
        };
        for name in &probe.taps {
            let socket = tap(&place(name)?, probe.vm.1)?;
            let times = Times::default();
            let drain = now.drain.clone();
            now.seen.push(times.clone());
            // Ethernet, IPv4 and UDP headers come before what was sent.
            let sent = now.sent[0].clone();
            let work = move || receive(&socket, 42, &times, &sent, &drain);
            now.receivers.push(spawn("tap", Box::new(work))?);
        }
        for (n, socket) in ends.iter().enumerate() {
            // What arrives at the VM went down.
            let socket = socket.try_clone()?;
            let times = now.arrived[1 - n].clone();
            let drain = now.drain.clone();
            let sent = now.sent[1 - n].clone();
            let work = move || receive(&socket, 0, &times, &sent, &drain);
            now.receivers.push(spawn("receiver", Box::new(work))?);
        }
        let to = [SocketAddrV4::new(probe.vm.1, PORT), SocketAddrV4::new(probe.node.1, PORT)];
        let every = Duration::from_micros(probe.every_us.max(100));
        for (((socket, gate), to), times) in ends.into_iter().zip(gates).zip(to).zip(now.sent.clone()) {
            let stop = now.stop.clone();
            let work = move || send(&socket, to, every, &gate, &times, &stop);
            now.senders.push(spawn("sender", Box::new(work))?);
        }
        *running = Some(now);
        Ok(())
    }

    /// Ends it: what came of each packet, from the node to the VM and from the VM to the node.
    ///
    /// # Errors
    /// When there is none.
    pub fn stop(&self) -> anyhow::Result<(Vec<Packet>, Vec<Packet>)> {
        let Some(running) = lock(&self.0).take() else { bail!("there is no probe") };
        running.stop.store(true, Ordering::Relaxed);
        running.senders.into_iter().for_each(|t| drop(t.join()));
        std::thread::sleep(LINGER);
        running.drain.store(true, Ordering::Relaxed);
        running.receivers.into_iter().for_each(|t| drop(t.join()));
        let at = |times: &Times, n: usize| lock(times).get(n).copied().filter(|t| *t > 0);
        let list = |direction: usize, taps: &[Times]| {
            let sent = lock(&running.sent[direction]).clone();
            let packet = |(n, sent): (usize, &u64)| Packet {
                sent: *sent,
                received: at(&running.arrived[direction], n),
                seen: taps.iter().map(|times| at(times, n)).collect(),
            };
            sent.iter().enumerate().map(packet).collect()
        };
        Ok((list(0, &running.seen), list(1, &[])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_nobody_has_sent_takes_no_room() {
        let sent = Times::default();
        let times = Times::default();
        for number in 0..3 {
            put(&sent, number, 10 + number);
        }
        for number in [3, 99_999_999, u64::MAX] {
            arrived(&times, &sent, number, 50);
        }
        assert!(lock(&times).is_empty());
        arrived(&times, &sent, 2, 51);
        assert_eq!(*lock(&times), [0, 0, 51]);
    }
}
