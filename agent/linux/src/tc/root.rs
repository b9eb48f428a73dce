//! The root queueing of an interface as others have configured it, so that it can be restored.

use super::attributes::{bytes, kind, options};
use crate::Error;
use crate::netlink::{Netlink, REPLACE, Request};
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use std::collections::{BTreeMap, BTreeSet};

/// TCA_OPTIONS (linux/rtnetlink.h).
const OPTIONS: u16 = 2;

/// Kinds with classes that are configured one by one: restoring only their root would lose them.
const CLASSFUL: [&str; 11] =
    ["htb", "hfsc", "prio", "drr", "qfq", "ets", "cbq", "multiq", "mq", "mqprio", "taprio"];

/// A root other than the kernel's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// `tbf`, `fq_codel`, ...
    pub kind: String,
    /// Its handle's major number.
    pub major: u16,
    /// Its options as the kernel reports them (TCA_OPTIONS).
    pub options: Vec<u8>,
}

impl Root {
    /// Whether it may have classes, which [`Root::request`] would not restore.
    pub fn is_classful(&self) -> bool {
        CLASSFUL.contains(&self.kind.as_str())
    }

    /// The request that restores it, replacing the present root.
    pub fn request(&self, index: u32) -> Request {
        let mut m = TcMessage::with_index(index.cast_signed());
        m.header.parent = TcHandle::ROOT;
        m.header.handle = TcHandle { major: self.major, minor: 0 };
        m.attributes = vec![TcAttribute::Kind(self.kind.clone())];
        if !self.options.is_empty() {
            m.attributes.push(TcAttribute::Other(DefaultNla::new(OPTIONS, self.options.clone())));
        }
        Request {
            what: format!("{} on interface {index}, as it was found", self.kind),
            message: RouteNetlinkMessage::NewQueueDiscipline(m),
            flags: REPLACE,
        }
    }
}

/// The configured roots of the thread's namespace, by interface number. The kernel's default has no
/// handle, and is left out.
///
/// # Errors
/// When the kernel does not list them.
pub fn roots(netlink: &mut Netlink) -> Result<BTreeMap<u32, Root>, Error> {
    let ask = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    Ok(roots_in(&netlink.dump("queueing disciplines", ask)?))
}

/// The same from a dump that the caller has.
pub fn roots_in(dump: &[RouteNetlinkMessage]) -> BTreeMap<u32, Root> {
    dump.iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(m) => Some(m),
            _ => None,
        })
        .filter(|m| m.header.parent == TcHandle::ROOT && m.header.handle.major != 0)
        .map(|m| {
            let root =
                Root { kind: kind(m).to_owned(), major: m.header.handle.major, options: raw_options(m) };
            (m.header.index.cast_unsigned(), root)
        })
        .collect()
}

/// Whether [`Root::request`] restores the whole queueing: the root has no classes, no discipline
/// below it, and no filter.
///
/// When the kernel refuses the lists.
pub fn is_bare(netlink: &mut Netlink, index: u32, root: &Root) -> Result<bool, Error> {
    if root.is_classful() {
        return Ok(false);
    }
    let own = TcHandle { major: root.major, minor: 0 };
    let mut ask = TcMessage::with_index(index.cast_signed());
    ask.header.parent = own;
    let what = format!("filters of interface {index}");
    let filters = netlink.dump(&what, RouteNetlinkMessage::GetTrafficFilter(ask))?;
    let ask = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let below = netlink.dump("queueing disciplines", ask)?.into_iter().any(|message| match message {
        RouteNetlinkMessage::NewQueueDiscipline(m) => {
            m.header.index.cast_unsigned() == index && m.header.parent.major == root.major
        }
        _ => false,
    });
    Ok(filters.is_empty() && !below)
}

/// The interfaces with a queueing discipline for incoming packets (`ingress`, `clsact`).
///
/// # Errors
/// When the kernel does not list them.
pub fn ingresses(netlink: &mut Netlink) -> Result<BTreeSet<u32>, Error> {
    let ask = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let found = netlink.dump("queueing disciplines", ask)?;
    let is_ingress = |m: &&TcMessage| m.header.parent == TcHandle::INGRESS;
    let messages = found.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewQueueDiscipline(m) => Some(m),
        _ => None,
    });
    Ok(messages.filter(is_ingress).map(|m| m.header.index.cast_unsigned()).collect())
}

/// The options as received. The netlink crate keeps those of an unknown kind as one attribute; of
/// others it has decoded each.
fn raw_options(message: &TcMessage) -> Vec<u8> {
    if let [TcOption::Other(nla)] = options(message)
        && nla.kind() == OPTIONS
    {
        return bytes(nla);
    }
    let typed = message.attributes.iter().find(|a| matches!(a, TcAttribute::Options(_)));
    typed.map_or_else(Vec::new, |attribute| {
        let mut out = vec![0; attribute.value_len()];
        attribute.emit_value(&mut out);
        out
    })
}
