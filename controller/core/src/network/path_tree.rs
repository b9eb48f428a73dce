//! The paths of a VM's new place, beside those of the old one.
//!
//! While a VM moves, packets to it go to both places. So that each gets every packet exactly once,
//! whatever switch has its rules first, the two ways down are one tree: the new one follows the old
//! one (the trunk) up to some switch, leaves it there, and never meets it again. The ways up are
//! the same turned round: the new one joins the old one and goes on as it. Then no switch has to
//! send the VM's packets anywhere else at the switch-over, and giving up one of the places only
//! ever takes rules away.

use tandem_model::paths::Path;
use tandem_model::{BitRate, Hop, NodeId, Topology, paths};

/// What a search may use.
pub(crate) struct SearchConstraints<'a> {
    /// The site's topology.
    pub(crate) topology: &'a Topology,
    /// What a hop has left; `None` for one that must not be used.
    pub(crate) room: &'a dyn Fn(Hop) -> Option<BitRate>,
    /// Whether a switch can send a packet on twice.
    pub(crate) forks: &'a dyn Fn(NodeId) -> bool,
}

pub(crate) fn reversed(path: &[Hop]) -> Path {
    path.iter().rev().map(|h| Hop { link: h.link, down: !h.down }).collect()
}

/// True when `path` follows `trunk`, both from `start`, up to some node and does not touch it
/// afterwards.
pub(crate) fn is_tree(topology: &Topology, start: NodeId, trunk: &[Hop], path: &[Hop]) -> bool {
    let shared = shared(trunk, path);
    let old = paths::nodes(topology, start, trunk);
    let new = paths::nodes(topology, start, path);
    new.iter().skip(shared + 1).all(|node| !old.contains(node))
}

/// How many hops two paths have in common at their start.
pub(crate) fn shared(a: &[Hop], b: &[Hop]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The ways from `start` to `target` that leave `trunk` at some switch (one for each switch) and
/// never meet it again, best first: the shortest, and of equal ones that which shares most. Each
/// has `need` left on every hop that is not the trunk's, and `more` on those that are.
pub(crate) fn branches(
    terrain: &SearchConstraints<'_>,
    (start, trunk): (NodeId, &[Hop]),
    target: NodeId,
    need: BitRate,
    more: BitRate,
) -> Vec<Path> {
    let topology = terrain.topology;
    let nodes = paths::nodes(topology, start, trunk);
    let has_more = |hop: &Hop| more.0 == 0 || (terrain.room)(*hop).is_some_and(|left| left >= more);
    let usable = trunk.iter().take_while(|hop| has_more(hop)).count();
    let mut found: Vec<(usize, std::cmp::Reverse<usize>, Path)> = Vec::new();
    for (n, node) in nodes.iter().enumerate().take(usable + 1) {
        if !(terrain.forks)(*node) {
            continue;
        }
        let room = |hop: Hop| {
            let head = paths::head(topology, hop)?;
            if nodes.contains(&head) { None } else { (terrain.room)(hop) }
        };
        if let Some(rest) = paths::by_residual(topology, *node, target, need, room) {
            let path: Path = trunk[..n].iter().copied().chain(rest).collect();
            found.push((path.len(), std::cmp::Reverse(n), path));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(.., path)| path).collect()
}

/// The ways from `source` to the end of `trunk` (at `end`) that join it at some node and go on as
/// it; ranked as [`branches`].
pub(crate) fn joins(
    terrain: &SearchConstraints<'_>,
    (end, trunk): (NodeId, &[Hop]),
    source: NodeId,
    need: BitRate,
    more: BitRate,
) -> Vec<Path> {
    let flipped = |hop: Hop| (terrain.room)(Hop { link: hop.link, down: !hop.down });
    let mirror = SearchConstraints { topology: terrain.topology, room: &flipped, forks: terrain.forks };
    let found = branches(&mirror, (end, &reversed(trunk)), source, need, more);
    found.iter().map(|path| reversed(path)).collect()
}
