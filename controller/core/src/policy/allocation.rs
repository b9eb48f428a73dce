//! Allocation policies: which server gets a VM.
//!
//! A policy is a rank: the core keeps every server in an index ordered by it and takes the first
//! one that has room, so a decision costs O(log n) in servers. A whole policy is a few lines:
//!
//! ```
//! use tandem_core::policy::{AllocationPolicy, Rank, ServerView};
//!
//! /// Fills the servers with the most memory first.
//! struct BigMemoryFirst;
//!
//! impl AllocationPolicy for BigMemoryFirst {
//!     fn name(&self) -> &str {
//!         "big-memory-first"
//!     }
//!     fn rank(&self, server: &ServerView) -> Rank {
//!         Rank(u64::MAX - server.capacity.ram.0)
//!     }
//! }
//! ```
//!
//! A policy that must see more than one server at a time overrides [`AllocationPolicy::choose`],
//! which costs O(n). One that decides on server and path together overrides
//! [`AllocationPolicy::choose_with_path`].

use crate::policy::view::{PlacementView, ServerView};
use tandem_model::{ServerId, Site, SiteEvent, SwitchId, VmRequest};

/// A place in the order: the lowest rank is tried first. Equal ranks are tried in the order of the
/// site's `ties`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u64);

/// Where a policy wants a VM that decides on server and path together: on a server, by these
/// switches, from the server's edge switch to the last one before a gateway. Without switches the
/// routing policy chooses the path.
pub type Offer<'o> = dyn FnMut(ServerId, &[SwitchId]) -> bool + 'o;

/// Which server gets a VM.
pub trait AllocationPolicy: Send + Sync {
    /// Its name in `[policy] allocation`.
    fn name(&self) -> &str;

    /// Takes what the site file says for it. Called once, before anything else is asked.
    fn configure(&mut self, _site: &Site) {}

    /// Something has happened. It is told once, in order, with the data centre as it is at the end
    /// of the call of the core in which it happened, and before the next decision. What a policy
    /// remembers must come from here alone, so that a replayed run is decided the same; nothing of
    /// it outlives the controller. It may show in [`choose`](Self::choose) and
    /// [`accepts`](Self::accepts), not in [`rank`](Self::rank).
    fn on_event(&mut self, _event: &SiteEvent, _view: &dyn PlacementView) {}

    /// A server's place in the order. Must depend on nothing but `server`: it is asked again only
    /// when the server's reservations change.
    fn rank(&self, server: &ServerView) -> Rank;

    /// Further conditions on top of room and links, for one request. Costs one call per server that
    /// is tried.
    fn accepts(&self, _server: &ServerView, _request: &VmRequest) -> bool {
        true
    }

    /// A choice that sees the whole data centre: `Some(order)` is tried in that order instead of
    /// the index. It costs what the policy looks at, O(n) in servers at least; a policy that
    /// returns `None` at once keeps its O(log n).
    fn choose(&self, _view: &dyn PlacementView, _request: &VmRequest) -> Option<Vec<ServerId>> {
        None
    }

    /// A choice of server and path together. One place after the other is offered, the best first;
    /// the first for which `offer` says true has been taken, by exactly that path, and no other is
    /// wanted. What was asked here is asked nowhere else: true means that every place that the
    /// policy accepts has been offered, or one was taken; false leaves the decision to
    /// [`choose`](Self::choose) and the index. It costs what the policy looks at.
    fn choose_with_path(
        &self,
        _view: &dyn PlacementView,
        _request: &VmRequest,
        _offer: &mut Offer<'_>,
    ) -> bool {
        false
    }

    /// The routing policy that goes with it, where the site names none: it chooses the path of a
    /// placement without one, and of a VM that needs another path.
    fn routing(&self) -> Option<&'static str> {
        None
    }
}
