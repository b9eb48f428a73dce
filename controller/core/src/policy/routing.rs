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
//!     fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
//!         search.shortest().into_iter().min_by_key(|route| route.up().len())
//!     }
//! }
//! ```
//!
//! A file in `routing_policies` and one line of the table in its `mod.rs` let `[policy] routing`
//! name it.

use crate::policy::view::PlacementView;
use std::marker::PhantomData;
use tandem_model::paths::Path;
use tandem_model::{BitRate, GatewayId, Hop, LinkId, Site, SiteEvent, SwitchId, Time, Topology};

/// A path between a server and a gateway, there and back, as a search has offered it. It cannot be
/// made otherwise, and not be kept for a later decision: so whatever a policy answers is alive and
/// has room now.
///
/// ```compile_fail
/// use tandem_core::policy::routing::{PathSearch, Route};
///
/// fn keep(search: &dyn PathSearch) -> Option<Route<'static>> {
///     search.default_path()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'s> {
    pub(crate) gateway: GatewayId,
    pub(crate) up: Path,
    pub(crate) down: Path,
    pub(crate) search: PhantomData<&'s ()>,
}

impl Route<'_> {
    /// Which gateway it leads to.
    pub fn gateway(&self) -> GatewayId {
        self.gateway
    }

    /// From the server to the gateway.
    pub fn up(&self) -> &[Hop] {
        &self.up
    }

    /// From the gateway to the server.
    pub fn down(&self) -> &[Hop] {
        &self.down
    }
}

/// The paths that a policy may choose from: from one uplink of a server to its gateways, with room
/// for what the VM has reserved. Each search is made when it is asked for; its cost is said with
/// it.
pub trait PathSearch {
    /// Now, by the core's clock, which never goes back.
    fn now(&self) -> Time;

    /// The default path to the nearest gateway, where one is alive and has room. A VM on it needs
    /// no rules of its own in inner switches. O(hops).
    fn default_path(&self) -> Option<Route<'_>>;

    /// The path with the fewest hops that has room, of those the one whose fullest hop has the most
    /// left. O(links).
    fn by_residual(&self) -> Option<Route<'_>>;

    /// All shortest paths with room both ways, at most 16 to a gateway: those to the nearest gateway
    /// first, to each in the order of their link ids. Longer ones are not among them, also when the
    /// shortest have no room: see [`PathSearch::by_residual`] and [`PathSearch::shortest_over`].
    /// O(links).
    fn shortest(&self) -> Vec<Route<'_>>;

    /// The same over those hops only that `over` takes: the shortest of what is left. O(links).
    fn shortest_over(&self, over: &dyn Fn(Hop) -> bool) -> Vec<Route<'_>>;

    /// The path by these switches, in order from the server's edge switch to the last one before a
    /// gateway, with room both ways on its links and switches; of parallel links those with the most
    /// left. `None` where there is none, and where a switch is named twice. O(ports of these
    /// switches).
    fn via(&self, switches: &[SwitchId]) -> Option<Route<'_>>;

    /// The edge switch that the server's uplink leads to. O(1).
    fn edge(&self) -> Option<SwitchId>;

    /// The data centre as declared.
    fn topology(&self) -> &Topology;

    /// How full a switch is: the larger of reserved and measured, over all that it sends, over the
    /// sum of its links' rates (times `switch_margin`, where the site has one). O(1).
    fn switch_load(&self, switch: SwitchId) -> f64;

    /// What the hops of a route have left in both directions, in bit/s: what they may carry less the
    /// larger of reserved and measured. In order of size, the fullest hop first. Every path of a
    /// server has its own link, which is often the fullest.
    fn room(&self, route: &Route<'_>) -> Vec<BitRate>;

    /// What is measured on a link over its capacity, in its busier direction. O(1).
    fn link_ratio(&self, link: LinkId) -> f64;
}

/// Which path a VM's traffic takes.
pub trait RoutingPolicy: Send + Sync {
    /// Its name in `[policy] routing`.
    fn name(&self) -> &str;

    /// Takes what the site file says for it. Called once, before anything else is asked.
    fn configure(&mut self, _site: &Site) {}

    /// Something has happened. It is told once, in order, with the data centre as it is at the end
    /// of the call of the core in which it happened, and before the next decision. What a policy
    /// remembers must come from here alone, so that a replayed run is decided the same; nothing of
    /// it outlives the controller.
    fn on_event(&mut self, _event: &SiteEvent, _view: &dyn PlacementView) {}

    /// The path to take, or `None` when it wants none of them: then the VM is placed elsewhere, or
    /// is cut off.
    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>>;
}
