//! The environment of a switch: its ports, its controllers' connections, and the kernel's counters
//! of packets that were really sent.

use super::connection::{Connection, Target};
use super::io::{IoPort, PacketIo};
use crate::peer_lines::PeerLines;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use tandem_linux::netlink::Netlink;
use tandem_linux::tc::ClassStats;
use tandem_linux::{link, tc};
use tandem_model::Time;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{ConnId, NO_QUEUE, Port, PortCounters, QueueCounters, Sink};
use tandem_openflow::table::{Criteria, Instructions};

/// A port: its interface, and its description for controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnginePort {
    /// The interface.
    pub io: IoPort,
    /// Its description for controllers.
    pub port: Port,
}

/// A connection, and its registration with epoll.
pub(super) struct Slot {
    pub(super) key: u64,
    pub(super) connection: Connection,
    /// Whether it is registered, and then whether for writing.
    registered: Option<bool>,
}

/// A change of a registration.
pub(super) enum Wait<'a> {
    Add(BorrowedFd<'a>, bool),
    Change(BorrowedFd<'a>, bool),
}

/// The environment of a switch's tables: packet I/O, connections, the kernel's counters.
pub(super) struct Runtime {
    pub(super) io: Box<dyn PacketIo>,
    pub(super) ports: BTreeMap<u32, EnginePort>,
    pub(super) slots: Vec<Slot>,
    pub(super) now: Time,
    /// Ports that could not be opened.
    pub(super) refused: Vec<u32>,
    /// Connections that have ended, with the reason.
    pub(super) over: Vec<(ConnId, String)>,
    netlink: Option<Netlink>,
    /// The class counters of a port at a moment: all queues of one reply come from one read.
    counted: Option<(Time, u32, Vec<ClassStats>)>,
    next_key: u64,
    /// Limits log lines that controllers' messages cause.
    lines: PeerLines,
}

impl Runtime {
    pub(super) fn new(io: Box<dyn PacketIo>, now: Time) -> Runtime {
        Runtime {
            io,
            ports: BTreeMap::new(),
            slots: Vec::new(),
            now,
            refused: Vec::new(),
            over: Vec::new(),
            // Without it the counters are the switch's own, and ports cannot be turned off.
            netlink: Netlink::open().map_err(|e| tracing::warn!("{e}")).ok(),
            counted: None,
            next_key: 0,
            lines: PeerLines::default(),
        }
    }

    pub(super) fn add(&mut self, connection: Connection) {
        self.next_key += 1;
        self.slots.push(Slot { key: self.next_key, connection, registered: None });
    }

    /// Sets the addresses to dial. Connections that are no longer wanted are ended.
    pub(super) fn dial(&mut self, targets: &[Target]) {
        let mut over = Vec::new();
        self.slots.retain(|slot| {
            let wanted = slot.connection.target().is_none_or(|t| targets.contains(t));
            over.extend(slot.connection.id().filter(|_| !wanted));
            wanted
        });
        // They are closed already; the switch has to be informed.
        self.over.extend(over.into_iter().map(|id| (id, String::new())));
        for target in targets {
            if !self.slots.iter().any(|s| s.connection.target() == Some(target)) {
                self.add(Connection::to(target.clone(), self.now));
            }
        }
    }

    pub(super) fn by_id(&mut self, id: ConnId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|s| s.connection.id() == Some(id))
    }

    /// The changes of registrations.
    pub(super) fn waits(&mut self) -> impl Iterator<Item = (u64, Wait<'_>)> {
        self.slots.iter_mut().filter_map(|slot| {
            let Some((fd, write)) = slot.connection.descriptor() else {
                slot.registered = None;
                return None;
            };
            let wait = match slot.registered.replace(write) {
                None => Wait::Add(fd, write),
                Some(before) if before != write => Wait::Change(fd, write),
                Some(_) => return None,
            };
            Some((slot.key, wait))
        })
    }

    fn classes(&mut self, port: u32, index: u32) -> Option<&[ClassStats]> {
        if self.counted.as_ref().is_none_or(|(at, of, _)| (*at, *of) != (self.now, port)) {
            let found = tc::classes(self.netlink.as_mut()?, index).ok()?;
            self.counted = Some((self.now, port, found));
        }
        self.counted.as_ref().map(|(_, _, list)| list.as_slice())
    }
}

impl Sink for Runtime {
    #[inline]
    fn transmit(&mut self, port: u32, queue: u32, frame: &[u8]) {
        self.io.transmit(port, (queue != NO_QUEUE).then_some(queue), frame, self.now);
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(slot) = self.by_id(conn) else { return };
        if !slot.connection.put(bytes) {
            self.over.push((conn, "it does not read what it asked for".into()));
        }
    }

    fn close(&mut self, conn: ConnId, why: &SessionError) {
        self.over.push((conn, why.to_string()));
    }

    fn admits(&mut self, criteria: &Criteria, instructions: &Instructions) -> Result<(), String> {
        self.io.admits(criteria, instructions)
    }

    fn set_port(&mut self, number: u32, up: bool) {
        if self.io.set_port(number, up) {
            return;
        }
        let Some(port) = self.ports.get(&number) else { return };
        let request = link::set_up(port.io.index, up);
        let outcome = self.netlink.as_mut().map(|n| n.batch(&[request]));
        if let Some(Err(error)) = outcome {
            self.lines.warn(|| format!("port {number} ({}): {error}", port.io.interface));
        }
    }

    /// The kernel's counters of the interface: packets that a full queue dropped were never sent.
    fn port_counters(&mut self, number: u32, seen: PortCounters) -> PortCounters {
        if let Some(counters) = self.io.port_counters(number) {
            return counters;
        }
        let Some(index) = self.ports.get(&number).map(|p| p.io.index) else { return seen };
        let found = self.netlink.as_mut().and_then(|n| link::one(n, index).ok());
        let Some(s) = found.and_then(|i| i.stats) else { return seen };
        let lost = self.io.losses(number);
        PortCounters {
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_dropped: s.rx_dropped + lost.received,
            tx_dropped: s.tx_dropped + lost.sent,
            rx_errors: s.rx_errors + lost.oversized,
            tx_errors: s.tx_errors,
            rx_frame_err: s.rx_frame_errors,
            rx_over_err: s.rx_over_errors + lost.received,
            rx_crc_err: s.rx_crc_errors,
            collisions: s.collisions,
        }
    }

    fn queue_counters(&mut self, port: u32, queue: u32, seen: QueueCounters) -> QueueCounters {
        let Some(index) = self.ports.get(&port).map(|p| p.io.index) else { return seen };
        let class = crate::queues::class_of(queue as usize);
        let found = self.classes(port, index).and_then(|list| list.iter().find(|c| c.id == class));
        found.map_or(seen, |c| QueueCounters {
            tx_bytes: c.bytes,
            tx_packets: c.packets,
            tx_errors: c.drops.into(),
        })
    }
}

/// The first messages of a switch on a connection, buffered until the connection has its number.
#[derive(Default)]
pub(super) struct PendingBytes(pub(super) Vec<u8>);

impl Sink for PendingBytes {
    fn transmit(&mut self, _port: u32, _queue: u32, _frame: &[u8]) {}

    fn send(&mut self, _conn: ConnId, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn close(&mut self, _conn: ConnId, _why: &SessionError) {}

    fn set_port(&mut self, _number: u32, _up: bool) {}
}
