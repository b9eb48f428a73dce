//! Counters of classes (linux/gen_stats.h: `TCA_STATS_*`; linux/pkt_sched.h: `struct
//! tc_htb_xstats`).

use super::attributes::{bytes, u32_at, u64_at};
use crate::Error;
use crate::netlink::Netlink;
use netlink_packet_core::Nla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2, TcXstats};

const RATE_EST: u16 = 2;
const RATE_EST64: u16 = 5;
const PKT64: u16 = 8;

/// A class's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassStats {
    /// Its number.
    pub id: u16,
    /// Bytes sent, with Ethernet headers.
    pub bytes: u64,
    /// Packets sent. In kernels before 5.5 the counter wraps at 2^32.
    pub packets: u64,
    /// Packets dropped; wraps at 2^32.
    pub drops: u32,
    /// Packets waiting.
    pub queued: u32,
    /// Bytes waiting.
    pub backlog: u32,
    /// How often a packet had to wait for the rate (always 0 before Linux 4.20); wraps at 2^32.
    pub overlimits: u32,
    /// Packets sent at the class's own rate; wraps at 2^32.
    pub lends: u32,
    /// Packets sent at the cost of its parent; wraps at 2^32.
    pub borrows: u32,
    /// Tokens for its rate, in ticks of 64 ns; below 0 it has to wait.
    pub tokens: i32,
    /// The same for its ceiling.
    pub ctokens: i32,
    /// Bit/s, if the kernel estimates it (the module parameter `sch_htb.htb_rate_est`, off by
    /// default).
    pub rate: Option<u64>,
}

/// The classes of an interface, with their counters.
///
/// # Errors
/// When the kernel does not list them.
pub fn classes(netlink: &mut Netlink, index: u32) -> Result<Vec<ClassStats>, Error> {
    let ask = RouteNetlinkMessage::GetTrafficClass(TcMessage::with_index(index.cast_signed()));
    Ok(classes_in(&netlink.dump(&format!("classes of interface {index}"), ask)?))
}

/// The same from a dump that the caller has.
pub fn classes_in(dump: &[RouteNetlinkMessage]) -> Vec<ClassStats> {
    dump.iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficClass(m) => Some(parse(m)),
            _ => None,
        })
        .collect()
}

fn parse(message: &TcMessage) -> ClassStats {
    let mut stats = ClassStats { id: message.header.handle.minor, ..ClassStats::default() };
    let nested = message.attributes.iter().filter_map(|a| match a {
        TcAttribute::Stats2(list) => Some(list),
        _ => None,
    });
    let (mut packets64, mut rate, mut rate64) = (None, None, None);
    for item in nested.flatten() {
        match item {
            TcStats2::Basic(b) => (stats.bytes, stats.packets) = (b.bytes, b.packets.into()),
            TcStats2::Queue(q) => {
                (stats.drops, stats.queued) = (q.drops, q.qlen);
                (stats.backlog, stats.overlimits) = (q.backlog, q.overlimits);
            }
            TcStats2::App(TcXstats::Other(x)) => {
                // struct tc_htb_xstats: lends, borrows, giants (unused), tokens, ctokens.
                let at = |offset| u32_at(x, offset).unwrap_or_default();
                (stats.lends, stats.borrows) = (at(0), at(4));
                (stats.tokens, stats.ctokens) = (at(12).cast_signed(), at(16).cast_signed());
            }
            // struct gnet_stats_rate_est, in bytes and packets a second.
            TcStats2::Other(nla) => match nla.kind() {
                RATE_EST => rate = u32_at(&bytes(nla), 0).map(u64::from),
                RATE_EST64 => rate64 = u64_at(&bytes(nla), 0),
                PKT64 => packets64 = u64_at(&bytes(nla), 0),
                _ => {}
            },
            _ => {}
        }
    }
    stats.packets = packets64.unwrap_or(stats.packets);
    stats.rate = rate64.or(rate).map(|bytes| bytes.saturating_mul(8));
    stats
}
