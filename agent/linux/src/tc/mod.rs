//! Traffic control over netlink: the wanted egress as a value, the actual one, and the requests
//! from one to the other.
//!
//! 1. A [`Tree`] describes an egress: HTB with classes, short leaf queues, and the filters that
//!    assign packets to classes.
//! 2. [`read`] and [`read_all`] return the kernel's configuration as a [`Tree`].
//! 3. [`difference`] returns the requests that turn one tree into another. Rates change in place,
//!    without packet loss.
//! 4. [`classes`] reads the counters; a [`Listener`] reports changes by others.
//! 5. [`roots`] returns roots that others have configured, so that they can be restored.
//!
//! [`shape`] is a shortcut for one class, with netem where the kernel has it.
//!
//! Options that the netlink crates do not know are encoded here, after linux/pkt_sched.h and
//! linux/pkt_cls.h.

mod attributes;
mod class;
mod difference;
mod filter;
mod ingress;
mod read;
mod root;
mod stats;
mod tc_monitor;
mod tree;

pub use class::{
    Class, htb_class, htb_root, leaf, leaf_under, pfifo, remove_class, remove_leaf, remove_root,
};
pub use difference::difference;
pub(crate) use filter::Instruction;
pub use filter::{Classifier, Filter, Select, cbpf, remove_filters, u32};
pub(crate) use ingress::{direct_action, ingress};
pub use read::{read, read_all, tree};
pub use root::{Root, ingresses, is_bare, roots, roots_in};
pub use stats::{ClassStats, classes, classes_in};
pub use tc_monitor::{Listener, interfaces};
pub use tree::{Invalid, Tree};

use crate::netlink::{CREATE, Request};
use attributes::{handle, whole};
use netlink_packet_route::RouteNetlinkMessage;
use std::time::Duration;

/// Scheduler ticks are 64 ns (/proc/net/psched: 0x40).
const TICK: u64 = 64;

/// Limits and impairments of an egress.
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

/// A leaf that delays and drops packets.
fn netem(index: u32, class: u16, shape: Shape) -> Request {
    // struct tc_netem_qopt: latency (ticks), limit, loss (share of 2^32), gap, duplicate, jitter.
    let latency = u32::try_from(shape.delay.as_nanos() / u128::from(TICK)).unwrap_or(u32::MAX);
    let loss = u64::from(shape.loss_ppm) * u64::from(u32::MAX) / 1_000_000;
    let loss = u32::try_from(loss).unwrap_or(u32::MAX);
    let bytes: Vec<u8> = [latency, shape.queue, loss, 0, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let own = handle(0x100u16.wrapping_add(class), 0);
    Request {
        what: format!("netem under class 1:{class:x} on interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(whole(index, handle(1, class), own, "netem", bytes)),
        flags: CREATE,
    }
}

/// The request that gives an interface another rate that is shaped by [`shape`].
pub fn reshape(index: u32, shape: Shape) -> Request {
    class::change_class(index, Class::new(1, 0, shape.rate, shape.rate, shape.queue))
}

/// The requests that shape an interface's egress: an HTB with one class and a leaf.
pub fn shape(index: u32, shape: Shape) -> Vec<Request> {
    let class = Class::new(1, 0, shape.rate, shape.rate, shape.queue);
    let leaf = if shape.delay.is_zero() && shape.loss_ppm == 0 {
        pfifo(index, 1, shape.queue)
    } else {
        netem(index, 1, shape)
    };
    vec![htb_root(index, 1), htb_class(index, class), leaf]
}
