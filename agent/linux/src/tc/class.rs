//! HTB (linux/pkt_sched.h: `TCA_HTB_*`, `struct tc_htb_opt`): the root, its classes and their leaf
//! queues.

use super::TICK;
use super::attributes::{handle, named, nested, option_bytes, u32_at, u64_at, walk, whole};
use crate::netlink::{CREATE, REPLACE, Request};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};

const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;
/// The longest Ethernet frame with a VLAN tag.
const FRAME: u64 = 1522;
/// HTB has priorities 0 to 7 (net/sched/sch_htb.c: TC_HTB_NUMPRIO) and takes a higher one as the
/// last.
const LAST_PRIORITY: u32 = 7;

/// One class of an HTB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Its number, from 1; packets of no other class go to the default one.
    pub id: u16,
    /// Its parent's number; 0 for the root.
    pub parent: u16,
    /// Guaranteed rate in bit/s. The kernel counts whole bytes a second.
    pub rate: u64,
    /// Ceiling in bit/s.
    pub ceil: u64,
    /// Longest queue of its leaf in packets. 0 for a class with children, which has no leaf; for a
    /// class without, 0 means the kernel's default (the interface's txqueuelen).
    pub queue: u32,
    /// Order in which classes are offered spare bandwidth: 0 to 7, 0 first. Ignored for a class
    /// with children.
    pub priority: u32,
    /// Bytes sent at full speed before the rate applies. `None`: what the rate sends in 10 ms, at
    /// least two frames; above 64 KiB in 2 ms.
    pub burst: Option<u32>,
    /// The same for the ceiling.
    pub cburst: Option<u32>,
    /// Bytes it sends in its turn when classes share spare bandwidth. `None`: a tenth of a
    /// second's, between one frame and 60000. Ignored for a class with children.
    pub quantum: Option<u32>,
}

impl Class {
    /// A class of priority 0, whose other parameters are computed from the rates. Rates in bit/s,
    /// the queue in packets.
    pub const fn new(id: u16, parent: u16, rate: u64, ceil: u64, queue: u32) -> Class {
        Class { id, parent, rate, ceil, queue, priority: 0, burst: None, cburst: None, quantum: None }
    }

    /// With a priority, 0 (first) to 7.
    #[must_use]
    pub const fn priority(self, priority: u32) -> Class {
        Class { priority, ..self }
    }

    /// With the bytes that are sent at full speed before the rate and the ceiling apply.
    #[must_use]
    pub const fn bursts(self, burst: u32, cburst: u32) -> Class {
        Class { burst: Some(burst), cburst: Some(cburst), ..self }
    }

    /// With the bytes that it sends in its turn.
    #[must_use]
    pub const fn quantum(self, quantum: u32) -> Class {
        Class { quantum: Some(quantum), ..self }
    }

    /// The class as the kernel reports it: whole bytes a second, bursts in whole ticks, computed
    /// values not named, and nothing that a class with children ignores.
    pub(super) fn normal(self, has_children: bool) -> Class {
        let (rate, ceil) = (whole_bytes(self.rate), whole_bytes(self.ceil));
        let burst = |asked: Option<u32>, rate: u64| {
            let usual = burst_of(ticks(usual_burst(rate), rate), rate);
            asked.map(|b| burst_of(ticks(b.into(), rate), rate)).filter(|b| *b != usual)
        };
        Class {
            rate,
            ceil,
            queue: if has_children { 0 } else { self.queue },
            priority: if has_children { 0 } else { self.priority.min(LAST_PRIORITY) },
            burst: burst(self.burst, rate),
            cburst: burst(self.cburst, ceil),
            quantum: self.quantum.filter(|q| !has_children && *q != 0 && *q != usual_quantum(rate)),
            ..self
        }
    }
}

/// The kernel counts bytes a second, and does not accept a rate of 0.
fn whole_bytes(rate: u64) -> u64 {
    (rate - rate % 8).max(8)
}

/// The default burst: what the rate sends in 10 ms, at least two frames, at most the larger of 64
/// KiB and what it sends in 2 ms.
///
/// All classes get a burst of the same duration, not of the same size. A machine whose timers fire
/// late loses what a class would have sent beyond its burst, and bursts that last for different
/// times would move shares towards the class whose burst lasts longest, which is the slowest.
fn usual_burst(rate: u64) -> u64 {
    let bytes = rate / 8;
    (2 * FRAME).max((bytes / 100).min(64 << 10)).max(bytes / 500)
}

fn usual_quantum(rate: u64) -> u32 {
    u32::try_from((rate / 8 / 10).clamp(FRAME, 60_000)).unwrap_or(60_000)
}

