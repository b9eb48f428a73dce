//! Traffic control over netlink: HTB with classes and short leaf queues, netem where the kernel has it, class counters.
//!
//! Options that the netlink crates do not know are laid out here, by linux/pkt_sched.h.

use crate::Error;
use crate::netlink::{CREATE, Netlink, Request};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2};
use std::time::Duration;

const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;
/// Scheduler ticks are 64 ns (/proc/net/psched: 0x40).
const TICK: u64 = 64;
/// The longest Ethernet frame with a VLAN tag.
const FRAME: u64 = 1522;

/// What an egress does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bits a second, layer 2.
    pub rate: u64,
    /// Longest queue in packets.
    pub queue: u32,
    /// Delay of each packet.
    pub delay: Duration,
    /// Lost packets per million.
    pub loss_ppm: u32,
}

fn handle(major: u16, minor: u16) -> TcHandle {
    TcHandle { major, minor }
}

fn raw(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value))
}

fn message(index: u32, parent: TcHandle, own: TcHandle, kind: &str, options: Vec<TcOption>) -> TcMessage {
    let mut m = TcMessage::with_index(index.cast_signed());
    m.header.parent = parent;
    m.header.handle = own;
    m.attributes = vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Options(options)];
    m
}

/// One class of an HTB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Its number, from 1; packets of no other class go to the default one.
    pub id: u16,
    /// Its parent's number; 0 for the root.
    pub parent: u16,
    /// Guaranteed, bit/s.
    pub rate: u64,
    /// At most, bit/s.
    pub ceil: u64,
    /// Longest queue in packets.
    pub queue: u32,
}

/// The root: packets that no filter puts elsewhere go to class `default`.
pub fn htb_root(index: u32, default: u16) -> Request {
    // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
    let glob: Vec<u8> = [3u32, 10, default.into(), 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let m = message(index, TcHandle::ROOT, handle(1, 0), "htb", vec![raw(HTB_INIT, glob)]);
    Request {
        what: format!("HTB on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: CREATE,
    }
}

/// The time that `bytes` take at `rate`, in ticks.
fn ticks(bytes: u64, rate: u64) -> u32 {
    let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(nanos / u128::from(TICK)).unwrap_or(u32::MAX)
}

/// A class.
pub fn htb_class(index: u32, class: Class) -> Request {
    // struct tc_ratespec: cell_log, linklayer (1, Ethernet: no rate tables), overhead, cell_align, mpu, rate in byte/s.
    let spec = |rate: u64| {
        let bytes = u32::try_from(rate / 8).unwrap_or(u32::MAX);
        let mut out = vec![0u8, 1];
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&bytes.to_ne_bytes());
        out
    };
    // Two frames, or what the rate sends in 2 ms (timers are no finer on busy machines), whichever is more.
    let burst = |rate: u64| (2 * FRAME).max(rate / 8 / 500);
    let mut parms = spec(class.rate);
    parms.extend(spec(class.ceil));
    for rate in [class.rate, class.ceil] {
        parms.extend_from_slice(&ticks(burst(rate), rate).to_ne_bytes());
    }
    let quantum = u32::try_from((class.rate / 8 / 10).clamp(FRAME, 60_000)).unwrap_or(60_000);
    for number in [quantum, 0, 0] {
        parms.extend_from_slice(&number.to_ne_bytes());
    }
    let options = vec![
        raw(HTB_PARMS, parms),
        raw(HTB_RATE64, (class.rate / 8).to_ne_bytes().to_vec()),
        raw(HTB_CEIL64, (class.ceil / 8).to_ne_bytes().to_vec()),
    ];
    let m = message(index, handle(1, class.parent), handle(1, class.id), "htb", options);
    Request {
        what: format!("HTB class 1:{:x} on interface {index}", class.id),
        message: RouteNetlinkMessage::NewTrafficClass(m),
        flags: CREATE,
    }
}

/// A class's leaf queue: first in, first out, at most `limit` packets.
pub fn pfifo(index: u32, class: u16, limit: u32) -> Request {
    let mut m = TcMessage::with_index(index.cast_signed());
    m.header.parent = handle(1, class);
    m.header.handle = handle(0x100 + class, 0);
    // struct tc_fifo_qopt is the whole of the options: four bytes, no attribute. The list of options cannot say that.
    m.attributes = vec![
        TcAttribute::Kind("pfifo".to_owned()),
        TcAttribute::Other(DefaultNla::new(2, limit.to_ne_bytes().to_vec())),
    ];
    Request {
        what: format!("pfifo under class 1:{class:x} on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: CREATE,
    }
}

/// A class's leaf that delays and loses packets.
fn netem(index: u32, class: u16, shape: Shape) -> Request {
    // struct tc_netem_qopt: latency (ticks), limit, loss (share of 2^32), gap, duplicate, jitter.
    let latency = u32::try_from(shape.delay.as_nanos() as u64 / TICK).unwrap_or(u32::MAX);
    let loss = (u64::from(shape.loss_ppm) * u64::from(u32::MAX) / 1_000_000) as u32;
    let bytes: Vec<u8> = [latency, shape.queue, loss, 0, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let mut m = TcMessage::with_index(index.cast_signed());
    m.header.parent = handle(1, class);
    m.header.handle = handle(0x100 + class, 0);
    m.attributes = vec![TcAttribute::Kind("netem".to_owned()), TcAttribute::Other(DefaultNla::new(2, bytes))];
    Request {
        what: format!("netem under class 1:{class:x} on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: CREATE,
    }
}

/// The requests that shape an interface's egress: an HTB with one class and a leaf.
pub fn shape(index: u32, shape: Shape) -> Vec<Request> {
    let class = Class { id: 1, parent: 0, rate: shape.rate, ceil: shape.rate, queue: shape.queue };
    let leaf = if shape.delay.is_zero() && shape.loss_ppm == 0 {
        pfifo(index, 1, shape.queue)
    } else {
        netem(index, 1, shape)
    };
    vec![htb_root(index, 1), htb_class(index, class), leaf]
}

/// A class's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassStats {
    /// Its number.
    pub id: u16,
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u32,
    /// Packets dropped.
    pub drops: u32,
    /// Packets waiting.
    pub queued: u32,
}

/// The classes of an interface, with their counters.
///
/// # Errors
/// When the kernel does not list them.
pub fn classes(netlink: &mut Netlink, index: u32) -> Result<Vec<ClassStats>, Error> {
    let ask = RouteNetlinkMessage::GetTrafficClass(TcMessage::with_index(index.cast_signed()));
    let found = netlink.dump(&format!("classes of interface {index}"), ask)?;
    let mut list = Vec::new();
    for message in found {
        let RouteNetlinkMessage::NewTrafficClass(m) = message else { continue };
        let mut stats = ClassStats { id: m.header.handle.minor, ..ClassStats::default() };
        let nested = m.attributes.iter().filter_map(|a| match a {
            TcAttribute::Stats2(list) => Some(list),
            _ => None,
        });
        for item in nested.flatten() {
            match item {
                TcStats2::Basic(b) => (stats.bytes, stats.packets) = (b.bytes, b.packets),
                TcStats2::Queue(q) => (stats.drops, stats.queued) = (q.drops, q.qlen),
                _ => {}
            }
        }
        list.push(stats);
    }
    Ok(list)
}
