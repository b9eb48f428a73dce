//! The path with the fewest links.

use tandem_core::policy::routing::{PathSearch, Route, RoutingPolicy};

/// Takes the path with the fewest links; of equal ones the one that comes first by link ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct FewestLinks;

impl RoutingPolicy for FewestLinks {
    fn name(&self) -> &str {
        "fewest-links"
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        search.shortest().into_iter().min_by_key(|route| route.up().len())
    }
}