/// The time that `bytes` take at `rate`, in ticks.
fn ticks(bytes: u64, rate: u64) -> u32 {
    let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(nanos / u128::from(TICK)).unwrap_or(u32::MAX)
}

/// The fewest bytes that take this many ticks. With [`ticks`] this gives a fixed point: a burst
/// that was read and is written again is unchanged.
fn burst_of(ticks: u32, rate: u64) -> u32 {
    let bytes = (u128::from(ticks) * u128::from(TICK) * u128::from(rate)).div_ceil(8 * 1_000_000_000);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The root. Packets that no filter matches go to class `default`, or without such a class past all
/// shaping.
pub fn htb_root(index: u32, default: u16) -> Request {
    // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
    let glob: Vec<u8> = [3u32, 10, default.into(), 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let m = nested(index, TcHandle::ROOT, handle(1, 0), "htb", vec![(HTB_INIT, glob)]);
    Request {
        what: format!("HTB on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: CREATE,
    }
}

/// Removes the root, with all classes, leaves and filters; packets waiting in them are lost. The
/// kernel refuses (ENOENT) if there is none.
pub fn remove_root(index: u32) -> Request {
    let m = named(index, TcHandle::ROOT, handle(0, 0));
    Request {
        what: format!("removing the queueing of interface {index}"),
        message: RouteNetlinkMessage::DelQueueDiscipline(m),
        flags: 0,
    }
}

/// Creates a class.
pub fn htb_class(index: u32, class: Class) -> Request {
    // struct tc_ratespec: cell_log, linklayer (1, Ethernet: no rate tables), overhead, cell_align,
    // mpu, rate in byte/s.
    let spec = |rate: u64| {
        let bytes = u32::try_from(rate / 8).unwrap_or(u32::MAX);
        let mut out = vec![0u8, 1];
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&bytes.to_ne_bytes());
        out
    };
    let (rate, ceil) = (whole_bytes(class.rate), whole_bytes(class.ceil));
    // struct tc_htb_opt: rate, ceil, buffer, cbuffer (ticks), quantum, level (from the kernel
    // only), prio.
    let mut parms = spec(rate);
    parms.extend(spec(ceil));
    for (burst, rate) in [(class.burst, rate), (class.cburst, ceil)] {
        let burst = burst.map_or_else(|| usual_burst(rate), u64::from);
        parms.extend_from_slice(&ticks(burst, rate).to_ne_bytes());
    }
    let quantum = class.quantum.filter(|q| *q != 0).unwrap_or_else(|| usual_quantum(rate));
    for number in [quantum, 0, class.priority] {
        parms.extend_from_slice(&number.to_ne_bytes());
    }
    let options = vec![
        (HTB_PARMS, parms),
        (HTB_RATE64, (rate / 8).to_ne_bytes().to_vec()),
        (HTB_CEIL64, (ceil / 8).to_ne_bytes().to_vec()),
    ];
    let m = nested(index, handle(1, class.parent), handle(1, class.id), "htb", options);
    Request {
        what: format!("HTB class 1:{:x} on interface {index}", class.id),
        message: RouteNetlinkMessage::NewTrafficClass(m),
        flags: CREATE,
    }
}

/// Changes a class in place; waiting packets stay. The parent of a class cannot be changed so.
pub(super) fn change_class(index: u32, class: Class) -> Request {
    Request { flags: 0, ..htb_class(index, class) }
}

/// Removes a class, with its leaf and the packets in it. The kernel refuses (EBUSY) while it has
/// children or a filter names it.
pub fn remove_class(index: u32, class: u16) -> Request {
    Request {
        what: format!("removing HTB class 1:{class:x} from interface {index}"),
        message: RouteNetlinkMessage::DelTrafficClass(named(index, handle(1, 0), handle(1, class))),
        flags: 0,
    }
}

/// Creates a class's leaf queue where there is none: first in, first out, at most `limit` packets.
pub fn pfifo(index: u32, class: u16, limit: u32) -> Request {
    // The options are one struct tc_fifo_qopt: four bytes.
    let own = handle(0x100u16.wrapping_add(class), 0);
    let m = whole(index, handle(1, class), own, "pfifo", limit.to_ne_bytes().to_vec());
    Request {
        what: format!("pfifo under class 1:{class:x} on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: CREATE,
    }
}

/// Sets a class's leaf queue: a pfifo changes its limit in place, another kind is replaced.
pub fn leaf(index: u32, class: u16, limit: u32) -> Request {
    let mut request = pfifo(index, class, limit);
    if let RouteNetlinkMessage::NewQueueDiscipline(m) = &mut request.message {
        // Without a handle in the request the kernel compares only the kind, and chooses the handle
        // of a new one.
        m.header.handle = TcHandle::UNSPEC;
    }
    Request { flags: REPLACE, ..request }
}

/// The leaf queue of a class of somebody else's tree: a pfifo, in place of whatever is there.
/// `class` is its handle, major and minor.
pub fn leaf_under(index: u32, class: (u16, u16), limit: u32) -> Request {
    let (major, minor) = class;
    let options = limit.to_ne_bytes().to_vec();
    let m = whole(index, handle(major, minor), TcHandle::UNSPEC, "pfifo", options);
    Request {
        what: format!("pfifo under class {major:x}:{minor:x} on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: REPLACE,
    }
}

/// Removes a class's leaf queue; the kernel puts its default there.
pub fn remove_leaf(index: u32, class: u16) -> Request {
    Request {
        what: format!("removing the leaf of class 1:{class:x} on interface {index}"),
        message: RouteNetlinkMessage::DelQueueDiscipline(named(index, handle(1, class), TcHandle::UNSPEC)),
        flags: 0,
    }
}

/// The default class in a root's options.
pub(super) fn root_default(message: &TcMessage) -> u16 {
    let bytes = option_bytes(message);
    let glob = walk(&bytes).find(|(kind, _)| *kind == HTB_INIT);
    let default = glob.and_then(|(_, glob)| u32_at(glob, 8)).unwrap_or_default();
    // The kernel uses the minor number only.
    (default & 0xffff) as u16
}

/// A class as the kernel reports it, without its leaf; `None` if it does not belong to an HTB with
/// handle 1:.
pub(super) fn parse(message: &TcMessage) -> Option<Class> {
    let (own, parent) = (message.header.handle, message.header.parent);
    if own.major != 1 || own.minor == 0 {
        return None;
    }
    let bytes = option_bytes(message);
    let find = |wanted: u16| walk(&bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let parms = find(HTB_PARMS)?;
    let rate = |offset: usize, large: u16| {
        let small = u32_at(parms, offset)?;
        Some(find(large).and_then(|v| u64_at(v, 0)).unwrap_or_else(|| small.into()).saturating_mul(8))
    };
    let (rate, ceil) = (rate(8, HTB_RATE64)?, rate(20, HTB_CEIL64)?);
    Some(Class {
        id: own.minor,
        parent: if parent == TcHandle::ROOT { 0 } else { parent.minor },
        rate,
        ceil,
        queue: 0,
        priority: u32_at(parms, 40)?,
        burst: Some(burst_of(u32_at(parms, 24)?, rate)),
        cburst: Some(burst_of(u32_at(parms, 28)?, ceil)),
        quantum: Some(u32_at(parms, 32)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_is_written_the_same() {
        for rate in [8, 800, 999_992, 10_000_000, 70_000_008, 1_000_000_000, 40_000_000_000, 400_000_000_000]
        {
            for bytes in [1, 1522, 3044, 65_536, 123_457, 10_000_001] {
                let there = ticks(bytes, rate);
                let back = burst_of(there, rate);
                assert!(u64::from(back) <= bytes);
                assert_eq!(ticks(back.into(), rate), there, "{bytes} bytes at {rate} bit/s");
            }
        }
    }

    #[test]
    fn the_request_is_what_the_parser_reads() {
        let class =
            Class::new(7, 3, 40_000_000_000, 100_000_000_000, 0).priority(2).bursts(70_000, 1_000_000);
        let RouteNetlinkMessage::NewTrafficClass(mut m) = htb_class(5, class).message else { panic!() };
        // The kernel's reply has all options in one attribute.
        let mut all = Vec::new();
        for option in super::super::attributes::options(&m) {
            let netlink_packet_route::tc::TcOption::Other(nla) = option else { panic!() };
            let value = super::super::attributes::bytes(nla);
            let length = u16::try_from(value.len() + 4).expect("short");
            all.extend_from_slice(&length.to_ne_bytes());
            all.extend_from_slice(&netlink_packet_core::Nla::kind(nla).to_ne_bytes());
            all.extend(value);
            all.resize(all.len().next_multiple_of(4), 0);
        }
        let one = netlink_packet_route::tc::TcOption::Other(netlink_packet_core::DefaultNla::new(2, all));
        m.attributes = vec![netlink_packet_route::tc::TcAttribute::Options(vec![one])];
        assert_eq!(parse(&m).map(|c| c.normal(false)), Some(class.normal(false)));
    }
}
