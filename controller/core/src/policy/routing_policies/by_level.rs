//! From the edge switch upwards, level by level, each switch by its fit.

use crate::policy::levels::{Levels, neighbours};
use crate::policy::routing::{PathSearch, Route, RoutingPolicy};
use tandem_model::{NodeId, Role, Site, SwitchId, paths};

/// The path that goes up a level with each hop: from the server's edge switch to an aggregation
/// switch, to a core switch, to a gateway, each chosen by the fit that `[policy.joint]` has for its
/// level (see [`levels`](crate::policy::levels)). An upper level without room leads back to the next
/// switch of the level below. Where there is no such path, as in a site whose switches are all on
/// one level, it is the default path, else the one by residual bandwidth. O(n log n) in the
/// neighbours of the switches that it takes, at most O(paths upwards).
#[derive(Debug, Clone, Copy, Default)]
pub struct ByLevel {
    levels: Levels,
}

impl ByLevel {
    /// The best way up from the last of `via`.
    fn climb<'s>(&self, search: &'s dyn PathSearch, via: &mut Vec<SwitchId>) -> Option<Route<'s>> {
        let (topology, last) = (search.topology(), *via.last()?);
        let leads_out = |(_, node): (_, NodeId)| matches!(node, NodeId::Gateway(_));
        if paths::hops_from(topology, NodeId::Switch(last)).any(leads_out)
            && let Some(route) = search.via(via)
        {
            return Some(route);
        }
        let load = |id| search.switch_load(id);
        let above = self.levels.in_order(topology, &neighbours(topology, last, true, &|_| true), &load);
        // The next level first: `in_order` begins with the uppermost.
        let next = |role| above.iter().filter(move |id| topology.switch(**id).is_some_and(|s| s.role == role));
        for id in next(Role::Aggregation).chain(next(Role::Core)) {
            via.push(*id);
            if let Some(route) = self.climb(search, via) {
                return Some(route);
            }
            via.pop();
        }
        None
    }
}

impl RoutingPolicy for ByLevel {
    fn name(&self) -> &str {
        "by-level"
    }

    fn configure(&mut self, site: &Site) {
        self.levels = Levels { fits: site.policy.joint, ties: site.policy.ties };
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        let by_level = search.edge().and_then(|edge| self.climb(search, &mut vec![edge]));
        by_level.or_else(|| search.default_path()).or_else(|| search.by_residual())
    }
}
