//! The server first, then the path to it.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::levels;
use crate::policy::view::ServerView;
use tandem_model::{Allocation, Site};

/// The server-driven placement (Adami et al., IM 2013): the server is chosen by the fit that
/// `[policy.joint]` has for servers, in the whole data centre, and then its path, which the routing
/// policy `by-level` takes upwards through aggregation and core switches by their fits. The network
/// is asked only whether there is a path with room. O(log n) in servers, and the path's cost.
#[derive(Debug, Clone, Copy)]
pub struct ServerDriven {
    fit: Allocation,
}

impl Default for ServerDriven {
    fn default() -> ServerDriven {
        ServerDriven { fit: Allocation::BestFit }
    }
}

impl AllocationPolicy for ServerDriven {
    fn name(&self) -> &str {
        "server-driven"
    }

    fn configure(&mut self, site: &Site) {
        self.fit = site.policy.joint.server;
    }

    fn rank(&self, server: &ServerView) -> Rank {
        levels::rank(self.fit, server)
    }

    fn routing(&self) -> Option<&'static str> {
        Some("by-level")
    }
}
