//! The requests that change an actual tree into the wanted one: as few as possible, in an order
//! that the kernel accepts and that disturbs packets least.
//!
//! These change in place, without loss: rates, ceilings, priorities, bursts, quanta and queue
//! lengths of classes.
//!
//! What the kernel cannot change in place:
//! - a filter: it is removed and added in two consecutive requests; packets in between go to the
//!   default class;
//! - a class's parent: the class, with all below it, is removed and created again; the packets
//!   waiting in it are lost;
//! - the root's default class (HTB has no change of its root): a filter behind all others
//!   ([`super::filter::CATCH_ALL`]) overrides it, without loss. It is a u32 filter; on a kernel
//!   without u32, the whole tree has to be built again: [`difference`] to nothing, then from
//!   nothing.

use super::class::{Class, change_class, htb_class, htb_root, leaf, remove_class, remove_leaf, remove_root};
use super::filter::{CATCH_ALL, Filter, catch_all, remove_filters};
use super::tree::Tree;
use crate::netlink::{REPLACE, Request};
use std::collections::{BTreeMap, BTreeSet};

/// The requests that turn the egress `actual` of an interface into `wanted`. `None` is a root that
/// is not an HTB with handle 1:; a wanted `None` restores the kernel's default queueing. Empty when
/// the two are equivalent. `wanted` has to be valid ([`Tree::check`]); otherwise the kernel refuses
/// one of the requests after having executed those before it.
///
/// A root of another kind is replaced, unless it has the handle 1:, which the kernel refuses;
/// [`remove_root`] helps then.
pub fn difference(index: u32, actual: Option<&Tree>, wanted: Option<&Tree>) -> Vec<Request> {
    match (actual, wanted) {
        (None, None) => Vec::new(),
        (Some(_), None) => vec![remove_root(index)],
        (None, Some(wanted)) => {
            let root = Request { flags: REPLACE, ..htb_root(index, wanted.default) };
            let bare = Tree { default: wanted.default, ..Tree::default() };
            [vec![root], between(index, &bare, &wanted.normal())].concat()
        }
        (Some(actual), Some(wanted)) => between(index, &actual.normal(), &wanted.normal()),
    }
}

/// Both trees are in normal form.
fn between(index: u32, actual: &Tree, wanted: &Tree) -> Vec<Request> {
    let mut out = Vec::new();
    let (old, new) = (by_depth(&actual.classes), by_depth(&wanted.classes));
    let kept = kept(&actual.classes, &wanted.classes);
    let goes = |class: u16| !kept.contains(&class) && actual.classes.iter().any(|c| c.id == class);
    let (before, after) = (by_preference(&actual.filters), by_preference(&wanted.filters));

    // 1. Filters that are not wanted, and those that lead to a class that is removed.
    let mut removed = BTreeSet::new();
    for (priority, filters) in &before {
        if !after.contains_key(priority) || filters.iter().any(|f| goes(f.class)) {
            out.push(remove_filters(index, *priority));
            removed.insert(*priority);
        }
    }
    let default_goes = goes(actual.default);
    if default_goes {
        out.extend(forget_catch_all(index));
    }
    // 2. Classes, leaves before parents.
    out.extend(old.iter().rev().filter(|c| goes(c.id)).map(|c| remove_class(index, c.id)));
    // 3. Classes, parents before leaves.
    for class in new {
        let there = actual.classes.iter().find(|c| c.id == class.id && kept.contains(&c.id));
        match there {
            None => out.push(htb_class(index, *class)),
            Some(there) if Class { queue: class.queue, ..*there } != *class => {
                out.push(change_class(index, *class));
            }
            Some(_) => {}
        }
        let queue = there.map_or(0, |c| c.queue);
        let has_children = wanted.classes.iter().any(|c| c.parent == class.id);
        if queue != class.queue && !has_children {
            out.push(if class.queue == 0 {
                remove_leaf(index, class.id)
            } else {
                leaf(index, class.id, class.queue)
            });
        }
    }
    // 4. Filters.
    for (priority, filters) in &after {
        if before.get(priority) == Some(filters) && !removed.contains(priority) {
            continue;
        }
        if before.contains_key(priority) && !removed.contains(priority) {
            out.push(remove_filters(index, *priority));
        }
        out.extend(filters.iter().map(|f| f.request(index)));
    }
    if actual.default != wanted.default || default_goes {
        if !default_goes {
            out.extend(forget_catch_all(index));
        }
        out.push(catch_all(index, wanted.default));
    }
    out
}

