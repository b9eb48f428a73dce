//! Paths without links that went down lately.

use crate::policy::routing::{PathSearch, Route, RoutingPolicy};
use crate::policy::view::PlacementView;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{LinkId, SiteEvent, Time};

/// So long a link that went down counts against a path: the half-life that route flap damping
/// usually has (RFC 2439 section 4.2 leaves it to the operator; RIPE-580 has 15 minutes).
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// The path with the fewest links that went down in the last 15 minutes. While the default path has
/// none it is taken, as by `default-first`; else, of the shortest paths with the fewest, the one
/// that comes first by link ids, and where none of them has room the path by residual bandwidth. A
/// VM stays on its path while that is alive. After a restart of the controller no link has been
/// down. O(links) once a default path has flapped.
#[derive(Debug, Clone, Default)]
pub struct AvoidFlapping {
    /// When each link last went down. At most one entry for each link of the site.
    down_at: BTreeMap<LinkId, Time>,
}

impl AvoidFlapping {
    /// How many links of a path went down lately. The way back may cross other links.
    fn flapping(&self, route: &Route<'_>, now: Time) -> usize {
        let lately = |link: &LinkId| self.down_at.get(link).is_some_and(|at| now.since(*at) < REMEMBERED);
        route.up().iter().chain(route.down()).filter(|hop| lately(&hop.link)).count()
    }
}

impl RoutingPolicy for AvoidFlapping {
    fn name(&self) -> &str {
        "avoid-flapping"
    }

    fn on_event(&mut self, event: &SiteEvent, view: &dyn PlacementView) {
        if let SiteEvent::LinkDown { link } = event {
            let now = view.now();
            self.down_at.retain(|_, at| now.since(*at) < REMEMBERED);
            self.down_at.insert(*link, now);
        }
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        let now = search.now();
        let default = search.default_path();
        if let Some(route) = default.as_ref().filter(|route| self.flapping(route, now) == 0) {
            return Some(route.clone());
        }
        // Of equal ones the first is taken, so the default path stays while no other is better.
        let all = default.into_iter().chain(search.shortest());
        all.min_by_key(|route| self.flapping(route, now)).or_else(|| search.by_residual())
    }
}
