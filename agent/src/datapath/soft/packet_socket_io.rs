//! Ports on packet sockets: one that receives per port, and one that sends per port and queue,
//! whose priority is the class of the port's queueing. The packets of a batch that leave by the
//! same socket are sent with one system call.

use super::io::{IoDrops, IoPort, PacketIo};
use crate::queues;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use tandem_linux::packet::{Batch, MOST, Receiver, Transmitter};
use tandem_model::Time;

/// The handle of a port's queueing, as `queues::tree` sets it: the high half of a packet's
/// priority; the class is the low half.
const HANDLE: u32 = 1 << 16;

/// Waiting frames are sent once they have this many bytes: a flood to many ports copies each frame.
const MOST_BYTES: usize = 1 << 20;

struct Sender {
    /// `None` if it could not be opened: its frames are lost.
    socket: Option<Transmitter>,
    /// Ranges of the frames that wait for it.
    waiting: Vec<(u32, u32)>,
}

struct Wire {
    port: IoPort,
    receiver: Receiver,
    /// The first is for packets without a queue, which the port's filters assign to a class; the
    /// others are by queue. Each is opened with its first packet.
    senders: Vec<Option<Sender>>,
    /// Frames lost without a socket.
    lost: u64,
}

/// Packets by packet sockets (packet(7)), one pair for each port.
#[derive(Default)]
pub struct PacketSocketIo {
    wires: Vec<Wire>,
    /// Index of a port in `wires`, by its number.
    at: BTreeMap<u32, usize>,
    /// The port that was sent to last, with its index: most packets of a batch go to the same port.
    last: Option<(u32, usize)>,
    /// The waiting frames.
    data: Vec<u8>,
    /// Sockets with waiting frames: wire and sender.
    due: Vec<(usize, usize)>,
}

impl PacketSocketIo {
    /// Without ports.
    pub fn new() -> PacketSocketIo {
        PacketSocketIo::default()
    }
}

impl PacketIo for PacketSocketIo {
    fn set_ports(&mut self, ports: &[IoPort]) -> Vec<(u32, String)> {
        let mut refused = Vec::new();
        let mut old: BTreeMap<u32, Wire> = self.wires.drain(..).map(|w| (w.port.number, w)).collect();
        (self.last, self.at) = (None, BTreeMap::new());
        for port in ports {
            let kept = old.remove(&port.number).filter(|w| {
                (w.port.index, &w.port.interface, w.port.mtu) == (port.index, &port.interface, port.mtu)
            });
            let wire = match kept {
                Some(mut wire) => {
                    // The number of queues has changed: frames to a queue that is gone have no
                    // particular queue.
                    wire.senders.truncate(port.queues as usize + 1);
                    wire.port = port.clone();
                    wire
                }
                None => match Receiver::open(&port.interface, port.index) {
                    Ok(receiver) => Wire { port: port.clone(), receiver, senders: Vec::new(), lost: 0 },
                    Err(error) => {
                        refused.push((port.number, error.to_string()));
                        continue;
                    }
                },
            };
            self.at.insert(port.number, self.wires.len());
            self.wires.push(wire);
        }
        refused
    }

    fn descriptors(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        self.wires.iter().map(|w| (w.port.number, w.receiver.as_fd())).collect()
    }

    fn receive(&mut self, from: u32, batch: &mut Batch, _now: Time) -> io::Result<()> {
        let wire = self.at.get(&from).and_then(|at| self.wires.get_mut(*at));
        wire.map_or(Ok(()), |wire| wire.receiver.receive(batch, from).map(|_| ()))
    }

    fn transmit(&mut self, port: u32, queue: Option<u32>, frame: &[u8], now: Time) {
        let at = match self.last {
            Some((last, at)) if last == port => at,
            _ => {
                let Some(at) = self.at.get(&port).copied() else { return };
                self.last = Some((port, at));
                at
            }
        };
        let Some(wire) = self.wires.get_mut(at) else { return };
        // A queue that the port does not have counts as none.
        let n = queue.filter(|q| *q < wire.port.queues).map_or(0, |q| q as usize + 1);
        if wire.senders.len() <= n {
            wire.senders.resize_with(n + 1, || None);
        }
        let Some(slot) = wire.senders.get_mut(n) else { return };
        let sender = slot.get_or_insert_with(|| {
            let priority = if n == 0 { 0 } else { HANDLE | u32::from(queues::class_of(n - 1)) };
            let socket = Transmitter::open(wire.port.index, priority);
            if let Err(error) = &socket {
                tracing::warn!("{error}; what is to leave there is lost");
            }
            Sender { socket: socket.ok(), waiting: Vec::with_capacity(MOST) }
        });
        let Ok(start) = u32::try_from(self.data.len()) else { return };
        self.data.extend_from_slice(frame);
        if sender.waiting.is_empty() {
            self.due.push((at, n));
        }
        sender.waiting.push((start, start + frame.len() as u32));
        if self.data.len() >= MOST_BYTES {
            self.flush(now);
        }
    }

    fn flush(&mut self, _now: Time) {
        for (at, n) in self.due.drain(..) {
            let Some(wire) = self.wires.get_mut(at) else { continue };
            let Some(Some(sender)) = wire.senders.get_mut(n) else { continue };
            match &mut sender.socket {
                // Frames to a port that is down or gone are lost and counted; the watch of
                // interfaces reports the port.
                Some(socket) => drop(socket.send(&self.data, &sender.waiting)),
                None => wire.lost += sender.waiting.len() as u64,
            }
            sender.waiting.clear();
        }
        self.data.clear();
    }

    fn losses(&mut self, port: u32) -> IoDrops {
        let Some(wire) = self.at.get(&port).and_then(|at| self.wires.get_mut(*at)) else {
            return IoDrops::default();
        };
        let received = wire.receiver.losses();
        let sockets = wire.senders.iter().flatten().filter_map(|s| s.socket.as_ref());
        IoDrops {
            received: received.overrun,
            oversized: received.oversized,
            sent: wire.lost + sockets.map(Transmitter::lost).sum::<u64>(),
        }
    }
}
