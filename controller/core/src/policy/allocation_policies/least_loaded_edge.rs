//! The least-loaded edge switch first.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::allocation_policies::best_fit::BestFit;
use crate::policy::view::{PlacementView, ServerView};
use std::collections::BTreeMap;
use tandem_model::{ServerId, VmRequest};

/// The least-loaded edge first, and behind it the fullest server with room: network load is spread
/// over edge switches, and servers are filled one after the other. It looks at every server and
/// edge, O(n log n).
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastLoadedEdge;

impl AllocationPolicy for LeastLoadedEdge {
    fn name(&self) -> &str {
        "least-loaded-edge"
    }

    fn rank(&self, server: &ServerView) -> Rank {
        BestFit.rank(server)
    }

    fn choose(&self, view: &dyn PlacementView, _request: &VmRequest) -> Option<Vec<ServerId>> {
        let mut loads = BTreeMap::new();
        let mut order = Vec::new();
        for server in view.servers() {
            let Some(edge) = view.edge_of(server.id) else { continue };
            // Per mille, so that a few packets more or less do not send VMs from edge to edge.
            let load = *loads.entry(edge).or_insert_with(|| (view.edge_load(edge) * 1000.0).round() as u64);
            order.push((load, self.rank(&server), server.id));
        }
        order.sort_unstable();
        Some(order.into_iter().map(|(.., id)| id).collect())
    }
}
