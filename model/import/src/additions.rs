//! What a site has to have and a topology of another tool may lack: a gateway, and servers.

use crate::ImportError;
use crate::graph::{Edge, Kind};
use crate::names::Names;
use crate::settle::{Placed, ResolvedGraph};
use std::collections::{BTreeSet, VecDeque};

/// Above so many switches the most central one is the one with the most links: measuring every
/// distance takes the square of their number.
const MEASURED: usize = 2_000;

/// The switches of a settled graph.
fn switches(settled: &ResolvedGraph) -> Vec<usize> {
    (0..settled.nodes.len())
        .filter(|n| settled.nodes.get(*n).is_some_and(|n| n.kind == Kind::Switch))
        .collect()
}

/// Adds a gateway at the switch whose distances to all others are the least in sum (closeness
/// centrality, Bavelas 1950); of equal ones the first.
pub(crate) fn add_gateway(settled: &mut ResolvedGraph, names: &mut Names) -> Result<(), ImportError> {
    let all = switches(settled);
    let mut links = vec![Vec::new(); settled.nodes.len()];
    let is_switch: BTreeSet<usize> = all.iter().copied().collect();
    for Edge { ends: (a, b), .. } in &settled.graph.edges {
        if is_switch.contains(a) && is_switch.contains(b) {
            for (from, to) in [(*a, *b), (*b, *a)] {
                if let Some(list) = links.get_mut(from) {
                    list.push(to);
                }
            }
        }
    }
    let cost = |node: usize| match all.len() <= MEASURED {
        true => sum_of_distances(&links, node),
        false => usize::MAX - links.get(node).map_or(0, Vec::len),
    };
    let Some(centre) = all.iter().copied().min_by_key(|node| (cost(*node), *node)) else { return Ok(()) };
    let (name, _) = names.numbered("gw", 1);
    let at = settled.nodes.get(centre).map_or(String::new(), |n| n.name.clone());
    settled.graph.decisions.push(format!(
        "{name} was added as the gateway at {at}, the most central switch; --gateway HOST takes a host for it"
    ));
    add(settled, name, Kind::Gateway, centre)
}

fn sum_of_distances(links: &[Vec<usize>], from: usize) -> usize {
    let mut distance = vec![usize::MAX; links.len()];
    let mut queue = VecDeque::from([from]);
    if let Some(slot) = distance.get_mut(from) {
        *slot = 0;
    }
    let mut sum = 0usize;
    while let Some(node) = queue.pop_front() {
        let steps = distance.get(node).copied().unwrap_or(0);
        sum += steps;
        for next in links.get(node).into_iter().flatten() {
            if let Some(slot) = distance.get_mut(*next).filter(|d| **d == usize::MAX) {
                *slot = steps + 1;
                queue.push_back(*next);
            }
        }
    }
    sum
}

/// Adds `each` servers at each switch.
pub(crate) fn add_servers(
    settled: &mut ResolvedGraph,
    names: &mut Names,
    each: u32,
) -> Result<(), ImportError> {
    let all = switches(settled);
    let count = u64::from(each) * all.len() as u64;
    if count > crate::graph::MOST_NODES as u64 {
        let file = settled.graph.file.clone();
        return Err(ImportError::TooMany { file, what: "servers", most: crate::graph::MOST_NODES });
    }
    settled.graph.decisions.push(format!(
        "there are no hosts in it: {each} server{} at each switch {} added (--servers-per-switch)",
        if each == 1 { "" } else { "s" },
        if each == 1 { "was" } else { "were" },
    ));
    let mut next = 1;
    for switch in all {
        for _ in 0..each {
            let (name, number) = names.numbered("srv", next);
            next = number + 1;
            add(settled, name, Kind::Host, switch)?;
        }
    }
    Ok(())
}

fn add(settled: &mut ResolvedGraph, name: String, kind: Kind, at: usize) -> Result<(), ImportError> {
    settled.nodes.push(Placed { name, was: None, kind, dpid: None });
    settled.graph.edge(Edge::plain((at, settled.nodes.len() - 1), 0))
}
