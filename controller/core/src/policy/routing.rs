//! Routing policies: which path a VM's traffic takes between its server and its gateway.
//!
//! A policy chooses among paths that the core finds for it; every one that it is shown is alive and
//! has room. It is asked wherever a path is free to be chosen: for a new VM, a VM that has lost its
//! path, one that is adopted, and on paper when moves are planned. (A pinned path is the operator's
//! choice, and while a VM moves its two paths have to make a tree.) A whole policy is a few lines:
//!
//! ```
//! use tandem_core::policy::routing::{PathSearch, Route, RoutingPolicy};
//!
//! /// Takes the path with the fewest links, whatever room is left on it.
//! struct Shortest;
//!
//! impl RoutingPolicy for Shortest {
//!     fn name(&self) -> &str {
//!         "shortest"
//!     }
//!     fn choose(&self, search: &dyn PathSearch) -> Option<Route> {
//!         search.shortest().into_iter().min_by_key(|route| route.up.len())
//!     }
//! }
//! ```
//!
//! A file in `routing_policies` and one line of [`registry`](crate::policy::registry) let `[policy]
//! routing` name it.

use tandem_model::paths::Path;
use tandem_model::{BitRate, GatewayId};

/// A path between a server and a gateway, there and back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which gateway.
    pub gateway: GatewayId,
    /// From the server to the gateway.
    pub up: Path,
    /// From the gateway to the server.
    pub down: Path,
}

/// The paths that a policy may choose from: from one uplink of a server to its gateways, with room
/// for what the VM has reserved. Each search is made when it is asked for; its cost is said with
/// it.
pub trait PathSearch {
    /// The default path to the nearest gateway, where one is alive and has room. A VM on it needs
    /// no rules of its own in inner switches. O(hops).
    fn default_path(&self) -> Option<Route>;

    /// The path with the fewest hops that has room, of those the one whose fullest hop has the most
    /// left. O(links).
    fn by_residual(&self) -> Option<Route>;

    /// All shortest paths with room, at most 16 to a gateway, in the order of their link ids.
    /// O(links).
    fn shortest(&self) -> Vec<Route>;

    /// What the hops of a route have left in both directions, in bit/s, the fullest hop first.
    fn room(&self, route: &Route) -> Vec<BitRate>;
}

/// Which path a VM's traffic takes.
pub trait RoutingPolicy: Send + Sync {
    /// Its name in `[policy] routing`.
    fn name(&self) -> &str;

    /// The path to take, or `None` when it wants none of them: then the VM is placed elsewhere, or
    /// is cut off.
    fn choose(&self, search: &dyn PathSearch) -> Option<Route>;
}
