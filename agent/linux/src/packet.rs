//! Packet sockets (packet(7)): receive all frames of an interface, and send frames out of one, many
//! with each system call.
//!
//! A [`Receiver`] is opened and bound with pnet, on a socket with the options set here. A
//! [`Transmitter`] is bound here: pnet binds to every protocol, so that a socket that only sends
//! would get a copy of every frame.
//!
//! The kernel's changes to frames are undone: frames that this host sends are not received; a VLAN
//! tag that was removed is inserted again; a checksum that was left to a card is completed if there
//! is no card (a veth pair with `tx-checksumming`). Frames longer than a slot of the batch, as
//! segmentation offload makes them, are counted and dropped: `ethtool -K IFACE tx off` at the other
//! end of a veth pair (and `gro off` on a card) prevents them.

use crate::{Error, sys};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use pnet::datalink::{self, NetworkInterface};
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::tcp::{self, TcpPacket};
use pnet::packet::udp::{self, UdpPacket};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// The most frames in one call.
pub const MOST: usize = sys::packet::MOST;
/// Room in front of each frame for a VLAN tag that is inserted again.
const HEAD: usize = 4;
/// Ethernet header, VLAN tag, and some more for drivers that count differently.
const LAYER_2: usize = 14 + 4 + 14;
/// Receive buffer in bytes, while the switch is busy; about 2 ms of a gigabit.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Send buffer in bytes, more than the longest queueing in front of a port holds: so losses happen
/// in the queueing, which counts them.
const SEND_BUFFER: usize = 4 << 20;

// linux/if_packet.h.
const OUTGOING: u8 = 4;
const LOOPBACK: u8 = 5;
const CHECKSUM_NOT_READY: u32 = 1 << 3;
const VLAN_VALID: u32 = 1 << 4;
const VLAN_TPID_VALID: u32 = 1 << 6;

fn open(what: &str) -> Result<OwnedFd, Error> {
    // Protocol 0: no frame is received before the socket is bound.
    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .map_err(Error::nix(format!("opening a packet socket {what} (CAP_NET_RAW is needed)")))
}

/// Makes the receive buffer as large as allowed: beyond the system's limit only with privileges.
fn receive_buffer(fd: &OwnedFd) {
    if setsockopt(fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
}

/// Receives all frames of an interface.
#[derive(Debug)]
pub struct Receiver {
    fd: OwnedFd,
    seen: Losses,
}

/// Frames that a receiver dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Because the receive buffer was full.
    pub overrun: u64,
    /// Because they were longer than a slot of the batch.
    pub oversized: u64,
}

