//! Reads the kernel's configuration: one list of queueing disciplines for the whole namespace (the
//! kernel offers no smaller one), then two lists for each interface: classes and filters.

use super::attributes::{handle, kind, option_bytes, u32_at};
use super::filter::{self, Found};
use super::{Class, Tree, class};
use crate::Error;
use crate::netlink::Netlink;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use std::collections::{BTreeMap, HashMap};

/// The most threads that read at a time: the kernel's lock makes more useless.
const READERS: usize = 4;
/// Interfaces for each thread; fewer are not worth one.
const PORTION: usize = 64;

/// The tree of one interface; `None` if its root is not an HTB with handle 1:, or the interface
/// does not exist. For many interfaces use [`read_all`]: the first list covers the whole namespace.
///
/// # Errors
/// When the kernel refuses, or its answer cannot be read.
pub fn read(netlink: &mut Netlink, index: u32) -> Result<Option<Tree>, Error> {
    Ok(read_all(netlink, &[index])?.remove(&index))
}

/// The trees of those interfaces whose root is an HTB with handle 1:, in normal form
/// ([`Tree::normal`]).
///
/// # Errors
/// When the kernel refuses, or its answer cannot be read.
pub fn read_all(netlink: &mut Netlink, indices: &[u32]) -> Result<BTreeMap<u32, Tree>, Error> {
    // 1. Roots and leaves of everything.
    let ask = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let Disciplines { roots, leaves } = disciplines(&netlink.dump("queueing disciplines", ask)?);
    // 2. Classes and filters of each: two lists for each interface, requested one by one. For many
    //    interfaces, several at a time.
    let shaped: Vec<(u32, u16)> = indices.iter().filter_map(|i| Some((*i, *roots.get(i)?))).collect();
    let readers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(READERS);
    let portion = shaped.len().div_ceil(readers).max(PORTION);
    let mut portions = shaped.chunks(portion);
    let first = portions.next().unwrap_or_default();
    std::thread::scope(|scope| {
        // A thread starts in the namespace of the one that starts it.
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

/// The queueing disciplines of a namespace: the default classes of the roots that are an HTB with
/// handle 1:, by interface; and the lengths of the leaf queues, by interface and class.
#[derive(Default)]
struct Disciplines {
    roots: HashMap<u32, u16>,
    leaves: HashMap<(u32, u16), u32>,
}

fn disciplines(dump: &[RouteNetlinkMessage]) -> Disciplines {
    let mut found = Disciplines::default();
    for message in dump {
        let RouteNetlinkMessage::NewQueueDiscipline(m) = message else { continue };
        let index = m.header.index.cast_unsigned();
        match kind(m) {
            "htb" if m.header.parent == TcHandle::ROOT && m.header.handle == handle(1, 0) => {
                found.roots.insert(index, class::root_default(m));
            }
            "pfifo" if m.header.parent.major == 1 => {
                if let Some(limit) = u32_at(&option_bytes(m), 0) {
                    found.leaves.insert((index, m.header.parent.minor), limit);
                }
            }
            _ => {}
        }
    }
    found
}

/// The tree of an interface from dumps that the caller has: of the namespace's queueing
/// disciplines, of the interface's classes, and of its filters. Equals the result of [`read`]; does
/// no I/O.
pub fn tree(
    index: u32,
    disciplines_dump: &[RouteNetlinkMessage],
    classes_dump: &[RouteNetlinkMessage],
    filters_dump: &[RouteNetlinkMessage],
) -> Option<Tree> {
    let found = disciplines(disciplines_dump);
    let default = *found.roots.get(&index)?;
    let mut tree = Tree { default, classes: classes_of(classes_dump), filters: Vec::new() };
    put_together(index, &mut tree, &found.leaves, filters_dump);
    Some(tree.normal())
}

fn put_together(
    index: u32,
    tree: &mut Tree,
    leaves: &HashMap<(u32, u16), u32>,
    filters_dump: &[RouteNetlinkMessage],
) {
    for class in &mut tree.classes {
        class.queue = leaves.get(&(index, class.id)).copied().unwrap_or_default();
    }
    for message in filters_dump {
        let RouteNetlinkMessage::NewTrafficFilter(m) = message else { continue };
        match filter::parse(m) {
            Found::Filter(filter) => tree.filters.push(filter),
            // The class of the filter that overrides the root's default is the default.
            Found::CatchAll(class) => tree.default = class,
            Found::Nothing => {}
        }
    }
}

fn inside(
    netlink: &mut Netlink,
    interfaces: &[(u32, u16)],
    leaves: &HashMap<(u32, u16), u32>,
) -> Result<Vec<(u32, Tree)>, Error> {
    let mut trees = Vec::with_capacity(interfaces.len());
    for (index, default) in interfaces {
        let mut tree = Tree { default: *default, classes: classes(netlink, *index)?, filters: Vec::new() };
        let filters = filters(netlink, *index)?;
        put_together(*index, &mut tree, leaves, &filters);
        trees.push((*index, tree.normal()));
    }
    Ok(trees)
}

fn classes(netlink: &mut Netlink, index: u32) -> Result<Vec<Class>, Error> {
    let ask = RouteNetlinkMessage::GetTrafficClass(TcMessage::with_index(index.cast_signed()));
    Ok(classes_of(&netlink.dump(&format!("classes of interface {index}"), ask)?))
}

/// Each class once: a list that was interrupted by a change may have one twice, and the later entry
/// is current.
fn classes_of(dump: &[RouteNetlinkMessage]) -> Vec<Class> {
    let found = dump.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewTrafficClass(m) => class::parse(m),
        _ => None,
    });
    found.map(|class| (class.id, class)).collect::<BTreeMap<u16, Class>>().into_values().collect()
}

/// The filters at the root.
fn filters(netlink: &mut Netlink, index: u32) -> Result<Vec<RouteNetlinkMessage>, Error> {
    let mut ask = TcMessage::with_index(index.cast_signed());
    ask.header.parent = handle(1, 0);
    netlink.dump(&format!("filters of interface {index}"), RouteNetlinkMessage::GetTrafficFilter(ask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink;
    use proptest::prelude::*;

    /// A kernel's reply (Linux 6.18, configured with `iproute2`): the lists of queueing
    /// disciplines, classes and filters of one namespace in sequence. `tests/data/README.md` says
    /// how it was captured.
    const DUMP: &[u8] = include_bytes!("../../tests/data/htb-dump.bin");

    fn tree_in(bytes: &[u8]) -> Option<Tree> {
        let items = netlink::items(bytes).ok()?;
        let index =
            crate::tc::interfaces(bytes).into_iter().find(|i| tree(*i, &items, &items, &items).is_some())?;
        tree(index, &items, &items, &items)
    }

    #[test]
    fn a_captured_dump_is_the_tree_that_was_made() {
        let tree = tree_in(DUMP).expect("a tree");
        let classes: Vec<_> =
            tree.classes.iter().map(|c| (c.id, c.parent, c.rate, c.ceil, c.queue)).collect();
        let mbit = |n: u64| n * 1_000_000;
        assert_eq!(
            classes,
            [(1, 0, mbit(10), mbit(10), 0), (2, 1, mbit(3), mbit(10), 40), (3, 1, mbit(7), mbit(10), 0)]
        );
        assert_eq!(tree.default, 2);
        // A list that was interrupted has a class twice, which counts once.
        let twice = [DUMP, DUMP].concat();
        assert_eq!(tree_in(&twice).map(|t| t.classes.len()), Some(3));
        assert_eq!(
            tree_in(&twice),
            tree_in(DUMP).map(|t| Tree { filters: [&t.filters[..], &t.filters[..]].concat(), ..t })
        );
    }

    proptest! {
        /// From a datagram to the requests for a wanted egress: damaged bytes give no tree, or one
        /// without a difference to itself.
        #[test]
        fn damaged_lists_are_a_tree_or_none(
            damage in prop::collection::vec((0..DUMP.len(), any::<u8>()), 1..8),
            cut in 0..DUMP.len(),
        ) {
            let mut bytes = DUMP.to_vec();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            for bytes in [&bytes[..], &bytes[..cut]] {
                let Ok(items) = netlink::items(bytes) else { continue };
                let _ = (crate::tc::roots_in(&items), crate::tc::classes_in(&items));
                let _ = crate::link::interfaces(items);
                if let Some(tree) = tree_in(bytes) {
                    let _ = tree.check();
                    prop_assert!(crate::tc::difference(1, Some(&tree), Some(&tree)).is_empty());
                    let _ = crate::tc::difference(1, Some(&tree), None);
                }
            }
        }
    }
}