/// Removes the catch-all filter, which may not exist: one is added first, so that the removal does
/// not fail.
fn forget_catch_all(index: u32) -> [Request; 2] {
    [catch_all(index, 0), remove_filters(index, CATCH_ALL)]
}

/// The classes that stay: those with the same ancestors in both trees.
fn kept(actual: &[Class], wanted: &[Class]) -> BTreeSet<u16> {
    let parents = |classes: &[Class]| classes.iter().map(|c| (c.id, c.parent)).collect::<BTreeMap<_, _>>();
    let (old, new) = (parents(actual), parents(wanted));
    let path = |of: &BTreeMap<u16, u16>, from: u16| {
        std::iter::successors(Some(from), |at| of.get(at).copied()).take(of.len() + 1).collect::<Vec<_>>()
    };
    old.keys().copied().filter(|id| new.contains_key(id) && path(&old, *id) == path(&new, *id)).collect()
}

/// Sorts parents before children.
fn by_depth(classes: &[Class]) -> Vec<&Class> {
    let parents: BTreeMap<u16, u16> = classes.iter().map(|c| (c.id, c.parent)).collect();
    let depth = |class: &Class| {
        std::iter::successors(Some(class.id), |at| parents.get(at).copied()).take(classes.len() + 1).count()
    };
    let mut sorted: Vec<&Class> = classes.iter().collect();
    sorted.sort_by_key(|c| (depth(c), c.id));
    sorted
}

fn by_preference(filters: &[Filter]) -> BTreeMap<u16, Vec<Filter>> {
    let mut map: BTreeMap<u16, Vec<Filter>> = BTreeMap::new();
    for filter in filters {
        map.entry(filter.priority).or_default().push(*filter);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tc::Select;

    fn two_classes() -> Tree {
        Tree {
            default: 2,
            classes: vec![
                Class::new(1, 0, 10_000_000, 10_000_000, 0),
                Class::new(2, 1, 3_000_000, 10_000_000, 40),
                Class::new(3, 1, 7_000_000, 10_000_000, 40),
            ],
            filters: vec![Filter::new(10, Select::Dscp(46), 3)],
        }
    }

    fn words(requests: &[Request]) -> Vec<&str> {
        requests.iter().map(|r| r.what.as_str()).collect()
    }

    #[test]
    fn equal_trees_differ_by_nothing_also_when_written_otherwise() {
        let tree = two_classes();
        let mut other = tree.clone();
        other.classes.reverse();
        other.classes[0].rate += 7;
        other.classes[2].queue = 99;
        // 10 ms of 3 Mbit/s; and a tenth of a second's bytes: the values that are computed by
        // default.
        other.classes[1].burst = Some(3750);
        other.classes[1].quantum = Some(37_500);
        assert!(difference(4, Some(&tree), Some(&other)).is_empty());
        assert!(difference(4, None, None).is_empty());
    }

    #[test]
    fn a_new_rate_is_one_request_that_creates_nothing() {
        let mut wanted = two_classes();
        wanted.classes[2].rate = 6_000_000;
        let requests = difference(4, Some(&two_classes()), Some(&wanted));
        assert_eq!(words(&requests), ["HTB class 1:3 on interface 4"]);
        assert_eq!(requests[0].flags, 0);
    }

    #[test]
    fn a_class_that_moves_is_made_again_behind_its_filter() {
        let mut wanted = two_classes();
        wanted.classes[2].parent = 0;
        assert_eq!(
            words(&difference(4, Some(&two_classes()), Some(&wanted))),
            [
                "removing the filters of preference 10 from interface 4",
                "removing HTB class 1:3 from interface 4",
                "HTB class 1:3 on interface 4",
                "pfifo under class 1:3 on interface 4",
                "u32 filter of preference 10 on interface 4",
            ]
        );
    }

    #[test]
    fn nothing_wanted_is_one_request() {
        let tree = two_classes();
        assert_eq!(words(&difference(4, Some(&tree), None)), ["removing the queueing of interface 4"]);
    }
}
