//! Paths over a topology: all shortest, the k shortest, and the cheapest by residual bandwidth.
//!
//! Every function takes the links that may be used as a function of [`Hop`] (a link has two
//! directions). Servers and gateways are never passed through. Where paths are equal, the one with
//! the lower link ids wins, hop by hop, so that an answer never depends on anything but its
//! arguments.

use crate::{BitRate, Hop, NodeId, Topology};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// From a node to another, hop by hop; empty from a node to itself.
pub type Path = Vec<Hop>;

/// The node that a hop leads to.
pub fn head(topology: &Topology, hop: Hop) -> Option<NodeId> {
    topology.link(hop.link).map(|l| if hop.down { l.b.node } else { l.a.node })
}

/// The node that a hop starts from.
pub fn tail(topology: &Topology, hop: Hop) -> Option<NodeId> {
    topology.link(hop.link).map(|l| if hop.down { l.a.node } else { l.b.node })
}

/// The hops that leave a node, in port order.
pub fn hops_from(topology: &Topology, node: NodeId) -> impl Iterator<Item = (Hop, NodeId)> + '_ {
    topology.ports(node).iter().filter_map(move |(_, id)| {
        let link = topology.link(*id)?;
        Some((link.hop_from(*id, node), link.other(node)?.node))
    })
}

fn is_transit(node: NodeId) -> bool {
    matches!(node, NodeId::Switch(_))
}

/// Hop counts from every node TO `target`, by `Topology::slot`; `u32::MAX` where there is no way.
/// `usable` is asked about the hops in the direction of travel.
pub fn distances_to(topology: &Topology, target: NodeId, usable: impl Fn(Hop) -> bool) -> Vec<u32> {
    let nodes = topology.switches.len() + topology.servers.len() + topology.gateways.len();
    let mut distance = vec![u32::MAX; nodes];
    let Some(start) = distance.get_mut(topology.slot(target)) else { return distance };
    *start = 0;
    let mut level = vec![target];
    let mut steps = 0;
    while !level.is_empty() {
        steps += 1;
        let mut next = Vec::new();
        for node in level {
            if node != target && !is_transit(node) {
                continue;
            }
            for (hop, other) in hops_from(topology, node) {
                let towards = Hop { link: hop.link, down: !hop.down };
                let slot = topology.slot(other);
                if distance[slot] == u32::MAX && usable(towards) {
                    distance[slot] = steps;
                    next.push(other);
                }
            }
        }
        level = next;
    }
    distance
}

/// Array places for a search between two nodes: the switches, which alone may be passed through,
/// and the two ends. A data centre has many times more servers than switches, and a search should
/// not pay for them.
#[derive(Clone, Copy)]
struct Places {
    switches: usize,
    from: NodeId,
    to: NodeId,
}

impl Places {
    fn new(topology: &Topology, from: NodeId, to: NodeId) -> Places {
        Places { switches: topology.switches.len(), from, to }
    }

    fn count(self) -> usize {
        self.switches + 2
    }

    /// `None` for a node that no path from `from` to `to` may touch.
    fn of(self, node: NodeId) -> Option<usize> {
        match node {
            NodeId::Switch(id) => Some(id.0 as usize).filter(|n| *n < self.switches),
            _ if node == self.from => Some(self.switches),
            _ if node == self.to => Some(self.switches + 1),
            _ => None,
        }
    }
}

/// All shortest paths from `from` to `to`, at most `limit`, in the order of their link ids.
///
/// Nodes farther from `to` than `from` are not looked at.
pub fn all_shortest(
    topology: &Topology,
    from: NodeId,
    to: NodeId,
    limit: usize,
    usable: impl Fn(Hop) -> bool,
) -> Vec<Path> {
    let mut found = Vec::new();
    if limit == 0 {
        return found;
    }
    if from == to {
        found.push(Vec::new());
        return found;
    }
    let places = Places::new(topology, from, to);
    let distance = distances_between(topology, places, &usable);
    let at = |node| places.of(node).and_then(|place| distance.get(place)).copied().unwrap_or(u32::MAX);
    // Every hop goes one step nearer, so the walk never meets a node twice and never ends anywhere
    // but at `to`.
    let nearer = |node: NodeId| {
        let next = at(node).wrapping_sub(1);
        let mut steps: Vec<(Hop, NodeId)> = hops_from(topology, node)
            .filter(|(hop, head)| next < u32::MAX - 1 && at(*head) == next && usable(*hop))
            .collect();
        steps.sort_unstable_by_key(|(hop, _)| hop.link);
        steps.into_iter()
    };
    let mut path = Vec::new();
    let mut walk = vec![nearer(from)];
    while let Some(steps) = walk.last_mut() {
        let Some((hop, next)) = steps.next() else {
            walk.pop();
            path.pop();
            continue;
        };
        path.push(hop);
        if next == to {
            found.push(path.clone());
            path.pop();
            if found.len() == limit {
                break;
            }
        } else {
            walk.push(nearer(next));
        }
    }
    found
}

/// Hop counts to `places.to`, up to those of `places.from`.
fn distances_between(topology: &Topology, places: Places, usable: &impl Fn(Hop) -> bool) -> Vec<u32> {
    let mut distance = vec![u32::MAX; places.count()];
    let (Some(start), Some(goal)) = (places.of(places.to), places.of(places.from)) else { return distance };
    distance[start] = 0;
    let mut level = vec![places.to];
    let mut steps = 0;
    while !level.is_empty() && distance[goal] == u32::MAX {
        steps += 1;
        let mut next = Vec::new();
        for node in level {
            for (hop, other) in hops_from(topology, node) {
                let Some(place) = places.of(other) else { continue };
                if distance[place] == u32::MAX && usable(Hop { link: hop.link, down: !hop.down }) {
                    distance[place] = steps;
                    next.push(other);
                }
            }
        }
        level = next;
    }
    distance
}

