//! The path with the least traffic on its fullest link.

use crate::policy::routing::{PathSearch, Route, RoutingPolicy};

/// Of all paths with room the one whose fullest link is the least full, by what is measured on it
/// in its busier direction over its capacity; of equal ones the one with the fewest hops, then the
/// one that comes first by link ids. What is reserved does not count beyond the room that it takes.
/// It looks for a path without the fullest link until there is none: O(links) for each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quietest;

/// How full the fullest link of a path is, as a share.
fn fullest(search: &dyn PathSearch, route: &Route<'_>) -> f64 {
    let hops = route.up().iter().chain(route.down());
    hops.map(|hop| search.link_ratio(hop.link)).fold(0.0, f64::max)
}

impl RoutingPolicy for Quietest {
    fn name(&self) -> &str {
        "quietest"
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        let least = |routes: Vec<Route<'_>>| {
            routes.iter().map(|route| fullest(search, route)).min_by(f64::total_cmp)
        };
        let Some(mut share) = least(search.shortest()) else { return search.by_residual() };
        // Each round is below the one before it, so it ends.
        while let Some(less) = least(search.shortest_over(&|hop| search.link_ratio(hop.link) < share)) {
            share = less;
        }
        let quiet = search.shortest_over(&|hop| search.link_ratio(hop.link) <= share);
        quiet.into_iter().min_by_key(|route| route.up().len())
    }
}
