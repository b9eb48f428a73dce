//! What the kernel has. One list of queueing disciplines for the whole namespace (the kernel gives no smaller one), then two lists an
//! interface: classes and filters.

use super::attributes::{handle, kind, option_bytes, u32_at};
use super::filter::{self, Found};
use super::{Class, Filter, Tree, class};
use crate::Error;
use crate::netlink::Netlink;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use std::collections::{BTreeMap, HashMap};

/// The most threads that read at a time: the kernel's own lock lets no more than a few be of use.
const READERS: usize = 4;
/// So few interfaces are not worth a thread.
const PORTION: usize = 64;

/// The tree of one interface; `None` when its root is no HTB with handle 1:, or there is no such interface. For many use [`read_all`]:
/// the first step's cost is that of the whole namespace.
///
/// # Errors
/// When the kernel refuses, or its answer cannot be read.
pub fn read(netlink: &mut Netlink, index: u32) -> Result<Option<Tree>, Error> {
    Ok(read_all(netlink, &[index])?.remove(&index))
}

/// The trees of those of the interfaces whose root is an HTB with handle 1:. They are normal ([`Tree::normal`]).
///
/// # Errors
/// When the kernel refuses, or its answer cannot be read.
pub fn read_all(netlink: &mut Netlink, indices: &[u32]) -> Result<BTreeMap<u32, Tree>, Error> {
    // 1. Roots and leaves of everything.
    let ask = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let mut roots: HashMap<u32, u16> = HashMap::new();
    let mut leaves: HashMap<(u32, u16), u32> = HashMap::new();
    for message in netlink.dump("queueing disciplines", ask)? {
        let RouteNetlinkMessage::NewQueueDiscipline(m) = message else { continue };
        let index = m.header.index.cast_unsigned();
        match kind(&m) {
            "htb" if m.header.parent == TcHandle::ROOT && m.header.handle == handle(1, 0) => {
                roots.insert(index, class::root_default(&m));
            }
            "pfifo" if m.header.parent.major == 1 => {
                if let Some(limit) = u32_at(&option_bytes(&m), 0) {
                    leaves.insert((index, m.header.parent.minor), limit);
                }
            }
            _ => {}
        }
    }
    // 2. Classes and filters of each: two lists an interface, which the kernel gives one by one. Of many, several at a time.
    let shaped: Vec<(u32, u16)> = indices.iter().filter_map(|i| Some((*i, *roots.get(i)?))).collect();
    let readers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(READERS);
    let portion = shaped.len().div_ceil(readers).max(PORTION);
    let mut portions = shaped.chunks(portion);
    let first = portions.next().unwrap_or_default();
    std::thread::scope(|scope| {
        // A thread begins in the namespace of the one that starts it.
        let leaves = &leaves;
        let others: Vec<_> =
            portions.map(|part| scope.spawn(move || inside(&mut Netlink::open()?, part, leaves))).collect();
        let mut trees: BTreeMap<u32, Tree> = inside(netlink, first, leaves)?.into_iter().collect();
        for other in others {
            let read = other.join().map_err(|_| Error::Garbled {
                what: "classes and filters".into(),
                why: "a thread that reads them has panicked".into(),
            })?;
            trees.extend(read?);
        }
        Ok(trees)
    })
}

fn inside(
    netlink: &mut Netlink,
    interfaces: &[(u32, u16)],
    leaves: &HashMap<(u32, u16), u32>,
) -> Result<Vec<(u32, Tree)>, Error> {
    let mut trees = Vec::with_capacity(interfaces.len());
    for (index, default) in interfaces {
        let mut tree = Tree { default: *default, classes: classes(netlink, *index)?, filters: Vec::new() };
        for class in &mut tree.classes {
            class.queue = leaves.get(&(*index, class.id)).copied().unwrap_or_default();
        }
        filters(netlink, *index, &mut tree)?;
        trees.push((*index, tree.normal()));
    }
    Ok(trees)
}

fn classes(netlink: &mut Netlink, index: u32) -> Result<Vec<Class>, Error> {
    let ask = RouteNetlinkMessage::GetTrafficClass(TcMessage::with_index(index.cast_signed()));
    let found = netlink.dump(&format!("classes of interface {index}"), ask)?;
    Ok(found
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficClass(m) => class::parse(m),
            _ => None,
        })
        .collect())
}

/// The filters at the root; the one that overrules the root's default class becomes the default.
fn filters(netlink: &mut Netlink, index: u32, tree: &mut Tree) -> Result<(), Error> {
    let mut ask = TcMessage::with_index(index.cast_signed());
    ask.header.parent = handle(1, 0);
    let found =
        netlink.dump(&format!("filters of interface {index}"), RouteNetlinkMessage::GetTrafficFilter(ask))?;
    let mut list: Vec<Filter> = Vec::new();
    for message in found {
        let RouteNetlinkMessage::NewTrafficFilter(m) = message else { continue };
        match filter::parse(&m) {
            Found::Filter(filter) => list.push(filter),
            Found::CatchAll(class) => tree.default = class,
            Found::Nothing => {}
        }
    }
    tree.filters = list;
    Ok(())
}