/// The path with the fewest hops, and of those the one whose fullest hop has the most left; `None`
/// when there is no way on which every hop has at least `need` left.
///
/// Dijkstra over (hops, scarcity), where scarcity is the smallest residual on the way, negated;
/// `residual` is what a hop has left, `None` for a hop that must not be used. Of equal ways into a
/// node the one with the lowest link id is taken, the last hop's first.
pub fn by_residual(
    topology: &Topology,
    from: NodeId,
    to: NodeId,
    need: BitRate,
    residual: impl Fn(Hop) -> Option<BitRate>,
) -> Option<Path> {
    if from == to {
        return Some(Vec::new());
    }
    let places = Places::new(topology, from, to);
    if is_cut_off(topology, places, |hop| residual(hop).is_some_and(|left| left >= need)) {
        return None;
    }
    let mut best: Vec<Option<(u32, Reverse<u64>)>> = vec![None; places.count()];
    let mut came: Vec<Option<Hop>> = vec![None; places.count()];
    let mut queue = BinaryHeap::new();
    *best.get_mut(places.of(from)?)? = Some((0, Reverse(u64::MAX)));
    queue.push(Reverse((0u32, Reverse(u64::MAX), from)));
    while let Some(Reverse((hops, Reverse(width), node))) = queue.pop() {
        if best[places.of(node)?] != Some((hops, Reverse(width))) {
            continue;
        }
        if node == to {
            return unwind(topology, places, &came);
        }
        for (hop, next) in hops_from(topology, node) {
            let Some(place) = places.of(next) else { continue };
            let Some(left) = residual(hop).filter(|left| *left >= need) else { continue };
            let cost = (hops + 1, Reverse(width.min(left.0)));
            let better = match best[place] {
                None => true,
                Some(known) if cost < known => true,
                Some(known) => cost == known && came[place].is_some_and(|h| hop.link < h.link),
            };
            if better {
                let requeue = best[place] != Some(cost);
                best[place] = Some(cost);
                came[place] = Some(hop);
                if requeue {
                    queue.push(Reverse((cost.0, cost.1, next)));
                }
            }
        }
    }
    None
}

/// Looks back from the end over a few nodes: a way that is closed near its end (a full gateway, a
/// full edge switch) is found closed without a search of all the rest.
fn is_cut_off(topology: &Topology, places: Places, usable: impl Fn(Hop) -> bool) -> bool {
    const FEW: usize = 64;
    let mut met = vec![places.to];
    let mut expanded = 0;
    while let Some(node) = met.get(expanded).copied() {
        expanded += 1;
        for (hop, other) in hops_from(topology, node) {
            if places.of(other).is_none()
                || met.contains(&other)
                || !usable(Hop { link: hop.link, down: !hop.down })
            {
                continue;
            }
            if other == places.from || met.len() == FEW {
                return false;
            }
            met.push(other);
        }
    }
    true
}

fn unwind(topology: &Topology, places: Places, came: &[Option<Hop>]) -> Option<Path> {
    let mut path = Vec::new();
    let mut at = places.to;
    while at != places.from {
        let hop = came[places.of(at)?]?;
        path.push(hop);
        at = tail(topology, hop)?;
        if path.len() > came.len() {
            return None;
        }
    }
    path.reverse();
    Some(path)
}

/// The `k` shortest loopless paths by hops, shortest first (Yen 1971), equal ones in the order of
/// their link ids.
pub fn k_shortest(
    topology: &Topology,
    from: NodeId,
    to: NodeId,
    k: usize,
    usable: impl Fn(Hop) -> bool,
) -> Vec<Path> {
    let shortest = |from: NodeId, usable: &dyn Fn(Hop) -> bool| -> Option<Path> {
        all_shortest(topology, from, to, 1, usable).into_iter().next()
    };
    let mut found: Vec<Path> = Vec::new();
    let mut candidates: BTreeSet<(usize, Path)> = BTreeSet::new();
    if let Some(first) = shortest(from, &usable) {
        candidates.insert((first.len(), first));
    }
    while found.len() < k {
        let Some((_, path)) = candidates.pop_first() else { break };
        let mut seen = vec![from];
        for (spur, hop) in path.iter().enumerate() {
            let root = &path[..spur];
            let at = seen.last().copied().unwrap_or(from);
            let used: Vec<Hop> = found
                .iter()
                .chain([&path])
                .filter(|p| p.starts_with(root))
                .filter_map(|p| p.get(spur).copied())
                .collect();
            let ok = |h: Hop| {
                usable(h)
                    && !(tail(topology, h) == Some(at) && used.contains(&h))
                    && head(topology, h).is_some_and(|n| !seen.contains(&n))
            };
            if let Some(rest) = shortest(at, &ok) {
                let whole: Path = root.iter().copied().chain(rest).collect();
                candidates.insert((whole.len(), whole));
            }
            match head(topology, *hop) {
                Some(next) => seen.push(next),
                None => break,
            }
        }
        found.push(path);
    }
    found
}

/// The nodes of a path, both ends included.
pub fn nodes(topology: &Topology, from: NodeId, path: &[Hop]) -> Vec<NodeId> {
    std::iter::once(from).chain(path.iter().filter_map(|hop| head(topology, *hop))).collect()
}
