//! The widest shortest path.

use crate::policy::routing::{PathSearch, Route, RoutingPolicy};

/// Of the shortest paths the one with the most room left on its fullest hop (widest shortest path;
/// Guerin, Orda and Williams, GLOBECOM 1997). Where that is equal, as on a server's own link that
/// all of them share, the next fullest hop decides, and so on. Load is spread further than by the
/// default path, for exact rules in inner switches.
#[derive(Debug, Clone, Copy, Default)]
pub struct WidestShortest;

impl RoutingPolicy for WidestShortest {
    fn name(&self) -> &str {
        "widest-shortest"
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        let routes = search.shortest();
        let fewest = routes.iter().map(|route| route.up().len()).min();
        let shortest = routes.into_iter().filter(|route| Some(route.up().len()) == fewest);
        // Of equal ones the first stays, so that the same data centre gives the same choice.
        let widest = shortest.reduce(
            |best, route| {
                if search.room(&route) > search.room(&best) { route } else { best }
            },
        );
        widest.or_else(|| search.by_residual())
    }
}