impl Receiver {
    /// Opens the interface with this name and number, in the thread's namespace. It receives frames
    /// to any address (promiscuous mode), until it is dropped.
    ///
    /// # Errors
    /// When there is no such interface, or without CAP_NET_RAW.
    pub fn open(name: &str, index: u32) -> Result<Receiver, Error> {
        let what = format!("to receive from {name}");
        let fd = open(&what)?;
        receive_buffer(&fd);
        // An older kernel delivers frames that this host sends, and they are skipped by their kind.
        let _ = sys::packet::ignore_outgoing(fd.as_fd());
        sys::packet::auxdata(fd.as_fd())
            .map_err(Error::io(format!("asking for what the kernel took off the frames of {name}")))?;
        let own = fd.try_clone().map_err(Error::io(what.clone()))?;
        let interface = NetworkInterface {
            name: name.to_owned(),
            description: String::new(),
            index,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        // pnet binds the socket, sets promiscuous mode, and closes its copy when its channel is
        // dropped; the buffers are not used.
        let config = datalink::Config {
            read_buffer_size: 0,
            write_buffer_size: 0,
            socket_fd: Some(fd.into_raw_fd()),
            ..datalink::Config::default()
        };
        datalink::channel(&interface, config)
            .map_err(Error::io(format!("binding a packet socket {what}")))?;
        Ok(Receiver { fd: own, seen: Losses::default() })
    }

    /// Appends the waiting frames to the batch with a tag; does not block. True when there may be
    /// more.
    ///
    /// # Errors
    /// When the interface is down or gone.
    pub fn receive(&mut self, batch: &mut Batch, tag: u32) -> io::Result<bool> {
        let first = batch.frames.len();
        let room = batch.data.get_mut(first * batch.slot..).unwrap_or_default();
        let wanted = room.len() / batch.slot;
        batch.received.clear();
        match sys::packet::receive(self.fd.as_fd(), room, batch.slot, HEAD, &mut batch.received) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        for (n, got) in batch.received.iter().enumerate() {
            let start = (first + n) * batch.slot + HEAD;
            let mut frame = Frame { start, length: got.length, tag };
            if got.truncated {
                self.seen.oversized += 1;
                frame.length = 0;
            } else if matches!(got.kind, OUTGOING | LOOPBACK) {
                frame.length = 0;
            } else if let Some(aux) = got.aux {
                mend(&mut batch.data, &mut frame, aux);
            }
            batch.frames.push(frame);
        }
        Ok(batch.received.len() == wanted)
    }

    /// Frames that were dropped since it was opened.
    pub fn losses(&mut self) -> Losses {
        // The kernel resets its counter with every read.
        if let Ok((_, dropped)) = sys::packet::statistics(self.fd.as_fd()) {
            self.seen.overrun += u64::from(dropped);
        }
        self.seen
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Undoes the kernel's changes to a frame.
fn mend(data: &mut [u8], frame: &mut Frame, aux: sys::packet::Aux) {
    if aux.status & CHECKSUM_NOT_READY != 0
        && let Some(bytes) = data.get_mut(frame.start..frame.start + frame.length)
    {
        complete_checksum(bytes);
    }
    if aux.status & VLAN_VALID != 0 && frame.length >= 12 {
        let tpid = if aux.status & VLAN_TPID_VALID != 0 { aux.vlan_tpid } else { 0x8100 };
        let start = frame.start - HEAD;
        data.copy_within(frame.start..frame.start + 12, start);
        data[start + 12..start + 14].copy_from_slice(&tpid.to_be_bytes());
        data[start + 14..start + 16].copy_from_slice(&aux.vlan_tci.to_be_bytes());
        (frame.start, frame.length) = (start, frame.length + HEAD);
    }
}

/// Computes the checksum of a TCP or UDP packet that its sender left to the card; other packets are
/// unchanged.
pub fn complete_checksum(frame: &mut [u8]) {
    let Some(mut kind) = frame.get(12..14).map(|k| [k[0], k[1]]) else { return };
    let mut at = 14;
    while matches!(kind, [0x81, 0x00] | [0x88, 0xa8]) {
        let Some(next) = frame.get(at + 2..at + 4) else { return };
        (kind, at) = ([next[0], next[1]], at + 4);
    }
    let Some(packet) = frame.get(at..) else { return };
    // The packet ends where its header says; padding may follow.
    let (protocol, header, end, ends) = match kind {
        [0x08, 0x00] => {
            let Some(ip) = Ipv4Packet::new(packet) else { return };
            let header = usize::from(ip.get_header_length()) * 4;
            let ends = Ends::V4(ip.get_source(), ip.get_destination());
            (ip.get_next_level_protocol().0, header, usize::from(ip.get_total_length()), ends)
        }
        [0x86, 0xdd] => {
            let Some(ip) = Ipv6Packet::new(packet) else { return };
            let ends = Ends::V6(ip.get_source(), ip.get_destination());
            (ip.get_next_header().0, 40, 40 + usize::from(ip.get_payload_length()), ends)
        }
        _ => return,
    };
    let place = match protocol {
        6 => 16,
        17 => 6,
        _ => return,
    };
    let Some(bytes) = packet.get(header..end) else { return };
    let Some(mut value) = ends.sum(bytes, protocol) else { return };
    if protocol == 17 && value == 0 {
        // Zero would mean that there is none (RFC 768).
        value = 0xffff;
    }
    let place = at + header + place;
    if let Some(field) = frame.get_mut(place..place + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// The addresses that are part of the checksum.
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn sum(&self, bytes: &[u8], protocol: u8) -> Option<u16> {
        Some(match (self, protocol) {
            (Ends::V4(from, to), 6) => tcp::ipv4_checksum(&TcpPacket::new(bytes)?, from, to),
            (Ends::V4(from, to), _) => udp::ipv4_checksum(&UdpPacket::new(bytes)?, from, to),
            (Ends::V6(from, to), 6) => tcp::ipv6_checksum(&TcpPacket::new(bytes)?, from, to),
            (Ends::V6(from, to), _) => udp::ipv6_checksum(&UdpPacket::new(bytes)?, from, to),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    start: usize,
    /// 0 for a frame that is skipped.
    length: usize,
    tag: u32,
}

/// Frames that were received together, in reused memory.
#[derive(Debug)]
pub struct Batch {
    data: Vec<u8>,
    slot: usize,
    frames: Vec<Frame>,
    received: Vec<sys::packet::Received>,
}

impl Batch {
    /// Room for [`MOST`] frames of interfaces of this MTU, in bytes.
    pub fn new(mtu: u32) -> Batch {
        let slot = (HEAD + LAYER_2 + mtu as usize).next_multiple_of(64);
        Batch {
            data: vec![0; slot * MOST],
            slot,
            frames: Vec::with_capacity(MOST),
            received: Vec::with_capacity(MOST),
        }
    }

    /// Removes the frames and keeps their memory.
    pub fn clear(&mut self) {
        self.frames.clear();
    }

    /// Adds a frame that was not received by a socket. False if the batch is full or the frame too
    /// long.
    pub fn push(&mut self, tag: u32, frame: &[u8]) -> bool {
        let start = self.frames.len() * self.slot + HEAD;
        let fits = frame.len() <= self.slot - HEAD;
        let Some(place) = self.data.get_mut(start..start + frame.len()).filter(|_| fits) else {
            return false;
        };
        place.copy_from_slice(frame);
        self.frames.push(Frame { start, length: frame.len(), tag });
        true
    }

    /// The frames with their tags, in the order they came.
    pub fn frames(&mut self) -> impl Iterator<Item = (u32, &mut [u8])> {
        // Frame n is in slot n.
        self.data.chunks_exact_mut(self.slot).zip(&self.frames).enumerate().filter_map(|(n, (slot, f))| {
            let start = f.start.checked_sub(n * self.slot)?;
            Some((f.tag, slot.get_mut(start..start + f.length).filter(|s| !s.is_empty())?))
        })
    }
}

/// Sends frames out of an interface, in one class of its queueing.
#[derive(Debug)]
pub struct Transmitter {
    fd: OwnedFd,
    /// Frames refused by the queueing in front of the interface, or by the interface itself.
    lost: u64,
}

impl Transmitter {
    /// Opens the interface with this number. With a priority MAJOR:MINOR of a class, an HTB puts
    /// frames sent here into that class (tc-htb(8), SO_PRIORITY); 0 leaves the choice to its
    /// filters.
    ///
    /// # Errors
    /// When there is no such interface, or without CAP_NET_RAW (and CAP_NET_ADMIN for the
    /// priority).
    pub fn open(index: u32, priority: u32) -> Result<Transmitter, Error> {
        let what = format!("to send by interface {index}");
        let fd = open(&what)?;
        if setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER);
        }
        if priority != 0 {
            let value = i32::from_ne_bytes(priority.to_ne_bytes());
            setsockopt(&fd, sockopt::Priority, &value)
                .map_err(Error::nix(format!("setting the priority {priority:#010x} {what}")))?;
        }
        sys::packet::bind_to_send(fd.as_fd(), index)
            .map_err(Error::io(format!("binding a packet socket {what}")))?;
        Ok(Transmitter { fd, lost: 0 })
    }

    /// Sends frames, given by their start and end in `data`; does not block. Frames that the kernel
    /// refuses are lost and counted.
    ///
    /// When the interface is gone; all remaining frames are lost then.
    pub fn send(&mut self, data: &[u8], mut frames: &[(u32, u32)]) -> io::Result<()> {
        while !frames.is_empty() {
            match sys::packet::send(self.fd.as_fd(), data, frames) {
                Ok(sent) => {
                    // Fewer frames were sent: the next one was refused (sendmmsg(2) does not say
                    // why), and counts as dropped.
                    let refused = usize::from(sent < frames.len().min(MOST));
                    self.lost += refused as u64;
                    frames = frames.get(sent + refused..).unwrap_or_default();
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => {}
                    // The queueing is full, or the frame does not suit this interface: only this
                    // frame is lost.
                    Some(Errno::ENOBUFS | Errno::EAGAIN | Errno::EMSGSIZE | Errno::EINVAL) => {
                        self.lost += 1;
                        frames = &frames[1..];
                    }
                    _ => {
                        self.lost += frames.len() as u64;
                        return Err(error);
                    }
                },
            }
        }
        Ok(())
    }

    /// How many were lost since it was opened.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_completed_or_left(mut frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..4) {
            let kinds = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0, 0]];
            if let Some(place) = frame.get_mut(12..14) {
                place.copy_from_slice(&kinds[kind]);
            }
            let length = frame.len();
            complete_checksum(&mut frame);
            prop_assert_eq!(frame.len(), length);
        }

        #[test]
        fn frames_of_a_batch_are_what_was_put_in(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..70)) {
            let mut batch = Batch::new(64);
            let taken: Vec<&Vec<u8>> = frames.iter().enumerate().filter(|(n, f)| batch.push(*n as u32, f)).map(|(_, f)| f).collect();
            let seen: Vec<Vec<u8>> = batch.frames().map(|(_, f)| f.to_vec()).collect();
            prop_assert_eq!(seen.iter().collect::<Vec<_>>(), taken);
            batch.clear();
            prop_assert_eq!(batch.frames().count(), 0);
        }
    }
}
