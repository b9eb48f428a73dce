//! The default path first: what a site without a routing policy has.

use crate::policy::routing::{PathSearch, Route, RoutingPolicy};

/// The default path while it has room, then any other by residual bandwidth: few rules, and traffic
/// moves without need only.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultFirst;

impl RoutingPolicy for DefaultFirst {
    fn name(&self) -> &str {
        "default-first"
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        search.default_path().or_else(|| search.by_residual())
    }
}
